"""Do the codes of a codebook stand for contents, and does it decode (V3-E6, health of V3's follow-up)?

Every fragment of a page has a code. Codes are counted with contents, on each split by itself. On `val` and `test`,
under the part "content":

    accuracy         purity of each used code, mean over codes, as published: it says nothing of how often they are used
    purity           share of fragments whose content is the most frequent one of their code
    one_to_one       share of fragments that the best assignment of one code to one content explains
    one_to_one_worst_style      the same assignment's share in the style where it is smallest (where there are styles)
    named            share of fragments whose code is called their content by the naming below: no label of the split
    perplexity, active          exp of the entropy of their usage, and the number of codes in use
    coverage         contents that are the most frequent one of some code
    min_distance     of two atoms
    recon            mean squared error of decoded fragments, quantised, in the units that the method sees
    recon_train_mode, bn_gap    the same on the first `batch` pages with batch statistics, and the error with running
                     ones over it; above 2 the two differ too much

`one_to_one` beside `recon` is the pair to search by: each alone is reached by encoders that separate nothing.

`naming.json` calls each code the content that it most often has on the *train* split, -1 where it is not used there; no
reported split has a say in it. The paper names codes by the split that it reports; that is what the purities above do.
Further artifacts, of each reported split:
`confusion_SPLIT.csv` and `.png`, shares of contents of each code, in the order that makes a diagonal; and
`styles_SPLIT.csv`.

Sources: Wu, Wang, Raj, Xia, "Unsupervised Disentanglement of Content and Style via Variance-Invariance Constraints",
ICLR 2025, arXiv 2407.03824; its public follow-up (Liu, 2026).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from datasets.base import Spec, Split
from datasets.config import ConfigError
from trainables.evals import _codes, _files
from trainables.evals._fragments import PAGE, FragmentsConfig, by_fragment, gathered, limit, request
from trainables.evals._frames import device_of
from trainables.evals.base import REPORTED, Capabilities, Needs, Request, Result, Subject

PART = "content"
EVERY: tuple[Split, ...] = ("train", *REPORTED)
AT_ONCE = 64  # pages that are decoded at once


class Config(FragmentsConfig):
    """Which contents and styles codes are counted with, and what is decoded."""

    fragments: int | None = Field(
        20_000, ge=2, description="at most so many fragments of each split, whole pages; None = all"
    )
    decoded: int = Field(200, ge=2, le=100_000, description="pages of each reported split that are decoded for recon")
    batch: int = Field(32, ge=2, le=4096, description="pages whose batch statistics bn_gap compares with (V3: 32)")


NEEDS = Needs(labels=("*",), capabilities=("frames", "quantise"))
VERSION = 1
METRICS = {
    "accuracy": "max", "purity": "max", "one_to_one": "max", "one_to_one_worst_style": "max", "named": "max",
    "perplexity": "", "active": "", "coverage": "max", "min_distance": "", "recon": "min", "recon_train_mode": "",
    "bn_gap": "min",
}  # fmt: skip


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """Contents of the fragments of every split."""
    return [request(spec, cfg, split, PART, take) for split in EVERY for take in range(cfg.drawn(spec))]


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: the data are no pages, contents or styles have no classes, or the method has no parts of them.
    """
    style = _factors(cfg, spec)[1]
    by_fragment(spec, capabilities, (), [PART])
    for part in (PART, "style"):
        if part not in parts:
            raise ConfigError(f"needs the part '{part}'; there is {', '.join(sorted(parts))}")
    names = [name for name in METRICS if style is not None or name != "one_to_one_worst_style"]
    return [f"{PART}/{split}/{name}" for split in REPORTED for name in names]


