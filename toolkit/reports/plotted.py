"""The plots of one run and of several, each with what it shows in words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from toolkit import plots
from toolkit.metrics import made
from toolkit.parts import Absent, Part, Picture
from toolkit.reports.pictures import picture
from toolkit.views.figures import Figures, Ran
from toolkit.views.heads import waits_of
from toolkit.views.tables import NO_LIMITER, NOT_WRITTEN
from toolkit.wording import count, counted, duration, listed, percent, plain, real

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

MOST_OVERLAID = 8
"""Runs that can be told apart in one plot."""
MOST_TIMELINES = 4
_OF_THE_LIMITER = ("Requests in flight", "Use of the limits", "Share of the quota")


def plots_of_run(of: Figures) -> list[Part]:
    """Return the plots of a run; in place of one that does not apply, why it does not."""
    run = of.run
    drawn: Sequence[tuple[str, Callable[[Axes], object], Callable[[], str], str]] = (
        (
            "Timeline",
            lambda ax: plots.timeline(run, ax=ax),
            lambda: _timeline(of),
            "Each bar is a call, from its start to its end, divided into its phases. Bars beneath each other "
            "were under way at the same time. Of too many calls the numbers in each phase are drawn.",
        ),
        (
            "Throughput",
            lambda ax: plots.throughput(run, ax=ax),
            lambda: _throughput(of),
            "Tokens of replies, spread evenly over the time in which the model wrote them.",
        ),
        (
            "Requests in flight",
            lambda ax: plots.in_flight(run, ax=ax),
            lambda: _in_flight(run),
            "A line at the cap while others wait means that more requests at a time would have helped.",
        ),
        (
            "Use of the limits",
            lambda ax: plots.limits(run, ax=ax),
            lambda: _limits(run.limits),
            "The limit whose line stays at the top is the one that bound the run.",
        ),
        (
            "Share of the quota",
            lambda ax: plots.quota_share(run, ax=ax),
            lambda: _quota(run),
            "What was admitted of what the law allowed, over the spans in which a request waited.",
        ),
        (
            "Waits by cause",
            lambda ax: plots.waits(run, ax=ax),
            lambda: _waits([of]),
            "Summed over calls, many of which wait at the same time.",
        ),
        (
            "Latency of calls",
            lambda ax: plots.latency_ecdf(run, ax=ax),
            lambda: _latency([of]),
            "How many of the calls took at most so long: the model's part, and all with its waits.",
        ),
    )
    return in_order([_explained(picture(*each), of) for each in drawn])


def in_order(parts: Sequence[Part]) -> list[Part]:
    """Return pictures first, and what is left out after them."""
    return sorted(parts, key=lambda part: isinstance(part, Absent))


def _explained(part: Picture | Absent, of: Figures) -> Part:
    """Leave out what the limiter has not written yet, and say what is known of why a plot is not there."""
    if of.limits_unwritten and part.title in _OF_THE_LIMITER:
        return Absent(part.title, NOT_WRITTEN)
    if isinstance(part, Absent) and part.title == "Use of the limits":
        return Absent(part.title, NO_LIMITER)
    return part


def plots_of_runs(several: Sequence[Figures]) -> list[Part]:
    """Return plots with several runs in each, and the timelines of a few."""
    some = list(several[:MOST_OVERLAID])
    runs = [of.run for of in some]
    parts: list[Part] = [
        picture(
            "Throughput",
            lambda ax: plots.throughput(runs, ax=ax),
            lambda: " ".join(f"{name_of(of)}: {_throughput(of)}" for of in some),
            "Tokens of replies over time; each run begins at its first call.",
        ),
        picture(
            "Latency of calls",
            lambda ax: plots.latency_ecdf(runs, ax=ax),
            lambda: _latency(some),
            "How many of the calls took at most so long, without their waits.",
        ),
        picture(
            "Waits by cause",
            lambda ax: plots.waits(runs, ax=ax),
            lambda: _waits(some),
            "Summed over calls, many of which wait at the same time.",
        ),
        picture(
            "Share of the quota",
            lambda ax: plots.quota_share(runs, ax=ax),
            lambda: " ".join(f"{name_of(of)}: {_quota(of.run)}" for of in some if of.run.quota_shares),
            "What was admitted of what the law allowed, over the spans in which a request waited.",
        ),
    ]
    if len(several) <= MOST_TIMELINES:
        parts += [
            picture(
                f"Timeline of {name_of(of)}",
                lambda ax, run=of.run: plots.timeline(run, ax=ax),  # type: ignore[misc]
                lambda of=of: _timeline(of),  # type: ignore[misc]
                "Each bar is a call, from its start to its end, divided into its phases.",
            )
            for of in several
        ]
    return in_order(parts)


def name_of(of: Figures) -> str:
    """Return what a run is called beside others."""
    return f"run {plain(of.run.id, 40)}"


def _timeline(of: Figures) -> str:
    status = of.run.calls["status"].value_counts()
    ends = [f"{number:,} {name}" for name, number in status.items() if name != "ok"]
    if of.calls_reused:
        ends.append(f"{of.calls_reused:,} reused")
    calls = counted(len(of.run.calls), "call") + (f" ({listed(ends)})" if ends else "")
    phases = sorted(of.phases, key=lambda phase: -phase.share)[:3]
    went = listed([f"{phase.label} {percent(phase.share)}" for phase in phases])
    spent = f" The calls' time went to {went}." if went else ""
    return (
        f"Timeline: {calls} of {counted(len(of.run.records), 'episode')} in {duration(of.makespan_s)}.{spent}"
    )


def _throughput(of: Figures) -> str:
    calls = made(of.run.calls)
    began = calls["started_at"].min()
    lasted = float(((calls["started_at"] - began).dt.total_seconds() + calls["total_s"]).max())
    tokens = int(calls["output_tokens"].sum())
    mean = f", {real(tokens / lasted)} a second on average" if lasted else ""
    return f"Output tokens a second over time: {count(tokens)} in {duration(lasted)}{mean}."


def _in_flight(run: Ran) -> str:
    if run.limits.empty:
        return "Calls that the model worked on over time, from their service times; there was no limiter."
    most = {name: run.limits[name].max() for name in ("in_flight", "slot_cap", "waiting")}
    return (
        f"Requests in flight over time: at most {count(most['in_flight'])} in flight, with a cap of "
        f"{count(most['slot_cap'])}, and at most {count(most['waiting'])} waiting in line."
    )


def _limits(limits: pd.DataFrame) -> str:
    told = []
    for used, limit, what in (
        ("in_flight", "slot_cap", "slots"),
        ("requests_60s", "requests_limit", "requests in 60 s"),
        ("tokens_60s", "tokens_limit", "tokens in 60 s"),
    ):
        known = limits[[used, limit]].dropna()
        known = known[known[limit] > 0]
        if len(known):
            told.append(f"{what} at most {percent((known[used] / known[limit]).max())}")
    return f"Use of each limit over time, in percent of it: {listed(told)}."


def _quota(run: Ran) -> str:
    shares = [f"{plain(name, 60)} {percent(share)}" for name, share in run.quota_shares.items()]
    return f"Share used of what each limit allowed while somebody waited: {listed(shares)}."


def _waits(several: Sequence[Figures]) -> str:
    told = []
    for of in several:
        whose = "" if len(several) == 1 else f"{name_of(of)}: "
        told.append(f"{whose}{listed(waits_of(of)) or 'no call waited'}")
    return f"Time that calls waited, summed over them, by cause: {'; '.join(told)}."


def _latency(several: Sequence[Figures]) -> str:
    told = []
    for of in several:
        calls = made(of.run.calls)
        kinds = [
            f"{kind} time median {duration(calls[f'{kind}_s'].median())}, "
            f"95 % within {duration(calls[f'{kind}_s'].quantile(0.95))}"
            for kind in (("service", "total") if len(several) == 1 else ("service",))
            if len(calls)
        ]
        whose = "" if len(several) == 1 else f"{name_of(of)}: "
        told.append(f"{whose}{'; '.join(kinds) or 'no new reply'}")
    return f"Share of calls that took at most a time: {'. '.join(told)}."
