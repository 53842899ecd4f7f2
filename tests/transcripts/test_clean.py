"""What nobody said."""

from __future__ import annotations

import pytest

from toolkit.transcripts.clean import without_markdown, words_only


@pytest.mark.parametrize(
    "tag",
    [
        "[MUSIC]",
        "[laughter]",
        "[Laughs]",
        "[Ann and Bob laugh]",
        "[All chuckle]",
        "[unintelligible 00:03:18.16]",
        "[00:03:18]",
        "[BLANK_AUDIO]",
        "[crosstalk]",
        "[??]",
        "[Excited voice]",
        "[theme music playing]",
        "{disfmarker}",
        "{vocalsound}",
        "{\\an8}",
        "(laughs)",
        "(upbeat music)",
        "(Ann chuckles)",
        "(00:18)",
        "<laugh>",
        "<inaudible>",
        "*sighs*",
        "♪♪",
        "<c.yellow></c>",
        "<br>",
        "<00:00:01.500>",
        "<!-- cut here -->",
    ],
)
def test_tags_leave_nothing(tag):
    """A tag goes, with its brackets; the words around it stay."""
    assert words_only(f"so {tag} yes") == "so yes"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("our [annual] meeting", "our annual meeting"),
        ("write to me [at] example", "write to me at example"),
        ("take a[0] and vector<int> if x < y", "take a[0] and vector<int> if x < y"),
        ("a song (I love that music) came", "a song (I love that music) came"),
        ("the show (all of it) at 10:30", "the show (all of it) at 10:30"),
        ("R&amp;D &#39;s AT&T", "R&D 's AT&T"),
        ("&lt;b&gt; is a tag", "<b> is a tag"),
    ],
)
def test_words_stay(text, words):
    """Editorial words, code, remarks and times in sentences are spoken."""
    assert words_only(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("so [laughs], yes", "so, yes"),
        ("done. [laughs], yes", "done. yes"),
        ("[laughs], yes", "yes"),
        ("no [laughs]", "no"),
        ('"so [laughs]?" yes', '"so?" yes'),
        ("so , uh , yes", "so , uh , yes"),
    ],
)
def test_marks_beside_tags(text, words):
    """A comma after a tag joins the word before, or goes if there is none; other spacing stays."""
    assert words_only(text) == words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("**bold *and* more** _so_ __on__ ***all***", "bold and more so on all"),
        ("a snake_case_name and 2 * 3 * 4", "a snake_case_name and 2 * 3 * 4"),
        ('[a *link*](https://example.org/x_(y) "title") ![no](x.png)', "a link"),
        ("<https://example.org> and `code`", "https://example.org and code"),
        (r"\*not bold\* \[00:03:18\]", "*not bold* [00:03:18]"),
    ],
)
def test_markdown_is_read_as_shown(text, words):
    """Marks go, escaped marks become themselves."""
    assert without_markdown(text).split() == words.split()


def test_half_characters_are_replaced():
    """Lone surrogates, which JSON can hold, would break every later write."""
    assert words_only("a\ud800b").encode() == "a\N{REPLACEMENT CHARACTER}b".encode()
