"""A sweep's folder on disk: its manifest, its lock, the files beside the ledger."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import socket
import subprocess
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO, Any

from datasets.atomic import PRIVATE, PRIVATE_FOLDER, private, replacing
from datasets.config import ConfigError
from sweep.paths import inside as inside
from sweep.paths import refuse_links
from sweep.records import FORMAT, MANIFEST, Records, Trial, as_dict, load
from sweep.spec import Sweep, build

PACKAGES = ("ray", "torch", "torchvision", "torchaudio", "optuna", "aim", "numpy", "scikit-learn", "pydantic")


class Busy(RuntimeError):
    """Another driver owns this sweep; one line with who."""


def write_atomic(path: Path, text: str) -> None:
    """Write a text file under a temporary name and rename it; its owner alone may read it."""
    with replacing(path, PRIVATE) as temporary:
        temporary.write_text(text)


def default_directory(sweep: Sweep, parent: Path) -> Path:
    """`parent/NAME`, or `NAME-2`, ... where that holds a different sweep; the one that holds this sweep if any."""
    number = 1
    while True:
        directory = parent / (sweep.name if number == 1 else f"{sweep.name}-{number}")
        if not (directory / MANIFEST).exists() or _holds(directory, sweep):
            return directory
        number += 1


def _holds(directory: Path, sweep: Sweep) -> bool:
    try:
        asked = json.loads((directory / MANIFEST).read_text())["asked"]
        return build(asked, MANIFEST) == sweep  # not as it is written: an older version knew fewer settings
    except (ValueError, KeyError):
        return False


def create(directory: Path, sweep: Sweep, options: dict[str, Any]) -> Records:
    """Make the folder of a new sweep, or take up the one that holds the same sweep already.

    Args:
        options: how it was started (data root, address), for `sweep resume`.

    Raises:
        ConfigError: not writable, or it holds something else.
    """
    if (directory / MANIFEST).exists():
        if not _holds(directory, sweep):
            raise ConfigError(f"{directory}: holds another sweep; choose another --dir, or `sweep extend {directory}`")
        return load(directory)
    try:
        if directory.exists() and not _is_free(directory):
            raise ConfigError(f"{directory}: is not empty and holds no sweep; choose another --dir")
        write_manifest(directory, sweep, sweep, options)
        (directory / "trials").mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be written ({error.strerror}); choose another --dir") from None
    return load(directory)


def _is_free(directory: Path) -> bool:
    """Whether a folder holds nothing but what a kill while it was made may leave."""
    names = {path.name for path in directory.iterdir() if not path.name.startswith(".")}
    return not names or (names == {"trials"} and not any((directory / "trials").iterdir()))


def write_manifest(directory: Path, asked: Sweep, sweep: Sweep, options: dict[str, Any]) -> None:
    """Write `sweep.json`: the sweep as it was asked for and as it stands now, options and environment.

    A folder that is made for it belongs to its owner alone; one that is there keeps its mode.
    """
    content = {
        "format": FORMAT,
        "asked": asked.dump(),
        "sweep": sweep.dump(),
        "options": options,
        "environment": environment(),
    }
    directory.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    write_atomic(directory / MANIFEST, json.dumps(content, indent=1))


def sweep_of(records: Records) -> Sweep:
    """The sweep that a folder holds."""
    return build(records.spec, str(records.directory / MANIFEST)).checked()


def environment() -> dict[str, Any]:
    """Versions, platform and code revision, recorded for lineage."""
    found: dict[str, Any] = {"python": platform.python_version(), "platform": platform.platform()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    found["revision"], found["dirty"] = revision()
    return found


def revision() -> tuple[str, bool]:
    """The commit of the code that runs, and whether it was changed since."""
    root = Path(__file__).parents[1]

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return git("rev-parse", "HEAD") or _source(root), bool(git("status", "--porcelain", "-uno"))


def _source(root: Path) -> str:
    """A digest of the code, where it was shipped to a machine without its history."""
    content = hashlib.sha256()
    for folder in ("sweep", "trainables", "datasets"):
        for path in sorted((root / folder).rglob("*.py")):
            content.update(path.relative_to(root).as_posix().encode() + path.read_bytes())
    return f"source-{content.hexdigest()[:16]}"


def lock(directory: Path) -> IO[str]:
    """Own the sweep until the returned file is closed or the process is gone.

    Raises:
        Busy: another driver does. ConfigError: not writable, or a link in it leads out of it.
    """
    refuse_links(directory)
    try:
        file = open(directory / "lock", "a+", opener=private)  # noqa: SIM115  # it is held for as long as the sweep is
    except OSError as error:
        raise ConfigError(f"{directory}: cannot be written ({error.strerror})") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        owner = file.read().strip() or "another process"
        raise Busy(f"{directory}: is being run by {owner}; `sweep stop {directory}` ends that") from None
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
    return file


def is_busy(directory: Path) -> bool:
    """Whether a driver on this machine, or on one that shares the file system's locks, owns the sweep.

    Only looks: the folder may be read-only.
    """
    try:
        with (directory / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder; files that vanish meanwhile do not count."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += (Path(place) / name).lstat().st_size
    return total


def write_record(directory: Path, trial: Trial) -> None:
    """Write `record.json` of a trial, a view of the ledger for people and other programs."""
    folder = directory / "trials" / trial.id
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "record.json", json.dumps(as_dict(trial), indent=1))


def is_behind(records: Records, trial: Trial) -> bool:
    """Whether `record.json` is missing, torn or older than the ledger, as a kill between the two leaves it."""
    try:
        found = json.loads((records.directory / "trials" / trial.id / "record.json").read_text())
    except (OSError, ValueError):
        return True
    return bool(found != json.loads(json.dumps(as_dict(trial))))
