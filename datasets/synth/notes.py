"""Notes of twelve made instruments, for InsNotes where there is no soundfont: sums of sines.

An instrument has a spectrum (partial k has the power k^-a, even ones are weaker, one region is stronger), an attack, a
decay and a vibrato, all following from its number. Notes rise from C4 to B4 again and again, 1 s in every 1.056 s, with
a velocity of 80 to 120; loudness and peak are those of InsNotes (`datasets._notes`).
"""

from __future__ import annotations

import numpy as np

from datasets import _notes
from datasets._notes import PITCHES, RATE

VERSION = 1
INSTRUMENTS, PARTIALS = 12, 14
SLOT, SOUNDING, RELEASE = 16_896, 16_000, 800  # samples of a note and what follows it, of the note, of its end
C4 = 60


def recording(instrument: int, take: int, notes: int, seed: int, bounded: bool = True) -> np.ndarray:
    """Samples (notes * 16,896,) in [-0.9, 0.9] of one recording."""
    rng = np.random.default_rng((seed, instrument, take))
    tones = [_tone(instrument, C4 + pitch) for pitch in range(min(PITCHES, notes))]
    loud = (rng.integers(80, 120, notes, endpoint=True) / 127) ** 2
    x = np.concatenate([tones[note % PITCHES] * loud[note] for note in range(notes)])
    return _notes.loudened(x, _notes.envelope(*_notes.draw_envelope(notes, rng, bounded)))


def _tone(instrument: int, pitch: int) -> np.ndarray:
    """A note (16,896,) of MIDI number `pitch`."""
    own = np.random.default_rng((7, instrument))
    slope, even, centre = own.uniform(0.6, 2.2), own.choice([0.05, 0.5, 1.0]), own.uniform(400, 4000)
    attack, decay, vibrato = own.uniform(0.005, 0.15), own.uniform(0.0, 2.5), own.uniform(0, 0.004)
    t = np.arange(SOUNDING) / RATE
    f0 = 440 * 2 ** ((pitch - 69) / 12)
    phase = 2 * np.pi * f0 * (t - vibrato * np.cos(2 * np.pi * 5.5 * t) / (2 * np.pi * 5.5))
    k = np.arange(1, PARTIALS + 1)
    share = k**-slope * np.where(k % 2 == 0, even, 1.0) * (1 + 3 * np.exp(-(((k * f0 - centre) / 500) ** 2)))
    share[k * f0 * (1 + vibrato) >= RATE / 2] = 0
    x = sum(weight * np.sin(number * phase) for number, weight in zip(k, share / share.sum(), strict=True))
    x = x * np.minimum(1, t / attack) * np.exp(-decay * t)
    x[-RELEASE:] *= np.linspace(1, 0, RELEASE)
    return np.pad(x, (0, SLOT - SOUNDING))
