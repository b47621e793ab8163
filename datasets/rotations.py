"""Rotations of rendered objects, and what relates two views of one object; batched, in the dtype they are given.

Latents are rows of at least seven numbers: rotation about X, Y, Z (radians), floor hue (turns), polar and azimuth angle
of the light (radians), hue of the light (turns). A rotation is extrinsic X, then Y, then Z, and active: v' = R v with
R = Rz Ry Rx. Quaternions are (x, y, z, w). Source: Garrido et al., "Self-Supervised Learning of Split Invariant
Equivariant Representations", ICML 2023, arXiv 2302.10283.
"""

from __future__ import annotations

import torch
from torch import Tensor

ANGLES, FLOOR_HUE, LIGHT_ANGLES, LIGHT_HUE = slice(0, 3), 3, slice(4, 6), 6  # columns of latents
COLOURS = [FLOOR_HUE, LIGHT_HUE]


def quaternion(angles: Tensor) -> Tensor:
    """Unit quaternions (..., 4) of angles about X, Y, Z (..., 3); w > 0 for angles within (-pi/2, pi/2)."""
    (ca, cb, cc), (sa, sb, sc) = (half.unbind(-1) for half in ((angles / 2).cos(), (angles / 2).sin()))
    return torch.stack(
        [
            sa * cb * cc - ca * sb * sc,
            ca * sb * cc + sa * cb * sc,
            ca * cb * sc - sa * sb * cc,
            ca * cb * cc + sa * sb * sc,
        ],
        -1,
    )


def conjugate(q: Tensor) -> Tensor:
    """The inverse (..., 4) of unit quaternions (..., 4)."""
    return torch.cat([-q[..., :3], q[..., 3:]], -1)


def product(p: Tensor, q: Tensor) -> Tensor:
    """Hamilton product (..., 4) of quaternions: the rotation q, then the rotation p."""
    v, u, a, b = p[..., :3], q[..., :3], p[..., 3:], q[..., 3:]
    return torch.cat([a * u + b * v + torch.linalg.cross(v, u), a * b - (v * u).sum(-1, keepdim=True)], -1)


def matrix(angles: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of angles about X, Y, Z (..., 3)."""
    (ca, cb, cc), (sa, sb, sc) = (part.unbind(-1) for part in (angles.cos(), angles.sin()))
    rows = [
        [cc * cb, cc * sb * sa - sc * ca, cc * sb * ca + sc * sa],
        [sc * cb, sc * sb * sa + cc * ca, sc * sb * ca - cc * sa],
        [-sb, cb * sa, cb * ca],
    ]
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def euler(rotation: Tensor) -> Tensor:
    """Angles about X, Y, Z (..., 3) of rotation matrices (..., 3, 3); that about Y lies in [-pi/2, pi/2]."""
    about_y = -rotation[..., 2, 0].clamp(-1, 1).asin()
    about_x = torch.atan2(rotation[..., 2, 1], rotation[..., 2, 2])
    return torch.stack([about_x, about_y, torch.atan2(rotation[..., 1, 0], rotation[..., 0, 0])], -1)


def relative_quaternion(first: Tensor, second: Tensor) -> Tensor:
    """conj(q1) q2 (..., 4) of two rows of latents (..., 3 or more): R2 = R1 Delta, Delta in the object's own frame.

    Its sign is as it comes, so w may be negative (4.4 % of random pairs): a linear predictor is odd in it, and with the
    sign left alone the result is continuous in the angles.
    """
    return product(conjugate(quaternion(first[..., ANGLES])), quaternion(second[..., ANGLES]))


def relative_euler(first: Tensor, second: Tensor) -> Tensor:
    """The same relative rotation as angles about X, Y, Z (..., 3)."""
    return euler(matrix(first[..., ANGLES]).mT @ matrix(second[..., ANGLES]))


def relations(first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """What leads from view 1 to view 2, of latents (..., 7 or more); differences are not wrapped.

    "rotation" (..., 4: quaternion), "euler" (..., 3: the same rotation as angles), "colour" (..., 2: floor, light),
    "light" (..., 2: polar, azimuth).
    """
    return {
        "rotation": relative_quaternion(first, second),
        "euler": relative_euler(first, second),
        "colour": second[..., COLOURS] - first[..., COLOURS],
        "light": second[..., LIGHT_ANGLES] - first[..., LIGHT_ANGLES],
    }
