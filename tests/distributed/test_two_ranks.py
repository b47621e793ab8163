"""Two gloo ranks compute the loss, gradients and statistics of one process on the joint batch, in uneven shares too."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from joint import begin, compare, end, spawned, steps, train_step
from torch import Tensor, nn

from datasets.auxiliary import Auxiliary, AuxiliaryView
from datasets.base import Batch, Spec
from trainables.augself import AugSelf
from trainables.core import dist
from trainables.core.dist import convert_batchnorm
from trainables.duet import DUET
from trainables.equimod import EquiMod
from trainables.essl import ESSL
from trainables.sie import SIE
from trainables.simclr import SimCLR
from trainables.vicreg import VICReg

SPLITS = {"even": (4, 4), "uneven": (5, 2), "one": (6, 1), "none": (3, 0)}  # rows of rank 0 and 1
ENCODER: dict[str, Any] = {"encoder": {"name": "narrow_cifar10_resnet8", "width": 4, "stem": 4, "shortcut": "B"}}
SMALL: dict[str, Any] = {**ENCODER, "head_hidden": 12, "head_out": 6}
RELATED: dict[str, Any] = {**ENCODER, "projector": (12, 8), "group": ("rotation",), "tracking_hidden": 7}
METHODS: dict[str, tuple[Any, dict[str, Any]]] = {
    "simclr": (SimCLR, SMALL),
    "simclr-joint": (SimCLR, {**SMALL, "joint_forward": True}),
    "duet-ga": (DUET, {**SMALL, "bins": 4, "equi_tx": ("sca",), "lambda": 100}),
    "essl-ron": (ESSL, {**SMALL, "predictor_hidden": 10}),
    "essl-rot": (ESSL, {**SMALL, "predictor_hidden": 10, "equi_tx": "rot", "lambda": 3}),
    "duet-vm": (DUET, {**SMALL, "bins": 4, "equi_tx": ("rot", "sca"), "target": "vm", "lambda": 100, "pooler": "L2"}),
    "sie": (SIE, {**RELATED, "equi": 6}),
    "vicreg-part": (VICReg, {**RELATED, "invariant": 5}),
    "equimod": (EquiMod, RELATED),
    "equimod-vicreg": (EquiMod, {**RELATED, "loss": "vicreg", "predictor": {"kind": "mlp", "layers": 2}}),
    "augself": (AugSelf, RELATED),
}
CASES = [(method, split) for method in METHODS for split in SPLITS]


def build(name: str) -> nn.Module:
    method, options = METHODS[name]
    torch.manual_seed(3)
    spec = Spec(shape=(1, 8, 8), labels={"class": 6}, params={"rot": 1, "sca": 4}, views=2, relations={"rotation": 4})
    built: nn.Module = method(method.Config(**options), spec).double()
    return built


def share(name: str, split: str, rows: slice) -> Batch:
    """These rows of the joint batch."""
    n, rng = sum(SPLITS[split]), torch.Generator().manual_seed(11)
    views = [torch.randn(n, 1, 8, 8, generator=rng, dtype=torch.float64)[rows] for _ in range(2)]
    units = {code: torch.rand(2, n, 1, generator=rng, dtype=torch.float64)[:, rows] for code in ("rot", "sca")}
    labels = {"class": torch.randint(6, (n,), generator=rng)[rows]}
    relations = {"rotation": torch.randn(n, 4, generator=rng, dtype=torch.float64)[rows]}
    batch = Batch(views=views, index=torch.arange(n)[rows], units=units, labels=labels, relations=relations)
    if name.startswith("essl"):
        asking = AuxiliaryView(Auxiliary(name.removeprefix("essl-")), (), {}, (1, 4, 4), (1, 4, 4))
        small = torch.rand(n, 1, 4, 4, generator=rng, dtype=torch.float64)
        batch.question = asking.ask(small[rows], asking.draw(rng, n)[rows].double())
    return batch


def plain_norm() -> nn.BatchNorm2d:
    """Without affine parameters, and with the average over all batches as running statistics."""
    return nn.BatchNorm2d(3, momentum=None, affine=False)


def images() -> Tensor:
    return 100 + torch.randn(5, 3, 4, 4, generator=torch.Generator().manual_seed(5))


def normalise(norm: Any, x: Tensor) -> dict[str, Tensor]:
    """Two batches in float32, the last of them in bfloat16 too."""
    norm(2 * x)
    y = norm(x)
    half = norm(x.bfloat16())
    return {"y": y, "half": half, **{name: value.clone() for name, value in norm.named_buffers()}}


def work(rank: int, folder: str) -> None:
    begin(rank, folder)
    results: dict[str, Any] = {**steps(rank, CASES, SPLITS, build, share)}
    x = torch.arange(3 - 2 * rank, dtype=torch.float64)[:, None] + 10 * rank
    x.requires_grad_()
    gathered = dist.gather(x)
    (gathered * (rank + 1) * torch.arange(1.0, 5)[:, None]).sum().backward()
    results["gather"] = {"x": {"rows": gathered.detach(), "grad": x.grad, "weight": torch.tensor(dist.weight(len(x)))}}
    mine = slice(0, 3) if rank == 0 else slice(3, 5)
    results["norm"] = normalise(convert_batchnorm(plain_norm()), images()[mine])
    end(results, rank, folder)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return spawned(work, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize(("name", "split"), CASES)
def test_two_ranks_are_one_process(ranks: list[dict[str, Any]], name: str, split: str) -> None:
    method = build(name)
    expected = train_step(method, method, share(name, split, slice(None)))
    for rank in ranks:
        compare(rank[f"{name}/{split}"], expected)


def test_gather_of_uneven_rows_and_its_gradient(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert rank["gather"]["x"]["rows"].flatten().tolist() == [0, 1, 2, 10]
    # each rank's rows collect the gradient of both ranks' losses, which weigh row i by (rank + 1) (i + 1)
    assert ranks[0]["gather"]["x"]["grad"].flatten().tolist() == [3, 6, 9]
    assert ranks[1]["gather"]["x"]["grad"].flatten().tolist() == [12]
    assert [float(rank["gather"]["x"]["weight"]) for rank in ranks] == [1.5, 0.5]


def test_batch_normalisation_in_low_precision(ranks: list[dict[str, Any]]) -> None:
    """Far from zero, where the difference of two squares would lose every digit of a float32 variance."""
    expected = normalise(plain_norm(), images())
    y = torch.cat([rank["norm"]["y"] for rank in ranks])
    half = torch.cat([rank["norm"]["half"] for rank in ranks])
    torch.testing.assert_close(y, expected["y"], rtol=0, atol=1e-4)
    assert half.dtype == torch.bfloat16
    torch.testing.assert_close(half, expected["half"], rtol=0, atol=0.05)
    for rank in ranks:
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            torch.testing.assert_close(rank["norm"][name], expected[name], rtol=1e-4, atol=1e-5)
