"""Tiny models with random weights, as files on disk: the real classes, loaded the real way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

# Qwen's way of marking turns, without a system message of its own.
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CORPUS = (
    "Rain fell on the hill all night. The speakers discuss what a spring is and why it never dries.\n\n",
    "Mara keeps bees; Jonas asks how a bee finds flowers. She says: they dance. We hear it.\n",
    "Summarize the podcast: a short summary in two sentences, please. system user assistant 0123456789\n",
)
VOCABULARY = 400


def _tokenizer(*, chat: bool, ends: bool, longest: int) -> Any:
    """Train a byte-level tokenizer on three lines; with ``ends`` it closes each text with its end token."""
    import tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = ["<pad>", "<s>", "</s>", "<|im_start|>", "<|im_end|>"]
    inner = tokenizers.Tokenizer(tokenizers.models.BPE())
    inner.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=specials,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator(CORPUS, trainer)
    if ends:
        inner.post_processor = tokenizers.processors.TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", 2)]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>" if ends else "<|im_end|>",
        extra_special_tokens=["<|im_start|>", "<|im_end|>"],
        model_max_length=longest,
    )
    if chat:
        tokenizer.chat_template = CHATML
    return tokenizer


def save_model(folder: Path, model: Any, *, chat: bool = False, ends: bool, longest: int) -> Path:
    """Write a model and a tokenizer into a folder."""
    model.eval().save_pretrained(folder)
    _tokenizer(chat=chat, ends=ends, longest=longest).save_pretrained(folder)
    return folder


CAUSAL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}


def _llama(folder: Path, *, chat: bool) -> Path:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **CAUSAL,
        # Wide enough that the likeliest token leads clearly: rounding in a batch must not decide it.
        initializer_range=0.4,
        bos_token_id=1,
        eos_token_id=4,
        pad_token_id=0,
    )
    return save_model(folder, LlamaForCausalLM(config), chat=chat, ends=False, longest=512)


def _mistral(folder: Path) -> Path:
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(
        **CAUSAL,
        sliding_window=8,
        eos_token_id=4,
        pad_token_id=0,
    )
    return save_model(folder, MistralForCausalLM(config), ends=False, longest=512)


def _t5(folder: Path) -> Path:
    from transformers import T5Config, T5ForConditionalGeneration

    config = T5Config(
        vocab_size=VOCABULARY,
        d_model=32,
        d_kv=8,
        d_ff=48,
        num_layers=2,
        num_heads=4,
        initializer_factor=3.0,
        decoder_start_token_id=0,
        eos_token_id=2,
        pad_token_id=0,
    )
    return save_model(folder, T5ForConditionalGeneration(config), ends=True, longest=512)


_SIDES = {
    "vocab_size": VOCABULARY,
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 1,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "init_std": 0.4,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
    "decoder_start_token_id": 2,
}


def _bart(folder: Path) -> Path:
    from transformers import BartConfig, BartForConditionalGeneration

    model = BartForConditionalGeneration(BartConfig(**_SIDES, max_position_embeddings=256))
    # What bart-large-cnn asks for in its own generation_config.json.
    own = model.generation_config
    own.forced_bos_token_id, own.forced_eos_token_id = 1, 2
    own.num_beams, own.min_length, own.no_repeat_ngram_size, own.length_penalty = 4, 56, 3, 2.0
    own.early_stopping, own.max_length = True, 142
    return save_model(folder, model, ends=True, longest=256)


def _pegasus(folder: Path) -> Path:
    from transformers import PegasusConfig, PegasusForConditionalGeneration

    model = PegasusForConditionalGeneration(PegasusConfig(**_SIDES, max_position_embeddings=256))
    return save_model(folder, model, ends=True, longest=256)


def _led(folder: Path) -> Path:
    from transformers import LEDConfig, LEDForConditionalGeneration

    config = LEDConfig(
        **_SIDES,
        attention_window=8,
        max_encoder_position_embeddings=256,
        max_decoder_position_embeddings=192,
    )
    return save_model(folder, LEDForConditionalGeneration(config), ends=True, longest=256)


MAKERS: dict[str, Callable[[Path], Path]] = {
    "llama": lambda folder: _llama(folder, chat=True),
    "llama-base": lambda folder: _llama(folder, chat=False),
    "mistral": _mistral,
    "t5": _t5,
    "bart": _bart,
    "pegasus": _pegasus,
    "led": _led,
}
