"""Podcasting 2.0 HTML (``<cite>Name:</cite><time>0:09</time><p>words</p>``) and other pages of speech."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

from toolkit.errors import TranscriptError
from toolkit.transcripts import plain
from toolkit.transcripts.times import seconds
from toolkit.transcripts.turns import Segment, known_name

_BLOCK = re.compile(
    r"address|article|aside|blockquote|body|br|cite|dd|div|dl|dt|footer|h[1-6]|header|hr|html|li|main|nav|ol|p|"
    r"section|table|td|th|time|title|tr|ul"
)
_HEADING = re.compile(r"h[1-6]|title")
# How bold type is handed to the reader of plain text, where it may mark the speakers.
_BOLD = "**"
_SILENT = re.compile(r"script|style|template|noscript|svg")


def read(text: str, path: Path) -> tuple[str, list[Segment]]:
    """Read a page of speech.

    Parameters
    ----------
    text : str
        The file. ``cite`` is a speaker and ``time`` a time; without any ``cite`` the paragraphs are read
        like plain text with labels.
    path : Path
        For the error.

    Returns
    -------
    title : str
        ``h1``, else ``title``, else empty.
    segments : list of Segment

    Raises
    ------
    TranscriptError
        The page cannot be parsed.
    """
    page = _Page()
    try:
        page.feed(text)
        page.close()
    except AssertionError as error:
        # How html.parser reports a declaration that it does not know.
        raise TranscriptError(f"the HTML is broken ({error})", path=path, line=page.getpos()[0]) from error
    page.end_block()
    title = page.titles.get("h1") or page.titles.get("title", "")
    if any(kind == "cite" for kind, _ in page.blocks):
        return title, _cited(page.blocks)
    labelled = "\n\n".join(words for _, words in page.blocks)
    return title, plain.read(labelled, path)[1]


def _cited(blocks: list[tuple[str, str]]) -> list[Segment]:
    segments, speaker, start_s = [], None, None
    for kind, words in blocks:
        if kind == "cite":
            speaker = known_name(words)
        elif kind == "time":
            start_s = seconds(words)
        else:
            segments.append(Segment(words.replace(_BOLD, ""), speaker, start_s))
            start_s = None
    return segments


class _Page(HTMLParser):
    """Collects blocks as (tag, words), headings apart."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[tuple[str, str]] = []
        self.titles: dict[str, str] = {}
        self._kind = "p"
        self._words: list[str] = []
        self._silent: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if _SILENT.fullmatch(tag):
            self._silent.append(tag)
        elif _BLOCK.fullmatch(tag):
            self.end_block()
            self._kind = tag
        elif tag in ("b", "strong"):
            self._words.append(_BOLD)

    def handle_endtag(self, tag: str) -> None:
        if self._silent and tag == self._silent[-1]:
            self._silent.pop()
        elif _BLOCK.fullmatch(tag):
            self.end_block()
        elif tag in ("b", "strong"):
            self._words.append(_BOLD)

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self._words.append(data)

    def end_block(self) -> None:
        words = " ".join("".join(self._words).split())
        if words and _HEADING.fullmatch(self._kind):
            self.titles.setdefault(self._kind, words)
        elif words:
            self.blocks.append((self._kind, words))
        self._words, self._kind = [], "p"
