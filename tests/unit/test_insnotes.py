"""InsNotes: scores and who plays them, spectra as pages, rings of notes, masks, files in V3's layout."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from opened import every, one_line, rng
from PIL import Image

from datasets import _notes, _spectra, insnotes
from datasets.base import SPLITS, DataError
from datasets.config import ConfigError, parse
from datasets.synth import midi, notes, soundfont
from sweep.tools import show_data

SMALL = {"takes": 3, "notes": 4}


pytestmark = pytest.mark.usefixtures("cache")


def test_notes_have_their_pitch_and_instruments_their_sound() -> None:
    profiles = []
    for instrument in range(len(notes.EVERY)):
        x = notes.recording(instrument, 0, 3, 0)
        assert len(x) == 3 * 16_896 and np.isclose(np.abs(x).max(), 0.9)
        for note in range(3):
            f0 = 440 * 2 ** ((60 + note - 69) / 12)
            power = np.abs(np.fft.rfft(x[note * 16_896 :][:16_000] * np.hanning(16_000))) ** 2  # 1 Hz a bin
            near = [power[int(k * f0) - 6 * k : int(k * f0) + 6 * k + 1].sum() for k in range(1, 11)]
            assert sum(near) > 0.9 * power[100:].sum()
            if note == 0:
                profiles.append(np.log(np.array(near) / sum(near) + 1e-6))
    distances = [np.abs(a - b).max() for i, a in enumerate(profiles) for b in profiles[:i]]
    assert min(distances) > 0.3
    assert np.array_equal(notes.recording(3, 1, 2, 5), notes.recording(3, 1, 2, 5))
    assert not np.array_equal(notes.recording(3, 1, 2, 5), notes.recording(3, 2, 2, 5))


def heard(x: torch.Tensor) -> np.ndarray:
    """The pitch 0 .. 11 of each of the notes (..., 512, 32) in [0, 1]: whose overtones are strongest, of twelve."""
    magnitude = np.exp(x.numpy() * 18 + np.log(1e-5)).mean(-1)
    f0 = 440 * 2 ** ((60 + np.arange(12) - 69) / 12)
    places = f0[:, None] * np.arange(1, 11) * 1024 / 16_000
    low = places.astype(int)
    near = magnitude[..., low] * (1 - (places - low)) + magnitude[..., low + 1] * (places - low)
    return near.sum(-1).argmax(-1)


@pytest.mark.parametrize("instruments", ["published", "ood"])
@pytest.mark.parametrize("player", ["synthesis", "fluidsynth"])
def test_labels_are_the_pitches_that_are_heard(player: str, instruments: str) -> None:
    if player == "fluidsynth":
        needs_fluidsynth()
    options = {"made": {"takes": 3, "player": player}, "instruments": instruments, "mask": 0}
    for split, source in every(insnotes, None, **options).items():
        batch = source.fetch(torch.arange(len(source)), rng())
        right = heard(batch.views[0][:, :, 0]) == batch.labels["content"].numpy()
        assert right.shape == (len(source), 12) and right.mean() > 0.98, split
        assert ("FluidSynth with" in source.spec.note) is (player == "fluidsynth")


# -- scores and their players ---------------------------------------------------------------------------------------


def needs_fluidsynth() -> None:
    try:
        soundfont.find("auto")
    except DataError as error:
        pytest.skip(f"apt-get install fluidsynth fluid-soundfont-gm ({error})")


def events(file: bytes) -> tuple[int, list[tuple[int, bytes]]]:
    """Ticks of a quarter, and the events of the one track with the tick at which each comes."""
    assert file[:4] == b"MThd" and file[14:18] == b"MTrk"
    length, kind, tracks, resolution, size = *struct.unpack(">IHHH", file[4:14]), struct.unpack(">I", file[18:22])[0]
    assert (length, kind, tracks) == (6, 0, 1) and size == len(file) - 22
    place, tick, found = 22, 0, []
    while place < len(file):
        ticks = 0
        while file[place] & 128:
            ticks, place = ticks << 7 | file[place] & 127, place + 1
        tick, place = tick + (ticks << 7 | file[place]), place + 1
        data = 3 + file[place + 2] if file[place] == 0xFF else 2 if file[place] >> 4 == 0xC else 3
        found.append((tick, file[place : place + data]))
        place += data
    return resolution, found


def test_a_score_is_that_of_the_original() -> None:
    """Note k begins at 1.056 k seconds, sounds for 1 s, and is 60 + k mod 12."""
    resolution, found = events(notes.score(3, 0, 120, 0))
    assert found[0] == (0, b"\xff\x51\x03" + (500_000).to_bytes(3, "big")) and found[1] == (0, bytes([0xC0, 41]))
    assert found[-1][1] == b"\xff\x2f\x00"
    second = 1_000_000 / 500_000 * resolution
    on, off = found[2:-1:2], found[3:-1:2]
    assert resolution == 1000 and len(on) == len(off) == 120
    for note, ((begin, pressed), (end, released)) in enumerate(zip(on, off, strict=True)):
        assert np.isclose(begin / second, 1.056 * note) and np.isclose((end - begin) / second, 1)
        assert pressed[:2] == bytes([0x90, 60 + note % 12]) and released[:2] == bytes([0x80, 60 + note % 12])
        assert 80 <= pressed[2] <= 120
    assert len({pressed[2] for _, pressed in on}) > 25
    assert notes.score(3, 0, 120, 0) != notes.score(3, 1, 120, 0) and midi.song(3, []) != midi.song(4, [])


def test_a_soundfont_plays_the_score() -> None:
    needs_fluidsynth()
    player = soundfont.find("auto")
    x = player.play(notes.score(0, 0, 3, 0), 3 * 16_896)
    assert len(x) == 3 * 16_896 and np.array_equal(x, player.play(notes.score(0, 0, 3, 0), 3 * 16_896))
    made, other = (notes.recording(0, 0, 3, 0, player=one) for one in (player, None))
    assert np.isclose(np.abs(made).max(), 0.9) and not np.allclose(made, other)
    with pytest.raises(DataError, match="is silent"):
        player.play(midi.song(0, []), 100)
    shown = {one: insnotes.open(insnotes.Config(made={**SMALL, "player": one}, n=4), None, "val").spec
             for one in ("synthesis", "fluidsynth")}  # fmt: skip
    assert shown["fluidsynth"].note.startswith(f"FluidSynth with {player.soundfont.name}")
    assert shown["fluidsynth"].fingerprint != shown["synthesis"].fingerprint


def test_without_a_player_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: dict[str, Any] = {**SMALL, "player": "fluidsynth"}
    with pytest.raises(ConfigError, match="soundfont needs player: fluidsynth"):
        parse(insnotes.Config, {"made": {"soundfont": "x.sf2"}}, "data")
    with pytest.raises(ConfigError, match="an absolute path"):
        parse(insnotes.Config, {"made": {"player": "fluidsynth", "soundfont": "x.sf2"}}, "data")
    program = tmp_path / "fluidsynth"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert "no program fluidsynth" in one_line(insnotes, None, made=made)
    monkeypatch.setattr(shutil, "which", lambda name: str(program))
    monkeypatch.setattr(soundfont, "FOLDER", tmp_path)
    assert "no soundfont in" in one_line(insnotes, None, made=made)
    font = tmp_path / "b.sf2"
    font.write_bytes(b"torn")
    assert "b.sf2: is no soundfont" in one_line(insnotes, None, made=made)
    none = str(tmp_path / "none.sf2")
    assert "none.sf2: cannot be read" in one_line(insnotes, None, made={**made, "soundfont": none})
    with pytest.raises(DataError, match=r"none\.sf2: cannot be read"):
        list(insnotes.render(insnotes.RenderConfig(**SMALL), none, tmp_path / "out"))
    font.write_bytes(b"RIFF....sfbk")
    assert "fluidsynth" in one_line(insnotes, None, made=made), "the program cannot be run"
    program.write_text("#!/bin/sh\necho 2.0")
    program.chmod(0o755)
    assert soundfont.find("auto") == soundfont.Player(program, font, "2.0")
    assert "FluidSynth with b.sf2: made no sound (2.0)" in one_line(insnotes, None, made=made)
    program.write_text("#!/bin/sh\necho broken >&2; test $1 = --version")
    assert "failed (broken)" in one_line(insnotes, None, made=made)


# -- pages ----------------------------------------------------------------------------------------------------------


def test_pages_are_the_log_spectra_of_the_recordings() -> None:
    sources = every(insnotes, None, made=SMALL, n=4, mask=0)
    assert [len(source) for source in sources.values()] == [12, 12, 12]
    spec = sources["train"].spec
    assert spec.shape == (4, 1, 512, 32) and spec.fragments == 4 and "made instruments" in spec.note
    takes = []
    for source in sources.values():
        batch = source.fetch(torch.arange(12), rng())
        assert sorted(batch.labels["style"].tolist()) == list(range(12))
        for x, content, style in zip(batch.views[0], batch.labels["content"], batch.labels["style"], strict=True):
            assert (content.diff() % 4 == 1).all(), "consecutive, the first behind the last"
            for take in range(3):
                sound = np.pad(notes.recording(int(style), take, 4, 0), (0, 512)).astype(np.float32)
                spectrum = _notes.log_magnitude(torch.from_numpy(sound)).numpy()
                expected, _ = _notes.windows(spectrum, content[:1].numpy(), 4)
                if np.abs(x[:, 0].numpy() * 18 + np.log(1e-5) - expected[0]).max() < 1e-3:
                    takes.append((int(style), take))
    assert sorted(takes) == [(style, take) for style in range(12) for take in range(3)]


def test_a_page_has_one_mask() -> None:
    plain = every(insnotes, None, made=SMALL, n=4, mask=0)["train"].fetch(torch.arange(12), rng()).views[0]
    shown = every(insnotes, None, made=SMALL, n=4)["train"].fetch(torch.arange(12), rng()).views[0]
    changed = (plain != shown).any(4).any(1)[:, 0]
    widths = changed.sum(1)
    assert widths.max() <= 15 and len(widths.unique()) > 4
    assert torch.allclose(shown[plain != shown] * 18 + np.log(1e-5), torch.zeros(()), atol=1e-5)


def test_evaluations_see_whole_pages() -> None:
    """The mask is training's alone, and evaluations that read the training split do not draw it either."""
    plain, shown = every(insnotes, None, made=SMALL, n=4, mask=0), every(insnotes, None, made=SMALL, n=4)
    published = every(insnotes, None, made=SMALL, n=4, augment="all")
    seen = insnotes.evaluated(insnotes.Config(made=insnotes.Made(**SMALL), n=4))
    for split in SPLITS:
        as_made, ours, theirs, judged = (
            source.fetch(torch.arange(12), rng()).views[0]
            for source in (plain[split], shown[split], published[split], insnotes.open(seen, None, split))
        )
        assert torch.equal(ours, as_made) is (split != "train")
        assert not torch.equal(theirs, as_made) and torch.equal(judged, as_made)
    assert insnotes.evaluated(insnotes.Config(augment="all")) == insnotes.Config(augment="all")


