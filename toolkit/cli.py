"""The command ``toolkit``.

Exit status: 0 all summarized; 1 something is missing: an episode failed or is partial, a transcript could
not be loaded, results or output could not be written; 2 wrong usage, config or input; 130 Ctrl-C, 143
SIGTERM, 129 SIGHUP. What was done is kept.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from toolkit.errors import ConfigError, RunInterrupted, ToolkitError, TranscriptError
from toolkit.interrupts import Signals, job_goes_on
from toolkit.lab import DEFAULT_FOLDER, copy_samples, open_lab
from toolkit.records import EpisodeRecord, Status
from toolkit.screen import Screen, figures, heading, paragraph, plain_warnings, table

if TYPE_CHECKING:
    from toolkit.config import Config
    from toolkit.latency import LatencyModel
    from toolkit.records import Episode

OK, SOMETHING_MISSING, WRONG_USE = 0, 1, 2
SEARCH_EVERY = 20_000
"""Objects; Python's own is 700. With PyTorch 0.4 of 6 seconds."""
EXIT_STATUS = (__doc__ or "").partition("\n\n")[2]


def program() -> NoReturn:
    """Be the command: do what ``main`` does, and end the process."""
    # Before and after ``main`` there is nothing that a signal could spoil.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # Most of what a command makes is imported and stays: Python need not look for garbage in it so often.
    gc.set_threshold(SEARCH_EVERY)
    status = main()
    # What stands now stands to the end; looking for cycles in it takes 0.8 s once PyTorch is imported.
    gc.freeze()
    if job_goes_on():
        # After a second Ctrl-C. The interpreter would wait until the last of the calls has timed out.
        os._exit(status)
    sys.exit(status)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    screen, signals = Screen(), Signals()
    try:
        chosen = _chosen(sys.argv[1:] if arguments is None else list(arguments))
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


def _chosen(arguments: list[str]) -> argparse.Namespace:
    """Read the command line."""
    own, others = arguments, []
    if arguments[:1] == ["lab"] and "--" in arguments:
        # argparse would take the first of what is not for us for the folder.
        where = arguments.index("--")
        own, others = arguments[:where], arguments[where + 1 :]
    return _parser().parse_args(own, argparse.Namespace(others=others))


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
    _add_inputs(run)
    run.add_argument("--store", metavar="URL", help="where runs are kept (default: .toolkit/runs.db)")
    run.add_argument(
        "--reuse",
        choices=("all", "run", "none"),
        help="answers taken from there: all, those of this run's unfinished starts, none (default: all)",
    )
    run.add_argument("--out", metavar="DIR", help="folder for the results (default: toolkit-out/<time>)")
    run.set_defaults(command=_run)

    simulate = commands.add_parser(
        "simulate",
        help="predict how long a run would take",
        description="Play a run without calling anything: no key, no model, no network, nothing spent.",
        epilog="Exit status: 0 shown; 1 a transcript could not be loaded; 2 wrong usage or config.",
    )
    _add_inputs(simulate)
    _add_latency(simulate, required=True)
    simulate.add_argument("--seeds", type=int, default=20, metavar="N", help="times played (default: 20)")
    simulate.add_argument("--out", metavar="DIR", help="folder for the frames of the median (default: none)")
    simulate.set_defaults(command=_simulate, reuse=None)

    plan = commands.add_parser(
        "plan",
        help="say what a run would take",
        description="Say what binds a run, how long it takes at least, what it costs, and which settings "
        "would do better. Nothing is sent, spent or loaded.",
        epilog="Exit status: 0 shown; 1 a transcript could not be loaded; 2 wrong usage or config.",
    )
    _add_inputs(plan)
    _add_latency(plan, required=False)
    plan.add_argument("--cores", type=int, metavar="N", help="of another machine, with --memory-gb")
    plan.add_argument("--memory-gb", type=float, metavar="GB", help="free memory of another machine")
    plan.set_defaults(command=_plan, reuse=None)

    sweep = commands.add_parser(
        "sweep",
        help="measure many settings",
        description="Summarize the same transcripts under many settings and save what was measured. Started "
        "again, it goes on.",
        epilog=EXIT_STATUS,
    )
    sweep.add_argument("grid", metavar="GRID", help="TOML file with the settings to go over, in [grid]")
    _add_inputs(sweep)
    sweep.add_argument("--store", metavar="URL", help="where runs are kept (default: .toolkit/runs.db)")
    sweep.add_argument("--confirm", action="store_true", help="call servers that cost money without a budget")
    sweep.add_argument("--out", metavar="DIR", help="folder for the results (default: toolkit-out/<time>)")
    sweep.set_defaults(command=_sweep, reuse=None)

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

    lab = commands.add_parser(
        "lab",
        help="open the notebooks in JupyterLab",
        usage="%(prog)s [-h] [--no-browser] [FOLDER] [-- ARGUMENT ...]",
        description="Copy the notebooks with their sample data to a folder and open JupyterLab there. What "
        "you changed in an earlier copy is kept. Arguments behind -- go to JupyterLab.",
        epilog="Exit status: JupyterLab's; 2 wrong usage, no JupyterLab, or a folder that cannot be written.",
    )
    lab.add_argument(
        "folder", nargs="?", default=DEFAULT_FOLDER, metavar="FOLDER", help=f"default: {DEFAULT_FOLDER}"
    )
    lab.add_argument("--no-browser", action="store_true", help="only print the address")
    lab.set_defaults(command=_lab)

    models = commands.add_parser(
        "models", help="list the local models", description="List the local models that are there."
    )
    models.set_defaults(command=_models)
    return parser


