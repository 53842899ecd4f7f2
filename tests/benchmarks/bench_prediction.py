"""How well ``simulate`` predicts real runs: settings in which requests, tokens, slots or latency bind.

Each setting is really run some times, against a loopback server in a process of its own, every time with a
full bucket. The latency is fitted to other runs, over other episodes, in which no limit binds. What is
compared is the median makespan of the real runs with the median of 20 simulated ones. Prints a table and,
last, one JSON line.

The texts are of words so long that the server's count is a fixed number of bytes a token, as exact as that of
a client who has the server's vocabulary: what is measured is the prediction, not the counting of tokens. A
bucket that starts full leaves little to wait for in some seconds, and a hundredth more tokens would make it a
tenth longer.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import statistics
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import toolkit as tk
from toolkit.testing import ApiServer

WIDE = 10**7
CAP = 64
CHUNK_WORDS = 75
REPLY_WORDS = 7
LATENCY = (0.15, 0.0002, 0.006, 0.2)
LLMOCK_MS = 300
WORDS = [
    "experimentally",
    "notwithstanding",
    "archaeological",
    "correspondence",
    "unaccompanied",
    "straightforward",
]


@dataclass(frozen=True)
class Setting:
    """What is run: ``chunks`` of each of ``episodes``, so many at a time, under limits."""

    name: str
    bound: str
    episodes: int
    chunks: int
    batch: int
    parallel: int
    slots: int = 64
    rpm: int = WIDE
    tpm: int = WIDE
    server: str = "api"
    more: dict[str, Any] = field(default_factory=dict)
    windows: tuple[float, ...] | None = None


SECOND = {"limits_law": "requests:bucket, requests:sliding:1, tokens:bucket"}
SETTINGS = (
    Setting("rpm-8x8", "requests", 8, 8, batch=8, parallel=4, slots=16, rpm=66),
    Setting("rpm-1x64", "requests", 1, 64, batch=1, parallel=8, rpm=60),
    Setting("rpm-4x16-1s", "requests", 4, 16, batch=4, parallel=8, rpm=600, more=SECOND, windows=(1.0,)),
    Setting("tpm-8x8", "tokens", 8, 8, batch=4, parallel=4, slots=16, tpm=18_200),
    Setting("tpm-2x32", "tokens", 2, 32, batch=2, parallel=8, tpm=18_000),
    Setting("tpm-4x16", "tokens", 4, 16, batch=4, parallel=2, tpm=18_300),
    Setting("slots-8x8", "slots", 8, 8, batch=8, parallel=8, slots=3),
    Setting("slots-4x16", "slots", 4, 16, batch=4, parallel=4, slots=5),
    Setting("latency-8x8-2x2", "latency", 8, 8, batch=2, parallel=2),
    Setting("latency-1x64-8", "latency", 1, 64, batch=1, parallel=8),
    Setting("latency-8x8-8x1", "latency", 8, 8, batch=8, parallel=1),
    Setting("mixed-8x8", "mixed", 8, 8, batch=8, parallel=2, slots=6, rpm=67, tpm=18_400),
    Setting("mixed-5x12", "mixed", 5, 12, batch=3, parallel=3, slots=5, rpm=56, tpm=17_000),
    Setting("llmock-rpm", "requests", 8, 8, batch=4, parallel=4, rpm=66, server="llmock"),
    Setting("llmock-slots", "slots", 8, 8, batch=8, parallel=2, slots=5, server="llmock"),
    Setting("llmock-latency", "latency", 6, 10, batch=3, parallel=2, server="llmock"),
)


def episodes(number: int, chunks: int, seed: int) -> list[tk.Episode]:
    """Make episodes of about so many chunks, no text twice."""
    rng = random.Random(seed)

    def line() -> str:
        return " ".join(rng.choices(WORDS, k=CHUNK_WORDS // 10)) + "."

    return [
        tk.Episode.from_text(f"e{n}", "\n".join(line() for _ in range(10 * chunks - 1)))
        for n in range(number)
    ]


@contextmanager
def llmock(setting: Setting) -> Iterator[str]:
    """Run a server that others wrote and give its address."""
    command = [sys.executable, "-m", "llmock.cli", "serve", "--host", "127.0.0.1", "--port", "0"]
    command += ["--response-style", "static", "--latency-ms", str(LLMOCK_MS)]
    process = subprocess.Popen(
        [*command, "--rpm", str(setting.rpm), "--tpm", str(10**9)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        for row in process.stdout:
            if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", row, re.IGNORECASE):
                break
        else:
            raise RuntimeError("llmock did not come up")
        threading.Thread(target=process.stdout.read, daemon=True).start()
        yield f"{found[1]}/v1"
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def serving(setting: Setting, seed: int) -> Iterator[str]:
    """Run the setting's server, with nothing used yet, and give its address."""
    if setting.server == "llmock":
        with llmock(setting) as url:
            yield url
        return
    with ApiServer.spawn(
        requests_per_minute=setting.rpm,
        tokens_per_minute=setting.tpm,
        charge="sum",
        request_windows_s=setting.windows,
        latency=LATENCY,
        reply_words=REPLY_WORDS,
        seed=seed,
    ) as server:
        yield server.base_url


