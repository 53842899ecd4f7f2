"""Weights as OpenVINO runs them: written anew in 8 bits, once, into the folder of models.

OpenVINO GenAI builds its own network out of a GGUF file and can save it. Of the GGUF formats only those
without an offset are safe with it: it rounds the offsets of Q4_1 (and Q4_K) to whole steps, and SmolLM2-135M
then writes other texts than the same file does elsewhere: Kullback-Leibler divergence of the next token 0.19,
another best token in 22 % of places (4,200 tokens of ``data/episodes``; with PyTorch in bfloat16: 0.001 and
3 %). In Q8_0, 8 bits and one factor for 32 numbers, it is 0.004 and 4 %, and the speed no lower. So all
weights are put into Q8_0 first.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toolkit.engines.apart import apart
from toolkit.engines.embedded import models_folder
from toolkit.engines.model_folder import check_folder, read_json
from toolkit.engines.weights import Weights
from toolkit.errors import ModelUnavailable

if TYPE_CHECKING:
    import numpy as np
    from gguf import GGUFWriter
    from numpy.typing import NDArray

    Tensors = Iterator[tuple[str, NDArray[np.float32]]]

ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""For which OpenVINO GenAI 2026.4 builds a network."""
FORMAT = 1
"""Raised when a new version of the toolkit writes them differently."""
_NETWORK = "openvino_model.xml"


def obstacle(weights: Weights) -> str | None:
    """Return why OpenVINO GenAI has no network for some weights, or None if it has."""
    gguf = gguf_of(weights)
    if gguf is None:
        return _obstacle_in_config(read_json(weights.folder / "config.json"))
    try:
        facts, tensors = _gguf_head(gguf)
    except (OSError, ValueError, struct.error) as error:
        return f"{gguf.name} cannot be read ({error})"
    kind = facts.get("general.architecture")
    if kind not in ARCHITECTURES:
        return f"OpenVINO GenAI reads no GGUF files of architecture {kind!r}"
    scaling = facts.get(f"{kind}.rope.scaling.type", "none")
    if scaling != "none" or "rope_freqs.weight" in tensors:
        return "its positions are scaled, which OpenVINO GenAI does not know of GGUF files"
    return "it has experts" if facts.get(f"{kind}.expert_count") else None


def gguf_of(weights: Weights) -> Path | None:
    """Return the GGUF file that holds some weights, None if they are in safetensors only."""
    return weights.folder / weights.gguf_file if weights.gguf_file else weights.gguf_beside


