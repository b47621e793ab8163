"""Relative transformations and the image transform of SIE against values of its original code."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from datasets import rotations
from datasets._renders import read_image
from datasets.base import Batch, Spec
from datasets.views import Views, ViewsConfig

FOLDER = Path(__file__).parent / "sie"
FLAVOURS: dict[str, tuple[rotations.Flavour, rotations.Form]] = {
    "quat": ("rotation", "quaternion"),
    "euler": ("rotation", "euler"),
    "rotcolor_quat": ("rotation_colour", "quaternion"),
    "rotcolor_euler": ("rotation_colour", "euler"),
    "all_quat": ("all", "quaternion"),
    "all_euler": ("all", "euler"),
}


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def near(actual: Tensor, expected: np.ndarray | list[float], tolerance: float = 1e-6) -> None:
    torch.testing.assert_close(actual.double(), torch.as_tensor(expected).double(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("key", FLAVOURS)
def test_relative_vectors(key: str) -> None:
    g = golden("relative_latents")
    first, second = torch.from_numpy(g["latent_1"]), torch.from_numpy(g["latent_2"])
    flavour, form = FLAVOURS[key]
    made = rotations.relative(first, second, flavour, form)
    assert made.shape == g[key].shape
    near(made, g[key])
    assert rotations.relative(first[0], second[0], flavour, form).shape == g[key].shape[1:]  # without a batch


def test_relations_are_the_parts_of_the_whole_vector() -> None:
    g = golden("relative_latents")
    first, second = (torch.from_numpy(g[key]).float() for key in ("latent_1", "latent_2"))
    parts = rotations.relations(first, second)
    near(parts["rotation"], g["quat"])
    near(parts["colour"], g["rotcolor_quat"][:, 4:])
    near(parts["light"], g["all_quat"][:, 5:7])


def test_the_published_check_values() -> None:
    first, second = torch.tensor([0.3, -0.7, 1.1]), torch.tensor([-0.5, 0.2, 0.9])
    near(rotations.quaternion(first), [0.296892, -0.215672, 0.529170, 0.765062])
    near(rotations.quaternion(second), [-0.263735, -0.019974, 0.441578, 0.857352])
    near(rotations.relative_quaternion(first, second), [-0.371648, 0.440287, -0.053039, 0.815605])
    first, second = torch.tensor([1.5, -1.4, 1.5]), torch.tensor([-1.5, -1.4, -1.5])
    near(rotations.relative_quaternion(first, second), [-0.140093, 0, -0.169541, -0.975515])


def test_statistics_over_random_pairs() -> None:
    rng = torch.Generator().manual_seed(0)
    first, second = ((torch.rand(2, 200_000, 3, generator=rng, dtype=torch.float64) - 0.5) * math.pi).unbind()
    q = rotations.relative_quaternion(first, second)
    assert abs(float((q[:, 3] < 0).double().mean()) - 0.044) < 0.002
    near(q.mean(0), [0, 0, 0, 0.533], 4e-3)
    near(q.std(0), [0.457, 0.457, 0.457, 0.299], 3e-3)


def test_quaternions_and_matrices_are_the_same_rotations() -> None:
    rng = torch.Generator().manual_seed(1)
    first, second = ((torch.rand(2, 500, 3, generator=rng, dtype=torch.float64) - 0.5) * math.pi).unbind()
    v = torch.randn(500, 3, generator=rng, dtype=torch.float64)

    def turned(q: Tensor, v: Tensor) -> Tensor:
        return rotations.product(rotations.product(q, torch.cat([v, 0 * v[:, :1]], 1)), rotations.conjugate(q))[:, :3]

    rotation = rotations.matrix(first)
    near(turned(rotations.quaternion(first), v), (rotation @ v[..., None])[..., 0].numpy(), 1e-12)
    near(rotations.euler(rotation), first.numpy(), 1e-9)
    x, y, z = (rotations.matrix(torch.eye(3, dtype=torch.float64)[axis] * first[:, axis, None]) for axis in range(3))
    near(z @ y @ x, rotation.numpy(), 1e-12)  # extrinsic X, then Y, then Z
    # the object's own frame: view 2 is view 1 after Delta
    delta = rotations.relative_quaternion(first, second)
    near(
        turned(rotations.quaternion(first), turned(delta, v)),
        (rotations.matrix(second) @ v[..., None])[..., 0].numpy(),
        1e-9,
    )
    near(
        rotations.matrix(rotations.relative_euler(first, second)),
        (rotation.mT @ rotations.matrix(second)).numpy(),
        1e-9,
    )


def test_the_image_transform(tmp_path: Path) -> None:
    g = golden("image_transform")
    Image.fromarray(g["image_uint8"]).save(tmp_path / "image.png")
    x = torch.tensor(read_image(tmp_path / "image.png", int(g["resolution"])))[None].float() / 255
    views = Views(ViewsConfig(normalize="3diebench"), Spec(shape=tuple(x.shape[1:])))
    seen = views.clean(Batch([x], torch.zeros(1, dtype=torch.int64))).views[0]
    near(seen[0], g["out"], 1e-5)
    near(views.pixels(seen), x.numpy(), 1e-6)
