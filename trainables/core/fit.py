"""The training loop, for every method, without Ray: in a notebook, in a trial, on one rank or on many.

What a step draws is a function of (seed, epoch, step) alone, made for the global batch and sliced by rank. So a run
that is stopped and resumed from a checkpoint computes bit for bit what the uninterrupted run does, and no state of a
generator needs to be stored.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from datasets.base import Batch, Source
from datasets.config import ConfigError
from datasets.views import Views
from trainables.core import dist, state
from trainables.core.config import Resolved, TrainConfig
from trainables.core.draws import generator, key
from trainables.core.method import Diverged, Method, Progress
from trainables.core.optim import build_optimizer, set_lr
from trainables.evals.collapse import effective_rank

COLLAPSE_ITEMS = 256
Ended = Literal["reached", "interrupted"]


class Listener(Protocol):
    """Who is told how training goes. Called on every rank, so that collective reports are possible."""

    def epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """An epoch was trained; `epoch` counts from 1."""
        ...

    def checkpoint(self, epoch: int, path: Path, digest: str, metrics: dict[str, float]) -> None:
        """A checkpoint lies whole at `path`."""
        ...

    def stop(self) -> bool:
        """Whether training should write a checkpoint and end after this epoch."""
        ...


class Silent:
    """A listener that only keeps what it hears, for notebooks and tests."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []
        self.checkpoints: list[Path] = []

    def epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Keep the metrics."""
        self.epochs.append({"epoch": epoch, **metrics})

    def checkpoint(self, epoch: int, path: Path, digest: str, metrics: dict[str, float]) -> None:
        """Keep the path."""
        self.checkpoints.append(path)

    def stop(self) -> bool:
        """Never."""
        return False


@dataclass
class Fitted:
    """What came of `fit`.

    Attributes:
        method: as trained. ended: at the epoch it was sent to, or because the listener asked. epoch: the last.
        damaged: checkpoints that could not be read. built: what was really built, in the form of the configuration.
    """

    method: Method
    ended: Ended
    epoch: int
    metrics: dict[str, float] = field(default_factory=dict)
    damaged: list[Path] = field(default_factory=list)
    built: dict[str, Any] = field(default_factory=dict)


def fit(
    config: Resolved,
    root: Path | None,
    directory: Path,
    listener: Listener | None = None,
    until: int | None = None,
    resume: Iterable[tuple[Path, str]] = (),
    device: torch.device | str = "cpu",
    storage: Callable[[Callable[[], str]], str] = lambda save: save(),
) -> Fitted:
    """Train the method of `config`.

    Args:
        root: where the data are. directory: where checkpoints go, as `epoch-0005`.
        until: the epoch after which to stop (the schedule still spans all epochs); None = the last.
        resume: checkpoints with their digests, the newest first; the first that is whole is used.
        storage: calls what writes a checkpoint, and may do so again where storage is full or away.

    Raises:
        Diverged: the loss is not finite. DataError, ConfigError, CheckpointError: as their docstrings say.
    """
    listener = listener or Silent()
    source = config.source(root, "train")
    views = config.build_views(source.spec)
    run = _Run(config, source, views, torch.device(device))
    epoch, damaged = run.restore(resume)
    last = min(until or config.train.epochs, config.train.epochs)
    metrics: dict[str, float] = {}
    ended: Ended = "reached"
    while epoch < last:
        metrics = run.train_epoch(epoch)
        if config.train.validate_every and (epoch + 1) % config.train.validate_every == 0:
            metrics.update(run.validate(root, epoch))
        epoch += 1
        listener.epoch(epoch, metrics)
        stop = epoch < last and _agreed(listener.stop())
        if stop or epoch == last or epoch % config.train.checkpoint_every == 0:
            metrics["effective_rank"] = run.check_collapse(epoch)
            path = directory / f"epoch-{epoch:04d}"
            digest = storage(lambda path=path, epoch=epoch: run.save(path, epoch))  # type: ignore[misc]
            listener.checkpoint(epoch, path, digest, metrics)
        if stop:
            ended = "interrupted"
            break
    return Fitted(run.method, ended, epoch, metrics, damaged, run.built())


class _Run:
    """The moving parts of one training."""

    def __init__(self, config: Resolved, source: Source, views: Views, device: torch.device) -> None:
        self.config, self.source, self.views, self.device = config, source, views, device
        self.train: TrainConfig = config.train
        config.method_class.check(config.method, views.spec)
        torch.manual_seed(config.seed)  # of the weights; everything else draws from generators of its own
        method = config.build_method(views.spec)
        if config.init:
            initialise(method, Path(config.init))
        if dist.world() > 1:
            dist.convert_batchnorm(method)
        self.method = method.to(device)
        if self.train.channels_last and len(views.spec.shape) == 3:
            self.method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizer = build_optimizer(self.method, self.train)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.train.precision == "fp16")
        self.loss = self._wrap()
        self.batches = steps_per_epoch(len(source), self.train)

    def _wrap(self) -> nn.Module:
        module: nn.Module = self.method
        if self.train.compile:
            self.method.compile()  # in place; a method may choose what of it
        if dist.world() > 1:
            device_ids = [self.device] if self.device.type == "cuda" else None
            # buffers are equal already (SyncBatchNorm); broadcasting them would cost a message a step
            module = nn.parallel.DistributedDataParallel(module, device_ids=device_ids, broadcast_buffers=False)
        return module

    def built(self) -> dict[str, Any]:
        """The values that the built objects have, read from them and not from the configuration."""
        group = self.optimizer.param_groups[0]
        names = {"weight_decay": "weight_decay", "betas": "betas", "momentum": "momentum"}
        train = {option: _plain(group[name]) for option, name in names.items() if name in group}
        return {
            "method": self.method.cfg.dump(),
            "views": self.views.cfg.dump(),
            "train": {**train, "optimizer": type(self.optimizer).__name__.lower()},
        }

    def restore(self, resume: Iterable[tuple[Path, str]]) -> tuple[int, list[Path]]:
        """Load the newest whole checkpoint; the epoch it was written after, and the damaged ones passed over."""
        damaged = []
        for path, digest in resume:
            try:
                meta = state.read_meta(path)
                if digest and meta.digest != digest:
                    raise state.CheckpointError(f"{path}: is not the checkpoint that was published")
            except state.CheckpointError:
                damaged.append(path)
                continue
            if meta.config != self.config.dump():
                raise state.CheckpointError(f"{path}: was written by another configuration")
            if meta.spec.fingerprint != self.views.spec.fingerprint:
                raise state.CheckpointError(f"{path}: was trained on other data than are there now")
            state.restore_model(path, self.method)
            state.restore_optimizer(path, self.optimizer, self.scaler)
            return meta.epoch, damaged
        return 0, damaged

    def save(self, path: Path, epoch: int) -> str:
        """Write a checkpoint (rank 0); its digest."""
        if dist.rank():
            return ""
        config, spec, step = self.config.dump(), self.views.spec, epoch * self.batches
        return state.save(path, self.method, config, spec, epoch, step, self.optimizer, self.scaler).digest

    def train_epoch(self, epoch: int) -> dict[str, float]:
        """One pass; means over the items of everything the method reports, the learning rate and the speed."""
        self.method.train()
        begin, totals, items = time.perf_counter(), _Means(), 0
        for step, batch in enumerate(self.batches_of(epoch)):
            rate = set_lr(self.optimizer, self.train, epoch, step, self.batches)
            progress = Progress(epoch, step, self.train.epochs, self.batches)
            self.method.before_step(progress)
            values = self.step(batch)
            self.method.after_step(progress)
            size = self.global_size(step)
            totals.add(values, size)
            items += size
        metrics = totals.read()
        if not math.isfinite(metrics["loss"]):
            raise Diverged(f"the loss is {metrics['loss']} in epoch {epoch + 1}")
        seconds = time.perf_counter() - begin
        return {**metrics, "lr": rate, "seconds": seconds, "items_per_second": items / seconds}

    def global_size(self, step: int) -> int:
        """Items of a batch over all ranks; what a method reports are means over them."""
        return min(self.train.batch_size, len(self.source) - step * self.train.batch_size)

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """One optimiser step on this rank's slice of a batch whose views are made already."""
        self.optimizer.zero_grad(set_to_none=True)
        with self._precision():
            values: dict[str, Tensor] = self.loss(batch)
        self.scaler.scale(values["loss"]).backward()
        if self.train.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.method.parameters(), self.train.clip_norm)
        self.scaler.step(self.optimizer)  # not in a step whose gradients overflowed; then the scale is halved
        self.scaler.update()
        return values

    def fetching(self, epoch: int, step: int) -> torch.Generator:
        """What a source draws from, equal on all ranks: an item's draws belong to its position in the split."""
        return generator(self.config.seed, epoch, step, 0)

    def batches_of(self, epoch: int) -> Iterator[Batch]:
        """This rank's slices of the epoch's batches, with their views, on the device."""
        order = torch.randperm(len(self.source), generator=generator(self.config.seed, epoch, -1))
        prefetch = getattr(self.source, "prefetch", None)

        def sliced(step: int) -> tuple[Tensor, int, int]:
            index = order[step * self.train.batch_size : (step + 1) * self.train.batch_size]
            low, high = share(len(index), dist.rank(), dist.world())
            return index[low:high], len(index), low

        for step in range(self.batches):
            own, total, offset = sliced(step)
            fetched = self.source.fetch(own, self.fetching(epoch, step))
            if prefetch and step + 1 < self.batches:
                prefetch(sliced(step + 1)[0], self.fetching(epoch, step + 1))
            draws = generator(self.config.seed, epoch, step)
            batch = self.views(fetched.to(self.device), draws, total=total, offset=offset)
            batch.seed = key(self.config.seed, epoch, step, -4)
            yield batch

    @torch.no_grad()
    def validate(self, root: Path | None, epoch: int) -> dict[str, float]:
        """The losses in their evaluation form on the validation split, means over items."""
        self.method.eval()
        source, totals = self.config.source(root, "val"), _Means()
        for step, start in enumerate(range(0, len(source), self.train.batch_size)):
            index = torch.arange(start, min(start + self.train.batch_size, len(source)))
            if len(index) < 2:
                break  # a contrastive loss needs a negative
            low, high = share(len(index), dist.rank(), dist.world())
            draws = generator(self.config.seed, epoch, step, -2)
            fetched = source.fetch(index[low:high], self.fetching(epoch, step)).to(self.device)
            batch = self.views.evaluation(fetched, draws, total=len(index), offset=low)
            batch.seed = key(self.config.seed, epoch, step, -5)
            with self._precision():
                totals.add(self.method(batch), len(index))
        return {f"val_{name}": value for name, value in totals.read().items()}

    @torch.no_grad()
    def check_collapse(self, epoch: int) -> float:
        """The effective rank of clean training items, a sign that needs no labels.

        Raises:
            Diverged: it is below `train.collapse_rank`.
        """
        index = torch.arange(min(COLLAPSE_ITEMS, len(self.source)))
        fetched = self.source.fetch(index, generator(self.config.seed, epoch, -3)).to(self.device)
        self.method.eval()
        with self._precision():
            z = self.method.signs_of_life(self.views.clean(fetched).views[0])
        if not torch.isfinite(z).all():
            raise Diverged(f"the features are not finite in epoch {epoch}")
        rank = effective_rank(z.float().cpu())
        if z.shape[1] > 1 and rank < self.train.collapse_rank:  # a single number always has rank 1
            raise Diverged(f"the representation collapsed to an effective rank of {rank:.2f} in epoch {epoch}")
        return rank

    def _precision(self) -> contextlib.AbstractContextManager[None]:
        if self.train.precision == "float32":
            return contextlib.nullcontext()
        dtype = torch.bfloat16 if self.train.precision == "bf16" else torch.float16
        return torch.autocast(self.device.type, dtype=dtype)


