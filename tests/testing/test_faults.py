"""Each fault raises in OpenAI's own client what the same fault of the real API raises there."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import openai
import pytest

from toolkit.testing import ApiServer
from toolkit.testing.faults import ALIASES, FAULTS, GATE, SERVICE

Serve = Callable[..., ApiServer]
ClientOf = Callable[..., openai.OpenAI]
Ask = Callable[..., Any]


def eventually(holds: Callable[[], bool]) -> None:
    """Wait for what a socket of another thread is about to do."""
    ends = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.002)


CODES_429 = [
    "rate_limit_exceeded",
    "slow_down",
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
]
STATUS_ERRORS: list[tuple[str, type[openai.APIStatusError], int]] = [
    *[(code, openai.RateLimitError, 429) for code in CODES_429],
    ("request_too_large", openai.RateLimitError, 429),
    ("400", openai.BadRequestError, 400),
    ("context_length_exceeded", openai.BadRequestError, 400),
    ("401", openai.AuthenticationError, 401),
    ("403", openai.PermissionDeniedError, 403),
    ("404", openai.NotFoundError, 404),
    ("500", openai.InternalServerError, 500),
    ("502", openai.InternalServerError, 502),
    ("503", openai.InternalServerError, 503),
    ("504", openai.InternalServerError, 504),
    ("529", openai.InternalServerError, 529),
    ("html_502", openai.InternalServerError, 502),
]


@pytest.mark.parametrize(("kind", "error", "status"), STATUS_ERRORS)
def test_statuses(
    serve: Serve,
    client_of: ClientOf,
    ask: Ask,
    kind: str,
    error: type[openai.APIStatusError],
    status: int,
) -> None:
    server = serve(faults=[kind])
    client = client_of(server)
    with pytest.raises(error) as caught:
        ask(client)
    assert caught.value.status_code == status
    name = ALIASES.get(kind, kind)
    assert server.score().refused == {name: 1}
    assert server.score().paid == 0
    if kind in CODES_429:
        assert caught.value.code == kind
    # Only what is worth another try says when.
    assert ("retry-after" in caught.value.response.headers) == (kind == "rate_limit_exceeded")
    ask(client)


def test_connections_that_break(serve: Serve, client_of: ClientOf, ask: Ask) -> None:
    """Reset before, reset after the work, and a body that ends early; the last two are paid for and lost."""
    server = serve(faults=["reset", "reset_after", "truncated"])
    client = client_of(server)
    for paid in (0, 1, 2):
        with pytest.raises(openai.APIConnectionError):
            ask(client)
        assert (server.score().paid, server.score().lost) == (paid, paid)
    assert [row.status for row in server.journal()] == [0, 0, 200]
    ask(client)
    assert (server.score().paid, server.score().lost, server.score().paid_twice) == (3, 2, 0)


def test_hang(serve: Serve, client_of: ClientOf, ask: Ask) -> None:
    """A request that hangs holds its slot until its client gives up."""
    server = serve(faults=["hang"], max_concurrent=1)
    with pytest.raises(openai.APITimeoutError):
        ask(client_of(server, timeout=0.1))
    eventually(lambda: server.journal()[0].status == 0)
    ask(client_of(server))
    assert server.score().paid == 1


def test_slow(serve: Serve, client_of: ClientOf, ask: Ask) -> None:
    """A client that gives up on a slow answer has paid for it nevertheless."""
    server = serve(faults=["slow", "slow"], slow_s=0.2)
    ask(client_of(server))
    assert server.journal()[0].duration_s >= 0.2
    with pytest.raises(openai.APITimeoutError):
        ask(client_of(server, timeout=0.05))
    eventually(lambda: server.score().paid == 2)
    assert server.score().refused == {"client_gone": 1}
    assert server.score().lost == 1


def test_bodies_that_are_no_json(serve: Serve, client_of: ClientOf, ask: Ask) -> None:
    server = serve(faults=["malformed", "html", "wrong_content_type"])
    client = client_of(server)
    with pytest.raises(json.JSONDecodeError):
        ask(client)
    assert server.score().lost == 1
    # The client hands on as text what it cannot read, and reads JSON that is called text.
    assert ask(client).startswith("<!DOCTYPE html>")
    assert ask(client).choices


def test_headers_that_are_wrong_or_missing(serve: Serve, client_of: ClientOf) -> None:
    raw = client_of(serve(faults=["wrong_headers", "missing_headers"])).chat.completions.with_raw_response
    messages: Any = [{"role": "user", "content": "The mill is old."}]
    wrong = raw.create(model="gpt-4o", messages=messages)
    assert wrong.headers["x-ratelimit-limit-requests"] == "banana"
    assert wrong.parse().choices
    missing = raw.create(model="gpt-4o", messages=messages)
    assert not [name for name in missing.headers if "ratelimit" in name]


def test_replies_that_are_none(serve: Serve, client_of: ClientOf, ask: Ask) -> None:
    client = client_of(serve(faults=["content_filter", "refusal", "empty"] * 2))
    choices = [ask(client).choices[0] for _ in range(3)]
    assert [choice.finish_reason for choice in choices] == ["content_filter", "stop", "stop"]
    assert choices[1].message.content is None
    assert choices[1].message.refusal
    assert choices[2].message.content == ""
    filtered, refused, empty = (
        client.responses.create(model="gpt-4o", input="The mill is old.") for _ in range(3)
    )
    assert filtered.incomplete_details is not None
    assert filtered.incomplete_details.reason == "content_filter"
    assert refused.output[0].content[0].type == "refusal"  # type: ignore[union-attr]
    assert empty.output_text == ""


def test_rates_are_met_and_do_not_depend_on_the_order(serve: Serve, client_of: ClientOf, ask: Ask) -> None:
    """Each body meets the same fault whenever it comes; a second try of it draws anew."""
    texts = [f"Mill {i} is old." for i in range(150)]
    fates = []
    for order in (texts, texts[::-1]):
        client, fate = client_of(serve(faults={"500": 0.2, "429": 0.2}, seed=5)), {}
        for text in order:
            try:
                ask(client, text)
                fate[text] = "ok"
            except openai.APIStatusError as error:
                fate[text] = str(error.status_code)
        fates.append(fate)
    assert fates[0] == fates[1]
    counts = Counter(fates[0].values())
    assert 15 <= counts["500"] <= 45
    assert 15 <= counts["429"] <= 45


def test_the_law_goes_before_a_fault_of_the_service(serve: Serve, client_of: ClientOf, ask: Ask) -> None:
    server = serve(requests_per_minute=1, faults=[None, "500"])
    ask(client_of(server))
    with pytest.raises(openai.RateLimitError):
        ask(client_of(server))
    assert server.score().faults == {}
    assert server.score().rate_limited == 1


def test_all_kinds_are_somewhere() -> None:
    """Every kind of fault belongs to one stage; fails if a new error is in none."""
    assert set(ALIASES.values()) <= FAULTS
    assert not GATE & SERVICE
