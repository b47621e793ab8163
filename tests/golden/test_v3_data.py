"""Spectra, loudness and windows of notes, and images of phonemes, against values of V3's original code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from datasets import _notes, _phonemes

FOLDER = Path(__file__).parent / "v3"


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def distance(actual: np.ndarray, expected: np.ndarray) -> float:
    assert actual.shape == expected.shape
    return float(np.max(np.abs(actual - expected) / (1 + np.abs(expected))))


def test_log_spectrum() -> None:
    g = golden("insnotes_stft_a")
    assert distance(_notes.log_magnitude(torch.from_numpy(g["audio"])).numpy(), g["log_magnitude"]) < 1e-3


def test_envelope() -> None:
    g = golden("insnotes_envelope_a")
    made = _notes.envelope(g["end_levels"], g["curves"].tolist(), int(g["sr"]))
    assert distance(made, g["envelope"]) < 1e-9
    begins = [1.0, *g["end_levels"][:-1].tolist()]
    assert np.allclose([_notes.interval(level, bounded=False) for level in begins], np.stack([g["low"], g["high"]], 1))


def test_windows() -> None:
    g = golden("insnotes_windows_a")
    fragments, content = _notes.windows(g["features"], g["starts"], 12, int(g["fragment_len"]))
    assert np.array_equal(fragments, g["fragments"]) and np.array_equal(content, g["c_labels"])


def test_phonemes() -> None:
    g = golden("librispeech_phonemes_a")
    assert distance(_phonemes.bands().numpy(), g["mel_basis"]) < 1e-5
    made, labels = _phonemes.images(
        torch.from_numpy(g["audio"]), g["phonemes"].tolist(), g["start"].tolist(), g["end"].tolist()
    )
    assert [_phonemes.PHONEMES[number] for number in labels] == g["kept_labels"].tolist()
    assert distance(made, g["specs"]) < 1e-3
    assert len(_phonemes.PHONEMES) == 39 and _phonemes.label("ZH") is None and _phonemes.label("DX") == 6
    inside = _phonemes.normalised(made)
    assert -1.2 < inside.min() < -0.5 and 0.5 < inside.max() < 1.2  # bicubic resizing may overshoot


def test_silence_is_no_phoneme() -> None:
    made, labels = _phonemes.images(torch.zeros(1600), ["AA1", "B"], [0.0, 0.2], [0.1, 0.3])
    assert made.shape == (0, 80, 64) and len(labels) == 0


@pytest.mark.parametrize("bounded", [True, False])
def test_loudness_stays_in_bounds_as_it_was_meant(bounded: bool) -> None:
    rng = np.random.default_rng(0)
    drawn = [_notes.draw_envelope(120, rng, bounded) for _ in range(20)]
    levels = np.stack([level for level, _ in drawn])
    steps = np.abs(np.diff(levels, axis=1, prepend=1.0))
    within = bool(levels.min() >= 0.8 and levels.max() <= 1.2 and steps.max() <= 0.2)
    assert within is bounded
    share = np.mean([curve == "linear" for _, curves in drawn for curve in curves])
    assert 0.45 < share < 0.55


def test_loudness_lies_over_the_middle() -> None:
    x = np.ones(10)
    assert np.allclose(_notes.loudened(x, np.array([1.0, 2.0, 3.0, 2.0])) / 0.9 * 3, [1, 1, 1, 1, 2, 3, 2, 2, 2, 2])
    long = _notes.loudened(np.ones(4), np.arange(1.0, 9))
    assert np.allclose(long / long[0], np.arange(3, 7) / 3) and np.isclose(long.max(), 0.9)
    assert not _notes.loudened(np.zeros(5), np.ones(3)).any()


def test_one_band_of_a_page_is_masked() -> None:
    x = -1 - torch.rand(2, 3, 20, 4)
    made = _notes.masked(x, torch.tensor([4.7, 0.9]), torch.tensor([0.5, 0.5]))
    assert torch.equal(made[1], x[1])
    changed = (made[0] != x[0]).all(2).all(0)
    assert changed.nonzero()[:, 0].tolist() == [7, 8, 9, 10]  # from int(0.5 * 15.3) on
    assert (made[0, :, 7:11] == 1e-8).all()
