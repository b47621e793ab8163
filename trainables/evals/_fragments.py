"""Rows for evaluations of content and style: the fragments of pages, or whole items where data or method have none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from datasets.base import Spec, Split
from datasets.config import ConfigError, near
from trainables.core.method import has
from trainables.evals.base import Capabilities, EvalConfig, Request, Subject, places_of

PAGE = "page"  # as a factor: which item of the split a row belongs to
PASSES = 5  # V3's, over data whose pages do not hold all contents


class FragmentsConfig(EvalConfig):
    """Which factors are content and style, and which rows are looked at."""

    content: str | None = Field(
        None, description="labelled factor that is the content; None = 'content' where there is one, else 'class'"
    )
    style: str | None = Field(
        None,
        description="the style; page = which page it is; None = 'style' where there is one, else page, of pages",
    )
    fragments: int | None = Field(
        5000, ge=2, description="at most so many rows of each split: fragments, by whole pages, or items; None = all"
    )
    passes: int | None = Field(
        None, ge=1, le=100,
        description="draws of the fragments of longer pages; None = 5 where a page has fewer fragments than there are "
        "contents, else 1 (V3)",
    )  # fmt: skip

    def factors(self, spec: Spec) -> tuple[str, str | None]:
        """The factors that are content and style, None where there is none.

        Raises:
            ConfigError: not labelled, without classes, or labelled in another way than by row.
        """
        content = self.content or ("content" if "content" in spec.labels else "class")
        check_rows("content", content, spec)
        style = self.style or ("style" if spec.labels.get("style") else PAGE if spec.fragments else None)
        if style is not None:
            check_rows("style", style, spec)
        return content, style

    def drawn(self, spec: Spec) -> int:
        """How many passes there are."""
        if not spec.fragments or self.passes is not None:
            return (self.passes or 1) if spec.fragments else 1
        return PASSES if spec.fragments < spec.labels.get(self.factors(spec)[0], 0) else 1


def check_rows(option: str, factor: str, spec: Spec) -> None:
    """Refuse a factor of which a row has no class.

    Raises:
        ConfigError: one line that begins with the option's name.
    """
    if factor == PAGE and PAGE not in spec.labels:
        if not spec.fragments:
            raise ConfigError(f"{option}: 'page' is a factor of pages, the data have items of {spec.shape}")
        return
    if factor not in spec.labels:
        raise ConfigError(f"{option}: the data have no label '{factor}'{near(factor, sorted(spec.labels))}")
    if not spec.labels[factor]:
        raise ConfigError(f"{option}: '{factor}' is continuous, it has no classes")
    if factor in spec.frames and (not spec.fragments or spec.labels_of(factor) != spec.fragments):
        raise ConfigError(f"{option}: '{factor}' is labelled per frame, not once for each fragment of a page")


def by_fragment(spec: Spec, capabilities: Capabilities, factors: Sequence[str], parts: Sequence[str]) -> bool:
    """Whether rows are fragments.

    Raises:
        ConfigError: labels or parts are of fragments, and the other is not.
    """
    if spec.fragments and "frames" in capabilities:
        places = places_of(capabilities)
        for part in parts:
            if part in places and places[part] != (spec.fragments,):
                raise ConfigError(f"parts: '{part}' has no row for each of the {spec.fragments} fragments of a page")
        return True
    for factor in factors:
        if factor in spec.frames:
            raise ConfigError(f"'{factor}' is labelled per fragment, and the method has no rows of fragments")
    return False


@dataclass(frozen=True)
class Rows:
    """m rows.

    Attributes:
        parts: part -> (m, d) float32. labels: factor -> (m,), "page" among them.
        index: (m,) position of each row's item in the split.
    """

    parts: dict[str, Tensor]
    labels: dict[str, Tensor]
    index: Tensor


def request(spec: Spec, cfg: FragmentsConfig, split: Split, part: str, take: int = 0) -> Request:
    """What is asked for one part of fragments; passes share the number of rows."""
    return Request(split, limit=limit(spec, cfg, fragments=True), part=part, pool="frames", take=take)


def limit(spec: Spec, cfg: FragmentsConfig, fragments: bool) -> int | None:
    """At most so many items."""
    each = spec.fragments * cfg.drawn(spec) if fragments else 1
    bounds = [cfg.limit, None if cfg.fragments is None else max(2, cfg.fragments // each)]
    return min((bound for bound in bounds if bound is not None), default=None)


def gathered(subject: Subject, cfg: FragmentsConfig, split: Split, parts: Sequence[str]) -> Rows:
    """The rows of a split, pass after pass.

    A page that has the same features in a later pass as in an earlier one is taken once: its own copy would be found as
    the nearest neighbour, which says nothing.
    """
    spec = subject.spec
    if not (spec.fragments and has(subject.method, "frames")):
        whole = subject.features(Request(split, limit=limit(spec, cfg, fragments=False)))
        return Rows({part: whole.parts[part] for part in parts}, {PAGE: whole.index, **whole.labels}, whole.index)
    seen: list[dict[str, Tensor]] = []
    taken: list[Rows] = []
    for take in range(cfg.drawn(spec)):
        asked = {part: subject.features(request(spec, cfg, split, part, take)) for part in parts}
        z = {part: features.parts[part] for part, features in asked.items()}
        first = next(iter(asked.values()))
        new = torch.ones(len(first.index), dtype=torch.bool)
        for before in seen:
            new &= ~torch.stack([(z[part] == before[part]).flatten(1).all(1) for part in parts]).all(0)
        seen.append(z)
        index = first.index[new].repeat_interleave(spec.fragments)
        labels = {PAGE: index, **spread({name: y[new] for name, y in first.labels.items()}, spec.fragments)}
        taken.append(Rows({part: value[new].flatten(0, 1) for part, value in z.items()}, labels, index))
    return joined(taken)


def joined(some: Sequence[Rows]) -> Rows:
    """Rows one after the other."""
    return Rows(
        {part: torch.cat([one.parts[part] for one in some]) for part in some[0].parts},
        {name: torch.cat([one.labels[name] for one in some]) for name in some[0].labels},
        torch.cat([one.index for one in some]),
    )


def spread(labels: Mapping[str, Tensor], count: int) -> dict[str, Tensor]:
    """Labels (n,) of pages or (n, count) of their fragments -> (n count,); others are left out."""
    found = {}
    for name, value in labels.items():
        if value.ndim == 1:
            found[name] = value.repeat_interleave(count)
        elif value.shape[1] == count:
            found[name] = value.flatten()
    return found
