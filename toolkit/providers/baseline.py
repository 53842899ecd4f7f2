"""What the baselines share: summaries that are parts of the text, taken without any model.

A baseline is the yardstick beside a model. It takes the whole text at once, so that its summary does not
depend on how a model's chunks are cut; ``chunk_tokens`` that a config states is kept all the same.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from toolkit.chunking import CountTokens
from toolkit.mapreduce import Prompt, SummarySettings
from toolkit.providers.base import SummarizationProvider
from toolkit.records import Reply, Request, Stage, StopReason, Usage
from toolkit.tokens import estimate_tokens
from toolkit.transcripts import plain
from toolkit.transcripts.turns import to_turns
from toolkit.words import content, sentences, stems

VERSION = 1
"""Part of the key of kept calls; raised when a baseline answers otherwise than before."""

LONGEST_SENTENCE_WORDS = 60
"""Some recognizers write no full stops: what goes on for longer is cut into parts of this many words."""


class BaselineProvider(SummarizationProvider):
    """Summarizes with sentences of the transcript; a new baseline states ``name`` and ``choose``.

    Labels, times and tags of the transcript are left out, as ``load_episodes`` leaves them out, and so are
    sentences of nothing but fillers ("Yeah. Okay."). Tokens are estimated from bytes, so that the cap on the
    summary means about as much text as a model's. Nothing is limited and nothing costs anything.
    """

    default_system: ClassVar[str] = ""
    default_prompts: ClassVar[tuple[Prompt, Prompt, Prompt]] = (
        Prompt("{text}", 160),
        Prompt("{text}", 160),
        Prompt("{text}", 160),
    )
    # A first sentence longer than the cap is cut, and there is no more to be had.
    cut_is_partial: ClassVar[bool] = False

    @abstractmethod
    def choose(self, said: Sequence[str], cap: int) -> list[str]:
        """Return the sentences to take, in their order; what comes to more than ``cap`` tokens is cut."""

    @property
    def context_tokens(self) -> int:
        """No text is too long."""
        return 10**9

    def identity(self) -> Mapping[str, Any]:
        """Return name, method and its version."""
        return {"provider": self.name, "model": self.model, "version": VERSION}

    def price(self, reply: Reply) -> float:
        """Return nothing: it costs nothing."""
        return 0.0

    def price_bound(self, input_tokens: int, output_tokens: int) -> float:
        """Return nothing: it costs nothing."""
        return 0.0

    @cached_property
    def _asked(self) -> SummarySettings:
        return self.settings()

    def generate(self, request: Request) -> Reply:
        """Answer with sentences of the text that stands in the prompt."""
        said = sentences_of(self._text(request), notes=request.stage is Stage.REDUCE)
        chosen = " ".join(self.choose(said, request.max_output_tokens))
        text = cut_to(chosen, request.max_output_tokens, self.count_tokens)
        ended = StopReason.LENGTH if text != chosen else StopReason.STOP if text else StopReason.EMPTY
        usage = Usage(self.input_estimate(request), self.count_tokens(text), counter="estimate:bytes")
        return Reply(text, usage, ended)

    def _text(self, request: Request) -> str:
        """Return the text without the instructions around it, which are a model's and not the speakers'."""
        prompt: Prompt = getattr(self._asked, request.stage)
        if (count := prompt.template.count("{text}")) == 0:
            return request.prompt
        start = prompt.template.index("{text}")
        size = (len(request.prompt) - len(prompt.fill(""))) // count
        text = request.prompt[start : start + max(0, size)]
        return text if prompt.fill(text) == request.prompt else request.prompt


def sentences_of(text: str, *, notes: bool = False) -> list[str]:
    """Return the sentences of a transcript (or of a list of notes) that say something.

    Where none does, all of them.
    """
    if notes:
        turns = [line.removeprefix("- ") for line in text.splitlines()]
    else:
        _, segments = plain.read(text, Path())
        turns = [turn.text for turn in to_turns(segments)] or text.splitlines()
    found = [part for turn in turns for sentence in sentences(turn) for part in _parts(sentence)]
    return [sentence for sentence in found if content(stems(sentence))] or found


def _parts(sentence: str) -> list[str]:
    said = sentence.split()
    if len(said) <= LONGEST_SENTENCE_WORDS:
        return [sentence]
    edges = range(0, len(said), LONGEST_SENTENCE_WORDS)
    return [" ".join(said[edge : edge + LONGEST_SENTENCE_WORDS]) for edge in edges]


def fitting(said: Sequence[str], order: Sequence[int], cap: int) -> list[int]:
    """Return which sentences, taken in ``order`` as far as they fit, come to no more than ``cap`` tokens.

    Sentences that do not fit are passed over for later ones that do.
    """
    taken: list[int] = []
    left = cap
    for index in order:
        # With the blank before it: so the sum is never less than the count of the whole.
        tokens = estimate_tokens(" " + said[index])
        if tokens <= left:
            taken.append(index)
            left -= tokens
    return taken


def cut_to(text: str, cap: int, count_tokens: CountTokens) -> str:
    """Return as many whole words of a text as ``cap`` tokens hold; letters if the first word is too long."""
    if count_tokens(text) <= cap:
        return text
    low, high = 0, len(text)
    while low < high:  # The longest beginning that fits.
        middle = (low + high + 1) // 2
        low, high = (middle, high) if count_tokens(text[:middle]) <= cap else (low, middle - 1)
    beginning = text[:low]
    if not text[low].isspace():  # It ends within a word.
        beginning = beginning.rsplit(maxsplit=1)[0] if len(beginning.split()) > 1 else beginning
    return beginning.rstrip()