class _Means:
    """Means of named scalars, weighted by items, kept on the device so that a step never waits for it."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.items = 0

    def add(self, values: dict[str, Tensor], items: int) -> None:
        for name, value in values.items():
            value = value.detach().float() * items
            self.sums[name] = self.sums[name] + value if name in self.sums else value
        self.items += items

    def read(self) -> dict[str, float]:
        return {name: float(total) / max(self.items, 1) for name, total in self.sums.items()}


def steps_per_epoch(items: int, train: TrainConfig) -> int:
    """Batches of an epoch; a last batch of one item is dropped always, since neither loss nor batch norm allow it.

    Raises:
        ConfigError: there would be none.
    """
    full, rest = divmod(items, train.batch_size)
    steps = full + int(rest >= 2 and not train.drop_last)
    if steps == 0:
        raise ConfigError(f"train.batch_size: {train.batch_size} gives no batch of the {items} training items")
    return steps


def share(items: int, rank: int, world: int) -> tuple[int, int]:
    """The slice [low, high) of a global batch that belongs to a rank; sizes differ by at most one."""
    return items * rank // world, items * (rank + 1) // world


def initialise(method: Method, path: Path) -> None:
    """Take over the weights of another checkpoint where name and shape agree (a head of another size stays fresh).

    Raises:
        CheckpointError: damaged. ConfigError: nothing agrees.
    """
    state.read_meta(path)
    own, given = method.state_dict(), state.load_tensors(path)
    fitting = {name: value for name, value in given.items() if name in own and own[name].shape == value.shape}
    if not fitting:
        raise ConfigError(f"init: no tensor of {path} fits this method")
    method.load_state_dict({**own, **fitting})


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _agreed(stop: bool) -> bool:
    """Rank 0's decision, on all ranks."""
    if dist.world() == 1:
        return stop
    return bool(dist.gather(torch.tensor([float(stop)]))[0] > 0)
