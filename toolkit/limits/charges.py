"""What a request counts: amounts by dimension, when it is admitted and when it has ended.

========  ===========================================  =======================================
charge    counted at admission                         at settlement
========  ===========================================  =======================================
sum       input estimate + output cap                  more, if the input was underestimated
max       max(input estimate, output cap)              likewise
fitted    what the fit says (`fitted`), else ``sum``   likewise, without a fit
actual    held: input estimate + output cap            released; the true usage counts from now
========  ===========================================  =======================================

Where a server charges at admission nothing is refunded. Where it counts what was really used, nobody
outside knows at which moment between admission and reply; so the cap is held without draining while the
request is in flight, and the usage counts from the settlement. That is at least what the server counts,
whenever it does. (A refund of a charge that had begun to drain would not be: a call of a minute would have
drained away before the server counted it.)
"""

from __future__ import annotations

from typing import NamedTuple

from toolkit.limits.laws import DIMENSIONS, Dimension
from toolkit.limits.settings import LimitSettings
from toolkit.records import Usage


class Demand(NamedTuple):
    """What a request asks for.

    Attributes
    ----------
    input_tokens : int
        Estimate of the prompt.
    output_cap : int
        Most that the reply may take, all of its alternatives together.
    body_bytes : int
        Size of the request's body; used by the ``fitted`` charge.
    """

    input_tokens: int = 0
    output_cap: int = 0
    body_bytes: int = 0


Amounts = tuple[int, int, int, int]
"""Requests, tokens, input tokens, output tokens."""


def held_dimensions(settings: LimitSettings) -> tuple[bool, ...]:
    """Return for each dimension whether it is held until the settlement."""
    actual = settings.charge_in_force() == "actual"
    written = settings.read_law().output_as_written
    return tuple(
        (actual and dimension is not Dimension.REQUESTS) or (written and dimension is Dimension.OUTPUT_TOKENS)
        for dimension in DIMENSIONS
    )


def reserve(charge: str, demand: Demand, fitted: int | None) -> Amounts:
    """Return what a request takes or holds at admission; ``fitted`` is the model's figure, if it has one."""
    known, cap = demand.input_tokens, demand.output_cap
    if charge == "max":
        tokens = max(known, cap)
    elif charge == "fitted" and fitted is not None:
        tokens = fitted
    else:
        tokens = known + cap
    return (1, tokens, known, cap)


def settled(charge: str, demand: Demand, reserved: Amounts, usage: Usage | None) -> Amounts:
    """Return what a request has come to: what was held is replaced by it, what was taken is raised to it.

    Without a usage (the connection broke, say) it is what was reserved. ``usage`` of zero tokens stands
    for a request that the server refused.
    """
    if usage is None:
        return reserved
    if charge == "actual":
        return (1, usage.input_tokens + usage.output_tokens, usage.input_tokens, usage.output_tokens)
    known, cap = max(demand.input_tokens, usage.input_tokens), demand.output_cap
    tokens = max(known, cap) if charge == "max" else known + cap if charge == "sum" else reserved[1]
    return (1, max(tokens, reserved[1]), known, usage.output_tokens)
