"""A name is a module: `duet` means `trainables/duet.py`, a dotted name (`mylab.methods.foo`) is used as it stands."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Literal

from datasets.config import ConfigError, near

Kind = Literal["method", "dataset", "evaluation", "space"]
PACKAGE: dict[Kind, str] = {
    "method": "trainables",
    "dataset": "datasets",
    "evaluation": "trainables.evals",
    "space": "search_spaces",
}
NOT_A_NAME: dict[Kind, set[str]] = {
    "method": set(),
    "dataset": {
        *("atomic", "auxiliary", "base", "channels", "colour_labels", "config", "files", "memory", "patience"),
        *("rotations", "views"),
    },
    "evaluation": {"base", "features", "probes"},
    "space": set(),
}
NEEDED: dict[Kind, tuple[str, ...]] = {
    "method": ("METHOD",),
    "dataset": ("Config", "open"),
    "evaluation": ("Config", "NEEDS", "VERSION", "METRICS", "requests", "metrics", "run"),
    "space": ("SWEEP",),
}
ROOT = Path(__file__).parents[2]


def names(kind: Kind) -> list[str]:
    """The names of `kind` that ship with the project, found as files, without importing any."""
    folder = ROOT / PACKAGE[kind].replace(".", "/")
    found = {path.stem for path in folder.glob("*.py")}
    return sorted(name for name in found - NOT_A_NAME[kind] if not name.startswith("_"))


def path_of(kind: Kind, name: str) -> str:
    """The import path of a name.

    Raises:
        ConfigError: no such module, with the near matches.
    """
    if "." in name:
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))  # a user's own module lies beside the sweep file, or is installed
        try:
            if importlib.util.find_spec(name) is not None:
                return name
        except ModuleNotFoundError:
            pass
        raise ConfigError(f"{kind} '{name}': no such module; is its folder on PYTHONPATH or the working folder?")
    if name not in names(kind):
        raise ConfigError(f"{kind} '{name}': no such {kind}{near(name, names(kind))}")
    return f"{PACKAGE[kind]}.{name}"


def load(kind: Kind, name: str) -> ModuleType:
    """Import the module that `name` means.

    Raises:
        ConfigError: no such module, one of the user's that fails to import, or one that lacks what its kind needs.
    """
    path = path_of(kind, name)
    try:
        module = importlib.import_module(path)
    except Exception as error:
        if path != name:
            raise  # a fault of the project, to be seen with its traceback
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        raise ConfigError(f"{kind} '{name}': cannot be imported: {reason}") from error
    for needed in NEEDED[kind]:
        if not hasattr(module, needed):
            raise ConfigError(f"{kind} '{name}': {path} defines no {needed}")
    return module
