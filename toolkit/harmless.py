"""Making text from transcripts and models harmless where it is shown: terminals, spreadsheets, Markdown."""

from __future__ import annotations

import re
import unicodedata

_ESCAPE_SEQUENCE = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    r"|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)"  # OSC and its kin: titles, links, clipboard
    r"|\x1b[ -/]*[0-~]?",  # two characters and more: reset, character sets
    re.DOTALL,
)
_FORMULA_START = ("=", "+", "-", "@", "\t", "\r")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>#|~!&$])")
_LINK = re.compile(r"/(?=/)|(?<=mailto):|(?<=\w)\.(?=[^\W\d])", re.IGNORECASE)
_LINE_START = re.compile(r"^([^\S\n]*)([-+=]|\d+[.)])", re.MULTILINE)


def whole_characters(text: str) -> str:
    """Return text in which halves of characters, which JSON can hold and no file, are U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def for_terminal(text: str) -> str:
    """Return text without escape sequences and control characters; line breaks and tabs stay.

    Characters that turn the direction of writing go too: they make text read as what it is not.
    """
    plain = _ESCAPE_SEQUENCE.sub("", text)
    return "".join(
        character
        for character in plain
        if character in "\n\t"
        or (unicodedata.category(character) not in _NO_TEXT and character not in _DIRECTION_MARKS)
    )


_NO_TEXT = ("Cc", "Cs")
"""Control characters, and halves of surrogate pairs, which no file can hold."""
_DIRECTION_MARKS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")


def for_spreadsheet(text: str) -> str:
    """Return text that no spreadsheet takes for a formula: an apostrophe stands before a formula's start."""
    plain = for_terminal(text)
    # As a spreadsheet may read it: blanks of all widths, signs of all forms.
    read = unicodedata.normalize("NFKC", plain).lstrip(" \n")
    return "'" + plain if read.startswith(_FORMULA_START) else plain


def for_markdown(text: str) -> str:
    """Return text that Markdown shows as it stands: no markup, no HTML, no headings, lists or links.

    Nor are addresses of the web made links, with or without ``https://``. Only GitHub's own renderer links
    addresses of mail, however they are escaped.
    """
    escaped = _LINK.sub(r"\\\g<0>", _MARKDOWN.sub(r"\\\1", for_terminal(text)))
    return _LINE_START.sub(_escape_line_start, escaped)


def _escape_line_start(match: re.Match[str]) -> str:
    space, mark = match.groups()
    return f"{space}{mark[:-1]}\\{mark[-1]}"
