"""What tests of runs on other processes share: episodes of some chunks, and patience."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from toolkit.records import Episode

PATIENCE_S = 60.0


def episodes_of(count: int, lines: int = 3) -> list[Episode]:
    """Make episodes of lines that fill a chunk of 64 tokens each."""
    line = " ".join(["word"] * 45)
    return [
        Episode.from_text(f"e{n}", "\n".join(f"Hill{n} {line} dry{i}." for i in range(lines)))
        for n in range(count)
    ]


def kill(pid: int) -> None:
    """End a process as a machine does that loses its power."""
    os.kill(pid, signal.SIGKILL)


def soon(condition: Callable[[], Any], what: str) -> Any:
    """Wait until something is so; return it."""
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if found := condition():
            return found
        threading.Event().wait(0.02)
    raise AssertionError(f"after {PATIENCE_S:g} s there is no {what}")
