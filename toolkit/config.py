"""``Config``: every setting of a run, checked, frozen, and printable without secrets."""

from __future__ import annotations

import os
import tomllib
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator

from toolkit.errors import ConfigError, nearest_name
from toolkit.records import Sampling

ENVIRONMENT_PREFIX = "TOOLKIT_"
ENVIRONMENT_ALIASES = {"OPENAI_API_KEY": "openai_api_key", "OPENAI_BASE_URL": "openai_base_url"}
"""Names that the vendors' own tools read, and the fields that they fill."""


class Config(BaseModel):
    """Every setting of a run.

    A field that is not given is read from the environment (``TOOLKIT_`` and the field's name in capitals;
    for OpenAI also ``OPENAI_API_KEY`` and ``OPENAI_BASE_URL``), else it has its default.

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
    openai_base_url: str | None = Field(
        None, pattern=r"^https?://", description="address of a server that speaks OpenAI's protocol"
    )
    openai_api_key: SecretStr | None = Field(None, description="key of the account")

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
        merged = {**_from_environment(os.environ), **values}
        for name in merged:
            if name not in type(self).model_fields:
                raise ConfigError(f"{name!r} is no setting; {nearest_name(name, type(self).model_fields)}")
        try:
            super().__init__(**merged)
        except ValidationError as error:
            raise ConfigError(_explain(error)) from None

    @model_validator(mode="after")
    def _check_together(self) -> Self:
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
        try:
            return cls(**{**values, **_from_environment(os.environ), **overrides})
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None

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


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that the environment holds; an empty variable counts as unset."""
    found = {field: environment[name] for name, field in ENVIRONMENT_ALIASES.items() if environment.get(name)}
    for name in Config.model_fields:
        if value := environment.get(ENVIRONMENT_PREFIX + name.upper()):
            found[name] = value
    return found


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
        given = "" if "api_key" in name else f"={finding['input']!r}"
        message = message[0].lower() + message[1:]
        sentences.append(f"{name}{given}: {message} ({field.description})")
    return "; ".join(sentences)
