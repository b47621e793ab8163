"""Probes, their training and what is said of them against values of the original code of synesis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.evals import _bank_training, _label_shift, _moved, disentanglement, feature_equivariance, invariance
from trainables.evals._bank import Probe, Shape, State, bank_of
from trainables.evals._bank_training import BankConfig, History, Job, Rows
from trainables.evals._measures import measured
from trainables.evals.base import Features, Result
from trainables.evals.feature_equivariance import Norm

FOLDER = Path(__file__).parent / "synesis"


def golden(name: str) -> dict[str, Tensor]:
    with np.load(FOLDER / f"{name}.npz") as file:
        return {key: torch.from_numpy(file[key]) for key in file.files}


def close(actual: Any, expected: Tensor, atol: float = 1e-10) -> None:
    found = torch.as_tensor(actual, dtype=expected.dtype).detach()
    torch.testing.assert_close(found.reshape(expected.shape), expected, rtol=1e-7, atol=atol)


def weights(g: dict[str, Tensor], prefix: str = "w.") -> State:
    return {k.removeprefix(prefix): v for k, v in g.items() if k.startswith(prefix) and "batches_tracked" not in k}


def encoded(g: dict[str, Tensor], items: Tensor, name: str = "w.enc.l.") -> Tensor:
    """The tiny encoder of the stored runs: (n, ...) -> (n, 5)."""
    return torch.tanh(items.flatten(1) @ g[f"{name}weight"].T + g[f"{name}bias"])


def probe(shape: Shape, state: State) -> Probe:
    zeros, none = torch.zeros(shape.d_in).double(), torch.zeros(shape.d_out).double()
    return Probe(shape, state, zeros, zeros + 1, none, none + 1)


PROBES = {
    "regressor_slp": (Shape(8, 1), F.mse_loss),
    "regressor_mlp": (Shape(8, 1, (6, 5)), F.mse_loss),
    "regressor_actout": (Shape(6, 2, (5,), output="relu"), F.mse_loss),
    "regressor_paramemb": (Shape(6, 6, (7, 7), embedding=4), F.mse_loss),
    "classifier_mlp": (Shape(7, 3, (5, 4)), F.cross_entropy),
    "classifier_slp_bce": (Shape(6, 4), F.binary_cross_entropy_with_logits),
    "classifier_actout": (Shape(5, 3, (4,), output="softmax"), F.mse_loss),
}


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_and_its_gradients(name: str) -> None:
    """Two of them side by side, of which the second is another one, so that nothing runs over."""
    shape, loss = PROBES[name]
    g = golden(f"probe_{name}")
    state = weights(g)
    bank = bank_of(shape, [state, {key: value + 1 for key, value in state.items()}])
    x = g["x"].reshape(len(g["x"]), -1).requires_grad_()
    p = g["param"].clone().requires_grad_() if "param" in g else None
    out = bank(x, None if p is None else torch.stack([p, p]))[0]
    close(out, g["out"])
    found = loss(
        out, g["target"].reshape(out.shape) if out.is_floating_point() and g["target"].ndim > 1 else g["target"]
    )
    close(found, g["loss"])
    found.backward()
    close(x.grad, g["grad_x"])
    for key, parameter in bank.named_parameters():
        close(parameter.grad[0], g[f"g.{key}"])
        assert not parameter.grad[1].any()
    if p is not None:
        close(p.grad, g["grad_param"])


def trained(
    g: dict[str, Tensor], job: Job, shape: Shape, held: int, twins: int = 1, **options: Any
) -> tuple[list[State], History]:
    """A whole run from the stored first weights, without shuffling; the last `held` rows decide when to stop."""
    rows = torch.arange(len(job.x))
    cfg = BankConfig(metric_batch=1, standardise=False, begin="random", **options)
    start = bank_of(shape, [weights(g, "w.init.")] * twins)
    split = Rows(rows[:-held], rows[-held:])
    return _bank_training.fit([job] * twins, shape, split, cfg, 0, start=start, shuffle=False)


def check_states(found: State, expected: State) -> None:
    assert set(found) == set(expected)
    for key, value in expected.items():
        close(found[key], value, 1e-7)


@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_training_of_informativeness(keep: str) -> None:
    g = golden("info_train_regression")
    x, y = torch.cat([g["train_x"], g["val_x"]])[:, 0], torch.cat([g["train_y"], g["val_y"]])[:, None]
    options = {"lr": 0.06, "weight_decay": 0.01, "batch_size": 8, "epochs": 14, "patience": 2, "keep": keep}
    states, history = trained(g, Job(x, y, "number", 1), Shape(5, 1, (6,)), 17, **options)
    close(torch.cat(history.step), g["step_train_loss"], 1e-7)
    close(torch.cat(history.held), g["val_loss_mean"], 1e-7)
    assert history.best == [int(g["best_epoch"])] and history.epochs == [int(g["epochs_run"])]
    check_states(states[0], weights(g, f"w.{keep}."))
    told, true = probe(Shape(5, 1, (6,)), states[0])(g["test_x"][:, 0]), g["test_y"][:, None]
    for batch, which in ((5, "batch_mean"), (None, "global")):
        value = measured("number", ["mse"], told, true, batch=batch)["mse"]
        close(value, g[f"test_mse_{which}_{keep}"], 1e-7)


def test_a_test_of_classes() -> None:
    g = golden("info_eval_classification")
    scores = probe(Shape(5, 4, (6, 5)), weights(g))(g["x"][:, 0])
    close(scores, g["logits"])
    found = measured("class", ["accuracy", "f1"], scores, g["y"], batch=6)
    close(found["accuracy"], g["accuracy_batch_mean"], 1e-6)
    close(found["f1"], g["f1_batch_mean"], 1e-6)
    close(measured("class", ["accuracy"], scores, g["y"])["accuracy"], g["accuracy_global"], 1e-6)


def test_pairs_of_features() -> None:
    g = golden("equi_batch_image")
    original, transformed = (encoded(g, g["raw_pairs"][:, place], "w.l.") for place in (0, 1))
    close(_moved.beside(original, transformed), g["p_concat"])
    seen = pairs_of(original, transformed, g["label"])
    close(seen.unit, g["p_target"])
    job = feature_equivariance.job(seen, "all", feature_equivariance.Norm.of(original, "none"))
    close(job.x, g["r_orig"])
    close(job.y, g["r_trans"])
    close(job.p, g["r_param"])


def pairs_of(original: Tensor, transformed: Tensor, p: Tensor) -> _moved.Pairs:
    index = torch.arange(len(original))
    clean = Features({"all": original}, {}, {}, {}, index)
    units = {"hue_shift": p.reshape(-1, 1)}
    return _moved.Pairs(clean, Features({"all": transformed}, {}, {}, units, index), "hue_shift")


def split_of(g: dict[str, Tensor], *names: str) -> _moved.Pairs:
    """The pairs of these splits, one behind the other."""
    items = torch.cat([g[f"{name}_pairs"] for name in names])
    p = torch.cat([g[f"{name}_p"] for name in names])
    return pairs_of(encoded(g, items[:, 0]), encoded(g, items[:, 1]), p)


@pytest.mark.parametrize("twins", [1, 3])
def test_a_training_of_the_equivariance_of_parameters(twins: int) -> None:
    g = golden("equi_para_train")
    seen, shape = split_of(g, "train", "val"), Shape(10, 1, (6,))
    job = Job(_moved.beside(*seen.of("all")), seen.unit, "number", 1)
    options = {"lr": 0.01, "weight_decay": 0.001, "batch_size": 8, "epochs": 8, "patience": 2}
    for keep in ("last", "best"):
        states, history = trained(g, job, shape, 15, twins, keep=keep, **options)
        for state in states:
            check_states(state, weights(g, f"w.{keep}."))
    assert history.best == twins * [int(g["best_epoch"])] and history.epochs == twins * [int(g["epochs_run"])]
    close(torch.stack(history.step)[:, -1], g["step_train_loss"], 1e-7)
    close(torch.stack(history.held)[:, -1], g["val_loss"], 1e-7)
    test = split_of(g, "test")
    told = probe(shape, states[0])(_moved.beside(*test.of("all")))
    for batch, which in ((4, "batch_mean"), (None, "global")):
        found = measured("number", ["mse", "mae"], told, test.unit, batch=batch)
        close(found["mse"], g[f"test_mse_{which}"], 1e-7)
        close(found["mae"], g[f"test_mae_{which}"], 1e-7)


@pytest.mark.parametrize("norm", ["scalar", "batch"])
def test_a_training_of_the_equivariance_of_features(norm: str) -> None:
    g = golden("equi_feat_train" + "_batchnorm" * (norm == "batch"))
    scale = Norm(g["feature_mean"], g["feature_std"]) if norm == "scalar" else Norm(*torch.tensor([0.0, 1.0]).double())
    jobs = {name: feature_equivariance.job(split_of(g, *name.split()), "all", scale) for name in ("train val", "test")}
    shape = Shape(5, 5, (7, 7), embedding=4, batch_norm=norm == "batch")
    options = {"lr": 0.01, "weight_decay": 0.01, "batch_size": 8, "epochs": 5, "patience": 3}
    states, history = trained(g, jobs["train val"], shape, 15, **options)
    close(torch.cat(history.step), g["step_train_loss"], 1e-7)
    close(torch.cat(history.held), g["val_loss"], 1e-7)
    assert history.best == [int(g["best_epoch"])] and history.epochs == [int(g["epochs_run"])]
    check_states(states[0], weights(g, "w.best."))
    one, test = probe(shape, states[0]), jobs["test"]
    close(one(test.x, test.p), g["test_pred"], 1e-7)
    batches = feature_equivariance.judged(one, test, jobs["train val"], batch=4)
    close(batches["mse"], g["test_l2_original"], 1e-7)
    published = "cos" if norm == "batch" else "sign_agreement"  # (b, f) tensors there, (b, 1, f) ones here
    close(batches[published], g["test_cosine_original"], 1e-7)
    whole = feature_equivariance.judged(one, test, jobs["train val"])
    close(whole["mse"], g["test_mse_global"], 1e-7)
    close(whole["cos"], g["test_cosine_featuredim"], 1e-7)
    close(whole["sign_agreement"], g["test_sign_agreement"], 1e-7)


def test_distances_of_invariance() -> None:
    g = golden("invariance_distances")
    found = invariance.distances(*(encoded(g, g["pairs"][:, place], "w.l.") for place in (0, 1)))
    for name, own in (("l1", "l1_distance"), ("l2", "l2_distance"), ("cos", "cosine_similarity")):
        close(found[name], g[f"b1_{own}"], 1e-9)
    close(found["cos"], g["b4_cosine_similarity"], 1e-9)
    for own, whole in (("l1_distance", found["l1"]), ("l2_distance", found["l2"].square())):
        of_batch = torch.cat([some.sum().expand(len(some)) for some in whole.split(4)])
        published = of_batch if own == "l1_distance" else of_batch.sqrt()
        close(published, g[f"b4_{own}"], 1e-9)  # the same norm of a whole batch for each of its items


def test_the_curve_of_invariance() -> None:
    g = golden("invariance_curve")
    curve = invariance.smoothed(g["x"], g["y"])
    close(curve.unit, g["x_sorted"])
    close(curve.smooth, g["lowess"], 1e-8)
    close(curve.quartiles, torch.stack([g["q25"], g["median"], g["q75"]]), 1e-9)


def test_disentanglement_of_a_fixed_probe(tmp_path: Path) -> None:
    g = golden("disentanglement_eval")
    shape, y = Shape(5, 1, (6, 5)), g["y"][:, None]
    saved = probe(shape, weights(g, "w.probe.")).save(tmp_path / "probe_all_hue_mlp.safetensors")
    one = disentanglement.probe_of(Result({}, {saved.name: saved}), "all", "hue", "mlp", 5)
    told = [one(encoded(g, g["pairs"][:, place])) for place in (0, 1)]
    mse = [measured("number", ["mse"], some, y)["mse"] for some in told]
    close(mse[0], g["original_mse"], 1e-8)
    close(mse[1], g["transformed_mse"], 1e-8)
    close(mse[0] - mse[1], g["diff_mse"], 1e-8)
    close(measured("number", ["mse"], told[1], y, batch=4)["mse"], g["avg_loss_batch_mean"], 1e-8)
    rmse = [measured("number", ["rmse"], some, y, scale=float(g["scale"]))["rmse"] for some in told]
    close(rmse[0] - rmse[1], g["rmse_diff"], 1e-8)


def test_distributions_at_given_divergences() -> None:
    g = golden("label_shift_distributions")
    p, rng = g["original"].numpy(), np.random.RandomState(42)
    targets = _label_shift.targets(len(g["target_kl"]), 1.5)
    close(targets, g["target_kl"])
    found = [_label_shift.distribution(p, target, rng) for target in targets]
    assert all(near for _, near in found)
    close(np.array([q for q, _ in found]), g["accepted"], 1e-12)
    close([_label_shift.divergence(p, q) for q, _ in found], g["kl"], 1e-12)
