"""The scores of a run on the screen, and how numbers are written."""

import math

import pytest
from doubles.run_folders import result_of

import metric
from reporting import console
from reporting import page as run_page


def test_the_console_fits_80_columns_and_its_numbers_are_aligned(run):
    lines = console.console(result_of(run)).splitlines()
    assert max(map(len, lines)) <= 80
    rows = [line for line in lines if line.split(" ")[0] in metric.SCORES]
    assert len(rows) == len(metric.SCORES)
    assert len({line.index(".") for line in rows}) == 1
    assert len({len(line) for line in rows}) == 1


def test_the_console_has_the_baseline_beside_the_score(run):
    score = result_of(run)["scores"]["uar"]
    line = next(x for x in console.console(result_of(run)).splitlines() if x.startswith("uar"))
    parts = line.replace("[", "").replace("]", "").replace(",", "").split()
    keys = ("value", "low", "high", "baseline", "baseline_low", "baseline_high")
    assert parts[1:-1] == [f"{score[key]:.3f}" for key in keys]
    assert parts[-1] == str(score["n"])


def test_the_console_names_absent_classes(run):
    assert "over 6 of 7 classes; absent from the truth: happy" in console.console(result_of(run))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.12345, "0.123"), (-0.5, "-0.500"), (-0.0001, "0.000"), (None, "-"), (math.nan, "-")],
)
def test_numbers_have_three_decimals_and_no_negative_zero(value, text):
    assert run_page.number(value) == text


def test_session_runs_are_joined():
    assert run_page.sessions([3, 1, 2, 7, 9, 10]) == "1-3, 7, 9-10"


def test_a_score_below_zero_widens_the_axis_of_its_group():
    score = {"low": -0.21, "high": 0.3, "n": 9, "baseline": 0.0, "value": 0.1}
    score |= {"baseline_low": 0.0, "baseline_high": 0.0}
    group = run_page.groups({"scores": {"ccc_arousal": score}})[0]
    assert group["axis"] == (-0.3, 1.0)
    assert group["rows"][0]["strip"]["value_span"] == (
        pytest.approx(100 * 0.09 / 1.3, abs=0.01),
        pytest.approx(100 * 0.51 / 1.3, abs=0.01),
    )
