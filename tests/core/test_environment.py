"""Where settings come from: words of a command line, the environment, and which source goes first."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from toolkit.config import Config
from toolkit.environment import merge_settings, parse_setting
from toolkit.errors import ConfigError

FIRST = "postgresql+psycopg://anna@db.test/runs"
SECOND = "postgresql+psycopg://anna@other.test/runs"


def with_password(url: str, password: str) -> str:
    return url.replace("@", f":{password}@")


@pytest.fixture(autouse=True)
def no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take back what keeps other tests' runs in memory: here it is asked what Config makes of nothing."""
    monkeypatch.delenv("TOOLKIT_STORE_URL", raising=False)


INSIDE = {"store_url": with_password(FIRST, "one")}


@pytest.mark.parametrize(
    ("typed", "name", "value"),
    [
        ("seed=4", "seed", 4),
        ("temperature=0.5", "temperature", 0.5),
        ("trust_remote_code=true", "trust_remote_code", True),
        ("provider=openai", "provider", "openai"),
        ('provider="openai"', "provider", "openai"),
        ("model=meta/llama-3.1=x", "model", "meta/llama-3.1=x"),
        ("device=cuda:0", "device", "cuda:0"),
        (" seed = 4", "seed", 4),
        ("device = cpu ", "device", "cpu"),
        ("system_prompt=", "system_prompt", ""),
        ("system_prompt=Sum up.\nseed = 4", "system_prompt", "Sum up.\nseed = 4"),
        ("system_prompt=1\nseed = 4", "system_prompt", "1\nseed = 4"),
    ],
)
def test_setting_typed_at_a_command_line(typed: str, name: str, value: object) -> None:
    """A value is read as TOML where it is TOML, and else taken as it was typed."""
    assert parse_setting(typed) == (name, value)


@pytest.mark.parametrize("typed", ["seed", "", "=4", "  =4"])
def test_setting_without_name_or_equals_is_refused(typed: str) -> None:
    """What is no assignment is refused and not guessed at."""
    with pytest.raises(ConfigError, match="write name=value"):
        parse_setting(typed)


@settings(deadline=None, max_examples=100)
@given(st.text(max_size=30))
def test_any_typed_text_is_taken_or_refused(value: str) -> None:
    """No text after ``=`` breaks the reader; what is no TOML comes back as it was, but for its margins."""
    name, parsed = parse_setting(f"model={value}")
    assert name == "model"
    if parsed != value.strip():
        assert repr(tomllib.loads(f"value = {value.strip()}")) == repr({"value": parsed})


@pytest.mark.parametrize(
    "typed",
    [
        "postgresql+psycopg://anna:hunter2@db.test/runs",
        "postgresql+psycopg://anna:hunter2=x@db.test/runs",
        "postgresql+psycopg://db.test/runs?password=hunter2",
        "store_url:postgresql+psycopg://anna:hunter2@db.test/runs",
    ],
)
def test_an_address_without_its_name_is_not_shown(typed: str) -> None:
    """Who forgets ``store_url=`` does not have the password printed to the terminal, nor taken for a name."""
    with pytest.raises(ConfigError, match="write name=value") as caught:
        parse_setting(typed)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("sources", "address", "password"),
    [
        # A source's own two settings.
        ([INSIDE], FIRST, "one"),
        ([{"store_url": FIRST, "store_password": "one"}], FIRST, "one"),
        ([{"store_url": with_password(FIRST, "p%40"), "store_password": "p@"}], FIRST, "p@"),
        ([{"store_url": with_password(FIRST, "one"), "store_password": None}], FIRST, "one"),
        ([{"store_url": with_password(FIRST, "one"), "store_password": ""}], FIRST, "one"),
        # A later source goes before an earlier one, in either form.
        ([{"store_password": "one"}, {"store_url": with_password(FIRST, "two")}], FIRST, "two"),
        ([INSIDE, {"store_password": "two"}], FIRST, "two"),
        ([INSIDE, {"store_password": None}], FIRST, None),
        ([INSIDE, {"store_url": with_password(SECOND, "two")}], SECOND, "two"),
        # A password of its own goes with any address.
        ([{"store_password": "one"}, {"store_url": SECOND}], SECOND, "one"),
        ([{"store_url": FIRST, "store_password": "one"}, {"store_url": SECOND}], SECOND, "one"),
        ([INSIDE, {"store_password": "two"}, {"store_url": SECOND}], SECOND, "two"),
        # One inside an address is for that address.
        ([INSIDE, {"store_url": SECOND}], SECOND, None),
        ([INSIDE, {"store_url": None}], None, None),
        ([INSIDE, {"store_url": FIRST}], FIRST, "one"),
        (
            [INSIDE, {"store_url": FIRST.replace("/runs", ":5432/runs")}],
            FIRST.replace("/runs", ":5432/runs"),
            "one",
        ),
        ([INSIDE, {"seed": 1}], FIRST, "one"),
        ([INSIDE, {"store_url": SECOND}, {"store_url": FIRST}], FIRST, None),
    ],
)
def test_a_password_inside_an_address_is_for_that_address(
    sources: list[dict[str, Any]], address: str | None, password: str | None
) -> None:
    """No source's password is sent to a server that another source names, and none is lost on its own."""
    before = [dict(source) for source in sources]
    merged = merge_settings(*sources)
    assert (merged["store_url"], merged.get("store_password")) == (address, password)
    assert sources == before


@pytest.mark.parametrize("given_as", [str, SecretStr])
def test_two_passwords_of_one_source_are_refused(given_as: type) -> None:
    """Neither is guessed at, and neither is shown."""
    two = {"store_url": with_password(FIRST, "hunter2"), "store_password": given_as("swordfish")}
    with pytest.raises(ConfigError, match="another password than store_password") as caught:
        merge_settings(two)
    assert caught.value.settings == ("store_url", "store_password")
    assert not any(word in str(caught.value) for word in ("hunter2", "swordfish"))
    same = {"store_url": with_password(FIRST, "hunter2"), "store_password": given_as("hunter2")}
    assert merge_settings(same)["store_password"] == "hunter2"


def test_later_sources_go_before_earlier_ones() -> None:
    """Defaults apart, a setting has the value of the last source that holds it."""
    assert merge_settings({"seed": 1, "model": "a"}, {"seed": 2}, {}) == {"seed": 2, "model": "a"}


def test_two_passwords_in_the_environment_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell with two that differ is told so, and one that the program gives goes before both forms."""
    monkeypatch.setenv("TOOLKIT_STORE_URL", with_password(FIRST, "hunter2"))
    monkeypatch.setenv("TOOLKIT_STORE_PASSWORD", "hunter2")
    assert Config().store_url == FIRST
    monkeypatch.setenv("TOOLKIT_STORE_PASSWORD", "swordfish")
    with pytest.raises(ConfigError, match="another password than store_password"):
        Config()
