"""What may be spent: reserved before a call is made, settled with the transaction that keeps the call.

A reservation is an upper bound, so that no race and no long reply can lead beyond the limit. What nobody can
know (a reply that never came, a process that was killed) counts as spent in full.
"""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from typing import Any, NamedTuple

import sqlalchemy as sa

from toolkit.errors import BudgetExceeded
from toolkit.limits import holders
from toolkit.records import NANO, Spending
from toolkit.store import schema
from toolkit.store.commits import Work
from toolkit.store.store import Store

LOOK_S = 0.2
"""How often to look whether another process has given something back."""
_UNITS = ("nano_usd", "tokens", "calls")
_budgets, _reservations = schema.budgets, schema.reservations


class Ceiling(NamedTuple):
    """What may be spent in all; None: as much as one likes."""

    nano_usd: int | None = None
    tokens: int | None = None
    calls: int | None = None


class Reservation(NamedTuple):
    """The right to spend so much."""

    number: int
    held: Spending


class Budget:
    """One budget, for all threads and processes that know its name.

    Parameters
    ----------
    store : Store
    name : str
    ceiling : Ceiling
        In force from now on, whatever it was before.
    fresh : bool
        Whether what was spent before counts no more.
    """

    def __init__(self, store: Store, name: str, ceiling: Ceiling, *, fresh: bool = False) -> None:
        self._store = store
        self._name = name
        self._holder = holders.this_process()
        self._given_back = threading.Condition()
        limits = {f"limit_{unit}": value for unit, value in zip(_UNITS, ceiling, strict=True)}
        spent: dict[str, int | None] = {f"spent_{unit}": 0 for unit in _UNITS}
        nothing = spent | {f"held_{unit}": 0 for unit in _UNITS}

        def open_(connection: sa.Connection) -> None:
            changed = limits | spent if fresh else limits
            if not connection.execute(_of(_budgets.update(), name).values(**changed)).rowcount:
                connection.execute(_budgets.insert().values(name=name, **limits, **nothing))

        store.commit(work=open_)

    def reserve(self, most: Spending, stop: threading.Event) -> Reservation:
        """Take what a call could need at most.

        If it would fit once others have settled for less than they hold, wait for them.

        Raises
        ------
        BudgetExceeded
            If it cannot fit any more.
        CancelledError
            If ``stop`` is set meanwhile.
        StoreError
            If the store cannot be written.
        """
        while True:
            taken = self._store.commit(work=lambda connection: self._take(connection, most))
            if isinstance(taken, Reservation):
                return taken
            if short := _short(taken, most):
                raise BudgetExceeded(f"{self._shown} is used up: {short}")
            if stop.is_set():
                raise CancelledError
            with self._given_back:
                self._given_back.wait(LOOK_S)

    @property
    def _shown(self) -> str:
        return "the run's budget" if self._name.startswith("run ") else f"the budget {self._name!r}"

    def _take(self, connection: sa.Connection, most: Spending) -> Reservation | Any:
        """Reserve, or return the row of the budget that has no room."""
        if connection.execute(_TAKE, {"named": self._name, **_amounts(most)}).rowcount:
            row = {"budget": self._name, "holder": self._holder, **most._asdict()}
            done = connection.execute(_reservations.insert(), row)
            assert done.inserted_primary_key is not None
            return Reservation(done.inserted_primary_key[0], most)
        self._give_up_dead(connection)
        return connection.execute(_of(_budgets.select(), self._name)).one()

    def _give_up_dead(self, connection: sa.Connection) -> None:
        """Count as spent what processes hold that live no more."""
        query = sa.select(_reservations).where(_reservations.c.budget == self._name)
        for row in connection.execute(query).all():
            if row.holder != self._holder and not holders.is_alive(row.holder):
                held = Spending(row.nano_usd, row.tokens, row.calls)
                _settle(connection, self._name, Reservation(row.number, held), held)

    def settling(self, reservation: Reservation, spent: Spending) -> Work:
        """Return what settles a reservation, to be done in the transaction that keeps its call."""
        return lambda connection: _settle(connection, self._name, reservation, spent)

    def settled(self) -> None:
        """Wake those who wait for something to be given back."""
        with self._given_back:
            self._given_back.notify_all()

    def spent(self) -> Spending:
        """Return what is spent so far, without what is held."""
        row = self._store.commit(
            work=lambda connection: connection.execute(_of(_budgets.select(), self._name)).one()
        )
        return Spending(row.spent_nano_usd, row.spent_tokens, row.spent_calls)


def _of(statement: Any, name: str) -> Any:
    return statement.where(_budgets.c.name == name)


_TAKE = (
    _budgets.update()
    .where(
        _budgets.c.name == sa.bindparam("named"),
        *(
            sa.or_(
                _budgets.c[f"limit_{unit}"].is_(None),
                _budgets.c[f"spent_{unit}"] + _budgets.c[f"held_{unit}"] + sa.bindparam(f"by_{unit}")
                <= _budgets.c[f"limit_{unit}"],
            )
            for unit in _UNITS
        ),
    )
    .values({f"held_{unit}": _budgets.c[f"held_{unit}"] + sa.bindparam(f"by_{unit}") for unit in _UNITS})
)
_SETTLE = (
    _budgets.update()
    .where(_budgets.c.name == sa.bindparam("named"))
    .values(
        {f"held_{unit}": _budgets.c[f"held_{unit}"] - sa.bindparam(f"by_{unit}") for unit in _UNITS}
        | {f"spent_{unit}": _budgets.c[f"spent_{unit}"] + sa.bindparam(f"for_{unit}") for unit in _UNITS}
    )
)
_DROP = _reservations.delete().where(_reservations.c.number == sa.bindparam("which"))


def _settle(connection: sa.Connection, name: str, reservation: Reservation, spent: Spending) -> None:
    if connection.execute(_DROP, {"which": reservation.number}).rowcount:  # not taken for a dead one's
        connection.execute(_SETTLE, {"named": name, **_amounts(reservation.held), **_amounts(spent, "for")})


def _amounts(spending: Spending, prefix: str = "by") -> dict[str, int]:
    return {f"{prefix}_{unit}": amount for unit, amount in zip(_UNITS, spending, strict=True)}


def _short(row: Any, most: Spending) -> str:
    """Say what would not fit even if all that is held were given back; empty if all would."""
    said = []
    for unit, amount in zip(_UNITS, most, strict=True):
        limit, spent = getattr(row, f"limit_{unit}"), getattr(row, f"spent_{unit}")
        if limit is not None and spent + amount > limit:
            if unit == "nano_usd":
                said.append(
                    f"${spent / NANO:.4f} of ${limit / NANO:.4f} are spent, and the next call could cost "
                    f"${amount / NANO:.4f}"
                )
            elif unit == "tokens":
                said.append(f"{spent} of {limit} tokens are spent, and the next call could take {amount}")
            else:
                said.append(f"{spent} of {limit} calls are made")
    return "; ".join(said)
