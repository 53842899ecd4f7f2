"""How fast local models are, against a plain loop and against what an engine does by itself.

Five parts, all on the embedded model but the fourth:

1. ``speed``: twelve prompts of 435 to 677 tokens, 64 new tokens each: a plain float32 loop over
   ``model.generate``, the torch engine (bfloat16 where the processor has it, float32, deterministic),
   OpenVINO GenAI called directly with all requests in one list, and the openvino engine.
2. ``grid``: the chunks of 8 episodes x 6 at every setting of the two levels of parallelism, and all at once.
3. ``memory``: the most memory of a process with 8 episodes in flight, and with one.
4. ``encoder``: an encoder-decoder of distilbart-cnn's shape with random weights, against the plain loop.
5. ``first``: the time of ``toolkit run`` on one short episode, imports included, and where it goes.

Each side is a process of its own that loads its model and then waits for its turn; sides take turns, in
another order each round, so that a machine whose speed drifts is the same for all. Prints tables
and, last, one JSON line.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

LENGTHS = [435, 457, 479, 501, 523, 545, 567, 589, 611, 633, 655, 677]
NEW_TOKENS = 64
GRID_WORDS = [150 + 8 * number for number in range(6)]
GRID_EPISODES = 8
GRID_NEW_TOKENS = 16
WIDTHS = (1, 2, 4, 8)
PARTS = ("speed", "grid", "memory", "encoder", "first")
SENTENCES = [
    "The ferry to the island leaves at seven and the crossing takes an hour in calm weather.",
    "Most of the lighthouse keepers were farmers who tended the lamp at night.",
    "Before the harbour was deepened, ships waited outside for the tide to turn.",
    "The museum keeps forty logbooks, and volunteers have read thirty of them aloud.",
    "Nobody agreed on who should pay for the new pier, so the old one was mended again.",
    "A storm in the autumn of that year carried the bell buoy eleven miles down the coast.",
    "She says that the charts were right and that it was the sandbank which had moved.",
    "The fog signal was worked by hand until somebody's nephew built a pump for it.",
]


def text_of(words: int, *seed: object) -> str:
    """Return sentences in an order of their own: prompts that begin alike would be read once for all."""
    order = random.Random(repr(seed))
    return " ".join(order.choice(SENTENCES) for _ in range(words // 8))


def prompts_of(lengths: list[int], tokenizer: Any, turn: str) -> list[list[int]]:
    """Return prompts that are new in each turn: what was read before need not be read again."""
    found = []
    for length in lengths:
        ids = tokenizer(text_of(2 * length, turn, length), add_special_tokens=False, verbose=False)[
            "input_ids"
        ]
        found.append(ids[:length])
    return found


Work = Callable[[str], int]

# The sides: each loads a model and returns what does its work once and gives the tokens that came of it.


def plain_side(folder: str, encoder: bool, lengths: list[int]) -> Work:
    """Loop over ``model.generate`` in float32, one prompt at a time, as a first script would do it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    kind = AutoModelForSeq2SeqLM if encoder else AutoModelForCausalLM
    model = kind.from_pretrained(folder, dtype=torch.float32, local_files_only=True).eval()

    def work(turn: str) -> int:
        tokens = 0
        prompts = prompts_of(lengths, tokenizer, turn)
        with torch.inference_mode():
            for ids in prompts:
                out = model.generate(
                    torch.tensor([ids]),
                    attention_mask=torch.ones(1, len(ids), dtype=torch.long),
                    min_new_tokens=NEW_TOKENS,
                    max_new_tokens=NEW_TOKENS,
                    do_sample=False,
                    num_beams=1,
                    pad_token_id=2,
                )
                tokens += out.shape[1] - (1 if encoder else len(ids))
        return tokens

    return work


