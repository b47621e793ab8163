"""Which of Tune's trials is given a process next.

Tune's own rule, first in, first out, has two faults for short trials in many slots:

- It looks at every trial of the experiment at every step of Tune's loop, finished ones too.
- A process that becomes free goes to the trial that has waited longest, although that one's own process is starting,
  which is then killed half-way. With trials shorter than the start of a process there are never more than two, and
  the machine is busy starting others in vain.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

# Of trials that Tune may know of before they run. The capacity of the cluster is the limit; Tune's own for a search
# algorithm without one is a single process that starts at a time.
NO_LIMIT = 1_000_000


class Newcomers(FIFOScheduler):
    """Each trial in the order of arrival, once: it takes a free process, or its own is started.

    Takes a time that does not depend on the number of trials. For experiments without pauses and without Tune's own
    retries: a trial that has started never waits again.
    """

    def __init__(self, failed: Callable[[Any, Any], None] = lambda trial, actor: None) -> None:
        """`failed`: is told of a trial with an error and of its process, before Tune forgets that one."""
        super().__init__()
        self._new: deque[Any] = deque()
        self._failed = failed

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles what it is given, to be able to restore it; nothing here is ever restored."""
        return {}

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        """A trial has arrived."""
        self._new.append(trial)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """A trial's process has failed, perhaps before it began."""
        manager, tracked = tune_controller._actor_manager, tune_controller._trial_to_actor.get(trial)
        live = manager._live_actors_to_ray_actors_resources.get(tracked, (None,))  # not public
        self._failed(trial, live[0])

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """The first that has not been given a process; None if there is none."""
        while self._new:
            trial = self._new.popleft()
            if trial.status == Trial.PENDING:
                return trial
        return None
