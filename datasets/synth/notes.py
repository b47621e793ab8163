"""Recordings of InsNotes: notes of instruments from a soundfont, or of as many made ones, which are sums of sines.

A made instrument has a spectrum (partial k has the power k^-a, even ones are weaker, one region is stronger), an
attack, a decay and a vibrato, all following from its number. Notes rise from C4 to B4 again and again, 1 s in every
1.056 s, with a velocity of 80 to 120; loudness and peak are those of InsNotes (`datasets._notes`). Whoever plays, a
recording follows from (seed, instrument, take): the score is the same.
"""

from __future__ import annotations

import numpy as np

from datasets import _notes
from datasets._notes import PITCHES, RATE
from datasets.synth.midi import C4, song
from datasets.synth.soundfont import Player

VERSION = 1
# programs of General MIDI, counted from 0, in the order of V3's labels: soprano sax, pipe organ, accordion, viola,
# trumpet, muted trumpet, oboe, clarinet, piccolo, pan flute, harmonica, choir; piano, electric piano, flute, whistle
PROGRAMS = {"published": (64, 19, 21, 41, 56, 59, 68, 71, 72, 75, 22, 52), "ood": (0, 4, 73, 78)}
EVERY = (*PROGRAMS["published"], *PROGRAMS["ood"])
FIRST = {"published": 0, "ood": len(PROGRAMS["published"])}  # where each begins among all
PARTIALS = 14
SLOT, SOUNDING, RELEASE = 16_896, 16_000, 800  # samples of a note and what follows it, of the note, of its end


def recording(
    instrument: int, take: int, notes: int, seed: int, bounded: bool = True, player: Player | None = None
) -> np.ndarray:
    """Samples (notes * 16,896,) in [-0.9, 0.9] of one recording, by a soundfont, or by a made instrument.

    Args:
        instrument: its place in `EVERY`. bounded: of the loudness, see `datasets._notes.interval`.
    """
    velocities, rng = _drawn(instrument, take, notes, seed)
    if player is None:
        tones = [_tone(instrument, C4 + pitch) for pitch in range(min(PITCHES, notes))]
        x = np.concatenate([tones[note % PITCHES] * (v / 127) ** 2 for note, v in enumerate(velocities)])
    else:
        x = player.play(song(EVERY[instrument], velocities), notes * SLOT)
    return _notes.loudened(x, _notes.envelope(*_notes.draw_envelope(notes, rng, bounded)))


def score(instrument: int, take: int, notes: int, seed: int) -> bytes:
    """What is played in a recording, as a MIDI file."""
    return song(EVERY[instrument], _drawn(instrument, take, notes, seed)[0])


def _drawn(instrument: int, take: int, notes: int, seed: int) -> tuple[list[int], np.random.Generator]:
    """Velocities of the notes, and the generator that the loudness is drawn from next."""
    rng = np.random.default_rng((seed, instrument, take))
    return rng.integers(80, 120, notes, endpoint=True).tolist(), rng


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