def test_a_sheet_of_spectra_has_low_notes_below(tmp_path: Path) -> None:
    sets = ["made.takes=3", "made.notes=4", "n=4", "mask=0", "source=made"]
    lines = list(show_data("insnotes", sets, None, tmp_path))
    assert lines[-1].strip() == str(tmp_path / "insnotes.png") and "note: made instruments" in lines[-2]
    with Image.open(tmp_path / "insnotes.png") as file:
        pixels = np.asarray(file.convert("L")).astype(float)
    inside = pixels[:, (pixels < 250).mean(0) > 0.5]  # columns of a page
    rows = np.flatnonzero((inside < 250).all(1))
    first = rows[: np.flatnonzero(np.diff(rows) > 1)[0] + 1]  # of the upper pages
    upper, lower = np.array_split(inside[first[2:-2]], 2)
    assert lower.mean() > upper.mean() + 20, "notes are loud where they are low"


def test_any_notes() -> None:
    source = every(insnotes, None, made=SMALL, n=3, consecutive=False)["val"]
    content = torch.cat([source.fetch(torch.arange(12), rng(seed)).labels["content"] for seed in range(9)])
    assert len({tuple(row) for row in content.tolist()}) > 15 and all(len(set(row)) == 3 for row in content.tolist())
    assert "lower data.n" in one_line(insnotes, None, made=SMALL, n=5)
    single = insnotes.open(insnotes.Config(made=insnotes.Made(**SMALL), items="fragments"), None, "val")
    assert len(single) == 48 and single.spec.shape == (1, 512, 32)


