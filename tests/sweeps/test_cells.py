"""Which cells a sweep has, and in which order they are measured."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolkit.config import Config
from toolkit.errors import ConfigError
from toolkit.records import Episode
from toolkit.sweeps.cells import Cell, make_cells, shuffled

BASE = Config(provider="scripted")
TEXTS = [Episode.from_text("e", "Hill dries.")]


def cells(
    grid: Any = None, *, listed: Any = None, sample: int | None = None, seed: int = 0, base: Config = BASE
) -> list[Cell]:
    return make_cells(base, TEXTS, grid, listed, sample, seed)


def knobs(found: list[Cell]) -> list[tuple[Any, ...]]:
    return [tuple(cell.knobs.values()) for cell in found]


def test_a_grid_is_every_combination_the_last_field_fastest() -> None:
    """Numbers count from 1 and each config has its knobs."""
    found = cells({"summary_batch_size": [1, 2], "chunk_tokens": [64, 128]})
    assert knobs(found) == [(1, 64), (1, 128), (2, 64), (2, 128)]
    assert [cell.number for cell in found] == [1, 2, 3, 4]
    assert [cell.config.chunk_tokens for cell in found] == [64, 128, 64, 128]
    assert len({cell.key for cell in found}) == 4


def test_values_of_any_kind_of_list_do() -> None:
    """Ranges, tuples, generators and NumPy's arrays hold values; NumPy's numbers become Python's."""
    for values in (range(1, 4), (1, 2, 3), (n for n in (1, 2, 3)), np.arange(1, 4)):
        found = cells({"summary_batch_size": values})
        assert knobs(found) == [(1,), (2,), (3,)]
        assert all(type(cell.knobs["summary_batch_size"]) is int for cell in found)


def test_a_list_of_cells_may_set_different_fields() -> None:
    """What a cell does not set is the common config's, and stands among its knobs too."""
    found = cells(listed=[{"summary_batch_size": 4}, {"chunk_tokens": 64, "temperature": 0.5}])
    assert knobs(found) == [(4, None, 0.0), (1, 64, 0.5)]


@given(
    sizes=st.lists(st.integers(1, 5), min_size=1, max_size=3), sample=st.integers(1, 200), seed=st.integers(0)
)
def test_a_sample_is_of_different_cells_of_the_grid(sizes: list[int], sample: int, seed: int) -> None:
    """As many as are asked for, or all; in the grid's order; the same for one seed."""
    names = ("summary_batch_size", "summary_chunk_parallelism", "max_attempts")
    grid = {name: list(range(1, size + 1)) for name, size in zip(names, sizes, strict=False)}
    whole = knobs(cells(grid))
    found = knobs(cells(grid, sample=sample, seed=seed))
    assert len(found) == min(sample, math.prod(sizes))
    assert [point for point in whole if point in set(found)] == found
    assert found == knobs(cells(grid, sample=sample, seed=seed))


def test_a_sample_of_a_huge_grid_needs_no_memory_for_it() -> None:
    """10^12 combinations are drawn from by number."""
    names = ("summary_batch_size", "summary_chunk_parallelism", "openai_max_concurrent_requests")
    grid = {**dict.fromkeys(names[:2], range(1, 1001)), names[2]: range(1, 1_000_001)}
    assert len(cells(grid, sample=5)) == 5


@given(seed=st.integers(0, 1000), log=st.booleans())
def test_a_range_is_drawn_from_within_its_ends(seed: int, log: bool) -> None:
    """Whole numbers stay whole, all points differ, and lists may stand beside ranges."""
    grid = {
        "summary_batch_size": {"low": 1, "high": 64, "log": log},
        "temperature": {"low": 0.5, "high": 1.5},
        "chunk_tokens": [64, 128],
    }
    found = knobs(cells(grid, sample=8, seed=seed))
    assert len(set(found)) == 8
    for batch, temperature, tokens in found:
        assert isinstance(batch, int)
        assert 1 <= batch <= 64
        assert 0.5 <= temperature <= 1.5
        assert tokens in (64, 128)


def test_by_order_of_magnitude_each_has_its_share() -> None:
    """Of 1 to 1000 a good third lies below 10, where an even draw has a hundredth."""
    grid = {
        "openai_max_concurrent_requests": {"low": 1, "high": 1000, "log": True},
        "temperature": {"low": 0, "high": 1},
    }
    small = sum(value < 10 for value, _ in knobs(cells(grid, sample=600)))
    assert 150 < small < 260


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        ({}, "the grid is empty"),
        ({"chunk_tokens": []}, "no values for chunk_tokens"),
        ({"chunk_tokens": 64}, r"give a list of values, \[64\]"),
        ({"provider": "openai"}, r"give a list of values, \['openai'\]"),
        ({"chunk_token": [64]}, "'chunk_token' is no setting; nearest are chunk_tokens"),
        ({"batch_size": [1]}, "nearest are summary_batch_size"),
        ({"xyzzy": [1]}, "'xyzzy' is no setting; toolkit.Config has them all"),
        ({"repeat": [1, 2]}, "repeats="),
        ({"reuse": ["all"]}, "never takes another's"),
        ({"store_url": ["memory://"]}, "one store"),
        ({"budget_usd": [1.0]}, "one budget"),
        ({"openai_api_key": ["sk-123456789"]}, "it is a secret"),
        ({"chunk_tokens": {"low": 64, "high": 32}}, "a below b"),
        ({"chunk_tokens": {"low": 32, "high": 64}}, "add sample="),
        ({"temperature": {"low": 0, "high": 1, "log": True}}, "must be above 0"),
        ({"chunk_tokens": {"low": 32.5, "high": 64}}, "is a whole number"),
        ({"provider": {"low": 1, "high": 2}}, "is no number"),
        ("chunk_tokens", "must be a mapping"),
    ],
)
def test_what_is_no_grid_is_told_in_a_sentence(given_: Any, message: str) -> None:
    """Before anything runs, with what to do."""
    with pytest.raises(ConfigError, match=message):
        cells(given_)


