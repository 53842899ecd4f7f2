"""Cutting: no word is lost, no chunk is too long, and cuts fall where a reader would make them."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.chunking import chunk_text, whole_sentences
from toolkit.tokens import estimate_tokens

QUICK = settings(deadline=None, max_examples=150)


def words(text: str) -> int:
    return len(text.split())


def merging(text: str) -> int:
    """Count less for a whole than for its parts, as byte-pair encodings do where parts merge."""
    return sum(math.ceil(len(run) / 3) for run in re.findall(r"\s*\S+", text))


def splitting(text: str) -> int:
    """Count more for a whole than for its parts: one more for every third join."""
    return words(text) + text.count(" ") // 3 + text.count("\n")


def space_saves(text: str) -> int:
    """Count a word at the start of a text as two, as vocabularies do that hold ' word' and not 'word'."""
    return words(text) + (1 if text and not text[0].isspace() else 0)


COUNTERS = [words, len, estimate_tokens, merging, splitting, space_saves]
counters = st.sampled_from(COUNTERS)

some_words = st.text(st.characters(exclude_categories=["Z", "C"]), min_size=1, max_size=12)
plain_words = st.from_regex(r"[a-z]{1,9}[.?!]?", fullmatch=True)
giant_words = st.integers(20, 200).map(lambda count: "x" * count)
turns = st.lists(plain_words | some_words | giant_words, min_size=1, max_size=25).map(" ".join)
texts = st.lists(turns, max_size=15).map("\n".join)
any_text = st.text(max_size=300)

numbered = st.lists(st.lists(st.booleans(), min_size=1, max_size=12), min_size=1, max_size=30).map(
    # Words of two tokens' worth that are all different; True ends a sentence.
    lambda turns: "\n".join(
        " ".join(f"t{row}w{place}{'.' if ends else ''}" for place, ends in enumerate(turn))
        for row, turn in enumerate(turns)
    )
)


def letters(text: str) -> str:
    return "".join(text.split())


@QUICK
@given(texts | any_text, counters, st.integers(1, 60))
def test_nothing_is_lost_added_or_moved(text: str, count: Callable[[str], int], bound: int) -> None:
    """Without overlap the chunks' characters, spaces aside, are the text's own in their order."""
    chunks = chunk_text(text, count, chunk_tokens=bound)
    assert letters("".join(chunks)) == letters(text)
    assert all(chunk.strip() for chunk in chunks)


@QUICK
@given(texts, counters, st.integers(8, 60))
def test_words_that_fit_stay_whole(text: str, count: Callable[[str], int], bound: int) -> None:
    """Only a word that is longer than a chunk is cut; all others come out as they went in."""
    whole = [
        word for word in text.split() if max(count(word), count(" " + word), count("\n" + word)) <= bound
    ]
    made = [word for chunk in chunk_text(text, count, chunk_tokens=bound) for word in chunk.split()]
    assert not Counter(whole) - Counter(made)
    if whole == text.split():
        assert made == whole


@QUICK
@given(texts | any_text, counters, st.integers(2, 60), st.data())
def test_no_chunk_is_over_the_bound(
    text: str, count: Callable[[str], int], bound: int, data: st.DataObject
) -> None:
    """A finished chunk counts at most the bound, however the counter adds up, or is one character."""
    overlap = data.draw(st.integers(0, bound - 1))
    for chunk in chunk_text(text, count, chunk_tokens=bound, overlap_tokens=overlap):
        assert count(chunk) <= bound or len(chunk) == 1


def repeated(before: list[str], after: list[str]) -> int:
    """Return how many words at the start of a chunk are the end of the one before."""
    return next((size for size in range(len(after), 0, -1) if before[-size:] == after[:size]), 0)


@QUICK
@given(numbered, st.integers(4, 40), st.data())
def test_overlap_repeats_the_end_and_is_bounded(text: str, bound: int, data: st.DataObject) -> None:
    """A chunk repeats at most ``overlap_tokens`` of the end of the one before, and then brings new words."""
    overlap = data.draw(st.integers(0, bound - 1))
    chunks = [chunk.split() for chunk in chunk_text(text, words, chunk_tokens=bound, overlap_tokens=overlap)]
    put_together = list(chunks[0])
    for before, after in itertools.pairwise(chunks):
        size = repeated(before, after)
        assert size <= overlap
        assert size < len(after), "a chunk brings nothing new"
        put_together += after[size:]
    assert put_together == text.split()


@pytest.mark.parametrize("count", COUNTERS)
@pytest.mark.parametrize("share", [0, 0.25, 0.5, 0.9])
def test_every_bound_holds_for_every_counter(count: Callable[[str], int], share: float) -> None:
    """Bound, order and progress hold at each bound, also where a whole counts more than its parts."""
    number = itertools.count()
    sentences_of_turns = [(3, 2), (30,), (1,), (7,), (4, 4, 4)] * 3
    text = "\n".join(
        " ".join(" ".join(f"w{next(number)}" for _ in range(size)) + "." for size in sizes)
        for sizes in sentences_of_turns
    )
    for bound in range(12, 60):
        chunks = chunk_text(text, count, chunk_tokens=bound, overlap_tokens=int(share * bound))
        assert max(map(count, chunks)) <= bound
        put_together = chunks[0].split()
        for before, after in itertools.pairwise(chunk.split() for chunk in chunks):
            size = repeated(before, after)
            assert size < len(after), "a chunk brings nothing new"
            put_together += after[size:]
        assert put_together == text.split()


@pytest.mark.parametrize("count", COUNTERS)
@pytest.mark.parametrize(("bound", "overlap"), [(150, 0), (400, 0), (400, 60), (1000, 900)])
def test_a_sentence_of_many_chunks_is_cut_like_any_other(
    count: Callable[[str], int], bound: int, overlap: int
) -> None:
    """Bound, order, progress and overlap hold where words are counted by the run."""
    text = " ".join(f"w{number}" for number in range(4000))
    chunks = chunk_text(text, count, chunk_tokens=bound, overlap_tokens=overlap)
    assert max(map(count, chunks)) <= bound
    put_together, repeats = chunks[0].split(), []
    for before, after in itertools.pairwise(chunk.split() for chunk in chunks):
        repeats.append(repeated(before, after))
        assert repeats[-1] < len(after), "a chunk brings nothing new"
        assert count(" ".join(after[: repeats[-1]])) <= overlap
        put_together += after[repeats[-1] :]
    assert put_together == text.split()
    assert any(repeats) == bool(overlap)


@pytest.mark.parametrize("end", ["", "."])
def test_counting_costs_a_few_readings(end: str) -> None:
    """A long line is read a few times over and not word by word: a tokenizer takes long to be called."""
    text = " ".join(f"word{end if number % 12 == 11 else ''}" for number in range(30_000))
    read: list[int] = []

    def count(part: str) -> int:
        read.append(len(part))
        return words(part)

    sizes = [words(chunk) for chunk in chunk_text(text, count, chunk_tokens=1000)]
    assert len(read) <= 30_000 / 10
    assert sum(read) <= 4 * len(text)
    assert max(sizes) - min(sizes) <= 40


def test_overlap_is_used_where_it_fits() -> None:
    """An overlap that whole turns fit into is not silently zero."""
    text = "\n".join(f"a{n} b{n} c{n}" for n in range(12))
    chunks = chunk_text(text, words, chunk_tokens=12, overlap_tokens=3)
    assert len(chunks) > 2
    for before, after in itertools.pairwise(chunks):
        assert after.splitlines()[0] == before.splitlines()[-1]


@pytest.mark.parametrize("text", ["", " ", "\n\n \t\n", "\u2028\u3000"])
def test_text_without_words_has_no_chunks(text: str) -> None:
    """Nothing to say gives nothing to ask, not an empty request."""
    assert chunk_text(text, words, chunk_tokens=10) == []


def test_text_that_fits_is_one_chunk() -> None:
    """A text at the bound is not cut, and one word more is."""
    text = " ".join("abcdefghij")
    assert chunk_text(text, words, chunk_tokens=10) == [text]
    assert len(chunk_text(text, words, chunk_tokens=9)) == 2


@QUICK
@given(st.lists(st.integers(1, 10), min_size=1, max_size=30), st.integers(10, 40))
def test_turns_that_fit_are_not_cut(lengths: list[int], bound: int) -> None:
    """Where every turn fits a chunk, each line of the chunks is a whole turn."""
    text = "\n".join(" ".join(f"t{n}w{k}." for k in range(length)) for n, length in enumerate(lengths))
    chunks = chunk_text(text, words, chunk_tokens=bound)
    assert [line for chunk in chunks for line in chunk.splitlines()] == text.splitlines()


@QUICK
@given(st.lists(st.integers(1, 10), min_size=2, max_size=30), st.integers(10, 30))
def test_turns_that_do_not_fit_are_cut_at_sentences(lengths: list[int], bound: int) -> None:
    """A turn longer than a chunk is cut where a sentence ends, while its sentences fit."""
    turn = " ".join(" ".join(f"s{n}w{k}" for k in range(size)) + "." for n, size in enumerate(lengths))
    for chunk in chunk_text(turn, words, chunk_tokens=bound):
        assert chunk.endswith(".")


def test_sentence_that_does_not_fit_is_cut_at_words() -> None:
    """A sentence without an end is cut between words; its neighbours stay whole."""
    text = "One two. " + "x y " * 20 + "end. Three four."
    chunks = chunk_text(text, words, chunk_tokens=8)
    assert "One two." in chunks[0]
    assert "Three four." in chunks[-1]
    assert " ".join(chunks).split() == text.split()


@pytest.mark.parametrize("mark", [".", "?", "!", "…", '."', ".”", "!’", "?)", "。", "！"])
def test_marks_that_end_a_sentence(mark: str) -> None:
    """Closing quotes and brackets belong to the sentence that they close, in full-width writing too."""
    text = f"a b c{mark} d e f{mark}"
    assert chunk_text(text, words, chunk_tokens=3) == [f"a b c{mark}", f"d e f{mark}"]


@pytest.mark.parametrize("count", COUNTERS)
def test_word_longer_than_a_chunk_is_cut(count: Callable[[str], int]) -> None:
    """A link of ten thousand characters neither breaks the bound nor the cutting."""
    giant = "x" * 10_000
    chunks = chunk_text(f"before {giant} after", count, chunk_tokens=32, overlap_tokens=8)
    assert all(count(chunk) <= 32 for chunk in chunks)
    assert (
        letters("".join(chunk_text(f"before {giant} after", count, chunk_tokens=32))) == f"before{giant}after"
    )


def test_chunks_are_about_equally_long() -> None:
    """The rest is shared out: a last chunk of a few words would say little on its own."""
    text = "\n".join(f"a{n} b{n}" for n in range(55))
    sizes = [words(chunk) for chunk in chunk_text(text, words, chunk_tokens=100)]
    assert sizes == [56, 54] or sizes == [54, 56]


@pytest.mark.parametrize(("bound", "overlap"), [(0, 0), (-1, 0), (10, 10), (10, 11), (10, -1)])
def test_impossible_bounds_are_refused(bound: int, overlap: int) -> None:
    """A bound that nothing fits, or an overlap of a whole chunk, would cut for ever; both are refused."""
    with pytest.raises(ValueError, match="tokens="):
        chunk_text("a b c", words, chunk_tokens=bound, overlap_tokens=overlap)


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("One. Two. Thr", "One. Two."),
        ("One. Two.", "One. Two."),
        ('She said "yes." And th', 'She said "yes."'),
        ("He asked (why?) and", "He asked (why?)"),
        ("No end at all", "No end at all"),
        ("  One. \n", "One."),
        ("At 3.5 degrees. It is", "At 3.5 degrees."),
        ("First.\n- a point", "First."),
        ("", ""),
        ("  ", ""),
    ],
)
def test_unfinished_last_sentence_is_dropped(text: str, kept: str) -> None:
    """What a cap cut off in the middle goes; a text without any sentence end is kept as it is."""
    assert whole_sentences(text) == kept


@QUICK
@given(texts | any_text)
def test_whole_sentences_only_takes_from_the_end(text: str) -> None:
    """The result is the start of the text, is empty only if the text is, and is not shortened again."""
    kept = whole_sentences(text)
    assert text.strip().startswith(kept)
    assert bool(kept) == bool(text.strip())
    assert whole_sentences(kept) == kept


@QUICK
@given(st.text())
def test_estimate_grows_with_the_text(text: str) -> None:
    """An empty text costs nothing, and a longer one never less than its start."""
    assert estimate_tokens("") == 0
    assert estimate_tokens(text) <= estimate_tokens(text + "x") <= estimate_tokens(text) + 1
    assert estimate_tokens(text) * 4 >= len(text.encode())


def test_estimate_takes_half_a_character() -> None:
    """A lone surrogate, as broken JSON holds, is counted and does not raise."""
    assert estimate_tokens("\ud83d") == 1
