"""`sweep doctor --cluster`: the shipped cluster files are good, and each way to spoil one is found."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from datasets.config import ConfigError
from sweep import cluster_file
from sweep.cli import run_command
from sweep.cluster_file import BLANK, examine, read
from sweep.doctor import Finding

ROOT = Path(__file__).parents[2]
SHIPPED = ["cluster.yaml", "cluster/gcp.yaml", "cluster/on-premise.yaml", "cluster/one-machine.yaml"]
FILL = {
    "<REGION>": "eu-west-1", "<AMI>": "ami-0123456789", "<BUCKET>": "lab", "<WORKER_PROFILE>": "sweep-worker",
    "<PROJECT>": "lab", "<ZONE>": "europe-west1-b", "<IMAGE_FAMILY>": "common-gpu", "<SERVICE_ACCOUNT>": "a@b.c",
    "<HEAD>": "10.0.0.1", "<WORKER>": "10.0.0.2", "<ANOTHER_WORKER>": "10.0.0.3", "<USER>": "me",
    "<SHARED_FOLDER>": "/mnt/sweeps",
}  # fmt: skip


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with a token and a key, a checkout to call from, and every provider's package."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(cluster_file, "PACKAGES", {})
    monkeypatch.setattr(cluster_file.shutil, "which", lambda tool: f"/usr/bin/{tool}")
    (tmp_path / "checkout/.git").mkdir(parents=True)
    for name in (".ray/auth_token", ".ssh/id_ed25519"):
        path = tmp_path / name
        path.parent.mkdir()
        path.write_text("secret")
        path.chmod(0o600)
    return tmp_path


def filled(name: str) -> str:
    """A shipped file with its blanks filled in; those in comments are nobody's."""
    return BLANK.sub(lambda found: FILL.get(found[0], "unused"), (ROOT / name).read_text())


def look(text: str, folder: Path) -> list[Finding]:
    path = folder / "cluster.yaml"
    path.write_text(text)
    return list(examine(path, ask=False))


def bad(findings: list[Finding]) -> list[str]:
    return [f"{finding.what} - {finding.remedy}" for finding in findings if not finding.good]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_file_is_good_once_its_blanks_are_filled(name: str, tmp_path: Path) -> None:
    findings = look(filled(name), tmp_path)
    assert bad(findings) == []
    assert len(findings) >= 10


@pytest.mark.parametrize("name", SHIPPED)
def test_blanks_are_listed(name: str, tmp_path: Path) -> None:
    text = (ROOT / name).read_text()
    in_values = {blank for line in text.splitlines() for blank in BLANK.findall(line.split(" #")[0].lstrip("#"))}
    listed = next(line for line in bad(look(text, tmp_path)) if line.startswith("still blank"))
    assert set(BLANK.findall(listed)) <= in_values
    assert BLANK.search(listed)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_file_opens_nothing_and_ships_the_whole_package(name: str) -> None:
    text = (ROOT / name).read_text()
    assert "0.0.0.0" not in text
    assert "--dashboard-host=127.0.0.1" in text
    packages = re.search(r'include = \["(.*)"\]', (ROOT / "pyproject.toml").read_text())
    assert packages
    needed = {f"~/representation-sweep/{package.rstrip('*')}" for package in packages[1].split('", "')}
    assert needed <= set(read(ROOT / name)["file_mounts"])
    commented = [line for line in text.splitlines() if "#" in line]
    assert len(commented) > 15


def without(key: str, pattern: str) -> Callable[[dict[str, Any]], None]:
    """Drop the commands that hold a pattern."""

    def spoil(config: dict[str, Any]) -> None:
        kept = [command for command in config[key] if not re.search(pattern, command)]
        assert len(kept) < len(config[key])
        config[key] = kept

    return spoil


