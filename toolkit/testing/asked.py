"""Reading a request: which API's form an address means, and what a body in that form asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

from toolkit.testing.error_bodies import Vendor
from toolkit.testing.models import ModelSpec
from toolkit.testing.writer import REASONING_SHARE, count_tokens

Form = Literal["chat", "responses", "messages", "count_tokens", "models"]

OPERATIONS: dict[Form, str] = {
    "chat": "ChatCompletions_Create",
    "responses": "Responses_Create",
    "messages": "Messages_Create",
    "count_tokens": "Messages_CountTokens",
    "models": "Models_List",
}
MESSAGE_OVERHEAD_TOKENS = 3
"""Tokens that every message costs beside its text, and that the reply's start costs."""
CACHED_PREFIX_TOKENS = 1024
"""Shortest prefix that OpenAI's prompt cache takes; it counts in steps of 128."""

_AZURE_CHAT = re.compile(r"/openai/deployments/([^/]+)/chat/completions\Z")


@dataclass(frozen=True, slots=True)
class Route:
    """What an address means."""

    vendor: Vendor
    form: Form
    method: str = "POST"
    deployment: str | None = None
    needs_api_version: bool = False


_ROUTES = {
    "/v1/chat/completions": Route("openai", "chat"),
    "/v1/responses": Route("openai", "responses"),
    "/v1/models": Route("openai", "models", "GET"),
    "/v1/messages": Route("anthropic", "messages"),
    "/v1/messages/count_tokens": Route("anthropic", "count_tokens"),
    "/openai/v1/chat/completions": Route("azure", "chat"),
    "/openai/v1/responses": Route("azure", "responses"),
    "/openai/v1/models": Route("azure", "models", "GET"),
    "/openai/responses": Route("azure", "responses", needs_api_version=True),
    "/openai/models": Route("azure", "models", "GET", needs_api_version=True),
}


class Rejected(Exception):
    """A request is answered with an error; ``name`` is a key of ``ERRORS``."""

    def __init__(self, name: str, message: str | None = None, param: str | None = None) -> None:
        super().__init__(name)
        self.name = name
        self.message = message
        self.param = param


@dataclass(frozen=True, slots=True)
class Asked:
    """What a body asks for, whatever its form.

    Attributes
    ----------
    text : str
        What the user says.
    characters : int
        Of all messages.
    input_tokens : int
        Of all messages, with the overhead of each.
    prefix : str
        The beginning of the prompt that a cache may know; empty for none.
    prefix_tokens : int
    cap : int or None
        Most tokens that one reply may have.
    replies : int
    stop : tuple of str
    effort : str
        A key of ``REASONING_SHARE``.
    """

    text: str
    characters: int
    input_tokens: int
    prefix: str
    prefix_tokens: int
    cap: int | None
    replies: int = 1
    stop: tuple[str, ...] = ()
    effort: str = "medium"


def find_route(path: str) -> Route | None:
    """Return what a path without its query means, or None."""
    route = _ROUTES.get(path)
    if route is None and (match := _AZURE_CHAT.match(path)):
        return Route("azure", "chat", deployment=unquote(match.group(1)), needs_api_version=True)
    return route


def read_model(body: dict[str, Any]) -> str:
    """Return the name of the model that is asked."""
    name = body.get("model")
    if not isinstance(name, str) or not name:
        raise Rejected("invalid_request", "you must provide a model parameter", "model")
    return name


def read_body(form: Form, body: dict[str, Any], model: ModelSpec) -> Asked:
    """Read a body and hold it against the rules of its form and model.

    Raises
    ------
    Rejected
        If it breaks one.
    """
    if body.get("stream"):
        raise Rejected("unsupported_value", "Unsupported value: this server does not stream.", "stream")
    if model.fixed_temperature and body.get("temperature", 1) != 1:
        raise Rejected(
            "unsupported_value",
            "Unsupported value: 'temperature' does not support this value with this model. "
            "Only the default (1) value is supported.",
            "temperature",
        )
    asked = _READERS[form](body, model)
    if asked.cap is not None and asked.cap > model.max_output_tokens:
        raise Rejected(
            "invalid_request",
            f"max_tokens is too large: {asked.cap}. This model supports at most {model.max_output_tokens} "
            "completion tokens.",
            "max_tokens",
        )
    if asked.input_tokens + (asked.cap or 0) > model.context_tokens:
        if form in ("messages", "count_tokens"):
            message = f"prompt is too long: {asked.input_tokens} tokens > {model.context_tokens} maximum"
        else:
            message = (
                f"This model's maximum context length is {model.context_tokens} tokens. However, you "
                f"requested {asked.input_tokens + (asked.cap or 0)} tokens "
                f"({asked.input_tokens} in the messages, {asked.cap or 0} in the completion)."
            )
        raise Rejected("context_length_exceeded", message, "messages")
    return asked


