"""What a sweep measures, keeps and shows."""

from __future__ import annotations

import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from toolkit.archive import SWEEPS, open_store
from toolkit.config import Config
from toolkit.errors import ConfigError
from toolkit.frames import CELLS, TIME
from toolkit.providers.scripted import ScriptedSummarizationProvider
from toolkit.records import Episode, Request
from toolkit.sweeps import sweep
from toolkit.sweeps.judging import name_of_score
from toolkit.sweeps.machine import machine_digest

GRID = {"summary_batch_size": [1, 2], "chunk_tokens": [32, 64]}
JUDGED: list[str] = []
"""Runs that a score was asked about; it would be another score if it held them itself."""


def test_a_row_for_each_cell_and_repeat(scripted: Any) -> None:
    """With its knobs, its place in the order, and a run of its own."""
    study = scripted(GRID, repeats=3)
    frame = study.cells
    assert len(frame) == 12
    assert list(frame["status"].unique()) == ["ok"]
    assert sorted(frame["order"]) == list(range(1, 13))
    assert list(frame["order"]) != list(range(1, 13))
    assert frame.sort_values("order")["repeat"].tolist() == [1] * 4 + [2] * 4 + [3] * 4
    assert frame["started_at"].argsort().tolist() == frame["order"].argsort().tolist()
    assert frame["run_id"].nunique() == 12
    assert frame.groupby("chunk_tokens")["calls"].unique().map(list).to_dict() == {32: [9], 64: [3]}


def test_the_frame_has_the_declared_columns(scripted: Any) -> None:
    """Types too, with the knobs behind repeat."""
    frame = scripted(GRID).cells
    names = [column.name for column in CELLS]
    place = names.index("repeat") + 1
    assert list(frame) == [*names[:place], *GRID, *names[place:]]
    for column in CELLS:
        assert str(frame[column.name].dtype) == column.dtype.replace(TIME, "datetime64[us, UTC]")
    assert str(frame["chunk_tokens"].dtype) == "Int64"


def test_figures_are_those_of_the_run(scripted: Any) -> None:
    """Worked out from the run's own frames, they come to the same."""
    study = scripted(GRID)
    for row in study.cells.itertuples():
        run = study.runs[row.cell, row.repeat]
        assert row.makespan_s == run.makespan_s > 0
        assert row.episodes_per_h == pytest.approx(3600 * 3 / run.makespan_s)
        assert row.output_tokens_per_s == pytest.approx(run.calls["output_tokens"].sum() / run.makespan_s)
        assert row.calls == len(run.calls)
        assert run.id == row.run_id


def test_every_repeat_is_asked_anew(scripted: Any) -> None:
    """Neither an earlier run, nor another cell, nor another repeat gives its answers."""
    scripted(GRID, repeats=1, name="before")
    before = scripted.calls
    study = scripted(GRID, repeats=2, warm_up=False)
    assert study.cells["calls_reused"].sum() == 0
    assert scripted.calls - before == study.cells["calls"].sum() == 48
    keys = [set(study.runs[1, repeat].calls["key"]) for repeat in (1, 2)]
    assert not keys[0] & keys[1]


def test_texts_that_are_alike_are_each_asked_about(scripted: Any) -> None:
    """A measurement whose second episode costs nothing would be of something else."""
    scripted.episodes = [Episode.from_text(f"e{n}", "Hill dries.") for n in range(4)]
    study = scripted({"summary_batch_size": [1]})
    assert study.cells["calls"].tolist() == [4]


def test_repeats_count_on_from_the_config(scripted: Any) -> None:
    """So that later repeats can be measured by themselves."""
    study = scripted({"summary_batch_size": [1]}, settings={"repeat": 3}, repeats=2)
    assert study.cells["repeat"].tolist() == [3, 4]
    assert {config.repeat for config in scripted.made} >= {3, 4}


def test_a_first_call_to_each_model_is_kept_apart(scripted: Any) -> None:
    """One for each model, before its cells, in a frame of its own and in no mean."""
    study = scripted({"model": ["a", "b"], "summary_batch_size": [1, 2]}, repeats=2)
    warm = study.warm_ups
    assert sorted(warm["model"]) == ["a", "b"]
    assert warm["repeat"].tolist() == [0, 0]
    assert warm["calls"].tolist() == [1, 1]
    assert len(study.cells) == 8
    assert not set(warm["run_id"]) & set(study.cells["run_id"])
    for row in warm.itertuples():
        assert (study.cells[study.cells["model"] == row.model]["started_at"] >= row.started_at).all()
    assert scripted(GRID, warm_up=False, name="cold").warm_ups.empty


