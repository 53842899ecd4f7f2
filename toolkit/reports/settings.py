"""What was set in runs and where they took place: without the secrets, and what differs between runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from toolkit.config import Config
from toolkit.parts import Column, Part, Table, Text
from toolkit.settings import settings_parts, written
from toolkit.wording import plain

NO_SECRETS = Text("Keys and passwords are in no report.")


def settings_of(config: Config) -> list[Part]:
    """Return the settings that were chosen, and all of them folded."""
    return settings_parts(config.shown(), Config.model_fields)


def differing(configs: Sequence[Config]) -> dict[str, list[Any]]:
    """Return the settings in which configs differ, with the value of each config."""
    every = [config.shown() for config in configs]
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
