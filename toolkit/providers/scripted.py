"""A provider without a model: replies, latencies and faults come from a script.

For trying the toolkit offline, for notebooks and for tests. It is deterministic: what a request gets
depends on the request alone, never on the order in which threads arrive.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from toolkit.clock import Clock, SystemClock
from toolkit.config import Config
from toolkit.mapreduce import Prompt
from toolkit.providers.base import SummarizationProvider
from toolkit.records import Reply, Request, StopReason, Usage

Latency = float | Callable[[Request], float]
Faults = Mapping[int, Exception] | Callable[[Request, int], Exception | None]


class ScriptedSummarizationProvider(SummarizationProvider):
    """Answers by script.

    Parameters
    ----------
    config : Config, optional
    replies : callable, optional
        From a request to the text of its reply; by default the first sentence of what is asked about.
        A reply longer than the request's cap is cut there, as a model's would be.
    latency_s : float or callable
        Seconds that an attempt takes on ``clock``, or a function of the request.
    faults : mapping or callable, optional
        Either exceptions by chunk index, each raised at that chunk's first attempt only, or a function
        of the request and the attempt (from 1) that returns an exception to raise, or None.
    context_tokens : int
    clock : Clock, optional
        What latencies pass on; a ``ManualClock`` passes them without waiting.

    Examples
    --------
    >>> from toolkit import TransientError
    >>> provider = ScriptedSummarizationProvider(faults={0: TransientError("the line is dead")})
    """

    name: ClassVar[str] = "scripted"
    default_model: ClassVar[str | None] = "first-sentence"
    default_system: ClassVar[str] = ""
    default_prompts: ClassVar[tuple[Prompt, Prompt, Prompt]] = (
        Prompt("{text}", 128),
        Prompt("{text}", 64),
        Prompt("{text}", 128),
    )
    default_chunk_tokens: ClassVar[int | None] = 512

    def __init__(
        self,
        config: Config | None = None,
        *,
        replies: Callable[[Request], str] | None = None,
        latency_s: Latency = 0.0,
        faults: Faults | None = None,
        context_tokens: int = 8192,
        clock: Clock | None = None,
    ) -> None:
        super().__init__(config)
        self._replies = replies or _first_sentence
        self._latency_s = latency_s
        self._faults = faults or {}
        self._context_tokens = context_tokens
        self._clock = clock or SystemClock()
        self._attempts: dict[str, int] = {}
        self._attempts_lock = threading.Lock()

    @property
    def context_tokens(self) -> int:
        """What the script was told."""
        return self._context_tokens

    def count_tokens(self, text: str) -> int:
        """Count words: a token is a run of non-space characters."""
        return len(text.split())

    def identity(self) -> Mapping[str, Any] | None:
        """Return name and model; None with replies of one's own, which may be others each time."""
        if self._replies is not _first_sentence or type(self).generate is not _SCRIPTED:
            return None
        return {"provider": self.name, "model": self.model}

    def generate(self, request: Request) -> Reply:
        """Wait as long as the script says, then fail or answer as it says."""
        latency = self._latency_s(request) if callable(self._latency_s) else self._latency_s
        self._clock.sleep(latency)
        if fault := self._fault(request):
            raise fault
        reply = self._replies(request)
        words = list(re.finditer(r"\S+", reply))
        cut = len(words) > request.max_output_tokens
        text = reply[: words[request.max_output_tokens - 1].end()] if cut else reply
        return Reply(
            text=text,
            usage=Usage(
                input_tokens=self.count_tokens(request.system) + self.count_tokens(request.prompt),
                output_tokens=self.count_tokens(text),
                counter="words",
            ),
            stop_reason=StopReason.LENGTH if cut else StopReason.STOP if text.strip() else StopReason.EMPTY,
        )

    def _fault(self, request: Request) -> Exception | None:
        if not self._faults:
            return None
        with self._attempts_lock:
            attempt = self._attempts[request.call_id] = self._attempts.get(request.call_id, 0) + 1
        if callable(self._faults):
            return self._faults(request, attempt)
        if attempt > 1 or request.chunk_index is None:
            return None
        return self._faults.get(request.chunk_index)


def _first_sentence(request: Request) -> str:
    """Return the first sentence of each line that is asked about, as far as the cap goes."""
    sentences = [line.removeprefix("- ").split(". ")[0].rstrip(".") + "." for line in _lines(request.prompt)]
    count = len(sentences) if request.stage == "reduce" else 1
    return " ".join(" ".join(sentences[:count]).split(" ")[: request.max_output_tokens])


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()] or [""]


_SCRIPTED = ScriptedSummarizationProvider.generate
