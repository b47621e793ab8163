"""Phonemes of LibriSpeech: a page is eight in a row of one speaker, a fragment the mel spectrum of one, 80x64.

Source: the data of V3 (Wu et al., "Unsupervised Disentanglement of Content and Style via Variance-Invariance
Constraints", ICLR 2025, arXiv 2407.03824): train-clean-100, dev-clean and test-clean (Panayotov et al., ICASSP 2015),
aligned by the Montreal Forced Aligner. Layout, in ROOT or ROOT/librispeech:

    Librispeech100_h5/{train,val,test}.hdf5
        an array a SPEAKER-CHAPTER-UTTERANCE: (phonemes, 80, 64) float32 in dB, -80 .. 0; its attribute `phonemes` has
        their names or numbers

`sweep data librispeech_phonemes --render FOLDER OUT` writes them. Where there are none, speech is synthesised
(`datasets.synth.speech`): words of six phonemes by speakers who differ in the length of their vocal tract, aligned by
construction, split 80/10/10 within speakers.

Labels of a fragment: "content", its phoneme (39, see `datasets._phonemes`). Of a page: "style", the speaker, among
those of all three files. A page is any n in a row; a shorter utterance begins anew behind its end. Values of d dB are
delivered as (d + 90) / 100, in [0, 1] (resizing overshoots a little). `views.normalize: {mean: [0.5], std: [0.4]}`
gives d / 40 + 1, which lies in about [-1, 1]; `{mean: [0.9], std: [0.01]}` the published dB, whose loss is two to three
orders above other terms.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from scipy.signal import resample_poly

from datasets import _alignments, _parts, _phonemes, _sound, config
from datasets._alignments import Aligned
from datasets._pages import Book, Fragments, Items, Pages
from datasets._phonemes import BANDS, COLUMNS, PHONEMES, RATE
from datasets._progress import Progress, in_threads
from datasets.atomic import replacing
from datasets.base import SPLITS, DataError, Source, Spec, Split
from datasets.memory import Arrays, Entry, allocated, cached, stored
from datasets.synth import speech

VERSION = 1
DOWNLOAD = (
    "nothing is fetched: write V3's files of LibriSpeech (6.3 GB, CC BY 4.0, openslr.org/12) and alignments of it by "
    "--render; speech is synthesised where the data folder holds none"
)
FOLDER, NAMES = "Librispeech100_h5", ("librispeech_phonemes", "librispeech")
LOWEST, RANGE, STEPS = -90.0, 100.0, 65_535  # dB; of 16 bits
SPOKEN = ("b", "d", "g", "aa", "iy", "uw")  # of synthesised words
STRETCH, SHORTEST, LONGEST = 40, 32, 50  # a speaker's tract is 40 / 50 to 40 / 32 as long as that of synthesised words
BLOCK = 32  # utterances at once


class Synthetic(config.Config):
    """The set that is synthesised where there is none."""

    speakers: int = Field(10, ge=2, le=LONGEST - SHORTEST + 1, description="speakers, in each split")
    utterances: int = Field(20, ge=10, le=1000, description="of each speaker, in all splits")
    words: int = Field(3, ge=1, le=20, description="of an utterance, six phonemes each")
    seed: int = Field(0, ge=0, lt=2**31, description="of words and how they are spoken")


class Config(config.Config):
    """Options of LibriSpeech's phonemes."""

    source: Literal["auto", "files", "synthetic"] = Field(
        "auto", description="files = of the data folder, synthetic = made speech; auto = files where there are any"
    )
    items: Items = Field("pages", description="pages = n phonemes in a row; fragments = each phoneme by itself")
    n: int = Field(8, ge=2, le=64, description="phonemes of a page (V3: 8)")
    split_seed: int = Field(0, ge=0, lt=2**31, description="which utterance goes to which split, of made speech")
    limit: int | None = Field(None, ge=1, description="at most so many utterances of each split; no other is read")
    synthetic: Synthetic = Field(Synthetic(), description="of the synthesised set")


