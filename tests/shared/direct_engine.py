"""A loaded model answering a list of jobs, without a queue in front of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toolkit.engines.jobs import Generated, Job
from toolkit.engines.memory import MemoryPlan
from toolkit.engines.queue import Backend
from toolkit.engines.torch.running import load
from toolkit.engines.weights import find_weights


class DirectEngine:
    """A model loaded with PyTorch, and its backend.

    Attributes
    ----------
    model : TorchModel
    backend : PackedBatches or PaddedBatches
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        dtype: str = "float32",
        batch_tokens: int = 16_384,
        deterministic: bool = False,
    ) -> None:
        plan = MemoryPlan(0.0, 0.0, 0.0, batch_tokens)
        loaded = load(
            find_weights(str(folder)),
            device="cpu",
            dtype=dtype,
            plan=lambda step_tokens: plan,
            deterministic=deterministic,
        )
        self.model, self.backend = loaded.model, loaded.backend

    def tokenizer(self) -> Any:
        """Lend a tokenizer."""
        return self.model.tokenizer()

    def run(self, jobs: Sequence[Job]) -> list[Generated]:
        """Answer jobs that go to work together."""
        return run_directly(self.backend, jobs)


def run_directly(backend: Backend, jobs: Sequence[Job]) -> list[Generated]:
    """Admit jobs, all at once where they fit, and step until all are done."""
    # The same job may stand twice in a list; at work it may not.
    asked = [
        Job(job.input_ids, job.max_new_tokens, job.sampling, job.stop, job.cancelled, job.owner, job.name)
        for job in jobs
    ]
    waiting = list(asked)
    done: dict[Job, Generated] = {}
    while len(done) < len(asked):
        if joining := backend.choose(waiting):
            backend.admit(joining)
            waiting = [job for job in waiting if job not in joining]
        done.update(backend.step().ended)
    return [done[job] for job in asked]
