"""The 14 methods of SIE's code as options of four classes, against its values: losses, gradients, terms, three steps.

`loss_*`: identity in place of encoder and projectors. `method_*`: real projectors. `train_steps_*`: the whole.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from test_sie_blocks import close, golden, named
from torch import Tensor, nn

from datasets.base import Batch, Spec
from trainables.augself import AugSelf
from trainables.core.config import TrainConfig
from trainables.core.optim import build_optimizer
from trainables.equimod import EquiMod
from trainables.nets.online import OnlineEvaluator
from trainables.nets.padded_resnet import PaddedResNet
from trainables.sie import SIE
from trainables.simclr import SimCLR
from trainables.vicreg import VICReg

RC = ("SIERotColor", "SimCLRAugSelfRotColor", "SimCLROnlyEquiRotColor", "SimCLREquiModRotColor")
METHODS = ["SIE", "SIENoVar", "SIERotColor", "SIEOnlyEqui", "VICReg", "VICRegPartInv", "VICRegEquiMod", "SimCLR",
           "SimCLRAugSelf", "SimCLRAugSelfRotColor", "SimCLROnlyEqui", "SimCLROnlyEquiRotColor", "SimCLREquiMod",
           "SimCLREquiModRotColor"]  # fmt: skip
MLP = ["SIE", "SIEOnlyEqui", "VICRegEquiMod", "SimCLROnlyEqui", "SimCLREquiMod"]


def built(name: str, c: dict[str, Any], features: int, width: int | None = None) -> Any:
    """One of the original's methods for representations of `features`, from its flags; encoder = identity."""
    sizes = tuple(int(size) for size in c["mlp"].split("-"))
    group = ("rotation", "colour") if name in RC else ("rotation",)
    weights = {"sim": c["sim_coeff"], "std": c["std_coeff"], "cov": c["cov_coeff"]}
    mlp = c["predictor_type"] == "mlp"
    predictor = {"kind": "mlp", "layers": c["tf_num_layers"]} if mlp else {
        "kind": c["predictor_type"], "hypernetwork": c["hypernetwork"], "hidden": c["predictor"],
        "relu": c["predictor_relu"], "bias": c["bias_pred"], "hypernetwork_bias": c["bias_hypernet"],
    }  # fmt: skip
    common: dict[str, Any] = {"encoder": {"name": "small_resnet10", "width": 2}, "tracking": False}
    related = {**common, "group": group}
    kind: Any
    if name.startswith("SIE"):
        equi = None if name == "SIEOnlyEqui" else c["equi"]
        options = {**related, **weights, "projector": sizes, "predictor": predictor, "equi": equi,
                   "equi_factor": c["equi_factor"], "predicted_variance": name != "SIENoVar"}  # fmt: skip
        kind = SIE
    elif name in ("VICReg", "VICRegPartInv"):
        part = {"invariant": sizes[-1] - c["equi"]} if name == "VICRegPartInv" else {}
        kind, options = VICReg, {**related, **weights, **part, "projector": sizes}
    elif "AugSelf" in name:
        kind, options = AugSelf, {**related, "projector": sizes, "ec": c["ec_weight"], "temperature": c["simclr_temp"]}
    elif name == "SimCLR":
        head = {"head_hidden": sizes[0], "head_out": sizes[-1], "head_norm": False, "directions": "mean"}
        kind, options = SimCLR, {**common, **head, "temperature": c["simclr_temp"]}
    else:
        kind = EquiMod
        options = {**related, **weights, "loss": "vicreg" if name.startswith("VICReg") else "infonce",
                   "invariant": "OnlyEqui" not in name, "projector": sizes, "predictor": predictor,
                   "temperature": c["simclr_temp"], "equi_factor": c["equi_factor"]}  # fmt: skip
    spec = Spec(shape=(3, 32, 32), labels={"class": 7}, views=2, relations={"rotation": 4, "colour": 2})
    net = PaddedResNet([1, 1, 1, 1], False, width=width or 2)
    with pytest.MonkeyPatch.context() as patch:
        identity = nn.Identity()
        identity.features = features  # type: ignore[assignment]
        patch.setattr("trainables.nets.two_view.build_encoder", lambda cfg, shape: net if width else identity)
        method = kind(kind.Config(**options), spec).double()
    return method.train()


