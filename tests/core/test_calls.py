"""The path of a call: tries, waits, records and errors, on a clock that moves only when it is told to."""

from __future__ import annotations

import itertools
import linecache
import random
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from types import FrameType, SimpleNamespace
from typing import Any, NoReturn, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import toolkit.calls
from toolkit.calls import Calls, Phases
from toolkit.clock import ManualClock
from toolkit.errors import (
    AuthenticationFailed,
    ProviderError,
    RateLimited,
    RequestRejected,
    StoreError,
    TransientError,
)
from toolkit.limits import Demand, Lease, Limiter, LimitSettings, MemoryState, Observation, Refusal
from toolkit.protocols import Outcome, RetryDecision, SummarizeParams
from toolkit.providers.base import SummarizationProvider
from toolkit.records import CallRecord, Reply, Request, Sampling, Stage, Status, StopReason, Usage
from toolkit.retry import RetryPolicy

REQUEST = Request("call-7", "bees", Stage.MAP, "Bees dance.", chunk_index=2, sampling=Sampling(seed=1))
# The parts of a service are no phases of their own.
NO_PHASES = ("prompt_s", "decode_s", "total_s")
PHASES = [
    field.name for field in fields(CallRecord) if field.name.endswith("_s") and field.name not in NO_PHASES
]
OPEN = LimitSettings(max_concurrent=1)
POLICY = RetryPolicy(max_attempts=4, total_s=300.0, first_wait_s=1.0, max_wait_s=8.0)

Step = Reply | BaseException | Callable[[Request], Any]


class Play(SummarizationProvider):
    """Gives one answer after the other, each after ``latency_s`` of its clock."""

    name = "play"
    default_model = "m1"

    def __init__(self, *steps: Step, latency_s: float = 0.25, clock: ManualClock | None = None) -> None:
        super().__init__()
        self.clock = clock or ManualClock(start=100.0)
        self.asked: list[float] = []
        self._steps = steps
        self._latency_s = latency_s

    def generate(self, request: Request) -> Reply:
        step = self._steps[len(self.asked)]
        self.asked.append(self.clock.now())
        self.clock.advance(self._latency_s)
        if isinstance(step, BaseException):
            raise step
        made: Reply = step(request) if callable(step) else step
        return made

    def price(self, reply: Reply) -> float:
        return reply.usage.output_tokens * 0.01


def reply(**told: Any) -> Reply:
    return Reply("Bees.", Usage(11, 3, 2, "counted"), **told)


def call(
    provider: Play, policy: RetryPolicy = POLICY, *, stop: threading.Event | None = None, seed: int = 1
) -> Outcome:
    seen: list[CallRecord] = []
    params = SummarizeParams(
        clock=provider.clock, stop=stop or threading.Event(), on_call=seen.append, episode_id="bees"
    )
    outcome = Calls(provider, params, policy, rng=random.Random(seed)).generate(REQUEST)
    assert seen == [outcome.record], "every call is reported once"
    return outcome


def phases(record: CallRecord) -> dict[str, float]:
    return {name: getattr(record, name) or 0.0 for name in PHASES}


def test_call_that_goes_well() -> None:
    """The record says what was asked, what came back, what it cost and how long it took."""
    provider = Play(reply(stop_reason=StopReason.LENGTH, batch_size=4))
    outcome = call(provider)
    assert outcome.reply is not None
    assert outcome.error is None
    record = outcome.record
    assert (record.episode_id, record.call_id, record.stage, record.chunk_index) == (
        "bees",
        "call-7",
        "map",
        2,
    )
    assert (record.provider, record.model, record.status) == ("play", "m1", Status.OK)
    assert (record.stop_reason, record.batch_size, record.cost_usd) == (StopReason.LENGTH, 4, 0.03)
    assert (record.input_tokens, record.output_tokens, record.cached_tokens) == (11, 3, 2)
    assert (record.token_counter, record.error) == ("counted", None)
    assert record.started_at == provider.clock.epoch() - 0.25
    assert (record.service_s, record.total_s) == (0.25, 0.25)
    assert [(a.call_id, a.attempt, a.service_s, a.error_kind) for a in record.attempts] == [
        ("call-7", 1, 0.25, None)
    ]


