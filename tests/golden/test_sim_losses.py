"""InfoNCE, the KL term and classifiers of SIM, Greedy InfoMax and CPC against values of their original codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.base import Batch, Spec
from trainables.losses.divergence import standard_normal_kl
from trainables.losses.info_nce import InfoNCE, Negatives, Sampling, grid_info_nce, info_nce
from trainables.nets.latent import Latent
from trainables.nets.patches import delta_orthogonal_
from trainables.sim import SIM
from trainables.supervised import Supervised

FOLDER = Path(__file__).parent / "sim"
SLACK = 2  # queries; a negative that is the positive itself makes a tie, which rounding decides


def golden(name: str) -> dict[str, Any]:
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        return {key: torch.from_numpy(file[key]) if file[key].dtype.kind in "fi" else file[key] for key in file.files}


def close(actual: Tensor | None, expected: Tensor, rtol: float = 1e-9, atol: float = 1e-10) -> None:
    assert actual is not None
    torch.testing.assert_close(actual.detach().reshape(expected.shape), expected, rtol=rtol, atol=atol)


def hits_close(found: InfoNCE, accuracy: Tensor, queries: int) -> None:
    """`queries` of a step at least."""
    assert abs(float(found.hits.mean()) / 100 - float(accuracy)) <= SLACK / queries + 1e-12


def leaves(*tensors: Tensor) -> list[Tensor]:
    return [tensor.clone().requires_grad_() for tensor in tensors]


def compare(g: dict[str, Any], sampling: Sampling, drawn: Any, start: int = 0) -> None:
    c, z, weight = leaves(g["in_c"], g["in_z"], g["w_predictor"])
    steps, length = weight.shape[0] // z.shape[2], z.shape[1]
    window = min(length, 128)
    negatives = Negatives(sampling, drawn, total=len(z), start=start)
    found = info_nce(F.linear(c[:, start : start + window], weight), z, negatives)
    close(found.values.mean(), g["out_loss"])
    hits_close(found, g["out_accuracy"], len(z) * (window - steps))
    found.values.mean().backward()
    close(c.grad, g["grad_c"])
    close(z.grad, g["grad_z"])
    if "grad_predictor" in g:
        close(weight.grad, g["grad_predictor"])


def test_negatives_from_all_frames() -> None:
    g = golden("infonce_audio_a")
    compare(g, "any", g["rnd_perm"])


def test_a_window_of_contexts_and_positives() -> None:
    g = golden("infonce_audio_subsample_a")
    compare(g, "any", g["rnd_perm"], int(g["rnd_seq_begin"]))


def test_negatives_that_are_never_the_positive() -> None:
    g = golden("gim_negatives_exclusive_a")
    compare(g, "exclusive", [g[f"rnd_offset_k{j}"].long() for j in (1, 2, 3)])


def test_negatives_of_the_same_sequence() -> None:
    g = golden("gim_negatives_same_sequence_a")
    compare(g, "sequence", g["rnd_perm"])


def test_the_objective_of_a_module() -> None:
    g = golden("sim_objective_a")
    mean, logvar, weight = leaves(g["in_mu"], g["in_logvar"], g["w_predictor"])
    latent = Latent(mean, logvar)
    c, z = latent.sample(g["rnd_eps_c"]), latent.sample(g["rnd_eps_z"])
    close(z, g["out_z"])
    found = info_nce(F.linear(c, weight), z, Negatives("any", g["rnd_perm"], total=len(mean)))
    kl = SIM.divergence(None, latent)["time"].mean()  # type: ignore[arg-type]
    close(found.values.mean(), g["out_nce"])
    close(kl, g["out_kld"])
    hits_close(found, g["out_accuracy"], 4 * 10)
    total = found.values.mean() + 0.01 * kl
    close(total, g["out_total"])
    total.backward()
    close(mean.grad, g["grad_mu"])
    close(logvar.grad, g["grad_logvar"])
    close(weight.grad, g["grad_predictor"])


def test_the_other_reduction_of_the_divergence_is_that_of_the_papers() -> None:
    g = golden("sim_objective_a")
    latent = Latent(g["in_mu"], g["in_logvar"])
    found = SIM.divergence(None, latent)  # type: ignore[arg-type]
    per_vector = standard_normal_kl(g["in_mu"], g["in_logvar"]).sum(-1).mean()
    close(found["channels"].mean(), per_vector)
    length, channels = g["in_mu"].shape[1:]
    close(found["time"].mean(), per_vector * length / channels)


def test_on_a_grid() -> None:
    g = golden("vision_infonce_a")
    z, c = leaves(g["in_z"], g["in_c"])
    weights = leaves(*(g[f"w_W{k}"] for k in range(1, 6)))
    drawn = [g[f"rnd_neg_k{k}"].long().view(6 - k, 7, 2, 4) for k in range(1, 6)]
    projected = F.linear(z.permute(0, 2, 3, 1), torch.cat(weights))
    found = grid_info_nce(c.permute(0, 2, 3, 1), projected, drawn)
    close(found.values.mean(), g["out_loss"])
    found.values.mean().backward()
    close(z.grad, g["grad_z"])
    close(c.grad, g["grad_c"])
    for k, weight in enumerate(weights, start=1):
        close(weight.grad, g[f"grad_W{k}"])


@pytest.mark.parametrize(("name", "classes"), [("syllables", 9), ("vowels_nobias", 3), ("speaker", 251)])
def test_classifiers_of_means_over_time(name: str, classes: int) -> None:
    """Their speakers are numbered in the order of the lists; that is a matter of the data."""
    g = golden(f"head_{name}_a")
    (c,) = leaves(g["in_c"])
    target = g["out_label_ids"] if name == "speaker" else g["in_target"]
    options = Supervised.Config(bias="w_bias" in g)
    method = Supervised(options, Spec(shape=(1, 640), labels={"what": classes}))
    head = torch.nn.Linear(c.shape[2], classes, bias=options.bias).double()
    head.load_state_dict({key.removeprefix("w_"): value for key, value in g.items() if key.startswith("w_")})
    ce, hits = method.judge(head, c, target)
    close(ce.mean(), g["out_loss"])
    close(hits.mean() / 100, g["out_accuracy"])
    ce.mean().backward()
    close(c.grad, g["grad_c"])
    close(head.weight.grad, g["grad_weight"])
    if "grad_bias" in g:
        close(head.bias.grad, g["grad_bias"])


def test_the_classifier_of_images_reads_the_mean_over_patches() -> None:
    g = golden("vision_head_a")
    logits = F.linear(g["in_x"].flatten(2).mean(2), g["w_weight"], g["w_bias"])
    close(logits, g["out_logits"])
    spec = Spec(shape=(3, 64, 64), labels={"class": 10})
    encoder = {"name": "resnet34", "channels": 2, "blocks": (1, 1, 1)}
    method = Supervised(Supervised.Config(encoder=encoder), spec).double()
    x = torch.randn(4, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([1, 2, 3, 4])
    grid = method.frames(x)["module2"].transpose(1, 2).unflatten(2, (7, 7))
    expected = F.cross_entropy(method.heads["2"](F.avg_pool2d(grid, 7)[:, :, 0, 0]), target)
    loss = method(Batch([x], torch.arange(4), labels={"class": target}))["loss"]
    torch.testing.assert_close(loss, expected)


def test_delta_orthogonal_weights() -> None:
    g = golden("vision_delta_orthogonal_a")
    gain = float(g["in_gain"])
    made = delta_orthogonal_(torch.ones_like(g["out_w"]), gain)
    for weight in (g["out_w"], made):
        centre = weight[:, :, 1, 1]
        close(centre.T @ centre, g["out_gram"], atol=1e-9)
        weight[:, :, 1, 1] = 0
        assert not weight.any()
    assert float(g["out_gram"][0, 0]) == pytest.approx(gain**2)
