"""The three states that one suite runs over, and the laws written once more, from their definitions."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import pytest
from postgresql_server import Server

from toolkit.limits import LimiterState, MemoryState, PostgresState, SqliteState

Admissions = Sequence[tuple[float, int]]
Checker = Callable[[Admissions, int, int], str | None]


# A decision takes a server some 30 times as long as a file, and the suite makes very many of them.
@pytest.fixture(
    params=["memory", "sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], scope="session"
)
def new_state(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[], LimiterState]]:
    """Make a fresh state; every call another."""
    folder = tmp_path_factory.mktemp("limits")
    made: list[SqliteState | PostgresState] = []
    numbers = itertools.count()

    def make() -> LimiterState:
        if request.param == "memory":
            return MemoryState()
        for state in made:
            state.close()
        if request.param == "sqlite":
            made[:] = [SqliteState(folder / f"limits-{next(numbers)}.db", "process-a")]
        else:
            server: Server = request.getfixturevalue("postgresql")
            if not made:
                server.run("CREATE DATABASE limits")
            else:
                server.run("TRUNCATE toolkit_limits.book_1, toolkit_limits.holders", "limits")
            made[:] = [PostgresState(server.url("limits"), holder="process-a")]
        return made[-1]

    yield make
    for state in made:
        state.close()


class Sharing:
    """A state that several processes share, which a test plays one after the other.

    Attributes
    ----------
    url : str
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.made: list[SqliteState | PostgresState] = []

    def state(self, holder: str | None = None) -> SqliteState | PostgresState:
        """Return the state as another process has it; by default as this one."""
        if self.url.startswith("sqlite"):
            self.made.append(SqliteState(self.url.removeprefix("sqlite:///"), holder))
        else:
            self.made.append(PostgresState(self.url, holder=holder))
        return self.made[-1]


@pytest.fixture(params=["sqlite", "postgresql"])
def sharing(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sharing]:
    """Share a file, and a database."""
    if request.param == "sqlite":
        shared = Sharing(f"sqlite:///{tmp_path / 'limits.db'}")
    else:
        server: Server = request.getfixturevalue("postgresql")
        shared = Sharing(server.url(server.database("template1")))
    yield shared
    for state in shared.made:
        state.close()


@pytest.fixture(scope="session")
def broken() -> dict[str, Checker]:
    """Checkers of the laws: None if the admissions keep it, else what is wrong.

    Exact fractions over the plain list of admissions; nothing of `toolkit.limits` is used.
    """
    return {"bucket": _broken_bucket, "sliding": _broken_sliding, "fixed": _broken_fixed}


def _broken_bucket(admissions: Admissions, limit: int, period: int) -> str | None:
    for first, (start, _) in enumerate(admissions):
        total = 0
        for end, amount in admissions[first:]:
            total += amount
            allowed = limit + Fraction(limit, period) * (Fraction(end) - Fraction(start))
            if total > allowed:
                return f"{total} from {start} to {end}, allowed {float(allowed)}"
    return None


def _broken_sliding(admissions: Admissions, limit: int, period: int) -> str | None:
    for first, (start, _) in enumerate(admissions):
        total = sum(a for t, a in admissions[first:] if Fraction(t) - Fraction(start) < period)
        if total > limit:
            return f"{total} in the {period} s from {start}, allowed {limit}"
    return None


def _broken_fixed(admissions: Admissions, limit: int, period: int) -> str | None:
    totals: Counter[int] = Counter()
    for time, amount in admissions:
        totals[int(Fraction(time) // period)] += amount
    wrong = {window: total for window, total in totals.items() if total > limit}
    return f"{wrong}, allowed {limit}" if wrong else None
