"""SIE on 3DIEBench, told of rotation and colours: what does the equivariant half keep of each?

    sweep run sie_rotcolor --data-root DIR                DIR holds 3DIEBench, or a set that was rendered
    sweep run sie_rotcolor --smoke                        2 configurations on generated solids, 2 epochs

The predictor is given the relative rotation alone, or the differences of floor and light hue too. Searches that choice
and all weights of the loss against the R2 of rotation and of colour from the equivariant part, with the class accuracy
of the invariant part as the third objective. Tried first are both choices at the published weight, 0.45.

Time: the smoke run takes about 2 minutes on 2 cores. The full run needs GPUs, see `resources`; it was not run.

Result: not measured at full size.
"""

from search_spaces._renders import BASE, RUN, SMOKE, WEIGHTS, judged
from sweep.space import Choice, Float
from sweep.spec import Budget, Sweep

SWEEP = Sweep(
    name="sie_rotcolor",
    description="rotation alone or colours too, against class accuracy, rotation and colour R2",
    method="sie",
    data="bench3die",
    base=BASE,
    space={
        "method.group": Choice([["rotation"], ["rotation", "colour"]]),
        "method.equi_factor": Float(0.01, 10.0, log=True),
        "method.sim": Float(1.0, 50.0, log=True),
        "method.std": Float(1.0, 50.0, log=True),
        "method.cov": Float(0.04, 10.0, log=True),
    },
    known=(
        {"method.group": ["rotation", "colour"], "method.equi_factor": 0.45, **WEIGHTS},
        {"method.group": ["rotation"], "method.equi_factor": 0.45, **WEIGHTS},
    ),
    objectives=(
        "max linear/inv/val/top1", "max relation/equi/val/rotation_r2", "max relation/equi/val/colour_r2",
    ),
    evals=judged("all", "inv", "equi"),
    budget=Budget(trials=40),
    **RUN,
    smoke={**SMOKE, "method.equi": 64},
)  # fmt: skip