def engine_side(folder: str, lengths: list[int], **settings: Any) -> Work:
    """Give all prompts to an engine at once, each from a thread of its own."""
    from transformers import AutoTokenizer

    from toolkit.engines.choice import EngineSpec
    from toolkit.engines.jobs import Job
    from toolkit.engines.loaded import acquire_engine

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    engine = acquire_engine(EngineSpec(**{"model": "smollm2-135m", **settings}))
    engine.model.end_ids.clear()  # Every reply is as long as its cap, as the plain loop's are.

    def work(turn: str) -> int:
        prompts = prompts_of(lengths, tokenizer, turn)
        with engine.arriving():
            futures = [engine.submit(Job(ids, NEW_TOKENS)) for ids in prompts]
        return sum(future.result().generated.tokens for future in futures)

    return work


def direct_side(folder: str, lengths: list[int]) -> Work:
    """Give all prompts to OpenVINO GenAI itself, in one list."""
    import numpy as np
    import openvino
    import openvino_genai
    from transformers import AutoTokenizer

    from toolkit.engines.openvino import pipeline_of
    from toolkit.engines.weights import find_weights

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    pipeline = pipeline_of(find_weights("smollm2-135m"), batch_tokens=16_384)
    config = openvino_genai.GenerationConfig()
    config.max_new_tokens = config.min_new_tokens = NEW_TOKENS
    config.ignore_eos, config.do_sample = True, False
    config.eos_token_id, config.stop_token_ids = 0, {0}  # It wants some, though it ignores them.

    def work(turn: str) -> int:
        ids = prompts_of(lengths, tokenizer, turn)
        prompts = [openvino.Tensor(np.array([one], dtype=np.int64)) for one in ids]
        replies = pipeline.generate(prompts, [config] * len(prompts))
        return sum(len(reply.m_generation_ids[0]) for reply in replies)

    return work


def grid_side(**settings: Any) -> Work:
    """Ask for the chunks of 8 episodes as the workflow does: episodes and their chunks in threads."""
    from toolkit import Config, TransformersSummarizationProvider
    from toolkit.records import Request, Sampling, Stage

    provider = TransformersSummarizationProvider(Config(store_url="memory://", **settings))
    provider.prepare()
    provider.engine.model.end_ids.clear()

    def episodes_of(turn: str) -> list[list[Request]]:
        return [
            [
                Request(
                    call_id=f"{episode}.{chunk}",
                    episode_id=f"e{episode}",
                    stage=Stage.MAP,
                    prompt=text_of(words, turn, episode, chunk),
                    max_output_tokens=GRID_NEW_TOKENS,
                    sampling=Sampling(),
                    cancelled=threading.Event(),
                )
                for chunk, words in enumerate(GRID_WORDS)
            ]
            for episode in range(GRID_EPISODES)
        ]

    def answer(requests: list[Request], width: int) -> int:
        with ThreadPoolExecutor(width) as pool:
            return sum(reply.usage.output_tokens for reply in pool.map(provider.generate, requests))

    def work(told: str) -> int:
        setting, turn = told.split()
        episodes = episodes_of(turn)
        if setting == "all":
            return answer([request for requests in episodes for request in requests], 48)
        wide, deep = map(int, setting.split("x"))
        with ThreadPoolExecutor(wide) as pool:
            return sum(pool.map(lambda requests: answer(requests, deep), episodes))

    return work


def serve(told: dict[str, Any]) -> None:
    """Be a side: load, and then work each time that a line comes."""
    sides = {"plain": plain_side, "engine": engine_side, "direct": direct_side, "grid": grid_side}
    work = sides[told.pop("side")](**told)
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        tokens = work(line.strip())
        seconds = time.perf_counter() - began
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
        print(json.dumps({"seconds": seconds, "tokens": tokens, "peak_mb": peak}), flush=True)


