"""Config's settings of store and budget: what they take, where the password goes, and that none sees it."""

from __future__ import annotations

import copy
import json
import pickle
import pickletools
import traceback
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from toolkit.config import Config, ConfigWarning
from toolkit.errors import ConfigError

PLAIN = "postgresql+psycopg://anna@db.test:5432/runs"
OTHER = "postgresql+psycopg://anna@other.test:5432/runs"
SECRET = "p@ss/w%rd-Geheim"
ESCAPED = "p%40ss%2Fw%25rd-Geheim"
PIECE = "Geheim"
FULL = f"postgresql+psycopg://anna:{ESCAPED}@db.test:5432/runs"
SECRETS = {"store_password", "limits_password", "openai_api_key", "azure_api_key", "anthropic_api_key"}


@pytest.fixture(autouse=True)
def no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take back what keeps other tests' runs in memory: here it is asked what Config makes of nothing."""
    monkeypatch.delenv("TOOLKIT_STORE_URL", raising=False)


def password_of(config: Config) -> str | None:
    secret = config.store_password
    return None if secret is None else secret.get_secret_value()


DEFAULTS = {
    "store_url": None,
    "store_password": None,
    "store_text": True,
    "store_wait_s": 60,
    "reuse": "all",
    "repeat": 1,
    "budget_usd": None,
    "budget_tokens": None,
    "budget_calls": None,
    "budget_name": None,
    "stop_grace_s": 30,
}


def test_defaults() -> None:
    """A run whose config says nothing of it is kept with its texts, is reused, and has no budget."""
    config = Config()
    assert {name: getattr(config, name) for name in DEFAULTS} == DEFAULTS


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("store_wait_s", -1, "greater than or equal to 0"),
        ("store_wait_s", 86_401, "less than or equal to 86400"),
        ("reuse", "some", "'all', 'run' or 'none'"),
        ("repeat", 0, "greater than or equal to 1"),
        ("budget_usd", 0, "greater than 0"),
        ("budget_usd", float("inf"), "finite"),
        ("budget_tokens", 0, "greater than or equal to 1"),
        ("budget_calls", 0, "greater than or equal to 1"),
        ("budget_name", "", "at least 1 character"),
        ("budget_name", "x" * 201, "at most 200 characters"),
        ("stop_grace_s", -1, "greater than or equal to 0"),
        ("stop_grace_s", 3601, "less than or equal to 3600"),
        ("store_text", "perhaps", "boolean"),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: object, says: str) -> None:
    """The error names the setting, what was given and what would be right."""
    with pytest.raises(ConfigError) as caught:
        Config(**{name: value})
    assert str(caught.value).startswith(f"{name}={value!r}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    "values",
    [
        {"store_wait_s": 0, "stop_grace_s": 0},
        {"store_wait_s": 86_400, "stop_grace_s": 3600},
        {"budget_name": "x" * 200, "budget_calls": 1},
        {"budget_name": "thesis", "budget_tokens": 1},
        {"budget_name": "thesis", "budget_usd": 0.01},
        {"store_text": False, "reuse": "all"},
        {"store_text": False, "reuse": "run"},
        {"store_url": "memory://"},
        {"store_url": "sqlite:///runs.db"},
        {"store_url": PLAIN},
    ],
)
def test_values_in_range_are_taken(values: dict[str, Any]) -> None:
    """The bounds belong to the range; texts may be left out and those of older runs be reused."""
    config = Config(**values)
    assert {name: getattr(config, name) for name in values} == values


