"""What is written into an Aim repository and read from it: one run a page, by whoever owns the sweep.

Importing this module is cheap; Aim itself is imported when something is written or read.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import math
import os
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from datasets.atomic import replacing
from sweep.pages import Page, plotly_json
from sweep.records import Records

FOLDER = "aim"
WRITTEN = "runs.json"
UI = "ui.json"
TEXT_LIMIT = 200_000  # characters of a table or text shown in Aim; the file itself stays in the sweep's folder
STATUSES = {"waiting", "running", "finished", "failed", "stopped"}

Points = list[tuple[int, Mapping[str, Any]]]


class TrackingError(RuntimeError):
    """Aim's repository cannot be read or written; one line with the reason and the remedy."""


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
