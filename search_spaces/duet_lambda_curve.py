"""DUET's lambda alone, over five decades with three seeds: what the group loss buys and what it costs.

    sweep run duet_lambda_curve                    no download: handwritten digits, enlarged to 16x16
    sweep report runs/duet_lambda_curve            the curve, under "Sensitivity"

A grid, no search: lambda = 0 and eleven values from 0.1 to 10,000, everything else as in `demo` (8 bins, von Mises,
kappa 3, 15 epochs), three seeds each, so that every value has its own standard deviation.

Time: 8 minutes on 2 cores.

Result: three seeds, see `docs/studies/duet.md`. Below lambda 10 the angle is at chance (median error 82 to 85
degrees), at 100 it is 46, from 1000 on 26; the class accuracy of the whole representation stays within the seeds'
noise, that of the content falls from 0.62 to 0.53.
"""

from search_spaces.demo import SWEEP as DEMO
from sweep.space import Float
from sweep.spec import Budget, Search, Sweep

SWEEP = Sweep(
    name="duet_lambda_curve",
    description="class accuracy and angle error against DUET's lambda",
    method="duet",
    data="digits",
    base=DEMO.base,
    space={"method.lambda": Float(0.1, 1e4, log=True, points=11, also=(0.0,))},
    known=({"method.lambda": 1000.0},),
    objectives=("max linear/all/val/top1", "min transform_parameter/marginal/val/rot_angle_error"),
    evals={
        "linear": {"parts": ["all", "content"], "transformed": ["rot"]},
        "knn": {},
        "transform_parameter": {"parts": ["*"], "transforms": ["rot"]},
        "equivariance_roll": {},
    },
    seeds=3,
    search=Search(sampler="grid"),
    budget=Budget(trials=12),
    smoke={"budget.trials": 2, "train.epochs": 2, "train.warmup_epochs": 1, "data.limit": 300},
)
