"""What the server does with a request, without sockets: finds out what was asked, and who answers it."""

from __future__ import annotations

from dataclasses import asdict

from toolkit.clock import Clock
from toolkit.testing.asked import Rejected, Route, find_route, read_body, read_model
from toolkit.testing.books import Books
from toolkit.testing.call import ServedCall, check_key, find_model, id_header, read_object
from toolkit.testing.error_bodies import Vendor, error_answer
from toolkit.testing.faults import Faults
from toolkit.testing.models import Models
from toolkit.testing.options import ServerOptions
from toolkit.testing.replies import model_list
from toolkit.testing.wire import Incoming, Response, json_response

CONTROL = "/_server/"
"""Start of the addresses that ask about the server itself: ``score``, ``journal``, and ``reset`` (POST)."""


class Service:
    """The server behind its sockets.

    Parameters
    ----------
    options : ServerOptions
    clock : Clock
        What the laws go by.
    """

    def __init__(self, options: ServerOptions, clock: Clock) -> None:
        self.books = Books(options, clock)
        self._options = options
        self._models = Models(options.models)
        self._faults = Faults(options.faults)

    def answer(self, incoming: Incoming) -> Response:
        """Decide what becomes of a request."""
        if incoming.path.startswith(CONTROL):
            return self._control(incoming)
        route = find_route(incoming.path)
        if route is None:
            return _plain_error("not_found", "openai")
        if route.method != incoming.method:
            return _plain_error("method_not_allowed", route.vendor)
        if route.form in ("models", "count_tokens"):
            return self._free(incoming, route)
        return ServedCall(self.books, self._options, self._models, self._faults, incoming, route).answer()

    def _free(self, incoming: Incoming, route: Route) -> Response:
        """Answer what costs nothing and is not scored."""
        anthropic = "anthropic-version" in incoming.headers
        vendor: Vendor = "anthropic" if anthropic else route.vendor
        try:
            check_key(incoming, self._options.key)
            if route.form == "models":
                return json_response(model_list(self._models, anthropic=anthropic))
            body = read_object(incoming, route)
            asked = read_body(route.form, body, find_model(self._models, read_model(body)))
            return json_response({"input_tokens": asked.input_tokens})
        except Rejected as rejected:
            return _plain_error(rejected.name, vendor, rejected.message, rejected.param)

    def _control(self, incoming: Incoming) -> Response:
        what = (incoming.method, incoming.path.removeprefix(CONTROL))
        if what == ("GET", "score"):
            return json_response(self.books.score().to_json())
        if what == ("GET", "journal"):
            return json_response([asdict(row) for row in self.books.journal()])
        if what == ("POST", "reset"):
            self.books.reset(refill="refill=1" in incoming.query)
            return json_response({})
        return _plain_error("not_found", "openai")


def _plain_error(name: str, vendor: Vendor, message: str | None = None, param: str | None = None) -> Response:
    status, body = error_answer(name, vendor, message=message, param=param, request_id="req_0")
    return json_response(body, status, [(id_header(vendor), "req_0")])
