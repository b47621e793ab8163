"""Aim as a view of a sweep: one run per pretraining and evaluation, written beside the sweep, rebuilt from its folder.

What a run shows is its `Page` (`sweep/pages.py`), made from the records on the driver's thread; the run's hash is the
trial's id. Writing a page again changes nothing, so the live writer, a resumed sweep and `rebuild` share one path.
`DIR/aim/runs.json` says what was written of each trial: what a kill, a full queue or a locked repository kept back is
made up for at the sweep's next session or at its end.

Importing this module is cheap; Aim itself is imported by the thread that writes.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import queue
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from datasets.atomic import replacing
from sweep.ledger import Event
from sweep.pages import Page, pages, plotly_json
from sweep.records import MANIFEST, Records

FOLDER = "aim"
INTERVAL = 10.0  # seconds between two writings of the same run; an open and close costs Aim about 0.1 s
SAVE = 30.0  # seconds between two writings of the list of all runs
WRITTEN = "runs.json"
UI = "ui.json"
RETRY = 30.0  # seconds until a locked or full repository is tried again
STALL = 120.0  # seconds without a page written after which the end is no longer waited for
CAPACITY = 10_000  # updates waiting for the writer
TEXT_LIMIT = 200_000  # characters of a table or text shown in Aim; the file itself stays in the sweep's folder
CONCERNS_A_TRIAL = {"start", "drop_checkpoint", "end", "retry"}
CONCERNS_A_CONFIGURATION = {"verdict", "told", "reopen"}
CONCERNS_ALL = {"session", "done"}
STATUSES = {"waiting", "running", "finished", "failed", "stopped"}
SIGNS = {
    "full": ("no space left", "disk is full", "quota exceeded"),
    "read-only": ("read-only", "readonly", "permission denied"),
    "locked": ("resource temporarily unavailable", "database is locked", "cannot acquire lock", "lock hold by"),
}
MEANING = {
    "full": "the disk is full",
    "read-only": "the folder cannot be written",
    "locked": "another process holds the repository",
    "absent": "not installed (pip install aim)",
    "late": "not everything was written in time",
    "overflow": "cannot keep up, updates were dropped and are made up for at the end",
    "failed": "something could not be written",
}

Points = list[tuple[int, Mapping[str, Any]]]


class TrackingError(RuntimeError):
    """Aim's repository cannot be read or written; one line with the reason and the remedy."""


# -- from pages to Aim -----------------------------------------------------------------------------------------------