def test_time_in_a_queue_is_no_service() -> None:
    """Where a provider says when its model worked, waiting before and tidying after are told apart."""
    clock = ManualClock(start=100.0)
    provider = Play(reply(service_started=100.5, service_ended=102.5), latency_s=3.0, clock=clock)
    record = call(provider).record
    spent = {name: seconds for name, seconds in phases(record).items() if seconds}
    assert spent == {"queue_s": 0.5, "service_s": 2.0, "overhead_s": 0.5}
    assert record.attempts[0].service_s == 2.0


@pytest.mark.parametrize(
    ("first_token", "prompt_s", "decode_s"),
    [(101.0, 0.5, 1.5), (100.5, 0.0, 2.0), (102.5, 2.0, 0.0), (7.0, 0.0, 2.0), (999.0, 2.0, 0.0)],
)
def test_service_falls_into_prompt_and_decode(first_token: float, prompt_s: float, decode_s: float) -> None:
    """Up to the first token and from there on; a reading from outside the service is moved to its edge."""
    clock = ManualClock(start=100.0)
    told = reply(service_started=100.5, first_token=first_token, service_ended=102.5)
    record = call(Play(told, latency_s=3.0, clock=clock)).record
    assert (record.prompt_s, record.decode_s, record.service_s) == (prompt_s, decode_s, 2.0)
    assert sum(phases(record).values()) == record.total_s == 3.0


@pytest.mark.parametrize("told", [{}, {"service_started": 100.5, "service_ended": 102.5}])
def test_service_without_a_first_token_is_whole(told: dict[str, float]) -> None:
    """A hosted model, or an engine that does not tell: nobody knows its parts, and none is made up."""
    record = call(Play(reply(**told), latency_s=3.0, clock=ManualClock(start=100.0))).record
    assert (record.prompt_s, record.decode_s) == (None, None)


@given(st.floats(0, 1e6), st.lists(st.floats(0, 10), min_size=4, max_size=4))
def test_prompt_and_decode_add_up_to_the_service(start: float, lengths: list[float]) -> None:
    """Whenever they are read, to the last bit that a sum keeps; neither is below zero."""
    times = list(itertools.accumulate(lengths, initial=start))
    told = reply(service_started=times[1], first_token=times[2], service_ended=times[3])
    provider = Play(told, latency_s=times[4] - start, clock=ManualClock(start=start))
    record = call(provider).record
    assert record.prompt_s is not None
    assert record.decode_s is not None
    assert record.prompt_s >= 0 <= record.decode_s
    assert record.prompt_s + record.decode_s == pytest.approx(record.service_s, rel=1e-12)


FAILURES = st.sampled_from(
    [
        TransientError("broken"),
        RateLimited("slow down"),
        RateLimited("slow down", retry_after_s=7.5),
        ConnectionResetError("reset"),
        RequestRejected("wrong"),
        KeyError("bug"),
        CancelledError(),
    ]
)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(FAILURES, max_size=8),
    st.floats(0, 20),
    st.none() | st.floats(-50, 500),
    st.none() | st.floats(-50, 500),
    st.integers(0, 99),
)
def test_phases_add_up_to_the_total(
    failures: list[Exception], latency_s: float, started: float | None, ended: float | None, seed: int
) -> None:
    """Whatever happens to a call, and whatever clock its provider reads, no phase is negative or lost."""
    last = reply(service_started=started, service_ended=ended)
    provider = Play(*failures, last, latency_s=latency_s)
    record = call(provider, seed=seed).record
    assert min(phases(record).values()) >= 0
    assert sum(phases(record).values()) == pytest.approx(record.total_s, abs=1e-9)
    assert record.total_s == pytest.approx(provider.clock.now() - 100.0, abs=1e-9)


