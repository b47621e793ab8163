"""One picture of one object, in NumPy: the scene of 3DIEBench, drawn with a depth buffer and flat shading.

World frame right-handed, Z up. A floor at z = -1 of HSV (floor hue, 0.6, 0.6); a soft white sun from above; a spot of
HSV (light hue, 1, 0.8) at distance 4 in direction (theta, phi), aimed at the origin, whose cone of 22.5 degrees draws a
coloured disc with the object's shadow on the floor; a camera at (0, 1.768, 1.768) that looks at the origin with a field
of view of 39.6 degrees. The object sits at the origin with its bounding box's centre and is turned about it.

Source: Garrido et al., ICML 2023, arXiv 2302.10283 (there path-traced). Here the diagonal of a bounding box is 1.5
instead of the mesh's own size (1 in ShapeNet), so that it fills the picture; there is no light between surfaces.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

FLOOR = -1.0
CAMERA = (2.5, np.pi / 4, np.pi / 2)  # distance, polar angle, azimuth
FIELD = 2 * np.arctan(18 / 50)  # of view: 50 mm before a sensor of 36 mm
SPOT_DISTANCE, CONE, BLEND = 4.0, np.pi / 8, 0.15  # the cone's full angle, and the share of it that fades out
AMBIENT, SUN, SPOT = 0.16, 0.4, 1.3  # irradiance of a surface that faces the light, of the spot at distance 4
DIAGONAL = 1.5
SAMPLES = 2  # a pixel is the mean of SAMPLES x SAMPLES


@dataclass(frozen=True)
class Mesh:
    """Triangles (t, 3, 3) float32, Z up, and their colours (t, 3) float32, linear RGB."""

    triangles: np.ndarray
    colours: np.ndarray


def placed(triangles: np.ndarray, colours: np.ndarray) -> Mesh:
    """A mesh brought to its place: centred at the origin by its bounding box, of diagonal 1.5."""
    low, high = triangles.reshape(-1, 3).min(0), triangles.reshape(-1, 3).max(0)
    scale = DIAGONAL / max(float(np.linalg.norm(high - low)), 1e-9)
    return Mesh(((triangles - (low + high) / 2) * scale).astype(np.float32), colours.astype(np.float32))


def render(mesh: Mesh, latents: np.ndarray, size: int) -> np.ndarray:
    """The picture (size, size, 3) uint8, RGB, of a mesh under seven latents (see `datasets.rotations`)."""
    side = size * SAMPLES
    triangles = mesh.triangles @ _rotation(latents[:3]).T
    light = spherical(SPOT_DISTANCE, latents[4], latents[5])
    tint = SPOT * hsv(latents[6], 1.0, 0.8)
    picture = _floor(triangles, light, tint, hsv(latents[3], 0.6, 0.6), side)
    pixels, depth, owner = _fill(_project(triangles, _camera(), FIELD, side), side)
    nearest = np.zeros(side * side, np.float32)
    np.maximum.at(nearest, pixels, depth)
    seen = depth >= nearest[pixels]
    picture[pixels[seen]] = _shade(triangles, mesh.colours, light, tint)[owner[seen]]
    linear = np.einsum("ijklm->ikm", picture.reshape(size, SAMPLES, size, SAMPLES, 3)) / SAMPLES**2
    return (255 * _encoded(linear) + 0.5).astype(np.uint8)


def _shade(triangles: np.ndarray, colours: np.ndarray, light: np.ndarray, tint: np.ndarray) -> np.ndarray:
    """Linear colour (t, 3) of each triangle, its normal turned towards the camera."""
    middle = triangles.mean(1)
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    away = ((_camera()[0] - middle) * normal).sum(1) < 0
    normal[away] *= -1
    irradiance = AMBIENT + SUN * np.maximum(normal[:, 2:], 0)
    return colours * (irradiance + _spot(middle, normal, light)[:, None] * tint)


def _spot(points: np.ndarray, normal: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Share (n,) of the spot's irradiance at points (n, 3): cone, cosine and distance."""
    way = light.astype(np.float32) - points
    distance = np.sqrt(np.einsum("ij,ij->i", way, way))
    along = way @ (light / SPOT_DISTANCE).astype(np.float32) / distance
    edge, full = np.cos(CONE / 2), np.cos(CONE / 2 * (1 - BLEND))
    fade = np.clip((along - edge) / (full - edge), 0, 1)
    cosine = np.maximum(np.einsum("ij,ij->i", way, normal), 0) / distance
    share: np.ndarray = fade * fade * (3 - 2 * fade) * cosine * (SPOT_DISTANCE / distance) ** 2
    return share


def _floor(triangles: np.ndarray, light: np.ndarray, tint: np.ndarray, colour: np.ndarray, side: int) -> np.ndarray:
    """The picture (side * side, 3) of the floor alone, with the disc and the object's shadow in it."""
    points = _floor_points(side)
    lit = _spot(points, np.broadcast_to(np.array([0, 0, 1], np.float32), points.shape), light)
    inside = np.flatnonzero(lit)
    view = _facing(light)
    shadow = np.zeros(side * side, bool)
    shadow[_fill(_project(triangles, view, CONE, side), side)[0]] = True
    at = np.floor(_project(points[inside], view, CONE, side)[:, :2]).astype(np.int32)
    on_map = ((at >= 0) & (at < side)).all(1)
    lit[inside[on_map]] *= ~shadow[at[on_map, 1] * side + at[on_map, 0]]
    dark, bright = (colour * (AMBIENT + SUN)).astype(np.float32), (colour * tint).astype(np.float32)
    picture: np.ndarray = dark + lit[:, None] * bright
    return picture


