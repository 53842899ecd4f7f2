"""One loaded model in a process, however many providers use it."""

from __future__ import annotations

import threading

from toolkit.engines.choice import EngineSpec, make_engine
from toolkit.engines.engine import Engine
from toolkit.garbage import no_search_for_cycles

_loaded: dict[EngineSpec, Engine] = {}
_loaded_lock = threading.Lock()


def acquire_engine(spec: EngineSpec) -> Engine:
    """Return the engine of ``spec``, loaded at the first call; ``release_engine`` gives it back.

    Raises
    ------
    ModelUnavailable
        If the model cannot be found or fetched, or does not fit into memory.
    ConfigError
        If the device does not exist here, or the engine cannot run the model.
    """
    # Held while loading, on purpose: a second caller wants the same model, not a second copy of it.
    with _loaded_lock:
        held = _loaded.get(spec)
        if held is None or held.died:
            _drop_idle()
            with no_search_for_cycles():
                held = _loaded[spec] = make_engine(spec)
        held.users += 1
        return held


def release_engine(spec: EngineSpec) -> None:
    """Give back what ``acquire_engine`` gave.

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
