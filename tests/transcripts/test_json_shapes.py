"""The JSON of transcribers."""

from __future__ import annotations

import json

import pytest

from toolkit.errors import TranscriptError

SEGMENTS = [("Ann", 0.5, 2.0, "One two."), ("Ann", 2.0, 3.25, "Three."), ("Bob", 3.5, 4.0, "Four.")]
TURNS = [("Ann", "One two. Three.", 0.5, 3.25), ("Bob", "Four.", 3.5, 4.0)]
UNNAMED = [(None, "One two. Three. Four.", 0.5, 4.0)]

WITH_SPEAKERS = {
    "Podcasting 2.0": {
        "version": "1.0.0",
        "segments": [
            {"speaker": s, "startTime": a, "endTime": b, "body": t + "\n"} for s, a, b, t in SEGMENTS
        ],
    },
    "Podcasting 2.0 by words": {
        "version": "1.0.0",
        "segments": [
            {"speaker": s, "startTime": a, "endTime": b, "body": word}
            for s, a, b, t in SEGMENTS
            for word in t.split()
        ],
    },
    "WhisperX": {
        "segments": [{"speaker": s, "start": a, "end": b, "text": t, "words": []} for s, a, b, t in SEGMENTS],
        "word_segments": [],
        "language": "en",
    },
    "WhisperX, speakers at the words": {
        "segments": [
            {"start": a, "end": b, "text": t, "words": [{"word": "x"}, {"word": "y", "speaker": s}]}
            for s, a, b, t in SEGMENTS
        ]
    },
    "OpenAI diarized_json": {
        "task": "transcribe",
        "duration": 4.0,
        "text": "One two. Three. Four.",
        "segments": [
            {
                "id": f"seg_{a}",
                "type": "transcript.text.segment",
                "speaker": s,
                "start": a,
                "end": b,
                "text": t,
            }
            for s, a, b, t in SEGMENTS
        ],
    },
    "whisper.cpp with speakers": {
        "transcription": [
            {"offsets": {"from": a * 1000, "to": b * 1000}, "text": f" {t}", "speaker": s}
            for s, a, b, t in SEGMENTS
        ]
    },
    "words with spaces": {
        "segments": [
            {
                "speaker_id": "s1",
                "speaker_name": s,
                "start": a,
                "end": b,
                "wdlist": [{"word": f"{w} "} for w in t.split()],
            }
            for s, a, b, t in SEGMENTS
        ]
    },
    "words without spaces": {
        "segments": [
            {"speaker": s, "start": a, "end": b, "words": [{"word": w} for w in t.split()]}
            for s, a, b, t in SEGMENTS
        ]
    },
    "a table of speakers": {
        "speakers": [{"id": "s1", "name": "Ann"}, {"id": "s2", "name": "Bob"}],
        "segments": [
            {"speaker_id": {"Ann": "s1", "Bob": "s2"}[s], "start": a, "end": b, "text": t}
            for s, a, b, t in SEGMENTS
        ],
    },
    "a bare list": [{"speaker": s, "start": a, "end": b, "text": t} for s, a, b, t in SEGMENTS],
}
WITHOUT_SPEAKERS = {
    "Whisper": {
        "text": " One two. Three. Four.",
        "segments": [
            {"id": 0, "seek": 0, "start": a, "end": b, "text": f" {t}", "tokens": []}
            for _, a, b, t in SEGMENTS
        ],
        "language": "en",
    },
    "faster-whisper": {
        "segments": [{"start": a, "end": b, "text": f" {t}", "words": None} for _, a, b, t in SEGMENTS]
    },
    "whisper.cpp": {
        "systeminfo": "",
        "result": {"language": "en"},
        "transcription": [
            {"timestamps": {}, "offsets": {"from": int(a * 1000), "to": int(b * 1000)}, "text": t}
            for _, a, b, t in SEGMENTS
        ],
    },
}


def turns_of(episode):
    return [(turn.speaker, turn.text, turn.start_s, turn.end_s) for turn in episode.turns]


@pytest.mark.parametrize("shape", WITH_SPEAKERS)
def test_every_shape_with_speakers_gives_the_same_turns(read, shape):
    """Words, names and times do not depend on the tool that wrote them."""
    assert turns_of(read(json.dumps(WITH_SPEAKERS[shape]), "show.json")) == TURNS


@pytest.mark.parametrize("shape", WITHOUT_SPEAKERS)
def test_every_shape_without_speakers_gives_the_same_turns(read, shape):
    """Without speakers the same words make paragraphs."""
    assert turns_of(read(json.dumps(WITHOUT_SPEAKERS[shape]), "show.json")) == UNNAMED


@pytest.mark.parametrize("content", [{"text": "One. Two."}, {"text": "One. Two.", "segments": []}])
def test_a_text_without_segments_is_a_transcript(read, content):
    """The plain ``json`` of the OpenAI API has nothing but a text."""
    assert read(json.dumps(content), "show.json").text == "One. Two."


def test_numbers_of_speakers_become_names(read):
    """A speaker 0 is somebody, not nobody."""
    content = {"segments": [{"speaker": 0, "text": "One."}, {"speaker": "1", "text": "Two."}]}
    assert read(json.dumps(content), "show.json").speakers == ("Speaker 0", "Speaker 1")


def test_a_speaker_change_without_names_opens_a_turn(read):
    """whisper.cpp's tinydiarize says only that somebody else speaks next."""
    rows = [{"text": " One.", "speaker_turn_next": True}, {"text": " Two."}, {"text": " Three."}]
    assert read(json.dumps({"transcription": rows}), "show.json").text == "One.\nTwo. Three."


def test_the_title_of_the_file_is_taken(read):
    """A title in the JSON names the episode."""
    assert read('{"title": "Mud", "text": "One."}', "show.json").title == "Mud"


@pytest.mark.parametrize("value", [None, "soon", True, [], 1e999, -(10**400)])
def test_a_senseless_time_is_no_time(read, value):
    """Words are kept though their time makes no sense."""
    (turn,) = read(json.dumps({"segments": [{"start": value, "text": "One."}]}), "show.json").turns
    assert (turn.text, turn.start_s) == ("One.", None)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ('{"segments": [\n{"text": "One."},\n{"text" "Two."}]}', 3),
        ("[" * 100_000, 1),
        ('{"a": ' + "9" * 5000 + "}", 1),
    ],
)
def test_broken_json_names_the_line(read, content, line):
    """An editor is told where to look."""
    with pytest.raises(TranscriptError, match=r"show\.json") as caught:
        read(content, "show.json")
    assert caught.value.line == line


@pytest.mark.parametrize(
    "content", ["{}", "[]", "3", '{"topics": [{"text": 1}]}', '{"segments": [{"id": 1}]}']
)
def test_json_of_another_shape_is_refused(read, content):
    """Good JSON without words says what was looked for."""
    with pytest.raises(TranscriptError, match="no transcript: it has neither segments"):
        read(content, "show.json")
