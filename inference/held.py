"""Utterances held in memory with their features, as windows that a model reads. No torch.

Windows are those of training: the utterances said before in the same dialogue, left-padded.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from features.store.store import Store, gathered

STEP = 32  # frames by which blocks are cut shorter
KINDS = {"wav": "sound", "text": "text", "segment": "text"}  # what a feature is made from

Batch = dict[str, np.ndarray]


@dataclass
class Held:
    """Utterances with their features in memory, and the windows (N, ws) that end with each."""

    rows: pd.DataFrame
    stores: dict[str, Store]
    index: np.ndarray

    def batch(self, chosen: np.ndarray, sizes: dict[str, int] | None = None) -> Batch:
        """(B,) row numbers -> what a model reads of the windows that end there; `sizes`: where the
        blocks of a feature are cut, of which the rest is padding."""
        batch = gathered(self.stores, self._windows(chosen))
        return batch | {name: batch[name][..., :size] for name, size in (sizes or {}).items()}

    def _windows(self, chosen: np.ndarray) -> np.ndarray:
        """(B, ws) row numbers, -1 for what is not there or in quarantine."""
        index = self.index[chosen]
        visible = (self.rows["quarantine"] == "").to_numpy()
        return np.where((index >= 0) & visible[index], index, -1)

    def sizes(self, chosen: np.ndarray, tails: dict[str, int]) -> list[dict[str, int]]:
        """Of each window the size to which each feature of `tails` can be cut: what its clips fill
        and the tail, in steps, so that there are few kinds of batches."""
        found: list[dict[str, int]] = [{} for _ in chosen]
        for name, tail in tails.items():
            whole = self.stores[name].shape[-1]
            filled = self.stores[name].extents(self._windows(chosen)).max(1) + tail
            for size, sizes in zip(-(-filled // STEP) * STEP, found, strict=True):
                sizes[name] = int(min(size, whole))
        return found

    def there(self) -> np.ndarray:
        """(N,) bool: the utterances of which the model reads anything."""
        return np.any([store.available for store in self.stores.values()], axis=0)

    def lacks(self, kind: str) -> np.ndarray:
        """(N,) bool: those that have no such feature, though the model reads it."""
        stores = [store for store in self.stores.values() if KINDS[store.kind] == kind]
        return ~np.all([store.available for store in stores], axis=0) & bool(stores)
