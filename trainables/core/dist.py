"""Losses and batch statistics of the *global* batch under data parallelism.

Every function is the identity in a single process, so a method is written once and needs no flag. With several ranks
the rule is: a rank's loss is built from its own rows as queries and everybody's rows as keys (`gather`), reduced with
`mean`. The average over ranks that DistributedDataParallel takes of the gradients is then exactly the gradient of the
single-process loss on the joint batch, whatever the number of rows each rank holds (none included).

All functions are collective: every rank calls them in the same order.
"""

from __future__ import annotations

from typing import cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn.functional import all_gather, all_reduce
from torch.nn.modules.batchnorm import _BatchNorm


def world() -> int:
    """Number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """This process's number among `world()`."""
    return dist.get_rank() if world() > 1 else 0


def sizes(local_n: int) -> list[int]:
    """Rows that each rank holds, in the order of ranks."""
    if world() == 1:
        return [local_n]
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else "cpu"
    counts = [torch.zeros(1, dtype=torch.int64, device=device) for _ in range(world())]
    dist.all_gather(counts, torch.tensor([local_n], device=device))
    return [int(count) for count in torch.cat(counts).tolist()]


def gather(x: Tensor, counts: list[int] | None = None) -> Tensor:
    """The rows of all ranks, in the order of ranks: (b, ...) -> (sum of b, ...); gradients flow back to every rank.

    Args:
        x: this rank's rows.
        counts: `sizes(len(x))` where the caller has it already.
    """
    if world() == 1:
        return x
    counts = sizes(len(x)) if counts is None else counts
    # a collective needs equal shapes (gloo aborts the process otherwise): pad to the longest and cut again
    padded = torch.cat([x, x.new_zeros(max(counts) - len(x), *x.shape[1:])])
    gathered = all_gather(padded, group=dist.group.WORLD)
    return torch.cat([rows[:count] for rows, count in zip(gathered, counts, strict=True)])


def offset(counts: list[int]) -> int:
    """Index of this rank's first row in what `gather` returns."""
    return sum(counts[: rank()])


def weight(local_n: int) -> float:
    """What a local mean over `local_n` rows is multiplied by, so that the mean over ranks is the global mean."""
    return world() * local_n / max(sum(sizes(local_n)), 1) if world() > 1 else 1.0


def mean(rows: Tensor) -> Tensor:
    """Mean over the first axis, (b, ...) -> (...), weighted so that its mean over ranks is that of the joint batch."""
    if world() == 1:
        return rows.mean(0)
    return rows.sum(0) * (weight(len(rows)) / max(len(rows), 1))


def agree(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """The scalars of a method's `forward`, averaged over ranks, so that every rank reports the same numbers.

    "loss" keeps this rank's gradient and only takes over the value; the other values are detached.
    """
    result = {name: value.detach() for name, value in values.items()}
    loss = values["loss"]
    if world() == 1:
        return {**result, "loss": loss}
    stacked = torch.stack([value.to(loss.dtype) for value in result.values()])
    dist.all_reduce(stacked)
    result = dict(zip(result, (stacked / world()).unbind(), strict=True))
    return {**result, "loss": loss + (result["loss"] - loss.detach())}


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation with the statistics of the joint batch of all ranks, on any backend and device.

    Parameters, buffers and their names are those of `nn.BatchNorm*d`, so checkpoints load with any number of ranks.
    In eval mode and in a single process it computes exactly what `nn.BatchNorm*d` does. Ranks may hold different
    numbers of rows, none included. (`torch.nn.SyncBatchNorm` refuses the CPU.)
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.ndim < 2:
            raise ValueError(f"batch normalisation needs (B, C, ...), got {tuple(input.shape)}")

    def forward(self, x: Tensor) -> Tensor:
        """x (b, C, ...) -> the same shape and dtype.

        Raises:
            ValueError: a single value per channel over all ranks, of which no variance can be taken.
        """
        if not self.training or world() == 1:
            return cast(Tensor, super().forward(x))
        self._check_input_dim(x)
        full = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        shape, axes = (1, -1, *[1] * (x.ndim - 2)), [0, *range(2, x.ndim)]
        local_count = full.numel() // full.shape[1]
        total = _sum(torch.cat([full.sum(axes), full.new_tensor([local_count])]))
        count = total[-1].detach()
        if local_count < 2 and count < 2:  # in this order: reading `count` waits for the device
            raise ValueError("batch normalisation in training needs more than one value per channel over all ranks")
        mean_C = total[:-1] / count
        centred = full - mean_C.view(shape)
        var_C = _sum(centred.square().sum(axes)) / count
        self._track(mean_C.detach(), var_C.detach() * count / (count - 1))
        y = centred * torch.rsqrt(var_C + self.eps).view(shape)
        if self.affine:
            y = y * self.weight.view(shape) + self.bias.view(shape)
        return y.to(x.dtype)

    @torch.no_grad()
    def _track(self, mean_C: Tensor, unbiased_var_C: Tensor) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean_C.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(unbiased_var_C.to(self.running_var.dtype), momentum)


def _sum(x: Tensor) -> Tensor:
    return cast(Tensor, all_reduce(x, group=dist.group.WORLD))


def convert_batchnorm(module: nn.Module) -> nn.Module:
    """`module` with every batch normalisation replaced by `SyncBatchNorm`, sharing parameters and buffers.

    Children are replaced in place; the return value differs from `module` only if it is a batch normalisation itself.
    """
    if isinstance(module, _BatchNorm) and not isinstance(module, SyncBatchNorm):
        synced = SyncBatchNorm(module.num_features, module.eps, module.momentum, module.affine, False)
        synced.track_running_stats = module.track_running_stats
        synced._parameters, synced._buffers = module._parameters, module._buffers
        return synced.train(module.training)
    for name, child in module.named_children():
        setattr(module, name, convert_batchnorm(child))
    return module
