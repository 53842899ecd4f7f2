"""Calls a second to a server without limits: the toolkit's path beside the bare ``openai`` client.

2,000 calls, 32 in flight, to a loopback server in a process of its own. The two take turns, so that a machine
whose speed drifts is the same for both. Prints a table and, last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import openai

import toolkit as tk
from toolkit.testing import ApiServer

CALLS, IN_FLIGHT, CAP = 2000, 32, 64
TEXT = "The mill at the mouth of the bay ground rye for six hundred years. " * 20


def texts(round_: int) -> list[str]:
    return [f"{round_} {number} {TEXT}" for number in range(CALLS)]


def bare(base_url: str, round_: int) -> float:
    """Return calls a second of 32 threads with the vendor's client."""
    client = openai.OpenAI(base_url=base_url, api_key="any", max_retries=0)

    def ask(text: str) -> None:
        reply = client.chat.completions.create(
            model="loopback",
            messages=[{"role": "user", "content": text}],
            max_tokens=CAP,
            temperature=0,
        )
        assert reply.choices[0].message.content

    began = time.perf_counter()
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        list(pool.map(ask, texts(round_)))
    seconds = time.perf_counter() - began
    client.close()
    return CALLS / seconds


def toolkit(base_url: str, round_: int, limits_url: str) -> float:
    """Return calls a second of a run with as many episodes at a time, limits, records and frames included."""
    config = tk.Config(
        provider="openai",
        model="loopback",
        openai_base_url=base_url,
        openai_requests_per_minute=10**7,
        openai_tokens_per_minute=10**10,
        openai_max_concurrent_requests=IN_FLIGHT,
        limits_url=limits_url,
        summary_batch_size=IN_FLIGHT,
        summary_max_tokens=CAP,
        system_prompt="",
        direct_prompt="{text}",
    )
    episodes = [tk.Episode.from_text(str(number), text) for number, text in enumerate(texts(round_))]
    run = tk.run(episodes, config, progress=False)
    assert run.counts() == {"ok": CALLS}
    return CALLS / run.makespan_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    rates: dict[str, list[float]] = {"bare client": [], "toolkit, memory": [], "toolkit, SQLite": []}
    with (
        ApiServer.spawn(requests_per_minute=None, latency=0.02, reply_words=20) as server,
        tempfile.TemporaryDirectory() as folder,
    ):
        url, file = server.base_url, f"sqlite:///{folder}/limits.db"
        for round_ in range(rounds):
            rates["bare client"].append(bare(url, 3 * round_))
            rates["toolkit, memory"].append(toolkit(url, 3 * round_ + 1, "memory://"))
            rates["toolkit, SQLite"].append(toolkit(url, 3 * round_ + 2, file))
    ratios = {
        name: statistics.median(a / b for a, b in zip(values, rates["bare client"], strict=True))
        for name, values in rates.items()
    }
    for name, values in rates.items():
        print(f"{name:16} {statistics.median(values):8.1f} calls/s  {ratios[name]:5.2f}")
    print(
        json.dumps(
            {
                "benchmark": "hosted",
                "calls": CALLS,
                "in_flight": IN_FLIGHT,
                "calls_per_s": {name: [round(v, 1) for v in values] for name, values in rates.items()},
                "ratio": {name: round(ratio, 3) for name, ratio in ratios.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
