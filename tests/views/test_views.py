"""What things show of themselves: first what a researcher wants to know, with units, in a few lines."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest

import toolkit as tk
from toolkit.config import Config
from toolkit.parts import Column, Table, View, notebook_html
from toolkit.records import (
    AttemptRecord,
    CallRecord,
    Episode,
    EpisodeRecord,
    Stage,
    Status,
    StopReason,
    Summary,
    Turn,
)
from toolkit.runs import Run
from toolkit.views.frames import table_of

STYLE = re.compile(r"<style>.*?</style>", re.DOTALL)


def read(thing: Any) -> str:
    """Return what can be read, on one line."""
    page = thing if isinstance(thing, str) else thing._repr_html_()
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", STYLE.sub("", page))).split())


def call(number: int, **given: Any) -> CallRecord:
    values: dict[str, Any] = {
        "episode_id": "bees",
        "call_id": f"c{number}",
        "stage": Stage.MAP,
        "chunk_index": number,
        "provider": "openai",
        "model": "gpt",
        "status": Status.OK,
        "stop_reason": StopReason.STOP,
        "started_at": 1_700_000_000.0,
        "wait_slots_s": 1.5,
        "wait_tokens_s": 0.5,
        "service_s": 2.0,
        "total_s": 4.0,
        "input_tokens": 100,
        "output_tokens": 20,
        "cost_usd": 0.25,
    }
    return CallRecord(**{**values, **given})


def make_run(*calls: CallRecord, failed: bool = True, **given: Any) -> Run:
    good = EpisodeRecord("bees", "Of bees", 9, 1_700_000_000.0, 8.0, Summary("Bees dance.", calls=calls))
    bad = EpisodeRecord("mud", "mud", 9, 1_700_000_000.0, 1.0, Summary("", Status.FAILED, "no reply"))
    values: dict[str, Any] = {
        "id": "r1",
        "config": Config(provider="scripted"),
        "provider": "openai",
        "model": "gpt",
        "records": [good, bad] if failed else [good],
        "makespan_s": 10.0,
    }
    return Run(**{**values, **given})


def test_a_run_says_what_came_of_it() -> None:
    """Episodes, time, throughput, cost, waits by cause, and what is missing."""
    text = read(make_run(call(0), call(1)))
    for said in (
        "Run r1",
        "openai",
        "1 failed of 2 episodes",
        "Episodes summarized 1 of 2 1 ok and 1 failed",
        "Makespan 10.0 s",
        "Episodes an hour 360",
        "Output tokens/s 4 20 input tokens/s",
        "Calls made 2 0 failed, 0 reused",
        "Cost $0.5 ",
        "Calls waited for slots 3.0 s and tokens 1.0 s summed over calls",
        "no reply",
        "Bees dance.",
    ):
        assert said in text, said


def test_a_run_says_what_memory_it_took() -> None:
    """Where it is known; it is the whole process's."""
    assert "Peak memory 1,235 MB of the whole process" in read(make_run(call(0), peak_rss_mb=1234.6))
    assert "Peak memory" not in read(make_run(call(0)))


def test_a_run_says_why_it_stopped() -> None:
    """By itself, by somebody, or with its process."""
    stopped = make_run(call(0), stopped_because="QuotaExhausted: no credit left.")
    assert "Stopped by itself. QuotaExhausted: no credit left. Started again" in read(stopped)
    assert "Interrupted. Stopped before its end, after 2 of 2 episodes" in read(make_run(interrupted=True))
    assert "Died. Its process ended before it did" in read(make_run(state="died", episodes_given=9))


def test_a_run_says_what_it_reused() -> None:
    """Its rates are not stated then, and what was saved is."""
    text = read(make_run(call(0), call(1, reused=True, saved_usd=0.25, cost_usd=0.0), failed=False))
    assert "Reused. 1 call reused (100 input and 20 output tokens, $0.2500)" in text
    assert "Makespan 10.0 s with 1 reused call" in text
    assert "Episodes an hour – not stated: calls were reused" in text
    assert "$0.25 saved by reuse" in text


def test_a_run_shows_errors_only_where_there_are_some() -> None:
    """By kind, with how often."""
    attempts = (AttemptRecord("c0", 1, 0.1, error_kind="RateLimited", status_code=429),)
    text = read(make_run(call(0, attempts=attempts)))
    assert "Attempts that failed, by kind" in text
    assert "Refused as too many 1" in text
    assert "Attempts that failed" not in read(make_run(call(0)))


