"""The Anthropic provider against real connections."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

import toolkit as tk
from toolkit.config import Config
from toolkit.errors import AuthenticationFailed, ConfigError, MissingDependency
from toolkit.providers.anthropic import AnthropicSummarizationProvider
from toolkit.providers.registry import get_provider
from toolkit.records import Episode, Request, Sampling, Stage, StopReason
from toolkit.testing import ApiServer

KEY = "sk-ant-api03-Zt7Qw9Lm2Xc4Vb6Nn8Rr"
REQUEST = Request("c1", "e", Stage.DIRECT, "Bees dance.", "Be brief.", max_output_tokens=40)
Make = Callable[..., AnthropicSummarizationProvider]


def message(*blocks: Any, stop_reason: str = "end_turn", **usage: Any) -> dict[str, Any]:
    return {
        "content": [{"type": "text", "text": block} if isinstance(block, str) else block for block in blocks],
        "stop_reason": stop_reason,
        "usage": {"input_tokens": 20, "output_tokens": 4, **usage},
    }


@pytest.fixture
def make(player: Any, answer: Any) -> Iterator[Make]:
    player.script = [answer(message("Bees."))]
    with ExitStack() as stack:
        yield lambda **settings: stack.enter_context(
            AnthropicSummarizationProvider(
                Config(**{"provider": "anthropic", "anthropic_base_url": player.url, **settings})
            )
        )


@pytest.mark.parametrize(
    ("settings", "sampling", "expected"),
    [
        ({}, Sampling(), {"model": "claude-haiku-4-5", "temperature": 0.0}),
        ({}, Sampling(0.5, 0.9), {"top_p": 0.9, "temperature": None}),
        (
            {"model": "claude-haiku-5-5"},
            Sampling(),
            {"temperature": None, "output_config": {"effort": "low"}, "thinking": None},
        ),
        (
            {"model": "claude-sonnet-5", "reasoning_effort": "none"},
            Sampling(),
            {"thinking": {"type": "disabled"}, "output_config": None},
        ),
        ({"model": "claude-opus-4-7"}, Sampling(), {"temperature": None}),
    ],
)
def test_asks_what_the_model_takes(
    make: Make, player: Any, settings: dict[str, Any], sampling: Sampling, expected: dict[str, Any]
) -> None:
    """Older models take a temperature or top_p, newer ones neither, and think as little as they can."""
    make(anthropic_api_key=KEY, **settings).generate(
        replace(REQUEST, sampling=sampling, stop=("\n\n", "END"))
    )
    (asked,) = player.asked
    assert asked.path == "/v1/messages"
    assert asked.headers["authorization"] == f"Bearer {KEY}"
    assert asked.body["system"] == "Be brief."
    assert asked.body["max_tokens"] == 40
    assert asked.body["stop_sequences"] == ["END"]
    assert asked.body["messages"] == [{"role": "user", "content": "Bees dance."}]
    assert {name: asked.body.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("body", "text", "reason"),
    [
        (message("Bees."), "Bees.", StopReason.STOP),
        (message("Bees", " dance."), "Bees dance.", StopReason.STOP),
        (message("Bees", stop_reason="stop_sequence"), "Bees", StopReason.STOP),
        (message("Bees", stop_reason="max_tokens"), "Bees", StopReason.LENGTH),
        (message("Bees", stop_reason="model_context_window_exceeded"), "Bees", StopReason.LENGTH),
        (message(stop_reason="refusal"), "", StopReason.REFUSAL),
        (message(), "", StopReason.EMPTY),
        (message({"type": "thinking", "thinking": "Hm"}, "Bees."), "Bees.", StopReason.STOP),
        (message({"type": "thinking", "thinking": ""}, stop_reason="max_tokens"), "", StopReason.REASONING),
    ],
)
def test_ends_of_a_message(
    make: Make, player: Any, answer: Any, body: dict[str, Any], text: str, reason: StopReason
) -> None:
    """A reply that was cut, refused, empty or thought away is told apart; thoughts are no text."""
    player.script = [answer(body)]
    reply = make().generate(REQUEST)
    assert (reply.text, reply.stop_reason) == (text, reason)


def test_usage_is_put_together(make: Make, player: Any, answer: Any) -> None:
    """What the cache read and wrote is counted apart by the server, and is part of the prompt here."""
    player.script = [
        answer(
            message(
                "Bees.",
                input_tokens=10,
                cache_read_input_tokens=60,
                cache_creation_input_tokens=30,
                output_tokens=9,
                output_tokens_details={"thinking_tokens": 5},
            )
        )
    ]
    provider = make()
    reply = provider.generate(REQUEST)
    usage = reply.usage
    assert (usage.input_tokens, usage.cached_tokens, usage.cache_write_tokens) == (100, 60, 30)
    assert (usage.output_tokens, usage.reasoning_tokens, usage.counter) == (9, 5, "server")
    assert provider.price(reply) == pytest.approx((10 * 1 + 60 * 0.10 + 30 * 1.25 + 9 * 5) / 1e6)


@pytest.mark.parametrize(
    "usage", [{"input_tokens": None}, {"output_tokens": "x"}, {"cache_read_input_tokens": "x"}]
)
def test_usage_that_is_missing_is_estimated(make: Make, player: Any, answer: Any, usage: Any) -> None:
    """Compatible servers may leave it out."""
    player.script = [answer(message("Bees.", **usage))]
    assert make().generate(REQUEST).usage.counter == "estimate:learned-bytes"


def test_address_with_the_version_is_understood(make: Make, player: Any) -> None:
    """OpenAI's addresses end in /v1, and people write Anthropic's so as well."""
    make(anthropic_base_url=player.url.removesuffix("/v1")).generate(REQUEST)
    make(anthropic_base_url=player.url + "/").generate(REQUEST)
    assert {asked.path for asked in player.asked} == {"/v1/messages"}


def test_temperature_above_the_range_is_refused(make: Make) -> None:
    """Anthropic's ends at 1, OpenAI's at 2."""
    with pytest.raises(ConfigError, match="0 to 1"):
        make(temperature=1.5)


def test_missing_key_is_said_before_any_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the variable that the vendor's own tools read is read."""
    with pytest.raises(AuthenticationFailed, match="ANTHROPIC_API_KEY"):
        get_provider(Config(provider="anthropic"))
    monkeypatch.setenv("ANTHROPIC_API_KEY", KEY)
    get_provider(Config(provider="anthropic")).close()