class Writer:
    """Writes pages into one Aim repository; for one thread. Every method may raise whatever Aim raises."""

    def __init__(self, directory: Path, folder: Path) -> None:
        self.directory, self.folder = directory, folder
        self.written: dict[str, dict[str, Any]] = {}
        with contextlib.suppress(FileNotFoundError, ValueError):
            self.written = json.loads((folder / WRITTEN).read_text())
        self._repo: Any = None
        self._saved = -math.inf

    def write(self, page: Page, points: Points | None = None) -> None:
        """Bring Aim's run up to date with the page, and add `points` of a curve that is still growing."""
        known = self.written.get(page.run, {})
        state = {"page": page.digest(), "curve": self._curve_size(page) if page.ended else 0}
        if not points and all(known.get(key) == value for key, value in state.items()):
            return
        if page.ended and known.get("curve") != state["curve"]:
            points = [(int(entry["epoch"]), entry) for entry in Records(self.directory, {}).progress(page.run)]
        self._repo = self._repo or self._open()
        with self._repo.structured_db:  # one transaction instead of one a tag
            run = self._start(page)
            try:
                if known.get("page") != state["page"]:
                    self._describe(run, page)
                _track_curve(run, points or [])
            finally:
                self._finish(run, page)
        self.written[page.run] = {**state, "indexed": False}

    def save(self, interval: float = 0.0) -> None:
        """Note on disk what was written, unless that was done in the last `interval` seconds.

        What is missing there is written again at the next session.
        """
        if time.monotonic() - self._saved >= interval:
            with replacing(self.folder / WRITTEN) as temporary:
                temporary.write_text(json.dumps(self.written))
            self._saved = time.monotonic()

    def close(self) -> None:
        """Show all runs to queries, then release the repository."""
        if any(not state["indexed"] for state in self.written.values()):
            self._repo = self._repo or self._open()
            if not ui_address(self.directory):  # it indexes by itself, and would not survive a second one
                self._index([run for run, state in self.written.items() if not state["indexed"]])
            self.save()
        self.release()

    def release(self) -> None:
        """Give back every lock and file."""
        if self._repo is not None:
            self._repo.structured_db.engine.dispose()
            self._repo.close()
            self._repo = None

    def _curve_size(self, page: Page) -> int:
        path = self.directory / "trials" / page.run / "progress.jsonl"
        return path.stat().st_size if page.curve and path.exists() else 0

    def _open(self) -> Any:
        self.folder.mkdir(parents=True, exist_ok=True)
        inner = self.folder / ".aim"
        # Only one driver owns the sweep, so these are left over from one that was killed; Aim waits for them for ever
        # where the process id is in use again. A process that really writes still holds RocksDB's own lock.
        for stale in (inner / "locks").glob("*lock*"):
            stale.unlink(missing_ok=True)
        repo = _repository(self.folder, init=not (inner / "VERSION").exists())
        repo.run_exists = lambda run_hash: True  # Aim otherwise refuses a hash it did not draw itself
        return repo

    def _start(self, page: Page) -> Any:
        from aim import Run

        created = datetime.fromtimestamp(page.started or time.time(), UTC).replace(tzinfo=None)
        self._repo.request_props(page.run, False, created)
        return Run(
            page.run,
            repo=self._repo,
            system_tracking_interval=None,
            log_system_params=False,
            capture_terminal_logs=False,
        )

    def _describe(self, run: Any, page: Page) -> None:
        for key, value in page.params.items():
            run[key] = value
        if run.name != page.name:
            run.name, run.experiment = page.name, page.experiment
        tags = set(run.tags)
        for tag in (tags & STATUSES) - set(page.tags):
            run.remove_tag(tag)
        for tag in page.tags:
            if tag not in tags:
                run.add_tag(tag)
        for metric, value, epoch, context in page.metrics:
            run.track(value, name=metric, step=epoch, epoch=epoch, context=context)
        for name, path, epoch, context in page.artifacts:
            shown = _shown(self.directory / path)
            if shown is not None:
                run.track(shown, name=name, step=epoch, context=context)
        for name, figure in page.figures.items():
            run.track(_figure(figure), name=name, step=0)

    def _finish(self, run: Any, page: Page) -> None:
        """Close the run and its two databases at once: Aim itself waits for the garbage collector to do so."""
        databases = [self._repo.request_container(kind, page.run, read_only=False) for kind in ("meta", "seqs")]
        run.close()
        databases[0].tree().subtree(("meta", "chunks", page.run))["end_time"] = page.ended or None
        for database in databases:
            database.close()

    def _index(self, runs: list[str]) -> None:
        from aim.sdk.index_manager import RepoIndexManager

        class Indexer(RepoIndexManager):
            def __init__(self, repo: Any) -> None:  # without the observers: an inotify instance each, never given back
                self.repo, self.chunks_dir = repo, Path(repo.path) / "meta" / "chunks"
                self._corrupted_runs, self._watches = set(), {}

        indexer, index = Indexer(self._repo), self._repo._get_index_container("meta", 0)  # held open: four times faster
        for run in runs:
            indexer.index(run)
            self.written[run]["indexed"] = True
        index.close()


def _repository(folder: Path, init: bool = False) -> Any:
    """Aim's repository, in an object of its own (`Repo.from_path` keeps one that a rebuild has moved away)."""
    from aim import Repo
    from aim.ext.cleanup import AutoClean

    AutoClean._registered_with_atexit = True  # Aim's exit handler waits for ever where a last flush finds a full disk
    atexit.unregister(AutoClean.cleanup)
    return Repo(str(folder), init=init)


