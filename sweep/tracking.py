"""Aim as a view of a sweep: one run per pretraining and evaluation, written beside the sweep, rebuilt from its folder.

What a run shows is its `Page` (`sweep/pages.py`), made from the records on the driver's thread; the run's hash is the
trial's id. Writing a page again changes nothing, so the live writer, a resumed sweep and `rebuild` share one path.
`DIR/aim/runs.json` says what was written of each trial: what a kill, a full queue or a locked repository kept back is
made up for at the sweep's next session or at its end.

Importing this module is cheap; Aim itself is imported by the thread that writes.
"""

from __future__ import annotations

import contextlib
import json
import queue
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sweep.aim_writer import FOLDER, Points, TrackingError, Writer, ui_address
from sweep.ledger import Event
from sweep.pages import Page, pages
from sweep.records import MANIFEST, Records

INTERVAL = 10.0  # seconds between two writings of the same run; an open and close costs Aim about 0.1 s
SAVE = 30.0  # seconds between two writings of the list of all runs
RETRY = 30.0  # seconds until a locked or full repository is tried again
STALL = 120.0  # seconds without a page written after which the end is no longer waited for
CAPACITY = 10_000  # updates waiting for the writer
CONCERNS_A_TRIAL = {"start", "drop_checkpoint", "end", "retry"}
CONCERNS_A_CONFIGURATION = {"verdict", "told", "reopen"}
CONCERNS_ALL = {"session", "done"}
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
                concerned = _concerned(records, event)
                if concerned is None or concerned[0]:
                    self._put(pages(records, *(concerned or ())))
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
            self._put([_summary(name, figures)])
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


def _summary(name: str, figures: Mapping[str, Any]) -> Page:
    params = {"sweep": {"name": name, "stage": "summary"}}
    return Page("summary", f"summary of {name}", name, ("summary",), params, figures=figures, ended=time.time())


def _concerned(records: Records, event: Event) -> tuple[set[str], set[int] | None] | None:
    """The trials whose pages an event changes, and for which configurations, None = all; None = every page."""
    kind = event["event"]
    if kind in CONCERNS_A_TRIAL and event["id"] in records.trials:
        trial = records.trials[event["id"]]
        if trial.parent and trial.stage == "evaluation":
            return {trial.id, trial.parent}, set(records.owners.get(trial.id, ())) or None
        return {trial.id}, None
    if kind in CONCERNS_A_CONFIGURATION:
        return set(records.configurations[event["number"]].trials), {event["number"]}
    return None if kind in CONCERNS_ALL else (set(), None)


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


def rebuild(
    directory: Path,
    records: Records,
    progress: Callable[[int, int], None] = lambda done, total: None,
    figures: Mapping[str, Any] | None = None,
) -> int:
    """Write the whole repository again from the folder and put it in the place of the old one; the number of runs.

    Views saved by hand in the UI are kept.

    Args:
        progress: called with (done, total) after each run. figures: of the sweep as a whole, plotly's by name.

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
        todo = [*pages(records), *([_summary(str(records.spec["name"]), figures)] if figures else [])]
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
