"""V3's metrics against values of the original code: retrieval, codebook, error rate, and numbers over runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_v3_losses import close, golden

from analysis import runs
from datasets.base import Spec
from datasets.views import Views, ViewsConfig
from trainables.evals import _codes, _ranking


@pytest.mark.parametrize("case", ["retrieval_a", "retrieval_a2"])
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("keys", [2**21, 700])
def test_retrieval(case: str, old: bool, keys: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_ranking, "KEYS", keys)  # at once, and a few queries at a time
    g = golden(case)
    prefix = "old_" if old else ""
    ks = g[f"{prefix}k_list"].tolist()
    found = _ranking.curves(g["emb"], {"label": g["labels"]}, {"label": ks}, old)["label"]
    assert found.ks.tolist() == ks
    for name in ("precision", "recall", "f1", "auc"):
        close(torch.as_tensor(getattr(found, name), dtype=torch.float64), g[prefix + name].double(), 1e-5)
    if not old:
        assert found.best_f1 == pytest.approx(float(g["best_f1"]), abs=1e-5)


@pytest.mark.parametrize("case", ["retrieval_a", "retrieval_a2"])
def test_the_numbers_k(case: str) -> None:
    g = golden(case)
    assert _ranking.adaptive(g["labels"]) == g["adaptive_k_list"].tolist()
    if case == "retrieval_a":
        assert _ranking.within(_ranking.OLD, len(g["labels"]), old=True) == g["old_k_list"].tolist()


def test_the_confusion_matrix_and_its_accuracy() -> None:
    g = golden("confusion_a")
    counts = _codes.counted(g["preds"], g["labels"], int(g["n_codes"]), int(g["n_labels"]))
    matrix = _codes.shares(counts)
    close(matrix[_codes.order(matrix)], g["matrix_permuted"])
    assert _codes.measure(counts)["accuracy"] == pytest.approx(float(g["accuracy"]), abs=1e-9)
    named = _codes.named(counts)[g["ood_preds"]] == g["ood_labels"]
    assert float(named.double().mean()) == pytest.approx(float(g["ood_accuracy_argmax_rule"]), abs=1e-9)


def test_agreement_of_codebooks_and_numbers_over_runs() -> None:
    g = golden("confusion_a")
    assert runs.consensus([g["matrix_permuted"], g["matrix2_permuted"]]) == pytest.approx(float(g["std"]), abs=1e-9)
    m = golden("misc_metrics_a")
    mean, std = runs.mean_and_std(m["runs"])
    np.testing.assert_allclose(mean, m["runs_mean_pct"], atol=1e-9)
    np.testing.assert_allclose(std, m["runs_std_pct"], atol=1e-9)


def test_distances_and_the_equal_error_rate() -> None:
    g = golden("misc_metrics_a")
    close(_ranking.distances(g["emb"]), g["pairwise"])
    assert _ranking.error_rate_of(g["emb"], g["labels"]) == pytest.approx(float(g["eer"]), abs=1e-9)


def test_images_get_their_pixels_back() -> None:
    g = golden("misc_metrics_a")
    constants: dict[str, Any] = {"mean": tuple(g["mean"].tolist()), "std": tuple(g["std"].tolist())}
    views = Views(ViewsConfig(count=1, normalize=constants), Spec(shape=tuple(g["img"].shape[1:])))
    close(views.pixels(g["img"].float()).double(), g["denorm"], 1e-6)
    close(views.pixels(g["img"][0].float()).double(), g["denorm_single"], 1e-6)
    close(views.normalized(g["denorm"].float()).double(), g["img"], 1e-6)
