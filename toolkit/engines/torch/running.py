"""Loading a model with PyTorch and choosing how its batches run."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from toolkit.engines.memory import MemoryPlan
from toolkit.engines.queue import Backend
from toolkit.engines.torch.attention import Unsupported
from toolkit.engines.torch.linears import pack_linears
from toolkit.engines.torch.model import TorchModel
from toolkit.engines.torch.packed import PackedBatches, step_tokens_of
from toolkit.engines.torch.padded import PaddedBatches
from toolkit.engines.torch.shortage import loading_memory
from toolkit.engines.weights import Weights


class Loaded(NamedTuple):
    """A model, how its batches run, what they may take, and why they are padded if they are."""

    model: TorchModel
    backend: Backend
    memory: MemoryPlan
    note: str


def load(
    weights: Weights,
    *,
    device: str,
    dtype: str,
    plan: Callable[[int | None], MemoryPlan],
    trust_remote_code: bool = False,
    deterministic: bool = False,
    threads: int | None = None,
) -> Loaded:
    """Load a model, and the backend that suits it.

    Causal models whose attention is the plain one run in packed batches, all others in padded ones.

    Parameters
    ----------
    weights : Weights
    device, dtype : str
        As PyTorch names them, not ``auto``.
    plan : callable
        Gives the plan of memory for a number of tokens that go through the model at a time, None for all.
    trust_remote_code : bool
        Whether code that comes with the model may run.
    deterministic : bool
        See the backends.
    threads : int or None
        Of the processor, that the model works with; None: as PyTorch has them.

    Raises
    ------
    ModelUnavailable
        If the files hold no model that writes text, or it does not fit into memory.
    """
    step_tokens = step_tokens_of(device)
    memory = plan(step_tokens)  # Before anything is loaded: it refuses what does not fit.

    def loaded() -> TorchModel:
        return TorchModel(
            weights, device=device, dtype=dtype, trust_remote_code=trust_remote_code, threads=threads
        )

    if device == "cpu":
        with loading_memory():
            model = loaded()
            if pack_linears(model.network) and not _runs(model):
                model = loaded()
    else:
        model = loaded()
    if not model.encoder_decoder:
        try:
            packed = PackedBatches(
                model,
                batch_tokens=memory.batch_tokens,
                step_tokens=step_tokens,
                deterministic=deterministic,
            )
            return Loaded(model, packed, memory, "")
        except Unsupported as refusal:
            # Padded batches run the model's own attention, by generate().
            why = f"requests do not join between steps: {refusal}"
    else:
        why = "encoder-decoder models run in padded batches"
    memory = plan(None)
    padded = PaddedBatches(
        model, batch_tokens=memory.batch_tokens, step_tokens=step_tokens, deterministic=deterministic
    )
    return Loaded(model, padded, memory, why)


def _runs(model: TorchModel) -> bool:
    """Say whether a model still works: one may do more with a weight than multiply by it."""
    import torch

    ids = torch.tensor([sorted(model.end_ids)[:1] * 4])
    extra = {"decoder_input_ids": ids[:, :1]} if model.encoder_decoder else {}
    try:
        with torch.inference_mode():
            model.network(input_ids=ids, **extra)
    except (RuntimeError, NotImplementedError, AttributeError, TypeError):
        return False
    return True
