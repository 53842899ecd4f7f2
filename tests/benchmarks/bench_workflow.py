"""What the toolkit itself costs: 10,000 short scripted episodes, kept in SQLite, and all of them taken again.

Prints a table and, last, one JSON line. Time is the whole run's divided by the episodes, frames included.
"""

from __future__ import annotations

import json
import resource
import shutil
import sys
import tempfile
import time

import toolkit as tk

EPISODES = 10_000


def main() -> None:
    rows = []
    folder = tempfile.mkdtemp()
    for width, reuse in ((1, "none"), (4, "none"), (16, "none"), (16, "all")):
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
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
        row = {"width": width, "ms_per_episode": 1000 * seconds / EPISODES, "peak_rss_mb": peak_mb}
        rows.append(row | {"taken_again": reuse == "all"})
        again = ", taken again" if reuse == "all" else ""
        print(f"{width:3} at a time{again}: {row['ms_per_episode']:.3f} ms an episode, peak {peak_mb:.0f} MB")
    shutil.rmtree(folder)
    print(json.dumps({"benchmark": "workflow", "episodes": EPISODES, "rows": rows}))


if __name__ == "__main__":
    main()
