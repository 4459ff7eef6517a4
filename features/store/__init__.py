"""Features kept: extracted once per content, stored on disk, gathered by row number.

What others use is handed on here. resident.py, which holds features on a device, is not: it needs
torch, and a cache is read without.
"""

from features.store.batches import Batched, cut, lay, padded
from features.store.contract import Extractor, Feature
from features.store.extraction import Live, extract
from features.store.store import Store, gathered, join
from features.store.windows import chunk_indices, window_indices

__all__ = [
    "Batched", "Extractor", "Feature", "Live", "Store", "chunk_indices", "cut", "extract",
    "gathered", "join", "lay", "padded", "window_indices",
]  # fmt: skip
