"""The notebooks with their sample data, copied to a folder of the user's own, and JupyterLab opened there."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from toolkit.errors import ConfigError, MissingDependency, ToolkitError

DEFAULT_FOLDER = "toolkit-lab"
PARTS = ("notebooks/*.ipynb", "data/episodes/*")
"""What is copied; both stand beside each other wherever they are, so that notebooks find their data."""
FIRST = "notebooks/01_quickstart.ipynb"
RECORD = ".toolkit/lab.json"
"""Digests of what was copied: a file that still has its own was not changed. The folder of that name also
makes the copy a project, whose runs are kept in it."""


class Copied(NamedTuple):
    """What became of each file, by names with ``/`` within the folder.

    Attributes
    ----------
    new : tuple of str
        Those that were not there.
    updated : tuple of str
        Those of another version of the toolkit, which nobody had changed.
    kept : tuple of str
        Those that are not the toolkit's and were left as they are.
    """

    folder: Path
    new: tuple[str, ...]
    updated: tuple[str, ...]
    kept: tuple[str, ...]

    def __str__(self) -> str:
        done = [f"{len(self.new)} copied"] if self.new else []
        done += [f"{len(self.updated)} brought up to date"] if self.updated else []
        text = f"{self.folder}: {', '.join(done) or 'nothing new'}"
        if self.kept:
            text += (
                f"\nKept as you changed them: {', '.join(self.kept)}"
                "\n(for the toolkit's own beside yours, rename yours and start again)"
            )
        return text


def samples() -> Path:
    """Return the folder with notebooks and data: in the package, or the checkout that it is run from.

    Raises
    ------
    ToolkitError
        If there is neither.
    """
    package = Path(__file__).parent
    for place in (package / "data" / "lab", package.parent):
        if all(any(place.glob(part)) for part in PARTS):
            return place
    raise ToolkitError("the notebooks are missing from this installation; install episode-toolkit anew")


def copy_samples(folder: str | Path, source: Path | None = None) -> Copied:
    """Copy notebooks and data to a folder, which is made if needed; nothing that was changed is written over.

    Parameters
    ----------
    folder : str or Path
    source : Path, optional
        By default `samples`.

    Raises
    ------
    ConfigError
        If the folder cannot be written.
    """
    place, source = Path(folder).expanduser().absolute(), source or samples()
    names = sorted(
        path.relative_to(source).as_posix() for part in PARTS for path in source.glob(part) if path.is_file()
    )
    new, updated, kept = [], [], []
    try:
        before = _read_record(place / RECORD)
        written = dict(before)
        for name in names:
            own, theirs = (source / name).read_bytes(), place / name
            there = theirs.read_bytes() if theirs.exists() else None
            if there is None:
                new.append(name)
            elif there == own:
                written[name] = _digest(own)
                continue
            elif _digest(there) == written.get(name):
                updated.append(name)
            else:
                kept.append(name)
                continue
            _write(theirs, own)
            written[name] = _digest(own)
        if place != source and written != before:
            _write(place / RECORD, json.dumps(written, indent=1).encode())
    except OSError as error:
        raise ConfigError(
            f"{place}: notebooks cannot be copied there ({error.strerror or error}); name another folder"
        ) from None
    return Copied(place, tuple(new), tuple(updated), tuple(kept))


def open_lab(folder: Path, arguments: Sequence[str] = ()) -> int:
    """Open JupyterLab in a folder, in place of this process where the system can do that.

    Parameters
    ----------
    folder : Path
        With the notebooks.
    arguments : sequence of str
        Handed on to JupyterLab.

    Returns
    -------
    int
        JupyterLab's exit status, where this process stays.

    Raises
    ------
    MissingDependency
        If there is no JupyterLab.
    """
    if find_spec("jupyterlab") is None:
        raise MissingDependency("toolkit lab", "jupyterlab", "lab")
    # The toolkit's own Python, whatever `jupyter` the path would find: its kernels must have the toolkit.
    command = [sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder}"]
    command += [f"--LabApp.default_url=/lab/tree/{FIRST}", *arguments]
    if os.name != "nt":
        # So that Ctrl-C, which JupyterLab asks about, and other signals are its own affair.
        os.execv(command[0], command)
    return subprocess.call(command)


def _read_record(path: Path) -> dict[str, str]:
    """Return the digests; nothing that is no such record stands for any, so that all is taken for changed."""
    with suppress(FileNotFoundError, ValueError):
        read = json.loads(path.read_bytes())
        if isinstance(read, dict):
            return {name: digest for name, digest in read.items() if isinstance(digest, str)}
    return {}


def _write(path: Path, content: bytes) -> None:
    """Write a file that is whole at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
