"""The OpenAI provider against real connections: what it asks, how it reads, and where it sends no key."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

import toolkit as tk
from toolkit.config import Config
from toolkit.errors import AuthenticationFailed, ConfigError
from toolkit.protocols import Retry
from toolkit.providers.openai import OpenAISummarizationProvider
from toolkit.records import Request, Sampling, Stage, Status, StopReason
from toolkit.testing import ApiServer

KEY = "sk-proj-Zt7Qw9Lm2Xc4Vb6Nn8Rr"
REQUEST = Request(
    "c1", "e", Stage.DIRECT, "Bees dance. They show the way to flowers.", "Be brief.", max_output_tokens=40
)
Make = Callable[..., OpenAISummarizationProvider]


def chat(text: str | None = "Bees.", finish: str = "stop", **more: Any) -> dict[str, Any]:
    return {
        "choices": [{"message": {"role": "assistant", "content": text, **more}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 20, "completion_tokens": 4},
    }


@pytest.fixture
def make(player: Any, answer: Any) -> Iterator[Make]:
    """Make providers that reach the player, which answers a short chat completion."""
    player.script = [answer(chat())]
    with ExitStack() as stack:

        def make(**settings: Any) -> OpenAISummarizationProvider:
            place = {} if "azure_endpoint" in settings else {"openai_base_url": player.url}
            config = Config(**{"provider": "openai", "model": "gpt-4o-mini", **place, **settings})
            return stack.enter_context(OpenAISummarizationProvider(config))

        yield make


# -- asking --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"model": "qwen3:4b"}, {"max_tokens": 40, "temperature": 0.0}),
        ({"model": "gpt-4o-mini", "top_p": 0.9, "seed": 3}, {"max_tokens": 40, "top_p": 0.9, "seed": 3}),
        (
            {"model": None},
            {"model": "gpt-5.6-luna", "max_completion_tokens": 40, "reasoning_effort": "none"},
        ),
        ({"model": None, "reasoning_effort": "high"}, {"reasoning_effort": "high", "temperature": None}),
        ({"model": "openai/gpt-5-mini"}, {"reasoning_effort": "minimal", "temperature": None}),
        ({"model": "o3"}, {"reasoning_effort": "low", "max_completion_tokens": 40, "temperature": None}),
    ],
)
def test_chat_asks_what_the_model_takes(
    make: Make, player: Any, settings: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Cap, effort and sampling are called as the model wants them; what it does not take is not sent."""
    provider = make(**settings)
    sampling = Sampling(provider.config.temperature, provider.config.top_p, provider.config.seed)
    provider.generate(replace(REQUEST, sampling=sampling))
    (asked,) = player.asked
    assert asked.path == "/v1/chat/completions"
    assert asked.body["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": REQUEST.prompt},
    ]
    assert {name: asked.body.get(name) for name in expected} == expected
    assert ("max_tokens" in asked.body) != ("max_completion_tokens" in asked.body)


def test_responses_asks_and_reads(make: Make, player: Any, answer: Any) -> None:
    """The Responses API has its own names for everything, and keeps no transcript."""
    body = {
        "status": "completed",
        "error": None,
        "output": [
            {"type": "reasoning", "summary": []},
            {"type": "message", "content": [{"type": "output_text", "text": "Bees."}]},
        ],
        "usage": {
            "input_tokens": 20,
            "output_tokens": 9,
            "input_tokens_details": {"cached_tokens": 8},
            "output_tokens_details": {"reasoning_tokens": 5},
        },
    }
    player.script = [answer(body)]
    reply = make(model="gpt-5.6-luna", openai_api="responses", reasoning_effort="low").generate(REQUEST)
    (asked,) = player.asked
    assert asked.path == "/v1/responses"
    assert asked.body == {
        "model": "gpt-5.6-luna",
        "input": REQUEST.prompt,
        "instructions": "Be brief.",
        "max_output_tokens": 40,
        "reasoning": {"effort": "low"},
        "store": False,
    }
    assert (reply.text, reply.stop_reason) == ("Bees.", StopReason.STOP)
    usage = reply.usage
    assert (usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens) == (
        20,
        9,
        8,
        5,
    )


