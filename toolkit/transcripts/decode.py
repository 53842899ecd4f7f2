"""From bytes to text: limits on size, and the encodings that transcripts come in."""

from __future__ import annotations

import codecs
from pathlib import Path

from toolkit.errors import TranscriptError

LARGEST_FILE_BYTES = 100_000_000
"""A day of talk is about 1 MB of text, or 30 MB of JSON with a time for each word."""

LONGEST_LINE_CHARS = 10_000_000

_BYTE_ORDER_MARKS = (
    # UTF-32 first: its little-endian mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)


def read_text(path: Path) -> str:
    r"""Read a file as text with ``\n`` line ends and without a byte order mark.

    Parameters
    ----------
    path : Path
        The file; UTF-8, or UTF-16 or UTF-32 with a byte order mark.

    Returns
    -------
    str
        Never blank.

    Raises
    ------
    TranscriptError
        The file cannot be opened, is too large, empty, binary or in another encoding.
    """
    try:
        size = path.stat().st_size
        # Asked before reading, so that a huge file is refused at once.
        if size > LARGEST_FILE_BYTES:
            raise TranscriptError(
                f"the file has {size / 1e6:,.0f} MB; transcripts of more than "
                f"{LARGEST_FILE_BYTES / 1e6:,.0f} MB are not read, split it",
                path=path,
                line=1,
            )
        data = path.read_bytes()
    except OSError as error:
        raise TranscriptError(f"cannot be read ({error.strerror or error})", path=path) from error
    if not data:
        raise TranscriptError("the file is empty", path=path, line=1)
    text = _decoded(data, path).replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise TranscriptError("the file has no text, only white space", path=path, line=1)
    return text


def check_lines(text: str, path: Path) -> None:
    """Refuse a text with a line so long that it is surely something else than speech."""
    begin, line = 0, 1
    while begin <= len(text):
        end = text.find("\n", begin)
        end = len(text) if end < 0 else end
        if end - begin > LONGEST_LINE_CHARS:
            raise TranscriptError(
                f"the line has {end - begin:,} characters, more than {LONGEST_LINE_CHARS:,}; "
                "is this a transcript?",
                path=path,
                line=line,
            )
        begin, line = end + 1, line + 1


def _decoded(data: bytes, path: Path) -> str:
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), "utf-8")
    if encoding.startswith("utf-8") and (at := data.find(b"\0")) >= 0:
        raise TranscriptError(
            "there is a NUL byte, so this is no text but a binary file (or UTF-16 without a byte order mark)",
            path=path,
            line=data.count(b"\n", 0, at) + 1,
        )
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        before = data[: error.start].decode(encoding, errors="replace")
        raise TranscriptError(
            f"byte 0x{data[error.start]:02X} is not {encoding.removesuffix('-sig').upper()}; the encoding is "
            "another one, often Windows-1252: save the file as UTF-8, for instance with: "
            f"iconv -f WINDOWS-1252 -t UTF-8 {path.name}",
            path=path,
            line=before.count("\n") + 1,
        ) from error