def test_means_with_their_intervals(scripted: Any) -> None:
    """Student's interval of three values, worked out by hand; none of one."""

    def score(run: Any, episodes: Any) -> dict[str, float]:
        return {"number": float(run.config.repeat) ** 2}

    study = scripted({"summary_batch_size": [1]}, repeats=3, score=score)
    means = study.means("number")
    mean, deviation = 14 / 3, math.sqrt(sum((x - 14 / 3) ** 2 for x in (1, 4, 9)) / 2)
    half = 4.302653 * deviation / math.sqrt(3)
    row = means.iloc[0]
    assert row["number"] == pytest.approx(mean)
    assert row["number_low"] == pytest.approx(mean - half)
    assert row["number_high"] == pytest.approx(mean + half)
    assert row["number_n"] == row["ok"] == 3
    once = scripted({"summary_batch_size": [1]}, score=score, name="once").means("number").iloc[0]
    assert pd.isna(once["number_low"])
    assert once["number_n"] == 1


def test_means_are_of_what_is_known(scripted: Any) -> None:
    """By default all figures with a value, and a row for each cell; a name that is none is refused."""
    means = scripted(GRID, repeats=2).means()
    assert means["cell"].tolist() == [1, 2, 3, 4]
    assert {"makespan_s", "episodes_per_h"} <= set(means)
    assert "rouge1" not in means
    with pytest.raises(ConfigError, match="did you mean 'makespan_s'"):
        scripted(GRID).means("makespan")


def test_the_best_cell_and_its_setting(scripted: Any) -> None:
    """Least for times, most for rates, and what one says for scores of one's own."""
    study = scripted({"chunk_tokens": [32, 64]}, score=lambda run, episodes: {"calls_made": len(run.calls)})
    row = study.best("makespan_s")
    assert row["chunk_tokens"] == 64
    assert study.config_of(row["cell"]).chunk_tokens == 64
    assert study.best()["chunk_tokens"] == 64
    assert study.best("calls_made")["chunk_tokens"] == 32
    assert study.best("calls_made", lowest=True)["chunk_tokens"] == 64
    with pytest.raises(ConfigError, match="no cell 3"):
        study.config_of(3)


def test_summaries_are_scored_against_references(scripted: Any) -> None:
    """A score is given the run with its summaries, and all of its numbers become columns."""
    seen = []

    def score(run: Any, episodes: list[Episode]) -> dict[str, float | None]:
        seen.append((run.summary("e0").text, episodes[0].id))
        return {"words": float(len(run.summary("e0").text.split())), "nothing": None}

    study = scripted({"chunk_tokens": [32, 64]}, score=score)
    assert study.extra == ("words", "nothing")
    assert study.cells["words"].notna().all()
    assert study.cells["nothing"].isna().all()
    assert len(seen) == 2
    assert all(text and name == "e0" for text, name in seen)


# Again


def test_the_same_sweep_again_takes_what_it_measured(scripted: Any) -> None:
    """Nothing is asked, the figures are the same, and every row says so."""
    first = scripted(GRID, repeats=2)
    calls = scripted.calls
    again = scripted(GRID, repeats=2)
    assert scripted.calls == calls
    assert again.id == first.id
    assert again.cells["kept"].all()
    assert not first.cells["kept"].any()
    assert again.cells.drop(columns="kept").equals(first.cells.drop(columns="kept"))
    assert "8 measured in an earlier start" in repr(again)
    assert again.runs[2, 1].id == first.runs[2, 1].id


def test_more_repeats_are_added(scripted: Any) -> None:
    """Two are there, and the third is measured."""
    scripted(GRID, repeats=2)
    study = scripted(GRID, repeats=3)
    assert study.cells.groupby("repeat")["kept"].all().to_dict() == {1: True, 2: True, 3: False}


def test_another_score_is_applied_to_what_was_measured(scripted: Any) -> None:
    """The summaries are in the store: they are judged anew, not made anew."""
    scripted(GRID, score=False)
    calls = scripted.calls

    def length(run: Any, episodes: Any) -> dict[str, float]:
        return {"length": float(len(run.summary("e1").text))}

    study = scripted(GRID, score=length)
    assert scripted.calls == calls
    assert (study.cells["length"] > 0).all()


def test_what_was_judged_anew_is_kept(scripted: Any) -> None:
    """A third start takes the scores as they are; one without a score, or of one that raises, loses none."""

    def score(run: Any, episodes: Any) -> dict[str, float]:
        JUDGED.append(run.id)
        return {"x": 2.0}

    def broken(run: Any, episodes: Any) -> dict[str, float]:
        raise ZeroDivisionError

    scripted(GRID)
    first = scripted(GRID, score=score)
    for other in (score, False, broken, score):
        again = scripted(GRID, score=other)
    assert sorted(JUDGED) == sorted(first.cells["run_id"])
    assert again.cells["x"].eq(2).all()
    pd.testing.assert_frame_equal(again.cells, first.cells)


