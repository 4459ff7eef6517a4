"""Runs written by hand, to be members of ensembles."""

from pathlib import Path

import numpy as np
import pandas as pd

import main
import metric
from constants import EMOTIONS
from training.ensembles import combination

C = len(EMOTIONS)
P = list(metric.PROBABILITIES)
EQUAL = np.full(C, 1 / C)


def table(truth, p, name="test", sessions=6, prefix="", role="speaker") -> pd.DataFrame:
    """Predictions of rows whose emotion is `truth`, (N,) ids: dialogues of 5, sessions in turn."""
    n, labels = len(truth), np.array(EMOTIONS)
    number = np.arange(n) // 5
    session = [str(1 + i % sessions) for i in number]
    frame = pd.DataFrame(
        {
            "corpus": "made",
            "role": role,
            "segment": [f"{prefix}{name}{i}" for i in range(n)],
            "session": session,
            "dialogue": [f"{name}_{i}" for i in number],
            "speaker": session,
            "kind": "impro",
            "set": name,
        }
    )
    frame[P] = p
    frame["arousal"], frame["valence"] = np.linspace(1, 5, n), np.linspace(2, 4, n)
    frame["emotion"] = labels[np.argmax(p, 1)]
    frame["emotion_true"] = labels[truth]
    frame[list(metric.VOTES)] = 10 * np.eye(C)[truth]
    frame["arousal_true"], frame["valence_true"] = np.linspace(1, 5, n) ** 0.9, 3.0
    return frame


def sure(labels, certainty=0.8) -> np.ndarray:
    """(N, 7): `certainty` on each label, the rest spread evenly."""
    rest = (1 - certainty) / (C - 1)
    return np.where(np.eye(C)[labels] > 0, certainty, rest)


def partly(truth, share, rng) -> np.ndarray:
    """Labels of which about `share` are right, the others drawn."""
    return np.where(rng.random(len(truth)) < share, truth, rng.integers(C, size=len(truth)))


def joined(*ps, truth=None, **options) -> combination.Joined:
    truth = np.arange(len(ps[0])) % C if truth is None else truth
    return combination.join({f"m{i}": table(truth, p, **options) for i, p in enumerate(ps)})


def accuracy(frame: pd.DataFrame) -> float:
    return float((frame["emotion"] == frame["emotion_true"]).mean())


def drawn(rng, *shape) -> np.ndarray:
    return rng.dirichlet(np.ones(C), size=shape)


def combined(*words: str) -> Path:
    """The folder of a new ensemble."""
    before = set(Path("exp").glob("ensemble_*"))
    assert main.main(["ensemble", *map(str, words)]) == 0
    [folder] = set(Path("exp").glob("ensemble_*")) - before
    return folder
