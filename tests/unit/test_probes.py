"""The fast probes against scikit-learn, and their measures against definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.preprocessing import StandardScaler

from trainables.evals import _adam, probes


@pytest.fixture
def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize(("n", "d"), [(200, 12), (40, 70)])
def test_ridge_equals_scikit_learn_for_every_penalty(rng: torch.Generator, n: int, d: int) -> None:
    x = torch.randn(n, d, generator=rng, dtype=torch.float64) * torch.logspace(-2, 2, d) + 3
    y = torch.randn(n, 2, generator=rng, dtype=torch.float64) + x[:, :2]
    scaled = StandardScaler().fit_transform(x)
    for fit in probes._ridges(x, y, probes.RIDGE_PENALTIES):
        reference = Ridge(alpha=n * fit.chosen).fit(scaled, y)
        np.testing.assert_allclose(fit(x), reference.predict(scaled), atol=1e-7)


def classes_of(rng: torch.Generator, n: int, d: int, classes: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Overlapping classes with badly scaled, correlated features."""
    y = torch.arange(n) % classes
    centres = torch.randn(classes, d, generator=rng)
    mixing = torch.randn(d, d, generator=rng) * torch.logspace(-1.5, 0, d)
    return (0.4 * centres[y] + torch.randn(n, d, generator=rng)) @ mixing, y


@pytest.mark.parametrize(("dtype", "tolerance", "within"), [(torch.float64, 1e-9, 2e-4), (torch.float32, 1e-4, 0.05)])
def test_logistic_regression_equals_scikit_learn_for_every_penalty(
    rng: torch.Generator, dtype: torch.dtype, tolerance: float, within: float
) -> None:
    x, y = classes_of(rng, 600, 10, 5)
    scaled = StandardScaler().fit_transform(x.double())
    for fit in probes.logistic(x, y, 5, iterations=300, tolerance=tolerance, dtype=dtype):
        reference = LogisticRegression(C=1 / (600 * fit.chosen), tol=1e-9, max_iter=5000).fit(scaled, y)
        np.testing.assert_allclose(fit(x).softmax(1), reference.predict_proba(scaled), atol=within)


@pytest.mark.parametrize("kind", ["logistic", "ridge", "sgd"])
def test_classifiers_learn_classes_and_are_deterministic(rng: torch.Generator, kind: probes.ProbeKind) -> None:
    x, y = classes_of(rng, 900, 10, 3)
    held_out = probes.hold_out(torch.arange(600), np.random.default_rng(0))

    def fit() -> probes.Linear:
        return probes.classifier(x[:600], y[:600], 3, held_out, kind, np.random.default_rng(1))

    probe = fit()
    reference = LogisticRegression(max_iter=1000).fit(StandardScaler().fit_transform(x[:600]), y[:600])
    best = reference.score(StandardScaler().fit(x[:600]).transform(x[600:]), y[600:])
    assert probes.accuracy(probe(x[600:]), y[600:]) > best - 0.03
    assert torch.equal(probe.weight, fit().weight)


@pytest.mark.parametrize("kind", ["logistic", "ridge", "sgd"])
def test_random_features_give_chance(rng: torch.Generator, kind: probes.ProbeKind) -> None:
    x, y = torch.randn(3000, 8, generator=rng), torch.randint(4, (3000,), generator=rng)
    held_out = probes.hold_out(torch.arange(1500), np.random.default_rng(0))
    probe = probes.classifier(x[:1500], y[:1500], 4, held_out, kind)
    assert abs(probes.accuracy(probe(x[1500:]), y[1500:]) - 0.25) < 0.05


def test_a_penalty_is_chosen_on_held_out_rows_alone(rng: torch.Generator) -> None:
    """With more features than rows and mostly noise, the weakest penalty fits the train rows best and is not taken."""
    x = torch.randn(120, 100, generator=rng, dtype=torch.float64)
    y = x[:, :1] + 3 * torch.randn(120, 1, generator=rng, dtype=torch.float64)
    held_out = probes.hold_out(torch.arange(120), np.random.default_rng(0))
    chosen = probes.ridge(x, y, held_out)
    scores = [
        probes.r2(f(x[held_out]), y[held_out]).item() for f in probes._ridges(x[~held_out], y[~held_out], (1e-6,))
    ]
    assert chosen.chosen > 1e-3 and scores[0] < 0


