"""Run, resume, extend and retry a sweep: from a name or a folder to a folder with all its results."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets.config import ConfigError
from sweep.console import Watch
from sweep.folder import create, default_directory, lock, sweep_of, write_manifest
from sweep.records import LEDGER, MANIFEST, Records, load
from sweep.space import check_point
from sweep.spec import Sweep, load_sweep, settings_of, with_settings

Say = Callable[[str], None]
AIM_PATIENCE = 900.0  # seconds in which Aim may write what waits at the end; 0.13 s a run were measured


def run(
    sweep: str | Sweep,
    directory: str | Path | None = None,
    *,
    sets: Sequence[str] = (),
    smoke: bool = False,
    data_root: str | Path | None = None,
    address: str | None = None,
    reuse: str | Path | None = None,
    warm: str | Path | None = None,
    track: bool = True,
    quiet: bool = False,
    say: Say = print,
) -> Path:
    """Plan and run a sweep (its name, a file, or a `Sweep`) to its end; its folder.

    Running the same sweep in the same folder again takes it up where it is.

    Args:
        sets: settings as the command line has them. reuse: a sweep whose equal finished trials are taken over.
        warm: a sweep whose measured points the sampler learns from.

    Raises:
        ConfigError, DataError, Busy: one line; nothing was started or written then.
    """
    from sweep.search import warm_points

    asked = load_sweep(sweep, sets, smoke) if isinstance(sweep, str) else sweep.checked()
    where = Path(directory) if directory else default_directory(asked, Path("runs"))
    options: dict[str, Any] = {"data_root": _absolute(data_root), "address": address, "track": track}
    beside = [Path(sweep).parent] if isinstance(sweep, str) and sweep.endswith((".yaml", ".yml", ".py")) else []
    options["modules"] = [str(folder.resolve()) for folder in (*beside, Path.cwd())]  # where a user's modules lie
    base = asked.storage or os.environ.get("SWEEP_STORAGE", "")
    options["storage"] = f"{base.rstrip('/')}/{where.resolve().name}" if base else ""
    options["reuse"] = str(load(reuse).directory.resolve()) if reuse else None
    options["warm"] = warm_points(asked, load(warm)) if warm else []  # copied: a resumed search must know the same
    plan = _plan(asked, data_root)
    for line in plan.describe() if not quiet else ():
        say(line)
    if address is None:
        from sweep.plan import local_resources

        plan.check_resources(local_resources())
    begun = (where / MANIFEST).exists()
    if address is not None and not begun:
        _joined(plan, address, say)  # before there is a folder: what is refused leaves none
    records = create(where.resolve(), asked, options)
    if begun:  # it may have been extended since, which its folder knows
        return resume(where, quiet=quiet, say=say, data_root=options["data_root"], address=address)
    if not quiet:
        other = (
            "" if directory or where.name == asked.name else f" (runs/{asked.name} holds another sweep of this name)"
        )
        say(f"  folder    {where}{other}")
    return _drive(plan, records, options, quiet=quiet, say=say)


def resume(
    directory: str | Path,
    *,
    retry_failed: bool = False,
    enqueue: Sequence[dict[str, Any]] = (),
    quiet: bool = False,
    say: Say = print,
    **changed: Any,
) -> Path:
    """Take up the sweep in a folder; with a changed data root or address if given. A finished one is left as it is.

    Raises:
        NotASweep, ConfigError, DataError, Busy: one line.
    """
    records = load(directory)
    records.directory = records.directory.resolve()
    options = {**records.manifest["options"], **{key: value for key, value in changed.items() if value is not None}}
    _find_modules(options)
    plan = _plan(sweep_of(records), options["data_root"])
    return _drive(plan, records, options, retry_failed=retry_failed, enqueue=enqueue, quiet=quiet, say=say)


def extend(
    directory: str | Path,
    *,
    trials: int = 0,
    evaluations: Sequence[str] = (),
    sets: Sequence[str] = (),
    enqueue: Sequence[dict[str, Any]] = (),
    quiet: bool = False,
    say: Say = print,
) -> Path:
    """More of the same sweep: further configurations, further evaluations of every checkpoint, another objective.

    Raises:
        ConfigError: a change that would make the results so far those of another sweep.
    """
    records = load(directory)
    old = sweep_of(records)
    settings: dict[str, Any] = {}
    if trials or enqueue:
        settings["budget.trials"] = max(old.budget.trials, len(records.configurations)) + trials + len(enqueue)
    for name in evaluations:
        if name in old.evals:
            raise ConfigError(f"--evaluation {name}: is in this sweep already")
        settings[f"evals.{name}"] = {}
    changed = with_settings(old, settings, "extend")
    if sets:
        changed = with_settings(changed, settings_of(sets), "--set")
    for key, evaluation in old.evals.items():
        if changed.evals.get(key) != evaluation:
            raise ConfigError(
                f"extend: evals.{key} cannot change, results of it are there; add another under a new key"
            )
    for field in ("method", "data", "base", "seeds", "seed"):
        if getattr(changed, field) != getattr(old, field):
            raise ConfigError(f"extend: {field} cannot change, the results so far depend on it; run a new sweep")
    for number, configuration in records.configurations.items():
        check_point(changed.space, configuration.params, f"extend: configuration #{number}")
    points = [check_point(changed.space, point, "--point") for point in enqueue]
    options = records.manifest["options"]
    _find_modules(options)
    plan = _plan(changed.checked(), options["data_root"])
    with lock(records.directory):
        asked = Sweep.model_validate(records.manifest["asked"])
        write_manifest(records.directory, asked, changed, options)
    records = load(Path(directory).resolve())
    return _drive(plan, records, options, enqueue=points, quiet=quiet, say=say)


def _find_modules(options: dict[str, Any]) -> None:
    """Let the user's own modules be found as they were when the sweep was begun."""
    sys.path.extend(folder for folder in options.get("modules", ()) if folder not in sys.path)


