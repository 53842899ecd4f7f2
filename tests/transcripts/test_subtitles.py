"""WebVTT and SubRip."""

from __future__ import annotations

import pytest


def vtt(*cues: str) -> str:
    return "WEBVTT\n\n" + "\n\n".join(cues) + "\n"


def test_voices_make_turns_with_times(read):
    """Cues of one ``<v>`` are one turn, from the start of the first to the end of the last."""
    episode = read(
        vtt(
            "00:01.000 --> 00:02.500 align:start\n<v Ann Bell>Mud &amp; <i>more</i>",
            "00:02.500 --> 00:04.000\n<v.loud Ann Bell>mud.</v>",
            "01:00:05.000 --> 01:00:06.000\n<v Bob>Oh <00:05.500>dear.",
        ),
        "show.vtt",
    )
    assert [(t.speaker, t.text, t.start_s, t.end_s) for t in episode.turns] == [
        ("Ann Bell", "Mud & more mud.", 1.0, 4.0),
        ("Bob", "Oh dear.", 3605.0, 3606.0),
    ]


def test_two_voices_in_one_cue_are_two_turns(read):
    """A cue may hold an exchange."""
    episode = read(vtt("00:01.000 --> 00:02.000\n<v Ann>Ready?\n<v Bob>Ready."))
    assert [(t.speaker, t.text) for t in episode.turns] == [("Ann", "Ready?"), ("Bob", "Ready.")]


FIRST, SECOND = "00:00:00,000 --> 00:00:03,480", "00:00:03,480 --> 00:00:05,000"
TRAPS = {
    "seconds only": "WEBVTT\n\n0.000 --> 3.480\nOne.\n\n3.480 --> 5.0\nTwo.\n",
    "comma": f"WEBVTT\n\n{FIRST}\nOne.\n\n{SECOND}\nTwo.\n",
    "point in SubRip": f"1\n{FIRST}\nOne.\n\n2\n{SECOND}\nTwo.\n".replace(",", "."),
    "no hours in SubRip": "1\n00:00,000 --> 00:03,480\nOne.\n\n2\n00:03,480 --> 00:05,000\nTwo.\n",
    "some numbers": f"{FIRST}\nOne.\n\n2\n{SECOND}\nTwo.\n",
    "no numbers": f"{FIRST}\nOne.\n\n{SECOND}\nTwo.\n",
    "CRLF": f"1\r\n{FIRST}\r\nOne.\r\n\r\n2\r\n{SECOND}\r\nTwo.\r\n",
    "byte order mark": "\ufeffWEBVTT\n\n00:00.000 --> 00:03.480\nOne.\n\n00:03.480 --> 00:05.000\nTwo.\n",
    "no line end": f"1\n{FIRST}\nOne.\n\n2\n{SECOND}\nTwo.",
    "blank line after the time": f"1\n{FIRST}\n\nOne.\n\n2\n{SECOND}\n\nTwo.\n",
    "no blank lines": f"1\n{FIRST}\nOne.\n2\n{SECOND}\nTwo.\n",
    "double spaced": f"1\n\n{FIRST}\n\nOne.\n\n2\n\n{SECOND}\n\nTwo.\n",
    "identifiers": f"WEBVTT\n\nintro - 1\n{FIRST}\nOne.\n\nthe rest\n{SECOND}\nTwo.\n",
    "blocks": (
        "WEBVTT - Mud\nKind: captions\n\nSTYLE\n::cue { color: red }\n\nNOTE nobody says this\nnor this\n\n"
        f"{FIRST}\nOne.\n\nNOTE\nor this\n\n{SECOND}\nTwo.\n"
    ),
}


@pytest.mark.parametrize("trap", TRAPS)
def test_irregular_files_read_like_regular_ones(read, trap):
    """Whatever is odd about times, numbers and blank lines: words and times are those that are meant."""
    (turn,) = read(TRAPS[trap], "show.srt").turns
    assert (turn.text, turn.start_s, turn.end_s) == ("One. Two.", 0.0, 5.0)


