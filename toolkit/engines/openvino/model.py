"""What is known of a model that OpenVINO runs: its tokens, its bounds, and how it computes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from toolkit.engines.apart import apart
from toolkit.engines.model_folder import read_json
from toolkit.engines.quiet import quiet_transformers
from toolkit.engines.tokenizers import TokenizerLender
from toolkit.engines.unloaded import context_tokens_of
from toolkit.engines.weights import Weights
from toolkit.errors import ModelUnavailable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_PRECISIONS = {"f32": "float32", "bf16": "bfloat16", "f16": "float16"}


def precision() -> str:
    """Return the number format that OpenVINO computes in on this processor, by its own name: bf16, f32."""
    import openvino

    return apart(lambda: str(openvino.Core().get_property("CPU", "INFERENCE_PRECISION_HINT").to_string()))


class OpenVinoModel:
    """A model that OpenVINO runs; tokens are read and written by transformers, as everywhere else.

    Parameters
    ----------
    weights : Weights
        Where its files are.

    Attributes
    ----------
    device : str
        ``cpu``.
    dtype : str
        ``int8/bfloat16`` or ``int8/float32``: what weights are kept in, and what is computed in. Where the
        processor multiplies 8-bit numbers the activations are rounded to them too, and keys and values are
        kept in 8 bits: OpenVINO's own choices.
    encoder_decoder : bool
        False.
    context_tokens : int
        What prompt and reply may come to together.
    reply_tokens : None
    end_ids : set of int
        Tokens with which it ends a reply.

    Raises
    ------
    ModelUnavailable
        If its config or tokenizer cannot be read.
    """

    device = "cpu"
    encoder_decoder = False
    reply_tokens: int | None = None

    def __init__(self, weights: Weights) -> None:
        from transformers import AutoConfig, AutoTokenizer

        where: dict[str, Any] = {
            "pretrained_model_name_or_path": str(weights.folder),
            "local_files_only": True,
        }
        if weights.gguf_file:
            where["gguf_file"] = weights.gguf_file
        with quiet_transformers():
            try:
                self.config: Any = AutoConfig.from_pretrained(**where)
                tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(**where)
            except (OSError, ValueError, KeyError, ImportError) as error:
                raise ModelUnavailable(
                    weights.name, [f"{weights.folder}: {error}"], "Take a causal model with a chat template."
                ) from error
        self.weights = weights
        self.dtype = f"int8/{_PRECISIONS[precision()]}"
        self.model_type = str(self.config.model_type)
        self.context_tokens = context_tokens_of(self.config, tokenizer)
        own = None if weights.gguf_file else read_json(weights.folder / "generation_config.json")
        end = (own or {}).get("eos_token_id") or tokenizer.eos_token_id
        self.end_ids: set[int] = set(end if isinstance(end, list) else [end])
        self._tokenizers = TokenizerLender(tokenizer)

    def tokenizer(self) -> AbstractContextManager[PreTrainedTokenizerBase]:
        """Lend a tokenizer to the calling thread alone."""
        return self._tokenizers.lend()
