"""``Suggestion``: settings that would do better, each with its reason and what it gains."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from toolkit.config import Config
from toolkit.planning.bounds import Chains, calls_per_s
from toolkit.planning.case import Case
from toolkit.planning.conflicts import smallest_limit
from toolkit.wording import counted

SPARE = 1.2
"""Calls are not all equally long: so much more than the mean has to be in flight to lose nothing."""
WORTH_IT = 0.95
"""What does not bring the least time down to this share is not suggested."""
WIDEST = 256
"""Widths above this are not tried."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A change of settings.

    Attributes
    ----------
    changes : mapping
        For ``Config.replace``.
    reason, gain : str
    """

    changes: Mapping[str, Any]
    reason: str
    gain: str

    def __str__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in self.changes.items())
        return f"{settings}: {self.reason} ({self.gain})"


Again = Callable[[Config], Case | None]
"""Makes the case of another config; None if its prompts leave no room for any text."""


def find_suggestions(case: Case, provider: str, again: Again) -> list[Suggestion]:
    """Return what would do better, so that each change counts on those before it."""
    if not case.work.episodes:
        return []
    found: list[Suggestion] = []
    for step in (_memory, _chunks, _caps, _slots, _widths):
        suggestion = step(case, provider, again)
        if suggestion is None:
            continue
        changed = again(_changed(case.config, suggestion.changes))
        if changed is not None:
            found.append(suggestion)
            case = changed
    return found


def _changed(config: Config, changes: Mapping[str, Any]) -> Config:
    # Said in so many words, so that the config does not warn of what an older version would have meant.
    return config.replace(**{"summary_chunk_parallelism": config.summary_chunk_parallelism, **changes})


def _memory(case: Case, provider: str, again: Again) -> Suggestion | None:
    """Fewer tokens at work where a shared model and they do not fit."""
    if case.fits_memory is not False or case.own_instances or case.footprint is None:
        return None
    assert case.machine is not None
    tokens = int(case.footprint.tokens(case.machine))
    if tokens < max(64, case.work.largest):
        return None  # Not even one request fits.
    return Suggestion(
        {"engine_batch_tokens": tokens},
        f"{case.config.engine_batch_tokens:,} tokens at work do not fit the memory beside the model",
        "it fits",
    )


def _chunks(case: Case, provider: str, again: Again) -> Suggestion | None:
    """Chunks as large as limits and context allow."""
    limits, chunk = case.limits, case.config.chunk_tokens
    if limits is None or chunk is None:
        return None
    settings = case.work.settings
    room = settings.context_tokens - max(settings.map.max_output_tokens, settings.direct.max_output_tokens)
    if chunk > room:
        least, clause = smallest_limit(limits)
        if clause is not None and room >= 32:
            overlap = min(case.config.chunk_overlap_tokens, room // 2)
            changes = {"chunk_tokens": room}
            if overlap < case.config.chunk_overlap_tokens:  # More than half is no config.
                changes["chunk_overlap_tokens"] = overlap
            return Suggestion(
                changes,
                f"a larger chunk never fits the limit of {least:,} tokens",
                "none in time: it says what happens anyway",
            )
    changed = again(_changed(case.config, {"chunk_tokens": None, "chunk_overlap_tokens": 0}))
    if changed is None or changed.calls >= case.calls:
        return None
    gain = _gain(case, changed)
    if gain is None:
        return None
    return Suggestion(
        {"chunk_tokens": None, "chunk_overlap_tokens": 0},
        f"{case.calls:,} calls become {changed.calls:,}: the model reads more at once",
        gain,
    )


def _caps(case: Case, provider: str, again: Again) -> Suggestion | None:
    """Lower a cap that counts in full, whatever is written."""
    if case.latency is None or case.limits is None or case.bottleneck not in ("tokens", "tokens_per_day"):
        return None
    longest = max(
        (ask.output_tokens for shape in case.work.expected for step in shape for ask in step), default=0.0
    )
    cap = 32 * math.ceil(2 * longest / 32)
    caps = {ask.cap for shape in case.work.expected for step in shape for ask in step}
    if cap > max(caps) / 2:
        return None
    changed = again(_changed(case.config, {"summary_max_tokens": cap}))
    if changed is None or (gain := _gain(case, changed)) is None:
        return None
    return Suggestion(
        {"summary_max_tokens": cap},
        f"the cap counts towards the tokens, and replies have {counted(round(longest), 'token')} on the "
        "average",
        gain,
    )


def _slots(case: Case, provider: str, again: Again) -> Suggestion | None:
    """As many slots as the limits can keep busy."""
    setting = f"{provider}_max_concurrent_requests"
    if case.latency is None or case.slots is None or setting not in Config.model_fields:
        return None
    assert case.limits is not None
    assert case.charges is not None
    rate = calls_per_s(case.charges, case.limits)
    if rate is None:
        return None
    slots = min(math.ceil(SPARE * rate[0] * case.mean_service_s), case.work.episodes * case.widest, WIDEST)
    if slots <= case.slots:
        return None
    limits = case.limits.replace(max_concurrent=slots)
    wide = replace(case, limits=limits, asked=min(1024, case.work.episodes), chunks=max(1, case.widest))
    now = wide.with_widths(wide.episodes, wide.chunks)
    gain = _gain(replace(now, limits=case.limits), now)
    if gain is None:
        return None
    return Suggestion(
        {setting: slots},
        f"the limits admit {counted(round(60 * rate[0]), 'call')} a minute of {case.mean_service_s:.1f} s "
        f"each, and {counted(case.slots, 'slot')} cannot serve as many",
        gain + " with enough episodes and chunks at a time",
    )


def _widths(case: Case, provider: str, again: Again) -> Suggestion | None:
    """Episodes and chunks at a time: as many as can be served, where they wait least for each other."""
    if case.places is None and case.latency is None:
        return None
    times = _Times(case)
    least_s, size, best = min(
        ((round(times.least_s(c), 9), (c.episodes * c.chunks, -c.episodes), c) for c in _candidates(case)),
        key=lambda candidate: candidate[:2],
    )
    if (best.episodes, best.chunks) == (case.episodes, case.chunks):
        return None
    before_s = times.least_s(_feasible(case))
    is_faster = least_s <= WORTH_IT * before_s
    is_crowded = case.episodes * case.chunks > size[0] and least_s <= 1.001 * before_s
    if not is_faster and not is_crowded:
        return None
    if not is_faster:
        gain = "as fast, and nobody waits in vain"
    elif case.latency is not None:
        gain = _gain(case, best) or "with room to keep the limits busy"
    elif case.rows is not None:
        gain = "how much is not known without a latency model"  # Calls in more company take longer.
    else:
        gain = f"{before_s / least_s:.1f} times as fast while calls take equally long"
    changes = {"summary_batch_size": best.episodes, "summary_chunk_parallelism": best.chunks}
    now = {"summary_batch_size": case.asked, "summary_chunk_parallelism": case.chunks}
    return Suggestion(
        {name: value for name, value in changes.items() if value != now[name]}, _why(best), gain
    )


def _why(best: Case) -> str:
    room = "nothing bounds what is in flight" if best.places is None else ""
    if best.places is not None:
        number, kind = best.places
        room = {
            "slots": f"{counted(number, 'slot')} at the server",
            "cores": counted(number, "core"),
            "batch": f"{best.config.engine_batch_tokens:,} tokens hold {counted(number, 'request')}",
            "memory": f"memory holds {counted(number, 'request')} beside the model",
        }[kind]
    if best.own_instances and best.fitting_instances is not None:
        room += f", and memory for {counted(best.fitting_instances, 'instance')}"
    return f"{room}; {counted(best.work.episodes, 'episode')} of up to {counted(best.widest, 'chunk')}"


def _candidates(case: Case) -> Iterator[Case]:
    """Yield all ways of sharing the places out among episodes and their chunks."""
    places = min(WIDEST, case.places[0] if case.places else WIDEST)
    for chunks in range(1, min(max(1, case.widest), places) + 1):
        if chunks > 64 and chunks % 16:
            continue
        trial = case.with_widths(1, chunks)
        fitting = trial.fitting_instances
        most = min(case.work.episodes, places // chunks, WIDEST if fitting is None else max(1, fitting))
        for episodes in range(1, most + 1):
            yield case.with_widths(episodes, chunks)


def _feasible(case: Case) -> Case:
    """Return what a config really gets: no more instances than fit, no more threads than cores."""
    episodes, chunks = min(case.episodes, case.work.episodes), min(case.chunks, max(1, case.widest))
    if case.fitting_instances is not None:
        episodes = min(episodes, max(1, case.fitting_instances))
    if case.places is not None:
        episodes = min(episodes, case.places[0])
        chunks = max(1, min(chunks, case.places[0] // episodes))
    return case.with_widths(episodes, chunks)


class _Times:
    """The least times by which widths are compared: in seconds, or in calls where no latency is known."""

    def __init__(self, case: Case) -> None:
        self._work = case.timed
        self._latency_known = case.latency is not None
        self._chains: dict[int, Chains] = {}
        self._engine: dict[int, float] = {}
        self._others = max(
            (
                bound.seconds or 0.0
                for bound in case.bounds
                if bound.name not in ("latency", "cores", "memory")
            ),
            default=0.0,
        )

    def least_s(self, case: Case) -> float:
        """Return the least time of a case that differs in its widths only."""
        chains = self._chains.get(case.chunks)
        if chains is None:
            chains = self._chains[case.chunks] = Chains.of(self._work, case.chunks)
        chain = chains.seconds(case.episodes)
        if not self._latency_known:
            return chain
        if case.machine is None:
            return max(SPARE * chain, self._others)
        width = case.episodes * case.chunks
        if width not in self._engine:
            self._engine[width] = case.engine_s(width) or 0.0
        return max(chain, self._engine[width])


def _gain(before: Case, after: Case) -> str | None:
    """Say what a change gains in time; None if it is not worth it."""
    if before.bound_s is None or after.bound_s is None or after.bound_s > WORTH_IT * before.bound_s:
        return None
    return f"least time from {_seconds(before.bound_s)} to {_seconds(after.bound_s)}"


def _seconds(value: float) -> str:
    return f"{value:,.1f} s" if value < 600 else f"{value / 60:,.0f} min"
