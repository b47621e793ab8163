"""Probes, their training and what is said of them against values of the original code of synesis."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from trainables.evals import _bank_training
from trainables.evals._bank import Probe, Shape, State, bank_of
from trainables.evals._bank_training import BankConfig, History, Job, Rows
from trainables.evals._measures import measured

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
    cfg = BankConfig(metric_batch=1, standardise=False, **options)
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
