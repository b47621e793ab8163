"""Ray Tune as a thin executor: one experiment, whose search algorithm asks for the next job and hears how it went.

Nothing of Tune's own state is ever read again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from ray.tune import Callback, RunConfig, TuneConfig, Tuner, with_resources
from ray.tune.execution.placement_groups import PlacementGroupFactory
from ray.tune.search import Searcher

from sweep.records import Stage
from sweep.scheduler import NO_LIMIT, Newcomers
from trainables.core.worker import work


class Owner(Protocol):
    """What Tune talks to; `tune_id` is Tune's own name of a trial."""

    def suggest(self, tune_id: str) -> dict[str, Any] | str | None:
        """The next job as a configuration; None = nothing at present; `Searcher.FINISHED` = nothing any more."""
        ...

    def begun(self, tune_id: str, trial: Any) -> None: ...

    def heard(self, tune_id: str, result: dict[str, Any]) -> None: ...

    def ended(self, tune_id: str, result: dict[str, Any] | None) -> None: ...

    def tick(self) -> None: ...

    def guarded(self) -> AbstractContextManager[None]:
        """An exception in a search algorithm would kill the experiment."""
        ...


def run_tune(
    owner: Owner,
    storage: Path,
    needs: Mapping[Stage, dict[str, float]],
    workers: int,
    failed: Callable[[Any, Any], None],
) -> None:
    """Run one experiment until `owner` has nothing more to do.

    Args:
        storage: a folder for what Tune writes. needs: resources of one process, by stage.
        failed: is told of a trial with an error, and its process, before `owner` is.

    Raises:
        whatever breaks Tune itself; jobs are in the air then.
    """
    Tuner(
        with_resources(work, partial(request, needs, workers)),
        tune_config=TuneConfig(
            num_samples=-1, search_alg=Jobs(owner), scheduler=Newcomers(failed), max_concurrent_trials=NO_LIMIT,
            reuse_actors=workers == 1,  # a process that drives a worker group cannot be reused
        ),
        run_config=RunConfig(storage_path=str(storage), name="sweep", verbose=0, callbacks=[Ticks(owner)]),
    ).fit()  # fmt: skip


def request(needs: Mapping[Stage, dict[str, float]], workers: int, config: dict[str, Any]) -> PlacementGroupFactory:
    """What a trial asks of Tune."""
    stage = json.loads(config["job"])["stage"]
    if stage == "pretrain" and workers > 1:
        # the trial itself only waits for its worker group; {"CPU": 0} alone is refused by Ray
        return PlacementGroupFactory([{"CPU": 0, "memory": 1}])
    return PlacementGroupFactory([needs[stage]])


class Unpickled:
    """Tune pickles what it is given, to be able to restore it; nothing here is ever restored."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class Jobs(Unpickled, Searcher):
    """The jobs, as a search algorithm."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(metric=None, mode=None)  # a metric here would be demanded of every report
        self._owner = owner

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        return True

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        suggestion: Any = None
        with self._owner.guarded():
            suggestion = self._owner.suggest(trial_id)
        return suggestion  # type: ignore[no-any-return]  # Searcher.FINISHED is a string

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        with self._owner.guarded():
            self._owner.heard(trial_id, result)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        with self._owner.guarded():
            self._owner.ended(trial_id, result)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the ledger is the state."""


class Ticks(Unpickled, Callback):
    """Tune's loop as a clock."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._owner.begun(trial.trial_id, trial)

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        with self._owner.guarded():
            self._owner.tick()
