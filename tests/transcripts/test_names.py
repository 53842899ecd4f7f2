"""Which names are one speaker's."""

from __future__ import annotations

import pytest

from toolkit.transcripts.names import one_name_each


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["Ann Bell (AB)", "AB"], "Ann Bell"),
        (["Ann Bell (AB)", "Ann", "AB", "Ann Bell"], "Ann Bell"),
        (["Ann van der Bell", "Ann"], "Ann van der Bell"),
        (["Ann B. Bell-Carr", "Ann"], "Ann B. Bell-Carr"),
        (["Hon. Ann Bell (Minister of Mills)", "Hon. Ann Bell"], "Hon. Ann Bell"),
        (
            ["The Chair (Mr. Carl Dorn (North Mills, Lib.))", "The Chair (Mr. Carl Dorn)"],
            "The Chair (Mr. Carl Dorn)",
        ),
        (["The Chair (Mr. Carl Dorn (North Mills, Lib.))", "The Chair"], "The Chair"),
        (["Ann Bell (The Mill)", "Ann Bell", "Ann (Host)", "Ann"], "Ann Bell"),
    ],
)
def test_a_speaker_has_one_name(names, shown):
    """Initials, remarks in parentheses and a first name alone lead to the name of the same person."""
    assert {name: chosen for name, chosen in one_name_each(names).items() if name in names} == dict.fromkeys(
        names, shown
    )


@pytest.mark.parametrize(
    "names",
    [
        ["Ann Bell", "Ann Carr", "Ann"],
        ["Ann", "Ann B."],
        ["Ann", "Ann and Bob"],
        ["Ann", "Anna Bell"],
        ["Speaker", "Speaker 1"],
        ["Grad", "Grad C"],
        ["Ann Bell", "Bell"],
        ["Mr. Lee (North)", "Mr. Lee (South)", "Mr. Lee"],
        ["The Acting Chair (Ann Bell)", "The Chair"],
    ],
)
def test_two_speakers_keep_two_names(names):
    """Where the short name may be somebody else's, nobody is renamed."""
    assert one_name_each(names) == {name: name for name in names}
