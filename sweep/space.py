"""The search space: named dimensions, some of them conditional on the value of another.

    Space = {"method.lambda": Float(0.1, 1e4, log=True), "method.target": Choice(["ga", "vm"]),
             "method.kappa": Float(0.5, 30, log=True, when={"method.target": "vm"})}

A name may end in a label, so that a setting has other values under other conditions: `method.lambda#essl`. A name
`evals.KEY.OPTION` is an option of an evaluation, on which no pretraining depends. In YAML the same reads
`method.lambda: {float: [0.1, 1e4], log: true}`, `method.target: {choice: [ga, vm]}`.
Imports neither torch nor ray nor optuna: a space file must be cheap to read.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, model_validator

from datasets.config import Config, ConfigError, near

Kind = Literal["float", "int", "choice"]
OPTION = "evals."  # begins the name of an option of an evaluation


class Dimension(Config):
    """One searched setting.

    Attributes:
        kind, low, high, log, step: a range of numbers, both ends included; `log` and `step` exclude each other.
        values: of a choice; lists and mappings are allowed.
        also: single values beside the range, such as 0 for a coefficient searched on a log scale.
        when: the dimension exists only where each named dimension has the value (or one of the values).
        points: how many values the grid sampler takes from a range without step.
    """

    kind: Kind
    low: float | None = None
    high: float | None = None
    log: bool = False
    step: float | None = Field(None, gt=0)
    values: tuple[Any, ...] = ()
    also: tuple[float, ...] = ()
    when: dict[str, Any] = Field(default_factory=dict)
    points: int = Field(5, ge=2, le=1000)

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            raise ValueError("write {float: [low, high]}, {int: [low, high]} or {choice: [...]}")
        values = dict(values)
        for kind in ("float", "int", "choice"):
            if kind in values:
                given = values.pop(kind)
                values["kind"] = kind
                if not isinstance(given, list | tuple) or (kind != "choice" and len(given) != 2):
                    raise ValueError(f"{kind}: write {'a list of values' if kind == 'choice' else '[low, high]'}")
                values.update({"values": given} if kind == "choice" else {"low": given[0], "high": given[1]})
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Dimension:
        if self.kind == "choice":
            if not self.values:
                raise ValueError("a choice needs at least one value")
            if len({_plain(value) for value in self.values}) < len(self.values):
                raise ValueError("a choice has a value twice")
            return self
        if self.low is None or self.high is None or not self.low < self.high:
            raise ValueError(f"the range [{self.low}, {self.high}] is empty; low must be below high")
        if not all(math.isfinite(number) for number in (self.low, self.high, self.step or 0.0, *self.also)):
            raise ValueError("a range needs finite ends, a finite step and finite values under `also`")
        if self.log and self.low <= 0:
            raise ValueError(f"a log range must start above 0 (got {self.low}); put 0 itself under `also`")
        if self.log and self.step:
            raise ValueError("log and step exclude each other")
        if self.kind == "int" and (self.low != int(self.low) or self.high != int(self.high)):
            raise ValueError("the ends of an int range must be whole numbers")
        return self

    def contains(self, value: Any) -> bool:
        """Whether `value` can come out of this dimension (the step is not enforced on a known point)."""
        if self.kind == "choice":
            return _plain(value) in {_plain(choice) for choice in self.values}
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        if isinstance(value, float) and not math.isfinite(value):
            return False
        if value in self.also:
            return True
        whole = self.kind != "int" or value == int(value)
        assert self.low is not None and self.high is not None
        return whole and self.low <= value <= self.high

    def grid(self) -> list[Any]:
        """The values the grid sampler visits."""
        if self.kind == "choice":
            return list(self.values)
        assert self.low is not None and self.high is not None
        low, high = self.low, self.high
        if self.kind == "int" and not self.log and not self.step and high - low < self.points:
            numbers: list[float] = list(range(int(low), int(high) + 1))
        elif self.step:
            numbers = [low + i * self.step for i in range(int((high - low) / self.step + 1e-9) + 1)]
        else:
            shares = [i / (self.points - 1) for i in range(self.points)]
            numbers = [low * (high / low) ** s if self.log else low + (high - low) * s for s in shares]
        rounded = [round(number) for number in numbers] if self.kind == "int" else numbers
        return [*self.also, *dict.fromkeys(rounded)]

    def every(self) -> Iterable[Any]:
        """All its values; of a continuous range its ends."""
        if self.kind == "int":
            assert self.low is not None and self.high is not None
            numbers = range(int(self.low), int(self.high) + 1, int(self.step or 1))
            return itertools.chain(self.also, numbers)
        return self.grid() if self.kind == "choice" or self.step else self.corners()

    def corners(self) -> list[Any]:
        """Values at the ends, which the plan builds once to see that every region works."""
        return list(self.values) if self.kind == "choice" else [*self.also, *self._ends()]

    def _ends(self) -> list[Any]:
        assert self.low is not None and self.high is not None
        return [int(self.low), int(self.high)] if self.kind == "int" else [self.low, self.high]


def Float(low: float, high: float, **options: Any) -> Dimension:
    """A real number in [low, high]; options: log, step, also, when, points."""
    return Dimension.model_validate({"kind": "float", "low": low, "high": high, **options})


def Int(low: int, high: int, **options: Any) -> Dimension:
    """A whole number in [low, high]; options: log, step, also, when, points."""
    return Dimension.model_validate({"kind": "int", "low": low, "high": high, **options})


def Choice(values: list[Any], **options: Any) -> Dimension:
    """One of `values`; option: when."""
    return Dimension.model_validate({"kind": "choice", "values": values, **options})


Space = Mapping[str, Dimension]


def setting(key: str) -> str:
    """The setting that a dimension stands for: its name without the label."""
    return key.partition("#")[0]


def assigned(point: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a point and their values: its dimensions without labels.

    Raises:
        ConfigError: two of them set one setting.
    """
    owners: dict[str, str] = {}
    for key in point:
        name = setting(key)
        if owners.setdefault(name, key) != key:
            raise ConfigError(f"space.{key}: sets {name} where {owners[name]} does too; give one a `when`")
    return {name: point[key] for name, key in owners.items()}


