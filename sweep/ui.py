"""`sweep ui DIR`: Aim's web interface on one sweep, bound to this machine alone, with comparisons made ready.

Aim's interface has no login: it listens on the loopback address only, and from elsewhere it is reached through an SSH
tunnel. The comparisons are Aim "bookmarks" (a dashboard entry and the saved state of an explorer), written through the
interface's own API; those that exist are brought up to date.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweep.aim_writer import FOLDER, UI, TrackingError, require, ui_address
from sweep.records import Records, load

LOOPBACK = ("127.0.0.1", "localhost", "::1")
PORT = 43800  # Aim's own
PATIENCE = 120.0  # seconds; Aim imports for some 10 s, on a busy machine much longer
PRETRAINING = 'run.sweep.stage == "pretrain"'
SCATTERS = 12  # at most so many saved scatter plots
DIMENSIONS = 8  # axes of the parallel plot beside the sampled parameters
AIM = [sys.executable, "-c", "from aim.cli.cli import cli_entry_point; cli_entry_point()"]


@dataclass(frozen=True)
class View:
    """A saved comparison: `explorer` is "params" | "metrics" | "scatters", `state` that explorer's configuration."""

    name: str
    explorer: str
    state: dict[str, Any]


def views(records: Records) -> list[View]:
    """The comparisons a sweep calls for, the most telling first."""
    objectives = [objective["metric"] for objective in records.objectives]
    sampled = list(records.spec.get("space", {}))
    found = [
        _comparison(records, sampled, objectives),
        _curves("Pretraining curves", [_metric("loss", {"stage": "pretrain"})], sampled),
    ]
    if records.spec.get("rungs"):
        options = [_downstream_metric(metric) for metric in objectives]
        found.append(_curves("Downstream metrics over the epochs", options, sampled))
    return [*found, *list(_scatters(records, sampled, objectives))[:SCATTERS]]


def _comparison(records: Records, sampled: list[str], objectives: list[str]) -> View:
    """Parallel axes, coloured by the last one: the first objective; the table shows the same columns first."""
    others = [metric for metric in _telling(records) if metric not in objectives]
    metrics = [*others[: max(0, DIMENSIONS - len(objectives))], *reversed(objectives)]
    axes = [_param(_scale(records, key), key) for key in sampled] + [_param("downstream", name) for name in metrics]
    columns = [_param("sampled", key) for key in sampled] + [_param("downstream", name) for name in reversed(metrics)]
    state = {
        "select": _select(axes),
        "chart": {"isVisibleColorIndicator": True},
        "table": _table(columns),
    }
    return View("Hyperparameters against downstream metrics", "params", state)


def _scale(records: Records, key: str) -> str:
    return "log10" if records.spec["space"][key].get("log") else "sampled"


def _telling(records: Records) -> list[str]:
    """Metrics of the validation split that differ between trials, of each evaluation in turn."""
    values: dict[str, set[float]] = {}
    for trial in records.trials.values():
        for name, value in trial.metrics.items() if trial.stage == "evaluation" else ():
            if "/val/" in name:
                values.setdefault(name, set()).add(value)
    by_evaluation: dict[str, list[str]] = {}
    for name in sorted(name for name, found in values.items() if len(found) > 1):
        by_evaluation.setdefault(name.split("/")[0], []).append(name)
    rows = itertools.zip_longest(*by_evaluation.values())
    return [name for row in rows for name in row if name is not None]


def _scatters(records: Records, sampled: list[str], objectives: list[str]) -> Iterator[View]:
    for metric in objectives:
        for key in sampled:
            axes = [_param("downstream", metric), _param(_scale(records, key), key)]
            state = {"select": _select(axes), "table": _table([_param("sampled", key), *axes])}
            yield View(f"{metric} against {key}", "scatters", state)
    for metric, other in itertools.pairwise(objectives):
        axes = [_param("downstream", metric), _param("downstream", other)]
        state = {"select": _select(axes), "table": _table([*(_param("sampled", key) for key in sampled), *axes])}
        yield View(f"{metric} against {other}", "scatters", state)


def _curves(name: str, options: list[dict[str, Any]], sampled: list[str]) -> View:
    colour = [f'run.params.sampled["{key}"]' for key in sampled[:1]]
    grouping = {"color": colour, "chart": ["name", "context"]}
    return View(name, "metrics", {"select": _select(options), "grouping": grouping})


def _select(options: list[dict[str, Any]]) -> dict[str, Any]:
    return {"options": options, "query": PRETRAINING, "advancedMode": False, "advancedQuery": ""}


def _table(columns: list[dict[str, Any]]) -> dict[str, Any]:
    """The explorer's table with these columns first."""
    keys = list(dict.fromkeys(column["key"] for column in columns))
    return {"columnsOrder": {"left": ["run"], "middle": keys, "right": []}}


def _param(section: str, key: str) -> dict[str, Any]:
    label = f'{section}["{key}"]'  # how the interface itself names a key that is no identifier
    return {"label": label, "key": label, "group": "Params", "type": "params", "color": "#3E72E7"}


