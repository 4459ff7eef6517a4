"""What training makes small: one loss a head, weighed by lambda. Scores are in metric.py.

    total = lambda * emotion + (1 - lambda) * (arousal + valence)          or highlight, alone

Arousal and valence: squared error. Emotion: the divergence from the raters' votes (`EmotionLoss`),
or class-balanced cross-entropy (`CBLoss`; Cui et al., "Class-Balanced Loss Based on Effective
Number of Samples", CVPR 2019). Highlight: binary cross-entropy of each second. A row whose
`<head>_mask` is false has no truth there and adds nothing; a head without any such row gives 0.
Computed in float32 at least.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from constants import EMOTIONS, EVENTS, HEADS
from utils import UserError

COUNTS = ("legacy", "exact")


class EmotionLoss(nn.Module):
    """lambda * KL(votes || prediction) + (1 - lambda) * (MSE + MSE); `lam` in [0, 1].

    Called with a prediction `{"emotion": log-probabilities (B, 7), "arousal": (B,), ...}` and a
    batch that holds the truth under the same names (emotion: shares of the votes, a row sums to
    1). Returns `{"loss": the total, "loss/emotion", "loss/arousal", "loss/valence"}`, unweighted
    but for the total; each is the mean over the rows that have that truth. A head that the
    prediction lacks is not in it; where there is but one, that is the total.
    """

    def __init__(self, lam: float) -> None:
        super().__init__()
        if not 0 <= lam <= 1:
            raise UserError(f"lam should lie in [0, 1], it is {lam}")
        self.lam, self.pos_weight = lam, 1.0  # the latter: of a second that is an event

    def forward(
        self,
        prediction: dict[str, Tensor],
        batch: dict[str, Tensor],
        counts: dict[str, int] | None = None,
    ) -> dict[str, Tensor]:
        """Total and parts, each a number with a gradient.

        `counts`: rows with that truth in the whole batch of which this one is a part; the sum
        over the parts is then the loss of the whole.
        """
        losses, total = {}, 0
        every = HEADS | EVENTS
        if unknown := sorted(prediction.keys() - every.keys()):
            raise ValueError(f"no head {unknown[0]!r}; there are: {', '.join(every)}")
        for name, head in every.items():
            if name not in prediction:
                continue
            predicted, truth, known = _rows(name, prediction, batch)
            each = self.errors(head.kind, predicted, truth)
            n = known.sum() if counts is None else torch.tensor(counts[name])
            losses[f"loss/{name}"] = torch.where(known, each, 0).sum() / n.clamp(min=1)
            weight = self.lam if head.kind == "distribution" else 1 - self.lam
            weight = 1 if len(prediction) == 1 else weight
            total = total + weight * losses[f"loss/{name}"]
        return {"loss": total, **losses}

    def errors(self, kind: str, predicted: Tensor, truth: Tensor) -> Tensor:
        """The error of each row, or of each step of it."""
        if kind == "distribution":
            return self.divergence(predicted, truth)
        if kind == "event":  # a share of annotators counts in part
            weight = predicted.new_tensor(self.pos_weight)
            return nn.functional.binary_cross_entropy_with_logits(
                predicted, truth, reduction="none", pos_weight=weight
            )
        return (predicted - truth) ** 2

    def divergence(self, log_p: Tensor, votes: Tensor) -> Tensor:
        """(N, 7), (N, 7) -> (N,): sum of v (log v - log p); a class without votes adds 0."""
        return (torch.xlogy(votes, votes) - _times(votes, log_p)).sum(-1)


class CBLoss(EmotionLoss):
    """lambda * weighted BCE + (1 - lambda) * (MSE + MSE); the BCE is a mean over rows and classes.

    Of each probability p against its share of votes v: -(v log p + (1 - v) log(1 - p)), times the
    weight of its class (`class_weights`). `.weights` (7,) are those; `.absent` names the classes
    without training rows, whose weight is 0.
    """

    weights: Tensor

    def __init__(
        self, lam: float, beta: float, counts: Sequence[float], cb_counts: str = "legacy"
    ) -> None:
        super().__init__(lam)
        self.absent = tuple(e for e, n in zip(EMOTIONS, counts, strict=True) if n == 0)
        weights = torch.tensor(class_weights(counts, beta, cb_counts), dtype=torch.float64)
        self.register_buffer("weights", weights, persistent=False)

    def divergence(self, log_p: Tensor, votes: Tensor) -> Tensor:
        """(N, 7), (N, 7) -> (N,): weighted binary cross-entropy, mean over the classes."""
        entropy = -_times(votes, log_p) - _times(1 - votes, log_rest(log_p))
        return (entropy * self.weights.to(log_p)).mean(-1)


def class_weights(counts: Sequence[float], beta: float, cb_counts: str = "legacy") -> list[float]:
    """(1 - beta) / (1 - beta^n) for each class; 0 where there are no rows.

    `counts`: labels of the last utterance of each training window, a tie counts in each class.
    "legacy", as in 2022: n = how many times the smallest class, cut to an integer; not normalised.
    "exact", as published: n = the count; normalised to sum to the number of classes.

    >>> [round(w, 4) for w in class_weights([10, 25, 10, 10, 10, 40, 0], 0.9)]
    [1.0, 0.5263, 1.0, 1.0, 1.0, 0.2908, 0.0]
    """
    if not 0 <= beta < 1:
        raise UserError(f"beta should lie in [0, 1), it is {beta}")
    if cb_counts not in COUNTS:
        raise UserError(f"cb_counts {cb_counts!r}: choose one of {', '.join(COUNTS)}")
    present = [n for n in counts if n > 0]
    if not present:
        raise UserError("a class-balanced loss needs training rows with an emotion; there are none")
    legacy = cb_counts == "legacy"
    effective = [int(n / min(present)) if legacy else n for n in counts]
    weights = [(1 - beta) / (1 - beta**n) if n > 0 else 0.0 for n in effective]
    return weights if legacy else [w * len(weights) / sum(weights) for w in weights]


def log_rest(log_p: Tensor) -> Tensor:
    """(..., C) -> (..., C): log(1 - p) of each class, summed from the other classes' log p.

    1 - p itself is 0 in float32 once p is within 6e-8 of 1, and its logarithm infinite.
    """
    classes = log_p.shape[-1]
    own = torch.eye(classes, dtype=torch.bool, device=log_p.device)
    others = log_p.unsqueeze(-2).expand(*log_p.shape, classes)
    return others.masked_fill(own, -torch.inf).logsumexp(-1)


def build(
    name: str, lam: float, beta: float, counts: Sequence[float], cb_counts: str = "legacy"
) -> EmotionLoss:
    """The loss of that name on the command line: normal or cbloss."""
    if name == "normal":
        return EmotionLoss(lam)
    if name == "cbloss":
        return CBLoss(lam, beta, counts, cb_counts)
    raise UserError(f"no loss {name!r}; there are: normal, cbloss")


def _rows(
    name: str, prediction: dict[str, Tensor], batch: dict[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Prediction and truth in float32 at least, and which rows (B,) have that truth; the truth of
    the others, which may be NaN, is 0."""
    predicted, truth = prediction[name], batch[name]
    if predicted.shape != truth.shape:  # (N, 1) against (N,) would quietly broadcast to (N, N)
        raise ValueError(
            f"{name}: prediction {tuple(predicted.shape)} and truth {tuple(truth.shape)} differ"
        )
    known = batch.get(f"{name}_mask")
    if known is None:
        known = torch.ones(len(truth), dtype=torch.bool, device=truth.device)
    kind = torch.promote_types(predicted.dtype, torch.float32)
    rows = known.reshape(known.shape + (1,) * (truth.ndim - known.ndim))
    # no row is picked out: on a GPU that would wait for all that was begun
    return predicted.to(kind), torch.where(rows, truth, 0).to(kind), known


def _times(weight: Tensor, log_p: Tensor) -> Tensor:
    """weight * log p, with 0 * log 0 = 0."""
    return torch.where(weight > 0, weight * log_p, 0)
