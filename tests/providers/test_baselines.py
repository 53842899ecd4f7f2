"""The baselines: sentences of the transcript and nothing else, whatever stands around the text."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import toolkit as tk
from toolkit.config import Config
from toolkit.providers.baseline import sentences_of
from toolkit.providers.extractive import lexrank
from toolkit.providers.registry import get_provider
from toolkit.records import Request, Stage, Status, StopReason
from toolkit.tokens import estimate_tokens
from toolkit.words import content, stems

BASELINES = ["extractive", "lead"]
TALK = (
    "Host: Um. Welcome to the show.\n"
    "Ann Bell: Bees dance to show the way to flowers.\n"
    "Host: Yeah. Right. Okay.\n"
    "Ann Bell: The dance of the bees shows how far the flowers are. My car is green.\n"
    "Host: So the dance tells all other bees the way. Mm-hmm."
)


def summary_of(name: str, text: str, **settings: object) -> str:
    with get_provider(Config(provider=name, **settings)) as provider:
        summary = provider.summarize(text)
    assert summary.status is Status.OK, summary.error
    return summary.text


def test_lead_is_the_beginning() -> None:
    """It takes whole sentences from the start as far as the cap goes, without labels and mere fillers."""
    assert summary_of("lead", TALK, summary_max_tokens=20) == (
        "Welcome to the show. Bees dance to show the way to flowers."
    )
    assert summary_of("lead", TALK) == (
        "Welcome to the show. Bees dance to show the way to flowers. "
        "The dance of the bees shows how far the flowers are. My car is green. "
        "So the dance tells all other bees the way."
    )


def test_extractive_takes_what_the_talk_is_about() -> None:
    """The sentences most like the others come first; short ones do not fill the gaps."""
    text = (
        "Ann: A neighbour paints old cars green and silver.\n"
        "Bob: Bees dance to show the way to flowers.\n"
        "Ann: When flowers are far, bees need more time. My car is green.\n"
        "Bob: A dance lasts longer when the way is far."
    )
    best = "Bees dance to show the way to flowers."
    assert summary_of("extractive", text, summary_max_tokens=14) == best
    assert summary_of("extractive", text, summary_max_tokens=24) == (
        f"{best} When flowers are far, bees need more time."
    )


def test_extractive_says_nothing_twice() -> None:
    """A sentence that repeats another is passed over for one that says something else."""
    text = (
        "The bees dance for the flowers near the hive.\n" * 5 + "The wolves howl for the moon near the hill."
    )
    taken = summary_of("extractive", text)
    assert taken.count("bees") == 1
    assert "wolves" in taken


def test_extractive_keeps_the_order_of_the_talk() -> None:
    """However good a sentence is, it stands where it stood."""
    episode = tk.load_episodes("data/episodes/honey-bees.txt")[0]
    said = sentences_of(episode.transcript)
    taken = sentences_of(summary_of("extractive", episode.transcript))
    places = [said.index(sentence) for sentence in taken]
    assert len(places) > 3
    assert places == sorted(places)


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize(
    "template",
    ["{text}", "Summarize in one word:\n\n{text}\n\nThe word:", "{text}\n---\n{text}", "Bees: {text} dance"],
)
def test_instructions_are_not_part_of_the_text(name: str, template: str) -> None:
    """A config made for a model, with its prompt, gives the same baseline."""
    shared = {"system_prompt": "You are a bee.", "summary_max_tokens": 30}
    assert summary_of(name, TALK, direct_prompt=template, **shared) == summary_of(
        name, TALK, summary_max_tokens=30
    )


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.parametrize("style", ["Ann Bell: 00:01:02\n{}", "[00:01:02] Ann Bell: {}", "**Ann Bell:** {}"])
def test_raw_transcripts_are_read_like_files(name: str, style: str) -> None:
    """Labels and times of a text that never was a file are no words of the summary."""
    said = ["Bees dance for flowers.", "Flowers wait for bees.", "Bees and flowers dance and wait."]
    text = "\n".join(style.format(line) for line in said)
    assert set(sentences_of(summary_of(name, text))) <= set(said)


@pytest.mark.parametrize("name", BASELINES)
def test_whole_text_is_one_request(name: str) -> None:
    """A baseline does not depend on how models are made to read: one call, no chunks, however long."""
    text = "\n".join(
        f"Ann: In year {n} the mill by the sea ground {n * 7} sacks of rye." for n in range(9000)
    )
    with get_provider(Config(provider=name)) as provider:
        summary = provider.summarize(text)
    assert (summary.chunks, len(summary.calls), summary.status) == (1, 1, Status.OK)


@pytest.mark.parametrize("name", BASELINES)
def test_chunks_that_a_config_states_are_made(name: str) -> None:
    """What is asked for is done, and the notes' list marks do not get into the summary."""
    episode = tk.load_episodes("data/episodes/sourdough.srt")[0]
    with get_provider(Config(provider=name, chunk_tokens=256)) as provider:
        summary = provider.summarize(episode.transcript)
    assert summary.chunks > 2
    assert "- " not in summary.text
    said = "".join(episode.text.split())
    assert all("".join(sentence.split()) in said for sentence in sentences_of(summary.text))


