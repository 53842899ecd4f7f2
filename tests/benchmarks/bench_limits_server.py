"""What limits in a database cost: transactions a second, and what each call waits for them.

So many worker processes, each with 8 threads, make so many calls a second between them, under limits that
nobody reaches. Each call takes a lease, does nothing for some milliseconds, and ends it as the workflow does.
The same with limits in the memory of each process says what the call costs anyway. Transactions are the
server's own count, with those of the sign of life.

Prints a table and, last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "shared"))

THREADS = 8
SERVICE_S = 0.005
WARM_S = 2.0


def work(url: str, rate: float, seconds: float) -> None:
    """Be a worker: make calls at a rate, and print what each waited."""
    from toolkit.limits import Demand, LimitSettings, limiter_for, open_state
    from toolkit.records import Usage

    settings = LimitSettings(requests_per_minute=10_000_000, tokens_per_minute=10_000_000_000)
    limiter = limiter_for("bench", settings, open_state(url), wait_s=10)
    waits: list[float] = []
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.perf_counter()
    turn, lock = [0], threading.Lock()

    def call() -> None:
        while True:
            with lock:
                due = began + turn[0] / rate
                turn[0] += 1
            if due - began > WARM_S + seconds:
                return
            time.sleep(max(0.0, due - time.perf_counter()))
            asked = time.perf_counter()
            lease = limiter.acquire(Demand(300, 100)).lease
            admitted = time.perf_counter()
            time.sleep(SERVICE_S)
            ends = time.perf_counter()
            limiter.settle(lease, Usage(300, 60), wait=False)
            if due - began > WARM_S:
                waits.append(admitted - asked + time.perf_counter() - ends)

    with ThreadPoolExecutor(THREADS) as pool:
        for _ in range(THREADS):
            pool.submit(call)
    print(json.dumps([round(wait * 1e3, 4) for wait in waits]), flush=True)


def measure(url: str, workers: int, rate: float, seconds: float, count: Any) -> dict[str, float]:
    """Let workers work; return what their calls waited, and the transactions of the measured time."""
    told = ["--worker", url, "--rate", str(rate / workers), "--seconds", str(seconds)]
    running = [
        subprocess.Popen(
            [sys.executable, __file__, *told], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(workers)
    ]
    for process in running:
        assert process.stdout is not None
        process.stdout.readline()
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    time.sleep(WARM_S)
    before = count()
    time.sleep(seconds)
    transactions = count() - before
    waits: list[float] = []
    for process in running:
        output, _ = process.communicate(timeout=60)
        waits += json.loads(output.splitlines()[-1])
    return {
        "calls_per_s": round(len(waits) / seconds, 1),
        "transactions_per_s": round(transactions / seconds, 1),
        "mean_ms": round(statistics.fmean(waits), 3),
        "median_ms": round(statistics.median(waits), 3),
        "p99_ms": round(statistics.quantiles(waits, n=100)[98], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rate", type=float, default=500.0, help="calls a second, of all workers together")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.worker:
        work(chosen.worker, chosen.rate, chosen.seconds)
        return
    from postgresql_server import postgresql_server

    found: dict[str, list[dict[str, float]]] = {"memory": [], "postgresql": []}
    with postgresql_server() as server:
        database = server.database("template1")

        def transactions() -> int:
            query = f"SELECT xact_commit + xact_rollback FROM pg_stat_database WHERE datname = '{database}'"
            return int(server.run(query)[0][0])

        urls = {"memory": "memory://", "postgresql": server.url(database)}
        for _ in range(chosen.rounds):
            for name, url in urls.items():
                found[name].append(measure(url, chosen.workers, chosen.rate, chosen.seconds, transactions))
    medians = {
        name: {figure: statistics.median(item[figure] for item in items) for figure in items[0]}
        for name, items in found.items()
    }
    print(f"\n{chosen.workers} workers, {chosen.rate:g} calls/s asked for, medians of {chosen.rounds}")
    print(f"{'':12}" + "".join(f"{figure:>20}" for figure in medians["memory"]))
    for name, figures in medians.items():
        print(f"{name:12}" + "".join(f"{value:20.3f}" for value in figures.values()))
    overhead_ms = medians["postgresql"]["mean_ms"] - medians["memory"]["mean_ms"]
    print(f"beyond the limiter of one process: {overhead_ms:.3f} ms a call")
    print(
        json.dumps({"benchmark": "limits_server", "overhead_ms": round(overhead_ms, 3), "medians": medians})
    )


if __name__ == "__main__":
    main()
