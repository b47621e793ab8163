"""InsNotes: made instruments, their spectra as pages, rings of notes, masks, files in V3's layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from opened import every, one_line, rng

from datasets import _notes, insnotes
from datasets.base import SPLITS
from datasets.synth import notes

SMALL = {"takes": 3, "notes": 4}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))


def test_notes_have_their_pitch_and_instruments_their_sound() -> None:
    profiles = []
    for instrument in range(notes.INSTRUMENTS):
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
