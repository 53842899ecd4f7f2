"""Config: what it takes, what it refuses and how it says so, and what it never shows."""

from __future__ import annotations

import json
import pickle
import traceback
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.config import Config, ConfigWarning
from toolkit.errors import ConfigError

SECRET = "sk-THE-SECRET-0123456789"


@pytest.fixture(autouse=True)
def no_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take back what keeps other tests' runs in memory: here it is asked what Config makes of nothing."""
    monkeypatch.delenv("TOOLKIT_STORE_URL", raising=False)


REFERENCE_DEFAULTS = {
    "summary_batch_size": 1,
    "summary_chunk_parallelism": 1,
    "openai_max_concurrent_requests": 5,
    "openai_requests_per_minute": 50,
    "openai_tokens_per_minute": 100_000,
}


@pytest.mark.parametrize(("name", "value"), REFERENCE_DEFAULTS.items())
def test_reference_defaults(name: str, value: int) -> None:
    """The five fields of the reference keep their names and defaults; configs in use rely on them."""
    assert getattr(Config(), name) == value


def test_settings_that_are_not_given_are_not_counted_as_given() -> None:
    """A default is told from a choice of the same value, or ``replace`` would freeze defaults."""
    assert Config().model_fields_set == set()
    assert Config(summary_batch_size=1).model_fields_set == {"summary_batch_size"}


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("summary_batchsize", "summary_batch_size"),
        ("chunk_paralelism", "summary_chunk_parallelism"),
        ("openai_rpm_per_minute", "openai_requests_per_minute"),
        ("modle", "model"),
    ],
)
def test_unknown_name_names_the_nearest(wrong: str, meant: str) -> None:
    """A misspelt setting is refused with the right spelling, and not ignored."""
    with pytest.raises(ConfigError, match=f"'{wrong}' is no setting; did you mean '{meant}'"):
        Config(**{wrong: 1})


def test_unknown_name_that_is_near_to_none_lists_all() -> None:
    """Where there is no guess the names are listed, so that the user has something to go on."""
    with pytest.raises(ConfigError) as caught:
        Config(zzzzzzzz=1)
    assert all(name in str(caught.value) for name in Config.model_fields)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("summary_batch_size", 0, "greater than or equal to 1"),
        ("summary_batch_size", 1025, "less than or equal to 1024"),
        ("summary_batch_size", -3, "greater than or equal to 1"),
        ("summary_batch_size", 2.5, "integer"),
        ("summary_batch_size", "four", "integer"),
        ("summary_batch_size", None, "integer"),
        ("summary_batch_size", [4], "integer"),
        ("summary_chunk_parallelism", 0, "greater than or equal to 1"),
        ("openai_max_concurrent_requests", 0, "greater than or equal to 1"),
        ("openai_requests_per_minute", 0, "greater than or equal to 1"),
        ("openai_tokens_per_minute", 0, "greater than or equal to 1"),
        ("openai_base_url", "localhost:8000", "https?://"),
        ("chunk_tokens", 31, "greater than or equal to 32"),
        ("chunk_overlap_tokens", -1, "greater than or equal to 0"),
        ("temperature", 2.1, "less than or equal to 2"),
        ("temperature", float("nan"), "finite"),
        ("temperature", float("inf"), "finite"),
        ("top_p", 0, "greater than 0"),
        ("seed", 2**63, "less than"),
        ("dtype", "float8", "'auto', 'float32', 'bfloat16' or 'float16'"),
        ("provider", "", "at least 1 character"),
        ("model", 7, "string"),
        ("trust_remote_code", "perhaps", "boolean"),
        ("max_attempts", 101, "less than or equal to 100"),
        ("retry_total_s", -1, "greater than or equal to 0"),
    ],
)
def test_wrong_value_names_field_value_and_range(name: str, value: object, says: str) -> None:
    """Who mistypes a value reads which field, what was given, and what would be right."""
    with pytest.raises(ConfigError) as caught:
        Config(**{name: value})
    message = str(caught.value)
    assert message.startswith(f"{name}={value!r}: ")
    assert says in message
    description = Config.model_fields[name].description
    assert description
    assert description in message


