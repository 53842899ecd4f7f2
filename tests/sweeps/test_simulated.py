"""Sweeps in which nothing is run: the same frames, any number of cells, and only figures kept."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from toolkit.archive import open_store
from toolkit.config import Config
from toolkit.errors import ConfigError
from toolkit.latency import LatencyModel
from toolkit.records import Episode
from toolkit.runs import Run
from toolkit.simulation import simulate
from toolkit.sweeps import sweep
from toolkit.sweeps.simulating import chance_of

MODEL = LatencyModel(base_s=1.0, spread=0.3, output_tokens=20)


def simulated(episodes: list[Episode], grid: dict[str, Any], **options: Any) -> Any:
    config = Config(provider="scripted", chunk_tokens=32)
    return sweep(episodes, config, grid, **{"simulate": True, "latency": MODEL, **options})


def test_it_says_so_and_asks_nobody(episodes: list[Episode]) -> None:
    """Rows and runs are flagged, and the store has none of them."""
    study = simulated(episodes, {"summary_batch_size": [1, 3]}, repeats=3)
    assert study.cells["simulated"].all()
    assert study.cells["status"].eq("ok").all()
    assert study.simulated
    assert "simulated" in repr(study)
    assert study.cells[["run_id", "started_at", "peak_rss_mb"]].isna().all().all()
    assert study.warm_ups.empty
    assert open_store().runs().empty
    assert study.best("makespan_s")["summary_batch_size"] == 3


def test_repeats_differ_and_cells_of_one_meet_the_same_chances(episodes: list[Episode]) -> None:
    """So that two settings that come to the same are seen to."""
    study = simulated(episodes, {"max_attempts": [4, 5]}, repeats=3)
    by_repeat = study.cells.groupby("repeat")["makespan_s"]
    assert by_repeat.nunique().eq(1).all()
    assert by_repeat.first().nunique() == 3
    other = simulated(episodes, {"max_attempts": [4, 5]}, repeats=3, seed=1)
    assert not set(other.cells["makespan_s"]) & set(study.cells["makespan_s"])


def test_a_cell_is_the_simulation_of_its_config(episodes: list[Episode]) -> None:
    """And its run is had by simulating it once more."""
    study = simulated(episodes, {"summary_batch_size": [1, 2]}, repeats=2)
    alone = simulate(episodes, study.config_of(2), latency=MODEL, seed=chance_of(0, 2))
    row = study.cells[(study.cells["cell"] == 2) & (study.cells["repeat"] == 2)].iloc[0]
    assert row["makespan_s"] == alone.makespan_s == study.runs[2, 2].makespan_s
    assert study.runs[2, 2].simulated


def test_runs_are_not_kept(episodes: list[Episode]) -> None:
    """Of five hundred cells there are the figures; thousands of runs would not fit into memory."""
    gc.collect()
    before = sum(type(one) is Run for one in gc.get_objects())
    study = simulated(episodes[:1], {"summary_batch_size": range(1, 501)})
    gc.collect()
    assert sum(type(one) is Run for one in gc.get_objects()) <= before + 1
    assert len(study.cells) == len(study.runs) == 500
    assert len(study._repr_html_()) < 40_000


def test_a_cell_that_cannot_be_simulated_says_why(episodes: list[Episode]) -> None:
    """The others are."""
    study = simulated(episodes, {"provider": ["scripted", "unheard-of"]})
    assert study.cells["status"].tolist() == ["ok", "failed"]
    assert "'unheard-of' is unknown" in study.cells["error"][1]


def test_what_it_goes_by_must_be_given(episodes: list[Episode]) -> None:
    """A latency without a simulation would have no effect, a simulation without one no basis."""
    with pytest.raises(ConfigError, match="needs latency="):
        simulated(episodes, {"summary_batch_size": [1]}, latency=None)
    with pytest.raises(ConfigError, match="add simulate=True"):
        simulated(episodes, {"summary_batch_size": [1]}, simulate=False)
