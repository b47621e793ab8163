"""What the space of a latent looks like (SIM-E11, E18, E19; V3-E5): near to normal, and are classes together?

Protocol of Denoodt, de Boer, Oramas, "Smooth InfoMax", ECML PKDD 2025, arXiv 2408.12936, and of Greedy InfoMax (Löwe,
O'Connor, Veeling, NeurIPS 2019, arXiv 1905.11786), which draws such maps during training: so does a sweep at its
`rungs`; and of V3 (Wu, Wang, Raj, Xia, ICLR 2025, arXiv 2407.03824), whose maps are of fragments, beside the atoms of
the codebook. Reported on `val` and `test`, clean:

    mean_off    mean over dimensions of |mean z|; 0 of N(0, I)
    std_off     mean over dimensions of |std z - 1|; 0 of N(0, I), 1 of what does not vary
                over 32 random frames of each item (methods with frames; of distributions one sample), else over items
    purity      mean share of an item's `neighbours` nearest that are of its class; items are means over time
    chance      the same of neighbours drawn at random
    silhouette  of the classes, -1 to 1, of the same items

The last three where a `factor` is named. Artifacts of each part, of `val`: `tsne_PART.png` (random start, 1000 steps,
rate chosen by the number of items, perplexity floor(sqrt n)) and `tsne_PART_FACTOR.png`, the same map by each of
`colours`, `histograms_PART.png` of the first 32 dimensions beside N(0, 1), `scatter_PART.png` of three dimensions and
`activations_PART.png`, frames of some items. With `raw`, `tsne_raw.png` of the items as the encoder sees them. Of each
split `encodings_SPLIT.safetensors`: every part (n, d), labels and positions in the split.

Of pages `rows: fragments` makes each fragment an item. V3's maps: {parts: [content, style], rows: fragments, factor:
content, colours: [style], dimensions: 3, perplexity: 30, start: pca, atoms: true}.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from safetensors.torch import save_file
from torch import Tensor

from datasets.atomic import replacing
from datasets.base import Spec
from datasets.config import ConfigError, near
from trainables.core.method import has
from trainables.evals import _files
from trainables.evals._fragments import FragmentsConfig, Rows, by_fragment, check_rows, gathered, limit
from trainables.evals._frames import FramesConfig, device_of, some_frames
from trainables.evals.base import REPORTED, Capabilities, Needs, Request, Result, Subject, chosen_parts

KEPT = 32  # frames of an item that distributions are judged by
HISTOGRAMS, ITEMS = 32, 4
STILL = 1e-12


class Config(FramesConfig):
    """Which items, by which classes, and how the map is drawn."""

    limit: int | None = Field(2000, ge=3, description="items of each split; None = all")
    factor: str | None = Field(None, description="labelled factor that colours, such as syllable; None = no classes")
    colours: tuple[str, ...] = Field(
        (), description="further labelled factors that the maps are coloured by (V3: style); page = which page"
    )
    rows: Literal["items", "fragments"] = Field(
        "items",
        description="fragments = each fragment of a page with its own labels (V3); limit is of whole pages' ones",
    )
    neighbours: int = Field(10, ge=1, le=1000, description="nearest items that are looked at")
    perplexity: float | None = Field(None, gt=0, description="of the map; None = floor(sqrt n) (SIM); V-GIM, GIM: 30")
    learning_rate: float | None = Field(None, gt=0, description="of the map; None = from n (SIM); V-GIM, GIM: 200")
    dimensions: Literal[2, 3] = Field(2, description="of the map (V3: 3)")
    start: Literal["random", "pca"] = Field("random", description="of the map (SIM: random; V3: pca)")
    atoms: bool = Field(False, description="map 'content' together with the codebook's atoms, of fragments (V3)")
    scatter: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        (), max_length=3, description="three dimensions to show; () = those that tell classes apart best, or vary most"
    )
    raw: bool = Field(False, description="also a map of the items themselves (SIM)")


NEEDS = Needs()
VERSION = 1
METRICS = {"mean_off": "min", "std_off": "min", "purity": "max", "chance": "", "silhouette": "max"}


def data(cfg: Config) -> list[dict[str, Any]]:
    """Other data, which the plan looks for."""
    return [cfg.data] if cfg.data else []


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """Clean features of the reported splits; fragments of "*" are left to the run, which knows the parts."""
    if cfg.data:
        return []
    parts = dict.fromkeys(part for part in cfg.parts if part != "*")
    some: list[dict[str, Any]] = [{"part": part, "pool": "frames"} for part in parts]
    asked = some if cfg.rows == "fragments" else [{}]
    return [Request(split, limit=_limit(cfg, spec), **one) for split in REPORTED for one in asked]


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: a factor is not labelled, or not by row, or has no classes; no three dimensions; no codebook.
    """
    chosen = chosen_parts(cfg, parts)
    if cfg.data is None:
        _check_rows(cfg, spec)
        if cfg.rows == "fragments" and not by_fragment(spec, capabilities, (), chosen):
            raise ConfigError("rows: the method has no rows of fragments")
    if cfg.atoms and (cfg.rows != "fragments" or "content" not in chosen or "quantise" not in capabilities):
        raise ConfigError("atoms: need rows: fragments, the part 'content' and a method with a codebook")
    for part in chosen:
        if cfg.scatter and (len(set(cfg.scatter)) != 3 or max(cfg.scatter) >= parts[part]):
            raise ConfigError(f"scatter: name three dimensions below the {parts[part]} of '{part}'")
        if cfg.start == "pca" and parts[part] < cfg.dimensions:
            raise ConfigError(f"start: pca of '{part}' has {parts[part]} dimensions, the map {cfg.dimensions}")
    names = [name for name in METRICS if cfg.factor or name in ("mean_off", "std_off")]
    return [f"{part}/{split}/{name}" for part in chosen for split in REPORTED for name in names]