def _plan(sweep: Sweep, data_root: str | Path | None) -> Any:
    from sweep.plan import Plan  # imports torch, which costs seconds that `--help` should not

    return Plan(sweep, root_of(data_root))


def root_of(data_root: str | Path | None, made: bool = False) -> Path | None:
    """Where the data are: as given, else $SWEEP_DATA, else nowhere (some data sets need no folder).

    Args:
        made: it may be missing, as what is fetched makes it.

    Raises:
        ConfigError: what was given is no folder; some data sets would else be generated in place of the user's.
    """
    if data_root and not made and not Path(data_root).is_dir():
        raise ConfigError(f"--data-root {data_root}: no such folder")
    root = data_root or os.environ.get("SWEEP_DATA")
    return Path(root).resolve() if root else None


def _absolute(path: str | Path | None) -> str | None:
    return str(Path(path).resolve()) if path else None


def _drive(
    plan: Any,
    records: Records,
    options: dict[str, Any],
    *,
    retry_failed: bool = False,
    enqueue: Sequence[dict[str, Any]] = (),
    quiet: bool = False,
    say: Say = print,
) -> Path:
    directory = records.directory
    if records.finished and not retry_failed and not enqueue and not _unfinished(plan, records):
        say(f"{directory.name}: is finished already, nothing to do; `sweep extend` asks for more")
        return directory
    others = load(options["reuse"]) if options.get("reuse") else None
    with lock(directory):
        (directory / "stop").unlink(missing_ok=True)
        from sweep.driver import Driver, Setting
        from sweep.tracking import Tracker

        slots = _joined(plan, options.get("address"), say)
        fresh = Records(directory, records.manifest)
        for event in _events(directory):
            fresh.apply(event)
        watch = Watch(fresh, slots, quiet)
        store = _store(options)
        own = None if store else directory / "cache"  # of a bucket each node keeps a copy of its own
        cache = Path(os.environ["SWEEP_CACHE"]).resolve() if "SWEEP_CACHE" in os.environ else own
        tracker = Tracker(directory, bool(options.get("track", True)), on_problem=lambda text: driver.warn("Aim", text))
        driver = Driver(
            plan, fresh, Setting(directory, plan.root, cache, store), tracker, watch, others, options.get("warm", ())
        )
        driver.graph.enqueue(enqueue)
        patience = AIM_PATIENCE
        try:
            if retry_failed:
                again = driver.graph.retry_failed()
                say(f"{again} failed trials are tried again") if not quiet else None
            driver.run()
            if fresh.finished and options.get("track", True):
                from analysis.report import figures

                tracker.figures(figures(fresh))
        except KeyboardInterrupt:
            patience = 5.0
            raise
        finally:
            watch.close()
            tracker.close(patience)
            driver.close()
    return directory


def _joined(plan: Any, address: str | None, say: Say) -> int:
    """How many trials fit at once on the cluster, or this machine, where Ray is started or joined.

    Raises:
        ConfigError: there is no cluster at the address, or a trial fits nowhere.
    """
    from sweep import cluster
    from sweep.capacity import Capacity

    cluster.connect(address, dashboard=plan.sweep.resources.workers > 1, say=say)
    found = Capacity()
    slots: int = plan.check_resources(found.total(), None if found.elastic else found.nodes())
    return slots


def _store(options: dict[str, Any]) -> str:
    """URL of the sweep's place in a bucket or on a mount, "" for its own folder.

    Raises:
        ConfigError: it cannot be written to.
    """
    url = options.get("storage") or ""
    if url:
        from trainables.core.store import probe

        problem = probe(url)
        if problem:
            raise ConfigError(f"storage {url}: cannot be used ({problem})")
    return url


def _events(directory: Path) -> Any:
    from sweep.ledger import read

    return read(directory / LEDGER)


def _unfinished(plan: Any, records: Records) -> bool:
    """Whether a finished sweep was extended since: more trials, or evaluations that its trials do not have."""
    if len(records.configurations) < plan.sweep.budget.trials:
        return True
    names = {trial.name for trial in records.trials.values() if trial.stage == "evaluation"}
    return not set(plan.sweep.evals) - set(plan.skipped) <= names
