"""Map-reduce, driven by hand: what is asked, in which steps, and what the answers make of the summary."""

from __future__ import annotations

import inspect
import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import ContextTooLong, RequestRejected
from toolkit.mapreduce import Answer, Prompt, Steps, SummarySettings, drive, map_reduce
from toolkit.protocols import Outcome
from toolkit.records import CallRecord, Reply, Request, Stage, Status, StopReason, Summary, Usage

QUICK = settings(deadline=None, max_examples=100)

SETTINGS = SummarySettings(
    direct=Prompt("DIRECT {text}", 20),
    map=Prompt("MAP {text}", 10),
    reduce=Prompt("REDUCE {text}", 20),
    context_tokens=1000,
    overhead_tokens=0,
    chunk_tokens=40,
)
LONG = "\n".join(f"turn {n} says a few words." for n in range(36))  # 6 chunks
BROKEN = RequestRejected("the line is dead")


def words(text: str) -> int:
    return len(text.split())


def reply(text: str, stop_reason: StopReason = StopReason.STOP) -> Reply:
    return Reply(text, Usage(1, 1), stop_reason)


def play(
    answer: Callable[[Request], Answer], text: str = LONG, told: SummarySettings = SETTINGS
) -> tuple[Summary, list[list[Request]]]:
    """Run the generator to its end; return the summary and the requests, step by step."""
    steps, asked = map_reduce(text, "e", told, words), []
    try:
        requests = next(steps)
        while True:
            asked.append(requests)
            assert len(asked) < 100, "the steps do not end"
            requests = steps.send([answer(request) for request in requests])
    except StopIteration as end:
        return end.value, asked


def note(request: Request) -> Reply:
    """Answer each chunk by its number, and a reduce by a text of its own."""
    return reply(f"Note {request.chunk_index}." if request.stage is Stage.MAP else "All in all.")


def except_at(index: int, instead: Answer) -> Callable[[Request], Answer]:
    return lambda request: instead if request.chunk_index == index else note(request)


def test_text_that_fits_is_asked_about_at_once() -> None:
    """A text of one chunk is one request, which holds the text as it is."""
    summary, asked = play(lambda request: reply("Short."), "a b\nc")
    ((request,),) = asked
    assert (request.stage, request.prompt, request.chunk_index) == (Stage.DIRECT, "DIRECT a b\nc", None)
    assert (request.episode_id, request.max_output_tokens) == ("e", 20)
    assert (summary.text, summary.status, summary.error, summary.chunks) == ("Short.", Status.OK, None, 1)


def test_text_at_the_bound_is_not_cut_and_one_word_more_is() -> None:
    """The bound of a chunk is the bound of the direct request too, off by none."""
    _, asked = play(note, "w " * 40)
    assert [request.stage for step in asked for request in step] == [Stage.DIRECT]
    _, asked = play(note, "w " * 41)
    assert [request.stage for step in asked for request in step] == [Stage.MAP, Stage.MAP, Stage.REDUCE]


@pytest.mark.parametrize("text", ["a" + " " * 5000 + "b", "donaudampfschifffahrt " * 39])
def test_text_that_is_long_in_characters_only_is_asked_about_at_once(text: str) -> None:
    """Blanks and long words do not make a text of few tokens cost a map and a reduce."""
    summary, asked = play(lambda request: reply("Short."), text)
    ((request,),) = asked
    assert (request.stage, summary.chunks) == (Stage.DIRECT, 1)
    assert request.prompt.split()[1:] == text.split()


def test_long_text_is_mapped_and_reduced() -> None:
    """Each chunk is asked about once and in order, the notes once and together."""
    summary, (maps, reduces) = play(note)
    assert [request.chunk_index for request in maps] == list(range(len(maps)))
    assert {request.stage for request in maps} == {Stage.MAP}
    asked_about = " ".join(request.prompt.removeprefix("MAP ") for request in maps)
    assert asked_about.split() == LONG.split()
    (request,) = reduces
    listed = "\n".join(f"- Note {index}." for index in range(len(maps)))
    assert (request.stage, request.prompt, request.chunk_index) == (Stage.REDUCE, f"REDUCE {listed}", None)
    assert summary == Summary("All in all.", Status.OK, None, chunks=len(maps))


