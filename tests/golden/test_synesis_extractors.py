"""Blocks and front ends of extractors of sound against values of the original code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets.base import Spec
from trainables.core.original import take_over
from trainables.core.state import CheckpointError
from trainables.extractors import audiomae, m2d, mule, pesto, short_chunk

GOLDEN = Path(__file__).parent / "synesis"
Values = dict[str, Tensor]


def golden(name: str) -> tuple[Values, Values]:
    """Arrays, and weights by the original's names."""
    with np.load(GOLDEN / f"extractor_{name}.npz") as found:
        values = {key: torch.from_numpy(found[key]) for key in found.files}
    return values, {key.removeprefix("w."): value for key, value in values.items() if key.startswith("w.")}


def of(weights: Values, prefix: str) -> Values:
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def close(found: Tensor, wanted: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(found, wanted, atol=tolerance, rtol=0)


@torch.no_grad()
def test_short_chunk_cnn() -> None:
    values, weights = golden("vggish")
    sound = values["x"].float()
    options = short_chunk.Options(channels=3, tags=5)
    method = short_chunk.ShortChunk(options, Spec(tuple(sound.shape[1:]), rate=16_000))
    take_over(method, weights, Path("golden"))
    method.eval()
    close(short_chunk.decibels(sound[:, 0])[:, None, :, ::8], values["mel_db"], 1e-3)
    features = method.encode(sound)["all"]
    assert features.shape == (1, method.parts["all"])
    close(features, values["features"], 1e-4)
    close(method.tagged(features), values["probs"], 1e-4)


@torch.no_grad()
def test_filter_bank_of_audiomae() -> None:
    values, _ = golden("audiomae_fbank")
    seen = torch.stack([audiomae.standardised(one, int(values["n_frames"])) for one in values["x"][:, 0].float()])
    close(seen[:, values["frames_kept"]], values["mel"], 1e-3)


@torch.no_grad()
def test_chunks_of_m2d() -> None:
    values, weights = golden("m2d_chunking")
    options = m2d.Options(bands=16, chunk=32, patch=8, width=8, depth=1, heads=2, hidden=16)
    method = m2d.M2D(options, Spec((1, 16_000), rate=16_000))
    take_over(method, weights, Path("golden"))
    method.eval()
    assert torch.equal(method.norm_stats, weights["norm_stats"])
    for number in range(3):  # a whole chunk, one that is cut short, and several
        found = method.stacked(values[f"x_{number}"])
        close(found, values[f"seq_{number}"], 1e-4)
        close(found.mean(1), values[f"pooled_{number}"], 1e-4)
    with pytest.raises(CheckpointError, match="lacks 1 of the method's"):
        take_over(method, {k: v for k, v in weights.items() if k != "pos_embed"}, Path("golden"))


@torch.no_grad()
def test_blocks_of_mule() -> None:
    values, weights = golden("mule_blocks")
    convolution = mule.WSConv(4, 6, (1, 3), groups=2, around=(0, 1))
    convolution.load_state_dict(of(weights, "ws."), strict=True)
    close(convolution(values["ws_x"]), values["ws_y"], 1e-5)
    block = mule.Block(8, 16, stride=2, group=4, beta=1.0, first=True, drop=0.5).eval()
    block.load_state_dict(of(weights, "blk."), strict=True)
    close(block(values["blk_x"]), values["blk_y"], 1e-5)
    fusion = mule.Fusion(4, 8)
    fusion.load_state_dict(of(weights, "fuse."), strict=True)
    close(fusion(values["fuse_slow"], values["fuse_fast"]), values["fuse_y"], 1e-5)


@torch.no_grad()
def test_blocks_of_pesto() -> None:
    values, weights = golden("pesto_blocks")
    encoder = pesto.Encoder(24, (6, 5, 4, 3, 2), 7, 20).eval()
    encoder.load_state_dict(weights, strict=True)
    close(encoder(values["enc_x"]), values["enc_y"], 1e-5)
    octaves = pesto.constant_q(4000, 100 / 2 ** (2 / 72), 60, 3)
    real, imaginary = pesto.transform(values["cqt_audio"], octaves, 40)
    close(real[:, None], values["cqt_real"], 1e-4)
    close(imaginary[:, None], values["cqt_imag"], 1e-4)
    close(pesto.decibels(real, imaginary).transpose(1, 2)[:, :, None], values["log_mag"], 1e-2)
