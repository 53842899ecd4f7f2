"""What a server remembers: laws, journal, and who is being served."""

from __future__ import annotations

from dataclasses import replace

from toolkit.clock import Clock
from toolkit.testing.laws import Law, build_law
from toolkit.testing.ledger import JournalRow, Score, score_of
from toolkit.testing.options import ServerOptions

# A client's timer may be this much ahead of the server's when a Retry-After ends.
_EARLY_TOLERANCE_S = 0.001


class Books:
    """The server's memory.

    It has no lock: only the thread of the server's event loop comes here, and whoever wants the score asks
    that thread. So a client that has its answer finds it scored.

    Parameters
    ----------
    options : ServerOptions
    clock : Clock
        What the laws go by.

    Attributes
    ----------
    arrived : int
        Requests since the start; a reset does not change it, as a script of faults goes by it.
    """

    def __init__(self, options: ServerOptions, clock: Clock) -> None:
        self.arrived = 0
        self.in_flight = 0
        self._options = options
        self._clock = clock
        # Calendar windows need the epoch, and a law needs time that never goes back.
        self._epoch_at_zero = clock.epoch() - clock.now()
        self._laws: dict[str, Law] = {}
        self._rows: list[JournalRow] = []
        self._max_in_flight = 0
        self._occurrences: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._cached_prefixes: set[bytes] = set()

    def now(self) -> float:
        """Return epoch seconds that never go back."""
        return self._epoch_at_zero + self._clock.now()

    def law(self, pool: str) -> Law:
        """Return the law of those who share ``pool``."""
        law = self._laws.get(pool)
        if law is None:
            options = self._options
            law = self._laws[pool] = build_law(
                options.law,
                requests_per_minute=options.requests_per_minute,
                tokens_per_minute=options.tokens_per_minute,
                project_tokens_per_minute=options.project_tokens_per_minute,
                input_tokens_per_minute=options.input_tokens_per_minute,
                output_tokens_per_minute=options.output_tokens_per_minute,
                requests_per_day=options.requests_per_day,
                tokens_per_day=options.tokens_per_day,
                request_windows_s=options.request_windows_s,
                charge=options.charge,
                failed_requests_count=options.failed_requests_count,
            )
        return law

    def enter(self, row: JournalRow, idempotency_key: str | None) -> tuple[int, int]:
        """Write a request down; return its number and how often its body has come before."""
        number = self.arrived
        self.arrived += 1
        self._rows.append(row)
        occurrence = self._occurrences.get(row.body_hash, 0)
        self._occurrences[row.body_hash] = occurrence + 1
        for identity in (row.body_hash, idempotency_key):
            if (
                identity is not None
                and row.arrived < self._not_before.pop(identity, 0.0) - _EARLY_TOLERANCE_S
            ):
                row.early = True
        return number, occurrence

    def ask_to_wait(self, row: JournalRow, idempotency_key: str | None, until: float) -> None:
        """Remember that the same request is not to come again before ``until``."""
        for identity in (row.body_hash, idempotency_key):
            if identity is not None:
                self._not_before[identity] = until

    def begin_work(self) -> None:
        """Count a request as being worked on."""
        self.in_flight += 1
        self._max_in_flight = max(self._max_in_flight, self.in_flight)

    def end_work(self) -> None:
        """Count it no more."""
        self.in_flight -= 1

    def knows_prefix(self, prefix: bytes) -> bool:
        """Say whether the prompt cache holds a prefix, and put it there."""
        known = prefix in self._cached_prefixes
        self._cached_prefixes.add(prefix)
        return known

    def score(self) -> Score:
        """Return the score since the start or the last reset."""
        shares: dict[str, float] = {}
        for law in self._laws.values():
            for name, share in law.shares().items():
                shares[name] = max(share, shares.get(name, 0.0))
        return score_of(self._rows, max_in_flight=self._max_in_flight, quota_shares=shares)

    def journal(self) -> tuple[JournalRow, ...]:
        """Return a copy of the rows since the start or the last reset."""
        return tuple(replace(row) for row in self._rows)

    def reset(self, *, refill: bool) -> None:
        """Start a new score; ``refill`` also forgets what was used of the limits."""
        self._rows = []
        self._occurrences.clear()
        self._not_before.clear()
        self._cached_prefixes.clear()
        self._max_in_flight = self.in_flight
        if refill:
            self._laws.clear()
        for law in self._laws.values():
            law.reset_shares()
