"""What the functions are given: wrong kinds are refused at the entry of each, in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import toolkit as tk
from toolkit.arguments import MOST_TOKENS, check_kind, read_episodes

EPISODE = tk.Episode.from_text("a", "Rain fell.")
SCRIPTED = tk.Config(provider="scripted", store_url="memory://")
CONFIGURED: dict[str, Callable[..., Any]] = {
    "run": lambda **given: tk.run([EPISODE], **given),
    "start": lambda **given: tk.start([EPISODE], **given),
    "plan": lambda **given: tk.plan([EPISODE], **given),
    "compare_plans": lambda config: tk.compare_plans([EPISODE], {"one": SCRIPTED, "config": config}),
    "simulate": lambda **given: tk.simulate([EPISODE], **{"latency": 1.0, **given}),
    "sweep": lambda **given: tk.sweep([EPISODE], grid={"seed": [1, 2]}, **given),
    "tune": lambda **given: tk.tune([EPISODE], over={"seed": [1, 2]}, **given),
    "get_provider": tk.get_provider,
}
TIMED: dict[str, Callable[..., Any]] = {
    "plan": lambda latency: tk.plan([EPISODE], SCRIPTED, latency=latency),
    "compare_plans": lambda latency: tk.compare_plans([EPISODE], {"one": SCRIPTED}, latency=latency),
    "simulate": lambda latency: tk.simulate([EPISODE], SCRIPTED, latency=latency),
    "sweep": lambda latency: tk.sweep(
        [EPISODE], SCRIPTED, {"seed": [1, 2]}, simulate=True, latency=latency, progress=False
    ),
    "tune": lambda latency: tk.tune([EPISODE], SCRIPTED, {"seed": [1, 2]}, latency=latency, progress=False),
}


@pytest.mark.parametrize("given", [{"openai_api_key": "sk-secret"}, "openai", 2.0, True, tk.Config])
@pytest.mark.parametrize("function", CONFIGURED)
def test_what_is_no_config_is_refused(function: str, given: Any) -> None:
    """Before anything is asked; a key that stands in it is not shown."""
    with pytest.raises(tk.ConfigError, match=r"config'?\]?= is .*; give a Config") as caught:
        CONFIGURED[function](config=given)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("given", [{"base_s": 1.0}, "latency.json", True, tk.LatencyModel])
@pytest.mark.parametrize("function", TIMED)
def test_what_is_no_latency_is_refused(function: str, given: Any) -> None:
    """A file is read with ``LatencyModel.load``, and the class itself says nothing of any time."""
    with pytest.raises(tk.ConfigError, match=r"^latency= is .*; give .*LatencyModel"):
        TIMED[function](given)


@pytest.mark.parametrize("function", ["simulate", "sweep", "tune"])
def test_seconds_of_each_call_are_a_latency(function: str) -> None:
    """Where calls are played, one number does for all of them."""
    TIMED[function](2)


def test_a_plan_takes_no_seconds() -> None:
    """It says how to write them."""
    with pytest.raises(tk.ConfigError, match=r"is of type float; .*LatencyModel\.constant\(2\.0\)"):
        TIMED["plan"](2.0)


@pytest.mark.parametrize("given", [{"cores": 4, "memory_gb": 8.0}, "cpu", 8.0, tk.Machine])
@pytest.mark.parametrize("function", ["plan", "compare_plans"])
def test_what_is_no_machine_is_refused(function: str, given: Any) -> None:
    """Its numbers alone are none."""
    configs: Any = SCRIPTED if function == "plan" else {"one": SCRIPTED}
    with pytest.raises(tk.ConfigError, match=r"^machine= is .*; give a Machine"):
        getattr(tk, function)([EPISODE], configs, machine=given)


@pytest.mark.parametrize("function", ["run", "start", "simulate", "sweep", "tune"])
def test_the_name_of_a_provider_is_no_provider(function: str) -> None:
    """The error says where the name goes."""
    with pytest.raises(tk.ConfigError, match=r"^provider= is of type str; .*Config\(provider="):
        CONFIGURED[function](provider="openai")


def test_a_flag_is_no_number() -> None:
    """For Python it would be 1."""
    with pytest.raises(tk.ConfigError, match="x= is of type bool; give a number"):
        check_kind("x", True, int, "give a number")
    check_kind("x", 1, int, "give a number")


# Episodes


@pytest.mark.parametrize("given", ["data/episodes", b"text", EPISODE, None, 7, {"a": EPISODE}])
def test_what_holds_no_episodes_is_refused_at_once(given: Any) -> None:
    """Not at the first step of a generator, which may come when a model is loaded already."""
    for sizes in (False, True):
        with pytest.raises(tk.ConfigError, match="must be a list of Episode objects"):
            read_episodes(given, sizes=sizes)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["text"], "str is no Episode"),
        ([EPISODE, None], "NoneType is no Episode"),
        ([1.5], r"1\.5 is no Episode"),
        ([True], "True is no Episode"),
        ([-1], "-1 is no Episode"),
        ([MOST_TOKENS + 1], "100000001 is no Episode"),
        ([EPISODE, EPISODE], "two episodes have the id 'a'"),
        ([tk.Episode.from_text("a\0", ""), tk.Episode.from_text("a\ufffd", "")], "two episodes have the id"),
        ([7, tk.Episode.from_text("e0", "")], "two episodes have the id 'e0'"),
    ],
)
def test_what_is_no_episode_is_refused_everywhere_alike(given: list[Any], said: str) -> None:
    """A plan and a simulation take what a run takes, and the numbers of tokens besides."""
    with pytest.raises(tk.ConfigError, match=said):
        tk.plan(given, SCRIPTED)
    with pytest.raises(tk.ConfigError, match=said):
        tk.simulate(given, SCRIPTED, latency=1.0)
    if not isinstance(given[0], int) or isinstance(given[0], bool):
        for real in (tk.run, tk.start):
            with pytest.raises(tk.ConfigError, match=said):
                real(given, SCRIPTED)


def test_a_run_takes_no_numbers() -> None:
    """Of a text that is not at hand nothing can be asked."""
    with pytest.raises(tk.ConfigError, match=r"^7 is no Episode; use load_episodes"):
        tk.run([7], SCRIPTED)  # type: ignore[list-item]


def test_episodes_are_read_one_by_one() -> None:
    """A generator is not read ahead, and numbers of NumPy become Python's."""
    taken = []

    def source() -> Iterator[tk.Episode | int]:
        for size in np.array([3, 0]):
            taken.append(size)
            yield size

    read = read_episodes(source(), sizes=True)
    assert not taken
    assert [type(size) for size in read] == [int, int]
