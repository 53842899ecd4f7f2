"""``LatencyModel``: what it finds in calls that were made by a known law, and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.errors import ConfigError
from toolkit.latency import Fit, LatencyModel
from toolkit.records import Stage

Law = Callable[[Any, Any, Any], Any]


def made_calls(
    law: Law, *, count: int = 300, sigma: float = 0.0, widths: tuple[int, ...] = (1,), seed: int = 1
) -> pd.DataFrame:
    """Make a frame of calls whose service takes what a law of input, output and width says."""
    rng = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    clock = 0.0
    while len(rows) < count:
        width = int(rng.choice(widths))
        given = rng.integers(100, 3000, width)
        written = rng.integers(10, 300, width)
        seconds = law(given.max(), written.max(), width) * np.exp(sigma * rng.normal() - sigma**2 / 2)
        for one in range(width):
            rows.append(
                {
                    "run_id": "r",
                    "episode_id": f"e{len(rows)}",
                    "provider": "p",
                    "model": "m",
                    "stage": "map",
                    "status": "ok",
                    "stop_reason": "stop",
                    "reused": False,
                    "input_tokens": given[one],
                    "output_tokens": written[one],
                    "service_s": seconds,
                    "overhead_s": 0.001,
                    "total_s": seconds + 0.001,
                    "started_at": pd.Timestamp(clock, unit="s", tz="UTC"),
                    "batch_size": width if widths != (1,) else None,
                }
            )
        clock += seconds + 0.011
    frame = pd.DataFrame(rows)
    types = {"input_tokens": "Int64", "output_tokens": "Int64", "batch_size": "Int64"}
    return frame.astype(types)


@pytest.mark.parametrize("sigma", [0.0, 0.3])
def test_fit_finds_the_law(sigma: float) -> None:
    """Base and seconds a token come out as they went in, to what the noise allows."""
    model = LatencyModel.fit(made_calls(lambda i, o, w: 0.5 + 2e-4 * i + 0.01 * o, count=5000, sigma=sigma))
    near = 1e-6 if sigma == 0 else 0.15
    assert model.per_input_token_s == pytest.approx(2e-4, rel=near)
    assert model.per_output_token_s == pytest.approx(0.01, rel=near)
    assert model.mean_service_s(1000, 100) == pytest.approx(1.7, rel=near / 2)
    assert model.fitted is not None
    assert model.fitted.median_error == pytest.approx(0.67 * sigma, abs=0.03)


def test_spread_is_that_of_the_calls() -> None:
    """Drawn service times have the mean and the quantiles of the measured ones."""
    calls = made_calls(lambda i, o, w: 0.5 + 0 * i, count=4000, sigma=0.4)
    model = LatencyModel.fit(calls)
    drawn = np.array([model.service_s(500, 50, 1, (n + 0.5) / 4000) for n in range(4000)])
    assert drawn.mean() == pytest.approx(calls["service_s"].mean(), rel=0.01)
    for p in (0.05, 0.5, 0.95):
        assert np.quantile(drawn, p) == pytest.approx(calls["service_s"].quantile(p), rel=0.02)


def test_what_cannot_be_told_is_left_out() -> None:
    """Of calls that do not differ, nobody knows what a token takes: the base explains them all."""
    calls = made_calls(lambda i, o, w: 2.0 + 0 * i, sigma=0.1)
    model = LatencyModel.fit(calls.assign(input_tokens=500, output_tokens=40))
    assert (model.per_input_token_s, model.per_output_token_s) == (0, 0)
    assert model.base_s == pytest.approx(2.0, rel=0.03)


def test_a_few_hangs_do_not_bend_it() -> None:
    """One call in fifty that hung for a minute is in the spread, and not in what a token takes."""
    calls = made_calls(lambda i, o, w: 0.5 + 0.01 * o, count=500)
    calls.loc[::50, "service_s"] = 60.0
    model = LatencyModel.fit(calls)
    short, long = (model.service_s(500, o, 1, 0.5) for o in (50, 250))
    assert (short, long) == (pytest.approx(1.0, rel=0.02), pytest.approx(3.0, rel=0.02))
    assert model.mean_service_s(500, 150) == pytest.approx(calls["service_s"].mean(), rel=0.1)


@given(
    st.tuples(st.floats(0, 2), st.floats(0, 1e-3), st.floats(0, 0.05)).filter(lambda law: sum(law) > 0.01),
    st.integers(8, 60),
    st.integers(0, 9),
)
@settings(deadline=None, max_examples=40)
def test_nothing_is_ever_negative(law: tuple[float, float, float], count: int, seed: int) -> None:
    """Whatever calls there are, no coefficient falls below zero, and the kept quantiles never fall."""
    a, b, c = law
    calls = made_calls(lambda i, o, w: a + b * i + c * o, count=count, sigma=0.5, seed=seed)
    model = LatencyModel.fit(calls)
    values = (model.base_s, model.per_input_token_s, model.per_output_token_s, model.gap_s)
    assert min(values) >= 0
    assert max(values[:3]) > 0
    assert isinstance(model.spread, tuple)
    assert list(model.spread) == sorted(model.spread)


def test_width_of_batches_counts() -> None:
    """A batch is one observation; what each further request in it costs is found."""
    calls = made_calls(
        lambda i, o, w: 0.2 + 1e-4 * w * i + (0.02 + 0.004 * (w - 1)) * o, count=2000, widths=(1, 2, 4, 8)
    )
    model = LatencyModel.fit(calls)
    assert model.per_neighbour_token_s == pytest.approx(0.004, rel=1e-3)
    assert model.mean_service_s(1000, 100, 8) == pytest.approx(0.2 + 0.8 + 4.8, rel=1e-3)


def test_replies_are_known_by_stage_and_cap() -> None:
    """A cut reply would have been longer; a higher cap than those seen changes nothing about the others."""
    calls = made_calls(lambda i, o, w: 1.0 + 0 * i, count=40)
    calls.loc[:19, "stage"] = "reduce"
    calls["output_tokens"] = 100
    calls.loc[:19, "output_tokens"] = 50
    calls.loc[:19, "stop_reason"] = "length"
    model = LatencyModel.fit(calls)
    assert model.mean_output_tokens(Stage.MAP, 1000) == 100
    assert model.mean_output_tokens(Stage.MAP, 60) == 60
    assert model.reply_tokens(Stage.MAP, 100, 0.5) == (100, False)
    assert model.reply_tokens(Stage.MAP, 99, 0.5) == (99, True)
    assert model.reply_tokens(Stage.REDUCE, 50, 0.5) == (50, True)
    assert model.reply_tokens(Stage.DIRECT, 50, 0.5) == (50, True)  # like the nearest stage
    assert LatencyModel().reply_tokens(Stage.MAP, 77, 0.5) == (77, False)


def test_mean_length_is_the_mean_of_drawn_ones() -> None:
    """The two ways of asking agree."""
    model = LatencyModel(output_tokens={"map": [20, 60, 80, 200]})
    drawn = [model.reply_tokens(Stage.MAP, 100, (n + 0.5) / 9999)[0] for n in range(9999)]
    # Between quantiles on both sides of the cap the mean is taken on a straight line to the cap.
    assert model.mean_output_tokens(Stage.MAP, 10**6) == pytest.approx(
        np.mean([model.reply_tokens(Stage.MAP, 10**6, (n + 0.5) / 9999)[0] for n in range(9999)]), rel=0.01
    )
    assert model.mean_output_tokens(Stage.MAP, 100) == pytest.approx(np.mean(drawn), rel=0.05)


def test_gap_between_episodes_is_what_the_places_stood_empty() -> None:
    """Calls follow each other after 10 ms beside their overhead."""
    model = LatencyModel.fit(made_calls(lambda i, o, w: 1.0 + 0 * i))
    assert model.episode_gap_s == pytest.approx(0.01, abs=1e-4)
    assert model.overhead_s == 0.001


def test_a_frame_that_was_written_to_a_file_is_one(tmp_path: Path) -> None:
    """What ``run.save`` writes can be fitted to when it is read again."""
    calls = made_calls(lambda i, o, w: 0.5 + 0.01 * o)
    calls.to_csv(tmp_path / "calls.csv", index=False)
    again = LatencyModel.fit(pd.read_csv(tmp_path / "calls.csv"))
    known = LatencyModel.fit(calls)
    assert again.per_output_token_s == pytest.approx(known.per_output_token_s)
    assert again.episode_gap_s == pytest.approx(known.episode_gap_s, abs=1e-5)


def test_only_calls_that_were_made_enter() -> None:
    """Reused and failed calls say nothing of the server."""
    calls = made_calls(lambda i, o, w: 1.0 + 0 * i, count=30)
    calls.loc[:9, ["reused", "service_s"]] = [True, 50.0]
    calls.loc[10:19, ["status", "service_s"]] = ["failed", 50.0]
    model = LatencyModel.fit(calls)
    assert model.mean_service_s(500, 50) == pytest.approx(1.0, rel=1e-3)
    assert model.fitted is not None
    assert model.fitted.calls == 10


def test_what_cannot_be_fitted_is_refused() -> None:
    """Too few calls, two models, and a frame that is none of calls: each says what to do."""
    calls = made_calls(lambda i, o, w: 1.0 + 0 * i, count=20)
    with pytest.raises(ConfigError, match=r"too few .*: 7 calls .* at least 8"):
        LatencyModel.fit(calls[:7])
    with pytest.raises(ConfigError, match="too few"):
        LatencyModel.fit()
    with pytest.raises(ConfigError, match=r"2 models \(p/m, p/other\)"):
        LatencyModel.fit(calls, calls.assign(model="other"))
    with pytest.raises(ConfigError, match="no column 'service_s'"):
        LatencyModel.fit(calls.drop(columns="service_s"))
    with pytest.raises(ConfigError, match="no column 'started_at'"):
        LatencyModel.fit(calls.drop(columns="started_at"))


def test_it_is_kept_as_json(tmp_path: Path) -> None:
    """What is read again is the same model, and says the same."""
    model = LatencyModel.fit(made_calls(lambda i, o, w: 0.5 + 0.01 * o, sigma=0.2))
    again = LatencyModel.load(model.save(tmp_path / "m.json"))
    assert again == model
    assert again.fitted == model.fitted
    assert repr(again) == repr(model)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("{", "no valid JSON"),
        ("[1]", "must hold an object"),
        ('{"base": 1}', "'base' is no field .* 'base_s'"),
        ('{"base_s": -1}', "base_s=-1 must be a number from 0 on"),
        ('{"spread": [2, 1]}', "must not fall"),
        ('{"output_tokens": {"maps": 1}}', "'maps' is no stage; did you mean 'map'"),
        ('{"input_scale": 0}', "above 0"),
    ],
)
def test_wrong_files_are_refused(tmp_path: Path, text: str, wrong: str) -> None:
    """With the file's name and what is wrong with it."""
    path = tmp_path / "model.json"
    path.write_text(text)
    with pytest.raises(ConfigError, match=wrong) as refused:
        LatencyModel.load(path)
    assert "model.json" in str(refused.value)


def test_it_says_what_it_is() -> None:
    """With units, and how well it fits."""
    model = LatencyModel(base_s=0.4, per_output_token_s=0.012, spread=0.2, output_tokens=180)
    assert repr(model) == "LatencyModel(0.4 s + 12 ms/output token, spread 20 %, 180 output tokens)"
    assert repr(LatencyModel.constant(2.0)) == "LatencyModel(2 s)"
    fit = Fit(99, 0.9, 0.04, (1, 2), (1, 2), 1)
    assert "fitted to 99 calls: R² 0.90, median error 4.0%" in repr(model.replace(fitted=fit))


def test_stated_model_in_a_file(tmp_path: Path) -> None:
    """A few fields by hand are enough."""
    path = tmp_path / "m.json"
    path.write_text(json.dumps({"base_s": 1.5, "output_tokens": {"map": 80}}))
    model = LatencyModel.load(path)
    assert model.mean_service_s(10, 10) == 1.5
    assert model.mean_output_tokens(Stage.MAP, 100) == 80
