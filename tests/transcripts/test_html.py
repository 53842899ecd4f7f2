"""Pages of speech."""

from __future__ import annotations

import pytest

from toolkit.errors import TranscriptError


def test_cite_time_and_paragraph_make_a_turn(read):
    """The elements of Podcasting 2.0 are speaker, start and words; a stray colon is neither."""
    episode = read(
        "<cite>Ann:</cite>\n<time>0:09</time>\n<p>It&#39;s <b>mud</b> &amp; more.</p><p>Really.</p>\n"
        "<cite>Bob :</cite><time>1:00:10</time><p>I see.</p>",
        "show.html",
    )
    assert [(turn.speaker, turn.start_s, turn.text) for turn in episode.turns] == [
        ("Ann", 9.0, "It's mud & more. Really."),
        ("Bob", 3610.0, "I see."),
    ]


def test_a_page_without_cite_is_read_by_its_labels(read):
    """Paragraphs with labels are as good as a text file; head, scripts and headings are not spoken."""
    episode = read(
        "<!DOCTYPE html><html><head><title>Mud</title><style>p {}</style></head><body><script>x()</script>"
        "<h2>Part one</h2><p><strong>Ann:</strong> One.<p><strong>Bob:</strong> Two.</p></body></html>",
        "show.html",
    )
    assert episode.title == "Mud"
    assert [(turn.speaker, turn.text) for turn in episode.turns] == [("Ann", "One."), ("Bob", "Two.")]


def test_broken_html_names_the_line(read):
    """What the parser of the standard library cannot take is one of our errors."""
    with pytest.raises(TranscriptError, match="HTML is broken") as caught:
        read("<html>\n<![bad[ ]]>", "show.html")
    assert caught.value.line == 2
