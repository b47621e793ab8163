"""Log spectra of InsNotes as entries of the cache, 16 bits a value: of files, of what is played; and files of them.

An entry holds "x" (notes, 1, 512, 32), all recordings one after the other, "style" (R,) and "count" (R,) of notes of
each, and "player", by whom.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from datasets import _notes, _parts
from datasets._notes import FLOOR, HOP, N_FFT
from datasets._progress import Progress, in_threads
from datasets.base import DataError
from datasets.memory import Entry, allocated, stored
from datasets.synth import notes
from datasets.synth.notes import FIRST, PROGRAMS
from datasets.synth.soundfont import Player

VERSION = 3
NAMED = re.compile(r"ins(\d\d)_\d+\.npy")
ROWS, COLUMNS = N_FFT // 2, 32
LONGEST = 120  # notes of a recording; behind them files may have what rings on
LOW, RANGE = math.log(FLOOR), 18.0  # of log magnitudes: a peak of 0.9 gives log 461 at most
STEPS = 65_535  # of 16 bits


def spectrum(instrument: int, take: int, length: int, seed: int, bounded: bool, player: Player | None) -> np.ndarray:
    """The log spectrum (513, 33 length + 2) float32 of a recording, see `datasets.synth.notes.recording`."""
    sound = notes.recording(instrument, take, length, seed, bounded, player)
    return _notes.log_magnitude(torch.from_numpy(np.pad(sound, (0, HOP)).astype(np.float32))).numpy()


def played(instruments: str, takes: int, length: int, seed: int, bounded: bool, player: Player | None) -> Entry:
    """All recordings, played on the first call.

    Args:
        instruments: "published" or "ood". takes: recordings of each. length: notes of each.

    Raises:
        DataError: the player fails, or the cache has no space.
    """
    style = np.repeat(np.arange(len(PROGRAMS[instruments])), takes)

    def write(folder: Path) -> None:
        shape = len(style) * length, 1, ROWS, COLUMNS
        x = allocated(folder / "x.npy", np.dtype(np.uint16), shape, "lower data.made.takes or data.made.notes")

        def play(row: int) -> None:
            instrument = FIRST[instruments] + int(style[row])
            made = spectrum(instrument, row % takes, length, seed, bounded, player)
            x[row * length : (row + 1) * length] = packed(made)

        in_threads(play, len(style), Progress("insnotes: playing recording", len(style)))
        x.flush()
        _save(folder, style, np.full(len(style), length), player.name if player else "made instruments")

    options = instruments, takes, length, seed, bounded, player.version if player else None
    key = _parts.key("insnotes-made", notes.VERSION, [player.soundfont] if player else [], VERSION, *options)
    return stored(key, write)


def read(folder: Path, styles: int) -> Entry:
    """The files of a folder, read on the first call.

    Args:
        styles: how many instruments there are.

    Raises:
        DataError: there are none, one is damaged, or the cache has no space.
    """
    files = sorted(path for path in folder.glob("*.npy") if NAMED.fullmatch(path.name))
    if not files:
        raise DataError(f"insnotes: no file such as ins00_00.npy in {folder}")
    spectra = [_opened(path, styles) for path in files]
    count = np.array([min(one.shape[1] // (COLUMNS + 1), LONGEST) for one in spectra])

    def write(target: Path) -> None:
        shape = int(count.sum()), 1, ROWS, COLUMNS
        x = allocated(target / "x.npy", np.dtype(np.uint16), shape, "delete recordings")
        progress = Progress("insnotes: reading recording", len(files))
        for one, end, length in zip(spectra, np.cumsum(count), count, strict=True):
            x[end - length : end] = packed(np.asarray(one))
            progress.add()
        x.flush()
        _save(target, np.array([int(path.name[3:5]) for path in files]), count, "")

    return stored(_parts.key(f"insnotes-{folder.name}", VERSION, files), write)


def packed(spectrum: np.ndarray) -> np.ndarray:
    """The notes (n, 1, 512, 32) uint16 of a log spectrum (513, frames), 120 of a longer one."""
    spectrum = spectrum[:, : LONGEST * (COLUMNS + 1)]
    count = spectrum.shape[1] // (COLUMNS + 1)
    fragments, _ = _notes.windows(spectrum, np.zeros(1, int), count, COLUMNS)
    return np.rint(((fragments[0, :, None] - LOW) / RANGE).clip(0, 1) * STEPS).astype(np.uint16)


def named(instrument: int, take: int) -> str:
    """The name of a recording, ins00_00 and so on, `instrument` being its label."""
    return f"ins{instrument:02}_{take:02}"


def _save(folder: Path, style: np.ndarray, count: Sequence[int] | np.ndarray, player: str) -> None:
    for name, array in (("style", style), ("count", np.asarray(count)), ("player", np.array([player]))):
        np.save(folder / f"{name}.npy", array)


def _opened(path: Path, styles: int) -> np.ndarray:
    try:
        spectrum: np.ndarray = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"insnotes: {path}: damaged ({' '.join(str(error).split())[:120]})") from None
    wrong = spectrum.ndim != 2 or spectrum.shape[0] != ROWS + 1 or spectrum.shape[1] <= COLUMNS
    if wrong or spectrum.dtype.kind != "f" or int(path.name[3:5]) >= styles:
        last = f"{styles - 1:02}"
        raise DataError(f"insnotes: {path}: should be a spectrum (513, frames) of an instrument 00 .. {last}")
    return spectrum
