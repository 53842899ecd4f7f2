"""The options of the server, checked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from toolkit.errors import ConfigError, nearest_name
from toolkit.testing.faults import FaultPlan, checked_faults
from toolkit.testing.headers import HEADER_STYLES
from toolkit.testing.latency import Latency
from toolkit.testing.laws import CHARGES, LAWS
from toolkit.testing.models import ModelSpec

OVERLOADS = ("slow_down", "server_is_overloaded")
POOLS = ("account", "key", "model", "key_and_model")

_LIMITS = (
    "requests_per_minute",
    "tokens_per_minute",
    "project_tokens_per_minute",
    "input_tokens_per_minute",
    "output_tokens_per_minute",
    "requests_per_day",
    "tokens_per_day",
    "max_concurrent",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """What ``ApiServer`` takes.

    Attributes
    ----------
    law : str
        ``"openai"``, ``"azure"``, ``"anthropic"``, ``"sliding"``, ``"fixed"`` or ``"first_request"``, see
        ``toolkit.testing.laws``. Any law can be had through any form of the API.
    requests_per_minute, tokens_per_minute, project_tokens_per_minute : int or None
        Limits; None is none. A project's limit binds beside the organization's.
    input_tokens_per_minute, output_tokens_per_minute : int or None
        Limits of the law ``"anthropic"``, which counts the two apart.
    requests_per_day, tokens_per_day : int or None
        Limits of a day.
    request_windows_s : tuple of float or None
        Shorter windows in which the requests' limit holds in proportion, rounded up; None takes the law's
        own: 10 s and 1 s for ``"azure"``, else none.
    charge : str or None
        ``"sum"``, ``"max"``, ``"actual"`` or ``"bytes"``: what a request costs in tokens. None takes what
        the vendor documents: ``"max"`` for ``"openai"``, else ``"sum"``.
    failed_requests_count : bool
        Whether a refused request counts as a request, and one that failed in the service stays charged in
        full. The vendors say that it does.
    max_concurrent : int or None
        Cap on requests worked on at a time, shown in no header.
    overload : str
        What answers above it: ``"slow_down"`` (429) or ``"server_is_overloaded"`` (503; 529 at Anthropic).
    latency : Latency
        Also seconds, or ``(base_s, per_input_token_s, per_output_token_s[, sigma])``. It passes in real
        time, whatever the clock.
    faults : mapping or sequence
        Rates by kind (``{"500": 0.1, "reset": 0.05}``), or a script with the kind of the n-th request
        (None for none); see ``toolkit.testing.faults``.
    slow_s : float
        What the fault ``"slow"`` adds to the latency, in seconds.
    fault_retry_after_s : float
        When to come again after a fault that says so, in seconds.
    headers : str
        ``"vendor"``, ``"daily"``, ``"bare"``, ``"minus_one"`` or ``"missing"``.
    retry_after : bool
        Whether a refusal by the law says when to come again.
    pool_by : str
        Who shares one law: all (``"account"``), or each ``"key"``, ``"model"`` or ``"key_and_model"``.
    models : sequence of str or ModelSpec, or None
        The only models there are; None answers to any name.
    reasoning_tokens : int
        What a reasoning model spends before the first word at medium effort.
    reply_words : int
        Length of a summary where the cap leaves room.
    key : str, sequence of str or None
        Keys that are let in; None lets in everybody.
    seed : int
        Of faults and latency.
    """

    law: str = "openai"
    requests_per_minute: int | None = 600
    tokens_per_minute: int | None = None
    project_tokens_per_minute: int | None = None
    input_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    requests_per_day: int | None = None
    tokens_per_day: int | None = None
    request_windows_s: tuple[float, ...] | None = None
    charge: str | None = None
    failed_requests_count: bool = True
    max_concurrent: int | None = None
    overload: str = "slow_down"
    latency: Latency = Latency()
    faults: FaultPlan = field(default_factory=dict)
    slow_s: float = 5.0
    fault_retry_after_s: float = 1.0
    headers: str = "vendor"
    retry_after: bool = True
    pool_by: str = "account"
    models: tuple[str | ModelSpec, ...] | None = None
    reasoning_tokens: int = 128
    reply_words: int = 60
    key: tuple[str, ...] | None = field(default=None, repr=False)
    seed: int = 0

    def __post_init__(self) -> None:
        _one_of("law", self.law, LAWS)
        _one_of("charge", self.charge, (None, *CHARGES))
        _one_of("overload", self.overload, OVERLOADS)
        _one_of("headers", self.headers, HEADER_STYLES)
        _one_of("pool_by", self.pool_by, POOLS)
        for name in _LIMITS:
            _whole(name, getattr(self, name), 1, optional=True)
        _whole("reasoning_tokens", self.reasoning_tokens, 0)
        _whole("reply_words", self.reply_words, 1)
        _whole("seed", self.seed, None)
        for name in ("failed_requests_count", "retry_after"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}={getattr(self, name)!r} must be True or False")
        for name in ("slow_s", "fault_retry_after_s"):
            _seconds(name, getattr(self, name))
        self._check_law()
        # A frozen record: what was given in a handy form is put in its own.
        object.__setattr__(self, "latency", Latency.of(self.latency))
        object.__setattr__(self, "faults", checked_faults(self.faults))
        object.__setattr__(self, "request_windows_s", _windows(self.request_windows_s))
        object.__setattr__(self, "models", _models(self.models))
        object.__setattr__(self, "key", _keys(self.key))

    def _check_law(self) -> None:
        apart = ("input_tokens_per_minute", "output_tokens_per_minute")
        together = ("tokens_per_minute", "project_tokens_per_minute", "tokens_per_day", "charge")
        wrong = together if self.law == "anthropic" else apart
        for name in wrong:
            if getattr(self, name) is not None:
                way = (
                    f"it counts input and output apart; use {' and '.join(apart)}"
                    if self.law == "anthropic"
                    else "only the law 'anthropic' counts input and output apart; use tokens_per_minute"
                )
                raise ConfigError(f"{name} does not go with law={self.law!r}: {way}")

    def to_json(self) -> dict[str, Any]:
        """Return the options as JSON can hold them, keys included."""
        return {**{item.name: getattr(self, item.name) for item in fields(self)}} | {
            "latency": asdict(self.latency),
            "faults": self.faults if isinstance(self.faults, Mapping) else list(self.faults),
            "models": None
            if self.models is None
            else [asdict(item) if isinstance(item, ModelSpec) else item for item in self.models],
        }


def read_options(given: Mapping[str, Any]) -> ServerOptions:
    """Make options of keywords; an unknown name is a ``ConfigError`` that names the nearest known one."""
    known = [item.name for item in fields(ServerOptions)]
    for name in given:
        if name not in known:
            raise ConfigError(f"{name!r} is no option of the server; {nearest_name(name, known)}")
    return ServerOptions(**given)


def _one_of(name: str, value: object, known: Iterable[object]) -> None:
    known = tuple(known)
    if value not in known:
        raise ConfigError(f"{name}={value!r} must be one of {', '.join(repr(item) for item in known)}")


def _whole(name: str, value: object, least: int | None, *, optional: bool = False) -> None:
    if value is None and optional:
        return
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        bound = "" if least is None else f" from {least} on"
        none = ", or None for no limit" if optional else ""
        raise ConfigError(f"{name}={value!r} must be a whole number{bound}{none}")


def _seconds(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ConfigError(f"{name}={value!r} must be seconds from 0 on")


def _windows(value: object) -> tuple[float, ...] | None:
    if value is None:
        return None
    if isinstance(value, list | tuple) and all(
        isinstance(item, int | float) and not isinstance(item, bool) and 0 < item < 60 for item in value
    ):
        return tuple(float(item) for item in value)
    raise ConfigError(f"request_windows_s={value!r} must be seconds between 0 and 60, such as (10, 1)")


def _models(value: object) -> tuple[str | ModelSpec, ...] | None:
    if value is None:
        return None
    if isinstance(value, list | tuple) and value:
        try:
            return tuple(ModelSpec(**item) if isinstance(item, dict) else _model(item) for item in value)
        except TypeError as error:
            raise ConfigError(f"models: {error}") from None
    raise ConfigError(f"models={value!r}: give a list of names or ModelSpecs")


def _model(item: object) -> str | ModelSpec:
    if isinstance(item, ModelSpec) or (isinstance(item, str) and item):
        return item
    raise ConfigError(f"models: {item!r} is neither a name nor a ModelSpec")


def _keys(value: object) -> tuple[str, ...] | None:
    if value is None:
        return None
    keys = (value,) if isinstance(value, str) else value
    if isinstance(keys, list | tuple) and keys and all(isinstance(key, str) and key for key in keys):
        return tuple(keys)
    # The value is left out: it may be a key in the wrong place.
    raise ConfigError("key: give one key or a list of keys, none of them empty")
