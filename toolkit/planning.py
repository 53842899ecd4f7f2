"""What a run will ask, known before it asks: its calls, tokens and cost at most."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from toolkit.clock import Clock
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
    """

    calls: int = 0
    tokens: int = 0
    usd: float | None = 0.0


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
    calls = tokens = 0
    usd: float | None = 0.0
    for episode in episodes:
        steps = map_reduce(episode.transcript, episode.id, settings, provider.count_tokens)
        replies: list[Reply] | None = None
        while True:
            try:
                requests = next(steps) if replies is None else steps.send(replies)
            except StopIteration:
                break
            for request in requests:
                prompt = provider.input_estimate(request)
                cost = provider.price_bound(prompt, request.max_output_tokens)
                calls, tokens = calls + 1, tokens + prompt + request.max_output_tokens
                usd = None if usd is None or cost is None else usd + cost
            replies = [_longest_reply(request) for request in requests]
    return Need(calls, tokens, usd)


def _longest_reply(request: Request) -> Reply:
    return Reply(" ".join(["word"] * request.max_output_tokens) + ".", Usage(0, request.max_output_tokens))
