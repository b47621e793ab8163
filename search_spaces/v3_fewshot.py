"""V3 on vectors in styles it has not seen: how to train on a few pages of them, for codes that still name contents.

    sweep run v3_fewshot                         no data needed
    sweep run v3_fewshot --smoke                 2 configurations, 1 epoch

Searches rate and epochs of the few-shot training, whether the codebook stays as it is, and relativity: options of an
evaluation, so that configurations of one relativity share their pretraining. Judged by the accuracy of codes, named by
the pages of the training, on pages of eight other styles, after one page of each, and after ten. Tried first are the
published settings, a rate of 1e-4 for 1 epoch, which with one page of each style is a single step, and a tenfold rate
for 10 epochs. Of digits: `--set data=phonenums --set evals.ood.data="{name: phonenums, palette: ood}"`.

Time: a minute on 2 cores.

Result: of one seed, `val`: the published settings name 0.869 of the contents right after one page of each style and
0.873 after ten, where 0.867 are without any training; ten epochs at 1e-3 0.885 and 0.898. The best, 40 epochs at 5e-4
with a codebook that moves, relativity 40, 0.997 and 1.000.
"""

from search_spaces.v3_toy import BASE, REFERENCE
from sweep.space import Choice, Float, Int
from sweep.spec import Budget, Search, Sweep

PUBLISHED = {
    "method.relativity": 15.0, "evals.ood.lr": 1e-4, "evals.ood.epochs": 1, "evals.ood.freeze_codebook": True,
}  # fmt: skip
SWEEP = Sweep(
    name="v3_fewshot",
    description="few-shot training of V3 on pages of unseen styles, by what its codes then name",
    method="V3-paper",
    data="pages",
    base={**BASE, "method.beta": REFERENCE["method.beta"]},
    space={
        "method.relativity": Choice([5.0, 15.0, 40.0]),
        "evals.ood.lr": Float(1e-5, 1e-2, log=True),
        "evals.ood.epochs": Int(1, 50, log=True),
        "evals.ood.freeze_codebook": Choice([True, False]),
    },
    known=(PUBLISHED, {**PUBLISHED, "evals.ood.lr": 1e-3, "evals.ood.epochs": 10}),
    objectives=("max ood/all/val/shots_1", "max ood/all/val/shots_10"),
    evals={"ood": {"data": {"name": "pages", "styles": "unseen"}, "shots": [1, 10]}, "codes": {"name": "codebook"}},
    search=Search(startup=8),
    budget=Budget(trials=20),
    smoke={"budget.trials": 2, "data.limit": 320, "train.epochs": 1, "train.checkpoint_every": 1},
)