def test_broken_call_is_tried_again() -> None:
    """Failed tries, the waits between them and the service are three different things."""
    provider = Play(TransientError("broken"), ConnectionResetError("reset"), reply())
    record = call(provider).record
    assert record.status is Status.OK
    assert [(a.attempt, a.error_kind) for a in record.attempts] == [
        (1, "TransientError"),
        (2, "TransientError"),
        (3, None),
    ]
    assert (record.failed_attempts_s, record.service_s) == (0.5, 0.25)
    waits = [after - before - 0.25 for before, after in zip(provider.asked, provider.asked[1:], strict=False)]
    assert 0.5 <= waits[0] <= 1.0 <= waits[1] <= 2.0
    assert record.retry_wait_s == pytest.approx(sum(waits))


@pytest.mark.parametrize("tries", [1, 2, 4])
def test_tries_are_bounded(tries: int) -> None:
    """``max_attempts`` counts all tries, the first included; then the last error is the call's."""
    provider = Play(*[TransientError(f"broken {n}") for n in range(9)])
    outcome = call(provider, RetryPolicy(max_attempts=tries))
    assert len(provider.asked) == len(outcome.record.attempts) == tries
    assert outcome.record.status is Status.FAILED
    assert outcome.record.error == f"play/m1: broken {tries - 1}"


def test_rate_limited_tries_use_up_no_attempt() -> None:
    """A server that asks to wait is waited for; its answers do not count towards ``max_attempts``."""
    busy = [RateLimited("slow down") for _ in range(10)]
    provider = Play(TransientError("broken"), *busy, reply())
    outcome = call(provider, RetryPolicy(max_attempts=2))
    assert outcome.record.status is Status.OK
    assert len(outcome.record.attempts) == 12
    provider = Play(TransientError("broken"), *busy, TransientError("again"))
    assert call(provider, RetryPolicy(max_attempts=2)).record.error == "play/m1: again"


def test_retry_after_is_waited_for_and_recorded() -> None:
    """The next try comes no sooner than the server said, and the attempt keeps the server's figure."""
    provider = Play(RateLimited("slow down", retry_after_s=40.0), reply())
    record = call(provider).record
    assert provider.asked == [100.0, 140.25]
    assert record.attempts[0].retry_after_s == record.retry_wait_s == 40.0


def test_time_is_bounded() -> None:
    """A call that is limited for ever ends within ``total_s``, and a wait beyond it is not begun."""
    provider = Play(*[RateLimited("slow down") for _ in range(1000)])
    record = call(provider, RetryPolicy(total_s=60.0)).record
    assert record.status is Status.FAILED
    assert 30.0 <= record.total_s <= 60.25
    provider = Play(TransientError("broken"))
    record = call(provider, RetryPolicy(total_s=0.2)).record
    assert (record.status, record.total_s, record.retry_wait_s) == (Status.FAILED, 0.25, 0.0)


def test_a_server_that_says_when_is_waited_for() -> None:
    """Once the time is over it is the last try, however soon the server would have the next one."""
    provider = Play(*[RateLimited("slow down", retry_after_s=61.0)] * 9)
    record = call(provider, RetryPolicy(total_s=60.0)).record
    assert (record.status, record.retry_wait_s, len(provider.asked)) == (Status.FAILED, 61.0, 2)


def test_wrong_request_is_not_tried_again() -> None:
    """A rejected call costs one try; its error says whose it is."""
    outcome = call(Play(AuthenticationFailed("no such key")))
    assert outcome.reply is None
    assert isinstance(outcome.error, AuthenticationFailed)
    assert (outcome.error.provider, outcome.error.model, outcome.error.call_id) == ("play", "m1", "call-7")
    assert outcome.record.error == str(outcome.error) == "play/m1: no such key"
    assert (outcome.record.input_tokens, outcome.record.cost_usd, outcome.record.stop_reason) == (None,) * 3


def test_names_that_a_provider_gave_are_kept() -> None:
    """A provider that knows better which model failed is not overruled."""
    outcome = call(Play(RequestRejected("no", provider="gateway", model="m1-0502")))
    assert outcome.record.error == "gateway/m1-0502: no"


