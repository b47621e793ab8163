"""Downloads, from a server of this machine: going on, checksums, archives in pieces."""

from __future__ import annotations

import fcntl
import hashlib
import io
import zipfile
from pathlib import Path

import pytest
from servers import Server, server  # noqa: F401 - a fixture

from datasets._download import checksum_of, downloaded, unpacked
from datasets.base import DataError

CONTENT = bytes(range(256)) * 20


def test_an_interrupted_download_goes_on(server: Server, tmp_path: Path) -> None:  # noqa: F811
    server.files["/a.bin"], server.cut = CONTENT, 2000
    path = tmp_path / "new" / "a.bin"
    for had in (2000, 4000):
        with pytest.raises(OSError, match=f"ended after {had:,} of 5,120 bytes; run it again to go on"):
            downloaded(f"{server.url}/a.bin", path)
        assert not path.exists()
    downloaded(f"{server.url}/a.bin", path, hashlib.md5(CONTENT).hexdigest())
    assert path.read_bytes() == CONTENT and list(path.parent.iterdir()) == [path]
    assert [wanted for _, wanted in server.asked] == ["", "bytes=2000-", "bytes=4000-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_what_cannot_be_gone_on_with_is_fetched_again(server: Server, tmp_path: Path, ranges: bool) -> None:  # noqa: F811
    """The server knows no ranges; or what is there is longer than the file now is."""
    server.files["/a.bin"], server.ranges = CONTENT, ranges
    (tmp_path / ".a.bin.part").write_bytes(b"x" * (6000 if ranges else 100))
    downloaded(f"{server.url}/a.bin", tmp_path / "a.bin", hashlib.sha256(CONTENT).hexdigest())
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_another_content_is_refused(server: Server, tmp_path: Path) -> None:  # noqa: F811
    server.files["/a.bin"] = CONTENT
    with pytest.raises(DataError, match=r"a\.bin: is not the file it should be .*fetch it again"):
        downloaded(f"{server.url}/a.bin", tmp_path / "a.bin", "0" * 32)
    with pytest.raises(OSError, match="404"):
        downloaded(f"{server.url}/b.bin", tmp_path / "b.bin")
    assert list(tmp_path.iterdir()) == [], "what is wrong is not gone on with"


def test_two_processes_do_not_write_one_file(server: Server, tmp_path: Path) -> None:  # noqa: F811
    server.files["/a.bin"] = CONTENT
    with (tmp_path / ".a.bin.part").open("wb") as other:
        other.write(b"some")
        other.flush()
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process is fetching it"):
            downloaded(f"{server.url}/a.bin", tmp_path / "a.bin")
    assert (tmp_path / ".a.bin.part").read_bytes() == b"some" and server.asked == []


def test_an_archive_in_pieces(server: Server, tmp_path: Path) -> None:  # noqa: F811
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("0/a.mp3", b"sound" * 300)
    whole = buffer.getvalue()
    names = [f"/mp3.zip.00{number}" for number in (1, 2, 3)]
    for name, begin in zip(names, (0, 500, 1000), strict=True):
        server.files[name] = whole[begin : begin + 500] if begin < 1000 else whole[begin:]
    del server.files[names[2]]
    urls = [server.url + name for name in names]
    with pytest.raises(OSError, match="404"):
        unpacked(urls, tmp_path / "set" / "mp3")
    server.files[names[2]] = whole[1000:]
    unpacked(urls, tmp_path / "set" / "mp3")
    assert [name for name, _ in server.asked] == [*names, names[2]], "pieces that are there are not fetched again"
    assert (tmp_path / "set/mp3/0/a.mp3").read_bytes() == b"sound" * 300
    assert [path.name for path in (tmp_path / "set").iterdir()] == ["mp3"]


def test_an_archive_is_checked_and_its_address_may_have_options(server: Server, tmp_path: Path) -> None:  # noqa: F811
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as packed:
        packed.writestr("set/a.txt", b"text")
    server.files["/v1.zip"] = buffer.getvalue()
    with pytest.raises(DataError, match="is not the file it should be"):
        unpacked(f"{server.url}/v1.zip?download=1", tmp_path / "set", 1, "f" * 64)
    unpacked(f"{server.url}/v1.zip?download=1", tmp_path / "set", 1, hashlib.md5(buffer.getvalue()).hexdigest())
    assert checksum_of(tmp_path / "set" / "a.txt", "0" * 32) == hashlib.md5(b"text").hexdigest()
