"""The command ``toolkit``.

Exit status: 0 all summarized, 1 some episode failed (the others are kept), 2 wrong usage, config or input,
130 interrupted.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.errors import ConfigError, ToolkitError, TranscriptError
from toolkit.harmless import for_terminal
from toolkit.records import EpisodeRecord, Status

if TYPE_CHECKING:
    from toolkit.config import Config
    from toolkit.records import Episode
    from toolkit.runs import Run

OK, SOME_FAILED, WRONG_USE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = _parser()
    chosen = parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A title that the terminal's encoding lacks must not end a run.
        sys.stdout.reconfigure(errors="replace")
    try:
        status: int = chosen.command(chosen)
        sys.stdout.flush()
    except ToolkitError as error:
        print(f"toolkit: {for_terminal(str(error))}", file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt:
        print("toolkit: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Who read our output has gone (head, less): there is nobody left to tell, and the interpreter's
        # last flush must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    return status


def _parser() -> argparse.ArgumentParser:
    from toolkit import __version__

    parser = argparse.ArgumentParser(
        prog="toolkit", description="Summarize podcast transcripts and measure how it went."
    )
    parser.add_argument("--version", action="version", version=f"episode-toolkit {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run", help="summarize transcripts", description="Summarize transcripts and save what was measured."
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
    run.add_argument("--out", metavar="DIR", help="folder for the results (default: toolkit-out/<time>)")
    run.set_defaults(command=_run)

    models = commands.add_parser(
        "models", help="list the local models", description="List the local models that are there."
    )
    models.set_defaults(command=_models)
    return parser


def _run(chosen: argparse.Namespace) -> int:
    episodes, unreadable = _episodes(chosen.paths)
    config = _config(chosen)
    heading = _heading(len(episodes), config)
    out = Path(chosen.out or Path("toolkit-out") / time.strftime("%Y-%m-%d-%H%M%S")).expanduser()
    try:
        out.mkdir(parents=True, exist_ok=True)  # Better to fail now than after the work.
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be made a folder ({error.strerror or error})") from None

    from toolkit.workflow import run

    print(heading, file=sys.stderr)
    lock = threading.Lock()

    def show(record: EpisodeRecord) -> None:
        # Who reads our output may go (head, less); the work goes on, and its files are written.
        with lock, suppress(BrokenPipeError):
            _write(_paragraph(record))

    finished = run(episodes, config, on_episode=show)
    finished.save(out)
    print(_table(finished))
    print(_figures(finished))
    print(f"Files: {out}/summaries.md, episodes.csv, calls.csv")
    if unreadable is not None:
        print(f"\ntoolkit: {for_terminal(str(unreadable))}", file=sys.stderr)
    if finished.stopped_because:
        print(f"\ntoolkit: stopped: {for_terminal(finished.stopped_because)}", file=sys.stderr)
    if finished.interrupted:
        return INTERRUPTED
    failed = unreadable or finished.stopped_because or Status.FAILED in finished.counts()
    return SOME_FAILED if failed else OK


def _episodes(paths: list[str]) -> tuple[list[Episode], TranscriptError | None]:
    """Load what can be loaded; the error of the rest is shown at the end."""
    from toolkit.transcripts import load_episodes

    try:
        return load_episodes(paths), None
    except TranscriptError as error:
        if not error.loaded:
            raise
        return list(error.loaded), error  # type: ignore[arg-type]


def _config(chosen: argparse.Namespace) -> Config:
    from toolkit.config import Config, parse_setting

    given: dict[str, Any] = dict(parse_setting(setting) for setting in chosen.settings)
    for name in ("provider", "model"):
        if getattr(chosen, name) is not None:
            given[name] = getattr(chosen, name)
    return Config.from_toml(chosen.config, **given) if chosen.config else Config(**given)


def _heading(episodes: int, config: Config) -> str:
    from toolkit.providers.registry import provider_class

    model = config.model or provider_class(config.provider).default_model
    return (
        f"{episodes} episode{'s' * (episodes != 1)}, {config.provider}/{model}, "
        f"{config.summary_batch_size} at a time, {config.summary_chunk_parallelism} chunks of each at a time"
    )


def _write(text: str) -> None:
    """Print above the progress bar, if there is one."""
    from tqdm import tqdm

    tqdm.write(for_terminal(text))
    sys.stdout.flush()


def _width() -> int:
    return min(shutil.get_terminal_size((100, 24)).columns, 110)


def _paragraph(record: EpisodeRecord) -> str:
    summary = record.summary
    lines = [f"\n{record.title} ({record.episode_id}, {record.total_s:.1f} s)"]
    if summary.text:
        lines.append(textwrap.fill(summary.text, _width(), initial_indent="  ", subsequent_indent="  "))
    if summary.error:
        lines.append(f"  {summary.status}: {summary.error}")
    return "\n".join(lines)


def _table(run: Run) -> str:
    """Return one line for each episode: what it is, how long it took and how it ended."""
    table = run.episodes[["episode_id", "words", "chunks", "total_s", "status"]]
    table = table.rename(columns={"episode_id": "episode", "total_s": "seconds"})
    table = table.assign(episode=table["episode"].map(for_terminal))
    text: str = table.to_string(index=False, formatters={"seconds": "{:.1f}".format}, na_rep="-")
    return "\n" + text + "\n"


def _figures(run: Run) -> str:
    seconds = max(run.makespan_s, 1e-9)
    made = run.calls[run.calls["status"] == "ok"]
    finished = int(run.episodes["status"].isin(["ok", "partial"]).sum())
    return (
        f"{finished} of {len(run.episodes)} episodes in {seconds:.1f} s: "
        f"{3600 * finished / seconds:.0f} episodes/h, {len(made) / seconds:.2f} calls/s, "
        f"{made['output_tokens'].sum() / seconds:.1f} output tokens/s, "
        f"{made['input_tokens'].sum() / seconds:.0f} input tokens/s"
    )


def _models(chosen: argparse.Namespace) -> int:
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
    print(for_terminal(pd.DataFrame(rows).to_string(index=False, justify="left")))
    print(
        "\nAny causal model with a chat template, or encoder-decoder model, of the hub or a folder will do:"
    )
    print("  toolkit run PATH --model ORG/NAME")
    return OK


if __name__ == "__main__":
    sys.exit(main())
