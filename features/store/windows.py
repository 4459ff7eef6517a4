"""Windows of rows as index arithmetic: which rows stand in each, -1 where there is none."""

import numpy as np
import pandas as pd


def window_indices(dialogues: pd.Series, ws: int) -> np.ndarray:
    """(N,) dialogue of each row, in spoken order -> (N, ws) row numbers, -1 where there is none.

    Row n holds the utterance n at its end and the ones spoken before it in the same dialogue,
    left-padded. Utterances of a dialogue need not lie next to each other.
    """
    index = np.full((len(dialogues), ws), -1, dtype=np.int64)
    for rows in dialogues.reset_index(drop=True).groupby(dialogues.to_numpy()).indices.values():
        for back in range(min(ws, len(rows))):
            index[rows[back:], ws - 1 - back] = rows[: len(rows) - back]
    return index


def chunk_indices(dialogues: pd.Series, ws: int) -> np.ndarray:
    """(N,) dialogue of each row, in order -> (M, ws) row numbers, -1 behind the end of a dialogue.

    Each row stands in one chunk, in order; `ws` 0: a chunk is a whole dialogue, as long as the
    longest.
    """
    groups = dialogues.reset_index(drop=True).groupby(dialogues.to_numpy(), sort=False).indices
    size = ws or max(map(len, groups.values()), default=1)
    parts = [rows[at : at + size] for rows in groups.values() for at in range(0, len(rows), size)]
    index = np.full((len(parts), size), -1, dtype=np.int64)
    for chunk, rows in zip(index, parts, strict=True):
        chunk[: len(rows)] = rows
    return index
