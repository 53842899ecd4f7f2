"""Tables."""

from __future__ import annotations

import pytest

from toolkit.errors import TranscriptError

WITH_SPEAKERS = {
    "whisper.cpp": (
        'start,end,speaker,text\n500,2000,0," One, ""two""."\n2000,3250,0," Three."\n3500,4000,1," Four."\n'
    ),
    "Audacity": '0.5\t2.0\t[[0]]One, "two".\n2.0\t3.25\t[[0]]Three.\n3.5\t4.0\t[[1]]Four.\n',
}
WITHOUT_SPEAKERS = {
    "Whisper": 'start\tend\ttext\n500\t2000\tOne, "two".\n2000\t3250\tThree.\n3500\t4000\tFour.\n',
    "whisper.cpp": 'start,end,text\n500,2000," One, ""two""."\n2000,3250," Three."\n3500,4000," Four."\n',
    "Audacity": '0.5\t2.0\tOne, "two".\n2.0\t3.25\tThree.\n3.5\t4.0\tFour.\n',
}


@pytest.mark.parametrize("tool", WITH_SPEAKERS)
def test_tables_with_speakers(read, tool):
    """Milliseconds of one tool and seconds of another give the same turns."""
    assert [(t.speaker, t.text, t.start_s, t.end_s) for t in read(WITH_SPEAKERS[tool]).turns] == [
        ("Speaker 0", 'One, "two". Three.', 0.5, 3.25),
        ("Speaker 1", "Four.", 3.5, 4.0),
    ]


@pytest.mark.parametrize("tool", WITHOUT_SPEAKERS)
def test_tables_without_speakers(read, tool):
    """Quotes are words in Whisper's tsv and quoting in whisper.cpp's csv."""
    (turn,) = read(WITHOUT_SPEAKERS[tool]).turns
    assert (turn.speaker, turn.text, turn.start_s, turn.end_s) == (None, 'One, "two". Three. Four.', 0.5, 4.0)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("start\tend\ttext\n0\t10\tOne.\nlate\t20\tTwo.\n", 3),
        ("0.5\t2.0\tOne.\n\nTwo.\n", 3),
        ("id,words\na,3\n", 1),
    ],
)
def test_a_broken_row_is_named(read, content, line):
    """A row that has not its columns is an error with its line, not a word less."""
    with pytest.raises(TranscriptError) as caught:
        read(content, "show.csv")
    assert caught.value.line == line