def faulty(request: Request) -> Reply:
    return len(None)  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (faulty, "TypeError: object of type 'NoneType' has no len()"),
        (lambda request: None, "TypeError: generate returned NoneType and no Reply"),
        (lambda request: "Bees.", "TypeError: generate returned str and no Reply"),
    ],
)
def test_bug_in_a_provider_is_a_failed_call(step: Step, says: str) -> None:
    """A mistake in a provider fails its call by name, with its cause, and takes no other call with it."""
    outcome = call(Play(step))
    error = outcome.error
    assert isinstance(error, ProviderError)
    assert outcome.record.status is Status.FAILED
    assert outcome.record.error == f"play/m1: {says}"
    assert (error.provider, error.model, error.call_id) == ("play", "m1", "call-7")
    assert isinstance(error.__cause__, TypeError)
    assert outcome.reply is None


def test_interrupt_is_no_failed_call() -> None:
    """Ctrl-C passes through: it is not tried again as if a server had failed."""
    provider = Play(KeyboardInterrupt(), reply())
    with pytest.raises(KeyboardInterrupt):
        call(provider)
    assert len(provider.asked) == 1


def test_stop_before_the_first_try() -> None:
    """A run that was stopped sends nothing more; the call is recorded as cancelled."""
    stop = threading.Event()
    stop.set()
    provider = Play(reply())
    outcome = call(provider, stop=stop)
    assert provider.asked == []
    assert (outcome.reply, outcome.error) == (None, None)
    assert (outcome.record.status, outcome.record.total_s, outcome.record.attempts) == (
        Status.CANCELLED,
        0.0,
        (),
    )


def test_stop_during_a_backoff() -> None:
    """A stop between two tries ends the wait, and no further try is made."""
    stop = threading.Event()

    def fail_and_stop(request: Request) -> Reply:
        stop.set()
        raise TransientError("broken")

    provider = Play(fail_and_stop, reply())
    record = call(provider, stop=stop).record
    assert len(provider.asked) == 1
    assert (record.status, record.error, record.retry_wait_s) == (Status.CANCELLED, None, 0.0)
    assert [attempt.error_kind for attempt in record.attempts] == ["TransientError"]


def test_stop_during_a_try_keeps_its_reply() -> None:
    """What was paid for is kept, also if the stop came while it was under way."""
    stop = threading.Event()

    def answer(request: Request) -> Reply:
        stop.set()
        return reply()

    assert call(Play(answer), stop=stop).record.status is Status.OK


def test_provider_hears_of_the_stop() -> None:
    """The request carries the run's stop event, so that a local model can end at the next token."""
    stop, heard = threading.Event(), []

    def answer(request: Request) -> Reply:
        heard.append(request.cancelled)
        raise CancelledError

    record = call(Play(answer), stop=stop).record
    assert heard == [stop]
    assert (record.status, record.queue_s, record.attempts) == (Status.CANCELLED, 0.25, ())


def test_calls_of_many_threads_do_not_mix() -> None:
    """Calls that run together keep their own tries, errors and names."""
    clock = ManualClock()

    class Echo(Play):
        def generate(self, request: Request) -> Reply:
            if request.chunk_index is not None and request.chunk_index % 2:
                raise RequestRejected(f"no {request.call_id}")
            return Reply(request.prompt, Usage(1, 1))

    calls = Calls(Echo(clock=clock), SummarizeParams(clock=clock), POLICY)
    requests = [Request(f"c{n}", "e", Stage.MAP, f"p{n}", chunk_index=n) for n in range(100)]
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(calls.generate, requests))
    for n, outcome in enumerate(outcomes):
        assert outcome.record.call_id == f"c{n}"
        said = outcome.error.message if outcome.error else outcome.reply and outcome.reply.text
        assert said == (f"no c{n}" if n % 2 else f"p{n}")


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.floats(0, 100), st.none() | st.floats(-10, 1000)), max_size=20))
def test_phases_split_a_span_without_gaps(links: list[tuple[float, float | None]]) -> None:
    """Each moment belongs to one phase, whatever readings are given for its ends."""
    clock = ManualClock(start=5.0)
    chain = Phases(clock)
    for number, (seconds, at) in enumerate(links):
        clock.advance(seconds)
        assert chain.mark(f"phase {number % 3}", at) >= 0
    chain.mark("rest")
    assert chain.total_s == pytest.approx(clock.now() - 5.0)
    assert sum(chain.seconds.values()) == pytest.approx(chain.total_s)


