"""From a provider's name to its class; a vendor's package loads only when its provider is asked for."""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import entry_points

from toolkit.config import Config
from toolkit.errors import ConfigError, MissingDependency, nearest_name
from toolkit.providers.base import SummarizationProvider
from toolkit.providers.given import config_given

ENTRY_POINT_GROUP = "toolkit.providers"

PROVIDERS = {
    "anthropic": "toolkit.providers.anthropic:AnthropicSummarizationProvider",
    "extractive": "toolkit.providers.extractive:ExtractiveSummarizationProvider",
    "lead": "toolkit.providers.lead:LeadSummarizationProvider",
    "openai": "toolkit.providers.openai:OpenAISummarizationProvider",
    "scripted": "toolkit.providers.scripted:ScriptedSummarizationProvider",
    "transformers": "toolkit.providers.transformers:TransformersSummarizationProvider",
}
"""Name and place of the built-in providers."""

EXTRAS: dict[str, str] = {"anthropic": "anthropic"}
"""Extra of the distribution that a provider needs, where it needs one."""


def provider_names() -> tuple[str, ...]:
    """Return the names of all providers: built in, and announced by other packages."""
    return tuple(sorted({*PROVIDERS, *(point.name for point in entry_points(group=ENTRY_POINT_GROUP))}))


def provider_class(name: str) -> type[SummarizationProvider]:
    """Import the class of a provider.

    Raises
    ------
    ConfigError
        If there is no provider of that name, or what is announced under it is none.
    MissingDependency
        If a package that it needs is not installed.
    """
    place = PROVIDERS.get(name)
    if place is None:
        for point in entry_points(group=ENTRY_POINT_GROUP, name=name):
            place = point.value
            break
        else:
            raise ConfigError(f"provider {name!r} is unknown; {nearest_name(name, provider_names())}")
    module, _, attribute = place.partition(":")
    try:
        home = import_module(module)
    except ModuleNotFoundError as error:
        missing = error.name or module
        raise MissingDependency(f"provider {name!r}", missing.partition(".")[0], EXTRAS.get(name)) from error
    found = getattr(home, attribute, None)
    if found is None:
        raise ConfigError(f"provider {name!r}: {module} has no {attribute!r}")
    if not (isinstance(found, type) and issubclass(found, SummarizationProvider)):
        raise ConfigError(f"provider {name!r}: {place} is no subclass of SummarizationProvider")
    if lacking := [need for need in ("name", "generate") if not _states(found, need)]:
        raise ConfigError(f"provider {name!r}: {place} does not state {' and '.join(lacking)}")
    return found


def _states(provider: type[SummarizationProvider], attribute: str) -> bool:
    stated = getattr(provider, attribute, None)
    return stated is not None and stated is not getattr(SummarizationProvider, attribute, None)


def get_provider(config: Config | None = None) -> SummarizationProvider:
    """Make the provider that a config names.

    Examples
    --------
    >>> provider = get_provider(Config(provider="scripted"))
    >>> provider.summarize("Bees dance. They point to flowers.").text
    'Bees dance.'
    """
    config = config_given(config)
    return provider_class(config.provider)(config)
