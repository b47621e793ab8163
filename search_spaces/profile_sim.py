"""SIM's KL weight on Artificial Speech against all four axes, module by module.

    sweep run profile_sim --data-root DIR                 DIR holds Artificial Speech (`sweep data deboer`)
    sweep run profile_sim --smoke                         2 configurations on synthesised words, 2 epochs
    sweep report runs/profile_sim                         the axes along the weight, `profile-method.kl_weight`

Searches beta from 1e-4 to 0.1 on a log scale, and 0. Judged are the means of the frames of each module and of the
context: whether vowel and consonant of a syllable are readable, how far it was moved in pitch, noise, tempo and
reverberation, whether the features follow, how near they stay, and whether probes of vowels are misled by noise and
pitch. Means of frames are all alike, so that a cosine near 1 says nothing where `invariance_chance` is as high: it is
no objective. Tried first are the published weight of words, 0.01, and none.

Time: the smoke run takes less than 2 minutes on 2 cores; it was not run in full.

Result: not measured at full size.
"""

from search_spaces import _profile
from search_spaces._profile import SOUNDS, profiled
from search_spaces._speech import BASE, MODULES
from search_spaces._speech import SMOKE as SHORT
from sweep.space import Float
from sweep.spec import Budget, Search, Sweep

SWEEP = Sweep(
    name="profile_sim",
    description="SIM's KL weight against informativeness, equivariance, invariance and disentanglement of each module",
    method="sim",
    data="deboer",
    base=BASE,
    space={"method.kl_weight": Float(1e-4, 1e-1, log=True, also=(0.0,))},
    known=tuple({"method.kl_weight": weight} for weight in (0.01, 0.0, 0.001)),
    objectives=(
        "max profile/module2/val/informativeness",
        "max profile/module2/val/parameter_equivariance",
    ),
    evals={**profiled(MODULES, ["vowel", "consonant"], SOUNDS, limit=500), "collapse": {}},
    search=Search(startup=6),
    budget=Budget(trials=9),
    smoke={**SHORT, **_profile.SMOKE, **{f"evals.{name}.limit": 60 for name in (*_profile.PROBES, "invariance",
           "disentanglement", "profile")}},
)  # fmt: skip
