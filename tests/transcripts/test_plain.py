"""Plain text and Markdown."""

from __future__ import annotations

import pytest

DIALOGUE = [("Ann", "09", "Good morning."), ("Bob", "11", "Hello Ann."), ("Ann", "12", "Shall we begin?")]
STYLES = {
    "name and text": "{name}: {text}\n",
    "name and text, blank lines": "{name}: {text}\n\n",
    "bold with the colon inside": "**{name}:** {text}\n\n",
    "bold with the colon outside": "**{name}**: {text}\n\n",
    "bold alone": "**{name}**\n{text}\n\n",
    "bold and colon alone": "**{name}:**\n\n{text}\n\n",
    "italic": "*{name}:* {text}\n\n",
    "colon alone": "{name}:\n{text}\n\n",
    "time after": "{name}: 00:00:{time}\n\n{text}\n\n",
    "time in parentheses": "{name} (00:{time}):\n{text}\n\n",
    "time in parentheses and dash": "{name} (00:00:{time}) - {text}\n",
    "time and spaces": "{name}  0:{time}\n{text}\n\n",
    "time before": "[00:{time}] {name}: {text}\n",
    "escaped time before": "\\[00:{time}\\] {name}: {text}\n",
    "bare time before": "00:00:{time} {name}: {text}\n",
    "time in the bold": "**{name} (00:{time}):** {text}\n\n",
    "time after the bold": "**{name}** (00:{time})\n{text}\n\n",
    "square brackets": "[{name}]: {text}\n",
    "chevrons": ">> {name}: {text}\n",
}
TIMED = [style for style in STYLES if "time" in style]


def rendered(style, ann="Ann", bob="Bob"):
    names = {"Ann": ann, "Bob": bob}
    return "".join(
        STYLES[style].format(name=names[name], time=time, text=text) for name, time, text in DIALOGUE
    )


@pytest.mark.parametrize("style", STYLES)
def test_every_label_style_gives_the_same_turns(read, style):
    """However speakers are marked, names and words come out the same and apart."""
    episode = read(rendered(style))
    assert [(turn.speaker, turn.text) for turn in episode.turns] == [
        ("Ann", "Good morning."),
        ("Bob", "Hello Ann."),
        ("Ann", "Shall we begin?"),
    ]


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    ("ann", "bob"),
    [
        ("An Nguyen", "My Linh"),
        ("Bob Lee", "So Yeon"),
        ("An", "He Jiankui"),
        ("The Chair", "Right Hon. Ann Bell"),
        ("Ann", "Audience member"),
        ("host", "guest"),
        ("ann bell", "bob carr"),
        ("spk_0", "spk_1"),
    ],
)
def test_where_every_line_has_a_label_it_may_look_like_no_name(read, style, ann, bob):
    """Names that begin like a sentence, roles and small letters are speakers if all of the file says so."""
    episode = read(rendered(style, ann, bob))
    assert [(turn.speaker, turn.text) for turn in episode.turns] == [
        (ann, "Good morning."),
        (bob, "Hello Ann."),
        (ann, "Shall we begin?"),
    ]


@pytest.mark.parametrize(
    ("ann", "bob"),
    [("An Nguyen", "My Linh"), ("An", "So Yeon"), ("Right Hon. Ann Bell", "The Chair"), ("host", "guest")],
)
def test_labels_that_come_back_may_look_like_no_names(read, ann, bob):
    """They are speakers though they open few of the paragraphs."""
    said = "It was.\n\nAnd so it went on.\n\nAnd on."
    episode = read(f"{ann}: {said}\n\n{bob}: {said}\n\n" * 3)
    assert [turn.speaker for turn in episode.turns] == [ann, bob] * 3


@pytest.mark.parametrize("style", TIMED)
def test_every_timed_style_gives_the_same_times(read, style):
    """Wherever a time stands beside a label, it is when the turn starts."""
    assert [turn.start_s for turn in read(rendered(style)).turns] == [9.0, 11.0, 12.0]


