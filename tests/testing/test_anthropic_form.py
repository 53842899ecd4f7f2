"""Anthropic's form, asked by Anthropic's own client over sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import anthropic
import pytest

from toolkit.testing import ApiServer

TEXT = "The mill at the bay ground rye. It stood for six hundred years. Nobody knows who built it."
MODEL = "claude-sonnet-5-5"
Serve = Callable[..., ApiServer]


@pytest.fixture
def client_of() -> Iterator[Callable[..., Any]]:
    with ExitStack() as stack:

        def make(server: ApiServer, **options: Any) -> Any:
            chosen = {"api_key": "any", "max_retries": 0, "timeout": 5, **options}
            return stack.enter_context(anthropic.Anthropic(base_url=server.anthropic_url, **chosen))

        yield make


def ask(client: Any, text: str = TEXT, *, max_tokens: int = 100, **options: Any) -> Any:
    messages = [{"role": "user", "content": text}]
    return client.messages.create(model=MODEL, messages=messages, max_tokens=max_tokens, **options)


def test_messages(serve: Serve, client_of: Callable[..., Any]) -> None:
    client = client_of(serve("anthropic"))
    reply = ask(client)
    assert (reply.content[0].text, reply.stop_reason) == (TEXT, "end_turn")
    assert reply.usage.output_tokens > 10
    cut = ask(client, max_tokens=8)
    assert (cut.stop_reason, cut.usage.output_tokens) == ("max_tokens", 8)
    stopped = ask(client, stop_sequences=["It"])
    assert (stopped.stop_reason, stopped.stop_sequence) == ("stop_sequence", "It")
    counted = client.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": TEXT}])
    assert counted.input_tokens == reply.usage.input_tokens
    assert MODEL in [model.id for model in client.models.list()]


def test_cache(serve: Serve, client_of: Callable[..., Any]) -> None:
    """What is marked is written once and read afterwards, and reads are not counted as input."""
    server = serve("anthropic", input_tokens_per_minute=10_000)
    client = client_of(server)
    system = [{"type": "text", "text": "word " * 1500, "cache_control": {"type": "ephemeral"}}]
    first, second = (ask(client, system=system).usage for _ in range(2))
    assert (first.cache_creation_input_tokens, first.cache_read_input_tokens) == (2000, 0)
    assert (second.cache_creation_input_tokens, second.cache_read_input_tokens) == (0, 2000)
    assert first.input_tokens == second.input_tokens < 100
    charged = [row.charged for row in server.journal()]
    assert charged[0] - charged[1] == 2000


def test_rate_limit(serve: Serve, client_of: Callable[..., Any]) -> None:
    """Output is known at the end: two requests pass, and the third meets an output bucket in the red."""
    server = serve("anthropic", input_tokens_per_minute=1000, output_tokens_per_minute=30)
    client = client_of(server)
    reply = client.messages.with_raw_response.create(
        model=MODEL, messages=[{"role": "user", "content": TEXT}], max_tokens=900
    )
    assert reply.headers["anthropic-ratelimit-output-tokens-limit"] == "30"
    assert int(reply.headers["anthropic-ratelimit-output-tokens-remaining"]) < 30
    assert reply.headers["anthropic-ratelimit-input-tokens-reset"].endswith("Z")
    ask(client)
    with pytest.raises(anthropic.RateLimitError) as caught:
        ask(client)
    assert caught.value.type == "rate_limit_error"
    assert "30 output tokens per minute" in str(caught.value)
    assert int(caught.value.response.headers["retry-after"]) > 0
    with pytest.raises(anthropic.RateLimitError) as large:
        ask(client, "word " * 2000)
    assert "retry-after" not in large.value.response.headers


@pytest.mark.parametrize(
    ("kind", "error", "type", "code"),
    [
        ("429", "RateLimitError", "rate_limit_error", None),
        ("slow_down", "RateLimitError", "rate_limit_error", "ramp_limit_exceeded"),
        ("insufficient_quota", "RateLimitError", "rate_limit_error", "enforced_spend_limit_reached"),
        ("credit_balance_exhausted", "PaymentRequiredError", "billing_error", None),
        ("400", "BadRequestError", "invalid_request_error", None),
        ("401", "AuthenticationError", "authentication_error", None),
        ("403", "PermissionDeniedError", "permission_error", None),
        ("404", "NotFoundError", "not_found_error", None),
        ("500", "InternalServerError", "api_error", None),
        ("504", "InternalServerError", "timeout_error", None),
        ("529", "InternalServerError", "overloaded_error", None),
        ("server_is_overloaded", "InternalServerError", "overloaded_error", None),
    ],
)
def test_errors(
    serve: Serve, client_of: Callable[..., Any], kind: str, error: str, type: str, code: str | None
) -> None:
    with pytest.raises(getattr(anthropic, error, anthropic.APIStatusError)) as caught:
        ask(client_of(serve(faults=[kind])))
    assert caught.value.type == type
    assert getattr(caught.value, "error_code", code) == code
    assert ("retry-after" in caught.value.response.headers) == (kind in ("429", "slow_down"))


def test_errors_of_the_request(serve: Serve, client_of: Callable[..., Any]) -> None:
    server = serve(key="secret")
    with pytest.raises(anthropic.AuthenticationError):
        ask(client_of(server))
    with pytest.raises(anthropic.BadRequestError, match="prompt is too long"):
        ask(client_of(server, api_key="secret"), "word " * 200_000)


def test_refusal(serve: Serve, client_of: Callable[..., Any]) -> None:
    assert ask(client_of(serve(faults=["refusal"]))).stop_reason == "refusal"


def test_a_hidden_cap_answers_529(serve: Serve, client_of: Callable[..., Any]) -> None:
    server = serve(max_concurrent=1, overload="server_is_overloaded", faults=["hang"])
    with pytest.raises(anthropic.APITimeoutError):
        ask(client_of(server, timeout=0.1))
    server = serve(faults=["server_is_overloaded"])
    with pytest.raises(anthropic.InternalServerError) as caught:
        ask(client_of(server))
    assert caught.value.status_code == 529
