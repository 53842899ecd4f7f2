"""Laws: which limits a server counts in which kind of window.

A law is a tuple of clauses, such as "requests, sliding, 10 s". It holds no numbers: those come from the
settings or from the server's headers. Presets by name:

``openai``
    Buckets. All published 429 texts and headers of OpenAI fit a bucket that is refilled continuously.
``azure``
    Tokens and requests in each calendar minute, and requests also in any 10 s and any 1 s (Azure evaluates
    them over 1 s or 10 s; sliding windows hold wherever its own begin).
``anthropic``
    Buckets for requests, input and output tokens; output counts as it is written, not as it is allowed.
``safe``
    Holds under all of these, and under windows that begin with a first request. Sliding windows do it: at
    most L in any P gives at most L in each calendar window, and at most (k + 1) L <= L + L w / P in any w
    with kP <= w < (k + 1)P, which is the bucket. Requests are also spread over 10 s and 1 s.

A composition is written as text: ``"requests:bucket, requests:sliding:10, tokens:fixed"`` (period in
seconds, 60 if left out, 86400 for a day).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from toolkit.errors import ConfigError, nearest_name
from toolkit.limits import ticks
from toolkit.limits.window import Kind

MINUTE = 60
DAY = 86_400


class Dimension(StrEnum):
    """What is counted."""

    REQUESTS = "requests"
    TOKENS = "tokens"
    INPUT_TOKENS = "input_tokens"
    OUTPUT_TOKENS = "output_tokens"


DIMENSIONS = tuple(Dimension)
"""Their order is that of every tuple of amounts."""
APART = (Dimension.INPUT_TOKENS, Dimension.OUTPUT_TOKENS)
"""What ``TOKENS`` is the sum of, where the two are counted each by itself."""


@dataclass(frozen=True, slots=True)
class Clause:
    """One window of a law; ``period_s`` in seconds."""

    dimension: Dimension
    kind: Kind
    period_s: int = MINUTE

    @property
    def name(self) -> str:
        """The clause as it is written in a composition."""
        return f"{self.dimension}:{self.kind}:{self.period_s}"

    def transit(self, longest: int) -> int:
        """Return the ticks that a request is given to arrive: ``longest``, and at most a 20th of the period.

        While it may be on its way it neither drains nor expires. In a window of 1 s a second of that would
        leave half of the limit unused; there 50 ms have to do.
        """
        return min(longest, self.period_s * ticks.PER_SECOND // 20)

    def share(self, per_minute: int) -> int:
        """Return a minute's limit for a shorter period, rounded up: 50 a minute are 1 in a second."""
        return -(-per_minute * self.period_s // MINUTE)


@dataclass(frozen=True, slots=True)
class Law:
    """How a server counts.

    Attributes
    ----------
    name : str
    clauses : tuple of Clause
    charge : str
        What it counts for a request, unless the settings say otherwise.
    output_as_written : bool
        Output tokens count as they are written, not at admission.
    """

    name: str
    clauses: tuple[Clause, ...]
    charge: str = "sum"
    output_as_written: bool = False

    def kind(self, dimension: Dimension, period_s: int) -> Kind:
        """Return how the law counts a dimension over a minute or a day.

        A limit that the law does not mention, but the server told, is counted like the law's first clause.
        """
        fitting = [c for c in self.clauses if c.dimension is dimension and c.period_s == period_s]
        return (fitting or list(self.clauses))[0].kind


def _each(kind: Kind) -> tuple[Clause, ...]:
    return tuple(Clause(dimension, kind, period) for dimension in DIMENSIONS for period in (MINUTE, DAY))


_SHORT_REQUESTS = (
    Clause(Dimension.REQUESTS, Kind.SLIDING, 10),
    Clause(Dimension.REQUESTS, Kind.SLIDING, 1),
)

LAWS = {
    law.name: law
    for law in (
        Law("openai", _each(Kind.BUCKET)),
        Law("azure", _each(Kind.FIXED) + _SHORT_REQUESTS),
        Law("anthropic", _each(Kind.BUCKET), charge="actual", output_as_written=True),
        Law("safe", _each(Kind.SLIDING) + _SHORT_REQUESTS, output_as_written=True),
    )
}


def read_law(text: str) -> Law:
    """Return the law of a preset's name or of a composition.

    Raises
    ------
    ConfigError
        If the name or a clause is unknown, or a window shorter than a minute binds anything but requests.
    """
    if text in LAWS:
        return LAWS[text]
    if ":" not in text:
        raise ConfigError(
            f"limits_law={text!r} is unknown; {nearest_name(text, LAWS)} "
            f"A composition is written like 'requests:bucket, tokens:fixed'."
        )
    return Law(text, tuple(_read_clause(part.strip()) for part in text.split(",")))


def _read_clause(text: str) -> Clause:
    name, _, rest = text.partition(":")
    kind, _, period = rest.partition(":")
    for given, known in ((name, [d.value for d in Dimension]), (kind, [k.value for k in Kind])):
        if given not in known:
            raise ConfigError(f"limits_law: {text!r} is no clause: {given!r}; {nearest_name(given, known)}")
    if period and not (period.isascii() and period.isdigit()):
        raise ConfigError(f"limits_law: {text!r}: the period must be whole seconds")
    clause = Clause(Dimension(name), Kind(kind), int(period or MINUTE))
    if not 1 <= clause.period_s <= MINUTE and clause.period_s != DAY:
        raise ConfigError(f"limits_law: {text!r}: the period must be 1 to 60 s, or 86400 for a day")
    if clause.period_s < MINUTE and clause.dimension is not Dimension.REQUESTS:
        raise ConfigError(f"limits_law: {text!r}: windows shorter than a minute bind requests only")
    return clause