class Side:
    """A process that works when it is told to."""

    def __init__(self, **told: Any) -> None:
        arguments = [sys.executable, __file__, "--serve", json.dumps(told)]
        self._process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline():
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"a side ended with status {self._process.wait()}")

    def work(self, told: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{told}\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


@contextmanager
def sides_of(told: dict[str, dict[str, Any]]) -> Iterator[dict[str, Side]]:
    sides = {name: Side(**values) for name, values in told.items()}
    try:
        yield sides
    finally:
        for side in sides.values():
            side.close()


def take_turns(sides: dict[str, Side], rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Let each side work once unmeasured, but the plain loops, and then all in turn.

    Every second round goes backwards, so that a drift does not always hit the same side.
    """
    for name, side in sides.items():
        if "loop" not in name:
            side.work("first")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for turn in range(rounds):
        for name in list(sides)[:: -1 if turn % 2 else 1]:
            found[name].append(sides[name].work(str(turn)))
    return found


def median_seconds(found: dict[str, list[dict[str, Any]]]) -> dict[str, float]:
    return {name: statistics.median(item["seconds"] for item in items) for name, items in found.items()}


def smollm2() -> str:
    from toolkit.engines.weights import find_weights

    return str(find_weights("smollm2-135m").folder)


# The parts


def speed(rounds: int, brief: bool) -> dict[str, Any]:
    folder, lengths = smollm2(), LENGTHS[:: 3 if brief else 1]
    told: dict[str, dict[str, Any]] = {
        "plain float32 loop": {"side": "plain", "folder": folder, "encoder": False, "lengths": lengths},
        "torch": {"side": "engine", "folder": folder, "lengths": lengths, "engine": "torch"},
        "torch float32": {
            "side": "engine",
            "folder": folder,
            "lengths": lengths,
            "dtype": "float32",
            "engine": "torch",
        },
        "torch deterministic": {
            "side": "engine",
            "folder": folder,
            "lengths": lengths,
            "deterministic": True,
            "engine": "torch",
        },
    }
    if importlib.util.find_spec("openvino_genai"):
        told["OpenVINO GenAI itself"] = {"side": "direct", "folder": folder, "lengths": lengths}
        told["openvino"] = {"side": "engine", "folder": folder, "lengths": lengths, "engine": "openvino"}
    with sides_of(told) as sides:
        found = take_turns(sides, rounds)
    seconds = median_seconds(found)
    loop = seconds["plain float32 loop"]
    print(f"\n{len(lengths)} prompts, {NEW_TOKENS} new tokens each, medians of {rounds}")
    print(f"{'':24} {'s':>7} {'tokens/s':>9} {'times the loop':>15}")
    for name, value in seconds.items():
        tokens = found[name][0]["tokens"]
        print(f"{name:24} {value:7.2f} {tokens / value:9.1f} {loop / value:15.2f}")
    figures = {
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
        "torch_vs_loop": round(loop / seconds["torch"], 3),
        "torch_float32_vs_loop": round(loop / seconds["torch float32"], 3),
        "deterministic_vs_torch": round(seconds["torch deterministic"] / seconds["torch"], 3),
        "openvino_vs_loop": None,
        "openvino_vs_direct": None,
    }
    if "openvino" in seconds:
        figures["openvino_vs_loop"] = round(loop / seconds["openvino"], 3)
        figures["openvino_vs_direct"] = round(seconds["OpenVINO GenAI itself"] / seconds["openvino"], 3)
    return figures


def grid(rounds: int, brief: bool, engine: str) -> dict[str, Any]:
    widths = WIDTHS[:: 3 if brief else 1]
    settings = [f"{wide}x{deep}" for wide in widths for deep in widths]
    seconds: dict[str, list[float]] = {name: [] for name in [*settings, "all"]}
    with sides_of({"grid": {"side": "grid", "engine": engine}}) as sides:
        sides["grid"].work("all first")
        for turn in range(rounds):
            # Each round begins elsewhere: settings that are compared would else always run at the same time.
            names = list(seconds)
            first = turn * len(names) // rounds
            for name in names[first:] + names[:first]:
                seconds[name].append(sides["grid"].work(f"{name} {turn}.{name}")["seconds"])
    chunks = GRID_EPISODES * len(GRID_WORDS)
    rates = {name: chunks / statistics.median(values) for name, values in seconds.items()}
    falls = {
        f"{wide}x{deep} to {wider}x{deeper}": 1 - rates[f"{wider}x{deeper}"] / rates[f"{wide}x{deep}"]
        for wide in widths
        for deep in widths
        for wider, deeper in ((2 * wide, deep), (wide, 2 * deep))
        if f"{wider}x{deeper}" in rates
    }
    deepest = max(falls, key=falls.__getitem__, default=None)
    # What the same setting differs by from round to round: falls of less are nobody's doing.
    spreads = [(max(values) - min(values)) / statistics.median(values) for values in seconds.values()]
    best = max(settings, key=rates.__getitem__)
    print(f"\n{engine}: {GRID_EPISODES} episodes x {len(GRID_WORDS)} chunks, chunks/s, medians of {rounds}")
    print(f"{'episodes at a time':20}" + "".join(f"{deep:>8} deep" for deep in widths))
    for wide in widths:
        print(f"{wide:<20}" + "".join(f"{rates[f'{wide}x{deep}']:13.3f}" for deep in widths))
    print(f"all 48 at once: {rates['all']:.3f}; fastest setting: {best}")
    if deepest is not None:
        print(f"largest fall: {falls[deepest]:.1%}, {deepest}")
    print(f"one setting from round to round: {statistics.median(spreads):.1%}, at most {max(spreads):.1%}")
    return {
        "chunks_per_s": {name: round(rate, 4) for name, rate in rates.items()},
        "largest_fall": None if deepest is None else round(falls[deepest], 4),
        "spread": round(statistics.median(spreads), 4),
        "largest_spread": round(max(spreads), 4),
        "fastest": best,
        "fastest_vs_all": round(rates[best] / rates["all"], 4),
    }


def memory(rounds: int, engine: str) -> dict[str, Any]:
    """Return peaks of processes that do nothing else, medians, with 8 episodes in flight and with one."""
    found: dict[str, list[float]] = {"1x4": [], "8x4": []}
    for _ in range(rounds):
        for setting, peaks_mb in found.items():
            with sides_of({"grid": {"side": "grid", "engine": engine}}) as sides:
                peaks_mb.append(sides["grid"].work(f"{setting} 0")["peak_mb"])
    peaks = {setting: statistics.median(peaks_mb) for setting, peaks_mb in found.items()}
    ratio = peaks["8x4"] / peaks["1x4"]
    told = ", ".join(f"{setting} {peak:,.0f} MB" for setting, peak in peaks.items())
    print(
        f"\n{engine}: most memory of the process (episodes x chunks), medians of {rounds}: {told}; "
        f"{ratio:.2f} times"
    )
    return {"peak_mb": {setting: round(peak) for setting, peak in peaks.items()}, "ratio": round(ratio, 3)}


def encoder(rounds: int, brief: bool) -> dict[str, Any]:
    lengths = LENGTHS[:: 3 if brief else 1]
    with tempfile.TemporaryDirectory() as name:
        folder = make_bart(Path(name))
        told = {
            "plain float32 loop": {"side": "plain", "folder": folder, "encoder": True, "lengths": lengths},
            "torch": {
                "side": "engine",
                "folder": folder,
                "lengths": lengths,
                "model": folder,
                "engine": "torch",
            },
        }
        with sides_of(told) as sides:
            found = take_turns(sides, rounds)
    seconds = median_seconds(found)
    ratio = seconds["plain float32 loop"] / seconds["torch"]
    print(f"\nencoder-decoder of distilbart-cnn's shape, {len(lengths)} prompts, medians of {rounds}")
    for side, value in seconds.items():
        print(f"{side:24} {value:7.2f} s, {found[side][0]['tokens']} tokens")
    print(f"{ratio:.2f} times the loop")
    return {"seconds": {key: round(value, 2) for key, value in seconds.items()}, "vs_loop": round(ratio, 3)}


def make_bart(folder: Path) -> str:
    """Save a BART of distilbart-cnn-12-6's shape with random weights, and a tokenizer of its vocabulary."""
    import tokenizers
    import torch
    from transformers import BartConfig, BartForConditionalGeneration, PreTrainedTokenizerFast

    from toolkit.engines.quiet import quiet_transformers

    words = sorted({word for sentence in SENTENCES for word in sentence.split()})
    names = ["<s>", "<pad>", "</s>", "<unk>", *words]
    names += [f"word{number}" for number in range(50_264 - len(names))]
    inner = tokenizers.Tokenizer(
        tokenizers.models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="<unk>")
    )
    inner.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=1024,
    )
    config = BartConfig(
        vocab_size=50_264,
        d_model=1024,
        encoder_layers=12,
        decoder_layers=6,
        encoder_attention_heads=16,
        decoder_attention_heads=16,
        encoder_ffn_dim=4096,
        decoder_ffn_dim=4096,
        max_position_embeddings=1024,
    )
    torch.manual_seed(0)
    with quiet_transformers():
        BartForConditionalGeneration(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return str(folder)


STAGES = """
import json, sys, time
times = [("", time.perf_counter())]
def mark(name):
    times.append((name, time.perf_counter()))
import toolkit
import pandas
mark("toolkit and pandas")
import torch
mark("torch")
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
mark("transformers")
provider = toolkit.get_provider(toolkit.Config(summary_max_tokens=32, engine=sys.argv[2]))
provider.prepare()
mark("the model, loaded and ready")
provider.summarize(toolkit.load_episodes(sys.argv[1])[0].transcript)
mark("the summary")
print(json.dumps({name: round(now - before, 2) for (_, before), (name, now) in zip(times, times[1:])}))
"""


def first(rounds: int, engine: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "short.txt"
        path.write_text(" ".join(text_of(320).split()[:300]), encoding="utf-8")
        command = [sys.executable, "-m", "toolkit.cli", "run", str(path), "--store", "memory://"]
        command += ["--set", "summary_max_tokens=32", "--set", f"engine={engine}", "--out", f"{name}/out"]
        shown_s, seconds = [], []
        for _ in range(rounds):
            began = time.perf_counter()
            with subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
            ) as asked:
                assert asked.stdout is not None
                for line in asked.stdout:
                    if line.strip():
                        shown_s.append(time.perf_counter() - began)
                        break
                asked.stdout.read()
            if asked.returncode:
                raise SystemExit(f"toolkit run ended with status {asked.returncode}")
            seconds.append(time.perf_counter() - began)
        told = subprocess.run(
            [sys.executable, "-c", STAGES, str(path), engine],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    stages = json.loads(told.stdout.splitlines()[-1])
    shown, ended = statistics.median(shown_s), statistics.median(seconds)
    print(
        f"\n{engine}: toolkit run, 300 words, 32 new tokens: shown after {shown:.2f} s, ended {ended:.2f} s"
    )
    print("where the time goes: " + ", ".join(f"{stage} {value:.2f} s" for stage, value in stages.items()))
    return {"shown_s": round(shown, 2), "ended_s": round(ended, 2), "stages": stages}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="of: " + ", ".join(PARTS))
    parser.add_argument("--rounds", type=int, default=3, help="each side works so many times")
    parser.add_argument(
        "--brief", action="store_true", help="a third of the prompts, four corners of the grid"
    )
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        serve(json.loads(chosen.serve))
        return
    engines = ["torch", *(["openvino"] if importlib.util.find_spec("openvino_genai") else [])]
    parts = chosen.parts.split(",")
    figures: dict[str, Any] = {"benchmark": "local", "cores": os.cpu_count(), "rounds": chosen.rounds}
    if "speed" in parts:
        figures |= speed(chosen.rounds, chosen.brief)
    for engine in engines:
        if "grid" in parts:
            figures[f"grid_{engine}"] = grid(chosen.rounds, chosen.brief, engine)
        if "memory" in parts:
            figures[f"memory_{engine}"] = memory(chosen.rounds, engine)
    if "encoder" in parts:
        figures["encoder"] = encoder(chosen.rounds, chosen.brief)
    if "first" in parts:
        for engine in engines:
            figures[f"first_{engine}"] = first(chosen.rounds, engine)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
