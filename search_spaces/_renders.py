"""What the sweeps on 3DIEBench share: the published training, how they are judged, and their smoke form.

Training is that of SIE (Garrido et al., ICML 2023, arXiv 2302.10283): ResNet-18, batch 1024, Adam at a constant 1e-3
with coupled weight decay 1e-6, 2000 epochs. Images have 64 pixels, a sixteenth of its compute; it has 256
(`--set data.size=256`).
"""

from typing import Any

from search_spaces._cifar import RUN as RUN  # the same rungs, stopping and resources

TRAIN: dict[str, Any] = {
    "epochs": 2000, "warmup_epochs": 0, "batch_size": 1024, "optimizer": "adam", "lr": 1e-3, "weight_decay": 1e-6,
    "betas": [0.9, 0.999], "schedule": "constant", "checkpoint_every": 20,
}  # fmt: skip
BASE: dict[str, Any] = {
    "data.size": 64, "views.normalize": "3diebench", "method.encoder.name": "resnet18", "train": TRAIN,
}  # fmt: skip
WEIGHTS = {"method.sim": 10.0, "method.std": 10.0, "method.cov": 1.0}  # published, of VICReg's three terms
# images of each split, 2,000 objects of 3DIEBench: the features of a checkpoint take 2 GB each time, of all 50
LIMIT: dict[str, Any] = {"limit": 100_000}
# generated solids, so that it needs no data: 100 objects of 6 views, 32 pixels
SMOKE: dict[str, Any] = {
    "budget.trials": 2,
    "data.source": "solids",
    "data.size": 32,
    "data.solids": {"objects": 10, "views": 6},
    "data.limit": 100,
    "method.encoder.name": "small_resnet10",
    "method.projector": [64, 64, 64],
    "train.epochs": 2,
    "train.batch_size": 16,
    "rungs": [0.5],
    "evals.relation.steps": 64,
}


def judged(*parts: str, predicts: bool = True) -> dict[str, Any]:
    """The evaluations of a sweep: of these parts, and of the predictor where there is one."""
    read = {"parts": list(parts), **LIMIT}
    retrieval = {"prediction_retrieval": LIMIT} if predicts else {}
    return {"linear": read, "relation": read, **retrieval, "collapse": LIMIT}
