"""What failures of hosted models mean: real exceptions of the real libraries, from real connections."""

from __future__ import annotations

import importlib
import json
import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from toolkit.config import Config
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
from toolkit.protocols import Retry, RetryDecision
from toolkit.providers.answers import LASTING_5XX, PASSING_4XX, QUOTA
from toolkit.providers.failures import BY_CLASS, Look, find_row
from toolkit.providers.registry import get_provider
from toolkit.records import Request, Stage
from toolkit.testing import ApiServer

REQUEST = Request("c1", "e", Stage.DIRECT, "Bees dance.", max_output_tokens=40)
Ask = Callable[..., RetryDecision]


@pytest.fixture
def ask(player: Any) -> Iterator[Ask]:
    """Ask the player, or another address, once, and return the decision on what went wrong."""
    with ExitStack() as stack:

        def ask(provider: str = "openai", url: str | None = None, **settings: Any) -> RetryDecision:
            made = stack.enter_context(
                get_provider(
                    Config(
                        provider=provider,
                        model="gpt-4o-mini" if provider == "openai" else "claude-haiku-4-5",
                        **{
                            f"{provider}_base_url": url or player.url,
                            f"{provider}_api_key": "test",
                            **settings,
                        },
                    )
                )
            )
            with pytest.raises(Exception) as caught:  # noqa: PT011 (which one is the question)
                made.generate(REQUEST)
            return made.classify(caught.value)

        yield ask


# -- classes -------------------------------------------------------------------------------------------


NOT_USED = ("anthropic.lib.tools", "anthropic.lib.foundry")
"""Agents' tools and another vendor's front door: no request of the toolkit comes near them."""


def exceptions_of(package: str) -> list[type[Exception]]:
    """Return every exception class of a library that is there once a client has been made."""
    openai.OpenAI(api_key="any").close()
    openai.AzureOpenAI(api_key="any", azure_endpoint="http://127.0.0.1", api_version="any").close()
    anthropic.Anthropic(api_key="any").close()
    found, waiting = [], list(Exception.__subclasses__())
    while waiting:
        kind = waiting.pop()
        waiting += kind.__subclasses__()
        home = kind.__module__
        if home.partition(".")[0] == package and not home.startswith(NOT_USED):
            found += [] if issubclass(kind, Warning) else [kind]
    return found


@pytest.mark.parametrize("package", ["openai", "anthropic", "httpx2"])
def test_every_exception_of_the_libraries_is_mapped(package: str) -> None:
    """A new class of a new version is noticed: by its own name, or as an answer with a known status."""
    kinds = exceptions_of(package)
    assert len(kinds) > 12
    for kind in kinds:
        row = find_row(kind)
        assert row is not None, kind
        if row is Look.AT_STATUS:
            status = getattr(kind, "status_code", None)
            if isinstance(status, int) and status not in (429, 402):
                assert 400 <= status < 600, kind
        else:
            assert kind.__name__ in BY_CLASS, f"{kind} has no row of its own"


def test_every_code_of_anthropics_billing_is_known() -> None:
    """Classes whose name says that money is out are never tried again."""
    classes = importlib.import_module("anthropic._error_classes").ERROR_CLASSES
    spent = {
        code for (status, code) in classes if code and status in (402, 429) and "limit_exceeded" not in code
    }
    assert spent <= QUOTA


# -- statuses ------------------------------------------------------------------------------------------

STATUSES = [
    (400, RequestRejected, Retry.NEVER),
    (401, AuthenticationFailed, Retry.NEVER),
    (402, QuotaExhausted, Retry.NEVER),
    (403, AuthenticationFailed, Retry.NEVER),
    (404, RequestRejected, Retry.NEVER),
    (405, RequestRejected, Retry.NEVER),
    (408, TransientError, Retry.TRANSIENT),
    (409, TransientError, Retry.TRANSIENT),
    (413, RequestRejected, Retry.NEVER),
    (422, RequestRejected, Retry.NEVER),
    (429, RateLimited, Retry.RATE_LIMITED),
    (500, TransientError, Retry.TRANSIENT),
    (501, RequestRejected, Retry.NEVER),
    (502, TransientError, Retry.TRANSIENT),
    (503, TransientError, Retry.TRANSIENT),
    (504, TransientError, Retry.TRANSIENT),
    (529, TransientError, Retry.TRANSIENT),
]


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize("body", [{}, b"<html>gateway</html>", b"", [], {"error": "words"}, {"detail": "x"}])
@pytest.mark.parametrize(("status", "error", "retry"), STATUSES)
def test_status_decides(
    ask: Ask,
    player: Any,
    answer: Any,
    provider: str,
    body: Any,
    status: int,
    error: type[ProviderError],
    retry: Retry,
) -> None:
    """Whatever form the body has: proxies and compatible servers answer in forms of their own."""
    player.script = [answer(body, status=status)]
    decision = ask(provider)
    assert (type(decision.error), decision.retry, decision.status_code) == (error, retry, status)
    assert decision.paid_unknown == (status in (408, 502, 504))
    assert "127.0.0.1" in str(decision.error)
    assert len(player.asked) == 1


