"""Views: a stack of batched transforms over whole batches, with the parameters that were used.

The path of an image (DUET, Suau et al., ICML 2023): resize the shorter side to S, or with `center_crop` enlarge it to
E = floor(S 256 / 224) and crop to E x E, or with `cro` in the stack leave it as it is; then each view draws its own
stack; then minus 0.5. The clean path of evaluations is the same with a central crop to S x S in place of the stack.
Other data pass through the stack alone; the images of a page of fragments (L, C, H, W) then lose 0.5 too.

Two views or more also say what relates the first to the second: `Batch.relations` holds what the data know of it, and
for each transform with a parameter the difference d of its units, as it is, or as (cos 2 pi d, sin 2 pi d) where the
unit is a turn.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from torch import Tensor

from datasets.auxiliary import Auxiliary, AuxiliaryView
from datasets.base import Batch, Kind, Question, Spec
from datasets.config import Config, ConfigError
from datasets.transforms.base import Transform
from datasets.transforms.image import center_crop, resize_as_8_bit
from datasets.transforms.load import Stage, alone, build, complete, find

TURNS: tuple[Kind, ...] = ("circular", "quarter")  # units of which 0 and 1 mean the same
Drawn = tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]  # a view, its params and its units


class Normalize(Config):
    """Constants of the channels, of pixels in [0, 1]."""

    mean: tuple[float, ...] = Field(description="of each channel")
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(description="deviation of each channel")


# what published encoders were trained with
KNOWN: dict[str, dict[str, tuple[float, ...]]] = {
    "imagenet": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)},
    "3diebench": {"mean": (0.5016, 0.5037, 0.5060), "std": (0.1030, 0.0999, 0.0969)},
}


class ViewsConfig(Config):
    """How views are made of an item."""

    tx: tuple[str, ...] = Field((), description="codes of the transforms, applied in this order")
    size: int | None = Field(
        None, ge=1, le=4096, description="S, pixels of a side after the views; None = the data's own"
    )
    center_crop: bool = Field(False, description="enlarge to floor(S 256 / 224) before the stack (DUET's README: on)")
    count: int = Field(2, ge=1, le=64, description="views of each item; of data that come as views: their number")
    normalize: bool | Literal["imagenet", "3diebench"] | Normalize = Field(
        True,
        description="images less 0.5; false = in [0, 1]; imagenet, 3diebench or {mean: [...], std: [...]} = less the "
        "mean of each channel, over its deviation (SIE: 3diebench)",
    )
    options: dict[str, dict[str, Any]] = Field(
        default_factory=dict, validate_default=True, description="options per code, e.g. {rot: {degrees: 90}}"
    )

    @field_validator("tx")
    @classmethod
    def _known(cls, tx: tuple[str, ...]) -> tuple[str, ...]:
        for code in tx:
            find(code)
            if tx.count(code) > 1:
                raise ConfigError(f"'{code}' is named twice")
        return tx

    @field_validator("options")
    @classmethod
    def _complete(cls, options: dict[str, dict[str, Any]], info: ValidationInfo) -> dict[str, dict[str, Any]]:
        # defaults filled in here are part of a configuration's identity
        return complete(info.data["tx"], options) if "tx" in info.data else options


class Views:
    """Makes views of batches whose items follow a spec.

    Attributes:
        spec: of the batches that come out: their shape, the data's parameters and those of the stack, number of views.
        transforms: code -> transform, for every code of the stack and every component of a colour jitter.
    """

    def __init__(self, cfg: ViewsConfig, spec: Spec, wanted: Auxiliary | None = None) -> None:
        """Build the stack; `wanted`: an auxiliary view that training batches hold beside.

        Raises:
            ConfigError: a transform cannot work on these items, or the number of views is not the data's.
        """
        if spec.views > 1 and cfg.count != spec.views:
            raise ConfigError(
                f"views.count: the data come as {spec.views} views, set it to {spec.views} (got {cfg.count})"
            )
        self.cfg = cfg
        self.image = len(spec.shape) == 3 and not spec.fragments
        self.pixelled = self.image or (
            spec.fragments > 0 and len(spec.shape) == 4
        )  # a page has the constants of its images
        constants = _constants(cfg, spec.shape[-3:]) if self.pixelled else (torch.tensor(0.0), torch.tensor(1.0))
        self.mean, self.std = constants
        if not self.image and (cfg.size is not None or cfg.center_crop):
            raise ConfigError(f"views: size and center_crop need images (C, H, W), the data have items of {spec.shape}")
        self.loaded, self.target = _sizes(cfg, spec.shape) if self.image else (spec.shape, spec.shape)
        self.stages: list[Stage] = build(cfg.tx, cfg.options, self.loaded, self.target, spec.rate)
        out = self.stages[-1].transform.out_shape if self.stages else self.loaded
        if not self.image:
            self.target = out
        elif any(have < want for have, want in zip(out, self.target, strict=True)):
            raise ConfigError(
                f"views.tx: the stack ends with items of {out}, smaller than {self.target}; lower views.size"
            )
        self.transforms: dict[str, Transform] = {}
        for stage in self.stages:
            self.transforms[stage.code] = stage.transform
            self.transforms.update({code: reader for code, (reader, _) in stage.reported.items()})
        self.spec = self._spec(spec)
        self.auxiliary = AuxiliaryView(wanted, cfg.tx, cfg.options, self.loaded, self.target) if wanted else None

    def _spec(self, spec: Spec) -> Spec:
        readers = {code: reader for stage in self.stages for code, (reader, _) in stage.reported.items()}
        if clash := sorted(set(readers) & {*spec.params, *spec.relations}):
            raise ConfigError(f"views.tx: the data have a parameter '{clash[0]}' of their own; leave the transform out")
        self._warn_of_poses(spec)
        kinds = {code: reader.coding for code, reader in readers.items()}
        related = {code: 2 if kind in TURNS else 1 for code, kind in kinds.items()}
        return replace(
            spec,
            shape=self.target,
            params={**spec.params, **{code: reader.dims for code, reader in readers.items()}},
            kinds={**spec.kinds, **kinds},
            relations={**spec.relations, **related} if self.cfg.count > 1 else {},
            views=self.cfg.count,
        )

    def _warn_of_poses(self, spec: Spec) -> None:
        codes = [stage.transform.code for stage in self.stages if stage.transform.reposes]
        if codes and spec.relations and self.cfg.count > 1:
            warnings.warn(
                f"views.tx: '{codes[0]}' turns or mirrors what is seen, and what the data know to relate the views "
                f"({', '.join(sorted(spec.relations))}) leaves that out; take it out where a method is told of poses",
                stacklevel=4,
            )

    def __call__(self, batch: Batch, rng: torch.Generator, total: int | None = None, offset: int = 0) -> Batch:
        """Training views, each with its own draws.

        Draws are made for a global batch of `total` items, of which this one holds those from `offset` on, so that
        several processes with equal generators make together what one process makes.
        """
        loaded = [self._load(x) for x in batch.views]
        stack = self._stack(rng, len(batch), total, offset)
        made = self._batch(batch, [stack(loaded[view % len(loaded)]) for view in range(self.cfg.count)])
        if self.auxiliary:
            made.question = self._shift(self.auxiliary(loaded[0], rng, total or len(batch), offset))
        return made

    def clean(self, batch: Batch) -> Batch:
        """One view, for evaluations: no draws, a central crop, every parameter at its identity."""
        return self._batch(batch, [self._clean(batch.views[0])])

    def evaluation(self, batch: Batch, rng: torch.Generator, total: int | None = None, offset: int = 0) -> Batch:
        """The first view clean, the others as in training; for losses in evaluation form."""
        stack = self._stack(rng, len(batch), total, offset)
        others = [stack(self._load(batch.views[view % len(batch.views)])) for view in range(1, self.cfg.count)]
        made = self._batch(batch, [self._clean(batch.views[0]), *others])
        if self.auxiliary:
            loaded = self._load(batch.views[0])
            made.question = self._shift(self.auxiliary.evaluation(loaded, rng, total or len(batch), offset))
        return made

    def only(
        self, batch: Batch, code: str, rng: torch.Generator, strength: float | None = None, repeat: int = 1
    ) -> Batch:
        """One view: the clean path with one transform alone, and only its parameters.

        A transform of the stack is applied as it is there, any other one with its defaults.

        Args:
            strength: a fixed natural parameter for all (degrees, factor, sigma, 1 = flipped) instead of draws.
            repeat: each item so many times, item-major (item 0 draw 0, item 0 draw 1, ...).

        Raises:
            ConfigError: there is no such transform, it cannot work on these items, or has no such strength.
        """
        transform = self.transforms.get(code) or alone(code, self.target, self.spec.rate)
        batch = _repeat(batch, repeat)
        p = transform.sample(len(batch), rng) if strength is None else transform.at(strength, len(batch))
        x = self._load(batch.views[0])
        resizes = transform.out_shape != transform.shape  # a crop takes the place of the central one
        x = transform.apply(_crop(x, (transform.shape if resizes else self.target)) if self.image else x, p)
        reported = transform.usable
        drawn = (self._finish(x), {code: p} if reported else {}, {code: transform.unit(p)} if reported else {})
        return self._batch(batch, [drawn])

    def _stack(self, rng: torch.Generator, count: int, total: int | None, offset: int) -> Callable[[Tensor], Drawn]:
        """The stack as a function of loaded items that draws anew at each call."""

        def stack(x: Tensor) -> Drawn:
            params: dict[str, Tensor] = {}
            units: dict[str, Tensor] = {}
            for stage in self.stages:
                p = stage.transform.sample(count if total is None else total, rng)[offset : offset + count]
                x = stage.transform.apply(x, p)
                params |= stage.params(p)
                units |= stage.units(p)
            return self._finish(x), params, units

        return stack

    def _clean(self, x: Tensor) -> Drawn:
        params: dict[str, Tensor] = {}
        units: dict[str, Tensor] = {}
        for stage in self.stages:
            p = stage.transform.still(len(x))
            params |= stage.params(p)
            units |= stage.units(p)
        return self._finish(self._load(x)), params, units

    def _load(self, x: Tensor) -> Tensor:
        """What the original's host does with an image: resize the shorter side, central crop."""
        if not self.image or x.shape[1:] == self.loaded:
            return x
        side, shorter = min(self.loaded[1:]), min(x.shape[-2:])
        if side != shorter:
            height, width = (side * length // shorter for length in x.shape[-2:])
            x = resize_as_8_bit(x, (height, width))
        return _crop(x, self.loaded)

    def _finish(self, x: Tensor) -> Tensor:
        if self.image:
            x = _crop(x, self.target)  # a stack without a crop leaves E x E
        return self.normalized(x) if self.pixelled else x

    def _shift(self, question: Question) -> Question:
        return replace(question, x=self.normalized(question.x))

    def normalized(self, x: Tensor) -> Tensor:
        """What `pixels` gives, back as views hold it; differentiable."""
        return (x - self.mean.to(x.device)) / self.std.to(x.device)

    def pixels(self, x: Tensor) -> Tensor:
        """What views hold (..., C, H, W), back in [0, 1]; other items as they are."""
        return x * self.std.to(x.device) + self.mean.to(x.device)

    def _batch(self, batch: Batch, drawn: list[Drawn]) -> Batch:
        device = batch.views[0].device
        count = len(drawn)
        params = {name: _spread(value, count) for name, value in batch.params.items()}
        units = {name: _spread(value, count) for name, value in batch.units.items()}
        for code in drawn[0][1]:
            params[code] = torch.stack([view[1][code] for view in drawn]).to(device, non_blocking=True)
            units[code] = torch.stack([view[2][code] for view in drawn]).to(device, non_blocking=True)
        relations = {**batch.relations, **self._related(units, drawn[0][1])} if count > 1 else {}
        return replace(batch, views=[view[0] for view in drawn], params=params, units=units, relations=relations)

    def _related(self, units: dict[str, Tensor], codes: Iterable[str]) -> dict[str, Tensor]:
        """(B, 1) or (B, 2) for each transform: what its parameter does from view 1 to view 2."""
        found = {}
        for code in codes:
            difference = units[code][1] - units[code][0]
            turn = 2 * torch.pi * difference
            found[code] = torch.cat([turn.cos(), turn.sin()], -1) if self.spec.kinds[code] in TURNS else difference
        return found


def _constants(cfg: ViewsConfig, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and deviation of the channels, (C, 1, 1) or one for all.

    Raises:
        ConfigError: another number of channels than the data have.
    """
    if isinstance(cfg.normalize, bool):
        return torch.tensor(0.5 if cfg.normalize else 0.0), torch.tensor(1.0)
    given = Normalize(**KNOWN[cfg.normalize]) if isinstance(cfg.normalize, str) else cfg.normalize
    if len(given.mean) != shape[0] or len(given.std) != shape[0]:
        raise ConfigError(
            f"views.normalize: has {len(given.mean)} means and {len(given.std)} deviations, "
            f"the data have {shape[0]} channels"
        )
    return torch.tensor(given.mean)[:, None, None], torch.tensor(given.std)[:, None, None]


def _sizes(cfg: ViewsConfig, shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shape of images before the stack, and after it; images stay as they are where nothing asks for another size."""
    channels, height, width = shape
    side = cfg.size or min(height, width)
    square = (channels, side, side)
    if cfg.center_crop:
        enlarged = side * 256 // 224
        return (channels, enlarged, enlarged), square
    if any(find(code).cuts for code in cfg.tx):
        return shape, square
    if cfg.size is None:
        return shape, square if any(find(code).fits for code in cfg.tx) else shape
    shorter = min(height, width)
    return (channels, side * height // shorter, side * width // shorter), square


def _crop(x: Tensor, shape: tuple[int, ...]) -> Tensor:
    return x if x.shape[1:] == shape else center_crop(x, (shape[1], shape[2]))


def _spread(value: Tensor, count: int) -> Tensor:
    """The data's own parameters (V, B, k) for `count` views: each view's own, or the same for all."""
    return value[:count] if len(value) >= count else value.expand(count, -1, -1)


def _repeat(batch: Batch, repeat: int) -> Batch:
    if repeat == 1:
        return batch
    return replace(
        batch,
        views=[batch.views[0].repeat_interleave(repeat, 0)],
        index=batch.index.repeat_interleave(repeat),
        params={name: value.repeat_interleave(repeat, 1) for name, value in batch.params.items()},
        units={name: value.repeat_interleave(repeat, 1) for name, value in batch.units.items()},
        labels={name: value.repeat_interleave(repeat, 0) for name, value in batch.labels.items()},
        relations={},  # of one view
    )
