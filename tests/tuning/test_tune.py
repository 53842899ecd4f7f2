"""What a tuning finds, what it runs for that, and what it says of it."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from toolkit.archive import open_store
from toolkit.config import Config
from toolkit.errors import ConfigError, ToolkitError
from toolkit.latency import LatencyModel
from toolkit.providers.scripted import ScriptedSummarizationProvider
from toolkit.records import Episode
from toolkit.runs import Run
from toolkit.simulation import simulate
from toolkit.sweeps import sweep
from toolkit.sweeps.cells import make_cells
from toolkit.testing import ApiServer
from toolkit.tuning import tune
from toolkit.tuning.goals import read_goal
from toolkit.tuning.predicting import Predictor

OVER = {"chunk_tokens": [32, 40, 48, 64, 96, 128], "summary_max_tokens": [8, 10, 12, 14, 16, 18, 20, 22]}
"""48 settings; a text of 128 words is one call at 128 tokens a chunk, and five at 32."""


def test_the_fastest_setting_is_found_by_few_runs(scripted: Any) -> None:
    """One call an episode is the fastest; of 48 settings four are run."""
    best = scripted(OVER)
    assert best.config.chunk_tokens == 128
    assert best.goal == "throughput"
    assert best.value == pytest.approx(3600)
    assert best.settings == 48
    assert best.really_run == 4
    assert len(scripted.asked) <= 4 + 1
    whole = sweep(
        scripted.episodes,
        Config(provider="scripted", chunk_tokens=128),
        {"summary_max_tokens": [best.config.summary_max_tokens]},
        score=False,
    )
    assert whole.cells["calls"].tolist() == [8]


@pytest.mark.slow
def test_the_evidence_has_every_setting(scripted: Any) -> None:
    """What was predicted, what was measured on each rung, and why it did not go on."""
    best = scripted(OVER)
    frame = best.evidence
    assert len(frame) == 48
    assert list(frame)[:6] == ["setting", *OVER, "best", "runs", "predicted"]
    assert {"measured_2", "measured_4", "measured_8", "estimate", "dropped"} <= set(frame)
    assert frame["predicted"].notna().all()
    assert frame["best"].tolist() == [True] + [False] * 47
    assert frame["dropped"].isna().tolist() == [True] + [False] * 47
    assert (frame["runs"] > 0).sum() == 4
    first = frame.iloc[0]
    assert first["chunk_tokens"] == best.config.chunk_tokens
    assert first["measured_8"] == first["estimate"] == best.value
    never = frame[frame["runs"] == 0]
    assert never["dropped"].str.contains("by simulation, and not run").all()
    assert never[["measured_2", "measured_8"]].isna().all().all()


@pytest.mark.slow
def test_predictions_follow_what_was_run(scripted: Any) -> None:
    """The model is fitted to the runs, so that predictions and measurements come to the same here."""
    best = scripted(OVER)
    (model,) = best.models
    assert isinstance(model, LatencyModel)
    assert model.mean_service_s(30, 10) == pytest.approx(1.0, rel=0.01)
    run = best.evidence[best.evidence["measured_8"].notna()]
    assert (run["predicted_last"] / run["measured_8"]).between(0.97, 1.03).all()


@pytest.mark.slow
def test_a_stated_latency_saves_the_pilots(scripted: Any) -> None:
    """The worst setting, which is an end of the grid, is not run then."""
    best = scripted(OVER, latency=LatencyModel(base_s=1.0, output_tokens=10))
    assert best.config.chunk_tokens == 128
    assert all(tokens >= 96 for tokens, _ in scripted.asked)


def test_pilots_put_as_much_in_flight_as_they_can(scripted: Any) -> None:
    """The narrow end goes over a quarter of the episodes, the wide one over all that it works on."""
    best = scripted({"summary_batch_size": [1, 2, 3, 4, 5, 6, 7, 8], "chunk_tokens": [32, 128]})
    flown = [
        (row["summary_batch_size"], len(study.runs[int(row["cell"]), 1].records))
        for study in best.sweeps[:2]
        for row in study.cells.to_dict("records")
    ]
    assert flown == [(1, 2), (8, 8)]


def test_pilots_of_each_model_are_warm(scripted: Any) -> None:
    """Whichever flight they are in: one call before all that is measured, for each model."""
    warmed: list[str] = []

    def script(config: Config) -> dict[str, Any]:
        def seconds(request: Any) -> float:
            if request.episode_id == "warm-up":
                warmed.append(config.model)
            return 1.0

        return {"latency_s": seconds}

    scripted({"model": ["one", "two"], "summary_batch_size": [1, 8]}, script=script, really=4)
    assert sorted(warmed) == ["one", "two"]


def test_predictions_know_what_a_server_works_on_at_once(episodes: list[Episode]) -> None:
    """Learned from runs that met the bound; before, more slots look faster than they are."""

    def hosted(slots: int) -> Config:
        return Config(
            provider="openai",
            model="gpt-4o-mini",
            openai_max_concurrent_requests=slots,
            summary_batch_size=8,
            chunk_tokens=64,
        )

    truth = LatencyModel(base_s=0.5, spread=0.2, output_tokens=20, max_concurrent=3)
    runs = {slots: simulate(episodes, hosted(slots), latency=truth, seed=slots) for slots in (2, 3, 8)}
    cells = make_cells(hosted(2), episodes, {"openai_max_concurrent_requests": [3, 8]}, None, None, 0)
    found = []
    for met in ([2], [2, 8]):
        predictor = Predictor(hosted(2), read_goal("throughput"), 0, None, None)
        assert predictor.learn((hosted(slots), runs[slots]) for slots in met) == {}
        found.append(predictor.predict(cells, episodes))
    unaware, aware = found
    assert unaware[2] > 1.5 * unaware[1]
    assert aware[2] < aware[1]
    assert aware[1] == pytest.approx(unaware[1], rel=0.05)


def test_a_wrong_latency_is_found_out(scripted: Any) -> None:
    """Long prompts take long here, which the model that was given denies: the runs are believed."""

    def script(config: Config) -> dict[str, Any]:
        def seconds(request: Any) -> float:
            return 0.1 if request.stage == "reduce" else (len(request.prompt.split()) / 32) ** 3

        return {"latency_s": seconds}

    best = scripted(
        {"chunk_tokens": [32, 64, 128]}, script=script, latency=LatencyModel.constant(1.0, 10), really=3
    )
    assert best.config.chunk_tokens == 32


@pytest.mark.slow
def test_no_more_is_run_than_may_be(scripted: Any) -> None:
    """Pilots and those that come later included."""
    for really in (3, 6, 12):
        best = scripted(OVER, really=really, name=f"really {really}")
        assert best.really_run <= really


@pytest.mark.slow
def test_the_same_tuning_again_runs_nothing(scripted: Any) -> None:
    """Everything is in the store, and it comes to the same."""
    best = scripted(OVER)
    calls = scripted.calls
    again = scripted(OVER)
    assert scripted.calls == calls
    assert again.id == best.id
    assert again.knobs == best.knobs
    pd.testing.assert_frame_equal(again.evidence, best.evidence)


def test_a_goal_of_ones_own_is_always_really_run(scripted: Any) -> None:
    """All settings begin, the better ones go on, and higher is better."""

    def words(run: Run) -> float:
        return sum(len(record.summary.text.split()) for record in run.records) / len(run.records)

    best = scripted({"summary_max_tokens": [8, 9, 10, 11, 12, 13, 14, 15]}, goal=words)
    assert best.config.summary_max_tokens == 15
    assert best.really_run == 8
    assert best.goal.endswith("words")
    assert best.models == ()
    frame = best.evidence
    assert frame["measured_2"].notna().all()
    assert frame["measured_8"].notna().sum() == 2
    assert frame["predicted"].isna().all()
    assert frame["dropped"].str.contains("after 2 episodes taken for").sum() == 4


def test_a_goal_that_raises_drops_its_setting(scripted: Any) -> None:
    """The others go on, and the reason stands in the evidence."""

    def picky(run: Run) -> float:
        if run.config.summary_max_tokens == 15:
            raise ValueError("too long")
        return float(run.config.summary_max_tokens or 0)

    best = scripted({"summary_max_tokens": [8, 12, 14, 15]}, goal=picky)
    assert best.config.summary_max_tokens == 14
    reasons = best.evidence.set_index("summary_max_tokens")["dropped"]
    assert reasons[15] == "no goal: the score raised ValueError: too long"


def test_a_setting_that_fails_is_dropped(scripted: Any) -> None:
    """The fastest one breaks: the next one is the best."""

    def script(config: Config) -> dict[str, Any]:
        broken = config.chunk_tokens == 128
        return {"faults": (lambda request, attempt: ValueError("dead")) if broken else None}

    best = scripted({"chunk_tokens": [32, 64, 128]}, script=script)
    assert best.config.chunk_tokens == 64
    assert "dead" in best.evidence.set_index("chunk_tokens")["dropped"][128]


def test_nothing_could_be_run(scripted: Any) -> None:
    """One sentence with the first reason; whatever the goal."""

    def script(config: Config) -> dict[str, Any]:
        return {"faults": lambda request, attempt: ValueError("dead")}

    with pytest.raises(ToolkitError, match=r"setting 1 failed: .*dead"):
        scripted({"chunk_tokens": [32, 64]}, script=script, goal=lambda run: 1.0)
    with pytest.raises(ToolkitError, match=r"0 calls that went well|dead"):
        scripted({"chunk_tokens": [32, 64]}, script=script)


def test_too_few_calls_to_go_by(scripted: Any) -> None:
    """Two runs of one call each fit no model; what to do is said."""
    scripted.episodes = [Episode.from_text("e", "Hill dries.")]
    with pytest.raises(ConfigError, match=r"too few to fit.*more or longer episodes, or give latency="):
        scripted({"summary_max_tokens": [8, 9]})
    best = scripted({"summary_max_tokens": [8, 9]}, latency=LatencyModel.constant(1.0, 5))
    assert best.really_run == 2


def test_a_budget_bounds_all_runs_together(scripted: Any) -> None:
    """As many settings begin as it will do for, and no call is made beyond it."""
    best = scripted(
        {"summary_max_tokens": [8, 9, 10, 11, 12, 13, 14, 15]},
        goal=lambda run: float(run.config.summary_max_tokens or 0),
        budget_calls=300,
    )
    assert scripted.calls <= 300
    assert best.stopped_because is None
    assert 2 <= best.really_run < 8
    assert best.evidence["dropped"].str.contains("the budget, or really=").sum() == 8 - best.really_run
    assert best.evidence["measured_8"].notna().any()


def test_where_the_budget_ends_the_furthest_is_taken(scripted: Any) -> None:
    """And the tuning says that it stopped, and why."""

    def goal(run: Run) -> float:
        return float(run.config.summary_max_tokens or 0)

    over = {"summary_max_tokens": [8, 9, 10, 11]}
    with pytest.raises(ToolkitError, match=r"no setting could be run to its end: the budget .* is used up"):
        scripted(over, goal=goal, budget_calls=3)
    best = scripted(over, goal=goal, budget_calls=40)
    assert best.stopped_because is not None
    assert "is used up" in best.stopped_because
    assert "stopped: the budget" in repr(best)
    assert scripted.calls <= 40


def test_a_budget_that_ends_with_the_pilots_is_what_is_told(scripted: Any) -> None:
    """Not that their calls were too few to fit a model to."""
    with pytest.raises(ToolkitError, match=r"no setting could be run to its end: .*is used up"):
        scripted({"summary_max_tokens": [8, 9]}, budget_calls=4)


def test_ctrl_c_brings_the_best_so_far(scripted: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was measured furthest; the next start goes on from there."""
    stopping = threading.Event()
    from toolkit import interrupts

    tell = interrupts.tell
    monkeypatch.setattr("toolkit.interrupts.tell", lambda text: (stopping.set(), tell(text)))

    def script(config: Config) -> dict[str, Any]:
        def fault(request: Any, attempt: int) -> None:
            if scripted.calls == 150:
                os.kill(os.getpid(), signal.SIGINT)
                assert stopping.wait(10)

        return {"faults": fault}

    def goal(run: Run) -> float:
        return float(run.config.summary_max_tokens or 0)

    over = {"summary_max_tokens": [8, 9, 10, 11, 12, 13, 14, 15]}
    best = scripted(over, goal=goal, script=script)
    assert best.interrupted
    assert "interrupted" in repr(best)
    assert best.evidence["dropped"].notna().sum() == 7
    calls = scripted.calls
    again = scripted(over, goal=goal)
    assert not again.interrupted
    assert again.config.summary_max_tokens == 15
    assert calls < scripted.calls < 2 * calls + 150


