"""SIE's equivariant weight on 3DIEBench against all four axes, of the whole, the invariant and the equivariant half.

    sweep run profile_sie --data-root DIR                 DIR holds 3DIEBench, or a set that was rendered
    sweep run profile_sie --smoke                         2 configurations on generated solids, 2 epochs
    sweep report runs/profile_sie                         the axes along the weight, `profile-method.equi_factor`

The predictor is told rotation and colours. Searches the weight of the equivariant term; judged by the invariance of the
invariant half and the equivariance of parameters of the equivariant one, which a split representation promises, and by
the informativeness of the whole. Hue, saturation and brightness are those of the rendering; the hues of floor and light
and the rotation are what `relation` reads from pairs of views, beside the profile. Tried first are the published
weight, 0.45, and the default of its code.

Time: the smoke run took 3.6 minutes on 2 cores with other work on them. The full run needs GPUs, see `resources`; it
was not run.

Result: not measured at full size.
"""

from search_spaces import _profile
from search_spaces._profile import COLOURS, SHIFTS, profiled
from search_spaces._renders import BASE, LIMIT, RUN, SMOKE, WEIGHTS
from sweep.space import Float
from sweep.spec import Budget, Sweep

SWEEP = Sweep(
    name="profile_sie",
    description="SIE's equivariant weight against informativeness, equivariance, invariance and disentanglement",
    method="sie",
    data="bench3die",
    base={**BASE, **{"method.group": ["rotation", "colour"]}, **WEIGHTS},
    space={"method.equi_factor": Float(0.01, 10.0, log=True)},
    known=({"method.equi_factor": 0.45}, {"method.equi_factor": 4.5}),
    objectives=(
        "max profile/all/val/informativeness",
        "max profile/inv/val/invariance",
        "max profile/equi/val/parameter_equivariance",
    ),
    evals={
        **profiled(["all", "inv", "equi"], [*COLOURS, "class"], SHIFTS, nuisances=["jpeg"]),
        "relation": {"parts": ["inv", "equi"], **LIMIT},
        "collapse": LIMIT,
    },
    budget=Budget(trials=16),
    **RUN,
    smoke={**SMOKE, **_profile.SMOKE, "method.equi": 32},
)
