"""Baselines of the rows that are scored: the majority class, the class priors, a constant."""

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import ArrayLike

import metric
from constants import EMOTIONS
from evaluation.predictions import column, columns, emotion_rows, label_ids, multi_hot


def majority_class(labels: Iterable[str]) -> str:
    """The emotion most rows have ("" if none has one); a tied row counts in equal parts, "a;b".

    Give it the `emotion` column of the training utterances. Equal counts: the lower id.

    >>> majority_class(["sad;angry", "angry", "happy", ""])
    'angry'
    """
    counts = class_counts(labels)
    return EMOTIONS[int(counts.argmax())] if counts.any() else ""


def class_counts(labels: Iterable[str]) -> np.ndarray:
    """Rows of each emotion, (7,); a tied row counts in equal parts, an unlabelled one nowhere.

    >>> class_counts(["sad;angry", "angry", "happy", ""])
    array([0. , 1.5, 0.5, 0. , 0. , 0. , 1. ])
    """
    hot = multi_hot(list(labels))
    labelled = hot[hot.any(1)]
    return (labelled / labelled.sum(1, keepdims=True)).sum(0)


def majority(
    predictions: Mapping,
    emotion: str | None = None,
    arousal: float | None = None,
    valence: float | None = None,
) -> Mapping:
    """The same rows, with one constant answer: a copy of `predictions` to be scored like a model.

    `emotion`: the `majority_class` of the training rows; None takes that of these rows. `arousal`,
    `valence` 1..5: training means; None takes those of these rows (the CCC of a constant is 0).
    Where the model gave no prediction the baseline gives none, so both count the same rows.
    """
    baseline = predictions.copy()
    if emotion is None:
        emotion = majority_class(column(predictions, "emotion_true"))
    ids = label_ids([emotion])[0]
    baseline["emotion"] = _answered(predictions, emotion)
    for i, name in enumerate(metric.PROBABILITIES):
        baseline[name] = _where_given(predictions, name, float(i in ids) if ids else np.nan)
    for head, value in (("arousal", arousal), ("valence", valence)):
        truth = columns(predictions, (f"{head}_true",))
        known = truth[np.isfinite(truth)]
        value = known.mean() if value is None and len(known) else value
        baseline[head] = _where_given(predictions, head, np.nan if value is None else value)
    return baseline


def prior_confusion(predictions: Mapping, ties: str, class_counts: ArrayLike) -> np.ndarray:
    """Expected confusion matrix of answers drawn from the training labels, (7, 7); rows truth.

    `class_counts` (7,) of the training rows, see `class_counts`; not negative, not all 0. The rows
    are those of the model's scores, so its accuracy here is the mean of a random guesser's.
    """
    counts = np.asarray(class_counts, float)
    if counts.shape != (metric.C,) or not (counts >= 0).all() or not 0 < counts.sum() < np.inf:
        raise ValueError(f"class_counts must be {metric.C} counts, not all 0, got {class_counts!r}")
    expected = np.zeros((metric.C, metric.C))
    for emotion, share in zip(EMOTIONS, counts / counts.sum(), strict=True):
        answered = _answered(predictions, emotion)
        counted = emotion_rows({**predictions, "emotion": answered}, ties)[1:]
        expected += share * metric.confusion(*counted)
    return expected


def _answered(predictions: Mapping, emotion: str) -> np.ndarray:
    """The column of an answer that is always the same, where the model gave one."""
    given = [len(label) > 0 for label in label_ids(column(predictions, "emotion"))]
    return np.where(given, emotion, "").astype(object)


def _where_given(predictions: Mapping, name: str, value: float) -> np.ndarray:
    given = columns(predictions, (name,))[:, 0]
    return np.where(np.isfinite(given), value, np.nan)