def other(old: str, new: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Write something else, wherever it stands."""

    def spoil(config: dict[str, Any]) -> dict[str, Any]:
        text = yaml.safe_dump(config, width=10_000)
        assert old in text
        return dict(yaml.safe_load(text.replace(old, new)))

    return spoil


def put(*path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """Set a field."""

    def spoil(config: dict[str, Any]) -> None:
        for key in path[:-1]:
            config = config[key]
        config[path[-1]] = value

    return spoil


OPEN = [{"IpProtocol": "tcp", "FromPort": 8265, "ToPort": 8265, "IpRanges": [{"CidrIp": "198.51.100.0/24"}]}]
SPOILED = [
    ("a key that does not exist", put("max_worker", value=3), r"max_worker.*did you mean.*max_workers"),
    ("a wrong type", put("max_workers", value="many"), r"Ray refuses it: max_workers: 'many' is not"),
    ("no provider", lambda config: config.pop("provider") and None, r"'provider' is missing"),
    ("a head type that is none", put("head_node_type", value="boss"), r"Ray refuses it: .*head_node_type"),
    ("a blank", put("provider", "region", value="<REGION>"), r"still blank: <REGION>"),
    ("another Ray", other("==2.60.0", "==2.59.0"), r"Ray 2\.59\.0 on the cluster, 2\.60\.0 here"),
    ("no Ray named", without("setup_commands", "2.60.0"), r"do not say which Ray.*ray\[default,tune,train\]==2.60.0"),
    ("Ray's own defaults", lambda config: config.pop("setup_commands") and None, r"do not say which Ray"),
    ("Ray without default", other("[default,tune,train]", "[tune,train]"), r"no dashboard and no autoscaler"),
    ("another Python", other("--python 3.11", "--python 3.12"), r"Python 3\.12 on the cluster, 3\.11 here"),
    ("no Python named", other("--python 3.11", ""), r"do not say which Python"),
    ("no token", put("file_mounts", value={"~/representation-sweep/sweep": "sweep"}), r"the token is not copied"),
    ("a token that is not there", other("/.ray/auth_token: ~/.ray", "/.ray/auth_token: ~/no"), r"no token .*generate"),
    ("no authentication", other("RAY_AUTH_MODE=token", ""), r"RAY_AUTH_MODE is not set.*RAY_AUTH_MODE=token"),
    ("authentication off", other("RAY_AUTH_MODE=token", "RAY_AUTH_MODE=disabled"), r"RAY_AUTH_MODE is disabled"),
    ("an open dashboard", other("host=127.0.0.1", "host=0.0.0.0"), r"dashboard listens on 0\.0\.0\.0"),
    ("Ray's own start", lambda config: config.pop("head_start_ray_commands") and None, r"listens on 0\.0\.0\.0"),
    ("an open port", put("provider", "security_group", "IpPermissions", value=OPEN), r"open ports: 8265-8265"),
    ("an open Aim", put("head_setup_commands", value=["aim up --host 0.0.0.0 &"]), r"listens on all addresses.*ssh -L"),
    ("no storage", other("SWEEP_STORAGE=", "STORAGE="), r"no storage that all machines reach.*SWEEP_STORAGE=s3"),
    ("a key that is not there", put("auth", "ssh_private_key", value="~/.ssh/gone"), r"there is no .*gone.*ssh-keygen"),
    ("a folder that is not there", put("file_mounts", "~/lab", value="lab"), r"file_mounts: not here: lab"),
    ("the whole checkout", put("file_mounts", "~/all", value="~/checkout"), r"one by one"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "expected"), [case[1:] for case in SPOILED], ids=[case[0] for case in SPOILED])
def test_what_is_wrong_is_found_with_a_remedy(
    spoil: Callable[[dict[str, Any]], dict[str, Any] | None], expected: str, tmp_path: Path
) -> None:
    config = yaml.safe_load(filled("cluster.yaml"))
    config = spoil(config) or config
    found = bad(look(yaml.safe_dump(config), tmp_path))
    assert any(re.search(expected, line) for line in found), found
    assert all("\n" not in line for line in found)


def test_modes_of_token_and_key(home: Path, tmp_path: Path) -> None:
    (home / ".ray/auth_token").chmod(0o644)
    (home / ".ssh/id_ed25519").chmod(0o640)
    found = bad(look(filled("cluster/on-premise.yaml"), tmp_path))
    assert len(found) == 2
    assert re.search(r"mode 0644 - chmod 600", found[0])
    assert re.search(r"others can read .*id_ed25519.*chmod 600", found[1])


def test_missing_tools_and_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cluster_file.shutil, "which", lambda tool: None if tool == "rsync" else tool)
    monkeypatch.setattr(cluster_file, "PACKAGES", {"gcp": ("no_such_module_of_google",)})
    found = bad(look(filled("cluster/gcp.yaml"), tmp_path))
    assert len(found) == 2
    assert "missing here: rsync" in found[0]
    assert "no_such_module_of_google is not installed - pip install" in found[1]


def test_a_bucket_is_written_to_and_one_that_cannot_be_is_named(tmp_path: Path) -> None:
    config = read(ROOT / "cluster.yaml")
    good = cluster_file._storage(config, "memory://doctor/sweeps")
    assert (good.good, good.what) == (True, "storage memory://doctor/sweeps can be written")
    wrong = cluster_file._storage(config, "nowhere://doctor/sweeps")
    assert not wrong.good
    assert "nowhere" in wrong.what


def test_a_machine_that_does_not_answer(home: Path) -> None:
    auth = {"ssh_user": "me", "ssh_private_key": "~/.ssh/id_ed25519"}
    head = cluster_file._machine("127.0.0.1:1", auth, {"rsync": "true"}, is_head=True)  # no address: refused at once
    assert not head.good
    assert head.what.startswith("me@127.0.0.1:1: no SSH")
    assert cluster_file._machine("127.0.0.1:1", auth, {"rsync": "true"}, is_head=False).good, "the head may reach it"


@pytest.mark.parametrize("text", ["just words", "a: [1,", "- a\n- b\n"])
def test_what_is_no_cluster_file_is_refused_in_one_line(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "wrong.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        read(path)
    assert run_command(["doctor", "--cluster", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert str(path) in error


def test_the_command_ends_with_one_where_something_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command(["doctor", "--cluster", "cluster.yaml"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("BAD  still blank: <AMI>") for line in lines)
    assert all(line[:5] in ("ok   ", "BAD  ") for line in lines)
    assert run_command(["doctor", "--cluster", str(tmp_path / "none.yaml")]) == 2
