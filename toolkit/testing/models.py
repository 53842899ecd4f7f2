"""What the server knows about models: context, output cap, and whether they reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from toolkit.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model of the server.

    Attributes
    ----------
    name : str
    context_tokens : int
        Input and output together.
    max_output_tokens : int
        Largest cap that may be asked for.
    reasoning : bool
        Refuses ``max_tokens`` in Chat Completions, and spends part of the cap on reasoning.
    fixed_temperature : bool
        Refuses any temperature but 1.
    """

    name: str
    context_tokens: int = 128_000
    max_output_tokens: int = 16_384
    reasoning: bool = False
    fixed_temperature: bool = False

    def __post_init__(self) -> None:
        if not self.name:
            raise ConfigError("models: a model needs a name")
        if self.context_tokens < 1 or self.max_output_tokens < 1:
            raise ConfigError(f"models: {self.name!r} needs a context and an output cap of at least 1 token")


CATALOGUE = (
    ModelSpec("gpt-5.6-luna", 1_050_000, 128_000, reasoning=True),
    ModelSpec("gpt-5.6-sol", 1_050_000, 128_000, reasoning=True),
    ModelSpec("gpt-4.1", 1_047_576, 32_768),
    ModelSpec("gpt-4.1-mini", 1_047_576, 32_768),
    ModelSpec("gpt-4o", 128_000, 16_384),
    ModelSpec("gpt-4o-mini", 128_000, 16_384),
    ModelSpec("claude-opus-5-5", 200_000, 64_000),
    ModelSpec("claude-sonnet-5-5", 200_000, 64_000),
    ModelSpec("claude-haiku-5-5", 200_000, 64_000),
)
"""Listed by ``GET /v1/models`` where no models were given."""

# By the start of the name, the first that fits; for servers that take any name.
_FAMILIES = (
    ("gpt-6", ModelSpec("gpt-6", 1_050_000, 128_000, reasoning=True)),
    ("gpt-5", ModelSpec("gpt-5", 1_050_000, 128_000, reasoning=True)),
    ("o1", ModelSpec("o1", 200_000, 100_000, reasoning=True)),
    ("o3", ModelSpec("o3", 200_000, 100_000, reasoning=True)),
    ("o4", ModelSpec("o4", 200_000, 100_000, reasoning=True)),
    ("gpt-4.1", ModelSpec("gpt-4.1", 1_047_576, 32_768)),
    ("claude", ModelSpec("claude", 200_000, 64_000)),
)
_ANY = ModelSpec("any")


class Models:
    """The models of a server.

    Parameters
    ----------
    given : iterable of str or ModelSpec, optional
        The only models there are; without it any name is answered, with the properties of its family.
    """

    def __init__(self, given: Iterable[str | ModelSpec] | None = None) -> None:
        self._open = given is None
        self._specs: dict[str, ModelSpec] = {}
        for item in CATALOGUE if given is None else given:
            spec = item if isinstance(item, ModelSpec) else _of_family(item)
            self._specs[spec.name] = spec

    def __iter__(self) -> Iterator[ModelSpec]:
        return iter(self._specs.values())

    def find(self, name: str) -> ModelSpec | None:
        """Return a model, or None if there is none of this name."""
        spec = self._specs.get(name)
        return _of_family(name) if spec is None and self._open else spec


def _of_family(name: str) -> ModelSpec:
    family = next((spec for start, spec in _FAMILIES if name.startswith(start)), _ANY)
    return ModelSpec(
        name, family.context_tokens, family.max_output_tokens, family.reasoning, family.fixed_temperature
    )
