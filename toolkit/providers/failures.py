"""What every failure of a hosted model means, whatever the vendor.

Exceptions are told by their class (here), answers by status and code (``answers``).

=====================================================  ============================  ============
what happened                                          error                         tried again
=====================================================  ============================  ============
no connection (name, refused, TLS, proxy, timeout)     TransientError                yes
a certificate that is not trusted                      RequestRejected               never
broken or late after the request was sent              TransientError, paid_unknown  yes
200 with broken JSON, or JSON that is no reply         TransientError, paid_unknown  yes
200 with an HTML page; a redirect                      RequestRejected               never
408 409 425 499 and 5xx, but not 501 and 505           TransientError                yes
429 rate limit, slow_down                              RateLimited                   yes
429 with Requested above Limit                         Oversize                      never
429 or 402 of quota, credit or spend                   QuotaExhausted                never
401 403                                                AuthenticationFailed          never
400 of the context's length                            ContextTooLong                never
404, and all others                                    RequestRejected               never
=====================================================  ============================  ============
"""

from __future__ import annotations

import email.utils
import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from toolkit.errors import RateLimited
from toolkit.limits.headers import read_headers
from toolkit.protocols import Retry, RetryDecision
from toolkit.providers.answers import (
    MISPLACED,
    NOT_SENT,
    REFUSED,
    REJECTED,
    UNCLEAR,
    UnusableAnswer,
    Verdict,
    judge,
    kept_headers,
    read_body,
)
from toolkit.providers.endpoints import Endpoint, mask


class Look(Enum):
    """Where the meaning of an exception is to be found."""

    AT_STATUS = "status and body of the answer"
    AT_CAUSE = "the exception behind it"


PACKAGES = ("openai", "anthropic", "httpx2", "httpx", "json")
"""Where the classes of the table come from; both libraries use the same names for the same things."""

BY_CLASS: dict[str, Verdict | Look] = {
    # openai and anthropic
    "APIStatusError": Look.AT_STATUS,
    "APIConnectionError": Look.AT_CAUSE,
    "APITimeoutError": Look.AT_CAUSE,
    "APIResponseValidationError": UNCLEAR,
    "APIError": REJECTED,
    "OpenAIError": REJECTED,
    "LengthFinishReasonError": REJECTED,
    "ContentFilterFinishReasonError": REJECTED,
    "InvalidWebhookSignatureError": REJECTED,
    "SubjectTokenProviderError": REFUSED,
    "MutuallyExclusiveAuthError": REFUSED,
    "WebSocketConnectionClosedError": UNCLEAR,
    "WebSocketQueueFullError": NOT_SENT,
    "MissingStreamClassError": REJECTED,
    "StreamAlreadyConsumed": UNCLEAR,
    "APIRemovedInV1": REJECTED,
    "_AmbiguousModuleClientUsageError": REJECTED,
    "_TransientTokenExchangeError": NOT_SENT,
    "AnthropicError": REJECTED,
    "APIWebhookValidationError": REJECTED,
    "RetryableError": UNCLEAR,
    "CredentialsError": REFUSED,
    "IdentityTokenFileError": REFUSED,
    "WorkloadIdentityError": REFUSED,
    "_NonObjectPayloadError": REFUSED,
    "MissingDependencyError": REJECTED,
    # httpx2, by itself or behind an APIConnectionError
    "ConnectTimeout": NOT_SENT,
    "PoolTimeout": NOT_SENT,
    "WriteTimeout": NOT_SENT,
    "ReadTimeout": UNCLEAR,
    "TimeoutException": UNCLEAR,
    "ConnectError": NOT_SENT,
    "WriteError": NOT_SENT,
    "ReadError": UNCLEAR,
    "CloseError": UNCLEAR,
    "NetworkError": UNCLEAR,
    "LocalProtocolError": REJECTED,
    "RemoteProtocolError": UNCLEAR,
    "ProtocolError": UNCLEAR,
    "ProxyError": NOT_SENT,
    "UnsupportedProtocol": MISPLACED,
    "TransportError": UNCLEAR,
    "DecodingError": UNCLEAR,
    "TooManyRedirects": REJECTED,
    "RequestError": UNCLEAR,
    "HTTPStatusError": Look.AT_STATUS,
    "HTTPError": UNCLEAR,
    "SSEError": UNCLEAR,
    "InvalidURL": MISPLACED,
    "CookieConflict": REJECTED,
    "StreamError": UNCLEAR,
    "StreamConsumed": UNCLEAR,
    "StreamClosed": UNCLEAR,
    "ResponseNotRead": UNCLEAR,
    "RequestNotRead": REJECTED,
    # A 200 whose body breaks off raises it bare.
    "JSONDecodeError": UNCLEAR,
}
"""Every exception of the vendors' libraries, by the name of its class or of the nearest one above it."""

