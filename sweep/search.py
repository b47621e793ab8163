"""The sampler: an Optuna study in memory, a view of the records that can be rebuilt at any time.

Owned through ask and tell (Ray's OptunaSearch leaves trials RUNNING for ever when a value is NaN, tells stopped trials
as complete and cannot set constraints). The sampler is seeded anew for each proposal from (seed, number), so that a
search that was killed and resumed proposes what the uninterrupted one would have.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.study import StudyDirection
from optuna.trial import BaseTrial, TrialState, create_trial

from datasets.config import ConfigError
from sweep.records import Configuration, Records
from sweep.space import Dimension, active, check_point, grid, in_order, same_point
from sweep.spec import Sweep

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)

PAST = 500  # asking with two objectives costs 31 ms at 500 past trials and 89 ms at 1000
TRIES = 16  # to find a point that is not there yet; a small space may have none
NOTES = "NSGAIISampler:"  # what a sampler keeps on a trial and needs again: the number of its generation
STEP = 100  # how many of the oldest are forgotten at once when there are more
IN_RANGE = "in range"
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


class Proposal(NamedTuple):
    """A configuration to try: its parameters, where they come from, and what the sampler noted of it."""

    params: dict[str, Any]
    source: str
    notes: dict[str, Any]


class Proposals:
    """Where new configurations come from: the known points, then the grid or Optuna's sampler."""

    def __init__(self, sweep: Sweep, records: Records | None = None, warm: Sequence[Mapping[str, Any]] = ()) -> None:
        """Start, or take up where `records` are; `warm` = points measured elsewhere, {"params", "values"}."""
        self.sweep = sweep
        self._warm = [
            Configuration(-1, point["params"], "warm", [], state="complete", values=list(point["values"]))
            for point in warm
        ]
        self.space = in_order(sweep.space)
        self.points: list[dict[str, Any]] | None = None
        if sweep.search.sampler == "grid":  # a known point is tried first, and not again
            self.points = grid(sweep.space, sweep.known)
        self._configurations: dict[int, Configuration] = {} if records is None else records.configurations
        self._rebuild()

    def propose(self, number: int, enqueued: Mapping[str, Any] | None = None) -> Proposal | None:
        """Configuration `number`; None when a grid is used up."""
        fixed, source = enqueued, "enqueued"
        sources = Counter(configuration.source for configuration in self._configurations.values())
        if fixed is None and sources["known"] < len(self.sweep.known):
            fixed, source = self.sweep.known[sources["known"]], "known"
        elif fixed is None and self.points is not None:
            if sources["grid"] >= len(self.points):
                return None
            fixed, source = self.points[sources["grid"]], "grid"
        if fixed is not None:
            params = {key: fixed[key] for key, dimension in self.space if active(dimension, fixed)}
            self._add(number, params, {})
            return Proposal(params, source, {})
        if self.sweep.search.sampler == "nsga2":
            self._rebuild()  # it also keeps parents on the study itself: never have what a restart would not have
        for attempt in range(TRIES):
            self.study.sampler = self._sampler(number, attempt)
            trial = self.study.ask()
            params = {}
            for key, dimension in self.space:
                if active(dimension, params):
                    params[key] = _suggest(trial, key, dimension)
            past = (configuration.params for configuration in self._configurations.values())
            if attempt + 1 == TRIES or not any(same_point(params, point) for point in past):
                break
            # the same seeds would give the same numbers; no sampler looks at what failed, and a restart has it not
            self.study.tell(trial.number, state=TrialState.FAIL)
        self._numbers[number] = trial.number
        noted = self.study.get_trials(deepcopy=False)[trial.number].system_attrs
        return Proposal(params, "sampler", {key: value for key, value in noted.items() if key.startswith(NOTES)})

    def tell(self, configuration: Configuration) -> None:
        """Hand over how a configuration ended; nothing is ever left RUNNING."""
        self._configurations[configuration.number] = configuration
        number = self._numbers.pop(configuration.number)
        trial = optuna.trial.Trial(
            self.study, self.study._storage.get_trial_id_from_study_id_trial_number(self.study._study_id, number)
        )
        for key, value in _constraints(configuration).items():
            trial.set_constraint(key, value)
        if len(self.sweep.objectives) == 1:
            for epoch, values in configuration.rungs.items():
                trial.report(values[0], epoch)
        state = STATES[configuration.state]
        self.study.tell(number, configuration.values if state == TrialState.COMPLETE else None, state=state)
        self._room -= 1
        if self._room < 0:
            self._rebuild()

    def reopen(self) -> None:
        """Forget what was told of configurations that the records have as running again."""
        self._rebuild()

    def _rebuild(self) -> None:
        towards = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
        directions = [towards[objective.direction] for objective in self.sweep.objectives]
        self.study = optuna.create_study(directions=directions, sampler=optuna.samplers.RandomSampler(seed=0))
        self._numbers: dict[int, int] = {}
        over = sorted(number for number, past in self._configurations.items() if self._is_told(past))
        # in whole steps, so that a search taken up later forgets exactly what this one has forgotten
        kept = set(over[max(0, -(-(len(over) - PAST) // STEP)) * STEP :])
        for configuration in self._warm[-PAST:]:
            self.study.add_trial(frozen(self.sweep, configuration))
        for _, configuration in sorted(self._configurations.items()):
            if not self._is_told(configuration):
                self._add(configuration.number, configuration.params, configuration.notes)
            elif configuration.number in kept:
                self.study.add_trial(frozen(self.sweep, configuration))
        self._room = PAST - len(kept)

    def _is_told(self, configuration: Configuration) -> bool:
        """Whether it is over; one that lacks the value of an objective added since will be told again."""
        whole = len(configuration.values) == len(self.sweep.objectives)
        return configuration.state != "running" and (whole or configuration.state != "complete")

    def _add(self, number: int, params: Mapping[str, Any], notes: dict[str, Any]) -> None:
        encoded, distributions = encode(self.sweep, params)
        self.study.add_trial(
            create_trial(
                state=TrialState.RUNNING, params=encoded, distributions=distributions, system_attrs=dict(notes)
            )
        )
        self._numbers[number] = len(self.study.get_trials(deepcopy=False)) - 1

    def _sampler(self, number: int, attempt: int = 0) -> optuna.samplers.BaseSampler:
        seed = (self.sweep.seed * 1_000_003 + number * 7919 + attempt * 104_729 + 17) % 2**31
        kind = self.sweep.search.sampler
        if kind == "random" or attempt >= TRIES // 2:  # the others may insist on the best point they know
            return optuna.samplers.RandomSampler(seed=seed)
        if kind == "gp":
            return optuna.samplers.GPSampler(seed=seed, n_startup_trials=self.sweep.search.startup)
        if kind == "nsga2":
            return optuna.samplers.NSGAIISampler(seed=seed, population_size=max(4, self.sweep.search.startup))
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=self.sweep.search.startup)


def warm_points(sweep: Sweep, other: Records) -> list[dict[str, Any]]:
    """What another sweep measured that this one can learn from: complete points inside its space, same objectives.

    Raises:
        ConfigError: the other sweep measured other objectives.
    """
    metrics = [objective["metric"] for objective in other.objectives]
    wanted = [objective.metric for objective in sweep.objectives]
    if not set(wanted) <= set(metrics):
        raise ConfigError(f"--warm {other.directory}: its objectives are {', '.join(metrics)}, not {', '.join(wanted)}")
    points = []
    for configuration in other.configurations.values():
        try:
            params = check_point(sweep.space, configuration.params, "warm")
        except ConfigError:
            continue  # outside this space
        if configuration.state == "complete":
            values = dict(zip(metrics, configuration.values, strict=True))
            points.append({"params": params, "values": [values[metric] for metric in wanted]})
    return points


def frozen(sweep: Sweep, configuration: Configuration) -> optuna.trial.FrozenTrial:
    """A configuration that is over as Optuna keeps it."""
    encoded, distributions = encode(sweep, configuration.params)
    one = len(sweep.objectives) == 1
    return create_trial(
        state=STATES[configuration.state],
        values=configuration.values if configuration.state == "complete" else None,
        params=encoded,
        distributions=distributions,
        intermediate_values={epoch: values[0] for epoch, values in configuration.rungs.items()} if one else None,
        constraints=_constraints(configuration) or None,
        system_attrs=dict(configuration.notes),
        user_attrs={"configuration": configuration.number, "source": configuration.source},
    )


def _constraints(configuration: Configuration) -> dict[str, float]:
    """What makes a point infeasible: a broken constraint, or a collapse; else TPE would go there again."""
    if configuration.violation is not None:
        return {"constraints": configuration.violation}
    return {"collapse": 1.0} if configuration.state == "pruned" and not configuration.rungs else {}


def encode(sweep: Sweep, params: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """Parameters under the names and values that Optuna sees, with their distributions."""
    encoded: dict[str, Any] = {}
    distributions: dict[str, BaseDistribution] = {}
    for key, value in params.items():
        dimension = sweep.space[key]
        if dimension.also:
            name = f"{key} (which)"
            distributions[name] = _which(dimension)
            encoded[name] = _label(value) if value in dimension.also else IN_RANGE
            if value in dimension.also:
                continue
        distributions[key] = distribution(dimension)
        encoded[key] = _category(value) if dimension.kind == "choice" else value
    return encoded, distributions


def distribution(dimension: Dimension) -> BaseDistribution:
    """Optuna's form of one dimension (without the single values beside a range)."""
    if dimension.kind == "choice":
        return CategoricalDistribution([_category(value) for value in dimension.values])
    assert dimension.low is not None and dimension.high is not None
    if dimension.kind == "int":
        step = 1 if dimension.log else int(dimension.step or 1)
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log, step=step)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)


def _which(dimension: Dimension) -> CategoricalDistribution:
    return CategoricalDistribution([IN_RANGE, *(_label(value) for value in dimension.also)])


def _label(value: float) -> str:
    return f"{value:g}"


def _category(value: Any) -> Any:
    """Optuna's categories are scalars; lists and mappings travel as JSON."""
    return json.dumps(value) if isinstance(value, list | tuple | dict) else value


def _suggest(trial: BaseTrial, key: str, dimension: Dimension) -> Any:
    if dimension.also:
        which = trial.suggest_categorical(f"{key} (which)", _which(dimension).choices)
        if which != IN_RANGE:
            return next(value for value in dimension.also if _label(value) == which)
    kind = distribution(dimension)
    if isinstance(kind, CategoricalDistribution):
        chosen = trial.suggest_categorical(key, kind.choices)
        return next(value for value in dimension.values if _category(value) == chosen)
    if isinstance(kind, IntDistribution):
        return trial.suggest_int(key, kind.low, kind.high, step=kind.step, log=kind.log)
    assert isinstance(kind, FloatDistribution)
    return trial.suggest_float(key, kind.low, kind.high, step=kind.step, log=kind.log)
