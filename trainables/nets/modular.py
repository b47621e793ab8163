"""Networks cut in modules, for sound, images, pages: which one, by the name of a preset whose options can be replaced.

Sound: convolutions over time, each with [batch norm,] ReLU and [max pooling]; at the end of a module linear heads give
the mean, and of probabilistic modules the log-variance, of the latent z (B, L, C). A GRU over z gives the context, in a
module of its own on top, inside the last module, or inside each. Images: see `patches.py`. Pages of fragments: V3's
encoder of content as one module, see `page_unit.py`.

Sources: van den Oord, Li, Vinyals, arXiv 1807.03748 (CPC); Löwe, O'Connor, Veeling, NeurIPS 2019, arXiv 1905.11786
(GIM); Denoodt, de Boer, Oramas, ECML PKDD 2025, arXiv 2408.12936 (SIM), and Denoodt's thesis "V-GIM" (VUB 2023).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from datasets.config import Config, ConfigError, near
from trainables.nets.latent import Heads, Latent, Unit
from trainables.nets.page_unit import PageUnit
from trainables.nets.patches import PatchUnit
from trainables.nets.v3_autoencoders import Name

At = Literal["module", "last", "each", "none"]
Start = Literal["default", "delta_orthogonal"]
Counts = tuple[Annotated[int, Field(ge=1, le=65_536)], ...]
Numbers = tuple[Annotated[int, Field(ge=0, le=65_536)], ...]


@dataclass(frozen=True)
class Sound:
    """Options of a network for sound; see `ModularConfig`."""

    channels: int = 512
    kernels: Counts = (10, 8, 4, 4, 4)
    strides: Counts = (5, 4, 2, 2, 2)
    pads: Numbers = (2, 2, 2, 2, 1)
    pools: Numbers = ()
    plain: Numbers = ()
    cut: Counts = (2, 2, 1)
    head: int = 1
    batch_norm: bool = True
    context: int = 256
    context_at: At = "module"
    bptt: bool = True
    layers: Numbers = ()


@dataclass(frozen=True)
class Images:
    """Options of a network for images; see `ModularConfig`."""

    channels: int = 64
    blocks: Counts = (3, 4, 6)
    bottleneck: bool = True
    cut: Counts = (1, 1, 1)
    patch: int = 16
    step: int = 8
    context: int = 4
    context_at: At = "none"
    start: Start = "default"


@dataclass(frozen=True)
class Pages:
    """Options of a network for pages of fragments; see `ModularConfig`."""

    layout: Name = "auto"
    channels: int | None = None


EXTRA: dict[str, Any] = {
    "kernels": (10, 8, 1, 4, 4, 1, 4, 1), "strides": (5, 4, 1, 2, 2, 1, 2, 1), "pads": (2, 2, 0, 2, 2, 0, 1, 0),
    "plain": (2, 5, 7), "layers": (2, 5, 7),
}  # fmt: skip
PRESETS: dict[str, Sound | Images | Pages] = {
    "sim_audio": Sound(),
    "gim_audio": Sound(cut=(1, 1, 1, 1, 1), batch_norm=False),
    "one_module_audio": Sound(cut=(5,)),
    "cpc_audio": Sound(cut=(5,), context_at="last", layers=(1, 3, 4)),
    "cpc_extra_audio": Sound(cut=(8,), context_at="last", **EXTRA),
    "vgim_audio": Sound(32, (10, 8, 6, 6), (4, 3, 2, 2), (2, 2, 2, 2), (8, 8, 0, 0), cut=(2, 2), head=3,
                        batch_norm=False, context_at="none"),
    "small_audio": Sound(32, (10, 8, 3, 6, 6, 3), (4, 3, 1, 2, 2, 1), (2, 2, 1, 2, 2, 1), (8, 8, 8, 0, 0, 0),
                         cut=(3, 3), batch_norm=False, context=16),
    "supervised_audio": Sound(cut=(5,), head=0, batch_norm=False, context_at="last"),
    "resnet50": Images(),
    "resnet34": Images(bottleneck=False),
    "cpc_resnet50": Images(cut=(3,), context_at="last"),
    "cpc_resnet34": Images(cut=(3,), context_at="last", bottleneck=False),
    "pages": Pages(),
    "pages_insnotes": Pages("insnotes"),
    "pages_svhn": Pages("svhn"),
    "pages_librispeech": Pages("librispeech"),
}  # fmt: skip


class ModularConfig(Config):
    """The network and where it is cut; an option that is left out is the preset's."""

    name: str = Field(
        "sim_audio",
        description="sound: sim_audio (3 modules of convolutions and one of a GRU), gim_audio (5 and one), "
        "one_module_audio (1 and one), cpc_audio and cpc_extra_audio (all in one), vgim_audio, small_audio, "
        "supervised_audio; images: resnet50, resnet34 (3 modules), cpc_resnet50, cpc_resnet34 (all in one); pages: "
        "pages (PhoneNums, Sprites, vectors), pages_insnotes, pages_svhn, pages_librispeech (V3's encoders, in one)",
    )
    channels: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="sound: of every convolution (SIM: 512); images: of the first stage (SIM: 64); pages: of the last",
    )
    cut: Counts | None = Field(
        None, min_length=1, description="convolutions (of images: stages) in each module (SIM: 2, 2, 1; GIM: 1, ..)"
    )
    context: int | None = Field(
        None, ge=1, le=4096, description="sound: units of the GRU (SIM: 256); images: layers of the PixelCNN (CPC: 4)"
    )
    context_at: At | None = Field(
        None, description="the context network: a module of its own on top (sound), in the last module, in each, none"
    )
    kernels: Counts | None = Field(None, description="sound: of each convolution (SIM: 10, 8, 4, 4, 4)")
    strides: Counts | None = Field(None, description="sound: of each convolution (SIM: 5, 4, 2, 2, 2)")
    pads: Numbers | None = Field(None, description="sound: zeros at both ends (SIM: 2, 2, 2, 2, 1)")
    pools: Numbers | None = Field(
        None, description="sound: max pooling behind each convolution, its window; 0 = none; the step is half of it"
    )
    plain: Numbers | None = Field(None, description="sound: convolutions without batch norm and ReLU, by number from 0")
    head: int | None = Field(None, ge=0, description="sound: places a head sees, odd (SIM: 1); 0 = no linear head")
    batch_norm: bool | None = Field(None, description="sound: before each ReLU (SIM: on; its recipe for words: off)")
    bptt: bool | None = Field(None, description="sound: the GRU's gradient goes back in time (GIM's remove_BPTT: off)")
    layers: Numbers | None = Field(None, description="sound: convolutions whose output is a part too, by number from 0")
    blocks: Counts | None = Field(None, description="images: residual blocks of each stage (ResNet-34, 50: 3, 4, 6)")
    bottleneck: bool | None = Field(None, description="images: blocks of 1x1, 3x3 and 1x1 (ResNet-50), not two 3x3")
    patch: int | None = Field(None, ge=4, le=256, description="images: pixels of a patch's side (SIM: 16)")
    step: int | None = Field(None, ge=1, le=256, description="images: pixels from patch to patch (SIM: 8)")
    start: Start | None = Field(None, description="images: of the weights (GIM's weight_init: delta_orthogonal)")

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in PRESETS:
            raise ValueError(f"no such network{near(name, set(PRESETS))}")
        return name

    def complete(self) -> Sound | Images | Pages:
        """The preset with what replaces its options.

        Raises:
            ConfigError: an option that the network does not have, or options that do not fit together.
        """
        preset = PRESETS[self.name]
        chosen = {name: value for name, value in self if name != "name" and value is not None}
        known = {one.name for one in fields(preset)} - {"layout"}
        for name in chosen:
            if name not in known:
                raise ConfigError(f"encoder {self.name}: has no option {name}")
        options = replace(preset, **chosen)
        if not isinstance(options, Pages):
            _check(self.name, options)
        return options