def test_every_request_fits_the_context_with_its_reply() -> None:
    """Instructions, system message, template, text and the cap together stay within the context."""
    told = replace(
        SETTINGS, system="be brief", context_tokens=60, overhead_tokens=7, chunk_tokens=None, overlap_tokens=9
    )
    _, asked = play(lambda request: reply("n " * 9 + "."), LONG, told)
    assert len(asked) > 2
    for request in [request for step in asked for request in step]:
        sent = words(request.system) + words(request.prompt) + words(request.prefill)
        assert sent + told.overhead_tokens + request.max_output_tokens <= told.context_tokens


def test_overlap_reaches_the_chunks() -> None:
    """The setting has an effect: the end of a chunk's text begins the next one's."""
    _, (maps, _) = play(note, LONG, replace(SETTINGS, overlap_tokens=6))
    lines = [request.prompt.removeprefix("MAP ").splitlines() for request in maps]
    assert all(before[-1] == after[0] for before, after in itertools.pairwise(lines))


def test_call_ids_differ_within_and_between_texts() -> None:
    """A call is known by its id, also among episodes that have the same text."""
    ids = [request.call_id for _ in range(2) for step in play(note)[1] for request in step]
    assert len(set(ids)) == len(ids)


@QUICK
@given(st.lists(st.integers(1, 60), min_size=1, max_size=60), st.integers(1, 60))
def test_no_note_is_dropped(lengths: list[int], reduced: int) -> None:
    """Whatever the notes' lengths, each one's text is in some reduce request, level by level, to the end."""
    written: list[str] = []

    def answer(request: Request) -> Reply:
        length = lengths[request.chunk_index % len(lengths)] if request.chunk_index is not None else reduced
        written.append(f"N{len(written)}E " + "x " * length + ".")
        return reply(written[-1])

    summary, (_, *levels) = play(answer)
    last = written.pop()
    assert summary.text == last.strip()
    assert summary.status is Status.OK
    prompts = [request.prompt for level in levels for request in level]
    for text in written:
        assert sum(text.split()[0] + " " in prompt for prompt in prompts) == 1


@QUICK
@given(st.integers(2, 200), st.integers(1, 80))
def test_levels_halve_the_notes(turns: int, length: int) -> None:
    """Each level has at most half as many notes as the one before, so that the steps end."""
    text = "\n".join("w " * 30 for _ in range(turns))
    _, (maps, *levels) = play(lambda request: reply("x " * length), text)
    notes = len(maps)
    for level in levels:
        assert 1 <= len(level) <= (notes + 1) // 2
        notes = (notes + 1) // 2 if len(level) > 1 else 1
    assert len(levels[-1]) == 1


def test_notes_that_fit_go_together() -> None:
    """As many notes as fit are asked about at once: pairs alone would cost calls for nothing."""
    _, (maps, *levels) = play(lambda request: reply("x " * 6))
    # Of 6 notes of 7 tokens 5 fit into 40; the sixth waits for the next level.
    assert [len(level) for level in levels] == [1, 1]
    assert levels[0][0].prompt.count("- ") == 5
    assert len(maps) == 6


def test_reply_without_a_last_full_stop_is_kept_whole() -> None:
    """A model that was done and ends in a list without full stops loses no point of it."""
    _, (_, (reduce,)) = play(
        lambda request: reply("Two.\n- bees\n- wax") if request.stage is Stage.MAP else note(request)
    )
    assert reduce.prompt.count("- Two. - bees - wax") == 6


def test_reply_that_was_cut_loses_its_unfinished_sentence() -> None:
    """Half a sentence of a capped note or summary is not passed on as if it were whole."""
    local = replace(SETTINGS, cut_is_partial=False)
    summary, (_, (reduce,)) = play(lambda request: reply("Done. Not do", StopReason.LENGTH), LONG, local)
    assert "Done." in reduce.prompt
    assert "Not do" not in reduce.prompt
    assert summary == Summary("Done.", Status.OK, None, chunks=6)


def test_reply_that_was_cut_makes_a_hosted_summary_partial() -> None:
    """Where a cap is not a matter of course the summary says which reply met it, and what to change."""
    summary, _ = play(except_at(2, reply("Done. Not do", StopReason.LENGTH)))
    assert (summary.status, summary.text) == (Status.PARTIAL, "All in all.")
    assert summary.error == "chunk 3 of 6: map reply reached the cap of 10 tokens; raise summary_max_tokens"