def pretrained(point: Mapping[str, Any]) -> dict[str, Any]:
    """What of a point, or of a space, a pretraining depends on: all but the options of evaluations."""
    return {key: value for key, value in point.items() if not key.startswith(OPTION)}


def active(dimension: Dimension, params: Mapping[str, Any]) -> bool:
    """Whether a conditional dimension exists beside the values chosen so far."""
    for key, wanted in dimension.when.items():
        allowed = wanted if isinstance(wanted, list | tuple) else [wanted]
        if key not in params or _plain(params[key]) not in {_plain(value) for value in allowed}:
            return False
    return True


def in_order(space: Space) -> list[tuple[str, Dimension]]:
    """The dimensions, each after those its `when` names.

    Raises:
        ConfigError: `when` names something that is not searched, a value that cannot occur, or a circle.
    """
    for key, dimension in space.items():
        for other, wanted in dimension.when.items():
            if other not in space:
                raise ConfigError(f"space.{key}.when: '{other}' is not searched{near(other, list(space))}")
            for value in wanted if isinstance(wanted, list | tuple) else [wanted]:
                if not space[other].contains(value):
                    raise ConfigError(f"space.{key}.when: {value!r} cannot be a value of '{other}'")
    ordered: dict[str, Dimension] = {}
    while len(ordered) < len(space):
        free = [key for key, dim in space.items() if key not in ordered and all(k in ordered for k in dim.when)]
        if not free:
            raise ConfigError(f"space: the conditions of {sorted(set(space) - set(ordered))} go in a circle")
        ordered.update({key: space[key] for key in free})
    return list(ordered.items())


