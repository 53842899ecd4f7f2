"""The figures of a run that it shows of itself, and that a page tells of."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from toolkit.config import Config
from toolkit.errors import RateLimited
from toolkit.metrics import PHASES, WAITS
from toolkit.records import CallRecord, EpisodeRecord, Status

if TYPE_CHECKING:
    import pandas as pd

BOUNDS = {
    "queue_s": "the queue before the model",
    "wait_slots_s": "the cap on requests in flight",
    "wait_requests_s": "the limit on requests",
    "wait_tokens_s": "the limit on tokens",
    "wait_cooldown_s": "pauses after refusals",
    "retry_wait_s": "waiting before another attempt",
    "failed_attempts_s": "attempts that failed",
    "service_s": "the model at work",
    "overhead_s": "the toolkit itself",
}
"""What a call is held up by in each of its phases."""


@dataclass(frozen=True)
class Phase:
    """A phase of the calls: seconds summed over them, and their share of all calls' time."""

    column: str
    label: str
    seconds: float
    share: float


class Ran(Protocol):
    """What figures are of: a `Run`, which shows itself by them."""

    id: str
    config: Config
    provider: str
    model: str
    records: tuple[EpisodeRecord, ...]
    episodes_given: int | None
    makespan_s: float
    peak_rss_mb: float | None
    interrupted: bool
    stopped_because: str | None
    quota_shares: dict[str, float]
    environment: dict[str, object]
    store: str | None
    simulated: bool

    @property
    def state(self) -> str:
        """How it ended."""

    @property
    def episodes(self) -> pd.DataFrame:
        """A row for each episode."""

    @property
    def calls(self) -> pd.DataFrame:
        """A row for each call."""

    @property
    def attempts(self) -> pd.DataFrame:
        """A row for each try of a call."""

    @property
    def limits(self) -> pd.DataFrame:
        """A row for each event of the limiter."""

    @property
    def reused(self) -> object:
        """What was answered from the store."""

    @property
    def quota_share(self) -> float | None:
        """The share of the limit that bound; None if nobody waited for one."""

    def counts(self) -> dict[str, int]:
        """Return how many episodes ended in each status."""

    def totals(self) -> dict[str, float | int | None]:
        """Return sums over the whole run."""


class Figures:
    """What came of a run, in numbers; None where one does not apply or is not known.

    Parameters
    ----------
    run : Run
    """

    def __init__(self, run: Ran) -> None:
        self.run = run
        self.simulated = run.simulated
        self.episodes: dict[str, int] = run.counts()
        self.summarized = self.episodes.get(Status.OK, 0) + self.episodes.get(Status.PARTIAL, 0)
        self.given: int = run.episodes_given or sum(self.episodes.values())
        self.totals: dict[str, Any] = dict(run.totals())
        self.calls: int = self.totals["calls"]
        self.calls_reused: int = self.totals["calls_reused"]
        self.makespan_s = run.makespan_s
        # Nothing that was asked costs nothing.
        self.cost_usd = self.totals["cost_usd"] if self.calls else 0.0

    @cached_property
    def _own(self) -> Sequence[CallRecord]:
        # A run of a hundred thousand episodes shows its figures long before its frames would be made.
        return [call for record in self.run.records for call in record.summary.calls if not call.reused]

    @property
    def limits_unwritten(self) -> bool:
        """Whether a limiter was at work of which nothing is kept, as its run has not ended."""
        return self.run.limits.empty and any(call.wait_requests_s is not None for call in self._own)

    @cached_property
    def failed_calls(self) -> int:
        """How many calls failed for good."""
        return sum(call.status is Status.FAILED for call in self._own)

    @cached_property
    def _errors(self) -> Counter[str]:
        attempts = (attempt for call in self._own for attempt in call.attempts)
        return Counter(attempt.error_kind for attempt in attempts if attempt.error_kind)

    @property
    def failed_attempts(self) -> int:
        """How many attempts failed."""
        return self._errors.total()

    @property
    def rate_limited_attempts(self) -> int:
        """Attempts that the server refused as too many."""
        return self._errors[RateLimited.__name__]

    @cached_property
    def unpriced(self) -> int:
        """Calls with a reply and without a known price."""
        return sum(call.status is Status.OK and call.cost_usd is None for call in self._own)

    @property
    def episodes_per_h(self) -> float | None:
        """Episodes summarized in an hour; None with reused calls, of which the time is another run's."""
        if self.calls_reused or not self.makespan_s or not self.summarized:
            return None
        return 3600 * self.summarized / self.makespan_s

    def tokens_per_s(self, column: str) -> float | None:
        """Return ``input_tokens`` or ``output_tokens`` of the calls made, over the makespan."""
        tokens = self.totals[column]
        return tokens / self.makespan_s if tokens and self.makespan_s else None

    @cached_property
    def phases(self) -> Sequence[Phase]:
        """The phases that took time, in the order in which a call has them."""
        sums = {
            column: math.fsum(max(getattr(call, column) or 0.0, 0.0) for call in self._own)
            for column in PHASES
        }
        total = math.fsum(sums.values())
        return [
            Phase(column, label, sums[column], sums[column] / total)
            for column, label in PHASES.items()
            if sums[column] > 0
        ]

    @property
    def waits(self) -> Sequence[Phase]:
        """Those of the phases in which a call only waits."""
        return [phase for phase in self.phases if phase.column in WAITS]

    @property
    def longest_phase(self) -> Phase | None:
        """Where most of the calls' time went."""
        return max(self.phases, key=lambda phase: phase.share, default=None)

    @property
    def at_once(self) -> float | None:
        """How many calls were under way at a time, on average."""
        total = math.fsum(call.total_s for call in self._own)
        return total / self.makespan_s if total and self.makespan_s else None

    @property
    def began_at(self) -> float | None:
        """Epoch seconds of the first episode's start."""
        return min((record.started_at for record in self.run.records if record.started_at), default=None)
