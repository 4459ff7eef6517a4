"""Ratings of several people: read from the cells of a table, checked, put beside utterances."""

import numpy as np
import pandas as pd

import constants
from corpora.preparation.columns import printable
from metric import VOTES

SPELLINGS = {"disqust": "disgust"}  # as KEMDy20 spells it


def read_ratings(cells: np.ndarray) -> tuple[pd.DataFrame, list[tuple[str, str, int, str]]]:
    """(N, 33) cells, Emotion Valence Arousal of the total and of ten raters -> table, notes.

    The table has emotion (as written, spelling mended), votes, valence, arousal and quarantine,
    and no numbers in a quarantined row. A note is (treatment, reason, row, detail): a row in
    quarantine, a mended spelling, or a total that its raters do not give (the file's is used).
    """
    cells = cells.reshape(len(cells), 1 + constants.RATERS, 3)
    written = pd.Series(cells[:, 0, 0], dtype=object)
    labels = written.map({cell: _labels(cell) for cell in written.unique()})
    raters = pd.Series(cells[:, 1:, 0].ravel(), dtype=object)
    codes = raters.map({cell: _code(cell) for cell in raters.unique()})
    codes = codes.to_numpy(np.int64).reshape(len(cells), -1)
    votes = (codes[..., None] == np.arange(len(constants.EMOTIONS))).sum(axis=1)
    scores = pd.to_numeric(pd.Series(cells[..., 1:].ravel(), dtype=object), errors="coerce")
    scores = scores.to_numpy(float).reshape(len(cells), -1, 2)
    table = pd.DataFrame({"emotion": labels.map(";".join)})
    table[VOTES] = votes.astype(float)
    table[["valence", "arousal"]] = scores[:, 0]
    table["quarantine"] = _faults(labels, codes, scores)
    bad = table["quarantine"] != ""
    notes = _mended(written, cells) + _disagreements(labels, votes, scores)
    notes = [note for note in notes if not bad[note[2]]]
    for row in np.flatnonzero(bad):
        detail = " ".join(dict.fromkeys(cells[row].ravel()))  # each different cell once
        notes.append(("quarantined", table["quarantine"][row], int(row), printable(detail)))
    table.loc[bad, "emotion"] = ""
    table.loc[bad, [*VOTES, "valence", "arousal"]] = np.nan
    return table, notes


def _labels(cell: str) -> tuple[str, ...]:
    names = (name.strip() for name in cell.split(";"))
    return tuple(dict.fromkeys(SPELLINGS.get(name, name) for name in names))


def _code(cell: str) -> int:
    name = SPELLINGS.get(cell, cell)
    return constants.EMOTIONS.index(name) if name in constants.EMOTIONS else -1


def _faults(labels: pd.Series, codes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(N,) why a row of ratings cannot be used, "" where it can."""
    known = {names: set(names) <= set(constants.EMOTIONS) for names in labels.unique()}
    low, high = constants.SCALE
    scores = scores.reshape(len(scores), -1)
    unreadable = ~np.isfinite(scores).all(axis=1)
    outside = ((scores < low) | (scores > high)).any(axis=1)
    reasons = [
        (~labels.map(known).to_numpy(bool) | (codes < 0).any(axis=1), "unknown emotion"),
        (unreadable, "score is not a number"),
        (outside, f"score outside {low:g}..{high:g}"),
    ]
    return np.select([where for where, _ in reasons], [name for _, name in reasons], default="")


def _mended(written: pd.Series, cells: np.ndarray) -> list[tuple]:
    wrong = np.isin(cells[:, 1:, 0].astype(str), list(SPELLINGS)).any(axis=1)
    wrong |= [any(name in cell for name in SPELLINGS) for cell in written]
    return [("converted", "spelling of an emotion", int(i), written[i]) for i in wrong.nonzero()[0]]


def _disagreements(labels: pd.Series, votes: np.ndarray, scores: np.ndarray) -> list[tuple]:
    """Where the total is not all modal labels, or not the mean rounded to 0.1."""
    notes, names = [], np.array(constants.EMOTIONS)
    modal = votes == votes.max(axis=1, keepdims=True)
    for i, row in enumerate(modal):
        if set(names[row]) != set(labels[i]):
            detail = f"{';'.join(labels[i])}, raters {';'.join(names[row])}"
            notes.append(("reported", "emotion differs from its raters", i, detail))
    means = np.round(scores[:, 1:].mean(axis=1), 1)
    for column, name in enumerate(("valence", "arousal")):
        have, mean = scores[:, 0, column], means[:, column]
        for i in np.flatnonzero(np.abs(have - mean) > 1e-6):
            detail = f"{have[i]:g}, raters {mean[i]:g}"
            notes.append(("reported", f"{name} differs from its raters", int(i), detail))
    return notes


def rate(rows: pd.DataFrame, table: pd.DataFrame, index: np.ndarray) -> pd.DataFrame:
    """Rows with the ratings in `table` (of `ratings`) at `index`; -1 is no rating at all.

    A row that is in quarantine already keeps its reason and gets no numbers.
    """
    rated = table.reindex(np.where(rows["quarantine"] == "", index, -1)).set_index(rows.index)
    faults = rows["quarantine"].where(rows["quarantine"] != "", rated["quarantine"].fillna(""))
    rated["emotion"] = rated["emotion"].fillna("")
    return pd.concat([rows.drop(columns="quarantine"), rated.assign(quarantine=faults)], axis=1)
