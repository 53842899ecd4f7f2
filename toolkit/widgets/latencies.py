"""Which latency model a prediction goes by: what was measured, what was given, or a guess that says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from toolkit.archive import open_store
from toolkit.config import Config
from toolkit.errors import ConfigError, StoreError, ToolkitError
from toolkit.latency import LatencyModel
from toolkit.providers.registry import provider_class
from toolkit.runs import Run
from toolkit.sweeps.measuring import endpoint_of

ENOUGH_CALLS = 1_000
"""Of kept runs no more are read once there are so many: older ones may be of another time of day."""
MOST_RUNS = 12
"""Kept runs that are read at most, however few calls they have."""

GUESSES = {
    "hosted": LatencyModel(base_s=0.6, per_output_token_s=0.012, spread=0.3, output_tokens=160),
    "local": LatencyModel(
        base_s=0.05, per_input_token_s=0.001, per_output_token_s=0.03, per_neighbour_token_s=0.01, spread=0.1
    ),
    "rule": LatencyModel(base_s=0.002),
}
"""Of a hosted model of today, of a small one on a laptop's processor, and of what no model answers."""


class Known(NamedTuple):
    """A latency model, and in words where it comes from."""

    model: LatencyModel
    source: str
    is_guess: bool = False


Endpoint = tuple[Any, ...]


class Latencies:
    """Latency models, one for each model and server.

    Parameters
    ----------
    given : LatencyModel or None
        By which to begin; from the first run on, what was measured counts.
    read : callable, optional
        Returns kept runs of a config's model and server, the newest first.
    """

    def __init__(
        self, given: LatencyModel | None = None, read: Callable[[Config], Sequence[Run]] | None = None
    ) -> None:
        self._given = given
        self._read = read or kept_runs
        self._learned: dict[Endpoint, list[Run]] = {}
        self._known: dict[Endpoint, Known] = {}
        self._known_lock = threading.Lock()

    def of(self, config: Config) -> Known:
        """Return the best that is known; the first time for a model and server the store is read."""
        endpoint = _where(config)
        with self._known_lock:
            known = self._known.get(endpoint)
        if known is None:
            known = self._find(config, endpoint)
            with self._known_lock:
                self._known[endpoint] = known
        return known

    def learn(self, run: Run) -> None:
        """Go by a run that has ended, and those of before it."""
        endpoint = _where(run.config)
        with self._known_lock:
            self._learned.setdefault(endpoint, []).append(run)
            self._known.pop(endpoint, None)

    def _find(self, config: Config, endpoint: Endpoint) -> Known:
        with self._known_lock:
            learned = list(self._learned.get(endpoint, ()))
        # Of too few calls of its own, with those that are kept.
        tries: list[Callable[[], Sequence[Run]]] = [lambda: learned] if learned else []
        if learned or self._given is None:
            tries.append(lambda: [*learned, *_others(self._read(config), learned)])
        for runs in tries:
            with suppress(ConfigError, StoreError):  # too few, or a store that the run will say more of
                model = LatencyModel.fit(*runs())
                return Known(model, f"measured: {_described(model)}")
        if self._given is not None:
            return Known(self._given, f"as given: {_described(self._given)}")
        guess = GUESSES[_kind_of(config)]
        return Known(guess, f"a guess: {_described(guess)}; a run will tell", is_guess=True)


def _others(kept: Sequence[Run], learned: Sequence[Run]) -> list[Run]:
    seen = {run.id for run in learned}
    return [run for run in kept if run.id not in seen]


def _described(model: LatencyModel) -> str:
    return repr(model).removeprefix("LatencyModel(").removesuffix(")")


def _where(config: Config) -> Endpoint:
    """Return what tells one model on one server from another, also where the model is the default one."""
    with suppress(ToolkitError):
        config = config.replace(model=_model_of(config))
    return endpoint_of(config)


def _model_of(config: Config) -> str | None:
    return config.model or provider_class(config.provider).default_model


def _kind_of(config: Config) -> str:
    try:
        kind = provider_class(config.provider)
    except ToolkitError:
        return "hosted"
    if kind.runs_here:
        return "local"
    # Those without a quota of their own answer by rule.
    return "rule" if kind.for_planning(config).quota_key() is None else "hosted"


def kept_runs(config: Config) -> list[Run]:
    """Return the newest runs of a config's model and server that the store has, as many as are enough.

    Raises
    ------
    StoreError
        If it cannot be read.
    """
    secret = config.store_password
    store = open_store(config.store_url, password=secret.get_secret_value() if secret else None)
    table = store.runs()
    named = (table["provider"] == config.provider) & (table["model"] == _model_of(config))
    same = table[named & (table["calls"] > 0)]
    found: list[Run] = []
    calls = 0
    for run_id in list(same["run_id"])[::-1][:MOST_RUNS]:
        with suppress(ConfigError):  # it was deleted meanwhile
            run = store.run(run_id)
            if _where(run.config) == _where(config):
                found.append(run)
                calls += int(run.totals()["calls"] or 0)
        if calls >= ENOUGH_CALLS:
            break
    return found
