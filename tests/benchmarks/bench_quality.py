"""How the embedded model's summaries compare with the plainest baseline, the first three sentences.

ROUGE-1, ROUGE-2 and ROUGE-L F-measure (Lin 2004, with stemming) against the references of the samples. One
reference an episode and five episodes are few: read the summaries too. Prints a table, the summaries and,
last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from pathlib import Path

from rouge_score import rouge_scorer

import toolkit as tk
from toolkit.environment import parse_setting

EPISODES = Path(__file__).parents[2] / "data" / "episodes"
KINDS = ("rouge1", "rouge2", "rougeL")


def lead(episode: tk.Episode, sentences: int = 3) -> str:
    return " ".join(re.split(r"(?<=[.?!])\s+", episode.text)[:sentences])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paths", nargs="*", default=[str(EPISODES)])
    parser.add_argument("--set", dest="settings", action="append", default=[])
    chosen = parser.parse_args()
    settings = dict(parse_setting(setting) for setting in chosen.settings)
    config = tk.Config(**{"summary_batch_size": 4, "summary_chunk_parallelism": 8, **settings})

    episodes = tk.load_episodes(chosen.paths)
    run = tk.run(episodes, config, progress=False)
    scorer = rouge_scorer.RougeScorer(list(KINDS), use_stemmer=True)
    rows = []
    for episode in episodes:
        summary = run.summary(episode.id)
        print(f"\n{episode.id} ({summary.status}): {summary.text}")
        if not episode.reference:
            continue
        model = scorer.score(episode.reference, summary.text)
        baseline = scorer.score(episode.reference, lead(episode))
        rows.append(
            {"episode": episode.id}
            | {kind: model[kind].fmeasure for kind in KINDS}
            | {f"lead3_{kind}": baseline[kind].fmeasure for kind in KINDS}
        )
    print(f"\n{'':18} {'rouge1':>7} {'lead-3':>7} {'rouge2':>7} {'lead-3':>7} {'rougeL':>7} {'lead-3':>7}")
    for row in rows:
        cells = " ".join(f"{row[name]:7.3f}" for kind in KINDS for name in (kind, f"lead3_{kind}"))
        print(f"{row['episode']:18} {cells}")
    means = {
        name: round(statistics.mean(row[name] for row in rows), 4) for name in rows[0] if name != "episode"
    }
    print(f"{'mean':18} " + " ".join(f"{means[n]:7.3f}" for k in KINDS for n in (k, f"lead3_{k}")))
    print(
        json.dumps(
            {
                "benchmark": "quality",
                "model": run.model,
                "makespan_s": round(run.makespan_s, 1),
                "output_tokens": int(run.calls["output_tokens"].sum()),
                "mean": means,
                "rows": rows,
            }
        )
    )


if __name__ == "__main__":
    main()
