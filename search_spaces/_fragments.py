"""What the sweeps of V3 on PhoneNums share: the published training, how they are judged and stopped, their smoke form.

Network and training are those of V3's code (Wu et al., ICLR 2025, arXiv 2407.03824): 32 pages a batch, AdamW at 1e-3
with weight decay 0.1, 0.98 less every 20 epochs, down to 0.02. 200 epochs of 80,000 pages are what its public follow-up
trained: `--set data.made.pages=100000` renders them once (7 minutes, 4.6 GB), where without it 1,000 are rendered. A
folder PhoneNums in `--data-root` is used as it is. The paper's appendix trains by Adam without weight decay: `--set
train.optimizer=adam --set train.weight_decay=0`, with `--set method=V3-paper`. Configurations have one seed here; the
same seed may go either way on such a task, so judge by three where you can (`--set seeds=3`).

What these sweeps are judged by jumps late in training, and may fall again: the follow-up saw codes become contents
between epochs 140 and 160 of 200. So nothing is stopped in the first 0.8 of the training by its values, a codebook of
which few codes are in use ends it (`method.collapse_usage`), and of the checkpoints the best stay beside the last.
"""

from typing import Any

from sweep.spec import Resources, Search, StageResources, Stopping

TRAIN: dict[str, Any] = {
    "epochs": 200, "warmup_epochs": 0, "batch_size": 32, "drop_last": True, "optimizer": "adamw", "lr": 1e-3,
    "weight_decay": 0.1, "betas": [0.9, 0.999], "schedule": "exponential", "decay": 0.98, "decay_epochs": 20,
    "final_lr": 0.02, "checkpoint_every": 10, "collapse_rank": 0,
}  # fmt: skip
BASE: dict[str, Any] = {
    "views": {"count": 1, "normalize": {"mean": [0.5] * 3, "std": [0.5] * 3}},
    "method.encoder.name": "phonenums",
    "train": TRAIN,
}
JUDGED: dict[str, Any] = {"retrieval": {"name": "part_retrieval", "fragments": 20_000}, "codes": {"name": "codebook"}}
PAIR = ("max codes/content/val/one_to_one", "min codes/content/val/recon")
RUN: dict[str, Any] = {
    "rungs": (0.25, 0.5, 0.8, 0.9),
    "stop": Stopping(rule="asha", reduction=2, min_trials=4, grace=0.8),
    "search": Search(startup=10),
    "keep": "best",
    # CPUs alone, so that it starts anywhere. With GPUs: --set resources.pretrain.gpu=1 --set train.precision=bf16
    "resources": StageResources(pretrain=Resources(cpu=1, gpu=0)),
}
SMOKE: dict[str, Any] = {
    "budget.trials": 2,
    "data.limit": 64,
    "method.encoder": {"name": "phonenums", "channels": 16, "content": 32, "style": 32},
    "train.epochs": 2,
    "train.batch_size": 16,
    "train.checkpoint_every": 1,
    "rungs": [0.5],
}
