"""The protocol card of a run."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from doubles.leaks import SPLIT, guard, lines, opened, small_corpus, utterances
from doubles.settings import settings_with

import dataset
from evaluation.splits import Split
from training import protocol_card
from training.settings import TrainingSettings


@pytest.fixture
def place(workplace, tmp_path):
    with small_corpus(workplace, tmp_path):
        yield tmp_path


def material_of(rows: pd.DataFrame, split: Split, disjoint: str | None = None) -> dataset.Material:
    corpus = SimpleNamespace(name="k", synthetic=True, fingerprint="f00")
    removed, reasons, warnings = guard(rows, split, disjoint)
    return dataset.Material(corpus, rows, {}, split, warnings, removed, reasons)


def flags(**changes) -> TrainingSettings:
    return settings_with(**{"val_split": (2,)} | changes)


MIXED = lines(
    ["하나", "둘", "셋넷다섯여", "마을", "여덟", "아홉"],
    ["마을", "셋넷다섯여섯", "세계", "가가", "각각", "곡곡"],
    session=[1, 1, 1, 1, 2, 2, 3, 3, 3, 3, 3, 4],
    speaker=["1F", "1F", "1M", "", "2F", "2M", "3F", "3F", "3F", "3M", "3M", "4F"],
    kind=["impro"] * 6 + ["script", "impro", "impro", "impro", "impro", "impro"],
    quarantine=["", "empty wav", "", "", "", "", "", "", "", "", "truncated", ""],
    emotion=["sad", "", "sad;fear", "happy", "sad", "", "sad", "sad;happy", "", "", "", "sad;fear"],
    arousal=[1.0, np.nan, 1, 1, 1, np.nan, 2, 2, 2, np.nan, np.nan, 1],
)


def counted(*numbers) -> dict:
    """What the card says of a set."""
    names = ("sessions", "speakers", "dialogues", "rows", "targets", "one_label")
    return dict(zip(names, numbers, strict=True))


def test_the_card_counts_sets_drops_and_leaks():
    split = Split((1,), (2,), (3, 4))
    card = protocol_card.card(material_of(MIXED, split), flags())
    assert card == {
        "corpus": {"name": "k", "synthetic": True, "fingerprint": "f00"},
        "role": "speaker",
        "ties": "drop",
        "seed": 42,
        "select": "epoch of highest val macro_f1",
        "disjoint": None,
        "resampling": "none: nothing is resampled before the split",
        "uses_test_audio": False,
        "sets": {
            "train": counted([1], 2, 4, 4, 3, 2),
            "val": counted([2], 2, 2, 2, 1, 1),
            "test": counted([3, 4], 3, 6, 6, 4, 1),
        },
        "dropped": {
            "quarantined": {"empty wav": 1, "truncated": 1},
            "unlabelled": 2,
            "ties_in_test": 2,
            "disjoint": {},
        },
        "leaks": {
            "speakers": 0,
            "dialogues": 0,
            "audio": 0,
            "segments": 0,
            "transcripts": {
                "impro": {"lines": 4, "equal": 0, "similar": 0},
                "script": {"lines": 1, "equal": 1, "similar": 0},
            },
        },
    }


def test_the_card_says_what_disjoint_took_and_that_nothing_of_it_is_left():
    rows = MIXED.assign(
        text=MIXED["text"]
        .replace("셋넷다섯여섯", "셋넷다섯여섯일")
        .replace("셋넷다섯여", "셋넷다섯여섯")
    )
    split = Split((1, 4), (2,), (3,))
    before = protocol_card.card(material_of(rows, split), flags())
    assert before["leaks"]["transcripts"]["impro"] == {"lines": 3, "equal": 0, "similar": 1}
    material = material_of(rows, split, "text")
    card = protocol_card.card(material, flags(disjoint="text"))
    assert card["disjoint"] == "text"
    assert card["dropped"]["disjoint"] == {"exact": 1, "similar": 1}
    assert card["sets"]["train"]["targets"] == before["sets"]["train"]["targets"] - 2 == 2
    assert [c["sets"]["train"]["one_label"] for c in (before, card)] == [2, 1]
    assert [n["equal"] + n["similar"] for n in card["leaks"]["transcripts"].values()] == [0, 0]


def test_the_card_of_a_corpus_is_json_and_the_same_each_time(place):
    material = opened(val_split=(2,))
    one, other = (protocol_card.card(m, flags()) for m in (material, opened(val_split=(2,))))
    text = json.dumps(one, allow_nan=False)
    assert json.loads(text) == one
    assert text == json.dumps(other)
    assert one["corpus"] == {
        "name": "kemdy19",
        "synthetic": True,
        "fingerprint": material.corpus.fingerprint,
    }
    for name, counted in one["sets"].items():
        assert counted["targets"] == len(dataset.Windows(material, name, 2))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"val_split": ()}, "last epoch kept"),
        ({"select": "loss"}, "epoch of lowest val loss"),
        ({"select": "uar"}, "epoch of highest val uar"),
    ],
)
def test_the_card_says_which_epoch_is_kept(changes, said):
    assert protocol_card.card(material_of(utterances(), SPLIT), flags(**changes))["select"] == said


def test_the_card_says_when_the_recordings_of_the_test_are_used():
    card = protocol_card.card(
        material_of(utterances(), SPLIT), flags(model="functionals", speaker_norm=True)
    )
    assert card["uses_test_audio"] is True


@pytest.mark.parametrize("ties", ["first", "any", "soft"])
def test_no_tie_is_dropped_where_ties_are_scored(ties):
    material = material_of(MIXED, Split((1,), (2,), (3, 4)))
    assert protocol_card.card(material, flags(ties=ties))["dropped"]["ties_in_test"] == 0


def test_the_card_of_a_run_tested_again_counts_the_test_alone():
    material = material_of(MIXED, Split((1, 2), (), (3, 4)))
    card = protocol_card.card(material, flags(val_split=(), disjoint="text"), trained=False)
    assert card["sets"]["test"]["targets"] == 4
    assert card["sets"]["train"] == counted([], 0, 0, 0, 0, 0)
    assert card["dropped"]["quarantined"] == {"truncated": 1}
    assert card["select"] is card["disjoint"] is card["leaks"] is None


def test_the_card_says_what_is_resampled():
    none = protocol_card._resampling(settings_with("lstm_audio"))
    assert none == protocol_card._resampling(settings_with())
    assert none.startswith("none")
    said = protocol_card._resampling(settings_with("lstm_audio", balance="smote"))
    assert said == "smote, of training rows alone, after the split"
