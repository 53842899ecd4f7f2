"""How long it takes to score many summaries, and that ROUGE is what ``rouge-score`` gives by itself.

Summaries of 200 words, references of 200 and transcripts of 10,000, made of words as frequent as they are in
talk (Zipf's law). Prints a table and, last, one JSON line.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import time

from rouge_score.rouge_scorer import RougeScorer

import toolkit as tk
from toolkit.quality.measures import ROUGE, Source, figures, rouge

VOCABULARY = [
    f"{a}{b}{c}{end}" for a, b, c in itertools.product(("ba", "co", "di", "fu", "ge"), repeat=3)
    for end in ("", "s", "ing", "ed", "ation", "er", "ly", "ness")
]  # fmt: skip
WEIGHTS = [1 / rank for rank in range(1, len(VOCABULARY) + 1)]


def talk(source: random.Random, words: int) -> str:
    said = source.choices(VOCABULARY, WEIGHTS, k=words)
    return "\n".join(" ".join(said[start : start + 12]) + "." for start in range(0, words, 12))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--summaries", type=int, default=1000)
    count = parser.parse_args().summaries
    source = random.Random(1)
    episodes = [tk.Episode.from_text(f"e{n}", talk(source, 10_000)) for n in range(count)]
    summaries = [talk(source, 200) for _ in range(count)]
    references = [talk(source, 200) for _ in range(count)]

    began = time.perf_counter()
    sources = [Source.of(episode) for episode in episodes]
    apart = time.perf_counter()
    for summary, own in zip(summaries, sources, strict=True):
        figures(summary, own)
    figured = time.perf_counter()
    scored = [rouge(*pair) for pair in zip(summaries, references, strict=True)]
    ended = time.perf_counter()

    by_hand = RougeScorer(list(ROUGE), use_stemmer=True)
    checked = min(count, 100)
    differing = sum(
        found is None or tuple(found[name]) != (score.fmeasure, score.precision, score.recall)
        for found, summary, reference in zip(scored[:checked], summaries, references, strict=False)
        for name, score in by_hand.score(reference, summary).items()
    )
    print(f"{count} summaries of 200 words, transcripts of 10,000")
    print(f"transcripts taken apart {apart - began:6.2f} s")
    print(f"without a reference     {figured - apart:6.2f} s")
    print(f"ROUGE                   {ended - figured:6.2f} s")
    print(f"all                     {ended - began:6.2f} s")
    print(f"ROUGE differs from rouge-score's own in {differing} of {checked * len(ROUGE)}")
    print(
        json.dumps(
            {
                "benchmark": "scores",
                "summaries": count,
                "total_s": round(ended - began, 2),
                "rouge_s": round(ended - figured, 2),
                "differing": differing,
            }
        )
    )


if __name__ == "__main__":
    main()
