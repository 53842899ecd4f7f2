"""A run that is killed again and again, and started again: what is lost, and what is paid for twice.

40 episodes of six chunks each (280 calls with their reductions) go to a server in a process of its own that
takes two seconds a call and refuses nothing; four calls are in flight at a time. The run is a process that is
killed (SIGKILL) at a random moment after it has committed its first call, ``--kills`` times in a row; then a
last start comes to its end. Limits and store are SQLite files.

The server's journal says what was paid for, the database what was kept. Which request of the journal is which
call is found out at the end: the same episodes are asked for once more, one call after the other, of a second
server without latency, whose journal has the same hashes of the same bodies in the order of the calls.

Prints a table with a line for each start and, last, one JSON line. The script chooses the seed of the
moments, the latency (``--latency``, so that a short run takes seconds) and the texts.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import toolkit as tk
from toolkit.testing import ApiServer

EPISODES, CHUNKS, IN_FLIGHT = 40, 6, 4
CALLS = EPISODES * (CHUNKS + 1)
LATEST = 1.5
"""Latencies from a start's first commit to its kill, at most: a start gets some seven calls done."""
PATIENCE_S = 120.0


def episodes() -> list[tk.Episode]:
    """Make texts whose every turn fills a chunk."""
    turns = [" ".join([f"Place {n} has a spring."] * 20) for n in range(EPISODES * CHUNKS)]
    return [
        tk.Episode.from_text(f"e{n}", "\n".join(turns[n * CHUNKS : (n + 1) * CHUNKS]))
        for n in range(EPISODES)
    ]


def start(base_url: str, folder: Path, at_a_time: int) -> tk.Run:
    """Run all episodes, or what is left of them."""
    config = tk.Config(
        provider="openai",
        model="loopback",
        openai_base_url=base_url,
        openai_requests_per_minute=10**6,
        openai_tokens_per_minute=10**9,
        openai_max_concurrent_requests=at_a_time,
        summary_batch_size=at_a_time,
        summary_chunk_parallelism=at_a_time,
        chunk_tokens=240,
        summary_max_tokens=200,
        system_prompt="",
        map_prompt="{text}",
        reduce_prompt="{text}",
        limits_url=f"sqlite:///{folder / 'limits.db'}",
        store_url=f"sqlite:///{folder / 'runs.db'}",
    )
    return tk.run(episodes(), config, progress=False)


def ask(path: Path, query: str) -> list[tuple]:
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        return connection.execute(query).fetchall()


def committed(path: Path) -> int:
    try:
        return ask(path, "SELECT count(*) FROM calls WHERE status = 'ok' AND NOT reused")[0][0]
    except sqlite3.OperationalError:  # no tables yet
        return 0


