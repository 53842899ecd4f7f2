"""Settings as they are shown: what was chosen, beside its default and its meaning; never a secret."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from toolkit.parts import Column, Fold, Part, Table, Text
from toolkit.wording import NONE, plain

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

_MOST_CHARACTERS = 400
_COLUMNS = (Column("setting"), Column("value"), Column("default"), Column("meaning"))


def written(value: Any) -> str:
    """Return a setting's value as it would be typed."""
    if value is None:
        return NONE
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return plain(text, _MOST_CHARACTERS) or '""'


def default_of(name: str, fields: Mapping[str, FieldInfo]) -> Any:
    """Return what a setting is if nobody sets it."""
    field = fields.get(name)
    return None if field is None or field.is_required() else field.default


def meaning_of(name: str, fields: Mapping[str, FieldInfo]) -> str:
    """Return what a setting says of itself."""
    field = fields.get(name)
    return (field.description or "") if field else ""


def chosen(values: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> dict[str, Any]:
    """Return the settings that differ from their defaults."""
    return {name: value for name, value in values.items() if value != default_of(name, fields)}


def settings_table(values: Mapping[str, Any], fields: Mapping[str, FieldInfo], caption: str) -> Table:
    """Return a row for each setting."""
    rows = [
        [name, written(value), written(default_of(name, fields)), meaning_of(name, fields)]
        for name, value in values.items()
    ]
    return Table(caption, _COLUMNS, rows)


def settings_parts(values: Mapping[str, Any], fields: Mapping[str, FieldInfo]) -> list[Part]:
    """Return the settings that were chosen, and all of them folded; ``values`` hold no secrets."""
    parts: list[Part] = []
    if own := chosen(values, fields):
        parts.append(settings_table(own, fields, "Settings that differ from the defaults"))
    else:
        parts.append(Text("Every setting has its default."))
    parts.append(Fold(f"All {len(values)} settings", [settings_table(values, fields, "All settings")]))
    return parts
