"""3DIEBench: pairs of renderings of one object whose relative rotation, colours and light are known.

Source: Garrido et al., "Self-Supervised Learning of Split Invariant Equivariant Representations", ICML 2023, arXiv
2302.10283. Layout: ROOT, ROOT/bench3die or ROOT/3DIEBench holds SYNSET/OBJECT/{image_V.jpg, latent_V.npy} and the split
files {train,val}_{images,labels}.npy (or `splits` names their folder). Any number of views, further latents and other
files are allowed. Where there is no such folder a small set of solids is rendered once into the cache, and `Spec.note`
says so.

The original has no third split: its `val` is `test` here, and `val` is a part of its training objects. Label "class".
An item is an object, as two of its views drawn for each batch (`items: objects`, see `datasets._renders.Renders`), or a
single image, all views of an object one after the other (`items: images`, for evaluations over all images). The latents
stand in `Batch.params["latents"]` (see `datasets.rotations`), what leads from view 1 to view 2 in `Batch.relations`:
"rotation" (4, quaternion), "euler" (3, the same as angles), "colour" (2, differences of floor and light hue), "light"
(2, differences of the angles).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from datasets import _parts, config
from datasets._renders import Files, Images, Items, Listing, Renders, indexed, packed, read_listing, read_listings
from datasets.base import DataError, Source, Spec, Split
from datasets.memory import alone, cache_folder
from datasets.render.solids import Palette
from datasets.render.write import TOLD, RenderConfig, write_set
from datasets.render.write import VERSION as RENDERED

VERSION = 2
DOWNLOAD = (
    "nothing is fetched: a small set of solids is rendered where the data folder holds no 3DIEBench "
    "(17 GB, CC BY-NC 4.0, https://github.com/facebookresearch/SIE) or a set rendered with --render"
)
MARKER = "train_images.npy"
PUBLISHED = {"data.size": 256, "views.normalize": "3diebench"}  # what the published networks take, see `sweep import`
RELATIONS = {"rotation": 4, "euler": 3, "colour": 2, "light": 2}


class Solids(config.Config):
    """The set that is rendered where there is none."""

    objects: int = Field(40, ge=2, le=1000, description="objects of each of the ten classes")
    views: int = Field(8, ge=2, le=1000, description="views of each object")
    seed: int = Field(0, ge=0, lt=2**31, description="of shapes, poses and colours")
    palette: Palette = Field("class", description="colours of each class, which tell parts apart, or of each object")


class Config(config.Config):
    """Options of 3DIEBench."""

    source: Literal["auto", "files", "solids"] = Field(
        "auto", description="files = of the data folder, solids = generated ones; auto = files where there are any"
    )
    items: Items = Field("objects", description="objects = pairs of views of an object; images = each view by itself")
    size: int = Field(64, ge=32, le=1024, multiple_of=32, description="pixels of a side, resized when decoded")
    packed: bool = Field(
        True, description="decode all images once, into the cache; false = for every batch, by threads, one batch ahead"
    )
    splits: str | None = Field(None, description="folder of the split files; None = beside the objects")
    val_fraction: float = Field(0.1, gt=0, lt=1, description="share of the training objects held out for validation")
    split_seed: int = Field(0, ge=0, lt=2**31, description="which object is held out")
    limit: int | None = Field(None, ge=1, description="only the first so many objects of each split, as listed")
    solids: Solids = Field(Solids(), description="of the generated set")


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; on first use all its images are decoded into the cache, or only their latents are read.

    Raises:
        DataError: files are missing or damaged, or the cache has no space.
    """
    found = None if cfg.source == "solids" else _find(cfg, root)
    note = "" if found else f"generated solids, not 3DIEBench: no '{MARKER}' in the data folder"
    folder, splits = found or (_solids(cfg),) * 2
    listings = read_listings(splits)
    part = "val" if split == "test" else "train"
    listing = listings[part]
    held_out = 0 if part == "val" else max(1, round(len(listing.labels) * cfg.val_fraction))
    val, rest = _parts.parts(listing.labels, [held_out], cfg.split_seed)
    rows = (val if split == "val" else rest)[: cfg.limit]
    if len(rows) == 0:
        raise DataError(f"bench3die: {splits}: too few objects in {part}_images.npy for a split '{split}'")
    if cfg.limit is not None:  # only what is asked for is read; else `train` and `val` share an entry
        listing = Listing([listing.objects[row] for row in rows], listing.labels[rows])
        rows = np.arange(len(rows))
    entry = packed(folder, listing, cfg.size) if cfg.packed else indexed(folder, listing)
    images: Images = entry.arrays["x"] if cfg.packed else Files(folder, listing, entry, cfg.size)
    pairs = cfg.items == "objects"
    spec = Spec(
        shape=(3, cfg.size, cfg.size),
        labels={
            "class": 1 + max(int(one.labels.max()) for one in listings.values()),
            **({} if pairs else {"object": 0}),  # which one; no class, since those of other splits are others
        },
        params={"latents": entry.arrays["latents"].shape[1]},
        views=2 if pairs else 1,
        fingerprint=entry.fingerprint if cfg.packed else f"{entry.fingerprint}-{cfg.size}",
        note="" if cfg.source == "solids" else note,
        relations=RELATIONS if pairs else {},
    )
    return Renders(images, entry, rows, spec, cfg.items)