def _metric(name: str, context: dict[str, str]) -> dict[str, Any]:
    label = f"{name} {', '.join(f'{key}={json.dumps(value)}' for key, value in context.items())}"
    value = {"option_name": name, "context": context}
    return {"label": label, "group": name, "type": "metrics", "color": "#3E72E7", "value": value}


def _downstream_metric(full: str) -> dict[str, Any]:
    evaluation, part, subset, metric = full.split("/", 3)
    return _metric(metric, {"evaluation": evaluation, "part": part, "subset": subset})


# -- the server ------------------------------------------------------------------------------------------------------


def serve(
    directory: Path,
    host: str = "127.0.0.1",
    port: int = 0,
    open_browser: bool = False,
    wait: bool = True,
    say: Callable[[str], None] = print,
) -> subprocess.Popen[bytes] | None:
    """Show the sweep until Ctrl-C; with `wait` False return the running server (end it with `stop`).

    Args:
        port: 0 = Aim's 43800 where it is free, else any free one.

    Raises:
        TrackingError: no Aim repository, a host that is not this machine, a port in use, or Aim does not start.
    """
    if host not in LOOPBACK:
        raise TrackingError(f"host {host}: Aim has no login; stay on 127.0.0.1 and reach it by a tunnel (ssh -L)")
    require(directory)
    running = ui_address(directory)
    if running:
        raise TrackingError(f"{directory}: is shown already at {running}")
    port = _port(host, port)
    address = f"http://{host}:{port}"
    process = _start(directory, host, port)
    try:
        _await(directory, process, address, say)
        saved = publish(address, views(load(directory)))
        (directory / FOLDER / UI).write_text(json.dumps({"process": process.pid, "address": address}))
    except BaseException:
        stop(directory, process)
        raise
    for name, place in saved.items():
        say(f"  {name}: {place}")
    say(f"Aim shows {directory} at {address}/bookmarks (Ctrl-C ends it)")
    if open_browser:
        webbrowser.open(next(iter(saved.values()), address))
    if wait:
        _stay(directory, process)
        return None
    return process


def stop(directory: Path, process: subprocess.Popen[bytes]) -> None:
    """End the server and the processes it started."""
    (directory / FOLDER / UI).unlink(missing_ok=True)
    for kind in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, kind)
            process.wait(timeout=5)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _stay(directory: Path, process: subprocess.Popen[bytes]) -> None:
    def end(number: int, frame: object) -> None:
        raise KeyboardInterrupt  # the server must not outlive a `kill` of this command

    previous = signal.signal(signal.SIGTERM, end)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            process.wait()
    finally:
        signal.signal(signal.SIGTERM, previous)
        stop(directory, process)


def _port(host: str, port: int) -> int:
    for candidate in (port,) if port else (PORT, 0):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise TrackingError(f"port {port} is in use; leave it out to take a free one")


def _start(directory: Path, host: str, port: int) -> subprocess.Popen[bytes]:
    folder = (directory / FOLDER).resolve()
    command = [*AIM, "up", "--repo", str(folder), "--host", host, "--port", str(port), "--yes"]
    with (folder / "ui.log").open("wb") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=folder, start_new_session=True
        )


def _await(directory: Path, process: subprocess.Popen[bytes], address: str, say: Callable[[str], None]) -> None:
    begin = said = time.monotonic()
    while time.monotonic() - begin < PATIENCE:
        if process.poll() is not None:
            lines = (directory / FOLDER / "ui.log").read_text(errors="replace").strip().splitlines()
            raise TrackingError(f"Aim ended while starting: {lines[-1] if lines else 'without a word'}")
        try:
            call(f"{address}/api/projects/")
            return
        except OSError:
            time.sleep(0.2)
        if time.monotonic() - said > 5:
            said = time.monotonic()
            say(f"Aim is starting ({said - begin:.0f} s)")
    raise TrackingError(f"Aim did not answer within {PATIENCE:.0f} s; {directory / FOLDER / 'ui.log'} says why")


def call(url: str, body: dict[str, Any] | None = None, method: str = "") -> Any:
    """One request to the interface's API, never through a proxy; the decoded JSON.

    Raises:
        OSError: no answer, or an HTTP error.
    """
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method or None)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        return json.loads(answer.read() or "null")


def publish(address: str, wanted: list[View]) -> dict[str, str]:
    """Save the views in the interface at `address`, each once; name -> URL."""
    known = {entry["name"]: entry for entry in call(f"{address}/api/dashboards/")}
    places = {}
    for view in wanted:
        body = {"type": view.explorer, "state": view.state}
        app = known.get(view.name, {}).get("app_id")
        if app:
            call(f"{address}/api/apps/{app}/", body, "PUT")
        else:
            app = call(f"{address}/api/apps/", body)["id"]
            call(f"{address}/api/dashboards/", {"name": view.name, "description": "made by sweep ui", "app_id": app})
        places[view.name] = f"{address}/{view.explorer}/{app}"
    return places
