"""Episodes on Ray, where it is installed."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest
from other_processes import episodes_of

from toolkit.config import Config
from toolkit.errors import ConfigError, MissingDependency
from toolkit.workflow import run

IS_HERE = find_spec("ray") is not None

PROGRAM = """
import json, sys
import ray
import toolkit as tk
if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    settings = json.loads(sys.argv[1])
    episodes = [tk.Episode.from_text(f"e{n}", f"Episode {n}. It is about bees.") for n in range(8)]
    run = tk.run(episodes, tk.Config(**settings))
    print(json.dumps([run.state, len(run.workers), run.episodes["worker"].notna().all().item()]))
    try:
        tk.run(episodes, tk.Config(**{**settings, "provider": "transformers", "model": "/nowhere"}))
    except tk.ModelUnavailable as error:
        print("unavailable:", str(error).splitlines()[0])
"""


@pytest.mark.slow
@pytest.mark.skipif(not IS_HERE, reason="ray is not installed")
def test_run_on_ray(settings: dict[str, Any]) -> None:
    """In a process of its own, since Ray leaves threads and warnings behind."""
    import json

    told = {**settings, "episode_backend": "ray", "provider": "lead", "summary_chunk_parallelism": 1}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(told)], capture_output=True, text=True, check=True
    )
    state, workers, all_named = json.loads(done.stdout.splitlines()[0])
    assert (state, all_named) == ("complete", True)
    assert 1 <= workers <= 2
    assert "Model '/nowhere' is not available" in done.stdout


def test_without_a_cluster(settings: dict[str, Any]) -> None:
    """Ray is not started for the user, since it would listen on all addresses; nor is it installed."""
    expected = (ConfigError, "has no cluster") if IS_HERE else (MissingDependency, "pip install ray")
    with pytest.raises(expected[0], match=expected[1]):
        run(episodes_of(1), Config(**{**settings, "episode_backend": "ray", "provider": "lead"}))
