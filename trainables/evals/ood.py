"""Contents in styles that a method has not seen (V3-E7, E8): told by the codes at once, and after a few pages of them.

Protocol of Wu et al., ICLR 2025, arXiv 2407.03824. Codes get their names on the train split of the checkpoint's own
data; then the fragments of other data, such as digits in other colours, are classified by their code:

    evals: {ood: {data: {name: phonenums, palette: ood}, shots: [1, 5, 10]}}

    zero_shot   accuracy of the method as it is, over the fragments
    shots_S     after training on S pages of each style of those data: the train split of `data` with `shots: S`
    chance      accuracy of the most frequent content of the own train split

Few-shot training is that of a copy: its whole loss, in training mode, so that batch norms move, AdamW at a constant
rate, the atoms of the codebook as they are unless `freeze_codebook` is off. Codes keep their names. The order of pages
and what the method draws are seeded, the same for every number of shots. All accuracies are of the same pages, since
`val` and `test` of the data do not depend on `shots`.

A code is called by its most frequent content (`naming`). V3's code takes its position among the sorted codes, which is
the same where each content has one code, and is wrong where there are more codes than contents.

A method that has labels needs no names: the supervised baseline, `supervised` with `encoder.name: pages`, has classes
of its own (capability "classify"), and learns from the labels of the few pages.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import Field, field_validator
from torch import Tensor

from datasets.base import Batch, Spec
from datasets.config import ConfigError
from trainables.core.draws import generator, key
from trainables.core.method import Diverged, Method, has
from trainables.evals import _classes, _codes
from trainables.evals._codes import Rule
from trainables.evals._encode import encode
from trainables.evals.base import REPORTED, Capabilities, Needs, Request, Result, Subject
from trainables.evals.probes import chance
from trainables.nets.isolated import ModularMethod
from trainables.nets.quantiser import Quantiser

AT_ONCE = 64  # pages that are encoded together
Shots = tuple[Annotated[int, Field(ge=1, le=1000)], ...]


class Config(_classes.FactorConfig):
    """The other data, and how a copy is trained on a few of their pages."""

    factor: str = Field("content", description="labelled factor of fragments that codes are named by")
    limit: int | None = Field(1000, ge=2, description="at most so many pages of each split but the few; None = all")
    data: dict[str, Any] = Field(
        default_factory=lambda: {"name": "phonenums", "palette": "ood"},
        description="the other data, as in the section `data`: name, options",
    )
    shots: Shots = Field((), description="pages of each style to train on, each number by itself (V3: 1, 5, 10)")
    epochs: int = Field(1, ge=1, le=10_000, description="passes over the few pages (V3: 1)")
    lr: float = Field(1e-4, gt=0, le=10, description="of AdamW (V3: 1e-4)")
    weight_decay: float = Field(0.01, ge=0, le=10, description="of AdamW (V3: 0.01)")
    batch_size: int = Field(32, ge=2, le=4096, description="pages of a step (V3: 32, so that one shot is one step)")
    freeze_codebook: bool = Field(True, description="few-shot training leaves the atoms as they are (V3: on)")
    naming: Rule = Field("argmax", description="what a code is called; position = as V3's code has it")

    @field_validator("data")
    @classmethod
    def _named(cls, data: dict[str, Any]) -> dict[str, Any]:
        if not isinstance(data.get("name"), str):
            raise ValueError("write {name: DATA, ...}, such as {name: phonenums, palette: ood}")
        if "shots" in data:
            raise ValueError("leave `shots` out of the data, it is an option of this evaluation")
        return data


NEEDS = Needs(labels=("*",), capabilities=("frames",))
VERSION = 1
METRICS = {"zero_shot": "max", "shots_*": "max", "chance": ""}


def data(cfg: Config) -> list[dict[str, Any]]:
    """The other data, which the plan looks for."""
    return [_section(cfg, shots) for shots in cfg.shots] or [_section(cfg, None)]


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """None before the method is known: which part tells contents is a matter of its kind."""
    return []


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: the data have no pages or no such factor of fragments, or the method neither codes nor classes.
    """
    if cfg.parts not in (("all",), ("*",)):
        raise ConfigError(f"parts: an accuracy is of the method as a whole (got {', '.join(cfg.parts)})")
    if "quantise" not in capabilities and "classify" not in capabilities:
        raise ConfigError("the method has neither codes (V3) nor classes (supervised) of fragments")
    _check_factor(cfg, spec)
    names = ["zero_shot", *(f"shots_{shots}" for shots in dict.fromkeys(cfg.shots)), "chance"]
    return [f"all/{split}/{name}" for split in REPORTED for name in names]


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `all/{val,test}/{zero_shot,shots_S,chance}`.

    Raises:
        DataError: the other data are not there. ConfigError: they do not fit the method, or have no such factor.
        Diverged: the loss of the few pages is not finite.
    """
    seed, method = int(rng.integers(2**31)), subject.method
    part, tell = reader(method)
    own = subject.features(_request("train", part, cfg.limit))
    known = own.labels[cfg.factor]
    names = names_of(method, tell, own.parts[part], known, subject.spec.labels[cfg.factor], cfg.naming)
    other = subject.on(data(cfg)[0])
    _check_factor(cfg, other.spec)
    result = Result({})
    for split in REPORTED:
        found = other.features(_request(split, part, cfg.limit))
        true, told = found.labels[cfg.factor], tell(found.parts[part])
        result.metrics[f"all/{split}/zero_shot"] = _codes.called_right(told, true, names)
        result.metrics[f"all/{split}/chance"] = chance(known[known >= 0], true[true >= 0])
    for shots in dict.fromkeys(cfg.shots):
        adapted = train(subject.on(_section(cfg, shots)), cfg, seed)
        _, tell = reader(adapted)
        for split in REPORTED:
            request = _request(split, part, cfg.limit)
            x = _first(adapted, other.normalized(other.inputs(request)))
            told = tell(encode(adapted, x, request, AT_ONCE, 0)[part])
            true = other.features(request).labels[cfg.factor]
            result.metrics[f"all/{split}/shots_{shots}"] = _codes.called_right(told, true, names)
    return result


def reader(method: Any) -> tuple[str, Callable[[Tensor], Tensor]]:
    """The part that tells contents, and a map of its frames (n, L, d) to what they are told as, (n, L) on the CPU."""
    coded = has(method, "quantise")

    def tell(frames: Tensor) -> Tensor:
        with torch.no_grad():
            z = _first(method, frames)
            told: Tensor = method.codes_of(z) if coded else method.scores(z).argmax(-1)
        return told.cpu()

    return "content" if coded else "all", tell


def names_of(
    method: Any, tell: Callable[[Tensor], Tensor], frames: Tensor, labels: Tensor, classes: int, rule: Rule
) -> Tensor:
    """What each code is called, (K,), by the frames (n, L, d) of labelled pages; classes are called as they are."""
    if not has(method, "quantise"):
        return torch.arange(classes)
    return _codes.named(_codes.counted(tell(frames), labels, len(method.codebook()), classes), rule)


def train(few: Subject, cfg: Config, seed: int) -> Method:
    """A copy of the method, in evaluation mode, after training on the train split of `few`.

    Raises:
        Diverged: its loss is not finite.
    """
    method = copy.deepcopy(few.method).requires_grad_(True).train()
    if isinstance(method, ModularMethod):
        method.freeze()  # again what was not trained before
    for module in method.modules():
        if isinstance(module, Quantiser):
            module.frozen = cfg.freeze_codebook
    request = Request("train")
    x, labels = few.normalized(few.inputs(request)), few.features(request).labels
    optimizer = torch.optim.AdamW(method.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    for epoch in range(cfg.epochs):
        order = torch.randperm(len(x), generator=generator(seed, epoch))
        for step, rows in enumerate(order.split(cfg.batch_size)):
            if len(rows) < 2:
                continue  # neither batch norm nor distances between pages allow a batch of one
            own = {name: value[rows] for name, value in labels.items()}
            batch = Batch([x[rows]], rows, labels=own, seed=key(seed, epoch, step)).to(_device(method))
            loss = method(batch)["loss"]
            if not bool(loss.isfinite()):
                raise Diverged(f"ood: the loss of few-shot training is {float(loss)} in epoch {epoch + 1}; lower lr")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
    return method.eval().requires_grad_(False)


def _section(cfg: Config, shots: int | None) -> dict[str, Any]:
    return cfg.data if shots is None else {**cfg.data, "shots": shots}


def _request(split: Any, part: str, limit: int | None) -> Request:
    return Request(split, limit=limit, part=part, pool="frames")


def _check_factor(cfg: Config, spec: Spec) -> None:
    """Refuse data whose fragments have no classes of that name.

    Raises:
        ConfigError: one line.
    """
    _classes.check_factor(cfg, spec)
    if not spec.fragments or cfg.factor not in spec.frames:
        raise ConfigError(f"factor: '{cfg.factor}' is not labelled for each fragment of a page")


def _device(method: Method) -> torch.device:
    return next(iter(method.parameters())).device


def _first(method: Method, x: Tensor) -> Tensor:
    """x where the method lies."""
    return x.to(_device(method))
