"""ESSL on CIFAR-10: how much must the encoder tell of a transform, and of which one?

    sweep run essl --data-root DIR                 DIR holds cifar-10-batches-py; `sweep data cifar` fetches it
    sweep run essl --data-root DIR --smoke         2 configurations, 600 images, 2 epochs, a narrow encoder

Searches the weight of the auxiliary loss, the transform that is to be told, the size of the small view and the
temperature, against a linear probe on the class and the R2 of the rotation angle, which no view was trained on. Tried
first: the baseline of DUET's code (quarter turns, 0.4, half size, temperature 0.1), then ESSL's own temperature 0.5.

Time: the smoke run takes about 2 minutes on 2 cores. The full run needs GPUs, see `resources`; it was not run. By
count, one configuration of 800 epochs with quarter turns costs 1.5 times one of `duet_rotation` (four small views of a
quarter of the pixels beside two large ones), about a day at a sustained 30 TFLOP/s.

Result: not measured at full size; at small scale see `duet_vs_essl_vs_simclr`.
"""

from search_spaces._cifar import RUN, SMOKE
from sweep.space import Choice, Float
from sweep.spec import Budget, Sweep

SWEEP = Sweep(
    name="essl",
    description="the auxiliary task and its weight against class accuracy and rotation R2",
    method="essl",
    data="cifar",
    base={
        "method.encoder.name": "cifar10_resnet32",
        "data.variant": "cifar10",
        "views": {"tx": ["sca"], "center_crop": True},
        "train": {"epochs": 800, "warmup_epochs": 10, "batch_size": 1024, "lr": 4e-4, "checkpoint_every": 10},
    },
    space={
        "method.lambda": Float(0.01, 10.0, log=True, also=(0.0,)),  # 0 = SimCLR, a control
        "method.equi_tx": Choice(["ron", "rot", "fli", "flv", "gra", "hue"]),
        "method.crop_fraction": Float(0.25, 1.0),
        "method.temperature": Float(0.05, 0.5, log=True),
    },
    known=(
        {"method.lambda": 0.4, "method.equi_tx": "ron", "method.crop_fraction": 0.5, "method.temperature": 0.1},
        {"method.lambda": 0.4, "method.equi_tx": "ron", "method.crop_fraction": 0.5, "method.temperature": 0.5},
    ),
    objectives=("max linear/all/val/top1", "max transform_parameter/all/val/rot_r2"),
    evals={"linear": {}, "knn": {}, "transform_parameter": {"transforms": ["rot", "ron", "fli"]}, "collapse": {}},
    budget=Budget(trials=40),
    **RUN,
    smoke={**SMOKE, "method.predictor_hidden": 64},
)
