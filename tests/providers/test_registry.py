"""From a name to a provider: built in, or announced by another package that is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from toolkit.config import Config
from toolkit.errors import ConfigError, MissingDependency
from toolkit.providers.registry import PROVIDERS, get_provider, provider_class, provider_names
from toolkit.providers.scripted import ScriptedSummarizationProvider
from toolkit.records import Status

ECHO = """
from toolkit.providers.base import SummarizationProvider
from toolkit.records import Reply, Usage

NOT_A_CLASS = 4


class Echo(SummarizationProvider):
    name = "echo"
    default_model = "echo-1"

    def generate(self, request):
        words = request.prompt.split()
        return Reply("Heard " + str(len(words)) + " words.", Usage(len(words), 3))


class NoModel(Echo):
    default_model = None


class NoName(SummarizationProvider):
    default_model = "m"

    def generate(self, request):
        raise AssertionError


class NoGenerate(SummarizationProvider):
    name = "mute"
    default_model = "m"
"""

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a package of one module that announces a provider: ``install(module_code, entry_points)``."""

    def install(code: str, points: str) -> None:
        (tmp_path / "plugin_under_test.py").write_text(code)
        info = tmp_path / "plugin_under_test-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-under-test\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[toolkit.providers]\n{points}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "plugin_under_test", raising=False)

    return install


@pytest.mark.parametrize("name", sorted(PROVIDERS))
def test_built_in_names_lead_to_their_classes(name: str) -> None:
    """A row of the registry whose string has a typing error is noticed."""
    assert provider_class(name).name == name


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("scriptd", "did you mean 'scripted'"),
        ("transformer", "did you mean 'transformers'"),
        ("zzz", "known are"),
    ],
)
def test_unknown_provider_names_the_nearest(wrong: str, says: str) -> None:
    """A misspelt provider is refused with the right spelling, or with all names."""
    with pytest.raises(ConfigError, match=f"provider '{wrong}' is unknown; {says}"):
        get_provider(Config(provider=wrong))


def test_nearest_name_knows_other_packages(install: Install) -> None:
    """A provider of another package is among the names that are suggested."""
    install(ECHO, "echo = plugin_under_test:Echo")
    assert "echo" in provider_names()
    with pytest.raises(ConfigError, match="did you mean 'echo'"):
        get_provider(Config(provider="ecko"))


def test_config_chooses_the_provider() -> None:
    """The class and the config are those that were asked for."""
    config = Config(provider="scripted", model="mine")
    provider = get_provider(config)
    assert type(provider) is ScriptedSummarizationProvider
    assert provider.config is config
    assert provider.model == "mine"


def test_provider_of_another_package_works_with_name_and_generate_alone(install: Install) -> None:
    """Name and ``generate`` are all that a new provider needs, for short texts and for long ones."""
    install(ECHO, "echo = plugin_under_test:Echo")
    provider = get_provider(Config(provider="echo", chunk_tokens=64, direct_prompt="{text}"))
    short = provider.summarize("Bees dance.")
    assert (short.status, short.text) == (Status.OK, "Heard 2 words.")
    long = provider.summarize("Bees dance in the hive.\n" * 60, {"chunk_parallelism": 3})
    assert (long.status, long.error) == (Status.OK, None)
    assert long.chunks > 3
    assert {(call.provider, call.model, call.status) for call in long.calls} == {
        ("echo", "echo-1", Status.OK)
    }


def test_provider_without_a_model_asks_for_one(install: Install) -> None:
    """Where neither config nor provider names a model, the missing setting is named."""
    install(ECHO, "echo = plugin_under_test:NoModel")
    with pytest.raises(ConfigError, match="'echo' has no default model; set model="):
        get_provider(Config(provider="echo"))
    assert get_provider(Config(provider="echo", model="m")).model == "m"


def test_missing_package_gives_the_install_line(install: Install) -> None:
    """A provider whose vendor's package is not there says what to install, and for which provider."""
    install("import vendor_sdk_of_nobody.client\n" + ECHO, "echo = plugin_under_test:Echo")
    with pytest.raises(MissingDependency, match="python -m pip install vendor_sdk_of_nobody") as caught:
        get_provider(Config(provider="echo"))
    assert str(caught.value).startswith("provider 'echo' needs the package 'vendor_sdk_of_nobody'")
    assert caught.value.package == "vendor_sdk_of_nobody"
    assert isinstance(caught.value, ImportError)


@pytest.mark.parametrize(
    ("point", "says"),
    [
        ("plugin_under_test:NOT_A_CLASS", "is no subclass of SummarizationProvider"),
        ("plugin_under_test:Reply", "is no subclass of SummarizationProvider"),
        ("plugin_under_test:Missing", "plugin_under_test has no 'Missing'"),
        ("plugin_under_test:NoName", "does not state name"),
        ("plugin_under_test:NoGenerate", "does not state generate"),
        ("plugin_under_test:SummarizationProvider", "does not state name and generate"),
    ],
)
def test_thing_that_is_no_provider_is_refused(install: Install, point: str, says: str) -> None:
    """What is announced and cannot summarize is refused when it is asked for, not in the middle of a run."""
    install(ECHO, f"echo = {point}")
    with pytest.raises(ConfigError, match=says):
        provider_class("echo")


def test_bug_in_a_module_is_shown_as_it_is(install: Install) -> None:
    """A mistake in another package's module is not passed off as a missing name."""
    install("import math\nmath.no_such_function\n", "echo = plugin_under_test:Echo")
    with pytest.raises(AttributeError, match="no_such_function"):
        provider_class("echo")


def test_built_in_provider_cannot_be_replaced_by_another_package(install: Install) -> None:
    """A package that announces a built-in name does not get the texts meant for it."""
    install(ECHO, "scripted = plugin_under_test:Echo")
    assert provider_class("scripted") is ScriptedSummarizationProvider