@pytest.mark.parametrize(
    ("incomplete", "content", "reason"),
    [
        ("max_output_tokens", [{"type": "output_text", "text": "Bees"}], StopReason.LENGTH),
        ("max_output_tokens", [], StopReason.REASONING),
        ("content_filter", [], StopReason.CONTENT_FILTER),
        (None, [{"type": "refusal", "refusal": "No."}], StopReason.REFUSAL),
        (None, [], StopReason.EMPTY),
    ],
)
def test_ends_of_a_response(
    make: Make, player: Any, answer: Any, incomplete: str | None, content: list[Any], reason: StopReason
) -> None:
    """Every way in which a response may fall short has its own name."""
    body = {
        "incomplete_details": incomplete and {"reason": incomplete},
        "output": [{"type": "reasoning"}, {"type": "message", "content": content}],
        "usage": {"input_tokens": 1, "output_tokens": 40},
    }
    player.script = [answer(body)]
    assert make(openai_api="responses").generate(REQUEST).stop_reason is reason


def test_azure_has_its_own_address_and_key(make: Make, player: Any) -> None:
    """A deployment is part of the path, the key goes into its own header, and OpenAI's is not sent."""
    provider = make(
        azure_endpoint=f"http://127.0.0.1:{player.port}",
        azure_api_key=KEY,
        openai_api_key="sk-of-openai-0123456789",
        model="my-deployment",
    )
    provider.generate(REQUEST)
    (asked,) = player.asked
    assert asked.path == "/openai/deployments/my-deployment/chat/completions?api-version=2024-10-21"
    assert asked.headers["api-key"] == KEY
    assert "sk-of-openai" not in str(asked.headers)
    assert asked.body["max_tokens"] == 40


def test_environment_of_azure_does_not_capture_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that is set up for both sends what is meant for OpenAI to OpenAI."""
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://mine.openai.azure.com")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "azure-0123456789")
    assert Config(provider="openai").azure_endpoint == "https://mine.openai.azure.com"
    assert Config(provider="openai", openai_base_url="http://127.0.0.1:1/v1").azure_endpoint is None
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert Config(provider="openai").azure_endpoint is None
    both = {"openai_base_url": "http://127.0.0.1:1", "azure_endpoint": "http://127.0.0.1:2"}
    with pytest.raises(ConfigError, match="not both"):
        OpenAISummarizationProvider(Config(provider="openai", **both))


def test_client_is_made_before_anything_is_admitted(make: Make) -> None:
    """Loading the library takes a second, which must not pass between an admission and its request."""
    provider = make()
    provider.prepare()
    assert provider._held is not None


def test_client_that_cannot_be_made_fails_the_call_and_not_the_run(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is wrong with the machine's settings is an episode's error, as it is for any other call."""
    monkeypatch.setenv("HTTPS_PROXY", "nonsense://127.0.0.1:1")
    provider = make(openai_base_url="https://models.example/v1", openai_api_key=KEY)
    run = tk.run([tk.Episode.from_text("e", "Bees dance.")], provider=provider)
    assert run.counts() == {"failed": 1}
    assert list(run.attempts["error_kind"]) == ["RequestRejected"]


def test_a_text_above_a_limit_is_cut_and_not_refused(make: Make, api_server: ApiServer) -> None:
    """An account of 3,000 tokens a minute takes 6,000 in parts; one that is too small says so in numbers."""
    text = "\n".join(f"Hill {n} has a spring that never dries, not even in August." for n in range(400))
    settings = {"openai_base_url": api_server.base_url, "limits_url": "memory://", "summary_max_tokens": 64}
    provider = make(**settings, openai_tokens_per_minute=3000, openai_requests_per_minute=10**6)
    clock = tk.ManualClock()
    run = tk.run([tk.Episode.from_text("e", text)], provider=provider, clock=clock)
    assert run.counts() == {"ok": 1}
    assert run.calls["stage"].value_counts()["map"] >= 2
    assert 0.5 < run.quota_share < 1.05, "an input that was underestimated counts in full afterwards"
    assert set(run.quota_shares) == {"requests:bucket:60", "tokens:bucket:60"}
    tiny = make(**settings, openai_tokens_per_minute=70, openai_api_key="another")
    (record,) = tk.run([tk.Episode.from_text("e", text)], provider=tiny, clock=clock).records
    assert "63 tokens of a limit of 70 tokens per minute" in str(record.summary.error)


# -- the dialect ---------------------------------------------------------------------------------------


