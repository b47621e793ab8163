"""Data of Smooth InfoMax against values of its original code: splitter, resampling, noise, normalisation, crop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets import _sound, librispeech, stl10
from datasets._syllables import cuts, levels, otsu
from datasets.base import Spec
from datasets.transforms.audio import WhiteNoise, WhiteOptions, mix
from datasets.views import Views, ViewsConfig

FOLDER = Path(__file__).parent / "sim"


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        return {key: file[key] for key in file.files}


def near(actual: Tensor | np.ndarray, expected: np.ndarray, rtol: float = 1e-9, atol: float = 1e-10) -> None:
    np.testing.assert_allclose(np.asarray(actual), expected, rtol=rtol, atol=atol)


@pytest.mark.parametrize(("name", "width"), [("otsu_split_a", 40), ("otsu_split_extra_edge_a", 30)])
def test_syllable_splitter(name: str, width: int) -> None:
    g = golden(name)
    loudest, percentile = levels(g["in_y"], width)
    near(loudest, g["out_sliding_max"])
    near(percentile, g["out_sliding_p90"])
    near(np.array(otsu(percentile)), g["out_threshold"])
    assert cuts(g["in_y"], width) == tuple(g["out_cuts"])


@pytest.mark.parametrize("width", [1, 2, 7, 10, 11, 30, 501])
def test_levels_are_those_of_every_window(width: int) -> None:
    y = np.random.default_rng(width).standard_normal(700)
    loudest, percentile = levels(y, width)
    windows = np.lib.stride_tricks.sliding_window_view(np.abs(y), width)[: len(y) - width]
    near(loudest, windows.max(1))
    near(percentile, np.percentile(windows, 90, axis=1))


def test_resampling() -> None:
    g = golden("resample_a")
    near(_sound.resample(torch.from_numpy(g["in_x"]), 22_050, 16_000), g["out_x"], rtol=0, atol=1e-5)
    assert _sound.resampled_length(g["in_x"].shape[1], 22_050) == g["out_x"].shape[1]


def test_background_noise() -> None:
    g = golden("noise_a")
    x, first = torch.from_numpy(g["in_x"])[None], int(g["rnd_offset"])
    noise = torch.from_numpy(g["in_noise"])[None, :, first : first + x.shape[-1]]
    near(mix(x, noise, torch.tensor([float(g["rnd_snr_db"])]))[0], g["out_background"])


def test_white_noise() -> None:
    g = golden("noise_a")
    white = WhiteNoise(WhiteOptions(), g["in_x"].shape, g["in_x"].shape)
    p = torch.cat([torch.tensor([[0.005]], dtype=torch.float64), torch.from_numpy(g["rnd_gauss"])], 1)
    near(white.apply(torch.from_numpy(g["in_x"])[None], p)[0], g["out_gauss"])


def test_normalisation_of_librispeech() -> None:
    g = golden("libri_normalisation_a")
    scale, shift = librispeech.AFFINE
    near(g["in_x"] / 2**31 * scale + shift, g["out_x"])
    samples = (g["in_x"] / 2**16).astype(np.int16)
    source = _sound.Sounds(
        _sound.Pieces.of(_sound.joined([samples])), Spec(shape=(1, 200), rate=16_000), {}, affine=librispeech.AFFINE
    )
    x = source.fetch(torch.tensor([0]), torch.Generator()).views[0][0, 0]
    near(x, g["out_x"], rtol=1e-5, atol=1e-5)


def test_the_image_transform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gray, central crop, normalised: what evaluations of STL-10 see, through its files."""
    monkeypatch.setenv("SWEEP_CACHE", str(tmp_path / "cache"))
    g = golden("vision_transform_a")
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    (folder / "unlabeled_X.bin").write_bytes(np.stack([g["in_img"].transpose(2, 1, 0)] * 5).tobytes())
    source = stl10.open(stl10.Config(channels=1), tmp_path, "train")
    views = Views(ViewsConfig(tx=("cro", "fli"), size=64, count=1, normalize=False), source.spec)
    x = views.clean(source.fetch(torch.tensor([0]), torch.Generator())).views[0][0]
    near((x - stl10.MEAN[1][0]) / stl10.STD[1][0], g["out_x"], rtol=0, atol=1e-5)