class RenderConfig(config.Config):
    """How V3's files are written."""

    train: str = Field("train-clean-100", pattern=r"^[a-z0-9-]+$", description="folder in LibriSpeech/ that trains")
    val: str = Field("dev-clean", pattern=r"^[a-z0-9-]+$", description="folder that validates")
    test: str = Field("test-clean", pattern=r"^[a-z0-9-]+$", description="folder that tests")
    alignments: str | None = Field(None, description="folder of the alignments; None = the one that holds LibriSpeech/")
    limit: int | None = Field(None, ge=1, description="at most so many utterances of each split, for trial runs")


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; on first use its phonemes are read or made into the cache (10 kB each).

    Raises:
        DataError: files are missing or damaged, or the cache has no space.
    """
    found = None if cfg.source == "synthetic" else _find(cfg, root, split)
    entry, rows, style, speakers = _spoken(cfg, split) if found is None else _files(cfg, found, split)
    count, pages = np.asarray(entry.arrays["count"]), cfg.items == "pages"
    book = Book(entry.arrays["x"], np.cumsum(count) - count, count, {"content": np.asarray(entry.arrays["content"])},
                {"style": style}).take(rows)  # fmt: skip
    shape = (1, BANDS, COLUMNS)
    spec = Spec(
        shape=(cfg.n, *shape) if pages else shape,
        labels={"content": len(PHONEMES), "style": speakers},
        fingerprint=entry.fingerprint,
        note="" if found or cfg.source == "synthetic" else f"synthesised speech: no '{FOLDER}' in the data folder",
    )
    return Pages(book, spec) if pages else Fragments(book, spec)


def render(cfg: RenderConfig, source: str, out: Path) -> Iterator[str]:
    """Lines of `sweep data librispeech_phonemes --render FOLDER OUT`; FOLDER holds LibriSpeech/ and its alignments.

    Raises:
        DataError: recordings or alignments are missing or damaged, the files are there already, or cannot be written.
    """
    folder, parts = out / FOLDER, {split: Path(source, "LibriSpeech", getattr(cfg, split)) for split in SPLITS}
    if folder.exists():
        raise DataError(f"{folder}: is there already; delete it, or name another folder")
    for split, part in parts.items():
        if not part.is_dir():
            raise DataError(f"librispeech_phonemes: no {part}; name another folder by --set {split}=PART")
    try:
        aligned = _alignments.find(Path(cfg.alignments or source))
    except DataError as error:
        raise DataError(f"librispeech_phonemes: {error}") from None
    try:
        out.mkdir(parents=True, exist_ok=True)
        with replacing(folder) as made:
            made.mkdir()
            for split, part in parts.items():
                yield f"{split}: {_write(part, aligned, cfg.limit, made / f'{split}.hdf5')}"
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror or error}); choose another folder") from None
    yield str(folder)


def _packed(x: np.ndarray) -> np.ndarray:
    """Images (n, 80, 64) in dB as (n, 1, 80, 64) of 16 bits."""
    made: np.ndarray = np.rint(((x[:, None] - LOWEST) / RANGE).clip(0, 1) * STEPS).astype(np.uint16)
    return made


# -- files ----------------------------------------------------------------------------------------------------------


def _find(cfg: Config, root: Path | None, split: Split) -> Path | None:
    try:
        return _parts.find(root, f"{FOLDER}/{split}.hdf5", NAMES) / FOLDER
    except DataError as error:
        if cfg.source == "auto":
            return None
        hint = "put it there, or write it: `sweep data librispeech_phonemes --render FOLDER DIR`"
        raise DataError(f"{str(error).split('; ')[0]}; {hint}") from None


def _files(cfg: Config, folder: Path, split: Split) -> tuple[Entry, np.ndarray, np.ndarray, int]:
    """An entry, which of its utterances count, the speaker of each, and how many speakers there are."""
    listed = {one: _listing(folder / f"{one}.hdf5") for one in SPLITS if (folder / f"{one}.hdf5").exists()}
    speakers = np.unique(np.concatenate([_speakers(names) for names, _ in listed.values()]))
    names, count = listed[split]
    style = np.searchsorted(speakers, _speakers(names))
    rows = _parts.limited(style, cfg.limit, cfg.split_seed)
    file = folder / f"{split}.hdf5"
    options = (cfg.limit, cfg.split_seed) if cfg.limit else ()
    key = _parts.key(f"librispeech-phonemes-{split}", VERSION, [file], *options)
    entry = stored(key, lambda target: _unpack(file, names[rows], count[rows], target))
    return entry, np.arange(len(rows)), style[rows], len(speakers)


def _speakers(names: np.ndarray) -> np.ndarray:
    return np.array([str(name).split("-")[0] for name in names])


def _listing(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Names of the utterances, in order, and how many phonemes each has."""
    entry = cached(_parts.key(f"librispeech-listed-{file.stem}", VERSION, [file]), lambda: _listed(file))
    return np.asarray(entry.arrays["names"]), np.asarray(entry.arrays["count"])


def _listed(file: Path) -> Arrays:
    import h5py

    names, counts = [], []
    try:
        with h5py.File(file) as content:
            for name in content:
                shape = content[name].shape
                if len(shape) != 3 or shape[1:] != (BANDS, COLUMNS):
                    raise DataError(f"librispeech_phonemes: {file}: {name} should be (phonemes, 80, 64), is {shape}")
                if shape[0]:
                    names.append(name)
                    counts.append(shape[0])
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise DataError(f"librispeech_phonemes: {file}: damaged ({' '.join(str(error).split())[:120]})") from None
    if not names:
        raise DataError(f"librispeech_phonemes: {file}: holds no phoneme")
    return {"names": np.array(names), "count": np.array(counts)}


