"""Recombination (V3-P1): every atom of a codebook in every style, and contents of one page in the style of another.

Protocol after Wu et al., ICLR 2025, arXiv 2407.03824, whose figures are judged by eye. A style is the mean of the
style vectors of all pages of a class (`style`); data without style classes have those of `shown` pages. What is decoded
is encoded again, each fragment by itself:

    code_kept            share of the grid whose code is the atom that it was decoded from
    content_kept         whose code is called as that atom is (by the most frequent content of the split's fragments)
    style_kept           whose style vector is nearest to the mean style that it was decoded with
    transfer_code_kept   the same of transfer: codes of page A with the mean style vector of page B, of another class;
    transfer_style_kept  the nearest of the classes' means is that of B's class

Only atoms that the split's fragments use count. Chance is one over the atoms, and one over the styles. Where fragments
have classes of content and pages of style, transfer is compared with what there really is, by the mean squared error
to the mean of the real fragments of that content in that style, of pixels in [0, 1] (vectors as they are):

    transfer_mse   of A's codes in B's style
    own_mse        of A's codes in A's own mean style
    real_mse       of the real fragments themselves: how much they differ from their mean

Artifacts: `grid.csv`, and of images `grid.png` (a row for each style) and `transfer.png`; of log spectra as of InsNotes
`grid_STYLE.wav` and `transfer_N.wav` too, by Griffin and Lim. All are of `val`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from datasets import _notes, insnotes
from datasets.base import Spec, Split
from datasets.config import ConfigError
from trainables.evals import _codes, _files, _sound
from trainables.evals.base import REPORTED, Capabilities, EvalConfig, Needs, Request, Result, Subject

AT_ONCE = 64  # pages that pass the networks together
GRID = ("code_kept", "content_kept", "style_kept")
TRANSFER = ("transfer_code_kept", "transfer_style_kept")
REAL = ("transfer_mse", "own_mse", "real_mse")


class Config(EvalConfig):
    """What content and style are, and how much is made."""

    limit: int | None = Field(500, ge=2, description="at most so many pages of each split; None = all")
    content: str = Field("content", description="factor of fragments, by which atoms are called")
    style: str = Field("style", description="factor of pages; one without classes = every page has its own style")
    pairs: int = Field(64, ge=1, le=100_000, description="of pages, between which style is transferred")
    shown: int = Field(
        4, ge=1, le=64, description="pairs in the figure; of data without style classes also styles of the grid"
    )


NEEDS = Needs(capabilities=("frames", "quantise"))
VERSION = 1
METRICS = {"*_kept": "max", "transfer_mse": "min", "own_mse": "min", "real_mse": ""}


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """Contents and styles of every fragment."""
    return [_request(cfg, split, part) for split in REPORTED for part in ("content", "style")]


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: the factor of content is one of pages, or that of style one of fragments.
    """
    if cfg.parts not in (("all",), ("*",)):
        raise ConfigError(f"parts: content and style are recombined (got {', '.join(cfg.parts)})")
    _codes.check_factors(cfg.content, cfg.style, spec)
    told, styled = bool(spec.labels.get(cfg.content)), bool(spec.labels.get(cfg.style))
    names = [name for name in GRID if told or name != "content_kept"]
    names += [name for name in TRANSFER if styled or name != "transfer_style_kept"]
    names += REAL if told and styled else ()
    return [f"all/{split}/{name}" for split in REPORTED for name in names]


