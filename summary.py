"""The part of result.json that scores fill, from a table of predictions. NumPy only.

What a score is stands in `metric.py`, intervals and baselines in `evidence.py`, and what the
probabilities are worth in `calibration.py`.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike

import evidence
import metric
from constants import BOOTSTRAP, EMOTIONS, SEED, TIES


def of(
    predictions: Mapping,
    ties: str = TIES,
    baseline_class: str | None = None,
    seed: int = SEED,
    resamples: int = BOOTSTRAP,
    class_counts: ArrayLike | None = None,
    corpus_classes: Mapping[str, str] | None = None,
) -> dict:
    """Keys ties, n, classes, scores, per_class, confusion, by_kind; undefined numbers are None.

    `baseline_class`: the emotion the baseline always answers, see `evidence.majority`. Rows of
    several corpora have a key by_corpus, too: {name: n and scores}; `corpus_classes` holds the
    emotion that the baseline answers in each, which also stands where all rows are of that corpus.
    `class_counts` (7,): training rows of each emotion. With them each score has a "prior", that of
    a guesser who draws from them; None where there was none, and for scores of no confusion matrix.
    """
    named = list(dict.fromkeys(metric.column(predictions, "corpus")))
    corpus_classes = corpus_classes or {}
    if len(named) == 1:
        baseline_class = corpus_classes.get(named[0], baseline_class)
    matrix = metric.confusion(*metric.emotion_rows(predictions, ties)[1:])
    present = matrix.sum(1) > 0
    result = {
        "ties": ties,
        "n": _sizes(predictions, ties),
        "classes": {
            "present": [e for e, here in zip(EMOTIONS, present, strict=True) if here],
            "absent": [e for e, here in zip(EMOTIONS, present, strict=True) if not here],
        },
        "scores": _beside_baseline(predictions, ties, baseline_class, seed, resamples),
        "per_class": [
            row | {name: _count(row[name]) for name in ("support", "predicted")}
            for row in metric.per_class(matrix)
        ],
        "confusion": [[_count(cell) for cell in row] for row in matrix.tolist()],
        "by_kind": _by_kind(predictions, ties),
    }
    if len(named) > 1:
        result["by_corpus"] = {
            name: _of_corpus(predictions, name, ties, corpus_classes.get(name), seed, resamples)
            for name in named
        }
    if class_counts is not None:
        for name, value in _prior(predictions, ties, class_counts).items():
            result["scores"][name]["prior"] = value
    return plain(result)


def _of_corpus(
    predictions: Mapping, name: str, ties: str, baseline_class: str | None, seed: int,
    resamples: int,
) -> dict:  # fmt: skip
    """The rows of one corpus alone, beside the baseline that knows this corpus."""
    rows = evidence.select(predictions, metric.column(predictions, "corpus") == name)
    return {
        "n": _sizes(rows, ties),
        "majority": baseline_class,
        "scores": _beside_baseline(rows, ties, baseline_class, seed, resamples),
    }


def _sizes(predictions: Mapping, ties: str) -> dict[str, int]:
    dialogues, sessions = (
        evidence.numbered(predictions, k) for k in (evidence.DIALOGUE, ("corpus", "session"))
    )
    return {
        "rows": len(dialogues),
        "emotion": metric.scores(predictions, ties)["accuracy"]["n"],
        "dialogues": len(set(dialogues)),
        "sessions": len(set(sessions)),
    }


def _beside_baseline(
    predictions: Mapping, ties: str, baseline_class: str | None, seed: int, resamples: int
) -> dict[str, dict]:
    baseline = evidence.majority(predictions, baseline_class)
    scores = [metric.scores(table, ties) for table in (predictions, baseline)]
    intervals = [
        evidence.bootstrap(table, ties, resamples, seed) for table in (predictions, baseline)
    ]
    return {
        name: {
            "value": scores[0][name]["value"],
            "low": intervals[0][name][0],
            "high": intervals[0][name][1],
            "n": scores[0][name]["n"],
            "baseline": scores[1][name]["value"],
            "baseline_low": intervals[1][name][0],
            "baseline_high": intervals[1][name][1],
        }
        for name in metric.SCORES
    }


def _prior(predictions: Mapping, ties: str, class_counts: ArrayLike) -> dict[str, float | None]:
    """Scores of the expected confusion matrix of a guesser."""
    prior = dict.fromkeys(metric.SCORES)
    if np.any(class_counts):
        expected = evidence.prior_confusion(predictions, ties, class_counts)
        prior |= {score.__name__: float(score(expected)) for score in metric.POOLED}
    return prior


def _by_kind(predictions: Mapping, ties: str) -> dict[str, dict]:
    kinds = metric.column(predictions, "kind")
    result = {}
    for kind in sorted({kind for kind in kinds if isinstance(kind, str) and kind}):
        found = metric.scores(evidence.select(predictions, kinds == kind), ties)
        result[kind] = {"n": found["uar"]["n"]}
        result[kind] |= {name: found[name]["value"] for name in ("macro_f1", "uar")}
    return result


def plain(value: object) -> object:
    """For JSON: NaN becomes None."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value


def _count(value: float) -> int | float:
    """Rows are whole numbers, except with soft ties."""
    return int(value) if float(value).is_integer() else value
