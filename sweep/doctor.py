"""`sweep doctor`: does this machine have what a sweep needs? Each finding comes with its remedy."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

ROOT = Path(__file__).parents[1]
WANTED = {
    "ray": "2.60",
    "torch": "2.",
    "torchvision": "0.",
    "optuna": "5.",
    "aim": "3.",
    "pydantic": "2.",
    "h5py": "3.",
}
SPACE_GB = 2.0


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    good: bool
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """Look at Python, packages, modules, devices, disk, and Ray itself, the cheap things first."""
    yield Finding(
        f"Python {sys.version.split()[0]}", (3, 11) <= sys.version_info[:2] < (3, 13), "use Python 3.11 or 3.12"
    )
    for package, prefix in WANTED.items():
        yield _package(package, prefix)
    yield _ours("datasets")
    yield _ours("trainables")
    yield _devices()
    yield _disk(Path.cwd())
    yield _cache()
    yield _data()
    yield _browser_free()
    yield _ray()


def _package(package: str, prefix: str) -> Finding:
    try:
        found = version(package)
    except PackageNotFoundError:
        return Finding(f"{package} is not installed", False, "`make setup`")
    return Finding(f"{package} {found}", found.startswith(prefix), f"version {prefix}x is wanted; `make setup`")


def _ours(package: str) -> Finding:
    """A package named `datasets` of another project in the same environment would hide ours."""
    module = importlib.import_module(package)
    place = Path(module.__file__ or "").resolve()
    good = ROOT in place.parents
    return Finding(f"`{package}` is {place.parent}", good, "another package hides ours; use an environment of its own")


def _devices() -> Finding:
    import torch

    count = torch.cuda.device_count()
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(count)) or "none"
    return Finding(f"{os.cpu_count()} CPUs, GPUs: {names}", True)


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 2**30
    return Finding(f"{free:.1f} GB free in {folder}", free > SPACE_GB, "checkpoints need room; free some or use --dir")


def _cache() -> Finding:
    folder = Path(os.environ.get("SWEEP_CACHE", Path.home() / ".cache" / "representation-sweep"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Finding(f"the cache {folder} cannot be written ({error.strerror})", False, "set SWEEP_CACHE")
    return Finding(f"cache {folder}", True)


def _data() -> Finding:
    root = os.environ.get("SWEEP_DATA")
    if not root:
        return Finding("SWEEP_DATA is not set: data come from --data-root, or need no download", True)
    return Finding(f"SWEEP_DATA {root}", Path(root).is_dir(), "there is no such folder")


def _browser_free() -> Finding:
    try:
        importlib.import_module("aim")
    except Exception as error:  # a broken binary package raises anything
        return Finding(f"Aim cannot be imported: {error}", False, "`make setup`; sweeps run without it (--no-aim)")
    return Finding("Aim can be imported", True)


def _ray() -> Finding:
    from sweep.cluster import connect

    try:
        connect(None, dashboard=False, cpus=1, say=lambda text: None)
        import ray

        @ray.remote
        def where() -> str:
            return str(importlib.import_module("datasets").__file__)

        place = Path(ray.get(where.remote())).resolve()
        ray.shutdown()
    except Exception as error:
        return Finding(f"Ray does not work: {' '.join(str(error).split())[:200]}", False, "see the message")
    return Finding(
        f"Ray starts, its workers see {place.parent}", ROOT in place.parents, "workers import another package"
    )
