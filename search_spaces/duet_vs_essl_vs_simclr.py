"""DUET, ESSL and SimCLR on handwritten digits: the method itself is searched, each with its own coefficients.

    sweep run duet_vs_essl_vs_simclr               no download: handwritten digits, enlarged to 16x16

The three methods share encoder, heads, temperature and training. What differs is a choice of its own under the
condition of its method: DUET's lambda and concentration, ESSL's weight, and SimCLR with and without rotation among its
views. All are judged by the same evaluations: the class on upright and on rotated images, and the rotation angle, which
ESSL has only ever seen as quarter turns of a small view, and SimCLR without rotation not at all.

Time: the six known points (`--trials 6`) with their three seeds took 8 minutes on 2 cores; all ten about 14.

Result: three seeds, test split, see `docs/studies/duet.md`. Upright accuracy 0.953 of SimCLR without rotation, 0.898
with it; 0.932 of DUET at lambda 1000, whose angle error is 26 degrees; 0.956 of ESSL. R2 of the angle 0.23 of DUET, at
most 0.02 of the others.
"""

from sweep.space import Choice, Float
from sweep.spec import Budget, Search, Sweep

DUET = {"method": "duet", "method.target": "vm", "method.kappa": 3.0, "views.tx": ["sca", "rot"]}

SWEEP = Sweep(
    name="duet_vs_essl_vs_simclr",
    description="three methods, each with its own coefficients, by class accuracy and rotation R2",
    method="duet",
    data="digits",
    base={
        "method": {"encoder": {"name": "narrow_cifar10_resnet8"}, "head_hidden": 128, "head_out": 64},
        "train": {"epochs": 15, "warmup_epochs": 2, "batch_size": 128, "lr": 2e-3, "checkpoint_every": 5},
    },
    space={
        "method": Choice(["duet", "essl", "simclr"]),
        "method.lambda": Float(1.0, 1e4, log=True, also=(0.0,), when={"method": "duet"}),
        "method.target": Choice(["vm"], when={"method": "duet"}),
        "method.kappa": Float(1.0, 12.0, log=True, when={"method": "duet"}),
        "views.tx": Choice([["sca", "rot"]], when={"method": "duet"}),
        "method.lambda#essl": Float(0.01, 10.0, log=True, when={"method": "essl"}),
        "method.predictor_hidden": Choice([128], when={"method": "essl"}),
        "views.tx#essl": Choice([["sca"]], when={"method": "essl"}),
        "views.tx#simclr": Choice([["sca", "rot"], ["sca"]], when={"method": "simclr"}),
    },
    known=(
        *({**DUET, "method.lambda": weight} for weight in (1000.0, 100.0, 0.0)),
        {"method": "essl", "method.lambda#essl": 0.4, "method.predictor_hidden": 128, "views.tx#essl": ["sca"]},
        {"method": "simclr", "views.tx#simclr": ["sca", "rot"]},
        {"method": "simclr", "views.tx#simclr": ["sca"]},
    ),
    objectives=("max linear/all/val/top1", "max transform_parameter/all/val/rot_r2"),
    evals={
        "linear": {"transformed": ["rot"]},
        "knn": {},
        "transform_parameter": {"parts": ["*"], "transforms": ["rot"]},
        "equivariance_roll": {},
        "group_calibration": {},
        "reconstruction": {"transform": "rot"},
        "controlled_generation": {},
        "collapse": {},
    },
    seeds=3,
    search=Search(startup=6),
    budget=Budget(trials=10),
    smoke={"budget.trials": 3, "train.epochs": 2, "train.warmup_epochs": 1, "data.limit": 300},
)
