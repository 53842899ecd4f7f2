"""How long a large run takes to simulate: 100,000 episodes of one call each at 30,000 requests a minute.

Each size is measured in a process of its own, from the call of ``simulate`` to the last of the run's four
frames. Prints a table and, last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

import toolkit as tk

TOKENS = 1200
LATENCY = tk.LatencyModel(
    base_s=0.3,
    per_input_token_s=1e-4,
    per_output_token_s=0.006,
    spread=0.3,
    output_tokens={"direct": [80, 160, 240]},
)


def one(episodes: int) -> dict[str, object]:
    """Simulate once, here, and return the figures."""
    config = tk.Config(
        provider="openai",
        model="gpt-4o-mini",
        openai_requests_per_minute=30_000,
        openai_tokens_per_minute=150_000_000,
        openai_max_concurrent_requests=2000,
        summary_batch_size=1024,
    )
    # The first one loads pandas and a vocabulary, which takes a second whatever the size.
    _ = tk.simulate([TOKENS] * 10, config, latency=LATENCY).calls
    began, worked = time.perf_counter(), time.process_time()
    run = tk.simulate([TOKENS] * episodes, config, latency=LATENCY)
    simulated = time.perf_counter()
    rows = {name: len(getattr(run, name)) for name in ("episodes", "calls", "attempts", "limits")}
    ended, worked = time.perf_counter(), time.process_time() - worked
    assert run.counts() == {"ok": episodes}
    assert rows["calls"] == episodes
    return {
        "episodes": episodes,
        "seconds": round(ended - began, 2),
        "processor_s": round(worked, 2),
        "simulate_s": round(simulated - began, 2),
        "frames_s": round(ended - simulated, 2),
        # Linux counts in KiB, macOS in bytes.
        "peak_rss_mb": round(
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            / (2**20 if sys.platform == "darwin" else 2**10)
        ),
        "makespan_s": round(run.makespan_s, 3),
        "rows": rows,
    }


def child(episodes: int) -> dict[str, object]:
    command = [sys.executable, __file__, "--only", str(episodes)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ})
    result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--episodes", type=int, default=100_000, help="of the large run; the small has a tenth"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", type=int, help="one size, in this process")
    chosen = parser.parse_args()
    if chosen.only:
        print(json.dumps(one(chosen.only)))
        return
    small, large = [], []
    print(f"{'episodes':>9} {'seconds':>8} {'simulate':>9} {'frames':>7} {'peak MB':>8} {'makespan s':>11}")
    for _ in range(chosen.rounds):
        for rows, size in ((small, chosen.episodes // 10), (large, chosen.episodes)):
            row = child(size)
            rows.append(row)
            print(
                f"{size:9} {row['seconds']:8.1f} {row['simulate_s']:9.1f} {row['frames_s']:7.1f} "
                f"{row['peak_rss_mb']:8} {row['makespan_s']:11.1f}"
            )
    seconds = {
        rows[0]["episodes"]: statistics.median(row["seconds"] for row in rows) for rows in (small, large)
    }
    ratios = {
        name: round(statistics.median(b[name] / a[name] for a, b in zip(small, large, strict=True)), 2)
        for name in ("seconds", "processor_s")
    }
    print(
        json.dumps(
            {
                "benchmark": "simulation",
                "seconds": seconds,
                "peak_rss_mb": max(row["peak_rss_mb"] for row in large),
                "ratio": ratios["seconds"],
                "ratio_of_processor_s": ratios["processor_s"],
                "load_average": [round(load, 2) for load in os.getloadavg()],
                "rounds": [*small, *large],
            }
        )
    )


if __name__ == "__main__":
    main()
