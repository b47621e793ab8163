"""Published encoders by name: which network, with which options, on which input, and which file has its weights.

`sweep eval NAME EVALUATION... --data DATA --weights FILE` and `method: NAME` take these names. The list is that of the
evaluations of Plachouras et al., "Towards a Unified Representation Evaluation Framework Beyond Downstream Tasks", IJCNN
2025, arXiv 2505.06224. No weights come with the project, and many have licences of their own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Published:
    """One published encoder.

    Attributes:
        family: its module in `trainables/extractors/`. options: of the method.
        about: one line. weights: the file that is meant, with its layout and licence.
        views: of images: size, crop and constants it was trained with.
        hears: of sound: seconds of an item and its rate in Hz.
    """

    family: str
    about: str
    weights: str
    options: dict[str, Any] = field(default_factory=dict)
    views: dict[str, Any] = field(default_factory=dict)
    hears: tuple[float, int] | None = None

    @property
    def module(self) -> str:
        """Its dotted name."""
        return f"trainables.extractors.{self.family}"


HALVES = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
OF_CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
FOLDER, SUFFIXES = "models/pretrained", (".safetensors", ".pt", ".pth", ".ckpt")  # where weights are looked for


def _images(family: str, about: str, weights: str, constants: Any = "imagenet", **options: Any) -> Published:
    """224 pixels out of the middle of 256."""
    views = {"size": 224, "center_crop": True, "normalize": constants, "count": 1}
    return Published(family, about, weights, options, views)


def _resnet(net: str, dims: int, version: int) -> Published:
    about = f"ResNet-{net.removeprefix('resnet')} with ImageNet's labels, {dims} dimensions"
    return _images("resnet", about, f"torchvision {net} IMAGENET1K_V{version} (BSD-3)", net=net)


def _vit(size: str, patch: int, **options: Any) -> Published:
    about = f"ViT-{size[0].upper()}/{patch} with ImageNet's labels, class token, {options.get('width', 768)} dimensions"
    return _images("vit", about, f"torchvision vit_{size}_{patch} IMAGENET1K_V1 (BSD-3)", patch=patch, **options)


def _dinov2(size: str, width: int, **options: Any) -> Published:
    about = f"DINOv2 ViT-{size[0].upper()}/14, mean over all tokens, {width} dimensions"
    where = f"facebookresearch/dinov2 dinov2_vit{size[0]}14_pretrain.pth, or of transformers (Apache-2.0)"
    more = {"size": 518, "patch": 14, "pool": "tokens", "scaled": True, "offset": 0.1}
    return _images("vit", about, where, **more, width=width, hidden=4 * width, **options)


def _sound(family: str, about: str, weights: str, seconds: float, hz: int, **options: Any) -> Published:
    return Published(family, about, weights, options, hears=(seconds, hz))


LARGE: dict[str, Any] = {"width": 1024, "depth": 24, "heads": 16, "hidden": 4096}
HUGE: dict[str, Any] = {"patch": 14, "width": 1280, "depth": 32, "heads": 16, "hidden": 5120}
BASE_32: dict[str, Any] = {"patch": 32, "project": 512, "eps": 1e-5, "clip": True}
EXTRACTORS: dict[str, Published] = {
    "ResNet18_ImageNet": _resnet("resnet18", 512, 1),
    "ResNet34_ImageNet": _resnet("resnet34", 512, 1),
    "ResNet50_ImageNet": _resnet("resnet50", 2048, 2),
    "ResNet101_ImageNet": _resnet("resnet101", 2048, 2),
    "ViT_b_16_ImageNet": _vit("b", 16),
    "ViT_b_32_ImageNet": _vit("b", 32),
    "ViT_l_16_ImageNet": _vit("l", 16, **LARGE),
    "ViT_l_32_ImageNet": _vit("l", 32, **LARGE),
    "DINO": _images("resnet", "DINO's ResNet-50, mean over the last map, 2048 dimensions",
                    "facebookresearch/dino dino_resnet50_pretrain.pth (Apache-2.0)"),
    "DINOv2_small": _dinov2("small", 384, heads=6),
    "DINOv2_base": _dinov2("base", 768),
    "DINOv2_large": _dinov2("large", 1024, depth=24, heads=16),
    "SimCLR": _images("resnet", "SimCLR's ResNet-50, 2048 dimensions (a method to train is `simclr`)",
                      "Spijkervet/SimCLR checkpoint_100.tar (MIT)"),
    "ViT_MAE": _images("vit", "a ViT-B/16 with ImageNet's labels, class token, 768 dimensions; no masked autoencoder, "
                       "which the name says in the list", "timm vit_base_patch16_224 (Apache-2.0)", HALVES),
    "CLIP": _images("vit", "CLIP's image tower ViT-B/32, projected, 512 dimensions",
                    "OpenAI's ViT-B/32 as state_dict, or of transformers (MIT)", OF_CLIP, **BASE_32),
    "IJEPA": _images("vit", "I-JEPA's ViT-H/14, mean over patches, 1280 dimensions",
                     "facebookresearch/ijepa IN1K-vit.h.14-300e.pth.tar, or of transformers (CC BY-NC 4.0)",
                     **HUGE, class_token=False, pool="patches"),
    "Wav2Vec2": _sound("wav2vec2", "wav2vec 2.0 base, last layer, mean over time, 768 dimensions",
                       "torchaudio WAV2VEC2_ASR_BASE_960H, or of transformers (MIT)", 10, 16_000),
    "HuBERT": _sound("wav2vec2", "HuBERT base, last layer, mean over time, 768 dimensions",
                     "torchaudio HUBERT_BASE, or of transformers (MIT)", 10, 16_000),
    "UniSpeech": _sound("wav2vec2", "UniSpeech-SAT base, last layer, mean over time, 768 dimensions",
                        "transformers microsoft/unispeech-sat-base-100h-libri-ft (CC BY-SA 3.0)", 10, 16_000,
                        normalise=True),
    "MERT": _sound("wav2vec2", "MERT 95M on music, last layer, mean over time, 768 dimensions",
                   "transformers m-a-p/MERT-v1-95M (CC BY-NC 4.0)", 3, 24_000, rate=24_000, normalise=True),
    "Whisper": _sound("whisper", "Whisper small, encoder, mean over the frames of the item, 768 dimensions",
                      "OpenAI's small.pt, or of transformers (MIT)", 10, 16_000),
    "XVector": _sound("xvector", "x-vector of a speaker, 512 dimensions",
                      "speechbrain/spkrec-xvect-voxceleb embedding_model.ckpt (Apache-2.0)", 10, 16_000),
    "CLAP": _sound("clap", "LAION CLAP's sound tower HTSAT-base, projected, 512 dimensions; needs transformers",
                   "transformers laion/larger_clap_music_and_speech (Apache-2.0)", 10, 48_000),
    "AudioMAE": _sound("audiomae", "AudioMAE, mean over its 64 x 8 patches, 768 dimensions",
                       "facebookresearch/AudioMAE pretrained.pth, or hance-ai/audiomae (CC BY-NC 4.0)", 10, 16_000),
    "MDuo": _sound("m2d", "M2D, frequencies of a time step stacked, mean over time, 3840 dimensions",
                   "nttcslab/m2d m2d_vit_base-80x608p16x16-221006-mr7_enconly (NTT's evaluation licence)", 10, 16_000),
    "VGGishMTAT": _sound("short_chunk", "short-chunk CNN on tags of music, maximum over time, 512 dimensions",
                         "a short-chunk CNN trained on MagnaTagATune (MIT)", 3.69, 16_000),
    "MULE_1728": _sound("mule", "MULE's SF-NFNet-F0, slow and fast path, 1728 dimensions",
                        "a state_dict by the names of trainables/extractors/mule.py (MULE: GPL-3.0)", 2.99, 16_000),
    "MULE_512": _sound("mule", "the same behind its projection, 512 dimensions",
                       "as MULE_1728, with the projection", 2.99, 16_000, project=True),
    "Music2Latent_8192": _sound("music2latent", "Music2Latent, features of its encoder, mean over time, 8192 "
                                "dimensions; needs music2latent", "SonyCSLParis/music2latent (CC BY-NC 4.0)", 3, 44_100,
                                features=True),
    "Music2Latent_64": _sound("music2latent", "Music2Latent, latents, mean over time, 64 dimensions; needs "
                              "music2latent", "SonyCSLParis/music2latent (CC BY-NC 4.0)", 3, 44_100),
    "PESTO": _sound("pesto", "PESTO, activations of pitches, mean over time, 384 dimensions",
                    "SonyCSLParis/pesto mir-1k_g7.ckpt (LGPL-3.0)", 3, 22_050),
}  # fmt: skip
ALIASES = {
    "ViT_b_16": "ViT_b_16_ImageNet",
    "ViT_b_32": "ViT_b_32_ImageNet",
    "ViT_l_16": "ViT_l_16_ImageNet",
    "ViT_l_32": "ViT_l_32_ImageNet",
    "ViT_ImageNet": "ViT_b_16_ImageNet",
    "DINOv2": "DINOv2_base",
}


def published(name: str) -> Published | None:
    """What a name, or another name for the same, means; None = no extractor is called so."""
    return EXTRACTORS.get(ALIASES.get(name, name))
