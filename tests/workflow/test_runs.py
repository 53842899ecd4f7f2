"""What a run leaves behind: files that are safe to open, summaries by id, and a line that describes it."""

from __future__ import annotations

import csv
import mmap
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pytest

from toolkit.archive import open_store
from toolkit.config import Config
from toolkit.errors import RequestRejected
from toolkit.limits import LimitEvent
from toolkit.memory import PeakMemory
from toolkit.records import (
    AttemptRecord,
    CallRecord,
    Episode,
    EpisodeRecord,
    Request,
    Stage,
    Status,
    StopReason,
    Summary,
)
from toolkit.runs import Run, check_folder

RunScripted = Callable[..., Run]
MakeEpisodes = Callable[..., list[Episode]]

# What transcripts, servers and models could bring: each does something where it is shown as it stands.
PLANTED = (
    '=HYPERLINK("http://evil.example","click")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1+1)",
    "\t=1+1",
    " =1+1",
    "\n\n=1+1",
    "\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b]8;;http://evil.example\x1b\\link",
    "\x1b[2J\x07\b\b\b\x00\x9b31m",
    "<script>alert(1)</script> <img src=x onerror=alert(1)>",
    "[click](javascript:alert(1)) ![x](http://evil.example/p.png)",
    "# Heading\n- item\n1. item\n> quote\n```\ncode\n---\n| a | b |",
    "=====\nunder\n=====",
    "a \u202e reversed",
    "see https://evil.example/p, www.evil.example or evil.example",
    'quoted "text", with, commas\nand lines',
)
# Fields begin with one of these in no cell of text; a number may.
FORMULA_STARTS = tuple("=+-@\t\r")


def planted_run(
    text: str, *, words: int = 3, chunks: int = 2, limit_events: Sequence[LimitEvent] = ()
) -> Run:
    """Make a run in which every field that comes from outside holds the text."""
    attempt = AttemptRecord(text, 1, 0.5, error_kind=text, limit_hit=text)
    call = CallRecord(
        text,
        "c-0",
        Stage.DIRECT,
        None,
        "scripted",
        text,
        Status.FAILED,
        StopReason.STOP,
        started_at=1.7e9,
        worker=text,
        token_counter=text,
        error=text,
        attempts=(attempt,),
    )
    summary = Summary(text, Status.PARTIAL, text, chunks=chunks, calls=(call,))
    record = EpisodeRecord(text, text, words, 1.7e9, 1.5, summary)
    return Run(
        id="r",
        config=Config(provider="scripted"),
        provider="scripted",
        model=text,
        records=[record],
        makespan_s=1.5,
        limit_events=limit_events,
    )