def test_after_ctrl_c_no_more_is_simulated(episodes: list[Episode]) -> None:
    """A stop would else end one of many simulations, and the others go on."""
    config = Config(provider="scripted", chunk_tokens=32)
    cells = make_cells(config, episodes, {"summary_batch_size": [1, 2]}, None, None, 0)
    predictor = Predictor(config, read_goal("throughput"), 0, None, LatencyModel.constant(1.0, 5))
    assert set(predictor.predict(cells, episodes)) == {1, 2}
    predictor.interrupted = True
    assert predictor.predict(cells, episodes) == {}


@pytest.mark.slow
def test_the_cheapest_setting_and_the_faster_of_two_alike() -> None:
    """Prompts cost the same however many run at a time; overlap costs more."""
    texts = [
        Episode.from_text(f"e{n}", "\n".join(f"Hill{n} dries here and there{i}." for i in range(60)))
        for n in range(4)
    ]
    with ApiServer(
        requests_per_minute=60_000, tokens_per_minute=10**8, latency=0.01, reply_words=20
    ) as server:
        config = Config(
            provider="openai",
            model="mine",
            openai_base_url=server.base_url,
            openai_requests_per_minute=60_000,
            openai_tokens_per_minute=10**8,
            openai_max_concurrent_requests=8,
            limits_url="memory://",
            chunk_tokens=120,
            prices={"mine": {"input": 100.0, "output": 100.0}},
        )
        over = {"chunk_overlap_tokens": [0, 60], "summary_batch_size": [1, 4]}
        with pytest.raises(ConfigError, match=r"would really call openai/mine: .*, \$"):
            tune(texts, config, over, goal="cost")
        best = tune(texts, config, over, goal="cost", confirm=True)
        assert best.knobs == {"chunk_overlap_tokens": 0, "summary_batch_size": 4}
        assert best.measure == "cost_usd"
        with pytest.raises(ConfigError, match="no price is known"):
            tune(texts, config.replace(prices=None), over, goal="cost")