@pytest.mark.parametrize("head", ["", "WEBVTT\n\n"])
def test_no_word_is_lost_to_a_blank_line_in_a_cue(read, head):
    """What follows a blank line inside a cue is spoken too, as are numbers."""
    episode = read(
        f"{head}1\n00:00:01,000 --> 00:00:02,000\nOne\n\ntwo\n1984\n\n00:00:02,000 --> 00:00:03,000\n42\n"
    )
    assert episode.text == "One two 1984 42"


def test_the_order_is_that_of_the_file(read):
    """Times that run backwards neither reorder words nor make a turn end before it starts."""
    (turn,) = read(vtt("00:09.000 --> 00:08.000\n<v Ann>One.", "00:03.000 --> 00:04.000\n<v Ann>Two.")).turns
    assert turn.text == "One. Two."
    assert turn.end_s >= turn.start_s


def test_a_name_at_a_cue_start_holds_until_the_next(read):
    """SubRip names a speaker only when it changes; what looks like a label and comes once is text."""
    cues = [
        "Ann Bell: Welcome to the",
        "show: number one.",
        "Bob: Thanks.",
        "So: here we are.",
        "Ann: Yes.",
        "Bob: Go on.",
        "Ann: I will.",
    ]
    numbered = (f"{n}\n00:00:0{n},000 --> 00:00:0{n},900\n{cue}\n" for n, cue in enumerate(cues, start=1))
    episode = read("\n".join(numbered), "show.srt")
    assert [(t.speaker, t.text) for t in episode.turns] == [
        ("Ann Bell", "Welcome to the show: number one."),
        ("Bob", "Thanks. So: here we are."),
        ("Ann Bell", "Yes."),
        ("Bob", "Go on."),
        ("Ann Bell", "I will."),
    ]


@pytest.mark.parametrize(
    ("introduced", "names"),
    [
        ("An Nguyen", ("An Nguyen", "My Linh")),
        ("An Nguyen", ("An", "Bob Lee")),
        ("Carl", ("Carl", "So")),
        ("host", ("host", "guest")),
    ],
)
def test_few_cues_need_have_a_label(read, introduced, names):
    """Labels that come back are speakers whatever they look like, though nine cues in ten have none."""
    cues = [f"{introduced}: Welcome"]
    for turn in range(1, 7):
        cues += [f"{names[turn % 2]}: I say", *["this and", "that and"] * 5]
    stamped = (f"{n}\n00:00:{n:02},000 --> 00:00:{n:02},900\n{cue}\n" for n, cue in enumerate(cues))
    speakers = [turn.speaker for turn in read("\n".join(stamped), "show.srt").turns]
    assert speakers == [introduced, *[names[1], introduced] * 3]


def test_bracketed_labels_are_speakers(read):
    """WhisperX writes ``[SPEAKER_00]: `` before the words."""
    episode = read(
        vtt("00:01.000 --> 00:02.000\n[SPEAKER_00]: One.", "00:02.000 --> 00:03.000\n[SPEAKER_01]: Two.")
    )
    assert [(t.speaker, t.text) for t in episode.turns] == [("SPEAKER_00", "One."), ("SPEAKER_01", "Two.")]


def test_chevrons_open_turns_of_unknown_speakers(read):
    """``>> `` changes the voice, at the start of a cue or within it, and is not a word."""
    episode = read(
        vtt(
            "00:01.000 --> 00:02.000\n[MUSIC]",
            "00:02.000 --> 00:03.000\n>> One and",
            "00:03.000 --> 00:04.000\ntwo. >> Three.",
            "00:04.000 --> 00:05.000\n>> Four.",
        )
    )
    assert [(t.speaker, t.text) for t in episode.turns] == [
        (None, "One and two."),
        (None, "Three."),
        (None, "Four."),
    ]


def test_cues_without_speakers_make_paragraphs(read):
    """Without speakers a turn ends at a sentence end from 60 words on, so none is giant."""
    cues = [f"{n}.000 --> {n}.900\nEight words are in this very short cue." for n in range(600)]
    episode = read(vtt(*cues))
    sizes = [len(turn.text.split()) for turn in episode.turns]
    assert sum(sizes) == 4800
    assert set(sizes) == {64}
