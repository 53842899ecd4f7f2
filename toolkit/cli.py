"""The command ``toolkit``.

Exit status: 0 all summarized; 1 something is missing: an episode failed or is partial, a transcript could
not be loaded, results or output could not be written; 2 wrong usage, config or input; 130 Ctrl-C, 143
SIGTERM, 129 SIGHUP. What was done is kept.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from toolkit.errors import ConfigError, RunInterrupted, ToolkitError, TranscriptError
from toolkit.interrupts import Signals, job_goes_on
from toolkit.records import EpisodeRecord, Status
from toolkit.screen import Screen, figures, heading, paragraph, plain_warnings, table

if TYPE_CHECKING:
    from toolkit.config import Config
    from toolkit.records import Episode

OK, SOMETHING_MISSING, WRONG_USE = 0, 1, 2
EXIT_STATUS = (__doc__ or "").partition("\n\n")[2]


def program() -> NoReturn:
    """Be the command: do what ``main`` does, and end the process."""
    # Before and after ``main`` there is nothing that a signal could spoil.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    status = main()
    if job_goes_on():
        # After a second Ctrl-C. The interpreter would wait until the last of the calls has timed out.
        os._exit(status)
    sys.exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    screen, signals = Screen(), Signals()
    try:
        chosen = _parser().parse_args(arguments)
        with signals, plain_warnings():
            status: int = chosen.command(chosen, screen, signals)
    except ToolkitError as error:
        screen.note(str(error))
        status = WRONG_USE
    except KeyboardInterrupt:
        screen.note("interrupted")
        status = signals.status
    finally:
        screen.flush()
    if screen.error is not None:
        screen.note(f"not all output could be written ({screen.error.strerror})")
    return status or (OK if screen.error is None else SOMETHING_MISSING)


def _parser() -> argparse.ArgumentParser:
    from toolkit import __version__

    parser = argparse.ArgumentParser(
        prog="toolkit",
        description="Summarize podcast transcripts and measure how it went.",
        epilog=EXIT_STATUS,
    )
    parser.add_argument("--version", action="version", version=f"episode-toolkit {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="summarize transcripts",
        description="Summarize transcripts and save what was measured.",
        epilog=EXIT_STATUS,
    )
    run.add_argument("paths", nargs="+", metavar="PATH", help="files, folders or globs")
    run.add_argument("--config", metavar="FILE", help="settings in TOML")
    run.add_argument("--provider", help="who summarizes (default: transformers)")
    run.add_argument("--model", help="name, folder or hub id of a model")
    run.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any setting, such as summary_chunk_parallelism=4; can be given many times",
    )
    run.add_argument("--store", metavar="URL", help="where runs are kept (default: .toolkit/runs.db)")
    run.add_argument(
        "--reuse",
        choices=("all", "run", "none"),
        help="answers taken from there: all, those of this run's unfinished starts, none (default: all)",
    )
    run.add_argument("--out", metavar="DIR", help="folder for the results (default: toolkit-out/<time>)")
    run.set_defaults(command=_run)

    report = commands.add_parser(
        "report",
        help="write a page about runs",
        description="Write one page of HTML about a run, or about several beside each other.",
        epilog=EXIT_STATUS,
    )
    report.add_argument(
        "runs", nargs="+", metavar="RUN", help="id of a run, its beginning, or last for the newest"
    )
    report.add_argument("--store", metavar="URL", help="where runs are kept (default: .toolkit/runs.db)")
    report.add_argument("--out", metavar="FILE", help="the page (default: report-<id>.html)")
    report.add_argument(
        "--episodes",
        action="append",
        metavar="PATH",
        help="the runs' transcripts, for scores and for references beside summaries; may come many times",
    )
    report.set_defaults(command=_report)

    models = commands.add_parser(
        "models", help="list the local models", description="List the local models that are there."
    )
    models.set_defaults(command=_models)
    return parser


def _run(chosen: argparse.Namespace, screen: Screen, signals: Signals) -> int:
    from toolkit.runs import Run, check_folder, counted

    episodes, unreadable = _episodes(chosen.paths)
    config = _config(chosen)
    told = heading(len(episodes), config)
    out = Path(chosen.out or Path("toolkit-out") / time.strftime("%Y-%m-%d-%H%M%S")).expanduser()
    try:
        check_folder(out)  # Better to fail now than after the work.
    except OSError as error:
        raise ConfigError(f"--out {out}: results cannot be written there ({error.strerror})") from None
    problems = []
    if unreadable is not None:
        screen.note(str(unreadable))
        files = counted(len(unreadable.problems), "file")
        problems.append(f"{files} could not be loaded, see the start")
    screen.note(told)

    from toolkit.workflow import run

    def show(record: EpisodeRecord) -> None:
        signals.hold = True
        if record.summary.status is not Status.CANCELLED:
            screen.show(paragraph(record))

    try:
        finished = run(episodes, config, on_episode=show)
        interrupted = finished.interrupted
    except RunInterrupted as error:
        if not isinstance(error.run, Run):
            raise
        finished, interrupted = error.run, False
        problems.append(str(error))
    if finished.stopped_because:
        problems.append(f"stopped: {finished.stopped_because}")
    try:
        finished.save(out)
        saved = f"Files: {out}/{', '.join(finished.files)}\nKept in {finished.store} as run {finished.id}"
    except OSError as error:
        saved = "No files."
        problems.append(f"the results could not be written to {out} ({error.strerror})")
    signals.hold = False

    for problem in problems:
        screen.note(problem)
    screen.show(f"{table(finished)}\n{figures(finished)}\n{saved}")
    if interrupted:
        return signals.status
    return SOMETHING_MISSING if problems or set(finished.counts()) - {Status.OK} else OK


def _episodes(paths: list[str]) -> tuple[list[Episode], TranscriptError | None]:
    """Load what can be loaded, and return the error about the rest."""
    from toolkit.transcripts import load_episodes

    try:
        return load_episodes(paths), None
    except TranscriptError as error:
        if not error.loaded:
            raise
        return list(error.loaded), error  # type: ignore[arg-type]


def _config(chosen: argparse.Namespace) -> Config:
    from toolkit.config import Config
    from toolkit.environment import parse_setting

    given: dict[str, Any] = dict(parse_setting(setting) for setting in chosen.settings)
    named = {
        "provider": chosen.provider,
        "model": chosen.model,
        "store_url": chosen.store,
        "reuse": chosen.reuse,
    }
    given |= {name: value for name, value in named.items() if value is not None}
    return Config.from_toml(chosen.config, **given) if chosen.config else Config(**given)


def _report(chosen: argparse.Namespace, screen: Screen, signals: Signals) -> int:
    from toolkit.archive import open_store
    from toolkit.reports import report

    store = open_store(chosen.store)
    if "last" in chosen.runs:
        ids = store.runs()["run_id"]
        if ids.empty:
            raise ConfigError("no last run: the store holds none yet")
        chosen.runs = [ids.iloc[-1] if name == "last" else name for name in chosen.runs]
    runs = {run.id: run for run in map(store.run, chosen.runs)}
    episodes, unreadable = _episodes(chosen.episodes) if chosen.episodes else (None, None)
    if unreadable is not None:
        screen.note(str(unreadable))
    try:
        screen.show(str(report(list(runs.values()), chosen.out, episodes=episodes)))
    except OSError as error:
        screen.note(f"the report could not be written to {chosen.out or 'this folder'} ({error.strerror})")
        return SOMETHING_MISSING
    return OK if unreadable is None else SOMETHING_MISSING


def _models(chosen: argparse.Namespace, screen: Screen, signals: Signals) -> int:
    import pandas as pd

    from toolkit.engines.weights import list_models

    rows = [
        {
            "model": row.name,
            "state": row.state,
            "MB": "-" if row.size_mb is None else f"{row.size_mb:.0f}",
            "licence": row.licence or "-",
            "kind": row.architecture or "-",
            "folder": "-" if row.folder is None else str(row.folder),
        }
        for row in list_models()
    ]
    screen.show(pd.DataFrame(rows).to_string(index=False, justify="left"))
    screen.show(
        "\nAny causal model with a chat template, or encoder-decoder model, of the hub or a folder will do:"
        "\n  toolkit run PATH --model ORG/NAME"
    )
    return OK


if __name__ == "__main__":
    program()
