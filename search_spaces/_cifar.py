"""What the sweeps of two-view methods on CIFAR-10 share: how they are judged on the way, and their smoke form."""

from typing import Any

from sweep.spec import Resources, Search, StageResources, Stopping

RUN: dict[str, Any] = {
    "rungs": (0.1, 0.3),
    "stop": Stopping(rule="asha", reduction=3, min_trials=4),
    "search": Search(startup=10),
    # CPUs alone, so that it starts anywhere. With GPUs: --set resources.pretrain.gpu=1 --set train.precision=bf16
    "resources": StageResources(pretrain=Resources(cpu=1, gpu=0)),
}
SMOKE: dict[str, Any] = {
    "budget.trials": 2,
    "method.encoder.name": "narrow_cifar10_resnet8",
    "method.head_hidden": 64,
    "method.head_out": 32,
    "data.limit": 600,
    "train.epochs": 2,
    "train.warmup_epochs": 1,
    "train.batch_size": 128,
    "rungs": [0.5],
}
