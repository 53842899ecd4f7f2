"""``Config``: every setting of a run, checked, frozen, and printable without secrets."""

from __future__ import annotations

import math
import os
import re
import tomllib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from toolkit.errors import ConfigError, nearest_name
from toolkit.records import Sampling

ENVIRONMENT_PREFIX = "TOOLKIT_"
ENVIRONMENT_ALIASES = {
    "OPENAI_API_KEY": "openai_api_key",
    "OPENAI_BASE_URL": "openai_base_url",
    "AZURE_OPENAI_API_KEY": "azure_api_key",
    "AZURE_OPENAI_ENDPOINT": "azure_endpoint",
    "ANTHROPIC_API_KEY": "anthropic_api_key",
    "ANTHROPIC_BASE_URL": "anthropic_base_url",
}
"""Names that the vendors' own tools read, and the fields that they fill."""
_URLS = ("openai_base_url", "azure_endpoint", "anthropic_base_url")


class Config(BaseModel):
    """Every setting of a run.

    A field that is not given is read from the environment (``TOOLKIT_`` and the field's name in capitals;
    for hosted models also the names that the vendors' own tools read, such as ``OPENAI_API_KEY``), else it
    has its default. ``AZURE_OPENAI_ENDPOINT`` counts only where nothing is set for OpenAI itself.

    Raises
    ------
    ConfigError
        If a name is unknown (the nearest known one is named) or a value is out of its range.

    Notes
    -----
    The two levels of parallelism are separate: ``summary_batch_size`` counts episodes and
    ``summary_chunk_parallelism`` counts requests of one episode.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", protected_namespaces=(), hide_input_in_errors=True, allow_inf_nan=False
    )

    provider: str = Field("transformers", min_length=1, description="which provider summarizes")
    model: str | None = Field(
        None, min_length=1, description="name of the model; unset: the provider's default"
    )

    summary_batch_size: int = Field(1, ge=1, le=1024, description="episodes worked on at a time")
    summary_chunk_parallelism: int = Field(
        1, ge=1, le=1024, description="requests of one episode in flight at a time"
    )
    openai_max_concurrent_requests: int = Field(
        5, ge=1, description="requests to the server in flight at a time"
    )
    openai_requests_per_minute: int = Field(50, ge=1, description="requests that the account may make")
    openai_tokens_per_minute: int = Field(100_000, ge=1, description="tokens that the account may use")
    openai_requests_per_day: int | None = Field(
        None, ge=1, description="requests that the account may make in a day; unset: no such limit is known"
    )
    openai_tokens_per_day: int | None = Field(
        None, ge=1, description="tokens that the account may use in a day; unset: no such limit is known"
    )
    anthropic_max_concurrent_requests: int = Field(
        5, ge=1, description="requests to the server in flight at a time"
    )
    anthropic_requests_per_minute: int = Field(50, ge=1, description="requests that the account may make")
    anthropic_input_tokens_per_minute: int = Field(
        30_000, ge=1, description="tokens of prompts that the account may send"
    )
    anthropic_output_tokens_per_minute: int = Field(
        8_000, ge=1, description="tokens of replies that the account may get"
    )
    limits: Literal["config", "auto"] = Field(
        "config", description="auto learns the numbers of the limits from the server's headers"
    )
    limits_law: str | None = Field(
        None,
        description="how the server counts: openai, azure, anthropic, safe, or a composition such as "
        "'requests:sliding, tokens:fixed'; unset: the provider's own",
    )
    limits_charge: Literal["sum", "max", "actual", "fitted"] | None = Field(
        None, description="what the server counts for a request in tokens; unset: the law's own"
    )
    limits_oversize: Literal["refuse", "wait_full"] = Field(
        "refuse",
        description="what becomes of a request above a limit; wait_full admits it alone at a full "
        "window, where the configured limit is a share of a larger one",
    )
    limits_url: str | None = Field(
        None,
        pattern=r"^(memory://$|sqlite:///)",
        description="where the limits' state is: memory:// or sqlite:///PATH; unset: a file that all "
        "processes of this user share",
    )
    openai_base_url: str | None = Field(
        None, pattern=r"^https?://", description="address of a server that speaks OpenAI's protocol"
    )
    openai_api_key: SecretStr | None = Field(None, description="key of the account")
    openai_api: Literal["chat", "responses"] = Field(
        "chat", description="chat is spoken by every compatible server, responses by OpenAI's own"
    )
    azure_endpoint: str | None = Field(
        None, pattern=r"^https?://", description="address of an Azure resource; model= is then the deployment"
    )
    azure_api_version: str = Field(
        "2024-10-21", pattern=r"^[0-9A-Za-z.-]+$", description="version of Azure's API"
    )
    azure_api_key: SecretStr | None = Field(None, description="key of the Azure resource")
    anthropic_base_url: str | None = Field(
        None, pattern=r"^https?://", description="address of a server that speaks Anthropic's protocol"
    )
    anthropic_api_key: SecretStr | None = Field(None, description="key of the Anthropic account")
    allow_insecure_http: bool = Field(
        False, description="send a key over http to another machine, where others can read it"
    )
    request_timeout_s: float = Field(
        180.0, gt=0, le=3600, description="seconds without a sign of life after which a request is given up"
    )
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = Field(
        None, description="how much a reasoning model thinks; unset: as little as it can"
    )
    context_tokens: int | None = Field(
        None, ge=512, description="what prompt and reply may come to; unset: what is known of the model"
    )
    prices: str | dict[str, Any] | None = Field(
        None, description="TOML file or table of US dollars per million tokens, by model"
    )

    chunk_tokens: int | None = Field(
        None, ge=32, description="longest chunk in tokens; unset: the provider's default"
    )
    chunk_overlap_tokens: int = Field(
        0, ge=0, description="tokens of a chunk that stand again at the start of the next"
    )
    summary_max_tokens: int | None = Field(
        None, ge=8, description="cap on a reply in tokens; unset: the provider's default"
    )
    system_prompt: str | None = Field(None, description="system message; unset: the provider's default")
    direct_prompt: str | None = Field(
        None, description="for a text that is not cut, with {text}; unset: the provider's default"
    )
    map_prompt: str | None = Field(
        None, description="for a chunk, with {text}; unset: the provider's default"
    )
    reduce_prompt: str | None = Field(
        None, description="for the chunks' summaries, with {text}; unset: the provider's default"
    )

    temperature: float = Field(0.0, ge=0, le=2, description="0 takes the likeliest token each time")
    top_p: float = Field(1.0, gt=0, le=1, description="share of the probability that is drawn from")
    seed: int | None = Field(None, ge=0, lt=2**63, description="makes sampling repeatable")
    repetition_penalty: float | None = Field(
        None, ge=1, le=2, description="for local models; 1 is off; unset: the provider's default"
    )
    no_repeat_ngram: int | None = Field(
        None, ge=0, le=64, description="for local models; 0 is off; unset: the provider's default"
    )

    device: str = Field("auto", min_length=1, description="auto, cpu, cuda, cuda:0, mps")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto takes bfloat16 where the processor has it"
    )
    engine: Literal["auto", "torch"] = Field("auto", description="what runs a local model")
    engine_batch_tokens: int = Field(
        16_384, ge=64, description="bound on requests x (longest prompt + cap) in one local batch"
    )
    model_revision: str | None = Field(None, description="branch, tag or commit of a hub model")
    trust_remote_code: bool = Field(False, description="run code that comes with a model")

    max_attempts: int = Field(4, ge=1, le=100, description="tries of a call, the first included")
    retry_total_s: float = Field(300.0, ge=0, description="seconds after which a call is not tried again")

    def __init__(self, **values: Any) -> None:
        merged = {**_from_environment(os.environ, values), **values}
        for name in merged:
            if name not in type(self).model_fields:
                wrong = f"{name!r} is no setting; {nearest_name(name, type(self).model_fields)}"
                raise ConfigError(wrong, [name])
        _warn_of_unknown(os.environ)
        try:
            super().__init__(**merged)
        except ValidationError as error:
            named = [str(finding["loc"][0]) for finding in error.errors() if finding["loc"]]
            raise ConfigError(_explain(error), named) from None

    def __setattr__(self, name: str, value: object) -> None:
        raise ConfigError(f"a Config does not change; use config.replace({name}=...), which returns another")

    def __getstate__(self) -> dict[Any, Any]:
        """Leave keys out of a pickle: who loads it has them from its own environment, or has none."""
        state = super().__getstate__()
        shown = {
            name: None if isinstance(value, SecretStr) else value for name, value in state["__dict__"].items()
        }
        return {**state, "__dict__": shown}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        keys = {name: value for name, value in _from_environment(os.environ, {}).items() if "api_key" in name}
        found = {name: SecretStr(key) for name, key in keys.items() if state["__dict__"][name] is None}
        super().__setstate__({**state, "__dict__": {**state["__dict__"], **found}})

    @field_validator("prices", mode="before")
    @classmethod
    def _check_prices(cls, value: object) -> object:
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, Mapping):
            for model, row in value.items():
                if not isinstance(row, Mapping) or not all(map(_is_amount, row.values())):
                    raise ValueError(f"the prices of {model!r} must be numbers from 0 on")
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        for name in _URLS:
            if (url := getattr(self, name)) is not None:
                _check_url(name, url)
        if self.chunk_tokens is not None and self.chunk_overlap_tokens > self.chunk_tokens // 2:
            raise ValueError(
                f"chunk_overlap_tokens={self.chunk_overlap_tokens} is more than half of "
                f"chunk_tokens={self.chunk_tokens}; a chunk must bring something new"
            )
        for name in ("direct_prompt", "map_prompt", "reduce_prompt"):
            template = getattr(self, name)
            if template is not None and "{text}" not in template:
                raise ValueError(f"{name} must hold {{text}}, the place where the text goes")
        if (
            self.provider == "transformers"
            and self.summary_batch_size > 1
            and "summary_chunk_parallelism" not in self.model_fields_set
        ):
            # Configs written before the two levels were told apart used one number for both.
            warnings.warn(
                f"summary_batch_size={self.summary_batch_size} sets how many episodes run at a time and no "
                f"longer how many chunks; for the old behaviour of local models add "
                f"summary_chunk_parallelism={self.summary_batch_size}, or 1 to keep today's.",
                ConfigWarning,
                stacklevel=4,
            )
        return self

    @classmethod
    def from_toml(cls, path: str | Path, **overrides: Any) -> Config:
        """Read settings from a TOML file; the environment and ``overrides`` go before the file.

        Parameters
        ----------
        path : str or Path
            A TOML file whose top level, or table ``[toolkit]``, holds settings.
        **overrides
            Settings that go before those of the file and of the environment.

        Raises
        ------
        ConfigError
            If the file cannot be read, is no TOML, or holds a wrong setting.
        """
        try:
            table = tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path}: is no valid TOML: {error}") from None
        values = table.get("toolkit", table)
        if not isinstance(values, dict):
            raise ConfigError(f"{path}: 'toolkit' must be a table of settings")
        environment = _from_environment(os.environ, {**values, **overrides})
        try:
            return cls(**{**values, **environment, **overrides})
        except ConfigError as error:
            nearer = {**environment, **overrides}
            if error.settings and all(name in nearer for name in error.settings):
                raise
            raise ConfigError(f"{path}: {error}", error.settings) from None

    def replace(self, **changes: Any) -> Config:
        """Return a copy with some settings changed, checked like a new one."""
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return type(self)(**{**given, **changes})

    def sampling(self, *, repetition_penalty: float = 1.0, no_repeat_ngram: int = 0) -> Sampling:
        """Return the sampling settings, with a provider's defaults for those that are unset."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            repetition_penalty=self.repetition_penalty or repetition_penalty,
            no_repeat_ngram=no_repeat_ngram if self.no_repeat_ngram is None else self.no_repeat_ngram,
        )


