"""``toolkit lab``: what it copies, what it leaves alone, and how it opens JupyterLab."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
import venv
from importlib.util import find_spec
from pathlib import Path

import pytest
from checkout import copy_checkout
from lab_in_browser import wait_until_it_listens

from toolkit.cli import main
from toolkit.errors import ConfigError
from toolkit.lab import PARTS, RECORD, copy_samples, samples

ROOT = Path(__file__).parents[2]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Notebooks and data of a version that a test may change."""
    place = tmp_path / "version"
    for name in ("notebooks/01_a.ipynb", "notebooks/02_b.ipynb", "data/episodes/bees.txt"):
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}, first version")
    return place


def texts(folder: Path) -> dict[str, str]:
    """Return all files but the record, by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.relative_to(folder).as_posix() != RECORD
    }


def test_notebooks_and_their_data_are_copied(tmp_path: Path) -> None:
    """All of the repository's two folders, byte by byte, and the data where the notebooks look for it."""
    copied = copy_samples(tmp_path / "lab")
    there = {path.relative_to(ROOT).as_posix() for part in PARTS for path in ROOT.glob(part)}
    assert set(copied.new) == there
    assert len([name for name in there if name.endswith(".ipynb")]) == 9
    for name in there:
        assert (copied.folder / name).read_bytes() == (ROOT / name).read_bytes()
    assert (copied.folder / "notebooks" / ".." / "data" / "episodes").is_dir()
    assert not list(copied.folder.rglob("*.part"))


def test_second_time_there_is_nothing_to_do(source: Path, tmp_path: Path) -> None:
    """No file is written again, so none gets a new date."""
    place = tmp_path / "lab"
    copy_samples(place, source)
    dates = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    assert copy_samples(place, source)[1:] == ((), (), ())
    assert {path: path.stat().st_mtime_ns for path in dates} == dates


def test_what_was_changed_is_kept_and_named(source: Path, tmp_path: Path) -> None:
    """A new version replaces what nobody touched, and nothing else."""
    place = tmp_path / "lab"
    copy_samples(place, source)
    (place / "notebooks/01_a.ipynb").write_text("mine")
    for name in texts(source):
        (source / name).write_text("second version")
    copied = copy_samples(place, source)
    assert copied.updated == ("data/episodes/bees.txt", "notebooks/02_b.ipynb")
    assert copied.kept == ("notebooks/01_a.ipynb",)
    assert texts(place) == {
        "data/episodes/bees.txt": "second version",
        "notebooks/01_a.ipynb": "mine",
        "notebooks/02_b.ipynb": "second version",
    }
    assert "Kept as you changed them: notebooks/01_a.ipynb" in str(copied)
    assert copy_samples(place, source).kept == ("notebooks/01_a.ipynb",)


def test_a_file_that_was_there_before_is_kept(source: Path, tmp_path: Path) -> None:
    """One of the same name that the toolkit never wrote is the user's own."""
    place = tmp_path / "lab"
    (place / "notebooks").mkdir(parents=True)
    (place / "notebooks/01_a.ipynb").write_text("mine")
    copied = copy_samples(place, source)
    assert copied.kept == ("notebooks/01_a.ipynb",)
    assert texts(place)["notebooks/01_a.ipynb"] == "mine"


def test_a_file_that_was_renamed_comes_anew(source: Path, tmp_path: Path) -> None:
    """That is how to have the original beside one's own."""
    place = tmp_path / "lab"
    copy_samples(place, source)
    (place / "notebooks/01_a.ipynb").rename(place / "notebooks/mine.ipynb")
    assert copy_samples(place, source).new == ("notebooks/01_a.ipynb",)
    assert (place / "notebooks/mine.ipynb").exists()


@pytest.mark.parametrize("record", ["", "[]", "{", '{"notebooks/01_a.ipynb": 3}'])
def test_without_a_record_nothing_is_written_over(record: str, source: Path, tmp_path: Path) -> None:
    """A record that was lost or spoilt makes every other version of a file the user's own."""
    place = tmp_path / "lab"
    copy_samples(place, source)
    (place / RECORD).write_text(record)
    for name in texts(source):
        (source / name).write_text("second version")
    assert len(copy_samples(place, source).kept) == 3
    assert set(texts(place).values()) == {f"{name}, first version" for name in texts(place)}


def test_the_checkout_itself_is_no_copy(source: Path) -> None:
    """``toolkit lab .`` in a checkout opens its own notebooks and leaves nothing there."""
    before = texts(source)
    assert copy_samples(source, source)[1:] == ((), (), ())
    assert texts(source) == before
    assert not (source / RECORD).exists()


