"""What is known of four usual situations comes out of their quantities, and of any near them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import toolkit as tk

quick = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass(frozen=True)
class Situation:
    """Episodes of so many tokens, and what there is to summarize them with."""

    episodes: int = 300
    tokens: int = 13_000
    cores: int = 4
    memory_gb: float = 16.0
    model_gb: float = 1.0
    slots: int = 8
    requests_per_minute: int = 50
    tokens_per_minute: int = 2_000_000
    hosted: bool = False

    def plan(self, episodes: int = 1, chunks: int = 1) -> tk.Plan:
        """Plan with settings to begin with."""
        width: dict[str, Any] = {"summary_batch_size": episodes, "summary_chunk_parallelism": chunks}
        if self.hosted:
            config = tk.Config(
                provider="openai",
                model="gpt-4o",
                openai_max_concurrent_requests=self.slots,
                openai_requests_per_minute=self.requests_per_minute,
                openai_tokens_per_minute=self.tokens_per_minute,
                **width,
            )
            return tk.plan([self.tokens] * self.episodes, config)
        machine = tk.Machine(
            cores=self.cores,
            memory_gb=self.memory_gb,
            model_gb=self.model_gb,
            instances="per_episode",
        )
        return tk.plan([self.tokens] * self.episodes, tk.Config(**width), machine=machine)

    def settled(self, episodes: int = 1, chunks: int = 1) -> tk.Plan:
        """Plan with the settings that are suggested."""
        better = self.plan(episodes, chunks).suggested_config
        return self.plan(better.summary_batch_size, better.summary_chunk_parallelism)

    def scaled(self, **factors: float) -> Situation:
        """Return one with some quantities multiplied."""
        values: dict[str, Any] = {}
        for name, factor in factors.items():
            value = getattr(self, name) * factor
            values[name] = max(1, round(value)) if isinstance(getattr(self, name), int) else value
        return replace(self, **values)


MUCH_MEMORY_FEW_CORES = Situation(cores=4, memory_gb=64.0, model_gb=1.2)
LITTLE_MEMORY_MANY_CORES = Situation(cores=8, memory_gb=1.3, model_gb=1.0)
HOSTED = Situation(hosted=True, tokens=13_000)
HOSTED_LONG = Situation(hosted=True, tokens=300_000)
LOCAL = ("cores", "memory_gb", "model_gb", "tokens", "episodes")
ACCOUNT = ("slots", "requests_per_minute", "tokens_per_minute", "tokens", "episodes")

factors = st.floats(0.5, 2.0, allow_nan=False)
starts = st.sampled_from([(1, 1), (4, 4), (8, 1), (1, 8)])


def parallelism(plan: tk.Plan) -> tuple[int, int]:
    return plan.config.summary_batch_size, plan.config.summary_chunk_parallelism


@quick
@given(
    values=st.fixed_dictionaries(dict.fromkeys(LOCAL, factors)),
    start=starts,
    memory_gb=st.sampled_from([32.0, 64.0]),
)
def test_much_memory_and_few_cores(
    values: dict[str, float], start: tuple[int, int], memory_gb: float
) -> None:
    """Episodes get the parallelism, and cores are the bottleneck; all quantities scaled at once.

    With half of the memory the models of twice the size do not fit on twice the cores: then it is memory.
    """
    situation = replace(MUCH_MEMORY_FEW_CORES, memory_gb=memory_gb).scaled(**values)
    plan = situation.settled(*start)
    episodes, chunks = parallelism(plan)
    assert episodes > chunks
    assert episodes >= 2
    is_enough = int(situation.memory_gb // situation.model_gb) >= situation.cores
    assert plan.bottleneck == ("cores" if is_enough else "memory")
    assert is_enough or memory_gb == 32.0


@quick
@given(name=st.sampled_from(LOCAL), factor=factors, start=starts)
def test_little_memory_and_many_cores(name: str, factor: float, start: tuple[int, int]) -> None:
    """Chunks get the parallelism, and memory is the bottleneck; each quantity scaled by itself.

    Scaled together they can become the opposite situation: with four times the memory for models of half the
    size it is no longer scarce.
    """
    plan = LITTLE_MEMORY_MANY_CORES.scaled(**{name: factor}).settled(*start)
    episodes, chunks = parallelism(plan)
    assert episodes < chunks
    assert chunks >= 4 or name == "cores"
    assert plan.bottleneck == "memory"


@quick
@given(
    values=st.fixed_dictionaries(dict.fromkeys(ACCOUNT, factors)),
    start=starts,
    there=st.sampled_from([40, 300]),
)
def test_hosted_texts_that_are_not_cut(values: dict[str, float], start: tuple[int, int], there: int) -> None:
    """As many episodes as there are slots, one request each; the account's limits are the bottleneck.

    Forty episodes may be so few that the limits let all in at once: then they wait for the slots.
    """
    situation = replace(HOSTED, episodes=there).scaled(**values)
    plan = situation.settled(*start)
    episodes, chunks = parallelism(plan)
    assert chunks == 1
    assert situation.slots / 2 <= episodes <= situation.slots
    assert plan.level("chunks").effective == 1
    assert plan.level("requests").room_by == "slots"
    assert plan.bottleneck in (("requests", "tokens") if plan.bound_s else ("slots",))
    assert plan.bound_s or there == 40


@quick
@given(values=st.fixed_dictionaries(dict.fromkeys(ACCOUNT, factors)), start=starts)
def test_hosted_texts_that_are_cut(values: dict[str, float], start: tuple[int, int]) -> None:
    """Episodes as before; chunks get what the limiter leaves them."""
    situation = HOSTED_LONG.scaled(**values)
    plan = situation.settled(*start)
    episodes, chunks = parallelism(plan)
    assert episodes >= chunks
    assert situation.slots / 2 <= episodes * chunks <= situation.slots
    assert plan.calls > situation.episodes
    assert plan.level("chunks").room_by == "slots"
    assert plan.bottleneck in ("requests", "tokens")


def test_the_matrix_itself() -> None:
    """At the nominal quantities: 4 x 1, 1 x many, 8 x 1, 8 x 1."""
    assert parallelism(MUCH_MEMORY_FEW_CORES.settled()) == (4, 1)
    assert parallelism(LITTLE_MEMORY_MANY_CORES.settled()) == (1, 7)
    assert parallelism(HOSTED.settled()) == (8, 1)
    assert parallelism(HOSTED_LONG.settled()) == (8, 1)


def test_few_episodes_share_the_slots_out_among_their_chunks() -> None:
    """Two long episodes and eight slots: three chunks each are all they have."""
    assert parallelism(replace(HOSTED_LONG, episodes=2).settled()) == (2, 3)


@pytest.mark.parametrize(
    ("situation", "episodes", "chunks"),
    [
        (Situation(cores=8, memory_gb=6.0, model_gb=1.2), "memory", "cores"),
        (Situation(cores=8, memory_gb=6.0, model_gb=2.0), "memory", "cores"),
        (HOSTED, "slots", "slots"),
        (HOSTED_LONG, "slots", "slots"),
    ],
)
def test_the_table_of_resources(situation: Situation, episodes: str, chunks: str) -> None:
    """Local episodes are bound by memory and their chunks by cores; all of a hosted model by admission."""
    plan = situation.plan()
    assert plan.level("episodes").room_by == episodes
    assert plan.level("chunks").room_by == chunks


@pytest.mark.parametrize(
    ("model_gb", "fits"), [(0.5, 12), (1.2, 5), (1.5, 4), (2.0, 3)], ids=lambda value: str(value)
)
def test_instances_that_fit(model_gb: float, fits: int) -> None:
    """Instances of 0.5 to 2 GB in 6 GB."""
    plan = Situation(cores=32, memory_gb=6.0, model_gb=model_gb).plan()
    assert plan.level("episodes").most == fits


def test_three_ways_and_the_old_one_side_by_side() -> None:
    """All in the workflow, all in the provider, both, and one number for both, as configs in one table."""
    hosted = {"provider": "openai", "model": "gpt-4o", "openai_tokens_per_minute": 2_000_000}
    table = tk.compare_plans(
        [300_000] * 12,
        {
            name: tk.Config(**hosted, summary_batch_size=episodes, summary_chunk_parallelism=chunks)
            for name, (episodes, chunks) in {
                "workflow": (6, 1),
                "provider": (1, 6),
                "hybrid": (2, 2),
                "coupled": (6, 6),
            }.items()
        },
    )
    assert list(table.index) == ["workflow", "provider", "hybrid", "coupled"]
    assert list(table["episodes"]) == [5, 1, 2, 5]
    assert list(table["requests"]) == [5, 3, 4, 5]
    assert table["calls"].nunique() == 1
    assert "6 episodes x 3 chunks = 18 requests wait for 5 slots" in table.loc["coupled", "conflicts"]
    assert table.loc["workflow", "conflicts"] == "6 episodes x 1 chunk = 6 requests wait for 5 slots"
