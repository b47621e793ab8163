"""Analyses of Smooth InfoMax's latents against values of its original code."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from test_sim_losses import close, golden
from torch import Tensor

from trainables.evals import _density, _latents, probe_weights
from trainables.evals.probes import top_k


def test_the_interpolation_contribution_score() -> None:
    g = golden("interpolation_score_a")
    z = g["in_z"].double().transpose(1, 2)  # (n, L, C)

    def decode(z: Tensor) -> Tensor:
        weight, bias = g["w_deconv_weight"].double(), g["w_deconv_bias"].double()
        return F.conv_transpose1d(z.transpose(1, 2), weight, bias, stride=2, padding=1)

    dims = g["in_dims"].tolist()
    assert dims == list(_latents.doublings(512))
    pairs = torch.tensor([(i, j) for i in range(5) for j in range(5) if i != j])
    for block in (3, 64):
        found = _latents.contribution(decode, z, pairs, dims, block)
        close(torch.tensor(found.absolute, dtype=torch.float64), g["out_absolute"])
        close(torch.tensor(found.relative, dtype=torch.float64), g["out_relative"])
        assert found.relative[-1] == 0
    one = _latents.contribution(decode, z, torch.tensor([[0, 1]]), [8])
    close(torch.tensor(one.absolute[0], dtype=torch.float64), g["out_pair01_dims8"])
    steps = _latents.interpolated(z[0].float(), z[1].float(), 4)
    close(steps[1].T, g["out_interp_third"], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", ["total_correlation_a", "total_correlation_corr_a"])
def test_total_correlation(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    g = golden(case)
    close(torch.tensor(_density.total_correlation(g["in_codes"], 0.1)), g["out_total_correlation"].float(), rtol=1e-6)
    monkeypatch.setattr(_density, "BLOCK", 1000)  # in many pieces
    close(torch.tensor(_density.total_correlation(g["in_codes"], 0.1)), g["out_total_correlation"].float(), rtol=1e-6)


def test_rescaled_weights_and_top_k() -> None:
    g = golden("metrics_misc_a")
    close(probe_weights.rescaled(g["in_weights"], "class"), g["out_rows"])
    close(probe_weights.rescaled(g["in_weights"], "dimension"), g["out_cols"])
    for k in (1, 5):
        assert 100 * top_k(g["in_logits"], g["in_target"], k) == pytest.approx(float(g[f"out_top{k}"]), rel=1e-6)