def refusing(answer: Any, *names: str, code: str = "unsupported_parameter") -> Callable[[Any], Any]:
    """Answer as a server does that does not take some parameters."""

    def play(asked: Any) -> Any:
        for name in names:
            if name in asked.body:
                error = {
                    "message": f"no {name}",
                    "type": "invalid_request_error",
                    "param": name,
                    "code": code,
                }
                return answer({"error": error}, status=400)
        return answer(chat())

    return play


@pytest.mark.parametrize("model", ["newer-1", "gpt-5.6-luna"])
def test_name_of_the_cap_switches_once_and_is_remembered(
    make: Make, player: Any, answer: Any, model: str
) -> None:
    """Both directions: one request more, and none for the next instance in the process."""
    first = "max_tokens" if model == "newer-1" else "max_completion_tokens"
    player.script = [refusing(answer, first)]
    provider = make(model=model)
    for _ in range(3):
        assert provider.generate(REQUEST).text == "Bees."
    assert make(model=model).generate(REQUEST).text == "Bees."
    assert [first in asked.body for asked in player.asked] == [True, False, False, False, False]


def test_dialect_is_learned_by_many_threads(make: Make, player: Any, answer: Any) -> None:
    """However many requests are under way with the wrong name, all are answered, each after one more."""
    player.script = [refusing(answer, "max_tokens", "temperature")]
    provider = make(model="many-threads")
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: provider.generate(REQUEST), range(24)))
    assert {reply.text for reply in replies} == {"Bees."}
    assert len(player.asked) <= 24 + 2 * 8


def test_server_that_takes_no_cap_at_all_is_not_asked_for_ever(make: Make, player: Any, answer: Any) -> None:
    """Two names are tried, then the refusal stands."""
    player.script = [refusing(answer, "max_tokens", "max_completion_tokens")]
    provider = make(model="no-cap")
    with pytest.raises(Exception, match="no max_") as caught:
        provider.generate(REQUEST)
    assert provider.classify(caught.value).retry is Retry.NEVER
    assert len(player.asked) == 2


def test_setting_that_was_asked_for_is_not_dropped_in_silence(make: Make, player: Any, answer: Any) -> None:
    """A temperature of one's own that the model refuses is said to be left out; an effort is never."""
    player.script = [refusing(answer, "temperature", code="unsupported_value")]
    provider = make(model="fixed-temperature", temperature=0.7)
    with pytest.warns(UserWarning, match="takes no temperature"):
        provider.generate(REQUEST)
    provider.generate(REQUEST)
    assert "temperature" not in player.asked[-1].body
    with pytest.warns(UserWarning, match="takes no temperature and no top_p"):
        make(model="o3", temperature=0.7, top_p=0.5)
    player.script = [refusing(answer, "reasoning_effort", code="unsupported_value")]
    provider = make(model="no-effort", reasoning_effort="high")
    with pytest.raises(Exception, match="no reasoning_effort"):
        provider.generate(REQUEST)


def test_thinking_has_room_in_the_default_caps(make: Make) -> None:
    """A cap of 512 would be used up before the first word; a cap of one's own is the whole cap."""
    caps = {
        effort: make(model="gpt-5.6-luna", reasoning_effort=effort).settings().direct.max_output_tokens
        for effort in (None, "none", "low", "high")
    }
    assert caps[None] == caps["none"] == 512
    assert caps["none"] < caps["low"] < caps["high"]
    own = make(model="o3", summary_max_tokens=100)
    assert own.settings().direct.max_output_tokens == 100


# -- reading -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "text", "reason"),
    [
        (chat(), "Bees.", StopReason.STOP),
        (chat("Bees d", "length"), "Bees d", StopReason.LENGTH),
        (chat("Bees", "content_filter"), "Bees", StopReason.CONTENT_FILTER),
        (chat(None, "content_filter"), "", StopReason.CONTENT_FILTER),
        (chat(None, refusal="I cannot."), "I cannot.", StopReason.REFUSAL),
        (chat(" \n"), "", StopReason.EMPTY),
        (chat("", "length"), "", StopReason.EMPTY),
        (chat("", "length", reasoning_content="Let me see"), "", StopReason.REASONING),
        (chat("<think>Hm, bees.</think>\n\nBees."), "Bees.", StopReason.STOP),
        (chat("<think>Hm, bees", "length"), "", StopReason.REASONING),
        (chat([{"type": "text", "text": "Bees."}]), "Bees.", StopReason.STOP),  # type: ignore[arg-type]
        ({"choices": []}, "", StopReason.EMPTY),
    ],
)
def test_ends_of_a_chat_completion(
    make: Make, player: Any, answer: Any, body: dict[str, Any], text: str, reason: StopReason
) -> None:
    """A reply that was cut, held back, refused, empty or thought away is told apart."""
    player.script = [answer(body)]
    reply = make().generate(REQUEST)
    assert (reply.text, reply.stop_reason) == (text, reason)


