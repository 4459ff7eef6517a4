"""Tests of page.py on run folders made here: scores by result.py, everything else invented."""

import hashlib
import html
import json
import math
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from doubles.run_folders import log_lines, make_run, predictions, result_of

import metric
from constants import EMOTIONS
from evaluation import bootstrap, calibration
from evaluation.predictions import read_predictions, scores_of
from evaluation.result import summarise
from reporting import charts, console, formatting
from reporting import page as run_page
from utils import UserError, rng

EVIL = "<script>alert('x')</script>"
VOID = {"meta", "br", "link", "img", "input", "hr"}


class Page(HTMLParser):
    """What a page holds; fails on a tag that is not closed in its turn."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags, self.links, self.text = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "xlink:href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.text.append(data)

    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def page_of(folder: Path) -> Page:
    return Page(run_page.write(folder).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    table = pd.concat(
        [predictions(412), predictions(30, 2).assign(set="val", segment="validation row")]
    )
    return make_run(tmp_path_factory.mktemp("exp") / "lstm_speaker_adam_8", table)


@pytest.fixture(scope="module")
def page(run) -> Page:
    return page_of(run)


# --- the page ---------------------------------------------------------------------------------


ENDS = ("low", "high")


def test_every_score_stands_with_its_interval_but_the_legacy_ones_and_its_baseline(run, page):
    words = page.words().replace("\N{MINUS SIGN}", "-")
    for name, score in result_of(run)["scores"].items():
        own, baseline = (
            "[{:.3f}, {:.3f}] ".format(*ends) if None not in ends else ""
            for ends in ([score[end] for end in ENDS], [score[f"baseline_{end}"] for end in ENDS])
        )
        row = f"{name} {score['value']:.3f} {own}{score['baseline']:.3f} {baseline}{score['n']}"
        assert row in words and (name in metric.LEGACY) == (not own) == (not baseline)


def test_every_score_is_explained_in_the_words_of_metric(page):
    for score in metric.SCORES.values():
        assert score.definition in page.words()


def test_the_head_says_model_role_and_split(page):
    start = page.words()
    assert "mate on kemdy19 speaker Emotion of the one who talks;" in start
    assert "; tested on 412 utterances of 24 dialogues, sessions 1-4;" in start
    assert "trained on sessions 5-20" in start


def test_absent_classes_are_named(page):
    assert "over 6 of 7 classes; absent from the truth: happy" in page.words()


def test_nothing_is_fetched_and_nothing_runs(run, page):
    text = run_page.write(run).read_text(encoding="utf-8")
    assert page.links == [] and "url(" not in text and "@import" not in text
    assert not {"script", "link", "img", "iframe", "object"} & set(page.tags)


def test_the_confusion_matrix_shows_counts_and_shares_of_the_row(run, page):
    matrix = np.array(result_of(run)["confusion"])
    share = matrix[0, 0] / matrix[0].sum()
    assert f"disgust 혐오 {matrix[0, 0]} {share:.0%}".replace("%", " %") in page.words()


def test_both_scatters_carry_their_ccc_and_all_test_rows(run, page):
    for head in ("arousal", "valence"):
        value = result_of(run)["scores"][f"ccc_{head}"]["value"]
        assert f"{head.capitalize()} CCC {value:.3f}" in page.words()
    ends = 5  # a circle ends each line of the training curve
    assert page.tags.count("circle") == 2 * 412 + ends


def test_validation_rows_are_not_shown(run, page):
    assert "validation row" not in page.words()


def test_the_surest_mistake_is_no_modal_label(run, page):
    table = read_predictions(run / "predictions.csv")
    rows = run_page.mistakes(table[table["set"] == "test"])
    assert rows[0]["segment"] in page.words()
    assert all(row["emotion"] not in row["emotion_true"].split(";") for row in rows)
    assert [row["sure"] for row in rows] == sorted((row["sure"] for row in rows), reverse=True)


def test_configuration_and_command_and_preparation_are_there(page):
    words = page.words()
    for text in (
        "python main.py --SorL speaker --test_split [1,2,3,4]",
        "versions.torch 2.11.0",
        "gpu_id null",
        "corpus.folder /home/나/KEMDy19",
        "kept of 10285 rows read 10282",
        "converted stereo 1204",
        "96 of 412 test lines",
    ):
        assert text in words


@pytest.mark.parametrize("synthetic", [True, False])
def test_a_synthetic_corpus_is_marked_in_the_head_and_a_real_one_is_not(tmp_path, synthetic):
    folder = make_run(tmp_path / "run", predictions(40), synthetic=synthetic)
    text = run_page.write(folder).read_text(encoding="utf-8")
    head = text.split("<h2>")[0]
    assert (f">{run_page.NOT_A_RESULT}<" in head) == synthetic
    assert ("<title>[synthetic]" in head) == synthetic
    assert (run_page.NOT_A_RESULT in console.console(result_of(folder))) == synthetic


def test_strings_from_data_are_escaped(tmp_path):
    table = predictions(60).assign(segment=EVIL, corpus=EVIL, role=EVIL)
    change = {"text_encoder": EVIL, "command": EVIL, "model": EVIL, EVIL: {EVIL: [EVIL]}}
    folder = make_run(tmp_path / "<b>run", table, change=change, reason=EVIL)
    result = result_of(folder)
    result["warnings"] = [EVIL]
    result["by_kind"] = {EVIL: {"n": 1, "uar": 0.5, "macro_f1": 0.5}}
    (folder / "result.json").write_text(json.dumps(result))
    line = json.dumps(log_lines(1)[0] | {f"loss/{EVIL}": 1.0}) + "\n"
    (folder / "train_loss.log").write_text(line)
    text = run_page.write(folder).read_text(encoding="utf-8")
    assert EVIL not in text and "<b>run" not in text
    assert text.count(html.escape(EVIL).replace("&#x27;", "&#39;")) >= 12
    assert "script" not in Page(text).tags


def test_a_command_that_is_not_unicode_can_be_written(tmp_path):
    folder = make_run(tmp_path / "run", predictions(20), change={"command": "main.py \udcff"})
    assert "main.py \\udcff" in run_page.write(folder).read_text(encoding="utf-8")


# --- how far to trust it, the protocol, the prior -------------------------------------------------


PROTOCOL = {
    "role": "speaker",
    "seed": 42,
    "uses_test_audio": False,
    "leaks": None,
    "sets": {"train": {"sessions": [5, 6, 7], "rows": 8200}, "test": {"rows": 2045, "ties": 3}},
    "dropped": {"quarantined": {"wav is truncated": 3}, "unlabelled": 2, "disjoint": {}},
}


def changed(folder: Path, **values) -> Path:
    """The run with other values in its result.json."""
    written = json.dumps(result_of(folder) | values)
    (folder / "result.json").write_text(written, encoding="utf-8")
    return folder


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


# --- runs that lack something ---------------------------------------------------------------------


def test_a_test_without_training_has_no_curve(tmp_path):
    folder = make_run(tmp_path / "test_20260101T000000Z", predictions(40), epochs=0)
    assert "Training" not in page_of(folder).words()
    assert not (folder / "loss_curve.png").exists()


def test_one_epoch_is_drawn_as_a_point(tmp_path):
    folder = make_run(tmp_path / "run", predictions(40).assign(arousal=np.nan), epochs=1)
    assert "Mean loss of each of 1 epoch." in page_of(folder).words()
    chart = charts.curve(log_lines(1))
    assert chart["x"] == [(237.0, "1")]
    assert [line["end"][0] for line in chart["series"]] == [237.0] * 5  # the middle of the axis


def test_a_loss_that_is_missing_lifts_the_pen():
    lines = log_lines(5)
    lines[2]["loss"], lines[3]["loss/arousal"] = float("nan"), None
    paths = {line["name"]: line["path"] for line in charts.curve(lines)["series"]}
    assert paths["loss"].count("M") == 2 and "nan" not in paths["loss"]
    assert paths["loss/arousal"].count("M") == 2 and paths["loss/emotion"].count("M") == 1


def test_a_run_without_arousal_and_valence_shows_neither(tmp_path):
    table = predictions(40).assign(arousal=np.nan, valence=np.nan)
    words = page_of(make_run(tmp_path / "run", table)).words()
    assert "ccc_arousal" not in words and "macro_f1" in words
    assert "Dashed: prediction equals truth" not in words


def test_a_run_without_emotion_has_no_matrix(tmp_path):
    gone = {name: np.nan for name in metric.PROBABILITIES}
    folder = make_run(tmp_path / "run", predictions(40).assign(emotion="", **gone))
    words = page_of(folder).words()
    assert "Confusion" not in words and "Dashed: prediction equals truth" in words
    assert not (folder / "confusion.png").exists() and not (folder / "confusion.csv").exists()


@pytest.mark.parametrize(("n", "present"), [(1, 1), (30, 1), (2, 2), (300, 7)])
def test_few_rows_and_few_classes_make_a_whole_page(tmp_path, n, present):
    folder = make_run(tmp_path / "run", predictions(n, present=present))
    page_of(folder)
    assert max(map(len, console.console(result_of(folder)).splitlines())) <= 80


def test_many_points_are_thinned_and_it_says_so():
    table, value = predictions(9001), {"value": 0.5, "low": 0.4, "high": 0.6}
    chart = charts.scatter(table, "arousal", {"scores": {"ccc_arousal": value}})
    assert (chart["n"], chart["step"], len(chart["points"])) == (9001, 3, 3001)


def test_the_identity_line_is_where_truth_and_prediction_are_equal():
    table = predictions(3).assign(arousal=[1.0, 3.0, 5.0], arousal_true=[1.0, 3.0, 5.0])
    chart = charts.scatter(table, "arousal", {"scores": {"ccc_arousal": {}}})
    box = charts.SQUARE
    middle = ((box["left"] + box["right"]) / 2, (box["top"] + box["bottom"]) / 2)
    ends = [(box["left"], box["bottom"]), middle, (box["right"], box["top"])]
    assert chart["points"] == ends


def test_soft_ties_show_parts_of_rows(tmp_path):
    table = predictions(40)
    table.loc[0, ["votes_disgust", "votes_angry"]] = [7.0, 3.0]
    table.loc[0, [f"votes_{e}" for e in EMOTIONS[2:]]] = 0.0
    folder = make_run(tmp_path / "run", table, ties="soft")
    page_of(folder)
    kept = pd.read_csv(folder / "confusion.csv", index_col="truth")
    assert not float(kept.loc["angry"].sum()).is_integer()


# --- files ----------------------------------------------------------------------------------------


def test_confusion_csv_has_the_truth_in_its_rows(run):
    run_page.write(run)
    table = pd.read_csv(run / "confusion.csv", index_col="truth")
    assert tuple(table.index) == tuple(table.columns) == EMOTIONS
    tested = read_predictions(run / "predictions.csv").query("set == 'test'")
    here = tested.query("emotion_true == 'disgust' and emotion == 'sad'")
    assert table.loc["disgust", "sad"] == len(here)


def test_equal_runs_give_equal_bytes(tmp_path):
    prints = []
    for place in ("a", "b"):
        folder = make_run(tmp_path / place / "run", predictions(50))
        run_page.write(folder)
        names = ("report.html", "confusion.csv", "confusion.png", "loss_curve.png")
        prints.append([hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names])
    assert prints[0] == prints[1]


def test_the_pictures_are_png_without_a_version_or_a_date(run):
    run_page.write(run)
    for name in ("confusion.png", "loss_curve.png"):
        data = (run / name).read_bytes()
        assert data.startswith(b"\x89PNG") and b"atplotlib" not in data and b"tIME" not in data


def test_importing_report_does_not_start_matplotlib():
    code = "import sys, reporting.page; sys.exit(bool({'matplotlib', 'jinja2'} & set(sys.modules)))"
    root = Path(run_page.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0


def test_a_segment_called_na_stays_a_text(tmp_path):
    folder = make_run(tmp_path / "run", predictions(3).assign(segment=["NA", "007", "null"]))
    assert list(read_predictions(folder / "predictions.csv")["segment"]) == ["NA", "007", "null"]


# --- bad files ------------------------------------------------------------------------------------


def test_a_broken_line_of_the_log_is_named(tmp_path):
    path = tmp_path / "train_loss.log"
    path.write_text('{"epoch": 1, "loss": 1.0}\n{"epoch": 2, "lo')
    with pytest.raises(UserError, match=r"line 2, should be a JSON object .* is '\{\"epoch\": 2"):
        run_page.read_log(path)


def test_predictions_without_a_column_name_it(tmp_path):
    path = tmp_path / "predictions.csv"
    predictions(3).drop(columns="p_3").to_csv(path, index=False)
    with pytest.raises(UserError, match="lacks the columns p_3; it has corpus, role"):
        read_predictions(path)


def test_predictions_that_are_no_numbers_are_refused(tmp_path):
    path = tmp_path / "predictions.csv"
    predictions(3).assign(arousal="high").to_csv(path, index=False)
    with pytest.raises(UserError, match="needs numbers in p_0.*high"):
        read_predictions(path)


@pytest.mark.parametrize("name", ["predictions.csv", "result.json", "configuration.json"])
def test_a_missing_file_is_named_and_nothing_is_written(tmp_path, name):
    folder = make_run(tmp_path / "run", predictions(10))
    (folder / name).unlink()
    with pytest.raises(UserError, match=name):
        run_page.write(folder)
    assert not (folder / "report.html").exists()


# --- the console ----------------------------------------------------------------------------------


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
