"""SIM, GIM and CPC on Artificial Speech: the method itself is searched, SIM with its KL weight.

    sweep run sim_vs_gim_vs_cpc --data-root DIR    DIR holds Artificial Speech (`sweep data deboer`)
    sweep run sim_vs_gim_vs_cpc --smoke            3 configurations on synthesised words, 2 epochs

The three share convolutions, GRU and training. They differ in where gradients stop, nowhere in CPC, and in whether
latents are distributions, only in SIM. Judged by vowels and by syllables from the context; the probes of the single
modules stand beside it.

Time: not measured.

Result: not measured.
"""

from search_spaces._speech import BASE, SMOKE, probed
from sweep.space import Choice, Float
from sweep.spec import Budget, Sweep

SWEEP = Sweep(
    name="sim_vs_gim_vs_cpc",
    description="three methods, SIM with its KL weight, by vowels and syllables from the context",
    method="sim",
    data="deboer",
    base=BASE,
    space={
        "method": Choice(["sim", "gim", "cpc"]),
        "method.kl_weight": Float(1e-4, 1e-1, log=True, also=(0.0,), when={"method": "sim"}),
        "method.encoder.name": Choice(["cpc_extra_audio", "cpc_audio"], when={"method": "cpc"}),
    },
    known=(
        {"method": "sim", "method.kl_weight": 0.01},
        {"method": "gim"},
        {"method": "cpc", "method.encoder.name": "cpc_extra_audio"},
        {"method": "cpc", "method.encoder.name": "cpc_audio"},
        {"method": "sim", "method.kl_weight": 0.001},
    ),
    objectives=("max vowel/context/val/top1", "max syllable/context/val/top1"),
    evals={**probed("*"), "collapse": {}},
    budget=Budget(trials=9),
    smoke={**SMOKE, "budget.trials": 3},
)
