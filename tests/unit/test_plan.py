"""The plan: identities, order of evaluations, resources, and what it warns of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import field_validator

from datasets.base import SPLITS, DataError
from datasets.config import ConfigError
from sweep import price
from sweep.evaluations import in_turn
from sweep.plan import Plan, requirement
from sweep.records import Configuration
from sweep.search import Proposals
from sweep.space import Choice, Float, corner_points
from sweep.spec import Sweep, build, load_sweep, with_settings
from trainables.core.config import resolve
from trainables.core.fit import steps_per_epoch
from trainables.evals import knn, linear
from trainables.evals.base import Needs

POINT = {"method.lambda": 10.0, "method.bins": 8, "method.kappa": 3.0}


SWEEP: dict[str, Any] = {
    "name": "small",
    "method": "duet",
    "data": "digits",
    "base": {
        "method": {"encoder": {"name": "narrow_cifar10_resnet8"}, "head_hidden": 8, "head_out": 8, "target": "vm"},
        "views.tx": ["sca", "rot"],
        "train": {"epochs": 2, "warmup_epochs": 0, "batch_size": 64},
        "data.limit": 200,
    },
    "space": {
        "method.lambda": {"float": [1, 1e4], "log": True},
        "method.bins": {"choice": [4, 8]},
        "method.kappa": {"float": [1, 12]},
    },
    "known": [POINT],
    "objectives": ["max linear/all/val/top1", "max transform_parameter/all/val/rot_r2"],
    "evals": {"linear": {}, "knn": {}, "transform_parameter": {"parts": ["*"]}, "equivariance_roll": {}},
    "budget": {"trials": 3},
}


def small(**settings: Any) -> Sweep:
    return with_settings(build(SWEEP, "test"), settings, "test")


@pytest.fixture(scope="module")
def plan() -> Plan:
    return Plan(small(), None)


def test_identity_is_of_the_whole_configuration(plan: Plan) -> None:
    id_, config = plan.pretraining(POINT, seed=0)
    assert plan.pretraining(dict(reversed(POINT.items())), seed=0) == (id_, config)
    assert resolve(config).dump() == config
    others = [plan.pretraining(POINT, seed=1)[0], plan.pretraining({**POINT, "method.lambda": 10.5}, seed=0)[0]]
    for key, value in (("train.weight_decay", 0.0), ("views.options.sca.scale_min", 0.5), ("data.split_seed", 1)):
        others.append(Plan(small(**{key: value}), None).pretraining(POINT, seed=0)[0])
    assert len({id_, *others}) == 1 + len(others)
    same = Plan(small(**{"train.momentum": 0.9, "budget.trials": 2}), None).pretraining(POINT, seed=0)[0]
    assert same == id_, "a default written out, or more trials, is the same pretraining"


def test_identity_follows_the_version_of_the_code(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    before = plan.pretraining(POINT, seed=0)[0]
    monkeypatch.setattr("trainables.duet.DUET.VERSION", 99)
    assert plan.pretraining(POINT, seed=0)[0] != before


def test_identity_of_an_evaluation(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    config = plan.pretraining(POINT, seed=0)[1]
    nodes = {node.key: node for node in plan.evaluations(config, POINT)}
    assert set(nodes) == set(plan.sweep.evals)
    linear = nodes["linear"].id_of
    again = {node.key: node for node in plan.evaluations(config, POINT)}["linear"].id_of
    assert linear("a", 3) == again("a", 3)
    changed = Plan(small(**{"evals.linear": {"limit": 50}}), None).evaluations(config, POINT)
    monkeypatch.setattr("trainables.evals.linear.VERSION", 99)
    newer = {node.key: node for node in plan.evaluations(config, POINT)}["linear"].id_of
    ids = [linear("a", 3), linear("b", 3), linear("a", 4), nodes["knn"].id_of("a", 3), newer("a", 3)]
    ids.append({node.key: node for node in changed}["linear"].id_of("a", 3))
    assert len(set(ids)) == len(ids)
    assert plan.features_id("a", 3, []) not in ids


def test_features_are_asked_for_by_the_data_that_are_evaluated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by those of the training, which may have other labels."""
    seen, judged = [], linear.requests
    monkeypatch.setattr(linear, "requests", lambda cfg, spec: seen.append(spec.shape) or judged(cfg, spec))
    monkeypatch.setattr("datasets.digits.evaluated", lambda cfg: cfg.model_copy(update={"channels": 3}), raising=False)
    plan = Plan(small(), None)
    config = plan.pretraining(POINT, 0)[1]
    plan.evaluations(config, POINT)
    assert set(seen) == {(3, 16, 16)}
    assert plan.spec(resolve(config)).shape == (1, 16, 16)


