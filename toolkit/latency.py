"""``LatencyModel``: how long calls take and how long replies become, fitted to calls or stated."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from toolkit.arguments import check_kind
from toolkit.crowding import max_concurrent_of
from toolkit.errors import ConfigError, nearest_name
from toolkit.files import write_whole
from toolkit.fitting import (
    LEAST_CALLS,
    gaps_between,
    input_scale_of,
    median,
    observations,
    regress,
    reply_lengths,
    seconds_beside,
    usable_calls,
)
from toolkit.records import Stage
from toolkit.runs import Run
from toolkit.wording import counted

if TYPE_CHECKING:
    import pandas as pd

_NEXT_BEST = {
    Stage.DIRECT: (Stage.DIRECT, Stage.REDUCE, Stage.MAP),
    Stage.MAP: (Stage.MAP, Stage.REDUCE, Stage.DIRECT),
    Stage.REDUCE: (Stage.REDUCE, Stage.DIRECT, Stage.MAP),
}


class Fit(NamedTuple):
    r"""What a model was fitted to, and how well it fits.

    Attributes
    ----------
    calls : int
    r2 : float
        Share of the variance of service times that the mean explains.
    median_error : float
        Median of :math:`\lvert measured / mean - 1 \rvert`.
    input_tokens, output_tokens : tuple of float
        Least and most; beyond them the model is a guess.
    width : float
        Widest batch.
    """

    calls: int
    r2: float
    median_error: float
    input_tokens: tuple[float, float]
    output_tokens: tuple[float, float]
    width: float


@dataclass(frozen=True)
class LatencyModel:
    r"""Service time, its spread, reply lengths, and what a call costs beside its service.

    A request of :math:`i` input and :math:`o` output tokens, of :math:`w` that a local model works on
    together, is served in

    .. math:: t = (a + b\,w\,i + c\,o + d\,(w - 1)\,o) \cdot r

    seconds, where :math:`r` has mean 1. Where requests come and go meanwhile, :math:`w` is the mean over that
    time; in a padded batch all have the tokens of the longest. Hosted models answer each request by itself:
    :math:`w = 1`.

    Attributes
    ----------
    base_s : float
        :math:`a`, seconds.
    per_input_token_s, per_output_token_s : float
        :math:`b` and :math:`c`, seconds a token.
    per_neighbour_token_s : float
        :math:`d`, seconds that each output token takes longer for each further request at work.
    spread : float or sequence of float
        Distribution of :math:`r`: the :math:`\sigma` of a lognormal one, or quantiles at equal steps from 0
        to 1, as a fit keeps them.
    output_tokens : float, mapping or None
        Length of a reply if no cap cut it: one figure, or by stage a figure or quantiles; a stage that is
        left out is taken for the nearest one. None: every reply is as long as its cap.
    overhead_s : float
        Between a call's admission and its sending.
    gap_s, episode_gap_s : float
        Between the end of a call and the start of the next that takes its place in the episode, and the same
        of episodes.
    run_s : float
        What a run takes beside all that, once.
    input_scale : float or None
        What the server counts for a prompt, by the provider's first estimate. None: as much, and four bytes a
        token where the provider knows no vocabulary.
    max_concurrent : int or None
        Requests that a server works on at once; it refuses more. None: no bound is known. Local models have
        none: what there is no room for waits.
    fitted : Fit or None
        None if the model was stated.

    Examples
    --------
    >>> LatencyModel(base_s=0.4, per_output_token_s=0.012, spread=0.2, output_tokens=180)
    LatencyModel(0.4 s + 12 ms/output token, spread 20 %, 180 output tokens)
    """

    base_s: float = 0.0
    per_input_token_s: float = 0.0
    per_output_token_s: float = 0.0
    spread: float | Sequence[float] = 0.0
    output_tokens: float | Mapping[str, float | Sequence[float]] | None = None
    per_neighbour_token_s: float = 0.0
    overhead_s: float = 0.0
    gap_s: float = 0.0
    episode_gap_s: float = 0.0
    run_s: float = 0.0
    input_scale: float | None = None
    max_concurrent: int | None = None
    fitted: Fit | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name in _SECONDS:
            _check(name, getattr(self, name))
        if self.input_scale is not None:
            _check("input_scale", self.input_scale, above_zero=True)
        most = self.max_concurrent
        if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
            raise ConfigError(f"latency: max_concurrent={most!r} must be a whole number from 1 on, or None")
        if isinstance(self.spread, Sequence):
            object.__setattr__(self, "spread", _quantiles("spread", self.spread))
        else:
            _check("spread", self.spread)
        given = self.output_tokens
        if isinstance(given, Mapping):
            for stage in given:
                if stage not in set(Stage):
                    raise ConfigError(
                        f"output_tokens: {stage!r} is no stage; {nearest_name(str(stage), map(str, Stage))}"
                    )
            lengths = {
                str(stage): _quantiles(f"output_tokens[{stage!r}]", value) for stage, value in given.items()
            }
            object.__setattr__(self, "output_tokens", lengths)
        elif given is not None:
            _check("output_tokens", given)

    # Making one

    @classmethod
    def constant(cls, seconds: float, output_tokens: float | None = None) -> Self:
        """Return the model of calls that all take so many seconds."""
        return cls(base_s=seconds, output_tokens=output_tokens)

    @classmethod
    def fit(cls, *measured: pd.DataFrame | Run) -> Self:
        """Fit a model to calls that were made.

        Parameters
        ----------
        measured : DataFrame or Run
            Frames ``calls``, or whole runs, which also tell what a run takes beside its calls, how a
            server's count of prompts differs from the estimate, and how many requests it works on at once,
            if it refused more. Only calls that went well and were not reused enter.

        Returns
        -------
        LatencyModel
            Coefficients by non-negative least squares on relative residuals with Huber's weights, of the
            terms that the calls can tell apart (by the Bayesian information criterion); the spread and the
            reply lengths as quantiles.

        Raises
        ------
        ConfigError
            If there are fewer than 8 such calls, or they are of several models.
        """
        import numpy as np
        import pandas as pd

        runs = [item for item in measured if isinstance(item, Run)]
        frames = [item.calls if isinstance(item, Run) else item for item in measured]
        made = [usable_calls(frame) for frame in frames]
        calls = pd.concat(made) if made else pd.DataFrame()
        if len(calls) < LEAST_CALLS:
            raise ConfigError(
                f"too few to fit a latency model to: {counted(len(calls), 'call')} that went well without "
                f"being reused; at least {LEAST_CALLS} are needed. Measure more (reuse='none' asks anew), or "
                "state it: LatencyModel(base_s=..., per_output_token_s=...)"
            )
        models = sorted(
            {f"{row[0]}/{row[1]}" for row in calls[["provider", "model"]].itertuples(index=False)}
        )
        if len(models) > 1:
            raise ConfigError(
                f"calls of {len(models)} models ({', '.join(models)}) cannot make one latency model; fit each"
            )
        terms, seconds, widest = observations(calls)
        weights, ratios = regress(terms, seconds)
        means = terms @ weights
        gaps = [gaps_between(frame) for frame in made]
        run_s = [seconds_beside(run) for run in runs if len(usable_calls(run.calls))]
        return cls(
            base_s=float(weights[0]),
            per_input_token_s=float(weights[1]),
            per_output_token_s=float(weights[2]),
            per_neighbour_token_s=float(weights[3]),
            spread=tuple(ratios),
            output_tokens=reply_lengths(calls),
            overhead_s=float(calls["overhead_s"].median()),
            gap_s=median(np.concatenate([call for call, _ in gaps])),
            episode_gap_s=median(np.concatenate([episode for _, episode in gaps])),
            run_s=median(run_s),
            input_scale=input_scale_of(runs),
            max_concurrent=max_concurrent_of(runs),
            fitted=Fit(
                calls=len(calls),
                r2=float(
                    1 - ((seconds - means) ** 2).sum() / max(((seconds - seconds.mean()) ** 2).sum(), 1e-12)
                ),
                median_error=float(np.median(np.abs(seconds / means - 1))),
                input_tokens=(float(calls["input_tokens"].min()), float(calls["input_tokens"].max())),
                output_tokens=(float(calls["output_tokens"].min()), float(calls["output_tokens"].max())),
                width=widest,
            ),
        )

    # Asking it

    def mean_service_s(self, input_tokens: float, output_tokens: float, width: float = 1) -> float:
        """Return the mean seconds of service.

        Parameters
        ----------
        input_tokens, output_tokens : float
            Of the request; of a padded batch, those of its longest.
        width : float
            Requests that are worked on together.
        """
        return (
            self.base_s
            + self.per_input_token_s * width * input_tokens
            + (self.per_output_token_s + self.per_neighbour_token_s * (width - 1)) * output_tokens
        )

    def service_s(self, input_tokens: float, output_tokens: float, width: float, chance: float) -> float:
        """Return seconds of service; ``chance`` in (0, 1) says where in the spread."""
        mean = self.mean_service_s(input_tokens, output_tokens, width)
        if isinstance(self.spread, Sequence):
            return mean * _at(self.spread, chance)
        if not self.spread:
            return mean
        return mean * math.exp(self.spread * _NORMAL.inv_cdf(chance) - self.spread**2 / 2)

    def mean_output_tokens(self, stage: Stage, cap: int) -> float:
        """Return the mean length of a stage's replies under a cap, in tokens."""
        lengths = self._lengths[stage]
        if lengths is None:
            return cap
        inner = [min(length, cap) for length in lengths]
        steps = max(1, len(inner) - 1)  # the mean of the straight lines between the quantiles
        return (sum(inner) - (inner[0] + inner[-1]) / 2) / steps if len(inner) > 1 else inner[0]

    def reply_tokens(self, stage: Stage, cap: int, chance: float) -> tuple[int, bool]:
        """Return the length of one reply in tokens, and whether the cap cut it."""
        lengths = self._lengths[stage]
        if lengths is None:
            return cap, False
        wanted = max(1, round(_at(lengths, chance)))
        return min(wanted, cap), wanted > cap

    @cached_property
    def _lengths(self) -> dict[Stage, tuple[float, ...] | None]:
        """Quantiles of each stage's replies."""
        given = self.output_tokens
        if given is None or isinstance(given, int | float):
            return dict.fromkeys(Stage, None if given is None else (float(given),))
        found: dict[Stage, tuple[float, ...] | None] = {}
        for stage, others in _NEXT_BEST.items():
            known = [other for other in others if other in given]
            found[stage] = _quantiles("", given[known[0]]) if known else None
        return found

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some values changed."""
        _check_names(changes)
        return replace(self, **changes)

    # Where one is given

    @classmethod
    def of(cls, given: LatencyModel | float) -> LatencyModel:
        """Return what a function was given as ``latency=``, or the model of so many seconds for each call.

        Raises
        ------
        ConfigError
            If it is neither.
        """
        hint = "give a LatencyModel, fitted (LatencyModel.fit(run)) or stated, or the seconds of each call"
        check_kind("latency", given, (LatencyModel, int, float), hint)
        return given if isinstance(given, LatencyModel) else cls.constant(given)

    # Keeping it

    def save(self, path: str | Path) -> Path:
        """Write the model to a JSON file; one that is there is replaced, and is whole at any moment."""
        place = Path(path).expanduser()
        write_whole([(place, json.dumps(asdict(self), indent=1, default=list) + "\n")])
        return place

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a model from a JSON file: one that `save` wrote, or one with some of the fields.

        Raises
        ------
        ConfigError
            If there is none, or it is no latency model.
        """
        try:
            values = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"latency: {path}: cannot be read ({error.strerror or error})") from None
        except ValueError as error:
            raise ConfigError(f"latency: {path}: is no valid JSON: {error}") from None
        if not isinstance(values, dict):
            raise ConfigError(f"latency: {path}: must hold an object with the fields of a LatencyModel")
        try:
            _check_names(values)
            if values.get("fitted") is not None:
                told = values["fitted"]
                values["fitted"] = Fit._make(tuple(item) if isinstance(item, list) else item for item in told)
            return cls(**values)
        except (ConfigError, TypeError) as error:
            raise ConfigError(f"latency: {path}: {error}") from None

    def __repr__(self) -> str:
        parts = [
            _unit(self.base_s, "s"),
            _unit(self.per_input_token_s, "s/input token"),
            _unit(self.per_output_token_s, "s/output token"),
            _unit(self.per_neighbour_token_s, "s/output token and neighbour"),
        ]
        shown = " + ".join(part for part in parts if part) or "0 s"
        told = [shown]
        if isinstance(self.spread, Sequence):
            low, high = (100 * (_at(self.spread, p) - 1) for p in (0.1, 0.9))
            told.append(f"spread {low:+z.0f} to {high:+z.0f} % (10 to 90 of 100)")
        elif self.spread:
            told.append(f"spread {100 * self.spread:.3g} %")
        if isinstance(self.output_tokens, Mapping):
            lengths = [f"{self.mean_output_tokens(Stage(s), 10**9):.0f} ({s})" for s in self.output_tokens]
            told.append(f"{', '.join(lengths)} output tokens")
        elif self.output_tokens is not None:
            told.append(f"{self.output_tokens:g} output tokens")
        if self.max_concurrent is not None:
            told.append(f"at most {counted(self.max_concurrent, 'request')} at once")
        if self.fitted is not None:
            fit = self.fitted
            told.append(f"fitted to {fit.calls} calls: R² {fit.r2:z.2f}, median error {fit.median_error:.1%}")
        return f"LatencyModel({', '.join(told)})"


