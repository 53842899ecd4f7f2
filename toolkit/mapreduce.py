"""Map-reduce as a generator: no I/O, no threads, no clock.

``map_reduce`` yields lists of requests that may run at once, is sent their replies in the same order,
and returns a ``Summary``. Real runs drive it with threads (``drive``), a simulator with an event heap.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from toolkit.chunking import CountTokens, chunk_text, whole_sentences
from toolkit.errors import ContextTooLong, ProviderError
from toolkit.protocols import Outcome
from toolkit.records import CallRecord, Reply, Request, Sampling, Stage, Status, StopReason, Summary

Answer = Reply | ProviderError
"""What a request is answered with: an error stands in the place of the reply that is missing."""

Cut = Callable[..., list[str]]
Steps = Generator[list[Request], Sequence[Answer], Summary]
Rounds = Generator[list[Request], Sequence[Outcome], Summary]


@dataclass(frozen=True, slots=True)
class Prompt:
    """How one stage asks.

    ``template`` holds ``{text}``; ``prefill`` begins the reply of local chat models; the reply ends
    before the first of ``stop``; ``max_output_tokens`` caps it.
    """

    template: str
    max_output_tokens: int
    prefill: str = ""
    stop: tuple[str, ...] = ()

    def fill(self, text: str) -> str:
        """Put the text in its place (a text with braces of its own stays as it is)."""
        return self.template.replace("{text}", text)


@dataclass(frozen=True, slots=True)
class SummarySettings:
    """All that map-reduce needs to know of config and provider.

    Attributes
    ----------
    direct, map, reduce : Prompt
    system : str
    context_tokens : int
        What prompt and reply may come to together.
    overhead_tokens : int
        Tokens that the provider's chat template adds to a prompt, at most.
    chunk_tokens : int or None
        Longest chunk; None: as long as the context allows.
    overlap_tokens : int
    sampling : Sampling
    bound : str
        What ``context_tokens`` is, for messages.
    cut_is_partial : bool
        Whether a summary that reached its cap counts as partial. True for hosted models; small local
        ones reach their cap as a matter of course, and there the last unfinished sentence is dropped.
    """

    direct: Prompt
    map: Prompt
    reduce: Prompt
    context_tokens: int
    system: str = ""
    overhead_tokens: int = 32
    chunk_tokens: int | None = None
    overlap_tokens: int = 0
    sampling: Sampling = Sampling()
    cut_is_partial: bool = True
    bound: str = "the model's context"

    def room(self, prompt: Prompt, count_tokens: CountTokens) -> int:
        """Return how many tokens of text fit into one request of a stage.

        Raises
        ------
        ContextTooLong
            If the instructions and the cap alone leave no room.
        """
        fixed = count_tokens(self.system) + count_tokens(prompt.fill("")) + count_tokens(prompt.prefill)
        room = self.context_tokens - fixed - self.overhead_tokens - prompt.max_output_tokens
        if room < 16:
            raise ContextTooLong(
                f"instructions ({fixed} tokens), chat template ({self.overhead_tokens}) and the cap on the "
                f"reply ({prompt.max_output_tokens}) leave no room for text in the {self.context_tokens} "
                f"tokens of {self.bound}; lower summary_max_tokens or shorten the prompts"
            )
        return room if self.chunk_tokens is None else min(room, self.chunk_tokens)

    def reduce_room(self, count_tokens: CountTokens) -> int:
        """Return how many tokens of chunk summaries fit into one request.

        Very short chunks do not bind it: at least four summaries go together where the context allows.
        """
        chunk_tokens = self.chunk_tokens and max(self.chunk_tokens, 4 * self.map.max_output_tokens)
        return replace(self, chunk_tokens=chunk_tokens).room(self.reduce, count_tokens)


def map_reduce(
    text: str,
    episode_id: str,
    settings: SummarySettings,
    count_tokens: CountTokens,
    prefix: str | None = None,
    cut: Cut = chunk_text,
) -> Steps:
    """Summarize a text: at once if it fits, else chunk by chunk and then the summaries.

    ``prefix`` begins the calls' ids; by default a random one. ``cut`` does what `chunk_text` does, for who
    cuts the same texts again and again.

    Yields
    ------
    list of Request
        Requests that do not depend on each other. Their answers are sent back in the same order.

    Returns
    -------
    Summary
        Without its calls, which the driver knows. ``partial`` if a chunk is missing or was cut short;
        ``failed`` if there is nothing to summarize or no reply at all.
    """
    ask = _Asker(episode_id, settings, count_tokens, prefix or uuid.uuid4().hex[:12])
    if not text.strip():
        return Summary("", Status.FAILED, "the text has no words", chunks=0)
    room = settings.room(settings.direct, count_tokens)
    # A text of more than 8 characters a token on average does not occur; the count is worth its time
    # only where the answer is open.
    if len(text) <= 8 * room and count_tokens(text) <= room:
        (answer,) = yield [ask.request(Stage.DIRECT, text)]
        return ask.finish(answer, Stage.DIRECT, chunks=1, problems=[])

    map_room = settings.room(settings.map, count_tokens)
    # Known before anything is asked: a reduce prompt without room must not cost a map's calls.
    reduce_room = settings.reduce_room(count_tokens)
    chunks = cut(
        text,
        count_tokens,
        chunk_tokens=map_room,
        overlap_tokens=min(settings.overlap_tokens, map_room // 2),
    )
    if len(chunks) == 1 and count_tokens(chunks[0]) <= room:
        # It was long in characters (blanks, long words) and not in tokens.
        (answer,) = yield [ask.request(Stage.DIRECT, chunks[0])]
        return ask.finish(answer, Stage.DIRECT, chunks=1, problems=[])
    answers = yield [ask.request(Stage.MAP, chunk, index) for index, chunk in enumerate(chunks)]
    problems = [
        f"chunk {index + 1} of {len(chunks)}: {problem}"
        for index, answer in enumerate(answers)
        if (problem := ask.problem(answer, stage=Stage.MAP))
    ]
    notes = [note for answer in answers if (note := _usable(answer))]
    if not notes:
        return Summary("", Status.FAILED, "; ".join(problems), chunks=len(chunks))

    while True:
        groups = _groups(notes, reduce_room, count_tokens)
        if len(groups) == 1:
            (answer,) = yield [ask.request(Stage.REDUCE, _list(notes))]
            return ask.finish(answer, Stage.REDUCE, chunks=len(chunks), problems=problems)
        asked = [index for index, group in enumerate(groups) if len(group) > 1]
        answers = yield [ask.request(Stage.REDUCE, _list(groups[index])) for index in asked]
        problems += [
            f"reduce group {index + 1} of {len(groups)}: {problem}"
            for index, answer in zip(asked, answers, strict=True)
            if (problem := ask.problem(answer, stage=Stage.REDUCE))
        ]
        reduced = dict(zip(asked, answers, strict=True))
        notes = []
        for index, group in enumerate(groups):
            if index not in reduced:  # A group of one needs no reply at this level.
                notes += group
            elif note := _usable(reduced[index]):
                notes.append(note)
        if not notes:
            return Summary("", Status.FAILED, "; ".join(problems), chunks=len(chunks))


class _Asker:
    """Makes the requests of one episode and judges their answers."""

    def __init__(
        self, episode_id: str, settings: SummarySettings, count_tokens: CountTokens, prefix: str
    ) -> None:
        self._episode_id = episode_id
        self._settings = settings
        self._count_tokens = count_tokens
        self._prefix = prefix
        self._numbers = itertools.count()

    def request(self, stage: Stage, text: str, chunk_index: int | None = None) -> Request:
        prompt: Prompt = getattr(self._settings, stage)
        filled = prompt.fill(text)
        return Request(
            call_id=f"{self._prefix}-{next(self._numbers)}",
            episode_id=self._episode_id,
            stage=stage,
            prompt=filled,
            system=self._settings.system,
            prefill=prompt.prefill,
            stop=prompt.stop,
            max_output_tokens=prompt.max_output_tokens,
            chunk_index=chunk_index,
            sampling=self._settings.sampling,
        )

    def problem(self, answer: Answer, *, stage: Stage) -> str | None:
        """Say what is wrong with an answer, or None."""
        if isinstance(answer, ProviderError):
            return f"{stage} failed: {answer}"
        cap = getattr(self._settings, stage).max_output_tokens
        if answer.stop_reason is StopReason.REASONING:
            return (
                f"{stage} reply: reasoning used up the cap of {cap} tokens; raise summary_max_tokens or "
                "lower reasoning_effort"
            )
        if not answer.text.strip():
            return f"{stage} brought an empty reply ({answer.stop_reason})"
        if answer.stop_reason is StopReason.LENGTH:
            if self._settings.cut_is_partial:
                return f"{stage} reply reached the cap of {cap} tokens; raise summary_max_tokens"
        elif answer.stop_reason is not StopReason.STOP:
            return f"{stage} reply ended by {answer.stop_reason}"
        return None

    def finish(self, answer: Answer, stage: Stage, *, chunks: int, problems: list[str]) -> Summary:
        problem = self.problem(answer, stage=stage)
        problems = [*problems, problem] if problem else problems
        error = "; ".join(problems) or None
        text = _usable(answer)
        if not text:
            return Summary("", Status.FAILED, error, chunks=chunks)
        return Summary(text, Status.PARTIAL if problems else Status.OK, error, chunks=chunks)


def _usable(answer: Answer) -> str:
    """Return what of an answer may stand in a summary: no refusal, and no half of a sentence."""
    if isinstance(answer, ProviderError) or answer.stop_reason is StopReason.REFUSAL:
        return ""
    text = answer.text.strip()
    return text if answer.stop_reason is StopReason.STOP else whole_sentences(text)


def _list(notes: Sequence[str]) -> str:
    return "\n".join(f"- {' '.join(note.split())}" for note in notes)


def _groups(notes: list[str], room: int, count_tokens: CountTokens) -> list[list[str]]:
    """Put the notes, in their order, into as few requests as hold them.

    Every group but the last holds at least two, so that each level has at most half as many notes, rounded
    up. Two notes that do not fit together (a server may ignore the cap on replies) are still asked for
    together: if that is too long, the error says so, while leaving one out would say nothing.
    """
    groups: list[list[str]] = []
    for note in notes:
        if groups and (len(groups[-1]) == 1 or count_tokens(_list([*groups[-1], note])) <= room):
            groups[-1].append(note)
        else:
            groups.append([note])
    return groups


def drive(
    steps: Steps,
    generate: Callable[[Request], Outcome],
    pool: Executor | None,
    on_plan: Callable[[int], None],
) -> Summary:
    """Run the steps to their end with real calls.

    Parameters
    ----------
    steps : generator
        From ``map_reduce``.
    generate : callable
        Makes one call; see ``Calls.generate``.
    pool : Executor or None
        Runs the calls of one step together; None makes them one after the other.
    on_plan : callable
        Told how many requests each step brings.

    Returns
    -------
    Summary
        With its calls; ``cancelled`` if one of them was.
    """
    rounds = follow(steps, on_plan)
    outcomes: list[Outcome] | None = None
    while True:
        try:
            requests = next(rounds) if outcomes is None else rounds.send(outcomes)
        except StopIteration as end:
            summary: Summary = end.value
            return summary
        together = pool is not None and len(requests) > 1
        outcomes = list(pool.map(generate, requests) if pool and together else map(generate, requests))


def follow(steps: Steps, on_plan: Callable[[int], None]) -> Rounds:
    """Turn the outcomes of calls into the answers that the steps want, until they end or one is cancelled.

    Yields
    ------
    list of Request
        Their outcomes are sent back in the same order.

    Returns
    -------
    Summary
        As `drive` does.
    """
    calls: list[CallRecord] = []
    answers: Sequence[Answer] | None = None
    while True:
        try:
            requests = next(steps) if answers is None else steps.send(answers)
        except StopIteration as end:
            summary: Summary = end.value
            return replace(summary, calls=tuple(calls))
        on_plan(len(requests))
        outcomes = yield requests
        calls += [outcome.record for outcome in outcomes]
        if any(outcome.record.status is Status.CANCELLED for outcome in outcomes):
            steps.close()
            chunks = max(1, sum(call.stage is Stage.MAP for call in calls))
            return Summary("", Status.CANCELLED, "the run was stopped", chunks, tuple(calls))
        answers = [_answer(outcome) for outcome in outcomes]


def _answer(outcome: Outcome) -> Answer:
    answer = outcome.reply or outcome.error
    if answer is None:
        raise ValueError(f"call {outcome.record.call_id} ended with neither reply nor error")
    return answer