def test_metrics_are_those_every_point_yields(plan: Plan) -> None:
    assert "linear/all/val/top1" in plan.metrics
    assert "transform_parameter/group/test/rot_r2" in plan.metrics
    with pytest.raises(ConfigError, match=r"equivariance_roll: needs 'roll' capability.*\(at .*method\.bins=0"):
        Plan(with_settings(small(), {"known": [], "space.method.bins": {"choice": [0]}}, "test"), None)


def test_an_evaluation_is_left_out_where_it_does_not_apply_and_the_plan_says_so() -> None:
    settings = {
        "space.method.bins": {"choice": [0, 8]},
        "evals.reconstruction": {"transform": "rot"},
        "evals.controlled_generation": {},
    }
    some = Plan(with_settings(small(), settings, "test"), None)
    said = "\n".join(some.warnings)
    assert "evals.equivariance_roll: left out where it does not apply, equivariance_roll: needs 'roll'" in said
    assert "equivariance_roll/all/val/margin" not in some.metrics, "not all configurations yield it"
    ids = {}
    for bins in (0, 8):
        point = {**POINT, "method.bins": bins}
        nodes = some.evaluations(some.pretraining(point, seed=0)[1], point)
        ids[bins] = {node.key: node.id_of("parent", 2) for node in nodes}
    assert set(ids[0]) == {"linear", "knn", "transform_parameter", "reconstruction"}
    assert set(ids[8]) == set(some.sweep.evals)
    with_objective = {**settings, "objectives": ["max equivariance_roll/all/val/margin"]}
    with pytest.raises(ConfigError, match="no evaluation yields it"):
        Plan(with_settings(small(), with_objective, "test"), None)


def test_options_of_an_evaluation_that_is_read_must_fit() -> None:
    with pytest.raises(ConfigError, match="sees images that are clean; set its option transform to 'rot'"):
        Plan(small(**{"evals.reconstruction": {}, "evals.controlled_generation": {}}), None)


def test_bins_without_a_turn_leave_the_rolling_out() -> None:
    some = Plan(small(**{"space.method.bins": {"choice": [1, 8]}}), None)
    assert "no shift of 1 bin is a turn" in "\n".join(some.warnings)
    for bins, rolled in ((1, False), (8, True)):
        point = {**POINT, "method.bins": bins}
        nodes = some.evaluations(some.pretraining(point, seed=0)[1], point)
        assert ("equivariance_roll" in {node.key for node in nodes}) is rolled


def test_a_corner_that_cannot_be_built_is_named() -> None:
    with pytest.raises(ConfigError, match=r"method\.bins: 7 bins.*\(at .*method\.bins=7"):
        Plan(with_settings(small(), {"space.method.bins": {"choice": [8, 7]}}, "test"), None)


def test_evaluations_come_after_those_they_read() -> None:
    assert in_turn({"c": {"x": "b", "y": "a"}, "a": {}, "b": {"x": "a"}}) == ["a", "b", "c"]
    with pytest.raises(ConfigError, match=r"\['a', 'b'\] wait for each other"):
        in_turn({"a": {"x": "b"}, "b": {"x": "a"}, "c": {}})


TUNED = {
    "space": {"evals.knn.k": {"choice": [1, 9]}, "evals.knn.temperature": {"float": [0.05, 1], "log": True}},
    "known": [],
    "objectives": ["max knn/all/val/top1"],
}


