"""What all providers share; a new one states ``name`` and ``generate`` and may override the rest."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from types import CodeType, FunctionType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from toolkit.calls import Calls
from toolkit.clock import Clock, SystemClock
from toolkit.config import Config
from toolkit.errors import ConfigError, ProviderError, RateLimited, RequestRejected, TransientError
from toolkit.harmless import whole_characters
from toolkit.limits import Dimension, Limiter, LimiterCore, LimitSettings, limiter_for, open_state
from toolkit.mapreduce import Prompt, SummarySettings, drive, map_reduce
from toolkit.protocols import Retry, RetryDecision, SummarizeParams
from toolkit.providers.chunk_pool import ChunkPool
from toolkit.records import Reply, Request, Summary, Usage
from toolkit.retry import RetryPolicy
from toolkit.tokens import estimate_tokens

if TYPE_CHECKING:
    from toolkit.engines.unloaded import ModelSize

SYSTEM = "You summarize podcast transcripts."
DIRECT = (
    "Here is the transcript of a podcast episode.\n\n{text}\n\n"
    "Summarize the episode in one paragraph of at most 120 words. Name its subject, say who speaks, and give "
    "the main points. Use only what the transcript says."
)
MAP = (
    "Here is one part of the transcript of a podcast episode.\n\n{text}\n\n"
    "Summarize this part in two to four sentences. Use only what it says."
)
REDUCE = (
    "Here are summaries of the parts of one podcast episode, in their order.\n\n{text}\n\n"
    "Combine them into one summary of the episode, one paragraph of at most 120 words. Name its subject and "
    "give the main points. Use only what stands above."
)


class SummarizationProvider(ABC):
    """A way to reach a model.

    Parameters
    ----------
    config : Config
        Settings of the run; ``config.model`` unset means the class's ``default_model``.

    Notes
    -----
    Instances are used from many threads at once and know nothing of how episodes are scheduled.
    """

    name: ClassVar[str]
    default_model: ClassVar[str | None] = None

    default_prompts: ClassVar[tuple[Prompt, Prompt, Prompt]] = (
        Prompt(DIRECT, 512),
        Prompt(MAP, 256),
        Prompt(REDUCE, 512),
    )
    """Of the stages direct, map and reduce."""
    default_system: ClassVar[str] = SYSTEM
    default_chunk_tokens: ClassVar[int | None] = None
    cut_is_partial: ClassVar[bool] = True
    runs_here: ClassVar[bool] = False
    """Whether the model works on this machine, so that its memory and cores bound the work."""

    def __init__(self, config: Config | None = None) -> None:
        self.config = config if config is not None else Config(provider=self.name)
        model = self.config.model or self.default_model
        if model is None:
            raise ConfigError(f"provider {self.name!r} has no default model; set model=")
        self.model = model
        self._policy = RetryPolicy(max_attempts=self.config.max_attempts, total_s=self.config.retry_total_s)

    @classmethod
    def for_planning(cls, config: Config) -> Self:
        """Return an instance that only says what it would ask; it needs no key and loads no model."""
        return cls(config)

    @abstractmethod
    def generate(self, request: Request) -> Reply:
        """Answer one request, once; called from many threads.

        Raises
        ------
        Exception
            What the vendor's library raises; ``classify`` says what it means.
        """

    def summarize(self, text: str, params: Mapping[str, Any] | SummarizeParams | None = None) -> Summary:
        """Summarize a text.

        Parameters
        ----------
        text : str
            A line for each turn.
        params : mapping, optional
            See ``SummarizeParams``; ``{"chunk_parallelism": 4}`` has up to four requests in flight.

        Returns
        -------
        Summary
            A failed chunk makes it ``partial``, no summary at all ``failed``; neither raises.
        """
        told = SummarizeParams.of(params)
        limiter = self.limiter(told.clock)
        calls = Calls(self, told, self._policy, limiter=limiter)
        # JSON can hold half a character, which no tokenizer takes and no server: it becomes U+FFFD.
        text = whole_characters(text)
        settings = self.settings() if limiter is None else within_limits(self.settings(), limiter)
        key = "" if told.keeper is None else told.keeper.text_key(text, settings, self.token_counter)
        kept = calls.take_text(key) if key else None
        if kept is not None:
            return kept
        summary = self._drive(text, told, settings, calls)
        return replace(summary, key=key) if key else summary

    def _drive(self, text: str, told: SummarizeParams, settings: SummarySettings, calls: Calls) -> Summary:
        steps = map_reduce(text, told.episode_id, settings, self.count_tokens)
        if told.chunk_parallelism == 1:
            return drive(steps, calls.generate, None, told.on_plan)
        # At the usual end no call is left; on a second Ctrl-C those under way are not waited for.
        with ChunkPool(told.chunk_parallelism) as pool:
            return drive(steps, calls.generate, pool, told.on_plan)

    def settings(self) -> SummarySettings:
        """Return how a text is cut and asked about: the config's settings, else this provider's."""
        config = self.config
        chosen = (config.direct_prompt, config.map_prompt, config.reduce_prompt)
        direct, map_, reduce = (
            self._prompt(default, template)
            for default, template in zip(self.default_prompts, chosen, strict=True)
        )
        return SummarySettings(
            direct=direct,
            map=map_,
            reduce=reduce,
            system=self.default_system if config.system_prompt is None else config.system_prompt,
            context_tokens=self.context_tokens,
            chunk_tokens=config.chunk_tokens or self.default_chunk_tokens,
            overlap_tokens=config.chunk_overlap_tokens,
            sampling=config.sampling(),
            cut_is_partial=self.cut_is_partial,
        )

    def _prompt(self, default: Prompt, template: str | None) -> Prompt:
        """Apply the config to a default; a template of the user's own comes without our prefill."""
        cap = self.config.summary_max_tokens or default.max_output_tokens
        if template is None:
            return Prompt(default.template, cap, default.prefill, default.stop)
        return Prompt(template, cap)

    @property
    def token_counter(self) -> str:
        """Who counts: where a text is cut depends on it."""
        return type(self).__name__

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a text; by default estimated from its length."""
        return estimate_tokens(text)

    @property
    def context_tokens(self) -> int:
        """What prompt and reply may come to together, in tokens."""
        return 128_000

    def classify(self, error: Exception) -> RetryDecision:
        """Say what an exception out of ``generate`` means.

        The toolkit's own errors speak for themselves, broken connections and timeouts are tried again,
        all else is not.
        """
        if isinstance(error, RateLimited):
            return RetryDecision(error, Retry.RATE_LIMITED, error.retry_after_s)
        if isinstance(error, TransientError):
            return RetryDecision(error, Retry.TRANSIENT)
        if isinstance(error, ProviderError):
            return RetryDecision(error, Retry.NEVER)
        if isinstance(error, (ConnectionError, TimeoutError)):
            # Only a connection that was never made is certain to have cost nothing.
            paid_unknown = not isinstance(error, ConnectionRefusedError)
            transient = TransientError(f"{type(error).__name__}: {error}")
            return RetryDecision(transient, Retry.TRANSIENT, paid_unknown=paid_unknown)
        return RetryDecision(RequestRejected(f"{type(error).__name__}: {error}"), Retry.NEVER)

    def price(self, reply: Reply) -> float | None:
        """Return what a reply costs in US dollars; None where no price is known."""
        return None

    def price_bound(self, input_tokens: int, output_tokens: int) -> float | None:
        """Return the most that so many tokens can cost in US dollars; None where no price is known."""
        return None

    @property
    def joins(self) -> bool:
        """Whether a model that runs here takes up requests while it works on others."""
        return self.runs_here

    @property
    def model_size(self) -> ModelSize | None:
        """How large a local model is; None of a hosted one, and where nobody knows."""
        return None

    def input_bound(self, request: Request) -> int:
        """Return a number of tokens that no server counts more than for a prompt.

        A token is at least a byte; what a chat template adds is some tokens a message.
        """
        texts = (request.system, request.prompt, request.prefill)
        return sum(len(text.encode("utf-8", "replace")) for text in texts) + 64

    def identity(self) -> Mapping[str, Any] | None:
        """Return what the answers depend on besides the request, for the keys of kept calls.

        By default the provider's name, its model, and a digest of its code: a provider that is still being
        written is asked anew after each change.

        Returns
        -------
        mapping or None
            None if nobody can know; then no kept answer is taken.
        """
        return {"provider": self.name, "model": self.model, "code": code_digest(type(self))}

    def input_estimate(self, request: Request) -> int:
        """Estimate the tokens of a prompt as the server will count them."""
        return self.count_tokens(request.system) + self.count_tokens(request.prompt)

    def learn(self, request: Request, usage: Usage) -> None:  # noqa: B027 (a default, not a duty)
        """Take note of what a server counted for a prompt, to estimate better."""

    def body_bytes(self, request: Request) -> int:
        """Return about the size of a request's body in bytes, rather too little than too much.

        What the names in it take more is the same for all, and a fitted charge finds it out as its constant,
        which is never negative.
        """
        return len(request.system.encode()) + len(request.prompt.encode()) + 60

    def quota_key(self) -> str | None:
        """Return the name of the pool that calls draw from, for the limiter; None: there are no limits."""
        return None

    @property
    def spends(self) -> bool:
        """Whether calls may cost money: by default if they draw from such a pool."""
        return self.quota_key() is not None

    def limits(self) -> LimitSettings | None:
        """Return the limits of that pool; None: there are none."""
        return None

    @cached_property
    def _pool(self) -> tuple[str | None, LimitSettings | None]:
        return self.quota_key(), self.limits()

    def limiter(self, clock: Clock | None = None) -> Limiter | None:
        """Return the limiter that all instances on the same quota key share; None without limits.

        Parameters
        ----------
        clock : Clock, optional
            What it waits on; a limiter of its own for each clock that is not the machine's.
        """
        key, settings = self._pool
        if key is None or settings is None:
            return None
        own = None if clock is None or isinstance(clock, SystemClock) else clock
        secret = self.config.limits_password
        state = open_state(self.config.limits_url, secret.get_secret_value() if secret else None)
        return limiter_for(key, settings, state, own, wait_s=self.config.store_wait_s)

    def prepare(self) -> None:  # noqa: B027 (a default, not a duty)
        """Get ready (load a model, say), so that what is missing is known before the first text."""

    def share_machine(self, processes: int) -> None:  # noqa: B027 (a default, not a duty)
        """Take note, before ``prepare``, that so many processes of this machine have a provider like this.

        A model that runs here then takes its share of the cores and of what is free of the memory.
        """

    def close(self) -> None:  # noqa: B027 (a default, not a duty)
        """Give back what the provider holds; it is not used afterwards."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def within_limits(settings: SummarySettings, limiter: Limiter | LimiterCore) -> SummarySettings:
    """Cut texts so that no request is larger than a limit, unless such a one is to wait for a full window.

    A tenth is left for the difference between the count by which a text is cut and the server's own.
    """
    if limiter.settings.oversize != "refuse":
        return settings
    caps = (settings.direct, settings.map, settings.reduce)
    smallest_cap = min(prompt.max_output_tokens for prompt in caps)
    for dimension, limit in limiter.largest().items():
        if dimension is Dimension.TOKENS:
            fits = limit * 9 // 10
        elif dimension is Dimension.INPUT_TOKENS:
            fits = limit * 9 // 10 + smallest_cap
        else:
            continue
        if fits < settings.context_tokens:
            bound = f"a limit of {limit} {dimension.replace('_', ' ')} per minute or day"
            settings = replace(settings, context_tokens=fits, bound=bound)
    return settings


