"""What a page is made of; a template shows each kind, and escapes all text in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: ClassVar[str] = "text"


class Column(NamedTuple):
    """A column of a table; ``is_number`` puts its cells to the right."""

    title: str
    unit: str = ""
    is_number: bool = False


@dataclass(frozen=True)
class Table:
    """Rows whose first cell names them; ``note`` says what was left out, and how to get it."""

    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]
    note: str = ""
    kind: ClassVar[str] = "table"


@dataclass(frozen=True)
class Picture:
    """A plot as a ``data:`` address; ``alt`` says in words what it shows, ``caption`` how it is read."""

    title: str
    source: str
    alt: str
    caption: str
    kind: ClassVar[str] = "picture"


@dataclass(frozen=True)
class Absent:
    """What is not there, and why."""

    title: str
    why: str
    kind: ClassVar[str] = "absent"


class Writing(NamedTuple):
    """A text that a model or a person wrote; without one, ``note`` says why."""

    heading: str
    text: str
    note: str = ""


@dataclass(frozen=True)
class SideBySide:
    """Texts to be read beside each other."""

    writings: Sequence[Writing]
    kind: ClassVar[str] = "side_by_side"


@dataclass(frozen=True)
class Fold:
    """Parts that are shown when the reader opens them."""

    title: str
    parts: Sequence[Part]
    is_open: bool = False
    kind: ClassVar[str] = "fold"


Part = Text | Table | Picture | Absent | SideBySide | Fold


@dataclass(frozen=True)
class Section:
    """Parts under a heading."""

    id: str
    title: str
    parts: Sequence[Part]


class Alert(NamedTuple):
    """What must be known before any figure is read."""

    label: str
    text: str
    tone: Literal["bad", "note"] = "note"


class Tile(NamedTuple):
    """A headline figure."""

    label: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Page:
    """A whole page; ``facts`` are names and values under its heading."""

    title: str
    facts: Sequence[tuple[str, str]]
    alerts: Sequence[Alert] = ()
    tiles: Sequence[Tile] = ()
    sections: Sequence[Section] = field(default_factory=list)


def cut(rows: Sequence[Sequence[str]], most: int, rest: str) -> tuple[Sequence[Sequence[str]], str]:
    """Return the first rows and what to say of the others; ``rest`` is how to get them."""
    if len(rows) <= most:
        return rows, ""
    return rows[:most], f"The first {most:,} of {len(rows):,} are shown. All of them: {rest}"