def test_cap_used_up_by_reasoning_is_told(make: Make, player: Any, answer: Any) -> None:
    """The summary says what happened and which two settings help."""
    body = chat("", "length")
    body["usage"]["completion_tokens_details"] = {"reasoning_tokens": 40}
    player.script = [answer(body)]
    summary = make(model="gpt-5.6-luna", summary_max_tokens=40).summarize("Bees dance.")
    assert (summary.status, summary.text) == (Status.FAILED, "")
    assert "reasoning used up the cap of 40 tokens" in str(summary.error)
    assert summary.calls[0].stop_reason is StopReason.REASONING


def test_usage_is_the_servers(make: Make, player: Any, answer: Any) -> None:
    """Cached and reasoning tokens are parts of the whole."""
    body = chat()
    body["usage"] = {
        "prompt_tokens": 100,
        "completion_tokens": 30,
        "prompt_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 8},
        "completion_tokens_details": {"reasoning_tokens": 10},
    }
    player.script = [answer(body)]
    usage = make().generate(REQUEST).usage
    assert (usage.input_tokens, usage.output_tokens, usage.counter) == (100, 30, "server")
    assert (usage.cached_tokens, usage.cache_write_tokens, usage.reasoning_tokens) == (64, 8, 10)


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": -1, "completion_tokens": "many"}, 7, []])
def test_usage_that_is_missing_is_estimated_and_says_so(
    make: Make, player: Any, answer: Any, usage: Any
) -> None:
    """Servers of one's own may send none, or nonsense."""
    player.script = [answer({**chat(), "usage": usage})]
    provider = make(model="unknown-1")
    reply = provider.generate(REQUEST)
    assert reply.usage.counter == "estimate:learned-bytes"
    assert reply.usage.input_tokens == provider.input_estimate(REQUEST) > 10
    assert reply.usage.output_tokens > 0


def test_headers_of_limits_are_kept_and_no_others(make: Make, player: Any, answer: Any) -> None:
    """What the limiter needs comes with lower-case names; cookies and keys stay out."""
    sent = {
        "X-RateLimit-Limit-Requests": "500",
        "Retry-After-Ms": "12",
        "X-Request-Id": "req_1",
        "OpenAI-Processing-Ms": "7",
        "Set-Cookie": "session=secret",
        "X-Api-Key": KEY,
    }
    player.script = [answer(chat(), headers=sent)]
    reply = make().generate(REQUEST)
    assert reply.headers["x-ratelimit-limit-requests"] == "500"
    assert reply.headers["openai-processing-ms"] == "7"
    assert reply.headers.keys() >= {"retry-after-ms", "x-request-id"}
    assert not reply.headers.keys() & {"set-cookie", "x-api-key", "content-type"}
    assert "req_1" not in repr(reply)
    assert reply == replace(reply, headers={})


def test_json_of_another_type_is_read(make: Make, player: Any, answer: Any) -> None:
    """Servers that call their JSON plain text are understood."""
    player.script = [answer(chat(), headers={"content-type": "text/plain"})]
    assert make().generate(REQUEST).text == "Bees."


def test_text_after_a_stop_mark_is_cut(make: Make, player: Any, answer: Any) -> None:
    """Not every server heeds ``stop``."""
    player.script = [answer(chat("Bees.\n\nAnd so on"))]
    assert make().generate(replace(REQUEST, stop=("\n\n",))).text == "Bees."
    assert player.asked[0].body["stop"] == ["\n\n"]


# -- connections ---------------------------------------------------------------------------------------


def test_library_never_tries_again_by_itself(make: Make, player: Any, answer: Any) -> None:
    """A second attempt behind the limiter's back would not be counted."""
    player.script = [answer({"error": {"message": "down"}}, status=500)]
    with pytest.raises(Exception, match="down"):
        make().generate(REQUEST)
    assert len(player.asked) == 1


