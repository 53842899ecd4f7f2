"""``Calls``: the one path that every call takes, whatever the provider.

An attempt is made, timed, and on an error the provider's decision is acted on; every call leaves one
``CallRecord``, also one that failed or was cancelled. Whatever takes time is a `Step` that the path asks
for: a run does it and blocks, a simulation moves its clock.
"""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import CancelledError
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from toolkit.clock import Clock
from toolkit.errors import BudgetExceeded, ProviderError, StoreError
from toolkit.harmless import whole_characters
from toolkit.limits import (
    Admission,
    Cause,
    Demand,
    Lease,
    LeaseError,
    Limiter,
    Refusal,
    WaitCancelled,
    read_headers,
)
from toolkit.protocols import Outcome, Provider, Retry, RetryDecision, SummarizeParams
from toolkit.records import (
    AttemptRecord,
    CallRecord,
    Reply,
    Request,
    Spending,
    Status,
    StopReason,
    Summary,
    Usage,
)
from toolkit.retry import RetryPolicy

if TYPE_CHECKING:
    from toolkit.store.budget import Reservation
    from toolkit.store.store import KeptCall


class Phases:
    """Splits a span of time into named phases that add up to it.

    There is one chain of clock readings; each link belongs to one phase.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._start = self._last = clock.now()
        self.seconds: dict[str, float] = {}

    @property
    def total_s(self) -> float:
        """Seconds from the first reading to the last."""
        return self._last - self._start

    @property
    def last(self) -> float:
        """The last reading, up to which all time has its phase."""
        return self._last

    def spread(self, seconds: Mapping[str, float]) -> None:
        """Give the time since the last reading to several phases, a length each; the rest is overhead."""
        end = self._clock.now()
        for phase, length in seconds.items():
            self.mark(phase, min(self._last + length, end))
        self.mark("overhead_s", end)

    def mark(self, phase: str, at: float | None = None) -> float:
        """Give the time since the last reading to ``phase``; ``at`` is an earlier reading, else now.

        A reading from outside the span (of another clock, say) is moved to its edge: no phase is negative.
        """
        now = self._clock.now()
        if at is not None:
            now = min(max(self._last, at), now)
        link = now - self._last
        self.seconds[phase] = self.seconds.get(phase, 0.0) + link
        self._last = now
        return link


class Admit(NamedTuple):
    """Wait until the limiter lets a request go, those of a lower order first; answered with `Admission`."""

    demand: Demand
    order: float


class Attempt(NamedTuple):
    """Ask the provider once, for the ``number``-th time from 1; answered with its `Reply`."""

    request: Request
    number: int


class Pause(NamedTuple):
    """Let time pass, or less of it if the run is stopped."""

    seconds: float


Step = Admit | Attempt | Pause
"""What a call waits for. An error of it is thrown into the steps."""

Steps = Generator[Step, Any, Outcome]


@dataclass(slots=True)
class _Life:
    """What is known of a call while it goes on."""

    request: Request
    started_at: float
    phases: Phases
    key: str = ""
    reused: bool = False
    saved_usd: float | None = None
    lease: Lease | None = None
    reservation: Reservation | None = None
    prompt_s: float | None = None
    decode_s: float | None = None
    attempts: list[AttemptRecord] = field(default_factory=list)


class Calls:
    """Makes the calls of one text.

    Parameters
    ----------
    provider : Provider
    params : SummarizeParams
        Clock, stop event and the callback for records.
    policy : RetryPolicy
    rng : random.Random, optional
        Source of the jitter between tries.
    limiter : Limiter, optional
        What every attempt is admitted by; None: there are no limits.
    """

    def __init__(
        self,
        provider: Provider,
        params: SummarizeParams,
        policy: RetryPolicy,
        rng: random.Random | None = None,
        limiter: Limiter | None = None,
    ) -> None:
        self._provider = provider
        self._params = params
        self._policy = policy
        self._limiter = limiter
        self._rng = rng or random.Random()

    def generate(self, request: Request) -> Outcome:
        """Make one call and record it.

        Only errors of the call itself become an outcome; what is wrong with the program (a ``TypeError``
        in a provider, say) is classified by the provider too, so that one episode's failure never takes
        the others with it.
        """
        steps = self.steps(request)
        go_on, answer = steps.send, None
        try:
            while True:
                step = go_on(answer)
                try:
                    go_on, answer = steps.send, self._do(step)
                except BaseException as error:
                    go_on, answer = steps.throw, error
        except StopIteration as end:
            outcome: Outcome = end.value
            return outcome
        except BaseException:
            # Ctrl-C between two steps: of what was admitted last the steps may not know.
            if self._limiter is not None and isinstance(answer, Admission):
                self._end(self._limiter.settle, answer.lease)
            raise
        finally:
            steps.close()

    def _do(self, step: Step) -> Any:
        if isinstance(step, Attempt):
            return self._provider.generate(step.request)
        if isinstance(step, Pause):
            return self._params.clock.sleep(step.seconds, self._params.stop)
        assert self._limiter is not None
        return self._limiter.acquire(step.demand, step.order, self._params.stop)

    def steps(self, request: Request) -> Steps:
        """Make one call and record it, for whoever does the steps.

        Yields
        ------
        Step
            What takes time; its answer is sent back, its error thrown in.

        Returns
        -------
        Outcome
        """
        request = replace(request, cancelled=self._params.stop)
        life = _Life(request, self._params.clock.epoch(), Phases(self._params.clock))
        try:
            return (yield from self._live(life))
        finally:
            # Nothing is left at the usual end. After Ctrl-C, or an error in a provider's own rules, it would
            # be missing to others for as long as this process lives.
            self._settle(life, None, {})
            self._abandon(life)

    def _live(self, life: _Life) -> Steps:
        """Take a call's answer from the store, or make it."""
        keeper = self._params.keeper
        if keeper is None:
            return (yield from self._make(life))
        life.key = keeper.call_key(life.request)
        if (left := keeper.left(life.request, life.key)) is not None:
            self._params.on_call(left.record)
            return Outcome(left.record, _reply_of(left))
        try:
            with keeper.asking(life.key, self._params.stop) as kept:
                life.phases.mark("overhead_s")
                return (yield from self._make(life)) if kept is None else self._take(life, kept)
        except CancelledError:
            life.phases.mark("queue_s")
            return self._end_call(life, None, None)
        except StoreError as broken:
            return self._end_call(life, None, ProviderError(str(broken)), lasting=True)

    def take_text(self, key: str) -> Summary | None:
        """Return the summary of a text that is kept as a whole, its calls taken over; None if none is.

        A store that cannot be read counts as one that has none: the first call meets that as well.
        """
        try:
            kept = self._params.keeper.find_episode(key)
        except StoreError:
            return None
        if kept is None:
            return None
        prefix = uuid.uuid4().hex[:12]
        outcomes = [self._take_call(f"{prefix}-{number}", call) for number, call in enumerate(kept.calls)]
        records = tuple(outcome.record for outcome in outcomes)
        return Summary(kept.text, chunks=kept.chunks, calls=records, key=key)

    def _take_call(self, call_id: str, kept: KeptCall) -> Outcome:
        known = kept.record
        request = Request(call_id, self._params.episode_id, known.stage, "", chunk_index=known.chunk_index)
        life = _Life(request, self._params.clock.epoch(), Phases(self._params.clock), known.key)
        return self._take(life, kept)

    def _make(self, life: _Life) -> Steps:
        """Make a call that has no answer yet."""
        phases, attempts = life.phases, life.attempts
        if self._limiter is not None:
            phases.seconds.update(dict.fromkeys((f"wait_{cause}_s" for cause in Cause), 0.0))
        reply: Reply | None = None
        error: ProviderError | None = None
        lasting = False
        counted = 0
        waited_before_s = 0.0
        while reply is None and error is None and not self._params.stop.is_set():
            try:
                if self._params.keeper is not None:
                    self._params.keeper.ready()
                    self._reserve(life)
                yield from self._admit(life)
                if not attempts:
                    waited_before_s = phases.total_s
                result = yield from self._attempt(life)
            except CancelledError:
                phases.mark("queue_s")
                break
            except BudgetExceeded as spent:
                self._params.on_drain(spent)
                break
            except ProviderError as refusal:  # Of the limiter: oversize, or a day's limit used up.
                error, lasting = refusal, refusal.lasting
                break
            except StoreError as broken:  # Nothing was sent: what cannot be counted is not asked for.
                error, lasting = ProviderError(str(broken)), True
                break
            if isinstance(result, Reply):
                reply = result
                break
            if result.paid_unknown:
                self._give_up_reservation(life)
            counted += result.retry is not Retry.RATE_LIMITED
            wait = self._policy.wait_s(
                result,
                failures=len(attempts),
                counted=counted,
                elapsed_s=phases.total_s - waited_before_s,
                rng=self._rng,
            )
            if wait is None:
                error, lasting = result.error, result.lasting or result.error.lasting
            elif self._limiter is None or not _limiter_waits(result):
                yield Pause(wait)
                phases.mark("retry_wait_s")
        return self._end_call(life, reply, error, lasting=lasting)

    def _take(self, life: _Life, kept: KeptCall) -> Outcome:
        """Answer a call from the store; it costs nothing and takes no limit."""
        known = kept.record
        life.reused = True
        life.saved_usd = known.saved_usd if known.reused else known.cost_usd
        return self._end_call(life, _reply_of(kept), None)

    def _keep(self, life: _Life, outcome: Outcome) -> None:
        """Commit a call; if that fails no further one is made, but what was paid for is still used."""
        reply = outcome.reply
        try:
            self._params.keeper.keep(
                outcome.record, reply.text if reply else None, life.reservation, self._spent(life, outcome)
            )
        except StoreError as broken:
            self._abandon(life)
            self._params.on_drain(broken)
        life.reservation = None

    def _reserve(self, life: _Life) -> None:
        """Take from the run's budget what an attempt could cost at most."""
        keeper = self._params.keeper
        if keeper.budget is None or life.reservation is not None:
            return
        most = self._provider.input_bound(life.request), life.request.max_output_tokens
        # An attempt that nobody knows the end of was this call, too.
        calls = 0 if any(attempt.paid_unknown for attempt in life.attempts) else 1
        spending = Spending.of(self._provider.price_bound(*most), sum(most), calls)
        life.reservation = keeper.reserve(spending, self._params.stop)

    def _give_up_reservation(self, life: _Life) -> None:
        if life.reservation is None:
            return
        try:
            self._params.keeper.give_up(life.reservation)
        except StoreError as broken:
            self._abandon(life)
            self._params.on_drain(broken)
        life.reservation = None

    def _abandon(self, life: _Life) -> None:
        """Leave a reservation that could not be settled; it counts as spent in full."""
        if life.reservation is not None:
            self._params.keeper.budget.abandon(life.reservation)
            life.reservation = None

    def _spent(self, life: _Life, outcome: Outcome) -> Spending | None:
        """Return what of a reservation was spent; what nobody has counted is spent in full."""
        if life.reservation is None:
            return None
        held, record = life.reservation.held, outcome.record
        if outcome.reply is None:
            return Spending(calls=held.calls if life.attempts else 0)
        if (record.token_counter or "").startswith("estimate:"):
            return held
        tokens = (record.input_tokens or 0) + (record.output_tokens or 0)
        return Spending.of(record.cost_usd, tokens, held.calls)

    def _end_call(
        self, life: _Life, reply: Reply | None, error: ProviderError | None, *, lasting: bool = False
    ) -> Outcome:
        if error is not None:
            self._name(error, life.request)
        outcome = self._outcome(life, reply, error)
        if self._params.keeper is not None:
            self._keep(life, outcome)  # before anybody sees the reply
        self._params.on_call(outcome.record)
        if error is not None and lasting:
            self._params.on_drain(error)
        return outcome

    def _admit(self, life: _Life) -> Generator[Step, Any, None]:
        """Wait until the limiter lets the request go, if there is one."""
        if self._limiter is None:
            return
        request, phases = life.request, life.phases
        demand = Demand(
            self._provider.input_estimate(request),
            request.max_output_tokens,
            self._provider.body_bytes(request),
        )
        while True:
            try:
                admission: Admission = yield Admit(demand, self._params.order)
            except WaitCancelled as stopped:
                phases.spread({f"wait_{cause}_s": seconds for cause, seconds in stopped.waited_s.items()})
                raise
            life.lease = admission.lease
            phases.spread({f"wait_{cause}_s": seconds for cause, seconds in admission.waited_s.items()})
            if self._limiter.still_valid(life.lease):
                return
            # The machine slept between the admission and now: what was admitted then may not fit today.
            self._end(self._limiter.settle, life.lease, sent=False)
            life.lease = None

    def _attempt(self, life: _Life) -> Generator[Step, Any, Reply | RetryDecision]:
        """Try once, record it, and tell the limiter how it went."""
        request, phases, attempts = life.request, life.phases, life.attempts
        number = len(attempts) + 1
        try:
            reply = yield Attempt(request, number)
            if not isinstance(reply, Reply):
                raise TypeError(f"generate returned {type(reply).__name__} and no Reply")
            # As it will be found: what is asked about it next must be the same question then.
            text = whole_characters(reply.text).replace("\0", "\ufffd")
            reply = reply if text == reply.text else replace(reply, text=text)
        except CancelledError:
            self._settle(life, None, {})
            raise
        except Exception as raised:
            failed_s = phases.mark("failed_attempts_s")
            decision = self._provider.classify(raised)
            if decision.error is not raised and decision.error.__cause__ is None:
                decision.error.__cause__ = raised
            self._refuse(life, decision)
            attempts.append(
                AttemptRecord(
                    request.call_id,
                    number,
                    service_s=failed_s,
                    error_kind=type(decision.error).__name__,
                    limit_hit=decision.limit_hit,
                    paid_unknown=decision.paid_unknown,
                    status_code=decision.status_code,
                    retry_after_s=decision.retry_after_s,
                )
            )
            return decision
        if reply.service_started is not None and reply.service_ended is not None:
            phases.mark("queue_s", reply.service_started)
            began = phases.last
            service_s = phases.mark("service_s", reply.service_ended)
            if reply.first_token is not None:
                # Within the service, whatever clock it was read from: the two are to add up to it.
                life.prompt_s = min(max(0.0, reply.first_token - began), service_s)
                life.decode_s = service_s - life.prompt_s
        else:
            service_s = phases.mark("service_s")
        self._settle(life, reply.usage, reply.headers)
        attempts.append(AttemptRecord(request.call_id, number, service_s=service_s))
        return reply

    def _settle(self, life: _Life, usage: Usage | None, headers: Mapping[str, str]) -> None:
        if self._limiter is not None and life.lease is not None:
            observation = read_headers(headers, self._params.clock.epoch())
            self._end(self._limiter.settle, life.lease, usage, observation, wait=False)
            life.lease = None

    def _refuse(self, life: _Life, decision: RetryDecision) -> None:
        """Settle the lease of a failed attempt; a refusal pauses the quota key."""
        if self._limiter is None or life.lease is None:
            return
        kind = _refusal(decision)
        if kind is None:
            self._settle(life, None, decision.headers)
        else:
            observation = read_headers(decision.headers, self._params.clock.epoch())
            if decision.retry_after_s is not None:  # read from a body, say, or by the server's own clock
                observation = observation._replace(retry_after_s=decision.retry_after_s)
            self._end(self._limiter.refused, life.lease, observation, kind)
            life.lease = None

    def _end(self, end: Callable[..., None], lease: Lease, *told: object, **named: object) -> None:
        """End a lease; whatever comes of that, the answer that is at hand counts."""
        try:
            end(lease, *told, **named)
        except LeaseError:
            # Another process took it for a dead one's, and it is ended.
            return
        except StoreError as broken:
            self._params.on_drain(ProviderError(str(broken), provider=self._provider.name))

    def _name(self, error: ProviderError, request: Request) -> None:
        error.provider = error.provider or self._provider.name
        error.model = error.model or self._provider.model
        error.call_id = request.call_id

    def _outcome(self, life: _Life, reply: Reply | None, error: ProviderError | None) -> Outcome:
        request, phases = life.request, life.phases
        usage = reply.usage if reply else None
        cost = 0.0 if life.reused else self._provider.price(reply) if reply else None
        phases.mark("overhead_s")
        record = CallRecord(
            episode_id=request.episode_id,
            call_id=request.call_id,
            stage=request.stage,
            chunk_index=request.chunk_index,
            provider=self._provider.name,
            model=self._provider.model,
            status=Status.OK if reply else Status.FAILED if error else Status.CANCELLED,
            stop_reason=reply.stop_reason if reply else None,
            started_at=life.started_at,
            **phases.seconds,
            prompt_s=life.prompt_s,
            decode_s=life.decode_s,
            total_s=phases.total_s,
            input_tokens=usage.input_tokens if usage else None,
            output_tokens=usage.output_tokens if usage else None,
            cached_tokens=usage.cached_tokens if usage else None,
            token_counter=usage.counter if usage else None,
            batch_size=reply.batch_size if reply else None,
            cost_usd=cost,
            worker=self._params.worker or threading.current_thread().name,
            error=str(error) if error else None,
            reused=life.reused,
            saved_usd=life.saved_usd,
            key=life.key,
            attempts=tuple(life.attempts),
        )
        return Outcome(record, reply, error)


def _reply_of(kept: KeptCall) -> Reply:
    known = kept.record
    usage = Usage(
        known.input_tokens or 0,
        known.output_tokens or 0,
        cached_tokens=known.cached_tokens or 0,
        counter=known.token_counter or "",
    )
    return Reply(kept.text, usage, known.stop_reason or StopReason.STOP)


OVERLOADED = (503, 529)


def _limiter_waits(decision: RetryDecision) -> bool:
    """Whether the limiter's pause is all the waiting there is: the server has said how long.

    Else the call itself backs off as well, since what gets through for others shortens the pause.
    """
    return decision.retry is Retry.RATE_LIMITED and decision.retry_after_s is not None


def _refusal(decision: RetryDecision) -> Refusal | None:
    """Say what a server complained about, if it was too much traffic."""
    if decision.retry is Retry.RATE_LIMITED:
        hit = decision.limit_hit or ""
        if hit.endswith("_per_day"):
            return Refusal.DAY
        return {"concurrency": Refusal.CONCURRENCY, "slow_down": Refusal.SLOW_DOWN}.get(hit, Refusal.RATE)
    return Refusal.OVERLOAD if decision.status_code in OVERLOADED else None
