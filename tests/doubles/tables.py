"""Tables of predictions: without keys, of given labels or drawn; and with keys and dialogues."""

import numpy as np
import pandas as pd

import metric
from constants import EMOTIONS


def table(modal, votes, predicted, probabilities=None, arousal=np.nan, valence=np.nan) -> dict:
    """A table of predictions without keys, as a dict of arrays."""
    n = len(modal)
    votes = np.asarray(votes, float).reshape(n, 7)
    p = np.full((n, 7), np.nan) if probabilities is None else np.asarray(probabilities, float)
    columns = {"emotion_true": np.array(modal, object), "emotion": np.array(predicted, object)}
    columns |= {name: votes[:, i] for i, name in enumerate(metric.VOTES)}
    columns |= {name: p[:, i] for i, name in enumerate(metric.PROBABILITIES)}
    columns |= {"arousal": np.full(n, arousal), "valence": np.full(n, valence)}
    return columns | {"arousal_true": np.linspace(1, 5, n), "valence_true": np.linspace(5, 1, n)}


def drawn(seed: int, rows: int = 150, classes: int = 7) -> dict:
    """A random table: ten raters, ties, a guess that is better than chance."""
    rng = np.random.default_rng(seed)
    votes = rng.multinomial(
        10, np.append(rng.dirichlet(np.ones(classes)), np.zeros(7 - classes)), rows
    )
    modal = [";".join(np.array(EMOTIONS)[row == row.max()]) for row in votes]
    p = rng.dirichlet(np.ones(7), rows) + votes / 20
    result = table(modal, votes, [EMOTIONS[i] for i in p.argmax(1)], p / p.sum(1, keepdims=True))
    result["arousal"] = result["arousal_true"] + rng.normal(0, 1, rows)
    return result


def with_dialogues(seed: int, dialogues: int = 5, rows: int = 60, classes: int = 7) -> pd.DataFrame:
    """Random predictions: dialogues of unequal length, ties, one unlabelled row."""
    rng = np.random.default_rng(seed)
    prior = np.append(rng.dirichlet(np.ones(classes)), np.zeros(7 - classes))
    votes = rng.multinomial(10, prior, rows).astype(float)
    modal = [";".join(np.array(EMOTIONS)[row == row.max()]) for row in votes]
    p = rng.dirichlet(np.ones(7), rows) + votes / 20
    dialogue = np.sort(
        np.append(np.arange(dialogues), rng.integers(0, dialogues, rows - dialogues))
    )
    frame = pd.DataFrame(index=range(rows)).assign(corpus="kemdy19", role="speaker")
    frame["segment"] = [f"Sess01_script{i // 20:02d}_M{i:03d}" for i in range(rows)]
    frame["session"], frame["dialogue"] = dialogue // 2 + 1, [f"script{d:02d}" for d in dialogue]
    frame["kind"] = np.where(dialogue % 2, "impro", "script")
    frame["emotion"] = [EMOTIONS[i] for i in p.argmax(1)]
    frame["emotion_true"] = modal
    frame[list(metric.PROBABILITIES)] = p / p.sum(1, keepdims=True)
    frame[list(metric.VOTES)] = votes
    for head in ("arousal", "valence"):
        frame[f"{head}_true"] = rng.uniform(1, 5, rows)
        frame[head] = frame[f"{head}_true"] + rng.normal(0, 1, rows)
    frame.loc[rows // 2, ["emotion_true", *metric.VOTES]] = ["", *[np.nan] * 7]
    return frame
