"""What all tests share: one thread, no GPU surprises, data where they are."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parent / "unit"))


# These start Ray, servers or other processes, one at a time in each of two processes. Those that look for a cluster of
# this machine (`auto`) are together, so that they find their own.
SWEEPS = {"e2e", "faults", "cluster"}
SERVERS = {"security", "distributed", "bench", "test_preemption.py"}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Which tests stay in one process where several run them: a file, or all of a kind that start something."""
    from xdist.scheduler import LoadScopeScheduling

    class Parts(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.split("::", 1)[0]
            places = set(path.split("/"))
            return "sweeps" if places & SWEEPS else "servers" if places & SERVERS else path

    config.option.loadscopereorder = False  # by their number the long sweeps would come last
    return Parts(config, log)


@pytest.fixture(scope="session", autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Caches of a test run stay inside it."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["SWEEP_CACHE"] = str(folder)
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of one test alone; not made yet."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("SWEEP_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real data, or a skip."""
    root = os.environ.get("SWEEP_DATA")
    if not root or not Path(root).is_dir():
        pytest.skip("real data: set SWEEP_DATA to their folder")
    return Path(root)
