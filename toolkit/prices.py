"""What calls cost: a dated table of list prices, and one's own before it.

The built-in table is ``toolkit/data/prices.toml``; its head says how it is read. A model that is not in a
table has no price: a wrong one would be worse.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from toolkit.errors import ConfigError, nearest_name
from toolkit.records import Usage

_DATE_SUFFIX = re.compile(r"-20\d\d(-[01]\d-[0-3]\d|[01]\d[0-3]\d)\Z")
"""As OpenAI and Anthropic write it: ``-2024-07-18`` and ``-20251001``."""


@dataclass(frozen=True, slots=True)
class Price:
    r"""US dollars per million tokens.

    A prompt of :math:`n` tokens, of which :math:`c` were read from and :math:`w` written to the cache, and
    a reply of :math:`m` cost

    .. math:: (n - c - w) p_{input} + c\, p_{cached} + w\, p_{write} + m\, p_{output}

    where above ``long_over_tokens`` the first three are multiplied by ``long_input_factor`` and the last by
    ``long_output_factor``.

    Raises
    ------
    ConfigError
        If a number is negative or none at all.
    """

    input: float
    output: float
    cached_input: float | None = None
    cache_write: float | None = None
    long_over_tokens: float | None = None
    long_input_factor: float = 1.0
    long_output_factor: float = 1.0

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if value is None and item.default is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ConfigError(f"prices: {item.name}={value!r} must be a number from 0 on")
            if not (math.isfinite(value) and value >= 0):
                raise ConfigError(f"prices: {item.name}={value!r} must be a number from 0 on")

    def cost_usd(self, usage: Usage) -> float:
        """Return what a call costs."""
        cached = self.input if self.cached_input is None else self.cached_input
        write = self.input if self.cache_write is None else self.cache_write
        fresh = max(0, usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens)
        prompt = fresh * self.input + usage.cached_tokens * cached + usage.cache_write_tokens * write
        reply = usage.output_tokens * self.output
        if self.long_over_tokens is not None and usage.input_tokens > self.long_over_tokens:
            prompt, reply = prompt * self.long_input_factor, reply * self.long_output_factor
        return (prompt + reply) / 1e6

    def bound_usd(self, input_tokens: int, output_tokens: int) -> float:
        """Return the most that a call of so many tokens can cost, whatever of it was cached."""
        dearest = max(self.input, self.cached_input or 0.0, self.cache_write or 0.0)
        prompt, reply = input_tokens * dearest, output_tokens * self.output
        if self.long_over_tokens is not None and input_tokens > self.long_over_tokens:
            prompt *= max(1.0, self.long_input_factor)
            reply *= max(1.0, self.long_output_factor)
        return (prompt + reply) / 1e6


def undated(model: str) -> str:
    """Return the name of a model without the date of its version: its family."""
    return _DATE_SUFFIX.sub("", model)


def find_price(table: Mapping[str, Price], model: str) -> Price | None:
    """Return the price of a model: under its own name, else under its name without the date."""
    return table.get(model) or table.get(undated(model))


@lru_cache(maxsize=1)
def list_prices() -> Mapping[str, Price]:
    """Return the vendors' list prices that come with the toolkit."""
    text = files("toolkit").joinpath("data/prices.toml").read_text(encoding="utf-8")
    return _read(tomllib.loads(text), "prices.toml")


def read_prices(source: str | Path | Mapping[str, Any] | None) -> Mapping[str, Price]:
    """Read prices of one's own.

    Parameters
    ----------
    source : path, mapping or None
        A TOML file with a table for each model, or the same as a mapping.

    Raises
    ------
    ConfigError
        If the file cannot be read, or a row is wrong.
    """
    if source is None:
        return {}
    if isinstance(source, Mapping):
        return _read(source, "prices")
    try:
        table = tomllib.loads(Path(source).expanduser().read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"prices: {source}: cannot be read ({error.strerror or error})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"prices: {source}: is no valid TOML: {error}") from None
    return _read(table, str(source))


def _read(table: Mapping[str, Any], where: str) -> dict[str, Price]:
    known = [item.name for item in fields(Price)]
    prices = {}
    for model, row in table.items():
        if not isinstance(row, Mapping):
            raise ConfigError(
                f'{where}: {model!r} must be a table of prices; a name with a dot needs quotes: ["{model}"]'
            )
        for name in row:
            if name not in known:
                raise ConfigError(f"{where}: {model!r}: {name!r} is unknown; {nearest_name(name, known)}")
        for name in ("input", "output"):
            if name not in row:
                raise ConfigError(f"{where}: {model!r} has no {name!r} price; a name with a dot needs quotes")
        try:
            prices[model] = Price(**row)
        except ConfigError as error:
            raise ConfigError(f"{where}: {model!r}: {error}") from None
    return prices
