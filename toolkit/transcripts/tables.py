"""Tables: Whisper's tsv, whisper.cpp's csv and the label files of Audacity."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from toolkit.errors import TranscriptError
from toolkit.transcripts.times import SECONDS, seconds
from toolkit.transcripts.turns import Segment, known_name

_HEADER = re.compile(
    r"\s*start(?P<separator>[\t,])end(?P=separator)(?:speaker(?P=separator))?text[ \t]*(?:\n|\Z)"
)
_AUDACITY = re.compile(rf"\s*(?P<start>{SECONDS})\t(?P<end>{SECONDS})\t(?P<text>[^\n]*)", re.ASCII)
_AUDACITY_SPEAKER = re.compile(r"\[\[(?P<name>[^\[\]]+)\]\]")
_TIMES = re.compile(r"\s*-?\d+\s*", re.ASCII)


def is_table(text: str) -> bool:
    """Say whether the first line is that of a table that a transcriber writes."""
    return bool(_HEADER.match(text) or _AUDACITY.match(text))


def read(text: str, path: Path) -> tuple[str, list[Segment]]:
    """Read a table with the columns start, end, speaker (if there is one) and text.

    Parameters
    ----------
    text : str
        With a header line times are whole milliseconds; without one (Audacity) they are seconds.
    path : Path
        For the error.

    Returns
    -------
    title : str
        Always empty.
    segments : list of Segment

    Raises
    ------
    TranscriptError
        A row does not have the columns.
    """
    header = _HEADER.match(text)
    rows = _rows(text, header["separator"], path) if header else _audacity(text, path)
    return "", list(rows)


def _rows(text: str, separator: str, path: Path) -> Iterator[Segment]:
    text = text.lstrip("\n ")
    # Whisper's tsv is not quoted (it replaces tabs), whisper.cpp's csv is.
    if separator == "\t":
        rows = csv.reader(StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    else:
        rows = csv.reader(StringIO(text), skipinitialspace=True)
    try:
        columns = [name.strip() for name in next(rows)]
        for row in rows:
            if not any(row):
                continue
            if len(row) < len(columns) or not (_TIMES.fullmatch(row[0]) and _TIMES.fullmatch(row[1])):
                raise TranscriptError(
                    f"a row has to be {', '.join(columns)} with times in milliseconds",
                    path=path,
                    line=rows.line_num,
                )
            words = separator.join(row[len(columns) - 1 :])
            speaker = known_name(row[2]) if "speaker" in columns else None
            yield Segment(words, speaker, int(row[0]) / 1000, int(row[1]) / 1000)
    except csv.Error as error:
        raise TranscriptError(f"the table is broken ({error})", path=path, line=rows.line_num) from error


def _audacity(text: str, path: Path) -> Iterator[Segment]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        if not (row := _AUDACITY.fullmatch(line)):
            raise TranscriptError(
                "a table of a transcript has the columns start, end, (speaker,) text; "
                "or without a header, as Audacity labels: start, tab, end, tab, text",
                path=path,
                line=number,
            )
        words, speaker = row["text"], None
        if found := _AUDACITY_SPEAKER.match(words):
            words, speaker = words[found.end() :], known_name(found["name"])
        yield Segment(words, speaker, seconds(row["start"]), seconds(row["end"]))
