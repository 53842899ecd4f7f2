"""What the command prints: results on standard output, what is said of the work on standard error."""

from __future__ import annotations

import io
import os
import shutil
import sys
import textwrap
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from toolkit.harmless import for_terminal
from toolkit.records import EpisodeRecord

if TYPE_CHECKING:
    from toolkit.config import Config
    from toolkit.runs import Run

_PACKAGE = Path(__file__).parent


class Screen:
    """Standard output and standard error, which may be closed, full, or without a reader.

    The work is worth more than what is told of it, so nothing here raises.

    Attributes
    ----------
    error : OSError or None
        Why something could not be printed; a reader that left (``| head -1``) is no error.
    """

    def __init__(self) -> None:
        self.error: OSError | None = None
        self._write_locks = {"stdout": threading.Lock(), "stderr": threading.Lock()}
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            if getattr(sys, name) is None:
                # The caller closed it (``>&-``). The next file that is opened would get its number, and what
                # others print there.
                setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 (open as long as the process)
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A title that the terminal's encoding lacks must not cost a summary.
            sys.stdout.reconfigure(errors="replace")

    def show(self, text: str) -> None:
        """Print a result."""
        with self._write_locks["stdout"]:
            self._write("stdout", text + "\n")

    def note(self, text: str) -> None:
        """Say something about the work."""
        with self._write_locks["stderr"]:
            self._write("stderr", f"toolkit: {text}\n")

    def flush(self) -> None:
        """Write out what others left in the streams, so that the interpreter's own last flush cannot fail.

        A stream that somebody is still writing to at the end has a reader that does not read.
        """
        for name, lock in self._write_locks.items():
            if lock.acquire(blocking=False):
                self._write(name, "")
                lock.release()

    def _write(self, name: str, text: str) -> None:
        stream: TextIO = getattr(sys, name)
        try:
            # In one piece, so that nobody else's line comes in between.
            if text and stream.isatty():
                from tqdm import tqdm

                tqdm.write(for_terminal(text), stream, end="")  # above the progress bar, if there is one
            else:
                stream.write(for_terminal(text))
            stream.flush()
        except OSError as error:
            if not isinstance(error, BrokenPipeError):
                self.error = self.error or error
            # What the stream still holds, and all that follows, goes nowhere.
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show warnings of the toolkit as notes, without the line of code that they come from."""
    with_source = warnings.formatwarning

    def plain(
        message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
    ) -> str:
        if Path(filename).is_relative_to(_PACKAGE):
            return f"toolkit: {for_terminal(str(message))}\n"
        return with_source(message, category, filename, lineno, line)

    warnings.formatwarning = plain
    try:
        yield
    finally:
        warnings.formatwarning = with_source


def heading(episodes: int, config: Config) -> str:
    """Say what is going to be done."""
    from toolkit.providers.registry import provider_class
    from toolkit.wording import counted

    model = config.model or provider_class(config.provider).default_model
    return (
        f"{counted(episodes, 'episode')}, {config.provider}/{model}, {config.summary_batch_size} at a time, "
        f"{counted(config.summary_chunk_parallelism, 'chunk')} of each at a time"
    )


def paragraph(record: EpisodeRecord) -> str:
    """Show the summary of an episode, or what became of it."""
    width = min(shutil.get_terminal_size((100, 24)).columns, 110)
    summary = record.summary
    lines = [f"\n{record.title} ({record.episode_id}, {record.total_s:.1f} s)"]
    if summary.text:
        lines.append(textwrap.fill(summary.text, width, initial_indent="  ", subsequent_indent="  "))
    if summary.error:
        lines.append(f"  {summary.status}: {summary.error}")
    return "\n".join(lines)


def table(run: Run) -> str:
    """Show a line for each episode: what it is, how long it took and how it ended."""
    rows = run.episodes[["episode_id", "words", "chunks", "total_s", "status"]]
    rows = rows.rename(columns={"episode_id": "episode", "total_s": "seconds"})
    # A cell of several lines would break the table. Whole numbers know no na_rep, text does.
    cells = rows.assign(
        episode=rows["episode"].map(lambda name: " ".join(for_terminal(name).split())),
        words=rows["words"].astype("str"),
        chunks=rows["chunks"].astype("str"),
    )
    text: str = cells.to_string(index=False, formatters={"seconds": "{:.1f}".format}, na_rep="-")
    return f"\n{text}\n"


def figures(run: Run) -> str:
    """Say how many episodes were summarized and how fast."""
    from toolkit.wording import counted

    seconds = max(run.makespan_s, 1e-9)
    made = run.calls[(run.calls["status"] == "ok") & ~run.calls["reused"]]
    finished = int(run.episodes["status"].isin(["ok", "partial"]).sum())
    share = "" if run.quota_share is None else f", {run.quota_share:.1%} of the quota"
    done = f"{finished} of {counted(len(run.episodes), 'episode')} in {seconds:.1f} s"
    speed = (
        f"{len(made) / seconds:.2f} calls/s, {made['output_tokens'].sum() / seconds:.1f} output tokens/s, "
        f"{made['input_tokens'].sum() / seconds:.0f} input tokens/s{share}"
    )
    if not run.reused.calls:
        return f"{done}: {3600 * finished / seconds:.0f} episodes/h, {speed}"
    # Episodes per hour would be those of another run.
    return f"{done}, {run.reused}" + (f"; the rest: {speed}" if len(made) else "")
