"""Many probes trained at once: each is what it would be alone; exact ones; files; options of the presets."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datasets.config import ConfigError, parse
from trainables.evals import _bank, _bank_training, _measures, probes
from trainables.evals._bank_training import BankConfig, Job, Kind, Rows

N = 120


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def rows() -> Rows:
    return Rows(torch.arange(N)[:90], torch.arange(N)[90:])


def made(seed: int, kind: Kind = "number") -> Job:
    """Something that a network reads of features, for some seeds in some epochs, for others in many."""
    x = torch.randn(N, 6, generator=rng(seed))
    y = (x[:, :1] * x[:, 1:2] * seed).sin() + 0.1 * seed * torch.randn(N, 1, generator=rng(seed + 100))
    match kind:
        case "class":
            return Job(x, (y[:, 0] > 0).long(), kind, 3)
        case "tags":
            return Job(x, (torch.cat([y, -y], 1) > 0).float(), kind, 2)
    return Job(x, y, kind, 1, centre=y.mean(0), spread=y.std(0))


def config(**options: Any) -> BankConfig:
    found: BankConfig = parse(
        BankConfig, {"epochs": 60, "patience": 3, "lr": 0.02, "hidden": (8,), "batch_size": 16, **options}, ""
    )
    return found


@pytest.mark.parametrize("kind", ["number", "class", "tags"])
@pytest.mark.parametrize("keep", ["best", "last"])
def test_trained_together_or_alone(kind: Kind, keep: str) -> None:
    jobs, cfg = {seed: made(seed, kind) for seed in (1, 2, 5)}, config(keep=keep, probes=("mlp",), epochs=20)
    together = _bank_training.fitted(jobs, cfg, rows(), seed=0)
    for seed, job in jobs.items():
        alone = _bank_training.fitted({seed: job}, cfg, rows(), seed=0)
        torch.testing.assert_close(together[seed, "mlp"](job.x), alone[seed, "mlp"](job.x), rtol=1e-3, atol=1e-4)


def plain(job: Job, shape: _bank.Shape, split: Rows, cfg: BankConfig, state: _bank.State) -> tuple[_bank.State, int]:
    """The published loop of one probe by torch's own layers and losses, in the order of the rows; and its epochs."""
    layers: list[nn.Module] = []
    sizes = [shape.d_in, *shape.hidden]
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), nn.ReLU()]
    layers.append(nn.Linear(sizes[-1], shape.d_out))
    last = {"none": [], "relu": [nn.ReLU()], "sigmoid": [nn.Sigmoid()], "softmax": [nn.Softmax(-1)]}
    net = nn.Sequential(*layers, *last[shape.output]).double()
    net.load_state_dict({name.removeprefix("layers."): value for name, value in state.items()})
    loss = {"number": nn.MSELoss(), "class": nn.CrossEntropyLoss(), "tags": nn.BCEWithLogitsLoss()}[job.kind]
    adam = torch.optim.Adam(net.parameters(), lr=cfg.lr, weight_decay=cfg.weight_decay)
    lowest, waited, kept, epochs = float("inf"), 0, net.state_dict(), 0
    while epochs < cfg.epochs and waited < cfg.patience:
        epochs, waited = epochs + 1, waited + 1
        for batch in split.train.split(cfg.batch_size):
            adam.zero_grad()
            loss(net(job.x[batch]), job.y[batch]).backward()
            adam.step()
        with torch.no_grad():
            held = [float(loss(net(job.x[batch]), job.y[batch])) for batch in split.held.split(cfg.batch_size)]
        if np.mean(held) < lowest:
            lowest, waited = float(np.mean(held)), 0
            kept = {name: value.clone() for name, value in net.state_dict().items()}
    chosen = kept if cfg.keep == "best" else net.state_dict()
    return {f"layers.{name}": value for name, value in chosen.items()}, epochs


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("hidden", [(), (8,)])
@pytest.mark.parametrize(
    ("kind", "output"),
    [("number", "none"), ("number", "relu"), ("number", "sigmoid"), ("class", "none"), ("class", "softmax"),
     ("class", "sigmoid"), ("tags", "none"), ("tags", "sigmoid")],
)  # fmt: skip
def test_a_training_is_the_published_loop(kind: Kind, output: _bank.Output, hidden: tuple[int, ...], keep: str) -> None:
    """Each kind of what is read and of last activation, the last batches not full, beside another probe."""
    cfg = config(keep=keep, lr=0.05, weight_decay=0.01, output=output, begin="random", metric_batch=1, slp="adam")
    jobs = [Job(one.x.double(), one.y if kind == "class" else one.y.double(), kind, one.outputs)
            for one in (made(2, kind), made(5, kind))]  # fmt: skip
    shape = _bank.Shape(6, jobs[0].outputs, hidden, output=output)
    start = _bank.Bank(shape, 2, rng(7), torch.double)
    split = Rows(torch.arange(87), torch.arange(87, N))
    expected = [plain(job, shape, split, cfg, start.state(place)) for place, job in enumerate(jobs)]
    states, history = _bank_training.fit(jobs, shape, split, cfg, 0, start=start, shuffle=False)
    for state, epochs, (own, ran) in zip(states, history.epochs, expected, strict=True):
        assert epochs == ran
        for name, value in own.items():
            torch.testing.assert_close(state[name], value, rtol=1e-6, atol=1e-8)


