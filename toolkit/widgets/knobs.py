"""Which settings have a control: their labels, units and ranges, and how they are read and written."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from toolkit.config import Config
from toolkit.errors import ConfigError, ToolkitError
from toolkit.handle import LIMITS, SCHEDULE
from toolkit.prices import list_prices, read_prices
from toolkit.providers.base import SummarizationProvider
from toolkit.providers.registry import provider_class

_TENTHS = (10, 12, 15, 20, 25, 30, 40, 50, 60, 80)
"""Steps of a slider within a power of ten: each is 17 to 33 % more than the one before."""


def steps(low: int, high: int) -> tuple[int, ...]:
    """Return the values that a slider goes over: all small numbers, then even ones by order of magnitude."""
    found = {low, high}
    found |= {value for value in range(1, 9) if low <= value <= high}
    power = 1
    while power <= high:
        found |= {tenth * power // 10 for tenth in _TENTHS if low <= tenth * power // 10 <= high}
        power *= 10
    return tuple(sorted(found))


@dataclass(frozen=True)
class Knob:
    """A setting with a control.

    Attributes
    ----------
    setting : str
        Its name in ``Config``.
    label, unit : str
    values : tuple of int
        What a slider goes over; a setting may have any other value, too.
    optional : bool
        Whether it may be left to the provider, and its field empty.
    vendor : str or None
        Whose limits it belongs to; None: it means something to all.
    is_amount : bool
        Whether it may have a fraction.
    """

    setting: str
    label: str
    unit: str
    values: tuple[int, ...] = ()
    optional: bool = False
    vendor: str | None = None
    is_amount: bool = False

    @property
    def help(self) -> str:
        """What it is, as ``Config`` says."""
        return f"{Config.model_fields[self.setting].description} ({self.setting})"

    @property
    def live(self) -> bool:
        """Whether it can be changed while a run goes on."""
        return self.setting in SCHEDULE + LIMITS

    def read(self, text: str) -> float | int | None:
        """Return the value that was typed.

        Raises
        ------
        ConfigError
            If it is no number; whether it is in its range is for the config to say.
        """
        plain = re.sub(r"[\s,_$']", "", text)
        if not plain and self.optional:
            return None
        try:
            return float(plain) if self.is_amount else int(plain)
        except ValueError:
            kind = "an amount, such as 2.50" if self.is_amount else "a whole number, such as 16"
            rest = "; empty leaves it to the provider" if self.optional and self.values else ""
            raise ConfigError(f"{self.setting}={text!r}: write {kind}{rest}", [self.setting]) from None

    def write(self, value: float | int | None) -> str:
        """Return a value as it is typed."""
        if value is None:
            return ""
        return f"{value:,.12g}" if self.is_amount else f"{value:,}"

    def place(self, value: float | int) -> int:
        """Return the place of a value, or of the nearest one, among those of the slider."""
        right = min(bisect_left(self.values, value), len(self.values) - 1)
        left = max(0, right - 1)
        return left if value - self.values[left] < self.values[right] - value else right


_FEW, _MANY, _TOKENS = steps(1, 64), steps(1, 30_000), steps(1_000, 30_000_000)

KNOBS = (
    Knob("summary_batch_size", "Episodes at once", "episodes", _FEW),
    Knob("summary_chunk_parallelism", "Chunks at once", "requests of one episode", _FEW),
    Knob("chunk_tokens", "Chunk tokens", "tokens", steps(64, 100_000), optional=True),
    Knob("chunk_overlap_tokens", "Overlap tokens", "tokens", (0, *steps(1, 2_000))),
    Knob("summary_max_tokens", "Reply tokens", "tokens at most", steps(16, 8_000), optional=True),
    *(
        Knob(f"{vendor}_{name}", label, unit, values, vendor=vendor)
        for vendor, names in {
            "openai": ("max_concurrent_requests", "requests_per_minute", "tokens_per_minute"),
            "anthropic": (
                "max_concurrent_requests",
                "requests_per_minute",
                "input_tokens_per_minute",
                "output_tokens_per_minute",
            ),
        }.items()
        for name, label, unit, values in (
            ("max_concurrent_requests", "In flight", "requests", steps(1, 500)),
            ("requests_per_minute", "Requests / min", "requests", _MANY),
            ("tokens_per_minute", "Tokens / min", "tokens", _TOKENS),
            ("input_tokens_per_minute", "Input tokens / min", "tokens", _TOKENS),
            ("output_tokens_per_minute", "Output tokens / min", "tokens", _TOKENS),
        )
        if name in names
    ),
    Knob("budget_usd", "Budget (US$)", "US dollars", optional=True, is_amount=True),
)
REUSE = (
    ("take all", "all"),
    ("take this run's own", "run"),
    ("take none: ask anew", "none"),
)
"""What ``Config.reuse`` is called."""
CHOICES = ("provider", "model", "reuse")
"""Settings that are chosen from a list."""


def knobs_of(provider: str) -> tuple[Knob, ...]:
    """Return the knobs that mean something to a provider; of one that is not there, those of all."""
    try:
        kind = provider_class(provider)
    except ToolkitError:
        return tuple(knob for knob in KNOBS if knob.vendor is None)
    vendors = {getattr(one, "name", "") for one in kind.__mro__}
    # What is paid for has limits; a budget bounds nothing else.
    paid = any(knob.vendor in vendors for knob in KNOBS)
    return tuple(
        knob
        for knob in KNOBS
        if (knob.vendor is None or knob.vendor in vendors) and (paid or knob.setting != "budget_usd")
    )


def own_value(setting: str, kind: type[SummarizationProvider]) -> int | None:
    """Return what a provider takes where a setting is left to it; None if that is not one number."""
    if setting == "chunk_tokens":
        return kind.default_chunk_tokens
    caps = {prompt.max_output_tokens for prompt in kind.default_prompts}
    return caps.pop() if setting == "summary_max_tokens" and len(caps) == 1 else None


def models_of(provider: str, config: Config) -> tuple[str, ...]:
    """Return models that a provider is known to have; there may be others."""
    try:
        kind = provider_class(provider)
    except ToolkitError:
        return ()
    found = [kind.default_model] if kind.default_model else []
    if kind.runs_here:
        from toolkit.engines.weights import list_models

        found += [row.name for row in list_models()]
    elif any(knob.vendor == provider for knob in KNOBS):
        with suppress(ConfigError):  # the plan says what is wrong with them
            found += read_prices(config.prices)
        found += [name for name in list_prices() if name.startswith("claude") == (provider == "anthropic")]
    return tuple(dict.fromkeys(found))


def settings_of(config: Config) -> dict[str, Any]:
    """Return what the controls show of a config."""
    shown = (*CHOICES, *(knob.setting for knob in knobs_of(config.provider)))
    return {name: getattr(config, name) for name in shown}


def with_settings(base: Config, chosen: Mapping[str, Any]) -> Config:
    """Return a config with what the controls say.

    Raises
    ------
    ConfigError
        If it is refused; its ``settings`` name those that it is about.
    """
    try:
        # Said in so many words, so that it does not warn of what an older version would have meant.
        return base.replace(**{"summary_chunk_parallelism": base.summary_chunk_parallelism, **chosen})
    except ConfigError as error:
        named = error.settings or _named_in(str(error), chosen)
        raise ConfigError(str(error), named) from None


def _named_in(sentence: str, settings: Iterable[str]) -> list[str]:
    """Return the settings that a sentence names, in its order: of two that do not go together both."""
    words = re.findall(r"\w+", sentence)
    return [name for name in dict.fromkeys(words) if name in set(settings)]


def differences(before: Config, after: Config) -> dict[str, Any]:
    """Return the settings with a control in which two configs differ, with the values of the second."""
    names = (*CHOICES, *(knob.setting for knob in KNOBS))
    return {name: getattr(after, name) for name in names if getattr(before, name) != getattr(after, name)}
