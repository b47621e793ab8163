"""`sweep doctor --cluster FILE`: is a cluster file fit for `ray up`? Found out before anything is paid for.

Needs neither torch nor a running Ray. The file's own text is checked offline; storage, credentials and machines of
one's own are asked, for seconds each.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import io
import logging
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from datasets.config import ConfigError, near
from sweep.auth import token_file
from sweep.doctor import Finding

BLANK = re.compile(r"<[A-Z][A-Z_]*>")
PACKAGES = {"aws": ("boto3",), "gcp": ("googleapiclient", "google_auth_httplib2")}
INSTALL = {"googleapiclient": "google-api-python-client", "google_auth_httplib2": "google-auth-httplib2"}
LOOPBACK = ("127.0.0.1", "localhost", "::1")
COMMANDS = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
KEYS = (
    "cluster_name", "max_workers", "idle_timeout_minutes", "upscaling_speed", "provider", "auth", "docker",
    "available_node_types", "head_node_type", "file_mounts", "rsync_filter", "rsync_exclude", "resources",
    "node_config", "min_workers", "head_start_ray_commands", "worker_start_ray_commands",
)  # fmt: skip
SSH_PATIENCE = 10  # seconds in which a machine must answer
Cluster = dict[str, Any]


def examine(path: Path, ask: bool = True) -> Iterator[Finding]:
    """Look at a cluster file, the cheap things first.

    Args:
        ask: also ask storage, credentials and machines, over the network.

    Raises:
        ConfigError: it cannot be read, or is no YAML mapping; one line.
    """
    given = read(path)
    cluster, schema = _prepared(given)
    yield schema
    blanks = sorted({blank for text in _strings(given) for blank in BLANK.findall(text)})
    yield Finding(
        f"still blank: {', '.join(blanks)}" if blanks else "no blanks are left",
        not blanks,
        "fill in what it stands for",
    )
    if cluster is None:
        return
    yield _ray_version(cluster)
    yield _python_version(cluster)
    yield from _token(cluster)
    yield _dashboard(cluster)
    yield _ports(cluster)
    yield from _tools(cluster)
    yield from _keys(cluster)
    yield _copies(cluster)
    storage = _setting(cluster, "SWEEP_STORAGE")
    if blanks or not ask:
        yield _storage_named(cluster, storage, asked=False)
        return
    yield from _credentials(cluster)
    yield _storage(cluster, storage)
    if cluster["provider"]["type"] == "local":
        yield from _machines(cluster, storage)


def read(path: Path) -> Cluster:
    """A cluster file as it stands.

    Raises:
        ConfigError: one line.
    """
    try:
        found = yaml.safe_load(path.read_text())
    except OSError as error:
        raise ConfigError(f"--cluster {path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"--cluster {path}: is no YAML: {' '.join(str(error).split())[:200]}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"--cluster {path}: is no cluster file; start from cluster.yaml or one in cluster/")
    return found


def _prepared(given: Cluster) -> tuple[Cluster | None, Finding]:
    """The file with Ray's defaults filled in as `ray up` fills them in, None if Ray would refuse it."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    logging.getLogger("ray.autoscaler").setLevel(logging.CRITICAL)
    try:
        if not isinstance(given.get("provider"), dict):
            raise ValueError("'provider' is missing, a mapping with its `type`")
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            prepared = prepare_config(given)
            validate_config(prepared)
    except Exception as error:  # of jsonschema, click and Ray, each with a class of its own
        where = ".".join(map(str, getattr(error, "absolute_path", ())))
        text = " ".join(str(getattr(error, "message", error)).split())[:200]
        return None, Finding(f"Ray refuses it: {where + ': ' if where else ''}{text}", False, _hint(text, given))
    return prepared, Finding(f"{prepared['provider']['type']}: Ray accepts it", True)


def _hint(text: str, given: Cluster) -> str:
    wrong = re.findall(r"'(\w+)'(?:, '\w+')* (?:was|were) unexpected", text)
    known = {*KEYS, *COMMANDS}
    return f"unknown{near(wrong[0], known)}" if wrong else "compare with cluster.yaml and the files in cluster/"