def _unpack(file: Path, names: np.ndarray, count: np.ndarray, target: Path) -> None:
    import h5py

    x = allocated(target / "x.npy", np.dtype(np.uint16), (int(count.sum()), 1, BANDS, COLUMNS), "set data.limit")
    progress = Progress(f"librispeech_phonemes: reading {file.stem}: utterance", len(names))
    content, ends = [], np.cumsum(count)
    try:
        with h5py.File(file) as utterances:
            for name, end, length in zip(names, ends, count, strict=True):
                made = utterances[name][:]
                labels = _labels(utterances[name].attrs["phonemes"])
                if len(labels) != length or -1 in labels or not np.isfinite(made).all():
                    what = "finite values, and a phoneme of the 39 for each"
                    raise DataError(f"librispeech_phonemes: {file}: {name} should have {what}")
                x[end - length : end] = _packed(made)
                content.append(labels)
                progress.add()
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DataError(f"librispeech_phonemes: {file}: damaged ({' '.join(str(error).split())[:120]})") from None
    x.flush()
    np.save(target / "content.npy", np.concatenate(content))
    np.save(target / "count.npy", count)
    np.save(target / "names.npy", names)  # whose speakers are labels


def _labels(given: Any) -> np.ndarray:
    """Numbers of phonemes that are given by name or by number; -1 of what is none."""
    numbers = []
    for one in np.asarray(given).tolist():
        if isinstance(one, int):
            numbers.append(one if 0 <= one < len(PHONEMES) else -1)
        else:
            known = _phonemes.label(one.decode() if isinstance(one, bytes) else str(one))
            numbers.append(-1 if known is None else known)
    return np.array(numbers, np.int64)


def _write(part: Path, aligned: dict[str, Path | Aligned], limit: int | None, path: Path) -> str:
    import h5py

    files = sorted(part.glob("*/*/*.flac"))
    have = [file for file in files if file.stem in aligned][:limit]
    if not have:
        raise DataError(f"librispeech_phonemes: none of {len(files):,} recordings in {part} has an alignment")
    phonemes, progress = 0, Progress(f"librispeech_phonemes: {path.stem}: utterance", len(have))
    with h5py.File(path, "w") as target:
        for begin in range(0, len(have), BLOCK):
            for name, x, labels in _block(have[begin : begin + BLOCK], aligned, progress):
                if len(labels):
                    target.create_dataset(name, data=x).attrs["phonemes"] = [PHONEMES[one] for one in labels]
                    phonemes += len(labels)
    left = len(files) - len(have)
    return f"{phonemes:,} phonemes of {len(have):,} utterances" + f", {left:,} left out" * (left > 0)


def _block(files: Sequence[Path], aligned: dict[str, Path | Aligned], progress: Progress) -> list[tuple[str, Any, Any]]:
    """Name, images and labels of recordings."""
    made: dict[int, tuple[str, Any, Any]] = {}

    def work(place: int) -> None:
        phonemes, start, end = zip(*_alignments.read(aligned[files[place].stem]) or [("", 0.0, 0.0)], strict=True)
        made[place] = files[place].stem, *_phonemes.images(_sound.read(files[place]), phonemes, start, end)

    in_threads(work, len(files), progress)
    return [made[place] for place in range(len(files))]


# -- synthesised ----------------------------------------------------------------------------------------------------


def _spoken(cfg: Config, split: Split) -> tuple[Entry, np.ndarray, np.ndarray, int]:
    made = cfg.synthetic
    key = _parts.key("librispeech-phonemes-spoken", speech.VERSION, [], VERSION, repr(made))
    entry = cached(key, lambda: _synthesised(made))
    style = np.repeat(np.arange(made.speakers), made.utterances)
    part = round(len(style) * 0.1)
    places = dict(zip(SPLITS, _parts.parts(style, [len(style) - 2 * part, part], cfg.split_seed), strict=True))
    rows = places[split]
    return entry, rows[_parts.limited(style[rows], cfg.limit, cfg.split_seed)], style, made.speakers


def _synthesised(made: Synthetic) -> Arrays:
    count = made.speakers * made.utterances
    words = np.random.default_rng(made.seed).integers(len(speech.WORDS), size=(count, made.words))
    spoken = speech.speak(words.ravel(), np.arange(words.size), made.seed)
    x = spoken.x.reshape(count, -1)
    # of every phoneme: where it begins and ends in its utterance
    offset = np.tile(np.arange(made.words) * speech.LENGTH, count)[:, None, None]
    begin, end = ((spoken.timing[:, :, marks] + offset).reshape(count, -1) for marks in ([0, 1], [1, 2]))
    number = np.stack([spoken.syllables // 3, 3 + spoken.syllables % 3], 2).reshape(count, -1)
    down = np.rint(np.geomspace(SHORTEST, LONGEST, made.speakers)).astype(int)
    progress = Progress("librispeech_phonemes: speaking utterance", count)
    images, content = [], []
    for row in range(count):
        stretch = int(down[row // made.utterances])
        sound = torch.from_numpy(resample_poly(x[row], STRETCH, stretch).astype(np.float32))
        seconds = STRETCH / stretch / RATE
        names = [SPOKEN[one] for one in number[row]]
        own, labels = _phonemes.images(sound, names, (begin[row] * seconds).tolist(), (end[row] * seconds).tolist())
        images.append(_packed(own))
        content.append(labels)
        progress.add()
    return {"x": np.concatenate(images), "content": np.concatenate(content), "count": np.array(list(map(len, content)))}
