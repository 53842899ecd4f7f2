"""Runs with summaries as they are needed, without a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from toolkit.config import Config
from toolkit.records import EpisodeRecord, Status, Summary
from toolkit.runs import Run

MakeRun = Callable[..., Run]


@pytest.fixture
def make_run() -> MakeRun:
    """Return what makes a run of summaries: a text, a status for one without, or both."""

    def make(
        summaries: Mapping[str, str | Status | tuple[str, Status]], id: str = "run", model: str = "m"
    ) -> Run:
        records = []
        for episode_id, given in summaries.items():
            text, status = given if isinstance(given, tuple) else (given, Status.OK)
            if isinstance(given, Status):
                text, status = "", given
            summary = Summary(text, status, None if status is Status.OK else "<b>what</b> is missing")
            records.append(EpisodeRecord(episode_id, episode_id.title(), 10, 0.0, 1.0, summary))
        return Run(
            id=id,
            config=Config(provider="scripted"),
            provider="p",
            model=model,
            records=records,
            makespan_s=1.0,
        )

    return make
