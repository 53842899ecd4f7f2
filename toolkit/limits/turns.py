"""Order among processes that share a quota key: the longest waiter of each stands in one line in the book.

Who stands behind others may take only what is left when they have had theirs. So a big request of one
process is not starved by small ones of another, and what nobody ahead needs is not left lying until a
process that sleeps has looked again.
"""

from __future__ import annotations

from typing import NamedTuple

from toolkit.limits import ticks
from toolkit.limits.charges import Amounts
from toolkit.limits.decisions import Cause, Wait

LOOK_AGAIN = ticks.PER_SECOND // 50
"""How soon to ask again while another process has to act first: an ask takes 0.1 ms (bench_limiter.py)."""
LINE_REFRESH, LINE_STALE = ticks.PER_SECOND // 2, 2 * ticks.PER_SECOND
"""A process in line shows itself this often, and loses its place when it was not seen for so long."""


class Place(NamedTuple):
    """A process in line: since when, last seen (ticks), and what it asks for."""

    since: int
    seen: int
    amounts: Amounts


Line = dict[str, Place]
"""By holder."""


def ahead(line: Line, holder: str, at: int) -> list[Amounts]:
    """Return what those ask for who stand before ``holder``."""
    leave_sleepers(line, at)
    mine = (line[holder].since if holder in line else at, holder)
    return [place.amounts for name, place in line.items() if (place.since, name) < mine]


def leave_sleepers(line: Line, at: int) -> None:
    """Take the place of those who went to sleep."""
    for name in [name for name, place in line.items() if at - place.seen > LINE_STALE]:
        del line[name]


def stand(
    line: Line, holder: str, at: int, amounts: Amounts, fits_at: int, cause: Cause, *, first: bool
) -> Wait:
    """Keep a place in line and return how long to wait."""
    since = line[holder].since if holder in line else at
    line[holder] = Place(since, at, amounts)
    soon = LINE_REFRESH if first and fits_at < ticks.NEVER else LOOK_AGAIN
    return Wait(ticks.to_seconds(fits_at), cause, ticks.to_seconds(min(fits_at, at + soon)))
