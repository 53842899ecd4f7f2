"""Room for keys and values: slots that come and go, in mapped memory and in tensors that grow."""

from __future__ import annotations

import gc
import mmap
import re
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from toolkit.engines.jobs import OutOfMemory  # noqa: E402
from toolkit.engines.torch.room import Grown, Mapped, Room, Shape, make_room  # noqa: E402
from toolkit.engines.torch.slots import Slot, Slots, length_of  # noqa: E402

MakeRoom = Callable[[int, int], Room]
SMALL = Shape(layers=2, heads=1, width=1)
ROOMS: dict[str, MakeRoom] = {
    "mapped": lambda length, most: Mapped(SMALL, length, most, torch.float32),
    "grown": lambda length, most: Grown(SMALL, length, torch.float32, "cpu"),
}


@pytest.fixture(params=ROOMS)
def make(request: pytest.FixtureRequest) -> MakeRoom:
    """Make each kind of room."""
    return ROOMS[request.param]


@pytest.mark.parametrize("kind", ROOMS)
@given(turns=st.lists(st.tuples(st.integers(1, 3000), st.integers(0, 6)), min_size=1, max_size=40))
@settings(deadline=None)
def test_slots_keep_to_their_bound_and_their_contents(kind: str, turns: list[tuple[int, int]]) -> None:
    """As sequences of all lengths come and go, room stays below the bound, and nobody's numbers get lost."""
    bound = 8192
    slots = Slots(bound, ROOMS[kind])
    held: list[tuple[Slot, int]] = []

    def marks(slot: Slot) -> list[float]:
        room = slot.pool.room
        return [float(tensor[slot.row, 0].min()) for tensor in (*room.keys, *room.values)]

    for number, (tokens, ends) in enumerate(turns, start=1):
        for slot, _ in held[:ends]:
            slots.give_back(slot)
        held = held[ends:]
        if sum(slot.pool.length for slot, _ in held) + length_of(tokens) > bound:
            continue
        slot = slots.take(tokens)
        assert slot.pool.length >= tokens
        for tensor in (*slot.pool.keys, *slot.pool.values):
            tensor[slot.row] = number
        held.append((slot, number))
        assert slots.tokens <= bound
        assert [marks(slot) for slot, _ in held] == [[number] * 4 for _, number in held]


def test_the_first_idle_slot_is_taken(make: MakeRoom) -> None:
    """Attention goes over all rows up to the last that is busy."""
    slots = Slots(8192, make)
    first, second, third = (slots.take(100) for _ in range(3))
    assert [slot.row for slot in (first, second, third)] == [0, 1, 2]
    slots.give_back(second)
    slots.give_back(first)
    assert slots.take(100) == first
    assert slots.take(100) == second


def test_idle_slots_hold_what_they_held(make: MakeRoom) -> None:
    """Another prompt that begins alike copies it, until the room is wanted for others."""
    slots = Slots(1024, make)
    slot = slots.take(100)
    slot.ids[:] = [1, 2, 3]
    slots.give_back(slot)
    slots.take(300)
    assert [held.ids for held in slots.holding()] == [[1, 2, 3], []]
    slots.take(300)
    assert [held.ids for held in slots.holding()] == [[], []]


def test_what_is_not_written_is_finite(make: MakeRoom) -> None:
    """Attention weighs it by 0."""
    slot = Slots(1024, make).take(1000)
    assert all(bool(torch.isfinite(tensor[: slot.row + 1]).all()) for tensor in slot.pool.keys)


def test_a_single_sequence_may_be_longer_than_the_bound(make: MakeRoom) -> None:
    """It works by itself."""
    slot = Slots(64, make).take(5000)
    assert slot.pool.length >= 5000
    slot.pool.keys[1][slot.row] = 1.0


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="this system takes no pages back")
def test_mapped_room_takes_what_is_written_and_gives_it_back() -> None:
    """Room for 512 MB is made; 16 MB are written of each of two of its four rows, and one row given up."""

    def resident_mb() -> float:
        found = re.search(r"VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found is not None
        return int(found[1]) / 1e3

    before = resident_mb()
    room = make_room(Shape(1, 1, 64), 262_144, 4, torch.float32, "cpu")
    assert resident_mb() - before < 8
    for row in (0, 1):
        room.keys[0][row, 0, :65_536] = 1.0
    assert 28 < resident_mb() - before < 48
    room.give_up([0], [1])
    assert 12 < resident_mb() - before < 30
    assert float(room.keys[0][0].max()) == 0.0
    assert float(room.keys[0][1].sum()) == 65_536 * 64


@pytest.mark.parametrize("how", ["all", "for another length"])
def test_what_is_given_up_is_free_at_once(how: str, make: MakeRoom) -> None:
    """Python's search for cycles, which comes whenever it comes, is not waited for."""
    gc.disable()
    try:
        slots = Slots(1024, make)
        slot = slots.take(100)
        held = weakref.ref(slot.pool.keys[0])
        slots.give_back(slot)
        if how == "all":
            slots.clear()
        else:
            slots.take(1000)
        assert held() is None
    finally:
        gc.enable()


def test_rows_that_share_a_page_are_not_lost() -> None:
    """Only whole pages go back."""
    room = Mapped(Shape(1, 1, 1), 300, 8, torch.float32)
    for row in range(8):
        room.keys[0][row] = room.values[0][row] = float(row)
    room.give_up([0, 2, 4, 6], [1, 3, 5, 7])
    for row in (1, 3, 5, 7):
        assert set(room.keys[0][row].flatten().tolist()) == {float(row)}
        assert set(room.values[0][row].flatten().tolist()) == {float(row)}


def test_grown_room_shrinks_to_its_last_row_in_use() -> None:
    """Rows do not move: somebody works in them."""
    room = Grown(SMALL, 256, torch.float32, "cpu")
    room.need(5)
    room.keys[0][2] = 7.0
    room.give_up([0, 1, 3, 4], [2])
    assert room.keys[0].shape[0] == room.values[1].shape[0] == 3
    assert float(room.keys[0][2].min()) == 7.0
    room.need(2)
    assert room.keys[0].shape[0] == 3


def test_more_than_can_be_mapped() -> None:
    """It is a shortage of memory like any other: the queue tries with less."""
    with pytest.raises(OutOfMemory, match="GB for keys and values"):
        Mapped(Shape(1, 1, 1 << 12), 1 << 20, 1 << 15, torch.float32)
