"""A plan and a simulation of the same episodes make the same calls."""

from __future__ import annotations

import pytest

import toolkit as tk

SECOND = tk.LatencyModel.constant(1.0)
CONFIGS = {
    "scripted": tk.Config(provider="scripted", chunk_tokens=300),
    "hosted": tk.Config(provider="openai", model="some", chunk_tokens=1000),
    "small limit": tk.Config(provider="openai", model="some", openai_tokens_per_minute=4000),
}


@pytest.mark.parametrize("tokens", [1, 59, 250, 999, 1000, 1100, 7_013, 40_000, 250_000])
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_of_numbers(config: tk.Config, tokens: int) -> None:
    """An episode that is only a number of tokens is cut into as many chunks by both, but for one or 2 %."""
    planned = tk.plan([tokens], config, latency=SECOND)
    simulated = tk.simulate([tokens], config, latency=SECOND)
    assert simulated.counts() == {"ok": 1}
    assert len(simulated.calls) == pytest.approx(planned.calls, rel=0.02, abs=1)
    assert int(simulated.calls["input_tokens"].sum()) == pytest.approx(planned.input_tokens, rel=0.03, abs=20)


def test_a_config_that_the_provider_was_not_made_with() -> None:
    """It is refused, as in a run: the simulation would be one of other chunks than it says."""
    provider = tk.get_provider(tk.Config(provider="scripted", chunk_tokens=300))
    with pytest.raises(tk.ConfigError, match="chunk_tokens=500, but the provider"):
        tk.simulate([1000], tk.Config(provider="scripted", chunk_tokens=500), latency=1.0, provider=provider)
    wider = tk.Config(provider="scripted", chunk_tokens=300, summary_chunk_parallelism=4)
    assert tk.simulate([1000], wider, latency=1.0, provider=provider).makespan_s == 2.0
