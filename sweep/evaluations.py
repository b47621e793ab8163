"""The evaluations of a sweep: loaded, in the order in which they read each other, with the options of a point."""

from __future__ import annotations

import copy
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from datasets.base import DataError, Source, Spec
from datasets.config import ConfigError, near, parse
from sweep.space import OPTION
from sweep.spec import Sweep, option_of, put
from trainables.core.config import digest
from trainables.core.load import load
from trainables.evals.base import Capabilities, EvalConfig, metric_names


class Judged(NamedTuple):
    """What evaluations are told of a pretraining before it runs: see `trainables.evals.base.check`."""

    spec: Spec
    parts: Mapping[str, int]
    capabilities: Capabilities


@dataclass(frozen=True)
class Applied:
    """One evaluation of the sweep, loaded and configured.

    Attributes:
        inputs: name of an evaluation whose result it reads -> the key whose result that is.
        others: name and spec of the other data that it shows to the encoder.
    """

    key: str
    name: str
    module: Any
    config: EvalConfig
    inputs: Mapping[str, str] = field(default_factory=dict)
    others: tuple[tuple[str, Spec], ...] = ()

    def check_inputs(self, there: Container[str]) -> None:
        """Refuse it where another one whose result it reads does not apply; `there` = keys of those that do."""
        for name, key in self.inputs.items():
            if key not in there:
                shown = f"'{name}'" if name == key else f"'{name}' ({key})"
                raise ConfigError(f"{self.key}: reads the result of {shown}, which does not apply")

    def check_others(self, spec: Spec) -> None:
        """Refuse other data that an encoder of pages, or of anything else, cannot be shown."""
        for name, other in self.others:
            if (spec.fragments or other.fragments) and other.shape != spec.shape:
                raise ConfigError(f"{self.key}: {name} has items of {other.shape}, the encoder takes {spec.shape}")


class Evaluations:
    """All evaluations of a sweep.

    Attributes:
        modules: by key, each after those whose results it reads.
    """

    def __init__(self, sweep: Sweep, root: Path | None) -> None:
        """Load them.

        Raises:
            ConfigError: no such evaluation, it needs a GPU, or reads what is not there.
        """
        self._sweep, self._root = sweep, root
        modules = {key: self._load(key) for key in sweep.evals}
        self._inputs = {key: self._inputs_of(key, module.NEEDS.after) for key, module in modules.items()}
        self.modules = {key: modules[key] for key in in_turn(self._inputs)}
        self._applied: dict[str, Applied] = {}

    def at(self, settings: Mapping[str, Any]) -> list[Applied]:
        """Each after those it reads, under the settings of a point; those that are no options of evaluations are free.

        Raises:
            ConfigError, DataError: one line.
        """
        options = {key: copy.deepcopy(self._sweep.evals[key].options) for key in self.modules}
        for name, value in settings.items():
            if name.startswith(OPTION):
                key, option = option_of(name, self.modules) or ("", name)
                put(options[key], option, value, f"space.{OPTION}{key}")
        return [self._apply(key, given) for key, given in options.items()]

    def _apply(self, key: str, options: dict[str, Any]) -> Applied:
        known = digest([key, options])
        if known not in self._applied:
            module = self.modules[key]
            config = parse(module.Config, options, OPTION + key)
            sections: list[dict[str, Any]] = getattr(module, "data", lambda _: [])(config)
            others = tuple((section["name"], self._find_data(section, OPTION + key)) for section in sections)
            self._applied[known] = Applied(key, self._sweep.evals[key].name, module, config, self._inputs[key], others)
        return self._applied[known]

    def _load(self, key: str) -> Any:
        name = self._sweep.evals[key].name
        try:
            module = load("evaluation", name)
        except ConfigError as error:
            raise ConfigError(f"{OPTION}{key}: {error}") from None
        if module.NEEDS.gpu and not self._sweep.resources.share("evaluation").gpu:
            raise ConfigError(f"{OPTION}{key}: '{name}' needs a GPU; set resources.evaluation.gpu or leave it out")
        return module

    def _inputs_of(self, key: str, needed: tuple[str, ...]) -> dict[str, str]:
        """Where each result that an evaluation reads comes from: the key of that name, or the one `after` says."""
        evaluations, after = self._sweep.evals, self._sweep.evals[key].after
        for name in after:
            if name not in needed:
                reads = f"the results of {', '.join(needed)}" if needed else "no other result"
                raise ConfigError(f"{OPTION}{key}.after: does not read '{name}'; it reads {reads}")
        for name in needed:
            having = [other for other, evaluation in evaluations.items() if evaluation.name == name]
            if name in after and after[name] not in having:
                wrong = f"'{after[name]}' is no key of '{name}'"
                raise ConfigError(f"{OPTION}{key}.after: {wrong}{near(after[name], having)}")
            if name not in after and name not in evaluations:
                hint = f"say of which key by after: {{{name}: {having[0]}}}" if having else "add it to evals"
                raise ConfigError(f"{OPTION}{key}: reads the result of '{name}'; {hint}")
        return {name: after.get(name, name) for name in needed}

    def _find_data(self, section: Mapping[str, Any], where: str) -> Spec:
        """Open other data that an evaluation reads; what they promise.

        Raises:
            ConfigError, DataError: no such data, a wrong option, or they are not there.
        """
        options = dict(section)
        module = load("dataset", options.pop("name"))
        try:
            source: Source = module.open(parse(module.Config, options, where), self._root, "train")
            return source.spec
        except DataError as error:
            raise DataError(f"{where}: {error}") from None


def applying(evaluations: Sequence[Applied], judged: Judged) -> tuple[dict[str, list[str]], dict[str, str]]:
    """By key the metrics of the evaluations that apply to a pretraining, and why the others do not."""
    configs = {applied.key: applied.config for applied in evaluations}
    yields: dict[str, list[str]] = {}
    reasons: dict[str, str] = {}
    for applied in evaluations:
        read = {name: configs[key] for name, key in applied.inputs.items()}
        try:
            applied.check_inputs(yields)
            applied.check_others(judged.spec)
            yields[applied.key] = metric_names(
                applied.module, applied.key, applied.config, judged.spec, judged.parts, judged.capabilities, read
            )
        except ConfigError as error:
            reasons[applied.key] = str(error)
    return yields, reasons


def modules_of(names: Sequence[str]) -> dict[str, Any]:
    """The evaluations, each after those whose results it reads.

    Raises:
        ConfigError: there is no such evaluation, or one whose result another reads is not among them.
    """
    found = {name: load("evaluation", name) for name in names}
    for name, module in found.items():
        for needed in module.NEEDS.after:
            if needed not in found:
                raise ConfigError(f"{name}: needs the result of '{needed}'; evaluate it in the same call")
    return {name: found[name] for name in in_turn({n: {k: k for k in one.NEEDS.after} for n, one in found.items()})}


def in_turn(inputs: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The keys of evaluations, each after those it reads.

    Raises:
        ConfigError: they go in a circle.
    """
    ordered: list[str] = []
    while len(ordered) < len(inputs):
        free = [key for key in inputs if key not in ordered and all(k in ordered for k in inputs[key].values())]
        if not free:
            raise ConfigError(f"evals: {sorted(set(inputs) - set(ordered))} wait for each other")
        ordered += free
    return ordered
