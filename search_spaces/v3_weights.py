"""V3 on PhoneNums: which of its terms matter, each by a weight of its own, down to none.

    sweep run v3_weights                         pages are rendered, or DIR of --data-root holds PhoneNums
    sweep run v3_weights --smoke                 2 configurations on 64 small pages, 2 epochs

Searches the weights of the four hinges and of the commitment. Judged by the objective of V3's description, the mean
area under precision and recall of each part by its own labels less that of the other's. Tried first are all terms, each
of the four left out, and none of them.

Time: the smoke run takes about a minute on 2 cores. The full run needs GPUs, see `resources`; it was not run.

Result: not measured at full size.
"""

from search_spaces._fragments import BASE, JUDGED, RUN, SMOKE
from sweep.space import Float
from sweep.spec import Budget, Sweep

HINGES = ("content", "style", "sample", "fragment")
WHOLE = {**{f"method.weights.{name}": 1.0 for name in HINGES}, "method.weights.commit": 0.1}
SWEEP = Sweep(
    name="v3_weights",
    description="the weights of V3's terms by retrieval of contents and styles",
    method="V3-repo",
    data="phonenums",
    base=BASE,
    space={
        **{f"method.weights.{name}": Float(0.01, 10.0, log=True, also=(0.0,)) for name in HINGES},
        "method.weights.commit": Float(1e-3, 1.0, log=True, also=(0.0,)),
    },
    known=(
        WHOLE,
        *({**WHOLE, f"method.weights.{name}": 0.0} for name in HINGES),
        {**WHOLE, **{f"method.weights.{name}": 0.0 for name in HINGES}},
    ),
    objectives=("max retrieval/all/val/disentangled",),
    evals=JUDGED,
    budget=Budget(trials=40),
    **RUN,
    smoke=SMOKE,
)
