"""The plan of a sweep: everything is resolved, checked and priced before anything runs.

It is also the graph's blueprint: it turns the parameters of a configuration into the identity and the full
configuration of its pretraining, and a checkpoint into the evaluations that judge it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from datasets.base import Spec
from datasets.config import ConfigError, near
from sweep.capacity import pack, slots
from sweep.evaluations import Applied, Evaluations, Judged, applying
from sweep.jobs import Node
from sweep.price import Price, encoded, price
from sweep.space import OPTION, Dimension, assigned, corner_points, describe, every_point, grid, pretrained
from sweep.spec import Sweep, put
from trainables.core.config import Resolved, TrainConfig, digest, resolve
from trainables.core.fit import steps_per_epoch
from trainables.core.method import parameter_counts
from trainables.core.state import read_meta
from trainables.evals.base import capabilities_of, direction

MOST_POINTS = 200  # of a space that are all checked before anything runs


class Plan:
    """A checked sweep.

    Attributes:
        metrics: every downstream metric that all configurations yield.
        skipped: evaluation that does not apply at some points of the space, where it is left out -> why.
        warnings: what the user should know, though it works.
    """

    def __init__(self, sweep: Sweep, root: Path | None) -> None:
        """Resolve and check.

        Raises:
            ConfigError: one line. DataError: data that are missing or broken.
        """
        self.sweep, self.root = sweep.checked(), root
        self.warnings: list[str] = []
        self.skipped: dict[str, str] = {}
        self._opened: dict[str, tuple[Spec, int]] = {}
        self._judged: dict[str, Judged] = {}
        self._sizes: list[dict[str, int]] = []
        self._evaluations = Evaluations(sweep, root)
        self._yields: list[tuple[str, set[str]]] = []
        self.metrics = self._check_points()
        self._check_objectives()

    @property
    def _is_tuned(self) -> bool:
        """Whether options of evaluations are searched."""
        return len(pretrained(self.sweep.space)) < len(self.sweep.space)

    @property
    def _is_grid(self) -> bool:
        """Whether all points are known before."""
        return self.sweep.search.sampler == "grid"

    # -- the graph's blueprint -----------------------------------------------------------------------------------

    def pretraining(self, params: Mapping[str, Any], seed: int) -> tuple[str, dict[str, Any]]:
        """Identity and full configuration of one pretraining."""
        resolved = self.resolve(params, seed)
        data = self.spec(resolved).fingerprint  # a part of a data set is not the whole
        return digest({**resolved.identity(), "fingerprint": data}), resolved.dump()

    def fingerprint(self, config: dict[str, Any], evaluated: bool = False) -> str:
        """Of the data that a pretraining, or with `evaluated` what judges it, is to find on every machine."""
        resolved = resolve(config)
        return self.spec(resolved.evaluated() if evaluated else resolved).fingerprint

    def evaluations(self, config: dict[str, Any], params: Mapping[str, Any]) -> list[Node]:
        """The evaluations of a configuration that apply to its pretraining's checkpoints, each after those it reads."""
        resolved = resolve(config)
        spec = self.spec(resolved.evaluated())
        nodes: dict[str, Node] = {}
        for applied in self._applicable(self._evaluations.at(assigned(params)), resolved):
            requests = tuple(request.identity for request in applied.module.requests(applied.config, spec))
            # the key too: it begins the names of the metrics, which the result holds
            identity = {
                "key": applied.key,
                "name": applied.name,
                "config": applied.config.dump(),
                "version": applied.module.VERSION,
            }

            def id_of(parent: str, epoch: int, identity: Any = identity, inputs: Any = applied.inputs) -> str:
                ids = [nodes[key].id_of(parent, epoch) for key in inputs.values()]
                return digest({"parent": parent, "epoch": epoch, "inputs": ids, **identity})

            nodes[applied.key] = Node(
                applied.key, applied.name, applied.config.dump(), id_of, dict(applied.inputs), requests
            )
        return list(nodes.values())

    def refusal(self, params: Mapping[str, Any]) -> str:
        """Why a point of the space cannot be tried, in one line; "" if it can.

        Only some points were checked before anything ran, and an option may refuse what lies between its ends.
        """
        try:
            yields, reasons = self._check_point(params)
        except ConfigError as error:
            return str(error)
        for metric in self._wanted():
            key = metric.split("/")[0]
            if metric not in yields.get(key, ()):
                return f"{reasons.get(key, f'{metric}: no evaluation yields it')} (at {_where(params)})"
        return ""

    def features_id(self, parent: str, epoch: int, requests: list[dict[str, Any]]) -> str:
        """Identity of the features of a checkpoint."""
        return digest({"parent": parent, "epoch": epoch, "features": requests})

    # -- resolving -----------------------------------------------------------------------------------------------

    def resolve(self, params: Mapping[str, Any], seed: int) -> Resolved:
        """The configuration of a point of the space: base, then the point, then the seed."""
        values: dict[str, Any] = _copy(self.sweep.base)
        values["method"] = {"name": self.sweep.method, **values.get("method", {})}
        values["data"] = {"name": self.sweep.data, **values.get("data", {})}
        for name, value in assigned(params).items():
            if name.startswith(OPTION):
                continue
            put(values, "method.name" if name == "method" else name, value, "space")
        values["seed"] = seed
        if isinstance(values.get("init"), str):
            values["init"] = str(Path(values["init"]).resolve())  # processes of a trial work in other folders
        return resolve(values)

    def spec(self, resolved: Resolved) -> Spec:
        """The spec of the batches of a configuration; opens the data the first time."""
        return self._open(resolved)[0]

    def _open(self, resolved: Resolved) -> tuple[Spec, int]:
        """The spec of the batches of a configuration, and how many items it trains on."""
        key = digest([resolved.data_name, resolved.data.dump(), resolved.views.dump()])
        if key not in self._opened:
            source = resolved.source(self.root, "train")
            if source.spec.note:
                self._warn(f"data {resolved.data_name}: {source.spec.note}")
            self._opened[key] = resolved.build_views(source.spec).spec, len(source)
        return self._opened[key]

    def _check_points(self) -> set[str]:
        """Build every known point and every end of the space once, on the meta device, with all its evaluations.

        Where options of evaluations are searched, of a small space all points: what is right for each option alone
        may be wrong together, and an evaluation costs nothing to configure.
        """
        values = Dimension.grid if self._is_grid else Dimension.every
        small = every_point(self.sweep.space, MOST_POINTS, values) if self._is_tuned else []
        points = {digest(point): point for point in [*self.sweep.known, *corner_points(self.sweep.space), *small]}
        found: list[dict[str, list[str]]] = []
        for point in points.values():
            yields, reasons = self._check_point(point)
            found.append(yields)
            self._yields.append((_where(point), set().union(*yields.values())))
            for key, reason in reasons.items():
                self.skipped.setdefault(key, f"{reason} (at {_where(point)})")
        for key, reason in self.skipped.items():
            if not any(key in here for here in found):
                raise ConfigError(reason)
            self._warn(f"evals.{key}: left out where it does not apply, {reason}")
        return set.intersection(*(names for _, names in self._yields))

    def _check_point(self, point: Mapping[str, Any]) -> tuple[dict[str, list[str]], dict[str, str]]:
        """The metrics of every evaluation that applies at a point, and why the others do not."""
        try:
            evaluations = self._evaluations.at(assigned(point))
            return applying(evaluations, self._check_pretraining(self.resolve(point, self.sweep.seed)))
        except ConfigError as error:
            raise ConfigError(f"{error} (at {_where(point)})") from None

    def _check_pretraining(self, resolved: Resolved) -> Judged:
        """Build a pretraining on the meta device, once whatever its seed and the options of evaluations."""
        key = digest({**resolved.dump(), "seed": 0})
        if key not in self._judged:
            with self._heard():
                spec, items = self._open(resolved)
                self._check_training(resolved.train, items)
                resolved.method_class.check(resolved.method, spec)
                sizes = resolved.train.batch_size, resolved.train.epochs
                for line in resolved.method_class.doubts(resolved.method, spec, *sizes):
                    self._warn(line)
                if resolved.init:
                    read_meta(Path(resolved.init))
                with torch.device("meta"):
                    method = resolved.build_method(spec)
                evaluated = self.spec(resolved.evaluated())
                self._sizes.append(parameter_counts(method))
            self._judged[key] = Judged(evaluated, dict(method.parts), capabilities_of(method))
        return self._judged[key]

    @contextmanager
    def _heard(self) -> Iterator[None]:
        """What Python warns of becomes a warning of the plan."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
        for warning in caught:
            if issubclass(warning.category, UserWarning):
                self._warn(str(warning.message))

    def _applicable(self, evaluations: list[Applied], resolved: Resolved) -> list[Applied]:
        """The evaluations without those that do not apply to this configuration."""
        if not self.skipped and not self._is_tuned:
            return evaluations
        yields, _ = applying(evaluations, self._check_pretraining(resolved))
        return [applied for applied in evaluations if applied.key in yields]

    def _check_training(self, train: TrainConfig, items: int) -> None:
        steps_per_epoch(items, train)
        if train.warmup_epochs >= train.epochs:
            self._warn(
                f"train.warmup_epochs: {train.warmup_epochs} of {train.epochs} epochs are warm-up, "
                "so the learning rate never reaches its peak"
            )

    def _wanted(self) -> list[str]:
        """The metrics that the search needs of every configuration."""
        return [*(one.metric for one in self.sweep.objectives), *(one.metric for one in self.sweep.constraints)]

    def _check_objectives(self) -> None:
        for metric in self._wanted():
            if metric not in self.metrics:
                raise ConfigError(f"objective {metric}: no evaluation yields it{self._why_not(metric)}")
        for objective in self.sweep.objectives:
            better = direction(self._evaluations.modules[objective.metric.split("/")[0]], objective.metric)
            if better and better != objective.direction:
                self._warn(f"objective {objective.metric}: {better} is better, but the sweep asks for the opposite")

    def _why_not(self, metric: str) -> str:
        """The end of a line on a metric that not all points yield: where it is missing, or what is there."""
        missing = [where for where, names in self._yields if metric not in names]
        if len(missing) == len(self._yields):
            return near(metric, self.metrics)
        reason = self.skipped.get(metric.split("/")[0])
        return f" everywhere: {reason}" if reason else f" everywhere (not at {missing[0]})"

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)

    # -- resources and price -------------------------------------------------------------------------------------

    def check_resources(
        self, available: Mapping[str, float], nodes: Sequence[Mapping[str, float]] | None = None
    ) -> int:
        """How many pretrainings fit at once into `available` ({"CPU": 8, "GPU": 1, ...}).

        Args:
            available: of all machines together. nodes: of each of them; None = there is one.

        Raises:
            ConfigError: not even one, or one process of it fits on no node, with the numbers.
        """
        for stage in ("evaluation", "pretrain"):
            need = requirement(self.sweep, stage)
            for name, amount in need.items():
                if amount > available.get(name, 0.0):
                    workers = self.sweep.resources.workers if stage == "pretrain" else 1
                    each = f" ({workers} workers x {amount / workers:g})" if workers > 1 else ""
                    raise ConfigError(
                        f"resources: one {'pretraining' if stage == 'pretrain' else 'evaluation'} needs {amount:g} "
                        f"{name}{each}, there are {available.get(name, 0.0):g}; lower resources or --workers"
                    )
            if nodes is not None:
                self._check_nodes(stage, nodes)
        if nodes is not None:
            return slots(share_of(self.sweep, "pretrain"), self.sweep.resources.workers, nodes)
        return min(int(available.get(name, 0.0) / amount + 1e-9) for name, amount in need.items() if amount)

    def _check_nodes(self, stage: str, nodes: Sequence[Mapping[str, float]]) -> None:
        """A process cannot spread over nodes: some node must have all that one process asks for."""
        need = share_of(self.sweep, stage)
        workers = self.sweep.resources.workers if stage == "pretrain" else 1
        if pack([(need, workers)], nodes):
            return
        what = "an evaluation" if stage == "evaluation" else f"each of {workers} workers of a pretraining"
        if pack([(need, 1)], nodes):
            asked = " and ".join(_amount(name, amount) for name, amount in need.items())
            raise ConfigError(f"resources: {what} needs {asked} on one node; so many nodes with room there are not")
        asked = " and ".join(_amount(name, amount) for name, amount in need.items())
        most = ", ".join(_amount(name, max((node.get(name, 0.0) for node in nodes), default=0.0)) for name in need)
        raise ConfigError(
            f"resources: {what} needs {asked} on one node, the most that any node has is {most}; lower resources"
        )

    def counts(self) -> dict[str, int]:
        """How many trials of each kind a full run has."""
        points = [*self.sweep.known, *grid(self.sweep.space, self.sweep.known)] if self._is_grid else None
        configurations, seeds = self.sweep.budget.trials, self.sweep.seeds
        if points is not None:
            points = points[:configurations]
            configurations = len(points)
        needed = {objective.metric.split("/")[0] for objective in self.sweep.objectives}
        evaluations = configurations * seeds * (len(self.sweep.evals) + len(self.sweep.rungs) * len(needed))
        pretrainings = self._pretrained(configurations, points) * seeds
        return {"configurations": configurations, "pretrainings": pretrainings, "evaluations": evaluations}

    def _pretrained(self, configurations: int, points: Sequence[Mapping[str, Any]] | None) -> int:
        """How many of so many configurations differ, at most, in more than options of evaluations.

        Args:
            points: theirs, where they are known before: those of a grid.
        """
        if not pretrained(self.sweep.space):
            return 1
        return configurations if points is None else len({digest(pretrained(point)) for point in points})

    def price(self, steps: int = 3) -> Price:
        """Measured here: what one pretraining and the features of its checkpoint compute; probes come on top."""
        point = self.sweep.known[0] if self.sweep.known else corner_points(self.sweep.space)[0]
        resolved = self.resolve(point, self.sweep.seed)
        judged, there = resolved.evaluated(), self._applicable(self._evaluations.at(assigned(point)), resolved)
        spec = self.spec(judged)
        requests = [request for applied in there for request in applied.module.requests(applied.config, spec)]
        items = encoded(judged, self.root, requests)
        share = self.sweep.resources.pretrain
        return price(resolved, self.root, share.cpu, items, steps, share.gpu > 0)

    def describe(self) -> list[str]:
        """The plan as lines for a person."""
        sweep, counts = self.sweep, self.counts()
        lines = [
            f"{sweep.name}: {sweep.method} on {sweep.data}" + (f" - {sweep.description}" * bool(sweep.description))
        ]
        lines += [f"  search    {key} in {describe(dim)}{_when(dim.when)}" for key, dim in sweep.space.items()]
        lines += [f"  objective {objective.direction} {objective.metric}" for objective in sweep.objectives]
        lines.append(f"  network   {_sizes(self._sizes)}")
        lines.append("  judged by " + ", ".join(self._evaluations.modules))
        if sweep.rungs:
            rungs = ", ".join(f"{share:.0%}" for share in sweep.rungs)
            lines.append(f"  rungs     at {rungs} of the training, rule {sweep.stop.rule}")
        shared = "=" if counts["pretrainings"] == counts["configurations"] * sweep.seeds else "share"
        lines.append(
            f"  {counts['configurations']} configurations x {sweep.seeds} seeds {shared} {counts['pretrainings']} "
            f"pretrainings, up to {counts['evaluations']} evaluations"
        )
        return lines + [f"  note      {warning}" for warning in self.warnings]


def _sizes(counts: Sequence[Mapping[str, int]]) -> str:
    """Numbers of trained values, over the points of the space that were looked at."""
    found = []
    for name in dict.fromkeys(name for one in counts for name in one):
        sizes = [one[name] for one in counts if name in one]
        low, high = min(sizes), max(sizes)
        found.append(f"{low:,}{f' to {high:,}' if high > low else ''} {name}")
    return ", ".join(found) + " trained values"


def requirement(sweep: Sweep, stage: str) -> dict[str, float]:
    """What one trial of a stage takes from the cluster, over all its workers."""
    workers = sweep.resources.workers if stage == "pretrain" else 1
    return {name: amount * workers for name, amount in share_of(sweep, stage).items()}


def share_of(sweep: Sweep, stage: str) -> dict[str, float]:
    """What one process of a stage takes from its node."""
    share = sweep.resources.share(stage)
    need = {"CPU": share.cpu, "GPU": share.gpu, "memory": (share.memory_gb or 0) * 2**30, **share.custom}
    return {name: amount for name, amount in need.items() if amount}


def _amount(name: str, amount: float) -> str:
    return f"{amount / 2**30:g} GB memory" if name == "memory" else f"{amount:g} {name}"


def local_resources() -> dict[str, float]:
    """What this machine has."""
    return {"CPU": float(os.cpu_count() or 1), "GPU": float(torch.cuda.device_count())}


def _where(point: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in point.items())


def _when(conditions: Mapping[str, Any]) -> str:
    return "".join(f" when {key} = {value}" for key, value in conditions.items())


def _copy(values: Any) -> Any:
    return {key: _copy(value) for key, value in values.items()} if isinstance(values, dict) else values
