"""Where something holds: runs of true values, as of loud steps or of chosen seconds. NumPy only."""

import numpy as np
from numpy.typing import ArrayLike


def true_spans(chosen: ArrayLike) -> list[tuple[int, int]]:
    """Runs of true: (N,) bool -> [(start, end)].

    >>> true_spans([False, True, True, False, True])
    [(1, 3), (4, 5)]
    """
    edges = np.flatnonzero(np.diff(np.pad(np.asarray(chosen, np.int8), 1)))
    return [(int(start), int(end)) for start, end in edges.reshape(-1, 2)]
