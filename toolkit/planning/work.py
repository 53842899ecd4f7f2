"""``Work``: the calls of episodes, known before any is made, from the map-reduce that a run goes through."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, runtime_checkable

from toolkit.chunking import CountTokens, chunk_turns, turns_of
from toolkit.harmless import whole_characters
from toolkit.mapreduce import SummarySettings, map_reduce
from toolkit.providers.base import SummarizationProvider
from toolkit.records import Episode, Reply, Request, Stage, Usage
from toolkit.tokens import CAUTIOUS_BYTES_PER_TOKEN, CHARACTERS_PER_TOKEN, LearnedBytes

COUNTED_CHARACTERS = 1_000_000
"""Up to here texts are counted to the token; beyond, by the characters a token that a sample of them has: a
vocabulary reads 3 to 18 MB a second, and each word is read three times on its way."""
SAMPLES, SAMPLE_CHARACTERS = 200, 2_000
DISTINCT_LENGTHS = 500
"""More different lengths than this, given as numbers, are rounded to three digits."""

_MARK = "\ue000"
"""A character for private use: a token of a text of which only the length is known."""
_MARKED = re.compile(f"{_MARK}+[ \n]?")
TURN_TOKENS = 60
"""Of each turn of a text of which only the length is known."""


@runtime_checkable
class Latency(Protocol):
    """What a plan asks of a latency model."""

    def mean_service_s(self, input_tokens: float, output_tokens: float, width: float = 1) -> float:
        """Return the seconds that a call takes while ``width`` calls are served together.

        They grow with each further one by the same.
        """
        ...

    def mean_output_tokens(self, stage: Stage, cap: int) -> float:
        """Return how long the replies of a stage are under a cap."""
        ...


class Ask(NamedTuple):
    """One call: tokens of its prompt, expected tokens of its reply, and the cap on them."""

    stage: Stage
    input_tokens: int
    output_tokens: float
    cap: int


ReplyTokens = Callable[[Stage, int], float]
"""How long the replies of a stage are under a cap."""

Shape = tuple[tuple[Ask, ...], ...]
"""The calls of one episode: those of one step depend on all of the step before."""


@dataclass(frozen=True)
class Work:
    """The calls of episodes.

    Attributes
    ----------
    expected : mapping
        How many episodes have which calls, with replies as long as they are expected to be.
    most : mapping
        The same with replies at their caps, and prompts as the limiter counts them before it knows better.
    settings : SummarySettings
        By which texts are cut.
    notes : tuple of str
        What is assumed.
    """

    expected: Mapping[Shape, int]
    most: Mapping[Shape, int]
    settings: SummarySettings
    notes: tuple[str, ...]

    @property
    def episodes(self) -> int:
        """Episodes that ask anything."""
        return sum(count for shape, count in self.expected.items() if shape)

    @property
    def largest(self) -> int:
        """Tokens of the largest call: its prompt and the cap on its reply."""
        return max((ask.input_tokens + ask.cap for ask, _ in calls(self.most)), default=0)


def calls(shapes: Mapping[Shape, int]) -> Iterable[tuple[Ask, int]]:
    """Yield the calls of some episodes and how often each is made."""
    for shape, count in shapes.items():
        for step in shape:
            for ask in step:
                yield ask, count


def work_of(
    provider: SummarizationProvider,
    episodes: Sequence[Episode | int],
    settings: SummarySettings,
    latency: Latency | None,
    counts: Counts | None = None,
) -> Work:
    """Go through the map-reduce of all episodes.

    ``counts`` keeps what does not depend on the settings, for who goes through the same texts again.

    Raises
    ------
    ContextTooLong
        If the prompts leave no room for a text.
    """
    texts = [whole_characters(e.transcript) for e in episodes if isinstance(e, Episode)]
    counting = _Counting(provider, texts, Counts() if counts is None else counts)
    notes = list(counting.notes)
    if latency is None:
        share = 0.5 if settings.cut_is_partial else 1.0
        shown = "half as long as their cap" if settings.cut_is_partial else "as long as their cap"
        notes.append(f"no latency model: replies are taken to be {shown}; how long calls take is not known")

        def output_tokens(stage: Stage, cap: int) -> float:
            return max(1.0, share * cap)
    else:
        known = latency

        def output_tokens(stage: Stage, cap: int) -> float:
            return min(float(cap), max(1.0, known.mean_output_tokens(stage, cap)))

    lengths = Counter(e for e in episodes if not isinstance(e, Episode))
    if len(lengths) > DISTINCT_LENGTHS:
        notes.append(f"{len(lengths)} different lengths are rounded to three digits")
        rounded: Counter[int] = Counter()
        for length, count in lengths.items():
            rounded[_three_digits(length)] += count
        lengths = rounded
    expected: Counter[Shape] = Counter()
    most: Counter[Shape] = Counter()
    for text, count in [*((text, 1) for text in texts), *((counting.text(n), k) for n, k in lengths.items())]:
        upper = _shape(text, settings, counting, lambda stage, cap: float(cap))
        expected[counting.expected(_shorter(upper, text, settings, counting, output_tokens))] += count
        most[upper] += count
    return Work(expected, most, settings, tuple(notes))


def _shorter(
    upper: Shape, text: str, settings: SummarySettings, counting: _Counting, output_tokens: ReplyTokens
) -> Shape:
    """Return the calls of a text whose replies are shorter than their caps, which ``upper`` is made for."""
    shorter = tuple(
        tuple(ask._replace(output_tokens=output_tokens(ask.stage, ask.cap)) for ask in step) for step in upper
    )
    spared = [sum(ask.cap - round(ask.output_tokens) for ask in step) for step in shorter]
    if not any(spared[:-1]):
        return shorter
    if len(upper) > 2:  # With shorter replies there may be fewer levels of reduction.
        return _shape(text, settings, counting, output_tokens)
    maps, (last,) = shorter
    return maps, (last._replace(input_tokens=last.input_tokens - counting.counted(spared[0])),)


def _shape(text: str, settings: SummarySettings, counting: _Counting, reply_tokens: ReplyTokens) -> Shape:
    """Return the calls of one text, whose replies are so long."""
    steps = map_reduce(text, "plan", settings, counting.count, cut=counting.cut)
    found: list[tuple[Ask, ...]] = []
    replies: list[Reply] | None = None
    while True:
        try:
            requests = next(steps) if replies is None else steps.send(replies)
        except StopIteration:
            return tuple(found)
        replies, asks = [], []
        for request in requests:
            cap = request.max_output_tokens
            tokens = reply_tokens(request.stage, cap)
            replies.append(Reply(counting.text(max(1, round(tokens)), turns=False), Usage(0, round(tokens))))
            asks.append(Ask(request.stage, counting.prompt(request), tokens, cap))
        found.append(tuple(asks))


class Counts:
    """What one vocabulary counts in some texts, whatever the settings.

    Attributes
    ----------
    characters_per_token : float or None
        Of a sample of all texts, once it was counted.
    turns : dict
        By text: its turns and the tokens of each.
    """

    def __init__(self) -> None:
        self.characters_per_token: float | None = None
        self.turns: dict[str, list[tuple[str, int]]] = {}


class _Counting:
    """Counts as the provider does, quickly, and also texts of which only the length is known.

    Where the provider knows no vocabulary it counts cautiously, by three bytes a token: texts are cut by that
    count, but four bytes a token are expected.
    """

    def __init__(self, provider: SummarizationProvider, texts: Sequence[str], counts: Counts) -> None:
        self._provider = provider
        self._known = counts
        self._cut: tuple[tuple[str, dict[str, int]], list[str]] | None = None
        self._bases: dict[Stage, int] = {}
        self._cautious = provider.token_counter == LearnedBytes.name
        self.notes: list[str] = []
        if self._cautious:
            self.notes.append("the vocabulary is not known: four bytes a token are expected, three at most")
        self._share = CAUTIOUS_BYTES_PER_TOKEN / CHARACTERS_PER_TOKEN if self._cautious else 1.0
        self._characters_per_token: float | None = None
        total = sum(map(len, texts))
        if total > COUNTED_CHARACTERS:
            if counts.characters_per_token is None:
                sample = _sample(texts, total)
                tokens = sum(map(provider.count_tokens, sample))
                counts.characters_per_token = sum(map(len, sample)) / max(1, tokens)
            self._characters_per_token = ratio = counts.characters_per_token
            self.notes.append(
                f"tokens of {total / 1e6:.1f} million characters are reckoned from a sample of them: "
                f"{ratio:.2f} characters a token"
            )

    def counted(self, tokens: int) -> int:
        """Return for how many so many tokens of the server are counted."""
        return math.ceil(tokens / self._share)

    def text(self, tokens: int, *, turns: bool = True) -> str:
        """Return a text of so many tokens, as the server will count them."""
        counted = self.counted(tokens)
        if not turns:
            return _MARK * counted
        whole, rest = divmod(counted, TURN_TOKENS)
        return "\n".join([_MARK * TURN_TOKENS] * whole + ([_MARK * rest] if rest else []))

    def count(self, text: str) -> int:
        """Count as texts are cut by."""
        marks = text.count(_MARK) if not text.isascii() else 0
        if marks:
            text = _MARKED.sub("", text)
            if not text.strip():
                return marks
        if self._characters_per_token is not None:
            return marks + math.ceil(len(text) / self._characters_per_token)
        return marks + self._provider.count_tokens(text)

    def cut(self, text: str, count_tokens: CountTokens, **bounds: int) -> list[str]:
        """Cut a text into chunks, with its turns as they were counted before.

        Each is gone through twice, with replies at their caps and shorter ones, and is cut the same.
        """
        asked = text, bounds
        if self._cut is not None and self._cut[0] == asked:
            return self._cut[1]
        turns = self._known.turns.get(text)
        if turns is None:
            turns = self._known.turns[text] = turns_of(text, count_tokens)
        chunks = chunk_turns(turns, count_tokens, **bounds)
        self._cut = asked, chunks
        return chunks

    def prompt(self, request: Request) -> int:
        """Count a whole prompt, at most."""
        base = self._bases.get(request.stage)
        if base is None:
            base = self._bases[request.stage] = self._provider.input_estimate(replace(request, prompt=""))
        return base + self.count(request.prompt)

    def expected(self, shape: Shape) -> Shape:
        """Return the same calls with their prompts as the server is expected to count them."""
        if self._share == 1.0:
            return shape
        return tuple(
            tuple(ask._replace(input_tokens=math.ceil(self._share * ask.input_tokens)) for ask in step)
            for step in shape
        )


def _sample(texts: Sequence[str], total: int) -> list[str]:
    """Return pieces that are spread evenly over all texts."""
    every = max(SAMPLE_CHARACTERS, total // SAMPLES)
    pieces, due = [], 0
    for text in texts:
        while due < len(text):
            pieces.append(text[due : due + SAMPLE_CHARACTERS])
            due += every
        due -= len(text)
    return pieces


def _three_digits(number: int) -> int:
    return int(float(f"{number:.3g}"))