def _check_rows(cfg: Config, spec: Spec) -> None:
    """Refuse factors of which a row has no class."""
    if cfg.rows == "fragments" and not spec.fragments:
        raise ConfigError(f"rows: fragments are those of pages, the data have items of {spec.shape}")
    for option, factor in (("factor", cfg.factor), *(("colours", one) for one in cfg.colours)):
        if factor is None:
            continue
        if cfg.rows == "fragments":
            check_rows(option, factor, spec)
            continue
        if factor not in spec.labels:
            raise ConfigError(f"{option}: the data have no label '{factor}'{near(factor, sorted(spec.labels))}")
        if not spec.labels[factor] or factor in spec.frames:
            kind = "given per frame" if factor in spec.frames else "continuous"
            raise ConfigError(f"{option}: '{factor}' is {kind}; classes of items are needed")


def _limit(cfg: Config, spec: Spec) -> int | None:
    """At most so many items of the split."""
    return limit(spec, _once(cfg), fragments=True) if cfg.rows == "fragments" else cfg.limit


def _once(cfg: Config) -> FragmentsConfig:
    """The fragments of one pass, as rows."""
    return FragmentsConfig(fragments=cfg.limit, passes=1)


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `PART/{val,test}/...`, figures and encodings."""
    result, seed, subject = Result({}), int(rng.integers(2**31)), cfg.of(subject)
    _check_rows(cfg, subject.spec)
    parts = chosen_parts(cfg, subject.method.parts)
    for split in REPORTED:
        request = Request(split, limit=_limit(cfg, subject.spec))
        rows = _rows(subject, cfg, request, parts)
        spread = _spread(subject, cfg, request, rows, seed)
        labels = rows.labels[cfg.factor] if cfg.factor else None
        for part in parts:
            found = off_normal(spread[part])
            if labels is not None:
                found |= together(rows.parts[part], labels, cfg.neighbours)
            result.metrics |= {f"{part}/{split}/{name}": value for name, value in found.items()}
        name = f"encodings_{split}.safetensors"
        result.artifacts[name] = _saved(subject.out / name, rows)
        if split == "val":
            paths = [path for part in parts for path in _drawn(subject, part, rows, spread[part], cfg, seed)]
            paths += _of_items(subject, request, parts, labels, cfg, seed)
            result.artifacts |= {path.name: path for path in paths}
    return result


def _rows(subject: Subject, cfg: Config, request: Request, parts: list[str]) -> Rows:
    """What is looked at: items, or fragments."""
    if cfg.rows == "fragments":
        return gathered(subject, _once(cfg), request.split, parts)
    features = subject.features(request)
    return Rows({part: features.parts[part] for part in parts}, features.labels, features.index)


def _spread(subject: Subject, cfg: Config, request: Request, rows: Rows, seed: int) -> dict[str, Tensor]:
    """Part -> (m, d), what its distribution is judged by."""
    parts = list(rows.parts)
    if cfg.rows == "fragments" or not has(subject.method, "frames"):
        return rows.parts
    return {part: z.flatten(0, 1) for part, z in some_frames(subject, request, parts, KEPT, "sample", seed).items()}


def off_normal(z: Tensor) -> dict[str, float]:
    """How far samples z (m, d) are from mean 0 and deviation 1."""
    z = z.double()
    return {"mean_off": float(z.mean(0).abs().mean()), "std_off": float((z.std(0, correction=0) - 1).abs().mean())}


def together(z: Tensor, labels: Tensor, neighbours: int) -> dict[str, float]:
    """Whether items z (n, d) of one class (n,) are near each other; the silhouette is 0 of one class alone."""
    from sklearn.metrics import silhouette_score

    k = min(neighbours, len(z) - 1)
    apart = torch.cdist(z.double(), z.double())
    apart.fill_diagonal_(math.inf)
    nearest = apart.topk(k, largest=False).indices
    sizes = labels.bincount()[labels].double()
    classes = int(labels.unique().numel())
    known = 1 < classes < len(z)
    return {
        "purity": float((labels[nearest] == labels[:, None]).double().mean()),
        "chance": float(((sizes - 1) / (len(z) - 1)).mean()),
        "silhouette": float(silhouette_score(z.numpy(), labels.numpy())) if known else 0.0,
    }


def tsne(x: Tensor, cfg: Config, seed: int) -> Tensor:
    """The map (n, 2) or (n, 3) of items x (n, d)."""
    from sklearn.manifold import TSNE

    perplexity = min(cfg.perplexity or math.floor(math.sqrt(len(x))), (len(x) - 1) / 1.001)
    rate: Any = cfg.learning_rate or "auto"
    placed = TSNE(
        cfg.dimensions, perplexity=perplexity, learning_rate=rate, init=cfg.start, max_iter=1000,
        random_state=seed % 2**31,
    )  # fmt: skip
    return torch.from_numpy(placed.fit_transform(x.numpy()))


def telling(z: Tensor, labels: Tensor | None) -> list[int]:
    """Three dimensions of z (n, d): of the largest variance between classes over that within, or of the largest one."""
    z = z.double()
    whole = z.var(0, correction=0)
    score = whole
    if labels is not None:
        means = torch.stack([z[labels == k].mean(0) for k in labels.unique()])[labels.unique(return_inverse=True)[1]]
        score = means.var(0, correction=0) / (z - means).square().mean(0).clamp_min(STILL)
    return score.argsort(descending=True, stable=True)[:3].tolist()


def _saved(path: Path, rows: Rows) -> Path:
    named = {f"parts.{part}": value for part, value in rows.parts.items()}
    named |= {f"labels.{factor}": value for factor, value in rows.labels.items()}
    with replacing(path) as temporary:
        save_file({name: value.clone() for name, value in {**named, "index": rows.index}.items()}, temporary)
    return path


def _drawn(subject: Subject, part: str, rows: Rows, spread: Tensor, cfg: Config, seed: int) -> list[Path]:
    """Figures of one part, and of what its distribution is judged by (m, d)."""
    out, z = subject.out, rows.parts[part]
    labels = rows.labels[cfg.factor] if cfg.factor else None
    coloured = f", by {cfg.factor}" if cfg.factor else ""
    paths = _maps(subject, part, rows, cfg, seed)
    title = f"dimensions of {part} and N(0, 1)"
    paths.append(_files.histograms(out / f"histograms_{part}.png", spread[:, :HISTOGRAMS], title))
    if z.shape[1] >= 3:
        dims = list(cfg.scatter) or telling(z, labels)
        names = tuple(f"dimension {d}" for d in dims)
        paths.append(_files.scatter(out / f"scatter_{part}.png", z[:, dims], labels, names, f"{part}{coloured}"))
    return paths


def _maps(subject: Subject, part: str, rows: Rows, cfg: Config, seed: int) -> list[Path]:
    """One map of a part, of "content" together with the atoms, coloured by each factor."""
    method: Any = subject.method
    z = rows.parts[part]
    atoms = z[:0]
    if cfg.atoms and part == "content":
        with torch.no_grad():
            atoms = method.codebook().float().cpu()
    placed, stars = tsne(torch.cat([z, atoms]), cfg, seed).split([len(z), len(atoms)])
    paths = []
    for factor in dict.fromkeys((cfg.factor, *cfg.colours)):
        name = "_".join(["tsne", part, *([factor] if factor and factor != cfg.factor else [])])
        title = f"t-SNE of {part}" + (f", by {factor}" if factor else "")
        colours = rows.labels[factor] if factor else None
        marked = stars if len(stars) else None
        paths.append(_files.scatter(subject.out / f"{name}.png", placed, colours, ("", "", ""), title, marked))
    return paths


def _of_items(
    subject: Subject, request: Request, parts: list[str], labels: Tensor | None, cfg: Config, seed: int
) -> list[Path]:
    """Activations of the first items, and the map of the items themselves."""
    method: Any = subject.method
    paths = []
    if has(method, "frames"):
        x = subject.inputs(request)[:ITEMS].to(device_of(subject))
        with torch.no_grad():
            frames = method.frames(subject.normalized(x))
        for part in parts:
            z = frames[part].float().cpu().transpose(1, 2)  # (items, d, L)
            path = subject.out / f"activations_{part}.png"
            side_by_side = torch.cat([piece for one in z for piece in (one, one.new_zeros(len(one), 1))][:-1], 1)
            title = f"{part}, {len(z)} items side by side"
            paths.append(_files.heat(path, side_by_side, ("frames", "dimension"), title))
    if cfg.raw:
        items = subject.inputs(request)
        raw = (items.flatten(0, 1) if cfg.rows == "fragments" else items).flatten(1)
        path = subject.out / "tsne_raw.png"
        paths.append(_files.scatter(path, tsne(raw, cfg, seed), labels, ("", "", ""), "t-SNE of the items themselves"))
    return paths
