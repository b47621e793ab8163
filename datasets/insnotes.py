"""InsNotes: recordings of twelve instruments; a page is twelve notes of one, a fragment a note's log spectrum, 512x32.

Source: the data of V3 (Wu et al., "Unsupervised Disentanglement of Content and Style via Variance-Invariance
Constraints", ICLR 2025, arXiv 2407.03824). Layout, in ROOT or ROOT/insnotes:

    InsNotes/{train,val,test}/insII_JJ.npy       (513, frames) float32, log(|STFT| + 1e-5), 33 frames a note

Where there are none, twelve made instruments play (`datasets.synth.notes`), once, into the cache; the split of their
recordings is 80/10/10 or as near as it goes. Labels of a fragment: "content", its pitch (12). Of a page: "style", the
instrument (12). Spectra v are delivered as (v - log 1e-5) / 18, in [0, 1]; `views.normalize: {mean: [0.6396051], std:
[0.0555556]}` gives them back. Pages begin at any note, the first following the last. In every page of training
a band of rows is masked with 0, which is magnitude 1; what evaluations see is whole (`augment: all` is what was
published: it is masked too).
"""

from __future__ import annotations

import math
import re
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from datasets import _notes, _parts, config
from datasets._notes import FLOOR, HOP, N_FFT, PITCHES
from datasets._pages import Augment, Book, Fragments, Items, Pages, uniform
from datasets._progress import Progress
from datasets.base import SPLITS, DataError, Source, Spec, Split
from datasets.memory import Entry, allocated, stored
from datasets.synth import notes

VERSION = 2
DOWNLOAD = "nothing is fetched: made instruments play where the data folder holds no InsNotes"
FOLDER, NAMES = "InsNotes", ("insnotes",)
NAMED = re.compile(r"ins(\d\d)_\d+\.npy")
ROWS, COLUMNS = N_FFT // 2, 32
LOW, RANGE = math.log(FLOOR), 18.0  # of log magnitudes: a peak of 0.9 gives log 461 at most
STEPS = 65_535  # of 16 bits


class Made(config.Config):
    """The recordings that are made."""

    takes: int = Field(10, ge=3, le=1000, description="recordings of each instrument (V3: 100)")
    notes: int = Field(12, ge=2, le=120, description="notes of a recording, 32 kB each (V3: 120)")
    bounded: bool = Field(True, description="loudness in [0.8, 1.2], as meant; false = a walk without bounds, as in V3")
    seed: int = Field(0, ge=0, lt=2**31, description="of velocities and loudness")


