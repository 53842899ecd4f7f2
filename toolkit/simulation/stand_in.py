"""``Rehearsed``, a provider that is never asked, and ``MadeUpTexts``: what it would say."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from toolkit.planning.work import TURN_TOKENS
from toolkit.protocols import RetryDecision
from toolkit.providers.base import SummarizationProvider
from toolkit.providers.hosted import HostedProvider
from toolkit.records import Reply, Request
from toolkit.simulation.faults import SimulatedFault
from toolkit.tokens import (
    CAUTIOUS_BYTES_PER_TOKEN,
    CHARACTERS_PER_TOKEN,
    LearnedBytes,
    chat_overhead,
)

_WORDS = 20
_SENTENCE = "the " * (_WORDS - 1) + "end."
_SAMPLE_WORDS = 100 * _WORDS


class Rehearsed:
    """What `Calls` is given in the place of a provider: all but answers are the provider's own.

    Parameters
    ----------
    provider : SummarizationProvider
    input_scale : float or None
        See `LatencyModel`.
    learns : bool
        Whether the provider is told what the server counted. Not if it is the user's own: it would learn
        from what is made up.
    """

    def __init__(self, provider: SummarizationProvider, input_scale: float | None, learns: bool) -> None:
        self.provider = provider
        self.name = provider.name
        self.model = provider.model
        self.identity = provider.identity
        self.price = provider.price
        self.price_bound = provider.price_bound
        self.input_bound = provider.input_bound
        self.body_bytes = provider.body_bytes
        # Instructions come again with each episode, and so do texts that are known by their size only.
        self.count_tokens = lru_cache(maxsize=2048)(provider.count_tokens)
        self.counter = "server" if isinstance(provider, HostedProvider) else "simulated"
        self._guesses = provider.token_counter == LearnedBytes.name
        default = CAUTIOUS_BYTES_PER_TOKEN / CHARACTERS_PER_TOKEN if self._guesses else 1.0
        self.input_scale = default if input_scale is None else input_scale
        self._learns = learns
        self._first: dict[str, int] = {}

    def generate(self, request: Request) -> Reply:
        """Refuse."""
        raise RuntimeError("a simulation asks nobody")

    def classify(self, error: Exception) -> RetryDecision:
        """Return the decision of a simulated fault; anything else is the provider's to judge."""
        return error.decision if isinstance(error, SimulatedFault) else self.provider.classify(error)

    def input_estimate(self, request: Request) -> int:
        """Return the provider's estimate; one that does not learn counts each prompt once."""
        return self.provider.input_estimate(request) if self._guesses else self._first_estimate(request)

    def server_count(self, request: Request) -> int:
        """Return what the server is going to count for a prompt."""
        return max(1, round(self.input_scale * self._first_estimate(request)))

    def answered(self, request: Request, reply: Reply) -> None:
        """Take note of an answer."""
        self._first.pop(request.call_id, None)
        if self._learns:
            self.provider.learn(request, reply.usage)

    def _first_estimate(self, request: Request) -> int:
        """Return what was estimated before anything was learned."""
        found = self._first.get(request.call_id)
        if found is None:
            if isinstance(self.provider, HostedProvider):
                found = self.count_tokens(request.system) + self.count_tokens(request.prompt)
                found += chat_overhead(2 if request.system else 1)
            else:
                found = self.provider.input_estimate(request)
            self._first[request.call_id] = found
        return found


class MadeUpTexts:
    """Texts of a given size, in a server's tokens: for replies, and for episodes of which only that is known.

    Parameters
    ----------
    count_tokens : callable
        The provider's.
    scale : float
        What the server counts for one of the provider's tokens.
    """

    def __init__(self, count_tokens: Callable[[str], int], scale: float) -> None:
        counted_a_word = count_tokens(_line(_SAMPLE_WORDS)) / _SAMPLE_WORDS
        self._tokens_a_word = scale * counted_a_word
        self._words_a_turn = max(1, round(TURN_TOKENS / counted_a_word))
        self.reply = lru_cache(maxsize=4096)(self._reply)
        self.transcript = lru_cache(maxsize=1024)(self._transcript)

    def _words(self, tokens: int) -> int:
        return max(1, round(tokens / self._tokens_a_word))

    def _reply(self, tokens: int, cut: bool = False) -> str:
        """Return a text in one line, that breaks off within a sentence if it was cut."""
        text = _line(self._words(tokens))
        return text.removesuffix(" end.") + " the" if cut else text

    def _transcript(self, tokens: int) -> str:
        """Return a text in turns as long as those that a plan has for an episode of that size."""
        if not tokens:
            return ""
        turns, rest = divmod(self._words(tokens), self._words_a_turn)
        return "\n".join([_line(self._words_a_turn)] * turns + ([_line(rest)] if rest else []))


def _line(words: int) -> str:
    sentences, rest = divmod(words, _WORDS)
    last = ["the " * (rest - 1) + "end."] if rest else []
    return " ".join([_SENTENCE] * sentences + last)