def require(directory: Path) -> None:
    """Raise `TrackingError` where the sweep has no Aim repository."""
    place = directory / FOLDER
    if not (place / ".aim" / "VERSION").exists():
        raise TrackingError(f"{place}: holds no Aim repository; `sweep track --rebuild {directory}` makes one")


def ui_address(directory: Path) -> str:
    """Where `sweep ui` shows this sweep at present; "" if it does not."""
    try:
        told = json.loads((directory / FOLDER / UI).read_text())
        os.kill(told["process"], 0)
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return str(told["address"])


def _track_curve(run: Any, points: Points) -> None:
    for epoch, entry in points:
        for name, value in entry.items():
            if name != "epoch" and isinstance(value, int | float):
                run.track(float(value), name=name, step=epoch, epoch=epoch, context={"stage": "pretrain"})


def _shown(path: Path) -> Any:
    """An artifact as Aim shows it; a damaged one as the reason, since it must not hide the numbers beside it."""
    try:
        return _as_aim(path)
    except (OSError, ValueError, TypeError) as error:
        import aim

        return aim.Text(f"{path.name} cannot be shown: {error}")


def _as_aim(path: Path) -> Any:
    """The Aim object for a file, by its suffix; None for what Aim cannot show or what is not there."""
    import aim

    kind = path.suffix.lower()
    if not path.is_file():
        return None
    if kind in (".png", ".jpg", ".jpeg", ".gif", ".webp"):
        return aim.Image(str(path), caption=path.name)
    if kind in (".wav", ".flac", ".mp3"):
        return aim.Audio(str(path), format=kind[1:], caption=path.name)
    if kind not in (".html", ".json", ".csv", ".md", ".txt"):
        return None
    text = path.read_text(errors="replace")
    figure = plotly_json(text) if kind in (".html", ".json") else None
    if figure is not None:
        return _figure(figure)
    cut = f"\n... {len(text) - TEXT_LIMIT} more characters in {path.name}" if len(text) > TEXT_LIMIT else ""
    return aim.Text(text[:TEXT_LIMIT] + cut)


def _figure(figure: Any) -> Any:
    """A plotly figure, or its JSON form, as Aim's."""
    import aim
    from plotly import graph_objects

    return aim.Figure(graph_objects.Figure(figure, skip_invalid=True))


# -- the driver's side -----------------------------------------------------------------------------------------------


