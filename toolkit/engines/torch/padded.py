"""Encoder-decoder models, and causal ones with an attention of their own: padded batches of generate()."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from toolkit.engines.admission import choose_batch
from toolkit.engines.jobs import Generated, Job
from toolkit.engines.queue import Step
from toolkit.engines.torch.shortage import watching_memory
from toolkit.engines.torch.writing import Writing

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

    from toolkit.engines.torch.model import TorchModel


class PaddedBatches:
    """A backend of the queue: one step takes a whole batch to its end.

    Parameters
    ----------
    model : TorchModel
    batch_tokens : int
        Bound on a padded batch, in tokens; a single job may be larger.
    deterministic : bool
        Work on one job at a time, so that none is padded to another's length.
    """

    name = "padded"

    def __init__(self, model: TorchModel, *, batch_tokens: int, deterministic: bool = False) -> None:
        self._model = model
        self._batch_tokens = batch_tokens
        self._deterministic = deterministic
        self._jobs: list[Job] = []
        model.network.generation_config = self._plain_greedy()

    def choose(self, waiting: Sequence[Job]) -> list[Job]:
        """Choose the next batch; nobody joins one that has begun."""
        if self._jobs:
            return []
        return list(waiting[:1]) if self._deterministic else choose_batch(waiting, self._batch_tokens)

    def admit(self, jobs: Sequence[Job]) -> None:
        """Take up a batch."""
        self._jobs = list(jobs)

    def reset(self) -> None:
        """Forget the batch."""
        self._jobs = []

    def step(self) -> Step:
        """Answer the batch."""
        self._model.claim_threads()
        with self._model.tokenizer() as tokenizer:
            replies = self._answer(self._jobs, tokenizer)
        ended = list(zip(self._jobs, replies, strict=True))
        self._jobs = []
        return Step([], ended)

    def _answer(self, jobs: Sequence[Job], tokenizer: PreTrainedTokenizerBase) -> list[Generated]:
        """Answer jobs together, padded on the left to the longest prompt (an encoder's on the right)."""
        import torch

        model = self._model
        longest = max(len(job.input_ids) for job in jobs)
        if model.model_type == "led":
            # Whole windows; LED would pad by itself and say so on standard error for every length.
            window = model.network.config.attention_window
            window = window if isinstance(window, int) else max(window)
            longest = -(-longest // window) * window
        shape = (len(jobs), longest)
        ids = torch.full(shape, model.pad_id, dtype=torch.long)
        mask = torch.zeros(shape, dtype=torch.long)
        for row, job in enumerate(jobs):
            count = len(job.input_ids)
            place = slice(0, count) if model.encoder_decoder else slice(longest - count, longest)
            ids[row, place] = torch.tensor(job.input_ids, dtype=torch.long)
            mask[row, place] = 1
        extra: dict[str, Any] = {}
        if model.model_type == "led":
            # LED's first token attends to all others; without it the decoder sees windows only.
            extra["global_attention_mask"] = torch.zeros(shape, dtype=torch.long)
            extra["global_attention_mask"][:, 0] = 1
            extra["global_attention_mask"] = extra["global_attention_mask"].to(model.device)

        def decode(written: Sequence[int]) -> str:
            return str(tokenizer.decode(list(written), skip_special_tokens=True))

        rows = _Rows([Writing(job, model.end_ids) for job in jobs], decode)
        generate: Any = model.network.generate

        def run() -> None:
            with torch.inference_mode():
                generate(
                    input_ids=ids.to(model.device),
                    attention_mask=mask.to(model.device),
                    max_new_tokens=max(job.max_new_tokens for job in jobs),
                    logits_processor=[rows.choose],
                    stopping_criteria=[rows.ended],
                    **extra,
                )

        watching_memory(run)
        return [writing.generated(decode) for writing in rows.writings]

    def _plain_greedy(self) -> Any:
        """Return greedy search with the model's own first tokens and nothing else of its settings.

        Where replies end is for ``Writing`` to say. It takes the place of the model's own, because generate()
        fills what a call leaves open from there: a least length, say, or a penalty on tokens of the prompt.
        The end token that BART and Pegasus force at the cap is left out: it stands at the batch's cap and
        would make a reply depend on its company.
        """
        import transformers

        make: Any = transformers.GenerationConfig
        own: Any = self._model.network.generation_config
        return make(
            do_sample=False,
            num_beams=1,
            use_cache=True,
            pad_token_id=self._model.pad_id,
            bos_token_id=own.bos_token_id,
            decoder_start_token_id=own.decoder_start_token_id,
            forced_bos_token_id=own.forced_bos_token_id,
        )


class _Rows:
    """The replies of a batch, as generate() asks about them."""

    def __init__(self, writings: Sequence[Writing], decode: Any) -> None:
        self.writings = writings
        self._decode = decode

    def choose(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Rework the scores, of shape (rows, vocabulary), so that the best one is the token to take."""
        scores = scores.float()
        for writing, row in zip(self.writings, scores, strict=True):
            if not writing.ended:
                writing.rework(row)
        return scores

    def ended(self, ids: torch.Tensor, scores: object, **options: object) -> torch.Tensor:
        """Take the tokens that were just written, and say which rows are done."""
        import torch

        for writing, token in zip(self.writings, ids[:, -1].tolist(), strict=True):
            if not writing.ended:
                writing.add(token, self._decode)
        return torch.tensor([writing.ended for writing in self.writings], device=ids.device)