class Config(config.Config):
    """Options of InsNotes."""

    source: Literal["auto", "files", "made"] = Field(
        "auto", description="files = of the data folder, made = synthesised; auto = files where there are any"
    )
    items: Items = Field("pages", description="pages = n notes; fragments = each note by itself")
    n: int = Field(12, ge=2, le=120, description="notes of a page (V3: 12)")
    consecutive: bool = Field(True, description="notes as they follow each other; false = any, in a random order")
    mask: float = Field(15, ge=0, le=256, description="rows, a page's mask has U(0, this) of them (V3: 15)")
    augment: Augment = Field("train", description="what is masked: training alone, or all that is seen (V3: all)")
    split_seed: int = Field(0, ge=0, lt=2**31, description="which recording goes to which split, of made ones")
    limit: int | None = Field(None, ge=1, description="at most so many recordings of each split, for trial runs")
    made: Made = Field(Made(), description="of the synthesised set")


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; on first use its spectra are read or made into the cache.

    Raises:
        DataError: files are missing or damaged, recordings have fewer than n notes, or the cache has no space.
    """
    found = None if cfg.source == "made" else _find(cfg, root)
    entry = _synthesised(cfg.made) if found is None else _read(found / split)
    style, count = np.asarray(entry.arrays["style"]), np.asarray(entry.arrays["count"])
    rows = np.arange(len(style)) if found else _part(style, cfg.split_seed, split)
    rows = rows[_parts.limited(style[rows], cfg.limit, cfg.split_seed)]
    begin = np.cumsum(count) - count
    content = (np.arange(count.sum()) - np.repeat(begin, count)) % PITCHES
    book = Book(entry.arrays["x"], begin, count, {"content": content}, {"style": style}).take(rows)
    if cfg.items == "pages" and int(book.count.min()) < cfg.n:
        raise DataError(f"insnotes: has recordings of {int(book.count.min())} notes; lower data.n (it is {cfg.n})")
    shape = (1, ROWS, COLUMNS)
    spec = Spec(
        shape=(cfg.n, *shape) if cfg.items == "pages" else shape,
        labels={"content": PITCHES, "style": notes.INSTRUMENTS},
        fingerprint=entry.fingerprint,
        note="" if found or cfg.source == "made" else "made instruments: no 'InsNotes' in the data folder",
    )
    alter = partial(_masked, widest=cfg.mask) if cfg.mask and (cfg.augment == "all" or split == "train") else None
    if cfg.items == "fragments":
        return Fragments(book, spec, alter, cfg.split_seed)
    return Pages(book, spec, "ring" if cfg.consecutive else "any", alter)


def evaluated(cfg: Config) -> Config:
    """Without the mask, in the training split too."""
    return cfg if cfg.augment == "all" else cfg.model_copy(update={"mask": 0.0})


def _masked(x: Tensor, pages: np.ndarray, salt: int, widest: float) -> Tensor:
    rows = _notes.band(ROWS, uniform(salt, pages, 0, 0, widest), uniform(salt, pages, 1, 0, 1))
    return torch.where(rows[:, None, None, :, None], -LOW / RANGE, x)


def _find(cfg: Config, root: Path | None) -> Path | None:
    try:
        return _parts.find(root, f"{FOLDER}/test", NAMES) / FOLDER
    except DataError as error:
        if cfg.source == "auto":
            return None
        raise DataError(f"{str(error).split('; ')[0]}; put it there, or set data.source=made") from None


def _part(style: np.ndarray, seed: int, split: Split) -> np.ndarray:
    """Recordings of a split, with equal shares of the instruments."""
    part = max(notes.INSTRUMENTS, round(len(style) * 0.1))
    return _parts.parts(style, [len(style) - 2 * part, part], seed)[SPLITS.index(split)]


def _packed(spectrum: np.ndarray) -> np.ndarray:
    """The notes (n, 1, 512, 32) uint16 of a log spectrum (513, frames)."""
    count = spectrum.shape[1] // (COLUMNS + 1)
    fragments, _ = _notes.windows(spectrum, np.zeros(1, int), count, COLUMNS)
    return np.rint(((fragments[0, :, None] - LOW) / RANGE).clip(0, 1) * STEPS).astype(np.uint16)


def _synthesised(made: Made) -> Entry:
    style = np.repeat(np.arange(notes.INSTRUMENTS), made.takes)

    def write(folder: Path) -> None:
        shape = len(style) * made.notes, 1, ROWS, COLUMNS
        x = allocated(folder / "x.npy", np.dtype(np.uint16), shape, "lower data.made.takes or data.made.notes")
        progress = Progress("insnotes: playing recording", len(style))
        for number, instrument in enumerate(style.tolist()):
            sound = notes.recording(instrument, number % made.takes, made.notes, made.seed, made.bounded)
            spectrum = _notes.log_magnitude(torch.from_numpy(np.pad(sound, (0, HOP)).astype(np.float32)))
            x[number * made.notes : (number + 1) * made.notes] = _packed(spectrum.numpy())
            progress.add()
        x.flush()
        np.save(folder / "style.npy", style)
        np.save(folder / "count.npy", np.full(len(style), made.notes))

    return stored(_parts.key("insnotes-made", notes.VERSION, [], VERSION, repr(made)), write)


def _read(folder: Path) -> Entry:
    files = sorted(path for path in folder.glob("*.npy") if NAMED.fullmatch(path.name))
    if not files:
        raise DataError(f"insnotes: no file such as ins00_00.npy in {folder}")
    spectra = [_opened(path) for path in files]
    count = np.array([one.shape[1] // (COLUMNS + 1) for one in spectra])

    def write(target: Path) -> None:
        shape = int(count.sum()), 1, ROWS, COLUMNS
        x = allocated(target / "x.npy", np.dtype(np.uint16), shape, "delete recordings")
        progress = Progress("insnotes: reading recording", len(files))
        for spectrum, end, length in zip(spectra, np.cumsum(count), count, strict=True):
            x[end - length : end] = _packed(np.asarray(spectrum))
            progress.add()
        x.flush()
        np.save(target / "style.npy", np.array([int(path.name[3:5]) for path in files]))
        np.save(target / "count.npy", count)

    return stored(_parts.key(f"insnotes-{folder.name}", VERSION, files), write)


def _opened(path: Path) -> np.ndarray:
    try:
        spectrum: np.ndarray = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"insnotes: {path}: damaged ({' '.join(str(error).split())[:120]})") from None
    wrong = spectrum.ndim != 2 or spectrum.shape[0] != ROWS + 1 or spectrum.shape[1] <= COLUMNS
    if wrong or spectrum.dtype.kind != "f" or int(path.name[3:5]) >= notes.INSTRUMENTS:
        raise DataError(f"insnotes: {path}: should be a spectrum (513, frames) of an instrument 00 .. 11")
    return spectrum
