"""What a page says of a study."""

from __future__ import annotations

import types
from typing import Any

import pandas as pd
import pytest

from toolkit.errors import ConfigError
from toolkit.reports import page


def make_cells(knobs: dict[str, list[Any]], repeats: int = 3, **given: Any) -> pd.DataFrame:
    """Every combination of knobs, with a makespan that grows with the cell and differs by 0.1 a repeat."""
    index = pd.MultiIndex.from_product(knobs.values(), names=list(knobs))
    rows = [
        {
            "sweep_id": "s1",
            "cell": cell,
            "repeat": repeat,
            **dict(zip(knobs, values, strict=True)),
            "simulated": False,
            "status": "ok",
            "error": None,
            "makespan_s": 10.0 * cell + 0.1 * repeat,
            "episodes_per_h": 3600 / (10.0 * cell),
            **given,
        }
        for cell, values in enumerate(index, 1)
        for repeat in range(1, repeats + 1)
    ]
    return pd.DataFrame(rows)


def words(found: Any) -> str:
    return " ".join(found.text.split())


def test_means_have_their_intervals(parsed: Any) -> None:
    """10.1, 10.2 and 10.3: mean 10.2, half width 4.303 x 0.1 / sqrt(3); equal values have one of nothing."""
    text = words(parsed(page(make_cells({"summary_batch_size": [1, 2]}))))
    assert "3 of 3 10.2 ± 0.248 360 ± 0" in text


def test_one_knob_gives_lines_and_two_a_heatmap(parsed: Any) -> None:
    """And where nothing varies, the page says so instead of showing a plot of one point."""
    for knobs, titles in (
        ({"summary_batch_size": [1, 2]}, ["Episodes (1/h) by summary_batch_size."]),
        (
            {"summary_batch_size": [1, 2, 3], "chunk_tokens": [64, 128]},
            [
                "Episodes (1/h) by summary_batch_size and chunk_tokens.",
                "Episodes (1/h) by summary_batch_size, a line for each chunk_tokens.",
            ],
        ),
    ):
        found = parsed(page(make_cells(knobs)))
        assert [tag.text for tag in found.all("strong") if "figcaption" in tag.within] == titles
    found = parsed(page(make_cells({"summary_batch_size": [1]})))
    assert found.all("img") == []
    assert "No knob has more than one value." in found.text


def test_alternative_text_says_where_the_best_and_the_worst_are(parsed: Any) -> None:
    """A plot in words: the range of the means, and their settings."""
    (image,) = parsed(page(make_cells({"summary_batch_size": [1, 2, 4]}))).all("img")
    alt = image.attributes["alt"]
    assert "from 120 (summary_batch_size = 4) to 360 (summary_batch_size = 1)" in alt


def test_cost_against_quality_needs_both(parsed: Any) -> None:
    """Scores in two cells at least; otherwise a word."""
    cells = make_cells({"summary_batch_size": [1, 2]})
    assert "Needs a quality score" in words(parsed(page(cells)))
    judged = cells.assign(rougeL=cells["cell"] / 10, cost_usd=cells["cell"] / 100)
    found = parsed(page(judged))
    assert "Cost against quality." in [tag.text for tag in found.all("strong")]
    assert "Best by ROUGE-L" in words(found)


def test_failed_cells_stand_with_their_reason(parsed: Any) -> None:
    """They are in no mean, and the page says how many there are before anything else."""
    cells = make_cells({"summary_batch_size": [1, 2]})
    lost = (cells["cell"] == 2) & (cells["repeat"] > 1)
    cells.loc[lost, ["status", "error", "makespan_s", "episodes_per_h"]] = [
        "failed",
        "no <memory>",
        None,
        None,
    ]
    found = parsed(page(cells))
    text = words(found)
    assert "Incomplete. 2 of 6 rows have no result and are in no mean" in text
    assert "2 2 1 of 3 20.1" in text
    assert "Fastest" not in text
    assert text.count("failed no <memory>") == 2


def test_a_study_in_which_nothing_succeeded_has_a_page(parsed: Any) -> None:
    """So has one without cells."""
    cells = make_cells({"summary_batch_size": [1, 2]})
    bad = cells.assign(status="failed", error="why", makespan_s=None, episodes_per_h=None)
    found = parsed(page(bad))
    assert "No cell has a result." in found.text
    assert words(found).count("failed why") == 6
    assert "There are no cells." in parsed(page(cells.head(0))).text


def test_what_a_sweep_says_of_itself_is_told(parsed: Any) -> None:
    """Simulated, stopped, resumed, several at a time: each changes what the figures mean."""
    cells = make_cells({"summary_batch_size": [1, 2]}, simulated=True, resumed=False, kept=True, parallel=2)
    study = types.SimpleNamespace(
        cells=cells, id="s1", name=None, stopped_because="no budget left", interrupted=False, simulated=True
    )
    found = [" ".join(tag.text.split()) for tag in parsed(page(study)).all("li")]
    assert [alert.split(".")[0] for alert in found] == ["Simulated", "Stopped by itself", "Kept", "Not alone"]
    assert "All rows are computed" in found[0]


def test_many_cells_are_cut(parsed: Any) -> None:
    """5,000 of them make no page of 5,000 rows, and it says how to get them."""
    cells = make_cells({"summary_batch_size": list(range(1, 101)), "seed": list(range(50))}, repeats=1)
    text = page(cells)
    assert len(text) < 2_000_000
    found = parsed(text)
    assert "The first 200 of 5,000 are shown. All of them: study.means()" in found.text
    assert "The first 300 of 5,000 are shown. All of them: study.cells" in found.text


def test_a_score_of_ones_own_is_a_measure(parsed: Any) -> None:
    """It has no unit that is known, and stands under its name."""
    cells = make_cells({"summary_batch_size": [1, 2]}, taste=0.25)
    found = parsed(page(types.SimpleNamespace(cells=cells, extra=("taste",))))
    assert "taste" in [tag.text for tag in found.all("th")]
    rows = [tag.text.split() for tag in found.all("tr")]
    # In the means, and in each row.
    assert sum(row[-1] == "0.25" for row in rows) == 6
    assert sum(row[-3:] == ["0.25", "±", "0"] for row in rows) == 2


def test_the_best_cell_is_none_that_failed_now_and_then(parsed: Any) -> None:
    """As ``Sweep.best`` has it; a cell that was not reached in a repeat is only less sure."""
    cells = make_cells({"summary_batch_size": [1, 2, 3]})
    cells.loc[0, ["status", "episodes_per_h"]] = ["failed", None]
    cells.loc[3, ["status", "episodes_per_h"]] = ["cancelled", None]
    assert "Fastest180 ± 0 episodes/h summary_batch_size = 2" in words(parsed(page(cells)))


def test_studies_that_were_put_together_are_one(parsed: Any) -> None:
    """Their rows have labels in common, and are not each other's."""
    one, two = (make_cells({"summary_batch_size": [1, 2]}).assign(sweep_id=name) for name in "ab")
    text = words(parsed(page(pd.concat([one, two.assign(makespan_s=two["makespan_s"] + 50)]))))
    assert "1 1 3 of 3 10.2 ± 0.248" in text
    assert "1 1 3 of 3 60.2 ± 0.248" in text


def test_cells_without_numbers_are_refused() -> None:
    """With the column's name."""
    with pytest.raises(ConfigError, match="'makespan_s' has no numbers"):
        page(make_cells({"summary_batch_size": [1]}).assign(makespan_s="long"))
