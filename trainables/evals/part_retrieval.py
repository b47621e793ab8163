"""Which part finds what: do a part's nearest rows have the same content, or the same style (V3-E1 to E4, EER of E9)?

Protocol of Wu, Wang, Raj, Xia, "Unsupervised Disentanglement of Content and Style via Variance-Invariance Constraints",
ICLR 2025, arXiv 2407.03824. Rows are the fragments of pages, or items where there are no pages. Every row is a query
that ranks all others by Euclidean distance; those of its class are hits. A part's own factor is the content, that of
`style_part` the style; the other one is crossed. Reported on `val` and `test`:

    auc, f1                  area under precision over recall, and the best F1, at the published numbers k
    crossed_auc, crossed_f1  the same by the other factor: a part that holds none of it is at its chance
    chance, crossed_chance   area of a random order, at the same numbers k
    eer                      equal error rate of telling from the distance whether two rows are of one class
    FACTOR_auc, FACTOR_f1, FACTOR_chance     by each of `more`, such as the clothes of sprites
    disentangled             under the part "all": (auc of content_part + auc of style_part - their crossed_aucs) / 2

The area begins at the first k, so a perfect ranking has less than 1. Numbers k beyond the rows count once, as all other
rows (the published code counts them again and again and reports more than 1). `protocol: old` is that of the paper's
tables: a query ranks first in its own list and is no hit, at other numbers k; compare with those by it alone.

Where there are no style classes the page is the style: are the nearest fragments of the same page?

Artifacts of each part and split: its curves as `retrieval_PART_SPLIT.csv` and `.png`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from datasets.base import Spec, Split
from datasets.config import ConfigError
from trainables.evals import _files, _ranking
from trainables.evals._fragments import FragmentsConfig, Rows, by_fragment, check_rows, gathered, limit, request
from trainables.evals.base import REPORTED, Capabilities, Needs, Request, Result, Subject, chosen_parts


class Config(FragmentsConfig):
    """Which parts, by which factors, and how they are ranked."""

    parts: tuple[str, ...] = Field(("*",), description="parts of the representation; ('*',) = every one")
    content_part: str = Field("content", description="part that `disentangled` takes for the content's")
    style_part: str = Field("style", description="part whose own factor is the style; of all others it is the content")
    more: tuple[str, ...] = Field((), description="further factors (V3's Sprites: body, bottomwear, topwear); or page")
    protocol: Literal["new", "old"] = Field(
        "new", description="old = a query is first in its own list, at other numbers k, as V3's tables have it"
    )
    pairs_of: int = Field(1000, ge=2, le=5000, description="rows, drawn, whose pairs all count for eer")

    def own(self, part: str, content: str, style: str | None) -> tuple[str, str | None]:
        """A part's own factor and the crossed one.

        Raises:
            ConfigError: the style's part has none.
        """
        if part != self.style_part:
            return content, style
        if style is None:
            raise ConfigError(f"style: '{part}' is the style's part, name the factor that it should tell")
        return style, content


NEEDS = Needs(labels=("*",))
VERSION = 1
THREE = ("auc", "f1", "chance")  # of a factor
METRICS = {
    "disentangled": "max", "crossed_auc": "min", "crossed_f1": "min", "auc": "max", "f1": "max", "eer": "min",
    "chance": "", "*_chance": "", "*_auc": "", "*_f1": "",
}  # fmt: skip


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """Clean features of the reported splits; fragments of "*" are left to the run, which knows the parts."""
    if not spec.fragments:
        return [Request(split, limit=limit(spec, cfg, fragments=False)) for split in REPORTED]
    return [
        request(spec, cfg, split, part, take)
        for part in dict.fromkeys(cfg.parts) if part != "*" for split in REPORTED for take in range(cfg.drawn(spec))
    ]  # fmt: skip


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: a factor has no classes or is not one of rows; or the style's part has no factor.
    """
    content, style = cfg.factors(spec)
    for factor in cfg.more:
        check_rows("more", factor, spec)
    chosen = chosen_parts(cfg, parts)
    by_fragment(spec, capabilities, [content, *([style] if style else []), *cfg.more], chosen)
    found = []
    for part in chosen:
        crossed = cfg.own(part, content, style)[1]
        names = ["auc", "f1", "chance", "eer", *(f"{factor}_{name}" for factor in cfg.more for name in THREE)]
        names += [f"crossed_{name}" for name in THREE] if crossed else []
        found += [f"{part}/{split}/{name}" for split in REPORTED for name in names]
    return found + [f"all/{split}/disentangled" for split in REPORTED if _both(cfg, chosen, style)]


