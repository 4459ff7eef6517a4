"""training/balance.py: which windows are drawn, made-up vectors, and that nothing else changes."""

import sys

import imblearn.over_sampling
import imblearn.under_sampling
import numpy as np
import pandas as pd
import pytest
import torch
from doubles.settings import settings_with
from hypothesis import given
from hypothesis import strategies as st

from constants import EMOTIONS, RATERS
from dataset import Material, Windows
from evaluation.splits import Split
from metric import VOTES
from models import lstm_audio
from training import balance
from training.schedule import training_batches
from utils import UserError

DRAWN = ("oversample", "undersample")
FEATURE, D = "mfcc_seconds", lstm_audio.COEFFICIENTS
CLASSES = st.lists(st.integers(-1, 6), max_size=60).map(lambda values: np.array(values, int))
LABELS = ["neutral"] * 12 + ["happy"] * 6 + ["sad;neutral"] * 4 + ["angry"] * 3 + [""] * 2


class Sounds:
    """A ragged feature of some rows: a Store, as far as Windows look at it."""

    ragged, kind, shape = True, "wav", (None, D)

    def __init__(self, n: int, silent: tuple[int, ...] = (), seed: int = 0):
        rng = np.random.default_rng(seed)
        self.lengths = rng.integers(1, 6, n)
        self.lengths[list(silent)] = 0
        self.available = self.lengths > 0
        self.values = [
            rng.normal(-300, 50, (length, D)).astype(np.float32) for length in self.lengths
        ]

    def mask(self, rows):
        lengths = np.where(rows >= 0, self.lengths[rows], 0)
        return np.arange(max(1, lengths.max(initial=0))) < lengths[..., None]

    def gather(self, rows, cut=None):
        mask = self.mask(rows)
        out = np.zeros((*mask.shape, D), np.float32)
        for at in np.ndindex(rows.shape):
            out[at][mask[at]] = self.values[rows[at]][: mask[at].sum()]
        return out


def material(labels=LABELS, tested: int = 5, silent: tuple[int, ...] = ()) -> Material:
    """Rows of session 1 with these labels, and `tested` neutral ones of session 2."""
    labels, n = [*labels, *["neutral"] * tested], len(labels) + tested
    votes = np.zeros((n, len(EMOTIONS)))
    for row, label in zip(votes, labels, strict=True):
        named = [EMOTIONS.index(part) for part in label.split(";") if part]
        row[named or slice(None)] = RATERS / len(named) if named else np.nan
    table = pd.DataFrame(votes, columns=VOTES).assign(
        corpus="c",
        role="speaker",
        segment=[f"s{i}" for i in range(n)],
        emotion=labels,
        session=[1] * (n - tested) + [2] * tested,
        dialogue=[f"d{i // 4}" for i in range(n)],
        speaker="m",
        quarantine="",
        arousal=3.0,
        valence=2.0,
        wav_hash="",
        silent=False,
        kind="",
    )
    return Material(None, table, {FEATURE: Sounds(n, silent)}, Split((1,), (), (2,)))


def windows(ws: int = 1, **about) -> Windows:
    return Windows(material(**about), "train", ws)


def counts(classes: np.ndarray) -> dict[int, int]:
    return dict(zip(*(a.tolist() for a in np.unique(classes, return_counts=True)), strict=True))


# --- what is drawn -------------------------------------------------------------------------------


@given(CLASSES, st.integers(0, 5))
def test_oversampling_keeps_every_row_and_levels_the_classes(classes, seed):
    chosen = balance.oversampled(classes, np.random.default_rng(seed))
    known = classes[classes >= 0]
    assert set(chosen) == set(range(len(classes)))
    assert counts(classes[chosen]).get(-1, 0) == (classes < 0).sum()
    drawn = counts(classes[chosen][classes[chosen] >= 0])
    assert set(drawn.values()) <= {max(counts(known).values(), default=0)}
    if len(drawn) > 1:
        x, y = np.zeros((len(known), 1)), known
        _, oracle = imblearn.over_sampling.RandomOverSampler(random_state=0).fit_resample(x, y)
        assert counts(oracle) == drawn


@given(CLASSES, st.integers(0, 5))
def test_undersampling_draws_no_row_twice_and_levels_the_classes(classes, seed):
    chosen = balance.undersampled(classes, np.random.default_rng(seed))
    known = classes[classes >= 0]
    assert len(set(chosen)) == len(chosen) and (np.diff(chosen) > 0).all()
    assert set(np.flatnonzero(classes < 0)) <= set(chosen)
    drawn = counts(classes[chosen][classes[chosen] >= 0])
    assert set(drawn.values()) <= {min(counts(known).values(), default=0)}
    assert set(drawn) == set(known.tolist())
    if len(drawn) > 1:
        x, y = np.zeros((len(known), 1)), known
        _, oracle = imblearn.under_sampling.RandomUnderSampler(random_state=0).fit_resample(x, y)
        assert counts(oracle) == drawn


