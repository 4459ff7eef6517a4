"""The model of functionals: what it learns without steps, alone and as a run."""

import contextlib

import numpy as np
import pandas as pd
import pytest
import torch
from doubles.functionals import RATE, D
from doubles.settings import settings_with
from doubles.shared import SHARED, needs_shared
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.metrics import recall_score
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.utils.class_weight import compute_sample_weight

import constants
import main
import model
import utils
from dataset import Windows, open_material
from models.layers.svm import lessons

# --- the model -----------------------------------------------------------------------------------


def windows(rows=90, seed=0, classes=range(7), ws=1) -> dict[str, torch.Tensor]:
    """Functionals whose means depend on the class, with votes, scales and masks."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(list(classes), rows)
    labels[: len(classes)] = list(classes)
    centres = np.random.default_rng(99).standard_normal((7, D))
    x = 40 + 5 * (0.4 * centres[labels][:, None] + rng.standard_normal((rows, ws, D)))
    votes = np.full((rows, 7), 0.0)
    votes[np.arange(rows), labels] = 0.6
    votes[np.arange(rows), (labels + 1) % 7] += 0.4
    batch = {
        "functionals": x,
        "emotion": votes,
        "arousal": 1 + 4 * rng.random(rows),
        "valence": np.clip(3 + x[:, -1, 0] / 40 - 1 + rng.normal(0, 0.1, rows), 1, 5),
    }
    tensors = {name: torch.from_numpy(array).float() for name, array in batch.items()}
    tensors |= {f"{name}_mask": torch.ones(rows).bool() for name in ("emotion", "arousal")}
    tensors["valence_mask"] = torch.ones(rows).bool()
    tensors["mask"] = tensors["functionals_mask"] = torch.ones(rows, ws).bool()
    return tensors


def fitted(batch, **configuration) -> torch.nn.Module:
    built = model.build("functionals", configuration)
    built.fit(batch)
    return built.eval()


def oracle(batch, kernel="rbf", cost=1.0) -> tuple[StandardScaler, SVC]:
    """scikit-learn by itself, for rows without ties."""
    x, labels = batch["functionals"][:, -1].double().numpy(), batch["emotion"].argmax(1).numpy()
    scaler = StandardScaler().fit(x)
    svc = SVC(kernel=kernel, C=cost, class_weight="balanced", break_ties=True)
    return scaler, svc.fit(scaler.transform(x), labels)


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
@pytest.mark.parametrize("classes", [range(7), (0, 2, 3, 6), (2, 5)], ids=["7", "4", "2"])
def test_the_forward_pass_is_scikit_learns_decision_function(kernel, classes):
    train, test = windows(classes=classes), windows(seed=1)
    built = fitted(train, kernel=kernel, C=0.3)
    scaler, svc = oracle(train, kernel, 0.3)
    x = scaler.transform(test["functionals"][:, 0].double().numpy())
    found = built.decide(torch.from_numpy(x).float()).numpy()[:, list(classes)]
    prediction = built(test)["emotion"]
    expected = svc.decision_function(x)
    if len(classes) == 2:  # one column there; votes for each of the two here
        margins = built._kernel(torch.from_numpy(x).float()) @ built.pairs.T + built.intercept
        np.testing.assert_allclose(-margins.numpy().sum(1), expected, atol=1e-4)
    else:
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert np.array_equal(prediction.argmax(1).numpy(), svc.predict(x))
    assert np.array_equal(np.flatnonzero(built.present), list(classes))


def test_log_probabilities_are_the_softmax_of_the_votes_and_absent_classes_nearly_none():
    built, test = fitted(windows(classes=(0, 2, 6))), windows(seed=1)
    found = built(test)["emotion"]
    assert found.isfinite().all()
    torch.testing.assert_close(found.exp().sum(1), torch.ones(90))
    assert found[:, [1, 3, 4, 5]].exp().max() < 1e-12
    scaler, svc = oracle(windows(classes=(0, 2, 6)))
    votes = svc.decision_function(scaler.transform(test["functionals"][:, 0].double().numpy()))
    expected = torch.from_numpy(votes).log_softmax(1).float()
    torch.testing.assert_close(found[:, [0, 2, 6]], expected, atol=1e-4, rtol=0)


def test_one_class_alone_is_always_answered():
    found = fitted(windows(classes=(4,)))(windows(seed=1))["emotion"]
    assert found.isfinite().all() and (found.exp()[:, 4] >= 1 - 1e-6).all()


def test_scales_are_scikit_learns_ridge_clipped_to_the_scale():
    train, test = windows(), windows(seed=1)
    test["functionals"][:5] *= 4  # far outside what was trained on
    scaler, _ = oracle(train)
    x = scaler.transform(train["functionals"][:, 0].double().numpy())
    other = scaler.transform(test["functionals"][:, 0].double().numpy())
    found = fitted(train, alpha=3.0)(test)
    for name in ("arousal", "valence"):
        expected = Ridge(alpha=3.0).fit(x, train[name].double().numpy()).predict(other)
        np.testing.assert_allclose(found[name].numpy(), expected.clip(1, 5), atol=1e-4)
        assert ((expected < 1) | (expected > 5)).any()


def test_ties_teach_each_of_their_classes_in_part():
    votes = np.array(
        [
            [0.5, 0.5, 0, 0, 0, 0, 0],
            [1, 0, 0, 0, 0, 0, 0],
            [0, 0.6, 0.4, 0, 0, 0, 0],
            [0.3, 0.3, 0.3, 0.1, 0, 0, 0],
        ]
    )
    votes[3, 1] += 3e-8  # what float32 rounds away
    rows, labels, weights = lessons(votes)
    assert rows.tolist() == [0, 0, 1, 2, 3, 3, 3] and labels.tolist() == [0, 1, 0, 1, 0, 1, 2]
    parts, classes = [1 / 2, 1 / 2, 1, 1, 1 / 3, 1 / 3, 1 / 3], {0: 11 / 6, 1: 11 / 6, 2: 1 / 3}
    expected = [part * 4 / 3 / classes[c] for part, c in zip(parts, labels, strict=True)]
    np.testing.assert_allclose(weights, expected)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=50))
def test_without_ties_the_weights_are_scikit_learns_balanced_ones(labels):
    rows, found, weights = lessons(np.eye(7)[labels])
    assert rows.tolist() == list(range(len(labels))) and found.tolist() == labels
    np.testing.assert_allclose(weights, compute_sample_weight("balanced", labels))


def test_a_tie_moves_the_machines():
    train = windows()
    tied = train | {"emotion": train["emotion"].clone()}
    tied["emotion"][:30] = torch.where(tied["emotion"][:30] > 0, 0.5, 0)
    test = windows(seed=1)
    assert not torch.equal(fitted(tied)(test)["emotion"], fitted(train)(test)["emotion"])


def test_missing_sound_is_judged_as_the_training_mean():
    built, test = fitted(windows()), windows(seed=1)
    test["functionals_mask"][3] = False
    test["functionals"][3] = torch.nan
    found = built(test)
    mean = built(
        test | {"functionals": built.mean.expand(90, 1, D), "functionals_mask": test["mask"]}
    )
    for head, output in found.items():
        torch.testing.assert_close(output[3], mean[head][3], atol=1e-5, rtol=0)
    assert found["arousal"][3] == pytest.approx(float(windows()["arousal"].mean()), abs=1e-4)


def test_rows_without_sound_or_truth_teach_nothing():
    train = windows()
    kept = {name: tensor[:70] for name, tensor in train.items()}
    train["functionals_mask"][70:] = False
    train["functionals"][70:] = torch.nan
    test = windows(seed=1)
    both = fitted(train)(test), fitted(kept)(test)
    assert all(torch.equal(both[0][head], both[1][head]) for head in both[0])
    kept["arousal_mask"][:] = False
    kept["emotion_mask"][:10] = False
    kept["emotion"][:10] = 0.0
    found = fitted(kept)
    assert (found(test)["arousal"] == 3).all() and found(test)["valence"].std() > 0.01
    scaler = StandardScaler().fit(kept["functionals"][:, 0].double().numpy())
    np.testing.assert_allclose(found.mean.numpy(), scaler.mean_, rtol=1e-6)
    labels = kept["emotion"][10:].argmax(1).numpy()
    svc = SVC(class_weight="balanced").fit(
        scaler.transform(kept["functionals"][10:, 0].double().numpy()), labels
    )
    x = scaler.transform(test["functionals"][:, 0].double().numpy())
    votes = found.decide(torch.from_numpy(x).float()).numpy()
    np.testing.assert_allclose(votes, svc.decision_function(x), atol=1e-4)


def test_nothing_to_learn_from_is_one_line():
    train = windows(rows=8)
    train["functionals_mask"][:] = False
    with pytest.raises(utils.UserError, match=r"an emotion and sound, there are 0 of 8$"):
        fitted(train)


def test_only_the_last_utterance_of_a_window_is_heard():
    train, test = windows(ws=3), windows(seed=1, ws=3)
    alone = [
        {
            name: tensor[:, -1:] if tensor.ndim > 1 and name != "emotion" else tensor
            for name, tensor in batch.items()
        }
        for batch in (train, test)
    ]
    first, second = fitted(train, ws=3)(test), fitted(alone[0])(alone[1])
    assert all(torch.equal(first[head], second[head]) for head in first)


def test_fitting_twice_gives_the_same_bytes_and_forgets_what_was_before():
    train = windows()
    once, again = fitted(train), fitted(windows(rows=40, seed=4, classes=(1, 2)))
    again.fit(train)
    assert bytes(model.serialise(once.state_dict())) == bytes(model.serialise(again.state_dict()))


@pytest.mark.parametrize("kernel", ["rbf", "linear"])
def test_a_saved_model_comes_back_with_as_many_support_vectors(tmp_path, kernel):
    configuration = {"model": "functionals", "kernel": kernel}
    built, test = fitted(windows(), kernel=kernel), windows(seed=1)
    model.save(tmp_path, built, configuration)
    loaded, read = model.load(tmp_path)
    assert read == configuration and len(loaded.support) == len(built.support) > 20
    before, after = built(test), loaded(test)
    assert all(torch.equal(before[head], after[head]) for head in before)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda state: state.pop("support"), "support is missing; pairs is 21x"),
        (lambda state: state.update(support=torch.zeros(5, 3)), f"support is 5x3, should be 5x{D}"),
        (lambda state: state.update(support=torch.zeros(())), "support is a number, should be 0x"),
        (lambda state: state.update(mean=torch.zeros(3)), f"mean is 3, should be {D}"),
        (lambda state: state.update(pairs=torch.zeros(21, 1)), "pairs is 21x1, should be 21x"),
    ],
)
def test_a_state_of_other_shapes_is_refused_in_one_line(tmp_path, spoil, message):
    built = fitted(windows())
    model.save(tmp_path, built, {"model": "functionals"})
    state = built.state_dict()
    spoil(state)
    utils.write_sealed(tmp_path / "model.pth", model.serialise(state))
    with pytest.raises(utils.UserError, match=message):
        model.load(tmp_path)


def test_half_precision_around_it_changes_nothing():
    built, test = fitted(windows(), kernel="linear"), windows(seed=1)
    exact = built(test)
    with torch.autocast("cpu", torch.bfloat16):
        around = built(test)
    assert all(torch.equal(exact[head], around[head]) for head in exact)


# --- as a run, and on real speech ----------------------------------------------------------------


def test_a_run_of_the_baseline_is_trained_tested_and_tested_again(workplace, tmp_path):
    last = ["--gpu_id", "-1", "--save_path", str(tmp_path)]
    with contextlib.chdir(workplace):
        first = ["--model", "functionals", "--speaker_norm", "--text_encoder", "char-ngram"]
        assert main.main(["--data", "corpus", "--test_split", "[3,4]", *first, *last]) == 0
        [run] = tmp_path.iterdir()
        assert main.main(["--test_only", run.name, *last]) == 0
    [again] = run.glob("test_*")
    first, second = (pd.read_csv(folder / "predictions.csv") for folder in (run, again))
    np.testing.assert_allclose(first.filter(regex=r"^p_\d$").sum(axis=1), 1, atol=1e-5)
    assert len(first) > 5
    pd.testing.assert_frame_equal(first, second)


def recall(place, monkeypatch, **configuration) -> float:
    """UAR of the four folds of sessions, pooled."""
    monkeypatch.setattr(constants, "PREPARED", str(place))
    truth, answers = [], []
    for session in (1, 2, 3, 4):
        settings = settings_with(
            "functionals",
            data=str(SHARED / "real_speech"),
            test_split=(session,),
            text_encoder="char-ngram",
            sr=RATE,
            **configuration,
        )
        material = open_material(settings, ("functionals",))
        train, test = (Windows(material, name, 1) for name in ("train", "test"))
        built = fitted(train.batch(np.arange(len(train))), **configuration)
        batch = test.batch(np.arange(len(test)))
        truth.append(batch["emotion"].argmax(1))
        answers.append(built(batch)["emotion"].argmax(1))
    return recall_score(torch.cat(truth), torch.cat(answers), average="macro")


@needs_shared
def test_unheard_speakers_are_judged_far_above_chance(tmp_path, monkeypatch):
    assert recall(tmp_path, monkeypatch, speaker_norm=False) >= 0.45  # measured: 0.475
    assert recall(tmp_path, monkeypatch, speaker_norm=True) >= 0.58  # measured: 0.647