class Broken(MemoryState):
    """A state whose file cannot be used from the n-th decision on."""

    def __init__(self, good: int) -> None:
        super().__init__()
        self.good = good

    @contextmanager
    def exclusive(self, core: object) -> Iterator[None]:
        self.good -= 1
        if self.good < 0:
            raise StoreError("the shared limits cannot be used")
        yield


def limited(
    provider: Play, limiter: Limiter, stop: threading.Event | None = None
) -> tuple[Outcome, list[Any]]:
    """Make a call through a limiter; return it and the errors for which the run should drain."""
    drained: list[Any] = []
    params = SummarizeParams(
        clock=provider.clock, stop=stop or threading.Event(), episode_id="bees", on_drain=drained.append
    )
    return Calls(provider, params, POLICY, limiter=limiter).generate(REQUEST), drained


def test_a_reply_outlives_a_broken_state() -> None:
    """What was answered and paid is kept, though the lease cannot be settled; then the run drains."""
    provider = Play(reply())
    outcome, drained = limited(provider, Limiter("key", OPEN, Broken(1), provider.clock))
    assert outcome.reply is not None
    assert [str(error) for error in drained] == ["play: the shared limits cannot be used"]


def test_without_the_limits_nothing_is_asked() -> None:
    """A state that cannot be used fails the call before anything is sent, and the run drains."""
    provider = Play(reply())
    outcome, drained = limited(provider, Limiter("key", OPEN, Broken(0), provider.clock))
    assert (outcome.record.status, provider.asked, len(drained)) == (Status.FAILED, [], 1)


def test_a_lease_that_was_taken_for_a_dead_holders_costs_no_reply() -> None:
    """Settled by somebody else, it is settled; the reply counts."""
    limiter: Limiter

    def rob(request: Request) -> Reply:
        (event,) = (event for event in limiter.events() if event.event == "admitted")
        limiter.settle(Lease(1, "key", event.t_s, (1, 0, 0, 0), Demand()))
        return reply()

    provider = Play(rob)
    limiter = Limiter("key", OPEN, MemoryState(), provider.clock)
    outcome, drained = limited(provider, limiter)
    assert outcome.reply is not None
    assert drained == []


class Odd(Play):
    """A provider whose own rules are wrong."""

    def classify(self, error: Exception) -> RetryDecision:
        raise LookupError("no rule for that")

    def price(self, reply: Reply) -> float:
        raise LookupError("no price for that")


@pytest.mark.parametrize("step", [TransientError("broken"), reply()], ids=["classify", "price"])
def test_a_bug_in_a_providers_rules_costs_the_others_nothing(step: Step) -> None:
    """The error passes through; neither slot nor money is held for good."""
    provider = Odd(step)
    limiter = Limiter("key", OPEN, MemoryState(), provider.clock)
    abandoned: list[object] = []

    @contextmanager
    def asking(key: str, stop: threading.Event) -> Iterator[None]:
        yield None

    budget = SimpleNamespace(abandon=abandoned.append)
    keeper = SimpleNamespace(
        asking=asking,
        budget=budget,
        call_key=lambda request: "key",
        left=lambda request, key: None,
        ready=lambda: None,
        reserve=lambda most, stop: "held",
    )
    params = SummarizeParams(clock=provider.clock, keeper=cast(Any, keeper))
    with pytest.raises(LookupError):
        Calls(provider, params, POLICY, limiter=limiter).generate(REQUEST)
    assert limiter.snapshot().in_flight == 0
    assert abandoned == ["held"]


def test_a_lease_that_cannot_be_looked_up_is_given_back() -> None:
    """The state breaks once, between the admission and the sending: nothing is sent, and the slot is free."""

    class Slow(Limiter):
        def still_valid(self, lease: Lease) -> bool:
            raise StoreError("the shared limits cannot be used")

    provider = Play(reply())
    limiter = Slow("key", OPEN, MemoryState(), provider.clock)
    outcome, drained = limited(provider, limiter)
    assert (outcome.record.status, provider.asked, len(drained)) == (Status.FAILED, [], 1)
    assert limiter.snapshot().in_flight == 0