def cells(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


FILES = ["attempts.csv", "calls.csv", "episodes.csv", "summaries.md"]


def test_save_writes_a_file_for_each_frame(
    tmp_path: Path, run_scripted: RunScripted, make_episodes: MakeEpisodes
) -> None:
    """Files are in a folder that is made, parents too, and nothing else is."""
    done = run_scripted(make_episodes(2, lines=2))
    folder = done.save(tmp_path / "new" / "out")
    assert folder == tmp_path / "new" / "out"
    assert sorted(path.name for path in folder.iterdir()) == sorted(done.files) == FILES
    text = (folder / "summaries.md").read_text(encoding="utf-8")
    assert all(f"## {episode_id}\n" in text for episode_id in ("e0", "e1"))
    assert "64 words, 2 chunks" in text
    done.save(str(folder))
    assert (folder / "summaries.md").read_text(encoding="utf-8") == text


@pytest.mark.skipif(PeakMemory().end() is None, reason="the system keeps no mark that can be set back")
def test_a_run_knows_the_memory_that_it_took(run_scripted: RunScripted, make_episodes: MakeEpisodes) -> None:
    """At its peak, also what was given back before its end; and nothing of what another took before it."""
    large = 60_000_000

    def replies(request: Request) -> str:
        # Mapped, because what malloc gives back it may keep: a loaded model has asked it to.
        with mmap.mmap(-1, large) as taken:
            taken.write(b"x" * large)
            return f"So {len(taken)}."

    run_scripted(make_episodes(1))  # loads the libraries
    with mmap.mmap(-1, 4 * large) as before:
        before.write(b"x" * large * 4)
    with_much = run_scripted(make_episodes(1), script={"replies": replies}, reuse="none").peak_rss_mb
    with_little = run_scripted(make_episodes(1), reuse="none").peak_rss_mb
    assert with_much is not None
    assert with_little is not None
    assert 0.8 * large < 1e6 * (with_much - with_little) < 2 * large


def test_limits_have_a_file_where_there_are_any(tmp_path: Path) -> None:
    """A run with a limiter brings its events; one without leaves no file of an earlier run beside its own."""
    event = LimitEvent(1.7e9, "=key", "admitted", 1, 1, 1, None, 0, None, None, None, None)
    limited = planted_run("text", limit_events=[event])
    assert limited.files[-1] == "limits.csv"
    header, row = cells(limited.save(tmp_path) / "limits.csv")
    assert dict(zip(header, row, strict=True))["quota_key"] == "'=key"
    assert sorted(path.name for path in planted_run("text").save(tmp_path).iterdir()) == FILES


def test_files_are_replaced_together(tmp_path: Path) -> None:
    """If one cannot be written, the files of the run before stay as they were, and no halves lie about."""
    before = planted_run("before").save(tmp_path)
    (before / "attempts.csv").unlink()
    (before / "attempts.csv").mkdir()
    with pytest.raises(OSError, match="attempts"):
        planted_run("newer").save(tmp_path)
    files = [path for path in before.iterdir() if path.is_file()]
    assert all("newer" not in path.read_text(encoding="utf-8") for path in files)
    assert sorted(path.name for path in before.iterdir()) == FILES


def test_what_no_start_could_bring_is_not_missing(run_scripted: RunScripted) -> None:
    """A text without words has failed for good; one that was asked about in vain may be had yet."""
    wordless = [Episode.from_text("a", ""), Episode.from_text("b", "Rain fell.")]
    done = run_scripted(wordless)
    assert done.counts() == {"ok": 1, "failed": 1}
    assert done.state == "complete"
    assert open_store().run(done.id).state == "complete"
    script = {"faults": lambda request, attempt: RequestRejected("no")}
    refused = run_scripted(wordless, script=script, reuse="none")
    assert refused.state == open_store().run(refused.id).state == "incomplete"


def test_one_is_said_as_one(tmp_path: Path) -> None:
    """The line under a title counts as people do."""
    text = (planted_run("text", words=1, chunks=1).save(tmp_path) / "summaries.md").read_text(
        encoding="utf-8"
    )
    assert "1 word, 1 chunk, 1.5 s, partial" in text


def test_folder_is_checked_by_writing_and_left_as_it_was(tmp_path: Path) -> None:
    """A folder that can be written to is none the fuller, and one that was not there is not."""
    check_folder(tmp_path / "new" / "out")
    check_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "summaries.md").mkdir()
    with pytest.raises(OSError, match=r"summaries\.md is a folder"):
        check_folder(tmp_path)


def test_empty_run_can_be_saved(tmp_path: Path, run_scripted: RunScripted) -> None:
    """Without rows the CSV files hold their header."""
    folder = run_scripted([]).save(tmp_path)
    assert [len(cells(folder / name)) for name in FILES[:-1]] == [1, 1, 1]


