"""Training many probes at once: Adam with early stopping, each with its own best epoch; exact where a probe is linear.

All probes of a bank begin with the same weights and see the same items in the same order, and each stops for itself, so
that a probe is the same whichever others are trained beside it. Rows that are held out, a seeded part of the train
split's items, decide when a probe stops, and of an exact one the penalty. No split that is reported chooses anything:
where the original stops by a validation split of its own, cut from the training images, so does the held-out part here.

Settings of the original (Plachouras et al., IJCNN 2025, arXiv 2505.06224), Adam with weight decay in the gradient, rate
1e-3, constant, no clipping, labels as they are: `original` is its published code, `paper_run` the configuration of its
published numbers. What they get wrong is theirs too: last weights in place of the best ones, and `original` averages
metrics over batches. `project` has exact linear probes, standardised features and labels and the best epoch; `small`
is the same for trial runs on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from datasets._progress import Progress
from datasets.config import ConfigError
from trainables.core.draws import generator
from trainables.evals import probes
from trainables.evals._bank import Bank, Output, Probe, Shape, Stacked, State, linear
from trainables.evals._heads import Hidden
from trainables.evals.base import EvalConfig, Features
from trainables.evals.probes import hold_out, standardisation

Kind = Literal["number", "class", "tags"]
Named = Literal["slp", "mlp"]
Preset = Literal["project", "small", "paper_run", "original"]
TOGETHER = 16  # probes of a bank, which bounds its memory
LOOK = 1024  # held-out rows at once
SMALL = {"hidden": (64,), "batch_size": 32, "epochs": 15, "patience": 3, "limit": 400}
PUBLISHED = {"slp": "adam", "standardise": False, "begin": "random", "keep": "last", "held_out": 0.1}


class BankConfig(EvalConfig):
    """Which probes, and how they are trained."""

    PRESETS: ClassVar[dict[str, dict[str, Any]]] = {}

    preset: Preset = Field(
        "project",
        description="what the options below, and limit, are where they are not given; original: as published in code; "
        "paper_run: as the published numbers came about; small: for trial runs",
    )
    probes: tuple[Named, ...] = Field(
        ("slp", "mlp"), min_length=1, description="slp = one layer, mlp = with hidden ones"
    )
    hidden: Hidden = Field((512, 256), min_length=1, description="sizes of the mlp's hidden layers (published)")
    slp: Literal["exact", "adam"] = Field(
        "exact",
        description="how one layer is fitted: exact = ridge or logistic regression, every penalty tried (tags: adam); "
        "adam = as the mlp (published)",
    )
    lr: float = Field(1e-3, gt=0, le=10, description="learning rate of Adam (published)")
    weight_decay: float = Field(
        1e-3, ge=0, le=10, description="added to the gradient (published code; paper run: 1e-2)"
    )
    batch_size: int = Field(128, ge=1, le=65_536, description="rows of a step (published: 32 or 16)")
    epochs: int = Field(100, ge=1, le=100_000, description="passes over the train rows at most (published: 5 to 100)")
    patience: int = Field(10, ge=1, le=100_000, description="epochs without a lower held-out loss (published: 3 to 10)")
    held_out: float = Field(
        0.2, gt=0, lt=1, description="share of the train items that decides when to stop (published: 0.1)"
    )
    standardise: bool = Field(True, description="features by the train split's mean and deviation (published: off)")
    output: Output = Field(
        "none",
        description="last activation of trained probes: relu or sigmoid of numbers, softmax or sigmoid of classes and "
        "tags, whose losses are of what comes out of it (published: none)",
    )
    begin: Literal["mean", "random"] = Field(
        "mean",
        description="first answer of a network: the mean, or the classes' shares, which are kept where no epoch is "
        "better; or that of random weights (published)",
    )
    keep: Literal["best", "last"] = Field("best", description="weights of which epoch (published: last, by mistake)")
    metric_batch: int | None = Field(
        None, ge=1, description="metrics as means over batches of so many items, and the held-out loss over those of "
        "training (published code); None = over all items"
    )  # fmt: skip

    @model_validator(mode="before")
    @classmethod
    def _of_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        return {**cls.PRESETS.get(str(values.get("preset")), {}), **values}


OF_NUMBERS: tuple[Output, ...] = ("none", "relu", "sigmoid")
OF_OTHERS: tuple[Output, ...] = ("none", "softmax", "sigmoid")


def check_output(cfg: BankConfig, kinds: Iterable[Kind]) -> None:
    """Refuse a last activation that does not suit what is read, or how probes are fitted.

    Raises:
        ConfigError: one line.
    """
    for kind in kinds:
        known = OF_NUMBERS if kind == "number" else OF_OTHERS
        if cfg.output not in known:
            what = {"number": "numbers", "class": "classes", "tags": "tags"}[kind]
            raise ConfigError(f"output: probes of {what} have no '{cfg.output}'; known: {', '.join(known)}")
    if cfg.output == "none":
        return
    if cfg.begin == "mean":
        raise ConfigError("output: a network with an activation at its end begins anyhow; set begin: random")
    if "slp" in cfg.probes and cfg.slp == "exact":
        raise ConfigError("output: a layer that is fitted exactly has no activation; set slp: adam, or probes: [mlp]")


@dataclass(frozen=True)
class Job:
    """One thing to be read from features.

    Attributes:
        x: (n, d). y: (n, t) numbers or tags, (n,) int64 classes. outputs: t, or the number of classes.
        p: (n, 1) a parameter that the probe is told. centre, spread: (t,) the numbers' as they are trained.
    """

    x: Tensor
    y: Tensor
    kind: Kind
    outputs: int
    p: Tensor | None = None
    centre: Tensor | None = None
    spread: Tensor | None = None


@dataclass(frozen=True)
class Rows:
    """Which rows are fitted, and which decide when to stop; item-major where an item has several `draws`."""

    train: Tensor
    held: Tensor
    draws: int = 1

    def epoch(self, number: int) -> Tensor:
        """The rows of one epoch, one draw of each item."""
        return self.train[number % self.draws :: self.draws]

    @property
    def mask(self) -> Tensor:
        """(n,) bool: the held-out ones."""
        held = torch.zeros(len(self.train) + len(self.held), dtype=torch.bool)
        held[self.held] = True
        return held


def rows_of(features: Features, cfg: BankConfig, seed: int, draws: int = 1) -> Rows:
    """The same items for every part, factor and transform."""
    held = hold_out(features.owner, np.random.default_rng(seed), cfg.held_out)
    return Rows((~held).nonzero()[:, 0], held.nonzero()[:, 0], draws)


@dataclass
class History:
    """Of P probes, whose entries are NaN once they have stopped.

    Attributes:
        step: (P,) train loss of each step. held: (P,) mean held-out loss of each epoch. best: epoch of the lowest one,
            -1 = before the first. epochs: that were run.
    """

    step: list[Tensor] = field(default_factory=list)
    held: list[Tensor] = field(default_factory=list)
    best: list[int] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)


Watch = Callable[[int, int, Bank, Sequence[int]], None]  # step, steps of an epoch, the bank, which jobs it holds


def losses(bank: Bank, jobs: Sequence[Job], rows: Tensor, which: Sequence[int]) -> Tensor:
    """(P,) loss of each network of the bank on some rows of its job: the mean over every element."""
    some = [jobs[job] for job in which]
    x = bank.normalised(_shown([job.x for job in some], rows))
    y = _shown([job.y for job in some], rows)
    if bank.shape.batch_norm:  # after what goes in, whose statistics it shares
        y = bank.normalised(y)
    parameters = [job.p[rows] for job in some if job.p is not None]
    out = bank(x, torch.stack(parameters) if parameters else None)
    if some[0].kind == "class":
        chosen = out.log_softmax(-1).gather(-1, y.expand(out.shape[:2])[..., None])
        return -chosen.mean((1, 2))
    if some[0].kind == "tags":
        return F.binary_cross_entropy_with_logits(out, y.expand_as(out), reduction="none").mean((1, 2))
    return (out - y).square().mean((1, 2))


def _shown(values: Sequence[Tensor], rows: Tensor) -> Tensor:
    """(b, ...) of what all share, else (P, b, ...)."""
    first = values[0]
    return first[rows] if all(value is first for value in values) else torch.stack([value[rows] for value in values])


def fit(
    jobs: Sequence[Job], shape: Shape, rows: Rows, cfg: BankConfig, seed: int, start: Bank | None = None,
    shuffle: bool = True, watch: Watch | None = None,
) -> tuple[list[State], History]:  # fmt: skip
    """The tensors of a network for each job, jobs being as the networks take them.

    Args:
        start: before the first step; None = drawn by the seed. watch: called after each step, gradients still there.
    """
    count = len(jobs)
    bank = start or _begun(jobs, shape, rows, cfg, seed)
    history = History(best=[-1] * count, epochs=[0] * count)
    kept, lowest, active = [bank.state(job) for job in range(count)], [math.inf] * count, list(range(count))
    if cfg.begin == "mean" and not shape.batch_norm:  # one that has seen nothing compares with none that has
        lowest = _held_out(bank, jobs, rows.held, cfg, active).tolist()
    optimizer, progress = _adam(bank, cfg), Progress(f"probes, {count} at once: epoch", cfg.epochs)
    for epoch in range(cfg.epochs):
        order, train = generator(seed, "order", epoch), rows.epoch(epoch)
        train = train[torch.randperm(len(train), generator=order)] if shuffle else train
        _pass(bank, optimizer, jobs, _batches(train, cfg.batch_size, shape), active, history, watch)
        held = _held_out(bank, jobs, rows.held, cfg, active)
        history.held.append(_spread(held, active, count))
        for place, job in enumerate(active):
            history.epochs[job] = epoch + 1
            better = float(held[place]) < lowest[job]
            if better:
                lowest[job], history.best[job] = float(held[place]), epoch
            if better or cfg.keep == "last":
                kept[job] = bank.state(place)
        progress.add()
        going = [place for place, job in enumerate(active) if epoch - history.best[job] < cfg.patience]
        if not going:
            break
        if len(going) < len(active):
            bank, optimizer = _narrowed(bank, optimizer, going, cfg)
            active = [active[place] for place in going]
    return kept, history


def _begun(jobs: Sequence[Job], shape: Shape, rows: Rows, cfg: BankConfig, seed: int) -> Bank:
    """Networks before the first step; where they are to begin with a mean, the last layer sees no feature."""
    bank = Bank(shape, len(jobs), generator(seed, "start"), jobs[0].x.dtype)
    if cfg.begin == "mean":
        last = cast(Stacked, bank.layers[-1])
        with torch.no_grad():
            last.weight.zero_()
            last.bias.copy_(torch.stack([_first_answer(job, rows.train, shape) for job in jobs]))
    return bank


def _first_answer(job: Job, rows: Tensor, shape: Shape) -> Tensor:
    y = job.y[rows]
    if job.kind == "class":
        return (1 + y.bincount(minlength=job.outputs)).to(job.x.dtype).log()
    if job.kind == "tags":
        return ((1 + y.sum(0)) / (2 + len(y))).logit()
    return torch.zeros_like(y[0]) if shape.batch_norm else y.mean(0)


def _pass(
    bank: Bank, optimizer: torch.optim.Adam, jobs: Sequence[Job], batches: Sequence[Tensor], active: Sequence[int],
    history: History, watch: Watch | None,
) -> None:  # fmt: skip
    bank.train()
    for batch in batches:
        with torch.enable_grad():
            found = losses(bank, jobs, batch, active)
            optimizer.zero_grad()
            found.sum().backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        history.step.append(_spread(found.detach(), active, len(jobs)))
        if watch is not None:
            watch(len(history.step), len(batches), bank, active)
            bank.train()


def _held_out(bank: Bank, jobs: Sequence[Job], rows: Tensor, cfg: BankConfig, active: Sequence[int]) -> Tensor:
    """(P,) mean loss over the held-out rows, or as published the mean of means over batches."""
    bank.eval()
    published = cfg.metric_batch is not None
    batches = _batches(rows, cfg.batch_size, bank.shape) if published else rows.split(LOOK)
    with torch.no_grad():
        found = torch.stack([losses(bank, jobs, batch, active) for batch in batches])
    sizes = torch.tensor([1.0 if published else len(batch) for batch in batches], dtype=found.dtype)
    return (found * sizes[:, None]).sum(0) / sizes.sum()


def _batches(rows: Tensor, size: int, shape: Shape) -> Sequence[Tensor]:
    """With a batch norm without the last incomplete one, unless it is the only one."""
    batches = rows.split(size)
    return batches[:-1] if shape.batch_norm and len(batches) > 1 and len(batches[-1]) < size else batches


def _spread(values: Tensor, active: Sequence[int], count: int) -> Tensor:
    found = torch.full((count,), math.nan, dtype=values.dtype)
    found[list(active)] = values
    return found


def _adam(bank: Bank, cfg: BankConfig) -> torch.optim.Adam:
    return torch.optim.Adam(bank.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay, fused=True)


def _narrowed(
    bank: Bank, optimizer: torch.optim.Adam, places: Sequence[int], cfg: BankConfig
) -> tuple[Bank, torch.optim.Adam]:
    """Some of the networks, with their moments."""
    narrow = bank.take(places)
    moved = _adam(narrow, cfg)
    for old, new in zip(bank.parameters(), narrow.parameters(), strict=True):
        state = optimizer.state[old]
        moved.state[new] = {
            name: value[list(places)].clone() if value.shape == old.shape else value for name, value in state.items()
        }
    return narrow, moved


# -- from features to probes --------------------------------------------------------------------------------------


def fitted(
    jobs: Mapping[Any, Job], cfg: BankConfig, rows: Rows, seed: int, embedding: int = 0, batch_norm: bool = False,
    watch: Callable[[Sequence[Any], Named, Sequence[Job]], Watch] | None = None,
) -> dict[tuple[Any, Named], Probe]:  # fmt: skip
    """A probe of each wanted kind for every job; those of one shape are trained together.

    Args:
        rows: of all jobs. embedding: of the jobs' parameters. watch: makes what looks on at the training of some jobs.
    """
    found: dict[tuple[Any, Named], Probe] = {}
    ready = _ready(jobs, cfg)
    for named in dict.fromkeys(cfg.probes):
        groups: dict[Any, list[Any]] = {}
        for key, job in jobs.items():
            if named == "slp" and cfg.slp == "exact" and job.kind != "tags" and not batch_norm:
                found[key, named] = exact(job, rows.mask, seed, embedding)
                continue
            groups.setdefault((job.x.shape[1], job.outputs, job.kind), []).append(key)
        for (d, outputs, _), keys in groups.items():
            shape = Shape(d, outputs, cfg.hidden if named == "mlp" else (), embedding, batch_norm, cfg.output)
            for some in (keys[at : at + TOGETHER] for at in range(0, len(keys), TOGETHER)):
                trained = [ready[key][0] for key in some]
                look = watch(some, named, trained) if watch else None
                states, _ = fit(trained, shape, rows, cfg, seed, watch=look)
                found.update(
                    {(key, named): _probe(shape, state, ready[key]) for key, state in zip(some, states, strict=True)}
                )
    return found


Ready = tuple[Job, Tensor, Tensor]  # a job as the networks take it; mean and scale of its features


def _ready(jobs: Mapping[Any, Job], cfg: BankConfig) -> dict[Any, Ready]:
    shown: dict[int, tuple[Tensor, Tensor, Tensor]] = {}
    found = {}
    for key, job in jobs.items():
        if id(job.x) not in shown:
            mean, scale = torch.zeros_like(job.x[0]), torch.ones_like(job.x[0])
            if cfg.standardise:
                mean, scale = standardisation(job.x)
            shown[id(job.x)] = (job.x - mean) / scale if cfg.standardise else job.x, mean, scale
        x, mean, scale = shown[id(job.x)]
        y = job.y if job.kind == "class" else job.y.to(x.dtype)
        if job.centre is not None and job.spread is not None:
            y = ((job.y - job.centre) / job.spread).to(x.dtype)
        found[key] = Job(x, y, job.kind, job.outputs, job.p, job.centre, job.spread), mean, scale
    return found


def _probe(shape: Shape, state: State, ready: Ready) -> Probe:
    job, mean, scale = ready
    zeros = torch.zeros(job.outputs, dtype=mean.dtype)
    centre = zeros if job.centre is None else job.centre.to(mean.dtype)
    spread = zeros + 1 if job.spread is None else job.spread.to(mean.dtype)
    return Probe(shape, state, mean, scale, centre, spread)


def exact(job: Job, held_out: Tensor, seed: int, embedding: int = 0) -> Probe:
    """One layer, exactly: ridge or, of classes, logistic regression on all rows, with the best penalty.

    A parameter in [0, 1] goes through hinges relu(p - k / e), k = 0 .. e - 1, which is what an embedding of so many
    dimensions can tell a layer about it.
    """
    if job.kind == "class":
        one = probes.classifier(job.x, job.y, job.outputs, held_out, "logistic", np.random.default_rng(seed))
        return linear(one.weight, one.bias, one.mean, one.scale)
    x, knots = job.x.double(), None
    if job.p is not None and embedding:
        knots = torch.arange(embedding, dtype=x.dtype) / embedding
        x = torch.cat([x, (job.p.double() - knots).relu()], 1)
    one = probes.ridge(x, job.y, held_out)
    return linear(one.weight, one.bias, one.mean, one.scale, knots)
