"""The card of a published run: its scores beside protocol, limits and terms."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from doubles.published import SECRETS, TINY, another, card_of, everything, published, rewrite, saved
from huggingface_hub import ModelCardData

import constants
import main
import model
import utils
from evaluation.highlights import intervals
from inference.publishing import card as model_card
from inference.publishing import origins, portable
from reporting import page
from utils import read_json, write_json


@pytest.fixture
def run(run_folder, tmp_path) -> Path:
    """A run to be changed, in a folder of runs."""
    return another(run_folder, tmp_path / "exp/run", TINY)


# --- the card ------------------------------------------------------------------------------------


def test_the_front_matter_is_what_the_hub_reads(published_run):
    data = card_of(published_run).data
    assert (data.language, data.license, data.library_name) == ("ko", "other", "mate")
    assert data.pipeline_tag == "audio-classification"
    assert {"emotion-recognition", "mate", "synthetic", "not-a-result"} <= set(data.tags)
    assert data.model_name == "felt" and data.base_model is None
    assert ModelCardData(**data.to_dict()).to_dict() == data.to_dict()


def test_the_front_matter_has_the_scores_of_the_run_to_the_last_digit(published_run, run_folder):
    scores = read_json(run_folder / "result.json")["scores"]
    found = {result.metric_name: result for result in card_of(published_run).data.eval_results}
    assert {"accuracy", "uar", "macro_f1", "weighted_f1", "ccc_arousal", "ccc_valence"} <= set(
        found
    )
    assert {name: result.metric_value for name, result in found.items()} == {
        name: scores[name]["value"] for name in found
    }
    assert not [name for name in found if name.startswith("legacy") or "_at_" in name]
    assert (found["uar"].metric_type, found["uar"].metric_args) == ("recall", {"average": "macro"})
    assert (found["macro_f1"].metric_type, found["accuracy"].metric_type) == ("f1", "accuracy")


def test_each_score_stands_beside_its_baseline_interval_and_n(published_run, run_folder):
    text = (published_run / "README.md").read_text()
    for name in ("accuracy", "macro_f1", "ccc_valence"):
        s = read_json(run_folder / "result.json")["scores"][name]
        cells = [
            f"{s[key]:.3f}"
            for key in ("value", "low", "high", "baseline", "baseline_low", "baseline_high")
        ]
        value, low, high, base, base_low, base_high = (c.replace("-0.000", "0.000") for c in cells)
        row = (
            f"| `{name}` | {value} | [{low}, {high}] | {base} | [{base_low}, {base_high}] | "
            f"{s['n']} |"
        ).replace("-", "\N{MINUS SIGN}")
        assert row in text


def test_a_synthetic_corpus_is_marked_wherever_its_scores_stand(published_run):
    card = card_of(published_run)
    assert card.text.lstrip().splitlines()[2].startswith("> **NOT A RESULT.**")
    assert {result.dataset_name[:12] for result in card.data.eval_results} == {"NOT A RESULT"}
    assert {result.dataset_type for result in card.data.eval_results} == {"synthetic-kemdy19"}
    assert not set(origins.CORPORA) & set(card.data.tags)


def test_a_real_corpus_is_named_with_its_terms_and_no_such_mark(run, tmp_path):
    about = {key: SECRETS[key] for key in ("corpus", "extra")}
    rewrite(run / "configuration.json", **about)
    rewrite(run / "result.json", synthetic=False)
    card = card_of(published(run, tmp_path / "out"))
    assert "NOT A RESULT" not in card.content and "not-a-result" not in card.data.tags
    assert {"kemdy19", "kemdy20"} <= set(card.data.tags)
    for title in ("KEMDy19", "KEMDy20"):
        assert f"* {title} is licensed by ETRI under a signed agreement" in card.text
    assert "may not be passed on" in card.text and "acted dialogues" in card.text
    assert "what ten raters perceived, not what anybody felt" in card.text
    assert {result.dataset_name for result in card.data.eval_results} == {"KEMDy19"}  # tested alone
    assert {result.dataset_type for result in card.data.eval_results} == {"kemdy19"}


def test_scores_of_each_corpus_stand_apart(run, tmp_path):
    result = read_json(run / "result.json")
    other = json.loads(json.dumps(result["scores"]))
    other["macro_f1"]["value"] = 0.123456789
    parts = {
        name: {"n": result["n"], "majority": "neutral", "scores": scores}
        for name, scores in (("kemdy19", result["scores"]), ("kemdy20", other))
    }
    rewrite(run / "configuration.json", **{key: SECRETS[key] for key in ("corpus", "extra")})
    rewrite(run / "result.json", synthetic=False, by_corpus=parts)
    card = card_of(published(run, tmp_path / "out"))
    found = {(r.dataset_type, r.metric_name): r.metric_value for r in card.data.eval_results}
    assert found["kemdy20", "macro_f1"] == 0.123456789
    assert found["kemdy19+kemdy20", "macro_f1"] == result["scores"]["macro_f1"]["value"]
    assert "**kemdy20 alone**" in card.text and "| `macro_f1` | 0.123 |" in card.text


def test_the_card_says_what_it_is_not_for_and_how_to_use_it(published_run):
    text = card_of(published_run).text
    for words in (
        "Not for judging people",
        "Korean alone",
        "trained on | sessions 1-2 |",
        "tested on | sessions 3-4 |",
        "| test | 3-4 |",
        'model.load("DIR")',
        "python main.py predict DIR a.wav",
        "| majority baseline |",
    ):
        assert words in text, words


@pytest.mark.parametrize("asked", ["mit", "cc-by-nc-4.0"])
def test_a_licence_is_the_users_and_the_corpuss_terms_stay(asked, run, tmp_path):
    card = card_of(published(run, tmp_path / "out", "--license", asked))
    assert card.data.license == asked and card.data.license_name is None
    assert f"`{asked}`, chosen by who published them" in card.text and "has no terms" in card.text


def test_a_licence_that_is_no_id_is_refused(run, tmp_path, capsys):
    assert main.main(["publish", "run", "--out", str(tmp_path / "x"), "--license", "My own"]) == 2
    assert "needs an id such as mit or cc-by-nc-4.0, got 'My own'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "task", "base"),
    [
        ("kobert", "text-classification", "skt/kobert-base-v1"),
        ("wav2vec2", "audio-classification", "kresnik/wav2vec2-large-xlsr-korean"),
        ("mixer", "audio-classification", None),
    ],
)
def test_a_model_with_an_encoder_in_it_names_that_as_its_base(
    name, task, base, configuration, tmp_path
):
    run = saved(tmp_path / "exp/run", name, configuration, text_encoder="skt/kobert-base-v1")
    card = card_of(published(run, tmp_path / "out"))
    assert (card.data.pipeline_tag, card.data.base_model) == (task, base)
    how = "fine-tuned: its weights are part of these" if base else "frozen: needed beside"
    assert f"`{base or 'skt/kobert-base-v1'}`, {how}" in card.text


def test_an_encoder_of_a_folder_is_no_base(configuration, tmp_path):
    run = saved(
        tmp_path / "exp/run",
        "kobert",
        configuration,
        text_encoder="data/gone",
        encoder_files="0123",
    )
    card = card_of(published(run, tmp_path / "out"))
    assert card.data.base_model is None and "`./gone`, fine-tuned" in card.text


def test_a_name_of_tags_and_bars_stays_text(run, tmp_path):
    rewrite(run / "result.json", warnings=["<script>alert(1)</script>"])
    rewrite(run / "configuration.json", git="<b>x|y</b>")
    text = card_of(published(run, tmp_path / "out")).text
    assert not re.search(r"<(script|b)>", text)


def test_highlights_are_published_with_their_own_scores(configuration, tmp_path):
    said = {"model": "highlight", "widths": {"mfcc_second": 34}, "modality": "audio"}
    run = tmp_path / "exp/run"
    model.save(run, model.build("highlight", configuration | said, seed=1), configuration | said)
    draw, second = np.random.default_rng(0), np.arange(40)
    table = {
        "segment": [f"film{n // 10}#{n % 10:05d}" for n in second],
        "dialogue": [f"film{n // 10}" for n in second],
        "corpus": ["aihub_highlight"] * 40,
        "role": ["speaker"] * 40,
        "marks": [""] * 40,
        "highlight": draw.random(40),
        "highlight_true": draw.integers(0, 2, 40).astype(float),
    }
    found = intervals.summary(table, 0.5, resamples=20)
    write_json(run / "result.json", {"highlight": found, "synthetic": True, "warnings": []})
    out = published(run, tmp_path / "out")
    card = card_of(out)
    assert card.data.pipeline_tag == "video-classification"
    values = {result.metric_name: result.metric_value for result in card.data.eval_results}
    assert values["average_precision"] == found["scores"]["average_precision"]["value"]
    assert read_json(out / "config.json")["threshold"] == 0.5
    assert "| all seconds |" in card.text and "predict DIR" not in card.text
    assert found["human"]["undefined"] == ["film0", "film1", "film2", "film3"]
    assert read_json(out / "result.json")["highlight"]["human"]["undefined"] == 4
    assert b"film" not in everything(out)


# --- what is known -------------------------------------------------------------------------------


def test_every_corpus_has_its_terms_and_every_encoder_its_feature():
    made = {"sample", "kemdy19_2022"}  # these are read as kemdy19
    assert set(utils.leaves("corpora")) - made == set(origins.CORPORA)
    known = {**origins.MADE_BY, **origins.WITHIN}
    assert set(known) <= set(utils.leaves("features"))
    flags = {f"{kind}_encoder" for kind in ("text", "speech", "vision")}
    assert set(known.values()) == flags == set(portable.ENCODERS)
    for name in utils.leaves("features"):
        text = (utils.ROOT / f"features/{name}.py").read_text()
        assert (name in known and name != "waveform") == bool(
            re.search(r"settings\.\w+_encoder", text)
        ), name


def test_every_key_that_a_run_writes_is_published_or_named_as_kept_back(
    configuration, published_run
):
    kept = read_json(published_run / "config.json").keys()
    assert configuration.keys() - kept == portable.HERE | {"command"}
    assert kept - configuration.keys() == {"temperature"}


def test_the_template_names_the_emotions_in_the_order_of_the_scores(published_run):
    named = ", ".join(f"{name} {constants.KOREAN[name]}" for name in constants.EMOTIONS)
    assert f"Classes, in this order: {named}." in (published_run / "README.md").read_text()
    assert model_card.NOT_A_RESULT.lower() in page.NOT_A_RESULT
