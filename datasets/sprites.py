"""Sprites: characters in nine poses; a page is a character, a fragment one pose, 64x64 in colour.

Source: the data of V3 (Wu et al., "Unsupervised Disentanglement of Content and Style via Variance-Invariance
Constraints", ICLR 2025, arXiv 2407.03824), from the sheets of the Liberated Pixel Cup. Layout, in ROOT or ROOT/sprites:

    Sprites_h5/{train,val,test}.hdf5     a group a character: seq (9, 3, 64, 64) bytes, c (9,) content, s (9,) number
    sheets/{body,bottomwear,topwear,hair,shoes}/NUMBER.png      without such files, all characters are composed of these

Labels of a fragment: "content", the pose (9: walk, spellcard, slash; front, left, right each). Of a page: "style", the
character's number, whose digits are body, bottomwear, topwear and hair, and "body", "bottomwear", "topwear" (7 each).
The splits differ in hair, so no character is in two of them. `characters: ood` are the ten whose body and clothes no
published one has, each in many copies that differ in colour (V3's history: 100), composed of sheets. Pages of training
are jittered in colour, one draw a page, which makes style continuous; what evaluations see is not (`augment: all` is
what was published: it is).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field

from datasets import _parts, config
from datasets._colours import PUBLISHED, jittered
from datasets._film import film, strips
from datasets._pages import Augment, Book, Fragments, Items, Pages
from datasets.base import DataError, Source, Spec, Split
from datasets.memory import Arrays, Entry, cached
from datasets.synth import characters
from datasets.synth.characters import FOLDER, RenderConfig, Sheets, write_characters

VERSION = 2
DOWNLOAD = (
    "nothing is fetched: put V3's Sprites_h5, or the sheets of github.com/YingzhenLi/Sprites (2 MB, CC BY-SA 3.0 and "
    "GPL 3.0), into the data folder"
)
NAMES = ("sprites", "Sprites")
POSES, KINDS, SHAPE = 9, 7, (3, 64, 64)  # kinds: sheets of body, bottomwear and topwear
BLOCK = 32  # pages jittered at once
SHOWN, STRONG = 10, (0.1, 0.1, 0.2, 0.2)  # pages that are drawn, and how the original jitters them then
CHARACTERS: dict[Split, int] = {"train": 1728, "val": 216, "test": 216}
Share = Annotated[float, Field(ge=0, le=1)]


class Config(config.Config):
    """Options of Sprites."""

    source: Literal["auto", "files", "sheets"] = Field(
        "auto", description="files = Sprites_h5, sheets = composed of the sheets; auto = files where there are any"
    )
    characters: Literal["published", "ood"] = Field(
        "published", description="those of training, or ten of unseen body and clothes, which need sheets"
    )
    copies: int = Field(100, ge=1, le=1000, description="of each unseen character, jittered by V3's ranges (V3: 100)")
    items: Items = Field("pages", description="pages = characters in n poses; fragments = each pose by itself")
    n: int = Field(
        POSES, ge=2, le=POSES, description="fragments of a page, consecutive ones where fewer than 9 (V3: 9)"
    )
    jitter: tuple[Share, Share, Share, Annotated[float, Field(ge=0, le=0.5)]] = Field(
        PUBLISHED,
        description="half-ranges of brightness, contrast, saturation (factors) and hue (turns), a draw a page",
    )
    augment: Augment = Field("train", description="what is jittered: training alone, or all that is seen (V3: all)")
    seed: int = Field(
        0,
        ge=0,
        lt=2**31,
        description="of the jitter of fragments by themselves and of copies, and of poses' order in composed pages",
    )
    limit: int | None = Field(None, ge=1, description="at most so many characters of each split, for trial runs")


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; on first use its characters are unpacked or composed into the cache (110 kB each).

    Raises:
        DataError: files are missing or damaged, or the cache has no space.
    """
    entry = _entry(cfg, root, split)
    number = np.asarray(entry.arrays["style"])
    parts = characters.LAYERS[:3]  # not hair: validation and test have one each
    worn = {part: number // 10 ** (3 - place) % 10 for place, part in enumerate(parts)}
    begin = np.arange(len(number)) * POSES
    book = Book(entry.arrays["x"], begin, np.full(len(number), POSES), {"content": np.asarray(entry.arrays["content"])},
                {"style": number, **worn})  # fmt: skip
    book = book.take(_parts.limited(np.zeros(len(number), int), cfg.limit, cfg.seed))
    pages = cfg.items == "pages"
    whole = cfg.characters == "ood" or len(number) == CHARACTERS[split]
    spec = Spec(
        shape=(cfg.n, *SHAPE) if pages else SHAPE,
        labels={"content": POSES, "style": 10_000, **dict.fromkeys(parts, KINDS)},
        fingerprint=entry.fingerprint,
        note="" if whole else f"{len(number):,} of {CHARACTERS[split]:,} {split} characters present",
    )
    alter = partial(jittered, ranges=cfg.jitter) if cfg.augment == "all" or split == "train" else None
    return Pages(book, spec, alter=alter) if pages else Fragments(book, spec, alter, cfg.seed)


def evaluated(cfg: Config) -> Config:
    """Without the jitter, in the training split too."""
    return cfg if cfg.augment == "all" else cfg.model_copy(update={"jitter": (0.0, 0.0, 0.0, 0.0)})


def render(cfg: RenderConfig, sheets: str, out: Path) -> Iterator[str]:
    """Lines of `sweep data sprites --render SHEETS OUT`, which composes all characters.

    Raises:
        DataError: a sheet is missing or damaged, the files are there already, or `out` cannot be written.
    """
    try:
        yield from write_characters(cfg, Path(sheets), out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror or error}); choose another folder") from None