_SECONDS = tuple(item.name for item in fields(LatencyModel) if item.name.endswith("_s"))
_NORMAL = NormalDist()


def _check(name: str, value: object, *, above_zero: bool = False) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ConfigError(f"latency: {name}={value!r} must be a number from 0 on")
    if above_zero and not value:
        raise ConfigError(f"latency: {name}={value!r} must be above 0")


def _check_names(values: Iterable[str]) -> None:
    known = [item.name for item in fields(LatencyModel)]
    for name in values:
        if name not in known:
            raise ConfigError(f"{name!r} is no field of a LatencyModel; {nearest_name(name, known)}")


def _quantiles(name: str, value: float | Sequence[float]) -> tuple[float, ...]:
    values = tuple(value) if isinstance(value, Sequence) else (value,)
    if not values:
        raise ConfigError(f"latency: {name} must not be empty")
    for number in values:
        _check(name, number)
    if list(values) != sorted(values):
        raise ConfigError(f"latency: {name}: quantiles must not fall")
    return values


def _at(quantiles: Sequence[float], chance: float) -> float:
    """Return a quantile, on straight lines between those that are known."""
    place = chance * (len(quantiles) - 1)
    below = int(place)
    if below + 1 >= len(quantiles):
        return quantiles[-1]
    return quantiles[below] + (place - below) * (quantiles[below + 1] - quantiles[below])


def _unit(value: float, unit: str) -> str:
    if not value:
        return ""
    for factor, prefix in ((1, ""), (1e3, "m"), (1e6, "µ")):
        if value * factor >= 0.1 or factor == 1e6:
            return f"{value * factor:.3g} {prefix}{unit}"
    raise AssertionError("the last prefix takes all")
