"""``plan``: amounts, levels, bottlenecks, conflicts and suggestions of configs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import toolkit as tk
from toolkit.cli import main
from toolkit.planning.advice import PLAN
from toolkit.providers.registry import PROVIDERS
from toolkit.records import Stage

ROOT = Path(tk.__file__).parents[1]


def hosted(**settings: Any) -> tk.Config:
    return tk.Config(provider="openai", **{"model": "gpt-4o", **settings})


PLURALS = ("episodes", "calls", "chunks", "requests", "slots", "cores", "instances", "tokens", "threads")


def texts(plan: tk.Plan, kind: str) -> list[str]:
    return [conflict.text for conflict in plan.conflicts if conflict.kind == kind]


def local(**values: Any) -> tk.Machine:
    return tk.Machine(**{"cores": 4, "memory_gb": 6.0, "model_gb": 1.2, "instances": "per_episode", **values})


# -- amounts ---------------------------------------------------------------------------------------------


def test_amounts_of_texts_that_are_at_hand() -> None:
    """Calls and tokens are those that a run with such replies then has."""
    episodes = [tk.Episode.from_text(f"e{n}", "\n".join(["word " * 30] * n)) for n in range(1, 6)]
    config = tk.Config(provider="scripted", chunk_tokens=40, summary_max_tokens=30)
    plan = tk.plan(episodes, config)
    provider = tk.ScriptedSummarizationProvider(config, replies=lambda request: "word " * 15)
    run = tk.run(episodes, config, provider=provider)
    assert plan.calls == len(run.calls)
    assert plan.input_tokens == run.calls["input_tokens"].sum()
    assert plan.output_tokens == run.calls["output_tokens"].sum()
    assert plan.calls_most >= plan.calls
    assert plan.tokens_most > plan.input_tokens + plan.output_tokens


def test_numbers_stand_for_texts() -> None:
    """A text and its number of tokens ask the same."""
    words = 500
    config = tk.Config(provider="scripted", chunk_tokens=120)
    text = "\n".join(["word " * 59 + "word."] * (words // 60))
    given = tk.plan([tk.Episode.from_text("a", text)], config)
    number = tk.plan([60 * (words // 60)], config)
    assert (given.calls, given.input_tokens) == (number.calls, number.input_tokens)
    assert tk.plan(np.array([500, 500]), config).calls == 2 * tk.plan([500], config).calls


def test_shorter_replies_ask_less_of_the_reduction(stated: Any) -> None:
    """The prompt of a reduction is as long as the notes are expected to be, and not their caps."""
    config = tk.Config(provider="scripted", chunk_tokens=120, summary_max_tokens=40)
    short, long = (tk.plan([360], config, latency=stated(tokens=n)) for n in (10, 40))
    assert long.input_tokens - short.input_tokens == 3 * 30
    assert short.calls_most == long.calls_most == 4


def test_many_episodes_are_planned_in_a_moment() -> None:
    """A hundred thousand numbers, all different or all alike."""
    many = tk.plan(range(1000, 101_000), hosted(context_tokens=60_000))
    assert 100_000 < many.calls < 300_000
    assert any("100000 different lengths" in note for note in many.notes)
    assert tk.plan([13_000] * 100_000, hosted()).calls == 100_000


def test_long_texts_are_reckoned_from_a_sample() -> None:
    """Beyond a million characters the count is near the exact one, and the plan says so."""
    line = (
        "The mill at the mouth of the bay ground rye for six hundred years, and nobody knows why it stopped."
    )
    config = hosted(chunk_tokens=500)
    few, many = (
        tk.plan([tk.Episode.from_text(f"{n}", f"{line}\n" * 120) for n in range(count)], config)
        for count in (8, 100)
    )
    assert any("reckoned from a sample" in note for note in many.notes)
    assert not any("reckoned from a sample" in note for note in few.notes)
    assert many.input_tokens / 100 == pytest.approx(few.input_tokens / 8, rel=0.02)


def test_cost_is_that_of_the_price_list() -> None:
    """Expected for the expected tokens, at most for the caps."""
    prices = {"gpt-4o": {"input": 2.0, "output": 10.0}}
    plan = tk.plan([1000], hosted(prices=prices, summary_max_tokens=100))
    assert plan.cost_usd == pytest.approx((2 * plan.input_tokens + 10 * 50) / 1e6)
    assert plan.cost_most_usd == pytest.approx((2 * plan.input_tokens + 10 * 100) / 1e6)
    assert tk.plan([1000], tk.Config(provider="scripted")).cost_usd is None


def test_nothing_to_ask() -> None:
    """Episodes without words, or none at all, take nothing and have no bottleneck."""
    for episodes in ([], [tk.Episode.from_text("a", "")], [0]):
        plan = tk.plan(episodes, hosted(summary_batch_size=8))
        assert (plan.calls, plan.bottleneck, plan.conflicts, plan.suggestions) == (0, None, (), ())
        assert "nothing is asked" in str(plan)
        assert plan._repr_html_()


@pytest.mark.parametrize("episodes", ["text", [1.5], [-1], [True], [None], 7, tk.Episode.from_text("a", "b")])
def test_what_is_no_episode_is_refused(episodes: Any) -> None:
    """One error that says what is wanted."""
    with pytest.raises(tk.ConfigError, match=r"episode|tokens"):
        tk.plan(episodes, hosted())


def test_one_is_said_as_one(stated: Any) -> None:
    """Of one episode with one call no text speaks in the plural, whatever binds it."""
    one = {
        "summary_batch_size": 1,
        "summary_chunk_parallelism": 1,
        "openai_max_concurrent_requests": 1,
        "openai_requests_per_minute": 1,
        "openai_requests_per_day": 1,
    }
    hundred = tk.Episode.from_text("a", "word " * 100)
    told = [
        tk.plan([hundred], config, latency=latency, machine=machine)
        for config in (hosted(**one), tk.Config(provider="scripted"), tk.Config(model="none/there"))
        for latency in (None, stated(), stated(90.0))
        for machine in (None, local(cores=1), local(cores=1, instances="shared", memory_gb=2.0))
    ]
    # A reply of one token, and a second episode that finds no room in the day.
    told.append(tk.plan([hundred, 20], hosted(**one, summary_max_tokens=8), latency=stated(tokens=1.0)))
    for plan in told:
        shown = str(plan) + plan._repr_html_()
        assert not re.findall(rf"(?<![\d,.])1 (?:input |output )?(?:{'|'.join(PLURALS)})\b", shown), shown
    assert "1 call (at most 1)" in str(told[0])
    assert "1 call in 1 slot" in str(told[0])


class Closing(tk.ScriptedSummarizationProvider):
    """Knows which of its instances are not closed."""

    open: ClassVar[set[Any]] = set()

    def __init__(self, config: tk.Config) -> None:
        super().__init__(config)
        self.open.add(self)

    def close(self) -> None:
        self.open.discard(self)


def test_providers_that_are_planned_with_are_closed(monkeypatch: pytest.MonkeyPatch, stated: Any) -> None:
    """Also those that suggestions were tried with, and one whose prompts leave no room."""
    monkeypatch.setitem(PROVIDERS, "closing", f"{__name__}:Closing")
    config = tk.Config(provider="closing", summary_batch_size=2, chunk_tokens=32)
    without_room = config.replace(direct_prompt="word " * 200_000 + "{text}")
    fits, not_at_all = (tk.plan([500] * 20, own, latency=stated()) for own in (config, without_room))
    assert fits.suggestions
    assert not_at_all.conflicts
    assert not Closing.open


# -- levels and bottlenecks ------------------------------------------------------------------------------


def test_each_thing_that_can_bind(stated: Any) -> None:
    """Settings that differ in one number each have another bottleneck."""
    wide = {"summary_batch_size": 16, "openai_max_concurrent_requests": 64}
    high = {"openai_requests_per_minute": 10**6, "openai_tokens_per_minute": 10**9}
    found = {
        name: tk.plan([2000] * 100, hosted(**{**wide, **high, **changes}), latency=stated()).bottleneck
        for name, changes in {
            "requests": {"openai_requests_per_minute": 60},
            "tokens": {"openai_tokens_per_minute": 100_000},
            "requests_per_day": {"openai_requests_per_day": 60},
            "tokens_per_day": {"openai_tokens_per_day": 100_000},
            "slots": {"openai_max_concurrent_requests": 4},
            "latency": {},
        }.items()
    }
    assert found == {name: name for name in found}


@pytest.mark.parametrize("known", [True, False], ids=["latency known", "latency unknown"])
def test_as_many_calls_as_slots_wait_for_slots(stated: Any, known: bool) -> None:
    """Where only more slots would be faster; not where more at a time would be, or nothing."""
    latency = stated() if known else None
    found = {
        (episodes, wide): tk.plan(
            [2000] * episodes,
            hosted(summary_batch_size=wide, openai_max_concurrent_requests=8, openai_tokens_per_minute=10**6),
            latency=latency,
        ).bottleneck
        for episodes, wide in [(40, 8), (40, 7), (20, 7), (8, 8), (1, 1)]
    }
    assert found == {
        (40, 8): "slots",
        (40, 7): "latency",
        (20, 7): "slots",  # an eighth at a time would spare no round
        (8, 8): "latency",
        (1, 1): "latency",
    }


def test_anthropic_counts_input_and_output_apart(stated: Any) -> None:
    """Each has a bound of its own; caps that are held bound what is in flight."""
    config = tk.Config(provider="anthropic", summary_batch_size=64, anthropic_max_concurrent_requests=64)
    plan = tk.plan([1000] * 200, config, latency=stated(tokens=400))
    assert plan.bottleneck == "output_tokens"
    assert plan.bound("output_tokens").seconds == pytest.approx((200 * 400 - 8000) / 8000 * 60 + 1)
    assert plan.bound("input_tokens").seconds
    few = tk.plan([1000] * 200, config.replace(anthropic_output_tokens_per_minute=4096))
    assert few.level("requests").effective == 8
    assert few.level("requests").bound_by == "output_tokens"


def test_littles_law_says_what_is_in_flight(stated: Any) -> None:
    """Sixty calls a minute of two seconds each are two at a time, however many slots there are."""
    config = hosted(summary_batch_size=30, openai_max_concurrent_requests=30, openai_requests_per_minute=60)
    requests = tk.plan([100] * 500, config, latency=stated(2.0)).level("requests")
    assert (requests.asked, requests.effective, requests.bound_by) == (30, 2.0, "requests")


def test_equal_bounds_that_are_added_up_in_another_order(stated: Any) -> None:
    """One episode whose chunks fill five slots: both bounds are the same, but for their last digits."""
    config = hosted(
        chunk_tokens=150,
        context_tokens=700,
        summary_max_tokens=128,
        summary_chunk_parallelism=5,
        openai_requests_per_minute=10**6,
        openai_tokens_per_minute=10**9,
    )
    plan = tk.plan([7135], config, latency=stated(0.1, tokens=120))
    latency, slots = plan.bound("latency").seconds, plan.bound("slots").seconds
    assert latency > slots > (1 - 1e-12) * latency
    assert plan.bottleneck == "slots"


def test_a_limit_that_lets_all_in_at_once_leaves_all_in_flight(stated: Any) -> None:
    """Forty calls of fifty a minute are not held up by it."""
    config = hosted(summary_batch_size=8, openai_max_concurrent_requests=8, openai_requests_per_minute=50)
    requests = tk.plan([100] * 40, config, latency=stated()).level("requests")
    assert (requests.effective, requests.bound_by) == (8, "slots")


def test_without_a_latency_model_times_are_not_made_up() -> None:
    """Bounds of limits are known; those that depend on the calls' time are null, and the plan says so."""
    plan = tk.plan([2000] * 100, hosted())
    assert plan.bound("latency").seconds is None
    assert plan.bound("slots").seconds is None
    assert plan.bound("tokens").seconds
    assert any("no latency model" in note for note in plan.notes)
    seconds = plan.frame[plan.frame["kind"] == "bound"].set_index("name")["seconds"]
    assert list(seconds.index[seconds.isna()]) == ["latency", "slots"]