def test_statuses_that_pass_are_those_of_the_table() -> None:
    """The table in the documentation says so."""
    assert {408, 409, 425, 499} == PASSING_4XX
    assert {501, 505} == LASTING_5XX


def body(code: str | None, kind: str = "", text: str = "", **more: Any) -> dict[str, Any]:
    return {"error": {"message": text, "type": kind, "param": None, "code": code, **more}}


LIMIT = (
    "Rate limit reached for gpt-4o in organization org-x on {}: Limit 3, Used 3, Requested 1. Please wait."
)
LARGE = (
    "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit {}, Requested {}. The"
)
NO = (Retry.NEVER, None)


@pytest.mark.parametrize(
    ("given", "error", "retry", "limit_hit"),
    [
        *[
            (body(code, "insufficient_quota"), QuotaExhausted, *NO)
            for code in (
                "insufficient_quota",
                "credit_balance_exhausted",
                "organization_spend_limit_exceeded",
                "project_spend_limit_exceeded",
                "organization_usage_limit_exceeded",
            )
        ],
        (body(None, "insufficient_quota"), QuotaExhausted, *NO),
        (body("slow_down", "requests"), RateLimited, Retry.RATE_LIMITED, "slow_down"),
        (
            body("rate_limit_exceeded", "requests", LIMIT.format("requests per min (RPM)")),
            RateLimited,
            Retry.RATE_LIMITED,
            "requests",
        ),
        (
            body("rate_limit_exceeded", "requests", LIMIT.format("requests per day (RPD)")),
            RateLimited,
            Retry.RATE_LIMITED,
            "requests_per_day",
        ),
        (
            body("rate_limit_exceeded", "tokens", LIMIT.format("tokens per day (TPD)")),
            RateLimited,
            Retry.RATE_LIMITED,
            "tokens_per_day",
        ),
        (body("rate_limit_exceeded", "tokens"), RateLimited, Retry.RATE_LIMITED, "tokens"),
        (body("rate_limit_exceeded", "tokens", LARGE.format(30000, 57000)), Oversize, Retry.NEVER, "tokens"),
        (
            body("rate_limit_exceeded", "tokens", LARGE.format("30,000", "57,000")),
            Oversize,
            Retry.NEVER,
            "tokens",
        ),
        # The words alone decide nothing: the numbers say that it fits.
        (
            body("rate_limit_exceeded", "tokens", LARGE.format(57000, 30000)),
            RateLimited,
            Retry.RATE_LIMITED,
            "tokens",
        ),
        (body("some_code", "x", LARGE.format(1, 2)), RateLimited, Retry.RATE_LIMITED, None),
        (body("x", "x", "insufficient_quota rate"), RateLimited, Retry.RATE_LIMITED, None),
        (
            body(
                "429", "", "Requests to the X Operation under Y have exceeded token rate limit of your tier."
            ),
            RateLimited,
            Retry.RATE_LIMITED,
            "tokens",
        ),
        (
            body(
                "429", "", "Requests to the X Operation under Y have exceeded call rate limit of your tier."
            ),
            RateLimited,
            Retry.RATE_LIMITED,
            "requests",
        ),
    ],
)
def test_meanings_of_a_429_at_openai(
    ask: Ask,
    player: Any,
    answer: Any,
    given: Any,
    error: type[ProviderError],
    retry: Retry,
    limit_hit: str | None,
) -> None:
    """Spent, too fast, or too large for ever: told by codes and numbers."""
    player.script = [answer(given, status=429, headers={"x-ratelimit-limit-requests": "3"})]
    decision = ask()
    assert (type(decision.error), decision.retry, decision.limit_hit) == (error, retry, limit_hit)
    assert decision.headers["x-ratelimit-limit-requests"] == "3"
    assert not decision.paid_unknown


RATE = "This request would exceed your organization's rate limit of 30,000 {} per minute."


