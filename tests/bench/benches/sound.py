"""(h) An epoch of sound from the shared array, against reading and resampling a file for every item of every epoch."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import soundfile
import torch
from torch import Tensor

from benches.epochs import epoch_by_item, epoch_shared
from benches.rows import Row
from datasets import _sound, deboer, librispeech
from datasets.synth import speech

BATCH = 64
PROMISE = ">= 5"
CROP = librispeech.CROP


class Reading:
    """What is usual: each item's file is read, brought to 16 kHz and cut, one by one; one resampler serves all."""

    def __init__(self, files: list[Path], length: int, random: bool) -> None:
        self.files, self.length, self.random = files, length, random

    def batch(self, index: Tensor, rng: np.random.Generator) -> Tensor:
        """(B, 1, T)."""
        return torch.stack([self.item(self.files[item], rng) for item in index.tolist()])[:, None]

    def item(self, file: Path, rng: np.random.Generator) -> Tensor:
        """(T,); of a file that needs no resampling only the crop is decoded."""
        if not self.random:
            return _sound.read(file)[: self.length]
        places = _sound.crops(np.array([soundfile.info(file).frames]), self.length)[0]
        first = _sound.FRAME * int(1 + rng.integers(places))
        return torch.from_numpy(soundfile.read(file, self.length, first, dtype="float32")[0])


@contextmanager
def recorded(words: int, utterances: int) -> Iterator[Path]:
    """Artificial words as WAV of 44.1 kHz and utterances of 12 s as FLAC of 16 kHz, in the sets' own layouts."""
    cache = os.environ.get("SWEEP_CACHE")
    with tempfile.TemporaryDirectory() as name:
        root, rng = Path(name), np.random.default_rng(0)
        os.environ["SWEEP_CACHE"] = str(root / "cache")
        try:
            numbers = np.arange(words) * (len(speech.WORDS) // words)
            said = speech.speak(numbers, np.zeros(words, int)).x
            for number, x in zip(numbers, said, strict=True):
                loud = _sound.resample(torch.from_numpy(x), speech.RATE, 44_100).numpy()
                for part in ("train", "test"):
                    file = root / "corpus" / "reshuffledv2" / part / f"{speech.WORDS[number]}_1.wav"
                    _sound.write(file, loud, 44_100)
            for number in range(utterances):
                folder = root / "LibriSpeech" / "train-clean-100" / str(number % 10) / "1"
                folder.mkdir(parents=True, exist_ok=True)
                x = said[rng.integers(words, size=19)].reshape(-1)
                soundfile.write(folder / f"{number % 10}-1-{number:04}.flac", x, speech.RATE)
            yield root
        finally:
            os.environ.pop("SWEEP_CACHE")
            if cache is not None:
                os.environ["SWEEP_CACHE"] = cache


def compare(root: Path, what: str, epochs: int = 4) -> dict[str, float]:
    """CPU seconds (one thread) of an epoch's batches, "read" and "shared", their "ratio"; "pack" once.

    Args:
        what: "words", which are resampled, or "crops", which are not.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    begin = time.process_time()
    if what == "words":
        source = deboer.open(deboer.Config(source="files", val_fraction=0.01), root, "train")
        files = sorted((root / "corpus" / "reshuffledv2" / "train").glob("*.wav"))
    else:
        source = librispeech.open(librispeech.Config(val_fraction=0.01, test_fraction=0.01), root, "train")
        files = sorted((root / "LibriSpeech").rglob("*.flac"))
    pack = time.process_time() - begin
    usual = Reading(files[: len(source)], source.spec.shape[-1], random=what == "crops")
    read = min(epoch_by_item(usual, len(source), BATCH) for _ in range(2))
    shared = min(epoch_shared(source, BATCH) for _ in range(epochs))
    torch.set_num_threads(threads)
    return {"read": read, "shared": shared, "ratio": read / shared, "pack": pack, "items": len(source)}


def measure() -> list[Row]:
    """Words of Artificial Speech, and crops of LibriSpeech."""
    rows = []
    with recorded(words=364, utterances=300) as root:
        for what in ("words", "crops"):
            found = compare(root, what)
            speed = {name: found["items"] / found[name] for name in ("shared", "read")}
            beside = (
                f"{speed['shared']:,.0f} items/s against {speed['read']:,.0f}, CPU time, one thread; "
                f"{found['items']:.0f} items, packed once in {found['pack']:.1f} s"
            )
            rows.append(Row(f"h, sound, {what}", found["ratio"], promise=PROMISE, beside=beside))
    return rows
