"""What a sweep is: a method with coefficients, the evaluations that judge it, and how much may be spent.

A sweep is a module of `search_spaces/` (`SWEEP = Sweep(...)`), a Python file of the user's with the same variable, or
a YAML file with the same keys. Imports neither torch nor ray.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from datasets.config import Config, ConfigError, near, parse, public_names
from sweep.space import OPTION, Dimension, check_point, in_order, setting
from trainables.core.load import load, names

METRIC = re.compile(r"^[\w.-]+/[\w.-]+/(train|val|test)/[\w.@-]+$")
SECTIONS = ("method", "data", "views", "train", "init")  # of one pretraining's configuration


class Objective(Config):
    """A downstream metric to improve; written short as `max linear/all/val/top1`."""

    metric: str
    direction: Literal["max", "min"]

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        if isinstance(value, str):
            direction, _, metric = value.partition(" ")
            if direction not in ("max", "min") or not metric:
                raise ValueError("write `max EVALUATION/PART/val/METRIC` or `min ...`")
            return {"direction": direction, "metric": metric.strip()}
        return value

    @field_validator("metric")
    @classmethod
    def _checked(cls, metric: str) -> str:
        return _metric(metric)


class Constraint(Config):
    """A downstream metric that must stay within a bound; points outside are infeasible for the sampler."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None

    @field_validator("metric")
    @classmethod
    def _checked(cls, metric: str) -> str:
        return _metric(metric)

    @model_validator(mode="after")
    def _one_bound(self) -> Constraint:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give exactly one of at_least and at_most")
        return self

    def violation(self, value: float) -> float:
        """How far `value` is outside; <= 0 is inside."""
        return self.at_least - value if self.at_least is not None else value - (self.at_most or 0.0)


def _metric(metric: str) -> str:
    if "/" not in metric:
        raise ValueError(
            f"'{metric}' is a training value; across a coefficient of the loss it does not compare. "
            "Name a downstream metric: EVALUATION/PART/val/METRIC"
        )
    if not METRIC.match(metric):
        raise ValueError(f"'{metric}' is no metric name; write EVALUATION/PART/val/METRIC, such as linear/all/val/top1")
    if "/test/" in metric:
        raise ValueError(f"'{metric}' is measured on the test split; choosing by it spoils the test. Use .../val/...")
    return metric


class Stopping(Config):
    """When a configuration is stopped at a rung, by its downstream values there.

    With several objectives the rule judges by non-dominated rank.
    """

    rule: Literal["none", "asha", "median"] = Field(
        "none", description="asha: Li et al. 2020; median: Golovin et al. 2017"
    )
    reduction: float = Field(3, gt=1, le=100, description="asha keeps the best 1/reduction at each rung")
    min_trials: int = Field(4, ge=1, description="configurations that must have reached the rung before it judges")
    grace: float = Field(0.0, ge=0, le=1, description="share of the training below which no rung judges")


class Search(Config):
    """How configurations are proposed."""

    sampler: Literal["auto", "tpe", "nsga2", "gp", "random", "grid"] = Field("auto", description="auto = Optuna's TPE")
    startup: int = Field(
        10,
        ge=1,
        description="random configurations before the model is used; at most so many wait for another's pretraining",
    )


class Budget(Config):
    """What may be spent; the search ends with the first that is used up. Running trials are finished."""

    trials: int = Field(20, ge=1, le=1_000_000, description="configurations; each runs `seeds` pretrainings")
    hours: float | None = Field(None, gt=0, description="wall time of this sweep, over all its sessions")
    disk_gb: float | None = Field(None, gt=0, description="size of the sweep's folder past which no trial is begun")
    device_hours: float | None = Field(None, gt=0, description="sum over trials of time x (GPUs, or CPUs without any)")


class Resources(Config):
    """What one trial of a stage asks of the cluster."""

    cpu: float = Field(1, gt=0, le=4096, description="CPUs; also the number of threads")
    gpu: float = Field(0, ge=0, le=1024, description="GPUs, fractions allowed below 1")
    memory_gb: float | None = Field(None, gt=0, description="memory in GB, None = not counted")
    custom: dict[str, float] = Field(default_factory=dict, description="custom resources of the cluster")


class StageResources(Config):
    """Resources per stage; equal requests let one process serve both stages, which saves seconds at each change."""

    pretrain: Resources = Resources()
    evaluation: Resources | None = Field(None, description="None = the same as pretrain's")
    workers: int = Field(1, ge=1, le=4096, description="Ray Train workers of one pretraining")

    def share(self, stage: str) -> Resources:
        """What one process of a stage asks for."""
        return self.pretrain if stage == "pretrain" or self.evaluation is None else self.evaluation


