"""Fetching a file or an archive by its address, whole or not at all."""

from __future__ import annotations

import shutil
import tarfile
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from datasets._progress import Progress
from datasets.atomic import replacing
from datasets.base import DataError

CHUNK = 2**20
TIMEOUT = 60  # seconds without a byte


def downloaded(url: str, path: Path) -> None:
    """The content of `url` at `path`.

    Raises:
        OSError: the address cannot be read, or ends early; the path not written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with urllib.request.urlopen(url, timeout=TIMEOUT) as answer, replacing(path) as temporary:
        size = int(answer.headers.get("Content-Length") or 0)
        progress = Progress(f"{path.name}: MB", size // CHUNK)
        with temporary.open("wb") as file:
            while block := answer.read(CHUNK):
                file.write(block)
                progress.add()
        got = temporary.stat().st_size
        if size and got != size:
            raise OSError(f"{url}: ended after {got:,} of {size:,} bytes")


def unpacked(url: str, folder: Path, strip: int = 0) -> None:
    """The files of the archive (.tar.gz, .zip) at `url` in `folder`, without the first `strip` folders of their paths.

    Raises:
        OSError: as of `downloaded`. DataError: the archive is damaged.
    """
    archive = folder.parent / f"{folder.name}-{url.rpartition('/')[2]}"
    downloaded(url, archive)
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
        raise DataError(f"{url}: a damaged archive ({' '.join(str(error).split())[:120]}); fetch it again") from None
    finally:
        archive.unlink(missing_ok=True)


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
