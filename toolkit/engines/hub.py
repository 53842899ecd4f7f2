"""The Hugging Face hub and its local cache, asked so that a missing network is noticed in seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from toolkit.engines.model_folder import (
    PICKLED_ADVICE,
    PICKLED_REASON,
    PICKLED_SUFFIXES,
    Refused,
)
from toolkit.errors import MissingDependency

if TYPE_CHECKING:
    from huggingface_hub.hf_api import ModelInfo

_T = TypeVar("_T")

# The readme carries the licence.
_WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.spm", "*.jinja", "README.md")
# Subfolders hold other formats (onnx/, original/ …); the rest are second copies of the same weights.
_UNWANTED = ("*/*", "consolidated*", "*.fp16*", "*.fp32*")

_TOKEN_ADVICE = (
    "Accept the model's terms on its page of the hub if it has any, then log in with: hf auth login "
    "(or set HF_TOKEN) using an account that may read it."
)
_OFFLINE_ADVICE = (
    "Check the network, or give a folder with the weights, or a model that is already on this machine "
    "(toolkit models lists them)."
)


@dataclass(frozen=True)
class Snapshot:
    """One revision of a repository on this disk."""

    repo_id: str
    folder: Path
    commit: str


@dataclass(frozen=True)
class Hub:
    """Where models are asked for.

    Attributes
    ----------
    endpoint : str, optional
        Address of the hub; huggingface_hub's own choice (``HF_ENDPOINT``) if not given.
    cache_dir : Path, optional
        The local cache; huggingface_hub's own choice (``HF_HUB_CACHE``, ``HF_HOME``) if not given.
    probe_timeout_s : float
        Seconds that the hub may take for its first answer, name look-up included, before it counts as
        out of reach.
    """

    endpoint: str | None = None
    cache_dir: Path | None = None
    probe_timeout_s: float = 4.0

    def cached(self, repo_id: str, revision: str | None = None) -> Snapshot | None:
        """Return the cached copy of a revision, complete or not, without any network."""
        _require_client()
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError

        try:
            config = try_to_load_from_cache(
                repo_id, "config.json", cache_dir=self.cache_dir, revision=revision
            )
        except HFValidationError:
            return None
        if not isinstance(config, str):
            return None
        folder = Path(config).parent
        return Snapshot(repo_id, folder, folder.name)

    def fetch(self, repo_id: str, revision: str | None = None, *, progress: bool = True) -> Snapshot:
        """Download a revision into the cache, after one short question whether that can work at all.

        Raises
        ------
        Refused
            If the hub cannot be reached, does not have the model, or has no safetensors of it.
        """
        _require_client()
        from huggingface_hub import HfApi, snapshot_download

        # model_info is asked first because it is one plain request; snapshot_download retries each file.
        api = HfApi(endpoint=self.endpoint)
        seconds = self.probe_timeout_s
        try:
            info = _within(seconds, lambda: api.model_info(repo_id, revision=revision, timeout=seconds))
            _check_listing(info)
            with _bars(progress):
                folder = snapshot_download(
                    repo_id,
                    revision=revision,
                    endpoint=self.endpoint,
                    cache_dir=self.cache_dir,
                    allow_patterns=list(_WANTED),
                    ignore_patterns=list(_UNWANTED),
                )
        except Refused:
            raise
        # Broad, because the transport's errors (requests, httpx, httpx2) change with the client's version.
        except Exception as error:
            raise self._refusal(error, revision) from error
        return Snapshot(repo_id, Path(folder), Path(folder).name)

    def snapshots(self) -> Iterator[Snapshot]:
        """Yield the newest cached revision of each model, the one of ``main`` first if there is one."""
        try:
            from huggingface_hub import CacheNotFound, scan_cache_dir
        except ImportError:
            return
        try:
            repos = scan_cache_dir(self.cache_dir).repos
        except (CacheNotFound, OSError, ValueError):
            return
        for repo in sorted(repos, key=lambda repo: repo.repo_id.lower()):
            if repo.repo_type == "model" and repo.revisions:
                best = max(repo.revisions, key=lambda item: ("main" in item.refs, item.last_modified))
                yield Snapshot(repo.repo_id, best.snapshot_path, best.commit_hash)

    def _refusal(self, error: Exception, revision: str | None) -> Refused:
        """Say by the type and status of an error what it means for the user."""
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )

        if isinstance(error, HFValidationError):
            return Refused("this is not a valid name there.", "Names of the hub look like org/name.")
        if isinstance(error, OfflineModeIsEnabled):
            return Refused("not asked, because HF_HUB_OFFLINE is set.", f"Unset it. {_OFFLINE_ADVICE}")
        if isinstance(error, GatedRepoError):
            return Refused("the model is gated: it is given only to accounts with access.", _TOKEN_ADVICE)
        if isinstance(error, RevisionNotFoundError):
            return Refused(
                f"the model has no revision {revision!r}.", "Leave the revision out, or correct it."
            )
        if isinstance(error, RepositoryNotFoundError):
            return Refused("there is no such model, or it is private.", f"Check its name. {_TOKEN_ADVICE}")
        if isinstance(error, HfHubHTTPError):
            status = getattr(getattr(error, "response", None), "status_code", None)
            if status in (401, 403):
                return Refused(f"access was denied (status {status}).", _TOKEN_ADVICE)
            if status == 404:
                return Refused("there is no such model.", "Check its name.")
            return Refused(f"the hub answered with status {status}.", "Try again later.")
        if isinstance(error, TimeoutError):
            return Refused(f"no answer within {self.probe_timeout_s:g} s.", _OFFLINE_ADVICE)
        said = (str(error).strip().splitlines() or ["no message"])[0]
        return Refused(f"could not be reached ({type(error).__name__}: {said}).", _OFFLINE_ADVICE)


def _check_listing(info: ModelInfo) -> None:
    """Refuse a repository whose list of files shows that there is nothing to load."""
    names = [file.rfilename for file in info.siblings or ()]
    top_level = [name for name in names if "/" not in name]
    if any(name.endswith(".safetensors") for name in top_level):
        return
    if any(name.endswith(".gguf") for name in names):
        raise Refused("holds GGUF files only.", "Download one of them and give its path as the model.")
    if any(name.endswith(PICKLED_SUFFIXES) for name in names):
        raise Refused(f"{PICKLED_REASON}.", PICKLED_ADVICE)
    raise Refused("holds no weights.", "Choose a model that is published as safetensors.")


def _within(seconds: float, ask: Callable[[], _T]) -> _T:
    """Return ``ask()``, or raise TimeoutError after ``seconds``.

    The client's own timeout starts anew with each connection, redirect and piece of an answer, and does
    not hold for the look-up of the host name. The thread is a daemon, so that a look-up that hangs does
    not keep the interpreter from ending.
    """
    answer: Future[_T] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=work, name="hub-probe", daemon=True).start()
    return answer.result(timeout=seconds)


@contextmanager
def _bars(shown: bool) -> Iterator[None]:
    """Hide the hub client's progress bars for a while, unless they are to be shown."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    if shown or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _require_client() -> None:
    try:
        import huggingface_hub  # noqa: F401
    except ImportError as error:
        raise MissingDependency("a local model", "huggingface_hub") from error
