"""DUET on CIFAR-10 with hue as its group: what does it cost to keep colour readable?

    sweep run duet_colour --data-root DIR                 DIR holds cifar-10-batches-py; `sweep data cifar` fetches it
    sweep run duet_colour --data-root DIR --smoke         2 configurations, 600 images, 2 epochs, a narrow encoder

The stack is crops and the full colour jitter; DUET's group is one component of the jitter, the shift of the hue, with
Gaussian targets since the ends of its range are no circle. Searches lambda, the bins and the width of the target
against a linear probe on the class and the R2 of the hue shift from the whole representation; the strength of the
jitter is no part of it, since R2 values over different ranges do not compare. No recipe is published for it: tried
first are the defaults of DUET's code, then lambda 1000.

Time: the smoke run takes about 2 minutes on 2 cores. The full run needs GPUs, see `resources`; it was not run. An
epoch costs as much as one of `duet_rotation`, a configuration of 400 epochs half as much.

Result: not measured at full size. The smoke run shows only that everything works.
"""

from search_spaces._cifar import RUN, SMOKE
from sweep.space import Choice, Float
from sweep.spec import Budget, Sweep

SWEEP = Sweep(
    name="duet_colour",
    description="lambda and bins of a group of hue shifts against class accuracy and hue R2",
    method="duet",
    data="cifar",
    base={
        "method": {"encoder": {"name": "cifar10_resnet32"}, "equi_tx": ["hue"], "target": "ga"},
        "data.variant": "cifar10",
        "views": {"tx": ["sca", "fli", "jit"], "center_crop": True},
        "train": {"epochs": 400, "warmup_epochs": 10, "batch_size": 1024, "lr": 4e-4, "checkpoint_every": 10},
    },
    space={
        "method.lambda": Float(0.1, 1e4, log=True, also=(0.0,)),
        "method.bins": Choice([4, 8, 16]),
        "method.sigma": Float(0.07, 0.5, log=True),
    },
    known=(
        {"method.lambda": 10.0, "method.bins": 8, "method.sigma": 0.2},
        {"method.lambda": 1000.0, "method.bins": 8, "method.sigma": 0.2},
    ),
    objectives=("max linear/all/val/top1", "max transform_parameter/all/val/hue_r2"),
    evals={
        "linear": {"parts": ["all", "content"], "transformed": ["hue"]},
        "knn": {},
        "transform_parameter": {"parts": ["*"], "transforms": ["hue", "bri"]},
        "group_calibration": {},
        "collapse": {},
    },
    budget=Budget(trials=30),
    **RUN,
    smoke=SMOKE,
)
