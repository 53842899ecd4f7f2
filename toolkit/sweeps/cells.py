"""From a grid, a list or a sample to cells: every setting is checked before anything runs."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, NamedTuple, get_args

from pydantic import SecretStr

from toolkit.config import Config
from toolkit.errors import ConfigError
from toolkit.keeping import NO_PART_OF_A_RUN
from toolkit.records import Episode

TAKEN = {
    "repeat": "it counts the repeats; say how many with repeats=",
    "reuse": "a measurement never takes another's answers",
    **dict.fromkeys(("budget_usd", "budget_tokens", "budget_calls", "budget_name"), "one budget is for all"),
    **dict.fromkeys(("store_url", "store_password", "store_text", "store_wait_s"), "one store keeps all"),
}
"""Fields that a sweep sets itself, and why."""
_SHOWN = 3
_DRAWS_EACH = 200
"""Draws for each point wanted, before a range counts as too narrow for so many."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One setting of a sweep.

    Attributes
    ----------
    number : int
        From 1.
    knobs : mapping
        What is set in it, field by field; all cells of a sweep have the same fields.
    config : Config
    key : str
        Digest of the whole setting and of the episodes.
    """

    number: int
    knobs: Mapping[str, Any]
    config: Config = field(repr=False)
    key: str

    @property
    def shown(self) -> str:
        """The cell in words, for messages."""
        return f"cell {self.number} ({write_knobs(self.knobs)})"


class Range(NamedTuple):
    """Values between two ends, both included; whole numbers where the setting is one."""

    low: float
    high: float
    log: bool
    whole: bool

    def draw(self, source: random.Random) -> float:
        """Draw one, evenly, or evenly by order of magnitude."""
        if not self.log:
            if self.whole:
                return source.randint(int(self.low), int(self.high))
            return source.uniform(self.low, self.high)
        # A whole number stands for what would be rounded to it, the ends too.
        edge = 0.5 if self.whole else 0.0
        value = math.exp(source.uniform(math.log(self.low - edge), math.log(self.high + edge)))
        value = min(max(value, self.low), self.high)
        return round(value) if self.whole else value


def write_knobs(knobs: Mapping[str, Any]) -> str:
    """Return ``summary_batch_size=2, chunk_tokens=512``."""
    return ", ".join(f"{name}={value!r}" for name, value in knobs.items())


def make_cells(
    config: Config,
    episodes: Sequence[Episode],
    grid: Mapping[str, Any] | None,
    cells: Iterable[Mapping[str, Any]] | None,
    sample: int | None,
    seed: int,
) -> list[Cell]:
    """Return the cells of a sweep, in their order in the grid or list.

    Raises
    ------
    ConfigError
        If there are none, a field is none or may not be swept over, two cells are the same, or a value is
        refused; all that is wrong with the values is said at once.
    """
    if (grid is None) == (cells is None):
        raise ConfigError("give either a grid, such as {'summary_batch_size': [1, 2, 4]}, or cells=[{…}, …]")
    if sample is not None and (isinstance(sample, bool) or not isinstance(sample, int) or sample < 1):
        raise ConfigError(f"sample={sample!r} must be a whole number from 1 on")
    if grid is None:
        return _checked_cells(config, episodes, _read_list(cells, sample, seed))
    return _checked_cells(config, episodes, _points(_read_grid(grid), sample, seed))


def _read_grid(grid: Mapping[str, Any]) -> dict[str, Sequence[Any] | Range]:
    if not isinstance(grid, Mapping):
        raise ConfigError("grid must be a mapping from fields to values: {'summary_batch_size': [1, 2, 4]}")
    if not grid:
        raise ConfigError("the grid is empty: name a field and its values, {'summary_batch_size': [1, 2, 4]}")
    check_fields(grid)
    return {name: _read_values(name, given) for name, given in grid.items()}


def _read_values(name: str, given: Any) -> Sequence[Any] | Range:
    if isinstance(given, Mapping) and given.keys() >= {"low", "high"}:
        return _read_range(name, given)
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise ConfigError(f"the grid has {name}={given!r}; give a list of values, [{given!r}]", [name])
    values = [_plain(value) for value in given]
    if not values:
        raise ConfigError(f"the grid has no values for {name}: it would have no cells", [name])
    return values


def _read_range(name: str, given: Mapping[str, Any]) -> Range:
    low, high, log = _plain(given["low"]), _plain(given["high"]), given.get("log", False)
    numbers = all(isinstance(end, int | float) and not isinstance(end, bool) for end in (low, high))
    if given.keys() - {"low", "high", "log"} or not isinstance(log, bool) or not numbers or not low < high:
        raise ConfigError(
            f"the range of {name} must be {{'low': a, 'high': b}}, a below b, and 'log': true if it is to be "
            "drawn from by order of magnitude",
            [name],
        )
    if log and low <= 0:
        raise ConfigError(f"the range of {name} begins at {low}; by order of magnitude it must be above 0")
    kinds = get_args(Config.model_fields[name].annotation) or (Config.model_fields[name].annotation,)
    if not {int, float} & set(kinds):
        raise ConfigError(f"{name} is no number, and has no range; give a list of values", [name])
    whole = float not in kinds
    if whole and not (isinstance(low, int) and isinstance(high, int)):
        raise ConfigError(f"{name} is a whole number, and so must be the ends of its range", [name])
    return Range(low, high, log, whole)


def _points(grid: Mapping[str, Sequence[Any] | Range], sample: int | None, seed: int) -> Iterator[Any]:
    """Yield the settings of a grid, the last field changing fastest, or a sample of them."""
    ranges = [name for name, values in grid.items() if isinstance(values, Range)]
    if ranges:
        if sample is None:
            raise ConfigError(f"{', '.join(ranges)} is a range, not a list; add sample=, how many to draw")
        yield from _draw(grid, sample, seed)
        return
    lists: dict[str, Sequence[Any]] = {name: list(values) for name, values in grid.items()}
    if sample is None:
        yield from (dict(zip(lists, point, strict=True)) for point in itertools.product(*lists.values()))
        return
    sizes = [len(values) for values in lists.values()]
    total = math.prod(sizes)
    # By number: a grid may be far larger than memory.
    for number in sorted(random.Random(seed).sample(range(total), min(sample, total))):
        point = {}
        for name, size in reversed(list(zip(lists, sizes, strict=True))):
            number, place = divmod(number, size)
            point[name] = lists[name][place]
        yield {name: point[name] for name in lists}


def _draw(grid: Mapping[str, Sequence[Any] | Range], sample: int, seed: int) -> Iterator[dict[str, Any]]:
    source = random.Random(seed)
    seen: set[str] = set()
    for _ in range(_DRAWS_EACH * sample):
        point = {
            name: values.draw(source) if isinstance(values, Range) else source.choice(values)
            for name, values in grid.items()
        }
        if (name := write_knobs(point)) not in seen:
            seen.add(name)
            yield point
        if len(seen) == sample:
            return
    raise ConfigError(f"sample={sample}: the ranges hold only about {len(seen)} different settings")


def _read_list(cells: Any, sample: int | None, seed: int) -> list[dict[str, Any]]:
    if isinstance(cells, str | Mapping) or not isinstance(cells, Iterable):
        raise ConfigError("cells must be a list of settings: [{'summary_batch_size': 2}, …]")
    found = []
    for number, given in enumerate(cells, 1):
        if not isinstance(given, Mapping):
            raise ConfigError(f"cell {number} is {given!r}; write settings: {{'summary_batch_size': 2}}")
        check_fields(given)
        found.append({name: _plain(value) for name, value in given.items()})
    if not found:
        raise ConfigError("cells is empty: give at least one setting, {'summary_batch_size': 2}")
    if sample is not None and sample < len(found):
        chosen = sorted(random.Random(seed).sample(range(len(found)), sample))
        found = [found[place] for place in chosen]
    return found


def check_fields(names: Iterable[Any]) -> None:
    """Raise ConfigError for what is no field of a config, or is none that may be swept over."""
    fields = Config.model_fields
    for name in names:
        if name not in fields:
            near = get_close_matches(str(name), fields, n=3, cutoff=0.5)
            hint = f"nearest are {', '.join(near)}" if near else "toolkit.Config has them all"
            raise ConfigError(f"{name!r} is no setting; {hint}", [str(name)])
        if name in TAKEN:
            raise ConfigError(f"a sweep cannot go over {name}: {TAKEN[name]}", [name])
        if "SecretStr" in str(fields[name].annotation):
            raise ConfigError(
                f"a sweep cannot go over {name}: it is a secret, and its values are shown", [name]
            )


def _checked_cells(
    config: Config, episodes: Sequence[Episode], points: Iterable[Mapping[str, Any]]
) -> list[Cell]:
    from toolkit.store import keys

    given = list(points)
    fields = list(dict.fromkeys(name for point in given for name in point))
    texts = keys.digest([(episode.id, episode.transcript, episode.reference) for episode in episodes])
    found: list[Cell] = []
    numbers: dict[str, int] = {}
    wrong: list[tuple[str, ConfigError]] = []
    for number, point in enumerate(given, 1):
        try:
            own = config.replace(**point)
        except ConfigError as error:
            wrong.append((f"cell {number} ({write_knobs(point)}): {error}", error))
            continue
        knobs = {name: getattr(own, name) for name in fields}
        settings = {name: value for name, value in own.shown().items() if name not in NO_PART_OF_A_RUN}
        cell = Cell(number, knobs, own, keys.digest("cell", settings, texts))
        if cell.key in numbers:
            raise ConfigError(
                f"cells {numbers[cell.key]} and {number} are the same ({write_knobs(knobs)}); to measure one "
                "several times use repeats="
            )
        numbers[cell.key] = number
        found.append(cell)
    if wrong:
        more = "" if len(wrong) <= _SHOWN else f"\nand {len(wrong) - _SHOWN} more"
        said = "\n".join(text for text, _ in wrong[:_SHOWN])
        names = dict.fromkeys(name for _, error in wrong for name in error.settings)
        raise ConfigError(f"{len(wrong)} of {len(given)} cells cannot be:\n{said}{more}", names)
    return found


def _plain(value: Any) -> Any:
    """Return numbers of NumPy as Python's own, which can be written down."""
    if isinstance(value, SecretStr):
        return value
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "ndim", None) == 0 else value


def shuffled(cells: Sequence[Cell], repeats: Sequence[int], seed: int) -> list[tuple[Cell, int]]:
    """Return the order of measurement: each repeat goes over all cells once, in an order of its own.

    So the repeats of a cell are spread over the whole sweep, and a machine that gets slower meanwhile does
    not look like an effect of the setting (a randomized block design; Fisher 1935).
    """
    order: list[tuple[Cell, int]] = []
    for repeat in repeats:
        block = list(cells)
        random.Random(json.dumps([seed, repeat])).shuffle(block)
        order += [(cell, repeat) for cell in block]
    return order