def test_wherever_an_interrupt_strikes_the_lease_is_given_back() -> None:
    """Ctrl-C comes between any two lines of a call's path, also where nobody waits for anything."""
    for line in itertools.count():
        provider = Play(TransientError("broken"), reply())
        limiter = Limiter("key", OPEN, MemoryState(), provider.clock)
        if not _interrupted_at(line, lambda: limited(provider, limiter)):  # noqa: B023
            break
        assert limiter.snapshot().in_flight == 0, f"line {line}"
    assert line > 100, "the path has more lines than that"


def _interrupted_at(line: int, work: Callable[[], object]) -> bool:
    """Do a work that a KeyboardInterrupt ends at the n-th line of ``calls.py``; False if it has fewer."""
    left = line

    def trace(frame: FrameType, event: str, told: Any) -> Any:
        nonlocal left
        if frame.f_code.co_filename != toolkit.calls.__file__:
            return None
        # A bare "try:" does nothing: Python lets no signal in there, and no handler is in force yet.
        if event == "line" and linecache.getline(toolkit.calls.__file__, frame.f_lineno).strip() != "try:":
            left -= 1
            if left < 0:
                interrupt()
        return trace

    def interrupt() -> NoReturn:
        sys.settrace(None)
        raise KeyboardInterrupt

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


def test_a_stopped_wait_stands_under_its_cause() -> None:
    """A call that was cancelled in line waited for the limiter, not in a queue."""
    provider = Play(reply())

    class Impatient:
        def wait(self, woken: threading.Event, until: float, axis: Any, stop: threading.Event) -> None:
            provider.clock.advance(7.0)
            stop.set()

    limiter = Limiter("key", OPEN, MemoryState(), provider.clock, Impatient())
    limiter.refused(limiter.acquire(Demand()).lease, Observation(retry_after_s=90.0), Refusal.RATE)
    outcome, _ = limited(provider, limiter)
    assert outcome.record.status is Status.CANCELLED
    assert (outcome.record.wait_cooldown_s, outcome.record.queue_s) == (7.0, 0.0)
    assert outcome.record.total_s == 7.0


def test_time_in_line_is_not_taken_from_the_tries() -> None:
    """A call that waited long for its turn is tried again like any other."""
    provider = Play(TransientError("broken"), reply())
    limiter = Limiter("key", OPEN, MemoryState(), provider.clock)
    limiter.refused(limiter.acquire(Demand()).lease, Observation(retry_after_s=900.0), Refusal.RATE)
    outcome, _ = limited(provider, limiter)
    assert outcome.reply is not None
    assert outcome.record.wait_cooldown_s == pytest.approx(900.0)


@pytest.mark.parametrize("retry_after_s", [None, 3.0])
def test_a_call_backs_off_by_itself_where_the_server_says_nothing(retry_after_s: float | None) -> None:
    """Others get through and shorten the pause; the one that is refused again and again waits longer."""
    refused = [RateLimited("slow down", retry_after_s=retry_after_s) for _ in range(4)]
    provider = Play(*refused, reply(), latency_s=0.0)
    limiter = Limiter("key", LimitSettings(), MemoryState(), provider.clock)
    outcome, _ = limited(provider, limiter)
    assert outcome.reply is not None
    assert (outcome.record.retry_wait_s > 0) == (retry_after_s is None)
    gaps = [round(after - before, 6) for before, after in itertools.pairwise(provider.asked)]
    assert gaps == sorted(gaps)
    assert (gaps[-1] > gaps[0]) == (retry_after_s is None)


def test_ten_thousand_refusals_end_in_one_error() -> None:
    """A server that refuses for ever is asked ever more rarely, and given up after the time of the policy."""
    provider = Play(*[RateLimited("slow down") for _ in range(10_000)], latency_s=0.0)
    limiter = Limiter("key", LimitSettings(), MemoryState(), provider.clock)
    outcome, drained = limited(provider, limiter)
    assert isinstance(outcome.error, RateLimited)
    assert outcome.record.total_s <= POLICY.total_s + 60
    assert 5 <= len(provider.asked) <= 20
    assert drained == []
