"""Loading libraries' models in a thread that ends, for what they leave behind in it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def apart(work: Callable[[], T]) -> T:
    """Return what some work returns, done in a thread of its own.

    PyTorch's OpenMP keeps a team of threads for each thread that ever computed. Where the one that loads
    keeps its team beside that of the one that runs the model, there are more threads than cores, and OpenMP
    lets them sleep at each wait: 12 prompts then took 12.0 s instead of 9.1 (SmolLM2, two cores).

    OpenVINO's plugin for processors gives the thread that first asks for it another stack for signals, and
    frees that stack when the plugin goes, in whichever thread that is. Where the first was the main thread
    and handlers use such a stack (Python's do, once ``faulthandler`` is on, as in notebooks), the next Ctrl-C
    is a segmentation fault (2026.4.1, Linux).
    """
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:  # Whatever it is, the caller must hear of it.
            failed.append(error)

    thread = threading.Thread(target=run, name="model loads", daemon=True)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]
