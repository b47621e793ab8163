"""AugSelf on 3DIEBench: how much regression of the pose, and what it costs the class.

    sweep run augself --data-root DIR                     DIR holds 3DIEBench, or a set that was rendered
    sweep run augself --smoke                             2 configurations on generated solids, 2 epochs

Searches the weight of the regression and the temperature against class accuracy and the R2 of the relative rotation.
Tried first is SIE's baseline, weight 1, then 10: the error of a quaternion is at most about 0.2 where InfoNCE is
several nats.

Time: the smoke run takes about 2 minutes on 2 cores. The full run needs GPUs, see `resources`; it was not run.

Result: not measured at full size.
"""

from search_spaces._renders import BASE, RUN, SMOKE, judged
from sweep.space import Float
from sweep.spec import Budget, Sweep

SWEEP = Sweep(
    name="augself",
    description="the weight of pose regression against class accuracy and rotation R2",
    method="augself",
    data="bench3die",
    base=BASE,
    space={"method.ec": Float(0.1, 100.0, log=True), "method.temperature": Float(0.05, 1.0, log=True)},
    known=({"method.ec": 1.0, "method.temperature": 0.1}, {"method.ec": 10.0, "method.temperature": 0.1}),
    objectives=("max linear/all/val/top1", "max relation/all/val/rotation_r2"),
    evals=judged("all", predicts=False),
    budget=Budget(trials=40),
    **RUN,
    smoke=SMOKE,
)
