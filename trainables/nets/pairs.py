"""What methods share that know which transformation leads from view 1 to view 2: its vector g, heads and statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from datasets.base import Batch, Spec
from datasets.config import ConfigError, near
from trainables.core import dist
from trainables.losses.vicreg import correlation, spread
from trainables.nets.encoder import EncoderConfig
from trainables.nets.online import OnlineEvaluator
from trainables.nets.two_view import TRACKED, PairConfig, PairMethod


def _sizes(value: object) -> object:
    """Also as SIE writes them: "2048-2048-2048"."""
    return tuple(int(size) for size in value.split("-")) if isinstance(value, str) else value


Sizes = Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], BeforeValidator(_sizes), Field(min_length=1)]


class RelatedConfig(PairConfig):
    """Options of every method that knows the transformation between its views."""

    encoder: EncoderConfig = Field(
        default_factory=lambda: EncoderConfig(name="resnet18"), description="see trainables/nets/encoder.py"
    )
    group: tuple[str, ...] = Field(
        ("rotation",), min_length=1,
        description="relations of the data, or codes of transforms of the stack, that make g (SIE: rotation; RotColor "
        "methods: rotation, colour)",
    )  # fmt: skip
    tracking: bool = Field(True, description="train classifiers and regressors of g on detached parts beside (SIE: on)")
    tracking_hidden: int | None = Field(
        256, ge=1, description="units of the regressors; None = as many as their input (SIE)"
    )
    statistics: bool = Field(True, description="report correlation and spread of representations and embeddings")


class RelatedMethod(PairMethod):
    """Base of methods on two views with a known transformation between them."""

    cfg: RelatedConfig
    evaluator: OnlineEvaluator | None = None

    def __init__(self, cfg: RelatedConfig, spec: Spec) -> None:
        super().__init__(cfg, spec)
        self.tracker = None  # the evaluator takes its place
        self.k = sum(spec.relations[name] for name in cfg.group) if self.uses_group(cfg) else 0

    @classmethod
    def uses_group(cls, cfg: Any) -> bool:
        """Whether the method's own loss reads g; those that do not only track it where the data have it."""
        return True

    @classmethod
    def check(cls, cfg: Any, spec: Spec) -> None:
        """Refuse data without the relations that make g.

        Raises:
            ConfigError: one line.
        """
        super().check(cfg, spec)
        for name in cfg.group if cls.uses_group(cfg) else ():
            if name not in spec.relations:
                known = sorted(spec.relations)
                raise ConfigError(
                    f"method.group: the views have no relation '{name}'{near(name, known)}; there is "
                    f"{', '.join(known) or 'none: take data that come in pairs, or transforms with a parameter'}"
                )

    def relation(self, batch: Batch) -> Tensor:
        """g (B, k), in the order of the option `group`."""
        return torch.cat([batch.relations[name] for name in self.cfg.group], dim=1).to(batch.views[0].dtype)

    def watch(self, spec: Spec, invariant: Mapping[str, int], equivariant: Mapping[str, int]) -> None:
        """Build the online evaluator of these parts, where the data have what it reads."""
        names = [name for name in self.cfg.group if name in spec.relations]
        classes, k = spec.labels.get(TRACKED, 0), sum(spec.relations[name] for name in names)
        if self.cfg.tracking and (classes or k):
            self.tracked = names
            self.evaluator = OnlineEvaluator(invariant, equivariant, classes, k, self.cfg.tracking_hidden)

    def report(
        self, loss: Tensor, terms: Mapping[str, Tensor], first: Mapping[str, Tensor], second: Mapping[str, Tensor],
        batch: Batch, predicted: Tensor | None = None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """What `forward` returns: the loss with the online evaluator's added, the terms, and what is watched beside.

        Args:
            first, second: part -> (B, d) of the two views; "all" is the representation, "emb" all of the embedding.
            predicted: the predictor's output.
        """
        found = dict(terms)
        if self.evaluator is not None:
            labels = batch.labels.get(TRACKED)
            read = self.evaluator(first, second, labels, self._tracked(batch))
            loss = loss + read["online_loss"]
            found |= read
        if self.cfg.statistics:
            shown = {"repr_1": first["all"], "repr_2": second["all"], "emb_1": first["emb"], "emb_2": second["emb"]}
            for name, x in (shown | ({} if predicted is None else {"pred": predicted})).items():
                found |= _statistics(name, x.detach())
        return dist.agree({"loss": loss, **found})

    def _tracked(self, batch: Batch) -> Tensor:
        dtype = batch.views[0].dtype
        if not self.tracked:
            return batch.views[0].new_zeros(len(batch), 0)
        return torch.cat([batch.relations[name] for name in self.tracked], dim=1).to(dtype)


def _statistics(name: str, x: Tensor) -> dict[str, Tensor]:
    signed, absolute = correlation(x)
    return {f"corr_{name}": signed, f"abs_corr_{name}": absolute, f"std_{name}": spread(x)}
