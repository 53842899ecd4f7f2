"""Wrong options are refused with one sentence that names the option."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest

from toolkit.errors import ConfigError, ToolkitError
from toolkit.testing import ApiServer, Latency, ModelSpec, ServerOptions
from toolkit.testing.options import read_options


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"law": "opanai"}, "law='opanai'"),
        ({"requests_per_minut": 5}, "did you mean 'requests_per_minute'"),
        ({"requests_per_minute": 0}, "requests_per_minute=0"),
        ({"requests_per_minute": 1.5}, "requests_per_minute=1.5"),
        ({"max_concurrent": True}, "max_concurrent=True"),
        ({"charge": "most"}, "charge='most'"),
        ({"faults": {"50": 0.1}}, "'50' is no fault"),
        ({"faults": {"500": 1.5}}, "1.5"),
        ({"faults": {"500": 0.6, "reset": 0.6}}, "1.2 together"),
        ({"faults": "500"}, "faults="),
        ({"faults": ["500", "rest"]}, "did you mean 'reset'"),
        ({"latency": -1}, "base_s=-1"),
        ({"slow_s": "long"}, "slow_s='long'"),
        ({"headers": "none"}, "headers='none'"),
        ({"overload": "429"}, "overload='429'"),
        ({"pool_by": "user"}, "pool_by='user'"),
        ({"models": []}, "models=[]"),
        ({"models": [3]}, "3 is neither"),
        ({"models": [{"nme": "x"}]}, "models:"),
        ({"request_windows_s": (0,)}, "request_windows_s"),
        ({"retry_after": 1}, "retry_after=1"),
        ({"key": ""}, "key:"),
        ({"port": 70_000}, "port=70000"),
        ({"law": "anthropic", "tokens_per_minute": 5}, "input_tokens_per_minute"),
        ({"law": "anthropic", "charge": "sum"}, "charge does not go"),
        ({"input_tokens_per_minute": 5}, "tokens_per_minute"),
    ],
)
def test_wrong_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ApiServer(**options)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_keys_are_not_shown() -> None:
    options = ServerOptions(key="secret")
    assert "secret" not in repr(options)
    with pytest.raises(ConfigError) as caught:
        ServerOptions(key=["secret", 3])  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)


def test_json_is_the_way_to_another_process() -> None:
    """Options that went through JSON are the same; fails for a field that JSON cannot hold."""
    options = ServerOptions(
        law="azure",
        latency=Latency(0.1, sigma=0.2),
        faults=["500", None],
        models=("a", ModelSpec("b", 10, 5)),
        key="k",
        request_windows_s=(5,),
    )
    assert read_options(json.loads(json.dumps(options.to_json()))) == options


def test_the_signature_shows_the_options() -> None:
    assert set(inspect.signature(ApiServer).parameters) == {*ServerOptions.__slots__, "clock", "port"}


def test_addresses_need_a_running_server() -> None:
    with pytest.raises(ToolkitError, match="does not run"):
        _ = ApiServer().base_url


def test_a_taken_port_is_an_error() -> None:
    with ApiServer() as server, pytest.raises(ToolkitError, match="cannot listen"):
        ApiServer(port=server.port).start()