class Recurrent(nn.Module):
    """A GRU of one layer that starts from zeros: (B, L, C) -> (B, L, R).

    Without `bptt` no gradient goes from a step to the one before: every step is taken from states that are constants.
    """

    def __init__(self, c_in: int, units: int, bptt: bool) -> None:
        super().__init__()
        self.bptt = bptt
        self.gru = nn.GRU(c_in, units, batch_first=True)

    def forward(self, z: Tensor) -> Tensor:
        """The states."""
        if self.bptt or not torch.is_grad_enabled():
            states: Tensor = self.gru(z)[0]
            return states
        with torch.no_grad():
            states = self.gru(z)[0]
        before = torch.cat([torch.zeros_like(states[:, :1]), states[:, :-1]], dim=1)
        steps: Tensor = self.gru(z.flatten(0, 1)[:, None], before.flatten(0, 1)[None])[0]
        return steps.unflatten(0, z.shape[:2]).flatten(2)


class SoundUnit(Unit):
    """Convolutions over time, heads, a context network; any of them may be absent: (B, c, L) -> a latent (B, L', C)."""

    def __init__(self, options: Sound, c_in: int, first: int, count: int, probabilistic: bool, context: bool) -> None:
        """Build `count` convolutions, the first of which has the number `first`."""
        super().__init__()
        self.first, self.width, self.has_latent = first, options.channels if count else c_in, bool(count)
        widths = [c_in, *[options.channels] * count]
        self.blocks = nn.ModuleList(_convolution(options, first + i, widths[i]) for i in range(count))
        self.probabilistic = probabilistic and bool(count) and bool(options.head)
        self.heads = Heads(self.width, options.head, self.probabilistic) if count and options.head else None
        self.predicts = Recurrent(self.width, options.context, options.bptt) if context else None
        self.context_width = options.context if context else self.width
        self.layer_widths = {number: self.width for number in options.layers if 0 <= number - first < count}

    def forward(self, x: Tensor) -> Latent:
        """The latent, with the layers that are kept."""
        layers = {}
        for number, block in enumerate(self.blocks, start=self.first):
            x = block(x)
            if number in self.layer_widths:
                layers[number] = x
        mean, logvar = self.heads(x) if self.heads is not None else (x.transpose(1, 2), None)
        return Latent(mean, logvar, layers=layers)

    def context(self, z: Tensor) -> Tensor:
        """(B, L, C) -> (B, L, R), or z itself."""
        if self.predicts is None:
            return z
        found: Tensor = self.predicts(z)
        return found

    def onward(self, latent: Latent, z: Tensor) -> Tensor:
        """The latent."""
        return z.transpose(1, 2)


