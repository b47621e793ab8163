"""V3 on PhoneNums: size, pace and revival of its codebook, against purity and the one-to-one map.

    sweep run v3_codebook                        pages are rendered, or DIR of --data-root holds PhoneNums
    sweep run v3_codebook --smoke                2 configurations on 64 small pages, 2 epochs

Searches the number of codes from one to four for each digit, the pace of their averages, from what usage on a code is
dead, the width in which contents are quantised, and the penalty on pages of low rank. More codes than digits make it
easier that a code stands for one digit (`purity`), and impossible that a digit has one code (`one_to_one`). Tried first
are the code's setting, the same with the paper's pace and threshold, and with two and four codes for each digit.

Time: the smoke run takes about a minute on 2 cores. The full run needs GPUs, see `resources`; it was not run.

Result: not measured at full size.
"""

from search_spaces._fragments import BASE, JUDGED, RUN, SMOKE
from sweep.space import Choice, Float
from sweep.spec import Budget, Sweep

PUBLISHED = {
    "method.atoms": 10, "method.decay": 0.98, "method.dead": 0.5, "method.codebook_width": None,
    "method.rank_weight": 0.0,
}  # fmt: skip
SWEEP = Sweep(
    name="v3_codebook",
    description="V3's codebook by codes that stand for one digit, and digits that have one code",
    method="V3-repo",
    data="phonenums",
    base=BASE,
    space={
        "method.atoms": Choice([10, 15, 20, 40]),
        "method.decay": Float(0.8, 0.999),
        "method.dead": Choice([0.0, 0.05, 0.1, 0.2, 0.5]),
        "method.codebook_width": Choice([None, 4, 8, 16]),
        "method.rank_weight": Float(1e-3, 1e-1, log=True, also=(0.0,)),
    },
    known=(
        PUBLISHED,
        {**PUBLISHED, "method.decay": 0.95, "method.dead": 0.1},
        {**PUBLISHED, "method.atoms": 20},
        {**PUBLISHED, "method.atoms": 40},
    ),
    objectives=("max codes/content/val/one_to_one", "max codes/content/val/purity"),
    evals=JUDGED,
    budget=Budget(trials=40),
    **RUN,
    smoke=SMOKE,
)