_LONGEST_MESSAGE = 600


@dataclass(frozen=True, slots=True)
class Where:
    """Which call a failure belongs to.

    Attributes
    ----------
    endpoint : Endpoint
    model : str
    key : str
        Masked wherever it turns up.
    key_names : str
        Settings and variables that hold it.
    url_setting : str
        The setting that holds the address.
    timeout_s : float
    """

    endpoint: Endpoint
    model: str
    key: str = field(repr=False)
    key_names: str
    url_setting: str
    timeout_s: float


def find_row(kind: type[BaseException]) -> Verdict | Look | None:
    """Return the row of a class of the vendors' libraries, or None for any other class."""
    for above in kind.__mro__:
        if above.__module__.partition(".")[0] in PACKAGES and above.__name__ in BY_CLASS:
            return BY_CLASS[above.__name__]
    return None


def decide(error: Exception, where: Where) -> RetryDecision | None:
    """Say what an exception means; None if it comes from none of the libraries.

    Parameters
    ----------
    error : Exception
        Out of the vendor's library, or an ``UnusableAnswer``.
    where : Where
    """
    if isinstance(error, UnusableAnswer):
        if error.failed_status:
            return _by_status(error.failed_status, error.response, where)
        verdict = MISPLACED if error.lasting else UNCLEAR
        message = f"{where.endpoint.place} {error.problem}"
        headers, status = kept_headers(error.response.headers), error.response.status_code
        return _decision(verdict, message, where, headers=headers, status_code=status)
    row = find_row(type(error))
    response = getattr(error, "response", None)
    if row is Look.AT_STATUS and response is not None:
        return _by_status(response.status_code, response, where)
    if isinstance(row, Verdict):
        if response is None:
            return _decision(row, f"{type(error).__name__}: {_connection(error, where) or error}", where)
        headers = kept_headers(response.headers)
        return _decision(
            row, f"{type(error).__name__}: {error}", where, headers=headers, status_code=response.status_code
        )
    if row is not None:
        return _by_cause(error, where)
    return None


# -- connections ---------------------------------------------------------------------------------------


def _by_cause(error: Exception, where: Where) -> RetryDecision:
    for link in _chain(error):
        if link is error:
            continue
        if isinstance(link, ssl.SSLCertVerificationError):
            return _decision(MISPLACED, _connection(error, where) or str(link), where)
        row = find_row(type(link))
        if isinstance(row, Verdict):
            # A certificate that is not trusted stands deeper in the chain than httpx2's own error.
            if any(isinstance(deeper, ssl.SSLCertVerificationError) for deeper in _chain(link)):
                row = MISPLACED
            return _decision(row, _connection(error, where) or f"{type(link).__name__}: {link}", where)
    # Anthropic's library calls any failure of sending a connection error, also one of the program.
    cause = error.__cause__
    if cause is not None and not isinstance(cause, OSError):
        return _decision(REJECTED, f"{type(cause).__name__}: {cause}", where)
    return _decision(UNCLEAR, _connection(error, where) or f"{type(error).__name__}: {error}", where)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    link: BaseException | None = error
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        yield link
        link = link.__cause__ or link.__context__


