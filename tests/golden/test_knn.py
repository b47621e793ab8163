"""The weighted nearest-neighbour vote against golden values of ESSL's CIFAR-10 monitor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from trainables.evals import knn

GOLDEN = Path(__file__).parent / "duet" / "knn_a.npz"


def test_scores_are_the_golden_ones(monkeypatch) -> None:
    golden = {name: torch.from_numpy(value) for name, value in np.load(GOLDEN).items()}
    for block in (2**24, 130, 1):  # all queries at once, two at a time, one at a time
        monkeypatch.setattr(knn, "BLOCK", block)
        scores = knn.vote(
            golden["bank"], golden["bank_labels"], golden["queries"], 4, int(golden["k"]), float(golden["t"])
        )
        np.testing.assert_allclose(scores, golden["scores"], rtol=1e-10, atol=1e-10)
        assert scores.argmax(1).tolist() == golden["pred"].tolist()