@pytest.mark.parametrize("name", BASELINES)
def test_costs_nothing(name: str) -> None:
    """A run over baselines costs 0 dollars, known and not unknown, and fits any budget."""
    run = tk.run(
        [tk.Episode.from_text("bees", "Bees dance. They count.")],
        Config(provider=name, budget_usd=0.000001),
        progress=False,
    )
    assert run.episodes["status"].tolist() == ["ok"]
    assert run.episodes["cost_usd"].tolist() == [0.0]
    assert run.limits.empty


@pytest.mark.parametrize("name", BASELINES)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=300).filter(str.split),
    cap=st.integers(1, 60),
)
@settings(deadline=None)
def test_any_text_within_the_cap(name: str, text: str, cap: int) -> None:
    """Whatever the text, the reply keeps the cap, is the same again, and is made of the text's characters."""
    provider = get_provider(Config(provider=name))
    request = Request("c", "e", Stage.DIRECT, text, max_output_tokens=cap)
    reply = provider.generate(request)
    assert reply.usage.output_tokens == estimate_tokens(reply.text) <= cap
    assert reply == provider.generate(request)
    assert reply.text == reply.text.strip()
    assert (reply.stop_reason is StopReason.EMPTY) == (not reply.text)


@pytest.mark.parametrize("name", BASELINES)
def test_language_without_blanks(name: str) -> None:
    """Japanese is cut into its sentences, and they fill the cap."""
    said = ["蜂は花へ踊る。", "夜行列車は遅い。", "潮の水車は回る。", "種の銀行は寒い。", "町の夏は暑い。"]
    taken = summary_of(name, "".join(said), summary_max_tokens=20)
    assert set(taken.split()) <= set(said)
    assert len(taken.split()) == 3


def test_first_sentence_longer_than_the_cap_is_cut_at_a_word() -> None:
    """There is always something, and it ends with a whole word."""
    request = Request("c", "e", Stage.DIRECT, "bees and flowers and hives", max_output_tokens=4)
    reply = get_provider(Config(provider="lead")).generate(request)
    assert (reply.text, reply.stop_reason) == ("bees and flowers", StopReason.LENGTH)
    shorter = get_provider(Config(provider="lead")).generate(replace(request, max_output_tokens=3))
    assert shorter.text == "bees and"


bags = st.lists(
    st.dictionaries(st.sampled_from("abcdefgh"), st.integers(1, 3), max_size=5).map(Counter),
    min_size=1,
    max_size=12,
)


@given(bags)
@settings(deadline=None)
def test_ranks_are_those_of_the_full_matrix(sentences: list[Counter[str]]) -> None:
    """The random walk without the matrix ends where the definition with it does."""
    import numpy as np

    count = len(sentences)
    vocabulary = sorted(set().union(*sentences))
    counts = np.array([[bag[word] for word in vocabulary] for bag in sentences], dtype=float).reshape(
        count, -1
    )
    weighed = counts * np.log(1 + count / np.maximum((counts > 0).sum(0), 1))
    length = np.linalg.norm(weighed, axis=1, keepdims=True)
    unit = np.divide(weighed, length, out=np.zeros_like(weighed), where=length > 0)
    likeness = unit @ unit.T
    degrees = likeness.sum(1, keepdims=True)
    walk = np.where(degrees > 0, likeness / np.where(degrees > 0, degrees, 1), 1 / count)
    ranks = np.linalg.solve(np.eye(count) - 0.85 * walk.T, np.full(count, 0.15 / count))
    assert lexrank(sentences) == pytest.approx(ranks, abs=1e-5)
    assert sum(lexrank(sentences)) == pytest.approx(1)


def test_talk_without_full_stops_is_cut() -> None:
    """A recognizer that writes none makes one sentence of a whole episode; no word of it is lost."""
    text = " ".join(f"bees{n}" for n in range(150))
    parts = sentences_of(text)
    assert [len(part.split()) for part in parts] == [60, 60, 30]
    assert " ".join(parts) == text


def test_sentences_without_content_are_left_out_unless_there_are_no_others() -> None:
    """Fillers alone are still a text that somebody wants summarized."""
    assert sentences_of("Yeah. Okay. Bees dance. Right.") == ["Bees dance."]
    assert sentences_of("Yeah. Okay.") == ["Yeah.", "Okay."]
    assert not content(stems("Yeah. Okay."))