def draw(cfg: Config, root: Path | None, out: Path) -> Iterator[str]:
    """Ten pages as a film, OUT/sprites.gif, and as strips with a strong jitter, OUT/sprites_strips.png.

    Raises:
        DataError: as in `open`.
    """
    source = open(evaluated(cfg).model_copy(update={"items": "pages"}), root, "train")
    index = torch.randperm(len(source), generator=torch.Generator().manual_seed(cfg.seed))[:SHOWN]
    pages = source.fetch(index, torch.Generator().manual_seed(cfg.seed)).views[0]
    yield str(film(out / "sprites.gif", pages))
    yield str(strips(out / "sprites_strips.png", jittered(pages, index.numpy(), cfg.seed, STRONG)))


def _entry(cfg: Config, root: Path | None, split: Split) -> Entry:
    places = {"files": f"{FOLDER}/{split}.hdf5", "sheets": "sheets/body/0.png"}
    if cfg.characters == "ood":
        if cfg.source == "files":
            raise DataError("sprites: data.characters=ood is composed of sheets; leave data.source=files out")
        del places["files"]
    for source, marker in places.items():
        if cfg.source not in ("auto", source):
            continue
        try:
            folder = _parts.find(root, marker, NAMES)
        except DataError as error:
            missing = str(error).split("; ")[0]
            continue
        if source == "files":
            return _unpacked(folder / marker, split)
        return _composed(cfg, folder / "sheets", split)
    hint = f"put {FOLDER} or sheets/ there, or make the first: `sweep data sprites --render SHEETS DIR`"
    hint = hint if cfg.characters == "published" else "data.characters=ood needs the sheets there"
    raise DataError(f"{missing}; {hint}")


def _unpacked(file: Path, split: Split) -> Entry:
    return cached(_parts.key(f"sprites-{split}", VERSION, [file]), lambda: _read(file))


def _read(file: Path) -> Arrays:
    import h5py

    seq, content, style = [], [], []
    try:
        with h5py.File(file) as pages:
            for name in sorted(pages, key=int):
                page = {key: pages[name][key][:] for key in ("seq", "c")}
                if page["seq"].shape != (POSES, *SHAPE) or page["seq"].dtype != np.uint8 or page["c"].shape != (POSES,):
                    raise DataError(f"sprites: {file}: page {name} should hold seq (9, 3, 64, 64) of bytes and c (9,)")
                if not 0 <= page["c"].min() <= page["c"].max() < POSES or not _is_character(int(name)):
                    raise DataError(
                        f"sprites: {file}: page {name} should have content 0 .. 8 and a number of digits 0-6"
                    )
                seq.append(page["seq"])
                content.append(page["c"].astype(np.int64))
                style.append(int(name))
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"sprites: {file}: damaged ({' '.join(str(error).split())[:120]}); fetch it again") from None
    if not seq:
        raise DataError(f"sprites: {file}: holds no page")
    return {"x": np.concatenate(seq), "content": np.concatenate(content), "style": np.array(style)}


def _is_character(number: int) -> bool:
    return 0 <= number < 10_000 and max(characters.digits(number)[:3]) < KINDS


def _composed(cfg: Config, sheets: Path, split: Split) -> Entry:
    files = sorted(sheets.glob("*/*.png"))
    if cfg.characters == "ood":
        key = _parts.key(f"sprites-ood-{split}", characters.VERSION, files, VERSION, cfg.seed, cfg.copies)
        return cached(key, lambda: _copies(Sheets(sheets), cfg, characters.unseen(split)))
    key = _parts.key(f"sprites-composed-{split}", characters.VERSION, files, cfg.seed)
    return cached(key, lambda: _compose(Sheets(sheets), cfg.seed, characters.characters(split)))


def _compose(sheets: Sheets, seed: int, numbers: list[int]) -> Arrays:
    content = [characters.order(seed, number) for number in numbers]
    x = np.concatenate([sheets.compose(number)[own] for number, own in zip(numbers, content, strict=True)])
    return {"x": x, "content": np.concatenate(content), "style": np.array(numbers)}


def _copies(sheets: Sheets, cfg: Config, numbers: list[int]) -> Arrays:
    """Characters in copies, each with an order and colours of its own."""
    style = np.repeat(numbers, cfg.copies)
    copy = np.tile(np.arange(cfg.copies), len(numbers))
    content = [characters.order(cfg.seed, *map(int, page)) for page in zip(style, copy, strict=True)]
    made = []
    for begin in range(0, len(style), BLOCK):
        rows = range(begin, min(begin + BLOCK, len(style)))
        plain = np.stack([sheets.compose(int(style[row]))[content[row]] for row in rows])
        x = torch.from_numpy(plain).float().div_(255)
        page = (style * 1000 + copy)[begin : begin + BLOCK]
        made.append((jittered(x, page, cfg.seed, PUBLISHED) * 255).round().to(torch.uint8).flatten(0, 1).numpy())
    return {"x": np.concatenate(made), "content": np.concatenate(content), "style": style}
