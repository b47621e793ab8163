"""The words of the dependency graph: what the plan hands to it, what it hands out, and how that came back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from sweep.records import Stage

Kind = Literal[
    "finished", "segment", "interrupted", "stopped", "error", "died", "lost", "storage", "diverged", "corrupt"
]
DIVERGED = "diverged: "  # begins the reason of a trial that would diverge again


@dataclass(frozen=True)
class Node:
    """One evaluation as the plan resolved it for a configuration's pretraining."""

    key: str
    name: str
    config: dict[str, Any]
    id_of: Callable[[str, int], str]  # (pretraining, epoch) -> trial id
    inputs: dict[str, str] = field(default_factory=dict)  # name of an evaluation it reads -> key of that one here
    requests: tuple[dict[str, Any], ...] = ()


class Blueprint(Protocol):
    """How the plan turns parameters into trials."""

    def pretraining(self, params: dict[str, Any], seed: int) -> tuple[str, dict[str, Any]]:
        """(trial id, resolved configuration)."""
        ...

    def refusal(self, params: dict[str, Any]) -> str:
        """Why a point of the space cannot be tried, in one line; "" if it can."""
        ...

    def evaluations(self, config: dict[str, Any], params: dict[str, Any]) -> list[Node]:
        """What judges the checkpoints of a pretraining, `config`, for a configuration with `params`."""
        ...

    def features_id(self, parent: str, epoch: int, requests: list[dict[str, Any]]) -> str: ...


@dataclass(frozen=True)
class Job:
    """One piece of work for one process. Paths are relative to the sweep's folder."""

    trial: str
    stage: Stage
    name: str
    attempt: int
    directory: str
    payload: dict[str, Any]


@dataclass
class Outcome:
    """How a job ended.

    Attributes:
        kind: "segment" = a pretraining reached the epoch it was sent to; "interrupted" = asked to stop, goes on at the
            next start; "stopped" = its configuration was stopped; "error" = raised; "died" = the process is gone;
            "lost" = its node is gone, and "storage" = nothing can be written, neither of which is the trial's fault;
            "diverged" = not finite or collapsed, no use in trying again; "corrupt" = `damaged` could not be read.
        damaged: checkpoints (relative paths) whose content does not match their checksum.
        log: its last lines, of a failure. node: where it ran.
    """

    kind: Kind
    reason: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    artifacts: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    damaged: tuple[str, ...] = ()
    log: tuple[str, ...] = ()
    node: str = ""