def test_a_paid_server_is_not_called_unasked(
    episodes: list[Episode], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the whole tuning may cost is said before it begins."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-" + "a1" * 20)
    config = Config(provider="openai", model="gpt-5.6-luna", limits_url="memory://")
    with pytest.raises(ConfigError, match=r"this tuning would really call openai/gpt-5\.6-luna: .* calls"):
        tune(episodes, config, {"summary_batch_size": [1, 2, 4]})
    assert open_store().runs().empty


def test_a_paid_server_among_free_ones_is_not_called_unasked(scripted: Any) -> None:
    """Wherever its settings stand: which of them are run nobody knows before."""
    over = {"provider": ["scripted", "openai"], "summary_batch_size": list(range(1, 21))}
    asked: list[str] = []

    class Either(ScriptedSummarizationProvider):
        @property
        def spends(self) -> bool:
            return self.config.provider == "openai"

        def generate(self, request: Any) -> Any:
            asked.append(self.config.provider)
            return super().generate(request)

    with pytest.raises(ConfigError, match="this tuning would really call"):
        scripted(over, provider=Either)
    assert not asked


def test_a_model_that_fails_leaves_the_others(scripted: Any) -> None:
    """Too few of its calls went well to fit anything to: its settings are out, and the rest is tuned."""

    def script(config: Config) -> dict[str, Any]:
        broken = config.model == "bad"
        return {"faults": (lambda request, attempt: ValueError("dead")) if broken else None}

    best = scripted({"model": ["good", "bad"], "chunk_tokens": [32, 64, 128]}, script=script)
    assert best.knobs == {"model": "good", "chunk_tokens": 128}
    reasons = best.evidence[best.evidence["model"] == "bad"]["dropped"]
    assert reasons.str.contains("dead").sum() == 2
    assert reasons.str.contains("could not be simulated").sum() == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"goal": "speed"}, "goal='speed'"),
        ({"goal": "througput"}, "did you mean 'throughput'"),
        ({"goal": 3}, "a function of a run"),
        ({"goal": "quality"}, "no episode has one"),
        ({"really": 0}, "really=0"),
        ({"repeats": 1.5}, "repeats=1.5"),
        ({"goal": len, "latency": LatencyModel()}, "always really run"),
        ({"over": {}}, "the grid is empty"),
        ({"over": None}, "either a grid"),
        ({"over": {"chunk_token": [1]}}, "nearest are chunk_tokens"),
    ],
)
def test_what_is_wrong_is_told_before_anything_runs(
    scripted: Any, options: dict[str, Any], message: str
) -> None:
    """In a sentence, with what to do."""
    with pytest.raises(ConfigError, match=message):
        scripted(options.pop("over", OVER), **options)
    assert not scripted.calls