def test_a_name_of_a_budget_needs_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who names a budget and sets none would think that there is one."""
    with pytest.raises(ConfigError, match="budget_name='thesis' shares a budget, but none is set"):
        Config(budget_name="thesis")
    with pytest.raises(ConfigError, match="budget_name='thesis'"):
        Config(budget_name="thesis", budget_calls=2).replace(budget_calls=None)
    monkeypatch.setenv("TOOLKIT_BUDGET_USD", "2.5")
    assert Config(budget_name="thesis").budget_usd == 2.5


def test_limits_of_several_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their address gives its password up like the store's, and what is none is refused and not shown."""
    assert Config(limits_url="sqlite:///limits.db").limits_url == "sqlite:///limits.db"
    config = Config(limits_url=FULL, store_url=OTHER)
    assert (config.limits_url, config.store_url) == (PLAIN, OTHER)
    assert config.limits_password is not None
    assert config.limits_password.get_secret_value() == SECRET
    assert config.store_password is None
    assert PIECE not in repr(config) + str(config.shown())
    assert config.replace(limits_url=OTHER).limits_password is None
    assert config.replace(store_url=PLAIN).limits_password == config.limits_password
    there = pickle.loads(pickle.dumps(config))
    assert (there.limits_url, there.limits_password) == (PLAIN, None)
    monkeypatch.setenv("TOOLKIT_LIMITS_PASSWORD", "the worker's")
    assert pickle.loads(pickle.dumps(config)).limits_password == SecretStr("the worker's")
    for url in (
        f"postgresql://db.test/runs?password={PIECE}",
        f"http:/{PIECE}",
        PLAIN + f"?password={PIECE}",
    ):
        with pytest.raises(ConfigError, match=r"^limits_url=") as caught:
            Config(limits_url=url)
        assert PIECE not in str(caught.value)


def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Return configs that have the address with the password from each source that there is."""
    given = [
        Config(store_url=FULL),
        Config(store_url=FULL, store_password=SECRET),
        Config(store_url=FULL, store_password=SecretStr(SECRET)),
        Config(store_url=PLAIN, store_password=SECRET),
        Config(store_url=PLAIN).replace(store_url=FULL),
        Config.model_validate({"store_url": FULL}),
        Config.model_validate_json(json.dumps({"store_url": FULL})),
    ]
    file = tmp_path / "config.toml"
    file.write_text(f'store_url = "{FULL}"\n')
    given.append(Config.from_toml(file))
    file.write_text(f'store_url = "{PLAIN}"\n')
    with monkeypatch.context() as shell:
        shell.setenv("TOOLKIT_STORE_PASSWORD", SECRET)
        given += [Config(store_url=PLAIN), Config.from_toml(file)]
        shell.setenv("TOOLKIT_STORE_URL", FULL)
        given += [Config(), Config.from_toml(file)]
        shell.delenv("TOOLKIT_STORE_PASSWORD")
        given += [Config(), Config.from_toml(file), Config(store_url=PLAIN)]
    return given


def test_a_password_in_the_address_becomes_one_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever the address comes from, it is kept without the password and the password decoded."""
    for config in sources(tmp_path, monkeypatch):
        assert config.store_url == PLAIN
        assert password_of(config) == SECRET


def test_a_password_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No printed, dumped, copied or pickled form of a config holds the password or a piece of it."""
    for config in sources(tmp_path, monkeypatch):
        forms = [
            repr(config),
            str(config),
            f"{config}",
            repr(config.model_dump()),
            config.model_dump_json(),
            json.dumps(config.model_dump(mode="json")),
            json.dumps(config.shown()),
            repr(config.replace(seed=1)),
            repr(copy.deepcopy(config)),
            *(repr(opcode) for opcode in pickletools.genops(pickle.dumps(config))),
        ]
        assert not any(PIECE in form for form in forms)
        assert PIECE.encode() not in pickle.dumps(config)


@pytest.mark.parametrize(
    "values",
    [
        {"store_url": FULL, "store_password": "another"},
        {"store_url": PLAIN.replace("@", ":another@"), "store_password": SECRET},
        {"store_url": FULL, "seed": -1},
        {"store_url": FULL, "sead": 1},
        {"store_url": FULL, "budget_name": "thesis"},
        {"store_url": FULL.replace("postgresql+psycopg", "postgres")},
        {"store_url": FULL.replace("postgresql+psycopg", "mysql+pymysql")},
        {"store_url": FULL.replace(":5432", ":port")},
        {"store_url": FULL.replace("/runs", "")},
        {"store_url": FULL.replace("%40", "@")},
        {"store_url": FULL.replace("%2F", "/")},
        {"store_url": FULL.replace("%25", "%")},
        {"store_url": f"{PLAIN}?password={ESCAPED}"},
        {"store_url": f"{PLAIN}?pasword={ESCAPED}"},
        {"store_url": FULL.partition("://")[2]},
        {"store_url": FULL.encode()},
        {"store_url": [FULL]},
        {"store_url": {"url": FULL}},
        {"store_password": [SECRET]},
        {"store_pasword": SECRET},
        {"openai_base_url": f"http://anna:a/{PIECE}@h"},
        {"openai_base_url": f"ftp://anna:a/{PIECE}@h"},
    ],
)
def test_a_password_is_in_no_error(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the error nor its traceback shows it, whether the program or the environment gave it."""
    with pytest.raises(ConfigError) as caught:
        Config(**values)
    assert PIECE not in "".join(traceback.format_exception(caught.value))
    texts = {name: value for name, value in values.items() if isinstance(value, str) and name in DEFAULTS}
    for name, text in texts.items():
        monkeypatch.setenv(f"TOOLKIT_{name.upper()}", text)
    with pytest.raises(ConfigError) as caught:
        Config(**{name: value for name, value in values.items() if name not in texts})
    assert PIECE not in "".join(traceback.format_exception(caught.value))


