"""DUET on CIFAR-10 with the scale of the crop as its group: what does it cost to keep the scale readable?

    sweep run duet_crop --data-root DIR                 DIR holds cifar-10-batches-py; `sweep data cifar` fetches it
    sweep run duet_crop --data-root DIR --smoke         2 configurations, 600 images, 2 epochs, a narrow encoder
    sweep run duet_crop --data-root DIR --set views.options.sca.mode=corrected --dir runs/duet_crop_corrected

DUET's parameter of a crop is one side of a box of varying aspect over the *output* size: it is only loosely the scale,
and may be negative. `mode: corrected` is the side of a square of equal area over the input's. Searches lambda, the bins
and the width of the Gaussian target against a linear probe on the class and the R2 of the parameter. Mode and smallest
crop are no part of the search: they change what is to be read, so that R2 values do not compare; a sweep for each.
Tried first are the defaults of DUET's code.

Time: the smoke run takes about 2 minutes on 2 cores. The full run needs GPUs, see `resources`; it was not run. An
epoch costs as much as one of `duet_rotation`, a configuration of 400 epochs half as much.

Result: not measured at full size. The smoke run shows only that everything works.
"""

from search_spaces._cifar import RUN, SMOKE
from sweep.space import Choice, Float
from sweep.spec import Budget, Sweep

SWEEP = Sweep(
    name="duet_crop",
    description="lambda and bins of a group of crop scales against class accuracy and scale R2",
    method="duet",
    data="cifar",
    base={
        "method": {"encoder": {"name": "cifar10_resnet32"}, "equi_tx": ["sca"], "target": "ga"},
        "data.variant": "cifar10",
        "views": {"tx": ["sca", "fli", "jit", "gra"], "center_crop": True},
        "train": {"epochs": 400, "warmup_epochs": 10, "batch_size": 1024, "lr": 4e-4, "checkpoint_every": 10},
    },
    space={
        "method.lambda": Float(0.1, 1e4, log=True, also=(0.0,)),
        "method.bins": Choice([4, 8, 16]),
        "method.sigma": Float(0.07, 0.5, log=True),
    },
    known=({"method.lambda": 10.0, "method.bins": 8, "method.sigma": 0.2},),
    objectives=("max linear/all/val/top1", "max transform_parameter/all/val/sca_r2"),
    evals={
        "linear": {"parts": ["all", "content"]},
        "knn": {},
        "transform_parameter": {"parts": ["*"], "transforms": ["sca"]},
        "group_calibration": {},
        "collapse": {},
    },
    budget=Budget(trials=30),
    **RUN,
    smoke=SMOKE,
)
