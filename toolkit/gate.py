"""The gate in front of the episodes: how many run at a time, changeable while they do."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class EpisodeGate:
    """Lets up to ``width`` episodes run at a time; joblib's own number of workers cannot change.

    Parameters
    ----------
    width : int
        Episodes at a time, from 1.
    """

    def __init__(self, width: int) -> None:
        self._inside = 0
        self._changed = threading.Condition()
        self._width = 0
        self.resize(width)

    @property
    def width(self) -> int:
        """Episodes that may run at a time."""
        return self._width

    def resize(self, width: int) -> None:
        """Change the width; running episodes go on, and a narrower gate lets nobody in until it is kept."""
        if width < 1:
            raise ValueError(f"width={width} must be at least 1")
        with self._changed:
            self._width = width
            self._changed.notify_all()

    @contextmanager
    def episode(self) -> Iterator[None]:
        """Wait for a place and hold it."""
        with self._changed:
            self._changed.wait_for(lambda: self._inside < self._width)
            self._inside += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside -= 1
                self._changed.notify()
