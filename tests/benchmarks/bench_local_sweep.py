"""What both levels of parallelism and the length of a chunk are worth on the embedded model.

A sweep of ``summary_batch_size`` x ``summary_chunk_parallelism`` x ``chunk_tokens``, each cell measured
several times in a shuffled order, with ROUGE against the episodes' references beside the two baselines, and
plots with ``--plots DIR``. By default over the samples; give transcripts with ``<id>.ref.txt`` beside them.
Each cell is simulated, too, by a latency model fitted to all the others.
``--brief`` takes two settings, once, without plots.

Prints the means with their 95 % intervals, the scores with the baselines' and, last, one JSON line: seconds,
tokens a second and ROUGE-L of each setting, and how much of the fastest one's speed each knob is worth.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

import toolkit as tk
from toolkit.environment import parse_setting

SAMPLES = [str(Path(__file__).parents[2] / "data" / "episodes")]
BASELINES = ("lead", "extractive")
GRID: dict[str, list[Any]] = {
    "summary_batch_size": [1, 2],
    "summary_chunk_parallelism": [1, 4],
    "chunk_tokens": [400, 800],
}
BRIEF: dict[str, list[Any]] = {"summary_chunk_parallelism": [1, 4]}
MEASURES = ("makespan_s", "output_tokens_per_s", "rouge1", "rouge2", "rougeL", "peak_rss_mb")
MAX_TOKENS = 48


def draw(study: tk.Sweep, folder: Path) -> None:
    """Write the plots of the sweep, and a timeline of its quickest cell, as PNG."""
    folder.mkdir(parents=True, exist_ok=True)
    x, y, line = "summary_batch_size", "summary_chunk_parallelism", "chunk_tokens"
    best = int(study.best("makespan_s")["cell"])
    drawn = {
        "heatmap": tk.plots.heatmap(study, x=x, y=y, value="makespan_s"),
        "lines_s": tk.plots.lines(study, x=y, y="makespan_s", by=line),
        "lines_tokens": tk.plots.lines(study, x=y, y="output_tokens_per_s", by=line),
        "lines_rouge": tk.plots.lines(study, x=line, y="rougeL", by=y),
        "timeline": tk.plots.timeline(study.runs[best, 1]),
    }
    for name, ax in drawn.items():
        ax.figure.savefig(folder / f"{name}.png", dpi=100)


def ratio(means: pd.DataFrame, knob: str) -> float | None:
    """Return how many times longer the lowest value of a knob takes than its highest, the others alike."""
    others = [name for name in GRID if name != knob and name in means]
    if knob not in means:
        return None
    # One level more, which is the same everywhere: there may be no other knob to keep alike.
    by = means.assign(all=0).set_index(["all", *others, knob])["makespan_s"].unstack(knob)
    return round(float((by[by.columns.min()] / by[by.columns.max()]).median()), 2)


def predicted(study: tk.Sweep, episodes: list[tk.Episode]) -> dict[int, float]:
    """Return the seconds that a simulation gives each cell, by a latency model fitted to all the others."""
    cells = sorted({cell for cell, _ in study.runs})
    found = {}
    for cell in cells:
        others = [run for (other, _), run in study.runs.items() if other != cell]
        latency = tk.LatencyModel.fit(*others)
        found[cell] = tk.simulate(episodes, study.config_of(cell), latency=latency, seeds=5).makespan_s
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("paths", nargs="*", default=SAMPLES)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--plots", type=Path, metavar="DIR")
    parser.add_argument("--brief", action="store_true")
    chosen = parser.parse_args()
    if chosen.brief and chosen.plots:
        parser.error("--brief has too few settings for the plots")
    episodes = tk.load_episodes(chosen.paths)
    grid, repeats = (BRIEF, 1) if chosen.brief else (GRID, chosen.repeats)
    if chosen.brief:
        episodes = [episode for episode in episodes if episode.reference][:3]
    settings = dict(parse_setting(setting) for setting in chosen.settings)
    config = tk.Config(**{"summary_max_tokens": MAX_TOKENS, **settings})
    study = tk.sweep(episodes, config, grid=grid, repeats=repeats)
    means = study.means(*MEASURES)
    shown = means[[name for name in means if not str(name).endswith("_n")]]
    print(
        f"\n{len(episodes)} episodes, {sum(len(e.text.split()) for e in episodes)} words, repeats {repeats}"
    )
    print(shown.round(3).to_string(index=False))

    baselines = [tk.run(episodes, tk.Config(provider=name), progress=False) for name in BASELINES]
    runs = {(f"cell {cell}", repeat): run for (cell, repeat), run in study.runs.items()}
    runs |= {(run.provider, 1): run for run in baselines}
    scored = [
        tk.quality.scores(run, episodes, kind="reference").assign(of=of, repeat=repeat)
        for (of, repeat), run in runs.items()
    ]
    scores = pd.concat(scored).groupby("of", sort=False)[
        ["rouge1", "rouge2", "rougeL", "coverage", "repetition", "words"]
    ]
    print(f"\n{scores.mean().round(3).to_string()}")
    print(f"\nstandard deviation over episodes and repeats\n{scores.std().round(3).to_string()}")
    guesses = predicted(study, episodes)
    print("\nseconds, simulated from the other cells, and how far off")
    for row in means.itertuples():
        off = guesses[row.cell] / row.makespan_s - 1
        print(f"cell {row.cell}: {row.makespan_s:7.1f} {guesses[row.cell]:7.1f} {off:+8.1%}")
    if chosen.plots:
        draw(study, chosen.plots)
        study.save(chosen.plots)
    figures = {
        int(row.cell): {
            **{knob: int(getattr(row, knob)) for knob in grid},
            "s": round(row.makespan_s, 1),
            "simulated_s": round(guesses[row.cell], 1),
            "tokens_per_s": round(row.output_tokens_per_s, 1),
            "rougeL": None if pd.isna(row.rougeL) else round(row.rougeL, 3),
        }
        for row in means.itertuples()
    }
    print(
        json.dumps(
            {
                "benchmark": "local_sweep",
                "cells": figures,
                "times_longer_without": {knob: ratio(means, knob) for knob in GRID},
                "baselines_rougeL": {
                    name: round(float(scores.mean().loc[name, "rougeL"]), 3) for name in BASELINES
                },
                "failed": study.counts().get("failed", 0),
            }
        )
    )


if __name__ == "__main__":
    main()
