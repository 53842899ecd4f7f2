"""The things that pass between the layers: plain, frozen, without behaviour but to show themselves."""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from toolkit.parts import Absent, Alert, Column, Fold, Part, Table, View, excerpt, left_out, notebook_html
from toolkit.wording import count, counted, duration, in_seconds, money, plain, shown

_MOST_SPEAKERS = 8
_MOST_CALLS = 30
"""What a notebook shows of an episode and of a summary."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What one speaker says without a break.

    Attributes
    ----------
    text : str
        The words spoken; one line, without label, markup or time.
    speaker : str or None
        Who speaks, where the file says so.
    start_s, end_s : float or None
        Seconds from the start of the recording, where the file has them.
    """

    text: str
    speaker: str | None = None
    start_s: float | None = None
    end_s: float | None = None


@dataclass(frozen=True, slots=True)
class Episode:
    """One transcript.

    Attributes
    ----------
    id : str
        Unique within a run; the file's name without its suffix.
    turns : tuple of Turn
        The words in their order.
    title : str
        From the file where it has one, else made from the id.
    reference : str or None
        A summary written by a person, to compare with.
    path : Path or None
        Where it was read from.
    """

    id: str
    turns: tuple[Turn, ...]
    title: str = ""
    reference: str | None = None
    path: Path | None = None

    @classmethod
    def from_text(cls, id: str, text: str, *, title: str = "", reference: str | None = None) -> Episode:
        """Make an episode of a text that is at hand; a line is a turn without a speaker."""
        lines = (" ".join(line.split()) for line in text.splitlines())
        return cls(
            id=id,
            turns=tuple(Turn(line) for line in lines if line),
            title=title or id,
            reference=reference,
        )

    @property
    def text(self) -> str:
        """The words spoken and nothing else, a line for each turn."""
        return "\n".join(turn.text for turn in self.turns)

    @property
    def transcript(self) -> str:
        """What a model is given: a line for each turn, ``Speaker: words`` where the speaker is known."""
        return "\n".join(f"{turn.speaker}: {turn.text}" if turn.speaker else turn.text for turn in self.turns)

    @property
    def words(self) -> int:
        """Number of words spoken (runs of non-space characters)."""
        return sum(len(turn.text.split()) for turn in self.turns)

    @property
    def speakers(self) -> tuple[str, ...]:
        """The speakers in the order in which they are first heard."""
        return tuple(dict.fromkeys(turn.speaker for turn in self.turns if turn.speaker))

    @property
    def length_s(self) -> float | None:
        """Seconds from the start of the recording to the end of the last turn; None without times."""
        return max((turn.end_s or turn.start_s or 0.0 for turn in self.turns), default=0.0) or None

    def __repr__(self) -> str:
        title = "" if self.title in ("", self.id) else f", {shown(self.title, 60)}"
        said = f"{counted(self.words, 'word')} in {counted(len(self.turns), 'turn')}"
        return f"<Episode {shown(self.id, 60)}{title}: {said}>"

    def _repr_html_(self) -> str:
        some = [shown(name, 30) for name in self.speakers[:_MOST_SPEAKERS]]
        more = len(self.speakers) - len(some)
        facts = {
            "Id": shown(self.id, 60) if self.title not in ("", self.id) else "",
            "Words": f"{self.words:,}",
            "Turns": f"{len(self.turns):,}",
            "Length": duration(self.length_s) if self.length_s else "",
            "Speakers": ", ".join(some) + (f" and {more} more" if more else ""),
            "File": plain(self.path or "", 200),
        }
        parts = [Fold("Transcript", excerpt(self.transcript, ".transcript"))]
        if self.reference:
            parts.append(Fold("Reference, written by a person", excerpt(self.reference, ".reference")))
        known = [(name, fact) for name, fact in facts.items() if fact]
        return notebook_html(View(shown(self.title or self.id, 100), known, parts=parts))


class Stage(StrEnum):
    """What a request does for its episode."""

    DIRECT = "direct"
    """Summarizes the whole text."""
    MAP = "map"
    """Summarizes one chunk."""
    REDUCE = "reduce"
    """Makes one summary of several."""


class StopReason(StrEnum):
    """Why a model stopped writing."""

    STOP = "stop"
    """It was done."""
    LENGTH = "length"
    """It reached the cap on output tokens."""
    REASONING = "reasoning"
    """It reached the cap while it was still thinking, before its first word."""
    CONTENT_FILTER = "content_filter"
    """The server held the reply back."""
    REFUSAL = "refusal"
    """The model declined."""
    EMPTY = "empty"
    """It wrote nothing."""