def code_digest(kind: type) -> str:
    """Return a digest of the code of a class and of those that it is made of, but for the toolkit's own.

    Methods with their defaults, and values of the class that are plain; what they take from their module, and
    what an instance was made with, is not in it.
    """
    found = hashlib.sha256()
    for place in kind.__mro__:
        if place in (ABC, object) or place.__module__.partition(".")[0] == "toolkit":
            continue
        for name, value in sorted(vars(place).items()):
            function = getattr(value, "__func__", getattr(value, "fget", getattr(value, "func", value)))
            if isinstance(function, FunctionType):
                defaults = _value(function.__defaults__), _value(function.__kwdefaults__)
                found.update(f"{name} {_code(function.__code__)} {defaults}".encode())
            elif not name.startswith("__"):
                found.update(f"{name} {_value(value)}".encode())
    return found.hexdigest()[:16]


def _code(code: CodeType) -> str:
    return f"{code.co_code.hex()} {code.co_names} {_value(code.co_consts)}"


def _value(value: object) -> str:
    """Return a constant in writing, the same in every process; nothing of what may hold an address."""
    if isinstance(value, CodeType):
        return _code(value)
    if isinstance(value, set | frozenset):
        return f"set {sorted(map(_value, value))}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} {[_value(item) for item in value]}"
    if isinstance(value, dict):
        return f"dict {[(_value(key), _value(item)) for key, item in value.items()]}"
    return ascii(value) if isinstance(value, str | bytes | int | float | complex | None) else ""