def test_the_activation_of_the_options_is_that_of_the_probe() -> None:
    job = made(2)
    job = Job(job.x, (job.y > 0).float(), "number", 1)
    options = {"output": "sigmoid", "begin": "random", "slp": "adam", "epochs": 5}
    found = _bank_training.fitted({0: job}, config(**options), rows(), 0)
    for probe in found.values():
        told = probe(100 * job.x)
        assert probe.shape.output == "sigmoid" and 0 <= float(told.min()) < 0.1 < 0.9 < float(told.max()) <= 1


def test_each_stops_for_itself_and_its_best_epoch_is_kept() -> None:
    jobs, cfg = [made(seed) for seed in range(1, 7)], config()
    ready = [one for one, *_ in _bank_training._ready(dict(enumerate(jobs)), cfg).values()]
    shape = _bank.Shape(6, 1, (8,))
    states, history = _bank_training.fit(ready, shape, rows(), cfg, 0)
    assert len(set(history.epochs)) > 2, "they stop at different epochs"
    held = torch.stack(history.held)
    for job, (best, epochs) in enumerate(zip(history.best, history.epochs, strict=True)):
        mine = held[:, job]
        assert mine[epochs:].isnan().all() and mine[:epochs].isfinite().all()
        assert epochs in (best + 1 + cfg.patience, cfg.epochs)
        if best < 0:  # the mean is told, as nothing is better
            assert float(mine[0]) > float(ready[job].y[rows().held].square().mean())
            continue
        assert int(mine[:epochs].argmin()) == best
        bank = _bank.bank_of(shape, [states[job]]).eval()
        again = _bank_training.losses(bank, ready, rows().held, [job]).detach()
        assert float(again[0]) == pytest.approx(float(mine[best]), rel=1e-5), "its weights are those of that epoch"


def test_shared_features_or_copies_of_them() -> None:
    first = made(1)
    second = Job(first.x, -2 * first.y, "number", 1)
    copied = Job(first.x.clone(), second.y, "number", 1)
    cfg = config(probes=("mlp",))
    shared = _bank_training.fitted({0: first, 1: second}, cfg, rows(), 0)
    apart = _bank_training.fitted({0: first, 1: copied}, cfg, rows(), 0)
    for key in shared:
        torch.testing.assert_close(shared[key](first.x), apart[key](first.x), rtol=1e-3, atol=1e-4)


def test_draws_of_an_item_come_in_turn() -> None:
    several = Rows(torch.arange(12), torch.arange(12, 18), draws=3)
    assert several.epoch(0).tolist() == [0, 3, 6, 9] and several.epoch(4).tolist() == [1, 4, 7, 10]


def test_a_batch_norm_trains_side_by_side() -> None:
    jobs = {seed: Job(made(seed).x, made(seed).x.roll(1, 1), "number", 6, p=torch.rand(N, 1)) for seed in (1, 2, 3)}
    cfg = config(probes=("mlp",), standardise=False)
    together = _bank_training.fitted(jobs, cfg, rows(), 0, embedding=4, batch_norm=True)
    for seed, job in jobs.items():
        alone = _bank_training.fitted({seed: job}, cfg, rows(), 0, embedding=4, batch_norm=True)
        torch.testing.assert_close(
            together[seed, "mlp"](job.x, job.p), alone[seed, "mlp"](job.x, job.p), rtol=1e-3, atol=1e-3
        )


