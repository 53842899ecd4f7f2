"""Which engine runs a model: the fastest that is installed and can."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal

from toolkit.engines.apart import apart
from toolkit.engines.engine import Engine
from toolkit.engines.memory import NUMBER_BYTES, MemoryPlan, free_bytes, plan_memory
from toolkit.engines.unloaded import read_size
from toolkit.engines.weights import Weights, find_weights
from toolkit.errors import ConfigError, MissingDependency


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What tells one loaded model from another.

    Attributes
    ----------
    model, revision, device, dtype, trust_remote_code
        As in the config.
    engine : str
        ``auto``, ``torch`` or ``openvino``.
    batch_tokens : int
        Bound on the tokens at work.
    memory_gb : float or None
        Bound on all that the engine takes, in 10^9 bytes.
    deterministic : bool
        Whether replies must not depend on their company.
    instance : int
        Number of the copy, where a model is loaded more than once.
    threads : int or None
        Of the processor, for each copy; None: all.
    """

    model: str
    revision: str | None = None
    device: str = "auto"
    dtype: str = "auto"
    trust_remote_code: bool = False
    engine: Literal["auto", "torch", "openvino"] = "auto"
    batch_tokens: int = 16_384
    memory_gb: float | None = None
    deterministic: bool = False
    instance: int = 0
    threads: int | None = None


def make_engine(spec: EngineSpec) -> Engine:
    """Load a model into the engine that is asked for, or that ``auto`` stands for.

    Raises
    ------
    ModelUnavailable
        If the model cannot be found or fetched, or does not fit into memory.
    ConfigError
        If the device does not exist here, or the engine cannot run the model.
    MissingDependency
        If the engine is not installed.
    """
    weights = find_weights(spec.model, revision=spec.revision)
    if spec.engine == "torch":
        return _torch(spec, weights, "asked for")
    obstacle = why_not_openvino(spec, weights)
    if spec.engine == "openvino":
        if importlib.util.find_spec("openvino_genai") is None:
            raise MissingDependency("engine 'openvino'", "openvino-genai", extra="openvino")
        if obstacle:
            raise ConfigError(f"engine='openvino' cannot run {spec.model}: {obstacle}; take engine='torch'")
        return _openvino(spec, weights, "asked for")
    if obstacle:
        return _torch(spec, weights, f"openvino is not taken: {obstacle}")
    return _openvino(spec, weights, "the fastest that is installed")


def why_not_openvino(spec: EngineSpec, weights: Weights) -> str | None:
    """Return why OpenVINO is not taken for a model, or None if it can be."""
    if importlib.util.find_spec("openvino_genai") is None:
        return "openvino-genai is not installed"
    if spec.device not in ("auto", "cpu"):
        return f"device={spec.device!r} is for torch"
    if spec.device == "auto" and _has_accelerator():
        return "a graphics processor is faster with torch"
    if spec.dtype != "auto":
        return f"dtype={spec.dtype!r} is for torch"
    from toolkit.engines.openvino import supports

    return supports(weights)


def _has_accelerator() -> bool:
    from toolkit.engines.torch.model import choose_device

    return choose_device("auto") != "cpu"


def _torch(spec: EngineSpec, weights: Weights, reason: str) -> Engine:
    from toolkit.engines.torch.model import choose_device, choose_dtype
    from toolkit.engines.torch.running import load

    device = choose_device(spec.device)
    dtype = choose_dtype(spec.dtype, device)
    size, free = read_size(weights), free_bytes(device)

    def plan(step_tokens: int | None) -> MemoryPlan:
        return plan_memory(
            spec.model,
            size,
            number_bytes=NUMBER_BYTES[dtype],
            step_tokens=step_tokens,
            batch_tokens=spec.batch_tokens,
            free=free,
            memory_gb=spec.memory_gb,
        )

    loaded = apart(
        lambda: load(
            weights,
            device=device,
            dtype=dtype,
            plan=plan,
            trust_remote_code=spec.trust_remote_code,
            deterministic=spec.deterministic,
            threads=spec.threads,
        )
    )
    reasons = "; ".join(filter(None, (reason, loaded.note)))
    return Engine("torch", reasons, loaded.model, loaded.backend, loaded.memory)


def _openvino(spec: EngineSpec, weights: Weights, reason: str) -> Engine:
    from toolkit.engines.openvino import load

    model, backend, memory = load(
        weights,
        batch_tokens=spec.batch_tokens,
        memory_gb=spec.memory_gb,
        deterministic=spec.deterministic,
        threads=spec.threads,
    )
    return Engine("openvino", reason, model, backend, memory)