class Tracker:
    """The one writer of the sweep's Aim repository: a thread behind a bounded queue. It never blocks and never raises.

    `on_problem` gets one line per kind of problem, on the thread that calls the tracker. All methods belong to the
    driver's thread; the records are read there only.
    """

    def __init__(
        self,
        directory: Path,
        enabled: bool = True,
        on_problem: Callable[[str], None] = print,
        interval: float = INTERVAL,
        capacity: int = CAPACITY,
    ) -> None:
        self._directory, self._on_problem, self._interval = directory, on_problem, interval
        self._queue: queue.Queue[list[Page] | tuple[str, int, dict[str, Any]] | None] = queue.Queue(capacity)
        self._problems: deque[str] = deque()
        self._reported: set[str] = set()
        self._pages: dict[str, Page] = {}
        self._points: dict[str, Points] = {}
        self._due: dict[str, float] = {}
        self._pause_until = 0.0
        self._written = 0
        self._absent = False
        self._thread = threading.Thread(target=self._work, name="aim", daemon=True) if enabled else None
        if self._thread:
            self._thread.start()

    def event(self, records: Records, event: Event) -> None:
        """Take note of an event that was just folded into `records`."""
        if self._thread:
            try:
                only = _concerned(records, event)
                if only is None or only:
                    self._put(pages(records, only))
            except Exception as error:  # a view must not end a sweep
                self._problem("failed", error)
        self._deliver()

    def progress(self, trial_id: str, epoch: int, metrics: Mapping[str, Any]) -> None:
        """One epoch of a running pretraining."""
        self._put((trial_id, epoch, dict(metrics)))
        self._deliver()

    def figures(self, figures: Mapping[str, Any]) -> None:
        """Show the sweep's analysis (plotly figures by name) on a run of its own, "summary"."""
        try:
            name = str(json.loads((self._directory / MANIFEST).read_text())["sweep"]["name"])
            params = {"sweep": {"name": name, "stage": "summary"}}
            title = f"summary of {name}"
            self._put([Page("summary", title, name, ("summary",), params, figures=figures, ended=time.time())])
        except (OSError, ValueError, KeyError) as error:
            self._problem("failed", error)
        self._deliver()

    def close(self, timeout: float = 60.0) -> None:
        """Write what waits and give back Aim's locks; for `timeout` seconds at most, and while it gets on."""
        thread, self._thread = self._thread, None
        if thread:
            deadline = time.monotonic() + timeout
            with contextlib.suppress(queue.Full):
                self._queue.put(None, timeout=timeout)
            seen, since = self._written, time.monotonic()
            while thread.is_alive() and time.monotonic() < min(deadline, since + STALL):
                thread.join(0.2)
                if self._written != seen:
                    seen, since = self._written, time.monotonic()
            if thread.is_alive():  # on a full disk Aim was seen to wait for ever inside a write
                self._problem("late", TimeoutError(f"{time.monotonic() - deadline + timeout:.0f} s"))
        self._deliver()

    def _put(self, item: list[Page] | tuple[str, int, dict[str, Any]]) -> None:
        if self._thread:
            try:
                self._queue.put_nowait(item)
            except queue.Full:
                self._problem("overflow", OverflowError(f"{self._queue.maxsize} updates wait"))

    def _problem(self, kind: str, error: BaseException) -> None:
        if kind not in self._reported:
            self._reported.add(kind)
            self._problems.append(_line(kind, error, self._directory))

    def _deliver(self) -> None:
        while self._problems:
            self._on_problem(self._problems.popleft())

    # -- the writer's thread --

    def _work(self) -> None:
        writer: Writer | None = None
        going = True
        while going:
            going = self._collect()
            try:
                writer = writer or Writer(self._directory, self._directory / FOLDER)
                self._flush(writer, everything=not going)
                if not going:
                    writer.close()
            except Exception as error:  # Aim raises many kinds; the pages stay and are tried again
                self._absent = isinstance(error, ImportError)
                self._problem(kind_of(error), error)
                self._pause_until = time.monotonic() + RETRY
        if writer:
            writer.release()

    def _collect(self) -> bool:
        """Take from the queue until a page is due; False when the tracker is being closed."""
        while True:
            now = time.monotonic()
            due = max(min(self._due.values(), default=now + INTERVAL), self._pause_until)
            try:
                item = self._queue.get(timeout=max(0.0, due - now))
            except queue.Empty:
                return True
            if item is None:
                return False
            if not self._absent:
                self._merge(item, now)

    def _merge(self, item: list[Page] | tuple[str, int, dict[str, Any]], now: float) -> None:
        if isinstance(item, tuple):
            trial, epoch, metrics = item
            self._points.setdefault(trial, []).append((epoch, metrics))
            self._due.setdefault(trial, now + self._interval)
            return
        for page in item:
            self._pages[page.run] = page
            self._due.setdefault(page.run, now + self._interval)

    def _flush(self, writer: Writer, everything: bool) -> None:
        if self._absent:
            return
        now = time.monotonic()
        ready = [run for run, due in self._due.items() if everything or due <= now]
        for run in ready:
            page = self._pages.get(run)
            if page:
                self._write(writer, page)
                if page.ended:
                    del self._pages[run]
            self._points.pop(run, None)
            del self._due[run]
        if ready:
            writer.save(SAVE)

    def _write(self, writer: Writer, page: Page) -> None:
        self._written += 1
        try:
            writer.write(page, None if page.ended else self._points.get(page.run))
        except Exception as error:
            if kind_of(error) != "failed":
                raise  # the repository's trouble, not this page's: all pages wait
            self._problem("failed", error)


