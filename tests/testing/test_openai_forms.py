"""The forms of OpenAI and Azure, asked by OpenAI's own client over sockets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest

from toolkit.testing import ApiServer, ModelSpec

TEXT = "The mill at the bay ground rye. It stood for six hundred years. Nobody knows who built it."
Serve = Callable[..., ApiServer]
ClientOf = Callable[..., openai.OpenAI]
Ask = Callable[..., Any]


def test_chat(serve: Serve, client_of: ClientOf, ask: Ask) -> None:
    reply = ask(client_of(serve()), max_tokens=64)
    assert reply.choices[0].message.content == TEXT
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert reply.usage.completion_tokens_details.reasoning_tokens == 0


def test_chat_with_a_cap_stop_parts_and_several_replies(serve: Serve, client_of: ClientOf, ask: Ask) -> None:
    client = client_of(serve())
    short = ask(client, max_tokens=8)
    assert short.choices[0].finish_reason == "length"
    assert short.usage.completion_tokens == 8
    assert TEXT.startswith(short.choices[0].message.content)
    assert ask(client, stop=["It"]).choices[0].message.content == "The mill at the bay ground rye."
    several = ask(client, n=3)
    assert [choice.index for choice in several.choices] == [0, 1, 2]
    parts = client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": [{"type": "text", "text": TEXT}]}]
    )
    assert parts.choices[0].message.content == TEXT


def test_the_same_question_has_the_same_answer(serve: Serve, client_of: ClientOf, ask: Ask) -> None:
    one, two = (ask(client_of(serve(seed=seed))) for seed in (0, 1))
    assert one.choices == two.choices
    assert one.usage == two.usage


def test_responses(serve: Serve, client_of: ClientOf) -> None:
    client = client_of(serve())
    reply = client.responses.create(model="gpt-4.1", input=TEXT, instructions="Be brief.")
    assert (reply.output_text, reply.status) == (TEXT, "completed")
    cut = client.responses.create(
        model="gpt-4.1", input=[{"role": "user", "content": TEXT}], max_output_tokens=16
    )
    assert cut.status == "incomplete"
    assert cut.incomplete_details is not None
    assert cut.incomplete_details.reason == "max_output_tokens"
    assert cut.usage is not None
    assert cut.usage.output_tokens == 16


def test_reasoning_spends_the_cap(serve: Serve, client_of: ClientOf, ask: Ask) -> None:
    """A reasoning model has its tokens in the usage, may use up the cap, and refuses max_tokens."""
    client = client_of(serve(reasoning_tokens=50))
    model = "gpt-5.6-luna"
    reply = ask(client, model=model, max_completion_tokens=100)
    assert reply.usage.completion_tokens_details.reasoning_tokens == 50
    assert reply.choices[0].message.content == TEXT
    empty = ask(client, model=model, max_completion_tokens=40)
    assert (empty.choices[0].message.content, empty.choices[0].finish_reason) == ("", "length")
    assert empty.usage.completion_tokens_details.reasoning_tokens == 40
    none = ask(client, model=model, max_completion_tokens=40, reasoning_effort="minimal")
    assert none.choices[0].message.content == TEXT
    answered = client.responses.create(
        model=model, input=TEXT, max_output_tokens=400, reasoning={"effort": "high"}
    )
    assert answered.usage is not None
    assert answered.usage.output_tokens_details.reasoning_tokens == 200
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, model=model, max_tokens=100)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "max_tokens")


def test_azure(serve: Serve, ask: Ask) -> None:
    """Azure's client finds its deployment, its key is read, and durations are bare numbers."""
    server = serve("azure", requests_per_minute=60, tokens_per_minute=1000, key="secret", models=["mine"])
    options: dict[str, Any] = {"azure_endpoint": server.azure_url, "max_retries": 0, "timeout": 5}
    with openai.AzureOpenAI(api_key="secret", api_version="2024-10-21", **options) as client:
        assert ask(client, model="mine").choices[0].message.content == TEXT
        with pytest.raises(openai.RateLimitError) as caught:
            [ask(client, model="mine", max_tokens=20) for _ in range(3)]
        headers = caught.value.response.headers
        assert caught.value.code == "429"
        assert 0 < int(headers["retry-after-ms"]) <= 1000
        assert headers["x-ratelimit-reset-requests"].isdigit()
        with pytest.raises(openai.RateLimitError) as caught:
            ask(client, model="mine", max_tokens=990)
        assert caught.value.response.headers["retry-after"] == "86400"
        with pytest.raises(openai.NotFoundError) as missing:
            ask(client, model="other")
        assert missing.value.code == "DeploymentNotFound"
    with (
        openai.AzureOpenAI(api_key="wrong", api_version="2024-10-21", **options) as client,
        pytest.raises(openai.AuthenticationError),
    ):
        ask(client, model="mine")
    with openai.OpenAI(base_url=f"{server.azure_url}/openai/v1", api_key="secret", max_retries=0) as client:
        assert client.models.list().data[0].id == "mine"


