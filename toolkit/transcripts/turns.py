"""From segments (a cue, a line, a word) to turns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from toolkit.records import Turn
from toolkit.transcripts.clean import one_line, words_only
from toolkit.transcripts.names import one_name_each

PARAGRAPH_WORDS = 60
"""A paragraph of a text without speakers ends at the first sentence end from here on."""

LONGEST_PARAGRAPH_WORDS = 180
"""Where no sentence ends (some recognizers write no full stops) it ends here."""

PAUSE_S = 2.0
"""A silence longer than this ends a paragraph."""

SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’»)\]]*$")
_BETWEEN_SENTENCES = re.compile(r"(?<=[.!?…])\s+|(?<=[。！？])")
# What whisper.cpp's speaker detection and human captioners write where another voice begins.
_CHANGE = re.compile(r"(?:^|(?<=\s))(?:>>+|(?:&gt;){2,})\s*|\[SPEAKER_TURN\]")
_CHANGE_FIRST = re.compile(r">>|(?:&gt;){2}|.*\[SPEAKER_TURN\]")


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a transcript as its file gives it.

    ``opens_turn`` says that another voice begins here, even though its name is unknown or the same.
    """

    text: str
    speaker: str | None = None
    start_s: float | None = None
    end_s: float | None = None
    opens_turn: bool = False


def to_turns(segments: Iterable[Segment]) -> tuple[Turn, ...]:
    """Merge the segments of one voice and leave their words only.

    Parameters
    ----------
    segments : iterable of Segment
        In the order of the file, which is kept: times that run backwards are common and mean nothing.

    Returns
    -------
    tuple of Turn
        Paragraphs where the file tells no voices apart; otherwise no two neighbours of one known speaker.
    """
    voices = list(segments)
    names = one_name_each(voice.speaker for voice in voices if voice.speaker)
    voices = [
        replace(voice, text=one_line(voice.text), speaker=names.get(voice.speaker or "")) for voice in voices
    ]
    # Talk about code has ">>" too; it marks voices in files where it begins a segment.
    if any(_CHANGE_FIRST.match(voice.text) for voice in voices):
        voices = [change for voice in voices for change in _split_at_changes(voice)]
    if not any(voice.speaker or voice.opens_turn for voice in voices):
        voices = paragraphs(voices)
    # Merged before cleaning, because a tag may begin in one cue and end in the next; and once more
    # after it, because what was only laughter no longer stands between two halves of a turn.
    cleaned = (replace(merged, text=words_only(merged.text)) for merged in _merged(voices))
    return tuple(
        Turn(one_line(segment.text), segment.speaker, segment.start_s, segment.end_s)
        for segment in _merged(segment for segment in cleaned if segment.text)
    )


def paragraphs(segments: Iterable[Segment]) -> list[Segment]:
    """Merge segments without speakers into paragraphs, each of which opens a turn."""
    pieces = [piece for segment in segments for piece in _cut(segment)]
    ends = {
        index
        for index, (piece, following) in enumerate(pairwise(pieces))
        if piece.end_s is not None
        and following.start_s is not None
        and following.start_s - piece.end_s > PAUSE_S
    }
    done: list[Segment] = []
    waiting: list[Segment] = []
    words = 0
    for index, piece in enumerate(pieces):
        waiting.append(piece)
        words += _size(piece.text)
        complete = words >= PARAGRAPH_WORDS and SENTENCE_END.search(piece.text.rstrip())
        if complete or words >= LONGEST_PARAGRAPH_WORDS or index in ends:
            done.append(replace(_joined(waiting), opens_turn=True))
            waiting, words = [], 0
    if waiting:
        done.append(replace(_joined(waiting), opens_turn=True))
    return done


def _split_at_changes(segment: Segment) -> list[Segment]:
    """Cut at ``>>``, the captioner's mark of a new voice."""
    first, *rest = _CHANGE.split(segment.text)
    if not rest:
        return [segment]
    changes = [replace(segment, text=text, speaker=None, opens_turn=True) for text in rest]
    if not first.strip():
        # The mark begins the segment, so a name that the file gives belongs to what follows it.
        return [replace(changes[0], speaker=segment.speaker), *changes[1:]]
    return [replace(segment, text=first), *changes]


def _merged(segments: Iterable[Segment]) -> list[Segment]:
    groups: list[list[Segment]] = []
    for segment in segments:
        same = groups and segment.speaker == groups[-1][0].speaker
        if same and (segment.speaker is not None or not segment.opens_turn):
            groups[-1].append(segment)
        else:
            groups.append([segment])
    return [_joined(group) for group in groups]


def _joined(group: Sequence[Segment]) -> Segment:
    start_s = next((segment.start_s for segment in group if segment.start_s is not None), None)
    end_s = next((segment.end_s for segment in reversed(group) if segment.end_s is not None), None)
    if start_s is not None and end_s is not None:
        # Overlapping cues may end before the turn began; a turn never lasts less than nothing.
        end_s = max(start_s, end_s)
    return Segment(
        text="\n".join(segment.text for segment in group),
        speaker=group[0].speaker,
        start_s=start_s,
        end_s=end_s,
        opens_turn=group[0].opens_turn,
    )


def _cut(segment: Segment) -> list[Segment]:
    """Cut what is longer than a paragraph at its sentence ends, or else between words.

    The times inside are unknown; only the first piece keeps the start and the last one the end.
    """
    if _size(segment.text) < LONGEST_PARAGRAPH_WORDS:
        return [segment]
    texts = [text for sentence in _BETWEEN_SENTENCES.split(segment.text) for text in _at_most(sentence)]
    pieces = [replace(segment, text=text, start_s=None, end_s=None) for text in texts if text]
    pieces[0] = replace(pieces[0], start_s=segment.start_s)
    pieces[-1] = replace(pieces[-1], end_s=segment.end_s)
    return pieces


def _at_most(sentence: str) -> list[str]:
    if _size(sentence) < LONGEST_PARAGRAPH_WORDS:
        return [sentence]
    words = sentence.split()
    return [
        " ".join(words[begin : begin + LONGEST_PARAGRAPH_WORDS])
        for begin in range(0, len(words), LONGEST_PARAGRAPH_WORDS)
    ]


def _size(text: str) -> int:
    """Count words, or what would be words in a script that writes no spaces."""
    return max(len(text.split()), len(text) // 12)


def known_name(name: object) -> str | None:
    """Return a speaker's name as it should be shown, or None if there is none."""
    if isinstance(name, int) and not isinstance(name, bool):
        name = str(name)
    if not isinstance(name, str):
        return None
    shown = one_line(name).strip(":").strip()
    return f"Speaker {shown}" if shown.isdecimal() else shown or None
