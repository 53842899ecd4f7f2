"""What a sweep may spend: one budget for all of its cells, and no real call to a paid server unasked."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from typing import NamedTuple

from toolkit.config import Config
from toolkit.errors import ConfigError, ToolkitError
from toolkit.keeping import BudgetWarning
from toolkit.planning import Need, need_of
from toolkit.providers.base import SummarizationProvider
from toolkit.records import Episode
from toolkit.sweeps.cells import Cell
from toolkit.wording import counted

MakeProvider = Callable[[Config], SummarizationProvider]


def check_maker(provider: object) -> None:
    """Refuse what is given as ``provider=`` of many settings and makes none."""
    if provider is not None and not callable(provider):
        raise ConfigError(
            f"provider= is of type {type(provider).__name__}; give a function that makes the provider of a "
            "config, or name it in Config(provider=...)"
        )


class Budget(NamedTuple):
    """What all cells together may spend; None: no bound."""

    usd: float | None = None
    tokens: int | None = None
    calls: int | None = None

    @classmethod
    def of(cls, config: Config, usd: float | None, tokens: int | None, calls: int | None) -> Budget:
        """Take what is given, else what the config holds, after checking it as the config would."""
        given = {"budget_usd": usd, "budget_tokens": tokens, "budget_calls": calls}
        given = {name: value for name, value in given.items() if value is not None}
        checked = config.replace(**given)
        return cls(checked.budget_usd, checked.budget_tokens, checked.budget_calls)

    @property
    def is_set(self) -> bool:
        """Whether anything is bounded."""
        return any(limit is not None for limit in self)

    def within(self, config: Config, name: str) -> Config:
        """Return a cell's config that draws from this budget.

        All of it, also where a cell spends no dollars: each start sets the bounds for all who share it.
        """
        return config.replace(
            budget_usd=self.usd,
            budget_tokens=self.tokens,
            budget_calls=self.calls,
            budget_name=(config.budget_name or name) if self.is_set else None,
        )


class Ahead(NamedTuple):
    """What would really be called, and what that may take at most; ``usd`` is None if no price is known."""

    names: str
    calls: int
    tokens: int
    usd: float | None

    def __str__(self) -> str:
        price = "" if self.usd is None else f", ${self.usd:.2f}"
        return f"up to {counted(self.calls, 'call')}, {counted(self.tokens, 'token')}{price}"


def look_ahead(
    cells: Sequence[Cell],
    repeats: int,
    episodes: Sequence[Episode],
    make: MakeProvider,
    *,
    in_dollars: bool = False,
    runs: int | None = None,
) -> tuple[Ahead, int] | None:
    """Return what cells may take that call a paid server, and how many they are; None if none does.

    With ``runs`` so many are made, nobody knows of which cells, and each is taken for the dearest; else each
    cell has ``repeats``.

    Raises
    ------
    ConfigError
        If it is to be counted ``in_dollars`` and a model has no price.
    """
    with ExitStack() as made:
        paid = [(cell, provider) for cell in cells if (provider := _paid(cell, make, made)) is not None]
        if not paid:
            return None
        for cell, provider in paid if in_dollars else ():
            if provider.price_bound(1, 1) is None:
                raise ConfigError(
                    f"budget_usd: no price is known of {provider.name}/{provider.model} in {cell.shown}; "
                    "set prices=, or take budget_tokens or budget_calls instead"
                )
        needs = _needs([provider for _, provider in paid], episodes)
        names = ", ".join(dict.fromkeys(f"{provider.name}/{provider.model}" for _, provider in paid))
    over, times = (max, runs) if runs is not None else (sum, repeats)
    known = [need.usd for need in needs if need.usd is not None]
    found = Ahead(
        names=names,
        calls=times * over(need.calls for need in needs),
        tokens=times * over(need.tokens for need in needs),
        usd=times * over(known) if len(known) == len(needs) else None,
    )
    return found, len(paid)


def check_consent(
    cells: Sequence[Cell],
    repeats: int,
    episodes: Sequence[Episode],
    budget: Budget,
    make: MakeProvider,
    *,
    confirm: bool,
    what: str = "this sweep",
    runs: int | None = None,
) -> None:
    """Refuse to call a paid server without a budget or consent, and a budget in dollars without prices.

    If the calls may take more than the budget holds, warn: the sweep would stop on its way. ``runs`` is that
    of `look_ahead`.

    Raises
    ------
    ConfigError
        Which says what the sweep may cost.
    """
    if confirm and not budget.is_set:
        return
    found = look_ahead(cells, repeats, episodes, make, in_dollars=budget.usd is not None, runs=runs)
    if found is None:
        return
    ahead, paid = found
    told = (
        f"{counted(paid, 'cell')} x {repeats}" if runs is None else f"{counted(runs, 'run')} of all episodes"
    )
    told += f" with {ahead}"
    if not budget.is_set:
        raise ConfigError(
            f"{what} would really call {ahead.names}: {told}; set budget_usd= (or budget_tokens, "
            "budget_calls), or confirm=True"
        )
    needed = zip(budget, (ahead.usd, ahead.tokens, ahead.calls), strict=True)
    if any(limit is not None and (most or 0) > limit for limit, most in needed):
        warnings.warn(
            f"the budget may not do for {what}: {told}. It will stop where the budget ends, keep "
            "what is measured, and go on with a larger one",
            BudgetWarning,
            stacklevel=3,
        )


def _paid(cell: Cell, make: MakeProvider, made: ExitStack) -> SummarizationProvider | None:
    """Return the provider of a cell if its calls may cost money; ``made`` closes it in any case."""
    try:
        provider = made.enter_context(make(cell.config))
    except ToolkitError:  # it will fail in its own row, before it can spend anything
        return None
    return provider if provider.spends else None


def _needs(paid: Sequence[SummarizationProvider], episodes: Sequence[Episode]) -> list[Need]:
    """Return what each takes; for those that ask the same it is worked out once."""
    known: dict[str, Need] = {}
    needs = []
    for provider in paid:
        asked = repr((provider.identity(), provider.settings(), provider.limits(), provider.config.prices))
        if asked not in known:
            known[asked] = Need()
            with suppress(ToolkitError):  # a prompt that leaves no room: nothing is asked then
                known[asked] = need_of(provider, episodes)
        needs.append(known[asked])
    return needs