def test_a_score_is_known_by_its_code_and_by_what_it_closes_over(scripted: Any) -> None:
    """Edited in a notebook it keeps its name, and what the old one said is not shown for the new one."""
    judged = []

    def weighted(weight: float) -> Any:
        def score(run: Any, episodes: Any) -> dict[str, float]:
            judged.append(weight)
            return {"x": weight}

        return score

    scores = [weighted(1.0), weighted(2.0), weighted(2.0), lambda run, episodes: {"x": 3.0}]
    scores += [lambda run, episodes: {"x": 4.0}, partial(lambda x, run, episodes: {"x": x}, 5.0)]
    found = [scripted({"seed": [1]}, score=score).cells["x"].tolist() for score in scores]
    assert found == [[1.0], [2.0], [2.0], [3.0], [4.0], [5.0]]
    assert name_of_score(weighted(2.0)) == name_of_score(weighted(2.0)) != name_of_score(weighted(1.0))
    assert name_of_score(partial(max, 1)) == name_of_score(partial(max, 1)) != name_of_score(partial(max, 2))


def test_without_a_score_nothing_is_read_from_the_store(
    scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What judges nothing needs no summaries, and a score's trouble is no trouble then."""
    scripted(GRID, score=lambda run, episodes: {"x": 1 / 0})
    monkeypatch.setattr("toolkit.sweeps.measuring.Archive", None)
    again = scripted(GRID, score=False)
    assert again.cells["kept"].all()
    assert again.cells["error"].isna().all()


@pytest.mark.parametrize(
    ("value", "shown"), [(np.float32(0.5), 0.5), (np.int64(3), 3.0), (True, 1.0), (None, None), (pd.NA, None)]
)
def test_a_score_may_bring_numbers_of_any_kind(scripted: Any, value: Any, shown: float | None) -> None:
    """NumPy's and pandas' too, which JSON does not know."""
    for _ in range(2):
        study = scripted({"seed": [1]}, score=lambda run, episodes: {"x": value})
        assert study.cells["error"].isna().all()
        found = study.cells["x"][0]
        assert pd.isna(found) if shown is None else found == shown


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("makespan_s", 99.0, "'makespan_s' is a column already"),
        ("status", 99.0, "'status' is a column already"),
        ("seed", 99.0, "'seed' is a column already"),
        ("x", "good", "could not convert"),
    ],
)
def test_a_score_replaces_no_measurement(scripted: Any, name: str, value: Any, message: str) -> None:
    """What is no number, or has the name of another column, is an error of the score alone."""
    study = scripted({"seed": [1]}, score=lambda run, episodes: {name: value})
    assert study.cells["status"].tolist() == ["ok"]
    assert message in study.cells["error"][0]
    assert study.cells["makespan_s"][0] == study.runs[1, 1].makespan_s
    assert study.cells["seed"].tolist() == [1]


def test_with_a_name_a_sweep_grows(scripted: Any) -> None:
    """Cells are known again by their settings, whatever their number; without a name it is another sweep."""
    first = scripted({"chunk_tokens": [64]}, name="chunks")
    grown = scripted({"chunk_tokens": [32, 64]}, name="chunks")
    assert grown.id == first.id
    assert grown.cells.set_index("chunk_tokens")["kept"].to_dict() == {32: False, 64: True}
    assert grown.cells["cell"].tolist() == [1, 2]
    assert not scripted({"chunk_tokens": [32, 64]}).cells["kept"].any()


def test_other_episodes_are_measured_anew(scripted: Any) -> None:
    """Even under the same name."""
    scripted({"chunk_tokens": [64]}, name="x")
    scripted.episodes = scripted.episodes[:2]
    assert scripted({"chunk_tokens": [64]}, name="x").cells["kept"].tolist() == [False]


def test_a_deleted_run_is_measured_anew(scripted: Any) -> None:
    """Its cell goes with it."""
    study = scripted({"chunk_tokens": [32, 64]})
    open_store().delete(study.cells["run_id"][0])
    assert scripted({"chunk_tokens": [32, 64]}).cells["kept"].tolist() == [False, True]


# Besides


def test_several_at_a_time_only_when_asked_and_told(scripted: Any) -> None:
    """They share the machine, so no row can be taken for one that had it alone."""
    study = scripted(GRID, repeats=2, parallel=3)
    assert study.cells["status"].eq("ok").all()
    assert study.cells["parallel"].eq(3).all()
    assert study.cells["peak_rss_mb"].isna().all()
    assert "3 at a time" in repr(study)
    assert scripted(GRID, name="alone").cells["parallel"].eq(1).all()


