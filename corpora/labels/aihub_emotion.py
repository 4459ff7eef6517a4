"""What five raters and the situation say in AI Hub 263, and the rules that make a label of it."""

import numpy as np
import pandas as pd

from constants import EMOTIONS
from corpora.preparation import columns
from metric import VOTES
from utils import UserError

RATERS = 5  # each gives a label and its intensity
SPELT = {
    "happiness": "happy",
    "angry": "angry",
    "neutral": "neutral",
    "sadness": "sad",
    "disgust": "disgust",
    "surprise": "surprise",
    "fear": "fear",
}  # as the corpus spells them, in any case -> ours
ALIASES = {"anger": "angry", "sad": "sad"}  # of 4차년도
INTENSITIES = {f"{n}{rest}": str(n) for n in range(3) for rest in ("", ".0")}  # as written -> 0..2
RULES = ("majority", "situation", "intensity", "consensus3")
CONSENSUS = 3  # raters of five


def ratings(cells: np.ndarray) -> tuple[pd.DataFrame, list[tuple[str, str, int, str]]]:
    """(N, 11) cells, the situation and a label and an intensity of each rater -> table, notes.

    The table has situation, rater_emotion and rater_intensity (five each, joined by ";") and
    quarantine, the reason why a row is empty. A note is (treatment, reason, row, detail).
    """
    labels = np.concatenate([cells[:, :1], cells[:, 1::2]], axis=1)
    flat = pd.Series(labels.ravel(), dtype=object).str.lower()
    ours = flat.map(SPELT | ALIASES).fillna("").to_numpy(object).reshape(labels.shape)
    given = pd.Series(cells[:, 2::2].ravel(), dtype=object).map(INTENSITIES).fillna("")
    given = given.to_numpy(object).reshape(-1, RATERS)
    reasons = [(ours == "", "unknown emotion"), (given == "", "intensity is not 0, 1 or 2")]
    fault = np.select([where.any(axis=1) for where, _ in reasons], [r for _, r in reasons], "")
    table = pd.DataFrame(
        {
            "situation": ours[:, 0],
            "rater_emotion": [";".join(row) for row in ours[:, 1:]],
            "rater_intensity": [";".join(row) for row in given],
            "quarantine": fault,
        },
        dtype=object,
    )
    table.loc[fault != "", ["situation", "rater_emotion", "rater_intensity"]] = ""
    alias = flat.isin(list(ALIASES)).to_numpy().reshape(labels.shape)
    notes = [
        (
            "converted",
            "spelling of an emotion",
            int(i),
            ";".join(dict.fromkeys(labels[i][alias[i]])),
        )
        for i in np.flatnonzero(alias.any(axis=1) & (fault == ""))
    ]
    for i in np.flatnonzero(fault != ""):
        detail = columns.printable(" ".join(dict.fromkeys(cells[i])))
        notes.append(("quarantined", str(fault[i]), int(i), detail))
    return table, notes


def labelled(utterances: pd.DataFrame, rule: str) -> pd.DataFrame:
    """The utterances with `emotion` and votes by one of RULES; NaN votes where there is no label.

    majority     what most of the five raters hear; a tie is all of its labels, first named first
    situation    what was asked for, with the votes of all five
    intensity    each rater counts by the intensity 0..2 that he gives; no label if all give 0
    consensus3   what three or more of the five hear; no label elsewhere
    """
    if rule not in RULES:
        raise UserError(f"no label rule {rule!r} in aihub_emotion; there are: {', '.join(RULES)}")
    rated = (utterances["rater_emotion"] != "").to_numpy()
    names, weights = _evidence(utterances[rated], rule)
    votes = np.stack([(weights * (names == emotion)).sum(axis=1) for emotion in EMOTIONS], axis=1)
    most = votes.max(axis=1)
    known = most >= (CONSENSUS if rule == "consensus3" else 1)
    modal = [
        ";".join(dict.fromkeys(name for name in row if count[EMOTIONS.index(name)] == top))
        for row, count, top in zip(names, votes, most, strict=True)
    ]
    emotion = np.full(len(utterances), "", object)
    emotion[rated] = np.where(known, np.array(modal, object), "")
    counts = np.full((len(utterances), len(EMOTIONS)), np.nan)
    counts[rated] = np.where(known[:, None], votes, np.nan)
    return utterances.assign(emotion=emotion, **dict(zip(VOTES, counts.T, strict=True)))


def _evidence(rows: pd.DataFrame, rule: str) -> tuple[np.ndarray, np.ndarray]:
    """(N, 5) labels and (N, 5) weights that a rule counts."""
    if rule == "situation":
        names = np.repeat(rows[["situation"]].to_numpy(object), RATERS, axis=1)
    else:
        names = _split(rows["rater_emotion"])
    weights = _split(rows["rater_intensity"]) if rule == "intensity" else np.ones(names.shape)
    return names, weights.astype(float)


def _split(column: pd.Series) -> np.ndarray:
    cells = [cell.split(";") for cell in column]
    return np.array(cells, dtype=object).reshape(len(cells), RATERS)
