"""Every error that the server answers with, in the words and the form of the vendor that was asked.

A row of ``ERRORS`` is one kind of error: its name is OpenAI's ``error.code`` where there is one, and is
what ``faults`` and the score's ``refused`` call it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from toolkit.testing.headers import go_duration
from toolkit.testing.laws import DAY_S, MINUTE_S, Refusal
from toolkit.testing.meters import Resource

Vendor = Literal["openai", "azure", "anthropic"]


@dataclass(frozen=True, slots=True)
class ErrorKind:
    """One kind of error in the forms of all vendors.

    Attributes
    ----------
    status : int
        HTTP status at OpenAI and Azure.
    message : str
    type, code : str or None
        OpenAI's ``error.type`` and ``error.code``.
    azure : str or None
        Azure's ``error.code``, where the body has Azure's own short form.
    anthropic : tuple
        Status and ``error.type`` at Anthropic.
    error_code : str or None
        Anthropic's ``error.details.error_code``.
    retry_after : bool
        Whether the answer says when to come again.
    """

    status: int
    message: str
    type: str | None
    code: str | None
    azure: str | None
    anthropic: tuple[int, str]
    error_code: str | None = None
    retry_after: bool = False


_RATE = (429, "rate_limit_error")
_INVALID = (400, "invalid_request_error")
_BILLING = (402, "billing_error")
_SPEND = "enforced_spend_limit_reached"
_QUOTA_TEXT = "You exceeded your current quota, please check your plan and billing details."
_OVERLOADED_TEXT = "The server is overloaded or not ready yet. Please try again later."

ERRORS: dict[str, ErrorKind] = {
    "rate_limit_exceeded": ErrorKind(
        429, "Rate limit reached.", "requests", "rate_limit_exceeded", "429", _RATE, retry_after=True
    ),
    "request_too_large": ErrorKind(
        429,
        "Request too large on tokens per min (TPM): Limit 1000, Requested 1001. Reduce the request.",
        "tokens",
        "rate_limit_exceeded",
        "429",
        _RATE,
    ),
    "slow_down": ErrorKind(
        429,
        "Slow down: your request rate grew too quickly. Reduce it and increase it step by step.",
        "requests",
        "slow_down",
        None,
        _RATE,
        "ramp_limit_exceeded",
    ),
    "insufficient_quota": ErrorKind(
        429, _QUOTA_TEXT, "insufficient_quota", "insufficient_quota", None, _RATE, _SPEND
    ),
    "credit_balance_exhausted": ErrorKind(
        429,
        "Your credit balance is exhausted. Add credits to continue.",
        "insufficient_quota",
        "credit_balance_exhausted",
        None,
        _BILLING,
    ),
    "organization_spend_limit_exceeded": ErrorKind(
        429,
        "Your organization reached its spend limit.",
        "insufficient_quota",
        "organization_spend_limit_exceeded",
        None,
        _RATE,
        _SPEND,
    ),
    "project_spend_limit_exceeded": ErrorKind(
        429,
        "Your project reached its spend limit.",
        "insufficient_quota",
        "project_spend_limit_exceeded",
        None,
        _RATE,
        _SPEND,
    ),
    "organization_usage_limit_exceeded": ErrorKind(
        429,
        "Your organization reached its usage limit.",
        "insufficient_quota",
        "organization_usage_limit_exceeded",
        None,
        _RATE,
        _SPEND,
    ),
    "invalid_request": ErrorKind(
        400, "The request is invalid.", "invalid_request_error", "invalid_request", None, _INVALID
    ),
    "unsupported_parameter": ErrorKind(
        400, "Unsupported parameter.", "invalid_request_error", "unsupported_parameter", None, _INVALID
    ),
    "unsupported_value": ErrorKind(
        400, "Unsupported value.", "invalid_request_error", "unsupported_value", None, _INVALID
    ),
    "context_length_exceeded": ErrorKind(
        400,
        "This model's maximum context length was exceeded.",
        "invalid_request_error",
        "context_length_exceeded",
        None,
        _INVALID,
    ),
    "invalid_api_key": ErrorKind(
        401,
        "Incorrect API key provided.",
        "invalid_request_error",
        "invalid_api_key",
        "401",
        (401, "authentication_error"),
    ),
    "permission_denied": ErrorKind(
        403,
        "You have insufficient permissions for this operation.",
        "invalid_request_error",
        "permission_denied",
        None,
        (403, "permission_error"),
    ),
    "model_not_found": ErrorKind(
        404,
        "The model does not exist or you do not have access to it.",
        "invalid_request_error",
        "model_not_found",
        "DeploymentNotFound",
        (404, "not_found_error"),
    ),
    "not_found": ErrorKind(
        404,
        "There is nothing at this address.",
        "invalid_request_error",
        None,
        "404",
        (404, "not_found_error"),
    ),
    "method_not_allowed": ErrorKind(
        405,
        "Not allowed to use this method here.",
        "invalid_request_error",
        "method_not_supported",
        "405",
        _INVALID,
    ),
    "body_too_large": ErrorKind(
        413, "The body is too large.", "invalid_request_error", None, "413", (413, "request_too_large")
    ),
    "server_error": ErrorKind(
        500,
        "The server had an error while processing your request.",
        "server_error",
        None,
        "InternalServerError",
        (500, "api_error"),
    ),
    "bad_gateway": ErrorKind(502, "Bad gateway.", "server_error", None, "BadGateway", (502, "api_error")),
    "server_is_overloaded": ErrorKind(
        503,
        _OVERLOADED_TEXT,
        "service_unavailable_error",
        "server_is_overloaded",
        "ServiceUnavailable",
        (529, "overloaded_error"),
    ),
    "gateway_timeout": ErrorKind(
        504, "The gateway timed out.", "server_error", None, "GatewayTimeout", (504, "timeout_error")
    ),
    "overloaded": ErrorKind(529, "Overloaded", "server_error", None, "Overloaded", (529, "overloaded_error")),
}


def error_answer(
    name: str,
    vendor: Vendor,
    *,
    message: str | None = None,
    type: str | None = None,
    param: str | None = None,
    request_id: str = "",
) -> tuple[int, dict[str, Any]]:
    """Return status and body of an error.

    Parameters
    ----------
    name : str
        A key of ``ERRORS``.
    vendor : str
    message, type, param : str, optional
        Go before the words of the table; ``type`` and ``param`` are OpenAI's.
    request_id : str
        Repeated in Anthropic's bodies.
    """
    kind = ERRORS[name]
    text = kind.message if message is None else message
    if vendor == "anthropic":
        status, its_type = kind.anthropic
        error: dict[str, Any] = {"type": its_type, "message": text}
        if kind.error_code:
            error["details"] = {"error_code": kind.error_code}
        return status, {"type": "error", "error": error, "request_id": request_id}
    if vendor == "azure" and kind.azure:
        return kind.status, {"error": {"code": kind.azure, "message": text}}
    return kind.status, {
        "error": {"message": text, "type": type or kind.type, "param": param, "code": kind.code}
    }


def law_message(vendor: Vendor, refusal: Refusal, model: str, operation: str) -> str:
    """Say in the vendor's words which limit refused a request, with the numbers it shows."""
    meter = refusal.meter
    per = {MINUTE_S: "min", DAY_S: "day"}.get(meter.period_s, f"{meter.period_s:g} s")
    what = meter.resource.value.replace("_", " ")
    if vendor == "azure":
        kind = "call" if meter.resource is Resource.REQUESTS else "token"
        # Azure tells a request that can never fit to come again in a day.
        wait = DAY_S if refusal.oversize else refusal.wait_s
        return (
            f"Requests to the {operation} Operation under Azure OpenAI API have exceeded {kind} rate limit "
            f"of your current OpenAI S0 pricing tier. Please retry after {math.ceil(wait)} seconds."
        )
    if vendor == "anthropic":
        period = {"min": "minute"}.get(per, per)
        limit = f"{meter.limit:,} {what} per {period}"
        return f"This request would exceed your organization's rate limit of {limit}."
    owner = "organization org-loopback" if meter.scope == "organization" else "project proj-loopback"
    unit = {"min": "M", "day": "D"}.get(per)
    letters = "".join(word[0] for word in what.upper().split())
    short = f" ({letters}P{unit})" if unit else ""
    where = f"{model} in {owner} on {what} per {per}{short}: Limit {meter.limit}"
    if refusal.oversize:
        return (
            f"Request too large for {where}, Requested {refusal.requested}. The input or output tokens must "
            "be reduced in order to run successfully."
        )
    return (
        f"Rate limit reached for {where}, Used {refusal.used}, Requested {refusal.requested}. "
        f"Please try again in {go_duration(refusal.wait_s)}."
    )
