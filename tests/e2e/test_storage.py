"""A sweep whose checkpoints lie in a bucket: an object store that speaks S3 on this machine, and a mount."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from cheap_sweeps import cheap, command, finish, whole, write

from datasets.config import ConfigError
from sweep.records import load
from sweep.run import run
from trainables.core.store import open_store


@pytest.fixture(scope="module")
def object_store() -> Iterator[dict[str, str]]:
    """An S3 server on loopback with one bucket; the environment that reaches it."""
    boto3 = pytest.importorskip("boto3")
    pytest.importorskip("moto.server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    environment = {
        "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": url,
    }  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(url, timeout=5).close()
                break
            except OSError:
                assert time.monotonic() < deadline, "the S3 server does not start"
                time.sleep(0.2)
        client = boto3.client("s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="test",
                              aws_secret_access_key="test")  # fmt: skip
        client.create_bucket(Bucket="sweeps")
        yield environment
    finally:
        server.terminate()
        server.wait()


def from_bucket(url: str, folder: Path) -> Path:
    """A sweep's folder made again of what its bucket holds."""
    store = open_store(url, folder.parent / f"fetched for {folder.name}")
    folder.mkdir()
    for name in ("sweep.json", "ledger.jsonl"):
        shutil.copy(store.fetch(name), folder / name)
    return folder


def in_bucket(directory: Path, url: str) -> None:
    """Checkpoints lie in the bucket alone, are read from it, and the folder can be made from it again."""
    records = whole(directory)
    assert not list(directory.glob("trials/*/attempt-*/epoch-*")), "nothing was written past the bucket"
    store = open_store(url, directory.parent / "elsewhere")
    for trial in records.trials.values():
        if trial.stage == "pretrain":
            assert trial.checkpoint is not None
            assert (store.fetch(trial.checkpoint.path) / "meta.json").exists()
        assert "--- attempt" in (directory / "trials" / trial.id / "log.txt").read_text()
    copy = from_bucket(url, directory.parent / "copy")
    assert load(copy).finished
    assert {t.id: t.metrics for t in load(copy).trials.values()} == {t.id: t.metrics for t in records.trials.values()}


@pytest.mark.slow
def test_a_sweep_in_an_object_store_goes_on_elsewhere_after_its_machine_is_lost(
    tmp_path: Path, object_store: dict[str, str]
) -> None:
    sweep = cheap(storage="s3://sweeps/mine", base={"method": {"seconds": 0.1}}, rungs=[0.5])
    file, directory = write(sweep, tmp_path / "cheap.yaml"), tmp_path / "sweep"
    environment = {**object_store, "SWEEP_SCRATCH": str(tmp_path / "node"), "SWEEP_CACHE": str(tmp_path / "cache")}
    process = command("run", file, "--dir", directory, "--no-aim", **environment)
    deadline = time.monotonic() + 120
    while b'"event":"checkpoint"' not in (
        (directory / "ledger.jsonl").read_bytes() if (directory / "ledger.jsonl").exists() else b""
    ):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.wait()
    for lost in ("node", "cache", "sweep"):  # the machine that takes over has the bucket and nothing else
        shutil.rmtree(tmp_path / lost, ignore_errors=True)
    for name, value in environment.items():
        os.environ[name] = value
    try:
        directory = from_bucket("s3://sweeps/mine/sweep", tmp_path / "other")
        assert not load(directory).finished
        finish(command("resume", directory, **environment))
        in_bucket(directory, "s3://sweeps/mine/sweep")
        trial = next(t for t in load(directory).trials.values() if t.stage == "pretrain")
        shutil.rmtree(directory / "trials" / trial.id / "attempt-1", ignore_errors=True)
        finish(command("export", directory, tmp_path / "model", "--trial", trial.id, **environment))
        assert (tmp_path / "model" / "model.safetensors").exists()
    finally:
        for name in environment:
            if name != "SWEEP_CACHE":
                del os.environ[name]


def test_a_mount_named_by_the_environment_is_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_STORAGE", f"file://{tmp_path}/mount")
    run(cheap(budget={"trials": 2}), tmp_path / "sweep", quiet=True, track=False)
    in_bucket(tmp_path / "sweep", f"file://{tmp_path}/mount/sweep")


def test_a_store_that_cannot_be_written_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"storage file://.*: cannot be used"):
        run(cheap(storage=f"file://{tmp_path}/file/below"), tmp_path / "sweep", quiet=True, track=False)
