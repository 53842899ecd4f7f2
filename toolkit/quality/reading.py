"""Reading the summaries of two runs beside each other, and judging them without knowing whose they are."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from toolkit.frames import REAL, TEXT, Column, frame_of
from toolkit.parts import MOST_CHARACTERS, Beside, Fold, Part, Text, View, Writing, notebook_html
from toolkit.quality.references import References, references_of
from toolkit.quality.scoring import SCORES, scores
from toolkit.records import Episode
from toolkit.runs import Run
from toolkit.wording import is_missing, plain, shown

if TYPE_CHECKING:
    import pandas as pd

SHOWN = ("rouge1", "rouge2", "rougeL", "coverage", "coverage_evenness", "novelty2", "repetition", "words")
"""The scores that stand beside the texts."""

TEXTS = (
    Column("episode_id", TEXT, "", "the episode"),
    Column("title", TEXT, "", "its title"),
    Column("kind", TEXT, "", "kind of the reference; null if the episode has none"),
    Column("left", TEXT, "", "a summary; null if that run has none"),
    Column("right", TEXT, "", "the other run's"),
    Column("reference", TEXT, "", "null if there is none"),
)
STATUSES = tuple(
    Column(f"{side}_status", TEXT, "", "of the episode in that run; null if it is not in it")
    for side in ("left", "right")
)
KEY = (
    Column("episode_id", TEXT, "", "the episode"),
    Column("left", TEXT, "", "id of the run whose summary is on the left"),
    Column("right", TEXT, "", "likewise"),
)

MOST_ROWS_SHOWN = 50
"""A notebook with more of them gets slow; the frame has all."""


class SideBySide:
    """Two runs' summaries, a row for each episode (and kind of reference); shows itself in a notebook.

    Attributes
    ----------
    frame : DataFrame
        ``episode_id``, ``title``, ``kind``, ``left``, ``right``, ``reference``; unless blind, statuses and
        scores of both sides, ``left_rouge1`` and so on, with the meaning that they have in ``SCORES``.
    key : DataFrame
        Which run is on which side: ``episode_id``, ``left``, ``right``. Judgements are joined to it:
        ``judged.merge(pairs.key, on="episode_id")``.
    labels : tuple of str
        What stands above the columns.
    """

    def __init__(self, frame: pd.DataFrame, key: pd.DataFrame, labels: tuple[str, str]) -> None:
        self.frame = frame
        self.key = key
        self.labels = labels

    def __len__(self) -> int:
        return len(self.frame)

    def __repr__(self) -> str:
        return f"<SideBySide: {len(self)} rows, {' | '.join(shown(label, 80) for label in self.labels)}>"

    def _repr_html_(self) -> str:
        """Return the texts for the notebook; all of them are shown as text."""
        return notebook_html(View("", parts=self.parts()))

    def parts(self, most: int = MOST_ROWS_SHOWN) -> list[Part]:
        """Return the first rows as parts of a page."""
        rows = [row for _, row in self.frame.head(most).iterrows()]
        parts: list[Part] = [Fold(*_row_parts(row, self.labels), is_open=True) for row in rows]
        if more := len(self.frame) - len(rows):
            parts.append(Text(f"{more:,} more rows are in .frame."))
        return parts or [Text("There are no summaries.")]


def side_by_side(
    run_a: Run,
    run_b: Run,
    episodes: Sequence[Episode] = (),
    references: References | None = None,
    *,
    kind: str | Mapping[str, str] | None = None,
    blind: bool = False,
    seed: int = 0,
) -> SideBySide:
    """Put the summaries of two runs beside each other.

    Parameters
    ----------
    run_a, run_b : Run
        ``run_a`` is on the left unless ``blind``. An episode that is in one of them only has one side.
    episodes, references, kind
        As for ``scores``; without episodes there are no scores, and no references but those given.
    blind : bool
        Left and right are shuffled for each episode, and nothing but the texts is shown: no names, statuses
        or scores, which would tell. ``.key`` says afterwards which is which.
    seed : int
        Of the shuffle. An episode's sides depend on it and on the episode's id only.

    Returns
    -------
    SideBySide
        In a notebook a table to read; ``.frame`` is the DataFrame.

    Raises
    ------
    ConfigError
        As ``scores``.
    """
    runs = (run_a, run_b)
    scored = bool(episodes)
    if not scored:
        # What is known of them without their transcripts.
        names = {record.episode_id: record.title for run in runs for record in run.records}
        episodes = [Episode(name, (), title) for name, title in names.items()]
    tables = [
        _by_row(scores(run, episodes, references, kind=kind)) if scored else _statuses(run) for run in runs
    ]
    texts = [{record.episode_id: record.summary.text or None for record in run.records} for run in runs]
    known = {episode.id: episode for episode in episodes}
    by_episode = references_of(episodes, references, kind)
    columns = TEXTS if blind else (*TEXTS, *STATUSES, *(_score_columns() if scored else ()))
    rows, key = [], []
    for episode_id in dict.fromkeys([*texts[0], *texts[1]]):
        sides = [0, 1]
        if blind and random.Random(f"{seed} {episode_id}").random() < 0.5:
            sides.reverse()
        key.append(
            {"episode_id": episode_id}
            | {name: runs[side].id for name, side in zip(("left", "right"), sides, strict=True)}
        )
        for name in by_episode[episode_id] or [None]:
            row: dict[str, Any] = {
                # Of an episode that is in one of the runs only the other side is null.
                **dict.fromkeys(column.name for column in columns),
                "episode_id": episode_id,
                "title": known[episode_id].title,
                "kind": name,
                "reference": None if name is None else by_episode[episode_id][name],
            }
            for place, side in zip(("left", "right"), sides, strict=True):
                row[place] = texts[side].get(episode_id)
                own = tables[side].get((episode_id, name if scored else None), {})
                row |= {f"{place}_{measure}": value for measure, value in own.items()}
            rows.append(row)
    labels = ("left", "right") if blind else (_label(run_a), _label(run_b))
    return SideBySide(frame_of(columns, rows), frame_of(KEY, key), labels)


def _label(run: Run) -> str:
    return f"{run.provider}/{run.model} (run {run.id})"


def _by_row(table: pd.DataFrame) -> dict[tuple[str, str | None], dict[str, Any]]:
    """Return status and shown scores by episode and kind."""
    import pandas as pd

    return {
        (row["episode_id"], None if pd.isna(row["kind"]) else row["kind"]): {
            name: row[name] for name in ("status", *SHOWN)
        }
        for _, row in table.iterrows()
    }


def _statuses(run: Run) -> dict[tuple[str, str | None], dict[str, Any]]:
    return {(record.episode_id, None): {"status": record.summary.status.value} for record in run.records}


def _score_columns() -> Iterator[Column]:
    for column in SCORES:
        if column.name in SHOWN:
            for side in ("left", "right"):
                yield Column(f"{side}_{column.name}", column.dtype, column.unit, column.meaning)


def _row_parts(row: pd.Series[Any], labels: tuple[str, str]) -> tuple[str, list[Part]]:
    said = {name: None if is_missing(value) else value for name, value in row.items()}
    heading = " · ".join(
        shown(part, 60)
        for part in dict.fromkeys((said["title"], said["episode_id"], said["kind"]))
        if part is not None
    )
    pair = [_writing(said, side, label) for side, label in zip(("left", "right"), labels, strict=True)]
    parts: list[Part] = [Beside(pair)]
    if said["reference"] is not None:
        parts.append(Beside([Writing("Reference", plain(said["reference"], MOST_CHARACTERS))]))
    return heading, parts


def _writing(said: Mapping[Any, Any], side: str, label: str) -> Writing:
    text, status = said[side], said.get(f"{side}_status")
    missing = f"no summary{f' ({status})' if status else ''}" if text is None else ""
    note = _figures(said, side) if "left_words" in said else ""
    return Writing(shown(label, 80), plain(text or "", MOST_CHARACTERS), missing, note)


def _figures(said: Mapping[Any, Any], side: str) -> str:
    found = {name: said[f"{side}_{name}"] for name in SHOWN}
    return ", ".join(
        f"{name} {value:.2f}" if dtype == REAL else f"{name} {value}"
        for name, dtype in ((column.name, column.dtype) for column in SCORES)
        if (value := found.get(name)) is not None
    )
