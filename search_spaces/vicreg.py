"""VICReg on 3DIEBench: the invariant baseline of SIE, and what is left of the pose in it.

    sweep run vicreg --data-root DIR                      DIR holds 3DIEBench, or a set that was rendered
    sweep run vicreg --smoke                              2 configurations on generated solids, 2 epochs

Searches the three weights against class accuracy and the R2 of the relative rotation. Tried first are the weights of
SIE's baseline, 10, 10 and 1, then VICReg's own, 25, 25 and 1.

Time: the smoke run takes about 2 minutes on 2 cores. The full run needs GPUs, see `resources`; it was not run.

Result: not measured at full size.
"""

from search_spaces._renders import BASE, RUN, SMOKE, judged
from sweep.space import Float
from sweep.spec import Budget, Sweep

SWEEP = Sweep(
    name="vicreg",
    description="the weights of VICReg against class accuracy and rotation R2",
    method="vicreg",
    data="bench3die",
    base=BASE,
    space={
        "method.sim": Float(1.0, 50.0, log=True),
        "method.std": Float(1.0, 50.0, log=True, also=(0.0,)),  # 0 = collapse, a control
        "method.cov": Float(0.04, 10.0, log=True, also=(0.0,)),
    },
    known=(
        {"method.sim": 10.0, "method.std": 10.0, "method.cov": 1.0},
        {"method.sim": 25.0, "method.std": 25.0, "method.cov": 1.0},
    ),
    objectives=("max linear/all/val/top1", "max relation/all/val/rotation_r2"),
    evals=judged("all", predicts=False),
    budget=Budget(trials=40),
    **RUN,
    smoke=SMOKE,
)
