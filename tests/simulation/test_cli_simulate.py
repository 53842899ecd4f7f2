"""``toolkit simulate``: from files to figures, with a latency from a file, a number, or kept runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.archive import open_store
from toolkit.cli import OK, SOMETHING_MISSING, WRONG_USE, main
from toolkit.latency import LatencyModel


@pytest.fixture
def transcripts(tmp_path: Path) -> str:
    """Two transcripts in a folder."""
    folder = tmp_path / "talks"
    folder.mkdir()
    for name in ("bees", "hills"):
        said = " ".join(f"There are {n} of the {name} here." for n in range(60))
        (folder / f"{name}.txt").write_text(f"Ada: {said}")
    return str(folder)


def test_stated_seconds(transcripts: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Two episodes, one after the other, of one call of three seconds each: six seconds."""
    assert main(["simulate", transcripts, "--provider", "openai", "--latency", "3", "--seeds", "2"]) == OK
    out, told = capsys.readouterr()
    assert "2 of 2 episodes in 6.0 s" in out
    assert "2 simulations: 6.0 s" in out
    assert "LatencyModel(3 s)" in told


def test_file_and_frames(transcripts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A kept model, and the frames of the median run where they are asked for."""
    model = LatencyModel(base_s=1.0, spread=0.2).save(tmp_path / "m.json")
    out = tmp_path / "out"
    arguments = ["simulate", transcripts, "--provider", "scripted", "--latency", str(model)]
    assert main([*arguments, "--out", str(out)]) == OK
    assert {path.name for path in out.iterdir()} >= {"calls.csv", "episodes.csv"}
    assert "20 simulations" in capsys.readouterr().out


def test_kept_runs(transcripts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that was kept tells how long calls take."""
    work = [transcripts, "--provider", "scripted", "--set", "chunk_tokens=32"]
    main(["run", *work, "--out", str(tmp_path / "out")])
    (run_id,) = open_store().runs()["run_id"]
    capsys.readouterr()
    assert main(["simulate", *work, "--latency-from", run_id]) == OK
    assert "fitted to" in capsys.readouterr().err


def test_what_is_wrong_is_said(transcripts: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there, and a transcript that cannot be read."""
    assert main(["simulate", transcripts, "--latency", "none.json"]) == WRONG_USE
    assert "none.json: cannot be read" in capsys.readouterr().err
    (Path(transcripts) / "broken.json").write_text("{")
    status = main(["simulate", transcripts, "--provider", "scripted", "--latency", "1"])
    assert status == SOMETHING_MISSING
    assert "broken.json" in capsys.readouterr().err
