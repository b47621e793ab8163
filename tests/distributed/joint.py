"""What tests of two ranks share: a training step, the step of one rank's rows, the comparison with one process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from datasets.base import Batch
from trainables.core.dist import convert_batchnorm

Step = dict[str, dict[str, Tensor]]
Build = Callable[[str], nn.Module]
Share = Callable[[str, str, slice], Batch]


def train_step(model: nn.Module, method: nn.Module, batch: Batch) -> Step:
    """Scalars, gradients and buffers after one training step, and the scalars in evaluation."""
    out = model.train()(batch)
    out["loss"].backward()
    gradients = {name: p.grad.clone() for name, p in method.named_parameters() if p.grad is not None}
    buffers = {name: value.clone() for name, value in method.named_buffers()}
    with torch.no_grad():
        evaluated = method.eval()(batch)
    values = {name: value.detach() for name, value in out.items()}
    return {"values": values, "gradients": gradients, "buffers": buffers, "evaluated": evaluated}


def begin(rank: int, folder: str) -> None:
    """Join the group of two."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)


def steps(
    rank: int, cases: list[tuple[str, str]], splits: dict[str, tuple[int, int]], build: Build, share: Share
) -> dict[str, Step]:
    """The step of every case (name, split) on this rank's rows of the joint batch."""
    found = {}
    for name, split in cases:
        first, second = splits[split]
        method = convert_batchnorm(build(name))
        rows = slice(0, first) if rank == 0 else slice(first, first + second)
        found[f"{name}/{split}"] = train_step(DistributedDataParallel(method), method, share(name, split, rows))
    return found


def end(results: dict[str, Any], rank: int, folder: str) -> None:
    """Leave the results, and the group."""
    torch.save(results, f"{folder}/rank{rank}.pt")
    torch.distributed.destroy_process_group()


def spawned(work: Callable[[int, str], None], folder: Path) -> list[dict[str, Any]]:
    """What both ranks left."""
    mp.spawn(work, args=(str(folder),), nprocs=2)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def compare(found: Step, expected: Step) -> None:
    """Equal in float64, relative to the largest entry."""
    for kind, tensors in expected.items():
        assert found[kind].keys() == tensors.keys()
        for key, value in tensors.items():
            scale = max(1.0, float(value.double().abs().max()))  # of flags too
            torch.testing.assert_close(found[kind][key], value, rtol=0, atol=1e-10 * scale, msg=_about(kind, key))


def _about(kind: str, key: str) -> Callable[[str], str]:
    return lambda text: f"{kind} {key}: {text}"