def _add_inputs(command: argparse.ArgumentParser) -> None:
    """Add what says which transcripts and which settings are meant."""
    command.add_argument("paths", nargs="+", metavar="PATH", help="files, folders or globs")
    command.add_argument("--config", metavar="FILE", help="settings in TOML")
    command.add_argument("--provider", help="who summarizes (default: transformers)")
    command.add_argument("--model", help="name, folder or hub id of a model")
    command.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="any setting, such as summary_chunk_parallelism=4; can be given many times",
    )


def _add_latency(command: argparse.ArgumentParser, *, required: bool) -> None:
    """Add what says how long calls take."""
    latency = command.add_mutually_exclusive_group(required=required)
    latency.add_argument(
        "--latency", metavar="FILE", help="JSON file of a latency model, or seconds of a call"
    )
    latency.add_argument(
        "--latency-from", nargs="+", metavar="RUN", help="ids of kept runs that it is fitted to"
    )
    command.add_argument("--store", metavar="URL", help="where runs are kept (default: .toolkit/runs.db)")


def _run(chosen: argparse.Namespace, screen: Screen, signals: Signals) -> int:
    from toolkit.runs import Run
    from toolkit.wording import counted

    episodes, unreadable = _episodes(chosen.paths)
    config = _config(chosen)
    told = heading(len(episodes), config)
    out = _out(chosen)
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


def _simulate(chosen: argparse.Namespace, screen: Screen, signals: Signals) -> int:
    from toolkit.simulation import simulate

    config = _config(chosen)
    latency = _latency(chosen, config)
    episodes, unreadable = _episodes(chosen.paths)
    out = _out(chosen) if chosen.out else None
    if unreadable is not None:
        screen.note(str(unreadable))
    screen.note(f"{heading(len(episodes), config)}; {latency}")
    played = simulate(episodes, config, latency=latency, seeds=chosen.seeds)
    run = played.median_run
    screen.show(f"{table(run)}\n{figures(run)}\n{str(played).strip('<>')}")
    if out is not None:
        try:
            screen.show(f"Files: {run.save(out)}")
        except OSError as error:
            screen.note(f"the results could not be written to {out} ({error.strerror})")
            return SOMETHING_MISSING
    return OK if unreadable is None else SOMETHING_MISSING


