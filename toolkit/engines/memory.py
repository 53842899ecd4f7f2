"""Memory is planned before a model is loaded: what its weights take, and how many tokens fit beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass

from toolkit.engines.unloaded import ModelSize
from toolkit.errors import ConfigError, ModelUnavailable

GB = 1e9
NUMBER_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
WORKING_COPIES = 3
"""How much of ``worked_per_token`` is held at once. Fitted to SmolLM2-135M reading 13 prompts of 1,100 tokens
on a CPU: 127 kB a token in float32 and 64 kB in bfloat16, of which keys and values are 46 kB and 23 kB."""
SHARE_OF_FREE = 0.5
"""Of the memory that is free beside the weights, what an engine takes unless it is told: a notebook holds
frames and plots too, and what is free now need not be free later."""


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """What an engine may take.

    Attributes
    ----------
    weights_bytes : float
    token_bytes : float
        Each token of a prompt or reply at work.
    working_bytes : float
        What one step takes, whoever is at work.
    batch_tokens : int
        Tokens at work at most.
    """

    weights_bytes: float
    token_bytes: float
    working_bytes: float
    batch_tokens: int

    @property
    def bytes(self) -> float:
        """All of it together."""
        return self.weights_bytes + self.working_bytes + self.batch_tokens * self.token_bytes


def free_bytes(device: str) -> float:
    """Return the memory of a device that nobody uses, as far as this process may have it."""
    if device.startswith("cuda"):
        import torch

        free, _ = torch.cuda.mem_get_info(device)
        return float(free)
    import psutil

    return max(1.0, min(float(psutil.virtual_memory().available), _allowed_bytes()))


def _allowed_bytes() -> float:
    """Return what a container leaves free, where there is one."""
    try:
        with open("/sys/fs/cgroup/memory.max") as limit, open("/sys/fs/cgroup/memory.current") as used:
            return int(limit.read()) - int(used.read())
    except (OSError, ValueError):
        return math.inf


def plan_memory(
    name: str,
    size: ModelSize | None,
    *,
    number_bytes: float,
    step_tokens: int | None,
    batch_tokens: int,
    free: float,
    memory_gb: float | None = None,
) -> MemoryPlan:
    """Plan what an engine takes, before it loads anything.

    Parameters
    ----------
    name : str
        Of the model, for errors.
    size : ModelSize or None
        None where it is not known: then only ``batch_tokens`` bounds the work.
    number_bytes : float
        Bytes of a number.
    step_tokens : int or None
        Tokens that go through the model at a time; None: all that are at work.
    batch_tokens : int
        Bound on the tokens at work.
    free : float
        Bytes that are free.
    memory_gb : float or None
        What all of it may take, in 10^9 bytes; None: the weights, and half of what is free beside them.

    Raises
    ------
    ModelUnavailable
        If the weights do not fit into what is free.
    ConfigError
        If they do not fit into ``memory_gb``.
    """
    if size is None:
        return MemoryPlan(0.0, 0.0, 0.0, batch_tokens)
    weights = size.parameters * number_bytes
    kept, worked = size.kept_per_token * number_bytes, WORKING_COPIES * size.worked_per_token * number_bytes
    token = kept if step_tokens is not None else kept + worked
    working = 0.0 if step_tokens is None else step_tokens * worked
    least = weights + working + 1024 * token
    told = f"the weights of {name} take {weights / GB:.3g} GB and work on 1,024 tokens "
    told += f"{(least - weights) / GB:.3g} GB"
    if least > free:
        raise ModelUnavailable(
            name,
            [f"memory: {told}; {free / GB:.3g} GB are free"],
            "Take a smaller model, a dtype of fewer bytes, or free some memory.",
        )
    if memory_gb is not None and least > memory_gb * GB:
        raise ConfigError(f"engine_memory_gb={memory_gb:g} is too little: {told}")
    room = (free - weights) * SHARE_OF_FREE if memory_gb is None else memory_gb * GB - weights
    fitting = int(max(room - working, 1024 * token) // token)
    return MemoryPlan(weights, token, working, max(64, min(batch_tokens, fitting)))
