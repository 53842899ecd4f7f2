"""What a request counts: amounts by dimension, when it is admitted and when it has ended.

========  =============================================  =========================================
charge    counted at admission                           at settlement
========  =============================================  =========================================
sum       input estimate + output cap                    the server's own count of the input + cap
max       max(input estimate, bytes / 4, output cap)     likewise
fitted    what the fit says (`fitted`), else ``sum``     the same
actual    held: input estimate + output cap              the true usage, from now on
========  =============================================  =========================================

Where a server charges at admission nothing of its charge is refunded; what the usage in the reply corrects is
our estimate of the input, up or down, and never the cap. Where it counts what was really used, nobody
outside knows at which moment between admission and reply; so the cap is held without draining while the
request is in flight, and the usage counts from the settlement. That is at least what the server counts,
whenever it does. (A refund of a charge that had begun to drain would not be: a call of a minute would have
drained away before the server counted it.)
"""

from __future__ import annotations

from collections.abc import Sequence
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
        Size of the request's body; used by the charges ``fitted`` and ``max``.
    """

    input_tokens: int = 0
    output_cap: int = 0
    body_bytes: int = 0


Amounts = tuple[int, int, int, int]
"""Requests, tokens, input tokens, output tokens."""
NOTHING: Amounts = (0, 0, 0, 0)


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
        tokens = max(known, demand.body_bytes // 4, cap)
    elif charge == "fitted" and fitted is not None:
        tokens = fitted
    else:
        tokens = known + cap
    return (1, tokens, known, cap)


def settled(charge: str, demand: Demand, reserved: Amounts, usage: Usage | None) -> Amounts:
    """Return what a request has come to; without a usage (the connection broke, say) what was reserved."""
    if usage is None:
        return reserved
    if charge == "actual":
        return (1, usage.input_tokens + usage.output_tokens, usage.input_tokens, usage.output_tokens)
    known = usage.input_tokens or demand.input_tokens
    _, tokens, *_ = reserve(charge, demand._replace(input_tokens=known), reserved[1])
    return (1, tokens, known, usage.output_tokens)


def refused(reserved: Amounts, held: Sequence[bool]) -> Amounts:
    """Return what a refused request has come to: of what is held nothing, since nothing was read."""
    requests, *tokens = (0 if is_held else amount for amount, is_held in zip(reserved, held, strict=True))
    return (requests, tokens[0], tokens[1], tokens[2])
