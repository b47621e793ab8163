"""InsNotes: recordings of twelve instruments; a page is twelve notes of one, a fragment a note's log spectrum, 512x32.

Source: the data of V3 (Wu et al., "Unsupervised Disentanglement of Content and Style via Variance-Invariance
Constraints", ICLR 2025, arXiv 2407.03824). Layout, in ROOT or ROOT/insnotes, arrays (513, frames) float32 of log(|STFT|
+ 1e-5), 33 frames a note:

    InsNotes/{train,val,test}/insII_JJ.npy                       `instruments: published`
    InsNotesOOD/{1_shot,5_shot,10_shot,test}/insII_JJ.npy        `instruments: ood`

Where there are none, recordings are played, once, into the cache: by twelve made instruments (`datasets.synth.notes`),
or, where `made.player: fluidsynth` asks for it, by the FluidSynth program and a soundfont, as V3's were. What plays is
never chosen by what a machine has. The split of recordings is 80/10/10 or as near as it goes. With `shots`, `train` is
so many recordings of each instrument (fewer are a part of more), `val` ten others, `test` all the rest.

Labels of a fragment: "content", its pitch (12). Of a page: "style", the instrument (12; of `ood` 4: piano, electric
piano, flute, whistle). Spectra v are delivered as (v - log 1e-5) / 18, in [0, 1]; `views.normalize: {mean: [0.6396051],
std: [0.0555556]}` gives them back. Pages begin at any note, the first following the last. In every page of training a
band of rows is masked with 0, which is magnitude 1; what evaluations see is whole (`augment: all` is what was
published: it is masked too).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor

from datasets import _notes, _parts, _shots, _spectra, config
from datasets._notes import PITCHES
from datasets._pages import Augment, Book, Fragments, Items, Pages, uniform
from datasets._progress import Progress, in_threads
from datasets._shots import MOST, Shots
from datasets._spectra import COLUMNS, LONGEST, LOW, RANGE, ROWS
from datasets.atomic import replacing
from datasets.base import SPLITS, DataError, Source, Spec, Split
from datasets.memory import Entry
from datasets.synth import notes, soundfont
from datasets.synth.notes import FIRST, PROGRAMS

VERSION = 2
DOWNLOAD = "nothing is fetched: made instruments play where the data folder holds no InsNotes"
FOLDERS, NAMES = {"published": "InsNotes", "ood": "InsNotesOOD"}, ("insnotes",)
Instruments = Literal["published", "ood"]


class Made(config.Config):
    """The recordings that are played."""

    player: Literal["synthesis", "fluidsynth"] = Field(
        "synthesis", description="synthesis = made instruments; fluidsynth = the program, with a soundfont (V3)"
    )
    soundfont: str = Field(
        "auto", description="of fluidsynth: an absolute path, or auto = in /usr/share/sounds/sf2 (V3: FluidR3_GM.sf2)"
    )
    takes: int = Field(10, ge=3, le=1000, description="recordings of each instrument (V3: 100)")
    notes: int = Field(12, ge=2, le=LONGEST, description="notes of a recording, 32 kB each (V3: 120)")
    bounded: bool = Field(True, description="loudness in [0.8, 1.2], as meant; false = a walk without bounds, as in V3")
    seed: int = Field(0, ge=0, lt=2**31, description="of velocities and loudness")

    @model_validator(mode="after")
    def _played(self) -> Made:
        if self.soundfont != "auto" and self.player != "fluidsynth":
            raise ValueError("soundfont needs player: fluidsynth")
        if self.soundfont != "auto" and not Path(self.soundfont).is_absolute():
            raise ValueError(f"soundfont should be auto or an absolute path (got '{self.soundfont}')")
        return self


class Config(config.Config):
    """Options of InsNotes."""

    source: Literal["auto", "files", "made"] = Field(
        "auto", description="files = of the data folder, made = played; auto = files where there are any"
    )
    instruments: Instruments = Field("published", description="the twelve of training, or four others")
    items: Items = Field("pages", description="pages = n notes; fragments = each note by itself")
    n: int = Field(12, ge=2, le=LONGEST, description="notes of a page (V3: 12)")
    consecutive: bool = Field(True, description="notes as they follow each other; false = any, in a random order")
    mask: float = Field(15, ge=0, le=256, description="rows, a page's mask has U(0, this) of them (V3: 15)")
    augment: Augment = Field("train", description="what is masked: training alone, or all that is seen (V3: all)")
    shots: Shots | None = Field(None, description="training recordings of each instrument; None = all (V3: 1, 5, 10)")
    split_seed: int = Field(0, ge=0, lt=2**31, description="which recording goes to which split, of made ones")
    limit: int | None = Field(None, ge=1, description="at most so many recordings of each split, for trial runs")
    made: Made = Field(Made(), description="of the recordings that are played")


class RenderConfig(Made):
    """How recordings are written."""

    instruments: Instruments = Field("published", description="the twelve of training, or four others")
    midi: bool = Field(True, description="the scores too, as midi/insII_JJ.mid beside the folders of the splits")
    split_seed: int = Field(0, ge=0, lt=2**31, description="which recording goes to which folder")


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; on first use its spectra are read or made into the cache.

    Raises:
        DataError: files are missing or damaged, no player, recordings have fewer than n notes, or are too few for
            `shots`, or the cache has no space.
    """
    found = None if cfg.source == "made" else _find(cfg, root)
    entry, rows = _made(cfg, split) if found is None else _files(cfg, found, split)
    style, count = np.asarray(entry.arrays["style"]), np.asarray(entry.arrays["count"])
    rows = rows[_parts.limited(style[rows], cfg.limit, cfg.split_seed)]
    if len(rows) == 0:
        raise DataError(f"insnotes: no recording is left for a split '{split}'")
    begin = np.cumsum(count) - count
    content = (np.arange(count.sum()) - np.repeat(begin, count)) % PITCHES
    book = Book(entry.arrays["x"], begin, count, {"content": content}, {"style": style}).take(rows)
    if cfg.items == "pages" and int(book.count.min()) < cfg.n:
        raise DataError(f"insnotes: has recordings of {int(book.count.min())} notes; lower data.n (it is {cfg.n})")
    shape, player = (1, ROWS, COLUMNS), str(entry.arrays["player"][0])
    missing = f": no '{FOLDERS[cfg.instruments]}' in the data folder" if cfg.source == "auto" else ""
    spec = Spec(
        shape=(cfg.n, *shape) if cfg.items == "pages" else shape,
        labels={"content": PITCHES, "style": len(PROGRAMS[cfg.instruments])},
        fingerprint=entry.fingerprint,
        note=player and player + missing,
    )
    alter = partial(_masked, widest=cfg.mask) if cfg.mask and (cfg.augment == "all" or split == "train") else None
    if cfg.items == "fragments":
        return Fragments(book, spec, alter, cfg.split_seed)
    return Pages(book, spec, "ring" if cfg.consecutive else "any", alter)


