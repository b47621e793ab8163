"""Relative transformations and the image transform of SIE against values of its original code."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from datasets import bench3die, rotations
from datasets._renders import read_image
from datasets.base import Batch, Spec
from datasets.views import Views, ViewsConfig

FOLDER = Path(__file__).parent / "sie"
# its vectors, and the relations that make them side by side
FLAVOURS = {
    "quat": ["rotation"],
    "euler": ["euler"],
    "rotcolor_quat": ["rotation", "colour"],
    "rotcolor_euler": ["euler", "colour"],
    "all_quat": ["rotation", "colour", "light"],
    "all_euler": ["euler", "colour", "light"],
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
    parts = rotations.relations(first, second)
    made = torch.cat([parts[name] for name in FLAVOURS[key]], dim=1)
    expected = g[key]
    if key.startswith("all"):  # it has latents 3 to 6 in their order: floor hue, the light's two angles, its hue
        rest = expected[:, -4:]
        expected = np.concatenate([expected[:, :-4], rest[:, [0, 3]], rest[:, 1:3]], 1)
    assert made.shape == expected.shape
    near(made, expected)
    single = rotations.relations(first[0], second[0])  # without a batch
    near(torch.cat([single[name] for name in FLAVOURS[key]]), expected[0])


@pytest.mark.parametrize("name", bench3die.RELATIONS)
def test_the_relations_of_a_batch_are_those(name: str) -> None:
    """In single precision, as batches have them."""
    g = golden("relative_latents")
    first, second = (torch.from_numpy(g[key]).float() for key in ("latent_1", "latent_2"))
    expected = {
        "rotation": g["quat"],
        "euler": g["euler"],
        "colour": g["rotcolor_quat"][:, 4:],
        "light": g["all_quat"][:, 5:7],
    }
    made = rotations.relations(first, second)
    assert made.keys() == bench3die.RELATIONS.keys() and made[name].shape == (16, bench3die.RELATIONS[name])
    near(made[name], expected[name], 2e-6)


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