def test_missing_package_gives_the_install_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its extra is named, and importing the class needs it not."""
    monkeypatch.setitem(sys.modules, "anthropic", None)
    with pytest.raises(MissingDependency, match=r'pip install "episode-toolkit\[anthropic\]"'):
        get_provider(Config(provider="anthropic", anthropic_api_key=KEY))


@pytest.mark.parametrize(
    ("model", "tokens"), [("claude-haiku-4-5-20251001", 200_000), ("claude-opus-5-5", 1_000_000)]
)
def test_context(make: Make, model: str, tokens: int) -> None:
    """Known by the family."""
    assert make(model=model).context_tokens == tokens


@pytest.mark.parametrize("known", ["config", "auto"])
def test_what_prompts_take_is_not_taken_from_replies(known: Any) -> None:
    """A header that repeats the limit on replies makes no call wait for the tokens of its prompt."""
    episodes = [Episode.from_text(str(n), "The spring never dries. " * 500) for n in range(6)]
    with ApiServer("anthropic", output_tokens_per_minute=6000, requests_per_minute=600) as server:
        run = tk.run(
            episodes,
            Config(
                provider="anthropic",
                anthropic_base_url=server.anthropic_url,
                anthropic_output_tokens_per_minute=6000,
                limits=known,
                summary_max_tokens=64,
            ),
            progress=False,
        )
        score = server.score()
    assert run.calls["input_tokens"].sum() > 2 * 6000
    assert run.calls["wait_tokens_s"].sum() == 0
    assert score.refused == {}
    assert run.limits["tokens_limit"].isna().all()