def child(base_url: str, folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--child", base_url, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def kill_one(base_url: str, folder: Path, rng: random.Random, latency: float) -> dict[str, object]:
    """Start the run and kill it at a random moment after its first commit."""
    path = folder / "runs.db"
    before = committed(path) if path.exists() else 0
    process = child(base_url, folder)
    assert process.stdout is not None
    began_at = float(process.stdout.readline())
    until = time.time() + PATIENCE_S
    while not path.exists() or committed(path) == before:
        if process.poll() is not None or time.time() > until:
            raise SystemExit(f"the run did not commit a call; its exit status is {process.poll()}")
        time.sleep(0.01)
    time.sleep(rng.uniform(0, LATEST * latency))
    process.send_signal(signal.SIGKILL)
    status = process.wait()
    process.stdout.close()
    check = ask(path, "PRAGMA integrity_check") + ask(folder / "limits.db", "PRAGMA integrity_check")
    return {
        "began_at": began_at,
        "lived_s": time.time() - began_at,
        "killed": status == -signal.SIGKILL,
        "calls": committed(path) - before,
        "whole": check == [("ok",), ("ok",)],
    }


def hashes() -> dict[tuple[str, str, int | None], str]:
    """Return the hash of each call's body, by episode, stage and chunk."""
    with tempfile.TemporaryDirectory() as folder, ApiServer.spawn(requests_per_minute=10**6) as server:
        start(server.base_url, Path(folder), at_a_time=1)
        bodies = [row.body_hash for row in server.journal()]
        calls = ask(
            Path(folder) / "runs.db", "SELECT episode_id, stage, chunk_index FROM calls ORDER BY number"
        )
    return dict(zip(calls, bodies, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--latency", type=float, default=2.0, help="seconds a call")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--child", nargs=2, metavar=("URL", "FOLDER"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        print(time.time(), flush=True)
        run = start(chosen.child[0], Path(chosen.child[1]), IN_FLIGHT)
        print(json.dumps(run.counts()))
        return

    rng = random.Random(chosen.seed)
    began = time.perf_counter()
    with (
        tempfile.TemporaryDirectory() as name,
        ApiServer.spawn(requests_per_minute=10**6, tokens_per_minute=10**9, latency=chosen.latency) as server,
    ):
        folder = Path(name)
        rows = [kill_one(server.base_url, folder, rng, chosen.latency) for _ in range(chosen.kills)]
        before = committed(folder / "runs.db")
        last = child(server.base_url, folder)
        said = last.communicate()[0].splitlines()
        rows.append({"began_at": float(said[0]), "lived_s": time.time() - float(said[0]), "killed": False})
        rows[-1] |= {"calls": committed(folder / "runs.db") - before, "whole": True}
        counts = json.loads(said[1])
        journal, most_in_flight = server.journal(), server.score().max_in_flight
        made = ask(
            folder / "runs.db",
            "SELECT key, episode_id, stage, chunk_index, started_at + total_s FROM calls "
            "WHERE status = 'ok' AND NOT reused",
        )
    bodies = hashes()
    seconds = time.perf_counter() - began

    committed_at = {bodies[row[1:4]]: row[4] for row in made}
    paid = [row for row in journal if row.paid]
    again = len(paid) - len({row.body_hash for row in paid})
    for number, row in enumerate(rows):
        first = min(seen.arrived for seen in journal if seen.arrived > row["began_at"])
        row["first_call_s"] = first - row["began_at"]
        print(
            f"start {number + 1:3}: {row['calls']:3} calls committed, first asked after "
            f"{row['first_call_s']:.2f} s, {'killed' if row['killed'] else 'ended'} after "
            f"{row['lived_s']:.2f} s{'' if row['whole'] else ', DATABASE DAMAGED'}"
        )
    result = {
        "benchmark": "kills",
        "kills": sum(bool(row["killed"]) for row in rows),
        "latency_s": chosen.latency,
        "episodes": counts,
        "calls": CALLS,
        "committed": len(made),
        "committed_twice": sum(times - 1 for times in Counter(row[0] for row in made).values()),
        "asked_after_commit": sum(
            row.arrived > committed_at.get(row.body_hash, float("inf")) for row in journal
        ),
        "unknown_requests": sum(row.body_hash not in committed_at for row in journal),
        "paid": len(paid),
        "paid_again": again,
        "paid_again_at_most": IN_FLIGHT * chosen.kills,
        "max_in_flight": most_in_flight,
        "damaged": sum(not row["whole"] for row in rows),
        "longest_first_call_s": round(max(row["first_call_s"] for row in rows), 3),
        "seconds": round(seconds, 1),
    }
    result["all_right"] = (
        counts == {"ok": EPISODES}
        and result["kills"] == chosen.kills
        and len(made) == CALLS
        and again <= IN_FLIGHT * chosen.kills
        and not any(
            result[name] for name in ("committed_twice", "asked_after_commit", "unknown_requests", "damaged")
        )
    )
    print(json.dumps(result))


if __name__ == "__main__":
    main()
