"""WebVTT and SubRip."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from toolkit.errors import TranscriptError
from toolkit.transcripts.labels import LONGEST_LABEL, speaker_names
from toolkit.transcripts.times import CLOCK, SECONDS, seconds
from toolkit.transcripts.turns import Segment, known_name

# An own reader because the libraries lose words of real files without a word: webvtt-py and pysubs2 find no
# cue with times in seconds (0.000 --> 3.480), webvtt-py drops what follows a blank line inside a cue and
# unnumbered cues of SubRip, pysubs2 drops last lines that are a number, srt takes 01:02,500 for an hour.
TIMING_LINE = re.compile(
    rf"^[ \t]*(?P<start>{CLOCK}|{SECONDS})[ \t]*-->[ \t]*(?P<end>{CLOCK}|{SECONDS})(?:[ \t][^\n]*)?$",
    re.MULTILINE | re.ASCII,
)
# The number of the next cue stands right above its time, or alone between blank lines in double-spaced files.
_NUMBER_ABOVE = re.compile(r"(?:\A|\n)[ \t]*\d+[ \t]*\n\Z|(?:\A|\n)[ \t]*\n[ \t]*\d+[ \t]*\n\s*\Z", re.ASCII)
_IDENTIFIER_ABOVE = re.compile(r"(?:\A|\n)[ \t]*\n[^\n]+\n\Z")
_BLOCK = re.compile(r"(?<=\n)[ \t]*\n(?:NOTE|STYLE|REGION)(?:[ \t][^\n]*)?\n.*?(?=\n[ \t]*\n|\Z)", re.DOTALL)
_VOICE = re.compile(r"<v(?:\.[^\s>]*)?(?:[ \t]+([^>]{0,300}))?>|</v>", re.IGNORECASE)
_LABEL = re.compile(
    rf"(?:>>+\s*)?(?P<label>\[[^\[\]]{{1,{LONGEST_LABEL}}}\]|[^:\n]{{1,{LONGEST_LABEL}}}?)\s*:(?=\s|$)\s*"
)


def read(text: str, path: Path) -> tuple[str, list[Segment]]:
    """Read WebVTT or SubRip.

    Parameters
    ----------
    text : str
        The file; times may have hours or not, comma or point, and run backwards; cue numbers and blank
        lines may be anywhere.
    path : Path
        For the error.

    Returns
    -------
    title : str
        Always empty, these formats have none.
    segments : list of Segment
        With speakers from ``<v Name>``, or ``Name:`` and ``[SPEAKER_00]:`` at the start of a cue, which
        hold until the next.

    Raises
    ------
    TranscriptError
        There is no cue.
    """
    cues = list(_cues(text))
    if not cues:
        raise TranscriptError(
            "no cue was found: a line such as 00:00:01.000 --> 00:00:04.000 stands above the words of each",
            path=path,
            line=1,
        )
    if any(_VOICE.search(cue.text) for cue in cues):
        return "", [voice for cue in cues for voice in _voices(cue)]
    return "", list(_labelled(cues))


def _cues(text: str) -> Iterator[Segment]:
    webvtt = text.lstrip().startswith("WEBVTT")
    if webvtt:
        text = _BLOCK.sub("", text)
    timings = list(TIMING_LINE.finditer(text))
    for index, timing in enumerate(timings):
        following = timings[index + 1] if index + 1 < len(timings) else None
        payload = text[timing.end() : following.start() if following else None].removeprefix("\n")
        if following:
            payload = _NUMBER_ABOVE.sub("", payload)
            if webvtt:
                payload = _IDENTIFIER_ABOVE.sub("", payload)
        yield Segment(payload.strip(), start_s=seconds(timing["start"]), end_s=seconds(timing["end"]))


def _voices(cue: Segment) -> Iterator[Segment]:
    # An odd number of parts: words, then a name (or None for a closing tag) and its words, and so on.
    before, *named = _VOICE.split(cue.text)
    yield replace(cue, text=before)
    for name, words in zip(named[::2], named[1::2], strict=True):
        yield replace(cue, text=words, speaker=known_name(name))


def _labelled(cues: list[Segment]) -> Iterator[Segment]:
    candidates = [_LABEL.match(cue.text) for cue in cues]
    names = speaker_names([found["label"].strip() if found else None for found in candidates])
    speaker = None
    for cue in cues:
        for line in cue.text.split("\n"):
            found = _LABEL.match(line)
            if found and found["label"].strip() in names:
                speaker = names[found["label"].strip()]
                yield replace(cue, text=line[found.end() :], speaker=speaker)
            else:
                if line.startswith(">>"):
                    speaker = None
                yield replace(cue, text=line, speaker=speaker)