@dataclass(frozen=True)
class Pages:
    """Pages of one split.

    Attributes:
        x: (P, n, *fragment) pixels. codes: (P, n). z_s: (P, n, d_s).
        content: (P, n), -1 where there is none; None = not labelled. style: (P,); None = it has no classes.
        means: (S, d_s) the styles. names: of each style.
    """

    x: Tensor
    codes: Tensor
    z_s: Tensor
    content: Tensor | None
    style: Tensor | None
    means: Tensor
    names: list[str]


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics as in the module's docstring, `all/{val,test}/...`; a table, figures and sounds.

    Raises:
        ConfigError: no pair of pages has real fragments to be compared with.
    """
    result, seed, maker = Result({}), int(rng.integers(2**31)), Maker(subject)
    for split in REPORTED:
        pages = read(subject, cfg, split, maker)
        atoms = len(maker.method.codebook())
        grid = torch.arange(atoms).expand(len(pages.means), atoms)
        styles = pages.means[:, None].expand(-1, atoms, -1)
        made = maker.make(grid, styles)
        codes, z_s = maker.read(made)
        used = torch.bincount(pages.codes.flatten(), minlength=atoms) > 0
        again = nearest(z_s, pages.means)
        found = {"code_kept": _share((codes == grid)[:, used]),
                 "style_kept": _share((again == torch.arange(len(pages.means))[:, None])[:, used])}  # fmt: skip
        names = torch.full((atoms,), _codes.NOTHING)
        if pages.content is not None:
            classes = subject.spec.labels[cfg.content]
            names = _codes.named(_codes.counted(pages.codes, pages.content, atoms, classes))
            found["content_kept"] = _share((names[codes] == names)[:, used])
        one, other = paired(pages, cfg.pairs, np.random.default_rng(seed))
        moved, measured = transfer(maker, pages, one, other)
        result.metrics |= {f"all/{split}/{name}": value for name, value in {**found, **measured}.items()}
        if split == "val":
            rows = [(k, int(names[k]), style, int(codes[s, k]), pages.names[int(again[s, k])])
                    for s, style in enumerate(pages.names) for k in range(atoms)]  # fmt: skip
            columns = ("atom", "content", "style", "atom_again", "style_again")
            result.artifacts["grid.csv"] = _files.table(subject.out / "grid.csv", columns, rows)
            if made.ndim > 3:
                some = slice(cfg.shown)
                triples = torch.stack([pages.x[one][some], pages.x[other][some], moved[some]], 1)
                result.artifacts |= drawn(subject.out, maker.pixels(made), names, pages.names, triples)
    return result


class Maker:
    """Passes pages through a method's networks, a few at a time; results are on the CPU."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.method: Any = subject.method
        self.device = next(iter(self.method.parameters())).device

    @torch.no_grad()
    def make(self, codes: Tensor, styles: Tensor) -> Tensor:
        """Codes (B, n) and styles (B, n, d_s) -> what is decoded (B, n, *fragment), as the method sees items."""
        pieces = zip(codes.split(AT_ONCE), styles.split(AT_ONCE), strict=True)
        return torch.cat([self.method.spoken(c.to(self.device), s.to(self.device)).cpu() for c, s in pieces])

    @torch.no_grad()
    def read(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What was decoded (B, n, *fragment) -> its codes (B, n) and styles (B, n, d_s)."""
        found = [self.method.frames(some.to(self.device)) for some in x.split(AT_ONCE)]
        codes = torch.cat([self.method.codes_of(one["content"]).cpu() for one in found])
        return codes, torch.cat([one["style"].cpu() for one in found])

    def pixels(self, x: Tensor) -> Tensor:
        """What was decoded, in units of `Subject.inputs`; `Subject.normalized` is a line for each channel."""
        zero = self.subject.normalized(torch.zeros_like(x[:1, :1]))
        return (x - zero) / (self.subject.normalized(torch.ones_like(x[:1, :1])) - zero)


def read(subject: Subject, cfg: Config, split: Split, maker: Maker) -> Pages:
    """The pages of a split, with their codes and styles."""
    contents = subject.features(_request(cfg, split, "content"))
    z_s = subject.features(_request(cfg, split, "style")).parts["style"]
    with torch.no_grad():
        codes = maker.method.codes_of(contents.parts["content"].to(maker.device)).cpu()
    labels, spec = contents.labels, subject.spec
    content = labels[cfg.content] if spec.labels.get(cfg.content) else None
    style = labels[cfg.style] if spec.labels.get(cfg.style) else None
    if style is None:
        means, names = z_s[: cfg.shown].mean(1), [f"page {i}" for i in contents.index[: cfg.shown].tolist()]
    else:
        there = style.unique()
        means = torch.stack([z_s[style == one].flatten(0, 1).mean(0) for one in there])
        names, style = [str(one) for one in there.tolist()], torch.searchsorted(there, style)
    return Pages(subject.inputs(_request(cfg, split, "content")), codes, z_s, content, style, means, names)


def nearest(z_s: Tensor, means: Tensor) -> Tensor:
    """Styles (..., d_s) -> (...) the nearest of the means (S, d_s), the first of equals."""
    flat = torch.cdist(z_s.reshape(-1, z_s.shape[-1]), means, compute_mode="donot_use_mm_for_euclid_dist")
    return flat.argmin(1).view(z_s.shape[:-1])


def paired(pages: Pages, count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Pages A and B of so many pairs (count,), B of another style than A where there is one, else another page."""
    total = len(pages.x)
    one = rng.integers(total, size=count)
    if pages.style is None or len(pages.means) == 1:
        return torch.from_numpy(one), torch.from_numpy((one + rng.integers(1, max(total, 2), size=count)) % total)
    style = pages.style.numpy()
    other = [int(rng.choice(np.flatnonzero(style != style[a]))) for a in one]
    return torch.from_numpy(one), torch.tensor(other)


def transfer(maker: Maker, pages: Pages, one: Tensor, other: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Pages A in the styles of pages B (m, n, *fragment) as pixels, and the metrics of transfer.

    Raises:
        ConfigError: there is no real fragment to compare with.
    """
    codes, own = pages.codes[one], pages.z_s.mean(1, keepdim=True).expand_as(pages.z_s)
    made = maker.make(codes, own[other])
    again, z_s = maker.read(made)
    found, moved = {"transfer_code_kept": _share(again == codes)}, maker.pixels(made)
    if pages.style is None:
        return moved, found
    found["transfer_style_kept"] = _share(nearest(z_s, pages.means) == pages.style[other][:, None])
    if pages.content is None:
        return moved, found
    real, there = cells(pages.x, pages.content, pages.style)
    still = maker.pixels(maker.make(codes, own[one]))
    for name, x, content, style in (
        ("transfer_mse", moved, pages.content[one], pages.style[other]),
        ("own_mse", still, pages.content[one], pages.style[one]),
        ("real_mse", pages.x, pages.content, pages.style),
    ):
        at = content.clamp_min(0), style[:, None].expand_as(content)
        known = (content >= 0) & there[at]
        if not bool(known.any()):
            raise ConfigError("no pair of pages has real fragments to be compared with; raise limit or pairs")
        pieces = zip(x.split(AT_ONCE), *(one.split(AT_ONCE) for one in at), strict=True)
        error = torch.cat([(some - real[c, s]).square().flatten(2).mean(2) for some, c, s in pieces])
        found[name] = float(error[known].double().mean())
    return moved, found


def cells(x: Tensor, content: Tensor, style: Tensor) -> tuple[Tensor, Tensor]:
    """The mean fragment of each content in each style (C, S, *fragment), and whether there is one (C, S).

    Args:
        x: (P, n, *fragment). content: (P, n), -1 = none. style: (P,).
    """
    styles = int(style.max()) + 1
    total = (int(content.max()) + 1) * styles
    sums, count = torch.zeros(total, *x.shape[2:], dtype=torch.float64), torch.zeros(total, dtype=torch.int64)
    for page, c, s in zip(x.split(AT_ONCE), content.split(AT_ONCE), style.split(AT_ONCE), strict=True):
        cell = (c * styles + s[:, None])[c >= 0]
        sums.index_add_(0, cell, page[c >= 0].double())
        count += torch.bincount(cell, minlength=total)
    means = sums / count.clamp_min(1).view(-1, *[1] * (x.ndim - 2))
    return means.float().unflatten(0, (-1, styles)), (count > 0).unflatten(0, (-1, styles))


def drawn(out: Path, grid: Tensor, names: Tensor, styles: list[str], triples: Tensor) -> dict[str, Path]:
    """Figures of the grid (S, K, *fragment) and of transfer (m, 3, n, *fragment), of spectra sounds too."""
    images = [one.unsqueeze(-3) if one.ndim == dims else one for one, dims in ((grid, 4), (triples, 5))]
    spectra = images[0].shape[-3:-1] == (1, insnotes.ROWS)
    shown = [one.flip(-2) if spectra else one for one in images]  # frequency upwards
    atoms = [str(k) if name < 0 else f"{k}: {name}" for k, name in enumerate(names.tolist())]
    rows = [text for n in range(len(triples)) for text in (f"A {n}", f"B {n}", "A as B")]
    figures = (
        ("grid.png", shown[0], styles, atoms, "each atom (and what it is called) in each style"),
        ("transfer.png", shown[1].flatten(0, 1), rows, [""] * shown[1].shape[2],
         "pages A and B, and A's codes in the mean style of B"),
    )  # fmt: skip
    made = {name: _sound.picture(out / name, [*x], r, c, title) for name, x, r, c, title in figures}
    if spectra:
        for style, notes in zip(styles, images[0], strict=True):
            made[f"grid_{style}.wav"] = _sound.wav(out / f"grid_{style}.wav", heard(notes), _notes.RATE)
        for n, pair in enumerate(images[1]):
            made[f"transfer_{n}.wav"] = _sound.wav(out / f"transfer_{n}.wav", heard(pair.flatten(0, 1)), _notes.RATE)
    return made


def heard(notes: Tensor) -> Tensor:
    """Log spectra (m, 1, 512, frames) in [0, 1], as InsNotes gives them, as sounds (m, 1, T) of a peak of 0.9."""
    v = notes.clamp(0, 1) * insnotes.RANGE + insnotes.LOW
    x = _notes.audible(torch.cat([v, torch.full_like(v[:, :, :1], insnotes.LOW)], 2))
    return _notes.PEAK * x / x.abs().amax((1, 2), keepdim=True).clamp_min(1e-12)


def _request(cfg: Config, split: Split, part: str) -> Request:
    return Request(split, limit=cfg.limit, part=part, pool="frames")


def _share(kept: Tensor) -> float:
    return float(kept.double().mean())
