"""What the toolkit itself costs: 10,000 short scripted episodes, in a process of their own.

Prints a table and, last, one JSON line. Time is the whole run's divided by the episodes, frames included.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import toolkit as tk

EPISODES = 10_000


def main() -> None:
    rows = []
    for width in (1, 4, 16):
        episodes = (
            tk.Episode.from_text(f"episode-{i}", f"Hill {i} has a spring. It never dries, even in August.")
            for i in range(EPISODES)
        )
        config = tk.Config(provider="scripted", summary_batch_size=width, summary_chunk_parallelism=1)
        began = time.perf_counter()
        run = tk.run(episodes, config, progress=False)
        assert len(run.episodes) == len(run.calls) == EPISODES
        seconds = time.perf_counter() - began
        # ru_maxrss is in KiB on Linux and in bytes on macOS.
        unit = 1 if sys.platform == "darwin" else 1024
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
        rows.append({"width": width, "ms_per_episode": 1000 * seconds / EPISODES, "peak_rss_mb": peak_mb})
        print(f"{width:3} at a time: {rows[-1]['ms_per_episode']:.3f} ms an episode, peak {peak_mb:.0f} MB")
    print(json.dumps({"benchmark": "workflow", "episodes": EPISODES, "rows": rows}))


if __name__ == "__main__":
    main()
