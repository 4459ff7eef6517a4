"""The part of result.json that scores fill, from a table of predictions. NumPy only.

What a score is stands in `metric.py`, what a table holds in `predictions.py`; intervals are in
`bootstrap.py`, baselines in `baselines.py`, what the probabilities are worth in `calibration.py`.
"""

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

import metric
from constants import BOOTSTRAP, EMOTIONS, SEED, TIES
from evaluation import alignment, baselines, bootstrap
from evaluation.predictions import column, emotion_rows, scores_of
from evaluation.run_configuration import Majority, RunConfiguration
from utils import plain

Known = TypeVar("Known")


def summarise(
    predictions: Mapping,
    ties: str = TIES,
    baseline_class: str | None = None,
    seed: int = SEED,
    resamples: int = BOOTSTRAP,
    class_counts: ArrayLike | None = None,
    corpus_classes: Mapping[str, str] | None = None,
    corpus_counts: Mapping[str, ArrayLike | None] | None = None,
) -> dict:
    """The scores of a table, as result.json holds them; undefined numbers are None.

    Keys ties, n, classes, scores, per_class, confusion, by_kind.

    `baseline_class`: the emotion the baseline always answers, see `baselines.majority`. Rows of
    several corpora have a key by_corpus, too: {name: n, majority and scores}. `class_counts` (7,):
    training rows of each emotion. With them each score has a "prior", that of a guesser who draws
    from them; None where there was none, and for scores of no confusion matrix. `corpus_classes`
    and `corpus_counts` hold both for single corpora, see `known_of`.
    """
    named = list(dict.fromkeys(column(predictions, "corpus")))
    known = (baseline_class, corpus_classes or {}), (class_counts, corpus_counts or {})
    baseline_class, class_counts = (known_of(predictions, *one) for one in known)
    matrix = metric.confusion(*emotion_rows(predictions, ties)[1:])
    present = matrix.sum(1) > 0
    result = {
        "ties": ties,
        "n": _sizes(predictions, ties),
        "classes": {
            "present": [e for e, here in zip(EMOTIONS, present, strict=True) if here],
            "absent": [e for e, here in zip(EMOTIONS, present, strict=True) if not here],
        },
        "scores": _beside(predictions, ties, baseline_class, class_counts, seed, resamples),
        "per_class": [
            row | {name: _count(row[name]) for name in ("support", "predicted")}
            for row in metric.per_class(matrix)
        ],
        "confusion": [[_count(cell) for cell in row] for row in matrix.tolist()],
        "by_kind": _by_kind(predictions, ties),
    }
    if len(named) > 1:
        result["by_corpus"] = {
            name: _of_corpus(predictions, name, ties, known, seed, resamples) for name in named
        }
    return plain(result)


def _of_corpus(
    predictions: Mapping, name: str, ties: str, known: tuple, seed: int, resamples: int
) -> dict:
    """The rows of one corpus alone, beside the baselines that know this corpus."""
    rows = alignment.select(predictions, column(predictions, "corpus") == name)
    answer, counts = (known_of(rows, *one) for one in known)
    return {
        "n": _sizes(rows, ties),
        "majority": answer,
        "scores": _beside(rows, ties, answer, counts, seed, resamples),
    }


def known_of(predictions: Mapping, together: Known, by_corpus: Mapping[str, Known]) -> Known:
    """What baselines know of the training rows: of the corpus that all these rows are of.

    `together`, which is of all training rows, where these are of several corpora, or of one that
    `by_corpus` does not name.
    """
    named = set(column(predictions, "corpus"))
    return by_corpus.get(named.pop(), together) if len(named) == 1 else together


def trained(configuration: RunConfiguration) -> dict:
    """What a configuration.json says of the training rows, as arguments of `summarise`.

    Folders that were written without counts by corpus have no prior of a single one of several.
    """
    majority = configuration.majority or Majority()
    classes, by = majority.by_corpus, configuration.class_counts_by_corpus
    if by is None:
        by = dict.fromkeys(classes) if len(classes) > 1 else {}
    return {
        "baseline_class": majority.emotion,
        "class_counts": _vector(configuration.class_counts),
        "corpus_classes": classes,
        "corpus_counts": {name: _vector(counts) for name, counts in by.items()},
    }


def _vector(counts: Mapping[str, int] | None) -> list[int] | None:
    """(7,) as in EMOTIONS."""
    return None if counts is None else [counts.get(emotion, 0) for emotion in EMOTIONS]


def baseline(
    configuration: RunConfiguration, predictions: Mapping
) -> tuple[str | None, list[int] | None]:
    """What the baselines of a run know of these rows; None where the configuration does not say.

    The emotion that the majority baseline answers, and the (7,) counts of the label prior.
    """
    known = trained(configuration)
    return (
        known_of(predictions, known["baseline_class"], known["corpus_classes"]),
        known_of(predictions, known["class_counts"], known["corpus_counts"]),
    )


def _sizes(predictions: Mapping, ties: str) -> dict[str, int]:
    dialogues, sessions = (
        alignment.numbered(predictions, k) for k in (alignment.DIALOGUE, ("corpus", "session"))
    )
    return {
        "rows": len(dialogues),
        "emotion": scores_of(predictions, ties)["accuracy"]["n"],
        "dialogues": len(set(dialogues)),
        "sessions": len(set(sessions)),
    }


def _beside(
    predictions: Mapping,
    ties: str,
    baseline_class: str | None,
    class_counts: ArrayLike | None,
    seed: int,
    resamples: int,
) -> dict[str, dict]:
    """Every score with its interval, beside the majority baseline and, with counts, the prior.

    The legacy scores have no interval: they depend on the order of rows.
    """
    baseline = baselines.majority(predictions, baseline_class)
    scores = [scores_of(table, ties) for table in (predictions, baseline)]
    none = dict.fromkeys(metric.LEGACY, (float("nan"), float("nan")))
    intervals = [
        none | bootstrap.bootstrap(table, ties, resamples, seed)
        for table in (predictions, baseline)
    ]
    prior = {} if class_counts is None else _prior(predictions, ties, class_counts)
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
        | ({"prior": prior[name]} if prior else {})
        for name in metric.SCORES
    }


def _prior(predictions: Mapping, ties: str, class_counts: ArrayLike) -> dict[str, float | None]:
    """Scores of the expected confusion matrix of a guesser."""
    prior = dict.fromkeys(metric.SCORES)
    if np.any(class_counts):
        expected = baselines.prior_confusion(predictions, ties, class_counts)
        prior |= {score.__name__: float(score(expected)) for score in metric.POOLED}
    return prior


def _by_kind(predictions: Mapping, ties: str) -> dict[str, dict]:
    kinds = column(predictions, "kind")
    result = {}
    for kind in sorted({kind for kind in kinds if isinstance(kind, str) and kind}):
        found = scores_of(alignment.select(predictions, kinds == kind), ties)
        result[kind] = {"n": found["uar"]["n"]}
        result[kind] |= {name: found[name]["value"] for name in ("macro_f1", "uar")}
    return result


def _count(value: float) -> int | float:
    """A number of rows: a whole one, but with soft ties."""
    return int(value) if float(value).is_integer() else value
