"""The page of several runs beside each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from toolkit.config import Config
from toolkit.metrics import PHASES
from toolkit.parts import (
    MOST_CHARACTERS,
    Alert,
    Beside,
    Column,
    Fold,
    Page,
    Part,
    Section,
    Table,
    Text,
    Writing,
)
from toolkit.records import Episode
from toolkit.reports.judged import quality_parts
from toolkit.reports.plotted import MOST_OVERLAID, plots_of_runs
from toolkit.reports.settings import NO_SECRETS, differing, flat, settings_of
from toolkit.runs import Run
from toolkit.settings import meaning_of, written
from toolkit.views.figures import BOUNDS, Figures
from toolkit.views.heads import alerts_of, cost_note, facts_of, peak_memory, reuse_note
from toolkit.views.readings import MOST_SUMMARIES, REFERENCE, references_of, writing_of
from toolkit.views.tables import errors_of, name_of
from toolkit.wording import NONE, count, counted, duration, listed, money, percent, plain, real


def page_of_runs(runs: Sequence[Run], episodes: Sequence[Episode]) -> Page:
    """Return the page of several runs: what differs in their settings, and what came of it."""
    several = [Figures(run) for run in runs]
    references = references_of(episodes)
    names = [_heading(number, of) for number, of in enumerate(several)]
    judged = [Section("quality", "Quality", quality_parts(runs, names, episodes))] if episodes else []
    alerts = [
        Alert(f"{name}: {label}", text, tone)
        for name, of in zip(names, several, strict=True)
        for label, text, tone in alerts_of(of)
    ]
    return Page(
        title=f"{len(runs)} runs compared",
        facts=[("Runs", listed(names)), *_shared_facts(several)],
        alerts=alerts,
        sections=[
            Section("figures", "Figures", [_figures(several, names)]),
            Section("differences", "What differs in the settings", _differences(several, names)),
            Section("time", "Where the time went", [_time(several, names)]),
            Section("plots", "Plots", _plots(several)),
            Section("errors", "Errors", _errors(several, names)),
            *judged,
            Section("summaries", "Summaries", _summaries(several, names, references)),
            Section("settings", "Settings", _settings(several, names)),
            Section("environment", "Environment", [_environment(several, names)]),
        ],
    )


def _heading(number: int, of: Figures) -> str:
    """Return a run's name; a letter tells apart what has long ids."""
    return f"{chr(65 + number) if number < 26 else number + 1}: {name_of(of.run.id)}"


def _shared_facts(several: Sequence[Figures]) -> list[tuple[str, str]]:
    """Return the facts that are the same for all."""
    every = [dict(facts_of(of)) for of in several]
    return [(name, value) for name, value in every[0].items() if all(facts[name] == value for facts in every)]


def _beside(caption: str, names: Sequence[str], rows: Mapping[str, Sequence[str]], first: str) -> Table:
    """Return a table with a column for each run."""
    columns = [Column(first), *(Column(name, "", True) for name in names)]
    return Table(caption, columns, [[what, *values] for what, values in rows.items()])


def _figures(several: Sequence[Figures], names: Sequence[str]) -> Part:
    told: dict[str, Callable[[Figures], str]] = {
        "provider": lambda of: plain(of.run.provider, 80),
        "model": lambda of: plain(of.run.model, 80),
        "state": lambda of: f"{of.run.state}, simulated" if of.simulated else of.run.state,
        "episodes summarized": lambda of: f"{of.summarized:,} of {of.given:,}",
        "makespan": lambda of: ", ".join(filter(None, [duration(of.makespan_s), reuse_note(of)])),
        "episodes an hour": lambda of: real(of.episodes_per_h),
        "output tokens/s": lambda of: real(of.tokens_per_s("output_tokens")),
        "input tokens/s": lambda of: real(of.tokens_per_s("input_tokens")),
        "calls made": lambda of: count(of.calls),
        "calls failed": lambda of: count(of.failed_calls),
        "calls reused": lambda of: count(of.calls_reused),
        "calls under way at a time": lambda of: real(of.at_once),
        "attempts refused as too many (429)": lambda of: count(of.rate_limited_attempts),
        "quota used": lambda of: percent(of.run.quota_share),
        "cost": lambda of: ", ".join(filter(None, [money(of.cost_usd), cost_note(of)])),
        "peak memory": peak_memory,
        "most time went to": lambda of: BOUNDS[of.longest_phase.column] if of.longest_phase else NONE,
    }
    rows = {what: [tell(of) for of in several] for what, tell in told.items()}
    return _beside("What came of each run", names, rows, "figure")


def _differences(several: Sequence[Figures], names: Sequence[str]) -> list[Part]:
    found = differing([of.run.config for of in several])
    if not found:
        return [Text("Nothing: all settings are the same.")]
    columns = [Column("setting"), *(Column(name) for name in names), Column("meaning")]
    rows = [
        [name, *map(written, values), meaning_of(name, Config.model_fields)] for name, values in found.items()
    ]
    return [Table("Settings in which the runs differ", columns, rows)]


def _time(several: Sequence[Figures], names: Sequence[str]) -> Part:
    shares = [{phase.label: phase.share for phase in of.phases} for of in several]
    rows = {
        label: [percent(own.get(label, 0.0) if own else None) for own in shares]
        for label in PHASES.values()
        if any(label in own for own in shares)
    }
    if not rows:
        return Text("No call of these runs took any time of its own.")
    return _beside("Shares of the phases in the time of all calls", names, rows, "phase")


def _plots(several: Sequence[Figures]) -> list[Part]:
    parts = plots_of_runs(several)
    if len(several) > MOST_OVERLAID:
        parts.insert(0, Text(f"The plots show the first {MOST_OVERLAID} of {len(several)} runs."))
    return parts


def _errors(several: Sequence[Figures], names: Sequence[str]) -> list[Part]:
    return [Fold(name, errors_of(of)) for name, of in zip(names, several, strict=True)]


def _summaries(several: Sequence[Figures], names: Sequence[str], references: Mapping[str, str]) -> list[Part]:
    by_run = [{record.episode_id: record for record in of.run.records} for of in several]
    ids = list(dict.fromkeys(episode_id for own in by_run for episode_id in own))
    most = max(1, MOST_SUMMARIES // len(several))
    parts: list[Part] = []
    for episode_id in ids[:most]:
        record = next(own[episode_id] for own in by_run if episode_id in own)
        writings = [writing_of(own.get(episode_id), name) for own, name in zip(by_run, names, strict=True)]
        if episode_id in references:
            text = plain(references[episode_id], MOST_CHARACTERS)
            writings.append(Writing(REFERENCE, text))
        title, name = name_of(record.title), name_of(episode_id)
        parts.append(Fold(title if title == name else f"{title} ({name})", [Beside(writings)]))
    if len(ids) > most:
        parts.append(
            Text(f"The first {most:,} of {counted(len(ids), 'episode')} are here. All of them: run.episodes")
        )
    return parts or [Text("There are none.")]


def _settings(several: Sequence[Figures], names: Sequence[str]) -> list[Part]:
    return [
        *(Fold(name, settings_of(of.run.config)) for name, of in zip(names, several, strict=True)),
        NO_SECRETS,
    ]


def _environment(several: Sequence[Figures], names: Sequence[str]) -> Part:
    every = [flat(of.run.environment) for of in several]
    keys = dict.fromkeys(key for own in every for key in own)
    if not keys:
        return Text("They recorded nothing of their machines.")
    rows = {plain(key): [own.get(key, NONE) for own in every] for key in keys}
    return _beside("What of the machine the times depend on", names, rows, "what")
