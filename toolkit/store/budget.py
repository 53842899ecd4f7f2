"""What may be spent: reserved before a call is made, settled with the transaction that keeps the call.

A reservation is an upper bound, so that no race and no long reply can lead beyond the limit. What nobody can
know (a reply that never came, a process that was killed) counts as spent in full.
"""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import sqlalchemy as sa

from toolkit.errors import BudgetExceeded
from toolkit.limits import holders
from toolkit.records import NANO, Spending
from toolkit.store import schema
from toolkit.store.commits import Work
from toolkit.store.store import Store

LOOK_S = 0.2
"""How often to look whether another process has given something back."""
MOST = 2**62
"""A larger ceiling than this comes to the same, and databases count in 64 bits."""
_UNITS = ("nano_usd", "tokens", "calls")
_budgets, _reservations, _runs = schema.budgets, schema.reservations, schema.runs
_abandoned: WeakKeyDictionary[Store, set[int]] = WeakKeyDictionary()
"""Numbers of reservations that were to be settled when the store could not be written."""
_abandoned_lock = threading.Lock()


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
    scope : str, optional
        The run whose own budget it is: what was spent up to its last complete start counts no more.
    """

    def __init__(self, store: Store, name: str, ceiling: Ceiling, *, scope: str | None = None) -> None:
        self._store = store
        self._name = name
        self._scope = scope
        self._holder = holders.this_process()
        self._given_back = threading.Condition()
        with _abandoned_lock:
            self._abandoned = _abandoned.setdefault(store, set())
        limits = zip(_UNITS, ceiling, strict=True)
        self._limits = {f"limit_{unit}": None if most is None else min(most, MOST) for unit, most in limits}
        store.commit(work=self._open)

    def _open(self, connection: sa.Connection) -> None:
        nothing = {f"{kind}_{unit}": 0 for kind in ("spent", "held") for unit in _UNITS}
        row = {"name": self._name, **self._limits, **nothing}
        # Two may open it at once, and only one of them makes it.
        self._store.database.insert(connection, _budgets, [row], again=True)
        connection.execute(_of(_budgets.update(), self._name).values(**self._limits))
        # In the transaction that looks: another start that has begun since could have spent something.
        if self._scope is not None and _is_over(connection, self._scope):
            self._settle_lost(connection)  # what the dead held was part of what counts no more
            spent = {f"spent_{unit}": 0 for unit in _UNITS}
            connection.execute(_of(_budgets.update(), self._name).values(**spent))

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
            taken = self._store.commit(work=self._taking(most))
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

    def _taking(self, most: Spending) -> Work:
        tried: list[int] = []
        return lambda connection: self._take(connection, most, tried)

    def _take(self, connection: sa.Connection, most: Spending, tried: list[int]) -> Reservation | Any:
        """Reserve, or return the row of the budget that has no room.

        ``tried`` holds the number of a transaction that is done again, since its end is not known.
        """
        if connection.execute(_TAKE, {"named": self._name, **_amounts(most)}).rowcount:
            row = {"budget": self._name, "holder": self._holder, **most._asdict()}
            done = connection.execute(_reservations.insert(), row)
            assert done.inserted_primary_key is not None
            number = done.inserted_primary_key[0]
            with _abandoned_lock:
                self._abandoned.update(tried)
                self._abandoned.discard(number)  # one that was rolled back is given out again
            tried[:] = [number]
            return Reservation(number, most)
        # Who settles for others holds the budget's row first: else two who do could wait for each other.
        connection.execute(_of(_budgets.select(), self._name).with_for_update())
        self._settle_lost(connection)
        return connection.execute(_of(_budgets.select(), self._name)).one()

    def _settle_lost(self, connection: sa.Connection) -> None:
        """Count as spent what nobody will settle: of processes that live no more, or abandoned by ours."""
        of_this = _reservations.c.budget == self._name
        others = sa.select(_reservations.c.holder).where(of_this, _reservations.c.holder != self._holder)
        dead = [
            holder
            for holder in connection.execute(others.distinct()).scalars().all()
            if not holders.is_alive(holder)
        ]
        with _abandoned_lock:
            abandoned = list(self._abandoned)
        if not dead and not abandoned:
            return
        lost = sa.or_(_reservations.c.holder.in_(dead), _reservations.c.number.in_(abandoned))
        for row in connection.execute(sa.select(_reservations).where(of_this, lost)).all():
            held = Spending(row.nano_usd, row.tokens, row.calls)
            _settle(connection, self._name, Reservation(row.number, held), held)

    def bury(self, holder: str) -> None:
        """Count as spent what a process holds that is known to live no more, wherever it was."""

        def settle(connection: sa.Connection) -> None:
            connection.execute(_of(_budgets.select(), self._name).with_for_update())
            mine = _reservations.c.budget == self._name, _reservations.c.holder == holder
            for row in connection.execute(sa.select(_reservations).where(*mine)).all():
                held = Spending(row.nano_usd, row.tokens, row.calls)
                _settle(connection, self._name, Reservation(row.number, held), held)

        self._store.commit(work=settle)

    def settling(self, reservation: Reservation, spent: Spending) -> Work:
        """Return what settles a reservation, to be done in the transaction that keeps its call."""
        return lambda connection: _settle(connection, self._name, reservation, spent)

    def abandon(self, reservation: Reservation) -> None:
        """Leave a reservation that could not be settled; who finds no room for his own settles it in full."""
        with _abandoned_lock:
            self._abandoned.add(reservation.number)

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


def _is_over(connection: sa.Connection, scope: str) -> bool:
    """Whether no start of a run waits to be gone on with: the last one was complete, or there is none."""
    starts = sa.select(_runs.c.complete).where(_runs.c.scope == scope).order_by(_runs.c.number.desc())
    last = connection.execute(starts.limit(1)).first()
    return last is None or bool(last.complete)


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
