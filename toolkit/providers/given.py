"""What functions are given: a config, a provider, or both, and what each of them decides."""

from __future__ import annotations

from toolkit.arguments import check_kind
from toolkit.config import Config
from toolkit.errors import ConfigError
from toolkit.providers.base import SummarizationProvider

OF_THE_RUN = frozenset(
    {
        "budget_calls",
        "budget_name",
        "budget_tokens",
        "budget_usd",
        "cluster_address",
        "episode_backend",
        "repeat",
        "reuse",
        "secrets_reader",
        "stop_grace_s",
        "store_password",
        "store_text",
        "store_url",
        "store_wait_s",
        "summary_batch_size",
        "summary_chunk_parallelism",
    }
)
"""Settings of the run alone; all others are the provider's, which was made with them."""


def config_given(config: Config | None, provider: SummarizationProvider | None = None) -> Config:
    """Return the config that a function was given, else that of the provider it was given, else the default.

    Beside a provider it is the provider's own with the schedule of the one that is given.

    Raises
    ------
    ConfigError
        If either is something else, or the config sets something that the provider was not made with: it
        would have no effect and still stand in the run.
    """
    if provider is not None:
        hint = "give what get_provider(config) returns, or name it in Config(provider=...)"
        check_kind("provider", provider, SummarizationProvider, hint)
    if config is None:
        return Config() if provider is None else provider.config
    hint = "give a Config, such as Config(provider='openai', summary_batch_size=4), or Config.from_toml(FILE)"
    check_kind("config", config, Config, hint)
    if provider is None:
        return config
    for name in sorted(config.model_fields_set - OF_THE_RUN):
        if getattr(config, name) != getattr(provider.config, name):
            raise ConfigError(
                f"config has {name}={getattr(config, name)!r}, but the provider that is given was made with "
                f"{getattr(provider.config, name)!r}; make the provider with this config"
            )
    return provider.config.replace(**{name: getattr(config, name) for name in OF_THE_RUN})
