"""What was set: without the secrets, beside the defaults, and what of it differs between runs."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import PydanticUndefined

from toolkit.config import Config
from toolkit.reports.parts import Column, Fold, Part, Table, Text
from toolkit.reports.wording import NONE, plain

_MOST_CHARACTERS = 400
NO_SECRETS = "Keys and passwords are in no report."


def shown(config: Config) -> dict[str, Any]:
    """Return all settings but the secrets; also of a config that was read back and never checked."""
    with warnings.catch_warnings():
        # A value of an earlier release may not be what its field now says.
        warnings.simplefilter("ignore")
        return config.shown()


def written(value: Any) -> str:
    """Return a setting's value as it would be typed."""
    if value is None:
        return NONE
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return plain(text, _MOST_CHARACTERS) or '""'


def default_of(name: str) -> Any:
    """Return what a setting is if nobody sets it."""
    field = Config.model_fields.get(name)
    return None if field is None or field.default is PydanticUndefined else field.default


def meaning_of(name: str) -> str:
    """Return what a setting says of itself."""
    field = Config.model_fields.get(name)
    return (field.description or "") if field else ""


def settings_parts(config: Config) -> list[Part]:
    """Return the settings that were chosen, and all of them folded."""
    every = shown(config)
    chosen = {name: value for name, value in every.items() if value != default_of(name)}
    columns = [Column("setting"), Column("value"), Column("default"), Column("meaning")]
    parts: list[Part] = []
    if chosen:
        parts.append(Table("Settings that differ from the defaults", columns, _rows(chosen)))
    else:
        parts.append(Text("Every setting has its default."))
    parts.append(Fold(f"All {len(every)} settings", [Table("All settings", columns, _rows(every))]))
    parts.append(Text(NO_SECRETS))
    return parts


def _rows(settings: Mapping[str, Any]) -> list[list[str]]:
    return [
        [name, written(value), written(default_of(name)), meaning_of(name)]
        for name, value in settings.items()
    ]


def differing(configs: Sequence[Config]) -> dict[str, list[Any]]:
    """Return the settings in which configs differ, with the value of each config."""
    every = [shown(config) for config in configs]
    values = {name: [settings.get(name) for settings in every] for name in every[0]}
    return {
        name: found
        for name, found in values.items()
        if len({json.dumps(value, sort_keys=True, default=str) for value in found}) > 1
    }


def environment_parts(environment: Mapping[str, object]) -> list[Part]:
    """Return what is known of the machine."""
    if not environment:
        return [Text("It recorded nothing of its machine.")]
    rows = [[plain(name), value] for name, value in flat(environment).items()]
    return [Table("What of the machine the times depend on", [Column("what"), Column("value")], rows)]


def flat(environment: Mapping[str, object]) -> dict[str, str]:
    """Return an environment as text; tables within it become ``name: key`` rows."""
    found: dict[str, str] = {}
    for name, value in environment.items():
        if isinstance(value, Mapping):
            found |= {f"{name}: {key}": written(inner) for key, inner in value.items()}
        else:
            found[str(name).replace("_", " ")] = written(value)
    return found