def test_every_row_of_a_class_has_the_same_chance():
    classes = np.array([0] * 4 + [1] * 2)
    over, under = np.zeros(6), np.zeros(6)
    for seed in range(2000):
        over += np.bincount(balance.oversampled(classes, np.random.default_rng(seed)), minlength=6)
        under += np.bincount(
            balance.undersampled(classes, np.random.default_rng(seed)), minlength=6
        )
    np.testing.assert_allclose(over / 2000, [1, 1, 1, 1, 2, 2], atol=0.07)
    np.testing.assert_allclose(under / 2000, [0.5] * 4 + [1] * 2, atol=0.05)


def test_a_tie_counts_to_the_label_written_first():
    found = balance.classes(windows())
    named = [EMOTIONS[c] if c >= 0 else "" for c in found]
    assert named == ["neutral"] * 12 + ["happy"] * 6 + ["sad"] * 4 + ["angry"] * 3 + [""] * 2


# --- windows, drawn ------------------------------------------------------------------------------


@pytest.mark.parametrize("how", DRAWN)
def test_a_drawn_window_is_the_window_that_it_was(how):
    whole = windows(ws=3)
    drawn = resampled(whole, how, 7)
    assert drawn.lengths.shape == drawn.rows.shape == (len(drawn),)
    assert drawn.keep_on(torch.device("cpu")) is False
    for number in range(len(drawn)):
        [origin] = np.flatnonzero(whole.rows == drawn.rows[number])
        assert drawn.lengths[number] == whole.lengths[origin]
        expected = whole.batch(np.array([origin]))
        for name, value in drawn.batch(np.array([number])).items():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=0)
    levels = {"oversample": 12, "undersample": 3}
    known = drawn.class_counts()[[EMOTIONS.index(e) for e in ("neutral", "happy", "angry", "sad")]]
    ties = levels[how] * np.array([1, 0, 0, 0])  # "sad;neutral" counts in both
    assert known.tolist() == (np.full(4, levels[how]) + ties).tolist()


@pytest.mark.parametrize("how", [*DRAWN, "smote"])
def test_draws_depend_on_the_seed_alone_and_leave_the_windows_as_they_were(how):
    def rows(seed):
        found = resampled(whole, how, seed)
        return found.rows, found.batch(np.arange(len(found)))[FEATURE].numpy()

    whole = windows()
    before = whole.rows.copy(), whole.index.copy(), len(whole.utterances)
    first, again, other = rows(1), rows(1), rows(2)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert first[1].shape != other[1].shape or (first[1] != other[1]).any()
    np.testing.assert_array_equal(whole.rows, before[0])
    np.testing.assert_array_equal(whole.index, before[1])
    assert len(whole.utterances) == before[2]


def resampled(whole: Windows, how: str, seed: int = 0, **more) -> Windows:
    given = lstm_audio.Settings(balance=how, legacy=how == "smote", **{"neighbours": 2} | more)
    return balance.resampled(whole, lstm_audio.Model.resampling(given), seed)


@pytest.mark.parametrize("how", ["none", *DRAWN, "smote"])
def test_no_test_row_is_trained_on_and_the_test_set_is_as_it_was(how):
    both = material()
    test = Windows(both, "test", 1)
    before = test.batch(np.arange(len(test)))
    trained = resampled(Windows(both, "train", 1), how)
    assert not set(trained.rows) & set(test.rows)
    again = Windows(both, "test", 1)
    np.testing.assert_array_equal(again.rows, np.arange(len(both.utterances))[-5:])
    for name, value in again.batch(np.arange(len(again))).items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_an_epoch_of_drawn_windows_has_all_of_them():
    drawn = resampled(windows(), "oversample")
    said = settings_with(seed=0, batch_size=8)
    numbers = np.concatenate(list(training_batches(len(drawn), said, 1, 1, drawn.lengths)))
    assert sorted(numbers) == list(range(48 + 2))


def test_nothing_is_drawn_where_nothing_is_asked_for():
    whole = windows()
    assert resampled(whole, "none") is whole


# --- made-up vectors -----------------------------------------------------------------------------