@dataclass(frozen=True)
class Network:
    """Units in their order, and the places at which each has a latent: (L,) or (rows, columns).

    Attributes:
        layers: places of single convolutions, by number.
    """

    units: Sequence[Unit]
    places: list[tuple[int, ...]]
    layers: Mapping[int, tuple[int, ...]]


def build_units(cfg: ModularConfig, shape: tuple[int, ...], probabilistic: bool) -> Network:
    """The units for items of `shape`, (C, T) sound, (C, H, W) images, or pages (n, ...) of n fragments.

    Raises:
        ConfigError: data of the other kind or too short, or options that do not fit together.
    """
    options = cfg.complete()
    if isinstance(options, Pages):
        unit = PageUnit(options.layout, options.channels, shape[1:])
        return Network([unit], [(shape[0],)], {})
    what, axes = ("sound (C, T)", 2) if isinstance(options, Sound) else ("images (C, H, W)", 3)
    if len(shape) != axes:
        raise ConfigError(f"encoder {cfg.name}: takes {what}, the data have shape {shape}")
    if isinstance(options, Sound):
        return _sound(cfg.name, options, shape, probabilistic)
    return _images(cfg.name, options, shape, probabilistic)


def _sound(name: str, options: Sound, shape: tuple[int, ...], probabilistic: bool) -> Network:
    lengths = frame_counts(options, shape[1])
    if min(lengths) < 1:
        short = next(number for number, length in enumerate(lengths) if length < 1)
        raise ConfigError(f"encoder {name}: sounds of {shape[1]} samples are too short for convolution {short}")
    units: list[Unit] = []
    places: list[tuple[int, ...]] = []
    first, c_in = 0, shape[0]
    for number, count in enumerate(options.cut):
        last = number == len(options.cut) - 1
        inside = options.context_at == "each" or (options.context_at == "last" and last)
        units.append(SoundUnit(options, c_in, first, count, probabilistic, inside))
        first, c_in = first + count, options.channels
        places.append((lengths[first - 1],))
    if options.context_at == "module":
        units.append(SoundUnit(options, c_in, first, 0, False, True))
        places.append(places[-1])
    return Network(units, places, {number: (lengths[number],) for number in options.layers})


