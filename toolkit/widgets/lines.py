"""The lines of code that do what a panel does, without it: runnable as they are, and without secrets."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toolkit.config import Config
from toolkit.records import Episode
from toolkit.refusals import secrets_among

MOST_CHARACTERS = 20_000
"""Of texts that are written out; longer ones must be at hand under a name."""
_WIDTH = 100


class Lines(str):
    """Lines of code, shown as they are."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


def lines_of(
    episodes: Sequence[Episode],
    given: object,
    config: Config,
    cells: Sequence[Mapping[str, Any]] = (),
    *,
    names: Mapping[str, object] | None = None,
) -> Lines:
    """Return the lines that plan and run episodes under a config, and go over some cells.

    Parameters
    ----------
    episodes : sequence of Episode
    given : object
        What the panel was given: it may have a name in the notebook.
    config : Config
    cells : sequence of mapping
        Settings for a sweep.
    names : mapping, optional
        The notebook's own; by default those of this kernel.
    """
    names = _names_here() if names is None else names
    lines = ["import toolkit as tk", "", *_episodes(episodes, given, names), *_config(config)]
    lines += ["plan = tk.plan(episodes, config)", "run = tk.run(episodes, config)"]
    if cells:
        written = ",\n    ".join(repr(dict(cell)) for cell in cells)
        lines += [f"cells = [\n    {written},\n]", "study = tk.sweep(episodes, config, cells=cells)"]
    return Lines("\n".join(lines))


def _episodes(episodes: Sequence[Episode], given: object, names: Mapping[str, object]) -> list[str]:
    """Return how to get the episodes: from their files, under their name, or written out."""
    paths = [episode.path for episode in episodes if episode.path is not None]
    if len(paths) == len(episodes) and len({*paths}) == len(paths) and all(path.is_file() for path in paths):
        return [_assigned("episodes = tk.load_episodes", [_short(path) for path in paths])]
    name = next((name for name, value in names.items() if value is given and not name.startswith("_")), None)
    if name is not None:
        return [] if name == "episodes" else [f"episodes = {name}"]
    if sum(len(episode.transcript) for episode in episodes) <= MOST_CHARACTERS:
        made = [
            f"tk.Episode.from_text({episode.id!r}, {episode.transcript!r}, title={episode.title!r})"
            for episode in episodes
        ]
        return ["episodes = [\n    " + ",\n    ".join(made) + ",\n]"]
    return ["# episodes = the transcripts that the panel was given; they have no files and no name here"]


def _short(path: Path) -> str:
    """Return a path below the working folder as it is from there."""
    place = path.absolute()
    return str(place.relative_to(Path.cwd()) if place.is_relative_to(Path.cwd()) else place)


def _assigned(call: str, items: Sequence[str]) -> str:
    line = f"{call}([{', '.join(map(repr, items))}])"
    if len(line) <= _WIDTH:
        return line
    return f"{call}(\n    [\n" + "".join(f"        {item!r},\n" for item in items) + "    ]\n)"


def _config(config: Config) -> list[str]:
    """Return how to make a config: what differs from the defaults, and where its keys come from."""
    fields = type(config).model_fields
    secrets = secrets_among(fields)
    kept = [name for name in sorted(secrets) if getattr(config, name) is not None]
    # Said in so many words, so that it does not warn of what an older version would have meant.
    chosen = {
        name: getattr(config, name)
        for name in fields
        if name not in secrets
        and (getattr(config, name) != fields[name].default or name == "summary_chunk_parallelism")
    }
    written = "".join(f"    {name}={value!r},\n" for name, value in chosen.items())
    where = [
        f"# {name} is not written out: set TOOLKIT_{name.upper()}, or the vendor's own variable, before"
        for name in kept
    ]
    return [*where, f"config = tk.Config(\n{written})"]


def _names_here() -> Mapping[str, object]:
    """Return the names of the notebook whose kernel this is, without importing IPython."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return {} if shell is None else dict(shell.user_ns)
