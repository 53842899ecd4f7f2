"""What opening a full store costs: 1,000 runs of 1,000 calls, listed, and one of them read whole.

Builds an SQLite store in a temporary folder, then reads it in a new process, imports included. Prints a table
and, last, one JSON line. The bound is 2 s and 500 MB together; ``--runs 200`` is quicker to build.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
BOUND_S, BOUND_MB = 2.0, 500.0
CALLS_PER_EPISODE = 10
WORDS = ["the", "tide", "mill", "turns", "at", "night", "while", "bees", "dance", "libraries", "of", "seed"]
READ = """
import json, resource, sys, time
began = time.perf_counter()
steps = {}
def step(name):
    global began
    now = time.perf_counter()
    steps[name], began = now - began, now
import toolkit as tk
archive = tk.open_store(sys.argv[1])
step("import and open")
runs = archive.runs()
step("list the runs")
run = archive.run(runs["run_id"].iloc[len(runs) // 2])
step("load one run")
frames = [run.episodes, run.calls, run.attempts, run.limits, archive.compare(*runs["run_id"].iloc[-2:])]
step("make its frames")
scale = 1 if sys.platform == "darwin" else 1024
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 1e6
print(json.dumps({"steps": steps, "peak_mb": peak, "runs": len(runs), "rows": [len(f) for f in frames]}))
"""


def calls_of(run: int, calls: int, rng: random.Random, text: str) -> list[dict[str, Any]]:
    """Make the rows of a run's calls."""
    return [
        {
            "run_id": f"{run:012x}",
            "call_id": f"{run:06x}{n // CALLS_PER_EPISODE:06x}-{n % CALLS_PER_EPISODE}",
            "episode_id": f"episode-{n // CALLS_PER_EPISODE:04}",
            "stage": "reduce" if n % CALLS_PER_EPISODE == CALLS_PER_EPISODE - 1 else "map",
            "chunk_index": n % CALLS_PER_EPISODE,
            "provider": "openai",
            "model": "gpt-5.6-luna",
            "status": "ok",
            "stop_reason": "stop",
            "reused": False,
            "started_at": 1.7e9 + 1000 * run + n + rng.random(),
            "queue_s": 0.0,
            "wait_requests_s": rng.random(),
            "wait_tokens_s": rng.random(),
            "wait_slots_s": 0.0,
            "wait_cooldown_s": 0.0,
            "retry_wait_s": 0.0,
            "failed_attempts_s": 0.0,
            "service_s": rng.random(),
            "overhead_s": 0.001,
            "total_s": 3 * rng.random(),
            "input_tokens": rng.randrange(500, 1500),
            "output_tokens": rng.randrange(50, 150),
            "cached_tokens": 0,
            "token_counter": "server",
            "cost_usd": rng.random() / 1000,
            "worker": "ThreadPoolExecutor-0_0",
            "key": f"{rng.getrandbits(128):032x}",
            "text": text,
        }
        for n in range(calls)
    ]


def build(url: str, runs: int, calls: int) -> None:
    """Fill a store, a transaction a run."""
    from toolkit.config import Config
    from toolkit.limits import LimitEvent
    from toolkit.store import schema
    from toolkit.store.address import read_address
    from toolkit.store.store import Store, pack_events

    store = Store(read_address(url))
    rng = random.Random(7)
    config = json.dumps(Config(provider="openai", openai_api_key="none").shown())
    totals = {"episodes": calls // CALLS_PER_EPISODE, "ok": calls // CALLS_PER_EPISODE, "calls": calls}
    events = pack_events(
        LimitEvent(1.7e9 + n / 7, "api.example 1234", "admitted", n % 50, n, 3, 5, 8, 50, 100_000, 9, 9, n)
        for n in range(2 * calls)
    )  # fmt: skip
    for run in range(runs):
        text = " ".join(rng.choices(WORDS, k=130))[:600]
        made = calls_of(run, calls, rng, text)
        run_id = f"{run:012x}"
        # Some were killed: their totals have to be counted.
        ended = {} if run % 100 == 99 else {
            "ended_at": 1.7e9, "complete": True, "interrupted": False, "makespan_s": 900.5,
            "limits_began_at": 1.7e9, "quota_shares": '{"tokens": 0.97}', "totals": json.dumps(totals),
        }  # fmt: skip
        row = {
            "id": run_id, "scope": run_id, "provider": "openai", "model": "gpt-5.6-luna", "config": config,
            "environment": "{}", "reuse": "all", "repeat": 1, "holder": "1/0/another boot/here",
            "started_at": 1.7e9 + 1000 * run, "episodes_given": calls // CALLS_PER_EPISODE, **ended,
        }  # fmt: skip
        episodes = [
            {
                "run_id": run_id, "position": n, "episode_id": f"episode-{n:04}", "title": f"Episode {n}",
                "words": 9000, "started_at": 1.7e9 + 1000 * run, "total_s": 9.5, "status": "ok", "chunks": 9,
                "key": f"{rng.getrandbits(128):032x}", "text": text,
            }
            for n in range(calls // CALLS_PER_EPISODE)
        ]  # fmt: skip
        attempts = [
            {
                "run_id": run_id,
                "call_id": call["call_id"],
                "attempt": 1,
                "service_s": 1.5,
                "paid_unknown": False,
            }
            for call in made
        ]
        store.commit(
            {
                schema.runs: [row],
                schema.episodes: episodes,
                schema.calls: made,
                schema.attempts: attempts,
                schema.limits: [{"run_id": run_id, "part": 0, "events": events}],
            }
        )
    store.close()


def main() -> None:
    """Build, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=1000, help="of each run")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.db"
        url = f"sqlite:///{path}"
        began = time.perf_counter()
        build(url, given.runs, given.calls)
        built_s = time.perf_counter() - began
        store_mb = path.stat().st_size / 1e6
        print(f"built {given.runs} runs of {given.calls} calls in {built_s:.0f} s: {store_mb:.0f} MB")
        done = subprocess.run(
            [sys.executable, "-c", READ, url], check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        found = json.loads(done.stdout.splitlines()[-1])
    total_s = sum(found["steps"].values())
    for name, seconds in found["steps"].items():
        print(f"{name:20} {seconds:7.3f} s")
    print(f"{'together':20} {total_s:7.3f} s of {BOUND_S}, {found['peak_mb']:.0f} MB of {BOUND_MB:.0f}")
    print(
        json.dumps(
            {
                "benchmark": "archive",
                "runs": given.runs,
                "calls": given.calls,
                "store_mb": round(store_mb),
                "steps_s": {name: round(seconds, 3) for name, seconds in found["steps"].items()},
                "total_s": round(total_s, 3),
                "peak_mb": round(found["peak_mb"]),
                "within_bound": total_s <= BOUND_S and found["peak_mb"] <= BOUND_MB,
            }
        )
    )


if __name__ == "__main__":
    main()
