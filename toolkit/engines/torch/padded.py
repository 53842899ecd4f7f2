"""Encoder-decoder models, and causal ones with an attention of their own: padded batches of generate()."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    step_tokens : int
        Tokens of prompts that an encoder reads at a time; a single prompt may be longer.
    deterministic : bool
        Work on one job at a time, so that none is padded to another's length.
    """

    name = "padded"

    def __init__(
        self, model: TorchModel, *, batch_tokens: int, step_tokens: int, deterministic: bool = False
    ) -> None:
        self._model = model
        self._batch_tokens = batch_tokens
        self._step_tokens = step_tokens
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
        """Answer jobs together."""
        import torch

        def decode(written: Sequence[int]) -> str:
            return str(tokenizer.decode(list(written), skip_special_tokens=True))

        rows = _Rows([Writing(job, self._model.end_ids) for job in jobs], decode)
        generate: Any = self._model.network.generate

        def run() -> None:
            with torch.inference_mode():
                read = self._encoded(jobs) if self._model.encoder_decoder else self._padded(jobs)
                generate(
                    **read,
                    max_new_tokens=max(job.max_new_tokens for job in jobs),
                    logits_processor=[rows.choose],
                    stopping_criteria=[rows.ended],
                )

        watching_memory(run)
        return [writing.generated(decode) for writing in rows.writings]

    def _encoded(self, jobs: Sequence[Job]) -> dict[str, Any]:
        """Let the encoder read the prompts, those of like lengths together, and pad what comes of them.

        The encoder is most of the work, and padding all prompts to the longest would be more of it: 22 % with
        twelve of 435 to 677 tokens.
        """
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        encoder: Any = self._model.network.get_encoder()
        states, masks = [], []
        for group in groups_of_like_length(jobs, self._step_tokens):
            padded = self._padded(group)
            states.append(encoder(**padded, return_dict=True).last_hidden_state)
            masks.append(padded["attention_mask"])
        longest = max(mask.shape[1] for mask in masks)
        pad = torch.nn.functional.pad
        states = [pad(state, (0, 0, 0, longest - state.shape[1])) for state in states]
        masks = [pad(mask, (0, longest - mask.shape[1])) for mask in masks]
        return {
            "encoder_outputs": BaseModelOutput(last_hidden_state=torch.cat(states)),
            "attention_mask": torch.cat(masks),
        }

    def _padded(self, jobs: Sequence[Job]) -> dict[str, torch.Tensor]:
        """Return prompts padded on the left to the longest, an encoder's on the right."""
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
        padded = {"input_ids": ids, "attention_mask": mask}
        if model.model_type == "led":
            # LED's first token attends to all others; without it the decoder sees windows only.
            padded["global_attention_mask"] = torch.zeros_like(mask)
            padded["global_attention_mask"][:, 0] = 1
        return {name: tensor.to(model.device) for name, tensor in padded.items()}

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


def groups_of_like_length(jobs: Sequence[Job], step_tokens: int) -> Iterator[list[Job]]:
    """Yield jobs that an encoder reads together: short ones, as long ones keep it busy by themselves.

    A group has ``step_tokens`` at most, padding included, or a single job; each prompt in it is padded by a
    sixteenth of that at most. For so few tokens more a model takes no longer than for its weights once more.

    Parameters
    ----------
    jobs : sequence of Job
        The longest prompt first.
    step_tokens : int
    """
    group: list[Job] = []
    for job in jobs:
        longest = len(group[0].input_ids) if group else 0
        full = (len(group) + 1) * longest > step_tokens
        if group and (full or longest - len(job.input_ids) > step_tokens // 16):
            yield group
            group = []
        group.append(job)
    if group:
        yield group


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
