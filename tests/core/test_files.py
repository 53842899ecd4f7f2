"""Files are whole at any moment, and replaced together or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import toolkit as tk
from toolkit.files import write_whole


def contents(folder: Path) -> dict[str, bytes]:
    """Return what the files of a folder hold."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_text_and_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    """Text as UTF-8 with the line ends that it has, and nothing is left beside the files."""
    write_whole([(tmp_path / "a", "bees – 蜂\n"), (tmp_path / "b", b"\xff\r\n")])
    assert contents(tmp_path) == {"a": "bees – 蜂\n".encode(), "b": b"\xff\r\n"}


def test_files_are_replaced_together(tmp_path: Path) -> None:
    """If the second cannot be made, the first stays as it was, and no part of it is left."""
    write_whole([(tmp_path / "a", "older")])

    def broken() -> Iterator[tuple[Path, str]]:
        yield tmp_path / "a", "newer"
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_whole(broken())
    (tmp_path / "b").mkdir()
    with pytest.raises(IsADirectoryError):
        write_whole([(tmp_path / "a", "newer"), (tmp_path / "b", "newer")])
    assert contents(tmp_path) == {"a": b"older"}


def test_a_reader_keeps_the_file_that_it_opened(tmp_path: Path) -> None:
    """A file that were emptied and written anew would be half of one for a while."""
    write_whole([(tmp_path / "a", "older and longer")])
    with (tmp_path / "a").open() as opened:
        write_whole([(tmp_path / "a", "newer")])
        assert opened.read() == "older and longer"
    assert (tmp_path / "a").read_text() == "newer"


def test_what_is_no_file_is_not_replaced_by_one(tmp_path: Path) -> None:
    """A pipe or ``/dev/null`` as the target of a report stays what it is."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with os.fdopen(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK), "rb") as reader:
        write_whole([(pipe, "through")])
        assert reader.read() == b"through"
    assert pipe.is_fifo()


def test_a_latency_model_is_saved_whole(tmp_path: Path) -> None:
    """Who has the earlier one open still reads all of it."""
    path = tk.LatencyModel.constant(2.0).save(tmp_path / "latency.json")
    with path.open() as opened:
        tk.LatencyModel.constant(3.0).save(path)
        assert '"base_s": 2.0' in opened.read()
    assert tk.LatencyModel.load(path).base_s == 3.0
