"""``LimitSettings``: the numbers of an account and how they are kept, checked and frozen."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from toolkit.errors import ConfigError, nearest_name
from toolkit.limits.laws import DAY, MINUTE, Clause, Dimension, Law, read_law

Charge = Literal["sum", "max", "actual", "fitted"]
CHARGES = ("sum", "max", "actual", "fitted")
CEILING = 10**15
"""Above any limit there is; a number beyond it is a slip."""


@dataclass(frozen=True)
class LimitSettings:
    """What an account may do.

    Attributes
    ----------
    requests_per_minute, tokens_per_minute : int or None
    input_tokens_per_minute, output_tokens_per_minute : int or None
        None: no limit is known; one that the server's headers tell is kept all the same.
    requests_per_day, tokens_per_day : int or None
    max_concurrent : int or None
        Requests in flight at a time; the adaptive cap never goes above it.
    law : str
        A preset's name or a composition; see `toolkit.limits.laws`.
    charge : {"sum", "max", "actual", "fitted"} or None
        What a request counts in tokens; None takes the law's own. See `toolkit.limits.charges`.
    optimistic : bool
        With ``fitted``: charge what the fit says, without the guard. Overshoot is bounded and recorded.
    oversize : {"refuse", "wait_full"}
        What becomes of a request above a limit. ``wait_full`` admits it alone at a full window; it is right
        only where the limit is one's own share of a larger one.
    transit_s : float
        Seconds after its admission within which a request has reached the server: what it counted before
        is not used a second time. The quota starts so much later, once; windows shorter than 20 s allow
        less, see `Clause.transit`.
    learn : {"config", "auto"}
        ``config``: headers may lower a limit, and raise it again up to what stands here. ``auto``: the
        limits are what the headers say; until they have said it, what stands here, and where nothing
        stands, one request at a time.

    Raises
    ------
    ConfigError
        If a value is out of its range.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    input_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    requests_per_day: int | None = None
    tokens_per_day: int | None = None
    max_concurrent: int | None = None
    law: str = "openai"
    charge: Charge | None = None
    optimistic: bool = False
    oversize: Literal["refuse", "wait_full"] = "refuse"
    learn: Literal["config", "auto"] = "config"
    transit_s: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self)[:7]:
            value = getattr(self, field.name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= CEILING:
                raise ConfigError(
                    f"{field.name}={value!r} must be a whole number from 1 on, or None for no limit"
                )
        if isinstance(self.transit_s, bool) or not 0 <= self.transit_s <= 60:
            raise ConfigError(f"transit_s={self.transit_s!r} must be seconds from 0 to 60")
        read_law(self.law)
        for name, known in (
            ("charge", (None, *CHARGES)),
            ("oversize", ("refuse", "wait_full")),
            ("learn", ("config", "auto")),
        ):
            value = getattr(self, name)
            if value not in known:
                names = [word for word in known if word]
                raise ConfigError(f"{name}={value!r} is unknown; {nearest_name(str(value), names)}")
        if self.optimistic and self.charge != "fitted":
            raise ConfigError("optimistic=True goes with charge='fitted' only")
        clauses = self.read_law().clauses
        for dimension, period_s, number in self.numbers():
            if not any(
                c.dimension is dimension and (c.period_s == DAY) == (period_s == DAY) for c in clauses
            ):
                raise ConfigError(
                    f"law={self.law!r} does not say how {dimension} per "
                    f"{'day' if period_s == DAY else 'minute'} ({number}) are counted"
                )

    def numbers(self) -> list[tuple[Dimension, int, int]]:
        """Return the limits that are set, as dimension, period in seconds, number."""
        found = (
            (Dimension.REQUESTS, MINUTE, self.requests_per_minute),
            (Dimension.TOKENS, MINUTE, self.tokens_per_minute),
            (Dimension.INPUT_TOKENS, MINUTE, self.input_tokens_per_minute),
            (Dimension.OUTPUT_TOKENS, MINUTE, self.output_tokens_per_minute),
            (Dimension.REQUESTS, DAY, self.requests_per_day),
            (Dimension.TOKENS, DAY, self.tokens_per_day),
        )
        return [(dimension, period, number) for dimension, period, number in found if number is not None]

    def read_law(self) -> Law:
        """Return the law that ``law`` names."""
        return read_law(self.law)

    def charge_in_force(self) -> str:
        """Return ``charge``, or the law's own."""
        return self.charge or self.read_law().charge

    def rules(self) -> dict[Clause, int]:
        """Return the law's clauses that have a number, each with its own limit."""
        per = {(dimension, period): number for dimension, period, number in self.numbers()}
        rules = {}
        for clause in self.read_law().clauses:
            number = per.get((clause.dimension, DAY if clause.period_s == DAY else MINUTE))
            if number is not None:
                rules[clause] = number if clause.period_s == DAY else clause.share(number)
        return rules

    def replace(self, **changes: Any) -> LimitSettings:
        """Return a copy with some values changed, checked like a new one."""
        known = [field.name for field in fields(self)]
        for name in changes:
            if name not in known:
                raise ConfigError(f"{name!r} is no limit; {nearest_name(name, known)}")
        return replace(self, **changes)