def _read_chat(body: dict[str, Any], model: ModelSpec) -> Asked:
    if model.reasoning and body.get("max_tokens") is not None:
        raise Rejected(
            "unsupported_parameter",
            "Unsupported parameter: 'max_tokens' is not supported with this model. "
            "Use 'max_completion_tokens' instead.",
            "max_tokens",
        )
    name = "max_tokens" if body.get("max_completion_tokens") is None else "max_completion_tokens"
    stop = body.get("stop")
    return _gather(
        _messages(body.get("messages"), "messages"),
        cap=_count(body, name),
        replies=_count(body, "n") or 1,
        stop=(stop,) if isinstance(stop, str) else tuple(stop or ()),
        effort=_effort(body.get("reasoning_effort"), "reasoning_effort"),
    )


def _read_responses(body: dict[str, Any], model: ModelSpec) -> Asked:
    asked = body.get("input")
    said = [("user", asked, "")] if isinstance(asked, str) else _messages(asked, "input")
    if instructions := body.get("instructions"):
        said.insert(0, ("system", _text(instructions, "instructions")[0], ""))
    reasoning = body.get("reasoning")
    effort = reasoning.get("effort") if isinstance(reasoning, dict) else None
    return _gather(said, cap=_count(body, "max_output_tokens"), effort=_effort(effort, "reasoning.effort"))


def _read_anthropic(body: dict[str, Any], model: ModelSpec) -> Asked:
    if body.get("max_tokens") is None:
        raise Rejected("invalid_request", "max_tokens: Field required", "max_tokens")
    return _read_counted(body, model)


def _read_counted(body: dict[str, Any], model: ModelSpec) -> Asked:
    said = _messages(body.get("messages"), "messages")
    if system := body.get("system"):
        text, cached = _text(system, "system")
        said.insert(0, ("system", text, cached))
    return _gather(
        said,
        cap=_count(body, "max_tokens"),
        stop=tuple(body.get("stop_sequences") or ()),
        marked_prefix=True,
    )


_READERS = {
    "chat": _read_chat,
    "responses": _read_responses,
    "messages": _read_anthropic,
    "count_tokens": _read_counted,
}

_Said = tuple[str, str, str]
"""Role, text, and the part of the text that is marked for the cache."""


def _messages(given: object, name: str) -> list[_Said]:
    if not isinstance(given, list) or not given:
        raise Rejected("invalid_request", f"{name}: a list with at least one message is needed", name)
    said: list[_Said] = []
    for message in given:
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise Rejected("invalid_request", f"{name}: each message needs a role", name)
        text, cached = _text(message.get("content"), name)
        said.append((message["role"], text, cached))
    return said


def _text(content: object, name: str) -> tuple[str, str]:
    """Return a content's text, and its beginning up to the last mark for the cache."""
    if isinstance(content, str):
        return content, ""
    if not isinstance(content, list):
        raise Rejected("invalid_request", f"{name}: content must be a text or a list of parts", name)
    pieces: list[str] = []
    cached = ""
    for part in content:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            raise Rejected("invalid_request", f"{name}: only parts with a text are known here", name)
        pieces.append(part["text"])
        if part.get("cache_control"):
            cached = "\n".join(pieces)
    return "\n".join(pieces), cached


def _count(body: dict[str, Any], name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise Rejected("invalid_request", f"{name}: {value!r} must be a whole number from 1 on", name)
    return value


def _effort(value: object, name: str) -> str:
    if value is None:
        return "medium"
    if value not in REASONING_SHARE:
        raise Rejected(
            "unsupported_value", f"{name}: {value!r} is not one of {', '.join(REASONING_SHARE)}", name
        )
    return str(value)


def _gather(
    said: list[_Said],
    *,
    cap: int | None,
    replies: int = 1,
    stop: tuple[str, ...] = (),
    effort: str = "medium",
    marked_prefix: bool = False,
) -> Asked:
    tokens = [count_tokens(text) for _, text, _ in said]
    prefix, prefix_tokens = "", 0
    if marked_prefix:
        for at, (_, text, cached) in enumerate(said):
            if cached:
                prefix = "\n".join([*(before for _, before, _ in said[:at]), cached])
                prefix_tokens = sum(tokens[:at]) + (tokens[at] if cached == text else count_tokens(cached))
    elif tokens[0] >= CACHED_PREFIX_TOKENS:
        prefix, prefix_tokens = said[0][1], tokens[0] // 128 * 128
    users = [text for role, text, _ in said if role == "user"]
    return Asked(
        text=users[-1] if users else said[-1][1],
        characters=sum(len(text) for _, text, _ in said),
        input_tokens=sum(tokens) + MESSAGE_OVERHEAD_TOKENS * (len(said) + 1),
        prefix=prefix,
        prefix_tokens=prefix_tokens,
        cap=cap,
        replies=replies,
        stop=stop,
        effort=effort,
    )
