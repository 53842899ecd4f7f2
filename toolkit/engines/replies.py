"""One reply as it grows: when it has ended, and what has come of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence

from toolkit.engines.jobs import Generated, Job
from toolkit.records import StopReason

Decode = Callable[[Sequence[int]], str]


class GrowingReply:
    """A reply, token by token, whoever chooses the tokens.

    Parameters
    ----------
    job : Job
    end_ids : collection of int
        Tokens with which the model ends a reply.

    Attributes
    ----------
    job : Job
    tokens : list of int
        The reply so far, with the end token.
    ended : bool
    """

    def __init__(self, job: Job, end_ids: Collection[int]) -> None:
        self.job = job
        self.tokens: list[int] = []
        self.ended = False
        self._end_ids = end_ids
        self._tail = 1 + max((len(stop) for stop in job.stop), default=0)

    def add(self, token: int, decode: Decode) -> None:
        """Take a token, and see whether the reply ends with it: at its end, its cap, or a stop string."""
        job = self.job
        self.tokens.append(token)
        cancelled = job.cancelled.is_set()
        self.ended = cancelled or token in self._end_ids or len(self.tokens) >= job.max_new_tokens
        if job.stop and not self.ended:
            tail = decode(self.tokens[-self._tail :])
            self.ended = any(stop in tail for stop in job.stop)

    def generated(self, decode: Decode) -> Generated:
        """Return what has come of the job."""
        reply = self.tokens
        ended = next((place for place, token in enumerate(reply) if token in self._end_ids), None)
        written = reply if ended is None else reply[:ended]
        text = decode(written)
        stops = [place for stop in self.job.stop if (place := text.find(stop)) >= 0]
        if stops:
            return Generated(text[: min(stops)], len(written), StopReason.STOP)
        if ended is not None:
            return Generated(text, ended + 1, StopReason.STOP)
        return Generated(text, len(written), StopReason.LENGTH)


def seed_of(job: Job) -> int | None:
    """Return the seed of a job's randomness, below 2**63: each prompt's own. None where there is none."""
    if job.sampling.seed is None:
        return None
    identity = f"{job.sampling.seed}:{list(job.input_ids)}".encode()
    return int.from_bytes(hashlib.sha256(identity).digest()[:8]) >> 1