class ConfigWarning(UserWarning):
    """A setting means something else than an older version's."""


def parse_setting(assignment: str) -> tuple[str, Any]:
    """Split ``name=value``, as typed at a command line.

    The value is read as TOML (``4``, ``0.5``, ``true``, ``"text"``); what is no TOML is taken as text.

    Raises
    ------
    ConfigError
        If there is no ``=``.
    """
    name, equals, value = assignment.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"{assignment!r} is no setting; write name=value")
    name, value = name.strip(), value.strip()
    try:
        table = tomllib.loads(f"value = {value}")
    except tomllib.TOMLDecodeError:
        return name, value
    # Text of several lines may look like one value and further settings.
    return name, table["value"] if len(table) == 1 else value


def _from_environment(environment: Mapping[str, str], given: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that the environment holds; an empty variable counts as unset.

    ``given`` are the settings of the program. A machine that is set up for Azure as well must not have its
    requests to OpenAI, or to a server of one's own, sent to Azure instead.
    """
    found = {field: environment[name] for name, field in ENVIRONMENT_ALIASES.items() if environment.get(name)}
    if any({**found, **given}.get(name) for name in ("openai_api_key", "openai_base_url")):
        found.pop("azure_endpoint", None)
    if given.get("azure_endpoint"):
        found.pop("openai_base_url", None)
    for name in Config.model_fields:
        if value := environment.get(ENVIRONMENT_PREFIX + name.upper()):
            found[name] = value
    return found


def _variable(field: str, environment: Mapping[str, str]) -> str | None:
    """Return the variable of the environment that holds a field, if any does."""
    own = ENVIRONMENT_PREFIX + field.upper()
    if environment.get(own):
        return own
    aliases = (
        name for name, filled in ENVIRONMENT_ALIASES.items() if filled == field and environment.get(name)
    )
    return next(aliases, None)


def _warn_of_unknown(environment: Mapping[str, str]) -> None:
    """Say so if a variable is meant for the toolkit and names no setting."""
    known = {ENVIRONMENT_PREFIX + name.upper() for name in Config.model_fields}
    for name in environment:
        if name.startswith(ENVIRONMENT_PREFIX) and name not in known:
            warnings.warn(
                f"{name} stands in the environment and is no setting; {nearest_name(name, known)}",
                ConfigWarning,
                stacklevel=3,
            )


def _is_amount(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value >= 0


def _check_url(name: str, url: str) -> None:
    """Refuse an address that is none, or that holds a secret which would be shown wherever it is shown."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
        parts = urlsplit("")
    if not host:
        raise ValueError(f"{name} is no address; write http://HOST:PORT/PATH or https://HOST/PATH")
    if "@" in parts.netloc:
        raise ValueError(f"{name} must hold no user name and no password; keys have settings of their own")
    if parts.query or parts.fragment:
        raise ValueError(f"{name} must end with its path, without '?' or '#'")


def _explain(error: ValidationError) -> str:
    """Put pydantic's findings into one sentence each, without the values of secrets."""
    sentences = []
    for finding in error.errors(include_url=False, include_context=True):
        message = finding["msg"].removeprefix("Value error, ")
        if not finding["loc"]:
            sentences.append(message)
            continue
        name = str(finding["loc"][0])
        field = Config.model_fields[name]
        # An address may have been given with a password.
        given = "" if "api_key" in name else "=" + re.sub(r"//[^/@]*@", "//***@", repr(finding["input"]))
        message = message[0].lower() + message[1:]
        variable = _variable(name, os.environ)
        if variable and os.environ[variable] == finding["input"]:
            message = f"{message}, as {variable} in the environment says"
        elif finding["type"] == "string_type" and isinstance(finding["input"], bool | int | float):
            message += f"; for text write {name}='\"{finding['input']}\"'"
        sentences.append(f"{name}{given}: {message} ({field.description})")
    return "; ".join(sentences)