def test_redirect_is_not_followed(make: Make, player: Any, answer: Any) -> None:
    """A key is sent to the address that was set and to no other."""
    player.script = [answer(b"", status=307, headers={"location": f"{player.url}/elsewhere"})]
    provider = make(openai_api_key=KEY)
    with pytest.raises(Exception, match="307") as caught:
        provider.generate(REQUEST)
    assert len(player.asked) == 1
    decision = provider.classify(caught.value)
    assert decision.retry is Retry.NEVER
    assert "set openai_base_url to the address that it leads to" in str(decision.error)


def test_loopback_goes_around_proxies(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy in the environment must not see what stays on this machine."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert make().generate(REQUEST).text == "Bees."


def test_close_closes_and_can_be_repeated(make: Make) -> None:
    """Connections are made at the first use and given back."""
    provider = make()
    provider.generate(REQUEST)
    client = provider._held
    provider.close()
    provider.close()
    assert client.is_closed()


# -- keys ----------------------------------------------------------------------------------------------


def test_key_reaches_the_server_and_nothing_else(make: Make, player: Any, caplog: Any) -> None:
    """It is in the header, and in no repr, no log and no name of a pool."""
    caplog.set_level(logging.DEBUG)
    provider = make(openai_api_key=KEY)
    reply = provider.generate(REQUEST)
    assert player.asked[0].headers["authorization"] == f"Bearer {KEY}"
    shown = [caplog.text, repr(provider), repr(provider._where), repr(provider.config), repr(reply)]
    assert KEY[8:] not in " ".join([*shown, str(provider.quota_key())])


def test_server_of_ones_own_needs_no_key(make: Make, player: Any) -> None:
    """The library insists on one, so that a word stands in its place."""
    make().generate(REQUEST)
    assert player.asked[0].headers["authorization"] == "Bearer unused"


def test_missing_key_is_said_before_any_call() -> None:
    """With the names that it may have."""
    with pytest.raises(AuthenticationFailed, match=r"api.openai.com needs a key; .* \(OPENAI_API_KEY\)"):
        OpenAISummarizationProvider(Config(provider="openai"))
    with pytest.raises(AuthenticationFailed, match="AZURE_OPENAI_API_KEY"):
        OpenAISummarizationProvider(
            Config(provider="openai", model="d", azure_endpoint="https://mine.openai.azure.com")
        )


@pytest.mark.parametrize("host", ["api.example.com", "10.0.0.7:8000", "localhost.example.com", "0.0.0.0:80"])
def test_key_does_not_travel_in_the_open(host: str) -> None:
    """Plain http to another machine is refused, unless it is asked for."""
    settings: dict[str, Any] = {"provider": "openai", "openai_base_url": f"http://{host}/v1"}
    with pytest.raises(ConfigError, match="could be read on the way") as caught:
        OpenAISummarizationProvider(Config(**settings, openai_api_key=KEY))
    assert KEY not in str(caught.value)
    OpenAISummarizationProvider(Config(**settings, openai_api_key=KEY, allow_insecure_http=True)).close()


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1", "127.8.8.8:1", "[::1]:8000", "a.localhost"])
def test_loopback_may_be_plain_http(host: str) -> None:
    """Nobody else can listen there."""
    OpenAISummarizationProvider(
        Config(provider="openai", openai_base_url=f"http://{host}/v1", openai_api_key=KEY)
    ).close()


@pytest.mark.parametrize(
    "url",
    [
        "https://ann:hunter2@api.example.com/v1",
        "https://hunter2@api.example.com",
        "ftp://ann:hunter2@api.example.com",
        "https://api.example.com/v1?key=hunter2",
        "https://",
        "https://host:port/v1",
    ],
)
@pytest.mark.parametrize("field", ["openai_base_url", "azure_endpoint", "anthropic_base_url"])
def test_address_that_holds_a_secret_or_none_is_refused(field: str, url: str) -> None:
    """An address is shown in messages; what is refused is not shown either."""
    with pytest.raises(ConfigError, match=field) as caught:
        Config(provider="openai", **{field: url})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("key", ["sk-abc\n", "sk-äöü-123", "two words\t"])
def test_key_that_no_header_can_hold_is_refused(make: Make, key: str) -> None:
    """A line end copied along would be an error of the library that prints the key."""
    with pytest.raises(ConfigError, match="no key has") as caught:
        make(openai_api_key=key)
    assert key not in str(caught.value)


def test_key_that_a_server_repeats_is_masked(make: Make, player: Any, answer: Any) -> None:
    """In whole, in part, and in a traceback with all that stands behind the error."""
    message = f"Incorrect API key provided: sk-proj-*********8Rr; got {KEY} and {KEY[:14]}"
    player.script = [answer({"error": {"message": message, "code": "invalid_api_key"}}, status=401)]
    provider = make(openai_api_key=KEY)
    summary = provider.summarize("Bees dance.")
    assert "Incorrect API key" in str(summary.error)
    with pytest.raises(Exception, match="Incorrect") as caught:
        provider.generate(REQUEST)
    decision = provider.classify(caught.value)
    assert isinstance(decision.error, AuthenticationFailed)
    decision.error.__cause__ = caught.value
    shown = str(summary) + "".join(traceback.format_exception(decision.error))
    assert KEY[:14] not in shown
    assert "8Rr" not in shown
    assert "openai_api_key (OPENAI_API_KEY)" in shown


# -- pools and prices ----------------------------------------------------------------------------------


def test_quota_key_tells_pools_apart() -> None:
    """Address, account and family make a pool; the version's date, the api and the timeout do not."""

    def key(**settings: Any) -> str | None:
        shared = {"provider": "openai", "openai_api_key": KEY, "model": "gpt-4o-mini"}
        return OpenAISummarizationProvider(Config(**{**shared, **settings})).quota_key()

    same = [key(), key(model="gpt-4o-mini-2024-07-18"), key(request_timeout_s=5, openai_api="responses")]
    others = [key(openai_api_key=KEY + "x"), key(model="gpt-4o"), key(openai_base_url="https://e.org/v1")]
    assert len(set(same)) == 1
    assert len({*same, *others}) == 4


@pytest.mark.parametrize(
    ("settings", "usd"),
    [
        ({"model": "gpt-4o-mini"}, (20 * 0.15 + 4 * 0.60) / 1e6),
        ({"model": "gpt-4o-mini-2024-07-18"}, (20 * 0.15 + 4 * 0.60) / 1e6),
        ({"model": "gpt-4o-mini-audio"}, None),
        ({"model": "ft:gpt-4o-mini-2024-07-18:me::1"}, None),
        ({"model": "qwen3:4b"}, None),
        ({"model": "qwen3:4b", "prices": {"qwen3:4b": {"input": 1, "output": 2}}}, 28e-6),
    ],
)
def test_price(make: Make, settings: dict[str, Any], usd: float | None) -> None:
    """List prices for exact names and their dated versions; nothing is guessed for a name that is near."""
    provider = make(**settings)
    assert provider.price(provider.generate(REQUEST)) == (None if usd is None else pytest.approx(usd))


def test_list_prices_hold_for_the_vendor_only(make: Make, player: Any) -> None:
    """Others sell under the same names at prices of their own, and deployments bear any name."""
    reply = make().generate(REQUEST)
    azure = make(azure_endpoint=f"http://127.0.0.1:{player.port}")
    other = make(openai_base_url="https://openrouter.example/api/v1", openai_api_key=KEY)
    official = make(openai_base_url="https://api.openai.com/v1", openai_api_key=KEY)
    assert azure.price(reply) is None
    assert other.price(reply) is None
    assert official.price(reply) == make().price(reply) is not None


@pytest.mark.parametrize(
    ("settings", "tokens"),
    [
        ({"model": "gpt-4.1-mini"}, 1_047_576),
        ({"model": "gpt-4o-2024-08-06"}, 128_000),
        ({"model": "gpt-5.6-sol"}, 922_000),
        ({"model": "ft:gpt-4o-mini-2024-07-18:me::1"}, 128_000),
        ({"model": "llama3.2"}, 4096),
        ({"model": "llama3.2", "context_tokens": 32_768}, 32_768),
        ({"model": "gpt-9", "openai_base_url": "https://api.openai.com/v1", "openai_api_key": KEY}, 16_384),
    ],
)
def test_context(make: Make, settings: dict[str, Any], tokens: int) -> None:
    """Known by the name, cautious where it is not, and what the config says goes first."""
    assert make(**settings).context_tokens == tokens
