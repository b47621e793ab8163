"""The software renderer: geometry, light, meshes, generated solids, whole sets."""

from __future__ import annotations

import colorsys
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import bench3die, rotations
from datasets._progress import Progress, duration
from datasets.base import DataError
from datasets.config import ConfigError, parse
from datasets.render import scene, write
from datasets.render.meshes import ObjFile, obj_files
from datasets.render.solids import digits, solids
from datasets.render.write import RenderConfig, latents_of, write_set

NEUTRAL = np.array([0, 0, 0, 0.6, 0.4, 1.0, 0.1])
SIDE = 32


def changed(**values: float) -> np.ndarray:
    names = ("x", "y", "z", "floor", "theta", "phi", "light")
    return np.array([values.get(name, old) for name, old in zip(names, NEUTRAL, strict=True)])


def patch(at: tuple[float, float, float]) -> scene.Mesh:
    """A small white square that faces the camera, somewhere off the middle."""
    right, down, _ = scene._camera()[1].astype(float) * 0.08
    corners = [np.array(at) + a * right + b * down for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    triangles = np.array([[corners[0], corners[1], corners[2]], [corners[0], corners[2], corners[3]]], np.float32)
    return scene.Mesh(triangles, np.full((2, 3), 9.0, np.float32))


def centre(picture: np.ndarray) -> np.ndarray:
    """(column, row) of what is white, from the middle of the picture."""
    return np.argwhere((picture == 255).all(-1)).mean(0)[::-1] + 0.5 - picture.shape[0] / 2


# -- scene ----------------------------------------------------------------------------------------------------------


def test_its_rotation_is_that_of_the_latents() -> None:
    angles = np.array([0.3, -0.7, 1.1])
    assert np.allclose(scene._rotation(angles), rotations.matrix(torch.from_numpy(angles)).numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("at", "angles", "side"),
    [
        ((0.5, 0, 0), {}, (-1, 0)),  # the camera, on the side of +Y, sees +X to the left
        ((0, 0, 0.5), {}, (0, -1)),  # and +Z above
        ((0, 0.5, 0), {"z": np.pi / 2}, (1, 0)),  # about Z, counter-clockwise from above: +Y becomes -X
        ((0, 0.5, 0), {"x": np.pi / 2}, (0, -1)),  # about X: +Y becomes +Z
        ((0.5, 0, 0), {"y": -np.pi / 2}, (0, -1)),  # about Y: +X becomes +Z
        ((0.5, 0, 0), {"x": np.pi / 2, "y": -np.pi / 2}, (0, -1)),  # X first, which does not move it
    ],
)
def test_poses_are_where_they_should_be(
    at: tuple[float, float, float], angles: dict[str, float], side: tuple[int, int]
) -> None:
    mesh = patch(at)
    if angles:  # turned with the object, it would be seen from the edge: only its place is turned here
        inverse = scene._rotation(changed(**angles)[:3]).T
        offsets = mesh.triangles - np.array(at, np.float32)
        mesh = scene.Mesh((offsets @ inverse.T + np.array(at)).astype(np.float32), mesh.colours)
    off = centre(scene.render(mesh, changed(**angles), 64))
    assert np.sign(np.round(off / 6)).tolist() == list(side)


def test_the_camera_has_its_field_of_view() -> None:
    """At the distance of the origin the picture is 2 * 2.5 * 18 / 50 wide."""
    off = centre(scene.render(patch((0.45, 0, 0)), NEUTRAL, 64))
    assert abs(off[0] + 0.45 / (2.5 * 0.36) * 32) < 0.5 and abs(off[1]) < 0.5


def test_the_floor_has_its_hue_and_the_disc_that_of_the_light() -> None:
    mesh = patch((0.5, 0, 0))
    for hue in (0.0, 0.3, 0.7):
        picture = scene.render(mesh, changed(floor=hue, theta=0.0), 64)
        seen = scene.decoded(picture[2, 2] / 255)  # far from the disc
        assert abs(colorsys.rgb_to_hsv(*seen)[0] - hue) < 0.02
        assert abs(colorsys.rgb_to_hsv(*seen)[1] - 0.6) < 0.03
    for hue in (0.1, 0.5, 0.9):
        lit = scene.render(mesh, changed(floor=0.6, light=hue, theta=0.0), 64).astype(int)
        row = 32 + int(1 / (2.5 + np.sqrt(0.5)) / 0.36 * 32 * np.sqrt(0.5))  # below the origin, on the floor
        added = scene.decoded(lit[row, 32] / 255) - scene.decoded(lit[2, 2] / 255)
        tint = added / scene.hsv(0.6, 0.6, 0.6)
        assert abs(colorsys.rgb_to_hsv(*np.maximum(tint, 0))[0] - hue) < 0.03


def test_the_disc_moves_with_the_light_and_the_object_throws_a_shadow() -> None:
    far = scene.Mesh(np.full((1, 3, 3), 50, np.float32), np.ones((1, 3), np.float32))  # out of sight
    blank = scene.render(far, NEUTRAL, 64).astype(int)
    base = blank[2, 2]
    lit = (blank - base).sum(-1) > 20
    assert 0.05 < lit.mean() < 0.6
    columns = [
        np.argwhere((scene.render(far, changed(phi=phi, theta=0.4), 64).astype(int) - base).sum(-1) > 20)[:, 1].mean()
        for phi in (0.0, np.pi)
    ]
    assert columns[1] + 10 < columns[0], "a light on the side of +X lights the floor on that of -X, to the right"
    cube = solids(1, 0)[0].mesh()
    shadowed = scene.render(cube, NEUTRAL, 64).astype(int)
    floor = (np.abs(shadowed - base).sum(-1) < 6) & lit
    assert floor.sum() > 20, "places of the disc that are as dark as outside it"


@pytest.mark.parametrize("name", ["x", "y", "z", "floor", "theta", "phi", "light"])
def test_each_latent_is_seen(name: str) -> None:
    mesh = solids(1, 0)[3].mesh()
    other = changed(**{name: NEUTRAL[["x", "y", "z", "floor", "theta", "phi", "light"].index(name)] + 0.35})
    difference = np.abs(scene.render(mesh, NEUTRAL, 48).astype(int) - scene.render(mesh, other, 48))
    assert (difference.max(-1) > 8).mean() > 0.02


def test_filling_finds_every_pixel_whose_centre_is_inside() -> None:
    rng = np.random.default_rng(0)
    corners = np.concatenate([rng.uniform(-6, SIDE + 6, (40, 3, 2)), rng.uniform(0.2, 1, (40, 3, 1))], -1)
    corners[0] = [[4, 4, 1], [4, 20, 1], [20, 4, 1]]  # edges along rows and columns
    corners[1] = [[3, 3, 1], [3, 3, 1], [9, 9, 1]]  # without area
    pixels, depth, owner = scene._fill(corners, SIDE)
    column, row = np.meshgrid(np.arange(SIDE) + 0.5, np.arange(SIDE) + 0.5)
    points = np.stack([column.ravel(), row.ravel(), np.ones(SIDE * SIDE)])
    for number, triangle in enumerate(corners):
        plane = np.concatenate([triangle[:, :2], np.ones((3, 1))], 1)
        mine = pixels[owner == number]
        assert len(set(mine)) == len(mine)
        if abs(np.linalg.det(plane)) < 1e-6:
            assert len(mine) == 0
            continue
        weights = np.linalg.solve(plane.T, points)
        sure, maybe = (weights > 1e-9).all(0), (weights > -1e-9).all(0)
        assert set(np.flatnonzero(sure)) <= set(mine) <= set(np.flatnonzero(maybe))
        assert np.allclose(depth[owner == number], (weights * triangle[:, 2:]).sum(0)[mine], atol=1e-5)


def test_what_is_near_hides_what_is_far() -> None:
    near, far = patch((0, 0.4, 0.4)), patch((0, -0.4, -0.4))
    red, blue = np.array([[9, 0, 0]] * 2, np.float32), np.array([[0, 0, 9]] * 2, np.float32)
    for first, second in ((0, 1), (1, 0)):
        meshes = ((near.triangles, red), (far.triangles, blue))
        triangles, colours = (np.concatenate([meshes[first][i], meshes[second][i]]) for i in (0, 1))
        picture = scene.render(scene.Mesh(triangles, colours), changed(light=0.0), 64)
        assert picture[32, 32, 0] > 200 and picture[32, 32, 2] < 60


def test_a_picture_takes_a_moment() -> None:
    meshes = [shape.mesh() for shape in (*solids(1, 0), *digits(1, 0))]
    scene.render(meshes[0], NEUTRAL, 64)
    begin = time.process_time()
    for mesh in meshes:
        scene.render(mesh, NEUTRAL, 64)
    assert (time.process_time() - begin) / len(meshes) < 0.05


# -- meshes ---------------------------------------------------------------------------------------------------------


def write_obj(
    path: Path, extra: str = "", face: str = "f 1/1 2/1 3/1 4/1", at: tuple[float, float] = (0.3, 0.8)
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    corners = "v 0 0 0\nv 2 0 0\nv 2 4 0\nv 0 4 0\n"
    path.write_text(f"# a square, y up\n{extra}{corners}vt {at[0]} {at[1]}\n{face}\n")


def test_an_obj_file_is_read(tmp_path: Path) -> None:
    texture = np.zeros((4, 4, 3), np.uint8)
    texture[0, 1] = 255, 0, 0  # the second coordinate of a texture goes up
    Image.fromarray(texture).save(tmp_path / "palette.png")
    (tmp_path / "index.csv").write_text("class,object,texture\nsquare,a,palette.png\n")
    write_obj(tmp_path / "square" / "a.obj")
    write_obj(tmp_path / "square" / "b.obj", face="f -4 -3 -2 -1")
    (tmp_path / "square" / "c.mtl").write_text("newmtl green\nKd 0 1 0\n")
    write_obj(tmp_path / "square" / "c.obj", extra="mtllib c.mtl\nusemtl green\n", face="f 1//1 2//1 3//1")
    write_obj(tmp_path / "other" / "deep" / "models" / "m.obj")
    found = {(shape.category, shape.name): shape.mesh() for shape in obj_files(tmp_path)}
    assert list(found) == [("other", "deep"), ("square", "a"), ("square", "b"), ("square", "c")]
    mesh = found["square", "a"]
    corners = mesh.triangles.reshape(-1, 3)
    assert mesh.triangles.shape == (2, 3, 3) and mesh.colours.tolist() == [[1, 0, 0]] * 2
    assert np.allclose(corners.min(0), -corners.max(0)) and np.isclose(np.linalg.norm(np.ptp(corners, 0)), 1.5)
    assert np.allclose(np.ptp(corners, 0)[[1]], 0) and np.ptp(corners, 0)[2] > np.ptp(corners, 0)[0], "z is up"
    assert np.allclose(mesh.triangles, found["square", "b"].triangles)
    assert found["square", "c"].colours.tolist() == [[0, 1, 0]]
    assert [(s.category, s.name) for s in obj_files(tmp_path.parent) if s.category == "square"], "index one below"


@pytest.mark.parametrize("content", ["", "v 0 0 0\nf 1 2 3\n", "v a b c\n", "v 0 0 0\nf 1 0 1\n"])
def test_a_damaged_obj_file_is_one_line(tmp_path: Path, content: str) -> None:
    write_obj(tmp_path / "square" / "a.obj")
    (tmp_path / "square" / "a.obj").write_text(content)
    with pytest.raises(DataError, match=r"a\.obj: no mesh can be read") as caught:
        obj_files(tmp_path)[0].mesh()
    assert "\n" not in str(caught.value)


def test_no_meshes_are_one_line(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match="`solids` or `digits`"):
            obj_files(folder)


@pytest.mark.parametrize(
    ("place", "seen"),  # on a texture of 2 x 2: above red and green, below blue and white
    [
        ((0, 0), (0, 0, 255)), ((1, 0), (255, 255, 255)), ((0, 1), (255, 0, 0)), ((1, 1), (0, 255, 0)),
        ((0.5, 0.5), (255, 255, 255)), ((1.25, -0.75), (0, 0, 255)), ((-0.25, 1.75), (0, 255, 0)),
    ],
)  # fmt: skip
def test_a_texture_has_edges_and_repeats_beyond_them(
    tmp_path: Path, place: tuple[float, float], seen: tuple[int, ...]
) -> None:
    texture = np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [255, 255, 255]]], np.uint8)
    Image.fromarray(texture).save(tmp_path / "palette.png")
    (tmp_path / "index.csv").write_text("class,object,texture\nsquare,a,palette.png\n")
    write_obj(tmp_path / "square" / "a.obj", at=place)
    assert (obj_files(tmp_path)[0].mesh().colours[0] == scene.decoded(np.array(seen) / 255)).all()


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ("class,object,texture\nsquare,ä,p.png\n".encode("latin-1"), r"index\.csv: cannot be read .*CSV in UTF-8"),
        (b"class;object;texture\nsquare;a;p.png\n", "should have the columns class, object, texture"),
        (b"class,object,texture\nsquare,a,p.png\n", r"index\.csv: no '.*p\.png', the texture of square/a"),
        (b"class,object,texture\nsquare,a,torn.png\n", r"torn\.png: no texture can be read from it"),
    ],
)
def test_a_damaged_index_or_texture_is_one_line_about_itself(tmp_path: Path, index: bytes, message: str) -> None:
    write_obj(tmp_path / "square" / "a.obj")
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n")
    (tmp_path / "index.csv").write_bytes(index)
    with pytest.raises(DataError, match=message) as caught:
        obj_files(tmp_path)[0].mesh()
    assert "\n" not in str(caught.value) and "a.obj" not in str(caught.value)


