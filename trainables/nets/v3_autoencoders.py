"""Autoencoders of fragments with two branches, content and style, as V3 has them for five data sets; one for vectors.

    encoder: stage, stage, flatten, linear to d_c + d_s, GELU, split, a linear map each
    decoder: a linear map and GELU each, joined, linear, GELU, stage, stage; linear output
    stage of the encoder: conv, norm, GELU, B residual blocks at c / 2^L channels; L times a block that doubles the
        channels with a stride, and B - 1 more
    stage of the decoder: L times B - 1 blocks, one that halves the channels, and the stride undone by nearest
        neighbours; B blocks; a transposed conv. Its blocks are transposed convs of stride 1

The first stage ends with n / 2^L channels, L levels of the second, which ends with n. Fragments are (C, rows, columns),
or (rows, columns) with a channel added inside. Vectors (D,) have `blocks` hidden layers of n units on either side, with
norm and GELU.

The published code leaves two norms unused in its encoder; they are an option here (`embedding_norm`). Its LibriSpeech
network halves 80 rows seven times and cannot be built; there the second stage has one level unless 128 divides the
rows.

Source: Wu et al., ICLR 2025, arXiv 2407.03824.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from datasets.config import Config, ConfigError

Norm = Literal["batch", "group", "none"]
Name = Literal["auto", "phonenums", "sprites", "svhn", "insnotes", "librispeech", "vectors"]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Layout:
    """A network: n, B, and of the two stages the levels, kernels and strides."""

    channels: int
    blocks: int
    levels: Pair
    kernels: tuple[Pair, Pair] = ((5, 5), (5, 5))
    strides: tuple[Pair, Pair] = ((2, 2), (2, 2))


SPECTRA: tuple[tuple[Pair, Pair], tuple[Pair, Pair]] = (((9, 3), (5, 3)), ((2, 2), (2, 1)))
LAYOUTS: dict[str, Layout] = {
    "phonenums": Layout(256, 2, (2, 2)),
    "sprites": Layout(256, 2, (2, 2)),
    "svhn": Layout(512, 3, (2, 2)),
    "insnotes": Layout(512, 2, (3, 4), *SPECTRA),
    "librispeech": Layout(256, 4, (3, 4), *SPECTRA),
    "vectors": Layout(128, 2, (0, 0)),
}


class AutoencoderConfig(Config):
    """Options of the autoencoder."""

    name: Name = Field(
        "auto",
        description="the published network; auto = by the fragments: vectors, phonenums of several channels; of one "
        "insnotes where 128 divides the rows, else librispeech",
    )
    channels: int | None = Field(
        None,
        ge=1,
        le=4096,
        description="of the last convolution, or of hidden layers; None = as published, vectors 128",
    )
    blocks: int | None = Field(
        None, ge=1, le=16, description="B, of a level, or hidden layers; None = 2; svhn 3, librispeech 4"
    )
    levels: tuple[int, int] | None = Field(None, description="of the two stages; None = 2, 2; of spectra 3, 4")
    content: int = Field(512, ge=1, le=65_536, description="d_c, dimensions of the content (V3: 512; toy: 32)")
    style: int = Field(512, ge=1, le=65_536, description="d_s, dimensions of the style (V3: 512; toy: 32)")
    decoder_norm: Norm = Field("batch", description="of the decoder; group = 8 groups (V3: batch)")
    embedding_norm: Literal["none", "batch"] = Field(
        "none", description="batch norm of content and style (V3: none; an early form of svhn: batch)"
    )


class Block(nn.Module):
    """Residual block: conv, norm, GELU, conv, norm, plus the input (through a 1x1 conv and norm where widths differ).

    Transposed, the first conv keeps the width and the second changes it, and there is no stride.
    """

    def __init__(
        self, c_in: int, c_out: int, kernel: Pair, stride: Pair = (1, 1), transposed: bool = False, norm: Norm = "batch"
    ) -> None:
        super().__init__()
        conv: type[nn.Conv2d | nn.ConvTranspose2d] = nn.ConvTranspose2d if transposed else nn.Conv2d
        middle, padding = c_in if transposed else c_out, (kernel[0] // 2, kernel[1] // 2)
        self.conv_0, self.norm_0 = conv(c_in, middle, kernel, stride, padding), normalisation(norm, middle)
        self.conv_1, self.norm_1 = conv(middle, c_out, kernel, 1, padding), normalisation(norm, c_out)
        self.shortcut: nn.Module = nn.Identity()
        if c_in != c_out:
            self.shortcut = nn.Sequential(conv(c_in, c_out, 1, stride), normalisation(norm, c_out))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, c_in, H, W) -> (B, c_out, ceil(H / stride), ceil(W / stride))."""
        y = F.gelu(self.norm_0(self.conv_0(x)))
        return F.gelu(self.norm_1(self.conv_1(y)) + self.shortcut(x))


