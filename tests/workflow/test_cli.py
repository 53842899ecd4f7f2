"""The command line: exit status, what is printed where, and that no mistake ends in a traceback."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import toolkit
from toolkit.cli import main

ROOT = Path(toolkit.__file__).parents[1]
FILES = ["calls.csv", "episodes.csv", "summaries.md"]


@pytest.fixture
def shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder of two transcripts, and a working folder beside it."""
    folder = tmp_path / "shows"
    folder.mkdir()
    (folder / "bees.txt").write_text("Mara: Bees dance. They point to flowers.\nJonas: How far?\n")
    (folder / "hill.txt").write_text("Mara: The hill is dry. The spring is not.\n")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def scripted(*arguments: object) -> list[str]:
    return ["run", *map(str, arguments), "--provider", "scripted", "--out", "out"]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_run_prints_summaries_figures_and_files(shows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The one command of the README shows what came of it and says where it is."""
    assert main(scripted(shows)) == 0
    printed, told = capsys.readouterr()
    assert "Mara: Bees dance." in printed
    assert [line.split()[0] for line in printed.splitlines() if line.rstrip().endswith(" ok")] == [
        "bees",
        "hill",
    ]
    assert "2 of 2 episodes in" in printed
    assert "output tokens/s" in printed
    assert "Files: out/summaries.md, episodes.csv, calls.csv" in printed.replace("\\", "/")
    assert "2 episodes, scripted/first-sentence, 1 at a time, 1 chunks of each at a time" in told
    assert sorted(path.name for path in Path("out").iterdir()) == FILES
    assert [row["status"] for row in rows(Path("out/episodes.csv"))] == ["ok", "ok"]


def test_without_out_results_have_a_folder_of_their_own(shows: Path) -> None:
    """Two runs one after the other do not write over each other's files, unless in the same second."""
    assert main(["run", str(shows), "--provider", "scripted"]) == 0
    (folder,) = Path("toolkit-out").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == FILES


def test_settings_reach_the_run(shows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--set`` goes before the file of ``--config``, and that before the defaults."""
    config = tmp_path / "c.toml"
    config.write_text(
        'provider = "scripted"\nsummary_batch_size = 2\nsummary_max_tokens = 9\nmodel = "mine"\n'
    )
    run = ["run", str(shows), "--config", str(config), "--out", "out"]
    assert main([*run, "--set", "summary_batch_size=3", "--set", "direct_prompt=Tell: {text}"]) == 0
    assert "scripted/mine, 3 at a time" in capsys.readouterr().err
    summaries = [row["summary"] for row in rows(Path("out/episodes.csv"))]
    assert all(summary.startswith("Tell: Mara:") for summary in summaries)
    assert all(row["model"] == "mine" for row in rows(Path("out/calls.csv")))


def test_unreadable_file_costs_only_itself(shows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Status 1: the others are summarized and kept, and the end says which file was not."""
    empty = shows.parent / "empty.txt"
    empty.write_text("")
    assert main(scripted(shows / "bees.txt", empty)) == 1
    printed, told = capsys.readouterr()
    assert "1 of 1 episodes in" in printed
    assert "empty.txt" in told.splitlines()[-1]
    assert [row["episode_id"] for row in rows(Path("out/episodes.csv"))] == ["bees"]


def test_failed_episode_is_status_1(shows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Instructions that leave no room for text fail each episode: that is said, and no success."""
    prompt = "word " * 8192 + "{text}"
    assert main([*scripted(shows), "--set", f"direct_prompt={prompt}"]) == 1
    assert "failed: ContextTooLong" in capsys.readouterr().out
    assert [row["status"] for row in rows(Path("out/episodes.csv"))] == ["failed", "failed"]


MISTAKES = {
    "a setting that is none": (["--set", "sumary_batch_size=2"], "did you mean 'summary_batch_size'"),
    "a wrong value": (["--set", "summary_batch_size=0"], "summary_batch_size=0"),
    "no value": (["--set", "summary_batch_size"], "write name=value"),
    "an unknown provider": (["--provider", "scriptd"], "did you mean 'scripted'"),
    "a config that is not there": (["--config", "missing.toml"], "missing.toml: cannot be read"),
    "a broken config": (["--config", "broken.toml"], "broken.toml: is no valid TOML"),
    "a file as folder": (["--out", "broken.toml"], "--out broken.toml: cannot be made a folder"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_one_line_and_status_2(name: str, shows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong setting is told in one line on standard error before anything runs or is written."""
    Path("broken.toml").write_text("provider = \n")
    given, words = MISTAKES[name]
    assert main([*scripted(shows), *given]) == 2
    printed, told = capsys.readouterr()
    assert printed == ""
    (line,) = told.splitlines()
    assert line.startswith("toolkit: ")
    assert words in line
    assert [path.name for path in Path().iterdir()] == ["broken.toml"]


def test_missing_transcript_is_one_line_and_status_2(shows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A path that is not there is named; no empty run is made of it."""
    assert main(scripted(shows.parent / "nowhere")) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "nowhere" in line


def test_escape_codes_of_a_file_do_not_reach_the_terminal(
    shows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither in a transcript's text nor in a wrong argument that is quoted back."""
    (shows / "evil.txt").write_text("Mara: \x1b[2JRain\x07 fell.\n")
    assert main(scripted(shows)) == 0
    assert main([*scripted(shows), "--config", "\x1b[2Jx.toml"]) == 2
    printed, told = capsys.readouterr()
    assert "\x1b" not in printed + told
    assert "\x07" not in printed + told


@pytest.mark.parametrize(
    ("arguments", "status", "stream", "words"),
    [
        (["--version"], 0, "out", f"episode-toolkit {toolkit.__version__}"),
        ([], 2, "err", "required: COMMAND"),
        (["run"], 2, "err", "required: PATH"),
        (["run", "x", "--nonsense"], 2, "err", "--nonsense"),
        (["run", "--help"], 0, "out", "--set NAME=VALUE"),
    ],
)
def test_usage(
    arguments: list[str], status: int, stream: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Version and help end well, wrong usage in status 2 with a line that says what is missing."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == status
    assert words in getattr(capsys.readouterr(), stream)


def test_models_lists_the_embedded_ones(capsys: pytest.CaptureFixture[str]) -> None:
    """The default model is in the list, there or not yet."""
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    (row,) = [line for line in printed.splitlines() if line.split()[:1] == ["smollm2-135m"]]
    assert "converted" in row or "not yet" in row


def start(script: str, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    """Start a process that knows the toolkit, with pipes for its output."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


MAIN = "import sys; from toolkit.cli import main; sys.exit(main(sys.argv[1:]))"
HANGING = r"""
import sys
from toolkit.cli import main
from toolkit.providers.registry import PROVIDERS
from toolkit.providers.scripted import ScriptedSummarizationProvider

class Hanging(ScriptedSummarizationProvider):
    def generate(self, request):
        if request.episode_id != "bees":
            sys.stdout.write("waiting\n")
            sys.stdout.flush()
            while not request.cancelled.wait(0.1):
                pass
        return super().generate(request)

PROVIDERS["hanging"] = "__main__:Hanging"
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot be sent SIGINT there")
@pytest.mark.parametrize("at_a_time", [1, 2])
def test_ctrl_c_writes_what_is_done_and_is_status_130(at_a_time: int, shows: Path) -> None:
    """A run that is interrupted after its first episode has that in its files."""
    for name in ("pond", "rain"):
        (shows / f"{name}.txt").write_text("Mara: Rain fell.\n")
    process = start(
        HANGING,
        "run",
        shows,
        "--provider",
        "hanging",
        "--out",
        "out",
        "--set",
        f"summary_batch_size={at_a_time}",
    )
    assert process.stdout is not None
    for _ in range(at_a_time):
        while process.stdout.readline() not in ("waiting\n", ""):
            pass
    process.send_signal(signal.SIGINT)
    printed, told = process.communicate(timeout=60)
    assert process.returncode == 130, told
    assert "Stopping" in told
    assert "Traceback" not in told
    statuses = [row["status"] for row in rows(Path("out/episodes.csv"))]
    assert statuses == ["ok"] * (1 + at_a_time) + ["cancelled"] * (3 - at_a_time)
    assert f"{1 + at_a_time} of 4 episodes" in printed


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break differently there")
def test_reader_that_leaves_costs_no_result(shows: Path) -> None:
    """``toolkit run … | head -1``: the files are written, and nothing is said of a broken pipe."""
    process = start(MAIN, *scripted(shows))
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    told = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == 0, told
    assert "Broken" not in told
    assert "Traceback" not in told
    assert len(rows(Path("out/episodes.csv"))) == 2


def test_letters_that_the_terminal_lacks_cost_no_result(shows: Path) -> None:
    """A summary in Chinese on a terminal that has ASCII only is shown with question marks, and kept whole."""
    (shows / "bees.txt").write_text("Mara: 蜜蜂跳舞。\n", encoding="utf-8")
    process = start(MAIN, *scripted(shows), PYTHONIOENCODING="ascii")
    printed, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert "Mara: ???" in printed
    assert "蜜蜂跳舞" in rows(Path("out/episodes.csv"))[0]["summary"]
