"""Scores played by the FluidSynth program and a General MIDI soundfont, at 16 kHz, mono.

A soundfont is a file of recorded instruments. Debian has the program and V3's soundfont, FluidR3 (MIT), as `fluidsynth`
and `fluid-soundfont-gm`. The program's own settings are taken, no file of the user's; reverberation and chorus are on.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets._notes import RATE
from datasets.base import DataError

PROGRAM = "fluidsynth"
FOLDER, PREFERRED = Path("/usr/share/sounds/sf2"), "FluidR3_GM.sf2"  # of Debian; V3's
PATIENCE = 600  # seconds of one score
SILENCE = 1e-5  # what is no louder is the noise of the reverberation


@dataclass(frozen=True)
class Player:
    """The program, a soundfont, and the program's version, since another one may play otherwise."""

    program: Path
    soundfont: Path
    version: str

    @property
    def name(self) -> str:
        """What a user is told."""
        return f"FluidSynth with {self.soundfont.name}"

    def play(self, song: bytes, samples: int) -> np.ndarray:
        """A MIDI file as `samples` of sound, the mean of both channels; what rings on behind them is cut.

        Raises:
            DataError: the program fails, or nothing is heard.
        """
        import soundfile

        with tempfile.TemporaryDirectory(prefix="notes-") as folder:
            score, sound = Path(folder, "score.mid"), Path(folder, "sound.wav")
            score.write_bytes(song)
            options = ["-ni", "-q", "-f", "/dev/null", "-r", str(RATE), "-o", "synth.dynamic-sample-loading=1"]
            command = [str(self.program), *options, "-T", "wav", "-O", "float", "-F", str(sound)]
            said = (_run([*command, str(self.soundfont), str(score)]) or ["without a word"])[-1]
            if not sound.exists():
                raise DataError(f"{self.name}: made no sound ({said})")
            x = soundfile.read(sound, dtype="float64", always_2d=True)[0].mean(1)[:samples]
        if not np.abs(x).max(initial=0) > SILENCE:
            raise DataError(f"{self.name}: is silent, it may lack the instrument ({said})")
        return np.pad(x, (0, samples - len(x)))


def find(soundfont: str) -> Player:
    """The program and a soundfont: a file, or "auto" for one of Debian's.

    Raises:
        DataError: either is missing, or the file is no soundfont.
    """
    program = shutil.which(PROGRAM)
    if program is None:
        raise DataError(f"no program {PROGRAM} on this machine; install it, or set made.player=synthesis")
    path = Path(soundfont)
    if soundfont == "auto":
        there = sorted(FOLDER.glob("*.sf[23]"), key=lambda file: (file.name != PREFERRED, file.name))
        if not there:
            raise DataError(f"no soundfont in {FOLDER}; install fluid-soundfont-gm, or name one by made.soundfont")
        path = there[0].resolve()
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); name a soundfont") from None
    if head[:4] != b"RIFF" or head[8:] != b"sfbk":
        raise DataError(f"{path}: is no soundfont")
    return Player(Path(program), path.resolve(), (_run([program, "--version"]) or ["unknown"])[0])


def _run(command: list[str]) -> list[str]:
    """The lines that a program says, its errors at the end.

    Raises:
        DataError: it cannot be run, fails, or does not end.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"{command[0]}: {' '.join(str(error).split())[:120]}") from None
    said = [line.strip()[:120] for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    if done.returncode:
        raise DataError(f"{command[0]}: failed ({said[-1] if said else f'exit status {done.returncode}'})")
    return said