def normalisation(norm: Norm, width: int, flat: bool = False) -> nn.Module:
    """Of `width` channels: over the batch, in 8 groups (or as many as divide the width), or none."""
    if norm == "batch":
        return nn.BatchNorm1d(width) if flat else nn.BatchNorm2d(width)
    return nn.GroupNorm(math.gcd(8, width), width) if norm == "group" else nn.Identity()


def encoder_stage(c_in: int, c_out: int, levels: int, blocks: int, kernel: Pair, stride: Pair) -> nn.Sequential:
    """(B, c_in, H, W) -> (B, c_out, H / stride^levels, ...)."""
    width, padding = c_out >> levels, (kernel[0] // 2, kernel[1] // 2)
    stage = nn.Sequential()
    stage.add_module("stem", nn.Conv2d(c_in, width, kernel, 1, padding))
    stage.add_module("norm", nn.BatchNorm2d(width))
    stage.add_module("gelu", nn.GELU())
    for block in range(blocks):
        stage.add_module(f"start_{block}", Block(width, width, kernel))
    for level in range(levels):
        stage.add_module(f"{level}_0", Block(width, 2 * width, kernel, stride))
        width *= 2
        for block in range(1, blocks):
            stage.add_module(f"{level}_{block}", Block(width, width, kernel))
    return stage


def decoder_stage(
    c_in: int, c_out: int, levels: int, blocks: int, kernel: Pair, scale: Pair, norm: Norm
) -> nn.Sequential:
    """(B, c_in, H, W) -> (B, c_out, H scale^levels, ...)."""
    stage, width = nn.Sequential(), c_in
    for level in range(levels):
        for block in range(blocks - 1):
            stage.add_module(f"{level}_{block}", Block(width, width, kernel, transposed=True, norm=norm))
        stage.add_module(f"{level}_{blocks - 1}", Block(width, width // 2, kernel, transposed=True, norm=norm))
        stage.add_module(f"up_{level}", nn.Upsample(scale_factor=(float(scale[0]), float(scale[1]))))
        width //= 2
    for block in range(blocks):
        stage.add_module(f"end_{block}", Block(width, width, kernel, transposed=True, norm=norm))
    padding = (kernel[0] // 2, kernel[1] // 2)
    stage.add_module("out", nn.ConvTranspose2d(width, c_out, kernel, 1, padding))
    return stage


class Encoder(nn.Module):
    """Fragments (B, C, rows, columns) or vectors (B, D) -> content (B, d_c) and style (B, d_s)."""

    def __init__(self, cfg: AutoencoderConfig, body: nn.Module, flat: int) -> None:
        super().__init__()
        self.widths = [cfg.content, cfg.style]
        self.body, self.joint = body, nn.Linear(flat, sum(self.widths))
        self.content, self.style = (nn.Linear(width, width) for width in self.widths)
        self.norms: nn.ModuleList | None = None
        if cfg.embedding_norm == "batch":
            self.norms = nn.ModuleList(nn.BatchNorm1d(width) for width in self.widths)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x -> content, style."""
        c, s = F.gelu(self.joint(self.body(x).flatten(1))).split(self.widths, 1)
        c, s = self.content(c), self.style(s)
        return (c, s) if self.norms is None else (self.norms[0](c), self.norms[1](s))


class Decoder(nn.Module):
    """Content (B, d_c) and style (B, d_s) -> fragments."""

    def __init__(self, cfg: AutoencoderConfig, body: nn.Module, bottom: tuple[int, ...]) -> None:
        """`bottom`: shape of what the body takes."""
        super().__init__()
        self.bottom = bottom
        self.content, self.style = (nn.Linear(width, width) for width in (cfg.content, cfg.style))
        self.joint = nn.Linear(cfg.content + cfg.style, math.prod(bottom))
        self.body = body

    def forward(self, c: Tensor, s: Tensor) -> Tensor:
        """content, style -> x."""
        joined = F.gelu(self.content(c)), F.gelu(self.style(s))
        x: Tensor = self.body(F.gelu(self.joint(torch.cat(joined, 1))).view(-1, *self.bottom))
        return x


class Autoencoder(nn.Module):
    """Encoder and decoder of the fragments of pages (b, n, *fragment)."""

    def __init__(self, cfg: AutoencoderConfig, fragment: tuple[int, ...]) -> None:
        """Build for fragments of a shape.

        Raises:
            ConfigError: the network does not take it.
        """
        super().__init__()
        self.fragment = fragment
        layout = layout_of(cfg, fragment)
        self.inner = fragment if len(fragment) != 2 else (1, *fragment)
        build = _vectors if len(fragment) == 1 else _images
        self.encoder, self.decoder = build(cfg, layout, fragment)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Pages (b, n, *fragment) -> content (b, n, d_c), style (b, n, d_s)."""
        c, s = self.encoder(x.reshape(-1, *self.inner))
        return c.unflatten(0, x.shape[:2]), s.unflatten(0, x.shape[:2])

    def decode(self, c: Tensor, s: Tensor) -> Tensor:
        """Content (b, n, d_c), as a rule quantised, and style (b, n, d_s) -> pages (b, n, *fragment)."""
        x: Tensor = self.decoder(c.flatten(0, 1), s.flatten(0, 1))
        return x.reshape(*c.shape[:2], *self.fragment)


def layout_of(cfg: AutoencoderConfig, fragment: tuple[int, ...]) -> Layout:
    """The network that the options mean for fragments of a shape.

    Raises:
        ConfigError: one line.
    """
    if len(fragment) not in (1, 2, 3):
        raise ConfigError(
            "method.encoder: fragments are vectors, (rows, columns) or (channels, rows, columns); the data have pages "
            f"of {fragment}"
        )
    name = cfg.name
    if name == "auto":
        name = _suited(fragment)
    if (name == "vectors") != (len(fragment) == 1):
        raise ConfigError(f"method.encoder.name: '{name}' does not take fragments of {fragment}")
    base = LAYOUTS[name]
    levels = base.levels
    if name == "librispeech" and fragment[-2] % 128:
        levels = (levels[0], 1)
    layout = Layout(
        cfg.channels or base.channels, cfg.blocks or base.blocks, cfg.levels or levels, base.kernels, base.strides
    )
    if name != "vectors":
        _check(layout, fragment)
    return layout


def _suited(fragment: tuple[int, ...]) -> Name:
    """What was published for such fragments; those of one channel are spectra."""
    if len(fragment) == 1:
        return "vectors"
    if len(fragment) == 3 and fragment[0] > 1:
        return "phonenums"
    return "librispeech" if fragment[-2] % 128 else "insnotes"


def _check(layout: Layout, fragment: tuple[int, ...]) -> None:
    if min(layout.levels) < 0:
        raise ConfigError(f"method.encoder.levels: must be at least 0 (got {list(layout.levels)})")
    halvings = sum(layout.levels)
    if layout.channels % 2**halvings:
        raise ConfigError(
            f"method.encoder.channels: halved at each of {halvings} levels, so a multiple of {2**halvings} "
            f"(got {layout.channels})"
        )
    for axis, what in enumerate(("rows", "columns")):
        step, size = _step(layout, axis), fragment[axis - 2]
        if size % step:
            raise ConfigError(f"method.encoder: {size} {what} of a fragment must be a multiple of {step}")


def _step(layout: Layout, axis: int) -> int:
    """By what an axis gets shorter."""
    first, second = layout.strides
    return int(first[axis] ** layout.levels[0] * second[axis] ** layout.levels[1])


def encoder_body(cfg: AutoencoderConfig, fragment: tuple[int, ...]) -> tuple[nn.Sequential, int]:
    """What is below the linear maps of an encoder, for (B, C, rows, columns) or (B, D), and the values it gives.

    Raises:
        ConfigError: the network does not take such fragments.
    """
    layout = layout_of(cfg, fragment)
    if len(fragment) == 1:
        return _layers(fragment[0], layout, "batch"), layout.channels
    c_in, (one, two), (k_one, k_two), (s_one, s_two) = (
        1 if len(fragment) == 2 else fragment[0], layout.levels, layout.kernels, layout.strides
    )  # fmt: skip
    middle, down = layout.channels >> two, nn.Sequential()
    down.add_module("stage_1", encoder_stage(c_in, middle, one, layout.blocks, k_one, s_one))
    down.add_module("stage_2", encoder_stage(middle, layout.channels, two, layout.blocks, k_two, s_two))
    return down, math.prod(_bottom(layout, fragment))


def _bottom(layout: Layout, fragment: tuple[int, ...]) -> tuple[int, ...]:
    """What the last convolution gives, (channels, rows, columns)."""
    return (layout.channels, *(size // _step(layout, axis) for axis, size in enumerate(fragment[-2:])))


def _images(cfg: AutoencoderConfig, layout: Layout, fragment: tuple[int, ...]) -> tuple[Encoder, Decoder]:
    top, (one, two), blocks = layout.channels, layout.levels, layout.blocks
    middle, c_out, bottom = top >> two, 1 if len(fragment) == 2 else fragment[0], _bottom(layout, fragment)
    (k_one, k_two), (s_one, s_two) = layout.kernels, layout.strides
    down, flat = encoder_body(cfg, fragment)
    up = nn.Sequential()
    up.add_module("stage_2", decoder_stage(top, middle, two, blocks, k_two, s_two, cfg.decoder_norm))
    up.add_module("stage_1", decoder_stage(middle, c_out, one, blocks, k_one, s_one, cfg.decoder_norm))
    return Encoder(cfg, down, flat), Decoder(cfg, up, bottom)


def _vectors(cfg: AutoencoderConfig, layout: Layout, fragment: tuple[int, ...]) -> tuple[Encoder, Decoder]:
    width = layout.channels
    up = _layers(width, layout, cfg.decoder_norm)
    up.add_module("out", nn.Linear(width, fragment[0]))
    down, flat = encoder_body(cfg, fragment)  # its weights are drawn after those of the decoder
    return Encoder(cfg, down, flat), Decoder(cfg, up, (width,))


def _layers(first: int, layout: Layout, norm: Norm) -> nn.Sequential:
    width, made = layout.channels, nn.Sequential()
    for number in range(layout.blocks):
        made.add_module(f"{number}", nn.Linear(first if number == 0 else width, width))
        made.add_module(f"norm_{number}", normalisation(norm, width, flat=True))
        made.add_module(f"gelu_{number}", nn.GELU())
    return made


ORIGINAL = (  # tensors of the published code, and ours
    (r"cnn_(transpose_)?(\d)\.", r"body.stage_\2."),
    (r"stage_(\d)\.0\.", r"stage_\1.stem."),
    (r"stage_(\d)\.1\.", r"stage_\1.norm."),
    (r"resblock_(\w+?_\d+)\.", r"\1."),
    (r"\.bn_(\d)\.", r".norm_\1."),
    (r"output_conv", "out"),
    (r"linear_[01]\.", "joint."),
    (r"linear_c\.", "content."),
    (r"linear_s\.", "style."),
    (r"^bn_c\.", "norms.0."),
    (r"^bn_s\.", "norms.1."),
)


def ours(name: str) -> str:
    """Of a tensor of the published encoder or decoder, without that prefix: its name here."""
    for theirs, mine in ORIGINAL:
        name = re.sub(theirs, mine, name)
    return name