def test_folder_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file in its place, say: one sentence with the reason, and the status for wrong use."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file: notebooks cannot be copied there \(.+\); name another"):
        copy_samples(tmp_path / "file")
    assert main(["lab", str(tmp_path / "file")]) == 2
    assert "name another folder" in capsys.readouterr().err


def test_without_jupyterlab_the_copy_is_there_and_the_install_line_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The notebooks can be opened with something else."""
    monkeypatch.setitem(sys.modules, "jupyterlab", None)
    assert main(["lab", str(tmp_path / "lab"), "--no-browser"]) == 2
    said = capsys.readouterr()
    assert f"{tmp_path / 'lab'}: " in said.out
    assert said.err.splitlines() == [
        "toolkit: toolkit lab needs the package 'jupyterlab'; install it with: "
        'python -m pip install "episode-toolkit[lab]"'
    ]
    assert (tmp_path / "lab/notebooks/01_quickstart.ipynb").exists()


STAND_IN = """
import json, os, signal, sys
print(json.dumps([os.getpid(), sys.argv[1:], signal.getsignal(signal.SIGINT) is signal.default_int_handler]))
sys.exit(7)
"""


@pytest.mark.skipif(os.name == "nt", reason="there JupyterLab is a process beside this one")
def test_jupyterlab_takes_the_place_of_the_command(tmp_path: Path) -> None:
    """It has its process, its signals and its exit status, the folder, and all that stood behind ``--``."""
    (tmp_path / "jupyterlab").mkdir()
    (tmp_path / "jupyterlab/__init__.py").write_text("")
    (tmp_path / "jupyterlab/__main__.py").write_text(STAND_IN)
    folder = tmp_path / "lab"
    process = subprocess.Popen(
        [sys.executable, "-m", "toolkit.cli", "lab", "lab", "--no-browser", "--", "--port=9999", "--", "-x"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT)])},
        stdout=subprocess.PIPE,
        text=True,
    )
    said = process.communicate(timeout=60)[0].splitlines()
    pid, arguments, is_interrupted_as_usual = json.loads(said[-1])
    assert (process.returncode, pid, is_interrupted_as_usual) == (7, process.pid, True)
    assert arguments[0] == f"--ServerApp.root_dir={folder}"
    assert arguments[1].endswith("/notebooks/01_quickstart.ipynb")
    assert arguments[2:] == ["--no-browser", "--port=9999", "--", "-x"]


@pytest.mark.slow
@pytest.mark.skipif(find_spec("jupyterlab") is None, reason="JupyterLab is not installed")
def test_jupyterlab_opens_with_the_notebooks(tmp_path: Path) -> None:
    """The real one starts in the folder, with the quickstart in its address, and ends with SIGTERM."""
    folder = tmp_path / "lab"
    command = [sys.executable, "-m", "toolkit.cli", "lab", str(folder), "--no-browser", "--", "--allow-root"]
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            found = (re.search(r"http://127\.0\.0\.1:\S+", line) for line in process.stderr)
            address = next(match[0] for match in found if match)
            assert "/lab/tree/notebooks/01_quickstart.ipynb?" in address
            server, token = address.partition("/lab")[0], address.partition("?")[2]
            wait_until_it_listens(server)
            with urllib.request.urlopen(f"{server}/api/contents/notebooks?{token}", timeout=30) as answer:
                listed = {item["name"] for item in json.load(answer)["content"]}
            assert listed == {path.name for path in (ROOT / "notebooks").glob("*.ipynb")}
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
        finally:
            process.kill()


@pytest.mark.slow
def test_wheel_and_editable_install_hold_the_notebooks(tmp_path: Path) -> None:
    """Both copy the same files; the wheel from the package, the editable install from the checkout."""
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python"
    install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps"]
    checkout = copy_checkout(tmp_path / "checkout")
    ask = "from toolkit.lab import copy_samples, samples; print(samples()); copy_samples('{}')"
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    found = {}
    for how, arguments in {"wheel": [checkout], "editable": ["-e", checkout]}.items():
        subprocess.run([*install, *arguments], check=True)
        said = subprocess.run(
            [python, "-c", ask.format(tmp_path / how)],
            check=True,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=clean,
        )
        found[how] = Path(said.stdout.strip())
        assert texts(tmp_path / how) == texts_of_samples()
    assert found["wheel"].is_relative_to(tmp_path / "venv")
    assert found["editable"] == checkout


def texts_of_samples() -> dict[str, str]:
    """Return what is to be copied, by name."""
    place = samples()
    paths = [path for part in PARTS for path in sorted(place.glob(part))]
    return {path.relative_to(place).as_posix(): path.read_text() for path in paths}
