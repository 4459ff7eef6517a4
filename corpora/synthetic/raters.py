"""Ten raters of the sample corpus: what they vote, and where they put it on the two scales."""

import numpy as np
import pandas as pd

from constants import EMOTIONS, RATERS
from corpora.preparation.columns import COLUMNS
from metric import VOTES
from utils import rng

RATINGS = ["rater_emotion", "rater_valence", "rater_arousal"]
# what raters hear instead
MISHEARD = {
    "disgust": {"angry": 0.5, "neutral": 0.35, "sad": 0.15},
    "angry": {"neutral": 0.45, "disgust": 0.35, "sad": 0.1, "surprise": 0.1},
    "sad": {"neutral": 0.65, "fear": 0.15, "angry": 0.1, "disgust": 0.1},
    "fear": {"surprise": 0.45, "neutral": 0.3, "sad": 0.25},
    "surprise": {"neutral": 0.45, "happy": 0.25, "fear": 0.15, "angry": 0.15},
    "neutral": {"happy": 0.25, "sad": 0.25, "angry": 0.2, "surprise": 0.15, "disgust": 0.15},
    "happy": {"neutral": 0.7, "surprise": 0.3},
}
# votes of ten that the emotion itself gets on average, by how many of text and voice tell it
HEARD = (5.4, 6.4, 8.0)
UNSURE = 0.42  # the least share of raters, on average, that an emotion convinces
OUTVOTED = 0.3  # most raters hear another emotion in few rows, else swap the two
# valence and arousal, 1..5
PLANE = {
    "disgust": (2.2, 3.12),
    "angry": (1.8, 3.79),
    "sad": (1.89, 2.62),
    "fear": (1.74, 3.64),
    "surprise": (2.64, 3.64),
    "neutral": (2.97, 2.98),
    "happy": (4.32, 3.86),
}


def rate(spoken: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The rows of plan() -> utterances of both roles (preparation.COLUMNS) with ten raters each.

    Added: lists of ten in `rater_emotion`, `rater_valence` and `rater_arousal`, and `transcript`.
    """
    spoken = spoken.assign(corpus="sample", wav="", text=spoken["line"], quarantine="")
    tables = []
    for role, mood in (("speaker", spoken["latent"]), ("listener", spoken["partner"])):
        random = rng(seed, "raters", role)
        # a listener is judged by less than half of what a speaker shows
        told = spoken["told"] if role == "speaker" else np.minimum(spoken["told"], 1)
        votes = np.array([_votes(m, t, random) for m, t in zip(mood, told, strict=True)])
        _tie_in_every_session(votes, spoken["session"])
        ratings = pd.DataFrame([_rating(v, m, random) for v, m in zip(votes, mood, strict=True)])
        counts = pd.DataFrame(votes.astype(float), columns=VOTES)
        tables.append(spoken.assign(role=role).join([counts, ratings]))
    return pd.concat(tables, ignore_index=True)[[*COLUMNS, "transcript", *RATINGS]]


def _votes(mood: str, told: int, random: np.random.Generator) -> np.ndarray:
    """(7,) counts of ten raters."""
    sure = (HEARD[told] / RATERS - UNSURE) / (1 - UNSURE)
    share = UNSURE + (1 - UNSURE) * random.beta(2.5 * sure, 2.5 * (1 - sure))
    others = random.dirichlet([0.01 + 2 * MISHEARD[mood].get(e, 0.0) for e in EMOTIONS])
    right = np.array(EMOTIONS) == mood
    votes = random.multinomial(RATERS, share * right + (1 - share) * others)
    if votes[right] < votes.max() and random.random() > OUTVOTED:
        votes[[right.argmax(), votes.argmax()]] = votes.max(), votes[right.argmax()]
    return votes


def _tie_in_every_session(votes: np.ndarray, session: pd.Series) -> None:
    """Where a session has no tie, its least certain row becomes one."""
    ranked = np.sort(votes, axis=1)
    lead = ranked[:, -1] - ranked[:, -2]
    for rows in session.groupby(session).indices.values():
        least = rows[lead[rows].argmin()]
        if lead[least]:
            first_two = np.argsort(votes[least])[-2:]
            votes[least] = 0
            votes[least, first_two] = RATERS // 2


def _rating(votes: np.ndarray, mood: str, random: np.random.Generator) -> dict:
    """Ten labels, valences and arousals, and what they come to: each goes by label and mood."""
    labels = random.permutation(np.repeat(EMOTIONS, votes)).tolist()
    means = np.array([PLANE[label] for label in labels]) * 0.7 + np.array(PLANE[mood]) * 0.3
    noise = random.normal(0, 0.4, (1, 2)) + random.normal(0, 0.55, (RATERS, 2))
    scores = np.clip(np.rint(means + noise), 1, 5).astype(int)
    modal = [e for e, count in zip(EMOTIONS, votes, strict=True) if count == votes.max()]
    return {
        "emotion": ";".join(modal),
        "valence": scores[:, 0].mean(),
        "arousal": scores[:, 1].mean(),
        "rater_emotion": labels,
        "rater_valence": scores[:, 0].tolist(),
        "rater_arousal": scores[:, 1].tolist(),
    }
