"""The feature store: features of a frozen encoder are computed once and read by every evaluation.

A set of features is identified by the digest of (checkpoint, data, request, VERSION), where the checkpoint's digest
covers the weights and the whole configuration, views included. It is one HDF5 file with all parts:

    parts/NAME (n, d) float32   labels/FACTOR (n,)   params/CODE (n, k)   units/CODE (n, 1)   index (n,) int64

and of frames parts/NAME (n, L, d), of labels given per frame labels/FACTOR (n, F).

Files are written under a temporary name and renamed, so that a file exists whole or not at all; one that was damaged
later fails its checksums and is computed again. While one process computes, others that ask for the same wait. What a
long computation has done is kept in KEY.part/ (see `_unfinished.py`), so that the next attempt goes on from there.
"""

from __future__ import annotations

import fcntl
import hashlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from datasets._progress import Progress
from datasets.atomic import remove, replacing
from datasets.base import Batch, Source, Spec, Split
from datasets.channels import Channels
from datasets.config import ConfigError
from datasets.views import Views
from trainables.core.config import digest, resolve
from trainables.core.method import has
from trainables.core.state import load_method
from trainables.evals._encode import encode, encoded
from trainables.evals._unfinished import Unfinished
from trainables.evals.base import Features, Request

VERSION = 1
BLOCK = 512  # items that share a generator: draws do not depend on the batch size of the encoder
MOST = 2**29  # values of a request's frames (2 GB); exact probes copy what they are fitted on, in twice the precision
# items, and values of them, that an encoder sees at once: a CPU's caches, a GPU's memory hold their activations
AT_ONCE = {"cpu": (64, 2**20), "gpu": (512, 2**23)}
GROUPS = ("parts", "labels", "params", "units")