def config(setting: Setting, url: str) -> tk.Config:
    return tk.Config(
        provider="openai",
        model="loopback",
        openai_base_url=url,
        openai_requests_per_minute=setting.rpm,
        openai_tokens_per_minute=setting.tpm,
        openai_max_concurrent_requests=setting.slots,
        limits_url="memory://",
        store_url="memory://",
        reuse="none",
        summary_batch_size=setting.batch,
        summary_chunk_parallelism=setting.parallel,
        summary_max_tokens=CAP,
        # The client counts three bytes a token as long as it knows nothing of the server.
        chunk_tokens=420,
        system_prompt="",
        map_prompt="Part: {text}",
        reduce_prompt="Parts: {text}",
        **setting.more,
    )


def real(setting: Setting, seed: int, text_seed: int = 1) -> tk.Run:
    """Run it once, with a new server."""
    with serving(setting, seed) as url:
        made = episodes(setting.episodes, setting.chunks, text_seed)
        run = tk.run(made, config(setting, url), progress=False)
    unknown = set(run.counts()) - {"ok", "partial"}
    assert not unknown, f"{setting.name}: {run.episodes['error'].dropna().tolist()}"
    return run


def fitted(server: str) -> tk.LatencyModel:
    """Fit the latency to runs of other episodes, under other settings, without a limit that binds."""
    others = [
        Setting("fit-a", "none", 4, 10, batch=2, parallel=3, server=server),
        Setting("fit-b", "none", 10, 3, batch=5, parallel=1, server=server),
        Setting("fit-c", "none", 2, 24, batch=1, parallel=4, server=server),
    ]
    runs = [real(setting, 1000 + n, text_seed=100 + n) for n, setting in enumerate([others[0], *others])]
    return tk.LatencyModel.fit(*runs[1:])  # the first one loads what the others find loaded


def spearman(first: list[float], second: list[float]) -> float:
    import pandas as pd

    return float(pd.Series(first).rank().corr(pd.Series(second).rank()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="real runs of each setting")
    parser.add_argument(
        "--settings", default="", help="names or beginnings of names, with commas; all if empty"
    )
    parser.add_argument("--seeds", type=int, default=20, help="simulated runs of each setting")
    chosen = parser.parse_args()
    wanted = tuple(filter(None, chosen.settings.split(",")))
    settings = [setting for setting in SETTINGS if not wanted or setting.name.startswith(wanted)]
    models = {server: fitted(server) for server in sorted({setting.server for setting in settings})}
    for server, model in models.items():
        print(f"{server}: {model}")
    took: dict[str, list[float]] = {setting.name: [] for setting in settings}
    refused = dict.fromkeys(took, 0)
    calls = dict.fromkeys(took, 0)
    for round_ in range(chosen.rounds):
        for setting in settings:
            run = real(setting, round_)
            took[setting.name].append(run.makespan_s)
            refused[setting.name] += int((run.attempts["status_code"] == 429).sum())
            calls[setting.name] = len(run.calls)
    print(f"\n{'setting':16} {'calls':>5} {'429':>3} {'real s':>7} {'spread':>7} {'simulated s':>18} error")
    rows = []
    for setting in settings:
        guess = tk.simulate(
            episodes(setting.episodes, setting.chunks, 1),
            config(setting, "http://127.0.0.1:9/v1"),
            latency=models[setting.server],
            seeds=chosen.seeds,
        )
        times = took[setting.name]
        median = statistics.median(times)
        error = guess.makespan_s / median - 1
        low, high = guess.makespans.quantile([0.05, 0.95])
        spread = (max(times) - min(times)) / median
        rows.append(
            {
                "setting": setting.name,
                "bound": setting.bound,
                "calls": calls[setting.name],
                "rate_limited": refused[setting.name],
                "real_s": [round(seconds, 3) for seconds in times],
                "simulated_s": round(guess.makespan_s, 3),
                "simulated_5_95": [round(low, 3), round(high, 3)],
                "simulated_calls": int(guess.figures["calls"].median()),
                "spread": round(spread, 4),
                "error": round(error, 4),
            }
        )
        print(
            f"{setting.name:16} {calls[setting.name]:5} {refused[setting.name]:3} {median:7.2f} {spread:7.1%}"
            f" {guess.makespan_s:7.2f} ({low:.2f}-{high:.2f}) {error:+6.1%}"
            f" {rows[-1]['simulated_calls']:5} calls"
        )
    errors = [abs(row["error"]) for row in rows]
    medians = [statistics.median(took[setting.name]) for setting in settings]
    figures = {
        "benchmark": "prediction",
        "rounds": chosen.rounds,
        "median_error": round(statistics.median(errors), 4),
        "worst_error": round(max(errors), 4),
        "median_spread": round(statistics.median(row["spread"] for row in rows), 4),
        "spearman": round(spearman(medians, [row["simulated_s"] for row in rows]), 4)
        if len(rows) > 2
        else None,
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "settings": rows,
    }
    print(
        f"\nmedian error {figures['median_error']:.1%}, worst {figures['worst_error']:.1%}, Spearman "
        f"{figures['spearman']}, load average {figures['load_average']}"
    )
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
