"""``Machine``: cores and memory, and what of them a local model takes."""

from __future__ import annotations

import math
import os
import sys
from dataclasses import dataclass
from typing import Literal

from toolkit.engines.memory import GB, NUMBER_BYTES, WORKING_COPIES, free_bytes
from toolkit.engines.unloaded import ModelSize
from toolkit.errors import ConfigError

PROGRAM_BYTES = 300_000_000
"""Python, PyTorch and pandas, before any model: 260 MB measured, without pandas (Linux, CPU)."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a local model has to work with.

    Parameters
    ----------
    cores : int
        Processor cores that may be used.
    memory_gb : float
        Memory that is free, in 10^9 bytes: of the processor, or of ``device`` if that is another.
    device : str
        ``cpu``, ``cuda``, ``mps``.
    model_gb : float or None
        What one loaded model takes, all in all; None: worked out from the model's files.
    instances : {"shared", "per_episode"}
        Whether all episodes share one loaded model, whose requests are merged into batches, as this toolkit's
        engines do; or each episode at work loads one of its own, whose chunks take a core each.

    Raises
    ------
    ConfigError
        If a value is out of its range.
    """

    cores: int
    memory_gb: float
    device: str = "cpu"
    model_gb: float | None = None
    instances: Literal["shared", "per_episode"] = "shared"

    def __post_init__(self) -> None:
        if isinstance(self.cores, bool) or not isinstance(self.cores, int) or self.cores < 1:
            raise ConfigError(f"machine: cores={self.cores!r} must be a whole number from 1 on")
        for name in ("memory_gb", "model_gb"):
            value = getattr(self, name)
            if value is None and name == "model_gb":
                continue
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
                raise ConfigError(f"machine: {name}={value!r} must be a number of 10^9 bytes above 0")
        if self.instances not in ("shared", "per_episode"):
            raise ConfigError(f"machine: instances={self.instances!r} must be 'shared' or 'per_episode'")

    @classmethod
    def here(cls, device: str = "auto", instances: Literal["shared", "per_episode"] = "shared") -> Machine:
        """Return this machine as it is now, as far as this process may use it."""
        import joblib

        device = _device(device)
        return cls(
            cores=int(joblib.cpu_count()),
            memory_gb=free_bytes(device) / GB,
            device=device,
            instances=instances,
        )


def _device(name: str) -> str:
    """Return what ``auto`` stands for; PyTorch is asked where there may be more than a processor."""
    if name == "auto" and not os.path.exists("/dev/nvidiactl") and sys.platform == "linux":
        return "cpu"
    from toolkit.engines.torch.model import choose_device

    return choose_device(name)


@dataclass(frozen=True)
class Footprint:
    """What a local model takes of a machine's memory.

    Attributes
    ----------
    model_bytes : float
        One loaded model.
    token_bytes : float
        Each token of prompt and reply that is worked on.
    program_bytes : float
        Once, whatever is loaded.
    """

    model_bytes: float
    token_bytes: float
    program_bytes: float

    @classmethod
    def of(cls, size: ModelSize | None, dtype: str, machine: Machine) -> Footprint | None:
        """Work it out from a model's size; None if neither that nor ``model_gb`` is known."""
        if size is None and machine.model_gb is None:
            return None
        if dtype == "auto":  # On a processor it may become bfloat16: this is the most that it can take.
            dtype = "float32" if machine.device == "cpu" else "bfloat16"
        if machine.model_gb is not None:
            return cls(machine.model_gb * GB, 0.0, 0.0)
        assert size is not None
        number = NUMBER_BYTES[dtype]
        token = (size.kept_per_token + WORKING_COPIES * size.worked_per_token) * number
        return cls(size.parameters * number, token, PROGRAM_BYTES)

    def bytes(self, instances: int, tokens: int) -> float:
        """Return what so many instances take that work on so many tokens all together."""
        return self.program_bytes + instances * self.model_bytes + tokens * self.token_bytes

    def instances(self, machine: Machine, tokens: int) -> int:
        """Return how many instances fit, each working on so many tokens."""
        free = machine.memory_gb * GB - self.program_bytes
        return max(0, int(free // (self.model_bytes + tokens * self.token_bytes)))

    def tokens(self, machine: Machine) -> float:
        """Return how many tokens one instance can work on at once."""
        free = machine.memory_gb * GB - self.program_bytes - self.model_bytes
        return max(0.0, free) / self.token_bytes if self.token_bytes else (math.inf if free >= 0 else 0.0)