def test_a_refused_address_says_what_would_be_right(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheme is shown, and the variable that it came from is named, though nothing else can be."""
    monkeypatch.setenv("TOOLKIT_STORE_URL", FULL.replace("postgresql+psycopg", "postgres"))
    with pytest.raises(ConfigError) as caught:
        Config()
    assert str(caught.value).startswith("store_url='postgres://…': is none of memory://, sqlite:///PATH and ")
    assert "as TOOLKIT_STORE_URL in the environment says" in str(caught.value)
    with pytest.raises(ConfigError, match=r"^store_url=.*; store_wait_s=-1: "):
        Config(store_wait_s=-1)


def test_a_number_for_a_password_is_not_shown() -> None:
    """``--set store_password=271828`` is a number in TOML; the advice does not repeat it."""
    with pytest.raises(ConfigError, match="for text write store_password='\"TEXT\"'") as caught:
        Config(store_password=271828)
    assert "271828" not in str(caught.value)


def test_a_password_is_in_no_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt variable is named without what it holds."""
    monkeypatch.setenv("TOOLKIT_STORE_PASWORD", SECRET)
    with pytest.warns(ConfigWarning, match="did you mean 'TOOLKIT_STORE_PASSWORD'") as caught:
        Config(store_url=FULL)
    assert not any(PIECE in str(warning.message) for warning in caught)


def test_the_nearer_source_goes_before_the_farther(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What differs within one source is an error; between sources it is decided as for any setting."""
    file = tmp_path / "config.toml"
    file.write_text(f'store_url = "{FULL}"\n')
    assert password_of(Config.from_toml(file, store_password="mine")) == "mine"
    assert password_of(Config.from_toml(file, store_url=OTHER)) is None
    monkeypatch.setenv("TOOLKIT_STORE_PASSWORD", "the shell's")
    assert password_of(Config.from_toml(file)) == "the shell's"
    assert password_of(Config(store_url=FULL)) == SECRET
    assert password_of(Config(store_url=OTHER, store_password="mine")) == "mine"
    file.write_text(f'store_url = "{FULL}"\nstore_password = "another"\n')
    with pytest.raises(ConfigError, match=r"config\.toml: store_url holds another password"):
        Config.from_toml(file)


def test_the_password_of_the_environments_address_stays_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that names another server does not send it there; one that names the same has it."""
    monkeypatch.setenv("TOOLKIT_STORE_URL", FULL)
    assert password_of(Config(store_url=OTHER)) is None
    assert password_of(Config(store_url="memory://")) is None
    assert password_of(Config(store_url=PLAIN)) == SECRET


@pytest.mark.parametrize(
    ("changes", "address", "password"),
    [
        ({"seed": 1}, PLAIN, SECRET),
        ({"store_url": PLAIN}, PLAIN, SECRET),
        ({"store_url": PLAIN.replace(":5432", "")}, PLAIN.replace(":5432", ""), SECRET),
        ({"store_url": f"{PLAIN}?sslmode=require"}, f"{PLAIN}?sslmode=require", SECRET),
        ({"store_url": PLAIN.replace("@", ":new@")}, PLAIN, "new"),
        ({"store_url": OTHER.replace("@", ":new@")}, OTHER, "new"),
        ({"store_url": OTHER}, OTHER, None),
        ({"store_url": PLAIN.replace("anna", "berta")}, PLAIN.replace("anna", "berta"), None),
        ({"store_url": PLAIN.replace("5432", "5433")}, PLAIN.replace("5432", "5433"), None),
        ({"store_url": PLAIN.replace("runs", "others")}, PLAIN.replace("runs", "others"), None),
        ({"store_url": f"{PLAIN}?host=other.test"}, f"{PLAIN}?host=other.test", None),
        ({"store_url": "memory://"}, "memory://", None),
        ({"store_url": None}, None, None),
        ({"store_url": OTHER, "store_password": "new"}, OTHER, "new"),
        ({"store_password": "new"}, PLAIN, "new"),
        ({"store_password": None}, PLAIN, None),
    ],
)
@pytest.mark.parametrize("apart", [True, False])
def test_replace_takes_a_password_along_to_the_same_place_only(
    changes: dict[str, Any], address: str | None, password: str | None, apart: bool
) -> None:
    """A password is for one user of one database; elsewhere it would be given to somebody else's server."""
    config = Config(store_url=PLAIN, store_password=SECRET) if apart else Config(store_url=FULL)
    changed = config.replace(**changes)
    assert (changed.store_url, password_of(changed)) == (address, password)
    assert password_of(config) == SECRET
    assert password_of(changed.replace()) == password


def test_replace_and_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A password of the environment's address does not follow either; one of its own is for any address."""
    monkeypatch.setenv("TOOLKIT_STORE_URL", FULL)
    assert password_of(Config().replace(store_url=OTHER)) is None
    assert password_of(Config().replace(store_url=OTHER).replace(store_url=PLAIN)) == SECRET
    monkeypatch.setenv("TOOLKIT_STORE_PASSWORD", SECRET)
    assert password_of(Config().replace(store_url=OTHER)) == SECRET


def test_a_password_that_was_set_ahead_goes_with_the_first_address() -> None:
    """Before there is an address it can be no other server's."""
    config = Config(store_password=SECRET)
    assert password_of(config.replace(store_url=PLAIN)) == SECRET


@pytest.mark.parametrize(
    ("variables", "password"),
    [
        ({}, None),
        ({"store_password": "the worker's"}, "the worker's"),
        ({"store_password": "the worker's", "store_url": OTHER}, "the worker's"),
        ({"store_url": PLAIN.replace("@", ":the%20worker's@")}, "the worker's"),
        ({"store_url": OTHER.replace("@", ":another@")}, None),
        ({"store_url": f"postgres://anna:{ESCAPED}@db.test/runs"}, None),
        ({"store_url": PLAIN}, None),
    ],
)
def test_a_pickle_finds_its_password_in_the_environment(
    variables: dict[str, str], password: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a config arrives it has that environment's password, but none that is for another database."""
    config = Config(store_url=FULL, repeat=3)
    pickled = pickle.dumps(config)
    assert PIECE.encode() not in pickled
    for name, value in variables.items():
        monkeypatch.setenv(f"TOOLKIT_{name.upper()}", value)
    there = pickle.loads(pickled)
    assert password_of(there) == password
    assert (there.store_url, there.repeat, there.model_fields_set) == (PLAIN, 3, config.model_fields_set)
    assert password_of(config) == SECRET
    assert "worker" not in repr(there)


def test_a_pickle_leaves_out_every_secret() -> None:
    """Whatever holds a secret is found by its type, so that a new one cannot be forgotten."""
    config = Config(**{name: f"{name}-{PIECE}" for name in SECRETS})
    assert PIECE.encode() not in pickle.dumps(config)
    there = pickle.loads(pickle.dumps(config))
    assert all(getattr(there, name) is None for name in SECRETS)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
AMOUNTS = st.integers(0, 10**6) | st.floats(0, 1e6)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "provider": TEXTS,
    "model": st.none() | TEXTS,
    "summary_batch_size": st.integers(1, 1024),
    "openai_base_url": st.sampled_from([None, "http://127.0.0.1:1/v1", "https://api.example/v1"]),
    "openai_api_key": st.none() | TEXTS,
    "azure_endpoint": st.sampled_from([None, "https://name.azure.example"]),
    "prices": st.none()
    | TEXTS
    | TEXTS.map(Path)
    | st.dictionaries(TEXTS, st.dictionaries(TEXTS, AMOUNTS, max_size=3), max_size=3),
    "system_prompt": st.none() | TEXTS,
    "temperature": st.floats(0, 2),
    "seed": st.none() | st.integers(0, 2**63 - 1),
    "store_url": st.sampled_from([None, "memory://", "sqlite:///a@b.db", PLAIN, FULL, OTHER]),
    "store_text": st.booleans(),
    "store_wait_s": st.floats(0, 86_400),
    "reuse": st.sampled_from(["all", "run", "none"]),
    "repeat": st.integers(1, 10**30),
    "budget_usd": st.none() | st.floats(0, 1e9, exclude_min=True),
    "budget_tokens": st.none() | st.integers(1, 10**15),
    "budget_calls": st.integers(1, 10**15),
    "stop_grace_s": st.floats(0, 3600),
}
# Each is valid, and none is a default.
SHELL = {
    "TOOLKIT_PROVIDER": "scripted",
    "TOOLKIT_MODEL": "other",
    "TOOLKIT_SUMMARY_BATCH_SIZE": "7",
    "TOOLKIT_SUMMARY_CHUNK_PARALLELISM": "7",
    "TOOLKIT_LIMITS_URL": "memory://",
    "TOOLKIT_PRICES": "other.toml",
    "TOOLKIT_SEED": "7",
    "TOOLKIT_TEMPERATURE": "0.7",
    "TOOLKIT_CHUNK_TOKENS": "777",
    "TOOLKIT_CHUNK_OVERLAP_TOKENS": "77",
    "TOOLKIT_TRUST_REMOTE_CODE": "true",
    "TOOLKIT_STORE_URL": OTHER.replace("@", ":another@"),
    "TOOLKIT_STORE_TEXT": "false",
    "TOOLKIT_STORE_WAIT_S": "7",
    "TOOLKIT_REUSE": "none",
    "TOOLKIT_REPEAT": "7",
    "TOOLKIT_BUDGET_USD": "7",
    "TOOLKIT_BUDGET_TOKENS": "7",
    "TOOLKIT_BUDGET_NAME": "other",
    "TOOLKIT_STOP_GRACE_S": "7",
    "OPENAI_BASE_URL": "https://shell.example/v1",
    "ANTHROPIC_BASE_URL": "https://shell.example",
    "AZURE_OPENAI_ENDPOINT": "https://shell.example",
}


def without_secrets(config: Config) -> dict[str, Any]:
    return {name: value for name, value in config.model_dump().items() if name not in SECRETS}


@settings(deadline=None, max_examples=100)
@given(st.fixed_dictionaries({}, optional=VALUES), st.booleans())
def test_any_config_comes_back_from_what_is_shown(values: dict[str, Any], named: bool) -> None:
    """What a store recorded makes the same config years later, in a shell that is set up otherwise."""
    if named and "budget_calls" in values:
        values["budget_name"] = "thesis"
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as shell:
        warnings.simplefilter("ignore", ConfigWarning)
        config = Config(**values)
        recorded = json.dumps(config.shown(), allow_nan=False)
        for name, value in SHELL.items():
            shell.setenv(name, value)
        again = Config(**json.loads(recorded))
    assert without_secrets(again) == without_secrets(config)
    assert again.shown() == config.shown()
    assert set(config.shown()) == set(Config.model_fields) - SECRETS


def test_what_is_shown_is_all_that_the_environment_could_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the defaults left out, each of these variables would change a config that is read again."""
    config = Config()
    for name, value in SHELL.items():
        monkeypatch.setenv(name, value)
    around = Config()
    assert without_secrets(Config(**config.shown())) == without_secrets(config)
    fields = [name.removeprefix("TOOLKIT_").lower() for name in SHELL if name.startswith("TOOLKIT_")]
    assert all(getattr(around, name) != getattr(config, name) for name in fields)


def test_secrets_of_what_is_read_again_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recorded config is as good as new where the shell holds the same address with its password."""
    recorded = Config(store_url=FULL, openai_api_key=SECRET).shown()
    assert password_of(Config(**recorded)) is None
    monkeypatch.setenv("TOOLKIT_STORE_URL", FULL)
    assert password_of(Config(**recorded)) == SECRET


def test_what_is_shown_is_a_copy() -> None:
    """Whoever changes it, or the table that the config was made of, does not change the config."""
    table = {"model": {"input": 1.0}}
    config = Config(prices=table)
    table["model"]["input"] = 2.0
    config.shown()["prices"]["model"]["input"] = 3.0
    assert config.prices == {"model": {"input": 1.0}}


def test_no_way_around_the_constructor() -> None:
    """What pydantic is given itself is refused like what a program gives, without being shown."""
    with pytest.raises(ValueError, match="store_url='postgresql") as caught:
        Config.model_validate({"store_url": FULL.replace("/runs", "")})
    assert PIECE not in "".join(traceback.format_exception(caught.value))