@pytest.mark.parametrize(
    "label",
    [
        "Project Manager",
        "Grad C",
        "SPEAKER_00",
        "Speaker 1",
        "Zoë van der Meer",
        "Dr. O'Neil, MD",
        "The Chair",
        "Mr. Jean-Luc Pieters (Hautes Collines (Nord), Lib.)",
        "Q",
        "李明",
        "Unidentified speaker",
        "Hon. Mary Upton (Minister of Roads, Harbours, Lights, Small Crafts and All That Is Left to Govern)",
    ],
)
def test_names_of_every_make_are_labels(read, label):
    """A label may have titles, roles, numbers and nested parentheses."""
    episode = read(f"{label}: Thank you.\nAnn: You are welcome.\n{label}: I yield.\nAnn: Good.\n")
    assert episode.speakers == (label, "Ann")
    assert episode.turns[0].text == "Thank you."


@pytest.mark.parametrize(
    "sentence",
    [
        "Here is the thing: nobody reads the manual.",
        "Remember: the tide waits for nobody.",
        "And then she said: never again.",
        "We meet at 10:30 in the hall.",
        "See https://example.org: it has the list.",
        "What did he ask? The usual: money.",
    ],
)
def test_a_sentence_with_a_colon_is_no_label(read, sentence):
    """What precedes a colon inside a speech stays in it, and the speaker goes on."""
    episode = read(f"Ann: Good morning.\n\n{sentence}\n\nBob: I see.\n\nAnn: Do you?\n\nBob: I do.\n")
    assert episode.speakers == ("Ann", "Bob")
    assert episode.turns[0].text == f"Good morning. {sentence}"


@pytest.mark.parametrize("word", ["Note", "note", "So", "One", "this"])
def test_words_before_a_colon_that_come_back_are_no_speakers(read, word):
    """A speaker's way to begin a sentence does not make a speaker of the word."""
    talk = "Ann: Good morning.\n\nIt rained.\n\nBob: I see.\n\nIt rained again.\n\n" * 5
    text = f"{word}: the tide waits for nobody."
    episode = read(f"{talk}{text}\n\n{talk}{text}\n\n{talk}{text}\n\n")
    assert episode.speakers == ("Ann", "Bob")
    assert episode.text.count(text) == 3


def test_recurring_words_are_no_speakers_where_labels_have_another_style(read):
    """In a file with bold labels a plain ``Best Book:`` is text, however often it comes."""
    show = "".join(
        f"**Ann:**\n\nMonth {n}.\n\nBest Book: number {n}.\n\n**Bob:** Fine.\n\n" for n in range(4)
    )
    episode = read(show)
    assert episode.speakers == ("Ann", "Bob")
    assert "Best Book: number 3." in episode.text


def test_prose_has_no_speakers(read):
    """Colons here and there do not make speakers of the words before them."""
    text = "\n\n".join(
        [*["It was a quiet year in the valley."] * 20, "Python: a snake.", "Good Bread: a luxury."]
    )
    episode = read(text)
    assert episode.speakers == ()
    assert episode.turns[-1].text == "Good Bread: a luxury."


def test_prose_without_blank_lines_has_no_speakers(read):
    """Where each line is a paragraph, as Whisper writes it, they count like paragraphs."""
    quiet = ["It was a quiet year in the valley."] * 20
    text = "\n".join([*quiet, "Python: a snake.", *quiet, "Good Bread: a luxury."])
    assert read(text).speakers == ()


def test_initials_become_the_name_that_introduced_them(read):
    """``Ann Bell (AB)`` and ``AB`` are one speaker under her full name."""
    episode = read("Ann Bell (AB): Hi.\n\nCarl Dorn (CD): Hello.\n\nAB: So.\n\nCD: So what?\n")
    assert [turn.speaker for turn in episode.turns] == ["Ann Bell", "Carl Dorn", "Ann Bell", "Carl Dorn"]


