"""The JSON that transcribers write: Podcasting 2.0, Whisper and its kin, and files of single words.

===================  ======================================================================
shape                told by
===================  ======================================================================
Podcasting 2.0       ``segments[].body``, ``startTime``, ``endTime``, ``speaker``
Whisper, WhisperX    ``segments[].text``, ``start``, ``end``, with WhisperX also ``speaker``
OpenAI API           the same (``verbose_json``, ``diarized_json``), or only ``text``
whisper.cpp          ``transcription[].text``, ``offsets`` in milliseconds
words                ``segments[].wdlist[].word`` (or ``words``) where a segment has no text
===================  ======================================================================
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from toolkit.errors import TranscriptError
from toolkit.transcripts.times import seconds
from toolkit.transcripts.turns import Segment, known_name


class OtherShape(TranscriptError):
    """The file is good JSON, only no transcript; beside a transcript that is no mistake."""


def read(text: str, path: Path) -> tuple[str, list[Segment]]:
    """Read JSON of any of the shapes above.

    Parameters
    ----------
    text : str
        The file.
    path : Path
        For the error.

    Returns
    -------
    title : str
        What the file calls itself, else empty.
    segments : list of Segment

    Raises
    ------
    TranscriptError
        The JSON is broken.
    OtherShape
        It holds no transcript.
    """
    try:
        content: object = json.loads(text)
    except json.JSONDecodeError as error:
        raise TranscriptError(
            f"the JSON is broken: {error.msg} (column {error.colno})", path=path, line=error.lineno
        ) from error
    except (RecursionError, ValueError) as error:
        # Nested a thousand deep, or a number of thousands of digits.
        raise TranscriptError(f"the JSON cannot be read: {error}", path=path, line=1) from error
    whole = _mapping(content)
    rows = _rows(whole.get("segments")) or _rows(whole.get("transcription")) or _rows(content)
    segments = list(_segments(rows, _speaker_table(whole)))
    said = whole.get("text")
    if not segments and isinstance(said, str):
        segments = [Segment(said)]
    if not segments:
        raise OtherShape(
            "the JSON is no transcript: it has neither segments with a text, body or words (Podcasting 2.0, "
            "Whisper, WhisperX), nor a transcription (whisper.cpp), nor a text",
            path=path,
            line=1,
        )
    title = whole.get("title")
    return title if isinstance(title, str) else "", segments


def _segments(rows: list[dict[str, object]], names: Mapping[object, str]) -> Iterator[Segment]:
    opens_turn = False
    for row in rows:
        words = _rows(row.get("words")) or _rows(row.get("wdlist"))
        text = next((said for key in ("text", "body") if isinstance(said := row.get(key), str)), None)
        if text is None and words:
            text = _sentence(words)
        if text is None:
            continue
        yield Segment(
            text,
            speaker=_speaker(row, words, names),
            start_s=_time(row, "start", "from"),
            end_s=_time(row, "end", "to"),
            opens_turn=opens_turn,
        )
        # whisper.cpp's tinydiarize knows that the speaker changes, not who it is.
        opens_turn = row.get("speaker_turn_next") is True


def _sentence(words: list[dict[str, object]]) -> str:
    texts = [word for row in words if isinstance(word := row.get("word", row.get("text")), str)]
    # Some tools keep the space in the word, and then a word without one is the rest of the last.
    spaced = any(text != text.strip() for text in texts)
    return ("" if spaced else " ").join(texts)


def _speaker(
    row: Mapping[str, object], words: list[dict[str, object]], names: Mapping[object, str]
) -> str | None:
    # WhisperX may know the speaker of a segment's words and not that of the segment.
    keys = [row.get("speaker"), row.get("speaker_name"), row.get("speaker_id")]
    keys += [word.get("speaker") for word in words]
    for key in keys:
        if isinstance(key, dict):
            key = key.get("name")
        if isinstance(key, str | int) and (name := names.get(key) or known_name(key)):
            return name
    return None


def _speaker_table(whole: Mapping[str, object]) -> dict[object, str]:
    """Find the names behind the ids, from ``{"speakers": {id: name}}`` or ``[{"id": ..., "name": ...}]``."""
    table = whole.get("speakers")
    pairs = list(table.items()) if isinstance(table, dict) else [(row.get("id"), row) for row in _rows(table)]
    named = ((key, known_name(_mapping(value).get("name", value))) for key, value in pairs)
    return {key: name for key, name in named if name and isinstance(key, str | int)}


def _time(row: Mapping[str, object], key: str, edge: str) -> float | None:
    milliseconds = seconds(_mapping(row.get("offsets")).get(edge))
    offset = None if milliseconds is None else milliseconds / 1000
    return next(
        (s for v in (row.get(key), row.get(f"{key}Time"), offset) if (s := seconds(v)) is not None), None
    )


def _rows(value: object) -> list[dict[str, object]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}