class Limits(Config):
    """How long to wait before something is taken for broken."""

    epoch_minutes: float = Field(60, gt=0, description="a pretraining silent for so long is taken for hung and killed")
    evaluation_minutes: float = Field(60, gt=0, description="likewise the features of a checkpoint, or an evaluation")
    storage_minutes: float = Field(10, ge=0, description="for storage that is full, read-only or away; 0 = not at all")


class Evaluation(Config):
    """One evaluation under its key: `{"linear": {}}` or `{"probe": {"name": "linear", "parts": ["group"]}}`.

    One that reads the result of another, say of `linear`, reads that of the key `linear`, or of the key that
    `"after": {"linear": "probe"}` names.
    """

    name: str
    options: dict[str, Any] = Field(default_factory=dict)
    after: dict[str, str] = Field(default_factory=dict)


class Sweep(Config):
    """A sweep. Every list may be short, every default is meant for a first try."""

    name: str = Field("sweep", pattern=r"^[A-Za-z0-9][\w.-]*$")
    description: str = ""
    method: str
    data: str
    base: dict[str, Any] = Field(
        default_factory=dict, description="fixed settings, flat or nested: {'train.epochs': 15}"
    )
    space: dict[str, Dimension] = Field(
        min_length=1, description="what is searched: method.KEY, train.KEY, ... or evals.KEY.OPTION, of an evaluation"
    )
    known: tuple[dict[str, Any], ...] = Field((), description="points tried first, such as the published one")
    objectives: tuple[Objective, ...] = Field(min_length=1, max_length=8)
    constraints: tuple[Constraint, ...] = ()
    evals: dict[str, Evaluation] = Field(min_length=1)
    rungs: tuple[float, ...] = Field((), description="shares of the training at which it is evaluated and judged")
    stop: Stopping = Stopping()
    search: Search = Search()
    seeds: int = Field(1, ge=1, le=1000, description="pretrainings per configuration; it is told as their mean")
    seed: int = Field(0, ge=0, lt=2**31, description="of the sampler; pretraining i of a configuration has seed + i")
    budget: Budget = Budget()
    resources: StageResources = StageResources()
    retries: int = Field(2, ge=0, le=100, description="further attempts at a trial that fails without getting on")
    limits: Limits = Limits()
    storage: str | None = Field(
        None,
        description="where checkpoints and artifacts go if nodes share no folder: s3://BUCKET/DIR, gs://BUCKET/DIR, "
        "file:///MOUNT/DIR; None = $SWEEP_STORAGE, without it the sweep's folder",
    )
    keep: Literal["last", "best", "all"] = Field(
        "last",
        description="checkpoints that stay on disk once they were evaluated: best = the last, and those of rungs which "
        "no other of their training surpasses in every objective",
    )
    smoke: dict[str, Any] = Field(default_factory=dict, description="settings of `--smoke`, as for --set")

    @field_validator("base", mode="before")
    @classmethod
    def _nested_base(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError("write a mapping, such as {train.epochs: 15}")
        base = nested(value)
        for section in base:
            if section not in SECTIONS:
                raise ValueError(f"'{section}' is no section{near(section, SECTIONS)}")
        return base

    @field_validator("evals", mode="before")
    @classmethod
    def _short_evals(cls, value: Any) -> Any:
        if isinstance(value, list | tuple):
            value = {key: {} for key in value} if all(isinstance(v, str) for v in value) else _merged(value)
        if not isinstance(value, dict):
            raise ValueError("write a list of names, or {key: {name: ..., option: ...}}")
        full = {}
        for key, options in value.items():
            options = dict(options or {}) if not isinstance(options, Evaluation) else options.dump()
            named = {"name": options.pop("name", key), "after": options.pop("after", {})}
            whole = set(options) == {"options"} and isinstance(options["options"], dict)
            full[key] = {**named, **(options if whole else {"options": options})}
        return full

    @field_validator("evals")
    @classmethod
    def _keys(cls, value: dict[str, Evaluation]) -> dict[str, Evaluation]:
        for key in value:
            if not re.fullmatch(r"\w[\w.-]*", key):
                raise ValueError(f"'{key}' cannot be a key; letters, digits, '_', '-' and '.' only, not '.' first")
        return value

    @field_validator("rungs")
    @classmethod
    def _ordered(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < share < 1 for share in value) or list(value) != sorted(set(value)):
            raise ValueError("rungs are increasing shares of the training, each above 0 and below 1")
        return value

    @field_validator("storage")
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is not None and not re.match(r"^[a-z][a-z0-9+]*://[^/]*/?\S+$", value):
            raise ValueError(f"'{value}' is no URL; write s3://BUCKET/DIR, gs://BUCKET/DIR or file:///MOUNT/DIR")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Sweep:
        metrics = [objective.metric for objective in self.objectives]
        if len(set(metrics)) < len(metrics):
            raise ValueError("an objective is named twice")
        if self.stop.rule != "none" and not self.rungs:
            raise ValueError(f"stop.rule is {self.stop.rule}, but there are no rungs at which to judge; add `rungs`")
        return self

    def checked(self) -> Sweep:
        """This sweep after the checks between its parts that need no import of a method.

        Raises:
            ConfigError: one line.
        """
        in_order(self.space)
        for name in self.space:
            self._check_name(name)
        for number, point in enumerate(self.known):
            check_point(self.space, point, f"known[{number}]")
        for metric in [o.metric for o in self.objectives] + [c.metric for c in self.constraints]:
            key = metric.split("/")[0]
            if key not in self.evals:
                raise ConfigError(f"objective {metric}: no evaluation '{key}' in evals{near(key, list(self.evals))}")
        return self

    def _check_name(self, dimension: str) -> None:
        """Refuse a dimension whose name leads nowhere; the options themselves are checked by those who have them."""
        name = setting(dimension)
        section, key = [*name.split("."), ""][:2]
        if section not in (*SECTIONS, "evals"):
            raise ConfigError(f"space.{dimension}: '{section}' is no section{near(section, [*SECTIONS, 'evals'])}")
        if section != "evals" or option_of(name, self.evals):
            return
        if name.removeprefix(OPTION) in self.evals:
            raise ConfigError(f"space.{dimension}: write {OPTION}KEY.OPTION, such as {name}.limit")
        raise ConfigError(f"space.{dimension}: no evaluation '{key}' in evals{near(key, list(self.evals))}")


def _merged(values: Sequence[Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for value in values:
        merged.update({value: {}} if isinstance(value, str) else value)
    return merged


def nested(flat: dict[str, Any]) -> dict[str, Any]:
    """{'train.epochs': 3, 'views': {...}} as nested sections.

    Raises:
        ValueError: one setting is there twice.
    """
    result: dict[str, Any] = {}
    for key, value in flat.items():
        head, _, rest = key.partition(".")
        inner = {rest: value} if rest else value
        # the keys of `options` are codes of transforms, whose own names may have dots
        _merge(result, head, nested(inner) if isinstance(inner, dict) and head != "options" else inner, key)
    return result


def _merge(values: dict[str, Any], name: str, value: Any, key: str) -> None:
    if name not in values:
        values[name] = value
    elif isinstance(values[name], dict) and isinstance(value, dict):
        for inner, one in value.items():
            _merge(values[name], inner, one, key)
    else:
        raise ValueError(f"'{key}' is set twice")


def option_of(name: str, evaluations: Collection[str]) -> tuple[str, str] | None:
    """The evaluation's key and the option that `evals.KEY.OPTION` names; None if there is no such evaluation."""
    rest = name.removeprefix(OPTION)
    key = max((key for key in evaluations if rest.startswith(f"{key}.")), key=len, default="")  # keys may have dots
    return (key, rest.removeprefix(f"{key}.")) if key and name.startswith(OPTION) else None


def load_sweep(name_or_file: str, sets: Sequence[str] = (), smoke: bool = False) -> Sweep:
    """A named sweep of `search_spaces/`, a dotted module, or a `.py`/`.yaml` file; then `--smoke` and `--set`.

    Raises:
        ConfigError: one line.
    """
    sweep = _read(name_or_file)
    if smoke:
        sweep = with_settings(sweep, {"budget.trials": 2, "seeds": 1, **sweep.smoke}, "smoke")
    return with_settings(sweep, settings_of(sets), "--set").checked()


def settings_of(sets: Sequence[str]) -> dict[str, Any]:
    """`["train.epochs=3"]` as {"train.epochs": 3}.

    Raises:
        ConfigError: one that is not KEY=VALUE.
    """
    return dict(_split(item) for item in sets)


def _read(name_or_file: str) -> Sweep:
    if name_or_file.endswith((".yaml", ".yml")):
        return _from_yaml(Path(name_or_file))
    if name_or_file.endswith(".py"):
        return _from_python(Path(name_or_file))
    if "/" in name_or_file:
        raise ConfigError(f"sweep '{name_or_file}': is neither a name nor a .yaml or .py file")
    if "." not in name_or_file and name_or_file not in names("space"):
        raise ConfigError(f"sweep '{name_or_file}': no such search space{near(name_or_file, names('space'))}")
    return _from_module(load("space", name_or_file), name_or_file)


def _from_yaml(path: Path) -> Sweep:
    try:
        values = read_yaml(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}{where}: is not valid YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a sweep is a mapping with the keys method, data, space, objectives, evals")
    _find_beside(path)
    return build({"name": path.stem, **values}, str(path))


def _from_python(path: Path) -> Sweep:
    if not path.exists():
        raise ConfigError(f"{path}: no such file")
    _find_beside(path)
    module_spec = importlib.util.spec_from_file_location(path.stem, path)
    assert module_spec is not None and module_spec.loader is not None
    module = importlib.util.module_from_spec(module_spec)
    try:
        module_spec.loader.exec_module(module)
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"{path}: {type(error).__name__}: {' '.join(str(error).split())[:300]}") from None
    return _from_module(module, str(path))


def _find_beside(path: Path) -> None:
    """Methods, data sets and evaluations beside a sweep's file are found by their dotted name."""
    folder = str(path.parent.resolve())
    if folder not in sys.path:
        sys.path.insert(0, folder)


def _from_module(module: Any, where: str) -> Sweep:
    sweep = getattr(module, "SWEEP", None)
    if not isinstance(sweep, Sweep):
        raise ConfigError(f"{where}: defines no SWEEP = Sweep(...)")
    return sweep


def _split(item: str) -> tuple[str, Any]:
    key, equals, text = item.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"--set {item}: write --set KEY=VALUE, such as --set train.epochs=3")
    try:
        return key.strip(), read_yaml(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {item}: the value is not valid YAML") from None


class _Yaml(yaml.SafeLoader):
    """YAML 1.1 reads 1e-3 as text, wherever it stands; people mean a number. In quotes it stays text."""


_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+$"), list("+-0123456789")
)


def read_yaml(text: str) -> Any:
    """The values of a YAML text.

    Raises:
        yaml.YAMLError: it is none.
    """
    loader = _Yaml(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def with_settings(sweep: Sweep, settings: dict[str, Any], where: str) -> Sweep:
    """A sweep with single settings changed: `train.epochs` goes to the base, `budget.trials` to the sweep itself.

    Raises:
        ConfigError: an unknown key, or one that is searched.
    """
    values = sweep.dump()
    for key, value in settings.items():
        head = key.split(".")[0]
        searched = next((name for name in sweep.space if setting(name) == key), None)
        if searched and not key.startswith("space."):
            raise ConfigError(f"{where} {key}: is searched by this sweep; set space.{searched} or leave it")
        if head in SECTIONS and key not in ("method", "data"):
            put(values["base"], key, value, where)
        elif head == "space":
            values["space"][key.removeprefix("space.")] = value
        elif head in public_names(Sweep):
            put(values, _option_key(key, values["evals"]), value, where)
        else:
            raise ConfigError(f"{where} {key}: no such setting{near(head, [*SECTIONS, *public_names(Sweep)])}")
    return build(values, where)


def _option_key(key: str, evaluations: Any) -> str:
    """`evals.linear.limit` of an evaluation that the sweep has, as it lies there: `evals.linear.options.limit`."""
    _, name, rest = [*key.split(".", 2), "", ""][:3]
    there = evaluations.get(name) if key.startswith("evals.") and isinstance(evaluations, dict) else None
    own = ("name", "options", "after")
    if rest and isinstance(there, dict) and "options" in there and rest.split(".")[0] not in own:
        return f"evals.{name}.options.{rest}"
    return key


def build(values: dict[str, Any], where: str) -> Sweep:
    """A sweep from plain values.

    Raises:
        ConfigError: one line that begins with `where`.
    """
    try:
        sweep: Sweep = parse(Sweep, values, "")
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    return sweep


def put(values: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Set `a.b.c` in nested mappings, making mappings on the way.

    Raises:
        ConfigError: a part of the path is a value.
    """
    *path, last = key.split(".")
    for part in path:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise ConfigError(f"{where} {key}: '{part}' is a value, it has no options below it")
    values[last] = value
