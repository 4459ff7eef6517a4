"""Support vector machines of scikit-learn as matrices: one row for each pair of emotions."""

from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch import Tensor

from constants import EMOTIONS

PAIRS = tuple(combinations(range(len(EMOTIONS)), 2))  # classes of each machine: + first, - second
TIED = 1e-6  # vote shares closer than this are equal: float32 rounds them


def votes(margins: Tensor, present: Tensor) -> Tensor:
    """(B, 21) of each pair, (7,) bool -> (B, 7): pairs won, 0..6, and under a third for how.

    Margins are 0 where a class of the pair is absent. For the classes that are present it is
    scikit-learn's one-versus-rest decision function; else 0.
    """
    first, second = torch.tensor(PAIRS, device=margins.device).T
    one_hot = torch.eye(len(EMOTIONS), dtype=margins.dtype, device=margins.device)
    counts = (present[first] & present[second]).to(margins.dtype)
    won = (margins >= 0).to(margins.dtype) * counts
    sums = margins @ (one_hot[first] - one_hot[second])
    return won @ one_hot[first] + (counts - won) @ one_hot[second] + sums / (3 * (sums.abs() + 1))


def lessons(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(N, 7) vote shares -> (M,) rows, labels and weights: each modal class of each row once.

    The k modal classes of a row share its weight; then all classes weigh alike, N / K each for the
    K that occur, N the rows: scikit-learn's "balanced" where there are no ties.
    """
    modal = votes >= votes.max(axis=1, keepdims=True) - TIED
    rows, labels = np.nonzero(modal)
    weights = 1 / modal.sum(axis=1)[rows]
    of_class = np.bincount(labels, weights, minlength=len(EMOTIONS))
    return rows, labels, weights * len(votes) / (np.count_nonzero(of_class) * of_class[labels])


def matrices(svc: Any) -> tuple[np.ndarray, np.ndarray]:
    """A fitted SVC -> (21, n) coefficients of its support vectors in each of PAIRS, (21,)."""
    dual, own, sign = svc.dual_coef_, np.repeat(svc.classes_, svc.n_support_), 1
    if len(svc.classes_) == 2:  # scikit-learn turns the sign round for two classes alone
        sign = -1
    pairs, intercept = np.zeros((len(PAIRS), len(own))), np.zeros(len(PAIRS))
    for k, (i, j) in enumerate(combinations(range(len(svc.classes_)), 2)):
        first, second = svc.classes_[[i, j]]
        place = PAIRS.index((first, second))
        # a class's row against another lacks itself: the later ones move up by one
        pairs[place] = sign * np.where(own == first, dual[j - 1], (own == second) * dual[i])
        intercept[place] = sign * svc.intercept_[k]
    return pairs, intercept
