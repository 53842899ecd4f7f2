"""What the limiter itself costs, and how late it is in real time.

Prints a table and, last, one JSON line. The cost is that of one ``acquire`` and one ``settle`` that wait for
nothing; lateness is measured with limits a hundred times those of a small account.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from toolkit.limits import Demand, Lease, Limiter, LimiterCore, LimitSettings, MemoryState, SqliteState
from toolkit.records import Usage

OPEN = LimitSettings(requests_per_minute=10**9, tokens_per_minute=10**12, max_concurrent=64)
DEMAND, USAGE = Demand(900, 256, 4000), Usage(900, 120)
THREADS = 32


def best_us(work: Callable[[], None], count: int, repeats: int = 5) -> float:
    """Return the microseconds of one of ``count``, in the fastest of some repeats."""
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        for _ in range(count):
            work()
        seconds.append(time.perf_counter() - began)
    return min(seconds) / count * 1e6


def core_us() -> float:
    core, now = LimiterCore("key", OPEN), time.time()

    def once() -> None:
        nonlocal now
        now += 0.001
        lease = core.try_reserve(now, DEMAND)
        assert isinstance(lease, Lease)
        core.settle(now, lease, USAGE)

    return best_us(once, 20_000)


def limiter_us(limiter: Limiter, count: int) -> float:
    def once() -> None:
        limiter.settle(limiter.acquire(DEMAND).lease, USAGE)

    return best_us(once, count)


def threads_us(limiter: Limiter, count: int) -> float:
    """Return the microseconds of one, with all threads at it together."""

    def work() -> None:
        for _ in range(count // THREADS):
            limiter.settle(limiter.acquire(DEMAND).lease, USAGE)

    def all_together() -> None:
        threads = [threading.Thread(target=work) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return best_us(all_together, 1, repeats=3) / (count // THREADS * THREADS)


def lateness_ms() -> tuple[float, float]:
    """Return median and 99th percentile of how late admissions of a saturated bucket are."""
    settings = LimitSettings(requests_per_minute=50 * 100, tokens_per_minute=100_000 * 100)
    limiter = Limiter("key", settings, MemoryState())
    limiter.acquire(Demand(10_000_000))
    began = limiter.events()[-1].t_s
    total, count = 0, 400
    late = []
    admitted = threading.Lock()

    def work() -> None:
        nonlocal total
        for _ in range(count // 8):
            lease = limiter.acquire(Demand(1000)).lease
            with admitted:
                late.append(lease.admitted_at)
            limiter.settle(lease, Usage(1000, 0))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = 10_000_000 / 60
    lags = sorted(at - began - 1000 * (place + 1) / rate for place, at in enumerate(sorted(late)))
    return 1000 * median(lags), 1000 * lags[int(0.99 * len(lags))]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        state = SqliteState(Path(folder) / "limits.db")
        rows = {
            "core_us": core_us(),
            "memory_us": limiter_us(Limiter("key", OPEN, MemoryState()), 10_000),
            "sqlite_us": limiter_us(Limiter("key", OPEN, state), 1000),
            "memory_32_threads_us": threads_us(Limiter("key", OPEN, MemoryState()), 20_000),
        }
        state.close()
    rows["memory_32_threads_ratio"] = rows["memory_32_threads_us"] / rows["memory_us"]
    rows["late_median_ms"], rows["late_p99_ms"] = lateness_ms()
    for name, value in rows.items():
        print(f"{name:26} {value:9.2f}")
    print(json.dumps({"benchmark": "limiter", **{name: round(value, 3) for name, value in rows.items()}}))


if __name__ == "__main__":
    main()