def test_files_in_v3s_layout(tmp_path: Path) -> None:
    spectra = {}
    for split, take in (("train", 0), ("val", 1), ("test", 2)):
        (tmp_path / "InsNotes" / split).mkdir(parents=True)
        for instrument in (2, 11):
            spectrum = np.random.default_rng(take).uniform(-11, 5, (513, 33 * 13 + 4)).astype(np.float32)
            spectra[split, instrument] = spectrum
            np.save(tmp_path / "InsNotes" / split / f"ins{instrument:02}_{take:02}.npy", spectrum)
    for split, source in every(insnotes, tmp_path, mask=0).items():
        batch = source.fetch(torch.arange(2), rng())
        assert batch.labels["style"].tolist() == [2, 11] and source.spec.note == ""
        for x, content, style in zip(
            batch.views[0], batch.labels["content"], batch.labels["style"].tolist(), strict=True
        ):
            start = [
                first
                for first in range(13)
                if np.abs(_notes.windows(spectra[split, style], np.array([first]), 12)[0][0] - (x[:, 0].numpy() * 18
                          + np.log(1e-5))).max() < 1e-3
            ]  # fmt: skip
            assert len(start) == 1 and content[0] == start[0] % 12
    np.save(tmp_path / "InsNotes" / "train" / "ins02_00.npy", np.zeros((5, 5)))
    assert "should be a spectrum (513, frames)" in one_line(insnotes, tmp_path)
    (tmp_path / "InsNotes" / "train" / "ins02_00.npy").write_bytes(b"torn")
    assert "ins02_00.npy: damaged" in one_line(insnotes, tmp_path)
    assert "no 'InsNotes/test'" in one_line(insnotes, tmp_path / "InsNotes", source="files")