def test_all_wrong_values_are_reported_at_once() -> None:
    """Two mistakes are told together, not one after the other."""
    with pytest.raises(ConfigError) as caught:
        Config(summary_batch_size=0, chunk_tokens=1)
    assert "summary_batch_size=0" in str(caught.value)
    assert "chunk_tokens=1" in str(caught.value)


def test_overlap_of_more_than_half_a_chunk_is_refused() -> None:
    """An overlap that leaves a chunk mostly repetition is named with both numbers; half is allowed."""
    assert Config(chunk_tokens=64, chunk_overlap_tokens=32).chunk_overlap_tokens == 32
    with pytest.raises(ConfigError, match="chunk_overlap_tokens=33 is more than half of chunk_tokens=64"):
        Config(chunk_tokens=64, chunk_overlap_tokens=33)


@pytest.mark.parametrize("name", ["direct_prompt", "map_prompt", "reduce_prompt"])
def test_prompt_without_place_for_the_text_is_refused(name: str) -> None:
    """A prompt without {text} would summarize nothing; it is refused by its name."""
    with pytest.raises(ConfigError, match=name + r" must hold \{text\}"):
        Config(**{name: "Summarize."})
    assert getattr(Config(**{name: "Sum up: {text}"}), name) == "Sum up: {text}"


def test_config_is_frozen() -> None:
    """A setting cannot change under a run that has begun."""
    config = Config()
    with pytest.raises(ConfigError, match=r"config\.replace\(summary_batch_size="):
        config.summary_batch_size = 2  # type: ignore[misc]
    assert config.summary_batch_size == 1


def test_environment_goes_before_defaults_and_behind_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Defaults < environment < what the program says."""
    monkeypatch.setenv("TOOLKIT_OPENAI_REQUESTS_PER_MINUTE", "7")
    assert Config().openai_requests_per_minute == 7
    assert Config(openai_requests_per_minute=9).openai_requests_per_minute == 9


def test_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """``TOOLKIT_CHUNK_TOKENS=`` in a shell script means the default, not an error."""
    monkeypatch.setenv("TOOLKIT_CHUNK_TOKENS", "")
    assert Config().chunk_tokens is None


def test_wrong_variable_is_refused_like_a_wrong_argument(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong number in the environment is not silently replaced by the default."""
    monkeypatch.setenv("TOOLKIT_SUMMARY_BATCH_SIZE", "many")
    with pytest.raises(ConfigError, match="summary_batch_size='many'"):
        Config()


def test_own_variable_goes_before_the_vendors(monkeypatch: pytest.MonkeyPatch) -> None:
    """OPENAI_BASE_URL is read, and TOOLKIT_OPENAI_BASE_URL overrules it for this toolkit alone."""
    monkeypatch.setenv("OPENAI_BASE_URL", "http://vendor.test/v1")
    assert Config().openai_base_url == "http://vendor.test/v1"
    monkeypatch.setenv("TOOLKIT_OPENAI_BASE_URL", "http://own.test/v1")
    assert Config().openai_base_url == "http://own.test/v1"