def evaluated(cfg: Config) -> Config:
    """Without the mask, in the training split too."""
    return cfg if cfg.augment == "all" else cfg.model_copy(update={"mask": 0.0})


def render(cfg: RenderConfig, source: str, out: Path) -> Iterator[str]:
    """Lines of `sweep data insnotes --render SOURCE OUT`, which writes V3's files.

    Args:
        source: a soundfont for FluidSynth, or "default": what `player` and `soundfont` say.

    Raises:
        DataError: no player, the folder is there already, or cannot be written.
    """
    if source != "default":
        cfg = cfg.model_copy(update={"player": "fluidsynth", "soundfont": str(Path(source).resolve())})
    folder = out / FOLDERS[cfg.instruments]
    if folder.exists():
        raise DataError(f"{folder}: is there already; delete it, or name another folder")
    _enough(cfg.instruments == "ood", cfg)
    player = _player(cfg)
    try:
        out.mkdir(parents=True, exist_ok=True)
        with replacing(folder) as temporary:
            counts = _write_recordings(cfg, player, temporary)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror or error}); choose another folder") from None
    yield f"{folder}: {', '.join(f'{count:,} recordings in {name}' for name, count in counts.items())}"
    yield f"played by {player.name if player else 'made instruments'}"


def _masked(x: Tensor, pages: np.ndarray, salt: int, widest: float) -> Tensor:
    rows = _notes.band(ROWS, uniform(salt, pages, 0, 0, widest), uniform(salt, pages, 1, 0, 1))
    return torch.where(rows[:, None, None, :, None], -LOW / RANGE, x)


