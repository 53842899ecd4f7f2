"""One loaded model in a process, however many providers use it."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from toolkit.clock import SystemClock
from toolkit.engines.queue import BatchQueue
from toolkit.engines.torch import TorchEngine, choose_device, choose_dtype
from toolkit.engines.weights import find_weights


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What tells one loaded model from another."""

    model: str
    revision: str | None
    device: str
    dtype: str
    batch_tokens: int
    trust_remote_code: bool


@dataclass(slots=True)
class LoadedModel:
    """A model and the queue in front of it."""

    engine: TorchEngine
    queue: BatchQueue
    users: int = 0

    def close(self) -> None:
        """End the queue; the weights go when nobody holds them any more."""
        self.queue.close()


_loaded: dict[EngineSpec, LoadedModel] = {}
_loaded_lock = threading.Lock()


def acquire_model(spec: EngineSpec) -> LoadedModel:
    """Return the model of ``spec``, loaded at the first call; ``release_model`` gives it back.

    Raises
    ------
    ModelUnavailable
        If it cannot be found or fetched.
    ConfigError
        If the device does not exist here.
    """
    # Held while loading, on purpose: a second caller wants the same model, not a second copy of it.
    with _loaded_lock:
        held = _loaded.get(spec)
        if held is None:
            _drop_idle()
            device = choose_device(spec.device)
            engine = TorchEngine(
                find_weights(spec.model, revision=spec.revision),
                device=device,
                dtype=choose_dtype(spec.dtype, device),
                trust_remote_code=spec.trust_remote_code,
            )
            queue = BatchQueue(engine.run, batch_tokens=spec.batch_tokens, clock=SystemClock())
            held = _loaded[spec] = LoadedModel(engine, queue)
        held.users += 1
        return held


def release_model(spec: EngineSpec) -> None:
    """Give back what ``acquire_model`` gave.

    The model stays loaded until another one is asked for: in a notebook the next run mostly wants the same.
    """
    with _loaded_lock:
        _loaded[spec].users -= 1


def unload_idle_models() -> None:
    """Free the memory of all models that nobody uses."""
    with _loaded_lock:
        _drop_idle()


def _drop_idle() -> None:
    for spec, held in list(_loaded.items()):
        if held.users == 0:
            held.close()
            del _loaded[spec]
