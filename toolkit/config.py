"""``Config``: every setting of a run, checked, frozen, and printable without secrets."""

from __future__ import annotations

import math
import os
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from toolkit.environment import ConfigWarning, from_environment, merge_settings, warn_of_unknown
from toolkit.errors import ConfigError, nearest_name
from toolkit.parts import Text, View, notebook_html
from toolkit.records import Sampling
from toolkit.refusals import explain, secrets_among
from toolkit.settings import default_of, settings_parts
from toolkit.urls import DATABASES, check_database_url, check_server_url, same_place
from toolkit.wording import shown

_MOST_SHOWN = 100
"""Columns of a text, such as a prompt, in the repr."""
_SERVER_URLS = ("openai_base_url", "azure_endpoint", "anthropic_base_url")


class Config(BaseModel):
    """Every setting of a run.

    A field that is not given is read from the environment (``TOOLKIT_`` and the field's name in capitals;
    for hosted models also the names that the vendors' own tools read, such as ``OPENAI_API_KEY``), else it
    has its default. ``AZURE_OPENAI_ENDPOINT`` counts only where nothing is set for OpenAI itself. A password
    that stands in ``store_url`` is taken out of it and becomes ``store_password``.

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
    episode_backend: Literal["threads", "processes", "dask", "ray"] | None = Field(
        None,
        description="where episodes are worked on: in threads of this process, in processes of this machine, "
        "or on a cluster; unset: where joblib.parallel_config says, else in threads",
    )
    cluster_address: str | None = Field(
        None,
        min_length=1,
        description="address of Dask's scheduler or Ray's head; unset: the client that is at hand",
    )
    secrets_reader: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        description="module:function that worker processes ask for keys and passwords that are not in their "
        "environment, by the setting's name",
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
        description="where the limits' state is: a file, a database of PostgreSQL that machines share, or "
        "this process alone; unset: a file that all processes of this user share",
    )
    limits_password: SecretStr | None = Field(
        None, description="password of that database; taken from limits_url if it stands there"
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
    engine: Literal["auto", "torch", "openvino"] = Field(
        "auto", description="what runs a local model; auto takes the fastest that is installed and can"
    )
    engine_batch_tokens: int = Field(
        16_384, ge=64, description="bound on the tokens of prompts and replies that a local model works on"
    )
    engine_memory_gb: float | None = Field(
        None,
        gt=0,
        description="10^9 bytes that a local model may take, weights and all; unset: its weights and half of "
        "what is free beside them",
    )
    engine_instances: Literal["shared", "per_episode"] = Field(
        "shared",
        description="per_episode loads the model once for each episode at work, with a share of the cores, "
        "in place of one that all share",
    )
    deterministic: bool = Field(
        False, description="a local model's replies do not depend on what else it works on; takes longer"
    )
    model_revision: str | None = Field(None, description="branch, tag or commit of a hub model")
    trust_remote_code: bool = Field(False, description="run code that comes with a model")

    max_attempts: int = Field(4, ge=1, le=100, description="tries of a call, the first included")
    retry_total_s: float = Field(300.0, ge=0, description="seconds after which a call is not tried again")
    stop_grace_s: float = Field(
        30.0, ge=0, le=3600, description="seconds that calls under way get to end once the run is stopped"
    )

    store_url: str | None = Field(
        None,
        description="where runs are kept: a file, a database of PostgreSQL, or not beyond this process; "
        "unset: a file in the project's folder",
    )
    store_password: SecretStr | None = Field(
        None, description="password of the database; taken from store_url if it stands there"
    )
    store_text: bool = Field(
        True, description="keep summaries and replies; without them nothing can be reused"
    )
    store_wait_s: float = Field(
        60.0,
        ge=0,
        le=86_400,
        description="seconds for which a store that cannot be written is tried again; no new call starts",
    )
    reuse: Literal["all", "run", "none"] = Field(
        "all",
        description="all takes every stored answer to the same request, run only those of earlier, "
        "unfinished starts of this very run, none asks anew",
    )
    repeat: int = Field(
        1,
        ge=1,
        description="number of an independent repeat; calls of different repeats are never taken for each "
        "other",
    )

    budget_usd: float | None = Field(
        None, gt=0, description="US dollars that the run may spend; unset: no bound"
    )
    budget_tokens: int | None = Field(
        None, ge=1, description="tokens of prompts and replies that the run may use; unset: no bound"
    )
    budget_calls: int | None = Field(None, ge=1, description="calls that the run may make; unset: no bound")
    budget_name: str | None = Field(
        None,
        min_length=1,
        max_length=200,
        description="runs with one name, also in several processes, draw from one budget; unset: the run "
        "has its own",
    )

    def __init__(self, **values: Any) -> None:
        fields = type(self).model_fields
        merged = merge_settings(from_environment(os.environ, values, fields), values)
        for name in merged:
            if name not in fields:
                raise ConfigError(f"{name!r} is no setting; {nearest_name(name, fields)}", [name])
        warn_of_unknown(os.environ, fields)
        try:
            super().__init__(**merged)
        except ValidationError as error:
            named = [str(finding["loc"][0]) for finding in error.errors() if finding["loc"]]
            raise ConfigError(explain(error, fields, os.environ), named) from None

    def __setattr__(self, name: str, value: object) -> None:
        raise ConfigError(f"a Config does not change; use config.replace({name}=...), which returns another")

    def __getstate__(self) -> dict[Any, Any]:
        """Leave secrets out of a pickle: who loads it has them from its own environment, or has none."""
        state = super().__getstate__()
        shown = {
            name: None if isinstance(value, SecretStr) else value for name, value in state["__dict__"].items()
        }
        return {**state, "__dict__": shown}

    def __setstate__(self, state: dict[Any, Any]) -> None:
        kept = state["__dict__"]
        environment = from_environment(os.environ, {}, type(self).model_fields)
        # So that the password of another address there is not taken for that of this one.
        there = merge_settings(environment, {url: kept[url] for url in DATABASES})
        found = {name: SecretStr(there[name]) for name in _SECRETS & there.keys() if kept[name] is None}
        super().__setstate__({**state, "__dict__": {**kept, **found}})

    @field_validator(*DATABASES)
    @classmethod
    def _check_database_url(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None:
            check_database_url(value, DATABASES[str(info.field_name)])
        return value

    @field_validator("prices", mode="before")
    @classmethod
    def _check_prices(cls, value: object) -> object:
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, Mapping):
            for model, row in value.items():
                if not isinstance(row, Mapping) or not all(map(_is_amount, row.values())):
                    raise ValueError(f"the prices of {model!r} must be numbers from 0 on")
            return {model: dict(row) for model, row in value.items()}
        return value

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        for name in _SERVER_URLS:
            if (url := getattr(self, name)) is not None:
                check_server_url(name, url)
        if self.chunk_tokens is not None and self.chunk_overlap_tokens > self.chunk_tokens // 2:
            raise ValueError(
                f"chunk_overlap_tokens={self.chunk_overlap_tokens} is more than half of "
                f"chunk_tokens={self.chunk_tokens}; a chunk must bring something new"
            )
        for name in ("direct_prompt", "map_prompt", "reduce_prompt"):
            template = getattr(self, name)
            if template is not None and "{text}" not in template:
                raise ValueError(f"{name} must hold {{text}}, the place where the text goes")
        if self.budget_name is not None and not (self.budget_usd or self.budget_tokens or self.budget_calls):
            raise ValueError(
                f"budget_name={self.budget_name!r} shares a budget, but none is set; add budget_usd, "
                "budget_tokens or budget_calls"
            )
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
        environment = from_environment(os.environ, {**values, **overrides}, cls.model_fields)
        try:
            return cls(**merge_settings(values, environment, overrides))
        except ConfigError as error:
            nearer = {**environment, **overrides}
            if error.settings and all(name in nearer for name in error.settings):
                raise
            raise ConfigError(f"{path}: {error}", error.settings) from None

    def replace(self, **changes: Any) -> Config:
        """Return a copy with some settings changed, checked like a new one.

        The password of a database goes along to an address of the same user, database, host and port only.
        For any other it is what stands in that address, in the changes or in the environment, or none.
        """
        given = {name: getattr(self, name) for name in self.model_fields_set}
        for url, password in DATABASES.items():
            before = getattr(self, url)
            if before is not None and url in changes and not same_place(before, changes[url]):
                given.pop(password, None)
        return type(self)(**merge_settings(given, changes))

    def with_secrets(self) -> Config:
        """Return a copy in which the user's own reader has filled in the secrets that are not set.

        Raises
        ------
        ConfigError
            If ``secrets_reader`` is not here, raises, or gives something else than text or None.
        """
        reader = self.secrets_reader
        if reader is None:
            return self
        module, _, function = reader.partition(":")
        found = {}
        for name in sorted(_SECRETS):
            if getattr(self, name) is not None:
                continue
            try:
                value = getattr(import_module(module), function)(name)
            except Exception as error:
                # Its kind alone: what a reader says may hold a secret.
                raise ConfigError(
                    f"secrets_reader={reader!r} raised {type(error).__name__} when asked for {name!r}; every "
                    "worker must be able to import and to call it",
                    ["secrets_reader"],
                ) from None
            if value is not None and not isinstance(value, str):
                raise ConfigError(
                    f"secrets_reader={reader!r} gave a {type(value).__name__} for {name!r}, and no text",
                    ["secrets_reader"],
                )
            if value:
                found[name] = SecretStr(value)
        return self.model_copy(update=found)

    def shown(self) -> dict[str, Any]:
        """Return all settings but the secrets, as values that JSON can hold, to be kept beside a run.

        ``Config(**config.shown())`` has the same settings, whatever the environment holds by then. For that,
        settings that nobody chose are among them, and in the new config all count as chosen. Its secrets
        come from the environment.
        """
        # What an earlier release wrote may not be what its field now says; that is not to be told here.
        return self.model_dump(mode="json", exclude=set(_SECRETS), warnings=False)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            if name is None or value != default_of(name, type(self).model_fields):
                yield name, shown(value, _MOST_SHOWN) if isinstance(value, str) else value

    def _repr_html_(self) -> str:
        parts = settings_parts(self.shown(), type(self).model_fields)
        if secret := [name for name in sorted(_SECRETS) if getattr(self, name) is not None]:
            parts.append(Text(f"Set, and never shown: {', '.join(secret)}"))
        return notebook_html(View("Config", parts=parts))

    def sampling(self, *, repetition_penalty: float = 1.0, no_repeat_ngram: int = 0) -> Sampling:
        """Return the sampling settings, with a provider's defaults for those that are unset."""
        return Sampling(
            temperature=self.temperature,
            top_p=self.top_p,
            seed=self.seed,
            repetition_penalty=self.repetition_penalty or repetition_penalty,
            no_repeat_ngram=no_repeat_ngram if self.no_repeat_ngram is None else self.no_repeat_ngram,
        )


_SECRETS = secrets_among(Config.model_fields)


def _is_amount(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value) and value >= 0
