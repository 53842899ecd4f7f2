"""``toolkit sweep GRID.toml PATHS…``."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from toolkit.cli import main
from toolkit.errors import ConfigError
from toolkit.sweeps.files import read_sweep_file

GRID = """
repeats = 2
score = false

[grid]
summary_batch_size = [1, 2]
chunk_tokens = [64, 128]

[config]
provider = "scripted"
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a folder with a transcript and a grid."""
    (tmp_path / "bees.txt").write_text("Mara: Bees dance. They point to flowers.\nJonas: How far?\n")
    (tmp_path / "grid.toml").write_text(GRID)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_grid_in_a_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each cell is told as it ends; the means are shown, and all is in the folder."""
    assert main(["sweep", "grid.toml", "bees.txt", "--out", "out"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("summary_batch_size=") == 8
    assert "makespan_s" in printed
    assert "4 cells over summary_batch_size, chunk_tokens, 8 ok" in printed
    with (here / "out" / "cells.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 8
    assert main(["sweep", "grid.toml", "bees.txt", "--out", "out"]) == 0
    assert "8 measured in an earlier start" in capsys.readouterr().out


def test_a_simulated_one(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With a table of latencies nothing is run."""
    (here / "grid.toml").write_text(GRID + "[latency]\nbase_s = 2.0\n")
    assert main(["sweep", "grid.toml", "bees.txt", "--out", "out"]) == 0
    printed = capsys.readouterr().out
    assert "8 ok, simulated" in printed
    assert "Kept in" not in printed


def test_settings_of_the_command_line_go_first(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Before those of the file's [config]."""
    command = ["sweep", "grid.toml", "bees.txt", "--out", "out", "--set", "summary_max_tokens=9"]
    assert main([*command, "--model", "mine"]) == 0
    assert '"model": "mine"' in (here / "out" / "sweep.json").read_text()
    assert '"summary_max_tokens": 9' in (here / "out" / "sweep.json").read_text()


def test_a_cell_that_fails_is_status_1(here: Path) -> None:
    """Something is missing."""
    (here / "grid.toml").write_text(
        GRID.replace("[64, 128]", "[64]") + 'direct_prompt = "' + "w " * 9000 + '{text}"'
    )
    assert main(["sweep", "grid.toml", "bees.txt", "--out", "out"]) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("repeat = 2\n[grid]\nseed = [1]", "'repeat' is no part of a sweep; settings of all cells"),
        ("repeets = 2\n[grid]\nseed = [1]", "did you mean 'repeats'"),
        ("config = 3", r"config must be a table"),
        ("[grid", "is no valid TOML"),
        ("confirm = 'false'\n[grid]\nseed = [1]", "confirm='false' must be true or false"),
        ("[latency]\nbase = 1", r"\[latency\]"),
        ("[latency]\nbase_s = -1", "must be a number from 0 on"),
    ],
)
def test_a_file_that_is_none(here: Path, text: str, message: str) -> None:
    """The file is named with what is wrong."""
    (here / "grid.toml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_sweep_file("grid.toml")
    assert main(["sweep", "grid.toml", "bees.txt"]) == 2


def test_a_file_that_is_not_there(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong use, in one line."""
    assert main(["sweep", "nowhere.toml", "bees.txt"]) == 2
    assert "nowhere.toml: cannot be read" in capsys.readouterr().err
