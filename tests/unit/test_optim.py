"""The optimisers and the learning-rate schedule."""

from typing import Any

import pytest
import torch
from torch import nn

from trainables.core.config import TrainConfig
from trainables.core.optim import LARS, build_optimizer, lr_multiplier, set_lr


def train(**options: Any) -> TrainConfig:
    values = {"lr": 0.1, "weight_decay": 1e-2, "warmup_epochs": 5, "epochs": 20}
    return TrainConfig(**{**values, **options})


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)).double()


def step(module: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> float:
    x = torch.randn(16, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    optimizer.zero_grad()
    loss = (module(x) - x[:, :2]).square().mean()
    loss.backward()
    optimizer.step()
    return float(loss.detach())


def test_warmup_begins_at_the_floor_and_peaks_at_its_end() -> None:
    assert lr_multiplier(train(), 0) == 1e-3
    assert lr_multiplier(train(), 5) == 1.0
    assert lr_multiplier(train(), 20) == pytest.approx(0, abs=1e-12)


def test_no_warmup() -> None:
    assert lr_multiplier(train(warmup_epochs=0), 0) == 1.0
    assert lr_multiplier(train(warmup_epochs=0), 10) == pytest.approx(0.5)
    assert lr_multiplier(train(warmup_epochs=0, schedule="constant"), 0) == 1.0


def test_exponential_decay_steps_once_an_epoch() -> None:
    options = train(warmup_epochs=0, schedule="exponential", decay=0.9)
    assert [lr_multiplier(options, epoch, 3, 10) for epoch in range(3)] == [1.0, 0.9, pytest.approx(0.81)]
    warmed = train(warmup_epochs=2, schedule="exponential", decay=0.9)
    assert [lr_multiplier(warmed, epoch) for epoch in range(4)] == [0.0, 0.5, 1.0, pytest.approx(0.9)]
    by_step = train(warmup_epochs=0, schedule="exponential", schedule_per="step", decay=0.9)
    assert lr_multiplier(by_step, 1, 5, 10) == pytest.approx(0.9**1.5)
    with torch.no_grad():
        optimizer = torch.optim.Adam(net().parameters(), lr=1.0)
        reference = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    for epoch in range(5):
        assert lr_multiplier(options, epoch) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        reference.step()


def test_a_warmup_that_does_not_rise_a_floor_and_a_cosine_that_comes_back() -> None:
    held = {"warmup_epochs": 2, "warmup_lr": 0.1}
    fallen = train(**held, schedule="exponential", decay=0.5, decay_epochs=2, final_lr=0.3)
    assert [lr_multiplier(fallen, epoch) for epoch in (0, 1, 2, 4, 6)] == [0.1, 0.1, 1.0, 0.5, 0.3]
    back = train(**held, period=4, final_lr=0.2)
    expected = [0.1, 0.1, 1.0, 0.6, 0.2, 0.6, 1.0]
    assert [lr_multiplier(back, epoch) for epoch in (0, 1, 2, 4, 6, 8, 10)] == [pytest.approx(x) for x in expected]
    assert lr_multiplier(train(**held, schedule="constant"), 1) == 0.1


def test_warmup_as_long_as_the_training() -> None:
    values = [lr_multiplier(train(warmup_epochs=20), epoch) for epoch in range(20)]
    assert values == sorted(values)
    assert values[-1] == pytest.approx(19 / 20)


def test_schedule_by_steps_passes_through_the_epochs() -> None:
    by_step = train(schedule_per="step")
    for epoch in (1, 5, 6, 19):
        assert lr_multiplier(by_step, epoch, 0, 10) == pytest.approx(lr_multiplier(train(), epoch))
    rising = [lr_multiplier(by_step, step // 10, step % 10, 10) for step in range(50)]
    falling = [lr_multiplier(by_step, step // 10, step % 10, 10) for step in range(50, 200)]
    assert rising == sorted(rising) and len(set(rising)) == 50
    assert falling == sorted(falling, reverse=True)


def test_set_lr_reaches_the_optimizer() -> None:
    options = train()
    optimizer = build_optimizer(net(), options)
    assert set_lr(optimizer, options, 2) == pytest.approx(0.1 * 2 / 5)
    assert [group["lr"] for group in optimizer.param_groups] == [pytest.approx(0.04)]


@pytest.mark.parametrize(("name", "kind"), [("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD), ("lars", LARS)])
def test_options_reach_the_optimizer(name: str, kind: type) -> None:
    optimizer = build_optimizer(net(), train(optimizer=name, momentum=0.7, betas=(0.8, 0.9)))
    assert isinstance(optimizer, kind)
    group = optimizer.param_groups[0]
    assert group["lr"] == 0.1 and group["weight_decay"] == 1e-2
    assert group["betas"] == (0.8, 0.9) if name == "adamw" else group["momentum"] == 0.7


def test_frozen_parameters_are_left_out() -> None:
    module = net()
    module[0].requires_grad_(False)
    optimizer = build_optimizer(module, train())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4


@pytest.mark.parametrize("name", ["adamw", "sgd", "lars"])
def test_training_goes_on_exactly_from_a_saved_state(name: str) -> None:
    options = train(optimizer=name)
    whole, first, second = net(), net(), net()
    optimizer = build_optimizer(whole, options)
    losses = [step(whole, optimizer, seed) for seed in range(6)]
    optimizer = build_optimizer(first, options)
    for seed in range(3):
        step(first, optimizer, seed)
    resumed = build_optimizer(second, options)
    second.load_state_dict(first.state_dict())
    resumed.load_state_dict(optimizer.state_dict())
    assert [step(second, resumed, seed) for seed in range(3, 6)] == losses[3:]


def test_lars_follows_its_formula() -> None:
    w, b = nn.Parameter(torch.tensor([[3.0, 4.0]])), nn.Parameter(torch.tensor([2.0]))
    optimizer = LARS([w, b], lr=0.5, momentum=0.9, weight_decay=0.1, trust=0.01)
    w.grad, b.grad = torch.tensor([[0.0, 2.0]]), torch.tensor([1.0])
    optimizer.step()
    ratio = 0.01 * 5 / (2 + 0.1 * 5)
    first = ratio * torch.tensor([[0.3, 2.4]])
    torch.testing.assert_close(w.data, torch.tensor([[3.0, 4.0]]) - 0.5 * first)
    torch.testing.assert_close(b.data, torch.tensor([2.0 - 0.5]))  # a bias: no adaptation, no decay
    b.grad = torch.tensor([1.0])
    optimizer.step()
    torch.testing.assert_close(b.data, torch.tensor([1.5 - 0.5 * 1.9]))


def test_lars_moves_weights_that_start_at_zero() -> None:
    w = nn.Parameter(torch.zeros(2, 2))
    optimizer = LARS([w], lr=0.1)
    w.grad = torch.ones(2, 2)
    optimizer.step()
    torch.testing.assert_close(w.data, torch.full((2, 2), -0.1))
