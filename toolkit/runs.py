"""``Run``: what a run over episodes brought, as DataFrames and files."""

from __future__ import annotations

import csv
import errno
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, NamedTuple

from toolkit import frames, metrics
from toolkit.config import Config
from toolkit.files import write_whole
from toolkit.harmless import for_markdown, for_spreadsheet
from toolkit.limits import LimitEvent
from toolkit.parts import notebook_html
from toolkit.records import EpisodeRecord, Status, Summary, WorkerRecord
from toolkit.views.run import view_of
from toolkit.wording import counted, shown

if TYPE_CHECKING:
    import pandas as pd


FILES = ("summaries.md", "episodes.csv", "calls.csv", "attempts.csv", "limits.csv")
"""What ``Run.save`` writes."""


class Reused(NamedTuple):
    """What a run took from the store; ``usd`` is None if no price was known."""

    calls: int
    input_tokens: int
    output_tokens: int
    usd: float | None

    def __str__(self) -> str:
        tokens = f"{self.input_tokens} input and {self.output_tokens} output tokens"
        price = "" if self.usd is None else f", ${self.usd:.4f}"
        return f"{counted(self.calls, 'call')} reused ({tokens}{price})"


class Run:
    """One workflow over episodes under one config.

    Attributes
    ----------
    id : str
    config : Config
    provider, model : str
        Who summarized.
    records : tuple of EpisodeRecord
        In the order in which the episodes were given.
    state : str
        complete, interrupted, stopped (by an error that every call would meet), incomplete (episodes failed
        or were cancelled; one without words is not missing, since no start could bring it), and of a run that
        is read back also running or died (its process ended before it).
    episodes_given : int or None
        How many there were to do; None if a generator gave them and it has not ended.
    environment : dict
        What of the machine its times depend on: versions, system, processor, cores.
    makespan_s : float
        Wall-clock seconds from the first episode's start to the last one's end.
    peak_rss_mb : float or None
        Most memory of this process from the run's preparation, which may load a model, to its end, in MB
        (10^6 bytes); all that goes on in the process counts, other runs too. None of a simulation, and where
        the system does not tell (see ``toolkit.memory``).
    interrupted : bool
        Whether it was stopped before its end.
    stopped_because : str or None
        The error for which the run stopped by itself: no quota left, a wrong key.
    stopped_kind : str or None
        Class of that error; None in a run that is read back.
    quota_shares : mapping
        By limit, the share of what the law allowed from the first admission to the last, over the spans in
        which somebody waited; empty if nobody did, and for local models.
    store : str or None
        Where it is kept.
    simulated : bool
        Whether nothing was called; there are no texts then.
    limit_events : tuple of LimitEvent
        What the limiter did, from ``limits_began_at`` (epoch seconds) on; ``limits`` shows it.
    worker_records : tuple of WorkerRecord
        The processes that worked on the episodes, where those were others; ``workers`` shows them.
    """

    def __init__(
        self,
        *,
        id: str,
        config: Config,
        provider: str,
        model: str,
        records: Sequence[EpisodeRecord],
        makespan_s: float,
        peak_rss_mb: float | None = None,
        state: str | None = None,
        episodes_given: int | None = None,
        environment: Mapping[str, object] | None = None,
        interrupted: bool = False,
        stopped_because: str | None = None,
        stopped_kind: str | None = None,
        limit_events: Sequence[LimitEvent] = (),
        began_at: float = 0.0,
        quota_shares: Mapping[str, float] | None = None,
        store: str | None = None,
        simulated: bool = False,
        workers: Sequence[WorkerRecord] = (),
    ) -> None:
        self.id = id
        self.config = config
        self.provider = provider
        self.model = model
        self.records = tuple(records)
        self._state = state
        self.episodes_given = len(self.records) if state is None else episodes_given
        self.environment = dict(environment or {})
        self.makespan_s = makespan_s
        self.peak_rss_mb = peak_rss_mb
        self.interrupted = interrupted
        self.stopped_because = stopped_because
        self.stopped_kind = stopped_kind
        self.quota_shares = dict(quota_shares or {})
        self.store = store
        self.simulated = simulated
        self.worker_records = tuple(workers)
        self.limit_events = tuple(limit_events)
        self.limits_began_at = began_at

    @cached_property
    def episodes(self) -> pd.DataFrame:
        """A row for each episode; the columns are declared in ``toolkit.frames.EPISODES``."""
        return frames.episodes_frame(self.id, self.records, self.provider, self.model)

    @cached_property
    def calls(self) -> pd.DataFrame:
        """A row for each call; the columns are declared in ``toolkit.frames.CALLS``."""
        return frames.calls_frame(self.id, self.records)

    @cached_property
    def attempts(self) -> pd.DataFrame:
        """A row for each try of a call; the columns are declared in ``toolkit.frames.ATTEMPTS``."""
        return frames.attempts_frame(self.id, self.records)

    @cached_property
    def limits(self) -> pd.DataFrame:
        """A row for each event of the limiter; the columns are declared in ``toolkit.frames.LIMITS``.

        Empty for local models, which have no limiter.
        """
        return frames.limits_frame(self.id, self.limit_events, self.limits_began_at)

    @cached_property
    def workers(self) -> pd.DataFrame:
        """A row for each process that worked on episodes; ``toolkit.frames.WORKERS`` declares the columns.

        Empty where threads of the run's own process did.
        """
        return frames.workers_frame(self.id, self.worker_records)

    @cached_property
    def reused(self) -> Reused:
        """What was answered from the store, and so neither asked nor paid for again."""
        calls = [call for record in self.records for call in record.summary.calls if call.reused]
        known = [call.saved_usd for call in calls if call.saved_usd is not None]
        return Reused(
            len(calls),
            sum(call.input_tokens or 0 for call in calls),
            sum(call.output_tokens or 0 for call in calls),
            sum(known) if known or not calls else None,
        )

    def totals(self) -> dict[str, float | int | None]:
        """Return sums over the whole run: episodes by status, calls made and reused, tokens, money."""
        calls = [call for record in self.records for call in record.summary.calls]
        made = [call for call in calls if not call.reused and call.status is not Status.CANCELLED]
        costs = [call.cost_usd for call in made if call.cost_usd is not None]
        return {
            "episodes": len(self.records),
            **{status.value: self.counts().get(status.value, 0) for status in Status},
            "calls": len(made),
            "calls_reused": self.reused.calls,
            "input_tokens": sum(call.input_tokens or 0 for call in made),
            "output_tokens": sum(call.output_tokens or 0 for call in made),
            "cost_usd": sum(costs) if costs else None,
            "saved_usd": self.reused.usd,
        }

    @property
    def state(self) -> str:
        """How it ended; see the attributes."""
        if self._state is not None:
            return self._state
        if self.stopped_because:
            return "stopped"
        if self.interrupted:
            return "interrupted"
        return "incomplete" if any(map(_is_missing, self.records)) else "complete"

    @property
    def quota_share(self) -> float | None:
        """The share of the limit that bound; None if nobody waited for one."""
        return max(self.quota_shares.values(), default=None)

    def throughput(self, freq: str = "1s") -> pd.DataFrame:
        """Return calls and tokens over time; see ``toolkit.metrics.throughput``."""
        return metrics.throughput(self.calls, freq)

    def summary(self, episode_id: str) -> Summary:
        """Return the summary of an episode.

        Raises
        ------
        KeyError
            If the run has no such episode.
        """
        for record in self.records:
            if record.episode_id == episode_id:
                return record.summary
        raise KeyError(
            f"no episode {episode_id!r} in this run; it has {[r.episode_id for r in self.records]}"
        )

    def counts(self) -> dict[str, int]:
        """Return how many episodes ended in each status, without those that none did."""
        found = {status.value: 0 for status in Status}
        for record in self.records:
            found[record.summary.status.value] += 1
        return {status: count for status, count in found.items() if count}

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files that ``save`` writes; ``limits.csv`` only where a limiter did something."""
        return FILES if self.limit_events else FILES[:-1]

    def save(self, folder: str | Path) -> Path:
        """Write ``summaries.md`` and a CSV file for each frame into a folder, which is made if needed.

        Files of an earlier run are replaced, and each is whole at any moment. Text from transcripts and
        models is made harmless: nothing in the CSV files is taken for a formula by a spreadsheet and nothing
        in the Markdown for markup.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        OSError
            If they cannot be written.
        """
        place = Path(folder).expanduser()
        place.mkdir(parents=True, exist_ok=True)
        paths = [place / name for name in self.files]
        write_whole(
            (path, self._markdown() if path.suffix == ".md" else csv_of(getattr(self, path.stem)))
            for path in paths
        )
        for name in set(FILES) - set(self.files):
            (place / name).unlink(missing_ok=True)
        return place

    def _markdown(self) -> str:
        parts = [f"# Summaries\n\n{for_markdown(self.provider)}, {for_markdown(self.model)}, run {self.id}\n"]
        for record in self.records:
            summary = record.summary
            notes = [
                counted(record.words, "word"),
                counted(summary.chunks, "chunk"),
                f"{record.total_s:.1f} s",
                summary.status,
            ]
            parts.append(f"## {for_markdown(record.title)}\n\n{', '.join(notes)}\n")
            if summary.text:
                parts.append(for_markdown(summary.text) + "\n")
            if summary.error:
                parts.append(f"Missing: {for_markdown(summary.error)}\n")
        return "\n".join(parts)

    def __repr__(self) -> str:
        ended = ", ".join(f"{count} {status}" for status, count in self.counts().items()) or "no episodes"
        stopped = ", stopped early" if self.interrupted else ""
        reused = f", {self.reused}" if self.reused.calls else ""
        took = f"{self.makespan_s:.1f} s"
        kind = "Simulated run" if self.simulated else "Run"
        who = f"{shown(self.provider, 40)}/{shown(self.model, 60)}"
        return f"<{kind} {shown(self.id, 40)}: {who}, {ended}, {took}{reused}{stopped}>"

    def _repr_html_(self) -> str:
        return notebook_html(view_of(self))


def _is_missing(record: EpisodeRecord) -> bool:
    """Say whether another start could bring an episode: of a text without words nothing is ever asked."""
    summary = record.summary
    if summary.status is Status.FAILED:
        return record.words > 0 or bool(summary.calls)
    return summary.status is Status.CANCELLED


def check_folder(folder: Path) -> None:
    """Make sure, by writing, that ``Run.save`` will be able to write into a folder; leave nothing behind.

    Raises
    ------
    OSError
        If it will not be.
    """
    made = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder, prefix=".toolkit-") as probe:
            probe.write(b"There is room.")
            probe.flush()
        for name in FILES:
            if (folder / name).is_dir():
                raise IsADirectoryError(errno.EISDIR, f"{name} is a folder there")
    finally:
        for place in made:
            with suppress(OSError):  # Somebody else may have put something there by now.
                place.rmdir()


def csv_of(frame: pd.DataFrame) -> str:
    """Return a frame as CSV whose text holds no formulas and no control characters."""
    safe = frame.copy()
    for name in safe.columns:
        if safe[name].dtype == "str":
            safe[name] = safe[name].map(for_spreadsheet, na_action="ignore")
    text: str = safe.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    return text
