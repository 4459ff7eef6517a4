"""Utterances that leak nothing until a test makes them, and a small corpus to leak in."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

import dataset
from doubles.settings import settings_with
from evaluation import leakage
from evaluation.splits import Split

TRAIN = "--data corpus --test_split [3,4] --text_encoder char-ngram --modality text".split()
TRAIN += "--hidden_size 8 --epochs 1 --batch_size 8 --precision float32 --gpu_id -1".split()


@contextlib.contextmanager
def small_corpus(workplace: Path, folder: Path) -> Iterator[Path]:
    """A folder to work in, with the corpus in it: sessions 1-4, script01 and impro01 of each."""
    without = shutil.ignore_patterns("ECG", "EDA", "TEMP")
    shutil.copytree(workplace / "corpus", folder / "corpus", ignore=without)
    with contextlib.chdir(folder):
        yield folder


def utterances(**columns) -> pd.DataFrame:
    """Six utterances of three sessions, nothing shared."""
    base = {
        "corpus": ["k"] * 6,
        "segment": list("abcdef"),
        "session": [1, 1, 2, 2, 3, 3],
        "dialogue": [
            "S1_impro01",
            "S1_script01",
            "S2_impro01",
            "S2_script02",
            "S3_impro01",
            "S3_script03",
        ],
        "kind": ["impro", "script"] * 3,
        "speaker": ["1F", "1M", "2F", "2M", "3F", "3M"],
        "wav_hash": [f"h{n}" for n in range(6)],
        "silent": [False] * 6,
        "quarantine": [""] * 6,
        "wav": ["a.wav"] * 6,
        "text": ["하나둘", "둘셋넷", "셋넷다", "넷다섯", "다섯여", "여섯일"],
        "emotion": ["happy"] * 6,
        "arousal": [3.0] * 6,
    }
    return pd.DataFrame(base | columns)


def guard(rows, split, disjoint=None):
    return leakage.guard(rows, split.of(rows["session"]), disjoint)


SPLIT = Split(train=(1,), val=(2,), test=(3,))


def lines(texts: list[str], tested: list[str], **columns) -> pd.DataFrame:
    """Training lines (session 1) and test lines (session 3), one dialogue and speaker each."""
    n, total = len(texts), len(texts) + len(tested)
    each = {
        name: [f"{name}{i}" for i in range(total)]
        for name in ("segment", "dialogue", "speaker", "wav_hash")
    }
    return pd.DataFrame(
        {
            "corpus": "k",
            "session": [1] * n + [3] * len(tested),
            "kind": "impro",
            "silent": False,
            "wav": "a.wav",
            "quarantine": "",
            "text": texts + tested,
            "emotion": "sad",
            "arousal": 2.0,
        }
        | each
        | columns
    )


def opened(**changes) -> dataset.Material:
    base = {
        "data": "corpus",
        "max_bad": 0.5,
        "test_split": (3, 4),
        "text_encoder": "char-ngram",
        "text_dim": 16,
    }
    return dataset.open_material(settings_with(**base | changes), ("log_mel", "sentence"))


def trigrams(text: str) -> set[str]:
    return {text[i : i + 3] for i in range(len(text) - 2)}


def brute_similar(texts: list[str], others: list[str]) -> list[bool]:
    def near(one: set, other: set) -> bool:
        return bool(one and other) and 10 * len(one & other) >= 8 * len(one | other)

    return [any(near(trigrams(t), trigrams(o)) for o in others) for t in texts]
