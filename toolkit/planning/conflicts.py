"""``Conflict``: what of a config cannot be, or works against the rest of it, in words with numbers."""

from __future__ import annotations

from dataclasses import dataclass

from toolkit.engines.memory import GB
from toolkit.limits.laws import DAY, DIMENSIONS, Clause, Dimension
from toolkit.limits.settings import LimitSettings
from toolkit.mapreduce import SummarySettings
from toolkit.planning.bounds import call_charge
from toolkit.planning.case import Case
from toolkit.planning.work import calls
from toolkit.wording import counted


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two settings, or a setting and what there is, that do not go together.

    Attributes
    ----------
    kind : str
        ``workers``, ``slots``, ``cores``, ``batch``, ``memory``, ``oversize``, ``day``, ``budget``, ``idle``.
    text : str
    """

    kind: str
    text: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class Money:
    """What the calls cost in US dollars, expected and at most; None where no price is known."""

    expected: float | None
    most: float | None


def find_conflicts(case: Case, uncut: SummarySettings, money: Money) -> list[Conflict]:
    """Return all conflicts; ``uncut`` is how texts would be cut if it were not for the limits."""
    if not case.work.episodes:
        return []
    return [
        *_workers(case),
        *_memory(case),
        *_crowd(case),
        *_oversize(case, uncut),
        *_days(case),
        *_budgets(case, money),
        *_idle(case),
    ]


def _workers(case: Case) -> list[Conflict]:
    """More episodes at a time than the workers have slots."""
    asked = min(case.asked, case.work.episodes)
    if case.workers is None or case.workers.is_elastic or asked <= case.workers.slots:
        return []
    who = f"{counted(case.workers.slots, 'slot')} of {counted(case.workers.workers, 'worker')}"
    return [Conflict("workers", f"{counted(asked, 'episode')} at a time wait for {who}")]


def _crowd(case: Case) -> list[Conflict]:
    """More requests at a time than there are places."""
    if case.places is None:
        return []
    places, kind = case.places
    episodes = min(case.episodes, case.work.episodes)
    chunks = min(case.chunks, case.widest)
    wanted = episodes * chunks
    if wanted <= places or kind == "memory":
        return []
    product = f"{counted(episodes, 'episode')} x {counted(chunks, 'chunk')} = {wanted}"
    tokens = f"{case.config.engine_batch_tokens:,} tokens"
    texts = {
        "slots": f"{product} requests wait for {counted(places, 'slot')}",
        "cores": f"{product} threads share {counted(places, 'core')}",
        "batch": f"{product} requests do not go into {tokens} at once, which hold {places} of the largest",
    }
    return [Conflict(kind, texts[kind])]


def _memory(case: Case) -> list[Conflict]:
    if case.fits_memory is not False or case.footprint is None or case.machine is None:
        return []
    model, free = f"{_gb(case.footprint.model_bytes)} GB", f"{case.machine.memory_gb:.3g} GB"
    if case.own_instances:
        episodes = min(case.episodes, case.work.episodes)
        return [Conflict("memory", f"{counted(episodes, 'instance')} x {model} do not fit {free}")]
    assert case.memory_bytes is not None
    batch = _gb(case.memory_bytes - case.footprint.model_bytes - case.footprint.program_bytes)
    text = (
        f"the model ({model}), the tokens at work (up to {batch} GB) and the program "
        f"({_gb(case.footprint.program_bytes)} GB) do not fit {free}"
    )
    return [Conflict("memory", text)]


def _oversize(case: Case, uncut: SummarySettings) -> list[Conflict]:
    limits = case.limits
    if limits is None:
        return []
    found = []
    cut = case.work.settings
    least, clause = smallest_limit(limits)
    chunk = case.config.chunk_tokens
    if clause is not None and cut.context_tokens < uncut.context_tokens:
        where = f"{least:,} {_unit(clause)}"
        room = cut.context_tokens - max(cut.map.max_output_tokens, cut.direct.max_output_tokens)
        if chunk is not None and chunk > room:
            text = f"a chunk of {chunk:,} tokens never fits {where}; texts are cut into smaller ones"
            found.append(Conflict("oversize", text))
        elif chunk is None and case.widest > 1:
            text = f"texts that the model could read at once never fit {where}; they are cut into chunks"
            found.append(Conflict("oversize", text))
    charge = limits.charge_in_force()
    largest = [0] * len(DIMENSIONS)
    for ask, _ in calls(case.work.most):
        largest = list(map(max, largest, call_charge(ask, charge)))
    for clause, limit in limits.rules().items():
        amount = largest[DIMENSIONS.index(clause.dimension)]
        if amount > limit and clause.dimension is not Dimension.REQUESTS:
            what = "is refused" if limits.oversize == "refuse" else "waits until nothing else counts"
            text = f"a request of {amount:,} {_unit(clause, bare=True)} never fits {limit:,} {_unit(clause)}"
            found.append(Conflict("oversize", f"{text}: it {what}"))
    return found


def smallest_limit(limits: LimitSettings) -> tuple[int, Clause | None]:
    """Return the smallest limit on the tokens of one request, and its clause."""
    dimensions = (Dimension.TOKENS, Dimension.INPUT_TOKENS)
    rules = [(limit, clause) for clause, limit in limits.rules().items() if clause.dimension in dimensions]
    return min(rules, key=lambda rule: rule[0], default=(0, None))


def _days(case: Case) -> list[Conflict]:
    if case.limits is None or case.charges is None:
        return []
    found = []
    for clause, limit in case.limits.rules().items():
        total = case.charges.total(clause.dimension)
        if clause.period_s == DAY and total > limit:
            what = _unit(clause, bare=True)
            text = f"{total:,} {what} exceed the {limit:,} of a day: the run stops there, and goes on later"
            found.append(Conflict("day", text))
    return found


def _budgets(case: Case, money: Money) -> list[Conflict]:
    config = case.config
    asks = list(calls(case.work.most))
    number = sum(count for _, count in asks)
    tokens = sum((ask.input_tokens + ask.cap) * count for ask, count in asks)
    found = []
    if config.budget_usd is not None and money.most is None:
        found.append(f"budget_usd={config.budget_usd:g} cannot be kept: no price of the model is known")
    for setting, limit, amount, shown in (
        ("budget_usd", config.budget_usd, money.most, f"${money.most or 0:,.4g}"),
        ("budget_tokens", config.budget_tokens, tokens, f"{tokens:,} tokens"),
        ("budget_calls", config.budget_calls, number, f"{number:,} calls"),
    ):
        if limit is not None and amount is not None and amount > limit:
            found.append(f"the run may take up to {shown}, but {setting}={limit:g} ends it before")
    return [Conflict("budget", text) for text in found]


def _idle(case: Case) -> list[Conflict]:
    """Parallelism that nothing makes use of."""
    found = []
    if case.chunks > case.widest:
        there = "no text is cut" if case.widest < 2 else f"no text has more than {case.widest} chunks"
        found.append(f"summary_chunk_parallelism={case.chunks} has no effect: {there}")
    if case.episodes > case.work.episodes:
        there = counted(case.work.episodes, "episode")
        found.append(f"summary_batch_size={case.episodes} has no effect: there are only {there}")
    return [Conflict("idle", text) for text in found if "=1 " not in text]


def _unit(clause: Clause, *, bare: bool = False) -> str:
    what = clause.dimension.replace("_", " ")
    return what if bare else f"{what} per {'day' if clause.period_s == DAY else 'minute'}"


def _gb(number: float) -> str:
    return f"{number / GB:.2g}"
