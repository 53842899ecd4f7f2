"""The limiter against a server that others wrote: llmock, whose buckets charge body bytes // 4 + output cap.

First 220 short calls at 120 requests a minute, for which 50 s is the least possible. Then 600 requests and
60,000 tokens a minute for some minutes, calls of mixed size, the charge fitted to the server's headers; with
the numbers known, and with ``limits="auto"``. Prints a table and, last, one JSON line.

``share`` is computed from the server's own journal: what it charged of what its bucket allowed from the first
admission to the last.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.client import HTTPConnection

import toolkit as tk

CAP = 32
TEXT = "the mill at the mouth of the bay ground rye for six hundred years and nobody knows who built it"


@contextmanager
def llmock(rpm: int, tpm: int) -> Iterator[int]:
    """Run the server and give its port."""
    command = [sys.executable, "-m", "llmock.cli", "serve", "--host", "127.0.0.1", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--response-style", "static", "--rpm", str(rpm), "--tpm", str(tpm)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.search(r"running on http://127\.0\.0\.1:(\d+)", line, re.IGNORECASE):
                break
        else:
            raise RuntimeError("llmock did not come up")
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield int(found[1])
    finally:
        process.terminate()
        process.wait(10)


def journal(port: int) -> list[dict[str, object]]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/_llmock/requests")
    rows = json.loads(connection.getresponse().read())
    connection.close()
    return sorted(rows["requests"], key=lambda row: row["started_at"])


def charged(row: dict[str, object]) -> int:
    """Return what llmock charges for a request."""
    body = json.dumps(row["body"], separators=(",", ":"), ensure_ascii=False).encode()
    return len(body) // 4 + row["body"]["max_tokens"]


def settings(port: int, rpm: int, tpm: int, **more: object) -> tk.Config:
    return tk.Config(
        **{
            "provider": "openai",
            "model": "gpt-4o-mini",
            "openai_base_url": f"http://127.0.0.1:{port}/v1",
            "openai_requests_per_minute": rpm,
            "openai_tokens_per_minute": tpm,
            "openai_max_concurrent_requests": 32,
            "limits_url": "memory://",
            "summary_batch_size": 32,
            "summary_max_tokens": CAP,
            "system_prompt": "",
            "direct_prompt": "{text}",
            "retry_total_s": 3600,
            **more,
        }
    )


def short_calls() -> dict[str, object]:
    """Return how long 220 short calls take at 120 a minute."""
    with llmock(120, 10**9) as port:
        episodes = [tk.Episode.from_text(f"e{n}", f"Hill {n} has a spring.") for n in range(220)]
        run = tk.run(episodes, settings(port, 120, 10**9), progress=False)
        rows = journal(port)
    return {
        "seconds": round(run.makespan_s, 2),
        "rate_limited": sum(row["status"] == 429 for row in rows),
        "answered": sum(row["status"] == 200 for row in rows),
    }


def mixed(mode: str, seconds: float, most_words: int) -> dict[str, object]:
    """Run for a while with calls of mixed size."""
    rng, stop = random.Random(1), threading.Event()

    def episodes() -> Iterator[tk.Episode]:
        number = 0
        while not stop.is_set():
            number += 1
            yield tk.Episode.from_text(
                f"e{number}", " ".join(rng.choices(TEXT.split(), k=rng.randint(20, most_words)))
            )

    with llmock(600, 60_000) as port:
        auto = {} if mode == "known" else {"limits": "auto"}
        numbers = (600, 60_000) if mode == "known" else (50, 20_000)
        timer = threading.Timer(seconds, stop.set)
        timer.start()
        config = settings(port, *numbers, limits_charge="fitted", **auto)
        tk.run(episodes(), config, progress=False, stop=stop)
        rows = journal(port)
    good = [row for row in rows if row["status"] == 200]
    tokens = sum(charged(row) for row in good)
    span = good[-1]["started_at"] - good[0]["started_at"]
    allowed = 60_000 + 1000 * span
    return {
        "mode": mode,
        "seconds": round(span, 1),
        "calls": len(good),
        "rate_limited": sum(row["status"] == 429 for row in rows),
        "share": round(max(tokens / allowed, len(good) / (600 + 10 * span)), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=180)
    parser.add_argument("--most-words", type=int, default=2000, help="of a call; short ones fit worse")
    chosen = parser.parse_args()
    with ThreadPoolExecutor(3) as pool:
        short = pool.submit(short_calls)
        rows = list(pool.map(lambda mode: mixed(mode, chosen.seconds, chosen.most_words), ["known", "auto"]))
    print(f"220 short calls at 120 a minute: {short.result()}")
    for row in rows:
        print(row)
    print(json.dumps({"benchmark": "llmock", "short_calls": short.result(), "mixed": rows}))


if __name__ == "__main__":
    main()