def test_options_of_evaluations_are_no_part_of_a_pretraining() -> None:
    plan = Plan(build({**SWEEP, **TUNED}, "test"), None)
    one, other = {"evals.knn.k": 1, "evals.knn.temperature": 0.1}, {"evals.knn.k": 9, "evals.knn.temperature": 0.1}
    id_, config = plan.pretraining(one, 0)
    assert plan.pretraining(other, 0) == (id_, config)
    first, second = ({node.key: node for node in plan.evaluations(config, point)} for point in (one, other))
    assert (first["knn"].config["k"], second["knn"].config["k"]) == (1, 9)
    assert first["knn"].id_of("p", 2) != second["knn"].id_of("p", 2)
    assert first["linear"].id_of("p", 2) == second["linear"].id_of("p", 2)
    written_out = Plan(small(**{"evals.knn.k": 9, "evals.knn.temperature": 0.1}), None).evaluations(config, POINT)
    assert {node.key: node.id_of("p", 2) for node in written_out}["knn"] == second["knn"].id_of("p", 2)
    assert "knn/all/val/top1" in plan.metrics


GRID: dict[str, Any] = {
    "space": {"evals.knn.k": {"choice": [1, 9]}, "method.bins": {"choice": [4, 8]}}, "search": {"sampler": "grid"},
}  # fmt: skip


@pytest.mark.parametrize(
    ("trials", "known", "configurations", "pretrainings"),
    [
        (2, [], 2, 2),
        (2, [{"evals.knn.k": 1, "method.bins": 4}], 2, 2),
        (2, [{"evals.knn.k": 9, "method.bins": 8}], 2, 2),
        (3, [{"evals.knn.k": 9, "method.bins": 8}, {"evals.knn.k": 1, "method.bins": 8}], 3, 2),
        (3, [{"evals.knn.k": 9, "method.bins": 8}] * 2, 3, 2),
        (9, [{"evals.knn.k": 9, "method.bins": 8}], 4, 2),
    ],
)
def test_the_plan_of_a_grid_counts_what_the_search_proposes(
    trials: int, known: list[dict[str, Any]], configurations: int, pretrainings: int
) -> None:
    sweep = build({**SWEEP, **TUNED, **GRID, "known": known, "budget": {"trials": trials}}, "test")
    counts = Plan(sweep, None).counts()
    proposals = Proposals(sweep)
    proposed: list[dict[str, Any]] = []
    while len(proposed) < trials and (one := proposals.propose(len(proposed))):
        proposed.append(one.params)
        past = Configuration(len(proposed) - 1, one.params, one.source, [])
        proposals._configurations[past.number] = past
    assert (counts["configurations"], counts["pretrainings"]) == (configurations, pretrainings)
    assert len(proposed) == configurations
    assert len({point["method.bins"] for point in proposed}) == pretrainings


@pytest.mark.parametrize(
    ("changes", "pretrainings"),
    [
        ({}, 3),
        ({"known": [{"evals.knn.k": 9, "evals.knn.temperature": 0.5}]}, 3),
        ({"space": {**TUNED["space"], "method.lambda": {"float": [1, 9]}}}, 12),  # type: ignore[dict-item]
        ({"space": {**TUNED["space"], "method.bins": {"choice": [4, 8]}}, "search": {"sampler": "grid"}}, 6),  # type: ignore[dict-item]
    ],
)
def test_the_plan_counts_shared_pretrainings_once(changes: dict[str, Any], pretrainings: int) -> None:
    plan = Plan(build({**SWEEP, **TUNED, "seeds": 3, "budget": {"trials": 4}, **changes}, "test"), None)
    assert plan.counts() == {"configurations": 4, "pretrainings": pretrainings, "evaluations": 12 * 4}
    text = "\n".join(plan.describe())
    assert f"4 configurations x 3 seeds {'share' if pretrainings < 12 else '='} {pretrainings} pretrainings" in text
    assert "search    evals.knn.k in {1, 9}" in text


