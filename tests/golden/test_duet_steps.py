"""Whole steps, blocks and the encoder of DUET against values of its original code."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datasets.base import Batch, Question, Spec
from trainables.duet import DUET
from trainables.essl import ESSL
from trainables.nets.cifar_resnet import BasicBlock, CifarResNet
from trainables.simclr import SimCLR

MODES = ["train", "eval"]


def golden(name: str) -> dict[str, Any]:
    with np.load(Path(__file__).parent / "duet" / f"{name}_a.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) if file[key].dtype.kind in "fi" else file[key] for key in file.files}


def close(actual: Tensor | None, expected: Tensor, tolerance: float) -> None:
    """Equal within a tolerance that is absolute for values of order 1 and else relative to the largest."""
    assert actual is not None
    scale = max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(actual.detach().reshape(expected.shape), expected, rtol=0, atol=tolerance * scale)


def weights(g: dict[str, Any], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in g.items() if key.startswith(prefix)}


def build(method: Any, mode: str, features: int, classes: int, **options: Any) -> Any:
    """A float64 method whose encoder hands its input through, so that views are encoder outputs."""
    encoder = {"name": "narrow_cifar10_resnet8", "width": features // 4}
    labels = {"class": classes} if classes else {}
    spec = Spec(shape=(1, 8, 8), labels=labels, params={"rot": 1}, views=2)
    built = method(method.Config(encoder=encoder, **options), spec).double()
    built.encoder = nn.Identity()
    return built.train(mode == "train")


def batch_of(g: dict[str, Any]) -> Batch:
    r1, r2 = g["r1"].requires_grad_(), g["r2"].requires_grad_()
    units = {"rot": torch.stack([g["params1"], g["params2"]])} if "params1" in g else {}
    return Batch(views=[r1, r2], index=torch.arange(len(r1)), units=units, labels={"class": g["labels"]})


def load_heads(method: Any, g: dict[str, Any]) -> None:
    method.head.load_state_dict(weights(g, "w_head."))
    method.tracker.load_state_dict(weights(g, "w_classifier."))


@pytest.mark.parametrize("mode", MODES)
def test_duet_step(mode: str) -> None:
    g = golden("duet_step")
    options = {"bins": int(g["G"]), "lambda": float(g["lambd"]), "sigma": float(g["sigma"]), "target": str(g["target"])}
    duet = build(DUET, mode, 24, 3, head_hidden=10, head_out=5, **options)
    load_heads(duet, g)
    batch = batch_of(g)
    out = duet(batch)
    out["loss"].backward()
    close(out["loss"], g[f"total_{mode}"], 1e-9)
    close(out["nce"], g[f"nce_{mode}"], 1e-9)
    close(out["group_loss"], g[f"group_raw_{mode}"], 1e-9)
    close(out["nce"] + out["group_weighted"], g[f"ssl_loss_{mode}"], 1e-9)
    close(out["tracking_ce"], g[f"tracking_ce_{mode}"], 1e-9)
    close(batch.views[0].grad, g[f"grad_r1_{mode}"], 1e-9)
    close(batch.views[1].grad, g[f"grad_r2_{mode}"], 1e-9)
    close(duet.tracker.weight.grad, g[f"grad_classifier_weight_{mode}"], 1e-9)
    close(duet.head[0].weight.grad, g[f"grad_head_first_weight_{mode}"], 1e-9)
    if mode == "train":
        close(duet.head[1].running_mean, g["after_bn1_running_mean"], 1e-9)
        close(duet.head[1].running_var, g["after_bn1_running_var"], 1e-9)
        assert duet.head[1].num_batches_tracked == g["after_bn1_batches"]
    else:
        assert duet.head[1].num_batches_tracked == g["w_head.1.num_batches_tracked"]


@pytest.mark.parametrize("mode", MODES)
def test_simclr_step(mode: str) -> None:
    g = golden("simclr_step")
    simclr = build(SimCLR, mode, 24, 3, head_hidden=10, head_out=5)
    load_heads(simclr, g)
    batch = batch_of(g)
    out = simclr(batch)
    out["loss"].backward()
    close(out["loss"], g[f"total_{mode}"], 1e-9)
    close(out["nce"], g[f"nce_{mode}"], 1e-9)
    close(out["tracking_ce"], g[f"tracking_ce_{mode}"], 1e-9)
    close(batch.views[0].grad, g[f"grad_r1_{mode}"], 1e-9)
    close(batch.views[1].grad, g[f"grad_r2_{mode}"], 1e-9)


def test_essl_step() -> None:
    g = golden("essl_step")
    options = {"head_hidden": 10, "head_out": 5, "predictor_hidden": 10}
    essl = build(ESSL, "train", 24, 3, **options)
    load_heads(essl, g)
    essl.predictor.load_state_dict(weights(g, "w_predictor."))
    batch, aux = batch_of(g), g["r_aux"].requires_grad_()
    batch.question = Question(aux, g["aux_labels"])
    out = essl(batch)
    out["loss"].backward()
    close(out["loss"], g["total"], 1e-9)
    close(out["nce"], g["nce"], 1e-9)
    close(out["essl_loss"], g["aux_loss"], 1e-9)
    close(out["nce"] + out["essl_weighted"], g["ssl_loss"], 1e-9)
    close(out["tracking_ce"], g["tracking_ce"], 1e-9)
    close(batch.views[0].grad, g["grad_r1"], 1e-9)
    close(batch.views[1].grad, g["grad_r2"], 1e-9)
    close(aux.grad, g["grad_r_aux"], 1e-9)


@pytest.mark.parametrize("kind", ["cls", "reg"])
def test_essl_loss(kind: str) -> None:
    """The objective from given embeddings and predictions, and its gradients to both."""
    g = golden("essl_loss")
    options = {"lambda": float(g["lambd"]), "temperature": float(g["temperature"])}
    essl = build(ESSL, "train", 24, 0, equi_tx="ron" if kind == "cls" else "rot", **options)
    e1, e2 = g["e1"].requires_grad_(), g["e2"].requires_grad_()
    u = g["logits" if kind == "cls" else "reg_pred"].requires_grad_()
    nce, _ = essl.contrast(e1, e2)
    told = essl.answer(u, g["labels" if kind == "cls" else "reg_target"])
    loss = nce + told["essl_weighted"]
    loss.backward()
    close(loss, g[f"{kind}_loss"], 1e-10)
    close(told["essl_loss"], g[f"{kind}_aux"], 1e-10)
    close(nce, g["cls_nce"], 1e-10)
    close(e1.grad, g["grad_e1"], 1e-10)
    close(e2.grad, g["grad_e2"], 1e-10)
    close(u.grad, g["cls_grad_logits" if kind == "cls" else "reg_grad_pred"], 1e-10)
    if kind == "cls":
        close(told["essl_top1"], g["cls_top1"].double(), 1e-4)
        close(told["essl_top5"], g["cls_top5"].double(), 1e-4)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("target", ["ga", "vm"])
def test_duet_loss(target: str, mode: str) -> None:
    """The objective from given embeddings and representations, and its gradients to both."""
    g = golden(f"duet_loss_{target}")
    spread = {"sigma" if target == "ga" else "kappa": float(g["sigma"])}
    options = {"lambda": float(g["lambd"]), "temperature": float(g["temperature"]), "target": target}
    duet = build(DUET, mode, 32, 0, bins=8, **options, **spread)
    embeddings = [g["e1"].requires_grad_(), g["e2"].requires_grad_()]
    units = {"rot": torch.stack([g["params1"], g["params2"]])}
    joints = [g["joint1"].requires_grad_(), g["joint2"].requires_grad_()]
    z1, z2 = (joint.flatten(1) for joint in joints)
    nce, _ = duet.contrast(*embeddings)
    group = duet.group_loss(z1, z2, Batch(views=[z1, z2], index=torch.arange(len(z1)), units=units))
    loss = nce + group["group_weighted"]
    loss.backward()
    close(loss, g[f"loss_{mode}"], 1e-9)
    close(nce, g[f"nce_{mode}"], 1e-9)
    close(group["group_loss"], g[f"group_raw_{mode}"], 1e-9)
    close(group["group_weighted"], g[f"group_weighted_{mode}"], 1e-9)
    for number, (e, joint) in enumerate(zip(embeddings, joints, strict=True), start=1):
        close(e.grad, g[f"grad_e{number}_{mode}"], 1e-9)
        grad = torch.zeros_like(joint) if joint.grad is None else joint.grad  # view 1 has none in evaluation
        close(grad, g[f"grad_j{number}_{mode}"], 1e-9)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("shortcut", "c_out"), [("a", 8), ("b", 6)])
def test_basic_block(shortcut: str, c_out: int, mode: str) -> None:
    g = golden(f"basic_block_{shortcut}")
    block = BasicBlock(4, c_out, 2, "A" if shortcut == "a" else "B").double().train(mode == "train")
    block.load_state_dict(weights(g, "w_block."))
    x = g["x"].requires_grad_()
    y = block(x)
    (y * g["c"]).sum().backward()
    close(y, g[f"y_{mode}"], 1e-9)
    close(x.grad, g[f"grad_x_{mode}"], 1e-9)


def formula(k: int, shape: tuple[int, ...]) -> Tensor:
    """The stated weights of parameter k."""
    fraction = (7919 * torch.arange(math.prod(shape)) + 104729 * k) % 10007 / torch.tensor(10007, dtype=torch.float64)
    return fraction.view(shape)


def fill(encoder: nn.Module, names: list[str]) -> None:
    for k, (name, parameter) in enumerate(zip(names, encoder.parameters(), strict=True)):
        fraction = formula(k, parameter.shape)
        if parameter.ndim == 4:
            value = (24 / parameter[0].numel()) ** 0.5 * (fraction - 0.5)
        else:
            value = 0.1 * (2 * fraction - 1) + (1 if name.endswith("weight") else 0)
        parameter.data.copy_(value)


def test_encoder() -> None:
    g = golden("encoder")
    encoder: Any = CifarResNet(20).double()
    shapes = [str(tuple(parameter.shape)) for parameter in encoder.parameters()]
    assert shapes == list(g["param_shapes"])
    fill(encoder, list(g["param_names"]))
    with torch.no_grad():
        close(encoder.eval()(g["x"]), g["y_eval"], 1e-7)
    x = g["x"].requires_grad_()
    y = encoder.train()(x)
    (y * g["c"]).sum().backward()
    close(y, g["y_train"], 1e-7)
    close(x.grad, g["grad_x"], 1e-7)
    close(encoder.final_bn.running_mean, g["final_running_mean"], 1e-7)
    close(encoder.final_bn.running_var, g["final_running_var"], 1e-7)
