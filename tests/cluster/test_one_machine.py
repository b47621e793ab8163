"""The one-machine cluster file: `ray up` of a host on itself, over its own SSH server on 127.0.0.1."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from hosts import ROOT, Host, Island, missing, run

from sweep.records import load

TOKEN = {"RAY_AUTH_MODE": "token"}
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]


@pytest.fixture
def host() -> Iterator[Host]:
    reason = missing()
    if reason:
        pytest.skip(reason)
    with Island(("solo",)) as island:
        found = island.hosts["solo"]
        key = found.home / ".ssh/id_ed25519"
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
        (found.folder / "etc/authorized_keys").write_text(key.with_suffix(".pub").read_text())
        yield found


def test_a_cluster_of_this_machine_alone(host: Host) -> None:
    file = host.home / "cluster.yaml"
    file.write_text((ROOT / "cluster/one-machine.yaml").read_text().replace("<USER>", "root"))
    host.run("ray", "get-auth-token", "--generate")
    (host.home / ".ray/auth_token").chmod(0o600)
    assert "BAD" not in host.run("sweep", "doctor", "--cluster", file)
    host.run("ray", "up", "-y", file, **TOKEN)
    listening = {line.split()[3] for line in host.run("ss", "-ltnH").splitlines()}
    assert "127.0.0.1:8265" in listening
    assert not [place for place in listening if re.match(r"(0\.0\.0\.0|\*|\[::\]):(8265|10001|43800)$", place)]
    command = "cd ~ && sweep run demo --smoke --address auto --dir runs/demo --no-aim"
    host.run("ray", "exec", file, command, timeout=600, **TOKEN)
    records = load(host.home / "runs/demo")
    assert records.finished
    assert {trial.status for trial in records.trials.values()} == {"finished"}
    host.run("ray", "down", "-y", file, **TOKEN)
    assert not host.pids("raylet")