@pytest.mark.parametrize(
    ("kind", "code", "text", "headers", "error", "limit_hit"),
    [
        (
            "rate_limit_error",
            None,
            RATE.format("input tokens"),
            {"retry-after": "3"},
            RateLimited,
            "input_tokens",
        ),
        ("rate_limit_error", None, RATE.format("requests"), {}, RateLimited, "requests"),
        ("rate_limit_error", None, "?", {"retry-after": "3"}, RateLimited, None),
        (
            "rate_limit_error",
            None,
            "?",
            {"retry-after": "3", "anthropic-ratelimit-output-tokens-remaining": "0"},
            RateLimited,
            "output_tokens",
        ),
        ("rate_limit_error", "ramp_limit_exceeded", "", {}, RateLimited, "slow_down"),
        ("rate_limit_error", "enforced_spend_limit_reached", "", {}, QuotaExhausted, None),
        ("rate_limit_error", None, "You have reached your limit.", {}, QuotaExhausted, None),
        ("billing_error", None, "", {}, QuotaExhausted, None),
    ],
)
def test_meanings_of_a_429_at_anthropic(
    ask: Ask,
    player: Any,
    answer: Any,
    kind: str,
    code: str | None,
    text: str,
    headers: dict[str, str],
    error: type[ProviderError],
    limit_hit: str | None,
) -> None:
    """The limit on spending is the one that does not say when to come again."""
    details = {"details": {"error_code": code}} if code else {}
    given = {"type": "error", "error": {"type": kind, "message": text, **details}}
    player.script = [answer(given, status=429, headers=headers)]
    decision = ask("anthropic")
    assert (type(decision.error), decision.limit_hit) == (error, limit_hit)
    assert decision.retry is (Retry.NEVER if error is QuotaExhausted else Retry.RATE_LIMITED)


VLLM = (
    "This model's maximum context length is {} tokens. However, you requested {} tokens (4 in the messages)."
)


@pytest.mark.parametrize(
    ("provider", "given", "error"),
    [
        ("openai", body("context_length_exceeded"), ContextTooLong),
        ("openai", body("400", "exceed_context_size_error"), ContextTooLong),
        ("openai", body("400", "BadRequestError", VLLM.format(4096, 5000)), ContextTooLong),
        ("openai", body("400", "BadRequestError", VLLM.format(5000, 4096)), RequestRejected),
        (
            "anthropic",
            body(None, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum"),
            ContextTooLong,
        ),
        ("anthropic", body(None, "invalid_request_error", "prompt is too long for me"), RequestRejected),
    ],
)
def test_context_that_is_too_short(
    ask: Ask, player: Any, answer: Any, provider: str, given: Any, error: type[ProviderError]
) -> None:
    """By the code, or by the two numbers of servers that send none."""
    player.script = [answer(given, status=400)]
    assert type(ask(provider).error) is error


def test_unknown_model_is_named_with_its_address(ask: Ask, player: Any, answer: Any) -> None:
    """A 404 means the model or the address; the message names both and the settings."""
    player.script = [answer(body("model_not_found", text="There is no such model."), status=404)]
    message = str(ask().error)
    for word in ("'gpt-4o-mini'", player.url, "model=", "openai_base_url=", "no such model"):
        assert word in message


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "7", "retry-after-ms": "6250"}, 6.25),
        ({"retry-after": "Tue, 24 Nov 2020 10:00:30 GMT"}, 0.0),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "nan"}, None),
        ({}, None),
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_wait_that_the_server_asks_for(
    ask: Ask, player: Any, answer: Any, headers: dict[str, str], seconds: float | None, status: int
) -> None:
    """Milliseconds go before seconds, what is past is no wait, and nonsense is none."""
    player.script = [answer(body("x"), status=status, headers=headers)]
    decision = ask()
    assert decision.retry_after_s == seconds
    assert getattr(decision.error, "retry_after_s", seconds) == seconds


def test_date_counts_from_the_servers_own_clock() -> None:
    """A clock that is an hour wrong makes no wait of an hour."""
    provider = get_provider(Config(provider="openai", openai_base_url="http://127.0.0.1:1/v1", model="m"))
    headers = {"retry-after": "Tue, 24 Nov 2026 10:00:30 GMT", "date": "Tue, 24 Nov 2026 10:00:00 GMT"}
    request = httpx2.Request("POST", "http://127.0.0.1:1/v1")
    response = httpx2.Response(429, headers=headers, request=request, content=b"{}")
    error = openai.RateLimitError("slow", response=response, body=None)
    assert provider.classify(error).retry_after_s == 30.0