@pytest.mark.parametrize("kind", ["logistic", "ridge", "sgd"])
def test_constant_features_and_a_missing_class_stay_finite(kind: probes.ProbeKind) -> None:
    x = torch.ones(60, 4)
    y = torch.arange(60) % 2 * 2  # class 1 never occurs
    probe = probes.classifier(x, y, 3, probes.hold_out(torch.arange(60), np.random.default_rng(0)), kind)
    assert bool(probe(x).isfinite().all())
    assert probes.accuracy(probe(x), y) == 0.5


def test_a_diverged_head_counts_as_wrong() -> None:
    scores = torch.tensor([[float("nan"), 1.0], [0.0, 1.0]])
    assert probes.accuracy(scores, torch.tensor([1, 1])) == 0.5


def test_r2_is_scikit_learns(rng: torch.Generator) -> None:
    target = torch.randn(50, 3, generator=rng, dtype=torch.float64)
    prediction = target + 0.5 * torch.randn(50, 3, generator=rng, dtype=torch.float64)
    target[:, 2] = 2.0
    expected = r2_score(target, prediction, multioutput="raw_values")
    np.testing.assert_allclose(probes.r2(prediction, target), expected)
    assert probes.r2(target, target).tolist() == [1.0, 1.0, 1.0]


def test_auc_is_scikit_learns_with_ties(rng: torch.Generator) -> None:
    score = torch.randint(5, (100,), generator=rng).double()
    positive = torch.rand(100, generator=rng) < 0.3
    assert probes.auc(score, positive) == pytest.approx(roc_auc_score(positive, score))
    assert probes.auc(score, torch.ones(100)) == 0.5


def test_top_k_is_capped_at_the_number_of_classes() -> None:
    scores = torch.tensor([[0.1, 0.9, 0.5], [0.9, 0.1, 0.5]])
    y = torch.tensor([2, 1])
    assert [probes.top_k(scores, y, k) for k in (1, 2, 5)] == [0.0, 0.5, 1.0]


def test_chance_is_the_accuracy_of_the_train_splits_most_frequent_class() -> None:
    assert probes.chance(torch.tensor([0, 1, 1]), torch.tensor([1, 0, 0, 0])) == 0.25


def test_hold_out_keeps_all_draws_of_an_item_together() -> None:
    index = torch.arange(50).repeat_interleave(3)
    held = probes.hold_out(index, np.random.default_rng(0))
    assert int(held.sum()) == 30
    assert not set(index[held].tolist()) & set(index[~held].tolist())


def test_a_saved_probe_holds_what_is_needed_to_use_it(tmp_path, rng: torch.Generator) -> None:
    x = torch.randn(40, 5, generator=rng)
    probe = probes.ridge(x, x[:, :1].double(), probes.hold_out(torch.arange(40), np.random.default_rng(0)))
    with safe_open(probe.save(tmp_path / "probe.safetensors"), "pt") as file:
        w, b, mean, scale = (file.get_tensor(name) for name in ("weight", "bias", "mean", "scale"))
        assert file.metadata() == {"chosen": repr(probe.chosen)}
    assert torch.allclose((x - mean) / scale @ w + b, probe(x))
    assert [path.name for path in tmp_path.iterdir()] == ["probe.safetensors"]


@pytest.mark.parametrize("d", [12, 70])
def test_ridge_without_an_intercept_equals_scikit_learn(rng: torch.Generator, d: int) -> None:
    x = torch.randn(50, d, generator=rng, dtype=torch.float64) + 3
    y = torch.randn(50, 2, generator=rng, dtype=torch.float64) + x[:, :2]
    scale = x.square().mean(0).sqrt()
    for fit in probes._ridges(x, y, (10.0, 1e-3), bias=False):
        reference = Ridge(alpha=50 * fit.chosen, fit_intercept=False).fit(x / scale, y)
        np.testing.assert_allclose(fit(x), reference.predict(x / scale), atol=1e-7)
        assert not fit.bias.any() and not fit.mean.any()


def test_logistic_regression_without_an_intercept_equals_scikit_learn(rng: torch.Generator) -> None:
    x, y = classes_of(rng, 400, 8, 4)
    x = x.double() + 1
    scale = x.square().mean(0).sqrt()
    for fit in probes.logistic(x, y, 4, iterations=300, tolerance=1e-9, dtype=torch.float64, bias=False):
        reference = LogisticRegression(C=1 / (400 * fit.chosen), fit_intercept=False, tol=1e-9, max_iter=5000)
        reference.fit(x / scale, y)
        np.testing.assert_allclose(fit(x).softmax(1), reference.predict_proba(x / scale), atol=3e-4)
        assert not fit.bias.any()


