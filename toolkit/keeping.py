"""A run and its store: the row at its start, the row at its end, and which run it is a start of."""

from __future__ import annotations

import json
import os
import platform
import uuid
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from toolkit import __version__
from toolkit.clock import Clock
from toolkit.config import Config
from toolkit.errors import ConfigError, ContextTooLong, StoreError
from toolkit.limits.holders import this_process
from toolkit.planning import need_of
from toolkit.providers.base import SummarizationProvider
from toolkit.records import NANO, Episode, EpisodeRecord
from toolkit.runs import Run

if TYPE_CHECKING:
    from toolkit.store.budget import Budget
    from toolkit.store.keeper import Keeper
    from toolkit.store.store import Store

NO_PART_OF_A_RUN = frozenset(
    {
        "budget_calls",
        "budget_name",
        "budget_tokens",
        "budget_usd",
        "cluster_address",
        "episode_backend",
        "repeat",
        "reuse",
        "secrets_reader",
        "stop_grace_s",
        "store_text",
        "store_url",
        "store_wait_s",
    }
)
"""Settings that may differ between two starts of one run."""


class Keeping:
    """The store of a run that begins.

    Parameters
    ----------
    provider : SummarizationProvider
    config : Config
    episodes : sequence of Episode or None
        None: a generator; its runs are told apart by their settings alone.
    clock : Clock
    part_of : str
        The study that the run is a part of: two runs of different studies are never starts of one.
    identity : mapping or None
        What the provider's answers depend on; None: nobody knows.

    Attributes
    ----------
    keeper : Keeper
    store : Store
    scope : str
        Which run this is a start of.
    shown, url : str
        Where the store is, for people and for workers; without a password.
    environment : dict

    Raises
    ------
    StoreError
        If the store cannot be used; before anything is asked.
    """

    def __init__(
        self,
        provider: SummarizationProvider,
        config: Config,
        episodes: Sequence[Episode] | None,
        clock: Clock,
        part_of: str = "",
        *,
        identity: Mapping[str, Any] | None,
    ) -> None:
        # Loads SQLAlchemy.
        from toolkit.store import keys
        from toolkit.store.address import read_address
        from toolkit.store.opened import store_at

        # In no variable of its own, which some tracebacks show.
        secret = config.store_password
        address = read_address(config.store_url, secret.get_secret_value() if secret else None)
        self.shown, self.url = address.shown, address.url
        self.environment = environment()
        self._clock = clock
        who = None if identity is None else keys.digest(identity)
        settings = {name: value for name, value in config.shown().items() if name not in NO_PART_OF_A_RUN}
        texts = ["a generator"] if episodes is None else [episode.transcript for episode in episodes]
        store = self.store = store_at(address)
        scope = keys.scope_key(who or "", settings, texts, config.repeat)
        if part_of:
            scope = keys.digest("part", part_of, scope)
        self.scope = scope
        self.keeper = make_keeper(
            provider,
            config,
            store,
            uuid.uuid4().hex[:12],
            scope,
            who=who,
            is_part=bool(part_of),
        )
        # Whether the budget will do for a study is for the study to say.
        if self.keeper.budget is not None and episodes is not None and not part_of:
            _check_plan(provider, config, episodes, clock)
        self.keeper.begin(
            {
                "provider": provider.name,
                "model": provider.model,
                "config": json.dumps(config.shown()),
                "environment": json.dumps(self.environment),
                "reuse": config.reuse,
                "repeat": config.repeat,
                "holder": this_process(),
                "started_at": clock.epoch(),
                "episodes_given": None if episodes is None else len(episodes),
            }
        )

    def end(self, run: Run, unreached: Sequence[tuple[int, EpisodeRecord]], broken: bool = False) -> None:
        """Write how a run ended; if that fails, the run says so and is as good otherwise.

        ``broken``: the generator of episodes, or what is called with them, raised, so that more may be to do.
        """
        values = {
            "ended_at": self._clock.epoch(),
            "complete": run.state == "complete" and not broken,
            "interrupted": run.interrupted,
            "stopped_because": run.stopped_because,
            "makespan_s": run.makespan_s,
            "peak_rss_mb": run.peak_rss_mb,
            "limits_began_at": run.limits_began_at,
            "quota_shares": json.dumps(run.quota_shares),
            "totals": json.dumps(run.totals()),
        }
        try:
            self.keeper.end(values, unreached, run.limit_events)
        except StoreError as lost:
            run.stopped_because = run.stopped_because or str(lost)


def make_keeper(
    provider: SummarizationProvider,
    config: Config,
    store: Store,
    run_id: str,
    scope: str,
    *,
    who: str | None,
    is_part: bool,
) -> Keeper:
    """Return what keeps the calls of a run, in the process that drives it or in one that works for it.

    ``who`` is the digest of what the provider's answers depend on.
    """
    from toolkit.store.keeper import Keeper

    return Keeper(
        store,
        run_id,
        who=who,
        reuse=config.reuse,
        repeat=config.repeat,
        scope=scope,
        with_texts=config.store_text,
        wait_s=config.store_wait_s,
        budget=_budget(provider, config, store, scope, is_part=is_part),
    )


def _budget(
    provider: SummarizationProvider, config: Config, store: Store, scope: str, *, is_part: bool
) -> Budget | None:
    """Return what the run may spend; starts of one run draw from one budget until it comes to its end.

    A study's budget is also for models that cost nothing and have no price: they take no dollars from it.

    Raises
    ------
    ConfigError
        If dollars are counted and the model has no price.
    """
    from toolkit.store.budget import MOST, Budget, Ceiling

    if config.budget_usd is None and config.budget_tokens is None and config.budget_calls is None:
        return None
    is_free = is_part and not provider.spends
    if config.budget_usd is not None and not is_free and provider.price_bound(1, 1) is None:
        raise ConfigError(
            f"budget_usd: no price is known of {provider.name}/{provider.model}; set prices=, or take "
            "budget_tokens or budget_calls instead"
        )
    nano_usd = None if config.budget_usd is None else int(min(config.budget_usd * NANO, MOST))
    ceiling = Ceiling(nano_usd, config.budget_tokens, config.budget_calls)
    if config.budget_name is not None:
        return Budget(store, config.budget_name, ceiling)
    return Budget(store, f"run {scope}", ceiling, scope=scope)


def _check_plan(
    provider: SummarizationProvider, config: Config, episodes: Sequence[Episode], clock: Clock
) -> None:
    """Say so if the episodes may take more than the budget holds: the run would stop on its way."""
    try:
        need = need_of(provider, episodes, clock)
    except ContextTooLong:  # Then nothing is asked; each episode says so for itself.
        return
    over = [
        f"{shown} of {setting}={limit}"
        for setting, limit, amount, shown in (
            ("budget_usd", config.budget_usd, need.budget_usd, f"${need.budget_usd or 0:.4f}"),
            ("budget_tokens", config.budget_tokens, need.budget_tokens, f"{need.budget_tokens} tokens"),
            ("budget_calls", config.budget_calls, need.calls, f"{need.calls} calls"),
        )
        if limit is not None and amount is not None and amount > limit
    ]
    if over:
        warnings.warn(
            f"The episodes may take up to {' and '.join(over)}: the run will stop where the budget ends, and "
            "keep what is done. What is kept already is reused and takes nothing.",
            BudgetWarning,
            stacklevel=2,
        )


class BudgetWarning(UserWarning):
    """A budget may not do for what is asked."""


def environment() -> dict[str, object]:
    """Return what of this machine a measurement depends on."""
    return {
        "toolkit": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": platform.machine(),
        "cores": os.cpu_count(),
    }