def _factors(cfg: Config, spec: Spec) -> tuple[str, str | None]:
    """The factors of content and style; that which page it is, is no style here."""
    if not spec.fragments:
        raise ConfigError(f"needs pages of fragments; the data have items of {spec.shape}")
    content, style = cfg.factors(spec)
    if content == PAGE and PAGE not in spec.labels:
        raise ConfigError("content: 'page' is no content; name a labelled factor")
    return content, None if style == PAGE and PAGE not in spec.labels else style


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics as in the module's docstring, the names of codes, tables and figures."""
    method: Any = subject.method
    content, style = _factors(cfg, subject.spec)
    with torch.no_grad():
        atoms = method.codebook().float().cpu()
    result, seed, names = Result({}), int(rng.integers(2**31)), torch.empty(0)
    for split in EVERY:
        rows = gathered(subject, cfg, split, [PART])
        known = rows.labels[content] >= 0
        codes, y = codes_of(subject, rows.parts[PART][known]), rows.labels[content][known]
        counts = _codes.counted(codes, y, len(atoms), subject.spec.labels[content])
        if split == "train":
            names = _codes.named(counts)
            result.artifacts["naming.json"] = _codes.write_naming(subject.out / "naming.json", content, split, counts)
            continue
        found = _codes.measure(counts) | {"named": float((names[codes] == y).double().mean())}
        found |= {"min_distance": _codes.nearest_atoms(atoms), **decoded(subject, cfg, split, seed)}
        result.artifacts |= _matrix(subject.out, split, counts, content)
        if style is not None:
            right = _codes.assigned(counts)[codes] == y
            table = of_styles(right, rows.labels[style][known])
            found["one_to_one_worst_style"] = min(share for _, _, share in table)
            path = subject.out / f"styles_{split}.csv"
            result.artifacts[path.name] = _files.table(path, (style, "fragments", "one_to_one"), table)
        result.metrics |= {f"{PART}/{split}/{name}": value for name, value in found.items()}
    return result


def codes_of(subject: Subject, contents: Tensor) -> Tensor:
    """(n, d) contents -> (n,) their codes, on the CPU."""
    method: Any = subject.method
    with torch.no_grad():
        return torch.cat([method.codes_of(some.to(device_of(subject))).cpu() for some in contents.split(4096)])


def of_styles(right: Tensor, style: Tensor) -> list[tuple[int, int, float]]:
    """Of each style among labels (n,): its number, its fragments, and the share of them that is right (n,)."""
    return [
        (int(one), int((style == one).sum()), float(right[style == one].double().mean())) for one in style.unique()
    ]  # fmt: skip


def decoded(subject: Subject, cfg: Config, split: Split, seed: int) -> dict[str, float]:
    """Errors of decoded fragments."""
    bounds = [cfg.decoded, limit(subject.spec, cfg, fragments=True) or cfg.decoded]
    x = subject.inputs(Request(split, limit=min(bounds)))
    squared = torch.cat([_error(subject, subject.method, some) for some in x.split(AT_ONCE)])
    learning = copy.deepcopy(subject.method).train()  # a copy: its running statistics move
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        one = float(_error(subject, learning, x[: cfg.batch]).mean())
    gap = float(squared[: cfg.batch].mean()) / max(one, 1e-12)
    return {"recon": float(squared.mean()), "recon_train_mode": one, "bn_gap": gap}


def _error(subject: Subject, method: Any, x: Tensor) -> Tensor:
    """(b,) mean squared error of each page of x, which is quantised as in an evaluation."""
    seen = subject.normalized(x.to(device_of(subject)))
    with torch.no_grad():
        frames = method.frames(seen)
        made = method.spoken(method.codes_of(frames[PART]), frames["style"])
        return (made - seen).square().flatten(1).mean(1).double().cpu()


def _matrix(out: Path, split: str, counts: Tensor, content: str) -> dict[str, Path]:
    """The confusion matrix in the order that makes a diagonal."""
    matrix = _codes.shares(counts)
    order = _codes.order(matrix)
    rows = [(k, int(counts[k].sum()), *(f"{share:.6f}" for share in matrix[k].tolist())) for k in order.tolist()]
    columns = ("code", "fragments", *(f"{content}_{c}" for c in range(matrix.shape[1])))
    table = _files.table(out / f"confusion_{split}.csv", columns, rows)
    title = f"share of each {content} in a code, {split}"
    figure = _files.heat(
        out / f"confusion_{split}.png", matrix[order], (content, "code, in order"), title, signed=False
    )
    return {path.name: path for path in (table, figure)}