def test_models(serve: Serve, client_of: ClientOf) -> None:
    server = serve(models=["gpt-4o", ModelSpec("small", 100, 50)])
    assert [model.id for model in client_of(server).models.list()] == ["gpt-4o", "small"]
    assert server.score().requests == 0


def test_errors_of_the_request(serve: Serve, client_of: ClientOf, ask: Ask) -> None:
    """Wrong requests are refused with the vendor's status, code and parameter."""
    server = serve(models=[ModelSpec("small", 100, 50, fixed_temperature=True)], key=["secret"])
    with pytest.raises(openai.AuthenticationError) as key:
        ask(client_of(server, api_key="wrong"), model="small")
    assert key.value.code == "invalid_api_key"
    assert "secret" not in repr(server.options) + str(key.value)
    client = client_of(server, api_key="secret")
    with pytest.raises(openai.NotFoundError) as model:
        ask(client, model="large")
    assert model.value.code == "model_not_found"
    for text, options, code, param in [
        ("word " * 200, {}, "context_length_exceeded", "messages"),
        ("word", {"max_tokens": 51}, "invalid_request", "max_tokens"),
        ("word", {"max_tokens": 0}, "invalid_request", "max_tokens"),
        ("word", {"temperature": 0.5}, "unsupported_value", "temperature"),
        ("word", {"stream": True}, "unsupported_value", "stream"),
    ]:
        with pytest.raises(openai.BadRequestError) as caught:
            ask(client, text, model="small", **options)
        assert (caught.value.code, caught.value.param) == (code, param)
    assert server.score().refused["context_length_exceeded"] == 1
    assert server.score().admitted == 0


def test_rate_limit(serve: Serve, client_of: ClientOf, ask: Ask) -> None:
    """The 429 has the vendor's words and numbers, and headers that say when to come again."""
    client = client_of(serve(requests_per_minute=3, tokens_per_minute=10_000))
    for _ in range(3):
        reply = client.chat.completions.with_raw_response.create(
            model="gpt-4o", messages=[{"role": "user", "content": TEXT}], max_tokens=100
        )
    assert reply.headers["x-ratelimit-limit-tokens"] == "10000"
    assert reply.headers["x-ratelimit-remaining-requests"] == "0"
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client)
    assert (caught.value.code, caught.value.type) == ("rate_limit_exceeded", "requests")
    assert "requests per min (RPM): Limit 3, Used 3, Requested 1. Please try again in " in str(caught.value)
    assert caught.value.response.headers["retry-after"] == "20"
    with pytest.raises(openai.RateLimitError) as large:
        ask(client, max_tokens=10_001)
    assert large.value.code == "rate_limit_exceeded"
    assert large.value.type == "tokens"
    assert "Request too large for gpt-4o" in str(large.value)
    assert "Limit 10000, Requested 10001" in str(large.value)
    assert "retry-after" not in large.value.response.headers


def test_a_long_prefix_is_cached(serve: Serve, client_of: ClientOf, ask: Ask) -> None:
    client = client_of(serve())
    cached = [ask(client, "word " * 2000).usage.prompt_tokens_details.cached_tokens for _ in range(2)]
    assert cached == [0, 2667 // 128 * 128]


def test_pools(serve: Serve, client_of: ClientOf, ask: Ask) -> None:
    """With pools by key and model each of them has a law of its own."""
    server = serve(requests_per_minute=1, pool_by="key_and_model")
    for key in ("one", "two"):
        for model in ("gpt-4o", "gpt-4.1"):
            ask(client_of(server, api_key=key), model=model)
    with pytest.raises(openai.RateLimitError):
        ask(client_of(server, api_key="one"))
