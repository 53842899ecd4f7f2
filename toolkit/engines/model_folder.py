"""What a folder of model weights holds: whether it can be loaded, and its identity."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toolkit.errors import ToolkitError

PICKLED_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".h5", ".msgpack")
PICKLED_REASON = "holds pickled weights only (.bin, .pt, .h5 …), which are not loaded: unpickling runs code"
PICKLED_ADVICE = (
    "Use a model that is published as safetensors, or convert this one where you trust it: load it with "
    "transformers and call save_pretrained(FOLDER), which writes safetensors; then give that folder."
)
SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"

_VOCABULARY_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "source.spm",
    "tekken.json",
    "vocab.json",
    "vocab.txt",
)
_TOKENIZERS_WITHOUT_VOCABULARY = {"ByT5Tokenizer", "ByT5TokenizerFast"}

# Files that are read whole into the fingerprint: they decide prompts, stops and architecture.
_SETTINGS_SUFFIXES = {".json", ".txt", ".model", ".jinja", ".spm"}
_SAMPLES = 64
_SAMPLE_BYTES = 4096


class Refused(ToolkitError):
    """A place cannot give the weights: ``reason`` says why, ``advice`` what to do about it."""

    def __init__(self, reason: str, advice: str) -> None:
        super().__init__(f"{reason} {advice}")
        self.reason = reason
        self.advice = advice


@dataclass(frozen=True)
class Contents:
    """The files of a loadable folder that hold tensors; ``gguf_file`` is None for safetensors."""

    weight_files: tuple[str, ...]
    gguf_file: str | None = None


def looks_like_model(folder: Path) -> bool:
    """Say whether a folder was meant as a model, loadable or not."""
    suffixes = (".safetensors", ".gguf", *PICKLED_SUFFIXES)
    return folder.is_dir() and any(p.name == "config.json" or p.suffix in suffixes for p in folder.iterdir())


def check_folder(folder: Path) -> Contents:
    """Return what transformers would load from ``folder``.

    Only names, sizes and headers are read. A safetensors header states how long its file is, so that
    a download or copy that broke off is told apart from a whole one.

    Raises
    ------
    Refused
        If something that is needed is missing, truncated, or pickled.
    """
    names = {path.name for path in folder.iterdir() if path.is_file()}
    safetensors = sorted(name for name in names if name.endswith(".safetensors"))
    if not safetensors:
        return _only_gguf(names)
    if "config.json" not in names:
        raise Refused("has no config.json.", "Copy the config.json of the model beside its weights.")
    if SINGLE_FILE in names:
        weight_files: tuple[str, ...] = (SINGLE_FILE,)
    elif INDEX_FILE in names:
        weight_files = _shards(folder / INDEX_FILE)
    else:
        raise Refused(
            f"has weights under a name that transformers does not look for ({safetensors[0]}).",
            f"Rename the file to {SINGLE_FILE}, or add {INDEX_FILE} if the weights are in several files.",
        )
    if missing := [name for name in weight_files if name not in names]:
        raise Refused(
            f"lacks {len(missing)} of {len(weight_files)} weight files ({missing[0]} …).",
            "Copy or download the missing files.",
        )
    for name in weight_files:
        _check_whole(folder / name)
    if not _has_tokenizer(folder, names):
        raise Refused(
            "has no tokenizer (tokenizer.json, tokenizer.model, vocab.json …).",
            "Copy the tokenizer files of the model beside its weights.",
        )
    return Contents(weight_files)


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object, or an empty one where there is none that can be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def fingerprint(folder: Path, contents: Contents) -> str:
    """Return the SHA-256 identity of weights whose origin states none.

    It goes over names, sizes and 64 evenly spread blocks of 4 KiB of each weight file, its head with the
    safetensors header among them, and over the whole of the settings and tokenizer files. Headers alone
    would be the same for every fine-tune of one architecture. An edit of single tensors that lies
    between the blocks goes unseen; that is the price of not reading gigabytes at each start.
    """
    digest = hashlib.sha256()
    for name in contents.weight_files:
        path = folder / name
        size = path.stat().st_size
        digest.update(f"{name}\0{size}\0".encode())
        with path.open("rb") as file:
            for sample in range(_SAMPLES):
                file.seek(max(0, size - _SAMPLE_BYTES) * sample // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE_BYTES))
    # A GGUF file carries its own config and tokenizer; other files beside it do not belong to it.
    if contents.gguf_file is None:
        for path in _settings_files(folder):
            digest.update(f"{path.name}\0{path.stat().st_size}\0".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _settings_files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.is_file() and path.suffix in _SETTINGS_SUFFIXES:
            yield path


def _only_gguf(names: set[str]) -> Contents:
    found = sorted(name for name in names if name.endswith(".gguf"))
    if len(found) == 1:
        return Contents((found[0],), gguf_file=found[0])
    if found:
        raise Refused(
            f"holds {len(found)} GGUF files ({found[0]} …).", "Give the path of the one to be used."
        )
    if any(name.endswith(PICKLED_SUFFIXES) for name in names):
        raise Refused(f"{PICKLED_REASON}.", PICKLED_ADVICE)
    raise Refused(
        "holds no weights (*.safetensors or one *.gguf).",
        "Give a folder with config.json, a tokenizer and *.safetensors, or the path of a .gguf file.",
    )


def _shards(index: Path) -> tuple[str, ...]:
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise Refused(f"has an {index.name} that names no files.", "Download that file again.")
    return tuple(sorted(set(map(str, weight_map.values()))))


def _check_whole(path: Path) -> None:
    """Compare the length of a safetensors file with the one that its header states."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start == b"version ":
            raise Refused(
                f"holds only a Git LFS pointer in place of {path.name}.", "Run: git lfs pull in that folder."
            )
        header_bytes = int.from_bytes(start, "little")
        header = file.read(header_bytes) if 8 + header_bytes <= size else b""
    try:
        tensors = json.loads(header)
        data_bytes = max(
            (entry["data_offsets"][1] for name, entry in tensors.items() if name != "__metadata__"), default=0
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        data_bytes = None
    if data_bytes is None or 8 + header_bytes + data_bytes != size:
        raise Refused(
            f"has a {path.name} that is damaged or broke off ({size:,} bytes).", "Download that file again."
        )


def _has_tokenizer(folder: Path, names: set[str]) -> bool:
    if names.intersection(_VOCABULARY_FILES):
        return True
    stated = read_json(folder / "tokenizer_config.json").get("tokenizer_class")
    return stated in _TOKENIZERS_WITHOUT_VOCABULARY