# -- files ----------------------------------------------------------------------------------------------------------


def _find(cfg: Config, root: Path | None) -> Path | None:
    name = FOLDERS[cfg.instruments]
    try:
        return _parts.find(root, f"{name}/test", NAMES) / name
    except DataError as error:
        if cfg.source == "auto":
            return None
        hint = "put it there, write one by `sweep data insnotes --render default DIR`, or set data.source=made"
        raise DataError(f"{str(error).split('; ')[0]}; {hint}") from None


def _files(cfg: Config, folder: Path, split: Split) -> tuple[Entry, np.ndarray]:
    styles, seed = len(PROGRAMS[cfg.instruments]), cfg.split_seed
    if cfg.instruments == "published":
        if cfg.shots is not None:
            raise DataError("insnotes: data.shots of files needs data.instruments=ood; or set data.source=made")
        entry = _spectra.read(folder / split, styles)
    else:
        entry = _spectra.read(folder / (f"{cfg.shots or MOST}_shot" if split == "train" else "test"), styles)
        if split != "train":  # there is no folder for validation
            return entry, _shots.held_out(np.asarray(entry.arrays["style"]), seed)[split]
    return entry, np.arange(len(entry.arrays["style"]))


# -- played ---------------------------------------------------------------------------------------------------------


def _player(made: Made) -> soundfont.Player | None:
    if made.player == "synthesis":
        return None
    try:
        return soundfont.find(made.soundfont)
    except DataError as error:
        raise DataError(f"insnotes: {error}") from None


def _enough(few: bool, made: Made) -> None:
    if few and made.takes <= 2 * MOST:
        raise DataError(f"insnotes: few shots need data.made.takes above {2 * MOST} (it is {made.takes})")


def _made(cfg: Config, split: Split) -> tuple[Entry, np.ndarray]:
    made = cfg.made
    _enough(cfg.shots is not None, made)
    entry = _spectra.played(cfg.instruments, made.takes, made.notes, made.seed, made.bounded, _player(made))
    return entry, _rows(np.asarray(entry.arrays["style"]), cfg.shots, cfg.split_seed)[split]


def _rows(style: np.ndarray, shots: Shots | None, seed: int) -> dict[Split, np.ndarray]:
    """Positions of the recordings of each split, with equal shares of the instruments."""
    if shots is not None:
        return _shots.splits(style, shots, seed)
    part = max(int(style.max()) + 1, round(len(style) * 0.1))
    return dict(zip(SPLITS, _parts.parts(style, [len(style) - 2 * part, part], seed), strict=True))


def _write_recordings(cfg: RenderConfig, player: soundfont.Player | None, folder: Path) -> dict[str, int]:
    style = np.repeat(np.arange(len(PROGRAMS[cfg.instruments])), cfg.takes)
    if cfg.instruments == "published":
        places = {str(split): rows for split, rows in _rows(style, None, cfg.split_seed).items()}
    else:
        places = _shots.folders(style, cfg.split_seed)
    for place in (*places, *["midi"] * cfg.midi):
        (folder / place).mkdir(parents=True)

    def play(row: int) -> None:
        label, take = int(style[row]), row % cfg.takes
        instrument, name = FIRST[cfg.instruments] + label, _spectra.named(label, take)
        made = _spectra.spectrum(instrument, take, cfg.notes, cfg.seed, cfg.bounded, player)
        for place, rows in places.items():
            if row in rows:
                np.save(folder / place / f"{name}.npy", made)
        if cfg.midi:
            (folder / "midi" / f"{name}.mid").write_bytes(notes.score(instrument, take, cfg.notes, cfg.seed))

    in_threads(play, len(style), Progress("insnotes: playing recording", len(style)))
    return {place: len(rows) for place, rows in places.items()}
