"""A sweep as a TOML file: its grid, what all cells have in common, and how it is to be measured."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from toolkit.errors import ConfigError, nearest_name
from toolkit.latency import LatencyModel

OPTIONS = (
    "budget_calls",
    "budget_tokens",
    "budget_usd",
    "confirm",
    "name",
    "parallel",
    "repeats",
    "rest",
    "sample",
    "score",
    "seed",
    "warm_up",
)
"""Arguments of ``sweep`` that may stand at the top of a file."""
YES_OR_NO = ("confirm", "rest", "warm_up")
TABLES = ("grid", "cells", "config", "latency")


class SweepFile(NamedTuple):
    """What a file says: settings of all cells, and arguments of ``sweep``."""

    config: dict[str, Any]
    options: dict[str, Any]


def read_sweep_file(path: str | Path) -> SweepFile:
    """Read a file.

    ::

        repeats = 3
        budget_usd = 2.0

        [grid]                        # or [[cells]], each with its settings
        summary_batch_size = [1, 2, 4]
        chunk_tokens = [512, 1024]

        [config]
        provider = "openai"

        [latency]                     # simulated, if there is one: fields of LatencyModel
        base_s = 0.4
        per_output_token_s = 0.012

    Raises
    ------
    ConfigError
        If it cannot be read, is no TOML, or holds something else.
    """
    try:
        told = tomllib.loads(Path(path).expanduser().read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is no valid TOML: {error}") from None
    for name in told:
        if name not in (*OPTIONS, *TABLES):
            raise ConfigError(f"{path}: {name!r} is no part of a sweep; {_hint(name)}")
    for name in ("config", "latency"):
        if not isinstance(told.get(name, {}), dict):
            raise ConfigError(f"{path}: {name} must be a table, [{name}]")
    for name in YES_OR_NO:
        if not isinstance(told.get(name, False), bool):
            raise ConfigError(f"{path}: {name}={told[name]!r} must be true or false")
    options = {name: told[name] for name in (*OPTIONS, "grid", "cells") if name in told}
    if "latency" in told:
        try:
            options |= {"simulate": True, "latency": LatencyModel(**told["latency"])}
        except (ConfigError, TypeError) as error:
            raise ConfigError(f"{path}: [latency]: {error}") from None
    return SweepFile(told.get("config", {}), options)


def _hint(name: str) -> str:
    from toolkit.config import Config

    if name in Config.model_fields:
        return "settings of all cells stand in the table [config], those to go over in [grid]"
    return nearest_name(name, (*OPTIONS, *TABLES))