def _images(name: str, options: Images, shape: tuple[int, ...], probabilistic: bool) -> Network:
    grid = tuple((side - options.patch) // options.step + 1 for side in shape[1:])
    if min(grid) < 1:
        raise ConfigError(f"encoder {name}: patches of {options.patch} pixels do not fit in images of {shape[1:]}")
    units: list[Unit] = []
    stage, c_in = 0, shape[0]
    for number, count in enumerate(options.cut):
        stages = [(options.channels * 2**i, options.blocks[i], 2 if i else 1) for i in range(stage, stage + count)]
        last = number == len(options.cut) - 1
        inside = options.context_at == "each" or (options.context_at == "last" and last)
        unit = PatchUnit(
            c_in, 0 if stage else options.channels, stages, options.bottleneck, probabilistic, (grid[0], grid[1]),
            options.patch, options.step, options.context if inside else 0,
        )  # fmt: skip
        if options.start == "delta_orthogonal":
            unit.delta_orthogonal()
        units.append(unit)
        stage, c_in = stage + count, unit.width
    return Network(units, [grid] * len(units), {})


def frame_counts(options: Sound, samples: int) -> list[int]:
    """Frames behind each convolution (and its pooling) for sounds of so many samples; 0 where nothing is left."""
    counts, length = [], samples
    for number, (kernel, stride, pad) in enumerate(zip(options.kernels, options.strides, options.pads, strict=True)):
        length = max((length + 2 * pad - kernel) // stride + 1, 0)
        if pool := _pool(options, number):
            length = max((length - pool) // max(pool // 2, 1) + 1, 0)
        counts.append(length)
    return counts


def _convolution(options: Sound, number: int, c_in: int) -> nn.Sequential:
    kernel, stride, pad = options.kernels[number], options.strides[number], options.pads[number]
    layers: list[nn.Module] = [nn.Conv1d(c_in, options.channels, kernel, stride, pad)]
    if number not in options.plain:
        layers += [nn.BatchNorm1d(options.channels)] if options.batch_norm else []
        layers.append(nn.ReLU())
    if pool := _pool(options, number):
        layers.append(nn.MaxPool1d(pool, max(pool // 2, 1)))
    return nn.Sequential(*layers)


def _pool(options: Sound, number: int) -> int:
    return options.pools[number] if options.pools else 0


def _check(name: str, options: Sound | Images) -> None:
    """Refuse options that do not fit together."""
    total = len(options.kernels if isinstance(options, Sound) else options.blocks)
    if sum(options.cut) != total:
        raise ConfigError(f"encoder {name}: cut: {list(options.cut)} must add up to the {total} there are")
    if isinstance(options, Images):
        if options.context_at == "module":
            raise ConfigError(f"encoder {name}: context_at: 'module' is of sound; choose 'last', 'each' or 'none'")
        return
    for option in ("strides", "pads", "pools"):
        count = len(getattr(options, option))
        if count != total and (option != "pools" or count):
            raise ConfigError(f"encoder {name}: {option}: must be one for each of the {total} kernels (got {count})")
    for option in ("plain", "layers"):
        wrong = [number for number in getattr(options, option) if number >= total]
        if wrong:
            raise ConfigError(f"encoder {name}: {option}: there is no convolution {wrong[0]}; the last is {total - 1}")
    if options.head and options.head % 2 == 0:
        raise ConfigError(f"encoder {name}: head: must be odd, to keep the number of places (got {options.head})")
