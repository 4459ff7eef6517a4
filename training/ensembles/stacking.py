"""What an ensemble learns: weights of its members, or a stacker on their log-probabilities.

Arrays in, JSON out: p is what M members say of N rows, (M, N, 7); votes, (N, 7), is the truth.
Which rows may be learnt from is said in `combination.py`: never those that are tested. SciPy and
scikit-learn; LightGBM only when it is asked for.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike

from constants import EMOTIONS
from evaluation.calibration import cross_entropy, vote_shares
from utils import UserError

STACKERS = ("logistic", "lightgbm")
FLOOR = 1e-6  # a probability below counts as this: one certain miss must not outweigh all else
PENALTIES = (0.01, 0.1, 1.0, 10.0)  # C of the logistic stacker: scikit-learn's 1 and around it
TREES = 100  # LightGBM's own default
# small trees: its defaults (31 leaves of 20 rows) are for more rows than a corpus of speech has
BOOSTING = {
    "objective": "multiclass",
    "num_class": len(EMOTIONS),
    "num_leaves": 7,
    "verbose": -1,
    "learning_rate": 0.05,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
}


def softmax(logits: ArrayLike) -> np.ndarray:
    """(N, K) -> (N, K), each row by itself.

    The notebook that this replaces normalised the whole matrix at once, so that rows of great
    logits outweighed the others.

    >>> softmax([[0.0, 0.0], [100.0, 100.0]])
    array([[0.5, 0.5],
           [0.5, 0.5]])
    """
    logits = np.asarray(logits, float)
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def taught(votes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows with votes, (R,) ids, and what part of them each emotion has, (R, 7)."""
    shares = vote_shares(votes)
    rows = np.flatnonzero(np.isfinite(shares).all(1))
    if len(rows) < 2:
        raise UserError(f"at least 2 rows with votes are needed to fit on, got {len(rows)}")
    return rows, shares[rows]


# --- weights --------------------------------------------------------------------------------------


def fit_weights(p: np.ndarray, votes: np.ndarray) -> list[float]:
    """Weights, (M,) of sum 1, of least `cross_entropy` of the weighted mean of probabilities.

    There is one minimum: the logarithm of a linear function is concave.
    """
    from scipy.optimize import minimize

    rows, shares = taught(votes)
    p = p[:, rows]

    def loss(free: np.ndarray) -> tuple[float, np.ndarray]:
        weights = softmax(free[None])[0]
        mixed = np.maximum(np.tensordot(weights, p, 1), FLOOR)
        slope = -(p * (shares / mixed)).sum(2).mean(1)  # by each weight
        return cross_entropy(mixed, shares, FLOOR), weights * (slope - weights @ slope)

    found = minimize(loss, np.zeros(len(p)), jac=True, method="BFGS", options={"gtol": 1e-7})
    return softmax(found.x[None])[0].tolist()


# --- stackers -------------------------------------------------------------------------------------


def fit(p: np.ndarray, votes: np.ndarray, kind: str, seed: int, c: float) -> dict:
    """What a stacker of that kind learns. `c` is of the logistic one, `seed` of LightGBM."""
    if kind == "lightgbm":
        return fit_lightgbm(p, votes, seed)
    return fit_logistic(p, votes, c)


def features(p: np.ndarray) -> np.ndarray:
    """Log-probabilities of the members side by side: (M, N, 7) -> (N, 7 M)."""
    return np.moveaxis(np.log(np.maximum(p, FLOOR)), 0, 1).reshape(p.shape[1], -1)


def _examples(p: np.ndarray, votes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, ids and weights: a row for each emotion that a row has votes for."""
    rows, shares = taught(votes)
    row, emotion = np.nonzero(shares)
    if len(np.unique(emotion)) < 2:
        raise UserError("a stacker needs rows of at least 2 emotions to learn from, got 1")
    return features(p)[rows[row]], emotion, shares[row, emotion]


def fit_logistic(p: np.ndarray, votes: np.ndarray, c: float) -> dict:
    """Multinomial logistic regression of the votes on the log-probabilities.

    Keys kind, C (scikit-learn's, 1 / strength of the L2 penalty), emotions (K of them),
    coefficients (K, 7 M), intercepts (K,). Other emotions have probability 0.
    """
    from sklearn.linear_model import LogisticRegression

    x, y, weights = _examples(p, votes)
    model = LogisticRegression(C=c, max_iter=1000).fit(x, y, weights)
    coefficients, intercepts = model.coef_, model.intercept_
    if len(model.classes_) == 2:  # of two classes scikit-learn keeps the second alone
        coefficients = np.concatenate([0 * coefficients, coefficients])
        intercepts = np.concatenate([0 * intercepts, intercepts])
    return {
        "kind": "logistic",
        "C": c,
        "emotions": [EMOTIONS[i] for i in model.classes_],
        "coefficients": coefficients.tolist(),
        "intercepts": intercepts.tolist(),
    }


def penalty(p: np.ndarray, votes: np.ndarray, folds: Sequence[np.ndarray]) -> float:
    """Of `PENALTIES` that of least cross-entropy on the held-out `folds`, (N,) bool each."""
    if not folds:
        return 1.0
    losses = []
    rows, shares = taught(votes)
    for c in PENALTIES:
        predicted = np.full(p.shape[1:], np.nan)
        for fold in folds:
            predicted[fold] = predict(p[:, fold], fit_logistic(p[:, ~fold], votes[~fold], c))
        losses.append(cross_entropy(predicted[rows], shares, FLOOR))
    return PENALTIES[int(np.argmin(losses))]


def fit_lightgbm(p: np.ndarray, votes: np.ndarray, seed: int) -> dict:
    """Gradient-boosted trees of the votes on the log-probabilities.

    Keys kind, members (M), model (LightGBM's own text).
    """
    package = lightgbm()
    x, y, weights = _examples(p, votes)
    data = package.Dataset(x, label=y, weight=weights, params={"verbose": -1})
    model = package.train(BOOSTING | {"seed": seed % 2**31}, data, num_boost_round=TREES)
    return {"kind": "lightgbm", "members": len(p), "model": model.model_to_string()}


def lightgbm():
    """The package, or a UserError that says how to install it."""
    try:
        import lightgbm as package
    except ImportError:
        raise UserError(
            "--stacker lightgbm needs LightGBM: pip install -r requirements/extra.txt "
            "(--stacker logistic needs nothing)"
        ) from None
    return package


def predict(p: np.ndarray, stacker: Mapping) -> np.ndarray:
    """(M, N, 7) -> (N, 7) by a stacker that `fit` returned."""
    x = features(p)
    trees = stacker["kind"] == "lightgbm"
    fitted = stacker["members"] if trees else len(stacker["coefficients"][0]) // len(EMOTIONS)
    if fitted != len(p):
        raise UserError(
            f"the stacker was fitted to {fitted} members that predict emotion, there are {len(p)}"
        )
    if trees:
        return np.asarray(lightgbm().Booster(model_str=stacker["model"]).predict(x))
    found = np.zeros((len(x), len(EMOTIONS)))
    ids = [EMOTIONS.index(name) for name in stacker["emotions"]]
    found[:, ids] = softmax(x @ np.array(stacker["coefficients"]).T + stacker["intercepts"])
    return found
