"""One limiter for each quota key in the process, shared by all instances of a provider."""

from __future__ import annotations

import threading
from pathlib import Path

from toolkit.clock import Clock
from toolkit.errors import ConfigError
from toolkit.limits.limiter import Limiter
from toolkit.limits.settings import LimitSettings
from toolkit.limits.shared import SqliteState, default_path
from toolkit.limits.state import LimiterState, MemoryState

_registry_lock = threading.Lock()
_limiters: dict[tuple[str, LimiterState, Clock | None], Limiter] = {}
_states: dict[str, LimiterState] = {}


def open_state(limits_url: str | None = None) -> LimiterState:
    """Return the state at a URL; the same one each time.

    Parameters
    ----------
    limits_url : str, optional
        ``memory://`` for this process alone, ``sqlite:///PATH`` for a file; by default a file in the
        user's folder for state, which all processes of the user share.

    Raises
    ------
    ConfigError
        If the URL is of another kind or the file cannot be used.
    """
    if limits_url is None:
        url = f"sqlite:///{default_path()}"
    elif limits_url == "memory://" or limits_url.startswith("sqlite:///"):
        url = limits_url
    else:
        raise ConfigError(f"limits_url={limits_url!r} must be memory:// or sqlite:///PATH")
    with _registry_lock:
        if url not in _states:
            path = Path(url.removeprefix("sqlite:///")).expanduser()
            _states[url] = MemoryState() if url == "memory://" else SqliteState(path)
        return _states[url]


def limiter_for(
    quota_key: str, settings: LimitSettings, state: LimiterState, clock: Clock | None = None
) -> Limiter:
    """Return the process's limiter of a quota key.

    If there is one with other settings, it takes on the new ones: what was configured last holds, and
    what has been counted stays counted. Limiters live as long as the process, since what was sent a
    moment ago counts for the next run too.
    """
    with _registry_lock:
        limiter = _limiters.get((quota_key, state, clock))
        if limiter is None:
            limiter = _limiters[quota_key, state, clock] = Limiter(quota_key, settings, state, clock)
            return limiter
    if limiter.settings != settings:
        limiter.retune(settings)
    return limiter
