"""Codes that are named on some data and judged on others, against values of V3's original code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from trainables.evals import _codes


def test_accuracy_by_both_rules() -> None:
    with np.load(Path(__file__).parent / "v3" / "confusion_a.npz") as file:
        g = {name: torch.from_numpy(file[name]) for name in file.files}
    counts = _codes.counted(g["preds"], g["labels"], int(g["n_codes"]), int(g["n_labels"]))
    assert int(counts.sum()) == len(g["preds"])
    rows = counts.double() / (counts.double().sum(1, keepdim=True) + 1e-7)
    torch.testing.assert_close(rows[g["permutation"]], g["matrix_permuted"], rtol=0, atol=1e-9)
    for rule, expected in (("position", "ood_accuracy"), ("argmax", "ood_accuracy_argmax_rule")):
        names = _codes.named(counts, rule)  # type: ignore[arg-type]
        found = _codes.called_right(g["ood_preds"], g["ood_labels"], names)
        assert found == pytest.approx(float(g[expected]), abs=1e-9)
