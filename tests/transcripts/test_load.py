"""From paths to episodes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from toolkit.errors import TranscriptError
from toolkit.transcripts import load_episodes

NOBODY = 65534
"""A user who owns nothing here."""
TALK = "Ann: One.\nBob: Two.\n"


@pytest.fixture
def folder(tmp_path):
    def write(**files):
        for name, content in files.items():
            path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(exist_ok=True)
            path.write_text(content, encoding="utf-8")
        return tmp_path

    return write


def ids(episodes):
    return [episode.id for episode in episodes]


def test_id_title_path_and_reference(folder):
    """The id is the name without its last suffix, the title is made of it, the reference stands beside it."""
    here = folder(
        **{"night-trains.whisper_dot_txt": TALK, "night-trains.whisper_dot_ref_dot_txt": "A talk.\n"}
    )
    (episode,) = load_episodes(here / "night-trains.whisper.txt")
    assert (episode.id, episode.title) == ("night-trains.whisper", "Night trains whisper")
    assert (episode.reference, episode.path) == ("A talk.", here / "night-trains.whisper.txt")


def test_a_folder_gives_its_transcripts_by_name(folder):
    """Files of other kinds, hidden files, sidecars and subfolders are left out; order is by name."""
    here = folder(
        **{
            "b.txt": TALK,
            "a.srt": "1\n00:00:01,000 --> 00:00:02,000\nOne.\n",
            "a.ref.txt": "A reference.",
            "a.topics.json": '{"topics": []}',
            "README.md": "Read me.",
            "LICENSE.txt": "Free.",
            ".hidden.txt": TALK,
            "cover.png": "x",
            "manifest.csv": "id,words\na,3\n",
            "c.csv": "start,end,text\n0,10,One.\n",
            "deeper__d.txt": TALK,
        }
    )
    episodes = load_episodes(str(here))
    assert ids(episodes) == ["a", "b", "c"]
    assert [episode.reference for episode in episodes] == ["A reference.", None, None]


def test_globs_and_lists_load_each_file_once_in_order(folder):
    """Sources may overlap and mix; ``**`` goes into subfolders."""
    here = folder(**{"a.txt": TALK, "b.txt": TALK, "sub__c.txt": TALK, "sub__c.ref.txt": "Ref."})
    assert ids(load_episodes([here / "b.txt", here, f"{here}/**/*"])) == ["b", "a", "c"]
    assert ids(load_episodes(iter([here / "sub" / "*.txt"]))) == ["c"]


def test_brackets_in_a_name_are_no_glob_if_the_file_is_there(folder):
    """An existing path means itself."""
    assert ids(load_episodes(folder(**{"a[1].txt": TALK}) / "a[1].txt")) == ["a[1]"]


def test_a_reference_is_no_episode(folder):
    """Named itself among others it is left out; alone it is an error that says what to load."""
    here = folder(**{"a.txt": TALK, "a.ref.txt": "Ref.", "b.ref.txt": "No transcript is beside me."})
    assert ids(load_episodes([here / "a.txt", here / "a.ref.txt"])) == ["a"]
    assert ids(load_episodes(here / "*.txt")) == ["a"]
    assert ids(load_episodes(here / "b.ref.txt")) == ["b.ref"]
    with pytest.raises(TranscriptError, match=r"the reference of a\.txt"):
        load_episodes(here / "a.ref.txt")


@pytest.mark.parametrize(
    ("name", "content", "start"),
    [
        ("a.txt", "WEBVTT\n\n00:01.000 --> 00:02.000\nOne.\n", 1.0),
        ("a.vtt", "1\n00:00:01,000 --> 00:00:02,000\nOne.\n", 1.0),
        ("a.md", json.dumps({"segments": [{"start": 1, "text": "One."}]}), 1.0),
        ("a.json", "start\tend\ttext\n1000\t2000\tOne.\n", 1.0),
        ("a.srt", "<cite>Ann</cite><time>0:01</time><p>One.</p>", 1.0),
        ("a.unknown", "[0:01] Ann: One.\n", 1.0),
        ("a.txt", "[MUSIC]\nAnn: One.\n", None),
        ("a.txt", "{gap} One.\n", None),
    ],
)
def test_content_decides_on_the_format(folder, name, content, start):
    """A wrong suffix does no harm, and text that begins like JSON is text."""
    (episode,) = load_episodes(folder(**{name: content}) / name)
    assert episode.text == "One."
    assert episode.turns[0].start_s == start


@pytest.mark.parametrize("source", ["missing.txt", "missing/*.txt", "only", "."])
def test_sources_without_transcripts_are_one_error(folder, source):
    """A missing path, an idle glob, an empty folder: the error names it."""
    here = folder(**{"only__cover.png": "x"})
    with pytest.raises(TranscriptError) as caught:
        load_episodes(here / source)
    assert caught.value.path == here / source


def test_a_folder_whose_subfolders_have_some_says_how_to_load_them(folder):
    """The advice can be followed word for word."""
    here = folder(**{"sub__a.txt": TALK})
    with pytest.raises(TranscriptError, match="its subfolders have some") as caught:
        load_episodes(here)
    assert ids(load_episodes(str(caught.value).split()[-1])) == ["a"]


def test_good_files_survive_bad_ones(folder):
    """All bad files are reported together, and the good episodes are on the error."""
    here = folder(**{"a.txt": TALK, "b.txt": " ", "c.json": "{", "d.txt": TALK})
    with pytest.raises(TranscriptError) as caught:
        load_episodes([here, here / "missing.txt"])
    error = caught.value
    assert ids(error.loaded) == ["a", "d"]
    assert sorted(problem.path.name for problem in error.problems) == ["b.txt", "c.json", "missing.txt"]
    assert all(str(problem) in str(error) for problem in error.problems)


def test_warnings_instead_of_errors(folder):
    """With ``errors="warn"`` the good episodes are returned and one warning lists the others."""
    here = folder(**{"a.txt": TALK, "b.txt": " ", "c.json": "{"})
    with pytest.warns(UserWarning, match=r"(?s)2 files.*b\.txt.*c\.json") as caught:
        assert ids(load_episodes(here, errors="warn")) == ["a"]
    assert len(caught) == 1
    assert caught[0].filename == __file__


def test_a_single_bad_file_raises_its_own_error(folder):
    """One file, one plain error with its place."""
    path = folder(**{"b.txt": " "}) / "b.txt"
    with pytest.raises(TranscriptError) as caught:
        load_episodes(path)
    assert (caught.value.path, caught.value.problems) == (path, ())


def test_two_files_of_one_id_are_both_problems(folder):
    """Neither is surely the one that was meant: each is an error that names the other; the others load."""
    here = folder(**{"a.txt": TALK, "a.md": TALK, "b.txt": TALK})
    with pytest.raises(TranscriptError, match=r"^2 files could not be loaded") as caught:
        load_episodes(here)
    assert ids(caught.value.loaded) == ["b"]
    assert [problem.path for problem in caught.value.problems] == [here / "a.md", here / "a.txt"]
    assert all(
        str(here / name) in str(problem) for problem in caught.value.problems for name in ("a.md", "a.txt")
    )


def test_other_json_is_left_out_only_as_a_sidecar_in_a_folder(folder):
    """Named itself, or without a transcript that it goes with, it is an error."""
    here = folder(**{"a.txt": TALK, "a.topics.json": "{}", "z.json": "{}"})
    with pytest.raises(TranscriptError) as caught:
        load_episodes(here)
    assert [problem.path.name for problem in caught.value.problems] == ["z.json"]
    with pytest.raises(TranscriptError, match="no transcript"):
        load_episodes(here / "a.topics.json")
    with pytest.raises(TranscriptError, match="only sidecars"):
        load_episodes(here / "*.topics.json")


@pytest.mark.skipif(os.name != "posix", reason="only POSIX systems have such permissions")
def test_a_file_that_may_not_be_read_is_one_error(folder, monkeypatch):
    """The words of the operating system are passed on."""
    here = folder(**{"a.txt": TALK})
    here.chmod(0o755)
    (here / "a.txt").chmod(0)
    monkeypatch.chdir(here)  # The folders above may be closed to others.
    if is_root := os.geteuid() == 0:  # Who may read everything.
        os.seteuid(NOBODY)
    try:
        with pytest.raises(TranscriptError, match=r"a\.txt.*Permission denied"):
            load_episodes("a.txt")
    finally:
        if is_root:
            os.seteuid(0)


def test_wrong_arguments(folder):
    """What is no path and no policy is a mistake in the caller's code."""
    with pytest.raises(TypeError, match="a source is a path"):
        load_episodes([3])
    with pytest.raises(ValueError, match="'raise' or 'warn'"):
        load_episodes(folder(a=TALK), errors="ignore")


def test_the_import_is_cheap():
    """Readers are small; nothing of the scientific stack comes with them."""
    heavy = {"numpy", "pandas", "torch", "matplotlib", "sqlalchemy"}
    code = f"import sys, toolkit.transcripts; sys.exit(bool({heavy} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
