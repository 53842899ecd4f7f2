"""What a page says of a run, of several, and of those that went wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import toolkit as tk
from toolkit.archive import open_store
from toolkit.config import Config
from toolkit.errors import ConfigError
from toolkit.limits.holders import this_process
from toolkit.records import CallRecord, Episode, EpisodeRecord, Stage, Status, StopReason, Summary
from toolkit.reports import page
from toolkit.reports.pages import file_name
from toolkit.runs import Run
from toolkit.store import schema
from toolkit.store.address import read_address
from toolkit.store.opened import store_at
from toolkit.store.store import call_rows
from toolkit.testing import ApiServer
from toolkit.views.figures import Figures
from toolkit.workflow import run as work

RunScripted = Callable[..., Run]
DEAD = "1/0/another boot/" + this_process().split("/", 3)[3]


def tiles(found: Any) -> dict[str, str]:
    """Return the headline figures of a parsed page, by their labels."""
    names = [tag.text for tag in found.all("dt") if tag.within.count("dl")]
    values = [" ".join(tag.text.split()) for tag in found.all("dd")]
    return dict(zip(names, values, strict=True))


def alerts(found: Any) -> list[str]:
    return [" ".join(tag.text.split()) for tag in found.all("li")]


def make_run(calls: list[CallRecord], **given: Any) -> Run:
    summary = Summary("A text.", calls=tuple(calls))
    record = EpisodeRecord("e1", "First", 9, 1_700_000_000.0, 10.0, summary)
    values = {"id": "r1", "config": Config(provider="scripted"), "provider": "p", "model": "m"}
    return Run(**{**values, "records": [record], "makespan_s": 10.0, **given})


def make_call(name: str, **given: Any) -> CallRecord:
    values: dict[str, Any] = {
        "episode_id": "e1",
        "stage": Stage.MAP,
        "chunk_index": 0,
        "provider": "p",
        "model": "m",
        "status": Status.OK,
        "stop_reason": StopReason.STOP,
        "started_at": 1_700_000_000.0,
        "input_tokens": 100,
        "output_tokens": 20,
    }
    return CallRecord(call_id=name, **{**values, **given})


def test_figures_are_those_of_the_run(parsed: Any) -> None:
    """Rates over the makespan, shares over the time of all calls, refusals by their kind."""
    calls = [
        make_call("a", wait_tokens_s=6.0, service_s=2.0, total_s=8.0, cost_usd=0.25),
        make_call("b", wait_tokens_s=0.0, service_s=2.0, total_s=2.0, cost_usd=0.5),
    ]
    found = parsed(page(make_run(calls, quota_shares={"tokens:bucket:60": 0.913})))
    shown = tiles(found)
    assert shown["Episodes summarized"] == "1 of 1 1 ok"
    assert shown["Makespan"] == "10.0 s"
    assert shown["Episodes an hour"] == "360"
    assert shown["Output tokens/s"] == "4 20 input tokens/s"
    assert shown["Cost"] == "$0.75"
    assert shown["Quota used"] == "91.3 % of the limit that bound"
    assert (
        shown["Most time went to"]
        == "the limit on tokens 60.0 % of the calls' time; 1 calls under way at a time"
    )
    assert alerts(found) == []


def test_reused_calls_stand_beside_the_makespan(run_scripted: RunScripted, parsed: Any) -> None:
    """And no rate is stated, which would be another run's."""
    run_scripted()
    found = parsed(page(run_scripted()))
    assert alerts(found)[0].startswith("Reused. 12 calls reused")
    assert tiles(found)["Makespan"].endswith("with 12 reused calls")
    assert tiles(found)["Episodes an hour"].startswith("–")
    assert "Throughput: no call brought a new reply" in " ".join(found.text.split())


def test_what_is_missing_is_said_first(parsed: Any) -> None:
    """Before any figure: by what a run was stopped, and how many episodes have no summary."""
    episodes = [Episode.from_text(f"e{n}", "Some words.") for n in range(4)]
    with ApiServer(key="another") as server:
        config = Config(
            provider="openai", model="m", openai_base_url=server.base_url, openai_api_key="sk-wrong",
            limits_url="memory://",
        )  # fmt: skip
        run = work(episodes, config, progress=False)
    text = page(run)
    found = parsed(text)
    assert alerts(found)[0].startswith("Stopped by itself. openai/m: 127.0.0.1 answered 401")
    assert alerts(found)[1].startswith("Something is missing. 1 failed and 3 cancelled of 4 episodes")
    assert text.index("Stopped by itself") < text.index("Makespan")
    assert tiles(found)["State"] == "stopped"
    captions = [caption.text for caption in found.all("caption")]
    assert {"Attempts that failed, by kind", "Calls that failed"} <= set(captions)
    assert "AuthenticationFailed" in found.text


