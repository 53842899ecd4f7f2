"""What a run will ask, known before it asks: its calls, tokens and cost at most."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from toolkit.clock import Clock
from toolkit.harmless import whole_characters
from toolkit.mapreduce import map_reduce
from toolkit.providers.base import SummarizationProvider, within_limits
from toolkit.records import Episode, Reply, Request, Usage


@dataclass(frozen=True, slots=True)
class Need:
    """What episodes take if every reply is as long as it may be.

    Attributes
    ----------
    calls : int
    tokens : int
        Of prompts as they are counted, and of replies at their caps.
    usd : float or None
        None where no price is known.
    budget_tokens : int
        What a budget must hold for them: the last call, too, reserves its prompt at the most that any
        server could count, which is more than it takes.
    budget_usd : float or None
        The same in money.
    """

    calls: int = 0
    tokens: int = 0
    usd: float | None = 0.0
    budget_tokens: int = 0
    budget_usd: float | None = 0.0


def need_of(provider: SummarizationProvider, episodes: Iterable[Episode], clock: Clock | None = None) -> Need:
    """Return what episodes take, going through their map-reduce with replies as long as they may be.

    What is kept already, and would be reused, is not taken off.

    Raises
    ------
    ContextTooLong
        If the prompts leave no room for a text.
    """
    limiter = provider.limiter(clock)
    settings = provider.settings() if limiter is None else within_limits(provider.settings(), limiter)
    calls = tokens = spare_tokens = 0
    usd: float | None = 0.0
    spare_usd = 0.0
    for episode in episodes:
        steps = map_reduce(whole_characters(episode.transcript), episode.id, settings, provider.count_tokens)
        replies: list[Reply] | None = None
        while True:
            try:
                requests = next(steps) if replies is None else steps.send(replies)
            except StopIteration:
                break
            for request in requests:
                cap = request.max_output_tokens
                prompt, bound = provider.input_estimate(request), provider.input_bound(request)
                calls, tokens = calls + 1, tokens + prompt + cap
                spare_tokens = max(spare_tokens, bound - prompt)
                cost, most = provider.price_bound(prompt, cap), provider.price_bound(bound, cap)
                if cost is None or most is None or usd is None:
                    usd = None
                else:
                    usd, spare_usd = usd + cost, max(spare_usd, most - cost)
            replies = [_longest_reply(request) for request in requests]
    return Need(calls, tokens, usd, tokens + spare_tokens, None if usd is None else usd + spare_usd)


def _longest_reply(request: Request) -> Reply:
    return Reply(" ".join(["word"] * request.max_output_tokens) + ".", Usage(0, request.max_output_tokens))