def test_a_shared_model_is_bound_by_its_engine(stated: Any) -> None:
    """Calls that are served together cost less each: the bound is that of the widest batch that is asked."""
    machine = tk.Machine(cores=4, memory_gb=6.0, model_gb=1.2)
    config = tk.Config(summary_batch_size=4, summary_chunk_parallelism=1)
    plan = tk.plan([500] * 40, config, latency=stated(1.0, crowding=0.5), machine=machine)
    assert plan.bottleneck == "cores"
    assert plan.bound_s == pytest.approx(40 * (1 + 0.5 * 3) / 4)
    assert plan.suggested["summary_batch_size"] > 4
    assert plan.bound("memory").seconds is None


# -- conflicts -------------------------------------------------------------------------------------------


def test_conflicts_say_the_numbers() -> None:
    """In so many words."""
    eight = tk.plan(
        [300_000] * 20,
        hosted(
            summary_batch_size=4,
            summary_chunk_parallelism=8,
            chunk_tokens=20_000,
            openai_tokens_per_minute=2_000_000,
        ),
    )
    assert texts(eight, "slots") == ["4 episodes x 8 chunks = 32 requests wait for 5 slots"]
    instances = tk.plan(
        [13_000] * 20, tk.Config(summary_batch_size=8, summary_chunk_parallelism=1), machine=local()
    )
    assert texts(instances, "memory") == ["8 instances x 1.2 GB do not fit 6 GB"]
    assert instances.bottleneck == "memory"
    threads = tk.plan(
        [13_000] * 20,
        tk.Config(summary_batch_size=4, summary_chunk_parallelism=8),
        machine=local(memory_gb=60.0),
    )
    assert texts(threads, "cores") == ["4 episodes x 8 chunks = 32 threads share 4 cores"]
    oversize = tk.plan([90_000], hosted(chunk_tokens=40_000, openai_tokens_per_minute=30_000))
    assert texts(oversize, "oversize")[0].startswith(
        "a chunk of 40,000 tokens never fits 30,000 tokens per minute"
    )
    assert oversize.suggested["chunk_tokens"] < 27_000
    alone = tk.plan([40_000], hosted(limits_oversize="wait_full", openai_tokens_per_minute=30_000))
    assert "never fits 30,000 tokens per minute: it waits" in texts(alone, "oversize")[0]
    day = tk.plan([100] * 500, hosted(openai_requests_per_day=200))
    assert texts(day, "day") == [
        "500 requests exceed the 200 of a day: the run stops there, and goes on later"
    ]