def evaluated(cfg: Config) -> Config:
    """Every image by itself."""
    return cfg.model_copy(update={"items": "images"})


def render(cfg: RenderConfig, meshes: str, out: Path) -> Iterator[str]:
    """Lines of `sweep data bench3die --render MESHES OUT`; see `datasets.render.write.write_set`.

    Raises:
        DataError: as there, or `out` cannot be written.
    """
    try:
        yield from write_set(cfg, meshes, out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror or error}); choose another folder") from None


def _find(cfg: Config, root: Path | None) -> tuple[Path, Path] | None:
    """Folders of the objects and of the split files; None where there are none and solids will do."""
    names = ("bench3die", "3DIEBench")
    if cfg.splits is None:
        try:
            folder = _parts.find(root, MARKER, names)
        except DataError as error:
            for begun in (root, *(root / name for name in names)) if root else ():
                if (begun / TOLD).exists():  # solids would hide that
                    raise DataError(f"bench3die: {begun}: is not rendered to the end, run `--render` again") from None
            if cfg.source == "auto":
                return None
            hint = "put 3DIEBench there, or render a set: `sweep data bench3die --render solids DIR`"
            raise DataError(f"{str(error).split('; ')[0]}; {hint}") from None
        return folder, folder
    if root is None:
        raise DataError("bench3die: data.splits needs a data folder, give --data-root DIR")
    splits = root / cfg.splits
    first = read_listing(splits, "train").objects[0]
    for folder in (root, *(root / name for name in names)):
        if (folder / first).is_dir():
            return folder, splits
    raise DataError(f"bench3die: no '{first}' in {root}, which {splits / MARKER} lists first")


def _solids(cfg: Config) -> Path:
    """The folder of the generated set; rendered on first use, in this process, while others wait."""
    made = RenderConfig(
        views=cfg.solids.views,
        count=cfg.solids.objects,
        seed=cfg.solids.seed,
        size=cfg.size,
        workers=1,
        palette=cfg.solids.palette,
    )
    name = hashlib.sha256(repr((RENDERED, made)).encode()).hexdigest()[:16]
    folder = cache_folder() / f"bench3die-solids-{name}"
    if (folder / MARKER).exists():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with alone(folder):
            if not (folder / MARKER).exists():
                for _ in write_set(made, "solids", folder):
                    pass
    except OSError as error:
        reason = f"{error.strerror or error}; set SWEEP_CACHE to a writable folder with space"
        raise DataError(f"cache {folder}: {reason}") from None
    return folder
