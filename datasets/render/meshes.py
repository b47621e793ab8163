"""Meshes from Wavefront OBJ files: one colour a triangle, from a palette texture, a material or a list of colours.

    MESHES/CLASS/NAME.obj  or  MESHES/CLASS/NAME/.../*.obj    a class a folder, Y up
    MESHES/index.csv                                          optional: class, object, texture (a path from MESHES)

The index may also lie in a folder of MESHES, which is then taken in its place.
"""

from __future__ import annotations

import csv
import itertools
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from datasets.base import DataError
from datasets.render.scene import Mesh, decoded, placed

PLAIN = (0.6, 0.6, 0.6)  # sRGB of what has no colour of its own


@dataclass(frozen=True)
class ObjFile:
    """An object that lies in a file."""

    category: str
    name: str
    path: Path
    texture: Path | None
    place: None = None  # files may be added before it

    def mesh(self) -> Mesh:
        """Its triangles.

        Raises:
            DataError: the file or its texture is missing or damaged, or it holds no face.
        """
        try:
            return _read(self.path, self.texture)
        except (OSError, ValueError, IndexError) as error:
            reason = " ".join(str(error).split())[:120]
            raise DataError(f"{self.path}: no mesh can be read from it ({reason})") from None


def obj_files(folder: Path) -> list[ObjFile]:
    """Every object below a folder, by class and name; of several files of one object the first.

    Raises:
        DataError: there is none, or the index is damaged or names a texture that is not there.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: is no folder; give one with CLASS/NAME.obj in it, or `solids` or `digits`")
    indices = sorted({*folder.glob("index.csv"), *folder.glob("*/index.csv")})
    root = indices[0].parent if indices else folder
    textures = _textures(indices[0]) if indices else {}
    found: dict[tuple[str, str], ObjFile] = {}
    for path in sorted(root.rglob("*.obj")):
        parts = path.relative_to(root).with_suffix("").parts
        if len(parts) > 1:
            category, name = parts[:2]
            found.setdefault((category, name), ObjFile(category, name, path, textures.get((category, name))))
    if not found:
        raise DataError(f"{folder}: holds no CLASS/NAME.obj; give another folder, or `solids` or `digits`")
    used = {shape.texture: key for key, shape in found.items() if shape.texture}
    if missing := sorted(texture for texture in used if not texture.is_file()):
        raise DataError(f"{indices[0]}: no '{missing[0]}', the texture of {'/'.join(used[missing[0]])}")
    return [found[key] for key in sorted(found)]


def _textures(index: Path) -> dict[tuple[str, str], Path]:
    try:
        with index.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets begin with a mark
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"{index}: cannot be read ({reason}); it should be CSV in UTF-8") from None
    if not rows or not {"class", "object", "texture"} <= rows[0].keys():
        raise DataError(f"{index}: should have the columns class, object, texture")
    return {(row["class"], row["object"]): index.parent / row["texture"] for row in rows if row["texture"]}


def _read(path: Path, texture: Path | None) -> Mesh:
    points: list[list[float]] = []
    places: list[list[float]] = []  # on the texture
    corners: list[tuple[int, int]] = []  # of triangles: a point and a place
    materials: dict[str, tuple[float, ...]] = {}
    colours: list[tuple[float, ...]] = []
    current: tuple[float, ...] = PLAIN
    for line in path.read_text(errors="replace").splitlines():
        kind, *words = line.split() or [""]
        if kind == "v":
            points.append([float(word) for word in words[:3]])
        elif kind == "vt":
            places.append([float(word) for word in words[:2]])
        elif kind == "mtllib" and texture is None:
            materials |= _materials(path.with_name(" ".join(words)))
        elif kind == "usemtl":
            current = materials.get(" ".join(words), PLAIN)
        elif kind == "f":
            polygon = [_corner(word, len(points), len(places)) for word in words]
            for second, third in itertools.pairwise(polygon[1:]):  # a fan
                corners += [polygon[0], second, third]
                colours.append(current)
    if not corners:
        raise ValueError("it has no face")
    at = np.array(corners).reshape(-1, 3, 2)
    x, y, z = np.moveaxis(np.array(points)[at[:, :, 0]], -1, 0)
    tint = decoded(np.array(colours))
    if texture is not None and places and (at[:, :, 1] >= 0).all():
        tint = _picked(texture, np.array(places)[at[:, :, 1]].mean(1))
    return placed(np.stack([x, -z, y], -1), tint)


def _corner(word: str, points: int, places: int) -> tuple[int, int]:
    """Zero-based numbers of a corner's point and place (-1 = none); in the file they start at 1, or count back."""
    parts = [*word.split("/"), ""]
    point, place = int(parts[0]), int(parts[1] or 0)
    if not (1 <= point <= points or -points <= point <= -1):
        raise ValueError(f"corner {word} of {points} points")
    return (point - 1 if point > 0 else points + point), (place - 1 if place >= 0 else places + place)


def _materials(path: Path) -> dict[str, tuple[float, ...]]:
    """The diffuse colour of each material; none where the file is not there."""
    found: dict[str, tuple[float, ...]] = {}
    name = ""
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        kind, *words = line.split() or [""]
        if kind == "newmtl":
            name = " ".join(words)
        elif kind == "Kd" and len(words) >= 3:
            found[name] = tuple(float(word) for word in words[:3])
    return found


def _picked(texture: Path, places: np.ndarray) -> np.ndarray:
    """Linear colours (t, 3) at places (t, 2) of a texture: the second coordinate goes up; beyond [0, 1] it repeats."""
    image = _texture(texture)
    height, width = image.shape[:2]
    across, up = np.where((places >= 0) & (places <= 1), places, places % 1).T  # 0 and 1 are its two edges
    column = np.floor(across * width).astype(int).clip(0, width - 1)
    row = np.floor((1 - up) * height).astype(int).clip(0, height - 1)
    return decoded(image[row, column] / 255)


@lru_cache(8)
def _texture(path: Path) -> np.ndarray:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError) as error:
        raise DataError(f"{path}: no texture can be read from it ({' '.join(str(error).split())[:120]})") from None
