"""Training rows drawn so that their classes are equally frequent. Never test or validation rows.

A window counts to the first label of its judged row; one without a label is left as it is. A model
says by `resampling` (model.py) which windows it is trained on in place of the training windows.
Drawn once, before the first epoch, from (seed, "balance").
"""

from typing import Any

import numpy as np
import pandas as pd
import torch

import model as models
from constants import EMOTIONS
from dataset import Windows
from model import Resampling
from utils import UserError, rng

AT_ONCE = 256  # windows gathered at once


class Resampled(Windows):
    """The windows of these numbers: some more than once, some not at all."""

    def __init__(self, windows: Windows, chosen: np.ndarray):
        picked = {"rows": windows.rows[chosen], "index": windows.index[chosen]}
        vars(self).update(vars(windows) | picked)


def classes(windows: Windows) -> np.ndarray:
    """(N,) the class of each window, as in `constants.EMOTIONS`; -1 without a label."""
    first = windows.utterances["emotion"].iloc[windows.rows].str.partition(";")[0]
    return pd.Index(EMOTIONS).get_indexer(first)


def resampled(windows: Windows, resampling: Resampling, seed: int) -> Windows:
    """The windows that are trained on."""
    if resampling.how == "none":
        return windows
    if resampling.how == "smote":
        return smote(windows, resampling.feature, resampling.neighbours, seed)
    draw = {"oversample": oversampled, "undersample": undersampled}[resampling.how]
    return Resampled(windows, draw(classes(windows), rng(seed, "balance")))


def oversampled(classes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(N,) classes, -1 for none -> numbers of all of them, and again of some of each class, drawn
    evenly, until each class that there is has as many as the largest."""
    groups = _groups(classes)
    most = max(map(len, groups), default=0)
    more = [generator.choice(group, most - len(group)) for group in groups]
    return np.concatenate([np.arange(len(classes)), *more])


def undersampled(classes: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(N,) classes, -1 for none -> numbers, rising, as many of each class that there is as the
    smallest has, none twice."""
    groups = _groups(classes)
    least = min(map(len, groups), default=0)
    kept = [generator.choice(group, least, replace=False) for group in groups]
    return np.sort(np.concatenate([np.flatnonzero(classes < 0), *kept]))


def _groups(classes: np.ndarray) -> list[np.ndarray]:
    return [np.flatnonzero(classes == c) for c in np.unique(classes[classes >= 0])]


# --- rows that do not exist ------------------------------------------------------------------


def smote(windows: Windows, feature: str, neighbours: int, seed: int) -> Windows:
    """All windows, each as the mean of its `feature` over time, and vectors between those of a
    class: Chawla et al., "SMOTE", JAIR 16, 2002. Distances are those of the numbers as they are.

    UserError where a class has too few rows for that many neighbours.
    """
    vectors, there = means(windows, feature)
    known = classes(windows)
    used = np.flatnonzero(there & (known >= 0))
    found = np.unique(known[used], return_counts=True)
    counts = dict(zip(found[0].tolist(), found[1].tolist(), strict=True))
    if short := {c: n for c, n in counts.items() if n <= neighbours and n < max(counts.values())}:
        named = ", ".join(f"{EMOTIONS[c]} has {n}" for c, n in short.items())
        raise UserError(
            f"--balance smote with --neighbours {neighbours} needs {neighbours + 1} "
            f"training rows of a class: {named}; try --balance oversample"
        )
    if len(counts) < 2:  # nothing to balance
        return Vectors(windows, feature, vectors, there, np.zeros(0, int))
    made, their = _smote()(
        k_neighbors=neighbours, random_state=int(rng(seed, "balance").integers(2**31))
    ).fit_resample(vectors[used], known[used])
    made, their = made[len(used) :], their[len(used) :]
    return Vectors(windows, feature, np.concatenate([vectors, made]), there, their)


def _smote() -> Any:
    try:
        from imblearn.over_sampling import SMOTE  # an extra: no other balance needs it
    except ImportError as error:
        needed = "pip install imbalanced-learn==0.14.2"
        raise UserError(f"--balance smote needs imbalanced-learn: {needed}") from error
    return SMOTE


def means(windows: Windows, feature: str) -> tuple[np.ndarray, np.ndarray]:
    """The mean over time of a ragged feature of each judged row, (N, D) float32; and (N,) bool
    whether it has any."""
    found, there = [], []
    for start in range(0, len(windows), AT_ONCE):
        batch = windows.batch(np.arange(start, min(start + AT_ONCE, len(windows))))
        values, mask = models.masked(batch, feature)[:, -1], models.mask_of(batch, feature)[:, -1]
        found.append(values.sum(1) / mask.sum(1, keepdim=True).clamp(min=1))
        there.append(mask.any(1))
    return torch.cat(found).numpy(), torch.cat(there).numpy()


class Vectors(Windows):
    """Windows of one vector each: those that there are, then made-up ones of the classes `made`.

    A made-up one is a row of its own behind those of the corpus: its truth is its class, and it has
    no other head's.
    """

    def __init__(
        self,
        windows: Windows,
        feature: str,
        vectors: np.ndarray,
        there: np.ndarray,
        made: np.ndarray,
    ):
        vars(self).update(vars(windows))
        self.feature, self.vectors = feature, torch.from_numpy(vectors.astype(np.float32))
        self.there = torch.from_numpy(np.append(there, np.ones(len(made), bool)))
        n, width = len(self.utterances), self.index.shape[1]
        labels = [EMOTIONS[c] for c in made]
        rows = {"segment": [f"made up {i}" for i in range(len(made))], "emotion": labels}
        self.utterances = pd.concat([self.utterances, pd.DataFrame(rows)], ignore_index=True)
        self.rows = np.append(self.rows, n + np.arange(len(made)))
        self.index = np.concatenate([self.index, np.full((len(made), width), -1)])
        self.truth = {
            name: np.concatenate([values, np.zeros((len(made), *values.shape[1:]), values.dtype)])
            for name, values in self.truth.items()
        }
        self.truth["emotion"][n + np.arange(len(made)), made] = 1
        self.truth["emotion_mask"][n:] = True

    def batch(self, indices: np.ndarray, cut: np.ndarray | None = None) -> dict:
        """(B,) window numbers -> a batch of one utterance of one step each."""
        there = self.there[indices].view(-1, 1)
        return {
            "mask": there,
            "row": torch.from_numpy(self.rows[indices]),
            self.feature: self.vectors[indices].view(len(indices), 1, 1, -1),
            f"{self.feature}_mask": there.unsqueeze(-1),
        } | self.answers(indices)

    def keep_on(self, device: torch.device, room: int | None = None) -> bool:
        """They are few, and in memory."""
        return False

    @property
    def lengths(self) -> None:
        """None: all are one step long."""
        return None