def test_a_model_that_does_not_fit_beside_its_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shared model: smaller batches are suggested where those fit."""
    from toolkit.engines.unloaded import ModelSize
    from toolkit.planning.machine import Footprint

    machine = tk.Machine(cores=4, memory_gb=2.0)
    size = ModelSize(250_000_000, 10_000, 5_000)
    footprint = Footprint.of(size, "float32", machine)
    assert footprint is not None
    assert footprint.bytes(1, 10_000) == pytest.approx(0.3e9 + 1e9 + 10_000 * 4 * 25_000)
    assert footprint.tokens(machine) == pytest.approx(0.7e9 / 100_000)
    assert footprint.instances(machine, 1000) == 1

    monkeypatch.setattr(tk.TransformersSummarizationProvider, "model_size", size)
    config = tk.Config(dtype="float32", summary_batch_size=16, summary_chunk_parallelism=1)
    plan = tk.plan([5000] * 40, config, machine=machine)
    assert (plan.bottleneck, plan.suggested["engine_batch_tokens"]) == ("memory", 7000)
    assert len(texts(plan, "memory")) == 1
    better = tk.plan([5000] * 40, plan.suggested_config, machine=machine)
    assert (better.bottleneck, texts(better, "memory")) == ("cores", [])


def test_budgets_that_do_not_do() -> None:
    """Money, tokens and calls, each at most; and dollars that nobody can count."""
    config = hosted(budget_usd=0.001, budget_tokens=1000, budget_calls=3)
    found = texts(tk.plan([1000] * 5, config), "budget")
    assert [text.split(",")[0].split("up to ")[1] for text in found][1:] == ["7", "5 calls"]
    assert "budget_usd=0.001 ends it before" in found[0]
    assert texts(tk.plan([1000] * 5, hosted(budget_usd=5.0)), "budget") == []
    unknown = hosted(model="nobody-knows", budget_usd=1.0)
    assert "no price of the model is known" in texts(tk.plan([1000], unknown), "budget")[0]


def test_prompts_that_leave_no_room_are_a_conflict() -> None:
    """One impossible config does not spoil a table of plans."""
    table = tk.compare_plans([5000], {"small": hosted(openai_tokens_per_minute=300), "usual": hosted()})
    assert "leave no room for text" in table.loc["small", "conflicts"]
    assert list(table["calls"]) == [0, 1]


def test_impossible_configs_have_the_columns_of_others() -> None:
    """Also where there are no others."""
    table = tk.compare_plans([5000], {"small": hosted(openai_tokens_per_minute=300)})
    assert list(table.columns) == list(tk.compare_plans([5000], {"usual": hosted()}).columns)
    assert table.loc["small", ["episodes", "chunks", "requests"]].isna().all()


def test_a_smaller_chunk_has_a_smaller_overlap() -> None:
    """What is suggested in the place of a chunk that never fits is a config."""
    config = hosted(chunk_tokens=40_000, chunk_overlap_tokens=15_000, openai_tokens_per_minute=30_000)
    suggested = tk.plan([90_000], config).suggested
    assert suggested["chunk_overlap_tokens"] == suggested["chunk_tokens"] // 2 < 15_000
    few = tk.plan([90_000], config.replace(chunk_overlap_tokens=100)).suggested
    assert "chunk_overlap_tokens" not in few


def test_no_more_slots_are_suggested_than_widths_are_tried(stated: Any) -> None:
    """Slots that no width fills gain nothing."""
    config = hosted(openai_requests_per_minute=10**6, openai_tokens_per_minute=10**9)
    suggested = tk.plan([1000] * 4000, config, latency=stated(60.0)).suggested
    assert suggested["openai_max_concurrent_requests"] == 256
    assert suggested["summary_batch_size"] * suggested.get("summary_chunk_parallelism", 1) > 240


def test_parallelism_that_nothing_uses() -> None:
    """It is said, and taken back."""
    plan = tk.plan([500] * 3, hosted(summary_batch_size=5, summary_chunk_parallelism=4))
    assert len(texts(plan, "idle")) == 2
    assert plan.suggested == {"summary_batch_size": 3, "summary_chunk_parallelism": 1}


# -- suggestions -----------------------------------------------------------------------------------------


def test_what_is_suggested_does_better(stated: Any) -> None:
    """The plan of the suggested config has a lower bound, nothing more to suggest, and no conflict."""
    config = hosted(
        summary_batch_size=1,
        chunk_tokens=1000,
        openai_requests_per_minute=600,
        openai_tokens_per_minute=2_000_000,
    )
    plan = tk.plan([8000] * 200, config, latency=stated(4.0))
    assert {"summary_batch_size", "chunk_tokens", "openai_max_concurrent_requests"} <= plan.suggested.keys()
    better = tk.plan([8000] * 200, plan.suggested_config, latency=stated(4.0))
    assert better.bound_s < plan.bound_s / 10
    assert better.suggestions == ()
    assert better.conflicts == ()


def test_a_cap_that_counts_in_full_is_lowered(stated: Any) -> None:
    """Where tokens bind and replies are far below their cap."""
    config = hosted(summary_max_tokens=4000, summary_batch_size=5)
    plan = tk.plan([1000] * 300, config, latency=stated(1.0, tokens=100))
    assert plan.bottleneck == "tokens"
    assert plan.suggested["summary_max_tokens"] == 224


def test_suggestions_do_not_warn(recwarn: pytest.WarningsRecorder) -> None:
    """The suggested config of a local model says both levels in so many words."""
    config = tk.Config(summary_chunk_parallelism=1)
    plan = tk.plan([13_000] * 20, config, machine=local(memory_gb=32.0))
    assert plan.suggested_config.summary_batch_size == 4
    assert not recwarn.list


# -- shown -----------------------------------------------------------------------------------------------


def test_the_frame_has_its_declared_columns() -> None:
    """A row for each level and bound; exactly one binds."""
    frame = tk.plan([2000] * 100, hosted()).frame
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == {c.name: c.dtype for c in PLAN}
    assert list(frame["name"]) == [
        *("episodes", "chunks", "requests"),
        *("latency", "requests", "tokens", "slots"),
    ]
    assert frame["binds"].sum() == 1


def test_what_is_shown_is_escaped() -> None:
    """A model's name is text, not markup."""
    plan = tk.plan([2000], hosted(model="<script>alert(1)</script>"))
    html = plan._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert "bound by" in str(plan)


