"""Plain text and Markdown: labels of every style, or none.

=====================  ==========================================================
style                  looks like
=====================  ==========================================================
bold                   ``**Name:** text``, ``**Name** (00:18)`` and text below
timed                  ``Name: 00:00:09``, ``Name (00:18):``, ``Name (00:28) - text``
plain                  ``Name: text``, ``Name:`` and text below, ``[SPEAKER_00]: text``
=====================  ==========================================================

A time may stand before any of them, or before text without label: ``00:00:09 text``,
``[0.00 --> 4.02] text``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from toolkit.transcripts.clean import COMMENT, without_markdown
from toolkit.transcripts.labels import LONGEST_LABEL, likely_names, speaker_names
from toolkit.transcripts.times import CLOCK, SECONDS, seconds
from toolkit.transcripts.turns import SENTENCE_END, Segment, paragraphs

_FRONT_MATTER = re.compile(r"\s*---[ \t]*\n(?P<fields>.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_FRONT_TITLE = re.compile(
    r"^title:[ \t]*(?P<quote>['\"]?)(?P<title>.+?)(?P=quote)[ \t]*$", re.MULTILINE | re.IGNORECASE
)
_HEADING = re.compile(r"(?P<level>#{1,6})[ \t]+(?P<title>[^\n]*?)[ \t]*#*")
_RULE = re.compile(r"(?:[-*_=~][ \t]*){3,}|`{3}\w*")
_QUOTE_OR_BULLET = re.compile(r"(?:>(?!>)[ \t]?|[-*+•][ \t]+)+")
# What shows keep above the talk: "Title: Night trains" looks like a label and is none.
_FIELD = re.compile(
    r"(?P<key>title|episode|show|podcast|date|published|recorded|duration|length|hosts|guests|url|language)"
    r"[ \t]*:[ \t]*(?P<value>\S.*)",
    re.IGNORECASE,
)
_BREAK = re.compile(
    r"break|breaks|ad|ads|ad break|advertisement|commercial|commercial break|intro|"
    r"introduction|jingle|midroll|music|outro|preroll|sponsor|sponsor break|sponsors|theme|"
    r"theme music|theme song|transcript",
    re.IGNORECASE,
)

_RANGE = re.compile(rf"\[(?P<start>{CLOCK}|{SECONDS})\s*-->\s*(?P<end>{CLOCK}|{SECONDS})\]\s*", re.ASCII)
_BRACKETED_TIME = re.compile(rf"\\?[\[(](?P<start>{CLOCK})\\?[\])]\s*(?:[-–—:]\s+)?", re.ASCII)
_BARE_TIME = re.compile(rf"(?P<start>{CLOCK})(?:\s*[-–—:]\s+|\s+|$)", re.ASCII)
_ONLY_TIME = re.compile(rf"(?P<start>{CLOCK})", re.ASCII)

_MARKED = re.compile(
    rf"(?P<mark>\*{{1,3}}|_{{1,3}})(?P<name>[^*\n]{{1,{LONGEST_LABEL + 15}}}?)(?P=mark)(?P<rest>.*)"
)
_AFTER_MARKED = re.compile(
    rf"\s*(?P<colon>:?)\s*(?:[\[(]?(?P<time>{CLOCK})[\])]?)?\s*(?P<end>:?)\s*(?:[-–—]\s+)?(?P<text>.*)",
    re.ASCII,
)
_TIMED = re.compile(
    rf"(?P<name>[^:\n*]{{1,{LONGEST_LABEL}}}?)\s*"
    rf"(?::?\s*\\?[\[(](?P<inside>{CLOCK})\\?[\])]\s*:?\s*(?:[-–—]\s+)?|(?::\s*|\s)(?P<bare>{CLOCK})\s*:?\s*$)"
    r"(?P<text>.*)",
    re.ASCII,
)
_PLAIN = re.compile(
    rf"(?P<name>\[[^\[\]\n]{{1,{LONGEST_LABEL}}}\]|[^:\n*]{{1,{LONGEST_LABEL}}}?)\s*:(?:\s+|$)(?P<text>.*)"
)
_TIME_IN_NAME = re.compile(rf"\s*[\[(](?P<time>{CLOCK})[\])]\s*", re.ASCII)


class _Label(NamedTuple):
    style: str
    name: str
    start_s: float | None
    text: str

    @property
    def is_break(self) -> bool:
        """Whether this names a part of the show: ``**Break:**``, or ``Music:`` alone."""
        return _BREAK.fullmatch(self.name) is not None and (self.style == "bold" or not self.text)


@dataclass(slots=True)
class _Line:
    text: str
    begins_block: bool
    start_s: float | None = None
    end_s: float | None = None
    label: _Label | None = None


def read(text: str, path: Path) -> tuple[str, list[Segment]]:
    """Read plain text or Markdown.

    Parameters
    ----------
    text : str
        The file.
    path : Path
        Not used: any text is a transcript. It makes the readers alike.

    Returns
    -------
    title : str
        From the front matter, a ``Title:`` line or the first ``#`` heading; else empty.
    segments : list of Segment
        With speakers where the file has labels; text without one goes on for the same speaker. Without any
        label a block of lines between blank ones makes paragraphs of its own.
    """
    title, lines = _content_lines(text)
    _take_times(lines)
    for line in lines:
        line.label = _label(line.text)
    style = _style(lines)
    names = speaker_names(_labels(lines, style), marked=style != "plain")
    blocks = list(_blocks(lines, names))
    if (
        names
        or any(block.start_s is not None for block in blocks)
        or any(line.text.startswith(">>") for line in lines)
    ):
        return title, [replace(block, text=without_markdown(block.text)) for block in blocks]
    return title, [
        paragraph
        for block in blocks
        for paragraph in paragraphs(Segment(line) for line in without_markdown(block.text).split("\n"))
    ]


def _content_lines(text: str) -> tuple[str, list[_Line]]:
    """Return the title, and the lines without front matter, headings and rules."""
    title = ""
    if front := _FRONT_MATTER.match(text):
        text = text[front.end() :]
        if found := _FRONT_TITLE.search(front["fields"]):
            title = found["title"]
    lines: list[_Line] = []
    begins_block = True
    for raw in COMMENT.sub("", text).split("\n"):
        line = " ".join(raw.split())
        heading, field = _HEADING.fullmatch(line), None if lines else _FIELD.fullmatch(line)
        if heading and heading["level"] == "#":
            title = title or without_markdown(heading["title"])
        elif field and field["key"].lower() == "title":
            title = title or field["value"]
        if heading or field or not line or _RULE.fullmatch(line):
            begins_block = True
            continue
        # A name and its words may share a quote or a bullet; the marks are nobody's words.
        if quoted := _QUOTE_OR_BULLET.match(line):
            line = line[quoted.end() :]
        if line:
            lines.append(_Line(line, begins_block))
        begins_block = not line
    return title, lines


def _take_times(lines: list[_Line]) -> None:
    """Move the times at the start of lines from their text to ``start_s``."""
    bare = [line for line in lines if _BARE_TIME.match(line.text)]
    # One line that begins with "10:30" is a sentence about an appointment.
    prefixes = [_RANGE, _BRACKETED_TIME]
    if len(bare) > 1 and len(bare) * 3 >= len(lines):
        prefixes.append(_BARE_TIME)
    for line in lines:
        found = next((found for prefix in prefixes if (found := prefix.match(line.text))), None)
        found = found or _ONLY_TIME.fullmatch(line.text)
        if found:
            line.start_s = seconds(found["start"])
            line.end_s = seconds(found.groupdict().get("end"))
            line.text = line.text[found.end() :]


def _label(line: str) -> _Label | None:
    """Return what stands in the place of a label, be it a speaker or not."""
    line = line.lstrip("> ")
    if marked := _MARKED.match(line):
        name, start_s = _name_and_time(marked["name"])
        after = _AFTER_MARKED.fullmatch(marked["rest"])
        if after:
            sure = name.endswith(":") or after["colon"] or after["end"] or after["time"]
            start_s = seconds(after["time"]) if after["time"] else start_s
            if sure or not after["text"]:
                return _Label("bold" if sure else "bold alone", name.rstrip(": "), start_s, after["text"])
    if timed := _TIMED.fullmatch(line):
        return _Label(
            "timed", timed["name"].strip(), seconds(timed["inside"] or timed["bare"]), timed["text"]
        )
    if plain := _PLAIN.fullmatch(line):
        return _Label("plain", plain["name"].strip(), None, plain["text"])
    return None


def _name_and_time(name: str) -> tuple[str, float | None]:
    found = _TIME_IN_NAME.search(name)
    return (_TIME_IN_NAME.sub(" ", name).strip(), seconds(found["time"])) if found else (name.strip(), None)


def _style(lines: list[_Line]) -> str:
    """Return the style of label that the file uses; what looks like another one is text."""

    def uses(style: str) -> int:
        labels = _labels(lines, style)
        likely = likely_names(labels)
        return sum(label in likely for label in labels)

    return max(dict.fromkeys(line.label.style for line in lines if line.label), key=uses, default="plain")


def _labels(lines: list[_Line], style: str) -> list[str | None]:
    """Return the label in a style, or None, of each line that may open a speech."""
    # Without blank lines each line may be a paragraph, or they are wrapped; a paragraph ends with a sentence.
    blocks = any(line.begins_block for line in lines[1:])
    labels = []
    for above, line in zip([None, *lines], lines, strict=False):
        if line.label:
            labels.append(line.label.name if line.label.style == style else None)
        elif above and above.label and not above.label.text:
            continue  # The words of a name that stands alone.
        elif line.begins_block or (above and not blocks and SENTENCE_END.search(above.text)):
            labels.append(None)
    return labels


def _blocks(lines: list[_Line], names: dict[str, str]) -> Iterator[Segment]:
    """Yield what one speaker says up to a blank line, its lines still apart."""
    speaker: str | None = None
    waiting_start: float | None = None
    block = Segment("")
    said: list[str] = []
    for line in lines:
        text, start_s, opens = line.text, line.start_s, line.begins_block
        if line.label and line.label.name in names:
            text, speaker, opens = line.label.text, names[line.label.name], True
            start_s = line.label.start_s if line.label.start_s is not None else start_s
        elif line.label and line.label.is_break:
            text = line.label.text
        elif text.startswith(">>"):
            speaker, opens = None, True
        start_s = waiting_start if start_s is None else start_s
        # A name or a time may stand alone, and its words come below.
        waiting_start = None if text else start_s
        if (opens or start_s is not None) and said:
            yield replace(block, text="\n".join(said))
            said = []
        if not said:
            block = Segment("", speaker, start_s, line.end_s)
        if text:
            said.append(text)
    if said:
        yield replace(block, text="\n".join(said))