def test_real_windows_become_the_mean_of_their_seconds_and_keep_their_truth():
    whole, made = windows(silent=(2, 20)), resampled(windows(silent=(2, 20)), "smote")
    store, batch = whole.stores[FEATURE], made.batch(np.arange(len(whole)))
    for number, row in enumerate(whole.rows):
        there = row not in (2, 20)
        assert batch[f"{FEATURE}_mask"][number].tolist() == [[there]]
        if there:
            np.testing.assert_allclose(
                batch[FEATURE][number, 0, 0], store.values[row].mean(0), rtol=1e-5
            )
    for name, value in whole.answers(np.arange(len(whole))).items():
        torch.testing.assert_close(batch[name], value, rtol=0, atol=0)


def test_made_up_vectors_lie_between_two_of_their_class_and_have_no_other_truth():
    whole = windows(silent=(2, 20))
    made = resampled(whole, "smote")
    real, known = made.vectors[: len(whole)].numpy(), balance.classes(whole)
    known[~made.there[: len(whole)].numpy()] = -1
    new = np.arange(len(whole), len(made))
    batch = made.batch(new)
    of = balance.classes(made)[new]
    most = max(counts(known[known >= 0]).values())
    assert counts(np.concatenate([known[known >= 0], of])) == dict.fromkeys(set(of) | {5}, most)
    assert batch["emotion"].argmax(1).tolist() == of.tolist()
    assert batch["emotion"].sum(1).eq(1).all() and batch["emotion_mask"].all()
    assert not batch["arousal_mask"].any() and not batch["valence_mask"].any()
    assert made.known(new) == {"emotion": len(new), "arousal": 0, "valence": 0}
    for vector, c in zip(batch[FEATURE][:, 0, 0].numpy(), of, strict=True):
        own = real[known == c].astype(float)
        off = [
            np.linalg.norm(vector - a - t.clip(0, 1) * (b - a))
            for a in own
            for b in own
            if (a != b).any()
            for t in [(vector - a) @ (b - a) / ((b - a) @ (b - a))]
        ]
        assert min(off) < 1e-2


def test_made_up_vectors_are_those_of_imbalanced_learn():
    whole = windows()
    made, known = resampled(whole, "smote", seed=3), balance.classes(whole)
    x = np.stack([whole.stores[FEATURE].values[row].mean(0) for row in whole.rows[known >= 0]])
    state = int(balance.rng(3, "balance").integers(2**31))
    sampler = imblearn.over_sampling.SMOTE(k_neighbors=2, random_state=state)
    expected, labels = sampler.fit_resample(x, known[known >= 0])
    named = balance.classes(made) >= 0
    np.testing.assert_allclose(made.vectors[named], expected, rtol=1e-4)
    np.testing.assert_array_equal(balance.classes(made)[named], labels)


def test_a_legacy_model_says_the_same_of_a_vector_as_of_its_seconds():
    whole, made = windows(), resampled(windows(), "smote")
    model = lstm_audio.Model(lstm_audio.Settings(legacy=True, hidden_size=8)).eval()
    numbers = np.arange(len(whole))
    with torch.no_grad():
        for name, value in model(whole.batch(numbers)).items():
            torch.testing.assert_close(model(made.batch(numbers))[name], value, atol=1e-5, rtol=0)


def test_classes_too_small_for_their_neighbours_are_named():
    short = [*LABELS, "fear", "disgust", "disgust"]
    with pytest.raises(UserError, match="needs 3 .*: disgust has 2, fear has 1; try") as caught:
        resampled(windows(labels=short), "smote")
    assert "\n" not in str(caught.value) and "angry" not in str(caught.value)
    with pytest.raises(UserError, match="--neighbours 3 needs 4 .*: angry has 3;"):
        resampled(windows(), "smote", neighbours=3)


def test_a_single_class_needs_no_made_up_rows():
    whole = windows(labels=["sad"] * 2)
    assert len(resampled(whole, "smote")) == 2


def test_made_up_rows_are_counted_and_named():
    whole, made = windows(), resampled(windows(), "smote")
    assert made.class_counts().tolist() == [0, 12, 12, 0, 0, 16, 12]
    assert made.utterances["segment"].iloc[made.rows[-1]] == f"made up {len(made) - len(whole) - 1}"
    assert made.lengths is None and made.keep_on(torch.device("cpu"), 1 << 40) is False


def test_a_missing_extra_is_said_in_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "imblearn.over_sampling", None)
    with pytest.raises(UserError, match="pip install imbalanced-learn==0.14.2$"):
        resampled(windows(), "smote")
