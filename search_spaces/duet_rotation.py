"""DUET on CIFAR-10, equivariant to rotation: the published recipe and everything around it that its authors chose.

    sweep run duet_rotation --data-root DIR                 DIR holds cifar-10-batches-py; `sweep data cifar` fetches it
    sweep run duet_rotation --data-root DIR --smoke         2 configurations, 600 images, 2 epochs, a narrow encoder

Searches lambda, the bins, the target with its width, and the temperature, against two objectives that disagree: top-1
of a linear probe on the class, and the R2 of the rotation angle from the whole representation. Tried first is the one
complete recipe that the authors publish (README of DUET's code): ResNet-32, batch 1024, 800 epochs, 10 of them
warm-up, central crop, `sca rot`, von Mises, lambda 1000, 8 bins, kappa 3.

Time: the smoke run takes about 2 minutes on 2 cores. The full run needs GPUs, see `resources`; it was not run. By
count, one configuration of 800 epochs costs 1.9e18 operations (4.33 GMAC an image, 45,000 images, 2 views, forward and
backward), most of a day at a sustained 30 TFLOP/s; two of three end at the first rung, after a tenth of that.

Result: not measured at full size. The authors expect about 73 % for the recipe, of an online classifier, which is not
the linear probe of this sweep. On small digits (`demo`) the trade-off shows between lambda 10, where the group loss
hardly acts, and lambda 1000, where it dominates. The smoke run shows only that everything works: linear probe 0.30 and
0.31 on validation, chance 0.1, and an R2 of the angle near 0.05.
"""

from search_spaces._cifar import RUN, SMOKE
from sweep.space import Choice, Float
from sweep.spec import Budget, Sweep

SWEEP = Sweep(
    name="duet_rotation",
    description="lambda, bins and target against class accuracy and rotation R2",
    method="duet",
    data="cifar",
    base={
        "method": {"encoder": {"name": "cifar10_resnet32"}, "equi_tx": ["rot"]},
        "data.variant": "cifar10",
        "views": {"tx": ["sca", "rot"], "center_crop": True},
        "train": {"epochs": 800, "warmup_epochs": 10, "batch_size": 1024, "lr": 4e-4, "checkpoint_every": 10},
    },
    space={
        "method.lambda": Float(0.1, 1e4, log=True, also=(0.0,)),  # 0 = the pooling alone, a control
        "method.bins": Choice([2, 4, 8, 16, 32]),
        "method.target": Choice(["vm", "ga"]),
        "method.kappa": Float(0.5, 30.0, log=True, when={"method.target": "vm"}),
        "method.sigma": Float(0.07, 0.5, log=True, when={"method.target": "ga"}),
        "method.temperature": Float(0.05, 0.5, log=True),
    },
    known=(
        {
            "method.lambda": 1000.0,
            "method.bins": 8,
            "method.target": "vm",
            "method.kappa": 3.0,
            "method.temperature": 0.1,
        },
        {
            "method.lambda": 10.0,
            "method.bins": 8,
            "method.target": "ga",
            "method.sigma": 0.2,
            "method.temperature": 0.1,
        },
    ),
    objectives=("max linear/all/val/top1", "max transform_parameter/all/val/rot_r2"),
    evals={
        "linear": {"parts": ["all", "content"]},
        "knn": {},
        "transform_parameter": {"parts": ["*"], "transforms": ["rot"]},
        "equivariance_roll": {},
        "collapse": {},
    },
    budget=Budget(trials=40),
    **RUN,
    smoke=SMOKE,
)