def test_objectives_must_be_there_whatever_the_options() -> None:
    values = {**SWEEP, **TUNED, "known": []}
    parts = {"evals.knn.parts": {"choice": [["all"], ["group"]]}}
    with pytest.raises(ConfigError, match=r"knn/all/val/top1: no evaluation yields it everywhere \(not at .*'group'"):
        Plan(build({**values, "space": parts}, "test"), None)
    parts = {"evals.knn.parts": {"choice": [["all"], ["gruop"]]}}
    with pytest.raises(ConfigError, match=r"yields it everywhere: knn: .*no part 'gruop'.*\(at .*gruop"):
        Plan(build({**values, "space": parts}, "test"), None)
    both = Plan(build({**values, "space": {"evals.knn.parts": {"choice": [["*"], ["all", "group"]]}}}, "test"), None)
    assert {"knn/all/val/top1", "knn/group/val/top1"} <= both.metrics


class OddNeighbours(knn.Config):
    """Options of `knn` that refuse what lies between the ends of a range."""

    @field_validator("k")
    @classmethod
    def _odd(cls, k: int) -> int:
        if k % 2 == 0:
            raise ValueError("must be odd")
        return k


PROBES = {"evals.linear.probe": {"choice": ["logistic", "mlp"]}, "evals.linear.bias": {"choice": [True, False]}}
SWEEPS: dict[str, Any] = {**SWEEP, "known": [], "objectives": ["max knn/all/val/top1"]}


def test_of_a_small_space_every_point_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "Config", OddNeighbours)
    odd = {"space": {"evals.knn.k": {"int": [1, 9], "step": 2}}}
    Plan(build({**SWEEPS, **odd}, "test"), None)
    Plan(build({**SWEEPS, **odd, "search": {"sampler": "grid"}}, "test"), None)
    with pytest.raises(ConfigError, match=r"evals.knn.k: must be odd.*\(at evals.knn.k=2\)"):
        Plan(build({**SWEEPS, "space": {"evals.knn.k": {"int": [1, 9]}}}, "test"), None)
    Plan(build({**SWEEPS, "space": {"evals.knn.k": {"int": [1, 9]}}, "search": {"sampler": "grid"}}, "test"), None)
    both = {**SWEEPS, "space": PROBES, "objectives": ["max linear/all/val/top1"]}
    with pytest.raises(ConfigError, match=r"everywhere: .*the mlp has intercepts \(at .*probe=mlp, .*bias=False\)"):
        Plan(build(both, "test"), None)


def test_a_point_between_those_that_were_checked_may_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(knn, "Config", OddNeighbours)
    space = {"evals.knn.k": {"int": [1, 101]}, **PROBES}
    plan = Plan(build({**SWEEPS, "space": space}, "test"), None)
    point = {"evals.knn.k": 3, "evals.linear.probe": "logistic", "evals.linear.bias": False}
    assert plan.refusal(point) == ""
    assert plan.refusal({**point, "evals.knn.k": 4}).startswith("evals.knn.k: must be odd")
    mlp = {**point, "evals.linear.probe": "mlp"}
    assert plan.refusal(mlp) == "", "no objective is measured by it"
    keys = [node.key for node in plan.evaluations(plan.pretraining(mlp, 0)[1], mlp)]
    assert "linear" not in keys and "knn" in keys
    judged = Plan(build({**SWEEPS, "space": space, "objectives": ["max linear/all/val/top1"]}, "test"), None)
    assert "the mlp has intercepts (at evals.knn.k=3, " in judged.refusal(mlp)
    bins = Plan(small(**{"space.method.bins": {"int": [4, 8]}, "known": []}), None)
    assert "7 bins" in bins.refusal({**POINT, "method.bins": 7})
    assert bins.refusal(POINT) == ""


EDITS = {
    "evals": {
        "linear": {},
        "clean": {"name": "reconstruction"},
        "turned": {"name": "reconstruction", "transform": "rot", "limit": 10},
        "edits": {"name": "controlled_generation", "after": {"reconstruction": "turned"}},
    },
    "objectives": ["max edits/all/val/gain"],
}


