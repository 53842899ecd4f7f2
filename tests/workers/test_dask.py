"""Episodes on a Dask cluster: workers that come and go, limits and store in one PostgreSQL."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest
from other_processes import episodes_of, kill, soon
from postgresql_server import Server

from toolkit.archive import open_store
from toolkit.config import Config
from toolkit.errors import ConfigError
from toolkit.handle import start
from toolkit.planning import plan
from toolkit.records import Episode
from toolkit.testing import ApiServer
from toolkit.workflow import run

distributed = pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
dask = pytest.importorskip("dask", reason="the extra 'cluster' is not installed")
# Dask leaves sockets and loops to the garbage collector when workers are killed.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]


@pytest.fixture(scope="module", autouse=True)
def patience() -> Iterator[None]:
    """Where a killed worker is not back within 15 s a ``LocalCluster`` gives it up for good."""
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "300s"}):
        yield


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Three worker processes of two threads, on this machine's own address."""
    with distributed.LocalCluster(
        n_workers=3, threads_per_worker=2, host="127.0.0.1", dashboard_address="127.0.0.1:0"
    ) as cluster:
        yield cluster


@pytest.fixture
def client(cluster: Any) -> Iterator[Any]:
    """Open what a notebook has open."""
    with distributed.Client(cluster) as client:
        client.wait_for_workers(3)
        yield client


@pytest.fixture
def shared(hosted: dict[str, Any], postgresql: Server) -> dict[str, Any]:
    """Store and limits as machines share them."""
    url = postgresql.url(postgresql.database())
    return {
        **hosted,
        "store_url": url,
        "limits_url": url,
        "episode_backend": "dask",
        "summary_batch_size": 6,
    }


def test_run_on_a_cluster(client: Any, shared: dict[str, Any]) -> None:
    """All workers take part, and everything they bring is in the frames and in the store."""
    made = run(episodes_of(12), Config(**shared))
    assert made.state == "complete"
    assert len(made.calls) == 48
    assert len(set(made.episodes["worker"])) == 3
    assert made.workers["episodes"].sum() == 12
    assert open_store(shared["store_url"]).run(made.id).calls.equals(made.calls)


def test_workers_are_killed_and_others_join(
    client: Any, cluster: Any, shared: dict[str, Any], server: ApiServer
) -> None:
    """Every episode is done, and no call that was kept is asked twice."""
    episodes = episodes_of(12, lines=10)
    handle = start(episodes, Config(**shared))
    archive = open_store(shared["store_url"])

    def busy() -> list[int] | None:
        calls = archive.calls(handle.id)
        pids = [int(name.rpartition(":")[2]) for name in calls["worker"].unique()]
        return pids if len(calls) > 20 and len(pids) == 3 else None

    lost = soon(busy, "three workers with calls")[:2]
    for pid in lost:
        kill(pid)
    cluster.scale(4)
    made = handle.wait()

    assert made.state == "complete"
    assert not made.calls["reused"].any()
    assert len(made.calls) == 12 * 11
    # Of each of the two threads of each of the two that were killed, the call under way.
    assert len(server.journal()) <= 12 * 11 + 4
    cluster.scale(3)


def test_database_is_away_for_a_while(
    client: Any, shared: dict[str, Any], postgresql: Server, server: ApiServer
) -> None:
    """Calls wait for it, nothing is lost, and the run ends by itself."""
    handle = start(episodes_of(8, lines=10), Config(**shared))
    archive = open_store(shared["store_url"])
    soon(lambda: len(archive.calls(handle.id)) > 10, "call")
    postgresql.stop("immediate")
    try:
        asked = len(server.journal())
        seen = soon(lambda: handle.progress.waits_for, "word of it")
        assert "nothing is sent" in seen
    finally:
        postgresql.start()
    made = handle.wait()
    assert made.state == "complete"
    assert len(made.calls) == 88
    assert asked < 88


def test_driver_that_is_killed_is_gone_on_with(
    client: Any, cluster: Any, shared: dict[str, Any], server: ApiServer, tmp_path: Path
) -> None:
    """The next start takes what the workers of the first had kept."""
    program = tmp_path / "driver.py"
    program.write_text(
        "import sys, json\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[1] / 'shared')!r})\n"
        "from other_processes import episodes_of\n"
        "import toolkit as tk\n"
        "if __name__ == '__main__':\n"
        "    settings = json.loads(sys.argv[1])\n"
        "    tk.run(episodes_of(8, lines=10), tk.Config(**settings))\n"
    )
    settings = {**shared, "cluster_address": cluster.scheduler_address}
    driver = subprocess.Popen([sys.executable, str(program), json.dumps(settings)])
    soon(lambda: len(server.journal()) > 20, "call")
    driver.kill()
    driver.wait()
    again = run(episodes_of(8, lines=10), Config(**settings))
    assert again.state == "complete"
    assert again.reused.calls >= 12


def test_no_client_is_said(shared: dict[str, Any]) -> None:
    """Together with what to do."""
    with pytest.raises(ConfigError, match="has no client to work through"):
        run(episodes_of(1), Config(**shared))
    with pytest.raises(ConfigError, match=r"cluster_address='tcp://127\.0\.0\.1:9' cannot be reached"):
        run(episodes_of(1), Config(**{**shared, "cluster_address": "tcp://127.0.0.1:9"}))


@pytest.mark.usefixtures("deadly")
def test_episode_that_takes_its_workers_with_it_fails_alone(shared: dict[str, Any]) -> None:
    """Dask gives it up after some, and the run goes on."""
    episodes = [Episode.from_text(f"e{n}", "poison" if n == 3 else "Bees dance.") for n in range(8)]
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, host="127.0.0.1", dashboard_address="127.0.0.1:0"
        ) as cluster,
        distributed.Client(cluster),
    ):
        made = run(episodes, Config(**{**shared, "provider": "deadly", "summary_batch_size": 3}))
    assert made.counts() == {"ok": 7, "failed": 1}
    (failed,) = (record for record in made.records if record.summary.status == "failed")
    assert "KilledWorker" in str(failed.summary.error)


def test_joblibs_own_client_is_taken(client: Any, shared: dict[str, Any]) -> None:
    """Where nothing else is said, ``joblib.parallel_config`` says who works."""
    with joblib.parallel_config(backend="dask"):
        made = run(episodes_of(3), Config(**{**shared, "episode_backend": None}))
    assert made.state == "complete"
    assert made.workers["episodes"].sum() == 3


def test_plan_knows_the_cluster(client: Any, shared: dict[str, Any]) -> None:
    """Its slots bound the episodes at a time, and its workers are told."""
    made = plan(episodes_of(20), Config(**{**shared, "summary_batch_size": 16}))
    level = made.level("episodes")
    assert (level.asked, level.effective, level.bound_by) == (16, 6, "workers")
    assert "16 episodes at a time wait for 6 slots of 3 workers" in [str(found) for found in made.conflicts]
    assert any("3 workers on 1 machine: 6 slots, 2 cores" in note for note in made.notes)
