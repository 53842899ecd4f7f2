"""Where attention's keys and values lie: a slot for each sequence, slots of one length side by side."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from toolkit.engines.torch.room import Room

if TYPE_CHECKING:
    import torch

STEP = 256
"""Slots are multiples of it long. Attention goes over a slot's whole length: twice as fast as over a part of
it (PyTorch 2.13 on a CPU: 0.45 ms over 704 of 704 places, 1.0 ms over 672 of them), as parts are copied."""


@dataclass(eq=False, slots=True)
class Slot:
    """A sequence's place.

    Attributes
    ----------
    pool : Pool
    row : int
    ids : list of int
        Tokens whose keys and values it holds, from the start on.
    """

    pool: Pool
    row: int
    ids: list[int] = field(default_factory=list)


class Pool:
    """Slots of one length, in the rows of one room.

    Attributes
    ----------
    length : int
    room : Room
    slots : dict of int to Slot
        Those that take memory, by row.
    busy : set of Slot
        Those of them in which somebody works.
    """

    def __init__(self, length: int, room: Room) -> None:
        self.length = length
        self.room = room
        self.slots: dict[int, Slot] = {}
        self.busy: set[Slot] = set()

    @property
    def keys(self) -> list[torch.Tensor]:
        """For each layer, of shape (rows, heads, length, width)."""
        return self.room.keys

    @property
    def values(self) -> list[torch.Tensor]:
        """For each layer, of shape (rows, heads, length, width)."""
        return self.room.values

    def take(self) -> Slot:
        """Return the first slot that is idle: attention goes over all rows up to the last that is busy."""
        row = next(row for row in itertools.count() if self.slots.get(row) not in self.busy)
        self.room.need(row + 1)
        slot = self.slots.setdefault(row, Slot(self, row))
        self.busy.add(slot)
        return slot

    def give_up_idle(self) -> None:
        """Give back the memory of slots that nobody works in; what they hold can no longer be copied."""
        idle = [row for row, slot in self.slots.items() if slot not in self.busy]
        for row in idle:
            del self.slots[row]
        self.room.give_up(idle, self.slots)

    def clear(self) -> None:
        """Give back all memory at once: pool and slots know each other, and Python would find that later."""
        self.slots.clear()
        self.busy.clear()
        self.keys.clear()
        self.values.clear()


class Slots:
    """All slots of a model.

    Parameters
    ----------
    batch_tokens : int
        Bound on their lengths together; a single one may be longer.
    make_room : callable
        Makes room for rows of a length, given that and how many there may be at most.
    """

    def __init__(self, batch_tokens: int, make_room: Callable[[int, int], Room]) -> None:
        self._batch_tokens = batch_tokens
        self._make_room = make_room
        self._pools: dict[int, Pool] = {}

    @property
    def tokens(self) -> int:
        """How many tokens there is room for, in use or not."""
        return sum(length * len(pool.slots) for length, pool in self._pools.items())

    def take(self, tokens: int) -> Slot:
        """Return a slot for a sequence, given the most tokens that it may come to.

        Memory that nobody uses is given up for it where all would come to more than the bound.
        """
        length = length_of(tokens)
        pool = self._pools.get(length)
        if pool is None:
            # Two, because that many are compared when a model is loaded.
            most = max(2, self._batch_tokens // length)
            pool = self._pools[length] = Pool(length, self._make_room(length, most))
        if len(pool.busy) == len(pool.slots) and self.tokens + length > self._batch_tokens:
            self._give_up_idle(besides=pool)
        return pool.take()

    def _give_up_idle(self, besides: Pool) -> None:
        for length, pool in list(self._pools.items()):
            if pool is besides:
                continue
            if pool.busy:
                pool.give_up_idle()
            else:
                self._pools.pop(length).clear()

    def give_back(self, slot: Slot) -> None:
        """Let another sequence have it."""
        slot.pool.busy.discard(slot)

    def holding(self) -> Iterator[Slot]:
        """Yield all slots, busy or idle."""
        for pool in self._pools.values():
            yield from pool.slots.values()

    def clear(self) -> None:
        """Give up all memory."""
        for pool in self._pools.values():
            pool.clear()
        self._pools.clear()


def length_of(tokens: int) -> int:
    """Return the length of the slot for a sequence of so many tokens."""
    step = STEP
    while tokens > 8 * step:  # A long slot is at most an eighth longer than what it is for.
        step *= 2
    return -(-tokens // step) * step
