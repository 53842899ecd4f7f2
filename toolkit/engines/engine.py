"""``Engine``: one loaded model behind its queue, the seam between local providers and what runs models."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from toolkit.clock import SystemClock
from toolkit.engines.jobs import Job, Served
from toolkit.engines.memory import MemoryPlan
from toolkit.engines.queue import Backend, EngineQueue

if TYPE_CHECKING:
    from toolkit.engines.weights import Weights


class Model(Protocol):
    """What is known of a loaded model.

    Attributes
    ----------
    weights : Weights
    device, dtype : str
    encoder_decoder : bool
        Whether the prompt is read by an encoder.
    model_type : str
    context_tokens : int
        What prompt and reply may come to together; for an encoder-decoder what the encoder reads.
    reply_tokens : int or None
        What an encoder-decoder's reply may come to.
    """

    weights: Weights
    device: str
    dtype: str
    encoder_decoder: bool
    model_type: str
    context_tokens: int
    reply_tokens: int | None

    def tokenizer(self) -> AbstractContextManager[Any]:
        """Lend a tokenizer to the calling thread."""
        ...


class Engine:
    """Answers jobs of many threads with one model.

    Parameters
    ----------
    name : str
        What runs the model: ``torch``, ``openvino``.
    reason : str
        Why it is this one.
    model : Model
    backend : Backend
    memory : MemoryPlan

    Attributes
    ----------
    name, reason, model, memory
        As given.
    batches : str
        How the backend works: ``packed``, ``padded``, ``continuous``.
    users : int
        Providers that hold it.
    """

    def __init__(self, name: str, reason: str, model: Model, backend: Backend, memory: MemoryPlan) -> None:
        self.name = name
        self.batches = backend.name
        self.reason = reason
        self.model = model
        self.memory = memory
        self.users = 0
        self._queue = EngineQueue(backend, clock=SystemClock())

    @property
    def context_tokens(self) -> int:
        """The model's own bound on positions."""
        return self.model.context_tokens

    @property
    def memory_bytes(self) -> float:
        """What it takes at most, weights and all."""
        return self.memory.bytes

    @property
    def died(self) -> bool:
        """Whether it will never answer again."""
        return self._queue.died is not None

    def count_tokens(self, text: str) -> int:
        """Count in the model's own tokens."""
        with self.model.tokenizer() as tokenizer:
            # Not verbose: it would warn of texts longer than the context, which is why they are counted.
            return len(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Announce a job that is being made ready; an idle model waits a moment for it."""
        with self._queue.arriving():
            yield

    def submit(self, job: Job) -> Future[Served]:
        """Queue a job.

        Returns
        -------
        Future
            Ends in the reply, in an exception, or cancelled.
        """
        return self._queue.submit(job)

    def close(self) -> None:
        """End the queue; the weights go when nobody holds them any more."""
        self._queue.close()

    def __repr__(self) -> str:
        return f"<Engine {self.name}: {self.model.weights.name}, {self.model.dtype}, {self.model.device}>"