@pytest.mark.parametrize("name", ["episodes", "calls", "attempts"])
def test_csv_reads_back_with_the_same_values(
    name: str, tmp_path: Path, run_scripted: RunScripted, make_episodes: MakeEpisodes
) -> None:
    """Numbers lose no digit and nulls stay nulls: a figure made from the file is the figure of the run."""
    done = run_scripted(make_episodes(3, lines=3), script={"latency_s": 1 / 3})
    frame = getattr(done, name)
    read = pd.read_csv(done.save(tmp_path) / f"{name}.csv")
    assert list(read.columns) == list(frame.columns)
    numbers = frame.select_dtypes("number")
    assert len(numbers.columns) > 3
    for column in numbers:
        pd.testing.assert_series_equal(
            read[column].astype("float64"), numbers[column].astype("float64"), check_exact=True
        )
    for column in frame.columns.difference(numbers.columns):
        assert list(read[column].isna()) == list(frame[column].isna())


@pytest.mark.parametrize("text", PLANTED)
def test_no_cell_is_a_formula_or_drives_a_terminal(text: str, tmp_path: Path) -> None:
    """A title or reply that a spreadsheet would run, or a terminal obey, is text and nothing more."""
    folder = planted_run(text).save(tmp_path)
    for name in FILES[:-1]:
        header, row = cells(folder / name)
        for column, cell in zip(header, row, strict=True):
            if not re.fullmatch(r"-?[\d.]+", cell):
                assert not cell.lstrip(" \n").startswith(FORMULA_STARTS), column
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", cell), column
        assert "'" + text in row or not text.startswith(("=", "+", "-", "@"))


@pytest.mark.parametrize("text", PLANTED)
def test_markdown_holds_text_only(text: str, tmp_path: Path) -> None:
    """A summary is shown as it stands: it brings no heading, list, link, image, tag or code of its own."""
    written = (planted_run(text).save(tmp_path) / "summaries.md").read_text(encoding="utf-8")
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", written)
    for markup in (r"<", r"\[", r"!", r"`", r"\|", r"/(?=/)", r"\.(?=example)"):
        assert not re.search(r"(?<!\\)" + markup, written), markup
    own = [line for line in written.splitlines() if re.match(r"\s*(#|[-+]\s|\d+[.)]|=+\s*$|-+\s*$|>)", line)]
    title = next((line for line in written.splitlines() if line.startswith("## ")), "")
    assert own == ["# Summaries", title]


def test_half_characters_cost_no_file(tmp_path: Path) -> None:
    """JSON can hold half of a surrogate pair, which UTF-8 cannot: the results are written without it."""
    folder = planted_run("half \ud83d of a bee").save(tmp_path)
    assert "of a bee" in (folder / "summaries.md").read_text(encoding="utf-8")
    assert "of a bee" in (folder / "episodes.csv").read_text(encoding="utf-8")


def test_summary_by_id(run_scripted: RunScripted, make_episodes: MakeEpisodes) -> None:
    """A known id gives its summary; an unknown one is named together with those that there are."""
    done = run_scripted(make_episodes(2))
    assert done.summary("e1") is done.records[1].summary
    with pytest.raises(KeyError, match=r"no episode 'e7'.*'e0', 'e1'"):
        done.summary("e7")


def test_repr_says_what_came_of_it(run_scripted: RunScripted, make_episodes: MakeEpisodes) -> None:
    """At a prompt a run is one line: who summarized, how it ended, how long it took."""
    done = run_scripted(make_episodes(2), script={"latency_s": 1.0})
    assert repr(done) == f"<Run {done.id}: scripted/first-sentence, 2 ok, 2.0 s>"
    assert "no episodes" in repr(run_scripted([]))
    stopped = Run(
        id="r",
        config=done.config,
        provider="p",
        model="m",
        records=done.records,
        makespan_s=0.0,
        interrupted=True,
    )
    assert repr(stopped) == "<Run r: p/m, 2 ok, 0.0 s, stopped early>"


def test_throughput_is_that_of_the_calls(run_scripted: RunScripted, make_episodes: MakeEpisodes) -> None:
    """The method passes its interval on, and the sums are those of the frame."""
    done = run_scripted(make_episodes(4), script={"latency_s": 1.5})
    spread = done.throughput("2s")
    assert list(spread.index) == [0, 2, 4]
    assert spread["output_tokens"].sum() == pytest.approx(float(done.calls["output_tokens"].sum()))
