"""A local model that is not loaded: what its files say of its size, its context and its tokens."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from toolkit.engines.embedded import EMBEDDED
from toolkit.engines.model_folder import check_folder, looks_like_model, read_json
from toolkit.engines.quiet import quiet_transformers
from toolkit.engines.weights import Weights, find_weights
from toolkit.errors import ModelUnavailable
from toolkit.tokens import estimate_tokens

UNKNOWN_CONTEXT_TOKENS = 2048
"""Of a model that is not on this disk: few that are used today read less."""


@dataclass(frozen=True, slots=True)
class ModelSize:
    """How large a model is, in numbers and not in bytes: those depend on the number format.

    Attributes
    ----------
    parameters : int
    kept_per_token : int
        Numbers that attention keeps of each token of prompt and reply (keys and values of all layers).
    worked_per_token : int
        Numbers that one layer works with for each token of a prompt, about: four vectors of the model's width
        and three of its inner width.
    """

    parameters: int
    kept_per_token: int
    worked_per_token: int


_read_models: dict[tuple[str, str | None, bool], UnloadedModel] = {}


def read_model(model: str, *, revision: str | None = None, trust_remote_code: bool = False) -> UnloadedModel:
    """Return what is known of a model; what was once found on this disk is not read again."""
    key = model, revision, trust_remote_code
    known = _read_models.get(key)
    if known is None:
        known = UnloadedModel(model, revision=revision, trust_remote_code=trust_remote_code)
        if known.on_disk:
            _read_models[key] = known
    return known


class UnloadedModel:
    """What a provider must know of a model to say what it would ask, without the weights in memory.

    Nothing is fetched. Of a model that is not on this disk little is known: ``tokenizer`` then estimates four
    bytes a token.

    Parameters
    ----------
    model : str
    revision : str or None
    trust_remote_code : bool
        See ``TorchModel``.

    Attributes
    ----------
    on_disk : bool
    encoder_decoder, model_type, context_tokens
        As those of ``TorchModel``.
    size : ModelSize or None
        None where it is not known: the model is not here, or is a GGUF file.

    Raises
    ------
    ModelUnavailable
        If the model is here and cannot be used.
    """

    def __init__(self, model: str, *, revision: str | None = None, trust_remote_code: bool = False) -> None:
        self._tokenizer_lock = threading.Lock()
        try:
            weights = find_weights(model, revision=revision, progress=False, allow_fetch=False)
        except ModelUnavailable:
            path = Path(model).expanduser()
            if model not in EMBEDDED and (path.is_file() or looks_like_model(path)):
                raise  # It is here, and no run could use it.
            embedded = EMBEDDED.get(model)
            self.on_disk = False
            self.encoder_decoder = False
            self.model_type = ""
            self.context_tokens = embedded.context_tokens if embedded else UNKNOWN_CONTEXT_TOKENS
            self.size: ModelSize | None = None
            self._tokenizer: Any = _Estimate()
            return
        from transformers import AutoConfig, AutoTokenizer

        where: dict[str, Any] = {
            "pretrained_model_name_or_path": str(weights.folder),
            "local_files_only": True,
            "trust_remote_code": trust_remote_code,
        }
        if weights.gguf_file:
            where["gguf_file"] = weights.gguf_file
        with quiet_transformers():
            try:
                config = AutoConfig.from_pretrained(**where)
                self._tokenizer = AutoTokenizer.from_pretrained(**where)
            except (OSError, ValueError, KeyError, ImportError) as error:
                advice = "Take a causal model with a chat template or an encoder-decoder model."
                raise ModelUnavailable(model, [f"{weights.folder}: {error}"], advice) from error
        self.on_disk = True
        self.encoder_decoder = bool(config.is_encoder_decoder)
        self.model_type = str(config.model_type)
        self.context_tokens = context_tokens_of(config, self._tokenizer)
        self.size = read_size(weights)

    @contextmanager
    def tokenizer(self) -> Iterator[Any]:
        """Lend the tokenizer to the calling thread alone: fast ones fail when shared."""
        with self._tokenizer_lock:
            yield self._tokenizer


class _Estimate:
    """In the place of a tokenizer that is not here."""

    chat_template = "plain"
    all_special_tokens = ()

    def __call__(self, text: str, **options: object) -> dict[str, Sequence[int]]:
        return {"input_ids": range(estimate_tokens(text))}

    def apply_chat_template(self, messages: Sequence[dict[str, str]], **options: object) -> str:
        return "\n".join(f"{message['role']}\n{message['content']}" for message in messages) + "\n"


def context_tokens_of(config: Any, tokenizer: Any) -> int:
    """Return a model's own bound on positions; T5 has none and is trained on 512."""
    names = (
        "max_encoder_position_embeddings",
        "max_position_embeddings",
        "n_positions",
        "max_source_positions",
    )
    told = int(tokenizer.model_max_length)
    return first_bound(config, names) or (told if told < 10**9 else 512)


def first_bound(config: Any, names: Sequence[str]) -> int | None:
    """Return the first of some settings that is a number above zero."""
    known = (getattr(config, name, None) for name in names)
    return next((value for value in known if isinstance(value, int) and value > 0), None)


def read_size(weights: Weights) -> ModelSize | None:
    """Return how large a model is by the heads of its files; None of a GGUF file."""
    if weights.gguf_file:
        return None
    numbers = 0
    for name in check_folder(weights.folder).weight_files:
        with (weights.folder / name).open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        for tensor, entry in header.items():
            if tensor != "__metadata__":
                numbers += math.prod(entry["shape"])
    told = read_json(weights.folder / "config.json")
    config = SimpleNamespace(**{**told, **(told.get("text_config") or {})})
    layer_names = ("decoder_layers", "num_decoder_layers", "num_hidden_layers", "num_layers", "n_layer")
    head_names = ("num_attention_heads", "encoder_attention_heads", "n_head", "num_heads")
    layers, heads = first_bound(config, layer_names) or 1, first_bound(config, head_names) or 1
    width = first_bound(config, ("hidden_size", "d_model", "n_embd")) or 1
    inner = first_bound(config, ("intermediate_size", "encoder_ffn_dim", "d_ff")) or 4 * width
    kept_heads = first_bound(config, ("num_key_value_heads",)) or heads
    head = first_bound(config, ("head_dim", "d_kv")) or width // heads
    return ModelSize(numbers, 2 * layers * kept_heads * head, 4 * width + 3 * inner)
