"""What holds for any transcript, tried on generated ones."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toolkit.errors import TranscriptError
from toolkit.transcripts import load_episodes

QUICK = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

names = st.sampled_from(["Ann", "Bob Carr", "Zoë van Dijk", "SPEAKER_02", "Dr. Lee"])
words = st.text(st.characters(categories=["L", "Nd"]), min_size=1, max_size=9)
speeches = st.lists(words, min_size=1, max_size=12).map(" ".join)
dialogues = st.lists(st.tuples(names, speeches), min_size=1, max_size=12).map(
    # Everybody speaks twice, as labels have to come back to be told from sentences.
    lambda turns: [*turns, *turns]
)


def clock(seconds: float, mark: str) -> str:
    whole = timedelta(seconds=int(seconds))
    return f"0{whole}{mark}{round(seconds % 1 * 1000):03}"


def as_vtt(turns):
    cues = (
        f"{clock(n, '.')} --> {clock(n + 0.5, '.')}\n<v {who}>{said}\n" for n, (who, said) in enumerate(turns)
    )
    return "WEBVTT\n\n" + "\n".join(cues)


def as_srt(turns):
    return "\n".join(
        f"{n + 1}\n{clock(n, ',')} --> {clock(n + 0.5, ',')}\n{who}: {said}\n"
        for n, (who, said) in enumerate(turns)
    )


def as_json(turns):
    rows = [
        {"speaker": who, "startTime": n, "endTime": n + 0.5, "body": said}
        for n, (who, said) in enumerate(turns)
    ]
    return json.dumps({"version": "1.0.0", "segments": rows})


def as_html(turns):
    return "".join(
        f"<cite>{who}:</cite><time>0:{n:02}</time><p>{said}</p>" for n, (who, said) in enumerate(turns)
    )


def as_csv(turns):
    return "start,end,speaker,text\n" + "".join(
        f'{n * 1000},{n * 1000 + 500},{who}," {said}"\n' for n, (who, said) in enumerate(turns)
    )


def as_text(turns):
    return "".join(f"{who}: {said}\n\n" for who, said in turns)


def as_markdown(turns):
    return "".join(f"**{who}:** {said}\n\n" for who, said in turns)


def merged(turns):
    result = []
    for who, said in turns:
        if result and result[-1][0] == who:
            result[-1] = (who, f"{result[-1][1]} {said}")
        else:
            result.append((who, said))
    return result


@pytest.mark.parametrize("write", [as_vtt, as_srt, as_json, as_html, as_csv, as_text, as_markdown])
@given(turns=dialogues)
@QUICK
def test_what_is_written_is_read(tmp_path, write, turns):
    """Speakers and words of a dialogue survive every format."""
    path = tmp_path / "show"
    path.write_text(write(turns), encoding="utf-8")
    (episode,) = load_episodes(path)
    assert [(turn.speaker, turn.text) for turn in episode.turns] == merged(turns)


OPENINGS = [
    "",
    "WEBVTT\n\n",
    "WEBVTT\n\n00:01.000 --> 00:02.000\n<v ",
    "1\n00:00:01,000 --> 00:00:02,000\n",
    "{",
    '{"segments": [',
    '{"segments": [{"text": "',
    "<html><p>",
    "<cite>",
    "<![",
    "start\tend\ttext\n0\t1\t",
    'start,end,text\n0,1,"',
    "0.1\t0.2\t",
    "---\ntitle: ",
    "**Ann:** ",
    "[0.00 --> 4.02] ",
    "Ann (00:18): ",
]
SUFFIXES = ["txt", "md", "vtt", "srt", "json", "html", "tsv", "csv", "aud", "png"]
marks = st.text(alphabet="Ann:*_[](){}<>&;#-\\`~>|,.\"'0123456789 \t\n\r\x85\u2028♪", max_size=60)


@given(
    opening=st.sampled_from(OPENINGS),
    rest=st.one_of(
        st.binary(max_size=60),
        st.text(max_size=60).map(lambda t: t.encode("utf-8", "replace")),
        marks.map(str.encode),
    ),
    suffix=st.sampled_from(SUFFIXES),
)
@settings(QUICK, max_examples=500)
def test_anything_loads_or_is_a_transcript_error(tmp_path, opening, rest, suffix):
    """Whatever a file holds: turns of clean single lines, or the one error that users are told of."""
    path = tmp_path / f"any.{suffix}"
    path.write_bytes(opening.encode() + rest)
    try:
        (episode,) = load_episodes(path)
    except TranscriptError as error:
        assert error.path == path
        assert error.line is not None
    else:
        assert episode.turns
        assert all(turn.text and turn.text == " ".join(turn.text.split()) for turn in episode.turns)


@given(
    content=st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "segments",
                        "transcription",
                        "text",
                        "body",
                        "words",
                        "wdlist",
                        "word",
                        "speaker",
                        "speakers",
                        "speaker_id",
                        "name",
                        "id",
                        "start",
                        "startTime",
                        "end",
                        "offsets",
                        "from",
                        "title",
                    ]
                ),
                inner,
                max_size=5,
            )
        ),
        max_leaves=20,
    )
)
@settings(QUICK, max_examples=300)
def test_any_json_loads_or_is_a_transcript_error(tmp_path, content):
    """Values of any type may stand where a time, a name or a text is looked for."""
    path = tmp_path / "any.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    try:
        (episode,) = load_episodes(path)
    except TranscriptError as error:
        assert error.path == path
    else:
        assert all(
            turn.text and (turn.start_s is None or turn.start_s == turn.start_s) for turn in episode.turns
        )
