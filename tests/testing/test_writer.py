"""Token counts and summaries of the pretended model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from toolkit.records import StopReason
from toolkit.testing.writer import count_tokens, summarize, write


def test_count() -> None:
    assert count_tokens("") == 0
    assert count_tokens("hello world") == 3
    assert count_tokens("é" * 2000) == 800


@given(st.text(max_size=400), st.integers(1, 60), st.integers(0, 60))
def test_the_cap_holds_and_the_count_is_the_truth(text: str, cap: int, reasoning: int) -> None:
    """No reply is longer than its cap, reasoning included, and the same text always gets the same reply."""
    answer = write(text, words=30, cap=cap, reasoning_tokens=reasoning)
    assert answer == write(text, words=30, cap=cap, reasoning_tokens=reasoning)
    assert count_tokens(answer.text) + answer.reasoning_tokens <= answer.output_tokens <= cap
    if answer.stop_reason is StopReason.STOP:
        assert answer.output_tokens == count_tokens(answer.text) + reasoning


def test_reasoning_may_use_up_the_cap() -> None:
    answer = write("The mill is old.", words=30, cap=20, reasoning_tokens=128)
    assert (answer.text, answer.output_tokens, answer.stop_reason) == ("", 20, StopReason.LENGTH)


def test_a_summary_is_the_first_sentences_without_instructions_and_labels() -> None:
    text = "Summarize the transcript below.\n\nAnna: The mill (v. 3.5) is old. Bob: It stands by the sea."
    assert summarize(text, 60) == "The mill (v. 3.5) is old. It stands by the sea."
    assert summarize(text, 3) == "The mill (v."
    assert summarize("", 60)


def test_stop_sequences() -> None:
    answer = write("One is here. Two is there.", words=30, cap=50, stop=("Two",))
    assert (answer.text, answer.stop_sequence) == ("One is here.", "Two")


def test_long_texts_without_an_end_are_no_trouble() -> None:
    """Sentences are found in linear time: a pattern that goes back over the whole text would take hours."""
    assert summarize("a.b " * 200_000, 60).startswith("a.b a.b")
    assert summarize("word " * 200_000, 60).startswith("word word")
