"""Vision transformers with published weights; options say which (`trainables/extractors/names.py`).

The feature is the class token (`pool: class`; CLIP's goes through a linear map, `project`), the mean over all tokens
(`tokens`, DINOv2) or over those of patches (`patches`, I-JEPA; `frames` gives them). Images of another size than the
table of positions has get it resized, bicubic.

Layouts of files that are read: torchvision's, timm's (also those of DINOv2 and I-JEPA), OpenAI's CLIP and that of the
library transformers. Of CLIP the image tower alone is taken.

Sources: see `trainables/nets/vit.py`; Assran et al., CVPR 2023, arXiv 2301.08243 (I-JEPA).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from datasets.base import Spec
from datasets.config import Config, ConfigError
from trainables.extractors.base import Extractor
from trainables.nets.vit import VisionTransformer

# how other layouts name what timm names as it stands; applied one after the other
TRANSLATION = [
    (re.compile(pattern), ours)
    for pattern, ours in (
        (r"^(vision_model|dinov2|vit|ijepa|backbone)\.", ""),
        (r"^(class_token|class_embedding|embeddings\.(class_embedding|cls_token))$", "cls_token"),
        (r"^(encoder\.pos_embedding|positional_embedding|embeddings\.position_embeddings?(\.weight)?)$", "pos_embed"),
        (r"^(conv_proj|conv1|embeddings\.patch_embedding|embeddings\.patch_embeddings\.projection)\.",
         "patch_embed.proj."),
        (r"^encoder\.layers\.encoder_layer_(\d+)\.", r"blocks.\1."),
        (r"^(?:(?:encoder\.)?layers?|transformer\.resblocks)\.(\d+)\.", r"blocks.\1."),
        (r"\.(ln_1|layer_norm1|layernorm_before)\.", ".norm1."),
        (r"\.(ln_2|layer_norm2|layernorm_after)\.", ".norm2."),
        (r"\.(self_attention|attn)\.in_proj_(weight|bias)$", r".attn.qkv.\2"),
        (r"\.(self_attention|self_attn|attn)\.out_proj\.|\.attention\.(output\.dense|o_proj)\.", ".attn.proj."),
        (r"\.(?:self_attn|attention(?:\.attention)?)\.(q|k|v)(?:_proj|uery|ey|alue)\.", r".attn.\1."),
        (r"\.(mlp\.0|mlp\.linear_1|mlp\.c_fc|intermediate\.dense)\.", ".mlp.fc1."),
        (r"\.(mlp\.3|mlp\.linear_2|mlp\.c_proj|output\.dense)\.", ".mlp.fc2."),
        (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
        (r"^(ln_pre|pre_layrnorm)\.", "norm_pre."),
        (r"^(encoder\.ln|ln_post|post_layernorm|layernorm)\.", "norm."),
        (r"^(proj|visual_projection\.weight)$", "project"),
    )
]  # fmt: skip
LEFT_OUT = re.compile(
    r"^(heads?|head_dist|classifier|fc|mask_token|decoder\w*|text_\w+|logit_scale|position_ids|predictor)(\.|$)"
    r"|embeddings\.(mask_token|position_ids)$"
)
Pool = Literal["class", "tokens", "patches"]


class Options(Config):
    """Which transformer; the defaults are those of ViT-B/16."""

    size: int = Field(224, ge=1, description="pixels of a side that the table of positions is for (DINOv2: 518)")
    patch: int = Field(16, ge=1, description="pixels of a patch's side")
    width: int = Field(768, ge=1, description="channels of a token")
    depth: int = Field(12, ge=1, description="blocks")
    heads: int = Field(12, ge=1, description="of attention")
    hidden: int = Field(3072, ge=1, description="units between the two layers of a block's network")
    class_token: bool = Field(True, description="I-JEPA: off")
    pool: Pool = Field("class", description="the feature: class token, mean over all tokens, or over those of patches")
    project: int | None = Field(None, ge=1, description="dimensions that the feature is mapped to (CLIP: 512)")
    eps: float = Field(1e-6, gt=0, description="of norms (CLIP: 1e-5)")
    scaled: bool = Field(False, description="LayerScale (DINOv2: on)")
    clip: bool = Field(False, description="CLIP's: QuickGELU, a norm before the first block, patches without bias")
    offset: float = Field(0.0, ge=0, description="where the table of positions is resized (DINOv2's code: 0.1)")


class ViT(Extractor):
    """Part "all": the class token or the mean over all tokens, (B, D)."""

    Config: ClassVar[type[Options]] = Options
    channels: ClassVar[int] = 3
    cfg: Options

    def __init__(self, cfg: Options, spec: Spec) -> None:
        super().__init__(cfg, spec)
        self._check(cfg, spec.shape)
        rows = cfg.size // cfg.patch
        self.net = VisionTransformer(
            (rows, rows), (cfg.patch, cfg.patch), cfg.width, cfg.depth, cfg.heads, cfg.hidden,
            class_token=cfg.class_token, eps=cfg.eps, scaled=cfg.scaled, quick=cfg.clip, norm_first=cfg.clip,
            bias=not cfg.clip, offset=cfg.offset,
        )  # fmt: skip
        self.project = None if cfg.project is None else nn.Parameter(torch.randn(cfg.width, cfg.project) / cfg.width)
        self.parts = {"all": cfg.project or cfg.width}
        if cfg.pool == "patches":  # else there are no frames whose mean the feature is
            self.places = {"all": tuple(side // cfg.patch for side in spec.shape[1:])}

    @staticmethod
    def _check(cfg: Options, shape: tuple[int, ...]) -> None:
        if len(shape) != 3 or shape[0] != 3:
            raise ConfigError(f"vit: takes images of 3 channels, the data have items of {shape}")
        if any(side % cfg.patch for side in shape[1:]):
            raise ConfigError(f"views.size: {shape[1]} x {shape[2]} should be a multiple of the patch of {cfg.patch}")
        if cfg.pool == "class" and not cfg.class_token:
            raise ConfigError("method.pool: there is no class token; choose patches")
        if cfg.width % cfg.heads:
            raise ConfigError(f"method.heads: should divide the width of {cfg.width} (got {cfg.heads})")

    def originals(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """A file of any of the layouts by our names."""
        return translated(given, self.cfg.project is not None)

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """x (B, 3, H, W) -> "all" (B, D)."""
        if self.cfg.pool == "patches":
            return {"all": self.frames(x)["all"].mean(1)}
        tokens = self.net(x)
        return {"all": self._projected(tokens[:, 0] if self.cfg.pool == "class" else tokens.mean(1))}

    def frames(self, x: Tensor, rng: torch.Generator | None = None) -> dict[str, Tensor]:
        """Tokens of the patches, (B, h w, D); nothing is drawn."""
        return {"all": self._projected(self.net(x)[:, int(self.cfg.class_token) :])}

    def _projected(self, x: Tensor) -> Tensor:
        return x if self.project is None else x @ self.project


def translated(given: Mapping[str, Tensor], project: bool = False) -> dict[str, Tensor]:
    """Weights by our names: `net.` and those of timm; what stands behind the encoder, or beside it, is left out."""
    if any(name.startswith("visual.") for name in given):  # OpenAI's CLIP, whose other tower has the same names
        given = {name.removeprefix("visual."): value for name, value in given.items() if name.startswith("visual.")}
        given = {"patch_embed.proj.weight" if name == "conv1.weight" else name: value for name, value in given.items()}
    found: dict[str, Tensor] = {}
    for name, value in given.items():
        if LEFT_OUT.search(name):
            continue
        matrix = name.startswith("visual_projection")
        for pattern, ours in TRANSLATION:
            name = pattern.sub(ours, name)
        if name == "project":
            found.update({name: value.T.contiguous() if matrix else value} if project else {})
        else:
            found[f"net.{name}"] = value
    return _shaped(merged(found))


def _shaped(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Class token and positions with the axis of the batch."""
    for name, axes in (("net.cls_token", 3), ("net.pos_embed", 3)):
        if name in found:
            found[name] = found[name].reshape((1,) * (axes - found[name].ndim) + found[name].shape)
    return found


def merged(found: Mapping[str, Tensor], without_bias: str = "") -> dict[str, Tensor]:
    """Queries, keys and values that lie apart, `attn.q.`, `attn.k.` and `attn.v.`, as one; others as they are.

    Args:
        without_bias: which of q, k and v have none in the network, which is zero then.
    """
    parts = {name for name in found if re.search(r"\.attn\.[qkv]\.", name)}
    whole = {name: value for name, value in found.items() if name not in parts}
    for joint in sorted({re.sub(r"\.attn\.[qkv]\.", ".attn.qkv.", name) for name in parts}):
        names = {one: joint.replace(".qkv.", f".{one}.") for one in "qkv"}
        three = {one: found[name] for one, name in names.items() if name in found}
        zero = torch.zeros_like(next(iter(three.values())))
        if joint.endswith("bias"):
            three.update({one: zero for one in without_bias if one not in three})
        if len(three) == 3:
            whole[joint] = torch.cat([three[one] for one in "qkv"])
        else:  # has no place as it is, which is said
            whole.update({names[one]: value for one, value in three.items()})
    return whole


METHOD = ViT
