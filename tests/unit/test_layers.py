"""Imports run one way, and quick commands import nothing heavy: read from the sources, and seen in fresh processes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import datasets

ROOT = Path(__file__).parents[2]
OURS = ("datasets", "trainables", "sweep", "search_spaces", "analysis")
HEAVY = ("torch", "torchvision", "torchaudio", "ray", "aim", "optuna")
# package -> what it may import of ours, beside itself
BELOW = {
    "datasets": (),
    "trainables": ("datasets",),
    # the last step of a sweep is its report: the CLI hands records to `analysis`, which knows nothing of the platform
    "sweep": ("datasets", "trainables", "analysis"),
    "search_spaces": ("sweep.spec", "sweep.space"),
    "analysis": ("sweep.records",),
}


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imported(path: Path) -> Iterator[str]:
    """Every module a file imports, anywhere in it; `from a import b` counts as `a.b`, which may be a module."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def within(name: str, modules: tuple[str, ...]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for module in modules)


@pytest.mark.parametrize("package", OURS)
def test_imports_run_one_way(package: str) -> None:
    assert sources(package)
    for path in sources(package):
        for name in imported(path):
            if within(name, OURS):
                assert within(name, (package, *BELOW[package])), f"{path.relative_to(ROOT)} imports {name}"


def files_that_import(module: str) -> set[str]:
    paths = [path for package in OURS for path in sources(package)]
    return {str(path.relative_to(ROOT)) for path in paths if any(within(name, (module,)) for name in imported(path))}


def test_ray_is_imported_in_the_worker_and_the_driver_alone() -> None:
    found = files_that_import("ray")
    assert {path for path in found if not path.startswith("sweep/")} == {"trainables/core/worker.py"}


def test_aim_is_imported_where_it_is_written_and_served_alone() -> None:
    assert files_that_import("aim") <= {"sweep/aim_writer.py", "sweep/ui.py"}


def test_methods_and_data_do_not_know_the_search() -> None:
    assert all(path.startswith(("sweep/", "analysis/")) for path in files_that_import("optuna"))


@pytest.mark.parametrize(("package", "never"), [("analysis", ("torch", "ray", "aim")), ("search_spaces", HEAVY)])
def test_readers_and_spaces_import_nothing_heavy(package: str, never: tuple[str, ...]) -> None:
    for path in sources(package):
        assert not [name for name in imported(path) if within(name, never)], path


FRESH = {
    "the command line": "import sweep.cli",
    "help": "from sweep.cli import run_command; assert run_command(['--help']) == 0",
    "ls": "from sweep.cli import run_command; assert run_command(['ls']) == 0",
    "analysis": "import analysis, analysis.table, analysis.compare, analysis.explain",
    "records": "import sweep.records, sweep.report, sweep.console",
    "a named sweep": "from sweep.spec import load_sweep; load_sweep('demo')",
}


@pytest.mark.parametrize("what", FRESH)
def test_quick_things_import_nothing_heavy(what: str) -> None:
    code = f"{FRESH[what]}\nimport sys\nprint(sorted(set({HEAVY!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_training_and_evaluating_need_neither_ray_nor_aim_nor_the_platform() -> None:
    code = "import sys, trainables.core.fit, trainables.core.evaluate, trainables.evals.features, trainables.duet\n"
    code += "print([name for name in ('ray', 'aim', 'optuna', 'sweep', 'pandas') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_datasets_is_ours() -> None:
    assert datasets.__file__ is not None
    assert Path(datasets.__file__).parent == ROOT / "datasets"
