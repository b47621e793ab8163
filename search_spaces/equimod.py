"""EquiMod on 3DIEBench: the weight and the predictor of its equivariance module.

    sweep run equimod --data-root DIR                     DIR holds 3DIEBench, or a set that was rendered
    sweep run equimod --smoke                             2 configurations on generated solids, 2 epochs

Searches the weight of the equivariant loss, the predictor, what compares embeddings, and the weights of VICReg's terms,
against class accuracy and the R2 of the relative rotation. Tried first is EquiMod as its authors have it, an MLP
predictor with InfoNCE and equal weights, then with SIE's hypernetwork.

Time: the smoke run takes about 2 minutes on 2 cores. The full run needs GPUs, see `resources`; it was not run.

Result: not measured at full size.
"""

from search_spaces._renders import BASE, RUN, SMOKE, judged
from sweep.space import Choice, Float, Int
from sweep.spec import Budget, Sweep

SWEEP = Sweep(
    name="equimod",
    description="the equivariance module's weight and predictor against class accuracy and rotation R2",
    method="equimod",
    data="bench3die",
    base={**BASE, "method.projector": [1024, 1024, 128]},
    space={
        "method.equi_factor": Float(0.1, 10.0, log=True),
        "method.predictor.kind": Choice(["mlp", "hypernetwork"]),
        "method.predictor.layers": Int(1, 4, when={"method.predictor.kind": "mlp"}),
        "method.loss": Choice(["infonce", "vicreg"]),
        "method.sim": Float(1.0, 50.0, log=True, when={"method.loss": "vicreg"}),
        "method.std": Float(1.0, 50.0, log=True, when={"method.loss": "vicreg"}),
        "method.cov": Float(0.04, 10.0, log=True, when={"method.loss": "vicreg"}),
    },
    known=(
        {"method.equi_factor": 1.0, "method.predictor.kind": "mlp", "method.predictor.layers": 3,
         "method.loss": "infonce"},
        {"method.equi_factor": 1.0, "method.predictor.kind": "hypernetwork", "method.loss": "infonce"},
    ),
    objectives=("max linear/all/val/top1", "max relation/all/val/rotation_r2"),
    evals=judged("all"),
    budget=Budget(trials=40),
    **RUN,
    smoke=SMOKE,
)  # fmt: skip
