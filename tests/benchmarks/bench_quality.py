"""How the embedded model's summaries compare with the baselines: how texts begin, and LexRank.

ROUGE F-measures against the references of the samples, and measures without a reference; see
``toolkit.quality``. One reference an episode and five episodes are few: read the summaries too. Prints them,
a table of episodes, the means with their 95 % intervals and, last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pandas as pd

import toolkit as tk
from toolkit.environment import parse_setting

EPISODES = Path(__file__).parents[2] / "data" / "episodes"
BASELINES = ("lead", "extractive")
ROUGE = ["rouge1", "rouge2", "rougeL"]
MEASURES = [*ROUGE, "coverage", "coverage_evenness", "novelty2", "repetition", "words"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", default=[str(EPISODES)])
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--kind", default="abstract", help="what the references are")
    chosen = parser.parse_args()
    settings = dict(parse_setting(setting) for setting in chosen.settings)
    config = tk.Config(**{"summary_batch_size": 4, "summary_chunk_parallelism": 8, **settings})

    episodes = tk.load_episodes(chosen.paths)
    run = tk.run(episodes, config, progress=False)
    others = [name for name in BASELINES if name != run.provider]
    baselines = [tk.run(episodes, tk.Config(provider=name), progress=False) for name in others]
    for episode in episodes:
        for each in (run, *baselines):
            summary = each.summary(episode.id)
            print(f"\n{episode.id}, {each.provider} ({summary.status}): {summary.text}")

    table = pd.concat([tk.quality.scores(each, episodes, kind=chosen.kind) for each in (run, *baselines)])
    wide = table.dropna(subset="kind").pivot(index="episode_id", columns="provider", values=ROUGE)
    print(f"\n{wide.round(3).to_string()}")
    means = tk.quality.means(table, MEASURES)
    shown = means[["provider", "kind", "measure", "n", "failed", "mean", "low", "high"]]
    print(f"\n{shown.round(3).to_string(index=False)}")
    print(
        json.dumps(
            {
                "benchmark": "quality",
                "model": run.model,
                "makespan_s": round(run.makespan_s, 1),
                "output_tokens": int(run.calls["output_tokens"].sum()),
                "mean": {
                    provider: {
                        row.measure: None if pd.isna(row.mean) else round(row.mean, 4)
                        for row in own.itertuples()
                    }
                    for provider, own in means.groupby("provider", sort=False)
                },
                "failed": int((run.episodes["status"] == "failed").sum()),
            }
        )
    )


if __name__ == "__main__":
    main()
