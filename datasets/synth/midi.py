"""Scores of InsNotes as standard MIDI files: notes of one instrument that rise from C4 to B4 again and again.

Source: the data of V3 (Wu et al., ICLR 2025, arXiv 2407.03824): 1,000 ticks a quarter; note k begins at 1.056 k s,
sounds for 1 s, has the pitch 60 + k mod 12 and a velocity of 80 to 120. A file has one track, 120 quarters a minute.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from datasets._notes import PITCHES

RESOLUTION, QUARTER = 1000, 500_000  # ticks of a quarter, its microseconds
SOUNDING, SLOT = 2000, 2112  # ticks of a note, and from one to the next
C4 = 60
ON, OFF, PROGRAM, TEMPO, END = b"\x90", b"\x80", b"\xc0", b"\xff\x51\x03", b"\xff\x2f\x00"


def song(program: int, velocities: Sequence[int]) -> bytes:
    """A file of as many notes as there are velocities (1 .. 127), played by a General MIDI program (0 .. 127)."""
    track = _after(0, TEMPO + QUARTER.to_bytes(3, "big")) + _after(0, PROGRAM + bytes([program]))
    pause = 0
    for note, velocity in enumerate(velocities):
        pitch = C4 + note % PITCHES
        track += _after(pause, ON + bytes([pitch, velocity])) + _after(SOUNDING, OFF + bytes([pitch, 0]))
        pause = SLOT - SOUNDING
    track += _after(pause, END)
    return b"MThd" + struct.pack(">IHHH", 6, 0, 1, RESOLUTION) + b"MTrk" + struct.pack(">I", len(track)) + track


def _after(ticks: int, event: bytes) -> bytes:
    """An event and the ticks before it, in groups of seven bits of which all but the last have the eighth set."""
    groups = [ticks & 127]
    while ticks := ticks >> 7:
        groups.append(ticks & 127 | 128)
    return bytes(reversed(groups)) + event