@pytest.mark.parametrize("kind", ["logistic", "ridge", "sgd"])
def test_without_an_intercept_nothing_is_said_of_zeros(rng: torch.Generator, kind: probes.ProbeKind) -> None:
    x, y = classes_of(rng, 300, 6, 3)
    held_out = probes.hold_out(torch.arange(300), np.random.default_rng(0))
    for bias in (True, False):
        probe = probes.classifier(x + 2, y, 3, held_out, kind, bias=bias)
        assert bool(probe(torch.zeros(1, 6)).any()) == bias
        assert probes.accuracy(probe(x + 2), y) > 0.45


@pytest.mark.parametrize("bias", [True, False])
def test_very_many_features_are_solved_among_the_rows(
    rng: torch.Generator, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y = torch.randn(60, 90, generator=rng, dtype=torch.float64), torch.arange(60) % 3
    options = {"iterations": 300, "tolerance": 1e-9, "dtype": torch.float64, "bias": bias}
    among_features = probes.logistic(x, y, 3, **options)  # type: ignore[arg-type]
    monkeypatch.setattr(probes, "WIDE", 80)
    for few, many in zip(probes.logistic(x, y, 3, **options), among_features, strict=True):  # type: ignore[arg-type]
        torch.testing.assert_close(few(x), many(x), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(few.weight, many.weight, rtol=1e-3, atol=1e-5)


# -- the published recipe -------------------------------------------------------------------------------------------


def test_the_published_probe_sees_one_draw_of_every_item_in_an_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[float]] = []
    step = _adam._step

    def watched(layer: Any, optimizer: Any, x: torch.Tensor, y: torch.Tensor, clip: Any) -> torch.Tensor:
        seen.append(x[:, 0].tolist())
        return step(layer, optimizer, x, y, clip)

    monkeypatch.setattr(_adam, "_step", watched)
    x = torch.arange(21.0)[:, None]  # 7 items of 3 draws: 0 1 2, 3 4 5, ...
    cfg = _adam.Adam(epochs=4, batch_size=5)
    _adam.fit(x, torch.arange(21) // 3 % 2, torch.arange(21), 2, cfg, np.random.default_rng(0), draws=3)
    assert [len(one) for one in seen] == [5, 2] * 4, "the last batch is not dropped"
    epochs = [sorted(seen[2 * e] + seen[2 * e + 1]) for e in range(4)]
    assert epochs == [[3.0 * item + e % 3 for item in range(7)] for e in range(4)]
    seen.clear()
    row = torch.tensor([0, 0, 0, 1, 2, 2])  # frames of three items
    _adam.fit(
        x[:6],
        torch.zeros(6).long(),
        row,
        2,
        _adam.Adam(epochs=1, batch_size=2, shuffle=False),
        np.random.default_rng(0),
    )
    assert seen == [[0, 1, 2, 3], [4, 5]]


def test_the_published_probe_follows_its_settings(rng: torch.Generator) -> None:
    x, y = classes_of(rng, 300, 6, 3)

    def fit(seed: int = 0, bias: bool = True, **options: Any) -> probes.Linear:
        cfg = _adam.Adam(**{"epochs": 40, "lr": 0.05, **options})
        return _adam.fit(x, y, torch.arange(300), 3, cfg, np.random.default_rng(seed), bias=bias)[0]

    plain = fit()
    assert probes.accuracy(plain(x), y) > 0.5 and torch.equal(plain.weight, fit().weight)
    assert not plain.mean.any() and plain.scale.eq(1).all(), "published features are not standardised"
    assert not torch.equal(plain.weight, fit(seed=1).weight) and fit(bias=False).bias.eq(0).all()
    torch.testing.assert_close(fit(standardise=True).mean, x.mean(0))
    assert fit(weight_decay=1.0).weight.norm() < 0.5 * plain.weight.norm()
    still = fit(epochs=1, batch_size=300, lr=1e-9)
    xavier = fit(epochs=1, batch_size=300, lr=1e-9, start="xavier")
    assert still.weight.abs().max() <= 6**-0.5 < xavier.weight.abs().max()
    clipped = fit(clip_norm=1e-12)  # below Adam's epsilon hardly anything moves
    assert (clipped.weight - fit(epochs=1, lr=1e-9).weight).abs().max() < 0.01
