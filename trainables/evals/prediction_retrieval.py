"""Does the predictor find the turned view (SIE's PRE, MRR and H@k)?

Protocol of Garrido et al., ICML 2023, arXiv 2302.10283. The embedding of an object's view 0 and what leads from there
to view v give a predicted embedding, for every v, view 0 included. Reported on `val` and `test`:

    pre         prediction retrieval error: the nearest real embedding of the split is looked up; 1 - <q, q'>^2 of its
                absolute rotation and the true one, 0 to 1, mean over queries. pre_all: among the train split's too
    mrr, h1 ... mean reciprocal rank of the right view among those of its object, and how often it is among the first
                1, 2, 5, 10; mrr_chance: of a random order
    raw_...     the same without normalising embeddings to length 1

A random pose has a `pre` of 0.627 at the original's distribution of angles; `pre_chance` is measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from datasets.base import Spec, Split
from datasets.config import ConfigError
from datasets.rotations import quaternion, relations
from trainables.evals._retrieval import HITS, chance, nearest, normalized, ranks, rates, rotation_error
from trainables.evals.base import REPORTED, Capabilities, EvalConfig, Needs, Request, Result, Subject

PART = "emb_equi"


class Config(EvalConfig):
    """How many images to look at, and what to ask."""

    train: bool = Field(False, description="also report the train split (SIE: on); costs the square of its images")
    identity: bool = Field(True, description="ask also for view 0 from view 0, which is known (SIE: on)")

    @property
    def reported(self) -> tuple[Split, ...]:
        """The splits whose queries count."""
        return ("train", *REPORTED) if self.train else REPORTED


NEEDS = Needs(labels=("object",), capabilities=("predict",))
VERSION = 1
PLAIN = ("pre", "pre_all", "mrr", *(f"h{k}" for k in HITS))
METRICS = {
    "pre": "min", "pre_all": "min", "raw_pre*": "min", "mrr": "max", "h*": "max", "raw_mrr": "max", "raw_h*": "max",
    "pre_chance": "", "mrr_chance": "",
}  # fmt: skip


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """Clean features of every image."""
    return [Request(split, limit=cfg.limit) for split in ("train", *REPORTED)]  # type: ignore[arg-type]


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: the data have no known poses, or the method predicts no embedding.
    """
    if "latents" not in spec.params:
        raise ConfigError("the data do not say how their views came about; bench3die does")
    if PART not in parts:
        raise ConfigError(f"needs the part '{PART}'; there is {', '.join(sorted(parts))}")
    names = [*PLAIN, *(f"raw_{name}" for name in PLAIN), "pre_chance", "mrr_chance"]
    return [f"{PART}/{split}/{name}" for split in cfg.reported for name in names]


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics as in the module's docstring."""
    splits: tuple[Split, ...] = ("train", *REPORTED)
    seen = {split: gathered(subject, cfg, split) for split in splits}
    result = Result({})
    for split in cfg.reported:
        real, latents = seen[split]
        predicted = predict(subject.method, real, latents)
        asked = slice(None if cfg.identity else 1, None)
        galleries: list[Split] = [split] if split == "train" else [split, "train"]
        turned = [quaternion(seen[one][1][..., :3]) for one in galleries]
        every, true = torch.cat([q.flatten(0, 1) for q in turned]), turned[0][:, asked].flatten(0, 1)
        found: dict[str, float] = {}
        for prefix in ("", "raw_"):
            p, own = (predicted[:, asked], real) if prefix else normalized(predicted[:, asked], real)
            others = [seen[one][0] if prefix else normalized(real, seen[one][0])[1] for one in galleries[1:]]
            places = nearest(p.flatten(0, 1), *(x.flatten(0, 1) for x in (own, *others)))
            for name, place in zip(("pre", "pre_all"), (places[0], places[-1]), strict=True):
                found[prefix + name] = float(rotation_error(true, every[place]).mean())
            found |= {prefix + name: value for name, value in rates(ranks(p, own)).items()}
        shuffled = true[torch.from_numpy(rng.permutation(len(true)))]
        found["pre_chance"] = float(rotation_error(true, shuffled).mean())
        found["mrr_chance"] = chance(real.shape[1])["mrr"]
        result.metrics |= {f"{PART}/{split}/{name}": value for name, value in found.items()}
    return result


def gathered(subject: Subject, cfg: Config, split: Split) -> tuple[Tensor, Tensor]:
    """Embeddings (objects, views, d) and latents (objects, views, k); of each object as many views as all have."""
    features = subject.features(Request(split, limit=cfg.limit))
    owner = features.labels["object"]
    rows = [(owner == one).nonzero()[:, 0] for one in owner.unique()]
    views = min(map(len, rows))
    chosen = torch.stack([one[:views] for one in rows])
    return features.parts[PART][chosen], features.params["latents"][chosen].double()


def predict(method: Any, real: Tensor, latents: Tensor) -> Tensor:
    """Predicted embeddings of every view from view 0: (objects, views, d) each.

    Raises:
        ConfigError: the method was told of something else than the data's relations.
    """
    known = relations(latents[:, :1].expand_as(latents), latents)
    if missing := [name for name in method.group if name not in known]:
        raise ConfigError(f"prediction_retrieval: the method is told of '{missing[0]}', which is no pose of the data")
    g = torch.cat([known[name] for name in method.group], dim=-1).float()
    device = next(method.parameters()).device
    source = real[:, :1].expand_as(real)
    with torch.no_grad():
        blocks = [
            method.predict({PART: z.flatten(0, 1).to(device)}, relation.flatten(0, 1).to(device))[PART].cpu()
            for z, relation in zip(source.split(64), g.split(64), strict=True)
        ]
    return torch.cat(blocks).view_as(real)
