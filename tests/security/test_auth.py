"""A cluster of more than this machine is joined with its token only, and only if it asks everybody for one."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_clusters import Running, clean, python, running

from datasets.config import ConfigError
from sweep import auth, cluster

SECRET, OTHER = "a" * 64, "b" * 64
HOSTS = ("127.0.0.2", "127.0.0.3")  # Ray replaces 127.0.0.1 by this machine's outer address


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def put_token(home: Path, text: str, path: str = ".ray/auth_token") -> Path:
    """A token as Ray writes it: anybody may read it."""
    file = home / path
    file.parent.mkdir(mode=0o755, exist_ok=True)
    file.write_text(text)
    file.chmod(0o644)
    return file


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home, no settings of Ray, and nothing changed in the Ray of this process."""
    for name in (auth.MODE, auth.TOKEN, auth.TOKEN_PATH, "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(auth, "_enable", lambda: monkeypatch.setenv(auth.MODE, "token"))
    return tmp_path


def test_the_file_of_a_token_and_rays_folder_are_closed_to_others(home: Path) -> None:
    file = put_token(home, SECRET)
    auth.prepare(None)
    assert (mode(file), mode(file.parent)) == (0o600, 0o700)
    assert auth.token() == SECRET


def test_a_folder_of_the_users_choice_keeps_its_mode(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = put_token(home, SECRET, "shared/token")
    monkeypatch.setenv(auth.TOKEN_PATH, str(file))
    auth.prepare(None)
    assert (mode(file), mode(file.parent)) == (0o600, 0o755)


def test_a_new_token_is_closed_whatever_the_umask(home: Path) -> None:
    before = os.umask(0)
    try:
        auth.prepare(None)
    finally:
        os.umask(before)
    file = home / ".ray" / "auth_token"
    assert (mode(file), mode(file.parent)) == (0o600, 0o700)
    assert len(file.read_text()) == 64
    assert os.environ[auth.MODE] == "token"


def test_a_home_that_cannot_be_written_still_gets_a_token(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(auth.TOKEN, "")
    (home / ".ray").write_text("a file where Ray's folder should be")
    auth.prepare(None)
    assert len(auth.token() or "") == 64


def test_another_machine_without_a_token_is_refused_before_it_is_asked(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "ask", lambda *arguments, **options: pytest.fail("it was asked"))
    for address in ("198.51.100.7:6379", "ray://198.51.100.7:10001", "no-such-host.invalid:6379"):
        with pytest.raises(ConfigError, match=r"joined with its token only; .*ray get-auth-token --generate") as found:
            auth.prepare(address)
        assert "\n" not in str(found.value)
    monkeypatch.setenv(auth.MODE, "disabled")
    auth.prepare("198.51.100.7:6379")  # the user's own decision


def test_workers_are_told_to_show_a_token_and_never_get_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(auth.TOKEN, SECRET)
    auth.prepare(None)
    told = cluster._environment("198.51.100.7:6379")
    assert told[auth.MODE] == "token"
    assert SECRET not in told.values()


# -- with real clusters ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A cluster that asks for a token."""
    home = tmp_path_factory.mktemp("head")
    put_token(home, SECRET)
    with running(clean(home, RAY_AUTH_MODE="token"), ("",)) as found:
        yield found


@pytest.fixture(scope="module")
def wide_open(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A cluster of two hosts that lets everybody in."""
    environment = clean(tmp_path_factory.mktemp("head"), RAY_AUTH_MODE="disabled")
    with running(environment, HOSTS) as found:
        yield found


JOIN = """
from datasets.config import ConfigError
from sweep.cluster import connect
try:
    connect({address!r}, dashboard=False)
except ConfigError as error:
    print("REFUSED", error)
    raise SystemExit
import os, ray
seen = ray.remote(lambda: [os.environ.get("RAY_AUTH_MODE"), "RAY_AUTH_TOKEN" in os.environ])
print("JOINED", ray.get(seen.remote()))
"""


def join(address: str, environment: dict[str, str]) -> str:
    """What came of joining the cluster in a process of its own."""
    done = python(JOIN.format(address=address), environment)
    lines = [line for line in done.stdout.splitlines() if line.startswith(("REFUSED", "JOINED"))]
    assert len(lines) == 1, done
    return lines[0]


def test_the_right_token_joins_and_its_file_is_closed(closed: Running, tmp_path: Path) -> None:
    file = put_token(tmp_path, SECRET + "\n")
    assert join(closed.address, clean(tmp_path)) == "JOINED ['token', False]"
    assert mode(file) == 0o600


@pytest.mark.parametrize("address", ["explicit", "auto"])
def test_a_wrong_token_or_none_is_one_line_with_the_remedy(closed: Running, tmp_path: Path, address: str) -> None:
    environment = clean(tmp_path, RAY_ADDRESS=closed.address)
    given = closed.address if address == "explicit" else "auto"
    said = join(given, environment)
    assert "asks for a token and there is none here" in said
    file = put_token(tmp_path, OTHER)
    said = join(given, environment)
    assert f"does not accept the token in {file}" in said
    assert OTHER not in said


@pytest.mark.parametrize("address", ["explicit", "auto"])
def test_a_cluster_of_several_hosts_that_lets_everybody_in_is_refused(
    wide_open: Running, tmp_path: Path, address: str
) -> None:
    put_token(tmp_path, SECRET)  # it would be taken without a word
    environment = clean(tmp_path, RAY_ADDRESS=wide_open.address)
    said = join(wide_open.address if address == "explicit" else "auto", environment)
    assert "(hosts: 2) lets everybody run code" in said
    assert "RAY_AUTH_MODE=token" in said


def test_what_is_asked_is_what_ray_says(closed: Running, wide_open: Running) -> None:
    assert auth.ask(closed.address, None).refused
    assert auth.ask(closed.address, OTHER).refused
    assert len(auth.ask(closed.address, SECRET).hosts) == 1
    assert auth.ask(wide_open.address, None).hosts == set(HOSTS)


@pytest.mark.parametrize("address", ["127.0.0.2:1", "auto", "nonsense"])
def test_what_does_not_answer_is_not_joined_unasked(home: Path, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setattr(auth, "PATIENCE", 0.5)
    monkeypatch.setattr("ray._private.services.find_gcs_addresses", set)
    monkeypatch.setattr("ray._private.services.find_bootstrap_address", lambda folder: None)
    with pytest.raises(ConfigError, match=f"--address {address}: no Ray cluster answers there"):
        auth.prepare(address)
