"""Rows that are seconds of a video: extracted by file, laid side by side, each of them judged."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from doubles.counting import feature
from hypothesis import given
from hypothesis import strategies as st

import constants
import dataset
import loss
import utils
from evaluation.splits import Split
from features.store import contract, extraction
from features.store.store import Store
from features.store.windows import chunk_indices
from metric import VOTES
from training import run, testing


def seconds(lengths: dict[str, int], known=True) -> pd.DataFrame:
    """Rows of videos so long, by name; every third second is a highlight."""
    rows = [
        {
            "dialogue": name,
            "start": float(n),
            "segment": f"{name}#{n:05d}",
            "session": number,
            "highlight": float(n % 3 == 0) if known else np.nan,
        }
        for number, (name, length) in enumerate(lengths.items(), start=1)
        for n in range(length)
    ]
    table = pd.DataFrame(rows).assign(
        corpus="films",
        role="speaker",
        speaker="",
        kind="",
        text="",
        emotion="",
        quarantine="",
        valence=np.nan,
        arousal=np.nan,
        silent=False,
        marks="1;0",
    )
    sizes = table["dialogue"].map(len)
    return table.assign(
        wav=table["dialogue"] + ".mp4",
        wav_size=sizes,
        wav_hash=table["dialogue"],
        **dict.fromkeys(VOTES, np.nan),
    )


# --- extracted by file ---------------------------------------------------------------------------


def by_second(calls: list) -> type[contract.Feature]:
    """A feature: the second itself, and how many letters the name of its file has."""

    class Extractor(contract.Extractor):
        def __call__(self, source, rows):
            calls.append((source.name, len(rows)))
            if source.name.startswith("bad"):
                raise utils.Unusable("bad")
            return [
                np.array([row.start, len(source.stem)])
                if row.start != 1
                else utils.Unusable("second 1")
                for row in rows
            ]

    return feature(
        VERSION=1,
        DTYPE="float32",
        SOURCE="wav",
        BY="second",
        Extractor=Extractor,
        parameters=lambda settings: {},
        shape=lambda p: (2,),
    )


@pytest.fixture
def calls(monkeypatch) -> list:
    calls: list = []
    monkeypatch.setattr(utils, "leaf", lambda folder, name: by_second(calls))
    return calls


def extract(rows: pd.DataFrame, folder: Path) -> Store:
    return extraction.extract("fake", rows, folder, folder, SimpleNamespace(), progress=False)


def test_a_file_is_opened_once_for_all_its_seconds(tmp_path, calls):
    rows = seconds({"a": 4, "bb": 3})
    store = extract(rows, tmp_path)
    assert sorted(calls) == [("a.mp4", 4), ("bb.mp4", 3)]
    blocks = store.gather(np.arange(7))
    there = rows["start"] != 1
    assert (store.available == there).all()
    assert blocks[there, 0].tolist() == rows["start"][there].tolist()
    assert blocks[there, 1].tolist() == rows["dialogue"].map(len)[there].tolist()
    assert set(store.troubles) == {("a#00001", "second 1"), ("bb#00001", "second 1")}


def test_only_the_seconds_that_lack_are_extracted(tmp_path, calls):
    extract(seconds({"a": 4}), tmp_path)
    extract(seconds({"a": 6, "b": 2}), tmp_path)
    assert sorted(calls) == [("a.mp4", 2), ("a.mp4", 4), ("b.mp4", 2)]
    extract(seconds({"a": 6, "b": 2}), tmp_path)
    assert len(calls) == 3


def test_a_file_that_cannot_be_used_is_so_in_all_its_seconds(tmp_path, calls):
    store = extract(seconds({"bad": 3, "a": 2}), tmp_path)
    assert store.available.tolist() == [False] * 3 + [True, False]
    assert [reason for _, reason in store.troubles] == ["bad"] * 3 + ["second 1"]


def test_a_video_without_sound_still_has_pictures(tmp_path, calls):
    assert extract(seconds({"a": 3}).assign(silent=True), tmp_path).available.sum() == 2


# --- windows -------------------------------------------------------------------------------------


@given(st.lists(st.integers(1, 12), min_size=1, max_size=6), st.integers(0, 5))
def test_chunks_hold_every_row_once_and_in_order(lengths, ws):
    dialogues = pd.Series(np.repeat([f"d{i}" for i in range(len(lengths))], lengths))
    index = chunk_indices(dialogues, ws)
    assert index.shape[1] == (ws or max(lengths))
    assert index[index >= 0].tolist() == list(range(sum(lengths)))
    for chunk in index:
        real = chunk[chunk >= 0]
        assert len(set(dialogues[real])) == 1 and (chunk[len(real) :] == -1).all()
        assert (np.diff(real) == 1).all()


class Ones:
    """A store whose block of row r is r + 1."""

    kind, ragged, shape = "wav", False, (1,)

    def mask(self, rows):
        return rows >= 0

    def gather(self, rows, cut=None, out=None):
        return np.where(rows >= 0, rows + 1, 0)[..., None].astype(np.float32)


def material(rows: pd.DataFrame, test=(3,)) -> dataset.Material:
    train = tuple(sorted(set(rows["session"]) - set(test)))
    corpus = SimpleNamespace(name="films", synthetic=True, fingerprint="f")
    return dataset.Material(corpus, rows, {"x": Ones()}, Split(train, (), test), sequence=True)


LENGTHS = {"a": 5, "b": 3, "c": 4}


def test_a_window_is_consecutive_seconds_of_one_video():
    windows = dataset.windows(material(seconds(LENGTHS)), "train", 4)
    assert windows.index.tolist() == [[0, 1, 2, 3], [4, -1, -1, -1], [5, 6, 7, -1]]
    batch = windows.batch(np.array([1, 2]))
    assert batch["mask"].tolist() == [[True, False, False, False], [True, True, True, False]]
    assert batch["x"][1, :, 0].tolist() == [6, 7, 8, 0]
    assert batch["highlight"].tolist() == [[0, 0, 0, 0], [1, 0, 0, 0]]
    assert batch["highlight_mask"].tolist() == batch["mask"].tolist()
    assert windows.known(np.array([0, 2])) == {"highlight": 7}


def test_a_whole_video_is_one_window_where_it_is_tested():
    found = material(seconds(LENGTHS), test=(1, 3))
    windows = dataset.windows(found, "test", 2)
    assert windows.index.tolist() == [[0, 1, 2, 3, 4], [8, 9, 10, 11, -1]]
    assert windows.judged.tolist() == [0, 1, 2, 3, 4, 8, 9, 10, 11]
    assert len(dataset.windows(found, "train", 2)) == 2


def test_seconds_in_quarantine_and_without_truth_are_not_judged():
    rows = seconds(LENGTHS)
    rows.loc[1, "quarantine"] = "bad"
    rows.loc[2, "highlight"] = np.nan
    windows = dataset.windows(material(rows, test=(1,)), "test", 0)
    assert windows.index.tolist() == [[0, 2, 3, 4]] and windows.judged.tolist() == [0, 3, 4]
    assert windows.batch(np.array([0]))["highlight_mask"].tolist() == [[True, False, True, True]]


def test_what_is_said_of_each_second_stands_in_its_row():
    windows = dataset.windows(material(seconds(LENGTHS), test=(1, 3)), "test", 0)
    logits = torch.where(torch.from_numpy(windows.index >= 0), torch.tensor(windows.index), 99)
    table = testing.frame(windows, {"highlight": logits.float()}, "test")
    assert table["segment"].tolist() == [
        *(f"a#{n:05d}" for n in range(5)),
        *(f"c#{n:05d}" for n in range(4)),
    ]
    wanted = 1 / (1 + np.exp(-np.array([0, 1, 2, 3, 4, 8, 9, 10, 11.0])))
    np.testing.assert_allclose(table["highlight"], wanted)
    assert table["highlight_true"].tolist() == [1, 0, 0, 1, 0, 1, 0, 0, 1]
    assert (table["marks"] == "1;0").all() and table["arousal"].isna().all()


# --- the loss of an event ------------------------------------------------------------------------


def test_the_loss_of_events_is_the_weighted_cross_entropy_of_the_known_seconds():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    truth = torch.rand(3, 5, generator=generator, dtype=torch.float64)
    known = torch.rand(3, 5, generator=generator) < 0.6
    criterion = loss.EmotionLoss(0.3)
    criterion.pos_weight = 4.0
    values = criterion({"highlight": logits}, {"highlight": truth, "highlight_mask": known})
    p = logits.sigmoid()
    each = -(4 * truth * p.log() + (1 - truth) * (1 - p).log())
    assert values["loss"].item() == pytest.approx((each[known].sum() / known.sum()).item())
    values["loss"].backward()
    assert (logits.grad[~known] == 0).all() and (logits.grad[known] != 0).all()


def test_events_weigh_as_much_as_all_that_is_none_unless_it_is_said():
    windows = dataset.windows(material(seconds(LENGTHS)), "train", 4)
    share = 3 / 8
    assert run._event_weight(windows, 0.0) == pytest.approx((1 - share) / share)
    assert run._event_weight(windows, 2.5) == 2.5
    assert set(windows.truth) == set(constants.EVENTS)


# --- found in a review ---------------------------------------------------------------------------


def test_a_window_costs_as_many_steps_as_all_its_slots_padded_to_the_longest():
    rows = seconds(LENGTHS).assign(emotion="sad")
    store = SimpleNamespace(ragged=True, lengths=np.arange(len(rows)) + 1)
    found = material(rows)
    found.stores, found.sequence = {"x": store}, False
    windows = dataset.windows(found, "train", 3)
    longest = np.where(windows.index >= 0, windows.index + 1, 0).max(1)
    assert windows.lengths.tolist() == (3 * longest).tolist()


def test_a_corpus_without_any_truth_of_the_model_is_refused():
    windows = dataset.windows(material(seconds(LENGTHS)), "train", 4)
    run._check_truth(windows, SimpleNamespace(heads=("highlight",)))
    with pytest.raises(utils.UserError, match="predicts emotion, and no training row"):
        run._check_truth(windows, SimpleNamespace(heads=("emotion",)))
