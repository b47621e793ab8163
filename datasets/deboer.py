"""Artificial Speech (de Boer, Denoodt): words of three syllables by one speaker, and the same cut into syllables.

Source: Denoodt, de Boer, Oramas, "Smooth InfoMax", ECML PKDD 2025, arXiv 2408.12936. A syllable is one of b d g and one
of a i u. Layout, in ROOT, ROOT/corpus, ROOT/deboer, ROOT/deboer/corpus or a clone of the repository in ROOT:

    reshuffledv2/{train,test}/WORD_TAKE.wav                                  44.1 kHz, items of `items: words`
    split up data padded/{train,test}/WORD_TAKE_PLACE_SYLLABLE.wav           22.05 kHz, items of `items: syllables`

Any rate will do, all is brought to 16 kHz. Of words the first 10,240 samples are kept (0.64 s); syllables are as long
as the longest (8,821). Labels of words: "word" (729); of syllables also "syllable" (ba bi bu da di du ga gi gu),
"vowel" (a i u) and "consonant" (b d g). `val` is what a seeded choice of words has in `train`, the same choice for
words and syllables. A word of `test` may occur in `train` in another take, as in the published split.

Where there are no files, words are synthesised (`datasets.synth.speech`) and `Spec.note` says so. Then "f0" (Hz),
"formants" (Hz) and "timing" (samples: begin, vowel, end) of each syllable stand in `Batch.params`, "phone" is labelled
in every frame of 10 ms (b d g a i u), and no word of `test` or `val` is in another split.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from datasets import _parts, _sound, config
from datasets._download import unpacked
from datasets._sound import FRAME, RATE, Pieces, Sounds
from datasets._syllables import SplitConfig, write_syllables
from datasets.base import DataError, Source, Spec, Split
from datasets.memory import Arrays, Entry, cached
from datasets.synth import speech

VERSION = 1
DOWNLOAD = (
    "with source=files Artificial Speech (128 MB) of github.com/fdenoodt/Artificial-Speech-Dataset, CC BY-NC-SA 4.0; "
    "else words are synthesised where the data folder has none"
)
URL = "https://github.com/fdenoodt/Artificial-Speech-Dataset/archive/HEAD.tar.gz"
FOLDERS = {"words": "reshuffledv2", "syllables": "split up data padded"}
PLACES = ("deboer", "corpus", "deboer/corpus", "Artificial-Speech-Dataset", "datasets/corpus")
NAMED = re.compile(r"((?:[bdg][aiu]){3})_\d+(?:_\d+_([bdg][aiu]))?\.wav")
OFFICIAL = {"words": {"train": 680, "test": 171}, "syllables": {"train": 2181, "test": 360}}
LENGTH = {"words": speech.LENGTH, "syllables": 8821}
RenderConfig = SplitConfig


class Synthetic(config.Config):
    """The words that are made where there are none."""

    takes: int = Field(1, ge=1, le=20, description="takes of each of the 729 words")
    seed: int = Field(0, ge=0, lt=2**31, description="of voices and timing, and of which fifth of the words is `test`")


class Config(config.Config):
    """Options of Artificial Speech."""

    source: Literal["auto", "files", "synthetic"] = Field(
        "auto", description="files = of the data folder, synthetic = made; auto = files where there are any"
    )
    items: Literal["words", "syllables"] = Field("words", description="what an item is")
    evaluate: Literal["syllables", "words"] = Field(
        "syllables", description="what evaluations see after training on words (published: syllables)"
    )
    length: int | None = Field(
        None, ge=FRAME, le=10**6, description="samples at 16 kHz; None = 10,240 of words, the longest of syllables"
    )
    val_fraction: float = Field(0.1, gt=0, lt=1, description="share of the training words held out for validation")
    split_seed: int = Field(0, ge=0, lt=2**31, description="which word is held out")
    per_class: int | None = Field(None, ge=1, description="training syllables of each class (published: 1, 2, .. 128)")
    limit: int | None = Field(None, ge=1, description="at most so many items of each split, for trial runs")
    synthetic: Synthetic = Field(Synthetic(), description="of the synthesised set")


def open(cfg: Config, root: Path | None, split: Split) -> Source:
    """One split; on first use its files are decoded into the cache, or words are synthesised there.

    Raises:
        DataError: files are missing or damaged, or the cache has no space.
    """
    folder = None if cfg.source == "synthetic" else _find(cfg, root)
    return _synthetic(cfg, split) if folder is None else _files(cfg, folder, split)


def fetch(cfg: Config, root: Path) -> None:
    """Download the set to ROOT/deboer, unless it is already there."""
    if _find(cfg.model_copy(update={"source": "auto"}), root) is None:
        unpacked(URL, root / "deboer", strip=1)


def evaluated(cfg: Config) -> Config:
    """After words, their syllables, with silence behind them up to the length of a word, which the encoder takes."""
    if cfg.items == "syllables" or cfg.evaluate == "words":
        return cfg
    return cfg.model_copy(update={"items": "syllables", "length": cfg.length or LENGTH["words"]})


def render(cfg: RenderConfig, words: str, out: Path) -> Iterator[str]:
    """Lines of `sweep data deboer --render WORDS OUT`, which cuts words into syllables; see `datasets._syllables`."""
    yield from write_syllables(cfg, Path(words), out / "corpus" / FOLDERS["syllables"])


def _find(cfg: Config, root: Path | None) -> Path | None:
    """The folder with both kinds of items; None where there is none and synthesised words will do."""
    for marker in FOLDERS.values():
        try:
            return _parts.find(root, marker, PLACES)
        except DataError as error:
            missing = str(error).split("; ")[0]
    if cfg.source == "auto":
        return None
    raise DataError(f"{missing}; `sweep data deboer --set source=files --data-root {root or 'DIR'}` fetches it")


# -- files ----------------------------------------------------------------------------------------------------------


def _files(cfg: Config, folder: Path, split: Split) -> Source:
    part = "test" if split == "test" else "train"
    entries = {one: _packed(cfg, folder, one) for one in ("train", "test")}
    files, entry = entries[part]
    names = [NAMED.fullmatch(file.name) for file in files]
    word = np.array([speech.WORDS.index(name[1]) for name in names if name])
    labels: Arrays = {"word": word}
    if cfg.items == "syllables":
        labels |= _syllable_labels(np.array([speech.SYLLABLES.index(name[2]) for name in names if name]))
    rows = _rows(cfg, labels, split, np.arange(len(files)) if part == "test" else _part(cfg, word, split))
    official = OFFICIAL[cfg.items][part]
    kind = f"{'test' if part == 'test' else 'training'} {cfg.items}"
    note = "" if len(files) == official else f"{len(files):,} of {official:,} {kind} present"
    longest = max(int(np.diff(one.arrays["offsets"]).max()) for _, one in entries.values())
    length = cfg.length or (LENGTH["words"] if cfg.items == "words" else longest)
    spec = Spec(shape=(1, length), labels=_classes(labels), rate=RATE, fingerprint=entry.fingerprint, note=note)
    return Sounds(Pieces.of(entry.arrays).take(rows), spec, {name: value[rows] for name, value in labels.items()})


def _packed(cfg: Config, folder: Path, part: str) -> tuple[list[Path], Entry]:
    place = folder / FOLDERS[cfg.items] / part
    found = [(NAMED.fullmatch(path.name), path) for path in sorted(place.glob("*.wav"))]
    files = [path for name, path in found if name and (name[2] is not None) == (cfg.items == "syllables")]
    if not files:
        example, hint = {
            "words": ("babibu_1.wav", "put the words there, or set data.items=syllables"),
            "syllables": ("babibu_1_1_ba.wav", "cut the words by `sweep data deboer --render WORDS DIR`"),
        }[cfg.items]
        raise DataError(f"deboer: no file such as {example} in {place}; {hint}")
    return files, _sound.packed(_parts.key(f"deboer-{cfg.items}-{part}", _sound.VERSION, files), files)


# -- synthesised ----------------------------------------------------------------------------------------------------


def _synthetic(cfg: Config, split: Split) -> Source:
    made = cfg.synthetic
    key = _parts.key("deboer-synthetic", speech.VERSION, [], made.takes, made.seed)
    entry = cached(key, lambda: _spoken(made))
    spoken = {name: np.asarray(entry.arrays[name]) for name in ("syllables", "f0", "formants", "timing", "word")}
    word, places = spoken["word"], 3
    sound = Pieces.of(entry.arrays)
    if cfg.items == "syllables":  # stretches of the same array
        begin = spoken["timing"][:, :, 0]
        end = np.concatenate([begin[:, 1:], sound.count[:, None]], 1)
        sound = Pieces(sound.flat, (sound.begin[:, None] + begin).ravel(), (end - begin).ravel())
        spoken["timing"] = spoken["timing"] - begin[:, :, None]
        word, places = np.repeat(word, 3), 1
    syllables = spoken["syllables"].reshape(-1, places)
    timing = spoken["timing"].reshape(-1, places, 3)
    test = np.random.default_rng(made.seed).permutation(len(speech.WORDS))[: len(speech.WORDS) // 5]
    tested = np.isin(word, test)
    own = np.flatnonzero(tested if split == "test" else ~tested)
    labels: Arrays = {"word": word, **(_syllable_labels(syllables[:, 0]) if places == 1 else {})}
    rows = _rows(cfg, labels, split, own if split == "test" else own[_part(cfg, word[own], split)])
    length = cfg.length or LENGTH[cfg.items]
    phones = speech.phones(syllables[rows], timing[rows], length // FRAME, FRAME)
    params = {name: spoken[name].reshape(len(word), -1)[rows] for name in ("f0", "formants", "timing")}
    spec = Spec(
        shape=(1, length),
        labels={**_classes(labels), "phone": 6},
        params={name: value.shape[1] for name, value in params.items()},
        rate=RATE,
        fingerprint=entry.fingerprint,
        note="" if cfg.source == "synthetic" else "synthesised words, not Artificial Speech: the data folder has none",
        frames={"phone": FRAME},
    )
    frames = {"phone": Pieces.of(_sound.joined(list(phones), -1))}
    return Sounds(sound.take(rows), spec, {name: value[rows] for name, value in labels.items()}, params, frames)


def _spoken(made: Synthetic) -> Arrays:
    word = np.tile(np.arange(len(speech.WORDS)), made.takes)
    spoken = speech.speak(word, np.repeat(np.arange(made.takes), len(speech.WORDS)), made.seed)
    sound = _sound.joined([(row * (_sound.SCALE - 1)).round().astype(np.int16) for row in spoken.x])
    known = {name: getattr(spoken, name) for name in ("syllables", "f0", "formants", "timing")}
    return {**sound, "word": word, **known}


# -- both -----------------------------------------------------------------------------------------------------------


def _syllable_labels(syllable: np.ndarray) -> Arrays:
    return {"syllable": syllable, "vowel": syllable % 3, "consonant": syllable // 3}


def _classes(labels: Arrays) -> dict[str, int]:
    numbers = {"word": len(speech.WORDS), "syllable": 9, "vowel": 3, "consonant": 3}
    return {name: numbers[name] for name in labels}


def _part(cfg: Config, word: np.ndarray, split: Split) -> np.ndarray:
    """Positions of `train` or `val` among training items: by word, each in the same part for words and syllables."""
    place = np.random.default_rng(cfg.split_seed).permutation(len(speech.WORDS))
    there = np.unique(word)
    there = there[np.argsort(place[there])]
    held_out = np.isin(word, there[: max(1, round(len(there) * cfg.val_fraction))])
    return np.flatnonzero(held_out if split == "val" else ~held_out)


def _rows(cfg: Config, labels: Arrays, split: Split, rows: np.ndarray) -> np.ndarray:
    """Those of `rows` that the options leave."""
    classes = labels.get("syllable", np.zeros(len(labels["word"]), int))
    if cfg.per_class is not None and split == "train" and cfg.items == "syllables":
        rows = rows[_parts.some_per_class(classes[rows], cfg.per_class, cfg.split_seed)]
    rows = rows[_parts.limited(classes[rows], cfg.limit, cfg.split_seed)]
    if len(rows) == 0:
        raise DataError(f"deboer: too few words for a split '{split}'; lower data.val_fraction")
    return rows
