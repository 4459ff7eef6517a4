"""Finished runs: how they are read, and resampled within sessions, against brute force."""

import re

import numpy as np
import pandas as pd
import pytest
from doubles.finished import kept, pooled, run, table, written
from hypothesis import given, settings
from hypothesis import strategies as st

import constants
from evaluation import bootstrap, comparison, finished_runs
from evaluation.predictions import scores_of
from utils import UserError

SEEDS = st.integers(0, 2**32)


def test_a_run_is_read_with_its_test_rows_only(tmp_path):
    one = run()
    frame = pd.concat([one.predictions.assign(set="val"), one.predictions], ignore_index=True)
    found = finished_runs.read(written(tmp_path / "run", one._replace(predictions=frame)))
    assert (
        found.folder == tmp_path / "run" and found.configuration.values == one.configuration.values
    )
    expected = comparison.row("x", [one], resamples=20)["scores"]
    assert comparison.row("x", [found], resamples=20)["scores"] == expected


@pytest.mark.parametrize("name", finished_runs.FILES)
def test_a_folder_without_one_of_the_files_is_no_finished_run(tmp_path, name):
    (written(tmp_path / "run", run()) / name).unlink()
    with pytest.raises(UserError, match=rf"is no finished run.*it has no {re.escape(name)}$"):
        finished_runs.read(tmp_path / "run")


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        ({"seed": None}, "seed should be a whole number"),
        ({"class_counts": {"sad": -1}}, "class_counts should be a whole number for each emotion"),
        ({"class_counts": {"bored": 1}}, "class_counts should be"),
        ({"class_counts": [1]}, "class_counts should be"),
        ({"majority": "sad"}, "majority should be an emotion"),
        ({"majority": {"emotion": "bored"}}, "majority should be an emotion"),
        ({"majority": {"emotion": "sad", "arousal": "3"}}, "and numbers for the scales"),
    ],
)
def test_a_configuration_that_was_edited_is_refused(tmp_path, configuration, message):
    with pytest.raises(UserError, match=message):
        finished_runs.read(written(tmp_path / "run", run(), **configuration))


def test_a_run_without_test_rows_is_refused(tmp_path):
    one = run()
    one = one._replace(predictions=one.predictions.assign(set="val"))
    with pytest.raises(UserError, match="needs rows of the set test; it has none"):
        finished_runs.read(written(tmp_path / "run", one))


# --- intervals -------------------------------------------------------------------------------


def test_each_session_keeps_its_number_of_dialogues_in_every_resample():
    counts = bootstrap.draws((2, 5, 1), 4000, 3, bootstrap.WITHIN_SESSIONS)
    sums = [counts[:, part].sum(1) for part in (slice(0, 2), slice(2, 7), slice(7, 8))]
    assert [set(s.tolist()) for s in sums] == [{2}, {5}, {1}]
    assert counts.mean(0) == pytest.approx(np.ones(8), abs=0.06)
    assert counts[:, 2].var() == pytest.approx(5 * 1 / 5 * 4 / 5, abs=0.06)
    assert (counts != bootstrap.draws((2, 5, 1), 4000, 4, bootstrap.WITHIN_SESSIONS)).any()


@settings(deadline=None, max_examples=8)
@given(SEEDS, st.sampled_from(constants.TIE_POLICIES))
def test_vectorised_resamples_equal_scoring_the_drawn_rows_one_resample_at_a_time(seed, ties):
    row = [run(s, k, world=seed, rows=90) for s in ((1, 2), (3,)) for k in (1, 2)]
    pool = finished_runs.pool_of(row, ties)
    found = finished_runs.resampled(pool, np.ones(len(pool.utterance), bool), 4, seed).resampled
    counts = bootstrap.draws((3, 3, 3), 4, seed, bootstrap.WITHIN_SESSIONS)
    for resample, count in enumerate(counts):
        drawn = [name[2] for name in np.repeat(np.array(pool.dialogues), count, axis=0)]
        parts = [scores_of(_rows_of(pooled(row[i::2]), drawn), ties) for i in (0, 1)]
        for name in bootstrap.SCORES:
            expected = np.mean([scores[name]["value"] for scores in parts])
            assert found[name][resample] == pytest.approx(expected, abs=1e-9), name


def _rows_of(frame: pd.DataFrame, dialogues: list[str]) -> pd.DataFrame:
    return pd.concat([frame[frame.dialogue == name] for name in dialogues])


def test_the_interval_is_that_of_drawing_dialogues_within_sessions_by_hand():
    one = run((1, 2), dialogues=6, rows=60)
    found = comparison.row("x", [one], resamples=4000)["scores"]["accuracy"]
    rows, draw, values = kept(one.predictions), np.random.default_rng(0), []
    right = (rows.emotion == rows.emotion_true).groupby([rows.session, rows.dialogue])
    sessions = [part.to_numpy() for _, part in right.agg(["sum", "count"]).groupby("session")]
    for _ in range(4000):
        right, n = sum(part[draw.integers(0, len(part), len(part))].sum(0) for part in sessions)
        values.append(right / n)
    expected = np.percentile(values, [2.5, 97.5])
    assert [found["low"], found["high"]] == pytest.approx(expected, abs=0.01)


def test_differences_between_sessions_do_not_widen_the_interval():
    frames = [table((s,), skill=10.0 * (s == 1), dialogues=10) for s in (1, 2)]
    one = run()._replace(predictions=pd.concat(frames, ignore_index=True))
    apart = comparison.row("x", [one], resamples=1000)["scores"]["accuracy"]
    frame = one.predictions.assign(session="1")
    mixed = comparison.row("x", [one._replace(predictions=frame)], resamples=1000)
    mixed = mixed["scores"]["accuracy"]
    assert apart["high"] - apart["low"] < 0.8 * (mixed["high"] - mixed["low"])


def test_sessions_of_one_dialogue_each_give_no_interval():
    found = comparison.row("x", [run((1, 2, 3), dialogues=1)], resamples=20)["scores"]
    for score in found.values():
        assert score["low"] is score["high"] is score["baseline_low"] is None
        assert score["pooled"] is not None
    one = run((1, 2))
    one.predictions.loc[~one.predictions.dialogue.str.endswith("d000"), "arousal_true"] = np.nan
    found = comparison.row("x", [one], resamples=20)["scores"]
    assert found["ccc_arousal"]["low"] is None and found["ccc_valence"]["low"] is not None
