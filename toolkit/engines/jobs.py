"""What a local engine is asked and what it answers."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

from toolkit.records import Sampling, StopReason


@dataclass(frozen=True, slots=True, eq=False)
class Job:
    """One prompt for a local model.

    Attributes
    ----------
    input_ids : sequence of int
        The prompt in the model's own tokens.
    max_new_tokens : int
        Cap on the reply.
    sampling : Sampling
    stop : tuple of str
        The reply ends before the first of these.
    cancelled : threading.Event
        Once it is set the reply is not wanted any more.
    owner : str
        Whose job it is, an episode's: owners share the model evenly.
    name : str
        What errors call it, the id of the call.
    """

    input_ids: Sequence[int]
    max_new_tokens: int
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    cancelled: threading.Event = field(default_factory=threading.Event)
    owner: str = ""
    name: str = ""

    @property
    def most_tokens(self) -> int:
        """What prompt and reply may come to."""
        return len(self.input_ids) + self.max_new_tokens


@dataclass(frozen=True, slots=True)
class Generated:
    """What a model made of a job; ``tokens`` counts the end token too."""

    text: str
    tokens: int
    stop_reason: StopReason


@dataclass(frozen=True, slots=True)
class Served:
    """A reply and when the model worked on it, in seconds of the queue's clock.

    Attributes
    ----------
    generated : Generated
    started : float
        When the model took the job up.
    first_token : float or None
        When its prompt was read and the first token chosen; None where the engine does not tell.
    ended : float
    batch_size : int
        Jobs that the model worked on meanwhile, the mean over that time.
    """

    generated: Generated
    started: float
    first_token: float | None
    ended: float
    batch_size: int


class OutOfMemory(Exception):
    """What the model works on does not fit into memory; the queue tries with half of it."""
