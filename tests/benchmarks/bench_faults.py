"""What becomes of runs whose server fails in every way that the loopback server knows.

First 1,000 calls of which 20 % meet a fault that passes: every episode ends ``ok``, or as the fault says (a
refusal, a reply held back, an empty one), nothing whose answer arrived whole is asked again, nothing comes
before its Retry-After, and what was paid and lost is told as ``paid_unknown``. Then a short run for each
fault that stays: it ends in the right error at once and keeps what was done before. Last as many calls as at
first to two servers that others wrote, llmock and (where ``AIMOCK_HOME`` names it) aimock. Prints tables and,
last, one JSON line.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import shutil
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import toolkit as tk
from toolkit.testing import ApiServer

RATE = 0.2
TRIED_AGAIN = [
    "reset",
    "html_502",
    "rate_limit_exceeded",
    "slow_down",
    "server_error",
    "bad_gateway",
    "server_is_overloaded",
    "gateway_timeout",
    "overloaded",
    "hang",
    "reset_after",
    "truncated",
    "malformed",
]
HARMLESS = ["slow", "wrong_headers", "missing_headers", "wrong_content_type"]
REPLIES = {"content_filter": "partial", "refusal": "failed", "empty": "failed"}
ALONE = {
    "invalid_request": "RequestRejected",
    "body_too_large": "RequestRejected",
    "context_length_exceeded": "ContextTooLong",
    "request_too_large": "Oversize",
}
"""Errors of one request, which are not tried again and take nobody with them."""
LASTING = {
    "html": "RequestRejected",
    "not_found": "RequestRejected",
    "model_not_found": "RequestRejected",
    "invalid_api_key": "AuthenticationFailed",
    "permission_denied": "AuthenticationFailed",
    "insufficient_quota": "QuotaExhausted",
    "credit_balance_exhausted": "QuotaExhausted",
    "organization_spend_limit_exceeded": "QuotaExhausted",
    "project_spend_limit_exceeded": "QuotaExhausted",
    "organization_usage_limit_exceeded": "QuotaExhausted",
}
"""Errors that every call would meet: the run drains."""


def settings(base_url: str) -> tk.Config:
    return tk.Config(
        provider="openai",
        model="loopback",
        openai_base_url=base_url,
        openai_requests_per_minute=10**6,
        openai_tokens_per_minute=10**9,
        openai_max_concurrent_requests=32,
        limits_url="memory://",
        summary_batch_size=32,
        system_prompt="",
        direct_prompt="{text}",
        request_timeout_s=3,
        max_attempts=8,
        retry_total_s=600,
    )


def passing(calls: int) -> dict[str, object]:
    """Run many calls through all faults that pass or belong to one reply."""
    kinds = [*TRIED_AGAIN, *HARMLESS, *REPLIES, *ALONE]
    with ApiServer.spawn(
        requests_per_minute=10**6,
        tokens_per_minute=10**9,
        charge="sum",
        latency=(0.1, 0, 0, 0.3),
        faults=dict.fromkeys(kinds, RATE / len(kinds)),
        slow_s=1.0,
        fault_retry_after_s=0.5,
        seed=7,
    ) as server:
        episodes = [
            tk.Episode.from_text(f"e{n}", f"Hill {n} has a spring. It never dries, not even in August.")
            for n in range(calls)
        ]
        began = time.perf_counter()
        run = tk.run(episodes, settings(server.base_url), progress=False)
        seconds = time.perf_counter() - began
        score, journal = server.score(), server.journal()
    # What the server did to each body, by the faults of its last request: the earlier ones were tried again.
    spoiled = sum(row.paid and not row.whole for row in journal)
    failed = run.attempts.dropna(subset=["error_kind"])
    expected = {"ok": calls, "partial": 0, "failed": 0}
    for row in journal:
        outcome = REPLIES.get(row.fault or "") or ("failed" if row.fault in ALONE else None)
        if outcome:
            expected[outcome] += 1
            expected["ok"] -= 1
    return {
        "calls": calls,
        "seconds": round(seconds, 1),
        "faults": score.faults,
        "statuses": run.counts(),
        "statuses_expected": {status: count for status, count in expected.items() if count},
        "paid_twice": score.paid_twice,
        "early_retries": score.early_retries,
        "paid_and_lost": spoiled,
        "hung": score.faults.get("hang", 0),
        "paid_unknown": int(run.attempts["paid_unknown"].sum()),
        "errors": failed["error_kind"].value_counts().to_dict(),
    }


def lasting(kind: str) -> dict[str, object]:
    """Run 40 episodes of which the 21st request and all later ones meet a fault that stays."""
    with ApiServer.spawn(
        requests_per_minute=10**6, latency=0.05, faults=[None] * 20 + [kind] * 1000
    ) as server:
        episodes = [tk.Episode.from_text(f"e{n}", f"Hill {n} has a spring.") for n in range(40)]
        config = settings(server.base_url).replace(summary_batch_size=4)
        began = time.perf_counter()
        run = tk.run(episodes, config, progress=False)
        seconds = time.perf_counter() - began
        score = server.score()
    errors = run.attempts["error_kind"].dropna().unique()
    return {
        "fault": kind,
        "error": ",".join(errors),
        "right": list(errors) == [LASTING[kind]],
        "seconds": round(seconds, 2),
        "kept": run.counts().get("ok", 0),
        "asked_in_vain": score.requests - 20,
        "says": run.stopped_because,
    }


def others(calls: int) -> list[dict[str, object]]:
    """Run many calls at servers that others wrote, with the faults that they know."""
    path = Path(__file__).parents[1] / "servers" / "conftest.py"
    spec = importlib.util.spec_from_file_location("servers", path)
    servers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(servers)
    rows = []
    share = str(RATE / 6)
    statuses = [
        word for status in (408, 429, 500, 502, 503, 529) for word in ("--error-rate", f"{status}={share}")
    ]
    llmock = servers.LlMock(statuses)
    try:
        rows.append({"server": "llmock", **through(llmock, calls), "findings": llmock.findings()})
    finally:
        llmock.stop()
    script = Path(os.environ.get("AIMOCK_HOME", "")) / servers.AIMOCK
    if script.is_file():
        with tempfile.TemporaryDirectory() as folder:
            fixtures = {"fixtures": [{"match": {}, "response": {"content": "Bees."}}]}
            Path(folder, "any.json").write_text(json.dumps(fixtures))
            aimock = servers.AiMock(shutil.which("node"), script, Path(folder))
            try:
                kinds = ("dropRate", "malformedRate", "rateLimitRate", "disconnectRate")
                aimock.chaos(**dict.fromkeys(kinds, RATE / len(kinds)), latencyMs=20)
                rows.append({"server": "aimock", **through(aimock, calls)})
            finally:
                aimock.stop()
    return rows


def through(server: Any, calls: int) -> dict[str, object]:
    config = server.config(max_concurrent=32, summary_batch_size=32, max_attempts=20, retry_total_s=3600)
    episodes = [tk.Episode.from_text(f"e{n}", f"Hill {n} has a spring.") for n in range(calls)]
    began = time.perf_counter()
    run = tk.run(episodes, config, progress=False)
    seconds = time.perf_counter() - began
    answered = Counter(
        json.dumps(row["body"]["messages"])
        for row in server.journal()
        if row.get("status", row.get("response", {}).get("status")) == 200
        and not row.get("response", {}).get("chaosAction")
    )
    failed = run.attempts.dropna(subset=["error_kind"])
    return {
        "calls": calls,
        "seconds": round(seconds, 1),
        "statuses": run.counts(),
        "faults_met": len(failed),
        "answered_twice": sum(times - 1 for times in answered.values()),
        "paid_unknown": int(run.attempts["paid_unknown"].sum()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=1000)
    calls = parser.parse_args().calls
    warnings.simplefilter("error")
    many = passing(calls)
    for name, value in many.items():
        print(f"{name:18} {value}")
    rows = [lasting(kind) for kind in LASTING]
    print(f"\n{'fault':36} {'error':22} {'right':6} {'s':>6} {'kept':>5} {'in vain':>8}")
    for row in rows:
        print(
            f"{row['fault']:36} {row['error']:22} {row['right']!s:6} {row['seconds']:6} {row['kept']:5} "
            f"{row['asked_in_vain']:8}"
        )
    foreign = others(calls)
    print()
    for row in foreign:
        print(row)
    right = (
        many["statuses"] == many["statuses_expected"]
        and many["paid_twice"] == many["early_retries"] == 0
        and many["paid_unknown"] >= many["paid_and_lost"]
        and all(row["right"] and row["kept"] == 20 for row in rows)
        and all(row["statuses"] == {"ok": calls} and not row["answered_twice"] for row in foreign)
    )
    print(
        json.dumps(
            {
                "benchmark": "faults",
                "all_right": right,
                "passing": many,
                "lasting": rows,
                "other_servers": foreign,
            }
        )
    )


if __name__ == "__main__":
    main()
