"""The command line: exit status, what is printed where, and that no mistake ends in a traceback."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

import toolkit
from toolkit.cli import main
from toolkit.config import Config
from toolkit.errors import RequestRejected
from toolkit.providers.registry import PROVIDERS
from toolkit.providers.scripted import ScriptedSummarizationProvider
from toolkit.records import Reply, Request

ROOT = Path(toolkit.__file__).parents[1]
FILES = ["attempts.csv", "calls.csv", "episodes.csv", "summaries.md"]


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
    files, kept = printed.splitlines()[-2:]
    assert kept.startswith("Kept in memory:// as run ")
    assert files.replace("\\", "/") == "Files: out/summaries.md, episodes.csv, calls.csv, attempts.csv"
    heading = "2 episodes, scripted/first-sentence, 1 at a time, 1 chunk of each at a time"
    assert told == f"toolkit: {heading}\n"
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


def test_unreadable_files_are_named_before_the_work_starts(
    shows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who reads that a file is wrong may stop before anything is paid for; the end reminds of it."""
    empty = shows.parent / "empty.txt"
    empty.write_text("")
    assert main(scripted(shows / "bees.txt", empty)) == 1
    printed, told = capsys.readouterr()
    first, named, heading, reminder = told.splitlines()
    assert first == "toolkit: one file could not be loaded:"
    assert "empty.txt" in named
    assert heading.startswith("toolkit: 1 episode, scripted")
    assert reminder == "toolkit: 1 file could not be loaded, see the start"
    assert "1 of 1 episode in" in printed
    assert [row["episode_id"] for row in rows(Path("out/episodes.csv"))] == ["bees"]


