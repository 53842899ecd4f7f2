"""A model that PyTorch has loaded: its network, its tokenizer, and what must be known of it."""

from __future__ import annotations

import platform
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from toolkit.engines.quiet import quiet_transformers
from toolkit.engines.tokenizers import TOKENIZER_COPIES, TokenizerLender
from toolkit.engines.unloaded import context_tokens_of, first_bound
from toolkit.engines.weights import Weights
from toolkit.errors import ConfigError, ModelUnavailable

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def choose_device(name: str) -> str:
    """Return the device that ``auto`` stands for, else the one asked for.

    Raises
    ------
    ConfigError
        If PyTorch has no such device here.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()  # Reading it back tells "meta" from a device that computes.
    except (RuntimeError, AssertionError, ImportError) as error:
        raise ConfigError(f"device={name!r} cannot be used here: {str(error).splitlines()[0]}") from None
    return name


def choose_dtype(name: str, device: str) -> str:
    """Return the number format that ``auto`` stands for: bfloat16 where the processor computes in it."""
    import torch

    if name != "auto":
        return name
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if device == "cpu" and computes_in_bfloat16() else "float32"


def computes_in_bfloat16() -> bool:
    """Say whether this processor has instructions for bfloat16.

    oneDNN calls it supported wherever there is AVX-512, and emulates the instructions where they are missing:
    12 prompts took SmolLM2-135M 43 s on such a processor, and 18 s in float32.
    """
    import torch

    if platform.machine().lower() in ("x86_64", "amd64"):
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class TorchModel:
    """A loaded model.

    Parameters
    ----------
    weights : Weights
        Where its files are.
    device, dtype : str
        As PyTorch names them, not ``auto``.
    trust_remote_code : bool
        Whether code that comes with the model may run.
    threads : int or None
        Of the processor, that it works with; None: as PyTorch has them.

    Attributes
    ----------
    network : PreTrainedModel
    encoder_decoder : bool
        Whether the prompt is read by an encoder (BART, T5, Pegasus, LED).
    context_tokens : int
        What prompt and reply may come to together; for an encoder-decoder what the encoder reads.
    reply_tokens : int or None
        What an encoder-decoder's reply may come to; None where it has no bound of its own.
    end_ids : set of int
        Tokens with which it ends a reply.
    pad_id : int

    Raises
    ------
    ModelUnavailable
        If the files hold no model that writes text.
    """

    def __init__(
        self,
        weights: Weights,
        *,
        device: str,
        dtype: str,
        trust_remote_code: bool = False,
        threads: int | None = None,
    ) -> None:
        import torch

        self.weights = weights
        self.device = device
        self.dtype = dtype
        self._trust_remote_code = trust_remote_code
        self._threads = threads
        self.network, tokenizer = self._load(getattr(torch, dtype))
        self._tokenizers = TokenizerLender(tokenizer, TOKENIZER_COPIES)
        config = self.network.config
        self.encoder_decoder = bool(config.is_encoder_decoder)
        self.model_type = str(config.model_type)
        self.context_tokens = context_tokens_of(config, tokenizer)
        self.reply_tokens = _reply_tokens(config) if self.encoder_decoder else None
        own: Any = self.network.generation_config
        end = own.eos_token_id or tokenizer.eos_token_id
        self.end_ids: set[int] = set(end if isinstance(end, list) else [end])
        pad = tokenizer.pad_token_id
        self.pad_id: int = pad if pad is not None else min(self.end_ids)

    def tokenizer(self) -> AbstractContextManager[PreTrainedTokenizerBase]:
        """Lend a tokenizer to the calling thread alone."""
        return self._tokenizers.lend()

    def claim_threads(self) -> None:
        """Have PyTorch use this model's number of threads for what the calling thread computes."""
        import torch

        if self._threads is not None and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)

    def _where(self) -> dict[str, Any]:
        where: dict[str, Any] = {
            "pretrained_model_name_or_path": str(self.weights.folder),
            "local_files_only": True,
            "trust_remote_code": self._trust_remote_code,
        }
        if self.weights.gguf_file:
            where["gguf_file"] = self.weights.gguf_file
        return where

    def _load(self, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
        from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

        with quiet_transformers():
            try:
                config = AutoConfig.from_pretrained(**self._where())
                kind: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
                safe = {} if self.weights.gguf_file else {"use_safetensors": True}
                model: Any = kind.from_pretrained(**self._where(), dtype=dtype, **safe)
                tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(**self._where())
            except (OSError, ValueError, KeyError, ImportError) as error:
                raise ModelUnavailable(
                    self.weights.name,
                    [f"{self.weights.folder}: {error}"],
                    "Take a causal model with a chat template or an encoder-decoder model, "
                    "with its weights in safetensors.",
                ) from error
        ready: PreTrainedModel = model.to(self.device).eval()
        return ready, tokenizer


def _reply_tokens(config: Any) -> int | None:
    """Return how many positions a decoder has; T5's are relative and without end."""
    names = ("max_decoder_position_embeddings", "max_position_embeddings", "max_target_positions")
    return first_bound(config, names)
