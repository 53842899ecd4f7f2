"""What a plan says of processes that work on the episodes."""

from __future__ import annotations

import joblib
import pytest

from toolkit.config import Config
from toolkit.planning import plan
from toolkit.planning.machine import Machine
from toolkit.planning.planner import Planner

HOSTED = {"provider": "openai", "model": "gpt-4o", "openai_max_concurrent_requests": 64}
MACHINE = Machine(cores=4, memory_gb=6.0, model_gb=1.2)


def test_processes_are_as_many_as_episodes() -> None:
    """They bound nothing: as many are started as are asked for."""
    config = Config(**HOSTED, episode_backend="processes", summary_batch_size=8)
    made = plan([1000] * 20, config)
    assert made.level("episodes").bound_by == "summary_batch_size"
    assert any(note.startswith("episodes go to 8 workers on 1 machine: 8 slots") for note in made.notes)


def test_each_setting_is_planned_with_its_own_processes() -> None:
    """Also where joblib's context says that there are some, and one planner plans several settings."""
    planner = Planner([1000] * 20, None, None)
    with joblib.parallel_config("loky"):
        made = [planner.plan(Config(**HOSTED, summary_batch_size=number)) for number in (2, 8)]
    told = [
        note.split(" on ")[0] for plan in made for note in plan.notes if note.startswith("episodes go to")
    ]
    assert told == ["episodes go to 2 workers", "episodes go to 8 workers"]


@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_cluster_that_is_not_there_yet(backend: str) -> None:
    """The plan is made without it, and says so."""
    config = Config(**HOSTED, episode_backend=backend, summary_batch_size=8)
    made = plan([1000] * 20, config)
    assert made.level("episodes").effective == 8
    assert any(note.startswith(f"episode_backend={backend!r} cannot be reached") for note in made.notes)


def test_each_process_loads_the_model() -> None:
    """Which the memory shows, and the notes say."""
    settings = {"provider": "transformers", "summary_batch_size": 4, "summary_chunk_parallelism": 1}
    memory = {
        backend: plan([1000] * 8, Config(**settings, episode_backend=backend), machine=MACHINE)
        .bound("memory")
        .because
        for backend in ("threads", "processes")
    }
    taken = {backend: float(text.split()[0]) for backend, text in memory.items()}
    assert taken["processes"] > 2 * taken["threads"]
    made = plan([1000] * 8, Config(**settings, episode_backend="processes"), machine=MACHINE)
    assert any("each loads the model" in note for note in made.notes)
