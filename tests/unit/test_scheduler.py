"""Which trial is given a process next: each once, in the order of arrival, however many there have been."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from sweep.scheduler import Newcomers

PENDING, RUNNING, TERMINATED = "PENDING", "RUNNING", "TERMINATED"


class Untouched:
    """Tune's loop, of whose trials nothing is asked."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for")


def arrivals(scheduler: Newcomers, count: int, status: str = PENDING) -> list[Any]:
    trials = [SimpleNamespace(status=status) for _ in range(count)]
    for trial in trials:
        scheduler.on_trial_add(Untouched(), trial)
    return trials


def test_each_trial_is_chosen_once_in_the_order_of_arrival() -> None:
    scheduler = Newcomers()
    first, second = arrivals(scheduler, 2)
    assert scheduler.choose_trial_to_run(Untouched()) is first
    (third,) = arrivals(scheduler, 1)
    assert [scheduler.choose_trial_to_run(Untouched()) for _ in range(3)] == [second, third, None]


def test_a_trial_whose_own_process_is_starting_is_not_offered_the_free_one_of_another() -> None:
    scheduler = Newcomers()
    (starting,) = arrivals(scheduler, 1)
    assert scheduler.choose_trial_to_run(Untouched()) is starting  # it is still pending at the next steps
    assert scheduler.choose_trial_to_run(Untouched()) is None
    (new,) = arrivals(scheduler, 1)
    assert scheduler.choose_trial_to_run(Untouched()) is new


def test_what_was_started_or_ended_meanwhile_is_passed_over() -> None:
    scheduler = Newcomers()
    arrivals(scheduler, 1, RUNNING)
    arrivals(scheduler, 1, TERMINATED)
    (waiting,) = arrivals(scheduler, 1)
    assert scheduler.choose_trial_to_run(Untouched()) is waiting