def test_a_run_without_anything_has_a_page(parsed: Any) -> None:
    """It says of each plot why it is not there, and shows no empty one."""
    found = parsed(page(work([], Config(provider="scripted"), progress=False)))
    assert found.all("img") == []
    text = " ".join(found.text.split())
    for words in ("Timeline: no calls", "Episodes: There were none.", "Limits: No limiter"):
        assert words in text


def plant_open(holder: str) -> Run:
    """Keep a run that began, with one call in an episode that has not ended."""
    store = store_at(read_address("memory://"))
    row = {
        "id": "r1", "provider": "p", "model": "m", "config": json.dumps(Config().shown()),
        "environment": '{"cores": 2}', "reuse": "all", "repeat": 1, "holder": holder, "scope": "s",
        "started_at": 1.0, "episodes_given": 5,
    }  # fmt: skip
    call = make_call("a-0", total_s=3.0, service_s=2.0, wait_requests_s=1.0, key="k")
    store.commit({schema.runs: [row], **call_rows("r1", call, "reply")})
    return open_store("memory://").run("r1")


def test_a_run_that_died_says_so(parsed: Any) -> None:
    """With how many of its episodes it had done, and how to go on."""
    run = plant_open(DEAD)
    assert (run.state, run.episodes_given) == ("died", 5)
    found = parsed(page(run))
    assert alerts(found)[0].startswith("Died. Its process ended before it did, after 0 of 5 episodes.")


def test_a_run_that_goes_on_says_so(parsed: Any) -> None:
    """Its episodes under way are not missing; the limiter's events come with its end, so no plot of them."""
    found = parsed(page(plant_open(this_process())))
    (alert,) = alerts(found)
    assert alert.startswith("Still running. When this page was made 0 of 5 episodes had ended")
    assert tiles(found)["Episodes summarized"] == "0 of 5 1 under way"
    assert "Requests in flight: What the limiter did is written when a run ends" in " ".join(
        found.text.split()
    )


def test_a_handle_gives_what_has_ended(parsed: Any) -> None:
    """A page of a run in the background does not wait for it."""
    episodes = [Episode.from_text(f"e{n}", "Some words.") for n in range(3)]
    with ApiServer(latency=0.05) as server:
        config = Config(
            provider="openai", model="m", openai_base_url=server.base_url, openai_api_key="x",
            limits_url="memory://",
        )  # fmt: skip
        handle = tk.start(episodes, config)
        during = page(handle)
        run = handle.wait()
    assert handle.id in during
    assert (
        tiles(parsed(page(handle)))["Episodes summarized"] == tiles(parsed(page(run)))["Episodes summarized"]
    )


def test_a_simulated_run_is_called_so(run_scripted: RunScripted, parsed: Any) -> None:
    """Nobody is to take computed times for measured ones."""
    run = run_scripted()
    run.simulated = True  # type: ignore[attr-defined]
    found = parsed(page(run))
    assert alerts(found)[0].startswith("Simulated. Nothing was called")
    assert tiles(found)["Kept"] == "nowhere: simulated runs are not kept"


def test_long_tables_are_cut_and_say_how_to_get_the_rest(parsed: Any) -> None:
    """A thousand episodes and ten thousand calls: a page of some MB, failures first."""
    records = []
    for number in range(1000):
        calls = [
            make_call(
                f"{number}-{n}", started_at=1_700_000_000.0 + number + n / 10, service_s=0.5, total_s=0.5
            )
            for n in range(10)
        ]
        bad = number == 999
        status, text = (Status.FAILED, "") if bad else (Status.OK, "word " * 300)
        summary = Summary(text, status, "it failed" if bad else None, 10, tuple(calls))
        records.append(EpisodeRecord(f"e{number:04d}", "", 9, 1_700_000_000.0 + number, 1.0, summary))
    run = make_run([], records=records, makespan_s=1000.0)
    text = page(run)
    assert len(text) < 4_000_000
    found = parsed(text)
    assert "200 of 1,000 are shown: first those that are not ok, then those that took longest" in found.text
    assert "run.episodes" in found.text
    assert len(found.all("tr")) < 400
    assert found.all("tbody")[1].text.split()[0] == "e0999"


def test_several_runs_are_set_beside_each_other(run_scripted: RunScripted, parsed: Any) -> None:
    """What differs in their settings, their figures in a column each, and their summaries side by side."""
    runs = [run_scripted(), run_scripted(summary_max_tokens=12, reuse="none"), run_scripted(number=4)]
    found = parsed(page(runs))
    heads = [tag.text for tag in found.all("th") if tag.attributes["scope"] == "col"]
    for letter, run in zip("ABC", runs, strict=True):
        assert f"{letter}: {run.id}" in heads
    text = " ".join(found.text.split())
    assert "summary_max_tokens – 12 –" in text
    assert "chunk_tokens 32 32 32" not in text
    assert len(found.all("article")) == 4 * 3
    assert text.count("Missing: not in this run") == 2
    assert any("not that of a run which asks everything" in alert for alert in alerts(found))


