"""Ray's token authentication: on wherever a cluster is more than this machine.

Whoever reaches a Ray cluster without it can run any code there. Ray turns it on by itself for a cluster that it starts
here, but never for one that is joined by an address, and it joins an open cluster without a word. So the cluster is
asked before it is joined: who is let in without a token, and with the one that lies here?
"""

from __future__ import annotations

import os
import secrets
import socket
import stat
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from datasets.atomic import PRIVATE, PRIVATE_FOLDER
from datasets.config import ConfigError

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
PATIENCE = 15.0  # seconds in which a cluster must answer
HOW = "copy the head's ~/.ray/auth_token here (made there by `ray get-auth-token --generate`)"


def prepare(address: str | None, say: Callable[[str], None] = print) -> None:
    """Set $RAY_AUTH_MODE, unless the user has, before Ray starts here (None) or joins `address`.

    A token's file is closed to others. A user's own RAY_AUTH_MODE=disabled is left alone and nothing is asked then.

    Raises:
        ConfigError: another machine without a token here, a wrong token, a cluster of several hosts that lets
            everybody in, or one that does not answer; one line with the remedy.
    """
    tighten(say)
    if os.environ.get(MODE, "").lower() == "disabled":
        return
    if address is None:
        if token() is None:
            _create()
        _enable()
        return
    found, server = token(), _server(address)
    away = not is_here(server)
    if found is None and (away or os.environ.get(MODE, "").lower() == "token"):
        raise ConfigError(f"--address {address}: a cluster on another machine is joined with its token only; {HOW}")
    _check(address, server, found, away)
    if found is not None:
        _enable()


def _check(address: str, server: str, found: str | None, away: bool) -> None:
    """Refuse a cluster that does not let this token in, or lets everybody in."""
    without = ask(server, None, client=address.startswith("ray://"))
    if not without.reached:
        raise ConfigError(f"--address {address}: no Ray cluster answers there ({server}, {PATIENCE:.0f} s)")
    if without.refused:
        if found is None:
            raise ConfigError(f"--address {address}: the cluster asks for a token and there is none here; {HOW}")
        if ask(server, found, client=address.startswith("ray://")).refused:
            where = f"${TOKEN}" if os.environ.get(TOKEN, "").strip() else token_file()
            raise ConfigError(f"--address {address}: the cluster does not accept the token in {where}; {HOW}")
    elif away or len(without.hosts) > 1:
        count = max(1, len(without.hosts))
        raise ConfigError(
            f"--address {address}: this cluster (hosts: {count}) lets everybody run code who reaches it; "
            "start it again with a token on every node (`ray get-auth-token --generate`, RAY_AUTH_MODE=token), "
            "or set RAY_AUTH_MODE=disabled here if its network is closed"
        )


# -- the token -------------------------------------------------------------------------------------------------------


def token_file() -> Path:
    """Where Ray looks for the token's file."""
    named = os.environ.get(TOKEN_PATH)
    return Path(named).expanduser() if named else _default()


def _default() -> Path:
    return Path.home() / ".ray" / "auth_token"


def token() -> str | None:
    """The token, from $RAY_AUTH_TOKEN or its file; None if there is none.

    Raises:
        ConfigError: the file cannot be read.
    """
    given = os.environ.get(TOKEN, "").strip()
    if given:
        return given
    try:
        return token_file().read_text().strip() or None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text"
        raise ConfigError(f"{token_file()}: the token cannot be read ({reason})") from None


def tighten(say: Callable[[str], None] = print) -> None:
    """Close the token's file, and Ray's own folder around it, to everybody else; Ray makes them open to all."""
    path = token_file()
    for place, mode in ((path, PRIVATE), (path.parent, PRIVATE_FOLDER)):
        if place == path.parent and path != _default():
            continue  # a folder of the user's own choice may hold other things
        with suppress(FileNotFoundError, NotADirectoryError):
            if stat.S_IMODE(place.stat().st_mode) & 0o077 == 0:
                continue
            try:
                place.chmod(mode)
            except OSError as error:
                say(f"{place}: others can read it, and that cannot be changed ({error.strerror}); chmod {mode:o} it")