@pytest.mark.parametrize(
    ("options", "refused"),
    [({}, None), ({"budget_calls": 500}, None), ({"goal": "cost"}, "no price is known")],
)
def test_no_provider_is_left_open(scripted: Any, options: dict[str, Any], refused: str | None) -> None:
    """Also those of which only the price is asked, and what of a budget their calls take."""
    with pytest.raises(ConfigError, match=refused) if refused else nullcontext():
        scripted({"chunk_tokens": [32, 64, 128]}, **options)
    assert not scripted.open


def test_it_shows_and_saves_itself(scripted: Any, tmp_path: Path) -> None:
    """In a line, as a table, and as a file."""
    best = scripted({"chunk_tokens": [32, 64, 128]})
    assert repr(best) == (
        "<Tuned for throughput: chunk_tokens=128, episodes_per_h 3600 over 8 episodes, 3 of 3 settings "
        "really run>"
    )
    assert "<table" in best._repr_html_()
    place = best.save(tmp_path / "new")
    assert len(pd.read_csv(place / "evidence.csv")) == 3
    with (place / "evidence.csv").open() as opened:
        best.save(place)
        # Who reads an earlier one, reads it to its end.
        assert os.stat(place / "evidence.csv").st_ino != os.fstat(opened.fileno()).st_ino