def test_an_evaluation_reads_the_result_of_the_key_that_is_named() -> None:
    plan = Plan(build({**SWEEP, **EDITS}, "test"), None)
    config = plan.pretraining(POINT, 0)[1]
    nodes = {node.key: node for node in plan.evaluations(config, POINT)}
    assert nodes["edits"].inputs == {"reconstruction": "turned"}
    assert list(nodes).index("turned") < list(nodes).index("edits")
    tuned = {**SWEEP, **EDITS, "known": [], "space": {"evals.turned.limit": {"choice": [10, 20]}}}
    ids = set()
    plan = Plan(build(tuned, "test"), None)
    for limit in (10, 20):
        nodes = {node.key: node for node in plan.evaluations(config, {"evals.turned.limit": limit})}
        ids.add((nodes["edits"].id_of("p", 2), nodes["turned"].id_of("p", 2), nodes["clean"].id_of("p", 2)))
    edits, turned, clean = (len(set(column)) for column in zip(*ids, strict=True))
    assert (edits, turned, clean) == (2, 2, 1), "what reads a tuned one differs with it"


@pytest.mark.parametrize(
    ("evaluation", "says"),
    [
        ({}, r"evals\.edits: reads the result of 'reconstruction'; say of which key by after: .reconstruction: clean."),
        ({"after": {"reconstruction": "turnd"}}, "evals.edits.after: 'turnd' is no key of 'recon.*'turned'"),
        ({"after": {"reconstruction": "linear"}}, "evals.edits.after: 'linear' is no key of 'reconstruction'"),
        ({"after": {"linear": "linear"}}, "evals.edits.after: does not read 'linear'; .* results of reconstruction"),
        ({"after": "turned"}, r"evals\.edits\.after"),
        ({"after": {"reconstruction": "clean"}}, "sees images that are clean; set its option transform to 'rot'"),
    ],
)
def test_a_result_that_cannot_be_read_is_refused(evaluation: dict[str, Any], says: str) -> None:
    evals = {**EDITS["evals"], "edits": {"name": "controlled_generation", **evaluation}}  # type: ignore[dict-item]
    with pytest.raises(ConfigError, match=says):
        Plan(build({**SWEEP, **EDITS, "evals": evals}, "test"), None)


def test_resources_bound_what_runs_at_once() -> None:
    plan = Plan(
        small(**{"resources.pretrain": {"cpu": 2, "gpu": 0.5, "memory_gb": 4}, "resources.evaluation": {"cpu": 1}}),
        None,
    )
    assert requirement(plan.sweep, "pretrain") == {"CPU": 2, "GPU": 0.5, "memory": 4 * 2**30}
    assert requirement(plan.sweep, "evaluation") == {"CPU": 1}
    assert plan.check_resources({"CPU": 16, "GPU": 2, "memory": 64 * 2**30}) == 4
    assert plan.check_resources({"CPU": 16, "GPU": 2, "memory": 8 * 2**30}) == 2
    assert plan.check_resources({"CPU": 3, "GPU": 2, "memory": 64 * 2**30}) == 1
    with pytest.raises(ConfigError, match=r"one pretraining needs 0\.5 GPU, there are 0"):
        plan.check_resources({"CPU": 16, "memory": 64 * 2**30})


def test_a_worker_group_counts_with_all_its_workers() -> None:
    plan = Plan(small(**{"resources.workers": 3}), None)
    assert requirement(plan.sweep, "pretrain") == {"CPU": 3}
    assert requirement(plan.sweep, "evaluation") == {"CPU": 1}
    with pytest.raises(ConfigError, match=r"needs 3 CPU \(3 workers x 1\), there are 2"):
        plan.check_resources({"CPU": 2})


def test_a_process_must_fit_on_one_node() -> None:
    plan = Plan(small(**{"resources.workers": 3, "resources.pretrain": {"cpu": 4, "memory_gb": 8}}), None)
    small_node, large_node = {"CPU": 4.0, "memory": 4 * 2.0**30}, {"CPU": 8.0, "memory": 16 * 2.0**30}
    total = {"CPU": 20.0, "memory": 36 * 2.0**30}
    assert plan.check_resources(total, [small_node, large_node, large_node]) == 1
    with pytest.raises(ConfigError, match="each of 3 workers of a pretraining needs 4 CPU and 8 GB memory on one node"):
        plan.check_resources(total, [small_node, small_node, large_node])  # in sum there were enough
    with pytest.raises(ConfigError, match=r"needs 4 CPU and 8 GB memory on one node, .* any node has is 4 CPU, 4 GB"):
        plan.check_resources(total, [small_node] * 4)
    wide = Plan(small(**{"resources.evaluation": {"cpu": 6}}), None)
    with pytest.raises(ConfigError, match="an evaluation needs 6 CPU on one node, the most that any node has is 4 CPU"):
        wide.check_resources({"CPU": 8.0}, [{"CPU": 4.0}, {"CPU": 4.0}])