def _strings(value: Any) -> Iterator[str]:
    """All texts of a structure, keys too."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield str(key)
            yield from _strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, str):
        yield value


def _setup(cluster: Cluster) -> str:
    """Everything that sets a machine up, as one text: commands and images."""
    types = cluster.get("available_node_types", {}).values()
    found = [cluster.get(key) for key in COMMANDS] + [kind.get("worker_setup_commands") for kind in types]
    return "\n".join(_strings([*found, cluster.get("docker"), [kind.get("docker") for kind in types]]))


def _start(cluster: Cluster) -> str:
    return "\n".join(_strings([cluster.get("head_start_ray_commands"), cluster.get("worker_start_ray_commands")]))


def _setting(cluster: Cluster, name: str) -> str:
    """The value of an environment variable that the file sets, "" if it does not."""
    found = re.search(rf"\b{name}=[\"']?([^\s\"';]+)", f"{_setup(cluster)}\n{_start(cluster)}")
    return found[1] if found else ""


# -- what the file says --------------------------------------------------------------------------------------------


def _ray_version(cluster: Cluster) -> Finding:
    here = importlib.metadata.version("ray")
    text = _setup(cluster)
    found = re.findall(r"\bray(?:\[[\w,-]*\])?\s*==\s*([\w.]+)|rayproject/ray[\w-]*:(\d[\d.]*\d)", text)
    versions = sorted({first or second for first, second in found})
    remedy = f'install "ray[default,tune,train]=={here}" in setup_commands: Ray must be the same everywhere'
    if not versions:
        return Finding("setup_commands do not say which Ray", False, remedy)
    if "rayproject/ray" not in text and not re.search(r"ray\[[\w,-]*\bdefault\b", text):
        return Finding("ray without [default] has no dashboard and no autoscaler", False, remedy)
    return Finding(f"Ray {', '.join(versions)} on the cluster, {here} here", versions == [here], remedy)


def _python_version(cluster: Cluster) -> Finding:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = re.findall(r"python[ =]*(3\.\d+)|-py3(\d\d)\b", _setup(cluster))
    versions = sorted({first or f"3.{second}" for first, second in found})
    remedy = f"make the environment with python{here}: Ray wants the same on all machines and here"
    if not versions:
        return Finding("setup_commands do not say which Python", False, remedy)
    return Finding(f"Python {', '.join(versions)} on the cluster, {here} here", versions == [here], remedy)


def _token(cluster: Cluster) -> Iterator[Finding]:
    mounts = {remote: local for remote, local in cluster["file_mounts"].items() if remote.endswith("/.ray/auth_token")}
    if not mounts:
        yield Finding("the token is not copied", False, "file_mounts: {~/.ray/auth_token: ~/.ray/auth_token}")
    file = Path(next(iter(mounts.values()), token_file())).expanduser()
    if not file.is_file():
        yield Finding(f"there is no token {file}", False, "`ray get-auth-token --generate`, then chmod 600")
    else:
        mode = stat.S_IMODE(file.stat().st_mode)
        yield Finding(
            f"token {file}, mode {mode:04o}", mode == 0o600, f"chmod 600 {file}: who has it, commands the cluster"
        )
    mode_is = _setting(cluster, "RAY_AUTH_MODE") or "not set"
    remedy = "export RAY_AUTH_MODE=token in setup_commands: else everybody who reaches a port of Ray runs code there"
    yield Finding(f"RAY_AUTH_MODE is {mode_is} on the cluster", mode_is == "token", remedy)


def _dashboard(cluster: Cluster) -> Finding:
    found = re.findall(r"--dashboard-host[= ]([^\s;]+)", _start(cluster))
    open_ = [host for host in found if host not in LOOPBACK]
    remedy = "--dashboard-host=127.0.0.1 in head_start_ray_commands: it takes jobs; `ray dashboard FILE` tunnels to it"
    return Finding(f"the dashboard listens on {', '.join(found) or LOOPBACK[0]}", not open_, remedy)


def _ports(cluster: Cluster) -> Finding:
    rules = cluster["provider"].get("security_group", {}).get("IpPermissions", [])
    opened = [f"{rule.get('FromPort')}-{rule.get('ToPort')}" for rule in rules if _is_open(rule)]
    if opened:
        return Finding(f"open ports: {', '.join(opened)}", False, "only SSH needs to be: delete these IpPermissions")
    published = re.findall(r"(?:^|\s)(?:-p|--publish)[= ](\S+)", " ".join(_strings(cluster.get("docker"))))
    everywhere = [
        text for text in _strings([_setup(cluster), _start(cluster)]) if re.search(r"\b0\.0\.0\.0\b|\[?::\]", text)
    ]
    if published or everywhere:
        what = f"docker publishes {', '.join(published)}" if published else "a command listens on all addresses"
        return Finding(what, False, "let it listen on 127.0.0.1, and reach it by `ssh -L PORT:127.0.0.1:PORT HEAD`")
    return Finding("no port is opened but that of SSH", True)


def _is_open(rule: dict[str, Any]) -> bool:
    ranges = bool(rule.get("IpRanges") or rule.get("Ipv6Ranges") or rule.get("PrefixListIds"))
    return ranges and not rule.get("FromPort") == rule.get("ToPort") == 22


def _storage_named(cluster: Cluster, url: str, asked: bool = True) -> Finding:
    if url:
        return Finding(f"storage {url}" + ("" if asked else " is named; it was not asked for"), True)
    alone = cluster["provider"]["type"] == "local" and not cluster["provider"].get("worker_ips")
    remedy = "export SWEEP_STORAGE=s3://..., gs://... or file:///SHARED/FOLDER in setup_commands"
    return Finding("storage: each sweep's own folder" if alone else "no storage that all machines reach", alone, remedy)


# -- what is here --------------------------------------------------------------------------------------------------


def _tools(cluster: Cluster) -> Iterator[Finding]:
    absent = [tool for tool in ("ssh", "rsync") if shutil.which(tool) is None]
    remedy = "install them: cluster/install-tools.sh, or your system's packages"
    yield Finding(f"missing here: {', '.join(absent)}" if absent else "ssh and rsync are here", not absent, remedy)
    kind = cluster["provider"]["type"]
    for module in PACKAGES.get(kind, ()):
        name = INSTALL.get(module, module)
        good = importlib.util.find_spec(module) is not None
        yield Finding(f"{name} is {'' if good else 'not '}installed", good, f"pip install {name}: {kind} needs it")


def _keys(cluster: Cluster) -> Iterator[Finding]:
    auth = cluster.get("auth") or {}
    if cluster["provider"]["type"] == "local" and not auth.get("ssh_private_key"):
        yield Finding("auth names no ssh_private_key", False, "the head needs one to reach the workers: name it")
    for name in ("ssh_private_key", "ssh_public_key"):
        if not auth.get(name) or BLANK.search(auth[name]):
            continue
        file = Path(auth[name]).expanduser()
        if not file.is_file():
            yield Finding(f"auth.{name}: there is no {file}", False, "`ssh-keygen -t ed25519`, or name another")
        elif name == "ssh_private_key" and stat.S_IMODE(file.stat().st_mode) & 0o077:
            yield Finding(f"auth.{name}: others can read {file}, so ssh refuses it", False, f"chmod 600 {file}")
        else:
            yield Finding(f"auth.{name} {file}", True)


def _copies(cluster: Cluster) -> Finding:
    """Whether all that is to be copied is there; the token has a finding of its own."""
    mounts = {r: Path(local).expanduser() for r, local in cluster["file_mounts"].items() if ".ray/auth_token" not in r}
    absent = [str(local) for local in mounts.values() if not local.exists()]
    if absent:
        return Finding(f"file_mounts: not here: {', '.join(absent)}", False, "call it in the folder of the checkout")
    heavy = [str(local) for local in mounts.values() if (local / ".venv").exists() or (local / ".git").exists()]
    remedy = "name the folders in it one by one: Ray reads all that is named, .venv and .git too, at each start"
    return Finding(f"file_mounts: {', '.join(heavy) or len(mounts)} to copy", not heavy, remedy)


# -- what answers --------------------------------------------------------------------------------------------------


def _credentials(cluster: Cluster) -> Iterator[Finding]:
    kind = cluster["provider"]["type"]
    if kind == "aws" and importlib.util.find_spec("boto3"):
        import boto3

        found = boto3.Session().get_credentials()
        yield Finding(f"AWS credentials{'' if found else ': none here'}", found is not None, "`aws configure`")
    if kind == "gcp" and importlib.util.find_spec("google.auth"):
        import google.auth
        from google.auth.exceptions import GoogleAuthError

        try:
            google.auth.default()
            yield Finding("Google Cloud credentials", True)
        except GoogleAuthError:
            yield Finding("Google Cloud credentials: none here", False, "`gcloud auth application-default login`")


def _storage(cluster: Cluster, url: str) -> Finding:
    """Whether storage can be written, seen from this machine; a mount is asked for on the machines that have it."""
    named = _storage_named(cluster, url)
    if not url or url.startswith("file://"):
        return named
    from trainables.core.store import probe

    problem = probe(url)
    remedy = "make the bucket, or let this machine's credentials write to it"
    return Finding(f"storage {url}" + (f": {problem}" if problem else " can be written"), not problem, remedy)


def _machines(cluster: Cluster, storage: str) -> Iterator[Finding]:
    """Ask each machine of one's own, over SSH, for what it must have."""
    provider = cluster["provider"]
    head = provider.get("external_head_ip") or provider.get("head_ip")
    if head is None:
        return  # a coordinator knows the machines
    wanted = {"rsync": "command -v rsync", **_python_there(cluster)}
    if storage.startswith("file://"):
        folder = shlex.quote(storage.removeprefix("file://"))
        wanted[f"a writable {storage.removeprefix('file://')}"] = f"mkdir -p {folder} && test -w {folder}"
    for address in (head, *provider.get("worker_ips", ())):
        yield _machine(address, cluster["auth"], wanted, is_head=address == head)


