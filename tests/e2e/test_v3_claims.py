"""What V3 promises on its toy task, checks (i) to (iv) of its description over three seeds; see `docs/studies/v3.md`.

Slow, and of generated vectors. Trainings and evaluations are those of `docs/studies/v3-toy.yaml`, without a sweep.
"""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import yaml

from sweep.spec import nested
from trainables.core.config import resolve
from trainables.core.evaluate import evaluate
from trainables.core.fit import fit
from trainables.evals.features import CheckpointSubject

pytestmark = pytest.mark.slow
STUDY = yaml.safe_load((Path(__file__).parents[2] / "docs" / "studies" / "v3-toy.yaml").read_text())
CHANGES: dict[str, dict[str, Any]] = {
    "reference": {},
    "no hinges": {"method.beta": 0},
    "weights of the code": {"method.beta": 1, "method.weights.commit": 0.1},
    "relativity 1": {"method.relativity": 1},
    "relativity 5": {"method.relativity": 5},
    "twice the codes": {"method.atoms": 20},
}
Measured = dict[str, float]


def measured(changes: dict[str, Any], seed: int, folder: Path) -> Measured:
    """Metrics of `codebook` and `part_retrieval`."""
    sections = nested({**STUDY["known"][0], **changes})
    base = STUDY["base"]
    config = resolve({
        "method": {"name": STUDY["method"], **base["method"], **sections["method"]},
        "data": {"name": STUDY["data"], **sections["data"]},
        "views": base["views"], "train": {**base["train"], **sections["train"]}, "seed": seed,
    })  # fmt: skip
    fit(config, None, folder)
    subject = CheckpointSubject(folder / "epoch-0003", None, folder / "features", out=folder / "out")
    return {**evaluate(subject, "codebook", {}).metrics, **evaluate(subject, "part_retrieval", {}).metrics}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Measured]]:
    return {
        name: [measured(changes, seed, tmp_path_factory.mktemp("v3")) for seed in range(3)]
        for name, changes in CHANGES.items()
    }


def mean(runs: list[Measured], metric: str) -> float:
    return fmean(run[metric] for run in runs)


def test_parts_are_told_apart_with_the_hinges_and_not_without(runs: dict[str, list[Measured]]) -> None:
    metric = "all/test/disentangled"
    assert mean(runs["reference"], metric) - mean(runs["no hinges"], metric) > 0.5


def test_less_content_leaks_into_the_style_at_a_larger_relativity(runs: dict[str, list[Measured]]) -> None:
    leaked = [mean(runs[name], "style/test/crossed_auc") for name in ("relativity 1", "relativity 5", "reference")]
    assert leaked == sorted(leaked, reverse=True)
    assert leaked[0] > 2 * leaked[-1]


def test_as_many_codes_as_contents_are_a_one_to_one_map_and_twice_as_many_two_each(
    runs: dict[str, list[Measured]],
) -> None:
    found = [run["content/test/one_to_one"] for run in runs["reference"]]
    assert max(found) >= 0.95
    assert fmean(found) > 0.9
    assert max(run["content/test/one_to_one"] for run in runs["no hinges"]) < 0.6
    double = runs["twice the codes"]
    assert all(run["content/test/active"] > 15 for run in double)
    assert mean(double, "content/test/purity") > 0.95
    assert 0.5 < mean(double, "content/test/one_to_one") < 0.8


def test_reconstruction_suffers_from_relativity_and_from_the_hinges_weight(runs: dict[str, list[Measured]]) -> None:
    by_relativity = [mean(runs[name], "content/test/recon") for name in ("relativity 1", "relativity 5", "reference")]
    assert by_relativity == sorted(by_relativity)
    by_weight = [mean(runs[name], "content/test/recon") for name in ("no hinges", "reference", "weights of the code")]
    assert by_weight == sorted(by_weight)