def batch_of(x: Tensor, y: Tensor, z: Tensor) -> Batch:
    relations = {"rotation": z[:, :4], "colour": z[:, 4:]}
    labels = {"class": torch.zeros(len(x), dtype=torch.int64)}
    return Batch([x, y], torch.arange(len(x)), labels=labels, relations=relations)


def renamed(name: str) -> str:
    """The original's names, where ours are others: its SimCLR and AugSelf."""
    return name.replace("backbone.", "encoder.")


def ours(method: Any, g: dict[str, Any], prefix: str) -> dict[str, Tensor]:
    head = isinstance(method, SimCLR)
    found = {renamed(name): value for name, value in named(g, prefix).items()}
    return {name.replace("projector.", "head.") if head else name: value for name, value in found.items()}


def check(method: Any, g: dict[str, Any], tolerance: float = 1e-9) -> None:
    """Loss, gradients, terms and buffers of one pass in training mode."""
    given = ours(method, g, "param/")
    missing = method.load_state_dict(given, strict=False)
    assert not missing.unexpected_keys and set(missing.missing_keys) <= {"tracker.weight", "tracker.bias"}
    x, y = g["x"].requires_grad_(), g["y"].requires_grad_()
    values = method(batch_of(x, y, g["z"]))
    close(values["loss"], g["loss"], tolerance)
    values["loss"].backward()
    close(x.grad, g["grad_x"], tolerance)
    close(y.grad, g["grad_y"], tolerance)
    for name, value in ours(method, g, "grad_param/").items():
        close(dict(method.named_parameters())[name].grad, value, tolerance)
    for name, value in ours(method, g, "buffer_after/").items():
        close(dict(method.named_buffers())[name], value, tolerance)
    for theirs, mine in TERMS.items():
        stat = named(g, "stat/").get(theirs)
        found = [values[name] for name in mine if name in values]
        assert found or stat is None or not stat.any(), theirs
        if stat is not None and found:
            close(sum(found), stat, tolerance)
    assert isinstance(method, SimCLR) or f"{next(iter(STATISTICS.values()))}_1" in values
    for view in (1, 2):
        for theirs, mine in (
            ("coremb", "corr_repr"),
            ("corhead", "corr_emb"),
            ("stdemb", "std_repr"),
            ("stdhead", "std_emb"),
        ):
            if f"{mine}_{view}" in values:
                close(values[f"{mine}_{view}"], g[f"stat/{theirs}_view{view}"], tolerance)
    if "stat/coremb_pred" in g:
        close(values["corr_pred"], g["stat/coremb_pred"], tolerance)
        close(values["std_pred"], g["stat/stdemb_pred"], tolerance)


STATISTICS = {"coremb": "corr_repr", "corhead": "corr_emb", "stdemb": "std_repr", "stdhead": "std_emb"}
TERMS = {
    "repr_loss_inv": ("invariance", "invariant_distance", "invariant_nce", "nce"),
    "repr_loss_equi": ("equivariance", "equivariant_distance", "equivariant_nce", "told"),
    "std_loss": ("variance", "invariant_variance", "equivariant_variance"),
    "pred_std_loss": ("predicted_variance",),
    "cov_loss": ("covariance", "invariant_covariance", "equivariant_covariance"),
}


@pytest.mark.parametrize("name", METHODS)
def test_loss_on_embeddings(name: str) -> None:
    g = golden(f"loss_{name}")
    method = built(name, json.loads(str(g["config"])), g["x"].shape[1])
    for part in ("projector", "projector_inv", "projector_equi", "head"):
        if getattr(method, part, None) is not None:
            setattr(method, part, nn.Identity())
    check(method, g)


@pytest.mark.parametrize("name", [*METHODS, *(f"{name}_mlppred" for name in MLP)])
def test_method_behind_its_projectors(name: str) -> None:
    g = golden(f"method_{name}")
    check(built(name.removesuffix("_mlppred"), json.loads(str(g["config"])), g["x"].shape[1]), g)


@pytest.mark.parametrize("name", ["SIE", "SimCLREquiMod"])
def test_three_steps(name: str) -> None:
    g = golden(f"train_steps_{name}")
    method = built(name, json.loads(str(g["config"])), 16, width=2)
    method.load_state_dict(ours(method, g, "param/"))
    train = TrainConfig(optimizer="adam", lr=float(g["lr"]), betas=(0.9, 0.999), weight_decay=float(g["wd"]))
    optimizer = build_optimizer(method, train)
    for step in range(3):
        loss = method(batch_of(g["x"][step].double(), g["y"][step].double(), g["z"][step]))["loss"]
        close(loss, g["loss"][step], 1e-8)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for key, value in ours(method, g, "param_after/").items():
        close(method.state_dict()[key], value, 1e-7)


