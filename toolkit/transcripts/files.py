"""Which files a source means, and which of a folder's files are no transcripts by convention."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from toolkit.errors import TranscriptError
from toolkit.transcripts.tables import is_table

REFERENCE_SUFFIX = ".ref.txt"
"""``night.ref.txt`` beside ``night.vtt`` is a summary that a person wrote of it."""

_SUFFIXES = frozenset(
    [".aud", ".csv", ".htm", ".html", ".json", ".markdown", ".md", ".srt", ".text", ".tsv", ".txt", ".vtt"]
)
_TABLE_SUFFIXES = frozenset([".csv", ".tsv"])
_ABOUT_THE_FOLDER = ("readme", "license", "licence")
_HEAD_BYTES = 1_000


class File(NamedTuple):
    """A file to load; ``named`` if the user named it itself rather than its folder or a glob."""

    path: Path
    named: bool


def find_files(sources: Iterable[str | Path]) -> tuple[list[File], list[TranscriptError]]:
    """Return the files that the sources mean, each once, and the sources that mean none."""
    found: dict[Path, File] = {}
    problems: list[TranscriptError] = []
    for source in sources:
        if not isinstance(source, str | Path):
            raise TypeError(f"a source is a path or glob (str or Path), not {type(source).__name__}")
        try:
            for file in _files_of(source):
                found.setdefault(file.path.resolve(), file)
        except TranscriptError as error:
            problems.append(error)
        except OSError as error:
            problems.append(TranscriptError(f"cannot be read ({error.strerror or error})", path=source))
    files = [file for file in found.values() if not _transcripts_of(file.path)]
    if not (files or problems):
        problems = [_only_references(file.path) for file in found.values()]
    return files, problems


def reference_of(path: Path) -> Path | None:
    """Return the reference beside a transcript, if there is one."""
    reference = path.with_name(path.stem + REFERENCE_SUFFIX)
    return reference if reference != path and reference.is_file() else None


def goes_with_a_transcript(path: Path) -> bool:
    """Say whether a file is named after a transcript beside it, as ``a.topics.json`` is after ``a.txt``."""
    owner = path.name.split(".")[0]
    return owner != path.stem and any(
        other.stem == owner and _may_be_transcript(other) for other in path.parent.iterdir()
    )


def _files_of(source: str | Path) -> Iterator[File]:
    path = Path(source).expanduser()
    if path.is_dir():
        files = [file for file in sorted(path.iterdir()) if _may_be_transcript(file)]
        if not files:
            raise TranscriptError("there is no transcript in this folder" + _deeper(path), path=source)
        yield from (File(file, named=False) for file in files)
    elif path.exists():
        yield File(path, named=True)
    elif any(mark in str(source) for mark in "*?["):
        matches = [Path(match) for match in sorted(glob.glob(str(path), recursive=True))]
        files = [file for file in matches if _may_be_transcript(file)]
        if not files:
            other = (
                f"its {len(matches)} matches are no transcripts" if matches else "no file matches this glob"
            )
            raise TranscriptError(other, path=source)
        yield from (File(file, named=False) for file in files)
    else:
        raise TranscriptError("there is no such file or folder", path=source)


def _may_be_transcript(path: Path) -> bool:
    """Say what convention says: by the name, and for tables by the first line."""
    name = path.name.lower()
    return (
        path.suffix.lower() in _SUFFIXES
        and not name.startswith((".", *_ABOUT_THE_FOLDER))
        and not name.endswith(REFERENCE_SUFFIX)
        and path.is_file()
        and (path.suffix.lower() not in _TABLE_SUFFIXES or _begins_like_a_table(path))
    )


def _begins_like_a_table(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    # An encoding that hides the header makes the file somebody else's table, which is left out too.
    return is_table(head.decode("utf-8-sig", errors="replace").replace("\r\n", "\n"))


def _transcripts_of(reference: Path) -> list[Path]:
    """Return the transcripts beside a file that is named like a reference; none for all other files."""
    if not reference.name.endswith(REFERENCE_SUFFIX):
        return []
    episode_id = reference.name.removesuffix(REFERENCE_SUFFIX)
    return [
        path
        for path in sorted(reference.parent.iterdir())
        if path.stem == episode_id and _may_be_transcript(path)
    ]


def _only_references(path: Path) -> TranscriptError:
    owners = " or ".join(owner.name for owner in _transcripts_of(path))
    return TranscriptError(f"this is the reference of {owners}; load that", path=path)


def _deeper(folder: Path) -> str:
    below = (path for path in folder.glob("*/**/*") if path.suffix.lower() in _SUFFIXES)
    if any(_may_be_transcript(path) for path in below):
        return f"; its subfolders have some, for which load {folder}/**/*"
    return f"; it is one by its suffix ({' '.join(sorted(_SUFFIXES))}) and content"
