"""Ray is started by the first sweep and ended with the tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def one_ray() -> Iterator[None]:
    """End Ray where a test has started it."""
    yield
    if "ray" in sys.modules:
        import ray

        ray.shutdown()
