"""What hosted providers share: address and key, errors, counts, prices, and the way of one request."""

from __future__ import annotations

import json
import re
import threading
import warnings
from abc import abstractmethod
from collections.abc import Mapping
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.request import getproxies

from toolkit.clock import SystemClock
from toolkit.config import Config
from toolkit.errors import AuthenticationFailed
from toolkit.limits import LimitSettings
from toolkit.mapreduce import Prompt
from toolkit.prices import Price, find_price, list_prices, read_prices, undated
from toolkit.protocols import RetryDecision
from toolkit.providers.answers import UnusableAnswer, kept_headers
from toolkit.providers.base import SummarizationProvider, code_digest
from toolkit.providers.endpoints import PLACEHOLDER_KEY, Endpoint, check_key, digest_key, scrub
from toolkit.providers.failures import Where, decide
from toolkit.providers.families import (
    CAUTIOUS_CONTEXT_TOKENS,
    HOSTED_CONTEXT_TOKENS,
    REASONING_ROOM,
    find_family,
)
from toolkit.records import Reply, Request, StopReason, Usage
from toolkit.tokens import chat_overhead, make_counter

if TYPE_CHECKING:
    import httpx2

CONNECT_TIMEOUT_S = 10.0
KEEP_ALIVE_S = 30.0
"""Longer than the usual pause between requests at 50 a minute over 5 connections, so that they are reused."""

_STATUS_OF = {
    "rate_limit_exceeded": 429,
    "rate_limit_error": 429,
    "server_error": 500,
    "api_error": 500,
    "overloaded_error": 529,
}
_THOUGHT = re.compile(r"\A\s*<think>.*?(?:</think>\s*|\Z)", re.DOTALL)


