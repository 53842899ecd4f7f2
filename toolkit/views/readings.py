"""Summaries to be read, beside each other and beside what a person wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from toolkit.parts import MOST_CHARACTERS, Absent, Beside, Fold, Part, Text, Writing
from toolkit.records import Episode, EpisodeRecord
from toolkit.views.figures import Ran
from toolkit.views.tables import error_of, name_of, way_to
from toolkit.wording import plain

MOST_SUMMARIES = 200
REFERENCE = "Reference, written by a person"


def references_of(episodes: Sequence[Episode]) -> dict[str, str]:
    """Return the summaries by people, by the ids of their episodes."""
    return {episode.id: episode.reference for episode in episodes if episode.reference}


def summaries_of(run: Ran, references: Mapping[str, str], most: int = MOST_SUMMARIES) -> list[Part]:
    """Return the summaries of a run, each folded, with what a person wrote beside it."""
    if not run.records:
        return [Absent("Summaries", "There are none.")]
    parts: list[Part] = [
        Fold(heading_of(record), [Beside(_writings(record, references))]) for record in run.records[:most]
    ]
    if len(run.records) > most:
        parts.append(
            Text(
                f"The first {most:,} of {len(run.records):,} are here. All of them: {way_to(run, 'episodes')}"
            )
        )
    return parts


def heading_of(record: EpisodeRecord) -> str:
    """Return an episode's title, with its id where that is another, and how it ended."""
    title, name = name_of(record.title), name_of(record.episode_id)
    return f"{title if title == name else f'{title} ({name})'}: {record.summary.status}"


def _writings(record: EpisodeRecord, references: Mapping[str, str]) -> list[Writing]:
    found = [writing_of(record, "Summary")]
    if record.episode_id in references:
        text = plain(references[record.episode_id], MOST_CHARACTERS)
        found.append(Writing(REFERENCE, text))
    return found


def writing_of(record: EpisodeRecord | None, heading: str) -> Writing:
    """Return the summary of an episode, and what is missing from it."""
    if record is None:
        return Writing(heading, "", "not in this run")
    summary = record.summary
    missing = error_of(summary.error)
    if not summary.text and not missing:
        missing = "no text was kept"
    return Writing(heading, plain(summary.text, MOST_CHARACTERS), missing)