def _both(cfg: Config, parts: list[str], style: str | None) -> bool:
    return style is not None and cfg.content_part != cfg.style_part and {cfg.content_part, cfg.style_part} <= {*parts}


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics as in the module's docstring, curves as tables and figures."""
    result, spec = Result({}), subject.spec
    content, style = cfg.factors(spec)
    parts = chosen_parts(cfg, subject.method.parts)
    for split in REPORTED:
        rows = gathered(subject, cfg, split, parts)
        some = torch.from_numpy(np.sort(rng.permutation(len(rows.index))[: cfg.pairs_of]))
        for part in parts:
            own, crossed = cfg.own(part, content, style)
            curves = ranked(cfg, rows, part, [own, *([crossed] if crossed else []), *cfg.more])
            named = {"": own, **({"crossed_": crossed} if crossed else {}), **{f"{one}_": one for one in cfg.more}}
            found = {"eer": _ranking.error_rate_of(rows.parts[part][some], rows.labels[own][some])}
            for prefix, factor in named.items():
                curve = curves[factor]
                random = _ranking.chance(rows.labels[factor], curve.ks, cfg.protocol == "old")
                found |= {f"{prefix}auc": curve.auc, f"{prefix}f1": curve.best_f1, f"{prefix}chance": random}
            result.metrics |= {f"{part}/{split}/{name}": value for name, value in found.items()}
            result.artifacts |= _drawn(subject, part, split, curves)
        if _both(cfg, parts, style):
            result.metrics[f"all/{split}/disentangled"] = disentangled(
                *({name: result.metrics[f"{part}/{split}/{name}"] for name in ("auc", "crossed_auc")}
                  for part in (cfg.content_part, cfg.style_part))
            )  # fmt: skip
    return result


def ranked(cfg: Config, rows: Rows, part: str, factors: list[str]) -> dict[str, _ranking.Curve]:
    """The curve of each factor."""
    labels: dict[str, Tensor] = {factor: rows.labels[factor] for factor in factors}
    old = cfg.protocol == "old"
    ks = {factor: _ranking.OLD if old else _ranking.adaptive(y) for factor, y in labels.items()}
    return _ranking.curves(rows.parts[part], labels, ks, old)


def disentangled(content: Mapping[str, float], style: Mapping[str, float]) -> float:
    """How much better each part tells its own factor than the other one, mean of both parts; 0 = as well."""
    return 0.5 * (content["auc"] + style["auc"] - content["crossed_auc"] - style["crossed_auc"])


def _drawn(subject: Subject, part: str, split: Split, curves: Mapping[str, _ranking.Curve]) -> dict[str, Any]:
    """The curves as a table and a figure."""
    name = f"retrieval_{part}_{split}"
    lines: list[tuple[object, ...]] = [
        (factor, *(value.item() for value in point))
        for factor, one in curves.items() for point in zip(one.ks, one.precision, one.recall, one.f1, strict=True)
    ]  # fmt: skip
    table = _files.table(subject.out / f"{name}.csv", ("factor", "k", "precision", "recall", "f1"), lines)
    shown = {
        f"{factor}, area {one.auc:.2f}": (torch.from_numpy(one.recall), torch.from_numpy(one.precision))
        for factor, one in curves.items()
    }
    title = f"what the nearest of '{part}' have in common ({split})"
    figure = _files.lines(subject.out / f"{name}.png", shown, ("recall", "precision"), title)
    return {table.name: table, figure.name: figure}