@pytest.mark.parametrize("name", ["split", "equimod", "no_inv", "no_equi"])
def test_online_evaluator(name: str) -> None:
    g = golden(f"online_evaluator_{name}")
    inv, equi, inv_emb, equi_emb = g["sizes"].tolist()
    repr_, emb = g["repr_1"].shape[1], g["emb_1"].shape[1]
    both = {"repr": repr_, "emb": emb}
    invariant = {name: d for name, d in {**both, "inv_repr": inv, "inv_emb": inv_emb}.items() if d}
    equivariant = {name: d for name, d in {**both, "equi_repr": equi, "equi_emb": equi_emb}.items() if d}
    evaluator = OnlineEvaluator(invariant, equivariant, int(g["num_classes"]), 4, None).double()

    def mine(key: str) -> str:
        kind, rest = key.split("_", 2)[0], key.replace("predictor_angles_", "").replace("classifier_", "")
        return f"{'classifiers' if kind == 'classifier' else 'regressors'}.{rest}"

    evaluator.load_state_dict({mine(key): value for key, value in named(g, "param/").items()})
    views = [
        {"repr": g[f"repr_{v}"], "emb": g[f"emb_{v}"], "inv_repr": g[f"repr_{v}"][:, :inv],
         "equi_repr": g[f"repr_{v}"][:, repr_ - equi :], "inv_emb": g[f"emb_{v}"][:, :inv_emb],
         "equi_emb": g[f"emb_{v}"][:, emb - equi_emb :]}
        for v in (1, 2)
    ]  # fmt: skip
    found = evaluator(views[0], views[1], g["labels"], g["angles"])
    close(found["online_loss"], g["loss"])
    found["online_loss"].backward()
    for key, value in named(g, "grad_param/").items():
        close(dict(evaluator.named_parameters())[mine(key)].grad, value)
    parts = {"representations": "repr", "representations-inv": "inv_repr", "representations-equi": "equi_repr",
             "embeddings": "emb", "embeddings-inv": "inv_emb", "embeddings-equi": "equi_emb"}  # fmt: skip
    kinds = {"CE": "ce", "Top-1": "top1", "Top-5": "top5", "MSE": "mse", "R2": "r2"}
    for key, value in named(g, "stat/").items():
        kind, part = key.split(" ")
        measured = found[f"online_{kinds[kind]}_{parts[part]}"]
        close(measured / 100 if kind.startswith("Top") else measured, value, 1e-6 if kind.startswith("Top") else 1e-9)


def work(rank: int, root: str, name: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{root}/{name}", rank=rank, world_size=2)
    g = golden(f"distributed_{name}")
    c = json.loads(str(g["config"]))
    method = built(name, c, g["param/backbone.weight"].shape[0])
    method.encoder = nn.Linear(g["x"].shape[1], g["param/backbone.weight"].shape[0], bias=False).double()
    for part in ("projector", "projector_inv", "projector_equi", "head"):
        if getattr(method, part, None) is not None:
            setattr(method, part, nn.Identity())
    method.load_state_dict(ours(method, g, "param/"), strict=False)
    rows = slice(4 * rank, 4 * rank + 4)
    values = method(batch_of(g["x"][rows], g["y"][rows], g["z"][rows]))
    values["loss"].backward()
    grads = {key: p.grad for key, p in method.named_parameters() if p.grad is not None}
    torch.save((values["loss"].detach(), grads), f"{root}/{name}{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("name", ["SIE", "SimCLR", "SimCLREquiMod", "VICReg", "VICRegEquiMod"])
def test_two_processes_have_the_gradient_of_one(name: str, tmp_path: Path) -> None:
    g = golden(f"distributed_{name}")
    mp.spawn(work, args=(str(tmp_path), name), nprocs=2)
    both = [torch.load(tmp_path / f"{name}{rank}.pt", weights_only=True) for rank in range(2)]
    close(both[0][0], g["loss_single"])
    close(both[1][0], g["loss_single"])
    for key, value in named(g, "grad_param_averaged/").items():
        mine = renamed(key)
        close((both[0][1][mine] + both[1][1][mine]) / 2, value)
