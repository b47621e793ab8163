"""What the sweeps on Artificial Speech share: a network that two cores can train, its training, and its smoke form.

Convolutions, modules, frames and losses are those of SIM (Denoodt et al., ECML PKDD 2025, arXiv 2408.12936), with 32
channels instead of 512, a GRU of 32 units instead of 256, and a learning rate of 1e-3 instead of 2e-4, which so small a
network takes. The published scale:

    --set method.encoder.channels=512 --set method.encoder.context=256 --set train.batch_size=64 --set train.lr=2e-4 \\
    --set train.epochs=1000 --set data.val_fraction=0.1 --set resources.pretrain.gpu=1

Without `--data-root` words are synthesised.
"""

from typing import Any

TRAIN: dict[str, Any] = {
    "epochs": 40, "warmup_epochs": 0, "batch_size": 32, "optimizer": "adam", "lr": 1e-3, "weight_decay": 0.0,
    "betas": [0.9, 0.999], "schedule": "constant", "checkpoint_every": 20,
}  # fmt: skip
BASE: dict[str, Any] = {
    "method.encoder": {"channels": 32, "context": 32, "batch_norm": False},
    "views.count": 1,
    "data.val_fraction": 0.2,  # of few words a tenth is too few syllables to tell 0.7 from 0.8
    "train": TRAIN,
}
# Of the first module, whose latents are decoded first in training; means, since samples of so short a training tell
# little, and a decoder of two layers, a fifth of the published one's work.
DECODED: dict[str, Any] = {
    "latent_decoder": {
        "parts": ["module0"], "decoder": "gim_l2", "latents": "mean", "limit": 150, "clips": 4,
        "training": {"epochs": 20, "lr": 5e-3, "batch_size": 16},
    },
    "interpolation_score": {"parts": ["module0"], "limit": 50, "pairs": 200},
}  # fmt: skip
MODULES = ("module0", "module1", "module2", "context")
SMOKE: dict[str, Any] = {
    "budget.trials": 2, "data.source": "synthetic", "data.limit": 100, "train.epochs": 2, "train.batch_size": 16,
}  # fmt: skip
# of what is decoded, where it is
BRIEF: dict[str, Any] = {"evals.latent_decoder.training.epochs": 1, "evals.interpolation_score.pairs": 20}


def probed(*parts: str, **options: Any) -> dict[str, Any]:
    """Linear probes of the vowels and of the nine syllables from these parts."""
    read = {"name": "linear", "parts": list(parts), **options}
    return {"vowel": {**read, "factor": "vowel"}, "syllable": {**read, "factor": "syllable"}}
