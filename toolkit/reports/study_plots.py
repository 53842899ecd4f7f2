"""The plots of a study, each with what it shows in words."""

from __future__ import annotations

import math

from toolkit import plots
from toolkit.parts import Absent, Part
from toolkit.reports.pictures import picture
from toolkit.reports.plotted import in_order
from toolkit.studies import MOST_SERIES, label_of, levels_of
from toolkit.views.study import Study
from toolkit.wording import real, shown

MOST_LINE_KNOBS = 4
SPEED = ("episodes_per_h", "makespan_s", "output_tokens_per_s")
QUALITY = ("rougeL", "rouge1", "rouge2")


def _begin(text: str) -> str:
    return text[:1].upper() + text[1:]


def plots_of_study(of: Study) -> list[Part]:
    """Return the plots of a study; in place of one that does not apply, why it does not."""
    measures = measures_of(of)
    if not measures:
        return [Absent("Plots", "No cell has a result.")]
    if not of.varied:
        return [Absent("Plots", "No knob has more than one value.")]
    parts: list[Part] = []
    ordered = sorted(of.varied, key=lambda knob: -len(levels_of(of.cells, knob)[0]))
    if len(ordered) >= 2:
        x, y = ordered[:2]
        parts += [heatmap_of(of, x, y, measure) for measure in measures]
        if len(levels_of(of.cells, y)[0]) <= MOST_SERIES:
            parts.append(lines_of(of, x, measures[0], y))
    if len(ordered) != 2:
        for knob in ordered[:MOST_LINE_KNOBS]:
            parts += [
                lines_of(of, knob, measure) for measure in (measures if len(ordered) == 1 else measures[:1])
            ]
    cost = next((name for name in ("cost_usd", "makespan_s") if varies(of, name)), None)
    quality = next((name for name in QUALITY if varies(of, name)), None)
    if cost and quality:
        parts.append(pareto_of(of, cost, quality))
    else:
        why = (
            "Needs a quality score, of which the cells have no two."
            if not quality
            else "No two costs differ."
        )
        parts.append(Absent("Cost against quality", why))
    return in_order(parts)


def varies(of: Study, name: str) -> bool:
    """Return whether a measure has more than one value."""
    return name in of.values and of.values[name].nunique() > 1


def measures_of(of: Study) -> list[str]:
    """Return what is worth a plot: one measure of speed, of cost, and of quality."""
    speed = next((name for name in SPEED if name in of.values), None)
    quality = next((name for name in QUALITY if varies(of, name)), None)
    cost = "cost_usd" if varies(of, "cost_usd") else None
    found = [name for name in (speed, cost, quality) if name]
    return found or list(of.values)[:1]


def heatmap_of(of: Study, x: str, y: str, measure: str) -> Part:
    """Return a measure over two knobs."""
    return picture(
        f"{_begin(label_of(measure))} by {shown(x)} and {shown(y)}",
        lambda ax: plots.heatmap(of.cells, x=x, y=y, value=measure, ax=ax),
        lambda: f"Heatmap of {label_of(measure)} over {shown(x)} and {shown(y)}: {_range(of, measure)}",
        "Means over repeats, and over all other knobs. Hatched: no result.",
    )


def lines_of(of: Study, x: str, measure: str, by: str | None = None) -> Part:
    """Return a measure over a knob, a line for each value of another."""
    lines = f", a line for each {shown(by)}" if by else ""
    return picture(
        f"{_begin(label_of(measure))} by {shown(x)}{lines}",
        lambda ax: plots.lines(of.cells, x=x, y=measure, by=by, ax=ax),
        lambda: f"{label_of(measure)} over {shown(x)}{lines}: {_range(of, measure)}",
        "Means with 95 % confidence intervals over repeats; no bar: a single repeat.",
    )


def pareto_of(of: Study, cost: str, quality: str, by: str | None = None) -> Part:
    """Return what each cell costs against how good it is."""
    return picture(
        "Cost against quality",
        lambda ax: plots.pareto(of.cells, cost=cost, quality=quality, by=by, ax=ax),
        lambda: (
            f"{label_of(quality)} against {label_of(cost)}. {label_of(cost)}: {_range(of, cost)} "
            f"{label_of(quality)}: {_range(of, quality)}"
        ),
        "On the front is each cell than which no other is both cheaper and better.",
    )


def _range(of: Study, measure: str) -> str:
    """Return the least and the greatest mean, and where they are."""
    means = [(of.mean(measure, cell).mean, place) for place, cell in of.key.drop_duplicates().items()]
    known = [(mean, place) for mean, place in means if math.isfinite(mean)]
    if not known:
        return "no cell has it."
    (low, where_low), (high, where_high) = (choose(known, key=lambda each: each[0]) for choose in (min, max))
    if low == high:
        return f"{real(low)} everywhere."
    return f"from {real(low)} ({of.setting(where_low)}) to {real(high)} ({of.setting(where_high)})."
