"""What is looked after while trials run: the hung are killed, those on a node that goes are sent elsewhere, and what a
worker group leaves behind is given back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sweep import nodes
from sweep.jobs import Job
from sweep.records import Stage
from sweep.watchdog import Watchdog

LOOK = 2.0  # seconds between looks at the cluster


class Guard:
    """Watches the trials that Tune runs.

    Attributes:
        verdicts: Tune's trial id -> why its process was killed, for whoever records its end.
    """

    def __init__(
        self,
        limits: Mapping[Stage, float],
        leave: Callable[[Job], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`limits`: seconds of silence per stage. `leave`: asks a trial to write a checkpoint and end."""
        self.watchdog = Watchdog(limits, clock)
        self.verdicts: dict[str, str] = {}
        self._leave, self._clock = leave, clock
        self._running: dict[str, tuple[Job, Any]] = {}  # Tune's trial id -> job, its process as Ray's actor
        self._groups: dict[str, str] = {}  # Tune's trial id -> placement group of its workers
        self._grouped = False  # whether there are worker groups at all
        self._told: set[str] = set()
        self._failed: dict[str, tuple[str, Any]] = {}  # Tune's trial id -> what Ray says, the process
        self._looked = -LOOK

    def begin(self, tune_id: str, job: Job, trial: Any, grouped: bool = False) -> None:
        """A process works on a job; `grouped`: it waits for a worker group, and is watched from its first word on."""
        # kept here, since Tune forgets the actor as soon as something goes wrong
        self._running[tune_id] = (job, trial.temporary_state.ray_actor)
        self._grouped |= grouped
        if not grouped:
            self.watchdog.begin(tune_id, job.stage)

    def heard(self, tune_id: str, group: str) -> None:
        """It reported; `group`: the placement group of its workers, if it said so."""
        self.watchdog.heard(tune_id)
        if group and tune_id in self._running:
            self._groups[tune_id] = group
            self.watchdog.begin(tune_id, self._running[tune_id][0].stage)

    def over(self, tune_id: str) -> None:
        """It has ended."""
        self.watchdog.over(tune_id)
        self._running.pop(tune_id, None)
        self._told.discard(tune_id)
        self._groups.pop(tune_id, None)
        self._failed.pop(tune_id, None)
        self.verdicts.pop(tune_id, None)

    def failed(self, trial: Any, actor: Any) -> None:
        """Tune says that a trial's process has failed, perhaps before it began; what Ray says of it stands in a file.

        `actor`: that process, None if it never was one.
        """
        said = ""
        with suppress(OSError, TypeError):  # there is no file, or no name of one
            said = Path(trial.error_file).read_text()
        self._failed[trial.trial_id] = (said, actor)

    def fate(self, tune_id: str) -> tuple[str, str]:
        """(kind of outcome, reason) of a process that ended without a word."""
        if tune_id in self.verdicts:
            return "died", self.verdicts.pop(tune_id)
        said = self._failed.get(tune_id, ("", None))[0]
        kind, reason = explain_death(said)
        # Ray hears of a closed connection first, whether a process or its whole node is gone
        if reason != NO_MEMORY and self.is_node_lost(tune_id, said, patience=1):
            return "lost", NODE_LOST
        return kind, reason

    def is_node_lost(self, tune_id: str, said: str, patience: float = 0) -> bool:
        """Whether the node is gone where its process was, by what was said of its end or since it does not answer.

        `patience`: seconds before the question, since a machine that goes down ends its processes one after another.
        """
        if explain_death(said)[0] == "lost":
            return True
        actor = self._actor(tune_id)
        node = nodes.node_of(actor) if actor is not None else ""
        return bool(node) and nodes.is_node_dead(node, patience)

    def place_of(self, tune_id: str) -> str:
        """The address of the node where its process is or was, "" if that is not known."""
        actor = self._actor(tune_id)
        return nodes.address_of(actor) if actor is not None else ""

    def _actor(self, tune_id: str) -> Any:
        running = self._running.get(tune_id, (None, None))[1]
        return running if running is not None else self._failed.get(tune_id, ("", None))[1]

    def look(self) -> None:
        """Act on what is wrong; called often, does something every `LOOK` seconds."""
        if self._clock() - self._looked < LOOK:
            return
        self._looked = self._clock()
        self._kill_hung()
        self._empty_leaving_nodes()
        self.reap()

    def reap(self) -> None:
        """Give back what worker groups leave behind that were killed, perhaps before they said a word."""
        for group in nodes.orphaned_groups() if self._grouped else ():
            nodes.give_back(group)

    def kill_all(self) -> set[str]:
        """End every process after Tune broke off; Tune's ids of those that were dead already."""
        actors = {tune_id: actor for tune_id, (_, actor) in self._running.items()}
        dead = {tune_id for tune_id, actor in actors.items() if actor is None or nodes.is_dead(actor)}
        for tune_id, actor in actors.items():
            if tune_id not in dead:
                nodes.kill(actor)
        nodes.give_back_all()
        return dead

    def _kill_hung(self) -> None:
        for tune_id, limit in self.watchdog.hung():
            job, actor = self._running[tune_id]
            what = "epoch_minutes" if job.stage == "pretrain" else "evaluation_minutes"
            self.verdicts[tune_id] = f"hung: silent for more than {limit / 60:g} min (limits.{what}), killed"
            if actor is not None:
                nodes.kill(actor)  # never handed to another trial: who hangs may hold a lock or a device

    def _empty_leaving_nodes(self) -> None:
        leaving = nodes.draining() if self._running else set()
        if not leaving:
            return
        for tune_id, (job, actor) in self._running.items():
            if tune_id in self._told or job.stage != "pretrain" or actor is None:
                continue  # evaluations are short, and begin again elsewhere if they do not make it
            group = self._groups.get(tune_id)
            places = nodes.nodes_of_group(group) if group else {nodes.node_of(actor)}
            if places & leaving:
                self._told.add(tune_id)
                self._leave(job)


NO_MEMORY = "out of memory: its process was killed because the memory of its node ran out"
NODE_LOST = "its node was lost (gone, cut off or taken away)"
OUT_OF_MEMORY = ("running low on memory", "out of memory", "outofmemory", "out_of_memory")
NODE_GONE = (
    "node has crashed", "node has died", "node is dead", "node died",
    "node was terminated", "was preempted",
)  # fmt: skip


def explain_death(text: str) -> tuple[str, str]:
    """(kind of outcome, reason) of a process that ended without a word, from what Ray says of it."""
    lower = text.lower()
    if any(sign in lower for sign in OUT_OF_MEMORY):
        return "died", NO_MEMORY
    if any(sign in lower for sign in NODE_GONE):
        return "lost", NODE_LOST
    last = next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
    said = f"; Ray says: {last[:200]}" if last else ""
    return "died", f"its process ended without a word (killed, or out of memory){said}"
