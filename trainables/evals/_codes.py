"""How codes of a codebook and contents belong together, from counts (K, C) of each code with each content.

Source: Wu, Wang, Raj, Xia, ICLR 2025, arXiv 2407.03824 (the permuted matrix and its accuracy); the other measures are
those of V3's public follow-up (Liu, 2026).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from datasets.atomic import replacing
from datasets.base import Spec
from datasets.config import ConfigError, near

Rule = Literal["argmax", "assignment", "position"]
NOTHING = -1  # the name of a code that has none: no label is equal to it


def counted(codes: Tensor, labels: Tensor, atoms: int, classes: int) -> Tensor:
    """(atoms, classes) int64: how often each code comes with each label; labels (n,) of -1 are passed over."""
    known = labels >= 0
    both = codes[known] * classes + labels[known]
    return torch.bincount(both, minlength=atoms * classes).view(atoms, classes)


def shares(counts: Tensor) -> Tensor:
    """Each code's contents as shares of its use, float64; 0 of codes that are not used."""
    return counts.double() / (counts.double().sum(1, keepdim=True) + 1e-7)


def order(matrix: Tensor) -> Tensor:
    """(K,) the codes by the content that is most frequent in each, which makes a diagonal of (K, C)."""
    return matrix.argmax(1).argsort(stable=True)


def accuracy(matrix: Tensor) -> float:
    """Of shares (K, C): mean purity of used codes, each with the same weight, as published."""
    return float(matrix.amax(1).sum() / matrix.sum())


def assigned(counts: Tensor) -> Tensor:
    """(K,) the content of each code in the assignment of one code to one content that explains most; -1 = none."""
    rows, columns = linear_sum_assignment(counts.numpy(), maximize=True)
    found = torch.full((len(counts),), NOTHING)
    found[torch.from_numpy(rows)] = torch.from_numpy(columns)
    return found


def named(counts: Tensor, rule: Rule = "argmax") -> Tensor:
    """(K,) what each code is called: a content, or -1.

    argmax       the content that it stands for most often, the first of several; a code that is not used has no name
    assignment   its content in the best one-to-one assignment; codes that are left over have no name
    position     its place in `order`, as V3's code does it: right only where K = C and every content has one code
    """
    if rule == "assignment":
        return assigned(counts)
    if rule == "position":
        found = torch.empty(len(counts), dtype=torch.int64)
        found[order(counts)] = torch.arange(len(counts))
        return found
    return counts.argmax(1).where(counts.sum(1) > 0, NOTHING)


def called_right(codes: Tensor, labels: Tensor, names: Tensor) -> float:
    """Share of labelled fragments whose code is called as they are; labels of -1 are passed over."""
    known = labels >= 0
    return float((names[codes[known]] == labels[known]).double().mean())


def check_factors(content: str, style: str, spec: Spec) -> None:
    """Refuse a content that is no factor of fragments, a style that is no factor of pages, and what is misspelt.

    Data may lack the factors "content" and "style", which are the defaults.

    Raises:
        ConfigError: one line.
    """
    for option, factor in (("content", content), ("style", style)):
        if factor != option and factor not in spec.labels:
            raise ConfigError(f"{option}: the data have no label '{factor}'{near(factor, sorted(spec.labels))}")
    if content in spec.labels and content not in spec.frames:
        raise ConfigError(f"content: '{content}' is a factor of pages, not of their fragments")
    if style in spec.labels and style in spec.frames:
        raise ConfigError(f"style: '{style}' is a factor of fragments, not of pages")


def measure(counts: Tensor) -> dict[str, float]:
    """How well codes stand for contents, from counts (K, C) that are not all 0."""
    used, total = counts.sum(1), int(counts.sum())
    names = named(counts)
    share = used.double() / total
    given = assigned(counts)
    rows = (given >= 0).nonzero()[:, 0]
    return {
        "accuracy": accuracy(shares(counts)),
        "purity": float(counts.amax(1).sum()) / total,
        "one_to_one": float(counts[rows, given[rows]].sum()) / total,
        "perplexity": float(torch.special.entr(share).sum().exp()),
        "active": float((used > 0).sum()),
        "coverage": float(len(names[names >= 0].unique())),
    }


def nearest_atoms(atoms: Tensor) -> float:
    """The smallest distance of two of the atoms (K, d); 0 where there is one alone."""
    return float(torch.pdist(atoms.double()).min()) if len(atoms) > 1 else 0.0


def write_naming(path: Path, factor: str, split: str, counts: Tensor) -> Path:
    """What codes are called, by `named`, as JSON: factor, split, argmax, assignment, and counts (K, C) of the split."""
    told = {"factor": factor, "split": split, "argmax": named(counts).tolist(), "assignment": assigned(counts).tolist()}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps({**told, "counts": counts.tolist()}) + "\n")
    return path
