"""Small sets of tracks in the layouts of published ones, whose sound is a tone of a pitch of its own in noise."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

TONE = 8000  # Hz, of the files
SETS = ("tinysol", "magnatagatune", "mtg_jamendo", "giantsteps_key", "alltempo")


def sound(path: Path, number: int, seconds: float = 4.0) -> Path:
    """One track; its pitch tells its number."""
    rng = np.random.default_rng(number)
    time = np.arange(int(seconds * TONE)) / TONE
    x = 0.4 * np.sin(2 * np.pi * (200 + 8 * number) * time) + 0.05 * rng.standard_normal(len(time))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, x, TONE)
    return path


def text(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def tinysol(root: Path) -> None:
    """Three notes of three instruments, ten times each, and one note that none has again."""
    folder = root / "tinysol"
    header = "Path,Fold,Family,Instrument (abbr.),Instrument (in full),Technique (abbr.),Technique (in full),Pitch"
    lines = [header]
    for number in range(91):
        pitch = ("A#3", "Bb3", "F#_4")[number % 3] if number < 90 else "C2"
        instrument = ("Flute", "Oboe", "Violin")[number // 3 % 3]
        path = f"Family/{instrument}/ordinario/{instrument}-{number}.wav"
        sound(folder / "audio" / path, number, 1.0 + number / 30)
        lines.append(f"{path},0,Family,X,{instrument},ord,ordinario,{pitch}")
    lines.append("Family/Flute/ordinario/gone.wav,0,Family,X,Flute,ord,ordinario,C4")
    text(folder / "annotation" / "TinySOL_metadata.csv", *lines)


def magnatagatune(root: Path) -> None:
    """Forty clips with tags by the bits of their numbers; one of them is known to be damaged, one is gone."""
    folder = root / "magnatagatune"
    tags = ("guitar", "no vocals", "slow", "rare")
    lines = ["\t".join(f'"{name}"' for name in ("clip_id", *tags, "mp3_path"))]
    lists: dict[str, list[str]] = {"train": [], "valid": [], "test": []}
    for number in range(40):
        path = f"{number % 16:x}/clip-{number}.mp3"
        clip = 35644 if number == 7 else number
        bits = [number >> bit & 1 for bit in range(3)] + [int(number == 0)]
        lines.append("\t".join([f'"{clip}"', *(f'"{bit}"' for bit in bits), f'"{path}"']))
        lists["train" if number < 24 else "valid" if number < 32 else "test"].append(f"{number}\t{path}")
        if number != 39:
            sound(folder / "mp3" / path, number)
    text(folder / "annotations_final.csv", *lines)
    for name, paths in lists.items():
        np.save(folder / f"{name}.npy", np.array(paths))
    np.save(folder / "tags.npy", np.array(tags[:3]))


def mtg_jamendo(root: Path, subset: str = "_top50tags") -> None:
    """Thirty tracks with one tag or two; one is listed as missing, another is not there."""
    folder = root / "mtg_jamendo"
    for split, numbers in {"train": range(18), "validation": range(18, 24), "test": range(24, 30)}.items():
        lines = ["TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS"]
        for number in numbers:
            path = f"{number % 100:02}/{number}"
            tags = ["genre---rock"] * (number % 2) + ["mood/theme---film"] * (number % 3 == 0)
            tags = tags or ["instrument---piano"]
            lines.append("\t".join([f"track_{number:07}", "a", "b", f"{path}.mp3", "4.0", *tags]))
            if number != 3:
                sound(folder / "audio-low" / f"{path}{'.low' if number % 4 else ''}.mp3", number)
        text(folder / "splits" / "split-0" / f"autotagging{subset}-{split}.tsv", *lines)
    text(folder / "missing_tracks.txt", "04/4.mp3")


def giantsteps_key(root: Path) -> None:
    """Twelve tracks that test, forty that train, of four keys; some of none, of two, or unsure."""
    test, train = (root / "giantsteps_key" / name for name in ("giantsteps-key-dataset", "giantsteps-mtg-key-dataset"))
    for number in range(12):
        key = ("C major", "Db minor", "F# minor", "B major")[number % 4]
        text(test / "annotations" / "key" / f"{number}.LOFI.key", key)
        sound(test / "audio" / f"{number}.LOFI.mp3", number)
    lines = ["ID\tMANUAL KEY\tC"]
    for number in range(100, 140):
        lines.append(f"{number}\t{('C major', 'C# minor', 'Gb minor', 'B major')[number % 4]}\t2")
        sound(train / "audio" / f"{number}.LOFI.mp3", number)
    for number, key, sure in ((200, "-", 2), (201, "C minor / F# minor", 2), (202, "A minor", 1), (203, "A minor", 2)):
        lines.append(f"{number}\t{key}\t{sure}")
        if number < 203:
            sound(train / "audio" / f"{number}.LOFI.mp3", number)
    text(train / "annotations" / "annotations.txt", *lines)


def alltempo(root: Path) -> None:
    """Ten tracks of each set, of 60 + their number beats in a minute."""
    folder = root / "alltempo"
    songs = ["<AllSongs><Samba>"]
    mirum = []
    for number in range(10):
        blues, tempo = f"{number:05}", 60 + number
        text(folder / "gtzan/gtzan_tempo_beat/tempo" / f"gtzan_blues_{blues}.bpm", f"{tempo}.7")
        sound(folder / "gtzan/audio/blues" / f"blues.{blues}.wav", number)
        beats = [f"{60 / (tempo + 0.5) * beat:.6f}\t{beat % 4 + 1}" for beat in range(9)]
        text(folder / "hainsworth/beat_and_downbeat_annotations" / f"{number:03}.beats", *beats)
        sound(folder / "hainsworth/audio" / f"{number:03}.wav", 100 + number)
        mirum.append(f"/home/them/acm_mirum/{number}.clip.wav\t{tempo}.2")
        sound(folder / "acm_mirum/acm-mirum/Audio" / f"{number}.clip.mp3", 200 + number)
        text(folder / "giantsteps/annotations_v2/tempo" / f"{number}.LOFI.bpm", f"{tempo if number else 300}")
        sound(folder / "giantsteps/audio" / f"{number}.LOFI.mp3", 300 + number)
        songs.append(f'<song id="10{number}" bpm="{tempo}" title="a"/>')
        if number:
            sound(folder / "extended_ballroom/ballroom_extended_2016/Samba" / f"10{number}.mp3", 400 + number)
    text(folder / "acm_mirum/acm-mirum/Annotations/acm_mirum_tempos.mf", *mirum)
    xml = "extended_ballroom/ballroom_extended_2016/extendedballroom_v1.1.xml"
    text(folder / xml, *songs, "</Samba></AllSongs>")


def made(name: str, root: Path) -> bool:
    """Writes the set into a folder, if it is one of these."""
    writers: dict[str, Callable[[Path], None]] = {one: globals()[one] for one in SETS}
    if name in writers:
        writers[name](root)
    return name in writers
