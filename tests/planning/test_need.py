"""What a run will ask, known before it asks: never less than it then does."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.clock import ManualClock
from toolkit.config import Config
from toolkit.errors import ContextTooLong
from toolkit.planning.need import Need, need_of
from toolkit.providers.scripted import ScriptedSummarizationProvider
from toolkit.records import Episode, Reply, Request
from toolkit.workflow import run

words = st.lists(st.integers(1, 12).map(lambda length: "w" * length), min_size=1, max_size=40)
turns = st.lists(words.map(lambda said: " ".join(said) + "."), max_size=30)
texts = st.lists(turns.map("\n".join), min_size=1, max_size=3)
chosen = st.fixed_dictionaries(
    {
        "chunk_tokens": st.integers(32, 120),
        "chunk_overlap_tokens": st.integers(0, 12),
        "summary_max_tokens": st.integers(8, 40),
        "system_prompt": st.sampled_from(["", "Be short."]),
        "map_prompt": st.sampled_from(["{text}", "Part: {text} What is it about?"]),
    }
)


class Priced(ScriptedSummarizationProvider):
    """A millionth of a dollar for each token of the prompt, and three for each of the reply."""

    def price(self, reply: Reply) -> float:
        return (reply.usage.input_tokens + 3 * reply.usage.output_tokens) / 1e6

    def price_bound(self, input_tokens: int, output_tokens: int) -> float:
        return (input_tokens + 3 * output_tokens) / 1e6


def make_episodes(texts: list[str]) -> list[Episode]:
    return [Episode.from_text(f"e{n}", text) for n, text in enumerate(texts)]


Replies = Callable[[Request], str]


def at_the_cap(request: Request) -> str:
    return " ".join(["word"] * request.max_output_tokens) + "."


def of_any_length(seed: int) -> Replies:
    """Return replies of any length up to the cap, each depending on its request alone."""

    def reply(request: Request) -> str:
        rng = random.Random(f"{seed} {request.stage} {request.chunk_index} {request.prompt}")
        return " ".join(["word"] * rng.randint(1, request.max_output_tokens)) + "."

    return reply


def asked(texts: list[str], config: Config, replies: Replies) -> tuple[Need, Need]:
    """Return what was planned and what was then asked."""
    clock = ManualClock()
    provider = Priced(config, replies=replies, clock=clock)
    episodes = make_episodes(texts)
    need = need_of(provider, episodes, clock)
    calls = run(episodes, config, provider=provider, clock=clock).calls
    tokens = int(calls["input_tokens"].sum() + calls["output_tokens"].sum())
    return need, Need(len(calls), tokens, float(calls["cost_usd"].sum()))


@settings(max_examples=150, deadline=None)
@given(texts=texts, given=chosen, seed=st.integers(0, 99))
def test_no_run_asks_for_more(texts: list[str], given: dict[str, Any], seed: int) -> None:
    """Calls, tokens and money of any run without faults are at most those that were planned."""
    config = Config(provider="scripted", reuse="none", store_url="memory://", **given)
    need, took = asked(texts, config, of_any_length(seed))
    assert need.usd is not None
    assert took.usd is not None
    assert took.calls <= need.calls
    assert took.tokens <= need.tokens <= need.budget_tokens
    assert took.usd <= need.usd + 1e-12


@settings(max_examples=100, deadline=None)
@given(texts=texts, given=chosen)
def test_replies_at_their_caps_are_planned_exactly(texts: list[str], given: dict[str, Any]) -> None:
    """Where every reply is as long as it may be, the plan is what the run takes."""
    config = Config(provider="scripted", reuse="none", store_url="memory://", **given)
    need, took = asked(texts, config, at_the_cap)
    assert (took.calls, took.tokens) == (need.calls, need.tokens)
    assert took.usd == pytest.approx(need.usd)


@settings(max_examples=60, deadline=None)
@given(texts=texts, given=chosen, parallel=st.integers(1, 4), seed=st.none() | st.integers(0, 99))
def test_a_budget_of_the_plan_is_enough(
    texts: list[str], given: dict[str, Any], parallel: int, seed: int | None
) -> None:
    """A run with exactly the planned budget comes to its end, however long its replies are."""
    clock = ManualClock()
    config = Config(provider="scripted", reuse="none", store_url="memory://", **given)
    replies = at_the_cap if seed is None else of_any_length(seed)
    episodes = make_episodes(texts)
    need = need_of(Priced(config, clock=clock), episodes)
    bound = config.replace(
        budget_calls=max(1, need.calls),
        budget_tokens=max(1, need.budget_tokens),
        budget_usd=(need.budget_usd or 0.0) + 1e-9 * (need.calls + 1),  # each is rounded up to a nano-dollar
        summary_batch_size=parallel,
        summary_chunk_parallelism=parallel,
    )
    done = run(episodes, bound, provider=Priced(bound, replies=replies, clock=clock), clock=clock)
    assert done.stopped_because is None


def test_direct_texts_are_planned_exactly() -> None:
    """A text that fits is one call: its prompt and the cap, at their price."""
    config = Config(provider="scripted", summary_max_tokens=10, direct_prompt="Sum up: {text}")
    need = need_of(Priced(config), make_episodes(["one two three.", "four five."]))
    assert (need.calls, need.tokens) == (2, (2 + 3 + 10) + (2 + 2 + 10))
    assert need.usd == pytest.approx((5 + 4 + 2 * 30) / 1e6)
    most = len("Sum up: one two three.") + 64
    assert need.budget_tokens == need.tokens + most - 5
    assert need.budget_usd == pytest.approx(need.usd + (most - 5) / 1e6)


def test_levels_of_reductions_are_planned() -> None:
    """Six chunks whose summaries do not fit together take more than one level."""
    config = Config(provider="scripted", chunk_tokens=32, summary_max_tokens=32)
    text = "\n".join(f"{' '.join(['word'] * 30)} end{n}." for n in range(6))
    need = need_of(Priced(config), make_episodes([text]))
    assert need.calls > 7


def test_no_price_no_sum() -> None:
    """Where no price is known no sum of money is made up; of nothing it is nothing."""
    config = Config(provider="scripted")
    need = need_of(ScriptedSummarizationProvider(config), make_episodes(["one.", "two."]))
    assert (need.calls, need.usd, need.budget_usd) == (2, None, None)
    assert need_of(ScriptedSummarizationProvider(config), []) == Need()
    assert need_of(ScriptedSummarizationProvider(config), make_episodes([""])) == Need()


def test_half_a_character_is_counted_as_it_will_be_sent() -> None:
    """A text that JSON can hold and no tokenizer takes is planned as a run would ask about it."""

    class Strict(Priced):
        def count_tokens(self, text: str) -> int:
            return len(text.encode().split())

    need = need_of(Strict(Config(provider="scripted")), make_episodes(["half \ud800 a character."]))
    assert need.calls == 1


def test_prompts_without_room_are_told() -> None:
    """Where the instructions leave no room for a text nothing can be planned."""
    config = Config(provider="scripted", direct_prompt="word " * 100 + "{text}")
    with pytest.raises(ContextTooLong):
        need_of(ScriptedSummarizationProvider(config, context_tokens=100), make_episodes(["one."]))