def converted(weights: Weights) -> Path:
    """Return a folder with a network for OpenVINO, made now if it is not there yet.

    Of several processes that make it at once each makes it whole, and one of the results is kept.
    SmolLM2-135M takes 10 s (2 cores) and loads in 1.6 s, the GGUF file by itself in 3.6 s.

    Raises
    ------
    ModelUnavailable
        If it cannot be made.
    """
    identity = f"{weights.fingerprint} {FORMAT} {version('openvino-genai')}"
    folder = models_folder() / f"openvino-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    if (folder / _NETWORK).exists():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{folder.name}.", dir=folder.parent) as temporary:
            whole = Path(temporary) / "whole"
            whole.mkdir()
            _convert(weights, whole)
            if not (folder / _NETWORK).exists():
                shutil.rmtree(folder, ignore_errors=True)
                os.replace(whole, folder)
    except (OSError, ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        if (folder / _NETWORK).exists():  # Another process was faster.
            return folder
        raise ModelUnavailable(
            weights.name,
            [f"{folder}: {type(error).__name__}: {error}"],
            "Take engine='torch', which runs the files as they are.",
        ) from error
    return folder


def _convert(weights: Weights, folder: Path) -> None:
    """Write a network for OpenVINO into an empty folder."""
    import gguf
    import openvino_genai
    from tqdm.auto import tqdm

    source = gguf_of(weights)
    path = folder / "weights.gguf"
    with tqdm(total=2, desc=f"Converting {weights.name} (once)", unit="step", leave=False) as steps:
        config = {} if source else read_json(weights.folder / "config.json")
        reader = gguf.GGUFReader(source) if source else None
        kind = reader.fields["general.architecture"].contents() if reader else config["model_type"]
        writer = gguf.GGUFWriter(path, kind)
        if reader:
            _copy_facts(reader, writer)
            shapes = {tensor.name: tensor.shape for tensor in reader.tensors}
            vocabulary = shapes["token_embd.weight"][1]
            tensors = _tensors_of_gguf(reader)
        else:
            _write_facts(config, writer)
            vocabulary = config["vocab_size"]
            tensors = _tensors_of_safetensors(weights.folder, config)
        _write_tokenizer(writer, int(vocabulary))
        writer.add_file_type(int(gguf.LlamaFileType.MOSTLY_Q8_0))
        for name, values in tensors:
            if values.ndim == 1:
                writer.add_tensor(name, values)
            else:
                # A row that 32 does not divide cannot be cut into blocks; only toys have such.
                fits = values.shape[-1] % 32 == 0
                kept = gguf.GGMLQuantizationType.Q8_0 if fits else gguf.GGMLQuantizationType.F16
                writer.add_tensor(name, gguf.quantize(values, kept), raw_dtype=kept)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        steps.update()
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size, scheduler.num_kv_blocks = 0, 1

        def save() -> None:
            saving = {"enable_save_ov_model": True}
            openvino_genai.ContinuousBatchingPipeline(path, scheduler, "CPU", saving)

        apart(save)
        path.unlink()
        steps.update()
    if not (folder / _NETWORK).exists():
        raise OSError("OpenVINO GenAI saved no network")


def _write_tokenizer(writer: GGUFWriter, vocabulary: int) -> None:
    """Write some tokenizer: one must be there, with a token of control, for the file to be loaded.

    It is never used. The model's own, which transformers reads, need not be one that OpenVINO GenAI knows.
    """
    from gguf import TokenType

    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([str(token) for token in range(vocabulary)])
    writer.add_token_types([TokenType.CONTROL] + [TokenType.NORMAL] * (vocabulary - 1))
    writer.add_token_merges(["1 1"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)


# From a GGUF file


def _gguf_head(path: Path) -> tuple[dict[str, Any], set[str]]:
    """Return the facts of a GGUF file that are single values, and the names of its tensors.

    ``gguf.GGUFReader`` takes 2 s for it, as it makes an array of each token of the vocabulary.
    """
    sizes = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
    with path.open("rb") as file, mmap(file.fileno(), 0, access=ACCESS_READ) as data:
        if data[:4] != b"GGUF":
            raise ValueError("no GGUF file")
        place = 8

        def take(form: str) -> Any:
            nonlocal place
            (value,) = struct.unpack_from(f"<{form}", data, place)
            place += struct.calcsize(f"<{form}")
            return value

        def text() -> str:
            nonlocal place
            length = take("Q")
            place += length
            return data[place - length : place].decode("utf-8", "replace")

        def value(kind: int) -> Any:
            nonlocal place
            if kind == 8:
                return text()
            if kind != 9:
                return take(sizes[kind])
            inner, count = take("I"), take("Q")
            if inner in sizes:
                place += count * struct.calcsize(f"<{sizes[inner]}")
            else:
                for _ in range(count):
                    value(inner)
            return None

        tensor_count, fact_count = take("Q"), take("Q")
        facts = {text(): value(take("I")) for _ in range(fact_count)}
        names = set()
        for _ in range(tensor_count):
            names.add(text())
            dimensions = take("I")
            place += 8 * dimensions + 4 + 8
        return facts, names


def _copy_facts(reader: Any, writer: GGUFWriter) -> None:
    from gguf import GGUFValueType

    for name, field in reader.fields.items():
        written = name in ("general.architecture", "general.file_type")
        if not written and not name.startswith(("GGUF.", "tokenizer.")):
            inner = field.types[-1] if field.types[0] == GGUFValueType.ARRAY else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type=inner)


def _tensors_of_gguf(reader: Any) -> Tensors:
    from gguf import dequantize

    for tensor in reader.tensors:
        yield tensor.name, dequantize(tensor.data, tensor.tensor_type)


# From safetensors


def _obstacle_in_config(config: dict[str, Any]) -> str | None:
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        return f"OpenVINO GenAI builds no network of the type {kind!r}"
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if rope.get("rope_type", rope.get("type", "default")) != "default":
        return "its positions are scaled, which OpenVINO GenAI does not know of GGUF files"
    if config.get("use_sliding_window") or config.get("quantization_config"):
        return "its attention is windowed or its weights are quantized"
    width, heads = config.get("hidden_size", 0), config.get("num_attention_heads", 1)
    if kind != "qwen3" and config.get("head_dim") not in (None, width // heads):
        return "its heads are of another width than OpenVINO GenAI takes them to be"
    return None


def _write_facts(config: dict[str, Any], writer: GGUFWriter) -> None:
    rope = config.get("rope_parameters") or config
    heads = config["num_attention_heads"]
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.get("num_key_value_heads") or heads)
    head = config.get("head_dim") or config["hidden_size"] // heads
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_freq_base(float(rope.get("rope_theta", 10_000.0)))
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])


def _tensors_of_safetensors(folder: Path, config: dict[str, Any]) -> Tensors:
    import gguf
    from safetensors import safe_open

    kind = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}[config["model_type"]]
    names = gguf.get_tensor_name_map(kind, config["num_hidden_layers"])
    heads = config["num_attention_heads"]
    turned = {"q_proj": heads, "k_proj": config.get("num_key_value_heads") or heads}
    for file in check_folder(folder).weight_files:
        with safe_open(folder / file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - it is no dictionary
                values = tensors.get_tensor(name).float().numpy()
                count = turned.get(name.split(".")[-2]) if config["model_type"] == "llama" else None
                if count:  # GGUF has the halves that rotary positions turn side by side.
                    halves = values.reshape(count, 2, -1, *values.shape[1:])
                    values = halves.swapaxes(1, 2).reshape(values.shape)
                mapped = names.get_name(name, try_suffixes=(".weight", ".bias"))
                if mapped is None:
                    raise KeyError(f"tensor {name} has no place in a GGUF file")
                if mapped != "output.weight" or not config.get("tie_word_embeddings"):
                    yield mapped, values
