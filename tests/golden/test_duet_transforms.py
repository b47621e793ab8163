"""Transforms against values of DUET's original code, from recorded inputs and draws."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets.auxiliary import TASKS, Auxiliary, AuxiliaryView
from datasets.base import Batch, Spec
from datasets.config import parse
from datasets.transforms import color, image
from datasets.transforms.load import find
from datasets.views import Views, ViewsConfig

FOLDER = Path(__file__).parent / "duet"
Golden = dict[str, Tensor]


def golden(name: str) -> Golden:
    with np.load(FOLDER / f"{name}_a.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) for key in file.files if file[key].dtype.kind in "fiu"}


def make(code: str, x: Tensor, size: int | None = None, **options: object):
    kind = find(code)
    shape = tuple(x.shape[1:])
    return kind(parse(kind.Config, options, code), shape, shape if size is None else (shape[0], size, size))


def spread(values: Tensor, mask: Tensor, neutral: float = 0.0) -> Tensor:
    """Draws recorded for the applied samples only, as one row for each sample."""
    full = torch.full_like(mask, neutral)
    full[mask > 0] = values.to(full)
    return full


def close(value: Tensor, expected: Tensor, tolerance: float) -> None:
    assert value.shape == expected.shape
    assert (value.double() - expected.double()).abs().max() <= tolerance


def test_rotation() -> None:
    g = golden("aug_rotation")
    rot = make("rot", g["x"])
    close(rot.apply(g["x"], g["degrees"][:, None]), g["y"], 1e-8)
    close(rot.unit(g["degrees"][:, None]), g["param"], 1e-12)


def test_quarter_turns() -> None:
    g = golden("aug_rotation90")
    ron = make("ron", g["x"])
    assert torch.equal(ron.apply(g["x"], g["degrees"][:, None]), g["y"])
    close(ron.unit(g["degrees"][:, None]), g["param"], 0)


def test_quarter_turns_agree_with_rotation() -> None:
    x, degrees = golden("aug_rotation90")["x"], torch.tensor([0.0, 90, 180, 270], dtype=torch.float64)
    close(image.rotate(x, degrees), image.quarter_turns(x, degrees / 90), 1e-12)


def test_resized_crop() -> None:
    g = golden("aug_resized_crop")
    sca = make("sca", g["x"], size=int(g["S"]))
    p = sca.record(g["box"])
    close(p, g["param4"], 1e-6)
    close(sca.apply(g["x"], p), g["y"], 1e-10)
    close(sca.unit(p), g["sca"], 1e-6)


def test_corrected_crop_cuts_the_same_box() -> None:
    g = golden("aug_resized_crop")
    sca = make("sca", g["x"], size=int(g["S"]), mode="corrected")
    p = sca.record(g["box"])
    close(sca.apply(g["x"], p), g["y"], 1e-10)
    area = g["box"][:, 2] * g["box"][:, 3] / (12 * 12)
    close(sca.unit(p)[:, 0], 1 - area.sqrt(), 1e-12)


def test_flips_and_grayscale() -> None:
    g = golden("aug_flip_gray")
    mask = g["mask"][:, None]
    flip, gray = make("fli", g["x"]), make("gra", g["x"], zero_one=True)
    assert torch.equal(flip.apply(g["x"], mask), g["y_hflip"])
    assert torch.equal(make("flv", g["x"]).apply(g["x"], mask), g["y_vflip"])
    close(gray.apply(g["x"], mask), g["y_gray"], 1e-7)
    close(flip.unit(mask), g["param_flip"], 0)
    close(gray.unit(mask), g["param_gray"], 0)


def test_blur() -> None:
    g = golden("aug_blur")
    blu = make("blu", g["x"], zero_one=True)
    p = torch.stack((spread(g["sigma_applied"], g["mask"]), g["mask"]), 1)
    close(blu.apply(g["x"], p), g["y"], 1e-8)
    close(blu.unit(p), g["param"], 0)


def test_color_jitter() -> None:
    g = golden("aug_color_jitter")
    mask, order = g["mask"], tuple(g["order"].tolist())
    values = [spread(g[name], mask, neutral) for name, neutral in zip(NAMES, (1, 1, 1, 0), strict=True)]
    number = torch.full_like(mask, color.ORDERS.index(order))
    p = torch.stack((*values, number, mask), 1)
    jit = make("jit", g["x"])
    close(jit.apply(g["x"], p), g["y"], 1e-7)
    units = torch.cat([part.unit(p[:, jit.columns(part)]) for part in jit.components.values()], 1)
    close(units, torch.cat([g["bri"], g["con"], g["sat"], g["hue_param"]], 1), 1e-7)
    assert torch.equal(g["param20"][0, 4:].view(4, 4).argmax(1), torch.tensor(color.ORDERS[int(number[0])]))


NAMES = ("brightness", "contrast", "saturation", "hue")


@pytest.mark.parametrize("code, name", zip(color.COMPONENTS, NAMES, strict=True))
def test_one_color_component(code: str, name: str) -> None:
    g = golden("aug_color_jitter")
    neutral = 0.0 if code == "hue" else 1.0
    p = torch.stack((spread(g[name], g["mask"], neutral), g["mask"]), 1)
    close(make(code, g["x"]).apply(g["x"], p), g[f"y_only_{name}"], 1e-7)


def test_stack() -> None:
    g = golden("aug_stack")
    x, applied = g["x"], "raw_{}_batch_prob".format
    corners = g["raw_RandomResizedCrop_src"]
    box = torch.cat((corners[:, 0], corners[:, 2] - corners[:, 0] + 1), 1)
    blurred = g[applied("RandomGaussianBlur")]
    draws = {
        "rot": g["raw_RandomRotation_degrees"][:, None],
        "fli": g[applied("RandomHorizontalFlip")][:, None],
        "gra": g[applied("RandomGrayscale")][:, None],
        "blu": torch.stack((spread(g["raw_RandomGaussianBlur_sigma"], blurred), blurred), 1),
    }
    tx = ("sca", *draws)
    options = {"gra": {"zero_one": True}, "blu": {"zero_one": True}}
    cfg = parse(ViewsConfig, {"tx": tx, "size": int(g["S"]), "options": options}, "views")
    views = Views(cfg, Spec(shape=tuple(x.shape[1:])))
    sca = make("sca", x, size=int(g["S"]))  # the recorded run put its 20 x 20 pixels into the crop, without a resize
    draws["sca"] = sca.record(box)
    for code in tx:
        transform = sca if code == "sca" else views.transforms[code]
        x = transform.apply(x, draws[code])
        close(transform.unit(draws[code]), g[f"code_{code}"], 1e-6)
    close(x - 0.5, g["y"], 1e-7)


def test_evaluation_path() -> None:
    g = golden("aug_eval_path")
    x = g["x36"]
    options = {"gra": {"zero_one": True}}
    cfg = parse(
        ViewsConfig,
        {"tx": ["sca", "rot", "fli", "gra"], "size": 32, "center_crop": True, "options": options},
        "views",
    )
    views = Views(cfg, Spec(shape=(3, 36, 36)))
    batch = views.clean(Batch([x], torch.arange(len(x))))
    close(batch.views[0], g["y_eval"], 1e-10)
    close(batch.params["sca"][0], g["param_RandomResizedCrop"], 1e-6)
    close(batch.units["sca"][0], g["scale_param_eval"], 1e-6)
    close(batch.units["rot"][0], g["param_RandomRotation"], 1e-6)
    close(batch.units["fli"][0], g["param_RandomHorizontalFlip"], 1e-6)
    close(batch.units["gra"][0], g["param_RandomGrayscale"], 1e-6)
    close(image.resize(g["x_small"], (8, 8)), g["y_resize"], 1e-10)


@pytest.mark.parametrize("flag, name", [(True, "with_center_crop_flag"), (False, "without_flag")])
def test_host_preprocessing(flag: bool, name: str) -> None:
    g = golden("pre_transform")
    x = g["image"].permute(2, 0, 1)[None].float() / 255
    cfg = ViewsConfig(tx=("rot",), size=32, center_crop=flag, normalize=False)
    views = Views(cfg, Spec(shape=(3, 32, 32)))
    close(views._load(x)[0], g[name], 1 / 255 + 1e-6)


@pytest.mark.parametrize("code", TASKS)
def test_auxiliary_batches_of_essl(code: str) -> None:
    g = golden("essl_transforms")
    shape = tuple(g["x"].shape[1:])
    view = AuxiliaryView(Auxiliary(code, fraction=1.0), (), {}, shape, shape)
    label = g[f"label_{code}"]
    drawn = torch.empty(len(g["x"]), 0)
    if not view.task.versions:  # the draws are known from their labels
        drawn = torch.cat((label / view.task.scale, torch.ones_like(label)), 1)[:, : view.transform.dims]
    if code == "rot":
        close(drawn[:, 0], g["degrees_rot"], 1e-9)
    question = view.ask(g["x"], drawn)
    exact = code in ("ron", "fli", "flv")
    close(question.x, g[f"y_{code}"], 0 if exact else 1e-7)
    close(question.target, label, 1e-7)
