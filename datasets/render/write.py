"""Whole sets in the layout of 3DIEBench, rendered by processes side by side and resumable.

    OUT/CLASS/OBJECT/image_V.jpg, latent_V.npy     each written whole; a view that has both is not rendered again
    OUT/all_objects.npy                            text (n, 2): class, object
    OUT/all_latents_{train,val}.npy                float64, a row a view, objects in the order of the lists
    OUT/{train,val}_{images,labels}.npy            of the objects of the latest run
    OUT/render.json                                what it was rendered with

`render.json` comes first, so a folder without it is no set of ours. `train_images.npy` is removed before anything else
changes and comes last, so a set that has it is whole. Latents of a view follow from (seed, class, object, view) alone,
so a resumed run and one with other processes give the same set.

Whether an object is held out follows from itself alone, so objects may be added and none changes its part. Generated
ones are numbered: of each class the first trains, the second is held out, and so is about every (1 / `held_out`)-th
behind it. A mesh is held out if a hash of (seed, class, object), in [0, 1), is below `held_out`: a class keeps its
share roughly, and one of few may have none in a part, which is said. A rule that looked at the others of its class
would move some when objects are added.
"""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image
from pydantic import Field

from datasets import config
from datasets._progress import Progress, duration
from datasets.atomic import remove, replacing
from datasets.base import DataError
from datasets.memory import alone
from datasets.render.meshes import obj_files
from datasets.render.scene import Mesh, render
from datasets.render.solids import Palette, digits, solids

VERSION = 2
QUALITY = 95  # of a JPEG; small pictures lose their hues below
MARKER, TOLD = "train_images", "render.json"
# in the order in which they are written
LISTS = (
    "all_objects", "all_latents_val", "val_labels", "val_images", "all_latents_train", "train_labels", MARKER,
)  # fmt: skip
VIEW = re.compile(r"(?:image|latent)_(\d+)\.(?:jpg|npy)")
HALF, QUARTER, TURN = np.pi / 2, np.pi / 4, 2 * np.pi


