"""CPC on Artificial Speech: how far ahead the context predicts, and against how many negatives from where.

    sweep run cpc --data-root DIR                  DIR holds Artificial Speech (`sweep data deboer`)
    sweep run cpc --smoke                          2 configurations on synthesised words, 2 epochs

The same search as `gim`, of the network that is trained end to end. The variant with a linear layer where SIM's modules
end, whose layers compare one by one, is a choice of its own.

Time: not measured.

Result: not measured.
"""

from search_spaces._speech import BASE, SMOKE, probed
from sweep.space import Choice, Float, Int
from sweep.spec import Budget, Sweep

PUBLISHED = {
    "method.encoder.name": "cpc_audio", "method.prediction_steps": 10, "method.negatives": 10,
    "method.sampling": "any", "train.lr": 1e-3,
}  # fmt: skip

SWEEP = Sweep(
    name="cpc",
    description="steps ahead and negatives of CPC against vowels from its latents and from its context",
    method="cpc",
    data="deboer",
    base=BASE,
    space={
        "method.encoder.name": Choice(["cpc_audio", "cpc_extra_audio"]),
        "method.prediction_steps": Int(2, 14),
        "method.negatives": Int(5, 64, log=True),
        "method.sampling": Choice(["any", "exclusive", "sequence"]),
        "train.lr": Float(2e-4, 1e-2, log=True),
    },
    known=(PUBLISHED, {**PUBLISHED, "method.encoder.name": "cpc_extra_audio"}),
    objectives=("max vowel/module0/val/top1", "max vowel/context/val/top1"),
    evals={**probed("module0", "context"), "collapse": {}},
    budget=Budget(trials=20),
    smoke=SMOKE,
)
