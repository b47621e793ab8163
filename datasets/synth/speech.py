"""Artificial words of three syllables, consonant (b d g) and vowel (a i u), with every label exact.

Source and filter (Klatt, JASA 67, 1980): pulses at f0, falling by 6 dB an octave, pass three resonators in cascade
whose frequencies glide for 40 ms from the consonant's locus to the vowel's formants; before them lie silence and a
burst of noise of 10 to 20 ms, low for b, high for d, in the middle for g. A resonator is

    y[t] = a x[t] + b y[t-1] + c y[t-2],   c = -exp(-2 pi w / rate),  b = 2 exp(-pi w / rate) cos(2 pi f / rate),
    a = 1 - b - c,   for the frequency f and bandwidth w in Hz.

Everything of a word follows from (seed, word, take) alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.signal import lfilter

VERSION = 1
RATE, LENGTH = 16_000, 10_240  # 0.64 s
CONSONANTS, VOWELS = "bdg", "aiu"
SYLLABLES = tuple(c + v for c in CONSONANTS for v in VOWELS)
WORDS = tuple(a + b + c for a in SYLLABLES for b in SYLLABLES for c in SYLLABLES)
# formants in Hz: F1 and F2 of the vowels as measured by Peterson and Barney (1952), with their F3
FORMANTS = np.array([[730, 1090, 2440], [270, 2290, 3010], [300, 870, 2240]], float)
LOCI = np.array([[250, 800, 2300], [250, 1800, 2700], [250, 2150, 2350]], float)
WIDTHS = np.array([60, 90, 120], float)
BURSTS, BURST_WIDTH = np.array([500, 4500, 1900], float), 500.0
CORNER = 100  # Hz above which pulses fall by 6 dB an octave
GLIDE, FADE, FLOOR = 640, 320, 5e-4  # samples of a glide and of rise and fall; deviation of the noise under everything
BLOCK = 256  # words synthesised at once


@dataclass(frozen=True)
class Spoken:
    """n words.

    Attributes:
        x: (n, T) float32 in [-1, 1].
        syllables: (n, 3) of 0 .. 8, the number of each in `SYLLABLES`; // 3 is its consonant, % 3 its vowel.
        f0: (n, 3) Hz, constant within a syllable. formants: (n, 3, 3) Hz, F1 F2 F3 of each vowel after its glide.
        timing: (n, 3, 3) samples: where each syllable begins, where its vowel begins and where that ends.
    """

    x: np.ndarray
    syllables: np.ndarray
    f0: np.ndarray
    formants: np.ndarray
    timing: np.ndarray


def speak(words: np.ndarray, takes: np.ndarray, seed: int = 0) -> Spoken:
    """Words by their numbers (n,) in `WORDS`, each in a take (n,) of its own."""
    blocks = [_spoken(words[i : i + BLOCK], takes[i : i + BLOCK], seed) for i in range(0, len(words), BLOCK)]
    return Spoken(*(np.concatenate([getattr(block, name) for block in blocks]) for name in Spoken.__annotations__))


def phones(syllables: np.ndarray, timing: np.ndarray, frames: int, samples: int) -> np.ndarray:
    """(n, frames) int16, what is spoken in the middle of each: b d g a i u = 0 .. 5, -1 = nothing.

    Args:
        syllables: (n, k). timing: (n, k, 3), see `Spoken`. samples: of a frame.
    """
    middle = samples // 2 + samples * np.arange(frames)
    found = np.full((len(syllables), frames), -1)
    for place in range(syllables.shape[1]):
        begin, vowel, end = (timing[:, place, mark, None] for mark in range(3))
        number = syllables[:, place, None]
        found = np.where((begin <= middle) & (middle < vowel), number // 3, found)
        found = np.where((vowel <= middle) & (middle < end), 3 + number % 3, found)
    return found.astype(np.int16)


def _spoken(words: np.ndarray, takes: np.ndarray, seed: int) -> Spoken:
    n = len(words)
    generators = [np.random.default_rng([seed, int(word), int(take)]) for word, take in zip(words, takes, strict=True)]
    u = np.stack([rng.random(32) for rng in generators])  # all numbers of a word but its noise
    noise = np.stack([rng.standard_normal(LENGTH) for rng in generators])
    syllables = np.stack([words // 81, words // 9 % 9, words % 9], 1)
    f0 = (110 + 20 * u[:, :1]) * (0.97 + 0.06 * u[:, 1:4])
    formants = FORMANTS[syllables % 3] * (0.97 + 0.06 * u[:, 4, None, None])
    formants = formants * (0.98 + 0.04 * u[:, 5:14].reshape(n, 3, 3))
    begin = np.round(LENGTH * np.arange(3) / 3 + np.array([0, 320, 320]) * (u[:, 14:17] - 0.5)).astype(int)
    burst = begin + np.round(400 + 240 * u[:, 17:20]).astype(int)  # after a silence of 25 to 40 ms
    vowel = burst + np.round(160 + 160 * u[:, 20:23]).astype(int)
    end = np.concatenate([begin[:, 1:], np.full((n, 1), LENGTH)], 1) - np.round(160 * u[:, 23:26]).astype(int)
    loud = 0.7 + 0.3 * u[:, 26:29]
    spoken = Spoken(noise, syllables, f0, formants, np.stack([begin, vowel, end], 2))
    sound = _scaled(_voiced(spoken, loud), 1) + _scaled(_hissed(spoken, burst, loud), 0.4)
    x = _scaled(sound, 0.4 + 0.4 * u[:, 29:30]) + FLOOR * noise
    return replace(spoken, x=np.clip(x, -1, 1).astype(np.float32))


def _scaled(x: np.ndarray, peak: float | np.ndarray) -> np.ndarray:
    return x * (peak / np.abs(x).max(1, keepdims=True))


def _voiced(spoken: Spoken, loud: np.ndarray) -> np.ndarray:
    """The vowels (n, T), each as loud as (n, 3) says, with their glides."""
    pulses, gain = np.zeros(spoken.x.shape), np.zeros(spoken.x.shape)
    path = np.empty((3, *spoken.x.shape))
    time = np.arange(LENGTH)
    for place in range(3):
        begin, first, last = (spoken.timing[:, place, mark, None] for mark in range(3))
        on = (time >= first) & (time < last)
        step = spoken.f0[:, place, None] / RATE
        pulses += on & (np.floor((time - first) * step) != np.floor((time - first - 1) * step))
        gain += on * loud[:, place, None] * np.clip(np.minimum(time - first, last - time) / FADE, 0, 1)
        far = np.clip(1 - (time - first) / GLIDE, 0, 1)
        target, locus = spoken.formants[:, place].T, LOCI[spoken.syllables[:, place] // 3].T
        here = (time >= begin) | (place == 0)  # of a later syllable, which overwrites the earlier ones
        path = np.where(here, target[:, :, None] + far * (locus - target)[:, :, None], path)
    return lfilter([1, -1], [1, -0.98], _cascade(pulses, path) * gain)  # without the pulses' mean


def _hissed(spoken: Spoken, burst: np.ndarray, loud: np.ndarray) -> np.ndarray:
    """The bursts (n, T) that begin at `burst` (n, 3) and last until the vowel begins; the noise is `spoken.x`."""
    kinds = np.stack([lfilter(*_resonator(frequency, BURST_WIDTH), spoken.x) for frequency in BURSTS])
    found, time = np.zeros(spoken.x.shape), np.arange(LENGTH)
    for place in range(3):
        on = (time >= burst[:, place, None]) & (time < spoken.timing[:, place, 1, None])
        found += on * loud[:, place, None] * kinds[spoken.syllables[:, place] // 3, np.arange(len(found))]
    return found


def _cascade(voice: np.ndarray, path: np.ndarray) -> np.ndarray:
    """(n, T) pulses through a fall of 6 dB an octave and three resonators along `path` (3, n, T) Hz."""
    y = np.ascontiguousarray(lfilter([1], [1, -np.exp(-2 * np.pi * CORNER / RATE)], voice).T)
    for frequency, width in zip(path, WIDTHS, strict=True):
        y = _resonated(y, np.ascontiguousarray(frequency.T), width)  # a time's values beside each other
    return y.T


def _resonator(frequency: float, width: float) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients of a resonator that stays as it is, for `lfilter`."""
    radius = np.exp(-np.pi * width / RATE)
    b, c = 2 * radius * np.cos(2 * np.pi * frequency / RATE), -(radius**2)
    return np.array([1 - b - c]), np.array([1, -b, -c])


def _resonated(x: np.ndarray, frequency: np.ndarray, width: float) -> np.ndarray:
    """x (T, n) through resonators whose frequencies (T, n) Hz move, of one bandwidth in Hz."""
    radius = np.exp(-np.pi * width / RATE)
    b, c = 2 * radius * np.cos(2 * np.pi * frequency / RATE), -(radius**2)
    x = (1 - b - c) * x
    y, before, last = np.empty_like(x), np.zeros(x.shape[1]), np.zeros(x.shape[1])
    for t in range(len(x)):
        last, before = x[t] + b[t] * last + c * before, last
        y[t] = last
    return y