def test_what_rings_on_behind_the_last_note_is_no_note() -> None:
    spectrum = np.random.default_rng(0).uniform(-11, 5, (513, 33 * 122 + 5)).astype(np.float32)
    made = _spectra.packed(spectrum)
    assert len(made) == 120 and np.array_equal(made, _spectra.packed(spectrum[:, : 33 * 120]))


def test_written_files_are_read_back(tmp_path: Path) -> None:
    """V3's layout, with the scores beside; what is read is what is played into the cache."""
    cfg = insnotes.RenderConfig(**SMALL)
    lines = list(insnotes.render(cfg, "default", tmp_path))
    assert "12 recordings in train, 12 recordings in val, 12 recordings in test" in lines[0]
    assert "made instruments" in lines[1]
    files = [path.relative_to(tmp_path / "InsNotes").as_posix() for path in (tmp_path / "InsNotes").rglob("*.*")]
    assert len(files) == 72 and sorted(files)[0] == "midi/ins00_00.mid" and "midi/ins11_02.mid" in files
    assert (tmp_path / "InsNotes" / "midi" / "ins11_02.mid").read_bytes() == notes.score(11, 2, 4, 0)
    made, read = every(insnotes, None, made=SMALL, n=4, source="made"), every(insnotes, tmp_path, n=4)
    for split in SPLITS:
        assert read[split].spec.note == "" and made[split].spec.note == "made instruments"
        shown = [
            {(x.numpy().tobytes(), int(s)) for x, s in zip(b.views[0], b.labels["style"], strict=True)}
            for b in (alone(one, split) for one in (None, tmp_path))
        ]
        assert shown[0] == shown[1] and len(shown[0]) == 48
    with pytest.raises(DataError, match="is there already"):
        list(insnotes.render(cfg, "default", tmp_path))


def alone(root: Path | None, split: str, **options: Any) -> Any:
    """All notes of a split by themselves, without masks."""
    cfg = insnotes.Config(items="fragments", mask=0, **{"made": SMALL, **options})
    source = insnotes.open(cfg, root, split)
    return source.fetch(torch.arange(len(source)), rng())


def test_few_shots_of_other_instruments(tmp_path: Path) -> None:
    options: dict[str, Any] = {"instruments": "ood", "made": {"takes": 23, "notes": 2}, "n": 2, "mask": 0}
    assert "need data.made.takes above 20" in one_line(insnotes, None, **{**options, "made": SMALL}, shots=5)
    assert "needs data.instruments=ood" in one_line(insnotes, written(tmp_path / "own", "published"), n=2, shots=1)
    for root in (None, written(tmp_path, "ood")):
        notes_of: dict[Any, set[bytes]] = {}
        for shots in (1, 5, 10):
            sources = every(insnotes, root, **options, shots=shots)
            assert [len(source) for source in sources.values()] == [4 * shots, 40, 12]
            assert sources["train"].spec.labels == {"content": 12, "style": 4}
            assert (sources["test"].spec.note == "") is (root is not None)
            for split in SPLITS:
                batch = alone(root, split, **{k: v for k, v in options.items() if k not in ("mask", "n")}, shots=shots)
                notes_of[split, shots] = {row.numpy().tobytes() for row in batch.views[0]}
        assert notes_of["train", 1] < notes_of["train", 5] < notes_of["train", 10]
        assert notes_of["test", 1] == notes_of["test", 10] and notes_of["val", 1] == notes_of["val", 5]
        parts = [notes_of["train", 10], notes_of["val", 10], notes_of["test", 10]]
        assert len(set().union(*parts)) == 4 * 23 * 2
    with pytest.raises(DataError, match="takes above 20"):
        list(insnotes.render(insnotes.RenderConfig(instruments="ood", **SMALL), "default", tmp_path / "few"))


def written(root: Path, instruments: str) -> Path:
    cfg = insnotes.RenderConfig(instruments=instruments, takes=23 if instruments == "ood" else 3, notes=2, midi=False)
    list(insnotes.render(cfg, "default", root))
    names = {path.name for path in (root / insnotes.FOLDERS[instruments]).iterdir()}
    assert names == ({"1_shot", "5_shot", "10_shot", "test"} if instruments == "ood" else set(SPLITS))
    return root
