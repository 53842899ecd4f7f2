"""From paths to episodes: which files, under which names, and what to say of those that cannot be read."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

from toolkit.errors import TranscriptError
from toolkit.records import Episode
from toolkit.transcripts import html, json_shapes, plain, subtitles, tables
from toolkit.transcripts.clean import one_line, words_only
from toolkit.transcripts.decode import check_lines, read_text
from toolkit.transcripts.detect import format_of
from toolkit.transcripts.files import find_files, goes_with_a_transcript, reference_of
from toolkit.transcripts.turns import Segment, to_turns

_READERS: dict[str, Callable[[str, Path], tuple[str, list[Segment]]]] = {
    "html": html.read,
    "json": json_shapes.read,
    "plain": plain.read,
    "subtitles": subtitles.read,
    "table": tables.read,
}


def load_episodes(
    source: str | Path | Iterable[str | Path], *, errors: Literal["raise", "warn"] = "raise"
) -> list[Episode]:
    """Read transcripts.

    Parameters
    ----------
    source : path, or iterable of paths
        Files, folders and globs (``"shows/**/*.vtt"``). The format of a file is told by its content: plain
        text or Markdown with or without speaker labels, WebVTT, SubRip, the JSON of Podcasting 2.0, Whisper,
        WhisperX, whisper.cpp and the OpenAI API, Podcasting 2.0 HTML, Whisper's tsv, whisper.cpp's csv,
        Audacity labels.
    errors : {"raise", "warn"}
        What to do about files that cannot be read: raise one error about all of them (the episodes that
        could be read are its ``loaded``), or return the others and give one warning.

    Returns
    -------
    list of Episode
        In the order of ``source``, the files of a folder by name. ``<id>.ref.txt`` beside a transcript is
        its ``reference``.

    Raises
    ------
    TranscriptError
        A file is missing, broken or no transcript, or two files have one id.

    Notes
    -----
    A folder's own files are read, not those of its subfolders. Of a folder or glob these are left out:
    hidden files, ``README*``, ``LICENSE*``, references, files whose suffix no transcript has, tables of
    something else, and JSON of another shape that goes with a transcript (``night.topics.json`` beside
    ``night.txt``). A file that is named itself is never left out, save the reference of a transcript.
    """
    if errors not in ("raise", "warn"):
        raise ValueError(f"errors has to be 'raise' or 'warn', not {errors!r}")
    sources = [source] if isinstance(source, str | Path) else list(source)
    files, problems = find_files(sources)
    episodes: list[Episode] = []
    for file in files:
        try:
            episodes.append(_episode(file.path))
        except TranscriptError as error:
            sidecar = isinstance(error, json_shapes.OtherShape) and goes_with_a_transcript(file.path)
            if file.named or not sidecar:
                problems.append(error)
    episodes, clashes = _without_clashes(episodes)
    problems += clashes
    if sources and not (episodes or problems):
        problems.append(TranscriptError("there are only sidecars of transcripts", path=files[0].path))
    if problems and errors == "warn":
        warnings.warn(_summary(problems), UserWarning, stacklevel=2)
    elif len(problems) == 1 and len(files) <= 1 and len(sources) == 1:
        raise problems[0]
    elif problems:
        raise TranscriptError(_summary(problems), problems=problems, loaded=episodes)
    return episodes


def _episode(path: Path) -> Episode:
    text = read_text(path)
    kind = format_of(text, path.suffix)
    if kind != "json":  # a writer of JSON may put all of it in one line
        check_lines(text, path)
    title, segments = _READERS[kind](text, path)
    turns = to_turns(segments)
    if not turns:
        raise TranscriptError("there are no words in it, only times, labels or tags", path=path, line=1)
    reference = reference_of(path)
    return Episode(
        id=one_line(path.stem),
        turns=turns,
        title=words_only(title) or _title_from(path.stem),
        reference=read_text(reference).strip() if reference else None,
        path=path,
    )


def _title_from(id: str) -> str:
    words = " ".join(id.replace("-", " ").replace("_", " ").replace(".", " ").split())
    return words[:1].upper() + words[1:] or id


def _without_clashes(episodes: list[Episode]) -> tuple[list[Episode], list[TranscriptError]]:
    """Set apart the episodes whose id is not theirs alone: none is surely the one that was meant."""
    by_id: defaultdict[str, list[Episode]] = defaultdict(list)
    for episode in episodes:
        by_id[episode.id].append(episode)
    clashes = [
        TranscriptError(
            f"the id {episode.id!r} (the file's name without suffix) is also that of "
            f"{', '.join(str(other.path) for other in by_id[episode.id] if other is not episode)}; "
            "rename a file or load one of them",
            path=episode.path,
        )
        for episode in episodes
        if len(by_id[episode.id]) > 1
    ]
    return [episode for episode in episodes if len(by_id[episode.id]) == 1], clashes


def _summary(problems: list[TranscriptError]) -> str:
    count = "one file" if len(problems) == 1 else f"{len(problems)} files"
    return f"{count} could not be loaded:" + "".join(f"\n  - {problem}" for problem in problems)