def test_episodes_that_were_not_reached_are_counted(parsed: Any) -> None:
    """A run that was stopped after one of forty is not complete beside another, nor by itself."""
    runs = [
        make_run(
            [make_call("c1", service_s=1.0, total_s=1.0)], episodes_given=40, state="interrupted", id=name
        )
        for name in "ab"
    ]
    assert tiles(parsed(page(runs[0])))["Episodes summarized"].startswith("1 of 40")
    assert "episodes summarized 1 of 40 1 of 40" in " ".join(parsed(page(runs)).text.split())


def test_settings_that_were_chosen_stand_apart(run_scripted: RunScripted, parsed: Any) -> None:
    """Those that differ from the defaults first; all of them folded; of a run that was read back, too."""
    run = run_scripted(temperature=0.5)
    text = page(open_store().run(run.id))
    chosen = text.partition("Settings that differ from the defaults")[2].partition("<details>")[0]
    assert "temperature" in chosen
    assert "top_p" not in chosen
    assert f"All {len(run.config.shown())} settings" in text


def test_a_config_that_this_release_would_refuse_is_shown(run_scripted: RunScripted) -> None:
    """It was another release's; a page of it is no place to complain."""
    run = run_scripted()
    run.config = Config.model_construct(**{**run.config.shown(), "engine": "abacus", "seed": "many"})
    text = page(run)
    assert "abacus" in text
    assert "many" in text


def test_episodes_bring_references_and_scores(parsed: Any) -> None:
    """Only the episodes have them; of some that are missing the page says so and is as good otherwise."""
    episodes = [
        Episode.from_text(f"e{n}", f"The hill {n} is dry. The spring is not.", reference="The hill is dry.")
        for n in range(3)
    ]
    run = work(episodes, Config(provider="scripted"), progress=False)
    plain, full, part = (parsed(page(run, episodes=given)) for given in (None, episodes, episodes[:1]))
    assert "quality" not in [tag.attributes.get("id") for tag in plain.all("section")]
    assert "Reference, written by a person" in full.text
    assert "rougeL" in full.text
    scores = [" ".join(tag.text.split()) for tag in full.all("tr") if tag.text.split()[:1] == ["e1"]]
    # Whether it is cut off is no number.
    assert scores[-1].split()[-1] in ("yes", "no")
    assert "pass the episodes that the run was made with" in " ".join(part.text.split())


def test_a_report_is_a_file(
    run_scripted: RunScripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Named after the run if nothing else is said; one that is there is replaced."""
    monkeypatch.chdir(tmp_path)
    run = run_scripted()
    assert tk.report(run) == Path(f"report-{run.id}.html")
    given = tmp_path / "a page.html"
    given.write_text("older")
    assert tk.report(run, given) == given
    assert given.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a page.html", f"report-{run.id}.html"]
    with pytest.raises(OSError, match="nowhere"):
        tk.report(run, tmp_path / "nowhere" / "page.html")


def test_a_file_is_named_after_what_it_is_of() -> None:
    """Whatever an id holds, the file is in the working folder."""
    assert file_name([make_run([], id="../../etc/passwd")]) == "report-etc_passwd.html"
    assert file_name([make_run([], id="//")]) == "report-run.html"
    assert file_name([make_run([], id=name) for name in "abcde"]) == "report-a-b-c-and-2-more.html"


@pytest.mark.parametrize("wrong", [None, "3f2a", [], [1], {"a": 1}])
def test_what_is_no_run_is_refused(wrong: Any) -> None:
    """With what would do."""
    with pytest.raises(ConfigError, match="report"):
        page(wrong)


def test_episodes_must_be_episodes(run_scripted: RunScripted) -> None:
    """A path is what somebody gives who has not loaded them."""
    for wrong in ("data/episodes", ["data/episodes"]):
        with pytest.raises(ConfigError, match=r"load_episodes"):
            page(run_scripted(), episodes=wrong)  # type: ignore[arg-type]


def test_phases_are_shares_of_one(hosted: tuple[Run, list[Episode]]) -> None:
    """They are all of the calls' time, and reused calls have none of it."""
    run = hosted[0]
    of = Figures(run)
    made = run.calls[~run.calls["reused"]]
    assert sum(phase.share for phase in of.phases) == pytest.approx(1.0)
    assert sum(phase.seconds for phase in of.phases) == pytest.approx(made["total_s"].sum())