def test_figures_of_a_run_need_no_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a hundred thousand calls would take a notebook seconds."""
    run = make_run(*(call(n) for n in range(50)), failed=False)
    for name in ("calls", "attempts", "limits", "episodes"):
        monkeypatch.setattr(Run, name, property(lambda self: pytest.fail("a frame was made")))
    assert "Calls made 50" in read(run)


def test_a_simulated_run_says_so() -> None:
    """Nothing was called, and there are no texts to show."""
    run = tk.simulate([200] * 3, Config(provider="scripted"), latency=2.0)
    text = read(run)
    assert "Simulated run" in text
    assert "Nothing was called" in text
    assert "Summaries" not in text


def test_a_summary_can_be_read() -> None:
    """The text first, then what it took; what is missing above all."""
    calls = (call(0), call(1, reused=True), call(2, status=Status.FAILED, error="no reply"))
    summary = Summary("Bees dance.\nBees sleep.", Status.PARTIAL, "chunk 2: no reply", 3, calls)
    text = read(summary)
    assert text.startswith("Summary Missing. chunk 2: no reply Status partial Words 4 Chunks 3 Calls 2 made")
    assert "Tokens 200 input, 40 output Cost $0.5 Bees dance. Bees sleep." in text
    assert "stage chunk status input (tokens) output (tokens) service (s) total (s) error" in text
    assert "map, reused" in text
    assert (
        repr(summary)
        == "<Summary partial: 'Bees dance. Bees sleep.' of 3 chunks, 3 calls, chunk 2: no reply>"
    )
    assert "There is none." in read(Summary("", Status.FAILED, "no reply"))


def test_an_episode_says_what_it_is() -> None:
    """Title, size, speakers and length; its text folded away."""
    turns = (Turn("Bees dance.", "Ann", 0.0, 60.0), Turn("Do they?", "Bob", 60.0, 61.0))
    episode = Episode("bees-1", turns, "Of bees", "Bees dance.", Path("some/bees-1.vtt"))
    text = read(episode)
    assert text.startswith("Of bees Id bees-1 Words 4 Turns 2 Length 61.0 s Speakers Ann, Bob File some/")
    assert "Transcript Ann: Bees dance. Bob: Do they? Reference, written by a person Bees dance." in text
    assert episode._repr_html_().count("<details>") == 2
    assert repr(episode) == "<Episode bees-1, Of bees: 4 words in 2 turns>"
    many = Episode("e", tuple(Turn("Yes.", f"Speaker {n}") for n in range(100)))
    assert "Speaker 7 and 92 more" in read(many)
    assert "Length" not in read(many)


def test_a_long_text_says_how_to_get_the_rest() -> None:
    """And how much of it is shown."""
    assert "The first 6,000 of 7,000 characters. All of them: .text" in read(Summary("x" * 7000))


def test_a_config_says_what_was_chosen() -> None:
    """Beside default and meaning; all settings folded; a key is said to be set and nothing more."""
    config = Config(provider="scripted", summary_batch_size=4, openai_api_key="sk-planted-4711")
    text = read(config)
    assert "summary_batch_size 4 1 episodes worked on at a time" in text
    assert "Set, and never shown: openai_api_key" in text
    assert "planted" not in text + repr(config)
    plain = Config(provider="scripted", summary_batch_size=4, store_url="memory://")
    assert repr(plain) == "Config(provider='scripted', summary_batch_size=4, store_url='memory://')"
    assert eval(repr(plain), {"Config": Config}) == plain


def test_a_plan_says_what_binds() -> None:
    """Bounds in seconds, conflicts before everything, suggestions after."""
    config = Config(
        provider="openai", model="gpt-5.6-luna", summary_batch_size=8, summary_chunk_parallelism=4
    )
    plan = tk.plan([2000] * 100, config)
    text = read(plan)
    assert text.startswith("Plan: 100 episodes, openai/gpt-5.6-luna: bound by")
    assert text.index("Conflict.") < text.index("least time (s)") < text.index("Suggested")
    assert "(binds)" in text
    assert repr(plan).startswith("<Plan: 100 episodes, openai/gpt-5.6-luna: bound by")
    assert len(repr(plan)) < 300


def test_many_simulations_show_how_much_is_luck() -> None:
    """Quantiles of each figure, with units."""
    latency = tk.LatencyModel(base_s=1.0, spread=0.3)
    text = read(tk.simulate([200] * 3, Config(provider="scripted"), latency=latency, seeds=3))
    assert "quantile makespan_s (s) calls" in text
    assert "0.95" in text


def test_a_frame_as_a_table() -> None:
    """Numbers to the right with three digits, nulls as dashes, units in the heads, rows bounded."""
    import pandas as pd

    frame = pd.DataFrame({"name": ["a", None], "makespan_s": [1.23456, None], "best": [True, False]})
    table = table_of(frame, "Two rows", ".frame", most=1)
    assert table.columns == [Column("name"), Column("makespan_s", "s", True), Column("best")]
    assert table.rows == [["a", "1.23", "yes"]]
    assert table.note == "The first 1 of 2 are shown. All of them: .frame"
    assert table_of(frame, "Two rows", ".frame").rows[1] == ["–", "–", ""]


def test_colours_are_those_of_the_theme() -> None:
    """A colour of its own would be unreadable in one of them; only plots, drawn for paper, have some."""
    (style,) = STYLE.findall(notebook_html(View("")))
    for rule in style.splitlines():
        if "figure" in rule or "figcaption" in rule:
            continue
        for colour in re.findall(r"(?:color|background|border[\w-]*|outline): ([^;]+);", rule):
            assert not re.search(r"#|rgb|\b(?:white|black)\b", re.sub(r"var\([^)]*\)", "", colour)), rule


def test_tables_can_be_read_aloud() -> None:
    """Captions, headers with a scope, regions with a name that a keyboard can scroll."""
    page = notebook_html(
        View("", parts=[Table("Of bees", [Column("bee"), Column("age", "d")], [["a", "1"]])])
    )
    assert '<div class="scroll" role="region" aria-label="Of bees" tabindex="0">' in page
    assert "<caption><span>Of bees</span></caption>" in page
    assert page.count('scope="col"') == 2
    assert page.count('scope="row"') == 1