class Status(StrEnum):
    """How an episode or a call ended."""

    OK = "ok"
    PARTIAL = "partial"
    """There is a summary, and something is missing from it; ``error`` says what."""
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How the next token is chosen.

    ``temperature`` 0 takes the likeliest token each time. ``repetition_penalty`` (1 = off) divides the
    score of tokens that the reply already holds, and ``no_repeat_ngram`` (0 = off) forbids to write any
    run of that many tokens twice; both look at the reply, not at the prompt.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    repetition_penalty: float = 1.0
    no_repeat_ngram: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of a model once.

    Attributes
    ----------
    call_id : str
        Unique within the run.
    episode_id : str
        The episode that it is for.
    stage : Stage
    prompt : str
        The user's message.
    system : str
        The system message; empty for none.
    prefill : str
        How the reply begins: local chat models are made to go on from here; it is part of the reply.
    stop : tuple of str
        The reply ends before the first of these.
    max_output_tokens : int
        Cap on the reply.
    input_tokens : int or None
        What the prompt is counted or estimated at, in tokens.
    chunk_index : int or None
        Place of the chunk in the episode from 0; None for ``direct`` and ``reduce``.
    sampling : Sampling
    cancelled : threading.Event or None
        Once it is set the reply is not wanted any more; a local model then stops at the next token.
    """

    call_id: str
    episode_id: str
    stage: Stage
    prompt: str
    system: str = ""
    prefill: str = ""
    stop: tuple[str, ...] = ()
    max_output_tokens: int = 256
    input_tokens: int | None = None
    chunk_index: int | None = None
    sampling: Sampling = Sampling()
    cancelled: threading.Event | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one call, as the one who counted (``counter``) says.

    Attributes
    ----------
    input_tokens : int
        The whole prompt; ``cached_tokens`` and ``cache_write_tokens`` are parts of it.
    output_tokens : int
        All that the model wrote; ``reasoning_tokens`` are a part of it.
    cached_tokens : int
        Read from the server's prompt cache.
    counter : str
        ``server`` for a hosted server's own figures, ``tokenizer`` for a local model's,
        ``estimate:`` and the counter's name where the server gave none.
    reasoning_tokens : int
        Thought and not shown.
    cache_write_tokens : int
        Written to the server's prompt cache, which some servers charge more for.
    """

    input_tokens: int
    output_tokens: int
    cached_tokens: int = 0
    counter: str = ""
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model answered.

    ``service_started`` and ``service_ended`` are readings of the run's clock in seconds, for providers
    that queue requests before the model works on them; without them the whole attempt counts as service.
    ``first_token`` is the reading when the prompt was read and the first token chosen, where that is told.
    ``batch_size`` is the number of requests that the model worked on together. ``headers`` are those of a
    server's answer that tell of limits, waits and the request's id, with lower-case names; never a secret.
    """

    text: str
    usage: Usage
    stop_reason: StopReason = StopReason.STOP
    service_started: float | None = None
    first_token: float | None = None
    service_ended: float | None = None
    batch_size: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One try of a call; times in seconds.

    ``paid_unknown``: it may have been answered and charged although no answer came.
    """

    call_id: str
    attempt: int
    service_s: float
    error_kind: str | None = None
    limit_hit: str | None = None
    paid_unknown: bool = False
    status_code: int | None = None
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class CallRecord:
    """A request's whole life.

    The phases (``queue_s``, the four waits for the limiter, ``retry_wait_s``, ``failed_attempts_s``,
    ``service_s``, ``overhead_s``) are differences of one chain of clock readings; their sum is ``total_s``.
    The waits for the limiter are None where there is none. ``started_at`` is epoch seconds.

    ``prompt_s`` and ``decode_s`` are the two parts of ``service_s``, before and after the first token was
    chosen; None for hosted models, and where the engine does not tell.

    A ``reused`` call was answered from the store: its tokens are those of the answer, its cost is nothing,
    and ``saved_usd`` is what the answer cost when it was made. ``key`` is a digest of all that its answer
    depends on; empty where nothing is kept.
    """

    episode_id: str
    call_id: str
    stage: Stage
    chunk_index: int | None
    provider: str
    model: str
    status: Status
    stop_reason: StopReason | None
    started_at: float
    queue_s: float = 0.0
    wait_requests_s: float | None = None
    wait_tokens_s: float | None = None
    wait_slots_s: float | None = None
    wait_cooldown_s: float | None = None
    retry_wait_s: float = 0.0
    failed_attempts_s: float = 0.0
    service_s: float = 0.0
    prompt_s: float | None = None
    decode_s: float | None = None
    overhead_s: float = 0.0
    total_s: float = 0.0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cached_tokens: int | None = None
    token_counter: str | None = None
    batch_size: int | None = None
    cost_usd: float | None = None
    worker: str = ""
    error: str | None = None
    reused: bool = False
    saved_usd: float | None = None
    key: str = ""
    attempts: tuple[AttemptRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class Summary:
    """The summary of one text and how it came about.

    Attributes
    ----------
    text : str
        Empty if ``status`` is ``failed`` or ``cancelled``.
    status : Status
    error : str or None
        What is missing, and from which chunk.
    chunks : int
        Number of chunks that the text was cut into; 1 if it was not cut.
    calls : tuple of CallRecord
        Step by step, in the order of the chunks.
    key : str
        Digest of all that it depends on; empty where nothing is kept.
    """

    text: str
    status: Status = Status.OK
    error: str | None = None
    chunks: int = 1
    calls: tuple[CallRecord, ...] = ()
    key: str = field(default="", repr=False)

    def __repr__(self) -> str:
        text = f" {shown(self.text, 80)!r}" if self.text else ""
        error = f", {shown(self.error, 80)}" if self.error else ""
        counts = f"{counted(self.chunks, 'chunk')}, {counted(len(self.calls), 'call')}"
        return f"<Summary {self.status}:{text} of {counts}{error}>"

    def _repr_html_(self) -> str:
        made = [call for call in self.calls if not call.reused]
        tokens = [sum(getattr(call, f"{kind}_tokens") or 0 for call in made) for kind in ("input", "output")]
        costs = [call.cost_usd for call in made if call.cost_usd is not None]
        facts = [
            ("Status", str(self.status)),
            ("Words", f"{len(self.text.split()):,}"),
            ("Chunks", f"{self.chunks:,}"),
            ("Calls", f"{len(made):,} made, {len(self.calls) - len(made):,} reused"),
            *([("Tokens", f"{tokens[0]:,} input, {tokens[1]:,} output")] if made else []),
            *([("Cost", money(sum(costs)))] if costs else []),
        ]
        alerts = [Alert("Missing", plain(self.error), "bad")] if self.error else []
        parts: list[Part] = excerpt(self.text, ".text") if self.text else [Absent("Text", "There is none.")]
        if self.calls:
            parts.append(Fold(counted(len(self.calls), "call"), [_calls_table(self.calls)]))
        return notebook_html(View("Summary", facts, alerts, parts=parts))


def _calls_table(calls: tuple[CallRecord, ...]) -> Table:
    has_errors = any(call.error for call in calls)
    columns = [
        Column("stage"),
        Column("chunk", "", True),
        Column("status"),
        Column("input", "tokens", True),
        Column("output", "tokens", True),
        Column("service", "s", True),
        Column("total", "s", True),
        *([Column("error")] if has_errors else []),
    ]
    rows = [
        [
            f"{call.stage}, reused" if call.reused else str(call.stage),
            count(call.chunk_index),
            str(call.status),
            count(call.input_tokens),
            count(call.output_tokens),
            in_seconds(call.service_s),
            in_seconds(call.total_s),
            *([plain(call.error or "", 200)] if has_errors else []),
        ]
        for call in calls[:_MOST_CALLS]
    ]
    return Table("Calls, step by step", columns, rows, left_out(len(calls), _MOST_CALLS, ".calls"))


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """An episode's way through a run; ``started_at`` is epoch seconds, ``total_s`` wall-clock seconds.

    ``worker`` is the process that worked on it, where that is another than the run's own.
    """

    episode_id: str
    title: str
    words: int
    started_at: float
    total_s: float
    summary: Summary
    worker: str = ""


@dataclass(frozen=True, slots=True)
class WorkerRecord:
    """A process that works on episodes of a run whose driver is another.

    Attributes
    ----------
    worker : str
        ``host:pid``, as in the records of episodes and calls.
    host : str
    pid : int
    cores : int
        That it may use.
    memory_mb : float
        Of its machine, 10^6 bytes.
    holder : str
        Its name as the holder of leases and reservations.
    began_at, seen_at : float
        Epoch seconds, by its own clock: when it took its first episode, and its last sign of life.
    episodes : int
        Those that it has ended.
    peak_rss_mb : float or None
        Most memory that it has taken since then; None where the system does not tell.
    """

    worker: str
    host: str
    pid: int
    cores: int
    memory_mb: float
    holder: str
    began_at: float
    seen_at: float
    episodes: int = 0
    peak_rss_mb: float | None = None


NANO = 10**9


class Spending(NamedTuple):
    """What a call takes, at most or in the end."""

    nano_usd: int = 0
    tokens: int = 0
    calls: int = 0

    @classmethod
    def of(cls, usd: float | None, tokens: int, calls: int = 1) -> Spending:
        """Round money up to whole nano-dollars; a price that is not known counts as none."""
        return cls(math.ceil((usd or 0.0) * NANO), tokens, calls)
