"""Published names of methods that are options of another: `method: SIENoVar` is `sie` without the predicted variance.

A preset's options stand where a sweep gives none of its own. Names are those of SIE's code (arXiv 2302.10283).
"""

from __future__ import annotations

from typing import Any

COLOUR = ["rotation", "colour"]
CONTRAST = {"head_norm": False, "head_out": 2048, "directions": "mean", "encoder": {"name": "resnet18"}}
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
}


def expand(name: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The method that a name means, and its options."""
    method, preset = PRESETS.get(name, (name, {}))
    return method, _merged(preset, options)


def _merged(preset: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Options over the preset's; of an option that has options itself, only those that are given replace."""
    both = {key: _merged(preset[key], value) for key, value in options.items()
            if isinstance(value, dict) and isinstance(preset.get(key), dict)}  # fmt: skip
    return {**preset, **options, **both}
