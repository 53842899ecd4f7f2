"""Whether packed passes give what a model gives by itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from toolkit.engines.torch import attention
from toolkit.engines.torch.attention import Decoding, Packing, Segment, Unsupported, run_pass
from toolkit.engines.torch.slots import Slots

if TYPE_CHECKING:
    import torch

TOLERANCE = 0.1
"""Of scores, by their norm. Rounding in bfloat16 comes to 1 or 2 %; a wrong mask or position to far more."""


def check_same(network: Any, slots: Slots) -> None:
    """Compare packed passes with plain ones on two short sequences, and leave packed attention switched on.

    Raises
    ------
    Unsupported
        If they differ: the model needs what packed passes do not give it.
    """
    import torch

    vocabulary = int(network.config.get_text_config().vocab_size)
    texts = [[(7 * place * place + 3 * place + 11) % vocabulary for place in range(n)] for n in (21, 13)]
    own_attention = network.config._attn_implementation
    attention.register()
    try:
        with torch.inference_mode():
            device = network.device
            plain = [network(torch.tensor([ids], device=device), use_cache=False).logits[0] for ids in texts]
            network.set_attn_implementation(attention.NAME)
            packed = _packed_scores(network, slots, texts)
        for theirs, ours in zip(plain, packed, strict=True):
            apart = float((theirs.float() - ours.float()).norm() / theirs.float().norm())
            if not apart < TOLERANCE:
                raise Unsupported(f"packed passes differ from plain ones by {apart:.0%}")
    except (Unsupported, TypeError, ValueError, AttributeError, RuntimeError) as error:
        network.set_attn_implementation(own_attention)
        if isinstance(error, Unsupported):
            raise
        raise Unsupported(f"{type(error).__name__}: {error}") from error
    finally:
        slots.clear()


def _packed_scores(network: Any, slots: Slots, texts: Sequence[Sequence[int]]) -> list[torch.Tensor]:
    """Read the first text in two pieces and then token by token, while the second is read in two pieces."""
    import torch

    one, other = (slots.take(len(ids)) for ids in texts)
    cut = len(texts[0]) - 2
    found: list[list[torch.Tensor]] = [[], []]
    for begin, end in ((0, 9), (9, cut)):
        count = end - begin
        packing = Packing([Segment(one, 0, count, begin)])
        ids, positions = list(texts[0][begin:end]), list(range(begin, end))
        found[0].append(run_pass(network, ids, positions, packing, range(count)))
    for last, begin, end in ((cut, 0, 6), (cut + 1, 6, len(texts[1]))):
        count = end - begin
        packing = Packing(
            [Segment(other, 0, count, begin)], [Decoding.of(one.pool, count, [one.row], [last])]
        )
        ids, positions = [*texts[1][begin:end], texts[0][last]], [*range(begin, end), last]
        scores = run_pass(network, ids, positions, packing, range(count + 1))
        found[1].append(scores[:-1])
        found[0].append(scores[-1:])
    return [torch.cat(parts) for parts in found]
