"""The decoder of SIM's latents: loss, its weight and learning rate are searched, the network is trained once.

    sweep run sim_decoder --data-root DIR          DIR holds Artificial Speech (`sweep data deboer`)
    sweep run sim_decoder --smoke                  2 configurations on synthesised words, 2 epochs

Every dimension is an option of the evaluation, so that all configurations share one pretraining. Whatever loss a
decoder is trained by, it is judged by two: squared error of the samples, and squared difference of mel spectra in
decibel, nearer to what is heard. Tried first are the two published choices, samples alone and samples with mel spectra
at weight 1, then the latter at 1e-4, where both terms are of one size.

Time: the smoke run took 76 s on 2 loaded cores; the full one was not run.

Result: not measured at more than the smoke run.
"""

from search_spaces._speech import BASE, DECODED, SMOKE, probed
from sweep.space import Choice, Float
from sweep.spec import Budget, Search, Sweep

LOSS, WEIGHT, RATE = (f"evals.latent_decoder.{option}" for option in ("loss", "weight", "training.lr"))
SUMS = ["mse_spectral", "mse_fft", "mse_mel"]

SWEEP = Sweep(
    name="sim_decoder",
    description="loss, weight and learning rate of the decoder by samples and by mel spectra",
    method="sim",
    data="deboer",
    base={**BASE, "method.kl_weight": 0.001},
    space={
        LOSS: Choice(["mse", "spectral", "fft", "mel", *SUMS]),
        WEIGHT: Float(1e-6, 1.0, log=True, when={LOSS: SUMS}),
        RATE: Float(1e-4, 1e-2, log=True),
    },
    known=(
        {LOSS: "mse", RATE: 5e-3},
        {LOSS: "mse_mel", WEIGHT: 1.0, RATE: 5e-3},
        {LOSS: "mse_mel", WEIGHT: 1e-4, RATE: 5e-3},
    ),
    objectives=("min latent_decoder/module0/val/mse", "min latent_decoder/module0/val/mel"),
    evals={**probed("module0"), "latent_decoder": DECODED["latent_decoder"]},
    search=Search(startup=6),
    budget=Budget(trials=16),
    smoke={**SMOKE, "evals.latent_decoder.training.epochs": 1},
)
