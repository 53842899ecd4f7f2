"""The providers that a worker process holds: one for each config, made once, given up some time after use."""

from __future__ import annotations

import json
import math
import sys
import threading
from contextlib import suppress
from typing import Any

from toolkit.config import Config
from toolkit.providers.base import SummarizationProvider
from toolkit.providers.given import OF_THE_RUN
from toolkit.providers.registry import get_provider

IDLE_S = 120.0
"""Seconds for which a provider is kept that nobody uses: the next run, or cell of a sweep, may want it."""


class _Held:
    def __init__(self, provider: SummarizationProvider) -> None:
        self.provider = provider
        self.users = 0
        self.closer: threading.Timer | None = None


_held: dict[str, _Held] = {}
_held_lock = threading.Lock()


def acquire_provider(config: Config, neighbours: int) -> SummarizationProvider:
    """Return this process's provider of a config, ready; give it back with `release_provider`.

    ``neighbours`` is the number of processes of this machine that have one like it.

    Raises
    ------
    ToolkitError
        If it cannot be made, or its model cannot be had.
    """
    key = _key(config)
    _let_grow()
    with _held_lock:
        held = _held.get(key)
        if held is None:
            provider = get_provider(config)
            try:
                provider.share_machine(neighbours)
                provider.prepare()
            except BaseException:
                provider.close()
                raise
            held = _held[key] = _Held(provider)
            # After the new one is ready: if both use one model it stays loaded.
            for other in [name for name, of_it in _held.items() if name != key and not of_it.users]:
                _close(other)
        if held.closer is not None:
            held.closer.cancel()
            held.closer = None
        held.users += 1
        return held.provider


def _let_grow() -> None:
    """Keep joblib's own pool from taking a model for a leak: it ends a process that grows by 300 MB."""
    pool: Any = sys.modules.get("joblib.externals.loky.process_executor")
    if pool is not None:
        pool._MAX_MEMORY_LEAK_SIZE = math.inf


def release_provider(config: Config) -> None:
    """Give a provider back; it is closed if nobody wants it for `IDLE_S`."""
    key = _key(config)
    with _held_lock:
        held = _held[key]
        held.users -= 1
        if not held.users:
            held.closer = threading.Timer(IDLE_S, _close_idle, [key, held])
            held.closer.daemon = True
            held.closer.start()


def _close_idle(key: str, held: _Held) -> None:
    with _held_lock:
        if _held.get(key) is held and not held.users:
            _close(key)


def _close(key: str) -> None:
    held = _held.pop(key)
    if held.closer is not None:
        held.closer.cancel()
    with suppress(Exception):  # Nobody waits for it, and what it did is done.
        held.provider.close()


def _key(config: Config) -> str:
    """Return what a provider was made with: all settings but those of the run alone."""
    settings = {name: value for name, value in config.shown().items() if name not in OF_THE_RUN}
    return json.dumps(settings, sort_keys=True)
