"""A finished sweep of the cheap modules, to be copied and tampered with."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "e2e")]


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A finished sweep, made while nothing but the product's own modes kept others out."""
    from cheap_sweeps import cheap

    from sweep.run import run

    where = tmp_path_factory.mktemp("original") / "sweep"
    before = os.umask(0)
    try:
        evals = {"good": {"name": "cheap.score"}, "stray": {"name": "strays.score"}}
        run(cheap(budget={"trials": 1}, evals=evals, retries=0), where, quiet=True, track=False)
    finally:
        os.umask(before)
    yield where
    import ray

    ray.shutdown()


@pytest.fixture
def finished(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(original, tmp_path / "sweep"))
