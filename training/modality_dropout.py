"""Training windows that lose one whole modality, so that a model learns to do without it."""

import numpy as np
import torch

from model import Batch, mask_of


def drop_modality(
    batch: Batch,
    features: tuple[str, ...],
    p: float,
    generator: np.random.Generator,
    total: int | None = None,
    share: slice = slice(None),
) -> Batch:
    """Masks `<feature>_mask` in which a window has lost one whole feature with probability `p`.

    Which one is drawn evenly. A window that would be left with nothing keeps what it has, so a
    model of one feature is left as it is; one utterance of it may lose all that it has. Two draws a
    window, whatever the batch holds; a batch that is a `share` of one of `total` windows loses what
    it would there. The batch is not changed: `batch | drop_modality(...)`.
    """
    masks = {feature: mask_of(batch, feature) for feature in features}
    present = torch.stack([mask.flatten(1).any(1) for mask in masks.values()])  # (features, B)
    rows = present.shape[1]
    total = rows if total is None else total
    chosen = torch.from_numpy(generator.integers(len(features), size=total)[share])
    chosen[torch.from_numpy(generator.random(total)[share] >= p)] = -1
    chosen = chosen.to(present.device)
    kept = {}
    for i, (feature, mask) in enumerate(masks.items()):
        others = torch.cat([present[:i], present[i + 1 :]]).any(0)
        keep = ~((chosen == i) & others)
        kept[f"{feature}_mask"] = mask & keep.reshape((rows,) + (1,) * (mask.ndim - 1))
    return kept
