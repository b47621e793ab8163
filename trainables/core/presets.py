"""Published names of methods that are options of another: `method: SIENoVar` is `sie` without the predicted variance.

A preset's options stand where a sweep gives none of its own. Names are those of the codes of SIE (arXiv 2302.10283) and
Smooth InfoMax (arXiv 2408.12936), where each configuration is a file; V-GIM is its thesis. How they were trained is not
a matter of the method, and stands in the search spaces. Of V3 (arXiv 2407.03824) there is one for each data set, and
`V3-paper`, what its appendix has for PhoneNums where its code has other values.
"""

from __future__ import annotations

from typing import Any

from trainables.extractors.names import Published, published

COLOUR = ["rotation", "colour"]
CONTRAST = {"head_norm": False, "head_out": 2048, "directions": "mean", "encoder": {"name": "resnet18"}}
IMAGES = {"prediction_steps": 5, "negatives": 16}
# of V3 the code's, but commitment is in the loss also where pages are regrouped
FEW: dict[str, Any] = {"relativity": 5, "supersample_content": True, "dead": 0}
PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "SIE": ("sie", {}),
    "SIENoVar": ("sie", {"predicted_variance": False}),
    "SIERotColor": ("sie", {"group": COLOUR}),
    "SIEOnlyEqui": ("sie", {"equi": None}),
    "VICReg": ("vicreg", {}),
    "VICRegPartInv": ("vicreg", {"invariant": 2048 - 256}),
    "VICRegEquiMod": ("equimod", {"loss": "vicreg"}),
    "SimCLR": ("simclr", CONTRAST),
    "SimCLRAugSelf": ("augself", {}),
    "SimCLRAugSelfRotColor": ("augself", {"group": COLOUR}),
    "SimCLROnlyEqui": ("equimod", {"invariant": False}),
    "SimCLROnlyEquiRotColor": ("equimod", {"invariant": False, "group": COLOUR}),
    "SimCLREquiMod": ("equimod", {}),
    "SimCLREquiModRotColor": ("equimod", {"group": COLOUR}),
    "backbone": ("trainables.extractors.backbone", {}),  # weights that come alone
    "sim_audio_de_boer_distr_true": ("sim", {}),
    "sim_audio_de_boer_distr_false": ("gim", {}),
    "cpc_audio_de_boer_conventional": ("cpc", {}),
    "cpc_audio_de_boer_extra_layers": ("cpc", {"encoder": {"name": "cpc_extra_audio"}}),
    "sim_audio_libri_distr_true": ("sim", {"kl_weight": 0.001}),
    "sim_audio_libri_distr_false": ("gim", {}),
    "sim_audio_distr_true": ("sim", {"prediction_steps": 12, "kl_weight": 0.0033}),
    "sim_audio_distr_false": ("gim", {"prediction_steps": 12}),
    "sim_audio_cpc": ("cpc", {"prediction_steps": 12}),
    "sim_audio_one_module": ("sim", {"encoder": {"name": "one_module_audio"}}),
    "enc_gim_audio": ("gim", {"encoder": {"name": "gim_audio"}, "prediction_steps": 12}),
    # its 12 steps would need more frames than the 3 that are left of a word
    "enc_default": ("sim", {"encoder": {"name": "small_audio"}, "prediction_steps": 2, "kl_weight": 0.0033}),
    "V-GIM": ("sim", {"encoder": {"name": "vgim_audio"}, "prediction_steps": 12, "kl_weight": 0.0035}),
    "vision_default": ("sim", {**IMAGES, "encoder": {"name": "resnet50"}, "kl_reduction": "channels"}),
    "GIMVision": ("gim", {**IMAGES, "encoder": {"name": "resnet50"}}),
    "V3-repo": ("v3", {}),
    "V3-paper": ("v3", {"beta": 0.1, "weights": {"commit": 0.01}, "decay": 0.95, "dead": 0.1}),
    "V3-PhoneNums": ("v3", {"encoder": {"name": "phonenums"}}),
    "V3-InsNotes": ("v3", {"atoms": 12, "encoder": {"name": "insnotes"}}),
    "V3-Sprites": ("v3", {"atoms": 18, "encoder": {"name": "sprites"}}),
    "V3-SVHN": ("v3", {**FEW, "atoms": 20, "encoder": {"name": "svhn"}}),
    "V3-LibriSpeech": ("v3", {**FEW, "widen_style": 3, "atoms": 80, "encoder": {"name": "librispeech"}}),
    "CPCVision": ("cpc", {**IMAGES, "encoder": {"name": "cpc_resnet50"}}),
}


def expand(name: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The method that a name means, an extractor's too, and its options."""
    found = extractor(name)
    method, preset = PRESETS.get(name, (name, {})) if found is None else (found.module, found.options)
    return method, _merged(preset, options)


def extractor(name: str) -> Published | None:
    """The published encoder that a method's name means; SimCLR is SIE's, which is trained."""
    return None if name in PRESETS else published(name)


def _merged(preset: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Options over the preset's; of an option that has options itself, only those that are given replace."""
    both = {key: _merged(preset[key], value) for key, value in options.items()
            if isinstance(value, dict) and isinstance(preset.get(key), dict)}  # fmt: skip
    return {**preset, **options, **both}
