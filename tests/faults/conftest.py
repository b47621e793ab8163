"""The cheap sweeps on the path, and one Ray for the tests that run a driver in this process."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))


@pytest.fixture(scope="session", autouse=True)
def one_ray() -> Iterator[None]:
    """Ray is started by the first sweep and ended with the tests."""
    yield
    if "ray" in sys.modules:
        import ray

        ray.shutdown()
