"""Storage that is full for a while or for good, or turns read-only under a running sweep; on real file systems."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cheap_sweeps import cheap, command, finish, whole, write

from sweep.records import load


def mounted(*arguments: str | Path) -> None:
    """Mount something, or skip with the reason."""
    done = subprocess.run(["mount", *map(str, arguments)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a file system here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB."""
    if os.getuid() or not shutil.which("mount"):
        pytest.skip("mounting a small file system needs root")
    place = tmp_path / "disk"
    place.mkdir()
    mounted("-t", "tmpfs", "-o", "size=4m", "tmpfs", place)
    yield place
    subprocess.run(["umount", "-l", place], check=False)


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    """A file system in a file, which can be made read-only while files on it are open."""
    if os.getuid() or not shutil.which("mkfs.ext4"):
        pytest.skip("a file system in a file needs root and mkfs.ext4")
    place = tmp_path / "disk"
    place.mkdir()
    with (tmp_path / "image").open("wb") as file:
        file.truncate(32 * 2**20)
    subprocess.run(["mkfs.ext4", "-q", tmp_path / "image"], check=True)
    mounted("-o", "loop", tmp_path / "image", place)
    yield place
    subprocess.run(["umount", "-l", place], check=False)


def fill(disk: Path) -> Path:
    """Take what room is left."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (2**16, 2**9, 1):
            try:
                while True:
                    file.write(b"x" * size)
            except OSError:
                continue
    return ballast


def wait_for(said: list[str], words: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 180
    while not any(words in line for line in said):
        assert process.poll() is None, "".join(said)
        assert time.monotonic() < deadline, f"never said '{words}': {''.join(said)}"
        time.sleep(0.1)


def listen(process: subprocess.Popen[str]) -> tuple[list[str], threading.Thread]:
    """Collect what a process prints while it runs."""
    said: list[str] = []
    assert process.stdout is not None
    stream = process.stdout
    thread = threading.Thread(target=lambda: said.extend(iter(stream.readline, "")))
    thread.start()
    return said, thread


def started(directory: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 180
    while not list(directory.glob("trials/*/attempt-*/epoch-*")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)


def slow(minutes: float, trials: int = 4) -> dict[str, object]:
    return {
        "base": {"method": {"seconds": 0.3}}, "budget": {"trials": trials}, "limits": {"storage_minutes": minutes},
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("round_", range(3))
def test_a_disk_that_is_full_for_a_while_is_waited_for(tmp_path: Path, small_disk: Path, round_: int) -> None:
    directory = small_disk / "sweep"
    process = command("run", write(cheap(**slow(5)), tmp_path / "cheap.yaml"), "--dir", directory, "--no-aim")
    said, thread = listen(process)
    started(directory, process)
    time.sleep(0.3 * round_)
    ballast = fill(small_disk)
    wait_for(said, "storage: No space left on device; waiting up to 5 min", process)
    time.sleep(3)
    load(directory)
    ballast.unlink()
    thread.join(timeout=240)
    assert process.wait() == 0, "".join(said)
    assert any("storage: works again" in line for line in said)
    records = whole(directory)
    assert all(t.status == "finished" and not t.failures for t in records.trials.values()), "nobody's fault"


@pytest.mark.slow
def test_a_disk_that_stays_full_ends_the_sweep_in_order_and_resume_goes_on(tmp_path: Path, small_disk: Path) -> None:
    directory = small_disk / "sweep"
    process = command("run", write(cheap(**slow(0.05)), tmp_path / "cheap.yaml"), "--dir", directory, "--no-aim")
    said, thread = listen(process)
    started(directory, process)
    ballast = fill(small_disk)
    thread.join(timeout=240)
    assert process.wait() == 2, "".join(said)
    assert "No space left on device" in said[-1]
    assert "make room, then `sweep resume" in said[-1]
    assert not any("Traceback" in line for line in said)
    assert not load(directory).finished
    ballast.unlink()
    finish(command("resume", directory))
    records = whole(directory)
    assert all(t.status == "finished" for t in records.trials.values())


@pytest.mark.slow
def test_a_file_system_that_turns_read_only_ends_the_sweep_in_order_and_resume_goes_on(
    tmp_path: Path, image: Path
) -> None:
    directory = image / "sweep"
    process = command("run", write(cheap(**slow(0.05)), tmp_path / "cheap.yaml"), "--dir", directory, "--no-aim")
    said, thread = listen(process)
    started(directory, process)
    subprocess.run(["mount", "-o", "remount,abort", image], check=True)  # what a kernel does after a disk's error
    thread.join(timeout=240)
    assert process.wait() == 2, "".join(said)
    assert "Read-only file system" in said[-1]
    subprocess.run(["umount", image], check=True)
    subprocess.run(["fsck.ext4", "-p", tmp_path / "image"], check=False, capture_output=True)
    mounted("-o", "loop", tmp_path / "image", image)
    finish(command("resume", directory))
    whole(directory)


@pytest.mark.slow
def test_a_folder_that_is_read_only_for_a_minute_is_waited_for(tmp_path: Path) -> None:
    if os.getuid() or not shutil.which("mount"):
        pytest.skip("mounting a folder over itself needs root")
    directory = tmp_path / "sweep"
    process = command("run", write(cheap(**slow(5)), tmp_path / "cheap.yaml"), "--dir", directory, "--no-aim")
    said, thread = listen(process)
    started(directory, process)
    # nothing can be created or opened for writing there; the ledger, which is open, is the one file that still grows
    mounted("--bind", directory, directory)
    try:
        mounted("-o", "remount,bind,ro", directory)
        wait_for(said, "storage: Read-only file system; waiting up to 5 min", process)
        time.sleep(60)
        load(directory)
        assert process.poll() is None
    finally:
        subprocess.run(["umount", "-l", directory], check=False)
    thread.join(timeout=240)
    assert process.wait() == 0, "".join(said)
    assert any("storage: works again" in line for line in said)
    assert all(t.status == "finished" and not t.failures for t in whole(directory).trials.values()), "nobody's fault"
