"""``Team``: the processes that work on the episodes of a run, as its driver has to do with them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.backends import Backend, LostTask
from toolkit.clock import Clock, SystemClock
from toolkit.config import Config
from toolkit.errors import ConfigError, ToolkitError
from toolkit.gate import EpisodeGate
from toolkit.keeping import Keeping
from toolkit.limits import LimiterCore, LimitEvent, Standing, quota_shares
from toolkit.limits.axis import boot_id
from toolkit.limits.holders import this_process
from toolkit.limits.share import merge_events
from toolkit.progress import Progress
from toolkit.providers.base import SummarizationProvider
from toolkit.providers.registry import provider_class
from toolkit.records import EpisodeRecord, WorkerRecord
from toolkit.store.roster import digest_of
from toolkit.urls import MEMORY, POSTGRESQL, SQLITE
from toolkit.workers.driving import DistributedWork
from toolkit.workers.travel import RunSpec, Survey
from toolkit.workers.watching import Watch
from toolkit.workers.worker import survey

if TYPE_CHECKING:
    from collections.abc import Mapping


class Team:
    """The workers of one run.

    Parameters
    ----------
    backend : Backend
    config : Config
    clock : Clock

    Attributes
    ----------
    provider : SummarizationProvider
        Stands in for those of the workers: it has name, model and prices, and asks nothing.
    identity : mapping or None
        What the answers depend on, as a worker has told.

    Raises
    ------
    ConfigError
        If something that all of them must share is of this process alone.
    ToolkitError
        What a worker raises that makes the provider.
    """

    def __init__(self, backend: Backend, config: Config, clock: Clock) -> None:
        # Loads SQLAlchemy.
        from toolkit.store.address import read_address

        where = f"the workers of joblib's backend {backend.name!r} are processes of their own"
        if not isinstance(clock, SystemClock):
            raise ConfigError(f"clock= is of this process, and {where}; leave it out")
        if config.store_url == MEMORY:
            raise ConfigError(
                f"store_url={MEMORY} is in this process alone, and {where}; leave it unset, or set it to a "
                f"file or a database ({POSTGRESQL}USER@HOST:PORT/DATABASE)",
                ["store_url"],
            )
        self._backend = backend
        self._config = config
        self._neighbours = backend.capacity(config).neighbours
        self._told = config.replace(
            episode_backend="threads",
            store_url=read_address(config.store_url).url,
            limits_url=_whole(config.limits_url),
            # It counts as chosen there, so that nobody is warned again.
            summary_chunk_parallelism=config.summary_chunk_parallelism,
        )
        self.provider = _stand_in(config)
        self._survey = self._ask()
        self.identity = self._survey.identity
        if self._survey.limits is not None and config.limits_url == MEMORY:
            raise ConfigError(
                f"limits_url={MEMORY} is in this process alone, and {where}: each would count for itself and "
                f"the limits would be broken; leave it unset, or set it to a file or to "
                f"{POSTGRESQL}USER@HOST:PORT/DATABASE",
                ["limits_url"],
            )
        self._watch: Watch | None = None
        self._keeping: Keeping | None = None
        self._work: DistributedWork | None = None

    def _ask(self) -> Survey:
        """Have a worker make the provider, which says what is missing before the first episode."""
        found: Survey | LostTask
        asked = [(survey, self._told, self._neighbours)]
        try:
            (found,) = self._backend.run(asked, self._config.summary_batch_size)
        except ToolkitError:
            raise
        except Exception as error:  # Of joblib: a pool whose process is gone, a cluster without workers.
            found = LostTask(-1, error)
        if isinstance(found, LostTask):
            told = f"{type(found.error).__name__}: {str(found.error).partition('. ')[0]}"
            raise ToolkitError(
                f"joblib's backend {self._backend.name!r} has no worker that could make the provider "
                f"({told}); are there workers, do they have the toolkit in this version, and enough memory?"
            ) from None
        return found

    def begin(
        self,
        keeping: Keeping,
        progress: Progress,
        gate: EpisodeGate,
        stop: threading.Event,
        clock: Clock,
        on_episode: Callable[[EpisodeRecord], None],
        *,
        is_part: bool,
    ) -> DistributedWork:
        """Return the work of a run whose row is written."""
        run_id = keeping.keeper.run_id
        spec = RunSpec(
            run_id,
            self._told,
            keeping.scope,
            is_part,
            this_process(),
            boot_id(),
            self._neighbours,
        )
        self._keeping = keeping
        budget = keeping.keeper.budget
        self._watch = Watch(
            keeping.store,
            run_id,
            stop,
            clock,
            on_lost=budget.bury if budget is not None else lambda holder: None,
        )
        self._watch.begin()
        self._work = DistributedWork(
            self._backend,
            spec,
            self.provider,
            keeping.keeper,
            progress,
            gate,
            stop,
            clock,
            on_episode,
        )
        return self._work

    def standing(self) -> Standing | None:
        """Return what the workers wait for; None if none does."""
        return None if self._watch is None else self._watch.standing()

    def tell(self, **orders: Any) -> None:
        """Tell the workers something that they do from their next sign of life on."""
        if self._watch is not None:
            self._watch.tell(**orders)

    def events(self) -> list[LimitEvent]:
        """Return what the limiters of all workers did, and leave nothing of it in the store.

        Raises
        ------
        StoreError
            If it cannot be read.
        """
        if self._watch is None or self._work is None or self._survey.limits is None:
            return []
        found = self._watch.take_events()
        for worker, events in self._work.events.items():
            found.setdefault(digest_of(worker), []).extend(events)
        return merge_events(list(found.values()))

    def shares(self, events: list[LimitEvent]) -> Mapping[str, float]:
        """Return what all of them together used of each limit while somebody waited."""
        limits, key = self._survey.limits, self._survey.quota_key
        if limits is None or key is None:
            return {}
        return quota_shares(events, LimiterCore(key, limits).rules())

    def end(self, *, is_over: bool) -> list[WorkerRecord]:
        """End the watch, and return the workers that there were.

        Where the work is not over, those that this process has started are ended.
        """
        try:
            if self._watch is None or self._work is None:
                return []
            return self._watch.end(self._work.workers)
        finally:
            if not is_over:
                self._backend.abandon()
            self._backend.close()


def _stand_in(config: Config) -> SummarizationProvider:
    kind = provider_class(config.provider)
    counts = config.budget_usd or config.budget_tokens or config.budget_calls
    # One that only names a local model needs none of its files here.
    return kind(config) if kind.runs_here and not counts else kind.for_planning(config)


def _whole(url: str | None) -> str | None:
    """Return the address of a file such that it is the same from any folder."""
    if url is None or not url.startswith(SQLITE):
        return url
    return f"{SQLITE}{Path(url.removeprefix(SQLITE)).expanduser().absolute()}"
