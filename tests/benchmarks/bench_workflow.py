"""What the toolkit itself costs: 10,000 short scripted episodes, kept in SQLite, and all of them taken again.

Prints a table and, last, one JSON line. Time is the whole run's divided by the episodes, frames included.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from typing import Any

import toolkit as tk

EPISODES = 10_000


def measure(folder: str, width: int, reuse: str) -> dict[str, Any]:
    episodes = (
        tk.Episode.from_text(f"episode-{i}", f"Hill {i} has a spring. It never dries, even in August.")
        for i in range(EPISODES)
    )
    config = tk.Config(
        provider="scripted",
        store_url=f"sqlite:///{folder}/runs.db",
        summary_batch_size=width,
        summary_chunk_parallelism=1,
        reuse=reuse,
    )
    began = time.perf_counter()
    run = tk.run(episodes, config, progress=False)
    assert len(run.episodes) == len(run.calls) == EPISODES
    assert run.reused.calls == (EPISODES if reuse == "all" else 0)
    seconds = time.perf_counter() - began
    # ru_maxrss is in KiB on Linux and in bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "width": width,
        "reuse": reuse,
        "ms_per_episode": 1000 * seconds / EPISODES,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6,
    }


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for width, reuse in ((1, "none"), (4, "none"), (16, "none"), (16, "all")):
            row = measure(folder, width, reuse)
            rows.append(row)
            name = f"{width:3} at a time{', taken again' if reuse == 'all' else ''}"
            print(f"{name}: {row['ms_per_episode']:.3f} ms an episode, peak {row['peak_rss_mb']:.0f} MB")
    print(json.dumps({"benchmark": "workflow", "episodes": EPISODES, "rows": rows}))


if __name__ == "__main__":
    main()
