"""What the sweeps of profiles share: five evaluations by factors of variation, the four axes of them, smoke options.

Axes are those of Plachouras et al., IJCNN 2025, arXiv 2505.06224; `trainables/evals/profile.py` says how they are made.
Probes are the project's: one layer fitted exactly, and a network with the published hidden layers. A search by axes
compares representations of one sweep, not with published numbers.
"""

from collections.abc import Sequence
from typing import Any

COLOURS = ("hue", "saturation", "brightness")
SHIFTS = (
    "hue_shift",
    "saturation_shift@sane",
    "brightness_shift@sane",
)  # the rest of their ranges is inverted or black
SOUNDS = ("pitch_shift", "white_noise_snr", "time_stretch", "reverb")
PROBES = ("informativeness", "parameter_equivariance", "feature_equivariance")
LIMIT = 5000  # items of each split, which five transforms and two upper quarters of each are encoded of
# networks of one small layer and few epochs; curves of every part and transform take longer than the rest
SMOKE: dict[str, Any] = {"evals.invariance.draw": False} | {
    f"evals.{name}.{option}": value
    for name in PROBES
    for option, value in {"hidden": [32], "epochs": 2, "batch_size": 64}.items()
}


def profiled(
    parts: Sequence[str],
    factors: Sequence[str],
    transforms: Sequence[str],
    limit: int | None = LIMIT,
    moved: Sequence[str] = (),
    nuisances: Sequence[str] = (),
) -> dict[str, Any]:
    """The evaluations of a sweep.

    Args:
        factors: read from the parts. transforms: whose parameters and effects are. moved: while factors are read; () =
            the published ones. nuisances: beside the transforms, to which the parts may be invariant.
    """
    shared: dict[str, Any] = {"parts": list(parts), "limit": limit}
    return {
        "informativeness": {**shared, "factors": list(factors)},
        "parameter_equivariance": {**shared, "transforms": list(transforms)},
        "feature_equivariance": {**shared, "transforms": list(transforms)},
        "invariance": {**shared, "transforms": [*transforms, *nuisances]},
        "disentanglement": {
            **shared, "factors": list(factors), "transforms": list(moved), "quarters": ["75", "100"],
        },
        "profile": shared,
    }  # fmt: skip
