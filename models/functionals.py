"""The classical baseline: functionals of the last utterance, a support vector machine, ridges.

    functionals (B, W, D)  the last utterance alone, missing: the training mean
    standardised (B, D)    by the training rows
    emotion                SVC, one machine for each pair of classes -> votes -> softmax
    arousal, valence       ridge regression, clipped to the scale

It learns from all training windows at once (`fit`), without gradients, steps or seeds; what it
learns are tensors in its state dict, and predicting needs torch alone. A tie of votes teaches each
of its k modal classes with weight 1/k, and classes are balanced. The emotion output is the softmax
of the votes that scikit-learn calls decision function: an order of classes, not calibrated.
`python main.py --model functionals --speaker_norm`
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

import constants
import utils
from constants import EMOTIONS, HEADS, SCALE, SCALES
from model import Batch, EmotionModel, at_least_float32, mask_of, masked
from models.layers.svm import PAIRS, lessons, matrices, votes
from utils import UserError, setting

FEATURE = "functionals"
ABSENT = -30.0  # score of a class that no training row has: a probability of 1e-13 or less


@dataclass(frozen=True)
class Settings:
    """The flags of the baseline."""

    ws: int = setting(1, "utterances in a window; the last one alone is heard", least=1)
    sr: int = setting(constants.SAMPLE_RATE, "sample rate of the sound, Hz", least=4000)
    speaker_norm: bool = setting(
        False, "z-scores over all utterances of a speaker, the unlabelled tested ones too"
    )
    kernel: str = setting("rbf", "of the support vector machine", choices=("rbf", "linear"))
    C: float = setting(1.0, "what an error costs the support vector machine", least=1e-6)
    alpha: float = setting(1.0, "what a weight costs the ridge regression", least=1e-6)


def width(settings: Settings) -> int:
    """How many functionals there are."""
    leaf = utils.leaf("features", FEATURE)
    return leaf.shape(leaf.parameters(settings))[0]


class Model(EmotionModel):
    """A batch of windows -> `{"emotion": (B, 7), "arousal": (B,), "valence": (B,)}`.

    Buffers: `mean`, `scale` (D,) of the training rows; `support` (n, D) vectors, `pairs` (21, n)
    their coefficients in each of PAIRS, `intercept` (21,); `gamma` of the kernel; `present` (7,)
    the classes learnt; `ridge` (2, D), `middle` (2,) of SCALES. Before `fit` all classes are alike
    and scales in their middle.
    """

    Settings = Settings
    FITTED = True

    @staticmethod
    def inputs(settings: Settings) -> tuple[str, ...]:
        """The features it reads."""
        return (FEATURE,)

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        size, pairs = width(settings), len(PAIRS)
        blank = {
            "mean": torch.zeros(size),
            "scale": torch.ones(size),
            "support": torch.zeros(0, size),
            "pairs": torch.zeros(pairs, 0),
            "intercept": torch.zeros(pairs),
            "gamma": torch.ones(()),
            "present": torch.zeros(len(EMOTIONS), dtype=torch.bool),
            "ridge": torch.zeros(len(SCALES), size),
            "middle": torch.full((len(SCALES),), sum(SCALE) / 2),
        }
        for name, tensor in blank.items():
            self.register_buffer(name, tensor)

    def resize(self, state: dict[str, Tensor]) -> None:
        """As many support vectors as a saved state has; see model.py."""
        support = state.get("support")
        count = len(support) if support is not None and support.ndim else 0
        self.support = self.support.new_zeros(count, self.support.shape[1])
        self.pairs = self.pairs.new_zeros(len(PAIRS), count)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """One prediction a window, for its last utterance, never in half precision."""
        with torch.autocast(self.mean.device.type, enabled=False):
            x = self._standardised(batch)
            scores = self.decide(x).masked_fill(~self.present, ABSENT)
            scales = (x @ self.ridge.T + self.middle).clamp(*SCALE)
        return {"emotion": scores.log_softmax(-1)} | dict(zip(SCALES, scales.T, strict=True))

    def _standardised(self, batch: Batch) -> Tensor:
        """(B, D); zeros, the training mean, where there is no sound."""
        x = at_least_float32(masked(batch, FEATURE)[:, -1])
        heard = mask_of(batch, FEATURE)[:, -1:]
        return torch.where(heard, (x - self.mean) / self.scale, 0)

    def decide(self, x: Tensor) -> Tensor:
        """(B, D) standardised -> (B, 7): see `votes`."""
        return votes(self._kernel(x) @ self.pairs.T + self.intercept, self.present)

    def _kernel(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, n) likeness to each support vector."""
        if self.settings.kernel == "linear":
            return x @ self.support.T
        # not by way of a product of matrices: what that rounds away depends on the batch
        far = torch.cdist(x, self.support, compute_mode="donot_use_mm_for_euclid_dist")
        return torch.exp(-self.gamma * far**2)

    def fit(self, batch: Batch) -> None:
        """Learn from all training windows; those without sound are left out.

        A UserError where none is left that has an emotion. A scale that no row has stays in its
        middle.
        """
        from sklearn.preprocessing import StandardScaler  # here: predicting needs none of it

        heard = mask_of(batch, FEATURE)[:, -1].cpu().numpy()
        truth = {name: _array(batch, name)[heard] for name in HEADS}
        known = {name: _known(batch, name)[heard] for name in HEADS}
        if not known["emotion"].any():
            raise UserError(
                f"the functionals model needs training windows that have an emotion and sound, "
                f"there are 0 of {len(heard)}"
            )
        x = batch[FEATURE][:, -1].cpu().double().numpy()[heard]
        scaler = StandardScaler().fit(x)
        x = scaler.transform(x)
        self._keep(mean=scaler.mean_, scale=scaler.scale_)
        self._fit_emotion(x[known["emotion"]], truth["emotion"][known["emotion"]])
        self._fit_scales(x, truth, known)

    def _fit_emotion(self, x: np.ndarray, votes: np.ndarray) -> None:
        """(N, D), (N, 7) vote shares -> the machines."""
        from sklearn.svm import SVC

        rows, labels, weights = lessons(votes)
        classes = np.unique(labels)
        self._keep(present=np.isin(np.arange(len(EMOTIONS)), classes))
        self._keep(support=x[:0], pairs=np.zeros((len(PAIRS), 0)), intercept=np.zeros(len(PAIRS)))
        if len(classes) == 1:  # nothing to tell apart
            return
        svc = SVC(kernel=self.settings.kernel, C=self.settings.C, gamma="scale")
        svc.fit(x[rows], labels, sample_weight=weights)
        pairs, intercept = matrices(svc)
        gamma = 1 / (x.shape[1] * x[rows].var() or 1)  # what "scale" stands for
        self._keep(support=svc.support_vectors_, pairs=pairs, intercept=intercept, gamma=gamma)

    def _fit_scales(self, x: np.ndarray, truth: dict, known: dict) -> None:
        from sklearn.linear_model import Ridge

        ridge, middle = np.zeros((len(SCALES), x.shape[1])), np.full(len(SCALES), sum(SCALE) / 2)
        for i, name in enumerate(SCALES):
            rows = known[name]
            if rows.any():
                fitted = Ridge(alpha=self.settings.alpha).fit(x[rows], truth[name][rows])
                ridge[i], middle[i] = fitted.coef_, fitted.intercept_
        self._keep(ridge=ridge, middle=middle)

    def _keep(self, **learnt: np.ndarray) -> None:
        for name, array in learnt.items():
            old = getattr(self, name)
            setattr(self, name, torch.as_tensor(array).to(device=old.device, dtype=old.dtype))


def _array(batch: Batch, name: str) -> np.ndarray:
    return batch[name].cpu().double().numpy()


def _known(batch: Batch, head: str) -> np.ndarray:
    """(N,) bool: rows that have that truth; all of them where the batch does not say."""
    mask = batch.get(f"{head}_mask")
    return np.ones(len(batch[head]), bool) if mask is None else mask.cpu().numpy()