def test_an_index_of_a_spreadsheet_is_read(tmp_path: Path) -> None:
    Image.fromarray(np.full((2, 2, 3), (0, 255, 0), np.uint8)).save(tmp_path / "grün.png")
    (tmp_path / "index.csv").write_text("class,object,texture\r\nsquare,a,grün.png\r\n", encoding="utf-8-sig")
    write_obj(tmp_path / "square" / "a.obj")
    assert obj_files(tmp_path)[0].mesh().colours.tolist() == [[0, 1, 0]] * 2


def test_real_meshes(data_root: Path) -> None:
    shapes = obj_files(data_root / "meshes")
    assert len(shapes) == 58 and len({shape.category for shape in shapes}) == 12
    mesh = next(shape for shape in shapes if shape.name == "furniture_chair_A").mesh()
    assert mesh.triangles.shape == (308, 3, 3) and len(np.unique(mesh.colours, axis=0)) > 1


# -- solids ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [solids, digits])
def test_solids_are_theirs_alone_and_look_different_from_every_side(make: type) -> None:
    shapes = make(2, 0)
    assert len(shapes) == 20 and len({shape.category for shape in shapes}) == 10
    again, other = make(2, 0)[3].mesh(), make(2, 1)[3].mesh()
    assert np.array_equal(shapes[3].mesh().triangles, again.triangles)
    assert again.triangles.shape != other.triangles.shape or not np.allclose(again.triangles, other.triangles)
    for shape in shapes[::2]:
        mesh = shape.mesh()
        upright = scene.render(mesh, NEUTRAL, 48).astype(int)
        for axis in "xyz":  # half turns, beyond the range of latents
            turned = scene.render(mesh, changed(**{axis: np.pi}), 48)
            assert (np.abs(upright - turned).max(-1) > 10).mean() > 0.04, (shape, axis)


