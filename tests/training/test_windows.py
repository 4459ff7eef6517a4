"""Windows of a material that was opened: what they hold and what they never do."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from doubles.finished_run import open_material, read
from doubles.settings import settings_with

import constants
import dataset
from training import run_folder as folders
from utils import UserError, write_json


def test_an_item_is_one_window_as_the_batch_dict(place):
    data = dataset.KEMDy19(
        "train", "speaker", ws=3, test_split=(3, 4), data="corpus", text_encoder="char-ngram"
    )
    assert isinstance(data, torch.utils.data.Dataset)
    assert len(data) == 12
    shapes = {name: (tuple(value.shape), value.dtype) for name, value in data[0].items()}
    real, yes = torch.float32, torch.bool
    assert shapes == {
        "log_mel": ((3, 229, 313), real),
        "log_mel_mask": ((3,), yes),
        "sentence": ((3, 768), real),
        "sentence_mask": ((3,), yes),
        "mask": ((3,), yes),
        "emotion": ((7,), real),
        "emotion_mask": ((), yes),
        "arousal": ((), real),
        "arousal_mask": ((), yes),
        "valence": ((), real),
        "valence_mask": ((), yes),
        "row": ((), torch.int64),
    }
    batch = next(iter(torch.utils.data.DataLoader(data, batch_size=4)))
    for name, value in data.batch(np.arange(4)).items():
        assert torch.equal(batch[name], value), name
    assert [list(mask) for mask in batch["mask"].tolist()[:3]] == [
        [False, False, True],
        [False, True, True],
        [True, True, True],
    ]
    assert not batch["log_mel"][0, :2].any() and not batch["sentence"][0, :2].any()
    torch.testing.assert_close(batch["emotion"].sum(1), torch.ones(4))
    assert ((batch["arousal"] >= 1) & (batch["arousal"] <= 5)).all()


def test_roles_share_sound_and_words_and_differ_in_truth(place):
    speaker, listener = (
        dataset.KEMDy19(
            "test", role, ws=2, test_split=(3, 4), data="corpus", text_encoder="char-ngram"
        ).batch(np.arange(12))
        for role in constants.ROLES
    )
    for name in ("log_mel", "sentence", "mask", "row"):
        assert torch.equal(speaker[name], listener[name])
    assert not torch.equal(speaker["emotion"], listener["emotion"])


def test_a_window_never_reaches_into_another_dialogue(place):
    windows = dataset.Windows(open_material(), "train", 8)
    dialogue = windows.utterances["dialogue"].to_numpy()
    for row, index in zip(windows.rows, windows.index, strict=True):
        assert index[-1] == row
        assert set(dialogue[index[index >= 0]]) == {dialogue[row]}


def test_a_quarantined_utterance_keeps_its_slot_masked_and_is_no_target(place, workplace):
    shutil.copytree(workplace / "corpus", "spoilt")
    spoilt = "Sess01_script01_M001"
    Path(f"spoilt/wav/Session01/Sess01_script01/{spoilt}.wav").write_bytes(b"")
    material = open_material("spoilt")
    windows = dataset.Windows(material, "train", 3)
    segments = material.utterances["segment"].tolist()
    row = segments.index(spoilt)
    assert material.utterances["quarantine"][row] == "empty wav"
    assert row not in windows.rows
    assert len(windows) == 11
    after = windows.rows.tolist().index(row + 1)
    batch = windows.batch(np.array([after]))
    assert windows.index[after].tolist() == [row - 1, row, row + 1]
    assert batch["mask"].tolist() == [[True, False, True]]
    for name in ("log_mel", "sentence"):
        assert not batch[f"{name}_mask"][0, 1] and not batch[name][0, 1].any()
        assert batch[name][0, 2].any()


def test_a_silent_or_wordless_utterance_loses_that_modality_only(place):
    material = open_material()
    rows = material.utterances
    [quiet] = np.flatnonzero(rows["silent"])
    wordless = np.flatnonzero(rows["text"] == "")
    assert len(wordless) == 2  # the sample has one without a txt and one with an empty txt
    for name, missing, other in (
        ("log_mel", [quiet], "sentence"),
        ("sentence", wordless, "log_mel"),
    ):
        for row in missing:
            set_name = material.of[row]
            windows = dataset.Windows(material, set_name, 1)
            batch = windows.batch(np.flatnonzero(windows.rows == row))
            assert batch["mask"].tolist() == [[True]]
            assert batch[f"{name}_mask"].tolist() == [[False]] and not batch[name].any()
            assert batch[f"{other}_mask"].tolist() == [[True]] and batch[other].any()


def test_a_folder_that_cannot_hold_its_configuration_is_not_left_behind(tmp_path, monkeypatch):
    settings = settings_with(backbone="gru", SorL="listener", optim="sgd", ws=4)

    def refuse(path, value):
        raise UserError(f"cannot write {path}: No space left on device")

    monkeypatch.setattr(folders, "write_json", refuse)
    with pytest.raises(UserError, match="No space left"):
        folders.new_folder(str(tmp_path), settings, {})
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(folders, "write_json", write_json)
    assert read(folders.new_folder(str(tmp_path), settings, {"ws": 4})) == {"ws": 4}
