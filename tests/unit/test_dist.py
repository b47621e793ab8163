"""Gathering and synchronised batch normalisation in a single process, where they change nothing."""

import pytest
import torch
from torch import nn

from trainables.core import dist
from trainables.core.dist import SyncBatchNorm, convert_batchnorm


def test_a_single_process_is_its_own_world() -> None:
    x = torch.randn(5, 3)
    assert dist.world() == 1 and dist.rank() == 0
    assert dist.gather(x) is x
    assert dist.sizes(5) == [5] and dist.offset([5]) == 0 and dist.weight(5) == 1.0
    torch.testing.assert_close(dist.mean(x), x.mean(0))


def test_agree_keeps_the_gradient_of_the_loss_alone() -> None:
    x = torch.tensor(2.0, requires_grad=True)
    out = dist.agree({"loss": x * 3, "nce": x * 2})
    assert out["loss"].requires_grad and not out["nce"].requires_grad
    assert float(out["nce"]) == 4.0


def network() -> nn.Sequential:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(64))
    return net.double()


def test_conversion_keeps_parameters_buffers_and_names() -> None:
    net = network()
    state = net.state_dict()
    weight = net[1].weight
    assert convert_batchnorm(net) is net
    assert isinstance(net[1], SyncBatchNorm) and isinstance(net[4], SyncBatchNorm)
    assert net[1].weight is weight
    assert list(net.state_dict()) == list(state)
    network().load_state_dict(net.state_dict())
    converted = net[1]
    convert_batchnorm(net)
    assert net[1] is converted


def test_converted_network_computes_the_same() -> None:
    plain, synced = network(), convert_batchnorm(network())
    x = torch.randn(6, 2, 6, 6, dtype=torch.float64)
    for _ in range(2):
        assert torch.equal(plain(x), synced(x))
    for name, value in plain.state_dict().items():
        assert torch.equal(synced.state_dict()[name], value), name
    assert torch.equal(plain.eval()(x), synced.eval()(x))


def test_a_lone_batch_normalisation_is_converted_too() -> None:
    lone = convert_batchnorm(nn.BatchNorm1d(3, eps=1e-3, momentum=0.2, affine=False).eval())
    assert isinstance(lone, SyncBatchNorm)
    assert lone.eps == 1e-3 and lone.momentum == 0.2 and lone.weight is None and not lone.training
    assert lone.track_running_stats and lone.running_mean is not None


def test_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(B, C, ...\)"):
        convert_batchnorm(nn.BatchNorm1d(3))(torch.randn(3))
