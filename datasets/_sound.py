"""Sound: files read and resampled once into one shared array, and the source that cuts items out of it.

An entry of the cache holds a set of recordings of any lengths: "x" int16, one after the other, and "offsets" (n + 1,),
where each begins. Behind the last follows silence as long as the longest, so that a window may begin anywhere in a
recording; what lies behind the recording's end is then filled with zeros. A batch is one index operation.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from datasets._draws import below, salt_of
from datasets._progress import Progress, in_threads
from datasets.base import Batch, DataError, Spec
from datasets.memory import Arrays, Entry, allocated, stored

VERSION = 1
RATE = 16_000
FRAME = 160  # samples of a frame of labels, 10 ms
SCALE = 32768  # of int16
LOOSE = 0.2  # seconds by which the header of an MP3 may be wrong
UNKNOWN, SLACK = 0x7FFF0000, 1024  # bytes of a WAV: more than this is written where nobody knew; that a file may lack


def read(path: Path, rate: int = RATE) -> Tensor:
    """A recording as (T,) float32 in [-1, 1] at `rate`; several channels are averaged.

    Raises:
        DataError: missing, damaged or empty.
    """
    import soundfile

    try:
        content, have = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"{path}: {_reason(path, error)}") from None
    if _torn(path):  # libsndfile reads what is left
        raise DataError(f"{path}: damaged (its header promises more than it holds); fetch it again")
    x = torch.from_numpy(content).mean(1)
    if len(x) == 0 or not bool(x.isfinite().all()):
        raise DataError(f"{path}: {'holds no sound' if len(x) == 0 else 'holds values that are not finite'}")
    return resample(x, have, rate)


def _torn(path: Path) -> bool:
    """Whether a WAV is shorter than its header says."""
    with path.open("rb") as file:
        head = file.read(8)
    if len(head) < 8 or head[:4] != b"RIFF":
        return False
    size = int(struct.unpack("<I", head[4:])[0])
    return size < UNKNOWN and size + 8 > path.stat().st_size + SLACK


def resample(x: Tensor, have: int, want: int) -> Tensor:
    """x (..., T) at the rate `have`, resampled by a windowed sinc, with the defaults of torchaudio."""
    return x if have == want else _resampler(have, want)(x)


@cache
def _resampler(have: int, want: int) -> nn.Module:
    from torchaudio.transforms import Resample  # takes seconds to import

    return Resample(have, want)


def resampled_length(count: int, have: int, want: int = RATE) -> int:
    """Samples that `count` samples become."""
    return math.ceil(count * want / have)


def to_int16(x: Tensor) -> np.ndarray:
    """Float in [-1, 1] rounded to 16 bits; what resampling carries beyond is clipped."""
    return (x * SCALE).round().clamp(-SCALE, SCALE - 1).to(torch.int16).numpy()


def write(path: Path, x: np.ndarray, rate: int) -> None:
    """A mono WAV of 16 bits, and the folder it lies in; x (T,) in [-1, 1]."""
    import soundfile

    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, to_int16(torch.from_numpy(x)), rate, subtype="PCM_16")


def count(path: Path, rate: int = RATE) -> int:
    """Samples at `rate`, from the header alone.

    Raises:
        DataError: missing or damaged.
    """
    import soundfile

    try:
        about = soundfile.info(path)
    except (soundfile.SoundFileError, OSError) as error:
        raise DataError(f"{path}: {_reason(path, error)}") from None
    return resampled_length(about.frames, about.samplerate, rate)


def counts(files: Sequence[Path], rate: int = RATE) -> np.ndarray:
    """Samples of each recording, (n,) int64, from the headers alone, which are read side by side."""
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        return np.array(list(pool.map(lambda path: count(path, rate), files, chunksize=64)), np.int64)


def _reason(path: Path, error: Exception) -> str:
    if not path.exists():
        return "no such file"
    said = getattr(error, "error_string", str(error))  # without the path
    return f"damaged ({' '.join(said.split())[:120]}); fetch it again"


def packed(
    key: str, files: Sequence[Path], hint: str = "lower data.limit", rate: int = RATE, most: int | None = None
) -> Entry:
    """All recordings at one rate, decoded on the first call by as many threads as there are cores.

    Args:
        key: of the cache; it names the files and their state. hint: what makes the entry smaller, for errors.
        most: samples that are kept of a recording, those in its middle; None = all.

    Raises:
        DataError: a file is missing or damaged, or there is no space for the entry.
    """
    return stored(key, lambda folder: _pack(folder, key.rpartition("-")[0], files, hint, rate, most))


def _pack(folder: Path, name: str, files: Sequence[Path], hint: str, rate: int, most: int | None) -> None:
    there = counts(files, rate)
    kept = there if most is None else np.minimum(there, most)
    offsets = np.concatenate([[0], np.cumsum(kept)])
    longest = int(np.diff(offsets).max(initial=0))
    x = allocated(folder / "x.npy", np.dtype(np.int16), (int(offsets[-1]) + longest,), hint)
    np.save(folder / "offsets.npy", offsets)
    progress = Progress(f"{name}: packing recording", len(files))

    def one(number: int) -> None:
        sound = to_int16(read(files[number], rate))
        begin, end = offsets[number : number + 2]
        # the resampler may round a length the other way
        if abs(len(sound) - there[number]) > (LOOSE * rate if files[number].suffix.lower() == ".mp3" else 1):
            raise DataError(f"{files[number]}: damaged (its header promises more than it holds); fetch it again")
        sound = sound[(there[number] - (end - begin)) // 2 :]
        x[begin : begin + len(sound)][: end - begin] = sound[: end - begin]

    in_threads(one, len(files), progress)
    x.flush()


def joined(items: Sequence[np.ndarray], fill: int = 0) -> Arrays:
    """Arrays (n_i,) in the form of an entry: "x", with a tail of `fill`, and "offsets"."""
    offsets = np.concatenate([[0], np.cumsum([len(item) for item in items])]).astype(np.int64)
    longest = int(np.diff(offsets).max(initial=0))
    return {"x": np.concatenate([*items, np.full(longest, fill, items[0].dtype)]), "offsets": offsets}


@dataclass(frozen=True)
class Pieces:
    """Stretches of one flat array: piece i is flat[begin[i] : begin[i] + count[i]].

    No window of the longest piece's length leaves the array, wherever in a piece it begins.
    """

    flat: np.ndarray
    begin: np.ndarray
    count: np.ndarray

    @classmethod
    def of(cls, arrays: Arrays) -> Pieces:
        """All recordings of an entry."""
        offsets = np.asarray(arrays["offsets"])
        return cls(arrays["x"], offsets[:-1], np.diff(offsets))

    def __len__(self) -> int:
        return len(self.begin)

    def take(self, rows: np.ndarray) -> Pieces:
        """Some of them, in this order."""
        return Pieces(self.flat, self.begin[rows], self.count[rows])

    def windows(self, rows: np.ndarray, start: np.ndarray, length: int, fill: int = 0) -> np.ndarray:
        """(B, length): of each piece what lies from `start` (B,) on, `fill` behind its end."""
        width = min(length, int(self.count.max(initial=1)))
        found = np.lib.stride_tricks.sliding_window_view(self.flat, width)[self.begin[rows] + start]
        if width < length:
            found = np.pad(found, ((0, 0), (0, length - width)), constant_values=fill)
        left = (self.count[rows] - start)[:, None]
        if (left < length).any():
            found[np.arange(length) >= left] = fill
        return found


class Sounds:
    """Windows of one length, (1, T) in [-1, 1], from the beginning of each recording or from a place that is drawn.

    Places are drawn from (salt of the generator, position of the item), see `datasets._draws`: the same on any number
    of ranks, and others in each batch of `fit`.

    Attributes:
        spec: of the items; T is its shape's.
    """

    def __init__(
        self,
        sound: Pieces,
        spec: Spec,
        labels: Arrays,
        params: Arrays | None = None,
        frames: dict[str, Pieces] | None = None,
        late: dict[str, np.ndarray] | None = None,
        grid: int = 0,
        affine: tuple[float, float] = (1.0, 0.0),
    ) -> None:
        """The items of one split.

        Args:
            labels: factor -> (n,). params: name -> (n, k). frames: factor -> labels of each recording, one for every
                `FRAME` samples.
            late: factor -> (n,) at which frame of a window that begins at 0 its first label stands; else at the first.
            grid: a window begins at 0, or for grid > 0 at one of grid, 2 grid, ... below usable - T, each as likely,
                where usable is the recording's length rounded down to the grid; at 0 where there is no such place.
            affine: (a, b) of a x + b, which items then are instead of x.
        """
        self.spec, self.grid, self.affine = spec, grid, affine
        self._sound, self._frames, self._late = sound, frames or {}, late or {}
        self._labels = {name: torch.from_numpy(np.asarray(value)) for name, value in labels.items()}
        self._params = {name: torch.from_numpy(np.asarray(value, np.float32)) for name, value in (params or {}).items()}

    def __len__(self) -> int:
        return len(self._sound)

    def fetch(self, index: Tensor, rng: torch.Generator) -> Batch:
        """The items at `index` (B,), with labels (B,), or (B, F) and -1 for none where they are given per frame."""
        at, length = index.numpy(), self.spec.shape[-1]
        start = self._starts(at, rng)
        x = torch.from_numpy(self._sound.windows(at, start, length)).float().mul_(self.affine[0] / SCALE)
        labels = {name: value[index] for name, value in self._labels.items()}
        for name, pieces in self._frames.items():
            given = pieces.windows(at, np.minimum(start // FRAME, pieces.count[at]), length // FRAME, -1)
            labels[name] = torch.from_numpy(_shifted(given, self._late, name, at).astype(np.int64))
        params = {name: value[index][None] for name, value in self._params.items()}
        return Batch([x.add_(self.affine[1])[:, None]], index, params=params, labels=labels)

    def _starts(self, at: np.ndarray, rng: torch.Generator) -> np.ndarray:
        if not self.grid:
            return np.zeros(len(at), np.int64)
        places = crops(self._sound.count[at], self.spec.shape[-1], self.grid)
        drawn = self.grid * (1 + below(salt_of(rng), at, np.maximum(places, 1)))
        return np.where(places > 0, drawn, 0)


def _shifted(given: np.ndarray, late: dict[str, np.ndarray], name: str, at: np.ndarray) -> np.ndarray:
    """Labels (B, F) of the items `at` moved behind, with -1 before them; what leaves the window is lost."""
    if name not in late or not late[name][at].any():
        return given
    place = np.arange(given.shape[1]) - late[name][at][:, None]
    moved: np.ndarray = np.where(place < 0, -1, np.take_along_axis(given, np.maximum(place, 0), 1))
    return moved


def crops(counts: np.ndarray, length: int, grid: int = FRAME) -> np.ndarray:
    """(n,) how many places a window of `length` has in recordings of `counts` samples; below 1 = too short."""
    usable = counts // grid * grid
    return -(-(usable - length) // grid) - 1
