"""Features held whole on a device, from where batches are an index away. See `Windows.keep_on`."""

import math

import numpy as np
import torch

from features.store.store import Store

CHUNK = 64 << 20  # bytes of blocks gathered at once on their way to a device


class Resident:
    """All rows of a role on a device: the ready blocks of each feature, masks and truth.

    A batch is an index into them. Row N, all zeros and unseen, stands for padding.
    """

    def __init__(
        self, stores: dict[str, Store], truth: dict[str, np.ndarray], device: torch.device
    ):
        self.stores, self.device, self.n = stores, device, len(truth["emotion"])
        self.blocks = {name: _blocks(store, device) for name, store in stores.items()}
        self.masks = {
            f"{name}_mask": self._put(np.append(store.available, False))
            for name, store in stores.items()
        }
        self.truth = {name: self._put(values) for name, values in truth.items()}
        self.is_cut = {name: np.append(store.is_cut, False) for name, store in stores.items()}

    @staticmethod
    def size(stores: dict[str, Store]) -> int:
        """Bytes that the blocks of some stores need, in float32."""
        return sum(4 * (len(store) + 1) * math.prod(store.shape) for store in stores.values())

    def _put(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(array).to(self.device, non_blocking=True)

    def batch(self, rows: np.ndarray, targets: np.ndarray, cut: np.ndarray | None) -> dict:
        """(B, W) row numbers, -1 for padding, and the (B,) judged ones -> `Windows.batch`."""
        rows = np.where(rows < 0, self.n, rows)
        at, judged = self._put(rows), self._put(targets)
        batch = {"mask": at < self.n, "row": judged}
        for name, blocks in self.blocks.items():
            batch[name] = blocks.index_select(0, at.flatten()).view(*at.shape, *blocks.shape[1:])
            batch[f"{name}_mask"] = self.masks[f"{name}_mask"][at]
            again = self.is_cut[name][rows]
            if cut is not None and again.any():  # held as cut in the middle: gathered on the host
                where = tuple(self._put(axis) for axis in again.nonzero())
                fresh = self.stores[name].gather(rows[again], cut[again])
                batch[name][where] = self._put(fresh)
        return batch | {name: values[judged] for name, values in self.truth.items()}


def _blocks(store: Store, device: torch.device) -> torch.Tensor:
    """(N + 1, ...) float32: every row of a store, and zeros; through little memory of the host."""
    held = torch.zeros((len(store) + 1, *store.shape), device=device)
    step = max(1, CHUNK // (4 * math.prod(store.shape)))
    for start in range(0, len(store), step):
        rows = np.arange(start, min(start + step, len(store)))
        held[start : start + len(rows)] = torch.from_numpy(store.gather(rows))
    return held
