"""Prices: the table that comes with the toolkit, one's own, and the arithmetic."""

from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from toolkit.config import Config
from toolkit.errors import ConfigError
from toolkit.prices import Price, find_price, list_prices, read_prices, undated
from toolkit.records import Usage


def test_table_is_dated_and_names_its_sources() -> None:
    """A price without a date is worth nothing a month later."""
    text = files("toolkit").joinpath("data/prices.toml").read_text(encoding="utf-8")
    assert re.search(r"As of [A-Z][a-z]+ 20\d\d", text)
    assert text.count("https://") >= 2
    assert len(tomllib.loads(text)) == len(list_prices()) > 20


def test_prices_of_the_table_make_sense() -> None:
    """A figure that slipped into the next field would show: output costs most, cached input least."""
    for model, price in list_prices().items():
        assert 0 < price.input < price.output <= 50, model
        assert price.cached_input is None or price.cached_input < price.input, model
        assert price.cache_write is None or price.cache_write > price.input, model
        assert price.long_input_factor >= 1, model
        assert price.long_output_factor >= 1, model


@pytest.mark.parametrize(
    ("model", "known_as"),
    [
        ("gpt-4o-mini", "gpt-4o-mini"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-05-13"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("gpt-4o-mini-2024-99-99", None),
        ("gpt-4o-mini-audio-preview", None),
        ("gpt-5.2-pro", None),
        ("gpt-5.2-pro-2025-12-11", None),
        ("openai/gpt-4o", None),
        ("GPT-4o", None),
        ("", None),
    ],
)
def test_names_are_exact_but_for_the_date(model: str, known_as: str | None) -> None:
    """A name that merely begins alike may cost ten times as much."""
    expected = None if known_as is None else list_prices()[known_as]
    assert find_price(list_prices(), model) is expected


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("model-20240101-chat", "model-20240101-chat"),
        ("gpt-4-0613", "gpt-4-0613"),
    ],
)
def test_date_is_the_end_of_a_name(model: str, family: str) -> None:
    """As the two vendors write it and no other way."""
    assert undated(model) == family


def test_cost_of_a_call() -> None:
    """Cached and written tokens are priced apart; a long prompt makes all of the call dearer."""
    price = Price(2.0, 10.0, cached_input=0.5, cache_write=2.5)
    usage = Usage(1000, 100, cached_tokens=600, cache_write_tokens=300)
    assert price.cost_usd(usage) == pytest.approx((100 * 2 + 600 * 0.5 + 300 * 2.5 + 100 * 10) / 1e6)
    plain = Price(2.0, 10.0)
    assert plain.cost_usd(usage) == pytest.approx((1000 * 2 + 100 * 10) / 1e6)
    long = Price(2.0, 10.0, long_over_tokens=999, long_input_factor=2, long_output_factor=1.5)
    assert long.cost_usd(usage) == pytest.approx((1000 * 4 + 100 * 15) / 1e6)
    assert long.cost_usd(Usage(999, 100)) == pytest.approx((999 * 2 + 100 * 10) / 1e6)
    assert price.cost_usd(Usage(0, 0)) == 0


@pytest.mark.parametrize("number", [-1, -0.001, float("nan"), float("inf"), "2", None, True])
@pytest.mark.parametrize("field", ["input", "output", "cached_input"])
def test_number_that_is_no_price_is_refused(field: str, number: Any) -> None:
    """A negative price would earn money, and NaN would make every sum one."""
    if number is None and field == "cached_input":
        return
    row = {"input": 1.0, "output": 2.0, field: number}
    with pytest.raises(ConfigError, match=f"'mine'.*{field}"):
        read_prices({"mine": row})
    with pytest.raises(ConfigError, match="prices"):
        Config(provider="openai", prices={"mine": row})


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"mine": {"input": 1}}, "'mine' has no 'output' price"),
        (
            {"mine": {"input": 1, "output": 2, "cached": 1}},
            "'cached' is unknown; did you mean 'cached_input'",
        ),
        ({"mine": 3}, "'mine' must be a table"),
        ({"gpt-4": {"1": {"input": 1, "output": 2}}}, "needs quotes|is unknown"),
    ],
)
def test_wrong_row_is_refused_with_its_name(table: dict[str, Any], says: str) -> None:
    """Also a name with a dot that was not quoted, which TOML reads as a table within a table."""
    with pytest.raises(ConfigError, match=says):
        read_prices(table)


def test_file_of_ones_own(tmp_path: Path) -> None:
    """The same format as the built-in table; what is wrong is said with the file's name."""
    path = tmp_path / "mine.toml"
    path.write_text('["my.model"]\ninput = 1\noutput = 2.5\n', encoding="utf-8")
    assert read_prices(path)["my.model"] == Price(1, 2.5)
    assert read_prices(Config(provider="openai", prices=path).prices)["my.model"].output == 2.5
    path.write_text("[broken", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine\.toml: is no valid TOML"):
        read_prices(path)
    with pytest.raises(ConfigError, match=r"missing\.toml: cannot be read"):
        read_prices(tmp_path / "missing.toml")
    assert read_prices(None) == {}
