"""``PeakMemory``: the most memory that this process takes while something goes on."""

from __future__ import annotations

import re
import threading
from contextlib import suppress
from pathlib import Path
from weakref import WeakSet

_STATUS, _CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_MB = 1e6


class PeakMemory:
    """The most memory of this process from here to `end`.

    Linux keeps one high-water mark for the whole process, which can be set back. Spans may overlap: whoever
    sets the mark back notes first what those who are under way have reached. What each of them sees is all
    the same the memory of the process, with all that the others take of it, and with what was loaded before.
    Other systems cannot set it back, and a mark of an earlier time would be no measurement: None.
    """

    def __init__(self) -> None:
        self._most_mb = 0.0
        with _mark_lock:
            _note_mark()
            self._is_known = _set_back()
            _under_way.add(self)

    def so_far(self) -> float | None:
        """Return the peak up to now in MB (10^6 bytes), None where the system does not tell."""
        with _mark_lock:
            _note_mark()
        return self._most_mb if self._is_known else None

    def end(self) -> float | None:
        """End the span and return its peak in MB (10^6 bytes), None where the system does not tell."""
        with _mark_lock:
            _note_mark()
            _under_way.discard(self)
        return self._most_mb if self._is_known else None

    def _note(self, mark_mb: float | None) -> None:
        if mark_mb is None:
            self._is_known = False
        else:
            self._most_mb = max(self._most_mb, mark_mb)


# Weak, because a run that is given up ends nothing.
_under_way: WeakSet[PeakMemory] = WeakSet()
_mark_lock = threading.Lock()


def _note_mark() -> None:
    if _under_way:
        mark_mb = _mark()
        for span in _under_way:
            span._note(mark_mb)


def _mark() -> float | None:
    """Return the high-water mark in MB."""
    with suppress(OSError):
        if found := re.search(r"^VmHWM:\s+(\d+) kB", _STATUS.read_text(), re.MULTILINE):
            return int(found[1]) * 1024 / _MB
    return None


def _set_back() -> bool:
    """Set the mark to what the process has now; False where the system cannot."""
    try:
        _CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return True
