"""From a run to the scores of its summaries: a row for each episode and kind of reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from toolkit.errors import ConfigError
from toolkit.frames import COUNT, REAL, TEXT, Column, frame_of
from toolkit.quality.measures import ROUGE, Figures, Rouge, Source, figures, rouge
from toolkit.quality.references import References, references_of
from toolkit.records import Episode
from toolkit.runs import Run

if TYPE_CHECKING:
    import pandas as pd

MAYBE = "boolean"

SCORES = (
    Column("run_id", TEXT, "", "the run"),
    Column("episode_id", TEXT, "", "the episode"),
    Column("provider", TEXT, "", "who summarized"),
    Column("model", TEXT, "", "with which model"),
    Column("status", TEXT, "", "of the episode: ok, partial, failed or cancelled"),
    Column("kind", TEXT, "", "kind of the reference; null if the episode has none"),
    Column(
        "rouge1", REAL, "0 to 1", "ROUGE-1, F; null without a reference or a summary, as are all of ROUGE"
    ),
    Column("rouge1_precision", REAL, "0 to 1", "share of the summary's words"),
    Column("rouge1_recall", REAL, "0 to 1", "share of the reference's words"),
    Column("rouge2", REAL, "0 to 1", "ROUGE-2, F"),
    Column("rouge2_precision", REAL, "0 to 1", "share of the summary's pairs of words"),
    Column("rouge2_recall", REAL, "0 to 1", "share of the reference's pairs of words"),
    Column("rougeL", REAL, "0 to 1", "ROUGE-L, F"),
    Column("rougeL_precision", REAL, "0 to 1", "longest common subsequence, of the summary's words"),
    Column("rougeL_recall", REAL, "0 to 1", "longest common subsequence, of the reference's words"),
    Column("coverage", REAL, "0 to 1", "share of what is said that the summary names"),
    Column(
        "coverage_evenness", REAL, "0.1 to 1", "over ten parts of the transcript; null if nothing is named"
    ),
    Column("novelty1", REAL, "0 to 1", "share of the summary's different words that the transcript has not"),
    Column("novelty2", REAL, "0 to 1", "likewise of pairs of words"),
    Column("repetition", REAL, "0 to 1", "share of runs of three words that were there before"),
    Column("words", COUNT, "words", "of the summary"),
    Column("sentences", COUNT, "sentences", "of the summary"),
    Column("compression", REAL, "words/word", "words of the transcript for each word of the summary"),
    Column("cut_off", MAYBE, "", "nothing ends the last sentence; null if that cannot be told"),
)

ROUGE_COLUMNS = tuple(column.name for column in SCORES if column.name.startswith(ROUGE))
FIGURES = tuple(Figures.__slots__)
"""Measures that need no reference: the same in all rows of an episode."""


def scores(
    run: Run,
    episodes: Sequence[Episode],
    references: References | None = None,
    *,
    kind: str | Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Score the summaries of a run.

    Parameters
    ----------
    run : Run
        Also one from ``open_store().run(id)``.
    episodes : sequence of Episode
        Those of the run, for their transcripts; there may be more.
    references : mapping, optional
        Episode id -> reference, or kind -> episode id -> reference; by default ``Episode.reference``.
    kind : str or mapping, optional
        What the references are (``"abstract"``, ``"show notes"``, ``"topic list"``), or episode id -> kind.
        References of different kinds are different yardsticks: state it where there are several, for no mean
        is taken over two kinds. By default ``"unstated"``.

    Returns
    -------
    DataFrame
        A row for each episode of the run and kind of its references (one if it has none), in the run's order;
        the columns are declared in ``toolkit.quality.SCORES``, the measures defined in
        ``toolkit.quality.measures``. An episode without a summary has a row with its status and nulls.

    Raises
    ------
    ConfigError
        If an episode of the run is not among ``episodes``, or a reference fits none of them.
    """
    known = {episode.id: episode for episode in episodes}
    for record in run.records:
        if record.episode_id not in known:
            raise ConfigError(
                f"episodes: {record.episode_id!r} of run {run.id} is not among them; pass the episodes that "
                "the run was made with"
            )
    by_episode = references_of(episodes, references, kind)
    rows: list[dict[str, Any]] = []
    for record in run.records:
        own = by_episode[record.episode_id]
        row: dict[str, Any] = {
            # What is not measured below is null.
            **dict.fromkeys(column.name for column in SCORES),
            "run_id": run.id,
            "episode_id": record.episode_id,
            "provider": run.provider,
            "model": run.model,
            "status": record.summary.status.value,
        }
        text = record.summary.text
        row |= asdict(figures(text, Source.of(known[record.episode_id]))) if text else {}
        for name in own or [None]:
            found = rouge(text, own[name]) if text and name is not None else None
            rows.append(row | {"kind": name} | _rouge_cells(found or {}))
    return frame_of(SCORES, rows)


def _rouge_cells(found: Mapping[str, Rouge]) -> dict[str, float]:
    cells: dict[str, float] = {}
    for name, score in found.items():
        cells |= {name: score.f, f"{name}_precision": score.precision, f"{name}_recall": score.recall}
    return cells
