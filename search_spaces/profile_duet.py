"""DUET's lambda on CIFAR-10 against all four axes: what does a group of hue shifts buy, and what does it cost?

    sweep run profile_duet --data-root DIR                DIR holds cifar-10-batches-py; `sweep data cifar` fetches it
    sweep run profile_duet --data-root DIR --smoke        2 configurations, 400 images, 2 epochs, a narrow encoder
    sweep report runs/profile_duet                        the axes along lambda, `profile-method.lambda`

Searches lambda over five decades, and 0, with the stack of `duet_colour`: crops and full colour jitter, of which the
hue is DUET's group. Judged are the whole representation, its content and its group: whether hue, saturation, brightness
and class are readable (informativeness), the parameters of three shifts (parameter equivariance), what they do to the
features (feature equivariance), how near the features stay (invariance, of the content the third objective), and
whether probes of one colour are misled when another is moved (disentanglement). No lambda is published for hue: tried
first are the default of DUET's code, 10, the recommended 1000, and 0.

The encoder is narrow, images are 3,000 and epochs 30, which two cores can do. The scale of `duet_colour`, for GPUs:

    --set method.encoder.name=cifar10_resnet32 --set data.limit=null --set resources.pretrain.gpu=1 \\
    --set train.epochs=400 --set train.batch_size=1024 --set train.lr=4e-4

Time: `sweep plan` prices the pretrainings at 47 minutes on 2 cores, evaluations not counted; the smoke run takes 1.6
minutes. It was not run in full.

Result: this search was not run in full. `docs/studies/profile.md` compares three lambdas with SimCLR and an encoder
that was not trained, 3 seeds each: from 10 to 1000 hue is read better (R2 0.82 to 0.87; SimCLR 0.77) and the class
worse (0.37 to 0.31; SimCLR 0.40).
"""

from search_spaces._cifar import RUN
from search_spaces._cifar import SMOKE as NARROW
from search_spaces._profile import COLOURS, SHIFTS, SMOKE, profiled
from sweep.space import Float
from sweep.spec import Budget, Sweep

SWEEP = Sweep(
    name="profile_duet",
    description="DUET's lambda against informativeness, equivariance, invariance and disentanglement",
    method="duet",
    data="cifar",
    base={
        "method": {
            "encoder": {"name": "narrow_cifar10_resnet8"}, "head_hidden": 128, "head_out": 64, "equi_tx": ["hue"],
            "target": "ga",
        },
        "data": {"variant": "cifar10", "limit": 3000},
        "views": {"tx": ["sca", "fli", "jit"], "center_crop": True},
        "train": {"epochs": 30, "warmup_epochs": 3, "batch_size": 256, "lr": 1e-3, "checkpoint_every": 10},
    },
    space={"method.lambda": Float(0.1, 1e4, log=True, also=(0.0,))},
    known=tuple({"method.lambda": value} for value in (10.0, 1000.0, 0.0)),
    objectives=(
        "max profile/all/val/informativeness",
        "max profile/all/val/parameter_equivariance",
        "max profile/content/val/invariance",
    ),
    evals={
        **profiled(["all", "content", "group"], [*COLOURS, "class"], SHIFTS, limit=1000, nuisances=["jpeg"]),
        "collapse": {},
    },
    budget=Budget(trials=16),
    **RUN,
    smoke={**NARROW, **SMOKE, "data.limit": 400},
)  # fmt: skip
