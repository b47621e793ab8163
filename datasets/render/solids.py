"""Solids that need no files: assemblies of boxes, and the digits of scikit-learn, extruded; ten classes each.

Their colours are drawn for each object, or for each class: then they tell the parts of a solid apart at first sight,
and poses are learned from far fewer pictures.

None of them looks the same from two sides, so that a pose can be told from a picture: boxes differ in length and place,
digits have faces of two colours.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from datasets.render.scene import Mesh, decoded, placed

CLASSES = 10
BOXES = (4, 5, 6)  # of an assembly
Palette = Literal["object", "class"]
THRESHOLD = 8  # of a digit's pixels, which are 0 .. 16
# corners of a unit cube by bits (x, y, z), and its faces, seen from outside counter-clockwise
CORNERS = np.array([[bit >> axis & 1 for axis in range(3)] for bit in range(8)], float) - 0.5
FACES = {
    (0, -1): (0, 4, 6, 2), (0, 1): (1, 3, 7, 5), (1, -1): (0, 1, 5, 4),
    (1, 1): (2, 6, 7, 3), (2, -1): (0, 2, 3, 1), (2, 1): (4, 5, 7, 6),
}  # fmt: skip


@dataclass(frozen=True)
class Solid:
    """An assembly of boxes: the class is its plan, the object its proportions and colours."""

    category: str
    name: str
    number: int
    seed: int
    palette: Palette = "object"

    @property
    def place(self) -> int:
        """Its number among the objects of its class."""
        return self.number

    def mesh(self) -> Mesh:
        """Its triangles, 12 a box."""
        plan = np.random.default_rng([self.seed, int(self.category.removeprefix("solid"))])
        own = np.random.default_rng([self.seed, int(self.category.removeprefix("solid")), 1 + self.number])
        middles, sides = [np.zeros(3)], [plan.uniform(0.5, 1.2, 3)]
        for _ in range(int(plan.choice(BOXES)) - 1):
            on = int(plan.integers(len(middles)))
            axis, sign = int(plan.integers(3)), 1 if plan.random() < 0.5 else -1
            side = plan.uniform(0.25, 0.9, 3)
            shift = plan.uniform(-0.5, 0.5, 3) * sides[on]  # so far off the middle that no turn maps it to itself
            shift[axis] = sign * (sides[on][axis] + side[axis]) / 2
            middles.append(middles[on] + shift)
            sides.append(side)
        grow = own.uniform(0.85, 1.18, 3)
        painted = own if self.palette == "object" else plan
        hue, parts = painted.random(), []
        for place, (middle, side) in enumerate(zip(middles, sides, strict=True)):
            turned = hue + 0.38 * place + painted.uniform(-0.05, 0.05)
            colour = colorsys.hsv_to_rgb(turned % 1, painted.uniform(0.25, 0.6), painted.uniform(0.55, 0.95))
            parts.append(_box(middle * grow, side * grow * own.uniform(0.85, 1.18, 3), {}, np.array(colour)))
        return placed(*(np.concatenate(column) for column in zip(*parts, strict=True)))


@dataclass(frozen=True)
class Digit:
    """A handwritten digit of scikit-learn as a solid, one box a dark pixel; front and back differ in colour.

    Attributes:
        number: of the image. place: of the object in its class.
    """

    category: str
    name: str
    number: int
    place: int
    seed: int
    palette: Palette = "object"

    def mesh(self) -> Mesh:
        """Its triangles; faces between two boxes are left out."""
        dark = np.pad(_digits()[0][self.number] >= THRESHOLD, 1)
        own = np.random.default_rng([self.seed, self.number])
        hue, depth = own.random(), own.uniform(1.5, 3.0)
        if self.palette == "class":
            hue = int(self.category.removeprefix("digit")) / CLASSES
        front, back, rim = (
            np.array(colorsys.hsv_to_rgb((hue + shift) % 1, saturation, value))
            for shift, saturation, value in ((0.0, 0.55, 0.9), (0.45, 0.55, 0.75), (0.2, 0.15, 0.7))
        )
        parts = []  # upright for the camera at the identity, which sees X to the left and Y towards itself
        for row, column in zip(*np.nonzero(dark), strict=True):
            inner = {
                (0, 1): dark[row, column - 1], (0, -1): dark[row, column + 1],
                (1, -1): dark[row - 1, column], (1, 1): dark[row + 1, column],
            }  # fmt: skip
            faces = {face: rim for face, hidden in inner.items() if not hidden} | {(2, 1): front, (2, -1): back}
            parts.append(_box(np.array([-column, row, 0.0]), np.array([1.0, 1.0, depth]), faces, rim))
        return placed(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def solids(count: int, seed: int, palette: Palette = "object") -> list[Solid]:
    """`count` objects of each class."""
    return [Solid(f"solid{kind}", f"{i:04d}", i, seed, palette) for kind in range(CLASSES) for i in range(count)]


def digits(count: int, seed: int, palette: Palette = "object") -> list[Digit]:
    """The first `count` images of each digit."""
    labels = _digits()[1]
    return [
        Digit(f"digit{kind}", f"{number:04d}", int(number), place, seed, palette)
        for kind in range(CLASSES)
        for place, number in enumerate(np.flatnonzero(labels == kind)[:count])
    ]


@lru_cache(1)
def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return bunch.images, bunch.target


def _box(
    middle: np.ndarray, side: np.ndarray, faces: dict[tuple[int, int], np.ndarray], colour: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Triangles (t, 3, 3) and linear colours (t, 3) of a box; of some of its faces, where they have colours."""
    corners = CORNERS * side + middle
    shown = faces or dict.fromkeys(FACES, colour)
    quads = [corners[list(FACES[face])] for face in shown]
    triangles = np.array([quad[list(half)] for quad in quads for half in ((0, 1, 2), (0, 2, 3))])
    return triangles, decoded(np.repeat(np.array(list(shown.values())), 2, 0))
