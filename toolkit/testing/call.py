"""One scored request, from its arrival to its end: key, body, law, fault, answer."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from hashlib import blake2b
from typing import Any

from toolkit.records import StopReason
from toolkit.testing import faults as kinds
from toolkit.testing.asked import OPERATIONS, Asked, Rejected, Route, read_body, read_model
from toolkit.testing.books import Books
from toolkit.testing.error_bodies import ERRORS, Vendor, error_answer, law_message
from toolkit.testing.faults import Faults, uniforms
from toolkit.testing.headers import limit_headers, retry_headers, wrong_headers
from toolkit.testing.laws import DAY_S, Admission, Law, Refusal, Size
from toolkit.testing.ledger import JournalRow
from toolkit.testing.meters import Resource
from toolkit.testing.models import Models, ModelSpec
from toolkit.testing.options import ServerOptions
from toolkit.testing.replies import reply_body
from toolkit.testing.wire import Ending, Incoming, Response, json_response
from toolkit.testing.writer import REASONING_SHARE, Answer, write

_HTML = b"<!DOCTYPE html><html><head><title>Proxy</title></head><body><h1>Please wait</h1></body></html>"
_SPOILS = frozenset({"reset_after", "truncated", "malformed"})
"""Faults after which an answer that was made does not arrive whole."""
CLIENT_GONE = 499


class ServedCall:
    """One scored request.

    Parameters
    ----------
    books : Books
    options : ServerOptions
    models : Models
    faults : Faults
    incoming : Incoming
    route : Route

    """

    def __init__(
        self,
        books: Books,
        options: ServerOptions,
        models: Models,
        faults: Faults,
        incoming: Incoming,
        route: Route,
    ) -> None:
        self._books = books
        self._options = options
        self._models = models
        self._faults = faults
        self._incoming = incoming
        self._route = route
        self._now = books.now()
        self._idempotency_key = incoming.headers.get("idempotency-key")
        path = incoming.path.encode("utf-8", "surrogateescape")
        digest = blake2b(path + b"\0" + incoming.body, digest_size=12).hexdigest()
        self._row = JournalRow(self._now, incoming.path, digest)
        self._number = 0
        self._law: Law | None = None
        self._admission: Admission | None = None
        self._response: Response | None = None

    def answer(self) -> Response:
        """Decide what becomes of the request."""
        row = self._row
        self._number, occurrence = self._books.enter(row, self._idempotency_key)
        draws = uniforms(self._options.seed, row.body_hash, occurrence)
        fault = self._faults.draw(self._number, draws[0])
        if fault in kinds.CONNECTION:
            row.fault = fault
            return self._in_front(fault)
        try:
            asked, model = self._read()
            assert self._law is not None
            if fault in kinds.GATE:
                row.fault = fault
                raise Rejected(fault)
            cap = self._options.max_concurrent
            if cap is not None and self._books.in_flight >= cap:
                raise Rejected(self._options.overload)
        except Rejected as rejected:
            if self._law is not None:
                self._law.count_failed(self._now)
            return self._refuse(rejected.name, message=rejected.message, param=rejected.param)
        size = self._size(asked)
        outcome = self._law.admit(self._now, size)
        if isinstance(outcome, Refusal):
            return self._refuse_by_law(outcome)
        self._admission = outcome
        row.fault = fault
        row.admitted = True
        row.charged = outcome.tokens
        row.input_tokens = asked.input_tokens
        self._books.begin_work()
        if fault in kinds.SERVICE:
            return self._fail(fault, asked, draws)
        return self._reply(asked, model, size, fault, draws)

    # -- reading -------------------------------------------------------------------------------------

    def _read(self) -> tuple[Asked, ModelSpec]:
        key = check_key(self._incoming, self._options.key)
        body = read_object(self._incoming, self._route)
        name = self._route.deployment or read_model(body)
        self._row.model = name
        pool_by = self._options.pool_by
        parts = (key if "key" in pool_by else "", name if "model" in pool_by else "")
        self._law = self._books.law("\0".join(parts))
        model = find_model(self._models, name)
        return read_body(self._route.form, body, model), model

    def _size(self, asked: Asked) -> Size:
        cached = 0
        if asked.prefix:
            key = f"{self._row.model}\0{asked.prefix}".encode("utf-8", "surrogatepass")
            if self._books.knows_prefix(blake2b(key, digest_size=16).digest()):
                cached = asked.prefix_tokens
        return Size(
            asked.input_tokens, cached, asked.cap, asked.replies, asked.characters, len(self._incoming.body)
        )

    # -- answering -----------------------------------------------------------------------------------

    def _reply(
        self, asked: Asked, model: ModelSpec, size: Size, fault: str | None, draws: tuple[float, float, float]
    ) -> Response:
        row, options = self._row, self._options
        answer = _altered(self._written(asked, model), fault)
        output = answer.output_tokens * asked.replies
        row.cached_tokens, row.output_tokens = size.cached_tokens, output
        # Only Anthropic tells what was written to the cache.
        written = asked.prefix_tokens - size.cached_tokens if self._route.vendor == "anthropic" else 0
        response = json_response(
            reply_body(
                self._route.form,
                row.model,
                [answer] * asked.replies,
                input_tokens=asked.input_tokens,
                cached_tokens=size.cached_tokens,
                written_tokens=written,
                number=self._number,
                created=self._now,
            )
        )
        response.delay_s = options.latency.seconds(asked.input_tokens, output, draws[1], draws[2])
        if fault == "slow":
            response.delay_s += options.slow_s
        elif fault == "reset_after":
            response.ending = Ending.RESET
        elif fault == "truncated":
            response.ending = Ending.TRUNCATE
        elif fault == "malformed":
            response.body = response.body[: len(response.body) // 2]
        elif fault == "wrong_content_type":
            response.content_type = "text/plain"
        assert self._law is not None
        if not self._law.settles:
            # As a real server, it tells how things stood when it let the request in.
            self._show_limits(response, self._now)
        return self._later(response)

    def _written(self, asked: Asked, model: ModelSpec) -> Answer:
        reasoning = 0
        if model.reasoning:
            reasoning = math.ceil(self._options.reasoning_tokens * REASONING_SHARE[asked.effort])
        cap = model.max_output_tokens if asked.cap is None else asked.cap
        return write(
            asked.text,
            words=self._options.reply_words,
            cap=cap,
            reasoning_tokens=reasoning,
            stop=asked.stop,
        )

    def _fail(self, fault: str, asked: Asked, draws: tuple[float, float, float]) -> Response:
        """Answer an admitted request with a fault of the service."""
        self._row.reason = fault
        if fault == kinds.HANG:
            return self._later(Response(0, b"", ending=Ending.HANG))
        response = self._error(fault)
        if fault == "gateway_timeout":
            # A gateway gives up after the time that the answer would have taken.
            response.delay_s = self._options.latency.seconds(asked.input_tokens, asked.cap or 0, *draws[1:])
        return self._later(response)

    def _refuse_by_law(self, refusal: Refusal) -> Response:
        self._row.by_law = True
        vendor = self._route.vendor
        wait: float | None = refusal.wait_s
        if refusal.oversize:
            wait = DAY_S if vendor == "azure" else None
        return self._refuse(
            "request_too_large" if refusal.oversize else "rate_limit_exceeded",
            message=law_message(vendor, refusal, self._row.model, OPERATIONS[self._route.form]),
            type="requests" if refusal.meter.resource is Resource.REQUESTS else "tokens",
            wait_s=wait if self._options.retry_after else None,
        )

    def _refuse(
        self,
        name: str,
        *,
        message: str | None = None,
        type: str | None = None,
        param: str | None = None,
        wait_s: float | None = None,
    ) -> Response:
        """Answer a request that was not admitted."""
        row, vendor = self._row, self._route.vendor
        row.reason = name
        response = self._error(name, message=message, type=type, param=param)
        if not row.by_law and (ERRORS[name].retry_after or (vendor == "anthropic" and name == "slow_down")):
            wait_s = self._options.fault_retry_after_s
        if wait_s is not None:
            headers, row.retry_after_s = retry_headers(vendor, wait_s)
            response.headers += headers
            self._books.ask_to_wait(row, self._idempotency_key, self._now + row.retry_after_s)
        if response.status == 429:
            self._show_limits(response, self._now)
        return self._at_once(response)

    def _in_front(self, fault: str) -> Response:
        """Answer for a proxy in front of the API."""
        self._row.reason = fault
        if fault == "reset":
            return self._at_once(Response(0, b"", ending=Ending.RESET))
        status = 502 if fault == "html_502" else 200
        return self._at_once(Response(status, _HTML, content_type="text/html"))

    # -- responses -----------------------------------------------------------------------------------

    def _error(self, name: str, **words: Any) -> Response:
        request_id = f"req_{self._number:08d}"
        vendor = self._route.vendor
        status, body = error_answer(name, vendor, request_id=request_id, **words)
        return json_response(body, status, [(id_header(vendor), request_id)])

    def _show_limits(self, response: Response, now: float) -> None:
        if self._row.fault == "wrong_headers":
            response.headers += wrong_headers()
        elif self._law is not None and self._row.fault != "missing_headers":
            style = self._options.headers
            response.headers += limit_headers(self._route.vendor, style, self._law.meters, now)

    def _at_once(self, response: Response) -> Response:
        response.sent = self._sent
        self._response = response
        return response

    def _later(self, response: Response) -> Response:
        if response.status == 200:
            response.headers.append((id_header(self._route.vendor), f"req_{self._number:08d}"))
        response.finish = self._finish
        return self._at_once(response)

    def _finish(self) -> None:
        assert self._law is not None
        assert self._admission is not None
        row = self._row
        now = self._books.now()
        self._books.end_work()
        if row.fault in kinds.SERVICE:
            row.charged = self._law.undo(now, self._admission)
            return
        row.paid = True
        row.charged = self._law.settle(now, self._admission, row.input_tokens, row.output_tokens)
        if self._law.settles and self._response is not None:
            self._show_limits(self._response, now)

    def _sent(self, whole: bool) -> None:
        assert self._response is not None
        row, response = self._row, self._response
        row.duration_s = self._books.now() - row.arrived
        row.status = 0 if response.ending in (Ending.RESET, Ending.HANG) else response.status
        if row.paid:
            row.whole = whole and row.fault not in _SPOILS
            if row.fault in _SPOILS:
                row.reason = row.fault
        if not whole and response.ending is Ending.SEND:
            row.status, row.reason = CLIENT_GONE, row.reason or "client_gone"


def check_key(incoming: Incoming, keys: tuple[str, ...] | None) -> str:
    """Return the key that a request brings, empty for none.

    Raises
    ------
    Rejected
        If only certain keys are let in and it is none of them.
    """
    headers = incoming.headers
    bearer = headers.get("authorization", "")
    key = headers.get("x-api-key") or headers.get("api-key") or bearer.removeprefix("Bearer ").strip()
    if keys is not None and key not in keys:
        raise Rejected("invalid_api_key")
    return key


def read_object(incoming: Incoming, route: Route) -> dict[str, Any]:
    """Return the body of a request that has what its API demands beside it."""
    if route.needs_api_version and "api-version=" not in incoming.query:
        raise Rejected("not_found", "Resource not found")
    if route.vendor == "anthropic" and "anthropic-version" not in incoming.headers:
        raise Rejected("invalid_request", "anthropic-version: header is required")
    try:
        body = json.loads(incoming.body)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise Rejected("invalid_request", "We could not parse the JSON body of your request.")
    return body


def find_model(models: Models, name: str) -> ModelSpec:
    """Return a model that the server has."""
    model = models.find(name)
    if model is None:
        raise Rejected(
            "model_not_found", f"The model `{name}` does not exist or you do not have access to it.", "model"
        )
    return model


def id_header(vendor: Vendor) -> str:
    """Return the header that carries a request's id."""
    return "request-id" if vendor == "anthropic" else "x-request-id"


def _altered(answer: Answer, fault: str | None) -> Answer:
    """Return an answer as a fault of the model leaves it."""
    if fault == "content_filter":
        words = answer.text.split()
        return replace(answer, text=" ".join(words[: len(words) // 2]), stop_reason=StopReason.CONTENT_FILTER)
    if fault == "refusal":
        return replace(answer, text="", stop_reason=StopReason.REFUSAL, stop_sequence=None)
    if fault == "empty":
        return replace(answer, text="", stop_reason=StopReason.STOP, stop_sequence=None)
    return answer
