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
POSES = ("rotation", "euler", "colour", "light")  # what is known of any two images


class Config(EvalConfig):
    """How many images to look at, and what to ask."""

    train: bool = Field(False, description="also report the train split (SIE: on); costs the square of its images")
    identity: bool = Field(True, description="ask also for view 0 from view 0, which is known (SIE: on)")

    among_train: bool = Field(True, description="also look among the train split's images (SIE: on)")

    @property
    def read(self) -> tuple[Split, ...]:
        """The splits that are looked at."""
        return ("train", *REPORTED) if self.train or self.among_train else REPORTED

    @property
    def reported(self) -> tuple[Split, ...]:
        """The splits whose queries count."""
        return ("train", *REPORTED) if self.train else REPORTED


NEEDS = Needs(labels=("object",), capabilities=("predict",))
VERSION = 2
PLAIN = ("pre", "pre_all", "mrr", *(f"h{k}" for k in HITS))
METRICS = {
    "pre": "min", "pre_all": "min", "raw_pre*": "min", "mrr": "max", "h*": "max", "raw_mrr": "max", "raw_h*": "max",
    "pre_chance": "", "mrr_chance": "",
}  # fmt: skip


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """Clean features of every image."""
    return [Request(split, limit=cfg.limit) for split in cfg.read]


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: the data have no known poses, or the method predicts no embedding.
    """
    if "latents" not in spec.params:
        raise ConfigError("the data do not say how their views came about; bench3die does")
    if PART not in parts:
        raise ConfigError(f"needs the part '{PART}'; there is {', '.join(sorted(parts))}")
    if unknown := sorted(set(capabilities.get("predict", ())) - set(POSES)):
        raise ConfigError(f"the method is told of '{unknown[0]}', which is no pose of the data")
    return [
        f"{PART}/{split}/{prefix}{name}"
        for split in cfg.reported for name in PLAIN for prefix in ("", "raw_")
        if name != "pre_all" or (cfg.among_train and split != "train")
    ] + [f"{PART}/{split}/{name}" for split in cfg.reported for name in ("pre_chance", "mrr_chance")]  # fmt: skip


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics as in the module's docstring."""
    seen = {split: gathered(subject, cfg, split) for split in cfg.read}
    result = Result({})
    for split in cfg.reported:
        real, latents = seen[split]
        predicted = predict(subject.method, real, latents)
        asked = slice(None if cfg.identity else 1, None)
        among: list[Split] = ["train"] if cfg.among_train and split != "train" else []
        turned = [quaternion(seen[one][1][..., :3]) for one in (split, *among)]
        every, true = torch.cat([q.flatten(0, 1) for q in turned]), turned[0][:, asked].flatten(0, 1)
        p = predicted[:, asked]
        places = nearest(p.flatten(0, 1), *(seen[one][0].flatten(0, 1) for one in (split, *among)))
        found: dict[str, float] = {}
        for form, prefix in enumerate(("raw_", "")):
            for name, place in zip(("pre", "pre_all"), places, strict=False):
                found[prefix + name] = float(rotation_error(true, every[place[form]]).mean())
            pair = (p, real) if prefix else (normalized(p), normalized(real))
            found |= {prefix + name: value for name, value in rates(ranks(*pair)).items()}
        shuffled = true[torch.from_numpy(rng.permutation(len(true)))]
        found["pre_chance"] = float(rotation_error(true, shuffled).mean())
        found["mrr_chance"] = chance(real.shape[1])["mrr"]
        result.metrics |= {f"{PART}/{split}/{name}": value for name, value in found.items()}
    return result


def gathered(subject: Subject, cfg: Config, split: Split) -> tuple[Tensor, Tensor]:
    """Embeddings (objects, views, d) and latents (objects, views, k); of each object as many views as all have."""
    features = subject.features(Request(split, limit=cfg.limit))
    rows = features.grouped()
    views = min(map(len, rows))
    chosen = torch.stack([one[:views] for one in rows])
    return features.parts[PART][chosen], features.params["latents"][chosen].double()


def predict(method: Any, real: Tensor, latents: Tensor) -> Tensor:
    """Predicted embeddings of every view from view 0: (objects, views, d) each."""
    known = relations(latents[:, :1].expand_as(latents), latents)
    g = torch.cat([known[name] for name in method.group], dim=-1).float()
    device = next(method.parameters()).device
    source = real[:, :1].expand_as(real)
    with torch.no_grad():
        blocks = [
            method.predict({PART: z.flatten(0, 1).to(device)}, relation.flatten(0, 1).to(device))[PART].cpu()
            for z, relation in zip(source.split(64), g.split(64), strict=True)
        ]
    return torch.cat(blocks).view_as(real)
