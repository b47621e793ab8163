"""What SIE's construction promises, without long training: predictors that cannot ignore g, and how it collapses."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch

from datasets.base import Batch, Spec
from trainables.nets.predictors import PredictorConfig, build_predictor
from trainables.sie import SIE

SPEC = Spec(shape=(3, 32, 32), views=2, relations={"rotation": 4})
SMALL = {"encoder": {"name": "small_resnet10", "width": 8}, "equi": 32, "projector": (32, 32, 32), "tracking": False}


def test_the_published_prediction_is_odd_in_g_and_zero_at_zero() -> None:
    torch.manual_seed(0)
    z, g = torch.randn(5, 6), torch.randn(5, 4)
    published = build_predictor(PredictorConfig(), 6, 4)
    assert torch.allclose(published(z, -g), -published(z, g)) and not published(z, 0 * g).any()
    for other in (PredictorConfig(kind="mlp"), PredictorConfig(hypernetwork_bias=True)):
        predictor = build_predictor(other, 6, 4)
        assert not torch.allclose(predictor(z, -g), -predictor(z, g))
    assert build_predictor(PredictorConfig(kind="mlp"), 6, 4)(z, 0 * g).any()
    generated = build_predictor(PredictorConfig(bias=True), 6, 4)  # its biases are made from g too
    assert torch.allclose(generated(z, -g), -generated(z, g), atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [{}, {"hypernetwork": "deep"}, {"hidden": (5,), "relu": True, "bias": True, "hypernetwork_bias": True}],
)
def test_a_prediction_is_that_of_each_samples_own_matrices(options: dict[str, Any]) -> None:
    """The weights that g makes, written out for one sample after the other."""
    torch.manual_seed(0)
    cfg = PredictorConfig(**options)
    predictor = build_predictor(cfg, 3, 4).double()
    z, g = torch.randn(6, 3).double(), torch.randn(6, 4).double()
    flat = predictor.hypernet.net(g)  # type: ignore[union-attr,operator]
    for row in range(len(z)):
        h, start, dims = z[row], 0, (3, *cfg.hidden, 3)
        for number, (d_in, d_out) in enumerate(pairwise(dims)):
            h = flat[row, start : start + d_out * d_in].view(d_out, d_in) @ h
            start += d_out * d_in
            if cfg.bias:
                h = h + flat[row, start : start + d_out]
                start += d_out
            h = h.relu() if cfg.relu and number < len(dims) - 2 else h
        assert start == flat.shape[1]
        assert torch.allclose(predictor(z, g)[row], h, rtol=1e-12)


def trained(steps: int, **weights: float) -> float:
    """How far the embedding's deviations are below 1 after so many steps on noise; 0.99 = it is a point."""
    torch.manual_seed(0)
    method = SIE(SIE.Config(**SMALL, **weights), SPEC).train()
    optimizer = torch.optim.Adam(method.parameters(), lr=1e-2)
    for _ in range(steps):
        x, g = torch.rand(2, 64, 3, 32, 32), torch.nn.functional.normalize(torch.randn(64, 4), dim=1)
        found = method(Batch([x[0], x[1]], torch.arange(64), relations={"rotation": g}))
        optimizer.zero_grad()
        found["loss"].backward()
        optimizer.step()
    return float(found["variance"])


def test_without_variance_and_covariance_it_collapses() -> None:
    assert trained(40, std=0.0, cov=0.0) > 0.97
    assert trained(40) < 0.85
