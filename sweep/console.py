"""What a running sweep shows on the terminal: a line for each event that matters, and one status line all the time."""

from __future__ import annotations

import sys
import time
from collections import Counter
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from sweep.records import Configuration, Records, Trial

if TYPE_CHECKING:
    from rich.status import Status

EVERY, UNCHANGED = 10.0, 120.0  # seconds between status lines where the output is no terminal: others, and the same


class _Console(Console):
    """A console whose reader may go away, which ends nothing but the output."""

    def on_broken_pipe(self) -> None:
        with suppress(SystemExit):
            super().on_broken_pipe()


class Watch:
    """Prints the events of a driver. Usable as its `watch` argument."""

    def __init__(self, records: Records, slots: int, quiet: bool = False) -> None:
        self.records, self.slots, self.quiet = records, slots, quiet
        self.console = _Console(highlight=False, soft_wrap=True)
        self.began = self.printed = time.monotonic()
        self.finished_before, self.standing = self._over(), ""
        self._status: Status | None = None
        if sys.stdout.isatty() and not quiet:
            self._status = self.console.status("starting")
            self._status.start()

    def __call__(self, driver: Any, event: dict[str, Any]) -> None:
        """Show one event, if it matters."""
        show = getattr(self, f"_on_{event['event']}", None)
        if show is not None and not self.quiet:
            show(event)

    def close(self) -> None:
        """Take the status line away."""
        with suppress(OSError):
            if self._status is not None:
                self._status.stop()

    def _on_told(self, event: dict[str, Any]) -> None:
        configuration = self.records.configurations[event["number"]]
        self.say(describe(self.records, configuration))

    def _on_end(self, event: dict[str, Any]) -> None:
        trial = self.records.trials[event["id"]]
        if event.get("failure"):
            again = "tried again" if trial.status == "waiting" else "given up"
            self.say(f"[red]{label(self.records, trial)} failed, {again}:[/] {escape(event['reason'])}")
        elif event.get("kind") == "lost":
            self.say(f"[yellow]{label(self.records, trial)} goes on elsewhere:[/] {escape(event['reason'])}")

    def _on_warning(self, event: dict[str, Any]) -> None:
        self.say(f"[yellow]note:[/] {escape(event['text'])}")

    def _on_interrupt(self, event: dict[str, Any]) -> None:
        self.say("stopping: running trials write a checkpoint after their epoch (once more to stop at once)")

    def _on_say(self, event: dict[str, Any]) -> None:
        self.say(f"[yellow]note:[/] {escape(event['text'])}")

    def _on_tick(self, event: dict[str, Any]) -> None:
        now = time.monotonic()
        if self._status is not None:
            self._status.update(self.line())
        elif now - self.printed > EVERY:
            line = self.line()
            standing = line.partition("; about ")[0]  # without the time that is left
            if standing != self.standing or now - self.printed > UNCHANGED:
                self.printed, self.standing = now, standing
                self.say(line)

    def say(self, text: str) -> None:
        """Print a line of markup; nothing from the time on when the output cannot be written any more."""
        try:
            self.console.print(text)
        except OSError:
            self.console.quiet = True

    def line(self) -> str:
        """Trials done, running, waiting; the best so far; the time left."""
        states = Counter(trial.status for trial in self.records.trials.values() if trial.stage != "features")
        told = sum(c.state != "running" for c in self.records.configurations.values())
        budget = self.records.spec["budget"]["trials"]
        parts = [
            f"{told}/{max(budget, len(self.records.configurations))} configurations",
            f"{states['finished']} trials done, {states['running']} running, {states['waiting']} waiting",
        ]
        if states["failed"]:
            parts.append(f"{states['failed']} failed")
        best = best_line(self.records)
        if best:
            parts.append(best)
        left = self._left(told, budget)
        if left:
            parts.append(left)
        return escape("; ".join(parts))

    def _over(self) -> int:
        """Configurations that are over and of which something was trained: not all was taken from another sweep."""
        trials = self.records.trials
        return sum(
            c.state != "running" and any(not trials[id_].origin for id_ in c.trials)
            for c in self.records.configurations.values()
        )

    def _left(self, told: int, budget: int) -> str:
        new = self._over() - self.finished_before
        if new < 2:
            return ""
        seconds = (time.monotonic() - self.began) / new * max(0, budget - told)
        return f"about {duration(seconds)} left"


def best_line(records: Records) -> str:
    """The best value of each objective so far."""
    done = [c for c in records.configurations.values() if c.values and (c.violation or 0) <= 0]
    if not done:
        return ""
    parts = []
    for index, objective in enumerate(records.objectives):
        pick = max if objective["direction"] == "max" else min
        value, number = pick((c.values[index], c.number) for c in done if index < len(c.values))
        parts.append(f"{objective['metric']} {value:.4g} (#{number})")
    return "best " + ", ".join(parts)


def describe(records: Records, configuration: Configuration) -> str:
    """A configuration that is over, in one line."""
    params = ", ".join(f"{key.removeprefix('method.')}={short(value)}" for key, value in configuration.params.items())
    head = f"#{configuration.number} {escape(params)}"
    if configuration.state != "complete":
        return f"{head}: [yellow]{configuration.state}[/] ({escape(configuration.reason)})"
    values = []
    for objective, value, spread in zip(
        records.objectives, configuration.values, configuration.spread or [0.0] * 99, strict=False
    ):
        around = f" ± {spread:.2g}" if spread else ""
        values.append(f"{objective['metric']} {value:.4g}{around}")
    infeasible = " (infeasible)" if (configuration.violation or 0) > 0 else ""
    return f"{head}: {', '.join(values)}{infeasible}"


def label(records: Records, trial: Trial) -> str:
    """A trial for a person: `linear of #3 seed 0 (1f0c...)`."""
    parent = records.trials.get(trial.parent or "", trial)
    of = "" if trial.stage == "pretrain" else f"{trial.name} of "
    return f"{of}#{trial.configuration} seed {parent.config.get('seed')} ({trial.id[:8]})"


def short(value: Any) -> str:
    """A parameter's value in few characters."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Seconds as `45 s`, `12 min` or `3.4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
