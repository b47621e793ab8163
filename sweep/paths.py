"""Paths that a sweep's folder names: they stay inside it, wherever the folder came from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from datasets.config import ConfigError

ID = re.compile(r"[A-Za-z0-9_-]{1,64}")  # in fact 16 hex digits; what matters is that it is one name
WRITTEN = ("sweep.json", "ledger.jsonl", "lock", "stop", "trials")  # what a driver writes to, so no links elsewhere


def stays(relative: Any) -> bool:
    """Whether a text is a relative path that leads below its base, by its words alone."""
    if not isinstance(relative, str) or "\0" in relative or "://" in relative:  # a URL leads to another sweep
        return False
    parts = PurePosixPath(relative).parts
    return bool(parts) and parts[0] != "/" and ".." not in parts


def inside(directory: Path, relative: str) -> Path:
    """The path `relative` below a sweep's folder, all links followed.

    Raises:
        ConfigError: it is the folder itself, or leads out of it.
    """
    base = directory.resolve()
    if stays(relative):
        try:
            path = (base / relative).resolve()
        except (OSError, RuntimeError):  # a loop of links
            path = base
        if path != base and path.is_relative_to(base):
            return path
    raise ConfigError(f"{directory}: the path {relative!r} leads out of this sweep's folder and is not followed")


def check_event(event: Mapping[str, Any], trials: Mapping[str, Any]) -> None:
    """Refuse an event of a ledger that names a place outside of the sweep's folder.

    Args:
        trials: those known so far, by id; one whose result was taken over may name places below its `origin`.

    Raises:
        ConfigError: one line.
    """
    kind, id_ = event.get("event"), event.get("id")
    named = [*(event.get("trials") or ()), *(event.get("ids") or {}).values(), *(event.get("inputs") or {}).values()]
    for one in [id_] * (id_ is not None) + named:
        if not (isinstance(one, str) and ID.fullmatch(one)):
            raise ConfigError(f"event '{kind}': {one!r} is no id of a trial")
    if kind == "start" and not isinstance(event.get("attempt"), int):
        raise ConfigError(f"event 'start' of {id_}: {event.get('attempt')!r} is no number of an attempt")
    paths = [event.get("path")] if kind in ("checkpoint", "drop_checkpoint") else []
    if kind == "end":
        paths += list((event.get("artifacts") or {}).values())
    origin = str(getattr(trials.get(id_), "origin", "")) if id_ else ""
    for path in paths:
        if not (stays(path) or _of_origin(path, origin)):
            raise ConfigError(f"event '{kind}' of {id_}: the path {path!r} leads out of the sweep's folder")


def _of_origin(path: Any, origin: str) -> bool:
    """Whether an absolute path lies in the folder of the sweep that a result was taken from."""
    return isinstance(path, str) and bool(origin) and path.startswith(f"{origin}/") and stays(path[len(origin) + 1 :])


def refuse_links(directory: Path) -> None:
    """Refuse a folder in which something that a driver writes to is a link to a place outside of it.

    Raises:
        ConfigError: one line that names the link.
    """
    base = directory.resolve()
    trials = directory / "trials"
    # the links that lead out are looked for from the top: nothing below one is listed
    for path in (directory / name for name in WRITTEN):
        _refuse_link(path, base)
    for trial in sorted(trials.iterdir()) if trials.is_dir() else ():
        _refuse_link(trial, base)
        for path in sorted(trial.iterdir()) if trial.is_dir() else ():
            _refuse_link(path, base)


def _refuse_link(path: Path, base: Path) -> None:
    if not path.is_symlink():
        return
    try:
        within = path.resolve().is_relative_to(base)
    except (OSError, RuntimeError):
        within = False
    if not within:
        raise ConfigError(f"{path}: is a link that leads out of the sweep's folder; put there what it points to")
