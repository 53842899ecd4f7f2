"""Measuring a cell: a run of its own, from an idle quota, with nothing taken from others."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from toolkit.archive import Archive
from toolkit.clock import Clock
from toolkit.config import Config
from toolkit.errors import StoreError, ToolkitError
from toolkit.limits import Limiter, StopEvent
from toolkit.memory import PeakMemory
from toolkit.records import Episode, Status
from toolkit.runs import Run
from toolkit.sweeps.cells import Cell
from toolkit.sweeps.figures import Ended, Score, how_it_ended, measure
from toolkit.sweeps.judging import checked_scores
from toolkit.sweeps.order import Planned, not_reached
from toolkit.sweeps.results import Row
from toolkit.sweeps.spending import Budget, MakeProvider
from toolkit.workflow import run

if TYPE_CHECKING:
    from toolkit.store.address import Address
    from toolkit.store.sweeps import KeptCell, SweepBook

LONGEST_REST_S = 61.0
"""For the quota to come back: the longest period but a day's is a minute."""
WARM_UP_WORDS = 20
"""Fit into the smallest chunk that a config may ask for, so that it is one call."""
WARM_UP_REPEAT = 0
_SAME_ENDPOINT = (
    "provider",
    "model",
    "model_revision",
    "openai_base_url",
    "azure_endpoint",
    "anthropic_base_url",
    "device",
    "dtype",
    "engine",
)
"""Settings that say which model, and where: each has a first call of its own."""


