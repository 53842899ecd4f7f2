"""OpenAI's models, Azure's, and those of every server that speaks OpenAI's protocol."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, ClassVar

from toolkit.config import Config
from toolkit.errors import ConfigError
from toolkit.limits import LimitSettings
from toolkit.providers.answers import UnusableAnswer, read_body
from toolkit.providers.endpoints import Endpoint, read_endpoint
from toolkit.providers.hosted import HostedProvider
from toolkit.records import Reply, Request, StopReason

if TYPE_CHECKING:
    import openai

OFFICIAL_URL = "https://api.openai.com/v1"
_CAPS = ("max_completion_tokens", "max_tokens")
"""The older name is all that many compatible servers know, and what OpenAI's reasoning models refuse."""
_OPTIONAL = frozenset({"temperature", "top_p", "seed", "stop", "reasoning_effort", "reasoning.effort"})
_NOT_SUPPORTED = frozenset({"unsupported_parameter", "unsupported_value", "unknown_parameter"})

_FINISHED = {"length": StopReason.LENGTH, "content_filter": StopReason.CONTENT_FILTER}
_INCOMPLETE = {"max_output_tokens": StopReason.LENGTH, "content_filter": StopReason.CONTENT_FILTER}


class Dialect:
    """Which parameters one model of one server takes; learned from its refusals, shared by all threads.

    Parameters
    ----------
    cap : str
        How the cap on the reply is called at first.
    """

    def __init__(self, cap: str) -> None:
        self._cap = cap
        self._refused: frozenset[str] = frozenset()
        self._dialect_lock = threading.Lock()

    @property
    def cap(self) -> str:
        """How the cap on the reply is called."""
        return self._cap

    def takes(self, name: str) -> bool:
        """Whether a parameter has not been refused yet."""
        return name not in self._refused

    def refuse(self, name: str) -> bool:
        """Take note that a parameter was refused; False if nothing can be done about it."""
        with self._dialect_lock:
            if name in _CAPS:
                other = _CAPS[1 - _CAPS.index(name)]
                if other in self._refused:
                    return False
                self._cap = other
            elif name not in _OPTIONAL:
                return False
            # A second thread, whose request was under way with it, comes here as well.
            self._refused |= {name}
            return True

    def __repr__(self) -> str:
        return f"Dialect(cap={self._cap!r}, refused={sorted(self._refused)})"


_DIALECTS: dict[tuple[str, str, str], Dialect] = {}
_dialects_lock = threading.Lock()


