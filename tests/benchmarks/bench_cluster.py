"""Episodes on a Dask cluster of this machine: quota, losses, a database that is away, scaling, the driver.

Workers are processes of a ``LocalCluster``, the server of the API is a process of its own, and limits and
runs are in one real PostgreSQL. Parts:

1. ``quota``: 600 requests and 60,000 tokens a minute, calls of which more wait than may go, with 4 workers of
   8 threads; ``share`` is the server's own figure, see ``bench_quota.py``.
2. ``kills``: the same, with a worker joining and two of them killed (SIGKILL) in the middle.
3. ``away``: the same, with the database stopped for ten seconds in the middle.
4. ``scaling``: 1, 2, 4 workers of 8 threads on calls of a second without limits that bind.
5. ``driver``: the most memory of the driver's process over very many scripted episodes.

Prints tables and, last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))

import toolkit as tk
from toolkit.testing import ApiServer

REQUESTS, TOKENS = 600, 60_000
THREADS = 8
CAP = 32
LAWS = {
    "openai": "openai",
    "azure": "azure",
    "anthropic": "anthropic",
    "sliding": "requests:sliding, tokens:sliding",
    "fixed": "requests:fixed, tokens:fixed",
}
WORDS = [
    "experimentally",
    "notwithstanding",
    "archaeological",
    "correspondence",
    "unaccompanied",
    "straightforward",
]


@contextmanager
def cluster_of(workers: int, threads: int = THREADS) -> Iterator[Any]:
    """Start worker processes, and a client that is the default."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=threads, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        client.wait_for_workers(workers)
        yield cluster


def stream(stop: threading.Event, seed: int = 1) -> Iterator[tk.Episode]:
    """Yield episodes of one call each until it is time to stop."""
    rng = random.Random(seed)
    number = 0
    while not stop.is_set():
        number += 1
        words = " ".join(rng.choices(WORDS, k=rng.randint(10, 130)))
        yield tk.Episode.from_text(f"e{number}", f"{words}.")


