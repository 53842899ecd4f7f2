"""Local models with OpenVINO GenAI: on a processor faster than PyTorch, for the models that it knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from toolkit.engines.apart import apart
from toolkit.engines.memory import WORKING_COPIES, MemoryPlan, free_bytes, plan_memory
from toolkit.engines.openvino.batches import OpenVinoBatches
from toolkit.engines.openvino.files import converted, obstacle
from toolkit.engines.openvino.model import OpenVinoModel, precision
from toolkit.engines.unloaded import ModelSize, first_bound
from toolkit.engines.weights import Weights

if TYPE_CHECKING:
    from openvino_genai import ContinuousBatchingPipeline

STEP_TOKENS = 1024
"""Tokens that go through the model at a time: those who write wait for so much of others' prompts. 12 prompts
of 435 to 677 tokens and 64 new tokens each took 11.3 s with 256, 10.8 s with 512, 10.6 s with 1024 and 10.8 s
with 2048 (medians of 5, 2 cores that others used too)."""
BLOCK_TOKENS = 32
"""Of a block of the cache, on a processor."""
MOST_ROWS = 128
"""Replies at work at most; each may leave most of a block empty."""
CACHE_BYTES = 76 / 64
"""Of a number of keys and values: 8 bits, and for 64 of them 12 bytes of factors and offsets on average."""
WORKED_BYTES = 44
"""Of a number that a layer works with. Fitted to SmolLM2-135M: its first step of 900 tokens takes 300 MB, and
prompts at work beside it 18 kB a token, of which keys and values are 14 kB."""


def supports(weights: Weights) -> str | None:
    """Return why OpenVINO cannot run a model, or None if it can."""
    return obstacle(weights)


def load(
    weights: Weights,
    *,
    batch_tokens: int,
    memory_gb: float | None = None,
    deterministic: bool = False,
    threads: int | None = None,
) -> tuple[OpenVinoModel, OpenVinoBatches, MemoryPlan]:
    """Load a model.

    Parameters
    ----------
    weights : Weights
    batch_tokens : int
        Bound on the tokens at work.
    memory_gb : float or None
        Bound on all that it takes, in 10^9 bytes; None: as ``plan_memory`` has it.
    deterministic : bool
        See ``OpenVinoBatches``.
    threads : int or None
        Of the processor; None: all.

    Raises
    ------
    ModelUnavailable
        If its files cannot be read or converted, or it does not fit into memory.
    ConfigError
        If it does not fit into ``memory_gb``.
    """
    model = OpenVinoModel(weights)
    folder = converted(weights)
    memory = plan_memory(
        weights.name,
        _size(model.config, (folder / "openvino_model.bin").stat().st_size),
        number_bytes=1,
        step_tokens=STEP_TOKENS,
        batch_tokens=batch_tokens,
        free=free_bytes("cpu"),
        memory_gb=memory_gb,
    )
    make, capacity = pipeline_maker(weights, batch_tokens=memory.batch_tokens, threads=threads)
    batches = OpenVinoBatches(
        model,
        make,
        batch_tokens=memory.batch_tokens,
        capacity_tokens=capacity,
        deterministic=deterministic,
    )
    return model, batches, memory


def pipeline_of(weights: Weights, *, batch_tokens: int) -> ContinuousBatchingPipeline:
    """Return the pipeline that ``load`` works with, by itself."""
    return pipeline_maker(weights, batch_tokens=batch_tokens)[0]()


def pipeline_maker(
    weights: Weights, *, batch_tokens: int, threads: int | None = None
) -> tuple[Callable[[], ContinuousBatchingPipeline], int]:
    """Return what makes a model's pipeline, and the tokens that there is room for in it."""
    import openvino_genai

    folder = converted(weights)
    blocks = -(-batch_tokens // BLOCK_TOKENS) + MOST_ROWS
    scheduler = openvino_genai.SchedulerConfig()
    scheduler.cache_size, scheduler.num_kv_blocks = 0, blocks
    scheduler.max_num_batched_tokens, scheduler.max_num_seqs = STEP_TOKENS, MOST_ROWS
    scheduler.dynamic_split_fuse = True
    # Looking prompts up is not safe while another thread works, and adding them from there is what we do.
    scheduler.enable_prefix_caching = False
    properties: dict[str, Any] = {"INFERENCE_PRECISION_HINT": precision(), "KV_CACHE_PRECISION": "u8"}
    if threads is not None:
        properties["INFERENCE_NUM_THREADS"] = threads

    def make() -> ContinuousBatchingPipeline:
        return apart(lambda: openvino_genai.ContinuousBatchingPipeline(folder, scheduler, "CPU", properties))

    return make, blocks * BLOCK_TOKENS


def _size(config: Any, weights_bytes: int) -> ModelSize:
    """Return how large a model is in bytes, as its numbers are of several formats."""
    layers = config.num_hidden_layers
    heads = first_bound(config, ("num_key_value_heads", "num_attention_heads")) or 1
    width = first_bound(config, ("head_dim",)) or config.hidden_size // config.num_attention_heads
    worked = (4 * config.hidden_size + 3 * config.intermediate_size) * WORKED_BYTES
    return ModelSize(weights_bytes, round(2 * layers * heads * width * CACHE_BYTES), worked // WORKING_COPIES)