class HostedProvider(SummarizationProvider):
    """A model behind an HTTP API, reached through its vendor's own library.

    The library never tries again by itself, follows no redirect with the key, and reaches this machine's own
    addresses without a proxy.

    Parameters
    ----------
    config : Config, optional
        Beside the settings that all providers share: the vendor's address and key, ``request_timeout_s``,
        ``context_tokens``, ``reasoning_effort``, ``prices`` and ``allow_insecure_http``.

    Raises
    ------
    AuthenticationFailed
        If no key is set and the server is not on this machine.
    ConfigError
        If the key would go over the network in the open.
    """

    vendor_host: ClassVar[str]
    """Where the list prices and the cautious defaults of the vendor hold."""
    key_settings: ClassVar[tuple[str, ...]] = ()
    """The settings that a key may stand in."""

    def __init__(self, config: Config | None = None) -> None:
        super().__init__(config)
        settings = self.config
        endpoint, key, key_names, url_setting = self._reach()
        self._key = check_key(
            key,
            endpoint,
            provider=self.name,
            names=key_names,
            allow_insecure_http=settings.allow_insecure_http,
        )
        self._where = Where(
            endpoint, self.model, self._key, key_names, url_setting, settings.request_timeout_s
        )
        self._family = find_family(self.model)
        self._effort = settings.reasoning_effort or self._family.least_effort
        self._counter = make_counter(self._family.encoding)
        self._own_prices = read_prices(settings.prices)
        self._sampled = self._family.sampling == "always" or (
            self._family.sampling == "without_reasoning" and self._effort == "none"
        )
        if not self._sampled:
            self._warn_of("temperature", "top_p")
        self._held: Any = None
        self._held_lock = threading.Lock()

    @classmethod
    def for_planning(cls, config: Config) -> Self:
        """Return an instance for which it does not matter that no key is set: it sends nothing."""
        try:
            return cls(config)
        except AuthenticationFailed:
            key = dict.fromkeys(cls.key_settings, PLACEHOLDER_KEY)
            return cls(config.replace(**key, allow_insecure_http=True))

    # -- what a vendor states ------------------------------------------------------------------------

    @abstractmethod
    def _reach(self) -> tuple[Endpoint, str | None, str, str]:
        """Return the address, the key, and the names of the settings that hold key and address."""

    @abstractmethod
    def limits(self) -> LimitSettings:
        """Return the account's limits, as the config states them and the vendor counts."""

    @abstractmethod
    def _connect(self) -> Any:
        """Make the vendor's client."""

    @abstractmethod
    def _send(self, client: Any, request: Request) -> Any:
        """Send one request and return the answer, an ``httpx2.Response``."""

    @abstractmethod
    def _read(self, request: Request, body: dict[str, Any], response: Any) -> Reply:
        """Make a reply of an answer's body."""

    # -- one request ---------------------------------------------------------------------------------

    def generate(self, request: Request) -> Reply:
        """Answer one request, once.

        ``Request.prefill`` is for local models and is not sent.

        Raises
        ------
        CancelledError
            If it is not wanted any more.
        Exception
            Of the vendor's library, with the key taken out of its words.
        """
        if request.cancelled is not None and request.cancelled.is_set():
            raise CancelledError
        try:
            response = self._send(self._client(), request)
            reply = self._read(request, self._body(response), response)
        except Exception as error:
            scrub(error, self._key)
            raise
        self.learn(request, reply.usage)
        return reply

    def prepare(self) -> None:
        """Load the vendor's library and make its client, which takes a second.

        A server's limits refill from the moment at which the first request reaches it, ours from the
        moment at which it is admitted: what passes in between would be counted on too early.
        """
        with suppress(Exception):  # the first call meets it as well, and says what it means
            self._client()

    def _timeout(self) -> httpx2.Timeout:
        import httpx2

        timeout_s = self.config.request_timeout_s
        return httpx2.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s))

    def _http_client(self) -> httpx2.Client:
        """Make the connections; the vendors' own defaults follow redirects and use proxies for loopback."""
        import httpx2

        from toolkit.providers.connections import Connections

        keep, trust_env = self.limits().max_concurrent, not self._where.endpoint.loopback
        through_proxy = trust_env and bool(getproxies())
        return httpx2.Client(
            timeout=self._timeout(),
            # The limiter bounds what is in flight; a bound here would make requests wait unseen.
            limits=httpx2.Limits(
                max_connections=None, max_keepalive_connections=keep, keepalive_expiry=KEEP_ALIVE_S
            ),
            # Which proxy is for which address is the client's own business.
            transport=None
            if through_proxy
            else Connections(keep, KEEP_ALIVE_S, SystemClock(), trust_env=trust_env),
            follow_redirects=False,
            trust_env=trust_env,
        )

    def _client(self) -> Any:
        held = self._held
        if held is None:
            with self._held_lock:
                if self._held is None:
                    self._held = self._connect()
                held = self._held
        return held

    def close(self) -> None:
        """Close the connections."""
        with self._held_lock:
            held, self._held = self._held, None
        if held is not None:
            held.close()

    def _body(self, response: Any) -> dict[str, Any]:
        """Read the JSON of an answer, whatever type it says it has: servers err in that."""
        try:
            body = json.loads(response.content)
        except ValueError as error:
            kind = response.headers.get("content-type", "")
            if "html" in kind or response.content.lstrip()[:1] == b"<":
                problem = (
                    f"answered with an HTML page in place of JSON; check {self._where.url_setting} (it often "
                    "ends in /v1), and whether a proxy or a login page stands in between"
                )
                raise UnusableAnswer(response, problem, lasting=True) from error
            problem = f"answered with {len(response.content)} bytes that are no complete JSON"
            raise UnusableAnswer(response, problem) from error
        if not isinstance(body, dict):
            raise UnusableAnswer(response, "answered with JSON that is no reply")
        if body.get("error") and isinstance(body["error"], dict | str):
            # Routers answer 200 before they know how their own supplier will answer.
            raise UnusableAnswer(response, "answered 200 with an error", failed_status=_status_of(body))
        return body

    def _reply(
        self,
        request: Request,
        response: Any,
        *,
        text: str,
        stop_reason: StopReason,
        usage: dict[str, Any],
        thought: bool,
    ) -> Reply:
        """Make a reply: what vendors call differently has been told apart before, the rest is alike.

        Parameters
        ----------
        request : Request
        response : httpx2.Response
        text : str
        stop_reason : StopReason
            ``LENGTH`` of an empty text becomes ``REASONING`` if the model was thinking.
        usage : dict
            ``input``, ``output``, ``cached``, ``written``, ``reasoning``; what is no count is left out.
        thought : bool
            Whether the answer shows that the model was thinking.
        """
        counts = {name: _count(value) for name, value in usage.items()}
        shown = _THOUGHT.sub("", text)
        thought = thought or shown != text or bool(counts.get("reasoning"))
        text = shown
        for mark in request.stop:
            # Not every server heeds it.
            text = text.partition(mark)[0]
        if stop_reason in (StopReason.STOP, StopReason.LENGTH) and not text.strip():
            cut = stop_reason is StopReason.LENGTH and thought
            stop_reason = StopReason.REASONING if cut else StopReason.EMPTY
        input_tokens, output_tokens = counts.get("input"), counts.get("output")
        counted = input_tokens is not None and output_tokens is not None
        if input_tokens is None:
            input_tokens = self.input_estimate(request)
        if output_tokens is None:
            output_tokens = self._counter.estimate((text,))
        return Reply(
            text=text.strip(),
            usage=Usage(
                input_tokens,
                output_tokens,
                cached_tokens=min(counts.get("cached") or 0, input_tokens),
                counter="server" if counted else f"estimate:{self.token_counter}",
                reasoning_tokens=counts.get("reasoning") or 0,
                cache_write_tokens=min(counts.get("written") or 0, input_tokens),
            ),
            stop_reason=stop_reason,
            headers=kept_headers(response.headers),
        )

    # -- what is known beforehand --------------------------------------------------------------------

    @property
    def token_counter(self) -> str:
        """Who counts, such as ``bpe-openai:o200k_base`` or ``learned-bytes``."""
        return self._counter.name

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text, always the same."""
        return self._counter.count(text)

    def input_estimate(self, request: Request) -> int:
        """Estimate what the server will count for a prompt; it learns from the server's own counts."""
        texts = (request.system, request.prompt)
        return self._counter.estimate(texts) + chat_overhead(2 if request.system else 1)

    def learn(self, request: Request, usage: Usage) -> None:
        """Take note of the server's own count."""
        if usage.counter == "server":
            overhead = chat_overhead(2 if request.system else 1)
            self._counter.learn((request.system, request.prompt), usage.input_tokens - overhead)

    @property
    def context_tokens(self) -> int:
        """What is known of the model's context, or a cautious figure."""
        if self.config.context_tokens is not None:
            return self.config.context_tokens
        if self._family.context_tokens is not None:
            return self._family.context_tokens
        return HOSTED_CONTEXT_TOKENS if self._of_vendor() else CAUTIOUS_CONTEXT_TOKENS

    def _of_vendor(self) -> bool:
        return self._where.endpoint.host == self.vendor_host

    def _prompt(self, default: Prompt, template: str | None) -> Prompt:
        """Leave room for thinking in the default caps; a cap of the config is the whole cap."""
        prompt = super()._prompt(default, template)
        room = REASONING_ROOM[self._effort] if self._family.reasoning and self._effort else 0
        if self.config.summary_max_tokens is not None or not room:
            return prompt
        return Prompt(prompt.template, prompt.max_output_tokens + room, prompt.prefill, prompt.stop)

    def price(self, reply: Reply) -> float | None:
        """Return what a reply costs in US dollars.

        The config's ``prices`` go first. The list prices hold at the vendor's own address, and for servers
        on this machine that stand for it; others have prices of their own, which nobody here knows.
        """
        price = self._price
        return None if price is None else price.cost_usd(reply.usage)

    def price_bound(self, input_tokens: int, output_tokens: int) -> float | None:
        """Return the most that so many tokens can cost in US dollars."""
        price = self._price
        return None if price is None else price.bound_usd(input_tokens, output_tokens)

    @cached_property
    def _price(self) -> Price | None:
        price = find_price(self._own_prices, self.model)
        if price is None and self._has_list_prices():
            price = find_price(list_prices(), self.model)
        return price

    def _has_list_prices(self) -> bool:
        return self._of_vendor() or self._where.endpoint.loopback

    def identity(self) -> Mapping[str, Any] | None:
        """Return address, model, the vendor's way of asking, and how hard the model thinks."""
        return {
            "provider": self.name,
            "code": code_digest(type(self)),
            "model": self.model,
            "endpoint": self._where.endpoint.url,
            "api": self._api(),
            "effort": self._effort,
        }

    def _api(self) -> str:
        """Return what else the vendor tells apart: protocols, versions."""
        return ""

    def quota_key(self) -> str | None:
        """Return the pool that calls draw from: address, digest of the account's key, and model family."""
        return f"{self._where.endpoint.url} {digest_key(self._key)} {undated(self.model)}"

    @property
    def spends(self) -> bool:
        """Whether calls may cost money: those to a server on this machine do not.

        Unless the config's own ``prices`` say that they do: it may pass them on.
        """
        price = find_price(self._own_prices, self.model)
        return not self._where.endpoint.loopback or (price is not None and price.bound_usd(1, 1) > 0)

    def _limit_settings(self, law: str, **numbers: Any) -> LimitSettings:
        """Return limits with the config's own way of counting; ``law`` is the vendor's."""
        config = self.config
        return LimitSettings(
            **numbers,
            law=config.limits_law or law,
            charge=config.limits_charge,
            oversize=config.limits_oversize,
            learn=config.limits,
        )

    def classify(self, error: Exception) -> RetryDecision:
        """Say what an exception out of ``generate`` means, see ``toolkit.providers.failures``."""
        return decide(error, self._where) or super().classify(error)

    def _warn_of(self, *names: str) -> None:
        """Say so if a setting that was asked for is not sent."""
        given = [name for name in names if name in self.config.model_fields_set]
        if given:
            warnings.warn(
                f"{self.model} takes no {' and no '.join(given)} here; it is left out.",
                UserWarning,
                stacklevel=2,
            )


def _status_of(body: dict[str, Any]) -> int:
    """Return the status that an error in a 200 stands for: routers put it into the code."""
    error = body["error"]
    for name in ("code", "type"):
        code = str(error.get(name)) if isinstance(error, dict) else ""
        if code in _STATUS_OF:
            return _STATUS_OF[code]
        if re.fullmatch(r"[45]\d\d", code):
            return int(code)
    return 400


def _count(value: object) -> int | None:
    """Return a server's count if it is one."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        return None
    return value