def limited(law: str, seconds: float, url: str, disturb: Any = None, workers: int = 4) -> dict[str, Any]:
    """Run episodes for a time against a server with limits; ``disturb`` is called with the cluster."""
    anthropic = law == "anthropic"
    numbers: dict[str, Any] = (
        {"input_tokens_per_minute": TOKENS, "output_tokens_per_minute": TOKENS // 4}
        if anthropic
        else {"tokens_per_minute": TOKENS, "charge": "sum"}
    )
    with (
        cluster_of(workers) as cluster,
        ApiServer.spawn(
            law, requests_per_minute=REQUESTS, **numbers, latency=(0.3, 0, 0.005, 0.3), reply_words=5
        ) as server,
    ):
        prefix = "anthropic" if anthropic else "openai"
        known = {f"{prefix}_{name}": number for name, number in numbers.items() if name != "charge"}
        config = tk.Config(
            provider=prefix,
            model="claude-haiku-4-5" if anthropic else "loopback",
            **{f"{prefix}_base_url": server.anthropic_url if anthropic else server.base_url},
            **known,
            **{f"{prefix}_requests_per_minute": REQUESTS, f"{prefix}_max_concurrent_requests": 64},
            limits_law=LAWS[law],
            limits_url=url,
            store_url=url,
            episode_backend="dask",
            summary_batch_size=workers * THREADS,
            summary_max_tokens=CAP,
            context_tokens=8192,
            system_prompt="",
            direct_prompt="{text}",
            retry_total_s=3600,
            reuse="none",
        )
        if law in ("azure", "fixed"):  # whole windows only: half a one is not the limiter's loss
            time.sleep(60 - time.time() % 60 + 0.05)
        stop = threading.Event()
        # The workers are told within some two seconds, which is to be before a window begins.
        timers = [threading.Timer(seconds - 5, stop.set)]
        if disturb is not None:
            timers.append(threading.Timer(seconds / 3, disturb, [cluster]))
        for timer in timers:
            timer.daemon = True
            timer.start()
        # What waits at the end would be admitted in a window of its own, and use up little of it.
        run = tk.run(stream(stop), config, progress=False, stop=None if disturb else stop)
        score, answered = server.score(), server.score().admitted
    calls = run.calls
    return {
        "law": law,
        "seconds": round(run.makespan_s, 1),
        "episodes": run.counts(),
        "state": run.state,
        "calls": len(calls),
        "admitted": answered,
        "rate_limited": score.rate_limited,
        "share": round(score.quota_share, 4),
        "own_share": None if run.quota_share is None else round(run.quota_share, 4),
        "workers": len(run.workers),
        # Answers of the server that are in no record: those of calls under way when their worker was lost.
        "lost_answers": answered - int((calls["status"] == "ok").sum()),
        "paid_twice": int(calls.duplicated(["episode_id", "stage", "chunk_index"]).sum()),
    }


def kill_two(cluster: Any) -> None:
    """Have a worker join, and kill two others, as a machine does that loses its power."""
    pids = [worker.process.process.pid for worker in list(cluster.workers.values())[:2]]
    cluster.scale(5)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


def scaling(seconds: float, url: str) -> list[dict[str, Any]]:
    """Measure the calls a second of 1, 2 and 4 workers, each busy with as many as it has threads."""
    rows: list[dict[str, Any]] = []
    for workers in (1, 2, 4):
        with (
            cluster_of(workers),
            ApiServer.spawn(
                requests_per_minute=10**7, tokens_per_minute=10**9, latency=1.0, reply_words=5
            ) as server,
        ):
            config = tk.Config(
                provider="openai",
                model="loopback",
                openai_base_url=server.base_url,
                openai_requests_per_minute=10**7,
                openai_tokens_per_minute=10**9,
                openai_max_concurrent_requests=1024,
                limits_url=url,
                store_url=url,
                episode_backend="dask",
                summary_batch_size=workers * THREADS,
                reuse="none",
            )
            tk.run(list(_some(workers * THREADS)), config, progress=False)  # imports, connections
            episodes = list(_some(round(seconds) * workers * THREADS))
            run = tk.run(episodes, config, progress=False)
        rate = len(run.calls) / run.makespan_s
        rows.append({"workers": workers, "calls_per_s": round(rate, 2), "state": run.state})
    for row in rows:
        row["of_linear"] = round(row["calls_per_s"] / rows[0]["calls_per_s"] / row["workers"], 4)
    return rows


def _some(count: int) -> Iterator[tk.Episode]:
    for number in range(count):
        yield tk.Episode.from_text(f"e{number}", f"Episode {number} speaks of bees and of the weather.")


def driver(count: int) -> dict[str, Any]:
    """Run very many scripted episodes; return the driver's peak memory and how fast it was."""
    with tempfile.TemporaryDirectory() as folder, cluster_of(2, 2):
        config = tk.Config(
            provider="scripted",
            store_url=f"sqlite:///{folder}/runs.db",
            episode_backend="dask",
            summary_batch_size=32,
            reuse="none",
        )
        words = "The guest speaks of bees, of flowers and of the weather. " * 40
        run = tk.run(
            (tk.Episode.from_text(f"e{number}", f"Episode {number}. {words}") for number in range(count)),
            config,
            progress=False,
        )
    return {
        "episodes": len(run.records),
        "state": run.state,
        "driver_peak_mb": None if run.peak_rss_mb is None else round(run.peak_rss_mb),
        "episodes_per_s": round(count / run.makespan_s, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", default="quota,kills,away,scaling,driver")
    parser.add_argument("--laws", default=",".join(LAWS))
    parser.add_argument("--seconds", type=float, default=120.0, help="of each run against limits")
    parser.add_argument("--episodes", type=int, default=100_000, help="of the part driver")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    parts = chosen.parts.split(",")
    # Of workers that are killed Dask's own sockets and loops are left to the garbage collector.
    warnings.filterwarnings("ignore", category=ResourceWarning)
    from postgresql_server import postgresql_server

    found: dict[str, Any] = {"benchmark": "cluster"}
    with postgresql_server() as server:

        def away(cluster: Any) -> None:
            server.stop("immediate")
            time.sleep(10.0)
            server.start()

        def fresh() -> str:
            return server.url(server.database())

        if "quota" in parts:
            found["quota"] = [limited(law, chosen.seconds, fresh()) for law in chosen.laws.split(",")]
            _table("4 workers, one limit", found["quota"])
        if "kills" in parts:
            found["kills"] = limited("openai", chosen.seconds, fresh(), kill_two)
            _table("one joins, two are killed", [found["kills"]])
        if "away" in parts:
            found["away"] = limited("openai", chosen.seconds, fresh(), away)
            _table("the database is away for 10 s", [found["away"]])
        if "scaling" in parts:
            found["scaling"] = scaling(chosen.seconds / 6, fresh())
            _table("calls of a second, 8 threads a worker", found["scaling"])
    if "driver" in parts:
        found["driver"] = driver(chosen.episodes) if chosen.here else _apart(chosen.episodes)
        _table("the driver", [found["driver"]])
    print(json.dumps(found))


def _apart(episodes: int) -> dict[str, Any]:
    """Have the part ``driver`` done by a process that has done nothing before: what it takes is measured."""
    told = ["--parts", "driver", "--episodes", str(episodes), "--here"]
    done = subprocess.run([sys.executable, __file__, *told], stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])["driver"]
    return found


def _table(title: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{title}")
    widths = {name: max(len(name), *(len(str(row[name])) for row in rows)) for name in rows[0]}
    print("  ".join(f"{name:>{width}}" for name, width in widths.items()))
    for row in rows:
        print("  ".join(f"{row[name]!s:>{width}}" for name, width in widths.items()), flush=True)


if __name__ == "__main__":
    main()