# -- 200s that are none --------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "application/json"])
def test_html_in_place_of_json(ask: Ask, player: Any, answer: Any, provider: str, content_type: str) -> None:
    """A wrong address or a login page: it says which host, and what to check."""
    page = b"<!doctype html><title>Welcome</title>"
    player.script = [answer(page, headers={"content-type": content_type})]
    decision = ask(provider)
    assert (type(decision.error), decision.retry) == (RequestRejected, Retry.NEVER)
    assert f"127.0.0.1:{player.port} answered with an HTML page" in str(decision.error)
    assert f"{provider}_base_url" in str(decision.error)
    assert not decision.paid_unknown


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize("content", [b'{"choices": [{"mess', b"", b"[]", b"null", b'"text"', b"{}"])
def test_answer_that_is_no_reply(ask: Ask, player: Any, answer: Any, provider: str, content: bytes) -> None:
    """It was made and may be paid for: tried again, and marked."""
    player.script = [answer(content, headers={"x-ratelimit-remaining-requests": "9"})]
    decision = ask(provider)
    assert (type(decision.error), decision.retry, decision.paid_unknown) == (
        TransientError,
        Retry.TRANSIENT,
        True,
    )
    assert decision.headers["x-ratelimit-remaining-requests"] == "9"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 429, "message": "busy"}, RateLimited),
        ({"code": 502, "message": "upstream"}, TransientError),
        ({"code": "rate_limit_exceeded", "message": "x"}, RateLimited),
        ({"code": "server_error", "message": "x"}, TransientError),
        ({"code": 402, "message": "x"}, QuotaExhausted),
        ({"message": "x"}, RequestRejected),
    ],
)
def test_error_inside_a_200(
    ask: Ask, player: Any, answer: Any, error: dict[str, Any], kind: type[ProviderError]
) -> None:
    """Routers answer 200 before they know how their supplier will answer."""
    player.script = [answer({"error": error})]
    assert type(ask().error) is kind


# -- connections ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("ending", "says"), [("short", "broke"), ("reset", "broke"), ("hang", "did not answer")]
)
def test_outcome_that_nobody_knows(
    ask: Ask, player: Any, answer: Any, provider: str, ending: str, says: str
) -> None:
    """Once the request was sent it may have been answered and charged."""
    player.script = [answer({"choices": []}, ending=ending)]
    decision = ask(provider, request_timeout_s=0.3 if ending == "hang" else 5)
    assert (type(decision.error), decision.retry) == (TransientError, Retry.TRANSIENT)
    assert decision.paid_unknown
    assert says in str(decision.error)
    assert f"127.0.0.1:{player.port}" in str(decision.error)


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://127.0.0.1:1/v1", "nothing listens at 127.0.0.1:1; check that the server runs"),
        ("https://nosuch.invalid/v1", "nosuch.invalid"),
        ("https://127.0.0.1:{port}/v1", "no TLS connection to 127.0.0.1:{port}; check {provider}_base_url"),
    ],
)
def test_server_that_is_not_reached(
    ask: Ask, player: Any, answer: Any, monkeypatch: pytest.MonkeyPatch, provider: str, url: str, says: str
) -> None:
    """Host, port and what to check; nothing was sent, so nothing can be charged."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    player.script = [answer({})]
    decision = ask(provider, url.format(port=player.port))
    assert (type(decision.error), decision.retry) == (TransientError, Retry.TRANSIENT)
    assert not decision.paid_unknown
    assert says.format(port=player.port, provider=provider) in str(decision.error)


def test_proxy_that_fails_is_named(
    ask: Ask, monkeypatch: pytest.MonkeyPatch, player: Any, answer: Any
) -> None:
    """The way out is the proxy's, and so is what to check."""
    player.script = [answer({}, status=502)]
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{player.port}")
    monkeypatch.setenv("NO_PROXY", "")
    decision = ask(url="https://nosuch.invalid/v1")
    assert decision.retry is Retry.TRANSIENT
    assert "check HTTPS_PROXY and NO_PROXY" in str(decision.error)


def chained(outer: Exception, *inner: Exception) -> Exception:
    """Return an exception with others behind it, as ``raise … from`` leaves them."""
    link = outer
    for cause in inner:
        link.__cause__ = cause
        link = cause
    return outer


