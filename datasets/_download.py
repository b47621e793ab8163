"""Fetching a file or an archive by its address: whole or not at all, going on where an earlier attempt ended."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import IO
from urllib.parse import quote

from datasets._progress import Progress
from datasets.atomic import replacing
from datasets.base import DataError

CHUNK = 2**20
AT_ONCE = 8  # small files of a repository
API, RAW = "https://api.github.com", "https://raw.githubusercontent.com"
TIMEOUT = 60  # seconds without a byte


def downloaded(url: str, path: Path, checksum: str = "") -> None:
    """The content of `url` at `path`. What an interrupted attempt left beside it is gone on with.

    Args:
        checksum: MD5 (32 hex digits), SHA-256 (64) or git's (40) of the content; "" = only its length is checked.

    Raises:
        OSError: the address cannot be read, or ends early; the path not written.
        DataError: the content is not what the checksum says, or another process is fetching it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    try:
        with partial.open("ab") as file:
            _alone(file, partial)
            _append(url, file, path.name)
        if checksum and checksum_of(partial, checksum) != checksum:
            partial.unlink()
            raise DataError(f"{url}: is not the file it should be (its checksum is not {checksum}); fetch it again")
        partial.rename(path)
    finally:
        if partial.exists() and partial.stat().st_size == 0:
            partial.unlink()


def checksum_of(path: Path, like: str) -> str:
    """MD5, SHA-256 or git's checksum of a file, whichever has as many hex digits as `like`."""
    digest = hashlib.md5(usedforsecurity=False) if len(like) == 32 else hashlib.sha256()
    if len(like) == 40:
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
    return digest.hexdigest()


def _alone(file: IO[bytes], partial: Path) -> None:
    """Refuse to write where another process does, or has just renamed what it wrote."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alone = os.path.samestat(os.fstat(file.fileno()), os.stat(partial))  # noqa: PTH116
    except (BlockingIOError, FileNotFoundError):
        alone = False
    if not alone:
        raise DataError(f"{partial}: another process is fetching it; wait until that one is done")


def _append(url: str, file: IO[bytes], name: str) -> None:
    """Write what is missing behind what `file` holds, or all of it where the server cannot go on in the middle."""
    begin = file.seek(0, os.SEEK_END)
    request = urllib.request.Request(url, headers={"Range": f"bytes={begin}-"} if begin else {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            raise
        answer = urllib.request.urlopen(url, timeout=TIMEOUT)
    with answer:
        if begin and answer.status != HTTPStatus.PARTIAL_CONTENT:
            begin = 0
            file.truncate(0)
        left = int(answer.headers.get("Content-Length") or 0)
        progress = Progress(f"{name}: MB", left // CHUNK)
        while block := answer.read(CHUNK):
            file.write(block)
            progress.add()
    got = file.tell() - begin
    if left and got != left:
        raise OSError(f"{url}: ended after {begin + got:,} of {begin + left:,} bytes; run it again to go on")


def unpacked(url: str | Sequence[str], folder: Path, strip: int = 0, checksum: str = "") -> None:
    """The files of the archive (.tar.gz, .zip) at `url` in `folder`, without the first `strip` folders of their paths.

    Args:
        url: several of them are the pieces of one archive. checksum: see `downloaded`, of an archive in one piece.

    Raises:
        OSError: as of `downloaded`. DataError: as there; or the archive is damaged.
    """
    urls = [url] if isinstance(url, str) else list(url)
    pieces = [folder.parent / f"{folder.name}-{one.rpartition('/')[2].partition('?')[0]}" for one in urls]
    for one, piece in zip(urls, pieces, strict=True):
        if not piece.exists():
            downloaded(one, piece, checksum)
    archive = pieces[0] if len(pieces) == 1 else _joined(pieces)
    try:
        with replacing(folder) as temporary:
            temporary.mkdir()
            for name, content in _members(archive):
                parts = PurePosixPath(name).parts[strip:]
                if not parts or ".." in parts or parts[0] == "/":
                    continue
                target = temporary.joinpath(*parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as file:
                    shutil.copyfileobj(content, file, CHUNK)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(
            f"{urls[0]}: a damaged archive ({' '.join(str(error).split())[:120]}); fetch it again"
        ) from None
    finally:
        archive.unlink(missing_ok=True)


def github(repository: str, folder: Path, suffixes: tuple[str, ...]) -> None:
    """The files of a repository on GitHub ("owner/name") whose names end so, in `folder`, those not there yet.

    Raises:
        OSError, DataError: as of `downloaded`.
    """
    with urllib.request.urlopen(f"{API}/repos/{repository}/git/trees/HEAD?recursive=1", timeout=TIMEOUT) as answer:
        tree = json.load(answer)
    files = [(PurePosixPath(one["path"]), one["sha"]) for one in tree["tree"] if one["type"] == "blob"]
    files = [(path, checksum) for path, checksum in files if path.name.endswith(suffixes) and ".." not in path.parts]
    if tree.get("truncated") or not files:
        raise DataError(f"{repository}: GitHub does not list its files; clone it to {folder}")
    progress = Progress(f"{repository}: fetching file", len(files))

    def fetch(file: tuple[PurePosixPath, str]) -> None:
        path, checksum = file
        if not (folder / path).exists():
            downloaded(f"{RAW}/{repository}/HEAD/{quote(str(path))}", folder / path, checksum)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(fetch, files):
            progress.add()


def _joined(pieces: Sequence[Path]) -> Path:
    """One file of several, which are deleted: set-mp3.zip of set-mp3.zip.001, .002, ..."""
    whole = pieces[0].with_suffix("")
    with replacing(whole) as temporary, temporary.open("wb") as file:
        for piece in pieces:
            with piece.open("rb") as content:
                shutil.copyfileobj(content, file, CHUNK)
    for piece in pieces:
        piece.unlink()
    return whole


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    """Names and contents of an archive's files; links are left out."""
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            for info in packed.infolist():
                if not info.is_dir():
                    with packed.open(info) as content:
                        yield info.filename, content
        return
    with tarfile.open(archive, "r:*") as opened:
        for member in opened:
            file = opened.extractfile(member) if member.isfile() else None
            if file is not None:
                yield member.name, file