class Shape(Protocol):
    """Something that has a mesh; it travels to other processes.

    Attributes:
        place: its number in its class, which it keeps when objects are added; None where there is no such number.
    """

    @property
    def category(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def place(self) -> int | None: ...
    def mesh(self) -> Mesh: ...


class RenderConfig(config.Config):
    """How a set is rendered."""

    views: int = Field(50, ge=1, le=10_000, description="views of each object (3DIEBench: 50)")
    size: int = Field(128, ge=8, le=1024, description="pixels of a side (3DIEBench: 256)")
    seed: int = Field(0, ge=0, lt=2**31, description="of latents, generated solids and the split of meshes")
    workers: int = Field(0, ge=0, le=1024, description="processes; 0 = one a core, 1 = in this process")
    count: int = Field(40, ge=2, le=10_000, description="generated solids: objects of each of the ten classes")
    palette: Palette = Field(
        "object", description="generated solids: colours of each object, or of each class, which tell parts apart"
    )
    objects: str | None = Field(None, description="an .npy file with rows (class, object): only these are rendered")
    held_out: float = Field(0.2, gt=0, lt=1, description="share of each class's objects in `val`")


def write_set(cfg: RenderConfig, meshes: str, out: Path) -> Iterator[str]:
    """Render a set to `out`; lines that say what is done: an estimate before it starts, what came of it at the end.

    Args:
        meshes: a folder (see `datasets.render.meshes`), or "solids" or "digits", which need no files.

    Raises:
        DataError: there is nothing to render or too little for both parts, or `out` holds something else, or a set that
            was rendered otherwise or with more views. Then nothing is changed there.
    """
    shapes = _shapes(cfg, meshes)
    train, val = _split(cfg, shapes)
    if len(train) < 2 or not val:  # a reader makes two parts of `train`
        raise DataError(
            f"render: {len(train)} objects in train and {len(val)} in val, a set needs at least 2 and 1; ask for more "
            "objects, another held_out or another seed"
        )
    _refuse_others(shapes, out)
    out.mkdir(parents=True, exist_ok=True)
    with alone(out / "set"):  # a second run waits, and then finds nothing left to do
        yield from _write_set(cfg, meshes, shapes, train, val, out)


def _write_set(
    cfg: RenderConfig, meshes: str, shapes: list[Shape], train: list[Shape], val: list[Shape], out: Path
) -> Iterator[str]:
    _agree(cfg, meshes, out)
    todo = [(shape, views) for shape in shapes if (views := _missing(cfg, out, shape))]
    count = sum(len(views) for _, views in todo)
    workers = min(cfg.workers or os.cpu_count() or 1, max(len(todo), 1))
    yield f"{len(shapes):,} objects of {len({shape.category for shape in shapes})} classes, {cfg.views} views each"
    if todo:
        each = _seconds(cfg, [shape for shape, _ in todo])
        yield (
            f"{count:,} pictures of {cfg.size} px to render, about {1000 * each:.0f} ms each: "
            f"{duration(count * each / workers)} in {workers} process{'es' * (workers > 1)}"
        )
        (out / f"{MARKER}.npy").unlink(missing_ok=True)
        _render_all(cfg, todo, workers, out, Progress("rendered", count))
    _write_lists(_lists(cfg, shapes, train, val), out)
    yield f"{out}: {len(train):,} objects in train, {len(val):,} in val"
    kinds = {shape.category for shape in shapes}
    for part, there in (("train", train), ("val", val)):
        if lacking := sorted(kinds - {shape.category for shape in there}):
            yield f"no object in {part} of {', '.join(lacking[:5])}{', ...' * (len(lacking) > 5)}: add objects"


def _shapes(cfg: RenderConfig, meshes: str) -> list[Shape]:
    made: list[Shape]
    if meshes in ("solids", "digits"):
        made = [*(solids if meshes == "solids" else digits)(cfg.count, cfg.seed, cfg.palette)]
    else:
        made = [*obj_files(Path(meshes))]
    if cfg.objects is None:
        return made
    try:
        rows = np.load(cfg.objects)
        wanted = {(str(category), str(name)) for category, name in rows}
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{cfg.objects}: should hold rows (class, object) of text ({error})") from None
    if lacking := wanted - {(shape.category, shape.name) for shape in made}:
        raise DataError(f"{meshes}: has no object {'/'.join(min(lacking))}, which {cfg.objects} lists")
    return [shape for shape in made if (shape.category, shape.name) in wanted]


def _refuse_others(shapes: list[Shape], out: Path) -> None:
    """Keep away from a folder with lists, classes or views that no run of ours has begun."""
    names = [*(f"{name}.npy" for name in LISTS), *sorted({shape.category for shape in shapes})]
    found = next((out / name for name in names if (out / name).exists()), None)
    for pattern in ("image_*.jpg", "latent_*.npy"):
        found = found or next(out.glob(f"*/*/{pattern}"), None)
    if found and not (out / TOLD).exists():  # looked for last: a run beside this one may just have begun
        raise DataError(f"{out}: holds {found.relative_to(out)} and was not rendered here; choose another folder")


def _agree(cfg: RenderConfig, meshes: str, out: Path) -> None:
    """Refuse to mix pictures of other sizes or seeds, or another split; more views or objects may be added."""
    told = {"version": VERSION, "meshes": Path(meshes).name, "size": cfg.size, "seed": cfg.seed,
            "palette": cfg.palette, "held_out": cfg.held_out}  # fmt: skip
    file = out / TOLD
    if file.exists():
        try:
            before = json.loads(file.read_text())
        except ValueError:
            before = None
        if before != told:
            raise DataError(f"{out}: was rendered with {before}, not with {told}; choose another folder")
        return
    with replacing(file) as temporary:
        temporary.write_text(json.dumps(told))


def _missing(cfg: RenderConfig, out: Path, shape: Shape) -> list[int]:
    """Views that are not there yet.

    Raises:
        DataError: there are more than are asked for, so that the lists would not tell of all.
    """
    folder = out / shape.category / shape.name
    there = set(os.listdir(folder)) if folder.is_dir() else set()  # noqa: PTH208 - names alone are wanted
    files = [{f"image_{view}.jpg", f"latent_{view}.npy"} for view in range(cfg.views)]
    others = [int(match[1]) for name in there.difference(*files) if (match := VIEW.fullmatch(name))]
    if others and (last := max(others)) >= cfg.views:
        raise DataError(f"{folder}: has a view {last}; ask for views={last + 1} or more, or choose another folder")
    return [view for view, both in enumerate(files) if not both <= there]


def _seconds(cfg: RenderConfig, shapes: list[Shape]) -> float:
    """Of one picture, measured on a few objects."""
    chosen = shapes[:: max(1, len(shapes) // 4)][:4]
    scene = [(shape.mesh(), latents_of(cfg.seed, shape, 0)) for shape in chosen]
    render(*scene[0], cfg.size)  # what the camera sees of the floor is computed once
    begin = time.perf_counter()
    for mesh, latents in scene:
        _jpeg(render(mesh, latents, cfg.size))
    return (time.perf_counter() - begin) / len(scene)


def _render_all(
    cfg: RenderConfig, todo: list[tuple[Shape, list[int]]], workers: int, out: Path, progress: Progress
) -> None:
    if workers == 1:
        for shape, views in todo:
            progress.add(render_object(cfg, shape, views, out))
        return
    context = multiprocessing.get_context("forkserver")  # imports once, and forks nothing that has threads
    context.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(workers, context, initializer=_end_with_parent) as pool:
        try:
            for done in as_completed([pool.submit(render_object, cfg, shape, views, out) for shape, views in todo]):
                progress.add(done.result())
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _end_with_parent() -> None:
    """A process of a pool whose parent is killed would wait for ever."""

    def wait() -> None:
        if (parent := multiprocessing.parent_process()) is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def render_object(cfg: RenderConfig, shape: Shape, views: list[int], out: Path) -> int:
    """Render some views of one object; how many."""
    folder = out / shape.category / shape.name
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(".*"):  # of a run that was killed
        remove(left)
    mesh = shape.mesh()
    for view in views:
        latents = latents_of(cfg.seed, shape, view)
        with replacing(folder / f"image_{view}.jpg") as temporary:
            temporary.write_bytes(_jpeg(render(mesh, latents, cfg.size)))
        with replacing(folder / f"latent_{view}.npy") as temporary, temporary.open("wb") as file:
            np.save(file, latents)
    return len(views)


def latents_of(seed: int, shape: Shape, view: int) -> np.ndarray:
    """The seven latents (7,) float64 of a view, each uniform in its range."""
    text = f"{seed}/{shape.category}/{shape.name}/{view}".encode()
    rng = np.random.default_rng(int.from_bytes(hashlib.blake2b(text, digest_size=16).digest(), "big"))
    floor, theta, phi, light = rng.random(), rng.uniform(0, QUARTER), rng.uniform(0, TURN), rng.random()
    return np.array([*rng.uniform(-HALF, HALF, 3), floor, theta, phi, light])


def _jpeg(picture: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return buffer.getvalue()


def _split(cfg: RenderConfig, shapes: list[Shape]) -> tuple[list[Shape], list[Shape]]:
    """`train` and `val`, shuffled."""
    train: list[Shape] = []
    val: list[Shape] = []
    for shape in sorted(shapes, key=lambda shape: _share(f"{cfg.seed}/{shape.category}/{shape.name}")):
        (val if _is_held_out(cfg, shape) else train).append(shape)
    return train, val


def _is_held_out(cfg: RenderConfig, shape: Shape) -> bool:
    share = cfg.held_out
    if shape.place is None:
        return _share(f"{cfg.seed}/{shape.category}/{shape.name}") < share
    low, high = max(0.0, 1 - 2 * share), 1 - share  # a start between these lets number 0 train and holds out number 1
    start = low + 0.382 * (high - low)  # off every sum of shares, which rounding could put on either side
    return (start + shape.place * share) % 1 >= 1 - share


def _share(text: str) -> float:
    """A hash in [0, 1)."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big") / 2**48


def _lists(cfg: RenderConfig, shapes: list[Shape], train: list[Shape], val: list[Shape]) -> dict[str, np.ndarray]:
    rank = {category: place for place, category in enumerate(sorted({shape.category for shape in shapes}))}
    arrays = {"all_objects": np.array([(shape.category, shape.name) for shape in shapes])}
    for part, own in (("train", train), ("val", val)):
        latents = [latents_of(cfg.seed, shape, view) for shape in own for view in range(cfg.views)]
        arrays[f"all_latents_{part}"] = np.array(latents)
        arrays[f"{part}_labels"] = np.array([rank[shape.category] for shape in own], np.int64)
        arrays[f"{part}_images"] = np.array([f"/{shape.category}/{shape.name}/" for shape in own])
    return arrays


def _write_lists(arrays: dict[str, np.ndarray], out: Path) -> None:
    """Write what has changed; whoever finds the marker finds lists of one run."""
    content = {name: _npy(arrays[name]) for name in LISTS}
    changed = [name for name in LISTS if not _holds(out / f"{name}.npy", content[name])]
    if not changed:
        return
    (out / f"{MARKER}.npy").unlink(missing_ok=True)
    for name in (*(name for name in changed if name != MARKER), MARKER):
        with replacing(out / f"{name}.npy") as temporary:
            temporary.write_bytes(content[name])


def _npy(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _holds(path: Path, content: bytes) -> bool:
    return path.exists() and path.read_bytes() == content
