"""Files in the layouts of other libraries: all of their weights are taken over, and features are those they give."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datasets.base import Spec
from datasets.config import parse
from trainables.core.load import load
from trainables.core.method import Method, has
from trainables.core.original import take_over
from trainables.core.state import CheckpointError
from trainables.extractors import whisper, xvector

GOLDEN = Path(__file__).parent / "extractors"
Weights = dict[str, Tensor]
SMALL: dict[str, Any] = {"size": 32, "patch": 8, "width": 16, "depth": 2, "heads": 2, "hidden": 24}
TOKENS: dict[str, Any] = {**SMALL, "pool": "tokens", "scaled": True}
PATCHES: dict[str, Any] = {**SMALL, "class_token": False, "pool": "patches"}
CLIP: dict[str, Any] = {**SMALL, "project": 6, "eps": 1e-5, "clip": True}
HEARD: dict[str, Any] = {"channels": 8, "width": 32, "depth": 2, "heads": 2, "hidden": 24}
WHISPER: dict[str, Any] = {"width": 16, "depth": 2, "heads": 2}
XVECTOR: dict[str, Any] = {"widths": [8, 8, 8, 8, 12], "features": 16}
LAYOUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "timm_vit": ("vit", SMALL), "timm_dinov2": ("vit", TOKENS), "dinov2": ("vit", {**TOKENS, "hidden": 32}),
    "ijepa": ("vit", PATCHES), "clip": ("vit", CLIP), "hubert": ("wav2vec2", HEARD),
    "unispeech": ("wav2vec2", {**HEARD, "normalise": True}), "whisper": ("whisper", WHISPER),
    "xvector": ("xvector", XVECTOR),
}  # fmt: skip


def golden(name: str) -> tuple[Weights, Weights]:
    with np.load(GOLDEN / f"layout_{name}.npz") as found:
        values = {key: torch.from_numpy(found[key]) for key in found.files}
    return values, {key.removeprefix("w."): value for key, value in values.items() if key.startswith("w.")}


def made(name: str, x: Tensor) -> Method:
    family, options = LAYOUTS[name]
    method_class = load("method", f"trainables.extractors.{family}").METHOD
    spec = Spec(tuple(x.shape[1:])) if x.ndim == 4 else Spec((1, x.shape[-1]), rate=16_000)
    method: Method = method_class(parse(method_class.Config, options, "method"), spec)
    return method.eval().requires_grad_(False)


def check(name: str, weights: Weights, x: Tensor, wanted: Tensor) -> None:
    method = made(name, x)
    take_over(method, weights, Path("file"))
    seen = x if x.ndim == 4 else x[:, None]
    found = method.encode(seen)["all"]
    assert found.shape == (len(x), method.parts["all"])
    noise = 1e-4 if name == "xvector" else 2e-5  # speechbrain adds noise of 1e-5 to means
    torch.testing.assert_close(found, wanted, atol=noise, rtol=1e-4)
    if has(method, "frames"):
        frames = method.frames(seen)["all"]  # type: ignore[operator]
        assert frames.shape[1] == torch.Size(method.places["all"]).numel()  # type: ignore[index]
        torch.testing.assert_close(frames.mean(1), found, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_library_and_we_say_the_same(name: str) -> None:
    values, weights = golden(name)
    check(name, weights, values["x"], values["y"])


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_is_missing_or_left_over_is_said(name: str) -> None:
    """Of every layout each tensor alone, but for those that stand behind the encoder."""
    values, weights = golden(name)
    method = made(name, values["x"])
    behind = re.compile(r"num_batches_tracked|^(head|lm_head|decoder)\.|mask_token|masked_spec_embed")
    for lost in weights:
        if not behind.search(lost):
            with pytest.raises(CheckpointError, match=r"lacks 1 of the method's|\.attn\.[qkv]\.\w+' has no place"):
                take_over(method, {key: value for key, value in weights.items() if key != lost}, Path("file"))
    more = {**weights, "surplus.weight": torch.zeros(1)}
    with pytest.raises(CheckpointError, match="has no place in this method"):
        take_over(method, more, Path("file"))


def test_dinov2_at_another_size() -> None:
    values, weights = golden("dinov2")
    check("dinov2", weights, values["x_big"], values["y_big"])


def openai_clip(theirs: Weights) -> Weights:
    """The names that OpenAI's files have, half of a number each, with a tower of text beside."""
    found: Weights = {"transformer.resblocks.0.ln_1.weight": torch.zeros(3), "logit_scale": torch.zeros(())}
    names = {
        "embeddings.class_embedding": "class_embedding", "embeddings.position_embedding.weight": "positional_embedding",
        "embeddings.patch_embedding.weight": "conv1.weight", "pre_layrnorm": "ln_pre", "post_layernorm": "ln_post",
        "encoder.layers": "transformer.resblocks", "layer_norm1": "ln_1", "layer_norm2": "ln_2",
        "self_attn.out_proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
        "self_attn.q_proj.": "attn.in_proj_",
    }  # fmt: skip
    for name, value in theirs.items():
        if ".q_proj." in name:
            value = torch.cat([theirs[name.replace("q_proj", f"{one}_proj")] for one in "qkv"])
        if name == "visual_projection.weight":
            found["visual.proj"] = value.T
        elif ".k_proj." not in name and ".v_proj." not in name:
            for ours, openais in names.items():
                name = name.replace(ours, openais)
            found[name.replace("vision_model.", "visual.")] = value
    return found


def test_clip_as_openai_has_it() -> None:
    values, weights = golden("clip")
    renamed = openai_clip(weights)
    assert "visual.transformer.resblocks.1.attn.in_proj_bias" in renamed and "visual.class_embedding" in renamed
    check("clip", renamed, values["x"], values["y"])


def test_whisper_as_openai_has_it() -> None:
    values, weights = golden("whisper")
    names = {
        "encoder.embed_positions.weight": "encoder.positional_embedding", ".layers.": ".blocks.",
        "self_attn_layer_norm": "attn_ln", "final_layer_norm": "mlp_ln", "encoder.layer_norm": "encoder.ln_post",
        "self_attn.out_proj": "attn.out", "self_attn.q_proj": "attn.query", "self_attn.k_proj": "attn.key",
        "self_attn.v_proj": "attn.value", ".fc1.": ".mlp.0.", ".fc2.": ".mlp.2.",
    }  # fmt: skip
    renamed: Weights = {}
    for name, value in weights.items():
        if not name.startswith("decoder"):
            for theirs, openais in names.items():
                name = name.replace(theirs, openais)
            renamed[name] = value
    assert "encoder.blocks.1.attn.key.weight" in renamed
    check("whisper", {**renamed, "decoder.ln.weight": torch.zeros(2)}, values["x"], values["y"])


def test_what_whisper_and_x_vectors_hear() -> None:
    values, _ = golden("whisper")
    padded = torch.nn.functional.pad(values["x"], (0, 29 * 16_000))
    torch.testing.assert_close(whisper.log_mel(padded)[:, :, :120], values["mel"], atol=1e-4, rtol=0)
    values, _ = golden("xvector")
    method = made("xvector", values["x"])
    assert isinstance(method, xvector.XVector)
    torch.testing.assert_close(method.bands(values["x"]), values["bands"], atol=2e-3, rtol=0)
