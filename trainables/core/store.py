"""Where a sweep's checkpoints and artifacts lie: a folder that all nodes share, or a bucket that they copy from and to.

A worker writes below `local(path)`, then makes it seen by `publish(path)`; the driver's entry in the ledger makes it
count. Paths are relative to the sweep; whatever is read is checked against its checksums by who reads it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from datasets.atomic import remove, replacing
from datasets.config import ConfigError

KEPT = 16  # folders fetched from a bucket that a node keeps
LOOK = 2.0  # seconds between looks into a bucket for the same mark
ARROW = {"s3", "gs", "gcs", "hdfs"}  # what Arrow, which Ray brings, reaches by itself


class Store(Protocol):
    """Files of a sweep, by paths relative to it."""

    def local(self, path: str) -> Path:
        """Where this process writes `path`."""
        ...

    def publish(self, path: str) -> None:
        """Make the file or folder at `local(path)` seen by all."""
        ...

    def fetch(self, path: str) -> Path:
        """Where this process can read `path`; nothing lies there if it does not exist. Absolute paths pass through."""
        ...

    def exists(self, path: str) -> bool:
        """Whether a mark was set."""
        ...

    def mark(self, path: str) -> None:
        """Set a mark: an empty file that other processes look for."""
        ...

    def remove(self, path: str) -> None:
        """Delete a mark or a folder; what is not there is no error."""
        ...


def open_store(url: str, directory: Path | None) -> Store:
    """The store of a sweep.

    Args:
        url: "" for the sweep's own folder, else the sweep's place in a bucket or on a mount.
        directory: the sweep's folder; None on a node that has none, which then works in a folder of its own.

    Raises:
        ConfigError: a URL that cannot be used here, with what is missing.
    """
    if not url:
        assert directory is not None
        return Folder(directory)
    return Bucket(url, directory or scratch(url))


def scratch(url: str) -> Path:
    """This node's own folder for what it fetches from and makes for a sweep in a bucket ($SWEEP_SCRATCH or /tmp)."""
    base = os.environ.get("SWEEP_SCRATCH") or f"{tempfile.gettempdir()}/representation-sweep-{os.getuid()}"
    folder = Path(base) / hashlib.sha256(url.encode()).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


