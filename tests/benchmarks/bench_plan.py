"""The least time that a plan states, beside the time that runs take where each of the bounds binds.

Real runs against a loopback server in a process of its own, whose latency and length of reply the plan is
told. Prints a table and, last, one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import dataclass, field
from typing import Any

import toolkit as tk
from toolkit.records import Stage
from toolkit.testing import ApiServer

BASE_S, PER_OUTPUT_S = 0.2, 0.002
REPLY_WORDS, REPLY_TOKENS = 60, 80


class Stated:
    """The server's own latency, and the length of its replies."""

    def __init__(self, base_s: float) -> None:
        self.base_s = base_s

    def mean_service_s(self, input_tokens: float, output_tokens: float, width: float = 1) -> float:
        return self.base_s + PER_OUTPUT_S * output_tokens

    def mean_output_tokens(self, stage: Stage, cap: int) -> float:
        return min(cap, REPLY_TOKENS)


@dataclass(frozen=True)
class Setting:
    """Episodes of so many lines of 60 words, a server's limits, and a config."""

    binds: str
    episodes: int
    lines: int
    config: dict[str, Any]
    limits: dict[str, int] = field(default_factory=dict)
    law: str = "openai"
    base_s: float = BASE_S


SETTINGS = (
    Setting("requests", 180, 1, {"summary_batch_size": 16}, {"requests_per_minute": 120}),
    Setting(
        "requests",
        16,
        8,
        {"summary_batch_size": 4, "summary_chunk_parallelism": 4, "chunk_tokens": 120},
        {"requests_per_minute": 100},
    ),
    Setting("tokens", 100, 10, {"summary_batch_size": 16}, {"tokens_per_minute": 60_000}),
    Setting(
        "output_tokens",
        150,
        1,
        {"summary_batch_size": 32, "summary_max_tokens": 96},
        {"output_tokens_per_minute": 8_000, "input_tokens_per_minute": 1_000_000},
        law="anthropic",
    ),
    Setting("slots", 60, 1, {"summary_batch_size": 16}, {"slots": 3}),
    Setting(
        "slots",
        8,
        12,
        {"summary_batch_size": 8, "summary_chunk_parallelism": 8, "chunk_tokens": 120},
        {"slots": 5},
    ),
    Setting("latency", 30, 1, {"summary_batch_size": 1}),
    Setting("latency", 4, 20, {"summary_batch_size": 2, "summary_chunk_parallelism": 4, "chunk_tokens": 120}),
)
LIMITS = ("requests_per_minute", "tokens_per_minute", "input_tokens_per_minute", "output_tokens_per_minute")


def config_of(setting: Setting, base_url: str) -> tk.Config:
    """Return the config of a setting: limits that are not given are too high to bind."""
    provider = "anthropic" if setting.law == "anthropic" else "openai"
    asked: dict[str, Any] = {f"{provider}_base_url": base_url}
    for name in LIMITS:
        if f"{provider}_{name}" in tk.Config.model_fields:
            asked[f"{provider}_{name}"] = setting.limits.get(name, 10**9)
    asked[f"{provider}_max_concurrent_requests"] = setting.limits.get("slots", 64)
    return tk.Config(
        provider=provider,
        model="loopback",
        context_tokens=16_384,
        summary_max_tokens=setting.config.get("summary_max_tokens", 128),
        limits_url="memory://",
        store_url="memory://",
        reuse="none",
        **asked,
        **{name: value for name, value in setting.config.items() if name != "summary_max_tokens"},
    )


def episodes_of(setting: Setting) -> list[tk.Episode]:
    # A little below the 16 bytes to three words at which four bytes a token are what the server counts.
    line = " ".join(["mill", "bays", "tide", "grind"] * 15)
    return [
        tk.Episode.from_text(str(n), "\n".join(f"{line}." for _ in range(setting.lines)))
        for n in range(setting.episodes)
    ]


def measure(setting: Setting, rounds: int) -> dict[str, Any]:
    """Return the bound, what binds, and the makespans of some runs on fresh quotas."""
    makespans = []
    for _ in range(rounds):
        limits: dict[str, Any] = {name: setting.limits.get(name) for name in LIMITS}
        if setting.law == "anthropic":
            del limits["tokens_per_minute"]
        else:
            del limits["input_tokens_per_minute"], limits["output_tokens_per_minute"]
            limits["charge"] = "sum"
        with ApiServer.spawn(
            setting.law,
            latency=(setting.base_s, 0.0, PER_OUTPUT_S),
            reply_words=REPLY_WORDS,
            **limits,
        ) as server:
            url = server.anthropic_url if setting.law == "anthropic" else server.base_url
            config, episodes = config_of(setting, url), episodes_of(setting)
            plan = tk.plan(episodes, config, latency=Stated(setting.base_s))
            run = tk.run(episodes, config, progress=False)
            assert set(run.counts()) <= {"ok", "partial"}, run.counts()
            makespans.append(run.makespan_s)
    return {
        "binds": plan.bottleneck,
        "meant": setting.binds,
        "calls": len(run.calls),
        "calls_planned": plan.calls,
        "bound_s": round(plan.bound_s or 0.0, 2),
        "makespan_s": round(statistics.median(makespans), 2),
        "ratio": round(statistics.median(makespans) / (plan.bound_s or 1.0), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1)
    bounds = list(dict.fromkeys(setting.binds for setting in SETTINGS))
    parser.add_argument("--binds", choices=bounds, nargs="+", default=bounds, help="settings that these bind")
    chosen = parser.parse_args()
    rows = []
    for setting in SETTINGS:
        if setting.binds not in chosen.binds:
            continue
        row = measure(setting, chosen.rounds)
        rows.append(row)
        print(
            f"{row['binds']:14} {row['calls']:5} calls  at least {row['bound_s']:7.2f} s  "
            f"took {row['makespan_s']:7.2f} s  {row['ratio']:.3f}",
            flush=True,
        )
    print(json.dumps({"benchmark": "plan", "rounds": chosen.rounds, "settings": rows}))


if __name__ == "__main__":
    main()
