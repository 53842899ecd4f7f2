"""``Run``: what a run over episodes brought, as DataFrames and files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from toolkit import frames, metrics
from toolkit.config import Config
from toolkit.harmless import for_markdown, for_spreadsheet
from toolkit.limits import LimitEvent
from toolkit.records import EpisodeRecord, Status, Summary

if TYPE_CHECKING:
    import pandas as pd


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
    makespan_s : float
        Wall-clock seconds from the first episode's start to the last one's end.
    interrupted : bool
        Whether it was stopped before its end.
    stopped_because : str or None
        The error for which the run stopped by itself: no quota left, a wrong key.
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
        interrupted: bool = False,
        stopped_because: str | None = None,
        limit_events: Sequence[LimitEvent] = (),
        began_at: float = 0.0,
    ) -> None:
        self.id = id
        self.config = config
        self.provider = provider
        self.model = model
        self.records = tuple(records)
        self.makespan_s = makespan_s
        self.interrupted = interrupted
        self.stopped_because = stopped_because
        self._limit_events = tuple(limit_events)
        self._began_at = began_at

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
        return frames.limits_frame(self.id, self._limit_events, self._began_at)

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

    def save(self, folder: str | Path) -> Path:
        """Write ``summaries.md``, ``episodes.csv`` and ``calls.csv`` into a folder, which is made if needed.

        Text from transcripts and models is made harmless: nothing in the CSV files is taken for a formula
        by a spreadsheet and nothing in the Markdown for markup.

        Returns
        -------
        Path
            The folder.
        """
        place = Path(folder).expanduser()
        place.mkdir(parents=True, exist_ok=True)
        (place / "summaries.md").write_text(self._markdown(), encoding="utf-8")
        for name, frame in (("episodes", self.episodes), ("calls", self.calls)):
            _safe(frame).to_csv(
                place / f"{name}.csv", index=False, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n"
            )
        return place

    def _markdown(self) -> str:
        parts = [f"# Summaries\n\n{for_markdown(self.provider)}, {for_markdown(self.model)}, run {self.id}\n"]
        for record in self.records:
            summary = record.summary
            notes = [
                f"{record.words} words",
                f"{summary.chunks} chunks",
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
        return f"<Run {self.id}: {self.provider}/{self.model}, {ended}, {self.makespan_s:.1f} s{stopped}>"


def _safe(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a copy whose text columns hold no formulas and no control characters."""
    safe = frame.copy()
    for name in safe.columns:
        if safe[name].dtype == "str":
            safe[name] = safe[name].map(for_spreadsheet, na_action="ignore")
    return safe