def test_every_point_must_have_batches() -> None:
    space = {"space.train.batch_size": {"choice": [64, 1000]}, "base.train.drop_last": True, "known": []}
    with pytest.raises(ConfigError, match=r"train\.batch_size: 1000 gives no batch .*\(at .*train\.batch_size=1000"):
        Plan(small(**space), None)


def test_an_evaluation_that_needs_a_gpu_is_refused_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainables.evals.knn.NEEDS", Needs(gpu=True))
    with pytest.raises(ConfigError, match=r"evals\.knn: 'knn' needs a GPU; set resources\.evaluation\.gpu"):
        Plan(small(), None)
    Plan(small(**{"resources.evaluation": {"gpu": 0.5}}), None)


def test_a_warm_up_that_never_ends_is_said() -> None:
    notes = Plan(small(**{"train.warmup_epochs": 2}), None).warnings
    assert [note for note in notes if note.startswith("train.warmup_epochs: 2 of 2 epochs are warm-up")]


def test_what_a_method_doubts_is_said() -> None:
    notes = Plan(load_sweep("v3_toy", ["method.atoms=1000"], smoke=True), None).warnings
    assert [note for note in notes if note.startswith("method.atoms: 1000 codes and 320 fragments")]


def test_counts_and_price(plan: Plan) -> None:
    many = Plan(small(**{"budget.trials": 10, "seeds": 3, "rungs": [0.5]}), None)
    evaluations = 30 * (len(many.sweep.evals) + 2)
    assert many.counts() == {"configurations": 10, "pretrainings": 30, "evaluations": evaluations}
    found = plan.price(steps=1)
    assert found.seconds > 0 and found.measured == found.batch and found.how == "measured here"
    assert found.encoding > 0


def test_items_that_are_encoded_are_counted_once() -> None:
    turned = {"transforms": ["rot"], "limit": 100}
    evals = {
        "linear": {}, "knn": {}, "parameter_equivariance": {**turned, "draws": 2}, "invariance": turned,
    }  # fmt: skip
    made = Plan(small(**{"evals": evals, "objectives": ["max linear/all/val/top1"]}), None)
    source = made.resolve(corner_points(made.sweep.space)[0], 0).source
    sizes = [len(source(None, split)) for split in SPLITS]
    assert max(sizes) > 100, "the limit has an effect"
    clean, limited, moved = sum(sizes), 3 * 100, 2 * 100 + 2 * 100
    assert made.price(steps=1).encoded == clean + limited + moved


