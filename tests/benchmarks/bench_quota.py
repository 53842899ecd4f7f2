"""How much of a quota is used without a refusal, under every law a server may have.

Each row is a run in a process of its own against a fresh server in a process of its own: 600 requests and
60,000 tokens a minute, calls of mixed size of which more wait than may go. ``config`` is told law and
numbers, ``auto`` the law only, ``safe`` the numbers only. Prints a table and, last, one JSON line.

``share`` is the server's own figure: what was used of what its law allowed from the first admission to the
last. The texts are of words so long that the server's count is a fixed number of bytes a token, which the
client's counter learns: what is measured is the limiter, not the counting of tokens.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import toolkit as tk
from toolkit.testing import ApiServer

REQUESTS, TOKENS = 600, 60_000
CAP = 32
CALENDAR = {"azure", "fixed"}
OWN_LAW = {
    "openai": "openai",
    "azure": "azure",
    "anthropic": "anthropic",
    "sliding": "requests:sliding, tokens:sliding",
    "fixed": "requests:fixed, tokens:fixed",
    "first_request": "requests:sliding, tokens:sliding",
}
MODES = ("config", "auto", "safe")
WORDS = [
    "experimentally",
    "notwithstanding",
    "archaeological",
    "correspondence",
    "unaccompanied",
    "straightforward",
]


def episodes(seed: int, stop: threading.Event, most_words: int) -> Iterator[tk.Episode]:
    """Yield episodes of about three tokens a word by the server's count, until it is time to stop."""
    rng = random.Random(seed)
    number = 0
    while not stop.is_set():
        number += 1
        words = " ".join(rng.choices(WORDS, k=rng.randint(min(10, most_words), most_words)))
        yield tk.Episode.from_text(f"e{number}", f"{words}.")


def one(law: str, mode: str, seconds: float, most_words: int = 130) -> dict[str, object]:
    """Run one row and return its figures."""
    anthropic = law == "anthropic"
    numbers = (
        {"input_tokens_per_minute": TOKENS, "output_tokens_per_minute": TOKENS // 4}
        if anthropic
        else {"tokens_per_minute": TOKENS, "charge": "sum"}
    )
    with ApiServer.spawn(
        law, requests_per_minute=REQUESTS, **numbers, latency=(0.3, 0, 0.005, 0.3), reply_words=5
    ) as server:
        prefix = "anthropic" if anthropic else "openai"
        known = {f"{prefix}_{name}": number for name, number in numbers.items() if name != "charge"}
        known[f"{prefix}_requests_per_minute"] = REQUESTS
        config = tk.Config(
            provider=prefix,
            model="claude-haiku-4-5" if anthropic else "loopback",
            **{f"{prefix}_base_url": server.anthropic_url if anthropic else server.base_url},
            **({} if mode == "auto" else known),
            **{f"{prefix}_max_concurrent_requests": 64},
            limits="auto" if mode == "auto" else "config",
            limits_law="safe" if mode == "safe" else OWN_LAW[law],
            limits_url="memory://",
            summary_batch_size=64,
            summary_max_tokens=CAP,
            context_tokens=8192,
            system_prompt="",
            direct_prompt="{text}",
            retry_total_s=3600,
        )
        provider = tk.get_provider(config)
        if law in CALENDAR:  # whole windows only: half a one at the start is not the limiter's loss
            time.sleep(60 - time.time() % 60 + 0.05)
        stop = threading.Event()
        timer = threading.Timer(seconds - 1, stop.set)
        timer.start()
        run = tk.run(episodes(1, stop, most_words), config, provider=provider, progress=False, stop=stop)
        timer.cancel()
        provider.close()
        score = server.score()
    attempts = run.attempts
    return {
        "law": law,
        "mode": mode,
        "seconds": round(run.makespan_s, 1),
        "calls": score.admitted,
        "rate_limited": score.rate_limited,
        "early_retries": score.early_retries,
        "share": round(score.quota_share, 4),
        "shares": {name: round(share, 4) for name, share in score.quota_shares.items()},
        "max_in_flight": score.max_in_flight,
        "client_429": int((attempts["status_code"] == 429).sum()),
        "statuses": run.counts(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180, help="length of each row")
    parser.add_argument("--together", type=int, default=6, help="rows at a time")
    parser.add_argument("--most-words", type=int, default=130, help="of a call; with 5 requests bind")
    parser.add_argument("--only", help="LAW,MODE: one row, in this process")
    parser.add_argument("--laws", default=",".join(OWN_LAW))
    parser.add_argument("--modes", default=",".join(MODES))
    chosen = parser.parse_args()
    if chosen.only:
        print(json.dumps(one(*chosen.only.split(","), chosen.seconds, chosen.most_words)))
        return
    rows = [(law, mode) for mode in chosen.modes.split(",") for law in chosen.laws.split(",")]

    def child(row: tuple[str, str]) -> dict[str, object]:
        command = [sys.executable, __file__, "--only", ",".join(row), "--seconds", str(chosen.seconds)]
        command += ["--most-words", str(chosen.most_words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
        if done.returncode:
            raise RuntimeError(f"{row}: {done.stderr[-2000:]}")
        result: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
        return result

    with ThreadPoolExecutor(chosen.together) as pool:
        results = list(pool.map(child, rows))
    print(f"{'law':14} {'mode':8} {'calls':>6} {'429':>4} {'early':>6} {'share':>7}  by limit")
    for row in results:
        print(
            f"{row['law']:14} {row['mode']:8} {row['calls']:6} {row['rate_limited']:4} "
            f"{row['early_retries']:6} {row['share']:7.4f}  {row['shares']} {row['statuses']}"
        )
    print(json.dumps({"benchmark": "quota", "requests": REQUESTS, "tokens": TOKENS, "rows": results}))


if __name__ == "__main__":
    main()
