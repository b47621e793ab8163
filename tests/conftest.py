"""What all tests share: one thread, no GPU surprises, data where they are."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent / "unit"))


# these start Ray, servers or other processes: one at a time, while the other worker computes
STARTING = {"bench", "cluster", "distributed", "e2e", "faults", "security", "test_preemption.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Which tests stay in one process where several run them: a file, or all that start something."""
    for item in items:
        starting = STARTING.intersection((item.path.parent.name, item.path.name))
        item.add_marker(pytest.mark.xdist_group("starting" if starting else str(item.path)))


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Caches of a test run stay inside it."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["SWEEP_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data, or a skip."""
    root = os.environ.get("SWEEP_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("real data: set SWEEP_DATA to their folder")
    return Path(root)
