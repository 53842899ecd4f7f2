"""Faults: which there are, and which one a request meets.

=============== =====================================================================================
stage           kinds, and what the request has cost when they strike
=============== =====================================================================================
connection      ``reset`` ``html`` ``html_502``: something in front of the API; nothing is counted
gate            errors of status 4xx: refused before the law; a failed request, where these count
service         errors of status 5xx, ``hang``: let in by the law, and then no answer
reply           ``slow``, ``reset_after``, ``truncated``, ``malformed``, ``wrong_headers``,
                ``missing_headers``, ``wrong_content_type``, ``content_filter``, ``refusal``, ``empty``:
                the answer was made and is paid for
=============== =====================================================================================

A law's own refusal goes before the faults of the stages ``service`` and ``reply``.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from itertools import accumulate

from toolkit.errors import ConfigError, nearest_name
from toolkit.testing.error_bodies import ERRORS

CONNECTION = frozenset({"reset", "html", "html_502"})
HANG = "hang"
REPLY = frozenset(
    {
        "slow",
        "reset_after",
        "truncated",
        "malformed",
        "wrong_headers",
        "missing_headers",
        "wrong_content_type",
        "content_filter",
        "refusal",
        "empty",
    }
)
ALIASES = {
    "400": "invalid_request",
    "401": "invalid_api_key",
    "403": "permission_denied",
    "404": "model_not_found",
    "429": "rate_limit_exceeded",
    "500": "server_error",
    "502": "bad_gateway",
    "503": "server_is_overloaded",
    "504": "gateway_timeout",
    "529": "overloaded",
}
GATE = frozenset(name for name, error in ERRORS.items() if error.status < 500)
SERVICE = frozenset(ERRORS) - GATE | {HANG}
FAULTS = CONNECTION | GATE | SERVICE | REPLY
NO_FAULT = (None, "", "ok")

FaultPlan = Mapping[str, float] | Sequence[str | None]


def checked_faults(faults: object) -> FaultPlan:
    """Return rates by kind, or a script, with full names.

    Raises
    ------
    ConfigError
        If a kind is unknown, a rate is no probability, or the rates are more than 1 together.
    """
    if isinstance(faults, Mapping):
        rates: dict[str, float] = {}
        for kind, rate in faults.items():
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 <= rate <= 1:
                raise ConfigError(f"faults: the rate {rate!r} of {kind!r} must lie between 0 and 1")
            name = _full_name(kind)
            rates[name] = rates.get(name, 0.0) + rate
        if sum(rates.values()) > 1 + 1e-9:
            raise ConfigError(
                f"faults: the rates are {sum(rates.values()):g} together; at most 1 is possible"
            )
        return rates
    if isinstance(faults, Sequence) and not isinstance(faults, str | bytes):
        return tuple(None if kind in NO_FAULT else _full_name(kind) for kind in faults)
    raise ConfigError(f"faults={faults!r}: give rates by kind, such as {{'500': 0.1}}, or a list of kinds")


def _full_name(kind: object) -> str:
    name = ALIASES.get(str(kind), str(kind))
    if name not in FAULTS:
        raise ConfigError(f"faults: {kind!r} is no fault; {nearest_name(name, FAULTS | set(ALIASES))}")
    return name


class Faults:
    """Says for each request which fault it meets.

    Parameters
    ----------
    plan : mapping or sequence
        As ``checked_faults`` returns it. A script is read in the order of arrival, one entry a request,
        and after its end there are no faults. Rates are drawn like the latency's noise.
    """

    def __init__(self, plan: FaultPlan) -> None:
        self._script = () if isinstance(plan, Mapping) else plan
        rates = plan if isinstance(plan, Mapping) else {}
        self._kinds = tuple(rates)
        self._bounds = tuple(accumulate(rates.values()))

    def draw(self, number: int, uniform: float) -> str | None:
        """Return the fault of the ``number``-th request (from 0), or None.

        Parameters
        ----------
        number : int
            Place in the order of arrival since the start.
        uniform : float
            Drawn for this request, in [0, 1).
        """
        if self._script:
            return self._script[number] if number < len(self._script) else None
        if not self._kinds:
            return None
        place = bisect_right(self._bounds, uniform)
        return self._kinds[place] if place < len(self._kinds) else None


def uniforms(seed: int, body_hash: str, occurrence: int) -> tuple[float, float, float]:
    """Return three numbers in [0, 1) that depend on nothing but their arguments."""
    digest = blake2b(f"{seed} {body_hash} {occurrence}".encode(), digest_size=24).digest()
    # 53 bits: a float holds no more, and one that was rounded up to 1 would be out of range.
    first, second, third = (int.from_bytes(digest[at : at + 8], "big") >> 11 for at in (0, 8, 16))
    return first / 2**53, second / 2**53, third / 2**53
