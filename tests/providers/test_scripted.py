"""The scripted provider: deterministic, on the clock that it is given, and at fault when it is told to be."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.clock import ManualClock
from toolkit.config import Config
from toolkit.errors import RateLimited, RequestRejected, TransientError
from toolkit.protocols import SummarizeParams
from toolkit.providers.scripted import ScriptedSummarizationProvider
from toolkit.records import Request, Stage, Status, StopReason, Summary

CONFIG = Config(provider="scripted", chunk_tokens=32)
LONG = "\n".join(f"Fact {n} is told here. It is explained there." for n in range(32))


def ask(chunk_index: int | None = 0, prompt: str = "Bees dance. They sing.", cap: int = 64) -> Request:
    stage = Stage.DIRECT if chunk_index is None else Stage.MAP
    return Request(f"c{chunk_index}", "e", stage, prompt, chunk_index=chunk_index, max_output_tokens=cap)


def summarize(provider: ScriptedSummarizationProvider, clock: ManualClock, width: int = 1) -> Summary:
    return provider.summarize(LONG, SummarizeParams(chunk_parallelism=width, clock=clock))


def test_default_reply_is_the_first_sentence() -> None:
    """Without a script the reply is made of the text, so that a summary can be told from another."""
    reply = ScriptedSummarizationProvider().generate(ask())
    assert (reply.text, reply.stop_reason) == ("Bees dance.", StopReason.STOP)
    assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.usage.counter) == (4, 2, "words")


def test_same_replies_in_any_order_of_threads() -> None:
    """What a request gets depends on the request alone: two runs with many threads do not differ."""

    def once(width: int) -> tuple[str, list[tuple[int | None, int]]]:
        clock = ManualClock()
        provider = ScriptedSummarizationProvider(
            CONFIG,
            latency_s=lambda request: (request.chunk_index or 0) % 3,
            faults={1: TransientError("broken"), 4: RateLimited("slow down", retry_after_s=2.0)},
            clock=clock,
        )
        summary = summarize(provider, clock, width)
        return summary.text, [(call.chunk_index, len(call.attempts)) for call in summary.calls]

    alone = once(1)
    assert alone[1] == [(n, 2 if n in (1, 4) else 1) for n in range(11)] + [(None, 1)]
    assert [once(8) for _ in range(5)] == [alone] * 5


def test_latency_passes_on_the_clock_that_is_given() -> None:
    """A script of hours runs at once, and the hours stand in the records."""
    clock = ManualClock()
    provider = ScriptedSummarizationProvider(CONFIG, latency_s=3600.0, clock=clock)
    summary = summarize(provider, clock)
    assert len(summary.calls) == 12
    assert clock.now() == 12 * 3600.0
    assert {call.service_s for call in summary.calls} == {3600.0}


def test_latency_may_depend_on_the_request() -> None:
    """Each call takes what the function says for it."""
    clock = ManualClock()
    provider = ScriptedSummarizationProvider(
        CONFIG, latency_s=lambda request: 1.0 + (request.chunk_index or 0), clock=clock
    )
    calls = summarize(provider, clock).calls
    assert [call.service_s for call in calls] == [1.0 + (call.chunk_index or 0) for call in calls]


def test_faults_by_chunk_come_once() -> None:
    """An exception by chunk index is raised at that chunk's first attempt, with its latency, and no other."""
    clock = ManualClock()
    provider = ScriptedSummarizationProvider(
        CONFIG, faults={2: TransientError("broken")}, latency_s=1.0, clock=clock
    )
    summary = summarize(provider, clock)
    assert summary.status is Status.OK
    assert [call.chunk_index for call in summary.calls if len(call.attempts) > 1] == [2]
    assert summary.calls[2].failed_attempts_s == 1.0
    assert summary.calls[2].attempts[0].error_kind == "TransientError"


def test_faults_come_anew_for_each_text() -> None:
    """Attempts are counted for each call: the second text meets the same fault as the first."""
    clock = ManualClock()
    provider = ScriptedSummarizationProvider(CONFIG, faults={0: TransientError("broken")}, clock=clock)
    assert [len(summarize(provider, clock).calls[0].attempts) for _ in range(2)] == [2, 2]


def test_faults_by_function_see_request_and_attempt() -> None:
    """A function can fail what a mapping cannot: a stage, or the first attempts of each call."""
    clock = ManualClock()
    provider = ScriptedSummarizationProvider(
        CONFIG,
        faults=lambda request, attempt: TransientError("broken") if attempt <= 2 else None,
        clock=clock,
    )
    assert {len(call.attempts) for call in summarize(provider, clock).calls} == {3}
    provider = ScriptedSummarizationProvider(
        CONFIG,
        faults=lambda request, attempt: RequestRejected("no") if request.stage is Stage.REDUCE else None,
        clock=clock,
    )
    summary = summarize(provider, clock)
    assert (summary.status, summary.error) == (Status.FAILED, "reduce failed: scripted/first-sentence: no")


def test_faults_of_many_threads_are_counted_once_each() -> None:
    """Attempts of one call that come from many threads are numbered without a gap."""
    seen, lock = [], threading.Lock()

    def fault(request: Request, attempt: int) -> None:
        with lock:
            seen.append(attempt)

    provider = ScriptedSummarizationProvider(faults=fault)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: provider.generate(ask()), range(200)))
    assert sorted(seen) == list(range(1, 201))


@settings(deadline=None, max_examples=200)
@given(st.lists(st.text(" \n\tab.", max_size=6), max_size=20).map(" ".join), st.integers(1, 12))
def test_cap_is_kept_whatever_stands_between_the_words(text: str, cap: int) -> None:
    """A reply has at most as many words as the cap, says if it was cut, and is else what the script says."""
    provider = ScriptedSummarizationProvider(replies=lambda request: text)
    reply = provider.generate(ask(cap=cap))
    assert reply.usage.output_tokens == len(reply.text.split()) == min(cap, len(text.split()))
    assert text.startswith(reply.text)
    if len(text.split()) > cap:
        assert reply.stop_reason is StopReason.LENGTH
    else:
        assert reply.text == text
        assert reply.stop_reason is (StopReason.STOP if text.strip() else StopReason.EMPTY)


@pytest.mark.parametrize(("context", "stages"), [(300, {"direct"}), (200, {"map", "reduce"})])
def test_context_is_what_the_script_says(context: int, stages: set[str]) -> None:
    """A small context has a text cut that a larger one would take whole."""
    provider = ScriptedSummarizationProvider(
        Config(provider="scripted", chunk_tokens=10_000), context_tokens=context
    )
    summary = provider.summarize("word " * 100)
    assert {str(call.stage) for call in summary.calls} == stages
