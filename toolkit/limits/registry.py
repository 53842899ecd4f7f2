"""One limiter for each quota key in the process, shared by all instances of a provider."""

from __future__ import annotations

import threading
from pathlib import Path

from toolkit.clock import Clock
from toolkit.errors import ConfigError
from toolkit.limits.limiter import Limiter
from toolkit.limits.server import PostgresState
from toolkit.limits.settings import LimitSettings
from toolkit.limits.shared import SqliteState, default_path
from toolkit.limits.state import LimiterState, MemoryState
from toolkit.urls import MEMORY, POSTGRESQL, SQLITE, show_scheme

_registry_lock = threading.Lock()
_limiters: dict[tuple[str, LimiterState, Clock | None], Limiter] = {}
_states: dict[str, LimiterState] = {}


def open_state(limits_url: str | None = None, password: str | None = None) -> LimiterState:
    """Return the state at a URL; the same one each time.

    Parameters
    ----------
    limits_url : str, optional
        ``memory://`` for this process alone, ``sqlite:///PATH`` for a file, or
        ``postgresql+psycopg://USER@HOST:PORT/DATABASE`` for several machines; by default a file in the
        user's folder for state, which all processes of the user share.
    password : str, optional
        Of the database.

    Raises
    ------
    ConfigError
        If the URL is of another kind or the file cannot be used.
    StoreError
        If the database cannot be used.
    """
    url = f"{SQLITE}{default_path()}" if limits_url is None else limits_url
    if url != MEMORY and not url.startswith((SQLITE, POSTGRESQL)):
        raise ConfigError(
            f"limits_url={show_scheme(limits_url)} must be {MEMORY}, {SQLITE}PATH or "
            f"{POSTGRESQL}USER@HOST:PORT/DATABASE"
        )
    with _registry_lock:
        if url not in _states:
            _states[url] = _make_state(url, password)
        return _states[url]


def _make_state(url: str, password: str | None) -> LimiterState:
    if url == MEMORY:
        return MemoryState()
    if url.startswith(SQLITE):
        return SqliteState(Path(url.removeprefix(SQLITE)).expanduser())
    return PostgresState(url, password)


def limiter_for(
    quota_key: str,
    settings: LimitSettings,
    state: LimiterState,
    clock: Clock | None = None,
    *,
    wait_s: float = 0.0,
) -> Limiter:
    """Return the process's limiter of a quota key.

    If there is one with other settings, it takes on the new ones: what was configured last holds, and
    what has been counted stays counted. Limiters live as long as the process, since what was sent a
    moment ago counts for the next run too.
    """
    with _registry_lock:
        limiter = _limiters.get((quota_key, state, clock))
        if limiter is None:
            limiter = Limiter(quota_key, settings, state, clock, ahead=state.is_distant, wait_s=wait_s)
            _limiters[quota_key, state, clock] = limiter
            return limiter
    limiter.wait_s = wait_s
    if limiter.settings != settings:
        limiter.retune(settings)
    return limiter