def test_no_secret_is_shown_in_what_is_refused() -> None:
    """A key that was put into a grid is not repeated."""
    with pytest.raises(ConfigError) as caught:
        cells({"openai_api_key": ["sk-123456789"]})
    assert "123456789" not in str(caught.value)


@pytest.mark.parametrize(
    ("listed", "message"),
    [
        ([], "cells is empty"),
        ([{"summary_batch_size": 1}, 3], "cell 2 is 3"),
        ({"summary_batch_size": 1}, "must be a list of settings"),
        ([{"summary_batch_size": 1}, {}], "cells 1 and 2 are the same"),
    ],
)
def test_what_is_no_list_of_cells_is_told_in_a_sentence(listed: Any, message: str) -> None:
    """Also two that come to the same because one is the default."""
    with pytest.raises(ConfigError, match=message):
        cells(listed=listed)


def test_all_values_that_are_refused_are_named_with_their_cells() -> None:
    """One error for all of them, so that nobody has to start four times."""
    with pytest.raises(ConfigError) as caught:
        cells({"summary_batch_size": [1, 0], "temperature": [0.0, 9.0]})
    said = str(caught.value)
    assert "3 of 4 cells cannot be" in said
    assert "cell 2 (summary_batch_size=1, temperature=9.0)" in said
    assert "cell 4" in said
    assert set(caught.value.settings) == {"summary_batch_size", "temperature"}


def test_fields_that_do_not_go_together_are_refused_for_their_cell() -> None:
    """An overlap fits one chunk size and not another."""
    with pytest.raises(
        ConfigError, match=r"1 of 2 cells.*\ncell 2 .*chunk_overlap_tokens=100 is more than half"
    ):
        cells({"chunk_tokens": [400, 64]}, base=Config(provider="scripted", chunk_overlap_tokens=100))


def test_either_a_grid_or_a_list() -> None:
    """Both or neither say nothing."""
    for grid, listed in ((None, None), ({"seed": [1]}, [{"seed": 1}])):
        with pytest.raises(ConfigError, match="either a grid"):
            cells(grid, listed=listed)


def test_ranges_that_are_too_narrow_are_told() -> None:
    """Three different settings cannot be drawn of two."""
    with pytest.raises(ConfigError, match="hold only about 2"):
        cells({"summary_batch_size": {"low": 1, "high": 2}}, sample=3)


def test_a_key_is_of_all_settings_and_of_the_episodes() -> None:
    """What a budget or a store is does not change it; what is measured does."""
    (one,) = cells({"seed": [1]})
    (same,) = cells({"seed": [1]}, base=Config(provider="scripted", budget_calls=9, stop_grace_s=1))
    (other,) = cells({"seed": [1]}, base=Config(provider="scripted", temperature=1))
    (longer,) = make_cells(BASE, [*TEXTS, Episode.from_text("f", "More.")], {"seed": [1]}, None, None, 0)
    assert one.key == same.key
    assert len({one.key, other.key, longer.key}) == 3


@given(count=st.integers(1, 9), repeats=st.integers(1, 5), seed=st.integers(0, 99))
def test_each_repeat_goes_over_all_cells_once(count: int, repeats: int, seed: int) -> None:
    """A block is a permutation of the cells: none is measured twice before all were once."""
    found = cells({"summary_batch_size": range(1, count + 1)})
    order = shuffled(found, range(1, repeats + 1), seed)
    for block in range(repeats):
        part = order[block * count : (block + 1) * count]
        assert {repeat for _, repeat in part} == {block + 1}
        assert Counter(cell.number for cell, _ in part) == Counter(range(1, count + 1))
    assert order == shuffled(found, range(1, repeats + 1), seed)


def test_blocks_differ_and_so_do_seeds() -> None:
    """An order that came back in each repeat would measure a drift as an effect."""
    found = cells({"summary_batch_size": range(1, 9)})
    orders = [
        tuple(cell.number for cell, _ in shuffled(found, [repeat], seed))
        for repeat in (1, 2)
        for seed in (0, 1)
    ]
    assert len(set(orders)) == 4
    assert tuple(range(1, 9)) not in orders
