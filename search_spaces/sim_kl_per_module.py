"""SIM with a KL weight for each module: does a deep module want another one than the first?

    sweep run sim_kl_per_module --data-root DIR    DIR holds Artificial Speech (`sweep data deboer`)
    sweep run sim_kl_per_module --smoke            2 configurations on synthesised words, 2 epochs

The divergence is summed over time, as in SIM's code, and InfoNCE is a mean over frames: with 511, 129 and 64 frames of
a word one weight counts 8 times as much against the loss of the first module as against that of the third. Searched
are three weights. Tried first are the published one for all, weights that count alike in every module (the deeper the
larger), and weights that spare the deep ones. Judged as in `sim_kl_weight`.

Time: not measured.

Result: not measured.
"""

from search_spaces._speech import BASE, BRIEF, DECODED, MODULES, SMOKE, probed
from sweep.space import Float
from sweep.spec import Budget, Search, Sweep

WEIGHT = Float(1e-4, 1e-1, log=True, also=(0.0,))


def weights(*values: float) -> dict[str, float]:
    """A point of the space: the weight of each module."""
    return {f"method.kl_weight.{number}": value for number, value in enumerate(values)}


SWEEP = Sweep(
    name="sim_kl_per_module",
    description="a KL weight for each module of SIM by vowels from each and the dimensions that hold what is decoded",
    method="sim",
    data="deboer",
    base=BASE,
    space={f"method.kl_weight.{number}": WEIGHT for number in range(3)},
    known=(weights(0.01, 0.01, 0.01), weights(0.01, 0.04, 0.08), weights(0.01, 0.001, 0.0)),
    objectives=(
        "max vowel/module0/val/top1",
        "max vowel/module1/val/top1",
        "max vowel/module2/val/top1",
        "min interpolation_score/module0/val/area",
    ),
    evals={**probed(*MODULES), **DECODED, "collapse": {}},
    search=Search(startup=8),
    budget=Budget(trials=20),
    smoke={**SMOKE, **BRIEF},
)
