"""Whether ``tune`` finds a setting as good as the best of all, by really running a tenth of them.

200 settings (episodes at a time x requests of one at a time x slots x length of a chunk) of twelve episodes
at a loopback server in a process of its own, with service times that vary. First ``tune`` looks for the
fastest. Then every setting is measured in full, once, and the fastest of those is taken for the best. Both
are measured five times more, by turns, and it is these means that are compared: the best of 200 single
measurements was partly lucky.

Prints a table and, last, one JSON line: settings really run and their share, seconds of both settings with
their spread, how much slower the one that ``tune`` found is, and what each way took. ``--brief`` takes 24
settings. The script chooses texts, service times and a quota that leaves the slots and the two levels of
parallelism to bind. With ``--hidden-cap 6`` the server refuses more than six at a time and tells nobody: a
simulation knows it only from runs that met it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import toolkit as tk
from toolkit.sweeps.cells import write_knobs
from toolkit.testing import ApiServer

OVER: dict[str, list[Any]] = {
    "summary_batch_size": [3, 4, 6, 8, 12],
    "summary_chunk_parallelism": [1, 2, 3, 4],
    "openai_max_concurrent_requests": [3, 4, 5, 6, 8],
    "chunk_tokens": [150, 400],
}
BRIEF: dict[str, list[Any]] = {
    "summary_batch_size": [3, 6, 12],
    "summary_chunk_parallelism": [1, 4],
    "openai_max_concurrent_requests": [4, 8],
    "chunk_tokens": [150, 400],
}
AGAIN = 5
LATENCY = (0.11, 0.00002, 0.0005, 0.15)
PER_MINUTE = 6000


def episodes() -> list[tk.Episode]:
    """Twelve episodes of 190 to 400 words."""
    line = "The spring on hill {} of the old road never dries, said the keeper in the year {}."
    return [
        tk.Episode.from_text(f"e{n}", "\n".join(line.format(n, year) for year in range(11 + n)))
        for n in range(12)
    ]


def measure_again(
    texts: list[tk.Episode], config: tk.Config, settings: list[dict[str, Any]]
) -> list[list[float]]:
    """Return the seconds of each setting, ``AGAIN`` times, by turns in a shuffled order."""
    study = tk.sweep(texts, config, cells=settings, repeats=AGAIN, name="again", score=False, progress=False)
    return [
        study.cells.loc[study.cells["cell"] == number, "makespan_s"].tolist()
        for number in range(1, len(settings) + 1)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--brief", action="store_true", help="24 settings")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--hidden-cap",
        type=int,
        metavar="N",
        help="the server refuses more than N at a time and tells nobody",
    )
    chosen = parser.parse_args()
    over, texts = BRIEF if chosen.brief else OVER, episodes()
    with ApiServer.spawn(
        requests_per_minute=PER_MINUTE,
        tokens_per_minute=10**8,
        latency=LATENCY,
        reply_words=30,
        max_concurrent=chosen.hidden_cap,
        seed=chosen.seed,
    ) as server:
        config = tk.Config(
            provider="openai",
            model="loopback",
            openai_base_url=server.base_url,
            openai_requests_per_minute=PER_MINUTE,
            openai_tokens_per_minute=10**8,
            limits_url="memory://",
            store_url="memory://",
        )
        began = time.perf_counter()
        best = tk.tune(texts, config, over, seed=chosen.seed, progress=False)
        tune_s = time.perf_counter() - began
        print(best)
        shown = best.evidence[best.evidence["runs"] > 0].drop(columns="dropped")
        print(shown.to_string(index=False, na_rep="-", float_format="{:.0f}".format))
        began = time.perf_counter()
        whole = tk.sweep(texts, config, over, score=False, progress=False)
        whole_s = time.perf_counter() - began
        fastest = whole.best("makespan_s")
        names = list(over)
        first, second = dict(best.knobs), {name: fastest[name] for name in names}
        if first == second:
            (mine,) = measure_again(texts, config, [first])
            theirs = mine
        else:
            mine, theirs = measure_again(texts, config, [first, second])
    slowest = float(whole.cells["makespan_s"].max())
    found = whole.cells.merge(best.evidence[[*names, "best"]], on=names).query("best")
    rank = int((whole.cells["makespan_s"] < found["makespan_s"].iloc[0]).sum()) + 1
    print(f"\n{'':8} {'seconds':>8} {'spread':>7}  setting")
    for name, seconds, knobs in (("tune", mine, first), ("in full", theirs, second)):
        spread = statistics.stdev(seconds) / statistics.mean(seconds)
        print(f"{name:8} {statistics.mean(seconds):8.3f} {spread:7.1%}  {write_knobs(knobs)}")
    slower = statistics.mean(mine) / statistics.mean(theirs) - 1
    print(
        f"\n{best.really_run} of {best.settings} settings really run; tune took {tune_s:.0f} s, all settings "
        f"{whole_s:.0f} s; what tune found is number {rank} of all, and {slower:+.1%} as long"
    )
    result = {
        "benchmark": "tune",
        "hidden_cap": chosen.hidden_cap,
        "settings": best.settings,
        "really_run": best.really_run,
        "share": round(best.really_run / best.settings, 3),
        "slower": round(slower, 4),
        "within_5_percent": slower <= 0.05,
        "tune_s": round(statistics.mean(mine), 4),
        "best_s": round(statistics.mean(theirs), 4),
        "spread": round(statistics.stdev(mine) / statistics.mean(mine), 4),
        "slowest_s": round(slowest, 2),
        "rank": rank,
        "tuning_took_s": round(tune_s, 1),
        "all_took_s": round(whole_s, 1),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