def _concerned(records: Records, event: Event) -> set[str] | None:
    """The trials whose pages an event changes; None = all."""
    kind = event["event"]
    if kind in CONCERNS_A_TRIAL and event["id"] in records.trials:
        trial = records.trials[event["id"]]
        return {trial.id} | ({trial.parent} if trial.parent and trial.stage == "evaluation" else set())
    if kind in CONCERNS_A_CONFIGURATION:
        return set(records.configurations[event["number"]].trials)
    return None if kind in CONCERNS_ALL else set()


def kind_of(error: BaseException) -> str:
    """full | read-only | locked | absent | failed."""
    if isinstance(error, ImportError):
        return "absent"
    text = f"{error}".lower()
    return next((kind for kind, signs in SIGNS.items() if any(sign in text for sign in signs)), "failed")


def _line(kind: str, error: BaseException, directory: Path) -> str:
    detail = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    remedy = f"`sweep track --rebuild {directory}` writes it from the records"
    return f"Aim: {MEANING[kind]}; the sweep is not affected, {remedy} ({detail})"


# -- the whole repository --------------------------------------------------------------------------------------------


def rebuild(directory: Path, records: Records, progress: Callable[[int, int], None] = lambda done, total: None) -> int:
    """Write the whole repository again from the folder and put it in the place of the old one; the number of runs.

    Views saved by hand in the UI are kept. `progress(done, total)` is called after each run.

    Raises:
        TrackingError: Aim is not installed, the folder is full or read-only, or the sweep is shown at present.
    """
    if ui_address(directory):
        raise TrackingError(f"{directory}: is shown at {ui_address(directory)}; end `sweep ui` before rebuilding")
    fresh, old, place = directory / "aim.new", directory / "aim.old", directory / FOLDER
    try:
        for left_over in (fresh, old):
            shutil.rmtree(left_over, ignore_errors=True)
        writer = Writer(directory, fresh)
        todo = pages(records)
        for done, page in enumerate(todo, 1):
            writer.write(page)
            progress(done, len(todo))
        writer.close()
        saved_views = place / ".aim" / "aim_db"
        if saved_views.exists():
            shutil.copy2(saved_views, fresh / ".aim" / "aim_db")
        if place.exists():
            place.rename(old)
        fresh.rename(place)
        shutil.rmtree(old, ignore_errors=True)
    except Exception as error:
        raise TrackingError(_line(kind_of(error), error, directory)) from error
    return len(todo)


def summary(directory: Path) -> list[dict[str, Any]]:
    """Every run as Aim's own query finds it, ordered by hash.

    Keys: run, name, experiment, tags, active, params (nested), metrics ([{"name", "context", "steps", "values"}, ...]),
    artifacts ([(kind, name), ...]).

    Raises:
        TrackingError: no repository there.
    """
    from aim import Repo
    from aim.sdk.types import QueryReportMode

    if not (directory / FOLDER / ".aim" / "VERSION").exists():
        raise TrackingError(
            f"{directory / FOLDER}: holds no Aim repository; `sweep track --rebuild {directory}` makes one"
        )
    repo: Any = Repo(str(directory / FOLDER))

    runs = [found.run for found in repo.query_runs("", report_mode=QueryReportMode.DISABLED).iter_runs()]
    return sorted((_row(run) for run in runs), key=lambda row: str(row["run"]))


def _row(run: Any) -> dict[str, Any]:
    kinds = ("images", "audios", "figures", "texts")
    metrics = []
    for metric in run.metrics():
        steps, (values, *_) = metric.data.view("val").items_list()
        metrics.append({"name": metric.name, "context": metric.context.to_dict(), "steps": steps, "values": values})
    return {
        "run": run.hash,
        "name": run.name,
        "experiment": run.experiment,
        "tags": sorted(run.tags),
        "active": run.active,
        "params": run[...],
        "metrics": sorted(metrics, key=lambda metric: (metric["name"], sorted(metric["context"].items()))),
        "artifacts": [
            (kind, found["name"])
            for kind, sequences in run.collect_sequence_info(kinds, skip_last_value=True).items()
            for found in sequences
        ],
    }
