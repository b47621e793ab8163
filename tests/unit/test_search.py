"""The sampler as a view of the records: rebuilt at any moment, it proposes what it would have proposed anyway."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from graphs import sweep_of
from optuna.trial import TrialState

from sweep.records import Configuration, Records
from sweep.search import PAST, Proposals
from sweep.space import Choice, Float, Int, Space, check_point, grid
from sweep.spec import Sweep

SPACE: Space = {
    "method.x": Float(0.01, 1.0, log=True, also=(0.0,)),
    "method.n": Int(1, 16, log=True),
    "views.tx": Choice([["sca", "rot"], ["rot"], []]),
    "method.target": Choice(["ga", "vm", None, True, 3]),
    "method.kappa": Float(0.5, 30, when={"method.target": "vm"}),
    "method.step": Float(0.0, 1.0, step=0.25),
}
SAMPLERS = ["auto", "tpe", "nsga2", "gp", "random", "grid"]
Objective = Callable[[Mapping[str, Any]], list[float]]


def one(params: Mapping[str, Any]) -> list[float]:
    return [params["method.x"] - params["method.n"] / 16]


def two(params: Mapping[str, Any]) -> list[float]:
    return [params["method.x"], -params["method.x"] + params["method.step"]]


def searched(sampler: str = "tpe", both: bool = False, **changes: Any) -> Sweep:
    objectives = ["max good/all/val/score", "min other/all/val/score"] if both else ["max good/all/val/score"]
    return sweep_of(space=SPACE, search={"sampler": sampler, "startup": 4}, objectives=objectives, **changes)


class Search:
    """A search that can be killed: what it was told is in `records` alone."""

    def __init__(self, sweep: Sweep, value: Objective) -> None:
        self.sweep, self.value = sweep, value
        self.records = Records(Path("/nowhere"), {"sweep": sweep.dump()})
        self.proposals = Proposals(sweep, self.records)

    def restart(self) -> None:
        self.records.manifest = json.loads(json.dumps(self.records.manifest))
        for configuration in self.records.configurations.values():  # through the ledger's JSON
            configuration.params = json.loads(json.dumps(configuration.params))
            configuration.notes = json.loads(json.dumps(configuration.notes))
        self.proposals = Proposals(self.sweep, self.records)

    def ask(self, number: int) -> Configuration | None:
        proposed = self.proposals.propose(number)
        if proposed is None:
            return None
        made = Configuration(number, proposed.params, proposed.source, [f"t{number}"], notes=proposed.notes)
        self.records.configurations[number] = made
        return made

    def tell(self, configuration: Configuration, state: Any = "complete", **more: Any) -> None:
        configuration.state = state
        configuration.values = self.value(configuration.params) if state == "complete" else []
        for name, value in more.items():
            setattr(configuration, name, value)
        self.proposals.tell(configuration)

    def step(self, number: int) -> Configuration | None:
        configuration = self.ask(number)
        if configuration is not None:
            state = "failed" if number % 7 == 5 else "pruned" if number % 7 == 6 else "complete"
            self.tell(configuration, state, reason="")
        return configuration

    def states(self) -> list[TrialState]:
        return [trial.state for trial in self.proposals.study.get_trials(deepcopy=False)]


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("both", [False, True])
def test_every_sampler_proposes_points_of_the_space(sampler: str, both: bool) -> None:
    search = Search(searched(sampler, both), two if both else one)
    for number in range(12):
        configuration = search.step(number)
        assert configuration is not None
        assert check_point(SPACE, configuration.params, "proposed") == configuration.params
        assert configuration.source == ("grid" if sampler == "grid" else "sampler")
    assert TrialState.RUNNING not in search.states()


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("both", [False, True])
def test_a_search_restarted_after_every_step_proposes_what_the_uninterrupted_one_does(sampler: str, both: bool) -> None:
    whole, killed = (Search(searched(sampler, both, seed=3), two if both else one) for _ in range(2))
    for number in range(11):
        expected = whole.step(number)
        killed.restart()
        found = killed.step(number)
        assert expected is not None
        assert found is not None
        assert found.params == expected.params, number


@pytest.mark.parametrize("both", [False, True])
def test_a_search_killed_with_configurations_in_the_air_goes_on_alike(both: bool) -> None:
    whole, killed = (Search(searched("tpe", both), two if both else one) for _ in range(2))
    for number in range(6):
        whole.step(number)
        killed.step(number)
    flying = [(whole.ask(number), killed.ask(number)) for number in (6, 7)]
    killed.restart()
    assert killed.states().count(TrialState.RUNNING) == 2
    third = whole.ask(8), killed.ask(8)
    for first, second in [*flying, third]:
        assert first is not None
        assert second is not None
        assert first.params == second.params
        whole.tell(first)
        killed.tell(second)
    assert set(killed.states()) == set(whole.states())
    assert TrialState.RUNNING not in killed.states()


def test_another_seed_proposes_something_else() -> None:
    first, second = (Search(searched("random", seed=seed), one) for seed in (0, 1))
    assert [first.step(n) for n in range(3)] != [second.step(n) for n in range(3)]


def test_known_points_come_first_then_the_sampler() -> None:
    known: Any = [{"method.x": 0.0, "method.n": 2, "views.tx": [], "method.target": "ga", "method.step": 0.5}]
    search = Search(searched(known=known), one)
    first, second = search.step(0), search.step(1)
    assert first is not None
    assert second is not None
    assert (first.source, first.params) == ("known", known[0])
    assert second.source == "sampler"


def test_a_point_given_by_hand_is_known_to_the_sampler() -> None:
    search = Search(searched(), one)
    point = {"method.x": 0.5, "method.n": 2, "views.tx": ["rot"], "method.target": None, "method.step": 0.5}
    params, source, _ = search.proposals.propose(0, {**point, "method.kappa": 3.0}) or ({}, "", {})
    assert source == "enqueued"
    assert params == point, "a value of an inactive dimension is dropped"
    search.records.configurations[0] = Configuration(0, params, source, ["t0"])
    search.tell(search.records.configurations[0])
    assert search.states() == [TrialState.COMPLETE]


def test_the_grid_is_visited_once_and_ends() -> None:
    space = {"method.x": Float(0, 1, points=2), "method.n": Int(1, 2)}
    search = Search(sweep_of(space=space, search={"sampler": "grid"}), one)
    seen = [search.step(number) for number in range(5)]
    assert [configuration.params for configuration in seen if configuration] == grid(space)
    assert seen[4] is None


def test_the_grid_leaves_out_the_known_points() -> None:
    space = {"method.x": Float(0.1, 1e4, log=True, points=11, also=(0.0,))}
    search = Search(
        sweep_of(space=space, search={"sampler": "grid"}, known=[{"method.x": 1000.0}]), lambda params: [1.0]
    )
    seen = [search.step(number) for number in range(13)]
    values = [configuration.params["method.x"] for configuration in seen if configuration]
    assert values[0] == 1000.0 and len(values) == 12 and max(values) == pytest.approx(1e4)
    assert seen[12] is None


def test_tpe_finds_the_better_half() -> None:
    """Not how well, but that told values reach the sampler, with their direction."""
    for direction, better in (("max", max), ("min", min)):
        space = {"method.x": Float(0.0, 1.0)}
        sweep = sweep_of(space=space, objectives=[f"{direction} good/all/val/score"], search={"startup": 8})
        search = Search(sweep, lambda params: [params["method.x"]])
        found = [search.ask(0)]
        for number in range(1, 40):
            assert found[-1] is not None
            search.tell(found[-1])
            found.append(search.ask(number))
        late = [configuration.params["method.x"] for configuration in found[20:] if configuration]
        assert abs(sum(late) / len(late) - better(0, 1)) < 0.3


def test_values_that_failed_or_were_pruned_are_told_as_such() -> None:
    search = Search(searched(), one)
    complete, failed, collapsed, pruned = (search.ask(number) for number in range(4))
    assert complete and failed and collapsed and pruned
    search.tell(complete, violation=None)
    search.tell(failed, "failed")
    search.tell(collapsed, "pruned")
    search.tell(pruned, "pruned", rungs={2: [0.1], 5: [0.2]})
    trials = search.proposals.study.trials
    assert search.states() == [TrialState.COMPLETE, TrialState.FAIL, TrialState.PRUNED, TrialState.PRUNED]
    assert [trial.constraints for trial in trials] == [{}, {}, {"collapse": 1.0}, {}]
    assert trials[3].intermediate_values == {2: 0.1, 5: 0.2}
    search.restart()
    again = search.proposals.study.trials
    assert [trial.state for trial in again] == search.states()
    assert [trial.params for trial in again] == [trial.params for trial in trials]
    assert again[0].values == trials[0].values == complete.values
    assert [trial.intermediate_values for trial in again] == [trial.intermediate_values for trial in trials]
    assert [trial.constraints for trial in again] == [trial.constraints for trial in trials]


def test_a_single_value_beside_a_range_is_proposed_too() -> None:
    space = {"method.x": Float(0.1, 1.0, log=True, also=(0.0, -1.0))}
    search = Search(sweep_of(space=space, search={"sampler": "random"}), lambda params: [1.0])
    found = [search.step(number) for number in range(30)]
    values = {configuration.params["method.x"] for configuration in found if configuration}
    assert {0.0, -1.0} < values
    assert all(0.1 <= value <= 1.0 for value in values - {0.0, -1.0})


@pytest.mark.parametrize("sampler", [one for one in SAMPLERS if one != "grid"])
def test_no_point_is_tried_twice_while_there_are_others(sampler: str) -> None:
    """The same seeds would only give the same numbers again."""
    sweep = sweep_of(
        space={"method.x": Float(0.1, 1.0, log=True, also=(0.0,))}, search={"sampler": sampler, "startup": 4}
    )
    whole, killed = (Search(sweep, lambda params: [-params["method.x"]]) for _ in range(2))
    values = []
    for number in range(14):
        expected = whole.step(number)
        killed.restart()
        found = killed.step(number)
        assert expected is not None and found is not None
        assert found.params == expected.params
        values.append(expected.params["method.x"])
    assert len(set(values)) == 14
    few = Search(sweep_of(space={"method.x": Choice([1, 2, 3])}, search={"sampler": sampler}), lambda params: [1.0])
    proposed = [few.step(number) for number in range(5)]
    assert {one.params["method.x"] for one in proposed[:3] if one} == {1, 2, 3}
    assert all(proposed), "where there is nothing else, again"


def test_the_sampler_sees_at_most_so_many_past_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PAST <= 500
    monkeypatch.setattr("sweep.search.PAST", 20)
    monkeypatch.setattr("sweep.search.STEP", 5)
    sweep = sweep_of(space={"method.x": Float(0.0, 1.0)}, search={"sampler": "random"})
    search = Search(sweep, lambda params: [params["method.x"]])
    for number in range(63):
        search.step(number)
        assert len(search.states()) <= 20
        live = [trial.params for trial in search.proposals.study.trials]
        search.restart()
        assert [trial.params for trial in search.proposals.study.trials] == live, "a restart forgets the same"
    kept = [trial.user_attrs.get("configuration") for trial in search.proposals.study.trials]
    assert kept == list(range(45, 63)), "the latest stay"


def test_many_past_trials_are_rebuilt_and_capped() -> None:
    sweep = sweep_of(space={"method.x": Float(0.0, 1.0)})
    records = Records(Path("/nowhere"), {"sweep": sweep.dump()})
    for number in range(PAST + 150):
        records.configurations[number] = Configuration(
            number, {"method.x": number / 1000}, "sampler", [], state="complete", values=[float(number)], spread=[0.0]
        )
    proposals = Proposals(sweep, records)
    assert PAST - 100 <= len(proposals.study.trials) <= PAST
    assert proposals.propose(PAST + 150) is not None


def test_an_objective_added_later_is_told_again() -> None:
    search = Search(searched(), one)
    for number in range(4):
        configuration = search.ask(number)
        assert configuration is not None
        search.tell(configuration)
    search.sweep = searched(both=True)
    search.value = two
    search.restart()
    assert search.states() == [TrialState.RUNNING] * 4
    for configuration in search.records.configurations.values():
        search.tell(configuration)
    assert search.states() == [TrialState.COMPLETE] * 4
    assert len(search.proposals.study.best_trials) > 0


def test_reopening_forgets_the_old_value() -> None:
    search = Search(searched(), one)
    configuration = search.ask(0)
    assert configuration is not None
    search.tell(configuration, "failed")
    configuration.state = "running"
    search.proposals.reopen()
    assert search.states() == [TrialState.RUNNING]
    search.tell(configuration)
    assert search.states() == [TrialState.COMPLETE]


def test_optuna_keeps_quiet() -> None:
    assert optuna.logging.get_verbosity() == optuna.logging.ERROR


def test_configurations_in_the_air_survive_the_cap() -> None:
    search = Search(searched("random", False), one)
    flying = search.ask(0)
    for number in range(1, PAST + 110):
        search.step(number)
    assert flying is not None
    assert search.states().count(TrialState.RUNNING) == 1
    search.tell(flying)
    assert search.states().count(TrialState.RUNNING) == 0
