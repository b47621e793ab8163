"""GIM on Artificial Speech: how far ahead each module predicts, and against how many negatives from where.

    sweep run gim --data-root DIR                  DIR holds Artificial Speech (`sweep data deboer`)
    sweep run gim --smoke                          2 configurations on synthesised words, 2 epochs

Searches the steps ahead, the number of negatives, what they are drawn from and the learning rate, against the vowels
that a linear probe reads from the first module and from the last context. Slow content, such as vowels and speakers,
is told to gain from predicting far ahead, consonants to lose. Tried first is the published point: 10 steps and 10
negatives of any frame; then GIM's own 12 steps.

Time: the smoke run took 142 s on 2 loaded cores; the full one was not run.

Result: of the smoke run, two configurations of two epochs on synthesised words: vowels 0.87 and 0.82 from the first
module, 0.75 and 0.82 from the context. No more was measured.
"""

from search_spaces._speech import BASE, MODULES, SMOKE, probed
from sweep.space import Choice, Float, Int
from sweep.spec import Budget, Sweep

PUBLISHED = {"method.prediction_steps": 10, "method.negatives": 10, "method.sampling": "any", "train.lr": 1e-3}

SWEEP = Sweep(
    name="gim",
    description="steps ahead and negatives of GIM against vowels from the first module and from the context",
    method="gim",
    data="deboer",
    base=BASE,
    space={
        "method.prediction_steps": Int(2, 14),
        "method.negatives": Int(5, 64, log=True),
        "method.sampling": Choice(["any", "exclusive", "sequence"]),
        "train.lr": Float(2e-4, 1e-2, log=True),
    },
    known=(PUBLISHED, {**PUBLISHED, "method.prediction_steps": 12}),
    objectives=("max vowel/module0/val/top1", "max vowel/context/val/top1"),
    evals={**probed(*MODULES), "collapse": {}},
    budget=Budget(trials=20),
    smoke=SMOKE,
)
