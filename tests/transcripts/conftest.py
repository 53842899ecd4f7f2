"""How the tests of this folder come from a text to its episode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit.records import Episode
from toolkit.transcripts import load_episodes


@pytest.fixture
def read(tmp_path: Path) -> Callable[..., Episode]:
    """Write a file and read it: ``read(text_or_bytes, "name.txt") -> Episode``."""

    def read(content: str | bytes, name: str = "show.txt") -> Episode:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        (episode,) = load_episodes(path)
        return episode

    return read