def test_files_with_one_id_are_all_named(shows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither of two files of one name is summarized, and neither is passed over in silence."""
    other = shows.parent / "bees.md"
    other.write_text("Mara: Bees sleep.\n")
    assert main(scripted(shows, other)) == 1
    told = capsys.readouterr().err
    assert "toolkit: 2 files could not be loaded" in told
    assert [row["episode_id"] for row in rows(Path("out/episodes.csv"))] == ["hill"]


def test_failed_episode_is_status_1(shows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Instructions that leave no room for text fail each episode: that is said, and no success."""
    prompt = "word " * 8192 + "{text}"
    assert main([*scripted(shows), "--set", f"direct_prompt={prompt}"]) == 1
    assert "failed: ContextTooLong" in capsys.readouterr().out
    assert [row["status"] for row in rows(Path("out/episodes.csv"))] == ["failed", "failed"]


class FirstChunkFails(ScriptedSummarizationProvider):
    """A provider that never gets the first part of a text through."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, faults=lambda request, attempt: FAULTS.get(request.chunk_index))


FAULTS = {0: RequestRejected("no")}


def test_partial_episode_is_status_1(
    shows: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A summary from which something is missing is no success, though it is shown and kept."""
    monkeypatch.setitem(PROVIDERS, "first-chunk-fails", f"{__name__}:FirstChunkFails")
    (shows / "bees.txt").write_text("Mara: Bees dance.\n" * 30)
    arguments = [*scripted(shows), "--provider", "first-chunk-fails", "--set", "chunk_tokens=32"]
    assert main(arguments) == 1
    assert "partial: chunk 1 of" in capsys.readouterr().out
    assert [row["status"] for row in rows(Path("out/episodes.csv"))] == ["partial", "ok"]


def test_row_of_what_did_not_run_has_a_dash(shows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table shows no ``<NA>`` where a number does not apply."""
    assert main([*scripted(shows), "--set", "direct_prompt=" + "word " * 8192 + "{text}"]) == 1
    (row,) = [line for line in capsys.readouterr().out.splitlines() if line.split()[:1] == ["hill"]]
    assert row.split() == ["hill", "8", "-", "0.0", "failed"]


def test_notes_come_before_the_table(shows: Path) -> None:
    """Whoever looks at the end of the output sees the table and the files, and above them what went wrong."""
    (shows / "broken.json").write_text("{")
    process = subprocess.run(
        command(scripted(shows)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60
    )
    lines = process.stdout.splitlines()
    reminder = lines.index("toolkit: 1 file could not be loaded, see the start")
    assert reminder < next(n for n, line in enumerate(lines) if line.split()[:1] == ["episode"])


def test_broken_callback_costs_no_result(
    shows: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that cannot go on for a mistake of the command's own is saved as far as it came, and says why."""
    monkeypatch.setattr("toolkit.cli.paragraph", lambda record: 1 / 0)
    assert main(scripted(shows)) == 1
    assert "toolkit: The run was stopped: on_episode raised ZeroDivisionError" in capsys.readouterr().err
    assert [row["status"] for row in rows(Path("out/episodes.csv"))] == ["ok", "cancelled"]


class InTheWay(ScriptedSummarizationProvider):
    """A provider while whose work somebody else takes the folder of the results."""

    def generate(self, request: Request) -> Reply:
        Path("out").write_text("in the way")
        return super().generate(request)


def test_folder_that_went_costs_no_printed_summary(
    shows: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """If files cannot be written after all, a line says so and the rest of the output comes all the same."""
    monkeypatch.setitem(PROVIDERS, "in-the-way", f"{__name__}:InTheWay")
    assert main([*scripted(shows), "--provider", "in-the-way"]) == 1
    printed, told = capsys.readouterr()
    assert "toolkit: the results could not be written to out (File exists)" in told
    assert "Mara: Bees dance." in printed
    assert printed.splitlines()[-1] == "No files."


MISTAKES = {
    "a setting that is none": (["--set", "sumary_batch_size=2"], "did you mean 'summary_batch_size'"),
    "a wrong value": (["--set", "summary_batch_size=0"], "summary_batch_size=0"),
    "no value": (["--set", "summary_batch_size"], "write name=value"),
    "an unknown provider": (["--provider", "scriptd"], "did you mean 'scripted'"),
    "a config that is not there": (["--config", "missing.toml"], "missing.toml: cannot be read"),
    "a broken config": (["--config", "broken.toml"], "broken.toml: is no valid TOML"),
    "a file as folder": (["--out", "broken.toml"], "--out broken.toml: results cannot be written there"),
    "a file above the folder": (["--out", "broken.toml/x"], "--out broken.toml/x: results cannot be"),
    "a folder in place of a file": (["--out", "taken"], "(calls.csv is a folder there)"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistake_is_one_line_and_status_2(name: str, shows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong setting is told in one line on standard error before anything runs or is written."""
    Path("broken.toml").write_text("provider = \n")
    Path("taken/calls.csv").mkdir(parents=True)
    given, words = MISTAKES[name]
    assert main([*scripted(shows), *given]) == 2
    printed, told = capsys.readouterr()
    assert printed == ""
    (line,) = told.splitlines()
    assert line.startswith("toolkit: ")
    assert words in line
    assert sorted(path.name for path in Path().rglob("*")) == ["broken.toml", "calls.csv", "taken"]


@pytest.mark.skipif(not Path("/proc/self/fdinfo").is_dir(), reason="no folder in which nobody may write")
def test_folder_in_which_nothing_can_be_written(shows: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is found out by writing, before the work, and not by looking at rights, which root has all."""
    assert main([*scripted(shows), "--out", "/proc/self/fdinfo"]) == 2
    printed, told = capsys.readouterr()
    assert printed == ""
    assert told.startswith("toolkit: --out /proc/self/fdinfo: results cannot be written there (")


@pytest.mark.parametrize(
    "wrong",
    [["--provider", "openai"], ["--provider", "transformers", "--model", "nowhere/nothing"]],
    ids=["missing key", "unknown model"],
)
def test_failed_start_leaves_no_folder(
    wrong: list[str], shows: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What could not begin has no results, and no folder for them, not even the one above."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    # Not by the environment: what it says when the library is first loaded stays for all later tests.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert main(["run", str(shows), *wrong]) == 2
    assert list(Path().iterdir()) == []


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


def command(arguments: list[str]) -> list[str]:
    return [sys.executable, "-m", "toolkit.cli", *arguments]


def start(arguments: list[str], redirection: str = "", **environment: str) -> subprocess.Popen[str]:
    """Start the command with pipes for its output, or with what the shell makes of a redirection."""
    begun = command(arguments)
    if redirection:
        begun = ["sh", "-c", f'exec "$@" {redirection}', "sh", *begun]
    return subprocess.Popen(
        begun,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


FULL = Path("/dev/full")
NO_SPACE = "not all output could be written (No space left on device)"


@pytest.mark.slow
@pytest.mark.skipif(not FULL.exists(), reason="no file that is always full")
@pytest.mark.parametrize(
    ("redirection", "status", "printed", "told"),
    [
        (">/dev/full", 1, "", f"toolkit: {NO_SPACE}\n"),
        ("2>/dev/full", 1, "Files: out/", ""),
        (">/dev/full 2>&1", 1, "", ""),
        (">&-", 0, "", "toolkit: 2 episodes"),
        ("2>&-", 0, "Files: out/", ""),
        (">&- 2>&-", 0, "", ""),
        ("<&- >&- 2>&-", 0, "", ""),
    ],
)
def test_output_that_goes_nowhere_costs_no_result(
    redirection: str, status: int, printed: str, told: str, shows: Path
) -> None:
    """The run goes on and its files are whole; that a disk is full is said once and is no success."""
    process = start(scripted(shows), redirection)
    out, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert printed in out
    assert bool(printed) == bool(out)
    assert told in err
    assert err.count("\n") <= 2
    assert [row["status"] for row in rows(Path("out/episodes.csv"))] == ["ok", "ok"]
    assert sorted(path.name for path in Path("out").iterdir()) == FILES


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="pipes break differently there")
@pytest.mark.parametrize("case", ["all well", "all failed", "files broken"])
def test_reader_that_leaves_changes_nothing(case: str, shows: Path) -> None:
    """``toolkit run … | head -1``: files, exit status and what is told are those of a run without it."""
    arguments = scripted(shows)
    if case == "all failed":
        arguments += ["--set", f"direct_prompt={'word ' * 8192}{{text}}"]
    if case == "files broken":
        for name in "abc":
            (shows / f"{name}.json").write_text("{")
    process = start(arguments)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    told = process.stderr.read()
    process.stderr.close()
    assert process.wait(60) == (case != "all well"), told
    assert "Broken" not in told
    assert "Traceback" not in told
    assert ("3 files could not be loaded, see the start" in told) == (case == "files broken")
    assert len(rows(Path("out/episodes.csv"))) == 2


@pytest.mark.slow
def test_letters_that_the_terminal_lacks_cost_no_result(shows: Path) -> None:
    """A summary in Chinese on a terminal that has ASCII only is shown with question marks, and kept whole."""
    (shows / "bees.txt").write_text("Mara: 蜜蜂跳舞。\n", encoding="utf-8")
    process = start(scripted(shows), PYTHONIOENCODING="ascii")
    printed, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert "Mara: ???" in printed
    assert "蜜蜂跳舞" in rows(Path("out/episodes.csv"))[0]["summary"]


def test_warning_of_the_toolkit_is_a_plain_note(shows: Path) -> None:
    """A config of an older version is told of in one line, without the line of code that noticed it."""
    with start(["run", str(shows), "--set", "summary_batch_size=2", "--out", str(shows / "bees.txt")]) as run:
        warning, mistake = run.communicate(timeout=60)[1].splitlines()
    assert warning.startswith("toolkit: summary_batch_size=2 sets how many episodes")
    assert "results cannot be written there" in mistake
