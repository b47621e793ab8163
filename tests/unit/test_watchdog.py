"""Silence is measured by a clock that only goes on; each hung job is named once."""

from __future__ import annotations

from sweep.watchdog import Watchdog


def test_who_is_silent_for_too_long_is_named_once() -> None:
    now = [0.0]
    dog = Watchdog({"pretrain": 100.0, "features": 10.0, "evaluation": 10.0}, clock=lambda: now[0])
    dog.begin("p", "pretrain")
    dog.begin("e", "evaluation")
    now[0] = 10.0
    assert dog.hung() == []
    now[0] = 10.5
    assert dog.hung() == [("e", 10.0)]
    assert dog.hung() == []
    now[0] = 90.0
    dog.heard("p")
    now[0] = 150.0
    assert dog.hung() == []
    now[0] = 191.0
    assert dog.hung() == [("p", 100.0)]


def test_who_waits_for_a_place_or_has_ended_is_not_hung() -> None:
    now = [0.0]
    dog = Watchdog({"pretrain": 1.0, "features": 1.0, "evaluation": 1.0}, clock=lambda: now[0])
    dog.heard("never begun")
    dog.begin("ended", "pretrain")
    dog.over("ended")
    now[0] = 5.0
    assert dog.hung() == []