def test_unlabelled_paragraphs_go_on_for_the_speaker(read):
    """A paragraph without a label belongs to the turn above it."""
    episode = read("**Ann:** One.\n\nTwo.\n\nThree.\n\n**Bob:** Four.\n")
    assert [turn.text for turn in episode.turns] == ["One. Two. Three.", "Four."]


def test_break_is_neither_speaker_nor_text(read):
    """``**Break:**``, with a time or without, leaves no trace."""
    episode = read(
        "**Ann:** One.\n\n**Break:**\n\n**Bob:** Two.\n\n**Break**: \\[55:30\\]\n\n**Ann:** Three.\n"
    )
    assert episode.speakers == ("Ann", "Bob")
    assert episode.text == "One.\nTwo.\nThree."


def test_markdown_leaves_words_only(read):
    """Emphasis, links, code, quotes, escapes, headings and rules are not spoken."""
    episode = read(
        "# Mud _and_ tide\n\n## Part one\n\n"
        "**Ann:** The **old *mill*** at [Quay End](https://example.org/a_(b)) uses "
        "`OP_CODE` and snake_case_name.\n\n"
        "> Quoted words \\[at\\] length.\n\n---\n\n![map](m.png)\n\n**Bob:** 2 * 3 * 4\n",
        "mills.md",
    )
    assert episode.title == "Mud and tide"
    assert episode.text == (
        "The old mill at Quay End uses OP_CODE and snake_case_name. Quoted words at length.\n2 * 3 * 4"
    )


@pytest.mark.parametrize(
    "top",
    [
        '---\ntitle: "Mud: a story"\ndate: 2020\n---\n',
        "Title: Mud: a story\nDate: 2020\n\n",
        "# Mud: a story\n",
    ],
)
def test_the_title_comes_from_the_file(read, top):
    """Front matter, a title line and a first heading name the episode and are not spoken."""
    episode = read(f"{top}\nAnn: One.\nBob: Two.\n")
    assert (episode.title, episode.text) == ("Mud: a story", "One.\nTwo.")


def test_a_turn_at_the_very_start_has_its_time(read):
    """Second 0 is a time, not a missing one."""
    episode = read("**Ann** (0:00)\nOne.\n\n**Bob** (0:05)\nTwo.\n")
    assert [turn.start_s for turn in episode.turns] == [0.0, 5.0]


def test_times_before_unlabelled_lines_are_kept_apart_from_words(read):
    """``[0.00 --> 4.02]  text`` is text from 0 to 4.02 s."""
    episode = read("[0.00 --> 4.02]  The tide is out.\n[4.02 --> 65.50]  It comes back.\n")
    (turn,) = episode.turns
    assert (turn.text, turn.start_s, turn.end_s) == ("The tide is out. It comes back.", 0.0, 65.5)


def test_times_alone_in_bare_lines_are_not_words(read):
    """``HH:MM:SS text`` and a time alone on its line give starts, not words."""
    episode = read("00:00:09 The tide is out.\n00:01:10 It comes back.\n01:02:03\nAnd goes.\n")
    assert episode.text == "The tide is out. It comes back. And goes."
    assert episode.turns[0].start_s == 9.0


def test_blocks_without_labels_are_turns(read):
    """Without labels the author's paragraphs are kept."""
    assert (
        read("One line\nand another.\n\nA second block.\n").text == "One line and another.\nA second block."
    )


def test_an_endless_line_becomes_paragraphs(read):
    """A whole episode in one line is cut at sentence ends, and no word is lost."""
    line = "The boats lie in the mud until six. " * 400
    episode = read(line)
    assert episode.text.split() == line.split()
    assert all(60 <= len(turn.text.split()) < 180 and turn.text.endswith(".") for turn in episode.turns[:-1])
