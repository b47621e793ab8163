"""What methods share that know which transformation leads from view 1 to view 2: its vector g, heads and statistics."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

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
    return value.split("-") if isinstance(value, str) else value


Sizes = Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], BeforeValidator(_sizes), Field(min_length=1)]


OBSERVER = re.compile(r"(^|\.)(classifier|predictor_angles)_")  # of its online evaluator, beside the model


class RelatedConfig(PairConfig):
    """Options of every method that knows the transformation between its views."""

    encoder: EncoderConfig = Field(
        default_factory=lambda: EncoderConfig(name="resnet18"), description="see trainables/nets/encoder.py"
    )
    group: tuple[str, ...] = Field(
        (),
        description="what makes g: relations of the data, or codes of transforms of the stack (SIE: rotation; its "
        "RotColor methods: rotation, colour); () = the rotation of the data, else every transform with a parameter",
    )
    tracking: bool = Field(True, description="train classifiers and regressors of g on detached parts beside (SIE: on)")
    tracking_hidden: int | None = Field(
        256, ge=1, description="units of the regressors; None = as many as their input (SIE)"
    )
    statistics: bool = Field(True, description="report correlation and spread of representations and embeddings")


class RelatedMethod(PairMethod):
    """Base of methods on two views with a known transformation between them."""

    cfg: RelatedConfig
    NEEDS_GROUP: ClassVar[bool] = True  # whether the method's own loss reads g

    def __init__(self, cfg: RelatedConfig, spec: Spec) -> None:
        super().__init__(cfg, spec)
        self.tracker = None  # the evaluator takes its place
        self.evaluator: OnlineEvaluator | None = None
        self.group = group_of(cfg, spec)
        self.equivariant_to = self.group  # of the capability "predict"
        self.k = sum(spec.relations[name] for name in self.group)

    @classmethod
    def check(cls, cfg: Any, spec: Spec) -> None:
        """Refuse data without the relations that make g.

        Raises:
            ConfigError: one line.
        """
        super().check(cfg, spec)
        known = sorted(spec.relations)
        for name in cfg.group:
            if name not in spec.relations:
                raise ConfigError(
                    f"method.group: the views have no relation '{name}'{near(name, known)}; there is "
                    f"{', '.join(known) or 'none'}"
                )
        if not known and cls.NEEDS_GROUP:
            raise ConfigError(
                "method.group: nothing is known of what leads from view 1 to 2; take data that come in pairs, such "
                "as bench3die, or transforms with a parameter into views.tx"
            )

    def original(self, name: str) -> str | None:
        """Names of SIE's checkpoints; its online evaluator is left out."""
        return None if OBSERVER.search(name) else backbone_of_original(name)

    def relation(self, batch: Batch) -> Tensor:
        """g (B, k), in the order of `group`."""
        x = batch.views[0]
        return torch.cat([x.new_zeros(len(x), 0), *(batch.relations[name].to(x.dtype) for name in self.group)], dim=1)

    def watch(self, spec: Spec, invariant: Mapping[str, int], equivariant: Mapping[str, int]) -> None:
        """Build the online evaluator of these parts, where the data have what it reads."""
        classes = spec.labels.get(TRACKED, 0)
        if self.cfg.tracking and (classes or self.k):
            self.evaluator = OnlineEvaluator(invariant, equivariant, classes, self.k, self.cfg.tracking_hidden)

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
            read = self.evaluator(first, second, labels, self.relation(batch))
            loss = loss + read["online_loss"]
            found |= read
        if self.cfg.statistics:
            shown = {"repr_1": first["all"], "repr_2": second["all"], "emb_1": first["emb"], "emb_2": second["emb"]}
            for name, x in (shown | ({} if predicted is None else {"pred": predicted})).items():
                found |= _statistics(name, x.detach())
        return dist.agree({"loss": loss, **found})


def backbone_of_original(name: str) -> str:
    """Our name of a tensor in SIE's checkpoints.

    Its towers change places: the original's methods take the output of `backbone_equi`, which comes first there, for
    the invariant part.
    """
    part = {"inv": "equi", "equi": "inv"}
    return re.sub(
        r"^(encoder\.backbone_)(inv|equi)\b", lambda m: m[1] + part[m[2]], re.sub(r"^backbone\.", "encoder.", name)
    )


def group_of(cfg: RelatedConfig, spec: Spec) -> tuple[str, ...]:
    """The relations that make g."""
    if cfg.group:
        return cfg.group
    return ("rotation",) if "rotation" in spec.relations else tuple(sorted(spec.relations))


def _statistics(name: str, x: Tensor) -> dict[str, Tensor]:
    signed, absolute = correlation(x)
    return {f"corr_{name}": signed, f"abs_corr_{name}": absolute, f"std_{name}": spread(x)}