def test_each_row_is_told_as_it_ends(scripted: Any) -> None:
    """One after the other, in the order of measurement."""
    rows: list[Any] = []
    study = scripted(GRID, on_cell=rows.append)
    assert [row.values["order"] for row in rows] == [1, 2, 3, 4]
    assert {row.cell.number for row in rows} == set(study.cells["cell"])
    assert repr(rows[0]).startswith("<Row: summary_batch_size=")
    assert len(repr(rows)) < 4 * 150
    assert len(repr(rows[0].cell)) < 200


def test_the_environment_is_recorded(scripted: Any) -> None:
    """Versions, cores, memory, processor, load and commit, with the sweep and in the store."""
    told = scripted(GRID).environment
    assert {"toolkit", "python", "processor", "cores", "memory_mb", "libraries", "git_commit"} <= set(told)
    assert told["libraries"]["joblib"]
    assert told["memory_mb"] > 100
    assert machine_digest(told) == machine_digest({**told, "load_at_start": [9.0, 9.0, 9.0]})
    assert machine_digest(told) != machine_digest({**told, "python": "2.7"})


def test_it_is_saved_as_files(scripted: Any, tmp_path: Path) -> None:
    """Tables that another program reads, and what the sweep was."""
    study = scripted({"model": ["=a", "b"]}, repeats=2)
    place = study.save(tmp_path / "new")
    assert sorted(path.name for path in place.iterdir()) == [
        "cells.csv",
        "means.csv",
        "sweep.json",
        "warm_ups.csv",
    ]
    assert len(pd.read_csv(place / "cells.csv")) == 4
    assert "'=a" in (place / "cells.csv").read_text()
    record = json.loads((place / "sweep.json").read_text())
    assert record["sweep_id"] == study.id
    assert record["environment"] == study.environment
    assert record["interrupted"] is False


def test_it_shows_itself(scripted: Any) -> None:
    """In a line, and as a table whose text is harmless."""
    study = scripted({"model": ["<b>bold</b>", "b"]})
    assert f"<Sweep {study.id}: 2 cells over model, 2 ok>" == repr(study)
    shown = study._repr_html_()
    assert "<b>" not in shown
    assert "&lt;b&gt;bold" in shown
    assert "<table" in shown


def test_a_run_that_is_not_there_is_a_key_error(scripted: Any) -> None:
    """With one that is."""
    study = scripted(GRID)
    assert len(study.runs) == 4
    assert set(study.runs) == {(cell, 1) for cell in (1, 2, 3, 4)}
    with pytest.raises(KeyError, match="no run of cell and repeat"):
        study.runs[9, 1]


def test_it_goes_by_the_registered_provider_too(episodes: list[Episode]) -> None:
    """Without a factory the config names who summarizes."""
    study = sweep(episodes, Config(provider="scripted"), {"chunk_tokens": [32, 64]})
    assert study.cells["status"].tolist() == ["ok", "ok"]


def test_a_class_is_a_factory(episodes: list[Episode]) -> None:
    """A provider that is being written in a notebook needs no registry."""

    class Mine(ScriptedSummarizationProvider):
        def generate(self, request: Request) -> Any:
            return super().generate(request)

    study = sweep(episodes, Config(provider="scripted"), {"chunk_tokens": [32, 64]}, provider=Mine)
    assert study.cells["status"].tolist() == ["ok", "ok"]


def test_rouge_is_a_column_where_there_are_references(scripted: Any) -> None:
    """Of episodes with a reference; the mean over them, as ``tk.quality`` scores each."""
    from toolkit.quality import scores

    known = Episode("known", scripted.episodes[0].turns, reference="Hill0 word word word dry01.")
    scripted.episodes = [known, *scripted.episodes[1:]]
    study = scripted({"summary_max_tokens": [8, 16]})
    assert study.cells[["rouge1", "rouge2", "rougeL"]].notna().all().all()
    alone = scores(study.runs[1, 1], scripted.episodes)
    assert study.cells["rougeL"][0] == pytest.approx(alone["rougeL"].dropna().mean())
    assert "rougeL" in study.means()


def test_the_store_lists_its_sweeps(scripted: Any) -> None:
    """What they went over, and how far they are."""
    study = scripted(GRID, repeats=2, name="chunks")
    frame = open_store().sweeps()
    assert [column.name for column in SWEEPS] == list(frame)
    row = frame.iloc[0]
    assert row["sweep_id"] == study.id
    assert row["name"] == "chunks"
    assert row["state"] == "idle"
    assert row["knobs"] == "summary_batch_size, chunk_tokens"
    assert row[["cells", "repeats", "ok", "failed", "unfinished"]].tolist() == [4, 2, 8, 0, 0]
    inside: list[str] = []
    scripted({"seed": [1]}, on_cell=lambda row: inside.extend(open_store().sweeps()["state"]))
    assert inside == ["idle", "running"]