def test_a_large_batch_is_priced_by_a_small_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps grow while they are a moment; the rest is a matter of proportion, which the plan says."""
    sizes: list[int] = []

    def shortest(step: Any, items: int, steps: int) -> float:
        sizes.append(items)
        return items / 10

    monkeypatch.setattr(price, "_shortest", shortest)
    large = Plan(small(**{"train.batch_size": 50}), None)
    found = large.price()
    assert sizes == [4, 16, 16] and (found.measured, found.batch) == (16, 50), "50 would take 5 s"
    assert found.how == "measured here at a batch of 16, times 3.125 for 50"
    resolved = large.resolve(corner_points(large.sweep.space)[0], 0)
    _, items = large._open(resolved)
    assert found.seconds == pytest.approx(5 * steps_per_epoch(items, resolved.train) * resolved.train.epochs)


def test_long_steps_are_timed_twice() -> None:
    taken = iter([9.0, 3.0, 1.0])
    assert price._shortest(lambda items, number: next(taken), 4, 3) == 3.0
    taken = iter([0.3, 0.1, 0.2])
    assert price._shortest(lambda items, number: next(taken), 4, 3) == 0.1


def test_what_works_but_is_odd_is_said_once() -> None:
    odd = small(**{"method.target": "ga", "objectives": ["min linear/all/val/top1"]})
    notes = Plan(odd, None).warnings
    assert [note for note in notes if "'vm' fits" in note] == [notes[0]]
    assert [note for note in notes if "max is better" in note]
    assert len(notes) == 2
    assert all(f"note      {note}" in " ".join(Plan(odd, None).describe()) for note in notes)


def test_the_plan_says_all_a_person_asks(plan: Plan) -> None:
    text = "\n".join(plan.describe())
    for fragment in ("duet on digits", "method.lambda in [1, 10000] log", "max linear/all/val/top1", "knn", "3 config"):
        assert fragment in text


def test_a_searched_method_builds_each_of_them() -> None:
    sweep = Sweep(
        name="both",
        method="duet",
        data="digits",
        base={"method.encoder.name": "narrow_cifar10_resnet8", "views.tx": ["rot"]},
        space={
            "method": Choice(["duet", "simclr"]),
            "method.kappa": Float(1, 9, when={"method": "duet"}),
            "method.temperature": Float(0.1, 1),
        },
        objectives=("max linear/all/val/top1",),  # type: ignore[arg-type]
        evals={"linear": {}},  # type: ignore[dict-item]
    )
    plan = Plan(sweep, None)
    names = {plan.resolve({"method": name, "method.temperature": 0.5}, 0).method_name for name in ("duet", "simclr")}
    assert names == {"duet", "simclr"}
    assert plan.metrics == {
        f"linear/all/{split}/{name}" for split in ("val", "test") for name in ("top1", "top5", "chance")
    }


def test_a_setting_has_other_values_under_other_conditions() -> None:
    methods = Choice(["duet", "simclr"])
    space = {
        "method": methods,
        "method.temperature": Choice([0.1], when={"method": "duet"}),
        "method.temperature#simclr": Float(0.3, 0.5, when={"method": "simclr"}),
    }
    values = {**SWEEP, "space": space, "known": [], "objectives": ["max linear/all/val/top1"], "evals": {"linear": {}}}
    values["base"] = {**SWEEP["base"], "method": {"encoder": {"name": "narrow_cifar10_resnet8"}}}
    both = Plan(build(values, "test"), None)
    assert both.resolve({"method": "simclr", "method.temperature#simclr": 0.4}, 0).method.dump()["temperature"] == 0.4
    assert both.resolve({"method": "duet", "method.temperature": 0.1}, 0).method.dump()["temperature"] == 0.1
    with pytest.raises(ConfigError, match=r"method.temperature: is searched by this sweep; set space.method.temp"):
        with_settings(build(values, "test"), {"method.temperature": 0.2}, "test")
    space["method.temperature#simclr"] = Float(0.3, 0.5)
    with pytest.raises(ConfigError, match=r"temperature.*sets method.temperature where .* does too; give one a `when`"):
        Plan(build({**values, "space": space}, "test"), None)


def test_other_data_that_an_evaluation_reads_are_looked_for(tmp_path: Path) -> None:
    there = Plan(small(**{"evals.transfer": {"to": {"name": "digits"}}}), None)
    assert "transfer/all/val/top1" in there.metrics
    with pytest.raises(DataError, match=r"evals.transfer: .*cifar"):
        Plan(small(**{"evals.transfer": {"to": {"name": "cifar"}}}), tmp_path)
    with pytest.raises(ConfigError, match=r"evals.transfer.*sise.*did you mean 'size'"):
        Plan(small(**{"evals.transfer": {"to": {"name": "digits", "sise": 8}}}), None)


def test_other_data_that_an_encoder_of_pages_cannot_be_shown_are_found_before_anything_runs() -> None:
    toy = load_sweep("v3_fewshot", smoke=True)
    assert any("encoder," in line and "decoder," in line and "total" in line for line in Plan(toy, None).describe())
    assert "ood/all/val/shots_1" in Plan(toy, None).metrics
    digits = {"name": "phonenums", "palette": "ood", "made": {"pages": 160}}
    with pytest.raises(
        ConfigError, match=r"ood: phonenums has items of \(10, 3, 48, 32\), the encoder takes \(10, 48\)"
    ):
        Plan(load_sweep("v3_fewshot", [f"evals.ood.data={digits}"], smoke=True), None)