def test_failed_chunk_is_named_and_the_rest_is_kept() -> None:
    """A missing chunk makes the summary partial and is named; it is never left out in silence."""
    summary, (_, (reduce,)) = play(except_at(1, BROKEN))
    assert (summary.status, summary.text) == (Status.PARTIAL, "All in all.")
    assert summary.error == "chunk 2 of 6: map failed: the line is dead"
    assert [f"Note {index}." in reduce.prompt for index in range(6)] == [True, False, True, True, True, True]


def test_all_chunks_failed() -> None:
    """Without any note there is nothing to reduce: the summary failed and names every chunk."""
    summary, asked = play(lambda request: BROKEN)
    assert len(asked) == 1
    assert (summary.status, summary.text, summary.chunks) == (Status.FAILED, "", 6)
    assert all(f"chunk {index} of 6" in str(summary.error) for index in range(1, 7))


def test_failed_direct_request() -> None:
    """One request, one failure, no summary."""
    summary, _ = play(lambda request: BROKEN, "a b c")
    assert summary == Summary("", Status.FAILED, "direct failed: the line is dead", chunks=1)


def test_failed_last_reduce() -> None:
    """Notes without a summary are no summary, and earlier problems stay in the error."""
    summary, _ = play(lambda r: BROKEN if r.stage is Stage.REDUCE or r.chunk_index == 0 else note(r))
    assert (summary.status, summary.text) == (Status.FAILED, "")
    assert str(summary.error).split("; ") == [
        "chunk 1 of 6: map failed: the line is dead",
        "reduce failed: the line is dead",
    ]


def test_failed_group_of_a_level_makes_the_summary_partial() -> None:
    """A group of notes that is lost on the way is named, and the others go on."""

    def answer(request: Request) -> Answer:
        if request.stage is Stage.MAP:
            return reply(f"Note {request.chunk_index} " + "x " * 20 + ".")
        return BROKEN if "Note 0 " in request.prompt else reply("Rest.")

    summary, _ = play(answer)
    assert (summary.status, summary.text) == (Status.PARTIAL, "Rest.")
    assert str(summary.error) == "reduce group 1 of 3: reduce failed: the line is dead"


def test_all_groups_of_a_level_failed() -> None:
    """Where a level leaves nothing the summary failed, and the steps end."""
    summary, (_, level) = play(lambda request: BROKEN if request.stage is Stage.REDUCE else reply("x " * 25))
    assert len(level) == 3
    assert (summary.status, summary.text) == (Status.FAILED, "")


@pytest.mark.parametrize("reason", [StopReason.CONTENT_FILTER, StopReason.REFUSAL, StopReason.EMPTY])
def test_withheld_reply_is_named(reason: StopReason) -> None:
    """A chunk or text that brings nothing, for whatever reason, is said to, with the reason."""
    summary, _ = play(except_at(3, reply(" \n", reason)))
    assert summary.status is Status.PARTIAL
    assert str(summary.error).startswith("chunk 4 of 6: map brought an empty reply")
    assert reason in str(summary.error)
    summary, _ = play(lambda request: reply("", reason), "a b c")
    assert (summary.status, summary.text) == (Status.FAILED, "")
    assert reason in str(summary.error)


def test_words_of_a_refusal_are_no_summary() -> None:
    """'I cannot help with that' stands in no summary and in no reduce request."""
    refusal = reply("I cannot help with that.", StopReason.REFUSAL)
    summary, _ = play(lambda request: refusal, "a b c")
    assert summary == Summary("", Status.FAILED, "direct reply ended by refusal", chunks=1)
    summary, (_, (reduce,)) = play(except_at(0, refusal))
    assert "cannot" not in reduce.prompt
    assert (summary.status, summary.error) == (Status.PARTIAL, "chunk 1 of 6: map reply ended by refusal")


def test_filtered_reply_keeps_what_was_written_and_says_so() -> None:
    """What came before a filter closed is kept up to its last whole sentence, as partial."""
    summary, _ = play(lambda request: reply("Said. Then th", StopReason.CONTENT_FILTER), "a b c")
    assert summary == Summary("Said.", Status.PARTIAL, "direct reply ended by content_filter", chunks=1)


@pytest.mark.parametrize("text", ["", "  \n\t", "\u2003\u2028"])
def test_text_without_words_is_not_asked_about(text: str) -> None:
    """An empty episode fails with its reason and costs nothing."""
    summary, asked = play(note, text)
    assert asked == []
    assert summary == Summary("", Status.FAILED, "the text has no words", chunks=0)