def _python_there(cluster: Cluster) -> dict[str, str]:
    found = re.search(r"(test -x (\S+) \|\| )?(python3\.\d+) -m venv", _setup(cluster))
    if found is None:
        return {}
    return {found[3]: f"command -v {found[3]}" + (f" || test -x {found[2]}" if found[2] else "")}


def _machine(address: str, auth: dict[str, str], wanted: dict[str, str], is_head: bool) -> Finding:
    script = "; ".join(f"({test}) > /dev/null 2>&1 || echo {shlex.quote(what)}" for what, test in wanted.items())
    options = ["-o", "BatchMode=yes", "-o", f"ConnectTimeout={SSH_PATIENCE}", "-o", "StrictHostKeyChecking=no",
               "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]  # fmt: skip
    if auth.get("ssh_private_key"):
        options += ["-i", os.path.expanduser(auth["ssh_private_key"]), "-o", "IdentitiesOnly=yes"]  # noqa: PTH111
    if auth.get("ssh_proxy_command"):
        options += ["-o", f"ProxyCommand={auth['ssh_proxy_command']}"]
    target = f"{auth['ssh_user']}@{address}" if auth.get("ssh_user") else address
    try:
        done = subprocess.run(
            ["ssh", *options, target, f"bash --login -c {shlex.quote(script)}"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=6 * SSH_PATIENCE, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(f"{target}: {type(error).__name__}", not is_head, "is it on, and is it the right address?")
    if done.returncode == 255:  # ssh's own
        reason = " ".join(done.stderr.split())[-150:]
        if not is_head:
            return Finding(f"{target} cannot be asked from here ({reason}); the head must reach it", True)
        return Finding(f"{target}: no SSH: {reason}", False, "is it on, and does its authorized_keys have your key?")
    lacks = [line for line in done.stdout.splitlines() if line in wanted]
    return Finding(
        f"{target} " + (f"lacks {', '.join(lacks)}" if lacks else "has what it needs"), not lacks, "install it"
    )
