"""SIE, EquiMod, AugSelf and VICReg on 3DIEBench: the method itself is searched, each with its own weight.

    sweep run sie_vs_equimod_vs_augself --data-root DIR   DIR holds 3DIEBench, or a set that was rendered
    sweep run sie_vs_equimod_vs_augself --smoke           3 configurations on generated solids, 2 epochs

The four share encoder, expander and training. All are judged on the whole representation: class accuracy, and R2 of
the relative rotation; those that predict also by whether the prediction finds the turned view.

Time: the smoke run takes about 3 minutes on 2 cores. The full run needs GPUs, see `resources`; it was not run.

Result: not measured at full size.
"""

from search_spaces._renders import BASE, RUN, SMOKE, WEIGHTS, judged
from sweep.space import Choice, Float
from sweep.spec import Budget, Sweep

SWEEP = Sweep(
    name="sie_vs_equimod_vs_augself",
    description="four methods, each with its own weight, by class accuracy and rotation R2",
    method="sie",
    data="bench3die",
    base=BASE,
    space={
        "method": Choice(["sie", "equimod", "augself", "vicreg"]),
        "method.equi": Choice([256], when={"method": "sie"}),
        "method.equi_factor": Float(0.01, 10.0, log=True, when={"method": "sie"}),
        "method.sim": Float(1.0, 50.0, log=True, when={"method": "sie"}),
        "method.std": Float(1.0, 50.0, log=True, when={"method": "sie"}),
        "method.cov": Float(0.04, 10.0, log=True, when={"method": "sie"}),
        "method.equi_factor#equimod": Float(0.1, 10.0, log=True, when={"method": "equimod"}),
        "method.ec": Float(0.1, 100.0, log=True, when={"method": "augself"}),
    },
    known=(
        {"method": "sie", "method.equi": 256, "method.equi_factor": 0.45, **WEIGHTS},
        {"method": "equimod", "method.equi_factor#equimod": 1.0},
        {"method": "augself", "method.ec": 1.0},
        {"method": "vicreg"},
    ),
    objectives=("max linear/all/val/top1", "max relation/all/val/rotation_r2"),
    evals=judged("all"),
    budget=Budget(trials=40),
    **RUN,
    smoke={
        **SMOKE, "budget.trials": 3, "space.method.equi": {"choice": [64], "when": {"method": "sie"}},
        "known": [
            {"method": "sie", "method.equi": 64, "method.equi_factor": 0.45, **WEIGHTS},
            {"method": "equimod", "method.equi_factor#equimod": 1.0},
            {"method": "augself", "method.ec": 1.0},
        ],
    },
)  # fmt: skip
