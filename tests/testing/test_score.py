"""The score counts what happened, and no more."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import openai
import pytest

from toolkit.clock import ManualClock
from toolkit.testing import ApiServer

Serve = Callable[..., ApiServer]
ClientOf = Callable[..., openai.OpenAI]
Ask = Callable[..., Any]


def eventually(holds: Callable[[], bool]) -> None:
    """Wait for what a socket of another thread is about to do."""
    ends = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.002)


def test_counts(serve: Serve, client_of: ClientOf, ask: Ask) -> None:
    """Admitted, refused, paid, paid twice and tokens are those of the requests that were made."""
    clock = ManualClock()
    server = serve(requests_per_minute=3, tokens_per_minute=1000, charge="sum", clock=clock)
    client = client_of(server)
    used = [ask(client, text, max_tokens=40).usage for text in ("One.", "Two.", "One.")]
    with pytest.raises(openai.RateLimitError):
        ask(client, "Four.")
    score = server.score()
    assert (score.requests, score.admitted, score.paid, score.paid_twice, score.lost) == (4, 3, 3, 1, 0)
    assert (score.refused, score.rate_limited) == ({"rate_limit_exceeded": 1}, 1)
    assert score.input_tokens == sum(usage.prompt_tokens for usage in used)
    assert score.output_tokens == sum(usage.completion_tokens for usage in used)
    assert score.tokens_charged == score.input_tokens + 3 * 40
    assert score.arrivals == (clock.epoch(),) * 4
    assert score.first_admission == score.last_admission == clock.epoch()
    assert score.quota_share == 1.0
    assert score.quota_shares["tokens"] == pytest.approx(score.tokens_charged / 1000)
    rows = server.journal()
    assert [row.status for row in rows] == [200, 200, 200, 429]
    assert rows[0].body_hash == rows[2].body_hash != rows[1].body_hash
    assert rows[3].retry_after_s == 20


def test_early_retries(serve: Serve, client_of: ClientOf, ask: Ask) -> None:
    """Only the refused request itself can be early, and only before its own Retry-After."""
    clock = ManualClock()
    server = serve(requests_per_minute=1, clock=clock)
    client = client_of(server)

    def refused(text: str, **options: Any) -> None:
        with pytest.raises(openai.RateLimitError):
            ask(client, text, **options)

    ask(client, "One.")
    refused("Two.")
    refused("Three.")
    assert server.score().early_retries == 0
    clock.advance(10)
    refused("Two.")
    assert server.score().early_retries == 1
    clock.advance(60)
    ask(client, "Two.")
    assert server.score().early_retries == 1
    refused("Five.", extra_headers={"idempotency-key": "k"})
    refused("Five again.", extra_headers={"idempotency-key": "k"})
    assert server.score().early_retries == 2


def test_in_flight_and_the_hidden_cap(serve: Serve, client_of: ClientOf, ask: Ask) -> None:
    """Never more are worked on than the cap; the others are told to slow down."""
    server = serve(max_concurrent=3, latency=0.2)
    client, outcomes = client_of(server), list[str]()

    def work(at: int) -> None:
        try:
            ask(client, f"Mill {at}.")
            outcomes.append("ok")
        except openai.RateLimitError as error:
            outcomes.append(str(error.code))

    threads = [threading.Thread(target=work, args=(at,)) for at in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    score = server.score()
    assert score.max_in_flight == 3
    assert outcomes.count("ok") == score.admitted >= 3
    assert score.refused["slow_down"] == 8 - score.admitted
    assert score.rate_limited == 0


def test_overload_may_be_503(serve: Serve, client_of: ClientOf, ask: Ask) -> None:
    server = serve(max_concurrent=1, overload="server_is_overloaded", faults=["hang"])

    def hold() -> None:
        with pytest.raises(openai.APITimeoutError):
            ask(client_of(server, timeout=0.5))

    holder = threading.Thread(target=hold)
    holder.start()
    eventually(lambda: server.score().requests == 1)
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client_of(server))
    assert (caught.value.status_code, caught.value.code) == (503, "server_is_overloaded")
    holder.join()


def test_reset(serve: Serve, client_of: ClientOf, ask: Ask) -> None:
    """A new score starts from nothing; the law goes on unless it is to be refilled."""
    server = serve(requests_per_minute=1, clock=ManualClock())
    client = client_of(server)
    ask(client)
    server.reset_score()
    assert server.score().requests == 0
    with pytest.raises(openai.RateLimitError):
        ask(client)
    assert server.score().quota_share == 0
    server.reset_score(refill=True)
    ask(client)
    assert server.score().quota_share == 1


def test_the_score_outlives_the_server(client_of: ClientOf, ask: Ask) -> None:
    with ApiServer() as server:
        ask(client_of(server))
    assert server.score().paid == 1
    server.stop()


def test_latency(serve: Serve, client_of: ClientOf, ask: Ask) -> None:
    """It is a + b x input + c x output, with noise that only the seed and the body decide."""
    server = serve(latency=(0.01, 0.0005, 0.001))
    usage = ask(client_of(server)).usage
    expected = 0.01 + 0.0005 * usage.prompt_tokens + 0.001 * usage.completion_tokens
    assert expected <= server.journal()[0].duration_s < expected + 0.1
