"""What the project serves to a browser listens on this machine's loopback address alone."""

from __future__ import annotations

import ipaddress
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from small_clusters import clean, python
from test_tracking import SyntheticSweep, tracked

from sweep import ui
from sweep.aim_writer import TrackingError
from sweep.cli import run_command

PATIENCE = 180.0  # seconds; Aim imports for some 10 s, on a busy machine much longer


def listening(process: int) -> set[tuple[str, int]]:
    """Addresses and ports on which a process and those it started listen, of every family."""
    members = [psutil.Process(process)]
    members += members[0].children(recursive=True)
    found = set()
    for member in members:
        try:
            found |= {c.laddr for c in member.net_connections("inet") if c.status == psutil.CONN_LISTEN}
        except psutil.NoSuchProcess:
            continue
    return {(address.ip, address.port) for address in found}


def wait_for(look: Callable[[], set[tuple[str, int]]]) -> set[tuple[str, int]]:
    """What is found as soon as anything is."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(0.2)
    raise AssertionError("it does not listen at all")


def assert_loopback(found: set[tuple[str, int]]) -> None:
    assert found
    assert {address for address, _ in found if not ipaddress.ip_address(address).is_loopback} == set()


def test_aim(tmp_path: Path) -> None:
    sweep = tracked(tmp_path / "sweep", configurations=1)
    process = ui.serve(sweep.directory, wait=False)
    assert process is not None
    try:
        assert_loopback(listening(process.pid))
    finally:
        ui.stop(sweep.directory, process)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.7", "example.org"])
def test_aim_is_served_nowhere_else(tmp_path: Path, host: str) -> None:
    with pytest.raises(TrackingError, match=r"127\.0\.0\.1"):
        ui.serve(tmp_path, host=host)


def test_the_command_offers_no_other_host(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run_command(["ui", str(tmp_path), "--host", "0.0.0.0"]) == 2
    assert "--host" in capsys.readouterr().err


def test_optunas_dashboard(tmp_path: Path) -> None:
    sweep = SyntheticSweep(tmp_path / "sweep")
    sweep.configuration(0)
    command = [sys.executable, "-m", "sweep.cli", "ui", str(sweep.directory), "--optuna", "--port", "43977"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            found = wait_for(lambda: listening(process.pid))
            assert 43977 in {port for _, port in found}
            assert_loopback(found)
        finally:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.terminate()
            process.terminate()


RAY = """
import json, psutil
from sweep.cluster import connect
connect(None, dashboard=True, cpus=1)
import ray
url = ray._private.worker.global_worker.node.webui_url
port = int(url.rpartition(":")[2])
found = [(c.laddr.ip, c.laddr.port) for c in psutil.net_connections("inet")
         if c.status == psutil.CONN_LISTEN and c.laddr.port == port]
print("FOUND", json.dumps(found))
"""


def test_rays_dashboard(tmp_path: Path) -> None:
    done = python(RAY, clean(tmp_path), timeout=300)
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    assert lines, done
    assert_loopback({(address, port) for address, port in json.loads(lines[0].removeprefix("FOUND "))})