@pytest.mark.parametrize("library", [openai, anthropic])
@pytest.mark.parametrize(
    ("inner", "retry", "paid_unknown", "says"),
    [
        (
            [httpx2.ConnectError("x"), ssl.SSLCertVerificationError(1, "x")],
            Retry.NEVER,
            False,
            "is not trusted",
        ),
        ([httpx2.ConnectTimeout("x")], Retry.TRANSIENT, False, "in time; check the network"),
        ([httpx2.PoolTimeout("x")], Retry.TRANSIENT, False, "no free connection"),
        ([httpx2.WriteError("x")], Retry.TRANSIENT, False, "while the request was sent"),
        ([httpx2.ReadTimeout("x")], Retry.TRANSIENT, True, "raise request_timeout_s"),
        ([httpx2.RemoteProtocolError("x")], Retry.TRANSIENT, True, "before the answer was complete"),
        ([httpx2.LocalProtocolError("bad header")], Retry.NEVER, False, "bad header"),
        ([httpx2.UnsupportedProtocol("x")], Retry.NEVER, False, "UnsupportedProtocol"),
        ([UnicodeEncodeError("utf-8", "\ud800", 0, 1, "no")], Retry.NEVER, False, "UnicodeEncodeError"),
        ([], Retry.TRANSIENT, True, "APIConnectionError"),
    ],
)
def test_cause_of_a_connection_error_decides(
    library: Any, inner: list[Exception], retry: Retry, paid_unknown: bool, says: str
) -> None:
    """Both libraries put every failure of sending into one class."""
    provider = get_provider(Config(provider="openai", openai_base_url="http://127.0.0.1:1/v1", model="m"))
    request = httpx2.Request("POST", "http://127.0.0.1:1/v1")
    decision = provider.classify(chained(library.APIConnectionError(request=request), *inner))
    assert (decision.retry, decision.paid_unknown) == (retry, paid_unknown)
    assert says in str(decision.error)


def test_bare_json_error_is_an_answer_that_broke_off() -> None:
    """The libraries raise it as it is."""
    provider = get_provider(Config(provider="openai", openai_base_url="http://127.0.0.1:1/v1", model="m"))
    decision = provider.classify(json.JSONDecodeError("x", "y", 0))
    assert (type(decision.error), decision.retry, decision.paid_unknown) == (
        TransientError,
        Retry.TRANSIENT,
        True,
    )


# -- the toolkit's own server --------------------------------------------------------------------------

FAULTS = {
    "rate_limit_exceeded": (RateLimited, RateLimited, RateLimited),
    "slow_down": (RateLimited, RateLimited, RateLimited),
    "insufficient_quota": (QuotaExhausted, QuotaExhausted, QuotaExhausted),
    "credit_balance_exhausted": (QuotaExhausted, QuotaExhausted, QuotaExhausted),
    "project_spend_limit_exceeded": (QuotaExhausted, QuotaExhausted, QuotaExhausted),
    "invalid_request": (RequestRejected, RequestRejected, RequestRejected),
    "context_length_exceeded": (ContextTooLong, ContextTooLong, RequestRejected),
    "invalid_api_key": (AuthenticationFailed, AuthenticationFailed, AuthenticationFailed),
    "permission_denied": (AuthenticationFailed, AuthenticationFailed, AuthenticationFailed),
    "model_not_found": (RequestRejected, RequestRejected, RequestRejected),
    "body_too_large": (RequestRejected, RequestRejected, RequestRejected),
    "server_error": (TransientError, TransientError, TransientError),
    "bad_gateway": (TransientError, TransientError, TransientError),
    "server_is_overloaded": (TransientError, TransientError, TransientError),
    "gateway_timeout": (TransientError, TransientError, TransientError),
    "overloaded": (TransientError, TransientError, TransientError),
    "reset": (TransientError, TransientError, TransientError),
    "reset_after": (TransientError, TransientError, TransientError),
    "truncated": (TransientError, TransientError, TransientError),
    "malformed": (TransientError, TransientError, TransientError),
    "html": (RequestRejected, RequestRejected, RequestRejected),
    "html_502": (TransientError, TransientError, TransientError),
}
"""Fault, and what it is at OpenAI, Azure and Anthropic; the last gives no code for a context."""


@pytest.mark.parametrize("vendor", ["openai", "azure", "anthropic"])
def test_faults_of_the_loopback_server(vendor: str) -> None:
    """The server and the provider were written apart from each other, and mean the same by each fault."""
    at = ["openai", "azure", "anthropic"].index(vendor)
    with ApiServer(faults=list(FAULTS), requests_per_minute=None) as server:
        place = {
            "openai": {"openai_base_url": server.base_url},
            "azure": {"azure_endpoint": server.azure_url},
            "anthropic": {"anthropic_base_url": server.anthropic_url},
        }[vendor]
        model = "claude-haiku-4-5" if vendor == "anthropic" else "gpt-4o-mini"
        name = "anthropic" if vendor == "anthropic" else "openai"
        with get_provider(Config(provider=name, model=model, **place)) as provider:
            found = {}
            for fault in FAULTS:
                try:
                    provider.generate(REQUEST)
                except Exception as error:
                    found[fault] = type(provider.classify(error).error)
    assert found == {fault: kinds[at] for fault, kinds in FAULTS.items()}