class Folder:
    """A folder on a file system that all nodes share."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def local(self, path: str) -> Path:
        """The path itself."""
        return self.root / path

    def publish(self, path: str) -> None:
        """Nothing: it is seen already."""

    def fetch(self, path: str) -> Path:
        """The path itself."""
        return self.root / path

    def exists(self, path: str) -> bool:
        """Whether it is there."""
        return (self.root / path).exists()

    def mark(self, path: str) -> None:
        """An empty file."""
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).touch()

    def remove(self, path: str) -> None:
        """Delete it."""
        remove(self.root / path)


class Bucket:
    """A place that fsspec reaches (s3://, gs://, file://, ...), with a folder on this node for copies."""

    def __init__(self, url: str, here: Path) -> None:
        """Open the file system of the URL.

        Raises:
            ConfigError: unknown protocol, or a package for it is missing.
        """
        self.here = here
        self.fs, self.root = open_url(url)
        self._looked: dict[str, tuple[float, bool]] = {}

    def arrow(self) -> Any:
        """The same file system in Arrow's form, as Ray Train takes it."""
        from fsspec.implementations.arrow import ArrowFSWrapper
        from pyarrow.fs import FSSpecHandler, PyFileSystem

        return self.fs.fs if isinstance(self.fs, ArrowFSWrapper) else PyFileSystem(FSSpecHandler(self.fs))

    def _at(self, path: str) -> str:
        return f"{self.root}/{PurePosixPath(path)}"

    def local(self, path: str) -> Path:
        """A place in this node's folder."""
        return self.here / path

    def publish(self, path: str) -> None:
        """Upload; `meta.json` of a checkpoint goes last, so that a torn upload is no checkpoint."""
        source = self.here / path
        files = sorted(source.rglob("*"), key=lambda file: file.name == "meta.json") if source.is_dir() else [source]
        for file in files:
            if file.is_file():
                target = self._at(file.relative_to(self.here).as_posix())
                self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
                self.fs.put_file(str(file), target)

    def fetch(self, path: str) -> Path:
        """Download what is not here yet."""
        if "://" in path or Path(path).is_absolute():
            return self._foreign(path) if "://" in path else Path(path)
        target = self.here / path
        if not target.exists():
            download(self.fs, self._at(path), target)
            self._forget_oldest()
        with suppress(OSError):
            os.utime(target)
        return target

    def _foreign(self, url: str) -> Path:
        """A checkpoint of another sweep, by its whole URL."""
        fs, place = open_url(url)
        target = self.here / "foreign" / hashlib.sha256(url.encode()).hexdigest()[:16]
        if not target.exists():
            download(fs, place, target)
        return target

    def _forget_oldest(self) -> None:
        """Keep the node's disk: only checkpoints that were used last stay."""
        found = sorted(self.here.glob("trials/*/attempt-*/epoch-*"), key=_age)
        for folder in found[:-KEPT]:
            remove(folder)

    def exists(self, path: str) -> bool:
        """Look into the bucket, not more often than every `LOOK` seconds."""
        when, found = self._looked.get(path, (-LOOK, False))
        if time.monotonic() - when >= LOOK:
            self.fs.invalidate_cache()
            found = bool(self.fs.exists(self._at(path)))
            self._looked[path] = (time.monotonic(), found)
        return found

    def mark(self, path: str) -> None:
        """An empty object."""
        self.fs.makedirs(self._at(path).rpartition("/")[0], exist_ok=True)
        self.fs.pipe_file(self._at(path), b"")

    def remove(self, path: str) -> None:
        """Delete it there and here."""
        self._looked.pop(path, None)
        with suppress(FileNotFoundError):
            self.fs.rm(self._at(path), recursive=True)
        remove(self.here / path)


def download(fs: Any, place: str, target: Path) -> None:
    """Copy a file or a folder from a bucket to `target`, whole or not at all; what does not exist is no error."""
    fs.invalidate_cache()
    found = fs.find(place)
    if not found:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(target) as temporary:
            for file in found:
                inside = PurePosixPath(file).relative_to(PurePosixPath(place))
                where = temporary / inside  # a single file lies at "." of itself
                where.parent.mkdir(parents=True, exist_ok=True)
                fs.get_file(file, str(where))
    except OSError:
        if not target.exists():  # another process of this node has fetched it meanwhile
            raise


def open_url(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    Raises:
        ConfigError: unknown protocol, a package for it is missing, or nothing answers.
    """
    protocol, found, _ = url.partition("://")
    if not found:
        raise ConfigError(f"storage {url}: write a URL, such as s3://BUCKET/DIR, gs://BUCKET/DIR or file:///MOUNT/DIR")
    try:
        if protocol in ARROW:
            from fsspec.implementations.arrow import ArrowFSWrapper
            from pyarrow.fs import FileSystem

            native, root = FileSystem.from_uri(url)
            return ArrowFSWrapper(native), str(root).rstrip("/")
        import fsspec

        fs, root = fsspec.core.url_to_fs(url)
        return fs, str(root).rstrip("/")
    except (ImportError, OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
        raise ConfigError(f"storage {url}: {' '.join(str(error).split())[:200]}") from None


def probe(url: str) -> str:
    """Write, read and delete a small file at a URL; "" if that works, else what does not."""
    try:
        fs, root = open_url(url)
        name = f"{root}/.probe-{os.getpid()}-{time.time_ns()}"
        fs.makedirs(root, exist_ok=True)
        fs.pipe_file(name, b"sweep")
        same = fs.cat_file(name) == b"sweep"
        fs.rm(name)
    except ConfigError as error:
        return str(error).removeprefix(f"storage {url}: ")
    except Exception as error:  # a driver of a cloud raises what it likes
        return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
    return "" if same else "what was written is not what is read"


def _age(folder: Path) -> float:
    try:
        return folder.stat().st_mtime
    except OSError:
        return 0.0