@pytest.mark.parametrize("stage", ["direct", "map", "reduce"])
def test_instructions_without_room_are_refused_before_any_call(stage: str) -> None:
    """A prompt that fills the context is refused with the numbers, before anything is spent."""
    prompt = Prompt("word " * 970 + "{text}", 20)
    with pytest.raises(ContextTooLong, match=r"instructions \(970 tokens\).* reply \(20\).* 1000 tokens"):
        next(map_reduce(LONG, "e", replace(SETTINGS, **{stage: prompt}), words))


def test_text_with_braces_stays_as_it_is() -> None:
    """A text that speaks of {text} or {0} is not taken for a template."""
    _, (((request,)),) = play(note, "they say {text} and {0} and %s")
    assert request.prompt == "DIRECT they say {text} and {0} and %s"


def outcome(request: Request, answer: Answer | None) -> Outcome:
    status = Status.CANCELLED if answer is None else Status.OK if isinstance(answer, Reply) else Status.FAILED
    record = CallRecord(
        request.episode_id, request.call_id, request.stage, request.chunk_index, "p", "m", status, None, 0.0
    )
    if isinstance(answer, Reply):
        return Outcome(record, reply=answer)
    return Outcome(record, error=answer)


def test_pool_keeps_the_order_of_the_chunks() -> None:
    """Replies are given back in the order of the requests, whichever ends first, and all calls are kept."""
    late = threading.Event()

    def generate(request: Request) -> Outcome:
        if request.chunk_index == 0:
            assert late.wait(10), "the chunks do not run together"
        if request.chunk_index == 1:
            late.set()
        return outcome(request, reply(request.prompt) if request.stage is Stage.REDUCE else note(request))

    planned: list[int] = []
    with ThreadPoolExecutor(2) as pool:
        summary = drive(map_reduce(LONG, "e", SETTINGS, words), generate, pool, planned.append)
    listed = "\n".join(f"- Note {index}." for index in range(6))
    assert summary.text == f"REDUCE {listed}"
    assert [(call.stage, call.chunk_index) for call in summary.calls] == [
        *((Stage.MAP, index) for index in range(6)),
        (Stage.REDUCE, None),
    ]
    assert planned == [6, 1]


def test_without_a_pool_calls_run_one_after_another_in_this_thread() -> None:
    """A parallelism of one starts no thread."""
    threads: set[threading.Thread] = set()

    def generate(request: Request) -> Outcome:
        threads.add(threading.current_thread())
        return outcome(request, note(request))

    summary = drive(map_reduce(LONG, "e", SETTINGS, words), generate, None, lambda count: None)
    assert summary.status is Status.OK
    assert threads == {threading.current_thread()}


@pytest.mark.parametrize("pooled", [True, False])
def test_cancelled_call_ends_the_steps(pooled: bool) -> None:
    """After a cancelled call nothing more is asked, what was done is kept, and the generator is closed."""
    steps: Steps = map_reduce(LONG, "e", SETTINGS, words)
    pool = ThreadPoolExecutor(2) if pooled else None
    try:
        summary = drive(
            steps,
            lambda request: outcome(request, None if request.chunk_index == 2 else note(request)),
            pool,
            lambda count: None,
        )
    finally:
        if pool:
            pool.shutdown()
    assert (summary.status, summary.text) == (Status.CANCELLED, "")
    assert [call.chunk_index for call in summary.calls] == list(range(6))
    assert inspect.getgeneratorstate(steps) == inspect.GEN_CLOSED


def test_errors_reach_the_steps_in_the_place_of_replies() -> None:
    """The driver hands a failed call's error to the steps, which name its chunk."""
    summary = drive(
        map_reduce(LONG, "e", SETTINGS, words),
        lambda request: outcome(request, BROKEN if request.chunk_index == 5 else note(request)),
        None,
        lambda count: None,
    )
    assert (summary.status, summary.error) == (Status.PARTIAL, "chunk 6 of 6: map failed: the line is dead")
    assert [call.status for call in summary.calls] == [*[Status.OK] * 5, Status.FAILED, Status.OK]


def test_as_many_answers_as_requests() -> None:
    """A driver that loses an answer is found out and does not shift the others."""
    steps: Steps = map_reduce("a b c", "e", SETTINGS, words)
    next(steps)
    answers: Sequence[Answer] = []
    with pytest.raises(ValueError, match="unpack"):
        steps.send(answers)