@pytest.mark.parametrize("head", ["", "[toolkit]\n"], ids=["top level", "table"])
def test_toml_goes_behind_environment_and_arguments(
    head: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File < environment < what the program says, whether the file has a table [toolkit] or not."""
    path = tmp_path / "config.toml"
    path.write_text(head + 'provider = "scripted"\nsummary_batch_size = 2\nmax_attempts = 3\nseed = 4\n')
    monkeypatch.setenv("TOOLKIT_MAX_ATTEMPTS", "5")
    monkeypatch.setenv("TOOLKIT_SEED", "6")
    config = Config.from_toml(path, seed=7)
    assert (config.summary_batch_size, config.max_attempts, config.seed) == (2, 5, 7)


def test_toml_with_byte_order_mark(tmp_path: Path) -> None:
    """Editors on Windows put a byte order mark before the first line; it is no part of a name."""
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xef\xbb\xbfseed = 4\n")
    assert Config.from_toml(path).seed == 4


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"seed = = 4", "is no valid TOML"),
        (b"seed = 4\nseed = 5", "is no valid TOML"),
        (b"\xff\xfe\x00", "is no valid TOML"),
        (b"toolkit = 4", "must be a table"),
        (b"sead = 4", "did you mean 'seed'"),
        (b"max_attempts = 0", "max_attempts=0"),
    ],
)
def test_broken_toml_names_the_file(content: bytes, says: str, tmp_path: Path) -> None:
    """Whatever is wrong with a file, the error begins with its path."""
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        Config.from_toml(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)


def test_missing_toml_names_the_file(tmp_path: Path) -> None:
    """A path that does not exist is a wrong setting, not a crash of the reader."""
    with pytest.raises(ConfigError, match="cannot be read"):
        Config.from_toml(tmp_path / "none.toml")


def test_old_config_works_and_is_told_its_equivalent() -> None:
    """A local config with summary_batch_size alone used it for chunks too: it is told what to add."""
    with pytest.warns(ConfigWarning, match="summary_chunk_parallelism=4") as caught:
        config = Config(provider="transformers", summary_batch_size=4)
    assert (config.summary_batch_size, config.summary_chunk_parallelism) == (4, 1)
    assert [Path(warning.filename).name for warning in caught] == ["test_config.py"]


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"summary_batch_size": 1},
        {"summary_batch_size": 4, "summary_chunk_parallelism": 1},
        {"summary_batch_size": 4, "summary_chunk_parallelism": 4},
        {"summary_batch_size": 4, "provider": "openai"},
        {"summary_batch_size": 4, "provider": "scripted"},
    ],
)
def test_no_warning_where_nothing_changed(values: dict[str, Any]) -> None:
    """Hosted providers never coupled the levels, and who sets both has chosen: neither is warned."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", ConfigWarning)
        Config(**values)


def shown(config: Config) -> list[str]:
    """Return all the ways in which a config is printed or written."""
    return [
        repr(config),
        str(config),
        f"{config}",
        repr(config.model_dump()),
        config.model_dump_json(),
        json.dumps(config.model_dump(mode="json")),
    ]


def test_secret_is_kept_and_never_shown() -> None:
    """The key reaches the provider and no printed form of the config."""
    config = Config(provider="openai", openai_api_key=SECRET)
    assert config.openai_api_key is not None
    assert config.openai_api_key.get_secret_value() == SECRET
    for text in shown(config) + shown(config.replace(seed=1)):
        assert SECRET not in text


def test_secret_from_the_environment_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vendor's own variable is read, and masked like an argument."""
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    config = Config()
    assert config.openai_api_key is not None
    assert config.openai_api_key.get_secret_value() == SECRET
    assert not any(SECRET in text for text in shown(config))


@pytest.mark.parametrize(
    "values",
    [
        {"openai_api_key": SECRET, "summary_batch_size": 0},
        {"openai_api_key": [SECRET]},
        {"openai_api_key": SECRET, "sead": 1},
        {"openai_api_key": SECRET, "direct_prompt": "no place"},
        {"openai_apikey": SECRET},
    ],
)
def test_secret_is_in_no_error(values: dict[str, Any]) -> None:
    """No error over a config with a key prints the key, nor does its traceback."""
    with pytest.raises(ConfigError) as caught:
        Config(**values)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_replace_keeps_what_was_given_and_checks_what_is_new() -> None:
    """A changed copy has the old choices, leaves the original alone, and is checked like a new config."""
    config = Config(provider="openai", openai_api_key=SECRET, chunk_tokens=64, seed=3)
    changed = config.replace(seed=4)
    assert (changed.seed, changed.chunk_tokens, changed.openai_api_key) == (4, 64, config.openai_api_key)
    assert config.seed == 3
    with pytest.raises(ConfigError, match="more than half"):
        config.replace(chunk_overlap_tokens=40)
    with pytest.raises(ConfigError, match="no setting"):
        config.replace(sead=4)


