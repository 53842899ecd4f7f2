"""Files that are no text, or not the text they seem."""

from __future__ import annotations

import codecs

import pytest

from toolkit.errors import TranscriptError
from toolkit.transcripts import decode


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_encodings_read_alike(read, encoding):
    """A byte order mark says the encoding and is no word."""
    assert (
        read("Zoë: Guten Tag.\nAnn: Ça va?\n".encode(encoding)).transcript == "Zoë: Guten Tag.\nAnn: Ça va?"
    )


@pytest.mark.parametrize(
    ("content", "message", "line"),
    [
        (b"", "empty", 1),
        (b" \n\t\r\n", "white space", 1),
        (b"Ann: One.\nBob: \0\1\2", "binary", 2),
        ("Ann: One.\nBob: déjà.\n".encode("latin-1"), "0xE9 is not UTF-8.*iconv", 2),
        (codecs.BOM_UTF16_LE + "Ann: One.\n".encode("utf-16-le") + b"\x00\xd8\x41\x00", "not UTF-16", 2),
        (b"WEBVTT\n\n00:01.000 --> 00:02.000\n[MUSIC]\n", "no words", 1),
        (b"WEBVTT\n\nNOTE nothing here\n", "no cue", 1),
    ],
)
def test_bad_content_is_one_error_with_file_and_line(read, content, message, line):
    """The error says what is wrong, and where."""
    with pytest.raises(TranscriptError, match=rf"(?s)bad\.vtt:{line}: .*{message}") as caught:
        read(content, "bad.vtt")
    assert (caught.value.path.name, caught.value.line) == ("bad.vtt", line)


def test_a_huge_file_is_refused_unread(tmp_path, monkeypatch):
    """The size is asked first, so 200 MB cost nothing."""
    path = tmp_path / "huge.txt"
    with path.open("wb") as file:
        file.truncate(200_000_000)
    monkeypatch.setattr("pathlib.Path.read_bytes", lambda path: pytest.fail("was read"))
    with pytest.raises(TranscriptError, match="200 MB"):
        decode.read_text(path)


def test_an_endless_line_is_refused(read, monkeypatch):
    """A line beyond all speech is named, except in JSON, which may have no other."""
    monkeypatch.setattr(decode, "LONGEST_LINE_CHARS", 100)
    assert read('{"text": "' + "word " * 50 + '"}', "show.json").words == 50
    with pytest.raises(TranscriptError, match=r"show\.txt:2: the line has 250 characters"):
        read("Ann: One.\n" + "word " * 50)
