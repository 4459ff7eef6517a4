"""What models that read second after second share: inputs standardised, sequences made dense."""

import torch
from torch import Tensor, nn

from model import at_least_float32

LEAST = 1e-6  # sd of what hardly varies: it is left in its own unit
FAR = 10.0  # sd: digital silence lies hundreds from the mean of what was heard in training


class Standardised(nn.Module):
    """(..., D), (...) bool -> (..., D): at mean 0 and sd 1 in training; zeros where masked.

    Mean and sd are those of every training step so far, in all processes: a running estimate that
    settles in the first epoch. Nothing is ever standardised by its own batch, and nothing is learnt
    from what is not trained on. Before training, numbers are left as they are. Never further than
    FAR from the mean.
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("squares", torch.zeros(size, dtype=torch.float64))  # about the mean

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = at_least_float32(torch.where(mask.unsqueeze(-1), x, 0))
        if self.training:
            self._see(x.detach(), mask)
        sd = (self.squares / self.count.clamp(min=1)).sqrt()
        sd = torch.where(sd > LEAST, sd, 1)
        x = (x - self.mean.to(x.dtype)) / sd.to(x.dtype)
        x = torch.where(self.count > 0, x.clamp(-FAR, FAR), x)
        return torch.where(mask.unsqueeze(-1), x, 0)

    @torch.no_grad()
    def _see(self, x: Tensor, mask: Tensor) -> None:
        """Chan, Golub, LeVeque: Updating Formulae for Computing Sample Variances, 1979."""
        weight = mask.to(self.mean.dtype).unsqueeze(-1)
        away = (x.to(self.mean.dtype) - self.mean) * weight
        dims = tuple(range(mask.ndim))
        sums = torch.cat([weight.sum().view(1), away.sum(dims), away.square().sum(dims)])
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
        seen, first, second = sums.split([1, len(self.mean), len(self.mean)])
        self.count += seen[0]
        shift = first / self.count.clamp(min=1)
        self.mean += shift
        self.squares += (second - first * shift).clamp(min=0)


def dense(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """(N, S, D), (N, S) bool -> the same with each row's own steps first, in their order."""
    order = (~mask).long().argsort(dim=1, stable=True)
    return x.gather(1, order.unsqueeze(-1).expand_as(x)), mask.gather(1, order)
