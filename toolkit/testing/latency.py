"""How long the pretended model works on a request."""

from __future__ import annotations

import math
from dataclasses import dataclass

from toolkit.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Latency:
    r"""Seconds of work of a request with :math:`i` input and :math:`o` output tokens.

    .. math:: t = (a + b\,i + c\,o)\; e^{\sigma z - \sigma^2 / 2}

    with :math:`z` standard normal, drawn from the server's seed, the request's body and how often this
    body has come, so that the order of arrival does not matter. The noise has mean 1.

    Attributes
    ----------
    base_s : float
        :math:`a`, seconds.
    per_input_token_s, per_output_token_s : float
        :math:`b` and :math:`c`, seconds a token.
    sigma : float
        :math:`\sigma` of the lognormal noise; 0 is none.
    """

    base_s: float = 0.0
    per_input_token_s: float = 0.0
    per_output_token_s: float = 0.0
    sigma: float = 0.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
                raise ConfigError(f"latency: {name}={value!r} must be a number from 0 on")

    @classmethod
    def of(cls, value: object) -> Latency:
        """Read what the option takes: seconds, ``(a, b, c)``, ``(a, b, c, sigma)``, a mapping, a ``Latency``.

        Raises
        ------
        ConfigError
            If it is none of these.
        """
        if isinstance(value, cls):
            return value
        if isinstance(value, int | float) and not isinstance(value, bool):
            return cls(value)
        if isinstance(value, list | tuple) and 1 <= len(value) <= 4:
            return cls(*value)
        if isinstance(value, dict) and set(value) <= set(cls.__slots__):
            return cls(**value)
        raise ConfigError(
            f"latency={value!r}: give seconds, (base_s, per_input_token_s, per_output_token_s[, sigma]) "
            "or a Latency"
        )

    def seconds(self, input_tokens: int, output_tokens: int, first: float, second: float) -> float:
        """Return the seconds of work.

        ``first`` and ``second`` are uniform in [0, 1); Box and Muller's method makes them normal.
        """
        mean = self.base_s + self.per_input_token_s * input_tokens + self.per_output_token_s * output_tokens
        if not self.sigma:
            return mean
        normal = math.sqrt(-2.0 * math.log(1.0 - first)) * math.cos(2.0 * math.pi * second)
        return mean * math.exp(self.sigma * normal - self.sigma**2 / 2)
