"""V3 on PhoneNums: how strongly content and style are to be told apart, and what it costs in reconstruction.

    sweep run v3_relativity                      pages are rendered, or DIR of --data-root holds PhoneNums
    sweep run v3_relativity --smoke              2 configurations on 64 small pages, 2 epochs

Searches relativity from 1 to 40, the weight of the hinges, whether the decoder gets the style of the fragment or of the
page (of which the follow-up says that it matters most), and for how many epochs. Judged by one-to-one accuracy of the
codes against reconstruction; the four areas of retrieval stand beside them. Tried first are the code's setting,
the same with the paper's weight, with the page's style for 50 epochs, and without hinges.

Time: the smoke run takes about a minute on 2 cores. The full run needs GPUs, see `resources`; it was not run.

Result: not measured at full size.
"""

from search_spaces._fragments import BASE, JUDGED, PAIR, RUN, SMOKE
from sweep.space import Choice, Float, Int
from sweep.spec import Budget, Sweep

SWEEP = Sweep(
    name="v3_relativity",
    description="V3's relativity, weight and style route by codes that are contents, against reconstruction",
    method="V3-repo",
    data="phonenums",
    base=BASE,
    space={
        "method.relativity": Float(1.0, 40.0, log=True),
        "method.beta": Float(0.01, 10.0, log=True, also=(0.0,)),
        "method.style_route": Choice(["fragment", "page_mean"]),
        "method.style_route_epochs": Int(25, 100, when={"method.style_route": "page_mean"}),
    },
    known=(
        {"method.relativity": 15.0, "method.beta": 1.0, "method.style_route": "fragment"},
        {"method.relativity": 15.0, "method.beta": 0.1, "method.style_route": "fragment"},
        {"method.relativity": 15.0, "method.beta": 1.0, "method.style_route": "page_mean",
         "method.style_route_epochs": 50},
        {"method.relativity": 15.0, "method.beta": 0.0, "method.style_route": "fragment"},
    ),
    objectives=PAIR,
    evals=JUDGED,
    budget=Budget(trials=40),
    **RUN,
    smoke=SMOKE,
)  # fmt: skip