def _latency(chosen: argparse.Namespace, config: Config) -> LatencyModel:
    from toolkit.latency import LatencyModel

    if chosen.latency is None:
        from toolkit.archive import open_store

        secret = config.store_password
        store = open_store(config.store_url, password=secret.get_secret_value() if secret else None)
        return LatencyModel.fit(*map(store.run, chosen.latency_from))
    try:
        return LatencyModel.constant(float(chosen.latency))
    except ValueError:
        return LatencyModel.load(chosen.latency)


def _plan(chosen: argparse.Namespace, screen: Screen, signals: Signals) -> int:
    from toolkit.planning import Machine, plan

    if (chosen.cores is None) != (chosen.memory_gb is None):
        raise ConfigError("--cores and --memory-gb go together: they describe another machine")
    machine = None if chosen.cores is None else Machine(cores=chosen.cores, memory_gb=chosen.memory_gb)
    config = _config(chosen)
    latency = _latency(chosen, config) if chosen.latency or chosen.latency_from else None
    episodes, unreadable = _episodes(chosen.paths)
    screen.show(str(plan(episodes, config, latency, machine)))
    if unreadable is None:
        return OK
    screen.note(str(unreadable))
    return SOMETHING_MISSING


def _sweep(chosen: argparse.Namespace, screen: Screen, signals: Signals) -> int:
    from toolkit.sweeps import sweep
    from toolkit.sweeps.files import read_sweep_file
    from toolkit.sweeps.results import Row, describe_row
    from toolkit.wording import counted

    told = read_sweep_file(chosen.grid)
    episodes, unreadable = _episodes(chosen.paths)
    config = _config(chosen, told.config)
    out = _out(chosen)
    if unreadable is not None:
        screen.note(str(unreadable))

    def show(row: Row) -> None:
        signals.hold = True
        screen.show(describe_row(row))

    options = told.options | ({"confirm": True} if chosen.confirm else {})
    study = sweep(episodes, config, on_cell=show, **options)
    try:
        study.save(out)
        saved = f"Files: {out}"
    except OSError as error:
        saved = f"No files: {out} cannot be written ({error.strerror})"
    signals.hold = False
    shown = study.means()
    columns = [name for name in shown if not str(name).endswith(("_low", "_high", "_n"))]
    table = shown[columns].to_string(index=False, na_rep="-", float_format="{:.4g}".format)
    kept = f"\nKept in {study.store} as sweep {study.id}" if study.store else ""
    screen.show(f"\n{table}\n\n{study}\n{saved}{kept}")
    if study.interrupted:
        return signals.status
    if unreadable is not None:
        screen.note(f"{counted(len(unreadable.problems), 'file')} could not be loaded, see the start")
    missing = set(study.counts()) - {Status.OK}
    return SOMETHING_MISSING if missing or unreadable is not None or saved.startswith("No") else OK


def _out(chosen: argparse.Namespace) -> Path:
    """Return the folder for results, in which there is room: better to fail before the work than after."""
    from toolkit.runs import check_folder

    out = Path(chosen.out or Path("toolkit-out") / time.strftime("%Y-%m-%d-%H%M%S")).expanduser()
    try:
        check_folder(out)
    except OSError as error:
        raise ConfigError(f"--out {out}: results cannot be written there ({error.strerror})") from None
    return out


def _episodes(paths: list[str]) -> tuple[list[Episode], TranscriptError | None]:
    """Load what can be loaded, and return the error about the rest."""
    from toolkit.transcripts import load_episodes

    try:
        return load_episodes(paths), None
    except TranscriptError as error:
        if not error.loaded:
            raise
        return list(error.loaded), error  # type: ignore[arg-type]


def _config(chosen: argparse.Namespace, common: Mapping[str, Any] | None = None) -> Config:
    from toolkit.config import Config
    from toolkit.environment import parse_setting

    given: dict[str, Any] = dict(common or {})
    given |= dict(parse_setting(setting) for setting in chosen.settings)
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


def _lab(chosen: argparse.Namespace, screen: Screen, signals: Signals) -> int:
    copied = copy_samples(chosen.folder)
    screen.show(str(copied))
    screen.flush()
    return open_lab(copied.folder, [*(["--no-browser"] if chosen.no_browser else []), *chosen.others])


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