def check_point(space: Space, point: Mapping[str, Any], where: str) -> dict[str, Any]:
    """A point given by hand, complete and inside the space; values of inactive dimensions are dropped.

    Raises:
        ConfigError: an unknown key, a missing key or a value outside the range, with the range.
    """
    for key in point:
        if key not in space:
            raise ConfigError(f"{where}: '{key}' is not searched{near(key, list(space))}")
    checked: dict[str, Any] = {}
    for key, dimension in in_order(space):
        if not active(dimension, checked):
            continue
        if key not in point:
            raise ConfigError(f"{where}: '{key}' is missing")
        if not dimension.contains(point[key]):
            raise ConfigError(f"{where}: {key} = {point[key]!r} is outside {describe(dimension)}")
        checked[key] = point[key]
    return checked


def describe(dimension: Dimension) -> str:
    """A dimension in a few characters, for a person."""
    if dimension.kind == "choice":
        return "{" + ", ".join(map(str, dimension.values)) + "}"
    scale = " log" if dimension.log else f" step {dimension.step:g}" if dimension.step else ""
    also = "".join(f" or {value:g}" for value in dimension.also)
    return f"[{dimension.low:g}, {dimension.high:g}]{scale}{also}"


def grid(space: Space, without: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """Every point of the grid but those that are tried before; no two that differ only in inactive dimensions.

    Options of evaluations vary slowest, so that different pretrainings come first and go side by side.
    """
    ordered = in_order(space)
    points: dict[str, dict[str, Any]] = {}
    for values in itertools.product(*(dimension.grid() for _, dimension in ordered)):
        point: dict[str, Any] = {}
        for (key, dimension), value in zip(ordered, values, strict=True):
            if active(dimension, point):
                point[key] = value
        points.setdefault(_plain(point), point)
    kinds: dict[str, int] = {}
    ordered_points = sorted(points.values(), key=lambda point: kinds.setdefault(_plain(_options(point)), len(kinds)))
    return [point for point in ordered_points if not any(same_point(point, one) for one in without)]


def same_point(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two points are one but for rounding, as 1000 and 10 to the power of 3."""

    def equal(a: Any, b: Any) -> bool:
        numbers = isinstance(a, int | float) and isinstance(b, int | float)
        return math.isclose(a, b, rel_tol=1e-9) if numbers else a == b

    return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)


def _options(point: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in point.items() if key.startswith(OPTION)}


def corner_points(space: Space) -> list[dict[str, Any]]:
    """One point per end of each dimension, the others at their first value: few, but every end is built once."""
    ordered = in_order(space)
    points: dict[str, dict[str, Any]] = {}
    for fixed_key, fixed in ordered:
        for value in fixed.corners():
            point: dict[str, Any] = {}
            wanted = {**_conditions(space, fixed_key), fixed_key: value}
            for key, dimension in ordered:
                if active(dimension, point):
                    point[key] = wanted.get(key, dimension.corners()[0])
            points.setdefault(_plain(point), point)
    return list(points.values())


def every_point(
    space: Space, most: int, values: Callable[[Dimension], Iterable[Any]] = Dimension.every
) -> list[dict[str, Any]]:
    """Every point of a space, where there are at most so many; else none."""
    points: list[dict[str, Any]] = [{}]
    for key, dimension in in_order(space):
        found, more = list(itertools.islice(values(dimension), most + 1)), []
        for point in points:
            more += [{**point, key: value} for value in found] if active(dimension, point) else [point]
        if len(more) > most:
            return []
        points = more
    return points


def _conditions(space: Space, key: str) -> dict[str, Any]:
    """A value for each dimension on which the existence of `key` depends, also through others."""
    found: dict[str, Any] = {}
    for other, wanted in space[key].when.items():
        found |= {**_conditions(space, other), other: wanted[0] if isinstance(wanted, list | tuple) else wanted}
    return found


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=list)
