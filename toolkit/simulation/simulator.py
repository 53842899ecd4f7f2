"""``Simulator``: one run that does not take place."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Generator, Iterable, Iterator
from dataclasses import astuple, replace
from typing import Any, cast

from toolkit.calls import Attempt, Calls, Pause
from toolkit.config import Config
from toolkit.errors import ToolkitError
from toolkit.harmless import whole_characters
from toolkit.latency import LatencyModel
from toolkit.limits import Demand, Limiter, MemoryState, StopEvent
from toolkit.mapreduce import follow, map_reduce
from toolkit.protocols import Outcome, Provider, SummarizeParams
from toolkit.providers.base import SummarizationProvider, within_limits
from toolkit.providers.hosted import HostedProvider
from toolkit.records import Episode, EpisodeRecord, Reply, Request, Status, StopReason, Summary, Usage
from toolkit.retry import RetryPolicy
from toolkit.runs import Run
from toolkit.simulation.account import Account
from toolkit.simulation.agenda import EPOCH, Agenda, VirtualClock
from toolkit.simulation.batches import Joining, Padded, Prompted, Served
from toolkit.simulation.faults import AT_ONCE, CROWDED, Faults, SimulatedFault, chances
from toolkit.simulation.processes import Answer, Process, Steps, World, lanes
from toolkit.simulation.stand_in import MadeUpTexts, Rehearsed

_STOPPED = "the run was stopped"


class Simulator:
    """Plays one run on a clock of its own; see `simulate`.

    Parameters
    ----------
    provider : SummarizationProvider
        Is not asked.
    config : Config
    latency : LatencyModel
    faults : Faults
    seed : int
    learns : bool
        Whether the provider may learn from made-up counts.
    began_at : int, optional
        Epoch seconds of the beginning; by default a moment of a minute that the seed chooses, because limits
        of calendar minutes depend on it.
    """

    def __init__(
        self,
        provider: SummarizationProvider,
        config: Config,
        latency: LatencyModel,
        faults: Faults,
        seed: int,
        *,
        learns: bool = True,
        began_at: int | None = None,
    ) -> None:
        self._config = config
        self._latency = latency
        self._faults = faults
        self._seed = seed
        luck = random.Random(seed)
        self._clock = VirtualClock(EPOCH + luck.randrange(60) if began_at is None else began_at)
        self._agenda = Agenda(self._clock)
        self._stop = StopEvent()
        self._fatal: ToolkitError | None = None
        key, limits = provider.quota_key(), provider.limits()
        self._limiter: Limiter | None = None
        self._settings = provider.settings()
        if key is not None and limits is not None:
            self._limiter = Limiter(key, limits, MemoryState(), self._clock)
            self._settings = within_limits(self._settings, self._limiter)
        shows = isinstance(provider, HostedProvider) and limits is not None
        self._account = Account(limits) if shows and limits else None
        self._provider = provider
        self._rehearsed = Rehearsed(provider, latency.input_scale, learns)
        self._texts = MadeUpTexts(self._rehearsed.count_tokens, self._rehearsed.input_scale)
        self._policy = RetryPolicy(max_attempts=config.max_attempts, total_s=config.retry_total_s)
        self._rng = luck  # of the jitter between tries
        self._model: Served | None = None
        if provider.runs_here:
            kind = Joining if provider.joins else Padded
            self._model = kind(self._agenda, latency, config.engine_batch_tokens)
        self._world = World(self._agenda, self._stop, self._limiter, self._attempt, latency.overhead_s)
        self._at_server = 0  # attempts that are being served
        self._source: Iterator[tuple[int, Episode | int]] = iter(())
        self._records: dict[int, EpisodeRecord] = {}
        self._ended_at = 0.0

    def run(self, episodes: Iterable[Episode | int]) -> Run:
        """Play it to the end."""
        known = list(episodes)
        self._source = iter(enumerate(known))
        began_at = self._limiter.now() if self._limiter else self._clock.epoch()
        for worker in range(min(self._config.summary_batch_size, len(known))):
            process = Process(self._world, self._worker(f"episode_{worker}"), lambda _: None)
            self._agenda.after(self._latency.run_s, process.resume)
        self._agenda.run()
        for number, episode in self._source:
            self._cancel(number, episode)
        limiter = self._limiter
        return Run(
            id=self._id(known),
            config=self._config,
            provider=self._provider.name,
            model=self._provider.model,
            records=[self._records[number] for number in range(len(known))],
            makespan_s=self._ended_at,
            stopped_because=str(self._fatal) if self._fatal else None,
            limit_events=[] if limiter is None else limiter.events(since=began_at),
            began_at=began_at,
            quota_shares={} if limiter is None else limiter.quota_shares(since=began_at),
            simulated=True,
        )

    def _id(self, episodes: Iterable[Episode | int]) -> str:
        """Return a name that two runs share only if they are the same."""
        told = hashlib.blake2b(digest_size=6)
        luck = self._seed, self._clock.when(0)
        for part in (self._config.shown(), astuple(self._latency), astuple(self._faults), luck):
            told.update(f"{part}\n".encode())
        for episode in episodes:
            size = f"{episode.id} {episode.transcript}" if isinstance(episode, Episode) else f"{episode}"
            told.update(f"{len(size)} {size}\n".encode(errors="surrogatepass"))
        return f"sim-{told.hexdigest()}"

    # Episodes

    def _worker(self, name: str) -> Steps:
        """Take one episode after the other."""
        for number, episode in self._source:
            if self._stop.is_set():
                self._cancel(number, episode)
                return
            yield from self._episode(number, episode, name)
            if self._latency.episode_gap_s:
                yield Pause(self._latency.episode_gap_s)

    def _episode(self, number: int, episode: Episode | int, worker: str) -> Steps:
        """Summarize one episode; whatever goes wrong with it stays its own."""
        began, started_at = self._clock.now(), self._clock.epoch()
        episode_id, title, text, words = self._read(number, episode)
        try:
            summary = yield from self._summarize(number, episode_id, text, worker)
        except Exception as error:
            summary = Summary("", Status.FAILED, f"{type(error).__name__}: {error}", chunks=0)
        if summary.status is Status.CANCELLED:
            summary = replace(summary, error=self._why_stopped())
        self._ended_at = self._clock.now()
        # Nobody is to take what was made up for a summary.
        summary = replace(summary, text="")
        self._records[number] = EpisodeRecord(
            episode_id, title, words, started_at, self._clock.now() - began, summary
        )

    def _read(self, number: int, episode: Episode | int) -> tuple[str, str, str, int]:
        """Return id, title, transcript and words."""
        if isinstance(episode, Episode):
            return episode.id, episode.title or episode.id, episode.transcript, episode.words
        text = self._texts.transcript(episode)
        return f"e{number}", f"e{number}", text, text.count(" ") + text.count("\n") + 1

    def _cancel(self, number: int, episode: Episode | int) -> None:
        episode_id, title, _, words = self._read(number, episode)
        summary = Summary("", Status.CANCELLED, self._why_stopped(), chunks=0)
        self._records[number] = EpisodeRecord(episode_id, title, words, self._clock.epoch(), 0.0, summary)

    def _summarize(
        self, number: int, episode_id: str, text: str, worker: str
    ) -> Generator[Any, Any, Summary]:
        calls = Calls(
            cast(Provider, self._rehearsed),
            SummarizeParams(
                episode_id=episode_id,
                order=number,
                stop=self._stop,
                on_drain=self._drain,
                worker=worker,
                clock=self._clock,
            ),
            self._policy,
            rng=self._rng,
            limiter=self._limiter,
        )
        text = whole_characters(text)
        steps = map_reduce(text, episode_id, self._settings, self._rehearsed.count_tokens, f"{number:012x}")
        rounds = follow(steps, lambda requests: None)
        outcomes: list[Outcome] | None = None
        while True:
            try:
                requests = next(rounds) if outcomes is None else rounds.send(outcomes)
            except StopIteration as end:
                summary: Summary = end.value
                return summary
            if len(requests) == 1:
                outcomes = [(yield from calls.steps(requests[0]))]
                continue
            found: dict[int, Outcome | Exception] = {}
            jobs = (self._chunk(calls, request, place, found) for place, request in enumerate(requests))
            width = min(self._config.summary_chunk_parallelism, len(requests))
            yield lanes(jobs, width)
            outcomes = [_known(found[place]) for place in range(len(requests))]

    def _chunk(
        self, calls: Calls, request: Request, place: int, found: dict[int, Outcome | Exception]
    ) -> Steps:
        """Make one of several calls, and leave its place free for as long as it takes to take the next."""
        try:
            found[place] = yield from calls.steps(request)
        except Exception as error:  # as wrong as it is, it is the episode's
            found[place] = error
        if self._latency.gap_s:
            yield Pause(self._latency.gap_s)

    # Attempts

    def _attempt(self, step: Attempt, answer: Answer) -> None:
        """Begin an attempt: what becomes of it, and when, is luck."""
        request = step.request
        fault_chance, service_chance, length_chance = chances(self._seed, f"{request.call_id} {step.number}")
        given = self._rehearsed.server_count(request)
        headers: dict[str, str] = {}
        if self._account is not None and self._limiter is not None:
            demand = Demand(given, request.max_output_tokens, self._rehearsed.body_bytes(request))
            headers = self._account.count(self._limiter.now(), demand)
        written, cut = self._latency.reply_tokens(request.stage, request.max_output_tokens, length_chance)
        reply = Reply(
            self._texts.reply(written, cut),
            Usage(given, written, counter=self._rehearsed.counter),
            StopReason.LENGTH if cut else StopReason.STOP,
            headers=headers,
        )

        def done(reply: Reply) -> None:
            self._rehearsed.answered(request, reply)
            answer(reply)

        fault = self._faults.draw(fault_chance)
        if self._model is not None:

            def served(started: float, ended: float, width: int) -> None:
                # No first token: the latency model knows the whole service and not its parts.
                known = replace(reply, service_started=started, service_ended=ended, batch_size=width)
                self._agenda.after(self._latency.overhead_s, lambda: done(known))

            self._model.submit(
                Prompted(
                    request.episode_id, given, request.max_output_tokens, written, service_chance, served
                )
            )
            return
        seconds = self._latency.service_s(given, written, 1, service_chance)
        if fault is None and self._account is not None and seconds > self._config.request_timeout_s:
            fault = "timeout"
        takes_s = self._config.request_timeout_s if fault == "timeout" else seconds
        self._send(fault, takes_s, fault_chance, lambda: done(reply), answer)

    def _send(
        self, fault: str | None, takes_s: float, chance: float, done: Callable[[], None], answer: Answer
    ) -> None:
        """Have a request served for so long, or refused; ``chance`` says when it arrives."""
        most, refused_s = self._latency.max_concurrent, self._faults.refused_after_s
        begun = self._clock.now()

        def fail(kind: str) -> None:
            answer(SimulatedFault(self._faults.decision(kind)))

        def arrive() -> None:
            crowded = most is not None and self._at_server >= most
            refusal = fault if fault in AT_ONCE else CROWDED if crowded else None
            if refusal is not None:
                self._agenda.at(begun + refused_s, lambda: fail(refusal))
                return
            self._at_server += 1
            self._agenda.at(begun + takes_s, leave)

        def leave() -> None:
            self._at_server -= 1
            if fault is None:
                done()
            else:
                fail(fault)

        if most is None:
            arrive()
        else:  # of requests that are sent together, those are served that arrive first, in whatever order
            self._agenda.after(chance * min(refused_s, takes_s) / 2, arrive)

    # Stopping

    def _drain(self, error: ToolkitError) -> None:
        """Stop for an error that every further call would meet; the first one is the reason."""
        self._fatal = self._fatal or error
        self._stop.set()

    def _why_stopped(self) -> str:
        return f"{_STOPPED}: {self._fatal}" if self._fatal else _STOPPED


def _known(outcome: Outcome | Exception) -> Outcome:
    """Return what became of a call; raise what broke it."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
