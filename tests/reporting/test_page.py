"""Tests of page.py on run folders made here: scores by result.py, everything else invented."""

import hashlib
import html
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from doubles.report_pages import EVIL, Page, page_of
from doubles.run_folders import log_lines, make_run, predictions, result_of

import metric
from constants import EMOTIONS
from evaluation.predictions import read_predictions
from reporting import charts, console
from reporting import page as run_page
from utils import UserError

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