def _create() -> None:
    """A new token for clusters of this machine, closed to others from the first moment."""
    text, path = secrets.token_hex(32), token_file()
    try:
        path.parent.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE), "w") as file:
            file.write(text)
    except OSError:  # a home that cannot be written: the token lives as long as this process and its children
        os.environ[TOKEN] = text


def _enable() -> None:
    """Make this process, and those it starts, send the token."""
    os.environ.setdefault(MODE, "token")
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")  # Ray has read the variable when it was imported
    AuthenticationTokenLoader.instance().reset_cache()


# -- the cluster -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    """What a cluster said: whether it was reached, whether it refused, and its hosts if it told."""

    reached: bool
    refused: bool = False
    hosts: frozenset[str] = field(default=frozenset())


def ask(server: str, secret: str | None, client: bool = False) -> Answer:
    """Ask the cluster at `server` (HOST:PORT) who its nodes are, with a token or without.

    Args:
        client: it is a Ray Client server (ray://), which is asked for a sign of life alone.
    """
    import grpc

    metadata = (("authorization", f"Bearer {secret}"),) if secret else ()
    with grpc.insecure_channel(server, options=(("grpc.enable_http_proxy", 0),)) as channel:
        try:
            return Answer(True, hosts=_ping(channel, metadata) if client else _hosts(channel, metadata))
        except grpc.RpcError as error:
            silent = error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
            return Answer(not silent, refused=error.code() == grpc.StatusCode.UNAUTHENTICATED)


def _ping(channel: Any, metadata: tuple[tuple[str, str], ...]) -> frozenset[str]:
    from ray.core.generated.ray_client_pb2 import ClusterInfoRequest, ClusterInfoType  # type: ignore[attr-defined]
    from ray.core.generated.ray_client_pb2_grpc import RayletDriverStub

    request = ClusterInfoRequest(type=ClusterInfoType.PING)
    RayletDriverStub(channel).ClusterInfo(request, timeout=PATIENCE, metadata=metadata, wait_for_ready=True)
    return frozenset()


def _hosts(channel: Any, metadata: tuple[tuple[str, str], ...]) -> frozenset[str]:
    from ray.core.generated.gcs_pb2 import GcsNodeInfo  # type: ignore[attr-defined]
    from ray.core.generated.gcs_service_pb2 import GetAllNodeInfoRequest  # type: ignore[attr-defined]
    from ray.core.generated.gcs_service_pb2_grpc import NodeInfoGcsServiceStub

    answer = NodeInfoGcsServiceStub(channel).GetAllNodeInfo(
        GetAllNodeInfoRequest(), timeout=PATIENCE, metadata=metadata, wait_for_ready=True
    )
    alive = (node for node in answer.node_info_list if node.state == GcsNodeInfo.ALIVE)
    return frozenset(node.node_manager_address for node in alive)


def _server(address: str) -> str:
    """HOST:PORT of an address as `--address` takes it.

    Raises:
        ConfigError: no such form, or "auto" finds nothing.
    """
    from ray._private import services

    if address.startswith("ray://"):
        return address.removeprefix("ray://").split("/")[0]
    try:
        return str(services.canonicalize_bootstrap_address_or_die(address))
    except (ConnectionError, ValueError, OSError) as error:
        reason = str(error).strip().split("\n")[0][:200]
        raise ConfigError(f"--address {address}: no Ray cluster answers there ({reason})") from None


def is_here(server: str) -> bool:
    """Whether HOST:PORT is on this machine; a name that cannot be resolved is not."""
    host = server.rpartition(":")[0].strip("[]")
    try:
        places = socket.getaddrinfo(host, 0, type=socket.SOCK_DGRAM)
    except OSError:
        return False
    return all(_can_bind(family, place) for family, _, _, _, place in places)


def _can_bind(family: int, place: Any) -> bool:
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind(place)  # only a machine's own addresses can be
        except OSError:
            return False
    return True