# -- geometry -------------------------------------------------------------------------------------------------------


def spherical(distance: float, polar: float, azimuth: float) -> np.ndarray:
    """The point (3,) at these coordinates; the polar angle is measured from +Z."""
    return distance * np.array([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)])


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """Linear RGB (3,)."""
    return np.array(colorsys.hsv_to_rgb(hue, saturation, value))


def _rotation(angles: np.ndarray) -> np.ndarray:
    """Extrinsic X, Y, Z, as `datasets.rotations.matrix`."""
    (ca, cb, cc), (sa, sb, sc) = np.cos(angles), np.sin(angles)
    return np.array(
        [
            [cc * cb, cc * sb * sa - sc * ca, cc * sb * ca + sc * sa],
            [sc * cb, sc * sb * sa + cc * ca, sc * sb * ca - cc * sa],
            [-sb, cb * sa, cb * ca],
        ],
        np.float32,
    )


def _facing(eye: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An eye (3,) that looks at the origin, and its axes as rows (3, 3): right, down, forward."""
    forward = -eye / np.linalg.norm(eye)
    above = np.array([0.0, 0.0, 1.0]) if abs(forward[2]) < 0.999 else np.array([0.0, 1.0, 0.0])
    right = np.cross(forward, above)
    right /= np.linalg.norm(right)
    return eye.astype(np.float32), np.stack([right, np.cross(forward, right), forward]).astype(np.float32)


@lru_cache(1)
def _camera() -> tuple[np.ndarray, np.ndarray]:
    return _facing(spherical(*CAMERA))


def _project(points: np.ndarray, view: tuple[np.ndarray, np.ndarray], field: float, side: int) -> np.ndarray:
    """Points (..., 3) as (column, row, 1 / distance along the axis) of a square picture of `side` pixels."""
    seen = (points - view[0]) @ view[1].T
    inverse = 1 / np.maximum(seen[..., 2:], 1e-3)
    flat = (seen[..., :2] * inverse / np.float32(np.tan(field / 2)) + 1) * (side / 2)
    return np.concatenate([flat, inverse], -1)


@lru_cache(4)
def _floor_points(side: int) -> np.ndarray:
    """Where the ray of each pixel (side * side, 3) meets the floor; the camera looks down so far that all do."""
    eye, axes = _camera()
    across = ((np.arange(side) + 0.5) / side * 2 - 1) * np.tan(FIELD / 2)
    column, row = np.meshgrid(across, across)
    rays = np.stack([column.ravel(), row.ravel(), np.ones(side * side)], -1) @ axes
    points: np.ndarray = (eye + rays * ((FLOOR - eye[2]) / rays[:, 2:])).astype(np.float32)
    return points


def _fill(corners: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pixel whose centre lies in a triangle: its number, 1 / distance there, and the triangle's number.

    All rows of all triangles at once: in each row the pixels between the edges follow from three linear conditions.

    Args:
        corners: (t, 3, 3) of `_project`.
    """
    (x0, y0, z0), (x1, y1, z1), (x2, y2, z2) = corners.astype(np.float64).transpose(1, 2, 0)
    area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
    top = np.ceil(np.clip(np.minimum(np.minimum(y0, y1), y2), 0, side) - 0.5).astype(np.int64)
    bottom = np.ceil(np.clip(np.maximum(np.maximum(y0, y1), y2), 0, side) - 0.5).astype(np.int64)
    height = np.where(np.abs(area) > 1e-9, bottom - top, 0)
    owner, row = _ranges(top, height)  # a row of a triangle
    y = row + 0.5
    left, right = np.full(len(owner), 0.0), np.full(len(owner), float(side))
    sign = np.sign(area)
    for ax, ay, bx, by in ((x0, y0, x1, y1), (x1, y1, x2, y2), (x2, y2, x0, y0)):
        slope, rise = (ay - by) * sign, (bx - ax) * sign  # inside where slope (x - ax) + rise (y - ay) >= 0
        a, offset = slope[owner], rise[owner] * (y - ay[owner])
        with np.errstate(divide="ignore", invalid="ignore"):
            crossing = ax[owner] - offset / a
        left = np.where(a > 0, np.maximum(left, crossing), left)
        right = np.where(a < 0, np.minimum(right, crossing), np.where((a == 0) & (offset < 0), -1.0, right))
    begin = np.ceil(left - 0.5).astype(np.int64)
    line, column = _ranges(begin, np.maximum(np.ceil(right - 0.5).astype(np.int64) - begin, 0))
    owner, row = owner[line], row[line]
    with np.errstate(divide="ignore", invalid="ignore"):
        dx = ((z1 - z0) * (y2 - y0) - (z2 - z0) * (y1 - y0)) / area
        dy = ((z2 - z0) * (x1 - x0) - (z1 - z0) * (x2 - x0)) / area
        base = z0 - dx * (x0 - 0.5) - dy * (y0 - 0.5)
    depth = base[owner] + dx[owner] * column + dy[owner] * row
    return row * side + column, depth.astype(np.float32), owner


def _ranges(begin: np.ndarray, length: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All of begin[i], ..., begin[i] + length[i] - 1, one after the other, with the i of each."""
    owner = np.repeat(np.arange(len(begin)), length)
    return owner, np.arange(len(owner)) + (begin - (np.cumsum(length) - length))[owner]


def _encoded(linear: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1] of linear light, what is too bright cut off."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def decoded(srgb: np.ndarray) -> np.ndarray:
    """Linear light of sRGB in [0, 1]."""
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