def test_replace_keeps_a_choice_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a program chose is not overruled by a variable when it changes another setting."""
    config = Config(seed=3)
    monkeypatch.setenv("TOOLKIT_SEED", "99")
    assert config.replace(max_attempts=2).seed == 3


TEXTS = st.text(min_size=1, max_size=20)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "provider": TEXTS,
    "model": st.none() | TEXTS,
    "summary_batch_size": st.integers(1, 1024),
    "summary_chunk_parallelism": st.integers(1, 1024),
    "openai_max_concurrent_requests": st.integers(1, 10**6),
    "openai_requests_per_minute": st.integers(1, 10**9),
    "openai_tokens_per_minute": st.integers(1, 10**12),
    "openai_base_url": st.sampled_from([None, "http://127.0.0.1:1/v1", "https://api.example/v1"]),
    "openai_api_key": st.none() | TEXTS,
    "chunk_tokens": st.none() | st.integers(64, 10**6),
    "chunk_overlap_tokens": st.integers(0, 32),
    "summary_max_tokens": st.none() | st.integers(8, 10**5),
    "system_prompt": st.none() | TEXTS,
    "map_prompt": st.none() | TEXTS.map(lambda text: text + "{text}"),
    "temperature": st.floats(0, 2),
    "top_p": st.floats(0, 1, exclude_min=True),
    "seed": st.none() | st.integers(0, 2**63 - 1),
    "repetition_penalty": st.none() | st.floats(1, 2),
    "no_repeat_ngram": st.none() | st.integers(0, 64),
    "dtype": st.sampled_from(["auto", "float32", "bfloat16", "float16"]),
    "trust_remote_code": st.booleans(),
    "retry_total_s": st.floats(0, 1e9),
}


@settings(deadline=None, max_examples=100)
@given(st.fixed_dictionaries({}, optional=VALUES))
def test_any_config_survives_replace(values: dict[str, Any]) -> None:
    """Whatever valid values a config is made of, a copy has the same ones and the same set of choices."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConfigWarning)
        config = Config(**values)
        copy = config.replace()
    assert copy == config
    assert copy.model_fields_set == set(values)
    for name, value in values.items():
        kept = getattr(copy, name)
        assert (kept.get_secret_value() if name == "openai_api_key" and kept else kept) == value


def test_a_pickle_holds_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A config travels without its keys; where it arrives they are those of the environment there."""
    config = Config(provider="openai", openai_api_key="sk-THE-SECRET-0123456789", summary_batch_size=3)
    pickled = pickle.dumps(config)
    assert b"THE-SECRET" not in pickled
    assert pickle.loads(pickled).openai_api_key is None
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-worker")
    there = pickle.loads(pickled)
    assert there.openai_api_key.get_secret_value() == "sk-of-the-worker"
    assert (there.summary_batch_size, there.model_fields_set) == (3, config.model_fields_set)
    assert config.openai_api_key is not None


def test_an_error_names_where_the_setting_came_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is not blamed for the command line, nor for the environment."""
    file = tmp_path / "good.toml"
    file.write_text("summary_batch_size = 2\n")
    with pytest.raises(ConfigError, match=r"^'sead' is no setting"):
        Config.from_toml(file, sead=1)
    monkeypatch.setenv("TOOLKIT_TEMPERATURE", "9")
    with pytest.raises(ConfigError, match=r"^temperature='9': .*, as TOOLKIT_TEMPERATURE in the environment"):
        Config.from_toml(file)
    with pytest.raises(ConfigError, match="as TOOLKIT_TEMPERATURE in the environment"):
        Config()
    file.write_text("summary_batch_size = 0\n")
    with pytest.raises(ConfigError, match=r"good\.toml: summary_batch_size=0"):
        Config.from_toml(file, temperature=0)


def test_a_misspelt_variable_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is meant for the toolkit and names no setting would be ignored without a word."""
    monkeypatch.setenv("TOOLKIT_SUMMARY_BATCHSIZE", "4")
    with pytest.warns(ConfigWarning, match="did you mean 'TOOLKIT_SUMMARY_BATCH_SIZE'"):
        Config()


def test_a_variable_that_is_no_setting_of_a_run_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever moves the cache of models is not told that there is no such thing."""
    monkeypatch.setenv("TOOLKIT_CACHE", "/anywhere")
    Config()
    monkeypatch.setenv("TOOLKIT_CASHE", "/anywhere")
    with pytest.warns(ConfigWarning, match="did you mean 'TOOLKIT_CACHE'"):
        Config()


def test_a_number_for_a_text_says_how_to_write_it() -> None:
    """``--set model_revision=1234567`` is a number in TOML, and a commit's name in the user's mind."""
    with pytest.raises(ConfigError, match="for text write model_revision='\"1234567\"'"):
        Config(model_revision=1234567)