@pytest.mark.parametrize("make", [solids, digits])
def test_colours_of_a_class_are_those_of_all_its_objects(make: type) -> None:
    first, second, other = (make(2, 0, "class")[at].mesh() for at in (2, 3, 4))
    hues = [{tuple(colour) for colour in mesh.colours.round(6)} for mesh in (first, second, other)]
    assert hues[0] == hues[1] != hues[2]
    own = [{tuple(colour) for colour in make(2, 0)[at].mesh().colours.round(6)} for at in (2, 3)]
    assert own[0] != own[1]


def test_faces_look_outwards() -> None:
    """A closed surface that does encloses a positive volume; the boxes of an assembly overlap no more than a little."""
    for shape in (*solids(1, 0), *digits(1, 0)):
        a, b, c = shape.mesh().triangles.astype(float).transpose(1, 0, 2)
        assert np.einsum("ti,ti->t", a, np.cross(b, c)).sum() / 6 > 0.01


# -- sets -----------------------------------------------------------------------------------------------------------


def whole(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.*"))}


CFG = RenderConfig(views=3, size=16, count=2, workers=1, held_out=0.5)


def test_a_set_has_the_layout_of_the_original(tmp_path: Path) -> None:
    lines = list(write_set(CFG, "solids", tmp_path))
    assert lines[0] == "20 objects of 10 classes, 3 views each"
    assert lines[1].startswith("60 pictures of 16 px to render, about ") and lines[1].endswith("in 1 process")
    images, labels = np.load(tmp_path / "train_images.npy"), np.load(tmp_path / "train_labels.npy")
    held, held_labels = np.load(tmp_path / "val_images.npy"), np.load(tmp_path / "val_labels.npy")
    assert images.dtype.kind == "U" and labels.dtype == np.int64
    assert images[0] == f"/solid{labels[0]}/{images[0].split('/')[2]}/" and not set(images) & set(held)
    assert sorted(labels) == sorted(held_labels) == list(range(10)) and list(labels) != sorted(labels)
    everything = np.load(tmp_path / "all_objects.npy")
    assert sorted(f"/{a}/{b}/" for a, b in everything) == sorted([*images, *held])
    latents = np.stack([np.load(path) for path in tmp_path.glob("*/*/latent_*.npy")])
    assert latents.shape == (60, 7) and latents.dtype == np.float64
    for part, objects in (("train", images), ("val", held)):  # row: view of an object, in the order of the list
        listed = np.load(tmp_path / f"all_latents_{part}.npy")
        own = [np.load(tmp_path / f"{name.strip('/')}/latent_{view}.npy") for name in objects for view in range(3)]
        assert np.array_equal(listed, own) and listed.dtype == np.float64
    low, high = np.array([-np.pi / 2] * 3 + [0.0] * 4), np.array([np.pi / 2] * 3 + [1, np.pi / 4, 2 * np.pi, 1])
    shares = (latents - low) / (high - low)
    assert (shares >= 0).all() and (shares < 1).all() and (np.abs(shares.mean(0) - 0.5) < 0.15).all()
    with Image.open(tmp_path / "solid0" / "0000" / "image_0.jpg") as image:
        assert image.size == (16, 16) and image.mode == "RGB" and image.format == "JPEG"


def test_a_resumed_run_gives_the_same_set_whoever_renders(tmp_path: Path) -> None:
    list(write_set(CFG, "digits", tmp_path / "a"))
    before = whole(tmp_path / "a")
    for name in ("image_0.jpg", "latent_2.npy"):
        next((tmp_path / "a").glob(f"digit4/*/{name}")).unlink()
    next((tmp_path / "a").glob("digit4/*/image_1.jpg")).with_name(".image_0.jpg.4711").touch()
    (tmp_path / "a" / "train_images.npy").unlink()
    lines = list(write_set(CFG, "digits", tmp_path / "a"))
    assert lines[1].startswith("2 pictures")
    assert whole(tmp_path / "a") == before
    assert len(list(write_set(CFG, "digits", tmp_path / "a"))) == 2, "nothing is left to render"
    list(write_set(CFG.model_copy(update={"workers": 2, "views": 2}), "digits", tmp_path / "b"))
    list(write_set(CFG, "digits", tmp_path / "b"))
    assert whole(tmp_path / "b") == before


def test_views_depend_on_their_seed_alone() -> None:
    shapes = solids(2, 0)
    drawn = [latents_of(seed, shape, view) for seed in (0, 1) for shape in shapes for view in range(3)]
    assert len(np.unique(np.round(drawn, 12), axis=0)) == len(drawn)
    assert np.array_equal(latents_of(0, shapes[1], 2), latents_of(0, solids(9, 5)[1], 2))


def test_other_pictures_are_not_mixed_in(tmp_path: Path) -> None:
    list(write_set(CFG, "solids", tmp_path))
    for other in ({"size": 24}, {"seed": 1}, {"held_out": 0.4}):
        with pytest.raises(DataError, match=r"was rendered with .*choose another folder"):
            list(write_set(CFG.model_copy(update=other), "solids", tmp_path))
    with pytest.raises(DataError, match="choose another folder"):
        list(write_set(CFG, "digits", tmp_path))
    (tmp_path / "render.json").write_text(json.dumps({"size": 16})[:-3])
    with pytest.raises(DataError, match="choose another folder"):
        list(write_set(CFG, "solids", tmp_path))


def listed(folder: Path) -> dict[str, set[str]]:
    return {part: set(np.load(folder / f"{part}_images.npy").tolist()) for part in ("train", "val")}


def some(path: Path, *objects: tuple[str, str]) -> str:
    np.save(path, np.array(objects))
    return str(path)


def few(folder: Path, count: int, kind: str = "digits") -> RenderConfig:
    """`count` objects of each of two classes."""
    cfg = CFG.model_copy(update={"count": count})
    rows = [(shape.category, shape.name) for shape in write._shapes(cfg, kind) if shape.category[-1] in "27"]
    return cfg.model_copy(update={"objects": some(folder / f"{count}.npy", *rows)})


def test_only_the_objects_asked_for(tmp_path: Path) -> None:
    names = [("solid3", "0000"), ("solid5", "0000"), ("solid5", "0001")]
    cfg = CFG.model_copy(update={"objects": some(tmp_path / "some.npy", *names)})
    lines = list(write_set(cfg, "solids", tmp_path / "set"))
    assert listed(tmp_path / "set") == {"train": {"/solid3/0000/", "/solid5/0000/"}, "val": {"/solid5/0001/"}}
    assert lines[-1] == "no object in val of solid3: add objects"
    some(tmp_path / "some.npy", ("solid3", "7777"))
    with pytest.raises(DataError, match="has no object solid3/7777"):
        list(write_set(cfg, "solids", tmp_path / "set"))
    np.save(tmp_path / "some.npy", np.arange(3))
    with pytest.raises(DataError, match="should hold rows"):
        list(write_set(cfg, "solids", tmp_path / "set"))


def test_too_few_objects_for_two_parts_are_refused_before_anything_is_rendered(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"render\.count: .* greater than or equal to 2 \(got 1\)"):
        parse(RenderConfig, {"count": 1}, "render")
    for kinds, names, said in ((("1",), ("0000", "0001"), "1 objects in train and 1 in val"),
                               (("1", "2"), ("0000",), "2 objects in train and 0 in val")):  # fmt: skip
        rows = [(f"solid{kind}", name) for kind in kinds for name in names]
        cfg = CFG.model_copy(update={"objects": some(tmp_path / "some.npy", *rows)})
        with pytest.raises(DataError, match=f"{said}, a set needs at least 2 and 1; ask for more objects"):
            list(write_set(cfg, "solids", tmp_path / "set"))
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("held_out", [0.1, 0.2, 0.25, 0.5, 0.6, 0.9])
@pytest.mark.parametrize("kind", ["solids", "digits"])
def test_the_parts_of_generated_objects_keep_each_classs_share(kind: str, held_out: float) -> None:
    for count in (2, 3, 10, 41):
        cfg = RenderConfig(count=count, held_out=held_out, seed=3)
        train, val = write._split(cfg, write._shapes(cfg, kind))
        for category in {shape.category for shape in train}:
            held = sum(shape.category == category for shape in val)
            assert abs(held - count * held_out) <= 1 and 1 <= held <= count - 1


def test_the_parts_of_meshes_are_drawn_with_the_share() -> None:
    shapes: list[write.Shape] = [ObjFile(f"c{row % 3}", f"m{row}", Path(), None) for row in range(3000)]
    parts = [write._split(RenderConfig(seed=seed), shapes) for seed in (0, 1)]
    for train, val in parts:
        assert len(train) + len(val) == 3000
        assert all(150 < sum(shape.category == kind for shape in val) < 250 for kind in ("c0", "c1", "c2"))
        assert [shape.name for shape in train] != sorted(shape.name for shape in train)
    assert not {*parts[0][1]} <= {*parts[1][1]}, "by seed"


def test_no_object_changes_its_part_when_others_are_added() -> None:
    rng = np.random.default_rng(0)
    for kind in ("solids", "digits", "meshes"):
        cfg = RenderConfig(count=30)
        everything = (
            [ObjFile(f"c{row % 4}", f"m{row}", Path(), None) for row in range(120)]
            if kind == "meshes" else write._shapes(cfg, kind)
        )  # fmt: skip
        parts = [set(part) for part in write._split(cfg, everything)]
        for count in (1, 5, 60):
            chosen = [everything[row] for row in rng.choice(len(everything), count, replace=False)]
            for part, own in zip(parts, write._split(cfg, chosen), strict=True):
                assert set(own) <= part


def test_a_set_grows_without_a_leak(tmp_path: Path) -> None:
    list(write_set(few(tmp_path, 2), "digits", tmp_path / "set"))
    before = listed(tmp_path / "set")
    list(write_set(few(tmp_path, 5), "digits", tmp_path / "set"))
    after = listed(tmp_path / "set")
    assert all(before[part] < after[part] for part in ("train", "val")) and not after["train"] & after["val"]


class Killed(BaseException):
    pass


@pytest.mark.parametrize("after", [0, 1, 3, 6])
def test_a_run_that_is_killed_leaves_no_lists_of_two_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Killed after so many lists of a set that gets more objects."""
    list(write_set(few(tmp_path, 2), "digits", tmp_path / "set"))
    more = few(tmp_path, 4)
    with monkeypatch.context() as patch:
        real, seen = write.replacing, []

        def dying(path: Path) -> Any:
            if path.suffix == ".npy" and path.parent == tmp_path / "set":
                seen.append(path.name)
                if len(seen) > after:
                    raise Killed
            return real(path)

        patch.setattr(write, "replacing", dying)
        with pytest.raises(Killed):
            list(write_set(more, "digits", tmp_path / "set"))
    assert not (tmp_path / "set" / "train_images.npy").exists(), "no one takes it for a whole set"
    list(write_set(more, "digits", tmp_path / "set"))
    list(write_set(more, "digits", tmp_path / "fresh"))
    assert whole(tmp_path / "set") == whole(tmp_path / "fresh")


def test_a_set_is_not_whole_while_views_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    list(write_set(few(tmp_path, 2), "digits", tmp_path / "set"))

    def dying(*arguments: Any) -> int:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(write, "render_object", dying)
        with pytest.raises(Killed):
            list(write_set(few(tmp_path, 2).model_copy(update={"views": 4}), "digits", tmp_path / "set"))
    assert not (tmp_path / "set" / "train_images.npy").exists()


def test_a_finished_set_is_left_as_it_is(tmp_path: Path) -> None:
    list(write_set(few(tmp_path, 2), "digits", tmp_path / "set"))
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "set").rglob("*.*") if path.suffix != ".lock"}
    list(write_set(few(tmp_path, 2), "digits", tmp_path / "set"))
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_fewer_views_than_there_are_are_refused(tmp_path: Path) -> None:
    list(write_set(few(tmp_path, 2), "digits", tmp_path / "set"))
    before = whole(tmp_path / "set")
    with pytest.raises(DataError, match=r"has a view 2; ask for views=3 or more, or choose another folder"):
        list(write_set(few(tmp_path, 3).model_copy(update={"views": 2}), "digits", tmp_path / "set"))
    assert whole(tmp_path / "set") == before


@pytest.mark.parametrize("kind", ["lists", "class", "views", "latents"])
def test_a_set_of_someone_else_is_not_touched(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "3DIEBench"
    folder.mkdir()
    (folder / "README.md").write_text("theirs")
    if kind == "lists":
        np.save(folder / "val_labels.npy", np.arange(3))
    elif kind == "class":
        write_obj(folder / "solid3" / "a.obj")
    else:
        (folder / "02691156" / "1").mkdir(parents=True)
        name = "image_0.jpg" if kind == "views" else "latent_0.npy"
        (folder / "02691156" / "1" / name).write_bytes(b"theirs")
    before = {path: path.is_file() and path.read_bytes() for path in sorted(folder.rglob("*"))}
    with pytest.raises(DataError, match=r"3DIEBench: holds .* was not rendered here; choose another folder") as caught:
        list(write_set(CFG, "solids", folder))
    assert "\n" not in str(caught.value)
    assert {path: path.is_file() and path.read_bytes() for path in sorted(folder.rglob("*"))} == before


def test_other_files_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "cache" / "entry").mkdir(parents=True)
    (tmp_path / "README.md").write_text("")
    list(write_set(CFG, "solids", tmp_path))
    assert len(np.load(tmp_path / "train_images.npy")) == 10


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (Path("/proc/nothing"), tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataError, match=f"{folder}: cannot be written .*choose another folder") as caught:
            list(bench3die.render(CFG, "solids", folder))
        assert "\n" not in str(caught.value)


def test_progress_is_said_now_and_then() -> None:
    said: list[str] = []
    times = iter([0.0, 3.0, 4.0, 9.0, 10.0, 15.5])
    progress = Progress("rendered", 1000, said.append, lambda: next(times))
    for _ in range(5):
        progress.add(100)
    assert said == ["rendered 300 of 1,000, 21 s left", "rendered 500 of 1,000, 16 s left"]
    times = iter(range(0, 3601))
    said.clear()
    progress = Progress("rendered", 3600, said.append, lambda: next(times))
    for _ in range(3600):
        progress.add()
    assert 15 < len(said) < 25
    assert [duration(seconds) for seconds in (45.2, 720, 12_600)] == ["45 s", "12 min", "3.5 h"]
