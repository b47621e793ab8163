"""The V3 loss, its statistics and their gradients against values of the original code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets.config import ConfigError
from trainables.losses.v3 import (
    TERMS,
    Adapted,
    NotFinite,
    Pages,
    chosen_form,
    grouping,
    guard,
    mean_pairwise_distance,
    regroup,
    squared_error,
    statistics,
    v3_terms,
    weighed,
    widened,
)

FOLDER = Path(__file__).parent / "v3"


def golden(name: str) -> dict[str, Any]:
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) if file[key].dtype.kind in "fi" else file[key] for key in file.files}


def close(actual: Tensor | None, expected: Tensor, tolerance: float = 1e-9) -> None:
    assert actual is not None
    torch.testing.assert_close(actual.detach().reshape(expected.shape), expected, rtol=tolerance, atol=tolerance)


def leaf(x: Tensor) -> Tensor:
    return x.clone().requires_grad_()


def test_the_mean_pairwise_distance() -> None:
    g = golden("mpd_a")
    x3, x2 = leaf(g["x3"]), leaf(g["x2"])
    y3, y2 = mean_pairwise_distance(x3), mean_pairwise_distance(x2)
    close(y3, g["y3"])
    close(y2, g["y2"])
    ((y3 * g["w3"]).sum() + y2).backward()
    close(x3.grad, g["grad3"])
    close(x2.grad, g["grad2"])


def test_equal_vectors_have_no_distance_and_no_gradient() -> None:
    z = torch.randn(3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = leaf(torch.cat([z, z[:1]]))
    (gradient,) = torch.autograd.grad(mean_pairwise_distance(z), z)
    assert torch.isfinite(gradient).all()
    torch.testing.assert_close(gradient[0], gradient[3])
    same = torch.ones(4, 4, dtype=torch.bool)
    assert float(mean_pairwise_distance(z.detach(), same)) == 0
    assert mean_pairwise_distance(z[:1]).isnan()


CASES = ["pure_a", "pure_a2", "adapted_a", "adapted_a2", "supersample_a"]


@pytest.mark.parametrize("case", CASES)
def test_the_loss_its_terms_and_gradients(case: str) -> None:
    g = golden(f"v3_loss_{case}")
    adapted = None
    if not case.startswith("pure"):
        adapted = Adapted(bool(g["supersample_content"]), int(g["widen_style"]), original=True)
    leaves = {name: leaf(g[name]) for name in ("x_hat", "z_c", "z_c_vq", "z_s", "commit")}
    pages = Pages(
        squared_error(leaves["x_hat"], g["x"]),
        leaves["commit"].expand(len(g["x"])),
        leaves["z_c"],
        leaves["z_c_vq"],
        leaves["z_s"],
    )
    terms, _ = v3_terms(pages, float(g["relativity"]), adapted)
    for name in TERMS:
        close(terms[name], g[f"out_{name}_loss"])
    loss = weighed(terms, dict(zip(TERMS, g["weights"].tolist(), strict=True)), adapted)
    close(loss, g["out_total_loss"])
    loss.backward()
    for name, x in leaves.items():
        close(torch.zeros_like(x) if x.grad is None else x.grad, g[f"grad_{name}"])
    plain = statistics(g["z_c"], g["z_c_vq"], g["z_s"])
    close(plain.content_fragment, g["stat_content_fragment"])
    close(plain.content_page, g["stat_content_sample"])
    close(plain.style_fragment, g["stat_style_fragment"])
    close(plain.style_page, g["stat_style_sample"])


def test_pages_are_regrouped_to_the_most_square() -> None:
    g = golden("supersample_a")
    assert [list(grouping(*pair)) for pair in g["pairs"].tolist()] == g["out"].tolist()
    assert torch.equal(regroup(g["z"]), g["z_out"])


def test_the_clean_widening_is_a_moving_average() -> None:
    z = torch.tensor([[0.0, 3.0, 0.0, 0.0]])[..., None]
    assert widened(z, 3).flatten().tolist() == [1.0, 1.0, 1.0, 0.0]
    constant = torch.full((2, 5, 3), 2.0)
    torch.testing.assert_close(widened(constant, 5), constant)
    assert widened(constant, 3, original=True).shape == (2, 7, 3)
    with pytest.raises(ConfigError, match="odd"):
        Adapted(widen=4)


def test_equal_codes_count_as_equal() -> None:
    """As where the straight-through sum has left no rounding error."""
    rng = torch.Generator().manual_seed(0)
    atoms, codes = torch.randn(4, 6, generator=rng), torch.randint(4, (5, 6), generator=rng)
    codes[1] = codes[0].flip(0)  # the same page in another order
    z_c, z_s = torch.randn(5, 6, 6, generator=rng), torch.randn(5, 6, 3, generator=rng)
    exact, ordered = leaf(atoms[codes]), leaf(atoms[codes.sort(1).values])
    noisy = leaf(z_c + (atoms[codes] - z_c))
    assert not torch.equal(exact, noisy)
    treated, raw = statistics(z_c, noisy, z_s, codes), statistics(z_c, noisy, z_s)
    for name, clean in (("content_fragment", exact), ("content_page", ordered)):
        (wanted,) = torch.autograd.grad(getattr(statistics(z_c, clean, z_s), name), clean)
        (found,) = torch.autograd.grad(getattr(treated, name), noisy, retain_graph=True)
        (published,) = torch.autograd.grad(getattr(raw, name), noisy, retain_graph=True)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        assert (published - wanted).norm() > 0.05 * wanted.norm()


def test_a_term_without_a_weight_is_off_and_wrong_weights_are_refused() -> None:
    terms = {name: torch.tensor(float(number)) for number, name in enumerate(TERMS)}
    assert float(weighed(terms, {"style": 2.0, "commit": 1.0})) == 2 * 2 + 5
    with pytest.raises(ConfigError, match="did you mean 'fragment'"):
        weighed(terms, {"fragmet": 1.0})
    with pytest.raises(ConfigError, match="at least 0"):
        weighed(terms, {"style": -1.0})


def test_the_form_follows_from_the_keys_that_are_there() -> None:
    assert chosen_form({"relativity": 5}) is None
    assert chosen_form({"widen_style": False}) == Adapted()
    assert chosen_form({"supersample_content": True, "widen_style": 3}) == Adapted(True, 3)


def test_one_page_is_refused_and_what_is_not_finite_is_named() -> None:
    z = torch.zeros(1, 4, 3)
    with pytest.raises(ValueError, match="at least 2 pages"):
        statistics(z, z, z)
    terms = {"recon": torch.tensor(1.5), "style": torch.tensor(float("nan"))}
    with pytest.raises(NotFinite, match=r"recon 1\.5, style nan"):
        guard(terms)
    guard({"recon": torch.tensor(1.0)})
