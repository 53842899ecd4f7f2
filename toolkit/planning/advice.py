"""``Plan``: what is known of a run before it starts, as a record, a frame and a text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from toolkit.config import Config
from toolkit.frames import REAL, TEXT
from toolkit.frames import Column as FrameColumn
from toolkit.parts import Alert, Column, Items, Part, Table, View, notebook_html
from toolkit.planning.bounds import Bound
from toolkit.planning.case import Level
from toolkit.planning.conflicts import Conflict
from toolkit.planning.suggestions import Suggestion
from toolkit.wording import NONE, aligned, count, counted, plain, real

if TYPE_CHECKING:
    import pandas as pd

PLAN = (
    FrameColumn("kind", TEXT, "", "level or bound"),
    FrameColumn("name", TEXT, "", "episodes, chunks, requests; or what binds"),
    FrameColumn("asked", REAL, "", "what the config says, of a level"),
    FrameColumn("effective", REAL, "", "what comes of it, of a level"),
    FrameColumn("most", REAL, "", "what there is room for, of a level; null if nothing bounds it"),
    FrameColumn("room_by", TEXT, "", "what has no more room than that, of a level"),
    FrameColumn("bound_by", TEXT, "", "why there is no more, of a level"),
    FrameColumn("seconds", REAL, "s", "least possible time, of a bound; null if not known"),
    FrameColumn("binds", "bool", "", "whether it is the bottleneck"),
    FrameColumn("because", TEXT, "", "how a bound comes about"),
)


LEVELS = ("episodes", "chunks", "requests")


@dataclass(frozen=True)
class Plan:
    """What is known of a run before it starts; from ``toolkit.plan``.

    Attributes
    ----------
    config : Config
    provider, model : str
    episodes : int
        Given; those without words ask nothing.
    levels : tuple of Level
        Episodes at work, chunks of each in flight, requests in flight.
    bounds : tuple of Bound
        The least possible time by each thing that binds.
    bottleneck : str or None
        ``memory``, ``cores``, ``slots``, ``requests``, ``tokens``, ``input_tokens``, ``output_tokens``,
        ``requests_per_day``, ``tokens_per_day`` or ``latency``: nothing binds, but calls wait for others.
        None if nothing is asked.
    bound_s : float or None
        The largest of the bounds that are known: no run is faster, in the mean. None if none is known.
    calls, input_tokens, output_tokens : int
        Expected.
    calls_most, tokens_most : int
        If every reply is as long as it may be.
    cost_usd, cost_most_usd : float or None
        Expected and at most; None if no price is known.
    conflicts : tuple of Conflict
    suggestions : tuple of Suggestion
    notes : tuple of str
        What is assumed.
    """

    config: Config = field(repr=False)
    provider: str
    model: str
    episodes: int
    levels: tuple[Level, ...]
    bounds: tuple[Bound, ...]
    bottleneck: str | None
    bound_s: float | None
    calls: int
    calls_most: int
    input_tokens: int
    output_tokens: int
    tokens_most: int
    cost_usd: float | None
    cost_most_usd: float | None
    conflicts: tuple[Conflict, ...]
    suggestions: tuple[Suggestion, ...]
    notes: tuple[str, ...]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row for each level and each bound; the columns are declared in ``PLAN`` of this module."""
        import pandas as pd

        empty = {column.name: None for column in PLAN}
        rows: list[dict[str, Any]] = []
        for level in self.levels:
            values = asdict(level)
            rows.append({**empty, "kind": "level", "binds": False, **values})
        for bound in self.bounds:
            values = {"name": bound.name, "seconds": bound.seconds, "because": bound.because}
            rows.append({**empty, "kind": "bound", "binds": bound.name == self.bottleneck, **values})
        return pd.DataFrame(
            {
                column.name: pd.Series([row[column.name] for row in rows], dtype=column.dtype)
                for column in PLAN
            }
        )

    @property
    def suggested(self) -> dict[str, Any]:
        """All suggested changes together, for ``config.replace(**plan.suggested)``."""
        return {name: value for one in self.suggestions for name, value in one.changes.items()}

    @property
    def suggested_config(self) -> Config:
        """The config with all suggested changes."""
        # Said in so many words, so that it does not warn of what an older version would have meant.
        chunks = self.config.summary_chunk_parallelism
        return self.config.replace(**{"summary_chunk_parallelism": chunks, **self.suggested})

    def level(self, name: str) -> Level:
        """Return the level ``episodes``, ``chunks`` or ``requests``."""
        return next(level for level in self.levels if level.name == name)

    def bound(self, name: str) -> Bound:
        """Return a bound by its name; KeyError if this provider has none of that name."""
        for bound in self.bounds:
            if bound.name == name:
                return bound
        raise KeyError(f"no bound {name!r} in this plan; it has {[bound.name for bound in self.bounds]}")

    def row(self) -> dict[str, Any]:
        """Return the plan as one row of a table of plans."""
        return {
            "summary_batch_size": self.config.summary_batch_size,
            "summary_chunk_parallelism": self.config.summary_chunk_parallelism,
            **dict.fromkeys(LEVELS),
            **{level.name: level.effective for level in self.levels},
            "bottleneck": self.bottleneck,
            "bound_s": self.bound_s,
            "calls": self.calls,
            "tokens": self.input_tokens + self.output_tokens,
            "cost_usd": self.cost_usd,
            "cost_most_usd": self.cost_most_usd,
            "conflicts": "; ".join(map(str, self.conflicts)) or None,
            "suggested": ", ".join(f"{name}={value}" for name, value in self.suggested.items()) or None,
        }

    def __repr__(self) -> str:
        return f"<Plan: {plain(self._heading(), 400)}>"

    def __str__(self) -> str:
        levels = [
            (level.name, f"{level.asked:,}", f"{level.effective:,.4g}", level.bound_by)
            for level in self.levels
        ]
        bounds = [
            (f"{bound.name}{' *' * (bound.name == self.bottleneck)}", shown_s(bound.seconds), bound.because)
            for bound in self.bounds
        ]
        parts = [self._heading(), self._amounts()]
        if levels:
            parts.append(aligned([("at a time", "asked", "effective", "bound by"), *levels]))
            parts.append(aligned([("bound", "least time", "because"), *bounds]))
        for title, lines in self._lists().items():
            parts.append("\n".join([title, *(f"  - {line}" for line in lines)]))
        return "\n\n".join(parts)

    def _heading(self) -> str:
        what = f"{counted(self.episodes, 'episode')}, {self.provider}/{self.model}"
        if self.bottleneck is None:
            return f"{what}: nothing is asked"
        binding = next((bound for bound in self.bounds if bound.name == self.bottleneck), None)
        if binding is not None and binding.seconds is None:
            least = "; for how long is not known without a latency model"
        else:
            least = "" if self.bound_s is None else f", at least {shown_s(self.bound_s)}"
        return f"{what}: bound by {self.bottleneck.replace('_', ' ')}{least}"

    def _amounts(self) -> str:
        if self.cost_usd is None or self.cost_most_usd is None:
            cost = "no price is known"
        else:
            cost = f"${self.cost_usd:,.4f} expected, ${self.cost_most_usd:,.4f} at most"
        return (
            f"{counted(self.calls, 'call')} (at most {self.calls_most:,}), {self.input_tokens:,} input and "
            f"{counted(self.output_tokens, 'output token')} (at most {self.tokens_most:,} together); {cost}"
        )

    def _lists(self) -> dict[str, list[str]]:
        lists: Mapping[str, tuple[object, ...]] = {
            "Conflicts": self.conflicts,
            "Suggested": self.suggestions,
            "Assumed": self.notes,
        }
        return {title: [str(line) for line in lines] for title, lines in lists.items() if lines}

    def _repr_html_(self) -> str:
        parts: list[Part] = []
        if self.levels:
            parts += [self._levels_table(), self._bounds_table()]
        lists = self._lists()
        parts += [Items(title, lists[title]) for title in ("Suggested", "Assumed") if title in lists]
        alerts = [Alert("Conflict", line, "bad") for line in lists.get("Conflicts", ())]
        return notebook_html(
            View(f"Plan: {self._heading()}", [("Asks", self._amounts())], alerts, parts=parts)
        )

    def _levels_table(self) -> Table:
        columns = [
            Column("at a time"),
            Column("asked", "", True),
            Column("effective", "", True),
            Column("room for", "", True),
            Column("room by"),
            Column("bound by"),
        ]
        rows = [
            [
                level.name,
                count(level.asked),
                real(level.effective),
                "any number" if level.most is None else real(level.most),
                level.room_by or NONE,
                level.bound_by,
            ]
            for level in self.levels
        ]
        return Table("Levels of parallelism: how much of each is real", columns, rows)

    def _bounds_table(self) -> Table:
        rows = [
            [
                f"{bound.name} (binds)" if bound.name == self.bottleneck else bound.name,
                "unknown" if bound.seconds is None else real(bound.seconds),
                bound.because,
            ]
            for bound in self.bounds
        ]
        columns = [Column("bound"), Column("least time", "s", True), Column("because")]
        return Table("Bounds: no run is faster, in the mean", columns, rows)


def shown_s(seconds: float | None) -> str:
    """Show a time for people."""
    if seconds is None:
        return "unknown"
    if seconds < 600:
        return f"{seconds:.1f} s"
    if seconds < 36_000:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"
