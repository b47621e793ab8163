"""SimCLR on CIFAR-10: temperature, learning rate and strength of the augmentations against linear probe and kNN.

    sweep run simclr --data-root DIR                 DIR holds cifar-10-batches-py; `sweep data cifar` fetches it
    sweep run simclr --data-root DIR --smoke         2 configurations, 600 images, 2 epochs, a narrow encoder

The baseline of every other method here: what the contrastive loss reaches alone. Linear probe and kNN are two
objectives, since a low temperature spreads the features evenly, which kNN likes more than a linear classifier does.
Tried first: the options of SimCLR in DUET's code (temperature 0.1, AdamW 4e-4, crops from 0.2, jitter 0.5), then the
temperature and crops of the SimCLR paper for CIFAR-10 (0.5, crops from 0.08; its optimiser was LARS, here AdamW).

Time: the smoke run takes about 2 minutes on 2 cores. The full run needs GPUs, see `resources`; it was not run. By
count, one configuration of 200 epochs costs 4.7e17 operations (4.33 GMAC an image, 45,000 images, 2 views, forward and
backward), 4 to 5 hours at a sustained 30 TFLOP/s; most configurations end at a rung.

Result: not measured at full size. With another encoder (ResNet-18, 3x3 stem) the libraries solo-learn and lightly
report 90.7 % (1000 epochs, online classifier) and 84.8 % (200 epochs, kNN with 200 neighbours). The smoke run shows
only that everything works: linear probe 0.30, kNN 0.25 on validation, chance 0.1.
"""

from search_spaces._cifar import RUN, SMOKE
from sweep.space import Float
from sweep.spec import Budget, Sweep

SWEEP = Sweep(
    name="simclr",
    description="temperature, learning rate and augmentations against linear probe and kNN",
    method="simclr",
    data="cifar",
    base={
        "method.encoder.name": "cifar10_resnet32",
        "data.variant": "cifar10",
        "views": {"tx": ["sca", "fli", "jit", "gra"], "center_crop": True},
        "train": {"epochs": 200, "warmup_epochs": 10, "batch_size": 1024, "checkpoint_every": 10},
    },
    space={
        "method.temperature": Float(0.05, 0.5, log=True),
        "train.lr": Float(1e-5, 1e-2, log=True),
        "views.options.sca.scale_min": Float(0.08, 0.6, log=True),
        "views.options.jit.strength": Float(0.1, 1.0),
    },
    known=(
        {
            "method.temperature": 0.1,
            "train.lr": 4e-4,
            "views.options.sca.scale_min": 0.2,
            "views.options.jit.strength": 0.5,
        },
        {
            "method.temperature": 0.5,
            "train.lr": 4e-4,
            "views.options.sca.scale_min": 0.08,
            "views.options.jit.strength": 0.5,
        },
    ),
    objectives=("max linear/all/val/top1", "max knn/all/val/top1"),
    evals={"linear": {}, "knn": {}, "transform_parameter": {}, "collapse": {}},
    budget=Budget(trials=30),
    **RUN,
    smoke=SMOKE,
)
