"""The peak of memory: of a span, whatever was before it and whatever other spans there are."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest

from toolkit import memory
from toolkit.memory import PeakMemory


class Machine:
    """A process whose memory is what a test says, with a high-water mark as Linux keeps it."""

    def __init__(self) -> None:
        self.now = self.mark = 100.0

    def take(self, peak: float, after: float) -> None:
        self.mark = max(self.mark, peak)
        self.now = after

    def set_back(self) -> bool:
        self.mark = self.now
        return True


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Be on a machine that does what it is told."""
    made = Machine()
    monkeypatch.setattr(memory, "_mark", lambda: made.mark)
    monkeypatch.setattr(memory, "_set_back", made.set_back)
    return made


def test_what_was_before_does_not_count(machine: Machine) -> None:
    """Only what the process has at the beginning does."""
    machine.take(900.0, after=120.0)
    peak = PeakMemory()
    machine.take(300.0, after=150.0)
    assert peak.end() == 300.0
    assert PeakMemory().end() == 150.0


def test_spans_within_and_beside_each_other(machine: Machine) -> None:
    """The mark is one for the process, and yet each span has its own peak."""
    outer = PeakMemory()
    machine.take(500.0, after=110.0)
    inner = PeakMemory()  # sets the mark back
    machine.take(200.0, after=110.0)
    late = PeakMemory()
    assert inner.end() == 200.0
    machine.take(300.0, after=110.0)
    assert late.end() == 300.0
    assert outer.end() == 500.0
    assert inner.end() == 200.0, "what came after its end is not its"


def test_a_span_that_nobody_ends_is_forgotten(machine: Machine) -> None:
    """A run that is given up leaves nothing behind."""
    before = len(memory._under_way)
    for _ in range(10):
        PeakMemory()
    assert len(memory._under_way) <= before


@pytest.mark.parametrize("missing", ["_STATUS", "_CLEAR_REFS"])
def test_where_the_system_does_not_tell(
    missing: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """There is no figure rather than one of another time."""
    monkeypatch.setattr(memory, missing, tmp_path / "no folder" / "no file")
    assert PeakMemory().end() is None


@pytest.mark.skipif(not memory._set_back(), reason="the system keeps no mark that can be set back")
def test_of_this_process() -> None:
    """64 MB more than there were are in the peak, also after they were given back."""

    def take() -> None:
        # Mapped, because what malloc gives back it may keep: a loaded model has asked it to.
        with mmap.mmap(-1, 64_000_000) as taken:
            for place in range(0, len(taken), 4096):
                taken[place] = 1

    before = PeakMemory().end()
    peak = PeakMemory()
    take()
    taken = peak.end()
    assert before is not None
    assert taken is not None
    assert 50 < taken - before < 200
    after = PeakMemory().end()
    assert after is not None
    assert after < taken - 30
