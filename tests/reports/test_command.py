"""``toolkit report``: which runs, which file, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolkit.archive import open_store
from toolkit.cli import main


@pytest.fixture
def ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Make a store with two runs, and be beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TOOLKIT_STORE_URL", f"sqlite:///{tmp_path}/runs.db")
    Path("bees.txt").write_text("Mara: Bees dance. They point to flowers.\n")
    Path("bees.ref.txt").write_text("How bees tell where flowers are.\n")
    for batch in ("1", "2"):
        assert (
            main(["run", "bees.txt", "--provider", "scripted", "--set", f"summary_batch_size={batch}"]) == 0
        )
    return open_store().runs()["run_id"].tolist()


@pytest.mark.slow
def test_a_run_is_named_by_id_its_beginning_or_last(
    ids: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """The file is named after the run, and its path is what is printed."""
    capsys.readouterr()
    for name, run_id in ((ids[0], ids[0]), (ids[0][:8], ids[0]), ("last", ids[1])):
        assert main(["report", name]) == 0
        assert capsys.readouterr().out == f"report-{run_id}.html\n"
        assert f"Run {run_id}" in Path(f"report-{run_id}.html").read_text(encoding="utf-8")


def test_several_runs_are_compared(ids: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """One that is named twice counts once."""
    capsys.readouterr()
    assert main(["report", *ids, "last", "--out", "both.html", "--episodes", "bees.txt"]) == 0
    assert capsys.readouterr().out == "both.html\n"
    text = Path("both.html").read_text(encoding="utf-8")
    assert "2 runs compared" in text
    assert "How bees tell where flowers are." in text


def test_wrong_use_is_told(ids: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """2 for a run that is not there or an empty store; 1 if the page cannot be written."""
    capsys.readouterr()
    assert main(["report", "zzz"]) == 2
    assert "no run 'zzz'" in capsys.readouterr().err
    assert main(["report", "last", "--store", f"sqlite:///{tmp_path}/other.db"]) == 2
    assert "no last run: the store holds none yet" in capsys.readouterr().err
    assert main(["report", "last", "--out", "nowhere/page.html"]) == 1
    assert "the report could not be written" in capsys.readouterr().err
    assert main(["report", "last", "--episodes", "nothing.txt"]) == 2
