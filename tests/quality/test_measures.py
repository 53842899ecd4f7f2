"""What each measure says, by cases that can be worked out by hand, and laws that hold for any text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from toolkit.quality.measures import ROUGE, Figures, Rouge, Source, figures, rouge
from toolkit.records import Episode, Turn

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=80)
prose = st.lists(st.sampled_from(["the", "bees", "dance,", "and.", "flowers", "wait!", "bee's", "um"])).map(
    " ".join
)


def source(text: str) -> Source:
    return Source.of(Episode.from_text("e", text))


@given(prose, prose)
@settings(deadline=None)
def test_rouge_is_that_of_the_library(summary: str, reference: str) -> None:
    """On ASCII text the scores are those of rouge-score by hand, with its own tokenizer and stemmer."""
    expected = RougeScorer(list(ROUGE), use_stemmer=True).score(reference, summary)
    found = rouge(summary, reference)
    if found is None:
        assert not reference.strip(" ,.!")
    else:
        assert {name: tuple(score) for name, score in found.items()} == {
            name: (score.fmeasure, score.precision, score.recall) for name, score in expected.items()
        }


def test_rouge_by_hand() -> None:
    """Two of three words and one of two pairs are shared, in the same order."""
    found = rouge("bees dance well", "the bees dance now")
    assert found is not None
    assert found["rouge1"] == Rouge(pytest.approx(4 / 7), pytest.approx(2 / 3), 0.5)
    assert found["rouge2"] == Rouge(pytest.approx(2 / 5), 0.5, pytest.approx(1 / 3))
    assert found["rougeL"] == found["rouge1"]


@pytest.mark.parametrize(
    "text", ["蜂は花へ踊る。", "Пчёлы танцуют.", "النحل يرقص", "ผึ้งเต้นรำ", "Les abeilles dansèrent à Évian."]
)
def test_rouge_in_any_language(text: str) -> None:
    """A text is like itself and unlike another, in scripts that the library by itself drops."""
    same, other = rouge(text, text), rouge("Trains run at night.", text)
    assert same is not None
    assert other is not None
    assert {score.f for score in same.values()} == {1.0}
    assert {score.f for score in other.values()} == {0.0}


def test_rouge_without_words() -> None:
    """A reference without words measures nothing; a summary without words reaches nothing."""
    assert rouge("Bees dance.", "…") is None
    assert rouge("Bees dance.", "") is None
    found = rouge("🐝🐝 …", "Bees dance.")
    assert found is not None
    assert set(found.values()) == {Rouge(0, 0, 0)}


def test_coverage_by_hand() -> None:
    """Of ten content words four are of what the summary names, in three of ten parts."""
    found = figures("A bee dances.", source("bee bees dancing dance car tree wolf moon hill mill"))
    assert found.coverage == pytest.approx(0.4)
    assert found.coverage_evenness == pytest.approx(4**2 / (10 * 4))


def test_coverage_takes_no_account_of_fillers() -> None:
    """Function words and fillers of talk are neither to be covered nor do they cover."""
    plain = source("bees dance\nwolves howl")
    talk = source("um the bees you know dance\nand well yeah wolves like howl")
    for summary in ("The bees.", "Well, you know, bees, yeah."):
        assert figures(summary, plain).coverage == figures(summary, talk).coverage == 0.25


def test_evenness_tells_the_beginning_from_the_whole() -> None:
    """A summary of the first part alone is uneven, one that names something of each is even."""
    topics = ["bees", "trains", "mills", "seeds", "bread", "heat", "code", "wolves", "moons", "hills"]
    text = "\n".join(" ".join([topic] * 20) for topic in topics)
    assert figures("Bees.", source(text)).coverage_evenness == pytest.approx(0.1)
    assert figures(" ".join(topics), source(text)).coverage_evenness == pytest.approx(1)
    assert figures("Cars.", source(text)).coverage_evenness is None


def test_novelty_by_hand() -> None:
    """Of three different words one is new, of two pairs within sentences both or none."""
    found = figures("Bees dance. Bees sing.", source("Bees dance for flowers."))
    assert found.novelty1 == pytest.approx(1 / 3)
    assert found.novelty2 == pytest.approx(1 / 2)


def test_names_of_speakers_are_not_new() -> None:
    """A summary knows who speaks from the labels, which are part of what a model is given."""
    episode = Episode("e", (Turn("Bees dance.", "Ann Bell"), Turn("They do.", "Bob Moss")))
    found = figures("Ann Bell: bees dance.", Source.of(episode))
    assert found.novelty1 == 0
    assert figures("Ann Bell. Bob Moss.", Source.of(episode)).novelty2 == 0


def test_repetition_by_hand() -> None:
    """Of four runs of three words one was there before."""
    assert figures("bees dance now bees dance now", source("x y")).repetition == pytest.approx(1 / 4)
    assert figures("bees dance", source("x y")).repetition is None


def test_length_compression_and_end() -> None:
    """Ten words said in five are two words for each."""
    found = figures("Bees dance. They really do", source("one two three four five six seven eight nine ten"))
    assert (found.words, found.sentences, found.compression, found.cut_off) == (5, 2, 2.0, True)


@pytest.mark.parametrize("summary", ["", "…!?", "🐝🐝"])
def test_summary_without_words(summary: str) -> None:
    """Nothing is covered, and what is a share of nothing is null."""
    assert figures(summary, source("Bees dance.")) == Figures(
        coverage=0.0,
        coverage_evenness=None,
        novelty1=None,
        novelty2=None,
        repetition=None,
        words=0,
        sentences=0,
        compression=None,
        cut_off=None,
    )


@pytest.mark.parametrize("transcript", ["um yeah okay", "…"])
def test_transcript_without_content(transcript: str) -> None:
    """Where nothing is said, nothing can be covered."""
    found = figures("Bees dance.", source(transcript))
    assert (found.coverage, found.coverage_evenness, found.novelty1) == (None, None, 1.0)


def test_measures_without_blanks() -> None:
    """Japanese has coverage and novelty like any other language, by characters and their pairs."""
    found = figures("蜂が踊る。", source("蜂が踊る。花が待つ。"))
    assert (found.novelty1, found.novelty2, found.words, found.sentences) == (0, 0, 4, 1)
    assert found.coverage == 3 / 7
    assert figures("夜行列車。", source("蜂が踊る。")).novelty1 == 1


@given(texts, texts)
@settings(deadline=None)
def test_all_measures_keep_their_range(summary: str, transcript: str) -> None:
    """No text breaks a measure or brings it out of its range."""
    found = figures(summary, source(transcript))
    for value in (found.coverage, found.novelty1, found.novelty2, found.repetition):
        assert value is None or 0 <= value <= 1
    assert found.coverage_evenness is None or 0.1 - 1e-9 <= found.coverage_evenness <= 1 + 1e-9
    assert found.words >= found.sentences >= 0
    for score in (rouge(summary, transcript) or {}).values():
        assert all(0 <= value <= 1 for value in score)


@given(prose.filter(lambda text: any(map(str.isalpha, text))))
@settings(deadline=None)
def test_quoting_everything_is_full_coverage_without_novelty(text: str) -> None:
    """The whole transcript as its own summary covers all, evenly, and says nothing new."""
    found = figures(text, source(text))
    assert found.novelty1 == 0
    assert found.novelty2 in (0, None)
    assert found.coverage in (1, None)
    assert found.compression == 1


@given(prose, prose, prose)
@settings(deadline=None)
def test_coverage_grows_with_the_summary(summary: str, more: str, transcript: str) -> None:
    """A longer summary never covers less."""
    short, long = (figures(text, source(transcript)).coverage for text in (summary, f"{summary} {more}"))
    assert short is None or (long is not None and short <= long)