def _connection(error: BaseException, where: Where) -> str | None:
    """Say what is wrong with a connection and what to check, by the classes in the chain."""
    links = list(_chain(error))
    names = {type(link).__name__ for link in links}
    place, setting = where.endpoint.place, where.url_setting
    for link in links:
        if isinstance(link, ssl.SSLCertVerificationError):
            reason = getattr(link, "verify_message", None) or link
            return (
                f"the certificate of {place} is not trusted ({reason}); if a company's proxy "
                "reads the traffic, let SSL_CERT_FILE name its certificate"
            )
    if "ProxyError" in names:
        return f"the proxy on the way to {place} failed; check HTTPS_PROXY and NO_PROXY"
    if any(isinstance(link, ssl.SSLError) for link in links):
        return f"no TLS connection to {place}; check {setting}: does the server speak https there?"
    if any(isinstance(link, socket.gaierror) for link in links):
        host, port = where.endpoint.host, where.endpoint.port
        return f"the name {host} was not found (port {port}); check {setting} and the network"
    if any(isinstance(link, ConnectionRefusedError) for link in links):
        return f"nothing listens at {place}; check that the server runs, and {setting}"
    if "ConnectTimeout" in names:
        return f"no connection to {place} in time; check the network, a firewall, and {setting}"
    if "ConnectError" in names:
        return f"no connection to {place}; check the network and {setting}"
    if "PoolTimeout" in names:
        return f"no free connection to {place} in time; lower summary_batch_size"
    if "WriteTimeout" in names or "WriteError" in names:
        return f"the connection to {place} broke while the request was sent"
    if names & {"ReadTimeout", "APITimeoutError", "TimeoutException"}:
        return (
            f"{place} did not answer within {where.timeout_s:g} s; raise request_timeout_s if that is usual"
        )
    if names & {"ReadError", "RemoteProtocolError", "NetworkError", "CloseError", "DecodingError"}:
        return f"the connection to {place} broke before the answer was complete"
    return None


# -- answers -------------------------------------------------------------------------------------------


def _by_status(status: int, response: Any, where: Where) -> RetryDecision:
    said, headers = read_body(response), kept_headers(response.headers)
    verdict, limit_hit = judge(status, said, headers)
    codes = ", ".join(sorted(said.codes - {str(status)}))
    message = f"{where.endpoint.host} answered {status}"
    message += f" ({codes})" if codes else ""
    message += f": {said.message}" if said.message else ""
    if status in (401, 403):
        message += f"; check {where.key_names} and what the key may do"
    elif status == 404:
        message += (
            f"; is {where.model!r} a model of {where.endpoint.url}, and is the address right? "
            f"(model=, {where.url_setting}=)"
        )
    elif 300 <= status < 400:
        message = (
            f"{where.endpoint.place} answered {status}, a redirect, which is not followed with a key; "
            f"set {where.url_setting} to the address that it leads to"
        )
    return _decision(verdict, message, where, headers=headers, status_code=status, limit_hit=limit_hit)


def _decision(
    verdict: Verdict,
    message: str,
    where: Where,
    *,
    headers: Mapping[str, str] | None = None,
    status_code: int | None = None,
    limit_hit: str | None = None,
) -> RetryDecision:
    headers = headers or {}
    message = mask(" ".join(message.split()), where.key)
    if len(message) > _LONGEST_MESSAGE:
        message = message[:_LONGEST_MESSAGE] + " …"
    request_id = headers.get("x-request-id") or headers.get("request-id") or headers.get("apim-request-id")
    if request_id:
        message += mask(f" (request {request_id})", where.key)
    retry_after_s = None
    if verdict.retry is not Retry.NEVER:
        retry_after_s = read_headers(headers, _answered_at(headers)).retry_after_s
    error = (
        RateLimited(message, retry_after_s=retry_after_s)
        if verdict.error is RateLimited
        else verdict.error(message)
    )
    return RetryDecision(
        error,
        verdict.retry,
        retry_after_s,
        status_code,
        headers=headers,
        limit_hit=limit_hit,
        paid_unknown=verdict.paid_unknown,
        lasting=verdict.lasting,
    )


def _answered_at(headers: Mapping[str, str]) -> float:
    """Return when the answer was written, by the server's own clock where it says so, in epoch seconds."""
    try:
        return email.utils.parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError):
        return time.time()
