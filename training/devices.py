"""Where a run computes: the device, the number format, and several processes as one.

Started by `torchrun --nproc_per_node N main.py ...` or `accelerate launch main.py ...`, N processes
train one model: each takes its share of every batch, and losses, gradients and BatchNorm's
statistics are those of the whole batch. Alone, a process is the one of one.
"""

import contextlib
import os
import re
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributed.nn.functional import all_reduce  # gradients pass through this one

from utils import UserError


def pick_device(gpu_id: int | None) -> torch.device:
    """GPU `gpu_id`, or the first one, or the CPU (also for -1); a missing id is a UserError."""
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpu_id is None:
        return torch.device("cuda", 0) if there else torch.device("cpu")
    if gpu_id == -1:
        return torch.device("cpu")
    if not 0 <= gpu_id < there:
        have = f"GPUs 0..{there - 1}" if there else "no GPU"
        raise UserError(f"--gpu_id {gpu_id} does not exist; this machine has {have} (-1: CPU)")
    return torch.device("cuda", gpu_id)


def use_bf16(precision: str, device: torch.device) -> bool:
    """Whether training runs under bfloat16 autocast; `auto`: where the processor computes in it."""
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def settle_arithmetic(deterministic: bool) -> None:
    """Float32 means float32 on a GPU too; `deterministic`: the same bytes there at every run."""
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = not deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.utils.deterministic.fill_uninitialized_memory = False  # nothing here reads such memory
    if torch.are_deterministic_algorithms_enabled() != deterministic:  # setting it takes 2 s
        torch.use_deterministic_algorithms(deterministic)


# --- several processes as one --------------------------------------------------------------------


class Processes:
    """The processes that train one model together. `rank` 0 writes the files: `is_main`."""

    def __init__(self, gpu_id: int | None = None):
        """Joins the others that were launched. Raises UserError where they cannot be joined."""
        from accelerate import Accelerator, DistributedDataParallelKwargs

        launched = int(os.environ.get("WORLD_SIZE", 1))
        self.device = pick_device(gpu_id)
        if launched > 1 and gpu_id not in (None, -1):
            raise UserError("--gpu_id chooses for one process; for several: CUDA_VISIBLE_DEVICES")
        if self.device.type == "cuda" and launched == 1:
            torch.cuda.set_device(self.device)
        self.accelerator = Accelerator(
            cpu=self.device.type == "cpu",
            mixed_precision="no",  # --precision decides
            # equal on all processes already: they count the same batches
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
        )
        if launched > 1:
            self.device = self.accelerator.device
        self.rank, self.count = self.accelerator.process_index, self.accelerator.num_processes
        self.is_main = self.rank == 0
        if launched != self.count:
            raise UserError(
                f"{launched} processes were launched, {self.count} found each other; launch with "
                f"torchrun --nproc_per_node {launched} main.py ..."
            )

    def share(self, rows: int) -> slice:
        """The rows of a batch that are this process's; the shares differ by one at most."""
        return slice(self.rank * rows // self.count, (self.rank + 1) * rows // self.count)

    def wrap(self, model: nn.Module) -> nn.Module:
        """The same weights, as a module whose gradients are averaged over the processes."""
        return self.accelerator.prepare_model(model) if self.count > 1 else model

    def backward(self, loss: Tensor) -> None:
        """Gradients of the sum of all processes' losses, on every process."""
        self.accelerator.backward(loss * self.count)  # they are averaged

    def total(self, values: Tensor) -> Tensor:
        """The sum of all processes' values, on every process."""
        return self.accelerator.reduce(values, "sum") if self.count > 1 else values

    def of_main(self, text: str) -> str:
        """The text of the main process, on every process."""
        from accelerate.utils import broadcast_object_list  # takes a second to import

        [text] = broadcast_object_list([text])
        return text

    def agree(self, text: str, what: str) -> None:
        """A UserError unless this process has the same text as the main one; `what` names it."""
        if (other := self.of_main(text)) != text:
            raise UserError(f"process {self.rank}: {what} should be {other}, it is {text}")

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """What needs the others is done in here: one that is gone is a UserError."""
        try:
            yield
        except RuntimeError as error:
            text = str(error).strip().splitlines()[0]
            if self.count == 1 or not re.search("gloo|nccl|socket|connection", text, re.I):
                raise
            raise UserError(f"another process is gone ({text[:80]})") from error

    def leave(self) -> None:
        """When all are done; nothing may be exchanged any more."""
        if self.count > 1:
            self.accelerator.wait_for_everyone()
            self.accelerator.end_training()


# --- BatchNorm over the whole batch --------------------------------------------------------------


def share_batchnorm(model: nn.Module, processes: Processes) -> nn.Module:
    """The model with BatchNorm whose statistics are those of all processes' rows."""
    if processes.count == 1:
        return model
    if processes.device.type == "cuda":
        return nn.SyncBatchNorm.convert_sync_batchnorm(model)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.__class__ = GlobalBatchNorm  # the same weights, averages and names
    return model


class GlobalBatchNorm(nn.modules.batchnorm._BatchNorm):
    """BatchNorm over the rows of all processes, on the CPU, where SyncBatchNorm is not to be had.

    (B, C, ...) -> (B, C, ...); a process may hold no row. First the mean, then the squares of the
    distances from it: sums of plain squares would cancel where a channel is nearly constant.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        pass  # BatchNorm1d and BatchNorm2d alike

    def forward(self, input: Tensor) -> Tensor:
        """Normalised by the statistics of the whole batch; in evaluation, by the averages."""
        if not self.training:
            return super().forward(input)
        x = input.to(torch.promote_types(input.dtype, torch.float32))
        dims = [0, *range(2, x.ndim)]
        shape = (1, -1) + (1,) * (x.ndim - 2)
        rows = x.new_full((1,), x.numel() / x.shape[1])
        sums = all_reduce(torch.cat([rows, x.sum(dims)]))
        count, mean = sums[0].detach(), sums[1:] / sums[0].detach()
        centred = x - mean.view(shape)
        variance = all_reduce(centred.square().sum(dims)) / count
        self._average(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * torch.rsqrt(variance + self.eps)
        return (centred * scale.view(shape) + self.bias.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _average(self, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked += 1
        cumulative = self.momentum is None  # as torch's own: the plain mean of all batches
        momentum = 1 / self.num_batches_tracked.item() if cumulative else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), momentum)
        self.running_var.lerp_(variance.to(self.running_var), momentum)
