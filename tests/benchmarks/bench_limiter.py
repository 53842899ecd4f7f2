"""What the limiter itself costs, and how late it is in real time.

Prints a table and, last, one JSON line. The cost is that of one ``acquire`` and one ``settle`` that wait for
nothing; lateness is measured with limits a hundred times those of a small account. Where token-throttle
(Python 3.12 and later) and pyrate-limiter are installed, they are measured beside it: the one reserves and
refunds as ours does, the other knows one weight and nothing to give back.
"""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
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


def others_us(folder: Path) -> dict[str, float]:
    """Return the microseconds of one reserve and settle of other libraries, as far as they are installed."""
    rows = {}
    with suppress(ImportError):
        from token_throttle import (
            PerModelConfig,
            Quota,
            SyncMemoryBackendBuilder,
            SyncRateLimiter,
            SyncSqliteBackendBuilder,
            UsageQuotas,
        )

        quotas = UsageQuotas(
            [
                Quota(metric="requests", limit=10**9, per_seconds=60),
                Quota(metric="tokens", limit=10**12, per_seconds=60),
            ]
        )
        backends = {
            "token_throttle_memory_us": SyncMemoryBackendBuilder(),
            "token_throttle_sqlite_us": SyncSqliteBackendBuilder(folder / "throttle.db", key_prefix="bench"),
        }
        for name, backend in backends.items():
            theirs = SyncRateLimiter(PerModelConfig(quotas=quotas), backend=backend)

            def once(theirs: SyncRateLimiter = theirs) -> None:
                reservation = theirs.acquire_capacity(model="m", usage={"requests": 1, "tokens": 1156})
                theirs.refund_capacity({"requests": 1, "tokens": 1020}, reservation)

            rows[name] = best_us(once, 500, repeats=3)
    with suppress(ImportError):
        from pyrate_limiter import Duration, Rate
        from pyrate_limiter import Limiter as Pyrate

        pyrate = Pyrate(Rate(10**9, Duration.MINUTE))
        rows["pyrate_limiter_memory_us"] = best_us(lambda: pyrate.try_acquire("m"), 1000, repeats=3)
    return rows


def lateness_ms() -> tuple[float, float]:
    """Return median and 99th percentile of how late admissions of a saturated bucket are."""
    settings = LimitSettings(requests_per_minute=50 * 100, tokens_per_minute=100_000 * 100)
    limiter = Limiter("key", settings, MemoryState())
    limiter.settle(limiter.acquire(Demand(10_000_000)).lease)
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
        rows |= others_us(Path(folder))
    rows["memory_32_threads_ratio"] = rows["memory_32_threads_us"] / rows["memory_us"]
    rows["late_median_ms"], rows["late_p99_ms"] = lateness_ms()
    for name, value in rows.items():
        print(f"{name:26} {value:9.2f}")
    print(json.dumps({"benchmark": "limiter", **{name: round(value, 3) for name, value in rows.items()}}))


if __name__ == "__main__":
    main()
