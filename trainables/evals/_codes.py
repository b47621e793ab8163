"""What codes of a codebook mean: how often each stands for each content, and what it is called by that.

counts       (K, C), how often a code was given to a fragment of a content
argmax       a code is called by the content that it stands for most often; one that is never used has no name
assignment   the best one-to-one assignment of codes to contents (Hungarian); codes that are left over have no name
position     rows sorted by their most frequent content, the n-th is called n: as V3's code does it, right only where
             K = C and every content has one code
"""

from __future__ import annotations

from typing import Literal

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from datasets.base import Spec
from datasets.config import ConfigError

Rule = Literal["argmax", "assignment", "position"]
NOTHING = -1  # the name of a code that has none: no label is equal to it


def confusion(codes: Tensor, labels: Tensor, atoms: int, classes: int) -> Tensor:
    """Counts (K, C) int64 of codes and labels of any one shape; labels below 0 are left out."""
    known = labels >= 0
    pairs = codes[known] * classes + labels[known]
    return torch.bincount(pairs, minlength=atoms * classes).view(atoms, classes)


def named(counts: Tensor, rule: Rule = "argmax") -> Tensor:
    """What each code is called, (K,) int64, by its counts (K, C); -1 = it has no name."""
    found = torch.full((len(counts),), NOTHING)
    if rule == "assignment":
        rows, columns = linear_sum_assignment(-counts.numpy())
        found[rows] = torch.from_numpy(columns)
    elif rule == "position":
        found[counts.argmax(1).argsort(stable=True)] = torch.arange(len(counts))
    else:
        found = counts.argmax(1)
    return found if rule == "position" else found.masked_fill(counts.sum(1) == 0, NOTHING)


def accuracy(codes: Tensor, labels: Tensor, names: Tensor) -> float:
    """Share of labelled fragments whose code is called as they are."""
    known = labels >= 0
    return float((names[codes[known]] == labels[known]).double().mean())


def check_factors(content: str, style: str, spec: Spec) -> None:
    """Refuse a content that is no factor of fragments, or a style that is no factor of pages.

    Raises:
        ConfigError: one line.
    """
    if content in spec.labels and content not in spec.frames:
        raise ConfigError(f"content: '{content}' is a factor of pages, not of their fragments")
    if style in spec.labels and style in spec.frames:
        raise ConfigError(f"style: '{style}' is a factor of fragments, not of pages")
