"""The quantiser of V3 against the library that the published code uses; ranks, resuming, freezing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_v3_losses import close, golden
from torch import Tensor

from trainables.core.draws import Draws
from trainables.nets.quantiser import Quantiser, kmeans, perplexity


def made(g: dict[str, Any], state: str) -> Quantiser:
    """A quantiser in a given state."""
    atoms, width = g[f"{state}_embed"].shape
    uniform = g["t0_x"].shape[0] * g["t0_x"].shape[1] / atoms
    quantiser = Quantiser(atoms, width, float(g["decay"]), float(g["threshold"]) / uniform, exact=False)
    quantiser.embed.copy_(g[f"{state}_embed"])
    quantiser.sums.copy_(g[f"{state}_embed_avg"])
    quantiser.counts.copy_(g[f"{state}_cluster_size"])
    quantiser.initialised.fill_(True)
    return quantiser


def draws_of(x: Tensor, seed: int = 0) -> Draws:
    return Draws(seed, len(x), x.device)


@pytest.mark.parametrize("case", ["vq_ema_a", "vq_expire_a"])
def test_steps_from_a_given_state(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    g = golden(case)
    quantiser = made(g, "s0").eval()
    found = quantiser(g["eval_x"])
    close(found.z_q, g["eval_q"], 1e-5)
    assert torch.equal(found.codes, g["eval_idx"])
    assert not found.commit.any()

    quantiser.train().frozen = True
    x = g["eval_x"].clone().requires_grad_()
    found = quantiser(x)
    close(found.z_q, g["frozen_q"], 1e-5)
    close(found.commit.mean(), g["frozen_commit"], 1e-5)
    ((g["frozen_w"] * found.z_q).sum() + g["commit_coef"] * found.commit.mean()).backward()
    close(x.grad, g["frozen_grad"], 1e-5)
    assert torch.equal(quantiser.embed, g["s0_embed"])

    quantiser.frozen = False
    for step in range(2):
        rows = torch.zeros(quantiser.atoms, dtype=torch.int64)
        rows[g[f"t{step}_dead"].bool()] = g[f"t{step}_replace_rows"].long()
        monkeypatch.setattr(quantiser, "chosen", lambda *_, rows=rows: rows)
        found = quantiser(g[f"t{step}_x"], draws_of(g[f"t{step}_x"]))
        close(found.z_q, g[f"t{step}_q"], 1e-5)
        assert torch.equal(found.codes, g[f"t{step}_idx"])
        close(found.commit.mean(), g[f"t{step}_commit"], 1e-5)
        close(quantiser.embed, g[f"s{step + 1}_embed"], 1e-5)
        close(quantiser.sums, g[f"s{step + 1}_embed_avg"], 1e-5)
        close(quantiser.counts, g[f"s{step + 1}_cluster_size"], 1e-5)


def test_lloyd_iterations() -> None:
    g = golden("kmeans_a")
    for iterations in (1, 2, 10):
        means, members = kmeans(g["samples"], g["init"], iterations)
        close(means, g[f"means_{iterations}"], 1e-4)
        assert members.long().tolist() == g[f"bins_{iterations}"].tolist()


def test_the_first_batch_makes_the_codebook(monkeypatch: pytest.MonkeyPatch) -> None:
    g = golden("vq_first_batch_a")
    quantiser = Quantiser(len(g["init_rows"]), g["x"].shape[2], float(g["decay"]), dead=0, exact=False)
    assert not quantiser.eval()(g["x"]).codes.any()
    assert not quantiser.initialised
    monkeypatch.setattr(quantiser, "chosen", lambda *_: g["init_rows"].long())
    found = quantiser.train()(g["x"], draws_of(g["x"]))
    close(found.z_q, g["q"], 1e-5)
    assert torch.equal(found.codes, g["idx"])
    close(found.commit.mean(), g["commit"], 1e-5)
    close(quantiser.embed, g["after_embed"], 1e-5)
    close(quantiser.sums, g["after_embed_avg"], 1e-5)
    close(quantiser.counts, g["after_cluster_size"], 1e-5)


def pages(step: int) -> Tensor:
    return torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(100 + step))


def walked(quantiser: Quantiser, steps: range) -> Quantiser:
    for step in steps:
        quantiser(pages(step), draws_of(pages(step), seed=step))
    return quantiser


def test_a_resumed_codebook_is_the_uninterrupted_one() -> None:
    straight = walked(Quantiser(6, 3), range(6))
    resumed = Quantiser(6, 3)
    resumed.load_state_dict(walked(Quantiser(6, 3), range(3)).state_dict())
    walked(resumed, range(3, 6))
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    other = Quantiser(6, 3)
    other(pages(0), draws_of(pages(0), seed=1))
    assert not torch.equal(other.embed, walked(Quantiser(6, 3), range(1)).embed)


def test_dead_codes_take_vectors_of_the_batch() -> None:
    quantiser = walked(Quantiser(6, 3, dead=0.5), range(1))
    quantiser.embed[2:].fill_(1e3)  # far away
    quantiser.counts[2:].fill_(0.01)
    quantiser.sums[2:].fill_(10.0)
    x = pages(1)
    quantiser(x, draws_of(x, seed=1))
    found = torch.cdist(quantiser.embed[2:], x.reshape(-1, 3)).min(1)
    assert float(found.values.max()) < 1e-6
    assert len(set(found.indices.tolist())) == 4
    assert torch.allclose(quantiser.counts[2:], torch.tensor(0.5 * 20 / 6))


def test_dead_codes_take_different_vectors_of_a_batch_that_is_smaller_than_the_codebook() -> None:
    x = pages(1)
    rows = x.reshape(-1, 3)
    for seed in range(5):
        quantiser = walked(Quantiser(50, 3, dead=0.5), range(1))
        quantiser.counts.fill_(10.0)
        dead = torch.arange(0, 50, 5)  # as many as half of the vectors
        quantiser.embed[dead], quantiser.sums[dead], quantiser.counts[dead] = 1e3, 10.0, 0.01
        quantiser(x, draws_of(x, seed=seed))
        found = torch.cdist(quantiser.embed[dead], rows).min(1)
        assert float(found.values.max()) < 1e-6
        assert len(set(found.indices.tolist())) == len(dead) < len(rows)


def test_the_exact_form_has_the_same_gradient_and_no_noise() -> None:
    exact, published = walked(Quantiser(3, 3), range(1)), walked(Quantiser(3, 3, exact=False), range(1))
    x = pages(1).requires_grad_()
    first, second = exact(x, draws_of(x)), published(x, draws_of(x))
    torch.testing.assert_close(first.z_q, second.z_q)
    assert len(first.z_q.detach().reshape(-1, 3).unique(dim=0)) == 3
    assert len(second.z_q.detach().reshape(-1, 3).unique(dim=0)) > 3
    gradients = [torch.autograd.grad((one.z_q**2).sum() + one.commit.sum(), x)[0] for one in (first, second)]
    torch.testing.assert_close(*gradients)


def test_more_atoms_than_vectors_and_the_usage_of_codes() -> None:
    quantiser = Quantiser(50, 3)
    quantiser(pages(0), draws_of(pages(0)))
    assert torch.isfinite(quantiser.embed).all()
    found, used = perplexity(torch.tensor([[0, 1], [0, 1]]), 4)
    assert float(found) == pytest.approx(2)
    assert float(used) == 2