# -- without a key, a network or a model -----------------------------------------------------------------

WATCHED = """
import json, os, sys
touched = []
sys.addaudithook(lambda event, args: touched.append(event) if event.startswith("socket.") else None)
import toolkit as tk
for config in json.loads(sys.argv[1]):
    plan = tk.plan(tk.load_episodes(sys.argv[2]), tk.Config(**config))
    assert plan.calls, plan
print(json.dumps([sorted(set(touched)), sorted(sys.modules)]))
"""


def test_nothing_is_sent_and_no_key_is_needed(tmp_path: Path) -> None:
    """OpenAI, Anthropic and a server of one's own: no socket is opened, and no file of limits is made."""
    configs = [
        {"provider": "openai"},
        {"provider": "anthropic"},
        {"provider": "openai", "model": "x", "openai_base_url": "http://lab.example:8000/v1"},
    ]
    environment = {k: v for k, v in os.environ.items() if "API_KEY" not in k}
    state = tmp_path / "state"
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, json.dumps(configs), str(ROOT / "data" / "episodes")],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**environment, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(state)},
    )
    touched, modules = json.loads(done.stdout.splitlines()[-1])
    assert not [event for event in touched if event in ("socket.connect", "socket.getaddrinfo")]
    assert "torch" not in modules
    assert not state.exists()


