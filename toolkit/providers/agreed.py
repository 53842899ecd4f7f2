"""A provider that is given, and a config beside it: what each of them decides."""

from __future__ import annotations

from toolkit.config import Config
from toolkit.errors import ConfigError
from toolkit.providers.base import SummarizationProvider

OF_THE_RUN = frozenset(
    {
        "budget_calls",
        "budget_name",
        "budget_tokens",
        "budget_usd",
        "repeat",
        "reuse",
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


def agreed_config(config: Config, provider: SummarizationProvider) -> Config:
    """Return the provider's config with the schedule of this one; refuse one that says something else.

    It would have no effect and still stand in the run.

    Raises
    ------
    ConfigError
        If it sets something that the provider was not made with.
    """
    for name in sorted(config.model_fields_set - OF_THE_RUN):
        if getattr(config, name) != getattr(provider.config, name):
            raise ConfigError(
                f"config has {name}={getattr(config, name)!r}, but the provider that is given was made with "
                f"{getattr(provider.config, name)!r}; make the provider with this config"
            )
    return provider.config.replace(**{name: getattr(config, name) for name in OF_THE_RUN})
