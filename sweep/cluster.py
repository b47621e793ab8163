"""Ray, started or joined: the only places where the driver touches a cluster as a whole."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datasets.config import ConfigError
from sweep import auth

SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # the records are ours; three loggers a trial are not needed
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",  # nothing is ever restored from Tune's own state
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_OVERRIDE_JOB_RUNTIME_ENV": "1",  # of a submitted job: its environment and ours are joined, not refused
}


def connect(address: str | None, dashboard: bool, cpus: int | None = None, say: Callable[[str], None] = print) -> None:
    """Start Ray on this machine, or join the cluster at `address`; a Ray that runs in this process already is used.

    Args:
        dashboard: needed where worker groups run, whose resources are given back only with it.
        cpus: of this machine to use; None = all.

    Raises:
        ConfigError: there is no cluster at the address, or one that must not be joined (see `auth.prepare`).
    """
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    import ray

    if ray.is_initialized():
        return
    auth.prepare(address, say)
    options: dict[str, Any] = {
        "log_to_driver": False,
        "logging_level": logging.ERROR,
        "runtime_env": {"env_vars": _environment(address)},
    }
    if address is not None:
        options["address"] = address
    else:
        # "local": never join a cluster that happens to run here, or that $RAY_ADDRESS names
        options.update(address="local", num_cpus=cpus, include_dashboard=dashboard, dashboard_host="127.0.0.1")
    for attempt in range(3):
        try:
            ray.init(**options)
            return
        except ConnectionError as error:
            if address is not None:
                raise ConfigError(f"--address {address}: no Ray cluster answers there ({_first_line(error)})") from None
            _wait(attempt, error, say)
        except (RuntimeError, TimeoutError, OSError) as error:  # a busy machine is slow to start Ray's own processes
            _wait(attempt, error, say)
    raise ConfigError("Ray did not start on this machine in three attempts; `sweep doctor` looks for the cause")


def _wait(attempt: int, error: Exception, say: Callable[[str], None]) -> None:
    import ray

    ray.shutdown()
    say(f"Ray did not start ({_first_line(error)}); waiting {10 * (attempt + 1)} s and trying again")
    time.sleep(10 * (attempt + 1))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]


def _environment(address: str | None) -> dict[str, str]:
    """What workers need to see: the user's module folders, the cache, and whether to show the token they have."""
    folders = [path for path in sys.path if path and not path.startswith(sys.base_prefix) and Path(path).is_dir()]
    folders = [path for path in folders if "site-packages" not in path]
    found = {"PYTHONPATH": os.pathsep.join(dict.fromkeys(folders)), **SETTINGS}
    for name in ("SWEEP_CACHE", "SWEEP_DATA", auth.MODE):
        if name in os.environ:
            found[name] = os.environ[name]
    if address not in (None, "auto", "local"):
        found["RAY_ADDRESS"] = str(address)
    return found
