"""Four processes on one key, and a server that hides how many requests it works on at a time.

Prints both tables and, last, one JSON line.

Four processes share one SQLite file: together they should use what the law allows without a refusal, and none
should get less than half of its share. The hidden cap: 6 at a time at the server, 32 allowed by the client's
settings; the best possible throughput is that of 6 which are never refused, measured in the same run.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import toolkit as tk
from toolkit.testing import ApiServer

REQUESTS, TOKENS = 600, 60_000
PROCESSES = 4
HIDDEN_CAP, CLIENT_CAP = 6, 32
SETTLED_S = 30.0
WORDS = ["experimentally", "notwithstanding", "archaeological", "correspondence", "straightforward"]


def episodes(seed: int, stop: threading.Event) -> Iterator[tk.Episode]:
    rng = random.Random(seed)
    number = 0
    while not stop.is_set():
        number += 1
        yield tk.Episode.from_text(
            f"{seed}-{number}", " ".join(rng.choices(WORDS, k=rng.randint(10, 130))) + "."
        )


def run_for(seconds: float, seed: int, base_url: str, **settings: object) -> tk.Run:
    """Ask for as much as the settings allow."""
    config = tk.Config(
        **{
            "provider": "openai",
            "model": "loopback",
            "openai_base_url": base_url,
            "context_tokens": 8192,
            "summary_max_tokens": 32,
            "system_prompt": "",
            "direct_prompt": "{text}",
            "retry_total_s": 3600,
            **settings,
        }
    )
    stop = threading.Event()
    timer = threading.Timer(seconds, stop.set)
    timer.start()
    run = tk.run(episodes(seed, stop), config, progress=False, stop=stop)
    timer.cancel()
    return run


def one_of_four(seconds: float, seed: int, base_url: str, path: str) -> None:
    run = run_for(
        seconds,
        seed,
        base_url,
        limits_url=f"sqlite:///{path}",
        openai_requests_per_minute=REQUESTS,
        openai_tokens_per_minute=TOKENS,
        openai_max_concurrent_requests=64,
        summary_batch_size=16,
    )
    made = run.calls[run.calls["status"] == "ok"]
    print(json.dumps({"calls": len(made), "tokens": int(made["input_tokens"].sum() + 32 * len(made))}))


def four(seconds: float) -> dict[str, object]:
    """Run four processes on one key and one file."""
    with (
        ApiServer.spawn(
            requests_per_minute=REQUESTS,
            tokens_per_minute=TOKENS,
            charge="sum",
            latency=(0.3, 0, 0.005, 0.3),
            reply_words=5,
        ) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        command = [sys.executable, __file__, "--seconds", str(seconds), "--child"]
        children = [
            subprocess.Popen(
                [*command, f"{seed} {server.base_url} {Path(folder) / 'limits.db'}"],
                stdout=subprocess.PIPE,
                text=True,
            )
            for seed in range(PROCESSES)
        ]
        got = [json.loads(child.communicate()[0].splitlines()[-1]) for child in children]
        score = server.score()
    tokens = [row["tokens"] for row in got]
    return {
        "rate_limited": score.rate_limited,
        "share": round(score.quota_share, 4),
        "tokens_each": tokens,
        "least_of_fair_share": round(min(tokens) * PROCESSES / sum(tokens), 3),
    }


def hidden_cap(seconds: float) -> dict[str, object]:
    """Compare a client that may have 32 in flight with one that knows the hidden cap."""
    rows: dict[str, Any] = {}
    settled_min = (seconds - SETTLED_S) / 60
    for name, cap in (("knows", HIDDEN_CAP), ("finds out", CLIENT_CAP)):
        with ApiServer.spawn(
            requests_per_minute=10**6, max_concurrent=HIDDEN_CAP, latency=(0.4, 0, 0.005, 0.3), reply_words=5
        ) as server:
            began = time.time()
            run = run_for(
                seconds,
                1,
                server.base_url,
                limits_url="memory://",
                openai_requests_per_minute=10**6,
                openai_tokens_per_minute=10**9,
                openai_max_concurrent_requests=cap,
                summary_batch_size=CLIENT_CAP,
            )
            refusals = [row.arrived - began for row in server.journal() if row.reason == "slow_down"]
            rows[name] = {
                "calls_per_s": server.score().paid / run.makespan_s,
                "refusals": len(refusals),
                # None: it was over before.
                "refusals_after_30s_per_min": sum(at > SETTLED_S for at in refusals) / settled_min
                if settled_min > 0
                else None,
            }
    rows["ratio"] = rows["finds out"]["calls_per_s"] / rows["knows"]["calls_per_s"]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120, help="length of each part")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=["four", "hidden"])
    chosen = parser.parse_args()
    if chosen.child:
        seed, base_url, path = chosen.child.split(" ")
        one_of_four(chosen.seconds, int(seed), base_url, path)
        return
    result: dict[str, object] = {"benchmark": "shared"}
    if chosen.only != "hidden":
        result["four_processes"] = four(chosen.seconds)
        print(result["four_processes"])
    if chosen.only != "four":
        result["hidden_cap"] = hidden_cap(chosen.seconds)
        print(result["hidden_cap"])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