def test_a_local_model_is_not_loaded() -> None:
    """A model that is nowhere on this disk is planned by estimates, and the plan says so."""
    plan = tk.plan([5000], tk.Config(model="nobody/nothing", summary_chunk_parallelism=1))
    assert plan.calls > 1
    assert any("not on this disk" in note for note in plan.notes)
    assert plan.bound("cores").seconds is None


def test_revisions_of_a_model_are_counted_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows of a table whose models have other vocabularies ask for other numbers of tokens."""
    from toolkit.engines.unloaded import UnloadedModel, _Estimate
    from toolkit.providers import transformers

    class Larger(_Estimate):
        def __call__(self, text: str, **options: object) -> dict[str, Sequence[int]]:
            return super().__call__(text.replace("internationalization", "i18n"))

    def read(model: str, *, revision: str | None, trust_remote_code: bool) -> UnloadedModel:
        found = UnloadedModel(model)
        if revision == "larger":
            found._tokenizer = Larger()
        return found

    monkeypatch.setattr(transformers, "read_model", read)
    configs = {name: tk.Config(model="nobody/nothing", model_revision=name) for name in ("small", "larger")}
    episode = tk.Episode.from_text("a", "internationalization " * 50)
    table = tk.compare_plans([episode], configs, machine=local())
    assert table.loc["small", "tokens"] > table.loc["larger", "tokens"]


def test_a_model_that_is_here_and_cannot_be_used_is_told(tmp_path: Path) -> None:
    """A plan of it would be one of a run that cannot begin."""
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickled")
    with pytest.raises(tk.ModelUnavailable, match="pickled weights"):
        tk.plan([5000], tk.Config(model=str(tmp_path)))
    with pytest.raises(tk.ModelUnavailable, match="is a file"):
        tk.plan([5000], tk.Config(model=str(tmp_path / "config.json")))


# -- machines --------------------------------------------------------------------------------------------


def test_this_machine() -> None:
    """It has cores and memory, and is what a local plan takes."""
    machine = tk.Machine.here("cpu")
    assert machine.cores >= 1
    assert 0 < machine.memory_gb < 10_000
    assert machine.device == "cpu"


def test_each_device_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Configs of one table may be for several; each is looked at once, and a given machine is for all."""
    looked: list[str] = []

    def here(device: str, instances: str) -> tk.Machine:
        assert instances == "shared"
        looked.append(device)
        return tk.Machine(cores=4, memory_gb=2.0 if device == "cuda" else 60.0, model_gb=3.0, device=device)

    monkeypatch.setattr(tk.Machine, "here", here)
    configs = {str(n): tk.Config(device=device) for n, device in enumerate(["cpu", "cuda", "cpu"])}
    assert list(tk.compare_plans([500], configs)["bottleneck"]) == ["cores", "memory", "cores"]
    assert looked == ["cpu", "cuda"]
    tk.compare_plans([500], configs, machine=local())
    assert looked == ["cpu", "cuda"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"cores": 0},
        {"cores": 2.5},
        {"memory_gb": 0},
        {"memory_gb": float("inf")},
        {"model_gb": -1},
        {"instances": "each"},
    ],
)
def test_machines_check_themselves(wrong: dict[str, Any]) -> None:
    """The wrong value is named."""
    with pytest.raises(tk.ConfigError, match=next(iter(wrong))):
        local(**wrong)


