"""What a page is made of; a template shows each kind, and escapes all text in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, NamedTuple

from toolkit.wording import plain

MOST_CHARACTERS = 6000
"""Of a text to be read."""


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: ClassVar[str] = "text"


@dataclass(frozen=True)
class Code:
    """Lines to be copied."""

    text: str
    kind: ClassVar[str] = "code"


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
    """A text that a model or a person wrote; ``missing`` says what is not in it, ``note`` what it is like."""

    heading: str
    text: str
    missing: str = ""
    note: str = ""


@dataclass(frozen=True)
class Items:
    """A list under a title."""

    title: str
    items: Sequence[str]
    kind: ClassVar[str] = "items"


@dataclass(frozen=True)
class Beside:
    """Texts to be read beside each other; one alone has the whole width."""

    writings: Sequence[Writing]
    kind: ClassVar[str] = "beside"


@dataclass(frozen=True)
class Fold:
    """Parts that are shown when the reader opens them."""

    title: str
    parts: Sequence[Part]
    is_open: bool = False
    kind: ClassVar[str] = "fold"


Part = Text | Code | Items | Table | Picture | Absent | Beside | Fold


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
class View:
    """What a thing shows of itself in a notebook; ``facts`` are names and values behind its title."""

    title: str
    facts: Sequence[tuple[str, str]] = ()
    alerts: Sequence[Alert] = ()
    tiles: Sequence[Tile] = ()
    parts: Sequence[Part] = ()


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
    return rows[:most], left_out(len(rows), most, rest)


def left_out(number: int, most: int, rest: str) -> str:
    """Return what to say where only the first ``most`` of a number of things are shown."""
    return f"The first {most:,} of {number:,} are shown. All of them: {rest}" if number > most else ""


def excerpt(text: str, whole: str, most: int = MOST_CHARACTERS) -> list[Part]:
    """Return the beginning of a text to be read; ``whole`` is how to get all of it."""
    parts: list[Part] = [Beside([Writing("", plain(text, most))])]
    if len(text) > most:
        parts.append(Text(f"The first {most:,} of {len(text):,} characters. All of them: {whole}"))
    return parts