def test_a_goal_is_known_by_its_function() -> None:
    """A later start tells by it whether what is there was judged in the same way."""

    def one(run: Run) -> float:
        return 1.0

    def other(run: Run) -> float:
        return 2.0

    names = {read_goal(judge).name for judge in (one, other, "cost")}
    assert len(names) == 3


def test_another_function_of_the_same_name_judges_anew(scripted: Any) -> None:
    """The runs are taken from the store, and what the first one said of them is not."""
    over = {"summary_max_tokens": [8, 12]}
    assert scripted(over, goal=lambda run: float(run.config.summary_max_tokens or 0)).value == 12
    calls = scripted.calls
    again = scripted(over, goal=lambda run: -float(run.config.summary_max_tokens or 0))
    assert again.value == -8
    assert scripted.calls == calls


def test_quality_is_measured_against_references(scripted: Any) -> None:
    """By episodes that have one, and never simulated."""
    scripted.episodes = [
        Episode(one.id, one.turns, reference=" ".join(one.text.split()[:12])) if n % 2 else one
        for n, one in enumerate(scripted.episodes)
    ]
    best = scripted({"summary_max_tokens": [8, 12, 30]}, goal="quality", settings={"chunk_tokens": 200})
    assert best.config.summary_max_tokens == 12
    assert best.measure == "rougeL"
    assert best.evidence["predicted"].isna().all()
    assert all(
        set(study.runs[place].episodes["episode_id"]) <= {"e1", "e3", "e5", "e7"}
        for study in best.sweeps
        for place in study.runs
    )