class OpenAISummarizationProvider(HostedProvider):
    """Summarizes with OpenAI, Azure OpenAI or any compatible server (vLLM, Ollama, llama.cpp, OpenRouter).

    Parameters
    ----------
    config : Config, optional
        ``openai_base_url`` names a compatible server, ``azure_endpoint`` an Azure resource; without both it
        is OpenAI. ``openai_api`` chooses between Chat Completions and Responses. The key is
        ``openai_api_key``, for Azure ``azure_api_key``; a server on this machine needs none.

    Notes
    -----
    A parameter that the model does not take (HTTP 400 with a code that says so) is left out or renamed,
    the request is sent once more at once, and the process remembers it.
    """

    name: ClassVar[str] = "openai"
    default_model: ClassVar[str | None] = "gpt-5.6-luna"
    vendor_host: ClassVar[str] = "api.openai.com"
    key_settings: ClassVar[tuple[str, ...]] = ("openai_api_key", "azure_api_key")

    def __init__(self, config: Config | None = None) -> None:
        super().__init__(config)
        # Compatible servers know the newer name only for models that reason.
        newer = self._of_vendor() or self._family.reasoning
        identity = (self._where.endpoint.url, self.model, self.config.openai_api)
        with _dialects_lock:
            self._dialect = _DIALECTS.setdefault(identity, Dialect(_CAPS[0] if newer else _CAPS[1]))

    @property
    def _azure(self) -> bool:
        return self.config.azure_endpoint is not None

    def _of_vendor(self) -> bool:
        return super()._of_vendor() or (self._azure and not self._where.endpoint.loopback)

    def _has_list_prices(self) -> bool:
        # A deployment's name says nothing of the model behind it.
        return super()._has_list_prices() and not self._azure

    def _api(self) -> str:
        return self.config.azure_api_version if self._azure else self.config.openai_api

    def limits(self) -> LimitSettings:
        """Return the account's limits as the config states them, counted as OpenAI or Azure does."""
        config = self.config
        return self._limit_settings(
            "azure" if self._azure else "openai",
            requests_per_minute=config.openai_requests_per_minute,
            tokens_per_minute=config.openai_tokens_per_minute,
            requests_per_day=config.openai_requests_per_day,
            tokens_per_day=config.openai_tokens_per_day,
            max_concurrent=config.openai_max_concurrent_requests,
        )

    def _reach(self) -> tuple[Endpoint, str | None, str, str]:
        config = self.config
        secret = config.openai_api_key
        names = "openai_api_key (OPENAI_API_KEY)"
        if config.azure_endpoint is None:
            url, setting = config.openai_base_url or OFFICIAL_URL, "openai_base_url"
        else:
            if config.openai_base_url is not None:
                raise ConfigError("set openai_base_url or azure_endpoint, not both")
            url, setting = config.azure_endpoint, "azure_endpoint"
            secret = config.azure_api_key or secret
            names = "azure_api_key (AZURE_OPENAI_API_KEY)"
        key = secret.get_secret_value() if secret is not None else None
        return read_endpoint(setting, url), key, names, setting

    def _connect(self) -> openai.OpenAI:
        import openai

        shared: dict[str, Any] = {
            "api_key": self._key,
            "max_retries": 0,
            "timeout": self._timeout(),
            "http_client": self._http_client(),
        }
        url = self._where.endpoint.url
        if self._azure:
            version = self.config.azure_api_version
            return openai.AzureOpenAI(azure_endpoint=url, api_version=version, **shared)
        return openai.OpenAI(base_url=url, **shared)

    # -- asking --------------------------------------------------------------------------------------

    def _send(self, client: Any, request: Request) -> Any:
        import httpx2
        import openai

        responses = self.config.openai_api == "responses"
        path = "/responses" if responses else "/chat/completions"
        while True:
            asked = self._responses_body(request) if responses else self._chat_body(request)
            try:
                # The client's method for any path: bodies are in their final form here, and that of a named
                # path looks through every value for one to change, a quarter of the call's whole time
                # (bench_hosted.py).
                return client.post(path, cast_to=httpx2.Response, body=asked)
            except openai.BadRequestError as error:
                if not self._adapt(error, asked):
                    raise

    def _adapt(self, error: openai.BadRequestError, asked: dict[str, Any]) -> bool:
        """Change the dialect after a refusal; False if the request was refused for something else."""
        said = read_body(error.response)
        if not said.codes & _NOT_SUPPORTED:
            return False
        sent = asked.keys() | ({"reasoning.effort"} if "reasoning" in asked else set())
        if said.param not in sent or (said.param in _CAPS and "unsupported_value" in said.codes):
            return False  # A cap that is too high is not cured by calling it something else.
        if said.param.startswith("reasoning") and self.config.reasoning_effort is not None:
            return False  # It was asked for, and leaving it out could cost much more.
        known = self._dialect.takes(said.param)
        if not self._dialect.refuse(said.param):
            return False
        if known and said.param not in _CAPS:
            self._warn_of(said.param)
        return True

    def _chat_body(self, request: Request) -> dict[str, Any]:
        messages = [{"role": "system", "content": request.system}] if request.system else []
        messages.append({"role": "user", "content": request.prompt})
        sampling = request.sampling
        body = {
            "model": self.model,
            "messages": messages,
            self._dialect.cap: request.max_output_tokens,
            "reasoning_effort": self._effort,
            **self._sampling(request),
            "seed": sampling.seed,
            "stop": list(request.stop) or None,
        }
        return self._taken(body)

    def _responses_body(self, request: Request) -> dict[str, Any]:
        body = {
            "model": self.model,
            "input": request.prompt,
            "instructions": request.system or None,
            "max_output_tokens": request.max_output_tokens,
            "reasoning": {"effort": self._effort} if self._effort else None,
            **self._sampling(request),
            # Transcripts are not to be kept on the server.
            "store": False,
        }
        if not self._dialect.takes("reasoning.effort"):
            body.pop("reasoning")
        return self._taken(body)

    def _sampling(self, request: Request) -> dict[str, Any]:
        if not self._sampled:
            return {}
        top_p = request.sampling.top_p
        return {"temperature": request.sampling.temperature, "top_p": top_p if top_p < 1 else None}

    def _taken(self, body: dict[str, Any]) -> dict[str, Any]:
        return {
            name: value
            for name, value in body.items()
            if value is not None and (name in _CAPS or self._dialect.takes(name))
        }

    # -- reading -------------------------------------------------------------------------------------

    def _read(self, request: Request, body: dict[str, Any], response: Any) -> Reply:
        if self.config.openai_api == "responses":
            return self._read_response(request, body, response)
        choices = body.get("choices")
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            raise UnusableAnswer(response, "answered with JSON that is no chat completion")
        choice = choices[0] if choices else {}
        message = _table(choice.get("message"))
        text, refusal = _text(message.get("content")), _text(message.get("refusal"))
        stop_reason = _FINISHED.get(str(choice.get("finish_reason")), StopReason.STOP)
        if refusal:
            text, stop_reason = refusal, StopReason.REFUSAL
        usage = _table(body.get("usage"))
        prompt, completion = (
            _table(usage.get(f"{part}_tokens_details")) for part in ("prompt", "completion")
        )
        return self._reply(
            request,
            response,
            text=text,
            stop_reason=stop_reason,
            usage={
                "input": usage.get("prompt_tokens"),
                "output": usage.get("completion_tokens"),
                "cached": prompt.get("cached_tokens"),
                "written": prompt.get("cache_write_tokens"),
                "reasoning": completion.get("reasoning_tokens"),
            },
            # vLLM, llama.cpp and others give the thoughts beside the text, under one of two names.
            thought=bool(message.get("reasoning_content") or message.get("reasoning")),
        )

    def _read_response(self, request: Request, body: dict[str, Any], response: Any) -> Reply:
        output = body.get("output")
        if not isinstance(output, list):
            raise UnusableAnswer(response, "answered with JSON that is no response")
        items = [item for item in output if isinstance(item, dict)]
        parts = [
            part
            for item in items
            if item.get("type") == "message" and isinstance(item.get("content"), list)
            for part in item["content"]
            if isinstance(part, dict)
        ]
        text = "".join(_text(part.get("text")) for part in parts if part.get("type") == "output_text")
        refusal = "".join(_text(part.get("refusal")) for part in parts if part.get("type") == "refusal")
        reason = str(_table(body.get("incomplete_details")).get("reason"))
        stop_reason = _INCOMPLETE.get(reason, StopReason.STOP)
        if refusal:
            text, stop_reason = refusal, StopReason.REFUSAL
        usage = _table(body.get("usage"))
        inputs, outputs = (_table(usage.get(f"{part}_tokens_details")) for part in ("input", "output"))
        return self._reply(
            request,
            response,
            text=text,
            stop_reason=stop_reason,
            usage={
                "input": usage.get("input_tokens"),
                "output": usage.get("output_tokens"),
                "cached": inputs.get("cached_tokens"),
                "written": inputs.get("cache_write_tokens"),
                "reasoning": outputs.get("reasoning_tokens"),
            },
            thought=any(item.get("type") == "reasoning" for item in items),
        )


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(content: object) -> str:
    """Return a content's text; some servers send it in parts."""
    if isinstance(content, list):
        return "".join(_text(part.get("text")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
