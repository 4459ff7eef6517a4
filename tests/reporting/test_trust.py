"""What a page says of how far to trust a run: calibration, protocol, label prior."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from doubles.report_pages import EVIL, Page, page_of
from doubles.run_folders import changed, make_run, predictions, result_of

import metric
from evaluation import bootstrap, calibration
from evaluation.predictions import scores_of
from evaluation.result import summarise
from reporting import charts, console, formatting
from reporting import page as run_page
from utils import UserError, rng

PROTOCOL = {
    "role": "speaker",
    "seed": 42,
    "uses_test_audio": False,
    "leaks": None,
    "sets": {"train": {"sessions": [5, 6, 7], "rows": 8200}, "test": {"rows": 2045, "ties": 3}},
    "dropped": {"quarantined": {"wav is truncated": 3}, "unlabelled": 2, "disjoint": {}},
}


def trusted(folder: Path, validation: pd.DataFrame | None, ties: str = "drop") -> Path:
    """A run with a calibration, fitted on these rows."""
    table = predictions(300)
    make_run(folder, table, ties=ties)
    t = None if validation is None else calibration.temperature(validation)
    fitted_on = 0 if validation is None else len(validation)
    return changed(folder, calibration=calibration.summary_of(table, ties, t, fitted_on))


def test_the_page_of_a_run_with_validation_rows_says_how_far_to_trust_it(tmp_path):
    folder = trusted(tmp_path / "run", predictions(200, 2))
    page, found = page_of(folder), result_of(folder)["calibration"]
    words = page.words()
    assert (
        f"over {found['n']} rows. The pictures are at temperature {found['temperature']:.3f}"
        in (words)
    )
    assert "with the votes of 200 validation or out-of-fold rows" in words
    assert "No temperature" not in words
    for key, name in run_page.ERRORS.items():
        assert f"{name} {found[f'{key}_uncalibrated']:.3f} {found[key]:.3f}" in words
    at, accuracy = found["accuracy_at"], scores_of(predictions(300), "drop")["accuracy"]
    row = [f"{value:.3f}" for value in (*at.values(), accuracy["value"])]
    assert f"50 % 80 % 90 % all accuracy {' '.join(row)}" in words
    assert f"Area (AURC) {found['aurc']:.3f}" in words
    assert f"an ECE of about {found['ece_chance']:.3f}, by chance" in words
    shown = [b for b in found["reliability"] if b["n"]]
    assert page.tags.count("rect") == 2 * len(shown)
    assert all(f"{b['n']}: {b['confidence']:.3f}, {b['accuracy']:.3f}" in words for b in shown)


def test_without_validation_rows_the_page_says_why_there_is_no_temperature(tmp_path):
    folder = trusted(tmp_path / "run", None)
    words, found = page_of(folder).words(), result_of(folder)["calibration"]
    assert "No temperature: it needs two validation or out-of-fold rows ( --val_split )" in words
    assert "calibration as given ECE" in words
    assert f"equal width {found['ece_uncalibrated']:.3f} ECE, 15 bins" in words


def test_a_result_without_calibration_or_without_its_rows_has_no_such_section(tmp_path):
    folder = make_run(tmp_path / "run", predictions(30))
    assert "How far to trust it" not in page_of(folder).words()
    gone = predictions(30).assign(emotion="", **dict.fromkeys(metric.PROBABILITIES, np.nan))
    folder = make_run(tmp_path / "none", gone)
    changed(folder, calibration=calibration.summary_of(gone, "drop", None))
    assert "How far to trust it" not in page_of(folder).words()


def test_one_row_is_enough_for_a_page_with_calibration(tmp_path):
    table = predictions(1, present=1)
    folder = make_run(tmp_path / "run", table)
    words = page_of(
        changed(folder, calibration=calibration.summary_of(table, "drop", None))
    ).words()
    assert "over 1 rows" in words


def test_soft_ties_say_what_right_means(tmp_path):
    folder = trusted(tmp_path / "run", None, "soft")
    assert "right is the share of the raters who gave it" in page_of(folder).words()


def test_bars_stand_on_the_axis_and_dots_of_equal_means_on_the_diagonal():
    table = calibration.reliability([0.28, 0.28, 0.75, 0.75], [0.2, 0.36, 1, 0.5], 10)
    chart = charts.reliability(table)
    box, wide = charts.BARS, charts.BARS["right"] - charts.BARS["left"]
    for bar in chart["bars"]:
        across = (bar["dot"][0] - box["left"]) / wide
        up = (box["bottom"] - bar["dot"][1]) / (box["bottom"] - box["top"])
        assert across == pytest.approx(up, abs=2e-3) == pytest.approx(bar["accuracy"], abs=2e-3)
        assert bar["width"] == pytest.approx(wide / 10, abs=0.11)
        assert bar["top"] == bar["dot"][1]
        assert bar["left"] <= bar["dot"][0] <= bar["left"] + bar["width"]
    assert [bar["height"] for bar in chart["bars"]] == [charts.COUNTS[1] - charts.COUNTS[0]] * 2
    assert charts.reliability(calibration.reliability([], [])) is None


def test_a_bar_is_as_high_as_its_accuracy_whatever_the_confidence():
    (bar,) = charts.reliability(calibration.reliability([0.9, 0.9], [1, 0], 10))["bars"]
    middle = (charts.BARS["top"] + charts.BARS["bottom"]) / 2
    assert bar["top"] == bar["dot"][1] == middle


def test_the_curve_of_risk_ends_at_the_level_of_answering_everything():
    chart = charts.coverage_risk([[0.25, 0.0], [0.5, 0.1], [1.0, 0.4]], {"0.5": 0.9}, 100)
    box = charts.PLOT
    assert chart["path"].endswith(f"L{box['right']} {chart['level']}")
    assert chart["level"] == box["top"] and chart["path"].startswith("M")
    middle = (box["left"] + box["right"]) / 2
    quarter = box["bottom"] - (box["bottom"] - box["top"]) / 4
    assert chart["dots"] == [(middle, pytest.approx(quarter, abs=0.1))]
    assert charts.coverage_risk([], {}, 0) is None


@pytest.mark.parametrize("n", [1, 3, 14, 50])
def test_the_dots_of_few_rows_are_on_the_curve(n):
    draw = rng(n, "dots")
    sure, right = draw.random(n), draw.integers(0, 2, n)
    points = np.stack(calibration.coverage_risk(sure, right), axis=1).tolist()
    at = {f"{c:g}": calibration.accuracy_at(sure, right, c) for c in calibration.COVERAGES}
    chart = charts.coverage_risk(points, at, n)
    assert all(f"{x} {y}" in chart["path"] for x, y in chart["dots"])


def test_the_protocol_is_shown_as_small_tables(tmp_path):
    folder = make_run(tmp_path / "run", predictions(30))
    assert "Protocol" not in page_of(folder).words()
    (folder / "protocol.json").write_text(json.dumps(PROTOCOL))
    words = page_of(folder).words()
    assert "role speaker seed 42 uses test audio no leaks - sets" in words
    assert "sets sessions rows ties train 5-7 8,200 test 2,045 3" in words
    assert "quarantined wav is truncated: 3 unlabelled 2 disjoint none" in words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "yes"),
        (None, "-"),
        (12345, "12,345"),
        (0.1 + 0.2, "0.3"),
        ("a_b", "a_b"),
        ([], "none"),
        ([3, 1, 2], "1-3"),
        (["F", 1], "F, 1"),
        ({"a_b": {"c": 1}}, "a b: c: 1"),
        (list("abcdefghijklmn"), "a, b, c, d, e, f, g, h, i, j, k, l, ... (14)"),
    ],
)
def test_a_value_of_json_is_a_few_words(value, text):
    assert formatting.cell(value) == text


def test_names_become_words_but_reasons_stay_and_empty_dicts_make_no_table():
    assert formatting.words("uses_test_audio") == "uses test audio"
    assert formatting.words("no file a_b.wav") == "no file a_b.wav"
    assert formatting.tables({"nothing": {}}) == []


def test_the_protocol_is_escaped(tmp_path):
    folder = make_run(tmp_path / "run", predictions(30))
    evil = {
        EVIL: EVIL,
        "list": [EVIL],
        "grid": {EVIL: {EVIL: EVIL}},
        "pairs": {EVIL: 1, "b": {EVIL: 2}},
    }
    (folder / "protocol.json").write_text(json.dumps(evil))
    text = run_page.write(folder).read_text(encoding="utf-8")
    assert EVIL not in text and text.count("&lt;script&gt;") == 8
    assert "script" not in Page(text).tags


def test_a_protocol_that_is_no_object_is_refused(tmp_path):
    folder = make_run(tmp_path / "run", predictions(30))
    (folder / "protocol.json").write_text("[1]")
    with pytest.raises(UserError, match=r"protocol\.json should hold a JSON object"):
        run_page.write(folder)


@pytest.mark.parametrize("calibrated", [[], {"n": 3}, "high", {"n": 1, "accuracy_at": 3}])
def test_a_calibration_that_no_run_wrote_is_refused_or_not_shown(tmp_path, calibrated):
    folder = changed(make_run(tmp_path / "run", predictions(30)), calibration=calibrated)
    if calibrated:
        with pytest.raises(UserError, match="result.json, protocol.json and train_loss.log that a"):
            run_page.write(folder)
    else:
        assert "How far" not in page_of(folder).words()


@pytest.mark.parametrize("where", ["result.json", "protocol.json", None])
def test_scores_that_used_the_sound_of_the_test_rows_are_marked(tmp_path, where):
    folder = make_run(tmp_path / "run", predictions(30))
    changed(folder, uses_test_audio=where == "result.json")
    (folder / "protocol.json").write_text(json.dumps({"uses_test_audio": where == "protocol.json"}))
    assert (f"Scores {run_page.TEST_AUDIO} " in page_of(folder).words()) == bool(where)
    said = run_page.TEST_AUDIO in console.console(result_of(folder)).splitlines()
    assert said == (where == "result.json")


def with_prior(folder: Path) -> dict:
    """The result of a run whose scores have the label prior beside the majority."""
    table, counts = predictions(412), [70, 60, 50, 40, 30, 20, 10]
    make_run(folder, table)
    changed(folder, scores=summarise(table, "drop", None, 42, 50, counts)["scores"])
    return result_of(folder)


def test_the_label_prior_stands_beside_the_majority_baseline(tmp_path):
    result = with_prior(tmp_path / "run")
    words = page_of(tmp_path / "run").words().replace("\N{MINUS SIGN}", "-")
    for score in (result["scores"][name] for name in bootstrap.SCORES):
        assert (
            f"{score['baseline_high']:.3f}] {run_page.number(score['prior'])} {score['n']}" in words
        )
    assert "label prior" in words and result["scores"]["uar"]["prior"] is not None
    assert result["scores"]["ccc_arousal"]["prior"] is None


def test_a_result_without_prior_shows_none(page):
    assert "prior" not in page.words()


def test_the_console_with_a_prior_fits_80_columns_and_is_aligned(tmp_path):
    result = with_prior(tmp_path / "run")
    lines = console.console(result).splitlines()
    assert max(map(len, lines)) <= 80
    rows = {line.split()[0]: line for line in lines if line.split(" ")[0] in metric.SCORES}
    assert len(rows) == len(metric.SCORES) and len({len(row) for row in rows.values()}) == 1
    for name, row in rows.items():
        score = result["scores"][name]
        assert row.split()[-2:] == [run_page.number(score["prior"]), str(score["n"])]
        assert row.endswith(f"{score['n']}") and lines[0].endswith("prior       n")
