"""What a local model will be asked is known before it is loaded."""

from __future__ import annotations

from pathlib import Path

import toolkit as tk


def test_a_simulation_asks_what_a_run_asks(tiny_llama: Path) -> None:
    """The same chunks, counted by the model's own vocabulary, and merged into batches as wide."""
    config = tk.Config(
        model=str(tiny_llama), chunk_tokens=120, summary_max_tokens=8, summary_chunk_parallelism=3
    )
    lines = "\n".join(f"Well, number {n} is, naïvely put, an acquired taste — isn't it?" for n in range(30))
    episodes = [tk.Episode.from_text("a", lines)]
    guess = tk.simulate(episodes, config, latency=1.0)
    run = tk.run(episodes, config, progress=False)
    asked, made = ([*frame.calls.query("stage == 'map'")["input_tokens"]] for frame in (guess, run))
    assert len(made) > 3
    assert asked == made


def test_nothing_is_loaded_to_look_ahead(tiny_llama: Path) -> None:
    """Weights stay where they are; without them nobody knows what answers depend on."""
    provider = tk.TransformersSummarizationProvider.for_planning(tk.Config(model=str(tiny_llama)))
    assert provider.count_tokens("an acquired taste") > 3
    assert provider.identity() is None
    assert provider._held is None
