"""(a) What one more trial costs, against the usual nesting; (b) how busy the slots are; (f) how cost grows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benches.rows import Row
from benches.sweeps import begun, clocked, events, no_op
from sweep.aim_writer import TrackingError, summary
from sweep.records import load
from sweep.run import run
from sweep.spec import Sweep
from sweep.tracking import rebuild
from trainables.core.config import resolve
from trainables.core.fit import Silent, fit

NESTED_LIMIT = 600  # seconds, for all nested trials
AIM_LIMIT = 180


def timed(sweep: Sweep, directory: Path, track: bool) -> float:
    """Wall seconds of one whole sweep."""
    begin = time.perf_counter()
    run(sweep, directory, quiet=True, track=track, say=lambda line: None)
    return time.perf_counter() - begin


# -- (a) -------------------------------------------------------------------------------------------------------------


def marginal(small: int, large: int, track: bool) -> float:
    """Seconds of wall time for one more Tune trial: two sweeps of no-op pretrainings with one evaluation each."""
    with tempfile.TemporaryDirectory() as name:
        timed(no_op(2), Path(name) / "warm", track)  # Ray starts, and what is imported once is imported
        seconds = [timed(no_op(count), Path(name) / str(count), track) for count in (small, large)]
    return (seconds[1] - seconds[0]) / (2 * (large - small))


def nested(trials: int) -> float:
    """Seconds of wall time of one trial that starts a worker group, in a process and with a Ray of its own."""
    command = [sys.executable, str(Path(__file__).with_name("nested.py")), str(trials)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        output, _ = process.communicate(timeout=NESTED_LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    if process.returncode:
        raise RuntimeError(f"the nested trials failed with status {process.returncode}")
    return float(json.loads(output.strip().splitlines()[-1])["seconds_per_trial"])


def measure_marginal(small: int = 10, large: int = 100, trials: int = 4) -> list[Row]:
    """The promise in seconds, and against nesting."""
    usual = nested(trials)
    with_aim, without = marginal(small, large, track=True), marginal(small, large, track=False)
    beside = f"{small} and {large} pretrainings with an evaluation each, Aim written; {without:.3f} s without Aim"
    return [
        Row("a, one more trial", with_aim, "s", "< 0.5", beside),
        Row("a, against nesting", usual / with_aim, promise=">= 20",
            beside=f"{usual:.1f} s for a Tune trial that starts a TorchTrainer with one worker, two at a time"),
    ]  # fmt: skip


# -- (b) -------------------------------------------------------------------------------------------------------------


def measure_efficiency(trials: int = 20, seconds: float = 10.0) -> list[Row]:
    """Compute of pretrainings of about `seconds` each, over slots x wall time."""
    epochs, alone = _calibrate(seconds)
    with tempfile.TemporaryDirectory() as name:
        directory, begin = Path(name) / "sweep", time.time()
        run(_busy(trials, epochs), directory, quiet=True, say=lambda line: None)
        records = load(directory)
        ends = [end for end in events(directory, "end") if records.trials[end["id"]].stage == "pretrain"]
        compute = sum(epoch["seconds"] for end in ends for epoch in records.progress(end["id"]))
        held = sum(trial.seconds for trial in records.trials.values() if trial.stage == "pretrain") - compute
        judged = sum(trial.seconds for trial in records.trials.values() if trial.stage != "pretrain")
    first, last, slots = min(map(begun, ends)), max(end["time"] for end in ends), os.cpu_count() or 1
    efficiency = compute / (slots * (last - first))
    beside = (
        f"{len(ends)} pretrainings of {compute / len(ends):.1f} s ({alone * epochs:.1f} s alone) in {slots} slots, "
        f"{last - first:.0f} s from the first step; {first - begin:.0f} s before it. Not counted as compute: "
        f"{held:.1f} s of opening and saving, {judged:.1f} s of judging"
    )
    return [Row("b, busy slots", efficiency, "of 1", ">= 0.85", beside)]


def _busy(trials: int, epochs: int) -> Sweep:
    """SimCLR on digits, judged by the cheapest evaluation there is."""
    train = {"epochs": epochs, "warmup_epochs": 0, "batch_size": 128, "checkpoint_every": epochs}
    return Sweep.model_validate(
        {
            "name": "busy",
            "method": "simclr",
            "data": "digits",
            "base": {
                "method": {"encoder": {"name": "narrow_cifar10_resnet8"}},
                "views": {"tx": ["sca", "rot"]},
                "train": train,
            },
            "space": {"method.temperature": {"kind": "float", "low": 0.05, "high": 0.5}},
            "objectives": ["max collapse/all/val/effective_rank"],
            "evals": ["collapse"],
            "budget": {"trials": trials},
            "search": {"sampler": "random"},
        }
    )


def _calibrate(seconds: float) -> tuple[int, float]:
    """(epochs that take about `seconds`, seconds of one epoch when nothing else runs)."""
    config: dict[str, Any] = _busy(1, 5).base | {"data": {"name": "digits"}}
    config["method"] = {"name": "simclr", **config["method"]}
    threads, listener = torch.get_num_threads(), Silent()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        fit(resolve(config), None, Path(folder), listener)
    torch.set_num_threads(threads)
    alone = min(epoch["seconds"] for epoch in listener.epochs)
    return max(1, round(seconds / alone)), alone


# -- (f) -------------------------------------------------------------------------------------------------------------


def measure_scale(pairs: int = 500, aim: bool = True) -> list[Row]:
    """Cost of a trial at the end of a long sweep against its beginning, without the sampler."""
    part = pairs // 5
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "sweep"
        with clocked() as clock:
            timed(no_op(pairs, sampler="auto"), directory, track=False)
        runs = _aim_runs(directory) if aim else ""
    first, last = clock.window(1, part), clock.window(pairs - part, pairs)
    cost = [(spent - sampler) / (2 * trials)
            for (spent, sampler), trials in ((first, part - 1), (last, part))]  # fmt: skip
    memory = ", ".join(f"{clock.told[number - 1][2]:.0f}" for number in (part, 3 * part, pairs))
    beside = (
        f"{pairs} pretrainings with an evaluation each; {1000 * cost[0]:.0f} ms a trial at first, {1000 * cost[1]:.0f} "
        f"at last; sampler {1000 * first[1] / (part - 1):.0f} and {1000 * last[1] / part:.0f} ms a configuration, "
        f"not counted; driver {memory} MB at {part}, {3 * part}, {pairs}{runs}"
    )
    return [Row("f, last trials against first", cost[1] / cost[0], promise="< 1.5", beside=beside)]


def _aim_runs(directory: Path) -> str:
    """How many Aim runs the records make, and how long that takes."""
    begin = time.perf_counter()

    def in_time(done: int, total: int) -> None:
        if time.perf_counter() - begin > AIM_LIMIT:
            raise TimeoutError(f"{done} of {total} runs")

    try:
        rebuild(directory, load(directory), in_time)
    except TrackingError as error:
        return f"; Aim stopped after {AIM_LIMIT} s ({error})"
    spent = time.perf_counter() - begin
    expected = sum(trial.stage != "features" for trial in load(directory).trials.values())
    return f"; {len(summary(directory))} of {expected} runs in Aim, rebuilt in {spent:.0f} s"
