"""How many requests a server works on at once: what refusals say of it, by who was in flight beside them.

A server with such a bound, shown in no header, refuses a request exactly when it works on so many others, and
never answers more at once. A server that refuses by chance does so at any level. The two are told apart by
the leases of whole runs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np

    from toolkit.runs import Run

    Array = np.ndarray[Any, np.dtype[np.float64]]

NEARLY = 0.9
"""Share of the refusals that a bound has to explain: an odd one may have another cause."""
CHANCE = 0.05
"""How likely it may be at most that refusals at random all met moments so crowded. Of 4,000 fits to simulated
runs with 1 to 5 % of random refusals, 8 claim a bound; without this test 109 did."""


class Leases(NamedTuple):
    """The leases of one run, in seconds of its limiter: begin and end of each.

    Attributes
    ----------
    served : array, shape (n, 2)
        Those that ended in an answer, or in a failure of another kind.
    refused : array, shape (n, 2)
        Those whose refusals said that too much was in flight.
    others : array, shape (n, 2)
        Refused for other reasons.
    """

    served: Array
    refused: Array
    others: Array


def max_concurrent_of(runs: Iterable[Run]) -> int | None:
    r"""Return how many requests the server of these runs works on at once; None if they do not show it.

    It is the number :math:`C` of requests that were served while nearly every refusal was on its way, and the
    most that were ever served at once in any of the runs. Times are the client's: a request is at the server
    for less than its lease, by what a refusal takes there and back. Nor is it claimed if chance explains the
    refusals as well: where :math:`m` of all :math:`n` attempts had so many others beside them, :math:`k`
    refusals at random all do with a probability of about :math:`(m / n)^k`.
    """
    import numpy as np

    found = [leases for run in runs if (leases := leases_of(run)) is not None]
    if not any(len(leases.refused) for leases in found):
        return None
    beside = np.concatenate([_most(leases.refused, leases.served) for leases in found])
    bound = int(np.sort(beside)[int((1 - NEARLY) * len(beside))])
    usual_s = float(np.median(np.concatenate([np.diff(leases.refused).ravel() for leases in found])))
    at_once = crowded = attempts = 0
    for leases in found:
        trip_s = float(np.diff(leases.refused).max()) if len(leases.refused) else usual_s
        at_server = leases.served + np.array([trip_s / 2, -trip_s / 2])
        at_server = at_server[at_server[:, 0] < at_server[:, 1]]
        at_once = max(at_once, int(_levels(at_server)[1].max(initial=0)))
        tried = np.concatenate(leases)
        arriving = np.minimum(tried, tried[:, :1] + trip_s)
        crowded += int((_most(arriving, tried) > bound).sum())  # itself and so many others
        attempts += len(tried)
    explained = int((beside >= bound).sum())
    by_chance = (crowded / attempts) ** explained
    return bound if bound == at_once and bound and by_chance <= CHANCE else None


def leases_of(run: Run) -> Leases | None:
    """Return the leases of a run; None if it was not alone on its quota key, so that much is not known."""
    import numpy as np

    begun: dict[tuple[str, int | None], float] = {}
    ended: dict[str, list[tuple[float, float]]] = {"settled": [], "refused": []}
    cuts = []
    for event in run.limit_events:
        lease = event.quota_key, event.lease_id
        if event.event == "admitted":
            begun[lease] = event.t_s
            if event.in_flight != len(begun):
                return None
        elif event.event == "cut":
            cuts.append(event.t_s)
        elif event.lease_id is not None and lease in begun:
            began = begun.pop(lease)
            if event.event in ended:
                ended[event.event].append((began, event.t_s))
    served, refused = (np.array(ended[name], dtype="float64").reshape(-1, 2) for name in ended)
    # A refusal of this kind cuts the cap on requests in flight, or was in flight when another one did.
    cut = np.searchsorted(cuts, refused[:, 0]) < np.searchsorted(cuts, refused[:, 1], side="right")
    return Leases(served, refused[cut], refused[~cut])


def _levels(spans: Array) -> tuple[Array, Array]:
    """Return when the number of spans at once changes, in order, and to what."""
    import numpy as np

    times, steps = spans.ravel(), np.tile([1, -1], len(spans))
    order = np.lexsort((steps, times))  # who ends makes room for who begins in the same moment
    return times[order], np.cumsum(steps[order])


def _most(windows: Array, spans: Array) -> Array:
    """Return for each window how many spans there were at once within it, at the most."""
    import numpy as np

    times, levels = _levels(spans)
    levels = np.concatenate([[0], levels])  # none before the first
    first = np.searchsorted(times, windows[:, 0], side="right")
    last = np.searchsorted(times, windows[:, 1])
    return np.array(
        [levels[start : max(start, end) + 1].max() for start, end in zip(first, last, strict=True)]
    )
