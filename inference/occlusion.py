"""What moved a prediction: the same window again, each time without one part of it.

Occlusion is exact: every number is a difference of two answers of the model itself. What two parts
do together is not the sum of what each does. Pictures of it are in `reporting/timeline.py`.
"""

from typing import NamedTuple

import numpy as np

import constants
from inference.held import KINDS, Batch, Held
from inference.predictor import Predictor

BOTH = "both"


class Effect(NamedTuple):
    """What the answer owes to one part of the window.

    `back`: of how many utterances before; None: of the whole window. `kind`: "sound", "text" or
    "both". `emotion`: how much less probable the predicted emotion is without that part, -1..1;
    `arousal`, `valence`: how much lower they are. None where the model has no such head.
    """

    segment: str | None
    back: int | None
    kind: str
    emotion: float | None
    arousal: float | None
    valence: float | None


def explain(judge: Predictor, held: Held, row: int) -> list[Effect]:
    """The effects of every part of the window that ends with utterance `row`.

    Single utterances from the newest back, then the whole window without its sound and without its
    text. [] where there is no part to leave out: of one utterance, by a model of one kind.
    """
    chosen = np.array([row])
    batch = held.batch(chosen, held.sizes(chosen, judge.tails)[0])
    parts = _parts(judge, held, batch)
    if len(parts) < 2:
        return []
    said = judge.judge(_without(judge, batch, parts))
    effects = {head: _differences(values, head) for head, values in said.items()}
    none = [None] * len(parts)
    columns = [effects.get(name, none) for name in ("emotion", "arousal", "valence")]
    segments = [None if back is None else _segment(held, row, back) for back, _ in parts]
    return [
        Effect(segment, *part, *numbers)
        for segment, part, *numbers in zip(segments, parts, *columns, strict=True)
    ]


def _parts(judge: Predictor, held: Held, batch: Batch) -> list[tuple[int | None, str]]:
    """(utterances back, kind) of all that is there and can be left out."""
    there = {kind: _present(judge, held, batch, kind) for kind in judge.kinds}
    parts: list[tuple[int | None, str]] = []
    for back in range(judge.ws):
        kinds = [kind for kind in judge.kinds if there[kind][judge.ws - 1 - back]]
        parts += [(back, kind) for kind in kinds]
        parts += [(back, BOTH)] if len(kinds) > 1 else []
    whole = [kind for kind in judge.kinds if there[kind].any()]
    return parts + ([(None, kind) for kind in whole] if len(whole) > 1 else [])


def _names(held: Held, kind: str) -> list[str]:
    return [n for n, store in held.stores.items() if kind in (BOTH, KINDS[store.kind])]


def _present(judge: Predictor, held: Held, batch: Batch, kind: str) -> np.ndarray:
    """(W,) bool: the utterances of the window that have it."""
    masks = [batch[f"{name}_mask"][0].reshape(judge.ws, -1).any(1) for name in _names(held, kind)]
    return np.any(masks, axis=0)


def _without(judge: Predictor, batch: Batch, parts: list) -> Batch:
    """(1 + parts, ...): the window as it is, and without each part."""
    copies = {name: np.repeat(values, 1 + len(parts), axis=0) for name, values in batch.items()}
    for i, (back, kind) in enumerate(parts, start=1):
        slot = slice(None) if back is None else judge.ws - 1 - back
        for name, live in judge.features.items():
            if kind in (BOTH, KINDS[live.kind]):
                copies[f"{name}_mask"][i, slot] = False
        masks = [copies[f"{name}_mask"][i].reshape(judge.ws, -1).any(1) for name in judge.features]
        copies["mask"][i, slot] &= np.any(masks, axis=0)[slot]
    return copies


def _differences(values: np.ndarray, head: str) -> list[float]:
    """(1 + parts, ...) answers -> what each part adds to the first."""
    values = values.astype(float)
    if constants.HEADS[head].kind == "distribution":
        values = np.exp(values[:, values[0].argmax()])
    return [float(values[0] - value) for value in values[1:]]


def _segment(held: Held, row: int, back: int) -> str:
    return str(held.rows["segment"].iloc[held.index[row, -1 - back]])