class Measuring:
    """Measures cells by really running them.

    Parameters
    ----------
    sweep_id : str
    episodes : sequence of Episode
    budget : Budget
        For all cells together.
    book : SweepBook
        Where what they bring is kept.
    address : Address
        Of the store.
    make : callable or None
        Makes the provider of a config; None: the one that it names.
    score, scored_by
        What judges the summaries, and its name.
    warm_up : bool
    rest : bool
        Whether to wait before each cell until the quota is as if unused, and forget what was learned of it.
    parallel : int
    machine : str
        Digest of what the measurements depend on besides.
    clock : Clock
    stop : StopEvent
        Set here, too, when no further cell could run.

    Attributes
    ----------
    stopped_because : str or None
        Why it was set here.
    warm_ups : list of Row
    run_ids : dict
        By cell and repeat.
    other_machines : int
        Cells of earlier starts that were measured on another machine, or with other versions.
    not_alone : int
        Cells that found their quota in use, and with it what others have learned of it.
    """

    def __init__(
        self,
        sweep_id: str,
        episodes: Sequence[Episode],
        *,
        budget: Budget,
        book: SweepBook,
        address: Address,
        begun: dict[tuple[str, int], KeptCell],
        make: MakeProvider,
        own_provider: bool,
        score: Score | None,
        scored_by: str,
        warm_up: bool,
        rest: bool,
        parallel: int,
        machine: str,
        clock: Clock,
        stop: StopEvent,
    ) -> None:
        self._id = sweep_id
        self._episodes = episodes
        self._budget = budget
        self._book = book
        self._address = address
        self._begun = begun
        self._make = make
        self._own_provider = own_provider
        self._score = score
        self._scored_by = scored_by
        self._rest = rest
        self._parallel = parallel
        self._machine = machine
        self._clock = clock
        self._stop = stop
        self._warm: set[tuple[Any, ...]] | None = set() if warm_up else None
        self._warm_lock = threading.Lock()
        self.stopped_because: str | None = None
        self.warm_ups: list[Row] = []
        self.run_ids: dict[tuple[int, int], str] = {}
        self.other_machines = 0
        self.not_alone = 0

    # From an earlier start

    def kept(self, planned: Planned) -> Row | None:
        """Return a cell that ended whole in an earlier start, as it was measured; None if it did not.

        If its summaries were judged by another score, they are judged by this one, which is kept then.
        """
        found = self._begun.get((planned.cell.key, planned.repeat))
        if found is None or found.figures is None or found.status not in (Status.OK, Status.PARTIAL):
            return None
        record = json.loads(found.figures)
        if record["scored_by"] != self._scored_by and found.run_id is not None:
            record["scores"], error = {}, None
            if self._score is not None:
                record["scores"], error = self._scores(planned.cell, Archive(self._address).run(found.run_id))
            if found.status == Status.OK:
                record["figures"]["error"] = error
            # A score that raised, or none at all, is no reason to lose what is kept.
            if self._score is not None and error is None:
                record["scored_by"] = self._scored_by
                key, repeat, figures = planned.cell.key, planned.repeat, json.dumps(record)
                self._book.end(key, repeat, found.status, found.run_id, figures, found.started_at)
        if found.run_id is not None:
            self.run_ids[planned.cell.number, planned.repeat] = found.run_id
        self.other_machines += record["machine"] != self._machine
        return Row(planned.cell, planned.repeat, {**record["figures"], **record["scores"], "kept": True})

    def died(self, planned: Planned) -> bool:
        """Whether a process ended in the middle of this cell: it may have been the memory."""
        found = self._begun.get((planned.cell.key, planned.repeat))
        return found is not None and found.status is None

    def fetch(self, place: tuple[int, int]) -> Callable[[], Run]:
        """Return what reads a cell's run from the store."""
        run_id, address = self.run_ids[place], self._address
        return lambda: Archive(address).run(run_id)

    # Now

    def __call__(self, planned: Planned) -> Row:
        """Measure a cell; whatever goes wrong stands in its row."""
        try:
            self._warm_up(planned.cell)
            if self._rest and self._parallel == 1:
                self._rest_quota(planned.cell)
            return self._measure(planned)
        except StoreError as broken:
            return self._give_up(planned, str(broken))

    def _measure(self, planned: Planned) -> Row:
        cell, repeat = planned.cell, planned.repeat
        if self._stop.is_set():
            return self._give_up(planned, None)
        started_at = self._clock.epoch()
        self._book.begin(cell.key, repeat, started_at)
        peak = PeakMemory()
        found = self._run(cell, repeat, self._episodes, goes_on=(cell.key, repeat) in self._begun)
        peak_mb = peak.end()
        ended, values = self._told(found)
        values |= {
            "order": planned.order,
            "started_at": started_at,
            "parallel": self._parallel,
            # That of cells side by side is nobody's own.
            "peak_rss_mb": peak_mb if self._parallel == 1 else None,
        }
        scores: dict[str, float | None] = {}
        wrong = None
        if isinstance(found, Run):
            self.run_ids[cell.number, repeat] = found.id
            scores, wrong = self._scores(cell, found)
        values["error"] = values["error"] or wrong
        record = {
            "figures": values,
            "scores": scores,
            "scored_by": self._scored_by if wrong is None else None,
            "machine": self._machine,
        }
        self._book.end(
            cell.key, repeat, ended.status.value, values.get("run_id"), json.dumps(record), started_at
        )
        return Row(cell, repeat, {**values, **scores})

    def _told(self, found: Run | Exception) -> tuple[Ended, dict[str, Any]]:
        """Return how a run ended and its figures; stop all if no further one could run."""
        if isinstance(found, Run):
            ended = how_it_ended(found)
            values = {"run_id": found.id, **measure(found)}
        else:
            ended = Ended(Status.FAILED, f"{type(found).__name__}: {found}")
            values = {}
        if ended.stops:
            self._stop_all(ended.error)
        return ended, {**values, "status": ended.status.value, "error": ended.error}

    def _run(
        self, cell: Cell, repeat: int, episodes: Sequence[Episode], *, goes_on: bool, part: str = ""
    ) -> Run | Exception:
        """Run episodes under a cell's config; return the error if there is no run.

        A cell that is begun asks everything anew, also what stands in it twice.
        """
        provider = None
        stop = StopEvent()  # a run stops itself, for an error that is its own
        self._stop.subscribe(stop.set)
        try:
            if self._stop.is_set():
                stop.set()
            config = self._budget.within(cell.config, f"sweep {self._id}").replace(
                repeat=repeat or 1, reuse="run" if goes_on else "none"
            )
            provider = self._make(config) if self._own_provider else None
            return run(
                episodes,
                config,
                provider=provider,
                progress=False,
                stop=stop,
                clock=self._clock,
                part_of=f"sweep {self._id}{part}",
            )
        except StoreError:
            raise
        except Exception as error:  # of the setting, the model, or memory: the other cells go on
            return error
        finally:
            self._stop.unsubscribe(stop.set)
            if provider is not None:
                provider.close()

    def _scores(self, cell: Cell, found: Run) -> tuple[dict[str, float | None], str | None]:
        """Return the scores of a run, or none of them and why: what was measured is worth more."""
        if self._score is None:
            return {}, None
        try:
            return checked_scores(self._score(found, self._episodes), cell.knobs), None
        except Exception as error:
            return {}, f"the score raised {type(error).__name__}: {error}"

    def _warm_up(self, cell: Cell) -> None:
        """Make a first call to a cell's model, if there was none: connections, caches, a cold processor."""
        if self._warm is None:
            return
        endpoint = endpoint_of(cell.config)
        with self._warm_lock:
            if endpoint in self._warm:
                return
            self._warm.add(endpoint)
            text = " ".join(self._episodes[0].text.split()[:WARM_UP_WORDS])
            episode = Episode.from_text("warm-up", text)
            started_at = self._clock.epoch()
            found = self._run(cell, WARM_UP_REPEAT, [episode], goes_on=False, part=", warm-up")
            _, values = self._told(found)
            self.warm_ups.append(Row(cell, WARM_UP_REPEAT, {**values, "started_at": started_at}))

    def _rest_quota(self, cell: Cell) -> None:
        """Wait until what was sent before counts no more, and forget what it taught.

        So each cell finds the same quota, and a limiter that knows no more of it than the first one's: in any
        order, and also if the sweep was started again.
        """
        limiter: Limiter | None = None
        # What is wrong stands in the cell's row.
        with suppress(ToolkitError), self._make(cell.config) as provider:
            limiter = provider.limiter(self._clock)
        if limiter is not None:
            rest_s = min(limiter.refilled_at() - limiter.now(), LONGEST_REST_S)
            if rest_s > 0:
                self._clock.sleep(rest_s, wake=self._stop)
            if not self._stop.is_set():
                self.not_alone += not limiter.forget()

    # Stopping

    def _stop_all(self, because: str | None) -> None:
        self.stopped_because = self.stopped_because or because
        self._stop.set()

    def _give_up(self, planned: Planned, because: str | None) -> Row:
        if because is not None:
            self._stop_all(because)
        return not_reached(planned, self.stopped_because)


def endpoint_of(config: Config) -> tuple[Any, ...]:
    """Return what tells one model on one server from another."""
    return tuple(getattr(config, name) for name in _SAME_ENDPOINT)
