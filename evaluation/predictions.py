"""A table of predictions: its columns, read from predictions.csv, and scored.

A table is a DataFrame, or a dict of arrays, with the columns of predictions.csv. All its rows are
scored, so choose the rows (test, val, oof) before. What a score is stands in `metric.py`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

import metric
from constants import EMOTIONS, EVENTS, SCALES, TIE_POLICIES
from corpora.preparation import files
from corpora.preparation.columns import printable
from utils import UserError

TEXTS = ("corpus", "role", "segment", "session", "dialogue", "kind")
TEXTS += ("set", "emotion", "emotion_true")
NUMBERS = (*metric.PROBABILITIES, *SCALES, *(f"{head}_true" for head in SCALES), *metric.VOTES)
OF_EVENTS = [f"{name}{end}" for name in EVENTS for end in ("", "_true")]  # if any


# --- the file ---------------------------------------------------------------------------------


def read_predictions(path: Path) -> pd.DataFrame:
    """predictions.csv: texts ("" where empty), the columns of NUMBERS as floats."""
    rows, _ = files.read_rows(path)  # all as wide as the first: none was cut short
    header = rows[0] if rows else []
    if missing := [name for name in (*TEXTS, *NUMBERS) if header.count(name) != 1]:
        have = ", ".join(map(printable, header))
        raise UserError(f"{path} lacks the columns {', '.join(missing)}; it has {have}")
    table = pd.DataFrame([row for row in rows[1:] if any(row)], columns=header, dtype=str)
    try:
        numbers = (*NUMBERS, *(name for name in OF_EVENTS if name in table))
        return table.assign(**{name: pd.to_numeric(table[name]) for name in numbers})
    except ValueError as error:
        reason = ascii(str(error))[1:-1]
        raise UserError(f"{path} needs numbers in {', '.join(NUMBERS)}: {reason}") from error


# --- its columns ------------------------------------------------------------------------------


def column(predictions: Mapping, name: str) -> np.ndarray:
    """One column of a table of predictions, (N,)."""
    if name not in predictions:
        raise UserError(f"predictions need a column {name!r}; they have: {', '.join(predictions)}")
    return np.asarray(predictions[name])


def columns(predictions: Mapping, names: Sequence[str]) -> np.ndarray:
    """Columns of numbers, (N, len(names)) float."""
    return np.stack([column(predictions, name).astype(float) for name in names], axis=1)


def label_ids(labels: Sequence[str]) -> list[tuple[int, ...]]:
    """Ids of the labels joined by ";", as written; () for an unlabelled row.

    >>> label_ids(["sad;angry", "", "happy"])
    [(2, 1), (), (6,)]
    """
    seen: dict[str, tuple[int, ...]] = {}
    texts = [label if isinstance(label, str) else "" for label in labels]  # a csv's "" is NaN
    for text in dict.fromkeys(texts):
        names = text.split(";") if text else []
        unknown = [name for name in names if name not in EMOTIONS]
        if unknown:
            raise UserError(f"no emotion {unknown[0]!r}; there are: {', '.join(EMOTIONS)}")
        seen[text] = tuple(EMOTIONS.index(name) for name in names)
    return [seen[text] for text in texts]


def multi_hot(labels: Sequence[str]) -> np.ndarray:
    """Labels joined by ";" -> (N, 7) float: 1 for each of them.

    >>> multi_hot(["sad;angry"])
    array([[0., 1., 1., 0., 0., 0., 0.]])
    """
    hot = np.zeros((len(labels), metric.C))
    for row, ids in enumerate(label_ids(labels)):
        hot[row, list(ids)] = 1
    return hot


def modal(predictions: Mapping) -> np.ndarray:
    """Which labels are true, (N, 7) multi-hot; zeros in a row without label or without votes."""
    hot = multi_hot(column(predictions, "emotion_true"))
    labelled = columns(predictions, metric.VOTES).sum(1) > 0  # NaN > 0 is false
    return hot * labelled[:, None]


def emotion_rows(predictions: Mapping, ties: str) -> tuple[np.ndarray, ...]:
    """What the emotion scores count: rows, truth ids, predicted ids, weights, each (M,).

    `ties`: "drop": rows with one modal label; "first": the label written first; "any": the
    predicted label if it is modal, else the first; "soft": every class, weighted by its share of
    the votes. Rows without a modal label, votes or a predicted label are left out.

    >>> table = {f"votes_{e}": [0.0] for e in EMOTIONS} | {"votes_sad": [5.0]}
    >>> table |= {"emotion_true": ["sad;angry"], "emotion": ["angry"]}
    >>> [int(emotion_rows(table, ties)[1][0]) for ties in ("first", "any")]
    [2, 1]
    """
    if ties not in TIE_POLICIES:
        raise UserError(f"no ties policy {ties!r}; there are: {', '.join(TIE_POLICIES)}")
    hot, predicted = modal(predictions), _first(column(predictions, "emotion"))
    keep = hot.any(1) & (predicted >= 0)
    if ties == "soft":
        votes = columns(predictions, metric.VOTES)
        rows, truth = np.nonzero(keep[:, None] & (votes > 0))
        return rows, truth, predicted[rows], votes[rows, truth] / votes[rows].sum(1)
    rows = np.flatnonzero(keep & (hot.sum(1) == 1) if ties == "drop" else keep)
    truth, predicted = _first(column(predictions, "emotion_true"))[rows], predicted[rows]
    if ties == "any":
        truth = np.where(hot[rows, predicted] > 0, predicted, truth)
    return rows, truth, predicted, np.ones(len(rows))


def _first(labels: Sequence[str]) -> np.ndarray:
    """Id of the label written first, -1 where there is none."""
    return np.array([ids[0] if ids else -1 for ids in label_ids(labels)], int)


# --- its scores -------------------------------------------------------------------------------


def scores_of(predictions: Mapping, ties: str) -> dict[str, dict]:
    """Every score of `metric.SCORES`: name -> {"value": float or NaN, "n": rows behind it}.

    A row counts where both its truth and its prediction are there, so a head that was not trained
    has n 0. The emotion scores judge the column `emotion`; those at k the columns p_0..p_6.
    """
    rows, *counted = emotion_rows(predictions, ties)
    values = {score.__name__: score(metric.confusion(*counted)) for score in metric.POOLED}
    n = {"confusion": len(np.unique(rows))}
    truth, p = modal(predictions), columns(predictions, metric.PROBABILITIES)
    for score in (metric.precision_at, metric.recall_at, metric.f1_at):
        values |= {f"{score.__name__}_{k}": score(truth, p, k) for k in (1, 2)}
    values |= metric.legacy(*metric.hits(truth, p, 1))
    n["top"] = int(metric.has_top(truth, p).sum())
    for head in ("arousal", "valence"):
        parts = metric.moments(*columns(predictions, (f"{head}_true", head)).T).sum(0)
        values[f"ccc_{head}"], n[head] = metric.ccc_from_moments(parts), int(parts[0])
    return {
        name: {"value": float(values[name]), "n": n[score.source]}
        for name, score in metric.SCORES.items()
    }