class FeatureStore:
    """A folder of feature files, shared by the processes of a node."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def path(self, key: str) -> Path:
        """Where the features of `key` lie."""
        return self.folder / f"{key}.h5"

    def under_way(self, key: str) -> Path:
        """Where blocks of them lie as long as there are not all."""
        return self.folder / f"{key}.part"

    def get(self, key: str, compute: Callable[[], Features]) -> Features:
        """The features stored under `key`, else those of `compute`, which are stored then."""
        found = read(self.path(key))
        if found is None:
            with self._alone(key):
                found = read(self.path(key))  # another process may have computed it while this one waited
                if found is None:
                    found = compute()
                    write(self.path(key), found)
                    remove(self.under_way(key))
        return found

    @contextmanager
    def _alone(self, key: str) -> Iterator[None]:
        with (self.folder / f"{key}.lock").open("w") as lock:
            try:  # released by the system too when the process is killed
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"{self.path(key)}: another process computes it, waiting", file=sys.stderr, flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def write(path: Path, features: Features) -> None:
    """Write features to `path`, whole or not at all, with checksums over data and structure."""
    with replacing(path) as temporary, h5py.File(temporary, "w", libver="latest") as file:
        for group in GROUPS:
            file.create_group(group)
            for name, value in getattr(features, group).items():
                file[group].create_dataset(name, data=value.numpy(), chunks=True, fletcher32=True)
        file.create_dataset("index", data=features.index.numpy(), chunks=True, fletcher32=True)


def read(path: Path) -> Features | None:
    """The features in `path`; None if there is no such file or it is damaged."""
    try:
        with h5py.File(path, "r") as file:
            named = {
                group: {name: torch.from_numpy(data[()]) for name, data in file[group].items()} for group in GROUPS
            }
            return Features(index=torch.from_numpy(file["index"][()]), **named)
    except (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError):  # what h5py raises on bad bytes
        return None


class CheckpointSubject:
    """The encoder of a checkpoint, frozen and in eval mode; a `Subject` for any evaluation.

    Attributes:
        spec: of the views. method: eval mode, no gradients. resolved: the configuration. meta: of the checkpoint.
        store: its features. out: folder for artifacts of evaluations.
    """

    def __init__(
        self,
        checkpoint: Path,
        data_root: Path | None,
        cache: Path,
        device: torch.device | str = "cpu",
        batch_size: int | None = None,
        out: Path | None = None,
        data: dict[str, Any] | None = None,
    ) -> None:
        """Load the encoder; data are opened when features are first asked for.

        Args:
            checkpoint: folder of a checkpoint. cache: folder of feature files. out: default `cache/artifacts`.
            batch_size: items the encoder sees at once; None = 512, on a CPU 64, and fewer of large ones (`AT_ONCE`); of
                sounds longer than those of the training as many fewer.
            data: another data section, {"name": "cifar", "variant": "cifar100"}, for transfer; images are resized and
                their channels changed to what the encoder takes; sounds keep their length where the method has frames.
                None = the data it was trained on.

        Raises:
            CheckpointError: damaged, or its weights do not fit.
            ConfigError: the other data have another shape than the encoder takes, or another rate.
        """
        self.method, self.resolved, self.meta = load_method(checkpoint, device)
        self._adapted = data is not None and len(self.meta.spec.shape) == 3
        if data is not None:
            views = dict(self.meta.config["views"])
            if self._adapted:
                views["size"] = min(self.meta.spec.shape[1:])
            self.resolved = resolve({**self.meta.config, "data": data, "views": views})
        self.resolved = self.resolved.evaluated()
        self.checkpoint, self.device = checkpoint, torch.device(device)
        self.batch_size = batch_size
        self.data_root, self.cache = data_root, cache
        self.store = FeatureStore(cache)
        self.out = out or cache / "artifacts"
        self.out.mkdir(parents=True, exist_ok=True)
        self._open: dict[Split, tuple[Source, Views]] = {}

    @property
    def spec(self) -> Spec:
        """What the encoder sees: shape after the views, the stack's parameters, the labels of the data."""
        return self.data("train")[1].spec

    def data(self, split: Split) -> tuple[Source, Views]:
        """The source of a split and the views over it, opened once."""
        if split not in self._open:
            source, takes = self.resolved.source(self.data_root, split), self.meta.spec
            if len(takes.shape) == 3 and not takes.fragments:
                source = shown(source, takes.shape[0])
            views = self.resolved.build_views(source.spec)
            if not self._takes(views.spec.shape):
                raise ConfigError(
                    f"data.name: {self.resolved.data_name} gives items of shape {views.spec.shape} after the views; "
                    f"the encoder of {self.checkpoint} takes {self.meta.spec.shape}"
                )
            if source.spec.rate != self.meta.spec.rate:
                raise ConfigError(
                    f"data.name: {self.resolved.data_name} is at {source.spec.rate:,} Hz; the encoder of "
                    f"{self.checkpoint} hears {self.meta.spec.rate:,}, set data.rate where there is one"
                )
            self._open[split] = source, views
        return self._open[split]

    def _takes(self, shape: tuple[int, ...]) -> bool:
        """Whether the encoder can be shown items of `shape`: those it was made for, and sounds of another length."""
        made = self.meta.spec.shape
        if shape == made or len(shape) != 2 or len(made) != 2 or shape[0] != made[0] or not has(self.method, "frames"):
            return shape == made
        try:
            with torch.no_grad():
                self.method.encode(torch.zeros(1, *shape, device=self.device))
        except RuntimeError:  # so short that nothing is left of it
            return False
        return True

    def features(self, request: Request) -> Features:
        """The features of `request`, from the store or computed now.

        Raises:
            ConfigError: there is no such transform or part, the method has no frames where they are asked for, or more
                than memory holds, or the encoder's output is not finite.
        """
        source, views = self.data(request.split)
        return self.store.get(self.key(request), lambda: self._compute(request, source, views))

    def inputs(self, request: Request) -> Tensor:
        """What the encoder saw for these features: (n, *shape) float32 on the CPU, in their order; pixels in [0, 1]."""
        return torch.cat(list(self.seen(request)))

    def seen(self, request: Request) -> Iterator[Tensor]:
        """What `inputs` gives, at most BLOCK items at a time: of many large ones memory would not hold all."""
        source, views = self.data(request.split)
        for rows in _chosen(source, request).split(BLOCK):
            yield views.pixels(self._seen(source, views, request, rows).views[0].float().cpu())

    def on(self, data: dict[str, Any]) -> CheckpointSubject:
        """The same encoder on other data, `{"name": "cifar", "variant": "cifar100"}`, brought to what it takes."""
        return CheckpointSubject(
            self.checkpoint, self.data_root, self.cache, self.device, self.batch_size, self.out, data
        )

    def normalized(self, inputs: Tensor) -> Tensor:
        """What `inputs` gives, as the method takes it; differentiable."""
        return self.data("train")[1].normalized(inputs)

    def key(self, request: Request) -> str:
        """The digest that identifies the features of `request`."""
        fingerprint = self.data(request.split)[0].spec.fingerprint
        data = {"fingerprint": fingerprint, "config": [self.resolved.data_name, self.resolved.data.dump()]}
        return digest([self.meta.digest, data, request.identity, VERSION])

    def _compute(self, request: Request, source: Source, views: Views) -> Features:
        """All rows, from the first that an earlier attempt has not left behind."""
        self.method.eval()
        chosen = _chosen(source, request)
        if request.pool == "frames":
            self._check_size(source, views, request, chosen)
        under_way = Unfinished(self.store.under_way(self.key(request)), read, write)
        shown, draws, before = len(chosen) * request.repeat, max(request.draws, 1), 0
        under = f" under {request.transform}" if request.transform else ""
        progress = Progress(f"{self.resolved.data_name}: features of {request.split}{under}", shown)
        progress.done = under_way.count // draws
        for rows in chosen.split(BLOCK):
            begin, size = max(under_way.count // draws - before, 0), len(rows) * request.repeat
            for piece in self._made(source, views, request, rows, begin) if begin < size else ():
                under_way.add(piece)
                progress.add(len(piece.index) // draws)
            before += size
        return under_way.finished()

    def _made(self, source: Source, views: Views, request: Request, rows: Tensor, begin: int) -> Iterator[Features]:
        """The features of at most BLOCK items, from one of those on that the encoder sees, some after the other.

        Raises:
            ConfigError: there are some that are not finite.
        """
        batch = self._seen(source, views, request, rows)
        at_once, seed = self._at_once(batch.views[0]), _seed(request, int(rows[0]))
        for parts in encoded(self.method, batch.views[0], request, at_once, seed, begin):
            for name, value in parts.items():
                if not bool(value.isfinite().all()):
                    raise ConfigError(
                        f"{self.checkpoint}: encodes to values that are not finite (part '{name}'); "
                        "its training diverged, choose another checkpoint or a lower train.lr"
                    )
            count = len(next(iter(parts.values()))) // max(request.draws, 1)
            yield self._told(source, request, batch, parts, slice(begin, begin + count))
            begin += count

    def _told(self, source: Source, request: Request, batch: Batch, parts: dict[str, Tensor], rows: slice) -> Features:
        """Parts of some rows of a batch beside what the batch says of them."""
        # of the transform, where it has a parameter, and those of the data themselves
        drawn = [code for code in batch.params if code == request.transform or code in source.spec.params]

        def repeated(value: Tensor) -> Tensor:
            return value[rows].cpu().repeat_interleave(max(request.draws, 1), 0)

        return Features(
            parts=parts,
            labels={name: repeated(value) for name, value in batch.labels.items()},
            params={code: repeated(batch.params[code][0]) for code in drawn},
            units={code: repeated(batch.units[code][0]) for code in batch.units if code in drawn},
            index=repeated(batch.index),
        )

    def _check_size(self, source: Source, views: Views, request: Request, rows: Tensor) -> None:
        """Refuse frames that memory would not hold, by those of the first item.

        Raises:
            ConfigError: there are more than MOST.
        """
        x = self._seen(source, views, request, rows[:1]).views[0]
        (one,) = encode(self.method, x, request, self._at_once(x), 0).values()
        if len(rows) * one.numel() > MOST:
            raise ConfigError(
                f"part '{request.part}': frames of {len(rows):,} items, {one.numel():,} values each, are more than the "
                f"{MOST:,} that are held in memory; set limit to {MOST // one.numel():,} or less"
            )

    def _at_once(self, x: Tensor) -> int:
        """How many of x (n, *shape) the encoder sees at a time."""
        items, values = AT_ONCE["cpu" if self.device.type == "cpu" else "gpu"]
        if self.batch_size is not None:
            items, values = self.batch_size, self.batch_size * x[0].numel()
        longer = x.shape[-1] / self.meta.spec.shape[-1]
        return max(1, min(int(items / max(longer, 1)), values // x[0].numel()))

    def _seen(self, source: Source, views: Views, request: Request, rows: Tensor) -> Batch:
        """One view of at most BLOCK items, as the encoder is shown it."""
        rng = torch.Generator().manual_seed(_seed(request, int(rows[0])))
        batch = source.fetch(rows, rng).to(self.device)
        if request.transform is None:
            return views.clean(batch)
        return views.only(batch, request.transform, rng, strength=request.strength, repeat=request.repeat)


def shown(source: Source, channels: int) -> Source:
    """A source whose images have the channels that an encoder takes; others as they are."""
    spec = source.spec
    changed = len(spec.shape) == 3 and not spec.fragments and spec.shape[0] != channels
    return Channels(source, channels) if changed else source


def _chosen(source: Source, request: Request) -> Tensor:
    """The items of a request in increasing order; under a limit the first of a permutation that is always the same.

    Items that show one object, as `source.owner` (n,) says, are taken together.
    """
    count = len(source)
    if request.limit is None or request.limit >= count:
        return torch.arange(count)
    owner = getattr(source, "owner", None)
    if owner is None:
        return torch.from_numpy(np.sort(np.random.default_rng(0).permutation(count)[: request.limit]))
    objects, belongs, sizes = np.unique(np.asarray(owner), return_inverse=True, return_counts=True)
    order = np.random.default_rng(0).permutation(len(objects))
    fitting = max(1, int((np.cumsum(sizes[order]) <= request.limit).sum()))
    return torch.from_numpy(np.flatnonzero(np.isin(belongs, order[:fitting])))


def _seed(request: Request, first: int) -> int:
    """A seed for the draws of one block, from what the encoder is to be shown alone."""
    text = repr((request.seen, first, request.take) if request.take else (request.seen, first))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")
