"""Tell the format of a text from the text; suffixes are wrong too often."""

from __future__ import annotations

import re

from toolkit.transcripts.subtitles import TIMING_LINE
from toolkit.transcripts.tables import is_table

_JSON = re.compile(r'\s*(?:\{\s*(?:"|\}|\Z)|\[\s*(?:[{"\]]|\Z))')
_HTML = re.compile(
    r"\s*(?:<!doctype\s+html|<(?:html|head|body|cite|article|section|main|div|h1|p)\b)", re.IGNORECASE
)
_HEAD_CHARS = 20_000
_BY_SUFFIX = {
    ".aud": "table",
    ".csv": "table",
    ".json": "json",
    ".srt": "subtitles",
    ".tsv": "table",
    ".vtt": "subtitles",
}


def format_of(text: str, suffix: str) -> str:
    """Name the format of a text.

    Parameters
    ----------
    text : str
        The whole file.
    suffix : str
        Such as ``".srt"``; decides only where the text does not.

    Returns
    -------
    str
        ``"subtitles"``, ``"json"``, ``"html"``, ``"table"`` or ``"plain"``.
    """
    head = text[:_HEAD_CHARS]
    if head.lstrip().startswith("WEBVTT") or TIMING_LINE.search(head):
        return "subtitles"
    if _JSON.match(head):
        return "json"
    if _HTML.match(head):
        return "html"
    if is_table(text):
        return "table"
    return _BY_SUFFIX.get(suffix.lower(), "plain")
