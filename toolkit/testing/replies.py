"""Writing a reply in the form of the API that was asked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from toolkit.records import StopReason
from toolkit.testing.asked import Form
from toolkit.testing.models import ModelSpec
from toolkit.testing.writer import Answer

REFUSAL_TEXT = "I'm sorry, but I can't help with that."
_CHAT_FINISH = {
    StopReason.STOP: "stop",
    StopReason.LENGTH: "length",
    StopReason.CONTENT_FILTER: "content_filter",
}
_ANTHROPIC_STOP = {
    StopReason.STOP: "end_turn",
    StopReason.LENGTH: "max_tokens",
    # Anthropic has one word for both.
    StopReason.CONTENT_FILTER: "refusal",
    StopReason.REFUSAL: "refusal",
}


def reply_body(
    form: Form,
    model: str,
    answers: Sequence[Answer],
    *,
    input_tokens: int,
    cached_tokens: int,
    written_tokens: int,
    number: int,
    created: float,
) -> dict[str, Any]:
    """Return the body of a reply.

    Parameters
    ----------
    form : str
        ``"chat"``, ``"responses"`` or ``"messages"``.
    model : str
    answers : sequence of Answer
        More than one only for ``"chat"``.
    input_tokens : int
        Whole prompt.
    cached_tokens, written_tokens : int
        Those of them read from and written to the prompt cache.
    number : int
        Of the request; its ids are made of it.
    created : float
        Epoch seconds.
    """
    usage = (input_tokens, cached_tokens, written_tokens)
    if form == "chat":
        return _chat(model, answers, usage, number, created)
    if form == "responses":
        return _response(model, answers[0], usage, number, created)
    return _message(model, answers[0], usage, number)


_Input = tuple[int, int, int]


def _chat(
    model: str, answers: Sequence[Answer], usage: _Input, number: int, created: float
) -> dict[str, Any]:
    output = sum(answer.output_tokens for answer in answers)
    return {
        "id": f"chatcmpl-{number:08d}",
        "object": "chat.completion",
        "created": int(created),
        "model": model,
        "choices": [
            {
                "index": index,
                "message": {
                    "role": "assistant",
                    "content": None if answer.stop_reason is StopReason.REFUSAL else answer.text,
                    "refusal": REFUSAL_TEXT if answer.stop_reason is StopReason.REFUSAL else None,
                },
                "logprobs": None,
                "finish_reason": _CHAT_FINISH.get(answer.stop_reason, "stop"),
            }
            for index, answer in enumerate(answers)
        ],
        "usage": {
            "prompt_tokens": usage[0],
            "completion_tokens": output,
            "total_tokens": usage[0] + output,
            "prompt_tokens_details": {"cached_tokens": usage[1]},
            "completion_tokens_details": {
                "reasoning_tokens": sum(answer.reasoning_tokens for answer in answers)
            },
        },
    }


def _response(model: str, answer: Answer, usage: _Input, number: int, created: float) -> dict[str, Any]:
    reasons = {StopReason.LENGTH: "max_output_tokens", StopReason.CONTENT_FILTER: "content_filter"}
    reason = reasons.get(answer.stop_reason)
    status = "completed" if reason is None else "incomplete"
    output: list[dict[str, Any]] = []
    if answer.reasoning_tokens:
        output.append({"id": f"rs_{number:08d}", "type": "reasoning", "summary": []})
    if answer.text or answer.stop_reason not in (StopReason.LENGTH, StopReason.CONTENT_FILTER):
        part: dict[str, Any] = {"type": "output_text", "text": answer.text, "annotations": [], "logprobs": []}
        if answer.stop_reason is StopReason.REFUSAL:
            part = {"type": "refusal", "refusal": REFUSAL_TEXT}
        output.append(
            {
                "id": f"msg_{number:08d}",
                "type": "message",
                "status": status,
                "role": "assistant",
                "content": [part],
            }
        )
    return {
        "id": f"resp_{number:08d}",
        "object": "response",
        "created_at": int(created),
        "status": status,
        "error": None,
        "incomplete_details": None if reason is None else {"reason": reason},
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": output,
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": usage[0],
            "input_tokens_details": {"cached_tokens": usage[1]},
            "output_tokens": answer.output_tokens,
            "output_tokens_details": {"reasoning_tokens": answer.reasoning_tokens},
            "total_tokens": usage[0] + answer.output_tokens,
        },
    }


def _message(model: str, answer: Answer, usage: _Input, number: int) -> dict[str, Any]:
    stop_reason = "stop_sequence" if answer.stop_sequence else _ANTHROPIC_STOP[answer.stop_reason]
    return {
        "id": f"msg_{number:08d}",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": answer.text}] if answer.text else [],
        "stop_reason": stop_reason,
        "stop_sequence": answer.stop_sequence,
        "usage": {
            # Anthropic counts what the cache read and wrote apart from the rest.
            "input_tokens": usage[0] - usage[1] - usage[2],
            "cache_read_input_tokens": usage[1],
            "cache_creation_input_tokens": usage[2],
            "output_tokens": answer.output_tokens,
        },
    }


def model_list(models: Iterable[ModelSpec], *, anthropic: bool) -> dict[str, Any]:
    """Return the body of ``GET /v1/models``."""
    names = [spec.name for spec in models]
    if anthropic:
        rows = [
            {"type": "model", "id": name, "display_name": name, "created_at": "2025-01-01T00:00:00Z"}
            for name in names
        ]
        ends = {"first_id": names[0], "last_id": names[-1]} if names else {"first_id": None, "last_id": None}
        return {"data": rows, "has_more": False, **ends}
    return {
        "object": "list",
        "data": [
            {"id": name, "object": "model", "created": 1_735_689_600, "owned_by": "loopback"}
            for name in names
        ],
    }
