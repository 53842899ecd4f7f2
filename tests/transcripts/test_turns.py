"""Merging segments to turns."""

from __future__ import annotations

from toolkit.transcripts.turns import LONGEST_PARAGRAPH_WORDS, Segment, to_turns


def test_laughter_of_another_does_not_cut_a_turn():
    """A segment that is only a tag vanishes, and the turn around it is whole."""
    turns = to_turns(
        [Segment("One", "Ann", 0, 1), Segment("[laughs]", "Bob", 1, 2), Segment("two.", "Ann", 2, 3)]
    )
    assert [(turn.speaker, turn.text, turn.start_s, turn.end_s) for turn in turns] == [
        ("Ann", "One two.", 0, 3)
    ]


def test_a_tag_may_span_segments():
    """Captions wrap inside tags as well."""
    assert to_turns([Segment("Ha. [Ann and", "Ann"), Segment("Bob laugh] Yes.", "Ann")])[0].text == "Ha. Yes."


def test_a_pause_ends_a_paragraph():
    """More than two seconds of silence begin a new paragraph, less do not."""
    turns = to_turns(
        [Segment("One.", None, 0, 1), Segment("Two.", None, 2.9, 4), Segment("Three.", None, 6.5, 7)]
    )
    assert [turn.text for turn in turns] == ["One. Two.", "Three."]


def test_text_without_full_stops_is_cut_too():
    """A recognizer without punctuation gives paragraphs as well, and every word."""
    turns = to_turns([Segment("and so on " * 700, None, 0.0, 900.0)])
    assert sum(len(turn.text.split()) for turn in turns) == 2100
    assert max(len(turn.text.split()) for turn in turns) <= LONGEST_PARAGRAPH_WORDS
    assert (turns[0].start_s, turns[-1].end_s) == (0.0, 900.0)


def test_shift_operators_are_words():
    """``>>`` inside a talk about code changes no voice where no segment begins with it."""
    assert to_turns([Segment("we write x >> 3 there", "Ann")])[0].text == "we write x >> 3 there"


def test_neighbours_of_one_unknown_voice_stay_apart():
    """Where another unknown voice begins, a turn begins."""
    turns = to_turns([Segment("One."), Segment("Two.", opens_turn=True), Segment("Three.")])
    assert [turn.text for turn in turns] == ["One.", "Two. Three."]
