"""SimCLR, DUET and their parts: encoders, losses at the limits of floating point, capabilities, refusals."""

import math
import warnings
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from datasets.base import Batch, Spec
from datasets.config import ConfigError, parse
from trainables.core.method import Method, has
from trainables.duet import DUET
from trainables.essl import ESSL
from trainables.losses.contrast import nt_xent
from trainables.losses.divergence import best_constant, chance, jensen_shannon, log_gaussian, log_von_mises
from trainables.nets.encoder import EncoderConfig, build_encoder
from trainables.nets.heads import MLP
from trainables.simclr import SimCLR

SPEC = Spec(
    shape=(1, 8, 8),
    labels={"class": 10},
    params={"rot": 1, "ron": 1, "sca": 4, "fli": 1},
    kinds={"rot": "circular", "ron": "quarter", "sca": "continuous", "fli": "binary"},
    views=2,
)
SMALL: dict[str, Any] = {
    "encoder": {"name": "narrow_cifar10_resnet8", "width": 4, "stem": 4},  # 16 features
    "head_hidden": 12,
    "head_out": 6,
}


def build(method: Any, spec: Spec = SPEC, **options: Any) -> Any:
    torch.manual_seed(0)
    return method(method.Config(**{**SMALL, **options}), spec).double()


def batch(n: int = 8, codes: tuple[str, ...] = ("rot", "sca", "fli"), seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    views = [torch.randn(n, 1, 8, 8, generator=rng, dtype=torch.float64) for _ in range(2)]
    units = {code: torch.rand(2, n, 1, generator=rng, dtype=torch.float64) for code in codes}
    labels = {"class": torch.randint(10, (n,), generator=rng)}
    return Batch(views=views, index=torch.arange(n), units=units, labels=labels)


# encoders and heads


@pytest.mark.parametrize(
    ("depth", "wide", "narrow"),
    [
        (20, 17_218_624, 269_200),
        (32, 29_612_096, 463_632),
        (44, 42_005_568, 658_064),
        (56, 54_399_040, 852_496),
        (110, 110_169_664, 1_727_440),
        (1202, 1_237_975_616, 19_420_752),
    ],
)
def test_parameters_of_the_encoders(depth: int, wide: int, narrow: int) -> None:
    def count(name: str, channels: int) -> int:
        with torch.device("meta"):
            encoder = build_encoder(EncoderConfig(name=f"{name}cifar10_resnet{depth}"), (channels, 32, 32))
        return sum(parameter.numel() for parameter in encoder.parameters())

    assert count("", 3) == wide
    assert count("narrow_", 3) == narrow
    if depth == 20:
        assert count("", 1) == wide - 1_152
        assert count("lifted_", 54) == wide + 29_376


def test_parameters_of_the_heads() -> None:
    projection, predictor = MLP(64, (2048, 2048), 128), MLP(512, (2048, 2048), 2, norm="layer", final_norm=False)
    assert sum(p.numel() for p in projection.parameters()) == 4_600_192
    assert sum(p.numel() for p in predictor.parameters()) == 5_259_266


def test_encoder_options_replace_the_preset() -> None:
    cfg = EncoderConfig(name="narrow_cifar10_resnet20", depth=8, width=8, stem=4, shortcut="B", final_norm=False)
    encoder = build_encoder(cfg, (1, 16, 16))
    assert encoder.features == 32 and len(encoder.layer1) == 1
    assert encoder.conv1.weight.shape == (4, 1, 3, 3)
    assert not any("final" in name for name, _ in encoder.named_parameters())
    assert encoder(torch.randn(2, 1, 16, 16)).shape == (2, 32)


@pytest.mark.parametrize(
    ("name", "parameters", "features"),
    [
        ("resnet18", 11_180_736, 512),
        ("resnet34", 21_288_896, 512),
        ("resnet50", 23_508_032, 2048),
        ("resnet50w5", 586_450_240, 10_240),
        ("resnet18_wide_end", 121_296_576, 2048),
        ("resnet18_small_end", 5_214_400, 256),
        ("resnet18_split_pathways", 10_428_800, 512),
        ("torchvision_resnet18", 11_176_512, 512),
    ],
)
def test_parameters_of_the_other_encoders(name: str, parameters: int, features: int) -> None:
    with torch.device("meta"):
        encoder = build_encoder(EncoderConfig(name=name), (3, 64, 64))
    assert (sum(p.numel() for p in encoder.parameters()), encoder.features) == (parameters, features)


@pytest.mark.parametrize(
    ("values", "shape", "message"),
    [
        ({"name": "resnet16"}, (3, 32, 32), "did you mean 'resnet18'"),
        ({"name": "resnet18"}, (3, 48, 48), "multiples of 32"),
        ({"name": "resnet18", "stem": 8}, (3, 32, 32), "has no option stem"),
        ({"name": "resnet18", "depth": 20}, (3, 32, 32), "depth must be one of 10, 18"),
        ({"name": "narrow_cifar10_resnet8", "groups": 2}, (3, 32, 32), "has no option groups"),
        ({"name": "torchvision_resnet18", "width": 8}, (3, 32, 32), "has no option width"),
        ({"name": "cifar10_resnet21"}, (3, 32, 32), "6 n + 2"),
        ({"depth": 21}, (3, 32, 32), "6 n + 2"),
        ({"name": "lifted_cifar10_resnet20"}, (1, 32, 32), "takes 54 channels, the data have 1"),
        ({}, (1, 16_000), "takes images"),
    ],
)
def test_encoders_that_cannot_be_built(values: dict[str, Any], shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("+", r"\+")):
        build_encoder(parse(EncoderConfig, values, "encoder"), shape)


# losses at their limits


@pytest.mark.parametrize("size", [64, 128, 256, 512, 1024])
def test_nt_xent_of_equal_logits(size: int) -> None:
    same = torch.ones(size, 4)
    assert float(nt_xent(same, same, 0.1).values.mean()) == pytest.approx(2 * math.log(2 * size - 1), rel=1e-5)


def test_nt_xent_total_is_a_mean_in_small_batches() -> None:
    e = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    hits = nt_xent(e, e, 0.1).hits
    assert all(float(rows.mean()) == 100 for rows in hits.values())  # not 200


def test_nt_xent_of_a_single_item_is_zero() -> None:
    assert float(nt_xent(torch.randn(1, 4), torch.randn(1, 4), 0.1).values) == 0.0


def test_negatives_of_the_other_view_alone() -> None:
    e1, e2 = torch.randn(5, 4, dtype=torch.float64), torch.randn(5, 4, dtype=torch.float64)
    a, b = F.normalize(e1), F.normalize(e2)
    by_hand = [-math.log(math.exp(a[i] @ b[i] / 0.5) / sum(math.exp(a[i] @ b[j] / 0.5) for j in range(5)))
               - math.log(math.exp(b[i] @ a[i] / 0.5) / sum(math.exp(b[i] @ a[j] / 0.5) for j in range(5)))
               for i in range(5)]  # fmt: skip
    found = nt_xent(e1, e2, 0.5, "cross")
    assert found.values.tolist() == pytest.approx(by_hand)
    assert float(nt_xent(a[:1].expand(5, 4), a[:1].expand(5, 4), 0.5, "cross").values[0]) == pytest.approx(
        2 * math.log(5)
    )
    loss = build(SimCLR, negatives="cross", tracking=False)(batch())["nce"]
    assert float(loss) != float(build(SimCLR, tracking=False)(batch())["nce"])


def test_nt_xent_of_zero_vectors_has_finite_gradients() -> None:
    e1, e2 = torch.zeros(4, 8, requires_grad=True), torch.randn(4, 8)
    nt_xent(e1, e2, 0.1).values.mean().backward()
    assert e1.grad is not None and e1.grad.isfinite().all()


@pytest.mark.parametrize("log_target", [lambda p: log_gaussian(p, 8, 0.03), lambda p: log_von_mises(p, 8, 200.0)])
@pytest.mark.parametrize("scale", [1.0, 1e2, 1e4, 1e8])
def test_group_loss_stays_finite_in_float32(log_target: Any, scale: float) -> None:
    p = torch.linspace(0, 1, 9)
    logits = (torch.randn(9, 8, generator=torch.Generator().manual_seed(0)) * scale).requires_grad_()
    value = jensen_shannon(logits.log_softmax(-1), log_target(p))
    value.sum().backward()
    assert ((value >= 0) & (value <= math.log(2) + 1e-6)).all()
    assert logits.grad is not None and logits.grad.isfinite().all()


def test_zero_times_log_of_zero_is_zero() -> None:
    p, q = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    assert float(jensen_shannon(p.log(), q.log())) == pytest.approx(math.log(2))
    assert float(jensen_shannon(p.log(), p.log())) == 0.0


def test_losses_are_in_float32_under_autocast() -> None:
    e1, e2 = torch.randn(2, 16, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        low = nt_xent(e1, e2, 0.1).values
        from_half = nt_xent(e1.bfloat16(), e2.bfloat16(), 0.1).values
    assert low.dtype == from_half.dtype == torch.float32
    assert torch.equal(low, nt_xent(e1, e2, 0.1).values)


def test_targets_are_circular_for_von_mises_only() -> None:
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    torch.testing.assert_close(*log_von_mises(ends, 8, 3.0))
    gauss = log_gaussian(ends, 8, 0.2).exp()
    assert gauss[0].argmax() == 0 and gauss[1].argmax() == 7
    torch.testing.assert_close(gauss.sum(-1), torch.ones_like(ends))


@pytest.mark.parametrize(
    ("target", "bins", "p", "uniform", "constant"),
    [
        ("ga", 8, "rot", 0.1315, 0.1260),
        ("vm", 8, "rot", 0.2117, 0.2117),
        ("vm", 4, "rot", 0.1773, 0.1773),
        ("vm", 16, "rot", 0.2219, 0.2219),
        ("ga", 8, "ron", 0.1304, 0.1247),
        ("ga", 8, "fli", 0.1230, 0.1169),
        ("vm", 8, "fli", 0.2117, 0.1825),
        ("vm", 8, "blu", 0.2116, 0.0),
    ],
)
def test_chance_levels(target: str, bins: int, p: str, uniform: float, constant: float) -> None:
    drawn = {
        "rot": (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000,
        "ron": torch.tensor([0.125, 0.375, 0.625, 0.875], dtype=torch.float64),
        "fli": torch.tensor([0.25, 0.75], dtype=torch.float64),
        "blu": torch.tensor([0.0, 1.0], dtype=torch.float64),
    }[p]
    log_t = log_gaussian(drawn, bins, 0.2) if target == "ga" else log_von_mises(drawn, bins, 3.0)
    relative = 1e-3 if target == "vm" else 1e-2  # the stated values of ga are means over random draws
    assert chance(log_t) == pytest.approx(uniform, rel=relative)
    assert best_constant(log_t) == pytest.approx(constant, rel=relative, abs=1e-4)


# the methods


@pytest.mark.parametrize("method", [SimCLR, DUET])
def test_loss_is_the_sum_of_its_terms(method: Any) -> None:
    out = build(method)(batch())
    terms = [out[name] for name in ("nce", "group_weighted", "tracking_ce") if name in out]
    torch.testing.assert_close(out["loss"].detach(), torch.stack(terms).sum())
    assert [name for name, value in out.items() if value.requires_grad] == ["loss"]
    assert all(value.ndim == 0 and value.isfinite() for value in out.values())


@pytest.mark.parametrize("method", [SimCLR, DUET])
def test_every_parameter_gets_a_gradient(method: Any) -> None:
    built = build(method)
    built(batch())["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in built.parameters())


@pytest.mark.parametrize("method", [SimCLR, DUET])
def test_tracking_does_not_reach_the_encoder(method: Any) -> None:
    with_tracker, without = build(method), build(method, tracking=False)
    without.load_state_dict({k: v for k, v in with_tracker.state_dict().items() if not k.startswith("tracker")})
    for built in (with_tracker, without):
        built(batch())["loss"].backward()
    torch.testing.assert_close(with_tracker.encoder.conv1.weight.grad, without.encoder.conv1.weight.grad)
    assert build(method, replace(SPEC, labels={})).tracker is None


@pytest.mark.parametrize("method", [SimCLR, DUET])
def test_encode_is_deterministic_and_touches_no_buffer(method: Any) -> None:
    built = build(method)
    built(batch())
    built.eval()
    before = {name: value.clone() for name, value in built.state_dict().items()}
    x = batch().views[0]
    parts, again = built.encode(x), built.encode(x)
    assert {name: part.shape[1] for name, part in parts.items()} == built.parts
    assert all(torch.equal(part, again[name]) for name, part in parts.items())
    assert all(torch.equal(value, before[name]) for name, value in built.state_dict().items())


@pytest.mark.parametrize("method", [SimCLR, DUET])
def test_builds_on_the_meta_device(method: Any) -> None:
    with torch.device("meta"):
        built: Method = method(method.Config(), Spec(shape=(3, 32, 32), labels={"class": 10}, views=2))
    assert built.parts["all"] == 512
    assert all(parameter.is_meta for parameter in built.parameters())


def test_views_pass_one_by_one_unless_asked_otherwise() -> None:
    separate, joint = build(SimCLR), build(SimCLR, joint_forward=True)
    for built in (separate, joint):
        built(batch())
    assert separate.encoder.bn1.num_batches_tracked == 2
    assert joint.encoder.bn1.num_batches_tracked == 1


@pytest.mark.parametrize("method", [SimCLR, DUET])
def test_bfloat16_autocast_gives_float32_losses(method: Any) -> None:
    built, half = build(method).float(), batch()
    half.views = [view.float() for view in half.views]
    half.units = {code: unit.float() for code, unit in half.units.items()}
    with torch.autocast("cpu", torch.bfloat16):
        out = built(half)
    assert all(value.dtype == torch.float32 for value in out.values())
    out["loss"].backward()
    assert all(p.grad.isfinite().all() for p in built.parameters())


# DUET


def test_evaluation_takes_the_group_loss_of_view_two_alone() -> None:
    duet, given = build(DUET).eval(), batch()
    before = duet(given)["group_loss"]
    given.units["rot"][0] = 0.5
    assert torch.equal(duet(given)["group_loss"], before)
    given.units["rot"][1] = 0.5
    assert not torch.equal(duet(given)["group_loss"], before)


def test_without_bins_duet_is_simclr() -> None:
    duet, simclr = build(DUET, bins=0), build(SimCLR)
    duet.load_state_dict(simclr.state_dict())
    ours, theirs = duet(batch()), simclr(batch())
    assert ours.keys() == theirs.keys()
    assert torch.equal(ours["loss"], theirs["loss"])
    assert not has(duet, "roll") and not has(duet, "marginal")
    assert duet.parts == {"all": 16, "content": 16}


def test_without_a_weight_essl_is_simclr() -> None:
    """No predictor, no small view asked for, and running statistics as of two passes, not three."""
    essl, simclr = build(ESSL, **{"lambda": 0.0}), build(SimCLR)
    assert essl.predictor is None and ESSL.auxiliary(essl.cfg) is None
    simclr.load_state_dict(essl.state_dict())
    b = batch()
    found, expected = essl(b), simclr(b)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    for one, other in zip(essl.buffers(), simclr.buffers(), strict=True):
        assert torch.equal(one, other)


def test_with_one_bin_the_group_loss_is_zero() -> None:
    out = build(DUET, bins=1, lambda_=1e4)(batch())
    assert float(out["group_loss"]) == pytest.approx(0, abs=1e-12)


def test_lambda_zero_still_reports_the_group_loss() -> None:
    out = build(DUET, lambda_=0)(batch())
    assert float(out["group_weighted"]) == 0 and float(out["group_loss"]) > 0


def test_two_groups() -> None:
    duet, given = build(DUET, bins=4, equi_tx=("rot", "sca"), target="vm"), batch()
    assert duet.parts == {"all": 16, "content": 4, "group": 8}
    parts = duet.eval().encode(given.views[1])
    torch.testing.assert_close(parts["group"].view(-1, 2, 4).sum(-1), torch.ones(8, 2, dtype=torch.float64))
    by_hand = [
        jensen_shannon(
            parts["all"].view(8, 2, 4, 2)[:, k].mean(-1).log_softmax(-1),
            log_von_mises(given.units[code][1, :, 0], 4, 3.0),
        )
        for k, code in enumerate(("rot", "sca"))
    ]
    torch.testing.assert_close(duet(given)["group_loss"], torch.stack(by_hand).mean().detach())
    assert build(DUET, bins=4, equi_tx=("rot", "sca"), pool_groups="joint").parts["content"] == 2


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_steering_makes_the_marginal_the_target(reduction: str) -> None:
    duet = build(DUET, bins=4, equi_tx=("rot", "sca"), target="vm", reduction=reduction)
    z, p = torch.randn(3, 16, dtype=torch.float64), torch.rand(3, 1, dtype=torch.float64)
    steered = duet.steer(z, p, "rot")
    torch.testing.assert_close(duet.marginal(steered, "rot"), duet.log_target(p[:, 0]).exp())
    torch.testing.assert_close(duet.content(steered), duet.content(z))
    assert torch.equal(duet.marginal(steered, "sca"), duet.marginal(z, "sca"))
    torch.testing.assert_close(duet.marginal(duet.steer(z, p, "sca"), "sca"), duet.log_target(p[:, 0]).exp())
    assert not has(build(DUET, bins=0), "steer")


def test_roll_moves_marginal_and_keeps_content() -> None:
    duet, z = build(DUET, bins=4, equi_tx=("rot", "sca")), torch.randn(3, 16, dtype=torch.float64)
    assert has(duet, "roll") and has(duet, "marginal")
    assert duet.bins == 4 and duet.equivariant_to == ("rot", "sca")
    rolled = duet.roll(z, 1, "rot")
    torch.testing.assert_close(duet.marginal(rolled, "rot"), duet.marginal(z, "rot").roll(1, dims=1))
    assert torch.equal(duet.marginal(rolled, "sca"), duet.marginal(z, "sca"))
    torch.testing.assert_close(duet.content(rolled), duet.content(z))
    assert torch.equal(duet.roll(z, 4, "rot"), z) and torch.equal(duet.roll(rolled, -1, "rot"), z)
    other = duet.roll(z, 3, "sca")
    assert torch.equal(duet.marginal(other, "rot"), duet.marginal(z, "rot"))
    torch.testing.assert_close(duet.marginal(other, "sca"), duet.marginal(z, "sca").roll(3, dims=1))


def test_a_roll_by_m_bins_is_a_step_of_the_target() -> None:
    p = torch.tensor([0.3], dtype=torch.float64)
    moved = log_von_mises(p + 2 / 8, 8, 3.0).exp()
    # the grid holds both ends, so shifting it is exact only to its spacing
    torch.testing.assert_close(log_von_mises(p, 8, 3.0).exp().roll(2, dims=1), moved, atol=5e-3, rtol=0)


def test_sum_reduction_sharpens_the_marginal() -> None:
    z = torch.randn(4, 16, dtype=torch.float64)
    mean, total = (build(DUET, reduction=name).log_marginals(z) for name in ("mean", "sum"))
    torch.testing.assert_close((2 * mean).log_softmax(-1), total)  # 2 columns


def test_lambda_is_the_public_name() -> None:
    cfg = DUET.Config(**{"lambda": 1000})
    assert cfg.dump()["lambda"] == 1000 and DUET.coefficients == ("lambda",)
    assert parse(DUET.Config, cfg.dump(), "method") == cfg
    assert DUET.Config(equi_tx="sca") == DUET.Config(equi_tx=("sca",))
    with pytest.raises(ConfigError, match="lambda"):
        parse(DUET.Config, {"lamda": 3}, "method")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"equi_tx": ("hue",)}, "'hue' is not in the stack"),
        ({"equi_tx": ("jit",)}, "'jit' has no parameter"),
        ({"equi_tx": ("res",)}, "'res' has no parameter"),
        ({"equi_tx": ("ccr",)}, "'ccr' has no parameter"),
        ({"equi_tx": ("sca", "sca")}, "named twice"),
        ({"equi_tx": ("sca",), "bins": 3}, "3 bins in all must divide the encoder's 16 features"),
        ({"equi_tx": ("sca", "fli"), "bins": 16}, "32 bins"),
        ({"equi_tx": ("sca",), "bins": 1, "pooler": "std"}, "at least 2 bins"),
    ],
)
def test_refused_at_plan_time(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        DUET.check(DUET.Config(**{**SMALL, **options}), SPEC)
    assert "\n" not in str(error.value)


def test_a_small_view_that_the_encoder_does_not_take_is_refused() -> None:
    options = {
        "encoder": {"name": "small_resnet10"},
        "equi_tx": "gra",
        "head_hidden": 8,
        "head_out": 8,
        "predictor_hidden": 8,
    }
    spec = replace(SPEC, shape=(3, 64, 64))
    ESSL.check(parse(ESSL.Config, options, "method"), spec)
    with pytest.raises(ConfigError, match=r"crop_fraction: the small view .* multiples of 32, .* \(3, 16, 16\)"):
        ESSL.check(parse(ESSL.Config, options, "method"), replace(SPEC, shape=(3, 32, 32)))


@pytest.mark.parametrize("method", [SimCLR, DUET])
def test_one_view_is_refused(method: Any) -> None:
    with pytest.raises(ConfigError, match="2 views"):
        method.check(method.Config(**SMALL), replace(SPEC, views=1))


@pytest.mark.parametrize(
    ("code", "fits", "misfit"), [("rot", "vm", "ga"), ("ron", "vm", "ga"), ("sca", "ga", "vm"), ("fli", "ga", None)]
)
def test_a_target_that_does_not_fit_is_a_warning(code: str, fits: str, misfit: str | None) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DUET.check(DUET.Config(**SMALL, equi_tx=code, target=fits), SPEC)
    if misfit:
        with pytest.warns(UserWarning, match=f"'{code}'.*'{fits}' fits"):
            DUET.check(DUET.Config(**SMALL, equi_tx=code, target=misfit), SPEC)


@pytest.mark.parametrize(
    ("told", "turned", "lambda_", "said"),
    [("ron", "rot", 0.4, True), ("rot", "ron", 0.4, True), ("ron", "rot", 0.0, False), ("ron", "sca", 0.4, False)],
)
def test_essl_warns_of_a_turn_that_cannot_be_told(told: str, turned: str, lambda_: float, said: bool) -> None:
    spec = replace(SPEC, kinds={turned: SPEC.kinds[turned]})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ESSL.check(ESSL.Config(**{**SMALL, "equi_tx": told, "lambda": lambda_}), spec)
    assert [f"leave '{turned}' out of views.tx" in str(one.message) for one in caught] == [True] * said


@pytest.mark.parametrize("target", ["ga", "vm"])
def test_training_lowers_the_group_loss(target: str) -> None:
    """The parameter stands in the picture as brightness; a few steps bring the loss below the best blind guess."""
    duet, given = build(DUET, target=target, lambda_=100), batch(64)
    for view, unit in zip(given.views, given.units["rot"], strict=True):
        view.copy_((unit + 0.02 * torch.randn_like(unit))[..., None, None].expand_as(view))
    optimizer = torch.optim.Adam(duet.parameters(), 1e-2)
    losses = []
    for _ in range(40):
        out = duet(given)
        optimizer.zero_grad()
        out["loss"].backward()
        optimizer.step()
        losses.append(float(out["group_loss"]))
    blind = best_constant(torch.cat([duet.log_targets(given, view)[:, 0] for view in (0, 1)]))
    assert losses[-1] < 0.7 * blind < losses[0]
