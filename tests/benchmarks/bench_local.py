"""How much faster the toolkit serves chunks than a plain loop over ``model.generate``.

Twelve prompts of 435 to 677 tokens, 64 new tokens each, on the embedded model. Prints a table and, last, one
JSON line. Both sides run in one process, one after the other, on all cores; the plain loop is float32, one
prompt at a time, as a first script would do it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from toolkit import Config, TransformersSummarizationProvider
from toolkit.engines.quiet import quiet_transformers
from toolkit.engines.weights import find_weights
from toolkit.records import Request, Sampling, Stage

LENGTHS = [435, 457, 479, 501, 523, 545, 567, 589, 611, 633, 655, 677]
NEW_TOKENS = 64
SENTENCES = [
    "The ferry to the island leaves at seven and the crossing takes an hour in calm weather.",
    "Most of the lighthouse keepers were farmers who tended the lamp at night.",
    "Before the harbour was deepened, ships waited outside for the tide to turn.",
    "The museum keeps forty logbooks, and volunteers have read thirty of them aloud.",
    "Nobody agreed on who should pay for the new pier, so the old one was mended again.",
]


def prompt_of(tokens: int, tokenizer) -> list[int]:
    text = " ".join(SENTENCES[i % len(SENTENCES)] for i in range(tokens // 10))
    head = tokenizer("Summarize this part of a podcast:\n\n", add_special_tokens=False)["input_ids"]
    return (head + tokenizer(text, add_special_tokens=False)["input_ids"])[:tokens]


def plain_loop(prompts: list[list[int]], model) -> float:
    began = time.perf_counter()
    with torch.inference_mode():
        for ids in prompts:
            model.generate(
                torch.tensor([ids]),
                attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                min_new_tokens=NEW_TOKENS,
                max_new_tokens=NEW_TOKENS,
                do_sample=False,
                pad_token_id=2,
            )
    return len(prompts) / (time.perf_counter() - began)


def toolkit_calls(texts: list[str], provider: TransformersSummarizationProvider) -> tuple[float, list[str]]:
    """Serve the chunks through the provider, all submitted at once."""
    requests = [
        Request(
            call_id=str(i),
            episode_id="bench",
            stage=Stage.MAP,
            prompt=text,
            max_output_tokens=NEW_TOKENS,
            sampling=Sampling(),
            cancelled=threading.Event(),
        )
        for i, text in enumerate(texts)
    ]
    began = time.perf_counter()
    with ThreadPoolExecutor(len(requests)) as pool:
        replies = list(pool.map(provider.generate, requests))
    seconds = time.perf_counter() - began
    return len(replies) / seconds, [reply.text for reply in replies]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1, help="the two sides take turns so many times")
    parser.add_argument("--brief", action="store_true", help="every third prompt")
    chosen = parser.parse_args()
    rounds, lengths = chosen.rounds, LENGTHS[:: 3 if chosen.brief else 1]
    weights = find_weights("smollm2-135m")
    tokenizer = AutoTokenizer.from_pretrained(weights.folder, local_files_only=True)
    with quiet_transformers():
        model = AutoModelForCausalLM.from_pretrained(
            weights.folder, dtype=torch.float32, local_files_only=True
        ).eval()
    providers = {
        dtype: TransformersSummarizationProvider(Config(dtype=dtype)) for dtype in ("auto", "float32")
    }
    prompts = [prompt_of(length, tokenizer) for length in lengths]
    # The provider adds the chat template; texts are shortened by what it adds, so that both sides read alike.
    added = len(providers["auto"]._input_ids("", "", ""))
    texts = [tokenizer.decode(prompt_of(length - added, tokenizer)) for length in lengths]

    rates: dict[str, list[float]] = {"plain float32 loop": [], "toolkit auto": [], "toolkit float32": []}
    texts_alone: dict[str, list[str]] = {}
    texts_together: dict[str, list[str]] = {}
    plain_loop(prompts[:1], model)
    for dtype, provider in providers.items():
        texts_alone[dtype] = [toolkit_calls([text], provider)[1][0] for text in texts]
    for _ in range(rounds):
        rates["plain float32 loop"].append(plain_loop(prompts, model))
        for dtype, provider in providers.items():
            rate, texts_together[dtype] = toolkit_calls(texts, provider)
            rates[f"toolkit {dtype}"].append(rate)

    base = statistics.median(rates["plain float32 loop"])
    print(f"{'':20} {'chunks/s':>9} {'tokens/s':>9} {'ratio':>6}")
    for name, values in rates.items():
        rate = statistics.median(values)
        print(f"{name:20} {rate:9.3f} {rate * NEW_TOKENS:9.1f} {rate / base:6.2f}")
    equal = {
        dtype: sum(a == b for a, b in zip(texts_alone[dtype], texts_together[dtype], strict=True))
        for dtype in providers
    }
    for dtype, count in equal.items():
        print(f"same text alone and in a batch, {dtype}: {count} of {len(texts)}")
    print(
        json.dumps(
            {
                "benchmark": "local",
                "chunks": len(lengths),
                "new_tokens": NEW_TOKENS,
                "threads": torch.get_num_threads(),
                "auto_dtype": providers["auto"]._loaded().engine.dtype,
                "chunks_per_s": {name: round(statistics.median(v), 4) for name, v in rates.items()},
                "ratio_auto": round(statistics.median(rates["toolkit auto"]) / base, 3),
                "ratio_float32": round(statistics.median(rates["toolkit float32"]) / base, 3),
                "same_text": {dtype: count / len(texts) for dtype, count in equal.items()},
            }
        )
    )


if __name__ == "__main__":
    main()