# -- the command -----------------------------------------------------------------------------------------


def test_the_command_shows_the_plan(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """With the options of run; exit 1 if a transcript is missing, 2 for a wrong setting."""
    episodes = str(ROOT / "data" / "episodes")
    options = ["--provider", "openai", "--set", "summary_batch_size=6"]
    assert main(["plan", episodes, *options]) == 0
    shown = capsys.readouterr().out
    assert "7 episodes, openai/gpt-5.6-luna" in shown
    assert "6 episodes x 1 chunk = 6 requests wait for 5 slots" in shown
    assert main(["plan", episodes, "--cores", "4"]) == 2
    assert main(["plan", episodes, "--set", "nonsense=1"]) == 2
    (tmp_path / "good.txt").write_text("Anna: Hello there.\n")
    (tmp_path / "bad.vtt").write_bytes(b"\x00\x01\x02\x03")
    assert main(["plan", str(tmp_path), *options]) == 1
    assert "1 episode, openai" in capsys.readouterr().out


def test_stages_have_their_own_lengths() -> None:
    """A latency model is asked for each stage with its own cap."""
    asked: set[tuple[Stage, int]] = set()

    class Noting:
        def mean_service_s(self, input_tokens: float, output_tokens: float, width: float = 1) -> float:
            return 1.0

        def mean_output_tokens(self, stage: Stage, cap: int) -> float:
            asked.add((stage, cap))
            return 10.0

    tk.plan([300, 5000], tk.Config(provider="scripted"), latency=Noting())
    assert asked == {(Stage.DIRECT, 128), (Stage.MAP, 64), (Stage.REDUCE, 128)}


def test_the_command_takes_a_latency(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Seconds of a call make the time known, which is not known without; nonsense is named."""
    (tmp_path / "a.txt").write_text("word " * 50)
    command = ["plan", str(tmp_path / "a.txt"), "--provider", "openai"]
    assert main(command) == 0
    assert "bound by latency; for how long is not known" in capsys.readouterr().out
    assert main([*command, "--latency", "3"]) == 0
    assert "bound by latency, at least 3.0 s" in capsys.readouterr().out
    assert main([*command, "--latency", "nonsense"]) == 2
    assert "nonsense: cannot be read" in capsys.readouterr().err


def test_what_a_suggestion_gains_is_told_by_the_plans_own_bound() -> None:
    """The least time that it starts from is the one that stands above it."""
    told = tk.plan([1_000] * 7, tk.Config(provider="openai"), latency=tk.LatencyModel.constant(2.0))
    assert told.bound_s == pytest.approx(14.0)
    assert any("from 14.0 s to 4.0 s" in str(one) for one in told.suggestions)
