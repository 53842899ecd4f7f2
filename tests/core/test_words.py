"""Words, stems and sentences: ROUGE's own on ASCII text, and sensible ones beyond it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.tokenizers import DefaultTokenizer

from toolkit.words import content, is_cut_off, sentences, stems, words

ROUGE_WORDS = DefaultTokenizer(use_stemmer=True)


@given(st.text(st.characters(codec="ascii")))
@settings(deadline=None)
def test_stems_of_ascii_text_are_those_of_rouge(text: str) -> None:
    """Scores compare with published ones only if the words are the same."""
    assert stems(text) == ROUGE_WORDS.tokenize(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Zoë’s café", ["zoë", "s", "café"]),
        ("cafe\u0301 CAFÉ", ["café", "café"]),
        ("Straße STRASSE", ["strasse", "strasse"]),
        ("蜂が踊る。", ["蜂", "が", "踊", "る"]),
        ("ヒ\u3099は bee2つ", ["ビ", "は", "bee2", "つ"]),
        ("日本abc語", ["日", "本", "abc", "語"]),
        ("ที่นี่", ["ที่", "นี่"]),
        ("नमस्ते दुनिया", ["नमस्ते", "दुनिया"]),
        ("שלום, עולם!", ["שלום", "עולם"]),
        ("벌이 춤춘다", ["벌이", "춤춘다"]),
        ("🐝👩‍👩‍👧 … — !? _ \u200b", []),
        ("", []),
    ],
)
def test_words_beyond_ascii(text: str, expected: list[str]) -> None:
    """Letters keep their marks, scripts without blanks go character by character, symbols are no words."""
    assert words(text) == expected


@given(st.text())
@settings(deadline=None)
def test_any_text_has_words_without_blanks(text: str) -> None:
    """No text breaks it, no word holds white space or is empty, and all are in lower case for good."""
    for word in words(text):
        assert word
        assert not any(character.isspace() for character in word)
        assert words(word) == [word]


def test_common_and_rare_paths_agree() -> None:
    """A text that has an unusual character somewhere is read like one that has none."""
    usual = "Zoë’s bees — dance, 25 °C!"
    assert words(usual + " 蜂") == [*words(usual), "蜂"]


def test_content_leaves_out_what_says_little() -> None:
    """Function words and fillers go, by their stems; of scripts without blanks pairs of neighbours stay."""
    assert content(stems("Yeah, um, so the bees were really dancing, you know?")) == ["bee", "danc"]
    assert content(stems("Okay. Right. Mm-hmm.")) == []
    assert content(stems("The 蜂が踊る!")) == ["蜂が", "が踊", "踊る"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Bees dance. They count! Do they? Yes…", ["Bees dance.", "They count!", "Do they?", "Yes…"]),
        ('He said "no." Then he left.', ['He said "no."', "Then he left."]),
        ("Dr. Bell met J. R. Moss, e.g. in May.", ["Dr. Bell met J. R. Moss, e.g. in May."]),
        ("It costs 3.50 euros", ["It costs 3.50 euros"]),
        ("蜂は踊る。花へ！「はい。」", ["蜂は踊る。", "花へ！", "「はい。」"]),
        ("one line\nand another\n\n", ["one line", "and another"]),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    """A sentence ends at its mark, closing quotes with it, and not at an abbreviation or within a number."""
    assert sentences(text) == expected


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_sentences_lose_nothing(text: str) -> None:
    """Put together again, sentences are the text but for white space."""
    assert "".join("".join(sentences(text)).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("Bees dance.", False),
        ("Bees dance (they do!)", False),
        ('They said "yes."', False),
        ("**Bees dance.**", False),
        ("Bees dance. 🎉", False),
        ("蜂は踊る。", False),
        ("Bees dance. They point to the", True),
        ("Bees dance,", True),
        ("蜂は", True),
        ("- bees\n- flowers", None),
        ("Points:\n2. flowers", None),
        ("ผึ้งเต้น", None),
        ("", None),
        ("...", None),
        ("🐝", None),
    ],
)
def test_cut_off(text: str, cut: bool | None) -> None:
    """An unfinished last sentence is told; where nobody can tell, nothing is said."""
    assert is_cut_off(text) is cut