def test_one_layer_is_the_exact_one() -> None:
    job, split = made(2), rows()
    found = _bank_training.fitted({0: job}, config(), split, 0)[0, "slp"]
    expected = probes.ridge(job.x, job.y, split.mask)
    torch.testing.assert_close(found(job.x), expected(job.x))


def test_one_layer_is_told_of_a_parameter_by_hinges() -> None:
    """What moves with a bent function of the parameter is read exactly; and its file says the same."""
    x, p = torch.randn(N, 3, generator=rng()), torch.rand(N, 1, generator=rng(1))
    y = x + (p - 0.5).abs()
    found = _bank_training.exact(Job(x, y, "number", 3, p=p), rows().mask, 0, embedding=8)
    torch.testing.assert_close(found(x, p), y.double(), rtol=0, atol=2e-3)
    without = _bank_training.exact(Job(x, y, "number", 3), rows().mask, 0)
    assert float((without(x) - y).abs().mean()) > 0.05


@pytest.mark.parametrize(
    "shape",
    [
        _bank.Shape(4, 2), _bank.Shape(4, 3, (5, 6), output="softmax"), _bank.Shape(4, 4, (5,), 3, batch_norm=True)
    ],
)  # fmt: skip
def test_a_file_is_the_probe(shape: _bank.Shape, tmp_path: Path) -> None:
    state = _bank.Bank(shape, 1, rng()).state(0)
    own = [torch.rand(size, generator=rng(size)) + 1 for size in (4, 4, shape.d_out, shape.d_out)]
    probe = _bank.Probe(shape, state, *own)
    again = _bank.read(probe.save(tmp_path / "probe.safetensors"))
    x, p = torch.randn(7, 4), torch.rand(7, 1) if shape.embedding else None
    assert again.shape == shape and torch.equal(again(x, p), probe(x, p))


def test_what_is_no_probe_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "probe.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(ConfigError, match="is no probe"):
        _bank.read(path)
    probes.ridge(torch.randn(9, 2), torch.randn(9, 1), torch.arange(9) > 6).save(path)
    with pytest.raises(ConfigError, match="is no probe"):
        _bank.read(path)


def test_measures_of_classes_and_tags() -> None:
    scores = torch.tensor([[3.0, 1, 0], [2, 1, 0], [0, 2, 1], [0, 1, 2.5], [1, 0, 0]])
    y = torch.tensor([0, 1, 1, 2, 0])
    assert _measures.macro_f1(scores, y) == pytest.approx((0.8 + 2 / 3 + 1) / 3)
    from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

    assert _measures.macro_f1(scores, y) == pytest.approx(f1_score(y, scores.argmax(1), average="macro"))
    values = torch.randn(200, 4, generator=rng()).round(decimals=1)  # with ties
    tags = (values + torch.randn(200, 4, generator=rng(1)) > 0.5).float()
    assert _measures.macro_auroc(values, tags) == pytest.approx(roc_auc_score(tags, values))
    assert _measures.macro_precision(values, tags) == pytest.approx(average_precision_score(tags, values))
    none = torch.zeros(200, 4)
    assert _measures.macro_auroc(values, none) == 0.5 and _measures.macro_precision(values, none) == 0


def test_names_of_measures() -> None:
    assert _measures.chosen("class", ()) == ["accuracy", "macro_f1"]
    assert _measures.chosen("number", ("mse", "accuracy")) == ["mse"]
    with pytest.raises(ConfigError, match=r"measures: there is no 'rsme'; did you mean 'rmse'"):
        _measures.check(("rsme",))


def test_features_that_say_nothing_are_not_read_for_the_worse() -> None:
    noise: Tensor = torch.randn(400, 16, generator=rng())
    y = torch.randn(400, 1, generator=rng(5))
    split = Rows(torch.arange(300), torch.arange(300, 350))
    job = Job(noise[:350], y[:350], "number", 1, centre=y[:350].mean(0), spread=y[:350].std(0))
    for probe in _bank_training.fitted({0: job}, config(hidden=(32,), lr=1e-3), split, 0).values():
        assert _measures.mse(probe(noise[350:]), y[350:]) < 1.15 * float(y[350:].var())
