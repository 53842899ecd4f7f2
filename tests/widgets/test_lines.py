"""The lines of code that do what a panel does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import toolkit
from toolkit import Config, Episode, load_episodes
from toolkit.widgets.lines import lines_of

DATA = Path(toolkit.__file__).parents[1] / "data/episodes"


def executed(lines: str, **names: Any) -> dict[str, Any]:
    found = dict(names)
    exec(lines, found)
    return found


def test_lines_run_as_they_are(scripted: Config) -> None:
    """They make the same config, the same plan, the same run and the same sweep."""
    episodes = load_episodes(DATA)
    cells = [{"summary_batch_size": 1}, {"summary_batch_size": 2}]
    config = scripted.replace(chunk_tokens=300, direct_prompt='Say "{text}"\nin short')
    found = executed(lines_of(episodes, episodes, config, cells, names={}))
    assert [episode.id for episode in found["episodes"]] == [episode.id for episode in episodes]
    assert found["config"].shown() == config.shown()
    assert found["run"].counts() == {"ok": len(episodes)}
    assert len(found["study"].cells) == 2


def test_the_working_folder_is_left_out(monkeypatch: pytest.MonkeyPatch, scripted: Config) -> None:
    """The lines go into a notebook that others run elsewhere."""
    monkeypatch.chdir(DATA)
    episodes = load_episodes(DATA)
    text = lines_of(episodes, episodes, scripted, names={})
    assert str(DATA) not in text
    assert episodes[0].path is not None
    assert episodes[0].path.name in text


def test_texts_without_files_are_taken_by_their_name(episodes: list[Episode], scripted: Config) -> None:
    """In the notebook they have one; ``episodes`` itself needs no line."""
    assert "episodes = talks" in lines_of(episodes, episodes, scripted, names={"talks": episodes})
    lines = lines_of(episodes, episodes, scripted, names={"_1": episodes, "episodes": episodes})
    assert "episodes = " not in lines
    assert executed(lines, episodes=episodes)["run"].counts() == {"ok": len(episodes)}


def test_short_texts_without_a_name_are_written_out(scripted: Config) -> None:
    """Whatever is in them stays a string."""
    wild = [Episode.from_text("a'b", 'He said: "x"\n\\n is no line end.', title="<b>")]
    found = executed(lines_of(wild, wild, scripted, names={}))
    assert found["episodes"][0].transcript == wild[0].transcript
    assert found["episodes"][0].title == "<b>"


def test_secrets_are_not_in_the_lines(episodes: list[Episode]) -> None:
    """They say where a key is to come from."""
    config = Config(
        provider="openai",
        openai_api_key="sk-very-secret-key",
        store_url="postgresql+psycopg://me:passw0rd@host/db",
        summary_chunk_parallelism=1,
    )
    text = lines_of(episodes, episodes, config, names={"episodes": episodes})
    assert "sk-very" not in text
    assert "passw0rd" not in text
    assert "# openai_api_key is not written out" in text


def test_they_are_shown_as_they_are(episodes: list[Episode], scripted: Config) -> None:
    """The value of the last expression of a cell is its repr: that of a string would be one long line."""
    lines = lines_of(episodes, episodes, scripted, names={"episodes": episodes})
    assert repr(lines) == str(lines)
    assert isinstance(lines, str)
