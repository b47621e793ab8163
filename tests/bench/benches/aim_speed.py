"""How fast Aim's repository is written beside a sweep, and how fast its interface answers then."""

from __future__ import annotations

import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sweep import ui
from sweep.aim_writer import ui_address
from sweep.records import load
from sweep.run import run
from sweep.spec import Sweep

PAGE = 45  # runs that the interface asks for first


def measure(sweep: Sweep, directory: Path, address: str) -> dict[str, Any]:
    """Run a sweep that writes Aim, and open the interface on it."""
    begin = time.perf_counter()
    run(sweep, directory, address=address, quiet=True)
    whole = time.perf_counter() - begin
    trials = list(load(directory).trials)
    rate = {"runs": len(trials), "runs a second, the sweep included": len(trials) / whole}
    return rate | interface(directory, trials)


def interface(directory: Path, trials: list[str]) -> dict[str, float]:
    """Seconds of the interface: its start, its first page, and queries; how many runs it shows."""
    begin = time.perf_counter()
    server = ui.serve(directory, wait=False, say=lambda line: None)
    assert server is not None
    found = {"start of the interface, s": time.perf_counter() - begin}
    try:
        base = ui_address(directory)
        get(f"{base}/")
        search = f"{base}/api/runs/search/run/?exclude_traces=true&q="
        best = quote('run.sweep.stage == "pretrain" and run.downstream["good/all/val/score"] > 0.2')
        curves = quote('run.sweep.stage == "pretrain" and metric.name == "loss"')
        for name, url in {
            "first page, s": f"{search}&limit={PAGE}",
            "query over all runs, s": f"{search}{best}",
            "all runs with parameters, s": search,
            "all pretraining curves, s": f"{base}/api/runs/search/metric/?p=50&q={curves}",
        }.items():
            seconds, body = get(url)
            found[name] = seconds
            if url == search:
                found["runs shown"] = sum(trial.encode() in body for trial in trials)
    finally:
        ui.stop(directory, server)
    return found


def get(url: str) -> tuple[float, bytes]:
    """(seconds, whole answer)."""
    begin = time.perf_counter()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=600) as answer:
        body = answer.read()
    return time.perf_counter() - begin, body
