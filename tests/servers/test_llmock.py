"""Our client against llmock: its laws, what it charges, its refusals, and what it says of us.

llmock keeps a bucket of requests and one of tokens for each key, full at first and refilled continuously. It
charges a quarter of the body's bytes and the cap on the reply, and nothing for what it refuses.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import pytest

import toolkit as tk
from toolkit.errors import (
    AuthenticationFailed,
    ContextTooLong,
    Oversize,
    ProviderError,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    TransientError,
)
from toolkit.limits.fitted import ENOUGH
from toolkit.protocols import Retry
from toolkit.records import Request, Stage

LlmockWith = Callable[..., Any]
MakeEpisodes = Callable[..., Any]
REQUEST = Request("c1", "e", Stage.DIRECT, "Bees dance.", "Be brief.", max_output_tokens=8)
ON_THE_WAY_S = 0.1
"""What may pass between the server's answer and the moment at which the whole client knows of it."""

providers = pytest.mark.parametrize("provider", ["openai", "anthropic"])


def charged(row: dict[str, Any]) -> int:
    """Return what llmock charges for a request."""
    body = json.dumps(row["body"], separators=(",", ":"), ensure_ascii=False).encode()
    return len(body) // 4 + row["body"]["max_tokens"]


def by_request(journal: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each body that came, by arrival."""
    found = defaultdict(list)
    for row in journal:
        found[row["fingerprint"]].append(row)
    return found


def assert_nothing_answered_is_asked_again(journal: list[dict[str, Any]]) -> None:
    for rows in by_request(journal).values():
        assert all(row["status"] != 200 for row in rows[:-1]), rows


@pytest.mark.parametrize(
    ("provider", "settings"), [("openai", {}), ("openai", {"openai_api": "responses"}), ("anthropic", {})]
)
def test_answers_are_read(
    llmock_with: LlmockWith, make_episodes: MakeEpisodes, provider: str, settings: dict[str, Any]
) -> None:
    """Text and usage arrive as somebody else writes them, by each protocol."""
    server = llmock_with()
    server.script({"type": "reply", "text": "Bees dance by the hill."})
    episodes = make_episodes(1, lambda n: 400)
    run = tk.run(episodes, server.config(provider, **settings))
    (call,) = run.calls.to_dict("records")
    assert run.episodes["summary"][0] == "Bees dance by the hill."
    assert (call["token_counter"], call["stop_reason"]) == ("server", "stop")
    assert (call["input_tokens"], call["output_tokens"]) == (len(episodes[0].transcript) // 4, 5)


# -- limits --------------------------------------------------------------------------------------------


@providers
def test_what_waits_by_the_servers_limit_is_never_refused(
    llmock_with: LlmockWith, make_episodes: MakeEpisodes, provider: str
) -> None:
    """One request more than the bucket holds: it waits for the refill, and is not sent too early."""
    server = llmock_with(rpm=60)
    run = tk.run(make_episodes(61), server.config(provider, requests_per_minute=60))
    assert run.counts() == {"ok": 61}
    journal = server.journal()
    assert [row["status"] for row in journal] == [200] * 61
    # It refills one a second from the first arrival on; nothing is waited for that is there already.
    span = journal[-1]["started_at"] - journal[0]["started_at"]
    assert 1 <= span <= 4
    assert run.calls["wait_requests_s"].sum() > 0


@pytest.mark.slow
@providers
def test_what_the_server_charges_is_learned(
    llmock_with: LlmockWith, make_episodes: MakeEpisodes, provider: str
) -> None:
    """From its remaining tokens; after that each charge is covered closely, and none is refused."""
    server = llmock_with(tpm=6000)
    config = server.config(provider, tokens_per_minute=6000, limits_charge="fitted")
    run = tk.run(make_episodes(25, lambda n: 300 + 10 * (7 * n % 40)), config)
    assert run.counts() == {"ok": 25}
    journal = server.journal()
    assert [row["status"] for row in journal] == [200] * 25
    assert sum(map(charged, journal)) > 6000, "the test is to wait for tokens"
    rows = run.limits.assign(taken=run.limits["tokens_60s"].diff().fillna(run.limits["tokens_60s"]))
    admitted = rows[rows["event"] == "admitted"].reset_index()
    # They go one at a time until it is known; the first of two that are under way together goes by it too.
    known = int((admitted["in_flight"] > 1).argmax()) - 1
    assert known > ENOUGH, "the first reading has none before it to tell a charge by"
    learned, true = sorted(admitted["taken"][known:]), sorted(map(charged, journal[known:]))
    assert all(0.98 * c <= t <= 1.05 * c for t, c in zip(learned, true, strict=True)), (learned, true)


@pytest.mark.parametrize(("requests", "tokens"), [(1, 600), (10**6, 10**9)])
@providers
def test_numbers_are_learned_from_the_headers(
    llmock_with: LlmockWith, make_episodes: MakeEpisodes, provider: str, requests: int, tokens: int
) -> None:
    """With limits="auto" the config's numbers hold until the first reply, whether too low or too high."""
    server = llmock_with(rpm=60, tpm=6000)
    numbers = {"requests_per_minute": requests, "tokens_per_minute": tokens}
    run = tk.run(make_episodes(10), server.config(provider, limits="auto", **numbers))
    assert run.counts() == {"ok": 10}
    assert len(server.journal()) == 10
    last = run.limits.iloc[-1]
    assert (last["requests_limit"], last["tokens_limit"]) == (60, 6000)
    assert run.makespan_s < 10


@providers
def test_retry_after_is_kept_by_all(
    llmock_with: LlmockWith, make_episodes: MakeEpisodes, provider: str
) -> None:
    """Another program used the account up: until the time that the refusals name nobody sends anything."""
    server = llmock_with(rpm=60)
    config = server.config(provider, requests_per_minute=6000, max_attempts=1)
    with tk.get_provider(config) as made:
        made.prepare()
        server.use_up(config)
        run = tk.run(make_episodes(2), config, provider=made)
    assert run.counts() == {"ok": 2}
    journal = server.journal()
    refused = [row for row in journal if row["status"] == 429]
    failed = run.attempts.query("status_code == 429")
    assert 1 <= len(refused) == len(failed)
    assert set(failed["error_kind"]) == {"RateLimited"}
    assert set(failed["limit_hit"]) == {"requests"}
    for row in refused:
        until = row["ended_at"] + row["retry_after"]
        assert not [r for r in journal if row["ended_at"] + ON_THE_WAY_S < r["started_at"] < until]
    assert server.findings() == []


@pytest.mark.parametrize(
    ("numbers", "asked"), [({"tokens_per_minute": 6000}, 0), ({"tokens_per_minute": 10**7}, 1)]
)
@providers
def test_request_above_the_limit_is_not_tried_again(
    llmock_with: LlmockWith, make_episodes: MakeEpisodes, provider: str, numbers: Any, asked: int
) -> None:
    """The server names a time to come back for what never fits; once its limit is known nobody does."""
    server = llmock_with(tpm=6000)
    run = tk.run(make_episodes(1), server.config(provider, summary_max_tokens=7000, **numbers))
    assert run.counts() == {"failed": 1}
    assert "6000" in run.episodes["error"][0], "it says which limit is in the way"
    assert len(server.journal()) == len(run.attempts) == asked


# -- failures ------------------------------------------------------------------------------------------

LARGE = "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 40000."
DAY = "Rate limit reached for gpt-4o on requests per day (RPD): Limit 200, Used 200, Requested 1."
FAILURES: list[tuple[int, dict[str, Any], type[ProviderError], Retry, str | None]] = [
    (400, {}, RequestRejected, Retry.NEVER, None),
    (400, {"code": "context_length_exceeded"}, ContextTooLong, Retry.NEVER, None),
    (401, {}, AuthenticationFailed, Retry.NEVER, None),
    (402, {}, QuotaExhausted, Retry.NEVER, None),
    (403, {}, AuthenticationFailed, Retry.NEVER, None),
    (404, {}, RequestRejected, Retry.NEVER, None),
    (408, {}, TransientError, Retry.TRANSIENT, None),
    (409, {}, TransientError, Retry.TRANSIENT, None),
    (413, {}, RequestRejected, Retry.NEVER, None),
    (422, {}, RequestRejected, Retry.NEVER, None),
    (429, {}, RateLimited, Retry.RATE_LIMITED, None),
    (429, {"code": "insufficient_quota"}, QuotaExhausted, Retry.NEVER, None),
    (429, {"code": "credit_balance_exhausted"}, QuotaExhausted, Retry.NEVER, None),
    (429, {"code": "slow_down"}, RateLimited, Retry.RATE_LIMITED, "slow_down"),
    (429, {"code": "rate_limit_exceeded", "message": LARGE}, Oversize, Retry.NEVER, "tokens"),
    (
        429,
        {"code": "rate_limit_exceeded", "message": DAY},
        RateLimited,
        Retry.RATE_LIMITED,
        "requests_per_day",
    ),
    (500, {}, TransientError, Retry.TRANSIENT, None),
    (501, {}, RequestRejected, Retry.NEVER, None),
    (502, {}, TransientError, Retry.TRANSIENT, None),
    (503, {}, TransientError, Retry.TRANSIENT, None),
    (504, {}, TransientError, Retry.TRANSIENT, None),
    (529, {}, TransientError, Retry.TRANSIENT, None),
]


@providers
def test_failures_mean_what_the_tables_say(llmock_with: LlmockWith, provider: str) -> None:
    """Each of llmock's failures has the error, the decision and the limit of our tables; one try each."""
    server = llmock_with()
    with tk.get_provider(server.config(provider)) as made:
        for status, more, error, retry, limit_hit in FAILURES:
            server.fail(status, **more)
            with pytest.raises(Exception) as caught:  # noqa: PT011 (which one is the question)
                made.generate(REQUEST)
            decision = made.classify(caught.value)
            assert (type(decision.error), decision.retry) == (error, retry), (status, more)
            assert (decision.status_code, decision.limit_hit) == (status, limit_hit), (status, more)
            assert decision.paid_unknown == (status in (408, 502, 504)), status
    assert [row["status"] for row in server.journal()] == [row[0] for row in FAILURES]


@pytest.mark.parametrize(
    "failure", [{"status": 401}, {"status": 429, "code": "insufficient_quota"}, {"status": 402}]
)
@providers
def test_what_every_call_would_meet_stops_the_run(
    llmock_with: LlmockWith, make_episodes: MakeEpisodes, provider: str, failure: dict[str, Any]
) -> None:
    """A wrong key or an empty account is asked once, and the other episodes are not begun."""
    server = llmock_with()
    server.script({"type": "fail", "times": None, **failure})
    run = tk.run(make_episodes(6), server.config(provider, summary_batch_size=1))
    assert run.counts() == {"failed": 1, "cancelled": 5}
    assert run.stopped_because
    assert len(server.journal()) == 1


def test_a_day_that_is_used_up_stops_the_run(llmock_with: LlmockWith, make_episodes: MakeEpisodes) -> None:
    """It says when it may go on, and nobody waits until then."""
    server = llmock_with()
    server.fail(429, code="rate_limit_exceeded", message=DAY, retry_after=7200)
    run = tk.run(make_episodes(3), server.config(summary_batch_size=1, retry_total_s=10_000))
    assert run.counts() == {"failed": 1, "cancelled": 2}
    assert "it may go on in 2 h" in run.stopped_because
    assert len(server.journal()) == 1


@providers
def test_passing_failures_are_tried_again_until_answered(
    llmock_with: LlmockWith, make_episodes: MakeEpisodes, provider: str
) -> None:
    """Each failure costs one attempt, Retry-After is kept, and nothing that was answered is asked again."""
    passing = [408, 409, 429, 500, 502, 503, 504, 529]
    server = llmock_with()
    soon = {"retry_after": 0.2}
    server.script(*({"type": "fail", "status": status, **soon} for status in passing))
    run = tk.run(make_episodes(10), server.config(provider))
    assert run.counts() == {"ok": 10}
    journal = server.journal()
    assert Counter(row["status"] for row in journal) == Counter({200: 10, **dict.fromkeys(passing, 1)})
    assert_nothing_answered_is_asked_again(journal)
    assert server.findings() == []
    failed = run.attempts.dropna(subset=["error_kind"])
    assert sorted(failed["status_code"]) == passing
    assert set(failed["retry_after_s"]) == {0.2}
    assert sorted(failed[failed["paid_unknown"]]["status_code"]) == [408, 502, 504]
    assert len(run.attempts) == len(journal)


@providers
def test_tries_come_to_an_end(llmock_with: LlmockWith, make_episodes: MakeEpisodes, provider: str) -> None:
    """What fails for ever is asked as often as the config says, and fails with the last error."""
    server = llmock_with()
    server.fail(500, times=None)
    run = tk.run(make_episodes(1), server.config(provider, max_attempts=2))
    assert run.counts() == {"failed": 1}
    assert "500" in run.episodes["error"][0]
    assert [row["status"] for row in server.journal()] == [500, 500]
    assert list(run.attempts["error_kind"]) == ["TransientError"] * 2


@providers
def test_late_answer_may_have_been_paid(
    llmock_with: LlmockWith, make_episodes: MakeEpisodes, provider: str
) -> None:
    """The server goes on with what the client gave up: both are charged, and the attempt says so."""
    server = llmock_with()
    server.script({"type": "delay", "seconds": 1})
    run = tk.run(make_episodes(1), server.config(provider, request_timeout_s=0.5))
    assert run.counts() == {"ok": 1}
    assert [row["status"] for row in server.journal()] == [200, 200]
    assert list(run.attempts["paid_unknown"]) == [True, False]
    assert run.attempts["error_kind"][0] == "TransientError"


@pytest.mark.parametrize(
    ("reply", "stop_reason", "status"),
    [
        ({"text": "Bees."}, "stop", "ok"),
        ({"text": "Bees", "finish_reason": "length"}, "length", "partial"),
        ({"text": "", "finish_reason": "content_filter"}, "content_filter", "failed"),
        ({"text": ""}, "empty", "failed"),
    ],
)
def test_whole_answer_is_never_asked_again(
    llmock_with: LlmockWith, make_episodes: MakeEpisodes, reply: dict[str, Any], stop_reason: str, status: str
) -> None:
    """Also one that is of no use: it is paid, and would be the same again."""
    server = llmock_with()
    server.script({"type": "reply", **reply})
    run = tk.run(make_episodes(1), server.config())
    assert run.counts() == {status: 1}
    assert run.calls["stop_reason"][0] == stop_reason
    assert len(server.journal()) == 1
