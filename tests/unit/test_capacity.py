"""Packing jobs on nodes: what fits, what waits, how many slots there are."""

from __future__ import annotations

import random

import pytest

from sweep.capacity import Capacity, pack, slots


@pytest.fixture
def capacity(monkeypatch: pytest.MonkeyPatch) -> Capacity:
    made = Capacity()
    monkeypatch.setattr(made, "_refresh", lambda: None)
    made._nodes = [{"CPU": 2.0, "GPU": 1.0}, {"CPU": 2.0}]
    return made


def test_a_job_must_find_one_node_with_room_even_if_the_sum_has_it(capacity: Capacity) -> None:
    capacity.take("a", {"CPU": 1.5})
    assert capacity.fits({"CPU": 1.5})
    capacity.take("b", {"CPU": 1.5})
    assert capacity.total()["CPU"] - 3.0 == 1.0
    assert not capacity.fits({"CPU": 1.0}), "half a CPU is left on each node"
    assert capacity.fits({"CPU": 0.5}, processes=2)
    capacity.give("a")
    assert capacity.fits({"CPU": 1.0})


def test_fractions_of_a_gpu_share_it(capacity: Capacity) -> None:
    for job in ("a", "b"):
        assert capacity.fits({"CPU": 0.5, "GPU": 0.5})
        capacity.take(job, {"CPU": 0.5, "GPU": 0.5})
    assert not capacity.fits({"CPU": 0.5, "GPU": 0.5})
    assert capacity.fits({"CPU": 1.0}), "evaluations fit in the gaps"


def test_an_autoscaler_may_start_what_does_not_live_yet(capacity: Capacity) -> None:
    assert not capacity.fits({"CPU": 1.0, "GPU": 1.0}, processes=3)
    capacity._limit = {"CPU": 32.0, "GPU": 4.0}
    assert capacity.elastic
    assert capacity.fits({"CPU": 1.0, "GPU": 1.0}, processes=3)
    capacity.take("a", {"CPU": 1.0, "GPU": 1.0}, processes=3)
    assert not capacity.fits({"CPU": 1.0, "GPU": 1.0}, processes=2), "but not more than its limit"


def test_jobs_never_take_more_than_there_is() -> None:
    draw = random.Random(0)
    for _ in range(200):
        nodes = [
            {"CPU": float(draw.randint(1, 8)), "GPU": float(draw.randint(0, 2))} for _ in range(draw.randint(1, 4))
        ]
        need = {"CPU": draw.choice([0.5, 1.0, 2.0]), "GPU": draw.choice([0.0, 0.5, 1.0])}
        need = {name: amount for name, amount in need.items() if amount}
        workers = draw.randint(1, 3)
        most = slots(need, workers, nodes)
        assert pack([(need, workers)] * most, nodes), "so many fit"
        assert not pack([(need, workers)] * (most + 1), nodes), "and no more"
