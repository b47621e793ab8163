"""CPC, GIM, SIM and their supervised baselines: networks, isolation of modules, draws, parts, refusals."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from datasets.base import Batch, Spec
from datasets.config import ConfigError
from trainables.core.config import resolve
from trainables.core.draws import Draws, generator
from trainables.core.evaluate import evaluate
from trainables.core.fit import fit
from trainables.core.method import Frames, Progress, has
from trainables.core.presets import PRESETS, expand
from trainables.cpc import CPC
from trainables.evals.features import CheckpointSubject
from trainables.gim import GIM
from trainables.losses.info_nce import Negatives, Sampling, dots, draw_cells, draw_negatives, grid_info_nce, info_nce
from trainables.nets.latent import Latent
from trainables.nets.modular import PRESETS as NETWORKS
from trainables.nets.modular import ModularConfig, Recurrent, Sound, build_units, frame_counts
from trainables.sim import SIM
from trainables.supervised import Supervised

WORD = Spec(shape=(1, 10_240), labels={"syllable": 9}, rate=16_000)
SHORT = Spec(shape=(1, 1300), labels={"pitch": 3}, rate=16_000)
IMAGE = Spec(shape=(3, 64, 64), labels={"class": 10})
TINY: dict[str, Any] = {"encoder": {"channels": 6, "context": 5}, "prediction_steps": 4, "negatives": 3}
PATCHES: dict[str, Any] = {"name": "resnet50", "channels": 2, "blocks": (1, 1, 1)}
SEEING: dict[str, Any] = {"encoder": PATCHES, "prediction_steps": 5, "negatives": 3}


def build(method: Any, spec: Spec = SHORT, **options: Any) -> Any:
    torch.manual_seed(0)
    cfg = method.Config(**{**(TINY if len(spec.shape) == 2 else SEEING), **options})
    method.check(cfg, spec)
    return method(cfg, spec).double()


def batch(n: int = 6, spec: Spec = SHORT, seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    labels = {name: torch.randint(count, (n,), generator=rng) for name, count in spec.labels.items()}
    x = torch.randn(n, *spec.shape, generator=rng, dtype=torch.float64)
    return Batch([x], torch.arange(n), labels=labels, seed=seed)


def count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def preset(name: str, spec: Spec, **options: Any) -> Any:
    """What a published name means, without memory."""
    resolved = resolve({"method": {"name": name, **options}, "data": {"name": "made.tones"}})
    resolved.method_class.check(resolved.method, spec)
    with torch.device("meta"):
        return resolved.method_class(resolved.method, spec)


def grads(method: Any) -> dict[str, Tensor | None]:
    return {name: None if p.grad is None else p.grad.clone() for name, p in method.named_parameters()}


# networks


def test_parameters_of_sim_on_words() -> None:
    method = preset("sim_audio_de_boer_distr_true", WORD)
    assert [count(unit) for unit in method.net] == [2_630_656, 2_625_536, 1_575_424, 591_360]
    assert [count(predictor) for predictor in method.predictors] == [2_621_440] * 3 + [1_310_720]
    assert count(method) == 16_598_016
    assert method.parts == {**{f"module{number}": 512 for number in range(3)}, "context": 256, "all": 256}
    assert [method.places[f"module{number}"] for number in range(3)] == [(511,), (129,), (64,)]


HEAD = 512 * 512 + 512  # of the log-variance, which only SIM has


def test_parameters_of_the_others_on_words() -> None:
    gim, cpc = preset("sim_audio_de_boer_distr_false", WORD), preset("cpc_audio_de_boer_conventional", WORD)
    assert count(gim) == 16_598_016 - 3 * HEAD
    assert count(cpc) == 7_683_072 - HEAD
    assert isinstance(gim, GIM) and isinstance(cpc, CPC)
    extra = preset("cpc_audio_de_boer_extra_layers", WORD)
    assert count(extra) == count(cpc) + 3 * HEAD  # three more linear maps
    assert list(extra.parts) == ["layer2", "layer5", "layer7", "module0", "context", "all"]
    assert [extra.places[f"layer{number}"] for number in (2, 5, 7)] == [(511,), (129,), (64,)]
    five = preset("enc_gim_audio", WORD)
    assert [five.places[f"module{number}"] for number in range(5)] == [(2047,), (511,), (256,), (129,), (64,)]
    assert five.cfg.prediction_steps == 12 and len(five.net) == 6
    one = preset("sim_audio_one_module", WORD)
    assert [count(unit) for unit in one.net] == [5_250_560 + 5 * 1024 + 2 * HEAD, 591_360]


def test_parameters_and_frames_of_the_small_ones() -> None:
    thesis, default = preset("V-GIM", WORD), preset("enc_default", WORD)
    assert [places for _, places in sorted(thesis.places.items())] == [(13,), (52,), (13,)]  # all, module0, module1
    heads = 2 * (32 * 32 * 3 + 32)
    first = 32 * 10 + 32 + 32 * 32 * 8 + 32
    assert [count(unit) for unit in thesis.net] == [first + heads, 2 * (32 * 32 * 6 + 32) + heads]
    assert default.places == {"module0": (12,), "module1": (3,), "context": (3,), "all": (3,)}
    assert default.parts["context"] == 16
    baseline = preset("supervised", WORD)
    assert count(baseline) == 5_250_560 + 591_360 + 256 * 9 + 9


@pytest.mark.parametrize(
    ("samples", "frames"),
    [
        (10_240, [2047, 511, 256, 129, 64]),
        (20_480, [4095, 1023, 512, 257, 128]),
        (8821, [1764, 441, 221, 111, 55]),
    ],
)
def test_frames(samples: int, frames: list[int]) -> None:
    assert frame_counts(Sound(), samples) == frames
    extra = NETWORKS["cpc_extra_audio"]
    assert isinstance(extra, Sound)
    assert [frame_counts(extra, samples)[layer] for layer in (1, 2, 4, 5, 7)] == [frames[i] for i in (1, 1, 3, 3, 4)]
    method = build(GIM, Spec(shape=(1, 10_240)))
    made = method.frames(torch.randn(1, 1, samples, dtype=torch.float64))  # of any length
    assert [made[f"module{number}"].shape[1] for number in range(3)] == [frames[i] for i in (1, 3, 4)]


@pytest.mark.parametrize(
    ("name", "sizes", "widths"),
    [
        ("resnet50", [347_648, 1_741_312, 9_187_328], [256, 512, 1024]),
        ("resnet34", [231_552, 1_148_288, 6_950_656], [64, 128, 256]),
    ],
)
def test_parameters_of_the_networks_for_images(name: str, sizes: list[int], widths: list[int]) -> None:
    method = preset("vision_default", Spec(shape=(1, 64, 64)), encoder={"name": name})
    assert [count(unit) for unit in method.net] == sizes
    assert [method.parts[f"module{number}"] for number in range(3)] == widths
    assert method.places["all"] == (7, 7)
    assert method.cfg.negatives == 16 and method.cfg.kl_reduction == "channels"


def test_feature_maps_of_patches() -> None:
    method = build(SIM, IMAGE)
    x, sides = batch(2, IMAGE).views[0], []
    for unit in method.units:
        latent = unit(x)
        x = unit.onward(latent, latent.mean)
        sides.append(x.shape[2:])
    assert sides == [(16, 16), (8, 8), (4, 4)]


def test_every_published_name_builds() -> None:
    ours = [name for name, (method, _) in PRESETS.items() if method in ("sim", "gim", "cpc")]
    assert len(ours) == 16
    for name in ours:
        images = PRESETS[name][1].get("encoder", {}).get("name", "audio").endswith(("34", "50"))
        assert preset(name, Spec(shape=(1, 64, 64)) if images else WORD).parts["all"] > 0


def test_options_inside_an_option_of_a_preset_replace_one_by_one() -> None:
    given = {"encoder": {"channels": 32}, "negatives": 5}
    method, options = expand("enc_gim_audio", given)
    assert method == "gim"
    assert options == {"encoder": {"name": "gim_audio", "channels": 32}, "prediction_steps": 12, "negatives": 5}
    assert PRESETS["enc_gim_audio"][1]["encoder"] == {"name": "gim_audio"}
    assert CPC.Config(encoder={"channels": 8}).encoder.name == "cpc_audio"


def test_delta_orthogonal_start() -> None:
    method = build(CPC, IMAGE, encoder={**PATCHES, "name": "cpc_resnet34", "start": "delta_orthogonal"})
    (unit,) = method.units
    trunk = [unit.stem, *(layer for layer in unit.blocks.modules() if isinstance(layer, torch.nn.Conv2d))]
    for layer in [*trunk, unit.predicts.close]:
        middle = layer.weight.shape[2] // 2
        centre = layer.weight[:, :, middle, middle].detach()
        gram = centre.T @ centre if layer.weight.shape[0] >= layer.weight.shape[1] else centre @ centre.T
        torch.testing.assert_close(gram, 2 * torch.eye(len(gram), dtype=gram.dtype), rtol=0, atol=1e-6)
        assert float(layer.weight.detach().abs().sum()) == pytest.approx(float(centre.abs().sum()))


def test_without_gradients_through_time_a_state_is_a_constant_for_the_next() -> None:
    torch.manual_seed(0)
    net, cell = Recurrent(3, 4, bptt=False).double(), torch.nn.GRUCell(3, 4).double()
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in net.gru.state_dict().items()})
    z = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(2, 6, 4, dtype=torch.float64)
    state, states = torch.zeros(2, 4, dtype=torch.float64), []
    for t in range(6):
        state = cell(z[:, t], state.detach())
        states.append(state)
    (torch.stack(states, 1) * weights).sum().backward()
    assert z.grad is not None
    expected, z.grad = z.grad, None
    made = net(z)
    torch.testing.assert_close(made, torch.stack(states, 1))
    (made * weights).sum().backward()
    torch.testing.assert_close(z.grad, expected)
    for name, parameter in cell.named_parameters():
        torch.testing.assert_close(net.gru.get_parameter(f"{name}_l0").grad, parameter.grad)
    through_time = Recurrent(3, 4, bptt=True).double()
    through_time.load_state_dict(net.state_dict())
    torch.testing.assert_close(through_time(z), made)


@pytest.mark.parametrize(
    ("method", "spec", "options", "message"),
    [
        (SIM, WORD, {"encoder": {"name": "sim_video"}}, "did you mean 'sim_audio'"),
        (SIM, WORD, {"encoder": {"patch": 8}}, "encoder sim_audio: has no option patch"),
        (SIM, WORD, {"encoder": {"cut": (2, 2)}}, r"cut: \[2, 2\] must add up to the 5"),
        (SIM, WORD, {"encoder": {"strides": (5, 4)}}, "strides: must be one for each of the 5 kernels"),
        (SIM, WORD, {"encoder": {"pools": (5, 4)}}, "pools: must be one for each of the 5 kernels"),
        (SIM, WORD, {"encoder": {"layers": (5,)}}, "layers: there is no convolution 5; the last is 4"),
        (SIM, WORD, {"encoder": {"head": 2}}, "head: must be odd"),
        (SIM, IMAGE, {"encoder": {"name": "sim_audio"}}, "takes sound"),
        (SIM, WORD, {"encoder": {"name": "resnet34"}}, "takes images"),
        (SIM, IMAGE, {"encoder": {**PATCHES, "context_at": "module"}}, "'module' is of sound"),
        (SIM, Spec(shape=(1, 8, 8)), {"encoder": PATCHES}, "patches of 16 pixels do not fit"),
        (SIM, Spec(shape=(1, 30)), {}, "sounds of 30 samples are too short for convolution"),
        (SIM, SHORT, {"prediction_steps": 8}, "8 need more than 8 frames, module 2 has 8"),
        (SIM, WORD, {"prediction_steps": 20, "window": 20}, "20 need more than 20 frames, module 0 has 20"),
        (SIM, IMAGE, {"encoder": PATCHES, "prediction_steps": 6}, "6 need more than 7 rows of patches, there are 7"),
        (SIM, WORD, {"kl_weight": (0.1, 0.2)}, r"each of the 3 modules with a distribution \(got 2\)"),
        (SIM, WORD, {"encoder": {"head": 0}}, "without linear heads no module has a distribution"),
        (SIM, WORD, {"train_module": 4}, "the last module is 3"),
        (GIM, WORD, {"train_module": 9}, "the last module is 3"),
        (CPC, WORD, {"encoder": {"name": "sim_audio"}}, "CPC is one module, sim_audio has 4"),
        (Supervised, Spec(shape=(1, 10_240)), {}, "there are none"),
        (Supervised, Spec(shape=(1, 10_240), labels={"a": 2, "b": 3}), {}, "name one of the data's classes: a, b"),
        (Supervised, WORD, {"factor": "syllables"}, "did you mean 'syllable'"),
        (SIM, Spec(shape=(1, 10_240), views=2), {}, "set views.count: 1"),
    ],
)
def test_what_cannot_work_is_refused(method: Any, spec: Spec, options: dict[str, Any], message: str) -> None:
    with pytest.raises((ConfigError, ValueError), match=message):
        method.check(method.Config(**{**({} if method is Supervised else TINY | {"encoder": {}}), **options}), spec)


# modules learn each for themselves


@pytest.mark.parametrize(("method", "spec"), [(SIM, SHORT), (GIM, SHORT), (SIM, IMAGE), (GIM, IMAGE)])
def test_no_gradient_crosses_a_border(method: Any, spec: Spec, monkeypatch: pytest.MonkeyPatch) -> None:
    """The derivative of every module's loss with regard to every other module's weights is absent."""
    built, one = build(method, spec), batch(spec=spec)
    losses: dict[str, Tensor] = {}

    def kept(found: dict[str, Tensor], watched: dict[str, Tensor]) -> dict[str, Tensor]:
        losses.update(found)
        return {"loss": torch.zeros(())}

    monkeypatch.setattr(built, "report", kept)
    built.train()(one)
    assert len(losses) == len(built.net)
    for number, loss in enumerate(losses.values()):
        built.zero_grad(set_to_none=True)
        loss.mean().backward()
        own = (f"net.{number}.", f"predictors.{number}.")
        for name, grad in grads(built).items():
            assert (grad is not None) == name.startswith(own), name


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("method", [SIM, GIM])
def test_a_module_trained_alone_has_the_gradient_that_it_has_among_all(method: Any, number: int) -> None:
    encoder = {**TINY["encoder"], "batch_norm": False}
    joint, alone = build(method, encoder=encoder), build(method, encoder=encoder, train_module=number)
    values = joint.train()(batch())
    values["loss"].backward()
    found = alone.train()(batch())
    found["loss"].backward()
    key = f"loss_{number}" if method is SIM else f"nce_{number}"
    torch.testing.assert_close(found[key], values[key])
    torch.testing.assert_close(found["loss"].detach(), values[key])
    everything = grads(joint)
    for name, grad in grads(alone).items():
        if name.startswith((f"net.{number}.", f"predictors.{number}.")):
            assert grad is not None and everything[name] is not None
            torch.testing.assert_close(grad, everything[name], rtol=0, atol=0)
        else:
            assert grad is None


def configuration(name: str, **options: Any) -> Any:
    train = {"epochs": 3, "batch_size": 20, "warmup_epochs": 0, "lr": 1e-2, "optimizer": "adam", "weight_decay": 0}
    return resolve(
        {"method": {"name": name, **TINY, **options}, "data": {"name": "made.tones"}, "views": {"count": 1},
         "train": train}
    )  # fmt: skip


@pytest.mark.parametrize("name", ["sim", "gim"])
def test_training_one_module_after_the_other_reaches_what_training_all_does(name: str, tmp_path: Path) -> None:
    """The first module; and the second on top of it, whose input stands still then, is another thing to learn."""
    joint = fit(configuration(name), None, tmp_path / "joint")
    first = fit(configuration(name, train_module=0), None, tmp_path / "first")
    begun = fit(configuration(name), None, tmp_path / "begun", until=1).method.state_dict()
    for key, value in first.method.state_dict().items():
        expected = joint.method.state_dict()[key]
        if key.startswith(("net.0.", "predictors.0.")):
            assert torch.equal(value, expected)
        elif value.is_floating_point() and "running" not in key:
            assert not torch.equal(expected, begun[key])
    second = resolve({**configuration(name, train_module=1).dump(), "init": str(tmp_path / "first" / "epoch-0003")})
    fitted = fit(second, None, tmp_path / "second").method.state_dict()
    moved = {key for key, value in fitted.items() if not torch.equal(value, first.method.state_dict()[key])}
    assert moved and all(key.startswith(("net.1.", "predictors.1.")) for key in moved)  # batch statistics too


def test_without_distribution_sim_is_gim() -> None:
    """A variance of nothing and no weight on KL; with batch statistics, which see the same inputs then."""
    sim, gim = build(SIM, kl_weight=0.0), build(GIM)
    for unit in sim.units[:3]:
        torch.nn.init.zeros_(unit.heads.logvar.weight)
        torch.nn.init.constant_(unit.heads.logvar.bias, -200.0)
    shared = {name: value for name, value in sim.state_dict().items() if "logvar" not in name}
    gim.load_state_dict(shared)
    found, expected = sim.train()(batch()), gim.train()(batch())
    torch.testing.assert_close(found["loss"], expected["loss"])
    for number in range(4):
        torch.testing.assert_close(found[f"nce_{number}"], expected[f"nce_{number}"])
    found["loss"].backward()
    expected["loss"].backward()
    ours = grads(sim)
    for name, grad in grads(gim).items():
        torch.testing.assert_close(ours[name], grad)


# the KL term


def test_weights_of_each_module_and_both_reductions() -> None:
    weights = (0.5, 0.0, 2.0)
    values = build(SIM, kl_weight=weights).train()(batch())
    other = build(SIM, kl_weight=weights, kl_reduction="channels").train()(batch())
    for number, (weight, length) in enumerate(zip(weights, (64, 17, 8), strict=True)):
        for found, reduction in ((values, "time"), (other, "channels")):
            expected = found[f"nce_{number}"] + weight * found[f"kl_{reduction}_{number}"]
            torch.testing.assert_close(found[f"loss_{number}"], expected)
        torch.testing.assert_close(values[f"kl_time_{number}"], values[f"kl_channels_{number}"] * length / 6)
    assert "kl_time_3" not in values
    torch.testing.assert_close(values["loss"].detach(), sum(values[f"loss_{number}"] for number in range(4)))


def test_weights_of_modules_by_their_numbers() -> None:
    """So that each can be a dimension of a search: `method.kl_weight.0`."""
    assert SIM.Config(**TINY, kl_weight={"1": 0.2, "0": 0.1, "2": 0.3}).kl_weight == (0.1, 0.2, 0.3)
    with pytest.raises(ValueError, match="must name the modules from 0 on, each once"):
        SIM.Config(**TINY, kl_weight={"0": 0.1, "2": 0.3})


def test_the_weight_of_the_divergence_rises() -> None:
    method = build(SIM, kl_weight=0.1, kl_warmup=0.5)

    def beta(epoch: int, step: int) -> float:
        method.before_step(Progress(epoch, step, epochs=10, steps_per_epoch=4))
        values = method.train()(batch())
        return float((values["loss_0"] - values["nce_0"]) / values["kl_time_0"])

    assert [round(beta(*at), 6) for at in ((0, 0), (0, 2), (2, 2), (5, 0), (9, 3))] == [0, 0.01, 0.05, 0.1, 0.1]
    method.before_step(Progress(0, 0, 10, 4))
    values = method.eval()(batch())
    torch.testing.assert_close(values["loss_0"], values["nce_0"] + 0.1 * values["kl_time_0"])
    assert "warmed" not in method.state_dict()


# draws and negatives


def test_draws_have_names_and_are_made_for_the_global_batch() -> None:
    like = torch.zeros(4, 3, 2, dtype=torch.float64)
    draws, same, other = Draws(5, 4, like.device), Draws(5, 4, like.device), Draws(6, 4, like.device)
    same.normal("another", like)
    assert torch.equal(draws.normal("a", like), same.normal("a", like))
    assert not torch.equal(draws.normal("a", like), draws.normal("b", like))
    assert not torch.equal(draws.normal("a", like), other.normal("a", like))
    draws.total, draws.first = 10, 3  # as of one rank of three
    whole = Draws(5, 10, like.device).normal("a", like.new_zeros(10, 3, 2))
    assert torch.equal(draws.normal("a", like), whole[3:7])
    for row in draws.permutations("p", 3, 20):
        assert sorted(row.tolist()) == list(range(20))
    assert {draws.integer(f"i{number}", 4) for number in range(50)} == {0, 1, 2, 3}


@pytest.mark.parametrize("sampling", ["exclusive", "any", "sequence"])
def test_which_frames_are_negatives(sampling: Sampling) -> None:
    items, length, window, steps, count = 3, 40, 12, 4, 7
    negatives = draw_negatives(Draws(1, items, torch.device("cpu")), "m", sampling, count, length, steps, window)
    assert 0 <= negatives.start < length - window
    for j in range(1, steps + 1):
        index = negatives.frames(j, items, length, window)
        assert index.shape == (count, items * (window - j))
        item, frame = index // length, index % length
        own = torch.arange(items).repeat_interleave(window - j)
        positive = negatives.start + j + torch.arange(window - j).repeat(items)
        if sampling == "any":
            assert all(len(set(row.tolist())) == len(row) for row in index)
            assert int(item.min()) == 0 and int(item.max()) == items - 1
            assert int(frame.min()) < 8 and int(frame.max()) > 31, "of all frames, not of the window"
        elif sampling == "exclusive":
            assert not ((item == own) & (frame == positive)).any()
            assert ((frame >= negatives.start + j) & (frame < negatives.start + window)).all()
        else:
            assert (item == own).all()
            assert ((frame >= negatives.other) & (frame < negatives.other + window)).all()
            assert all(len(set(row.tolist())) == len(row) for row in index)


def test_a_window_of_all_frames_is_no_window() -> None:
    for window in (None, 200, 40):
        negatives = draw_negatives(Draws(1, 2, torch.device("cpu")), "m", "any", 3, 40, 2, window)
        assert (negatives.start, negatives.other) == (0, 0)
    method = build(SIM, window=None)
    assert math.isfinite(float(method(batch())["loss"].detach()))


@pytest.mark.parametrize("distinct", [True, False])
def test_gradients_of_dot_products_with_gathered_rows(distinct: bool) -> None:
    rng = torch.Generator().manual_seed(0)
    query = torch.randn(5, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    pool = torch.randn(7, 3, generator=rng, dtype=torch.float64, requires_grad=True)
    index = torch.randint(7, (4, 5), generator=rng)
    if distinct:
        index = torch.stack([torch.randperm(7, generator=rng)[:5] for _ in range(4)])
    expected = torch.einsum("mc,nmc->nm", query, pool[index])
    torch.testing.assert_close(dots(query, pool, index, distinct), expected)
    assert torch.autograd.gradcheck(lambda q, p: dots(q, p, index, distinct), (query, pool))


def test_chance_is_the_logarithm_of_the_candidates() -> None:
    draws = Draws(0, 4, torch.device("cpu"))
    z = torch.randn(4, 20, 3)
    found = info_nce(torch.zeros(4, 20, 2 * 3), z, draw_negatives(draws, "m", "any", 10, 20, 2, 128))
    torch.testing.assert_close(found.values, torch.full((4,), math.log(11)))
    grid = torch.randn(4, 7, 7, 3)
    found = grid_info_nce(torch.zeros_like(grid), grid.repeat(1, 1, 1, 5), draw_cells(draws, "m", 16, 7, 7, 5))
    torch.testing.assert_close(found.values, torch.full((4,), math.log(17)))


def test_perfect_predictions_are_told() -> None:
    z = 30 * F.normalize(torch.randn(4, 20, 16, generator=torch.Generator().manual_seed(0)), dim=2)
    prediction = torch.cat([z.roll(-j, dims=1) for j in (1, 2)], dim=2)
    offsets = draw_negatives(Draws(0, 4, torch.device("cpu")), "m", "exclusive", 10, 20, 2, None)
    found = info_nce(prediction, z, offsets)
    assert float(found.values.max()) < 1e-3 and float(found.hits.min()) == 100


def test_numbers_of_greedy_infomax_are_names_of_samplings() -> None:
    assert [GIM.Config(sampling=number).sampling for number in range(3)] == ["exclusive", "any", "sequence"]
    with pytest.raises(ValueError, match="sampling"):
        GIM.Config(sampling=3)


def test_losses_are_in_float32_under_autocast() -> None:
    for method in (SIM, CPC, GIM):
        built = build(method).float()
        one = batch()
        one.views[0] = one.views[0].float()
        plain = built(one)["loss"]
        with torch.autocast("cpu", torch.bfloat16):
            values = built(one)
        assert {value.dtype for value in values.values()} == {torch.float32}
        torch.testing.assert_close(values["loss"], plain, rtol=0.05, atol=0)
        values["loss"].backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in built.parameters())
    half = [torch.randn(2, 9, size).bfloat16() for size in (6, 3)]
    assert info_nce(half[0], half[1], Negatives("any", torch.arange(18)[None], 2)).values.dtype == torch.float32


def test_modules_compile_and_losses_do_not() -> None:
    built, compiled = build(SIM), build(SIM)
    compiled.compile(backend="eager")
    assert compiled._compiled_call_impl is None
    for seed in (1, 2):
        torch.testing.assert_close(compiled(batch(seed=seed))["loss"], built(batch(seed=seed))["loss"])


# parts and frames


@pytest.mark.parametrize(("method", "spec"), [(SIM, SHORT), (CPC, SHORT), (GIM, SHORT), (SIM, IMAGE), (CPC, IMAGE)])
def test_parts_are_means_of_frames(method: Any, spec: Spec) -> None:
    options = {"encoder": {**PATCHES, "name": "cpc_resnet50"}} if method is CPC and spec is IMAGE else {}
    built, x = build(method, spec, **options).eval(), batch(spec=spec).views[0]
    parts, frames = built.encode(x), built.frames(x)
    assert has(built, "frames") and isinstance(built, Frames)
    assert parts.keys() == frames.keys() == built.parts.keys() == built.places.keys()
    for part, value in parts.items():
        assert frames[part].shape == (len(x), math.prod(built.places[part]), built.parts[part])
        torch.testing.assert_close(value, frames[part].mean(1))
    assert torch.equal(parts["all"], parts[built.top])


def test_contexts_of_every_module() -> None:
    built = build(GIM, encoder={**TINY["encoder"], "context_at": "each"})
    assert list(built.parts) == ["module0", "context0", "module1", "context1", "module2", "context", "all"]
    none = build(GIM, encoder={**TINY["encoder"], "context_at": "none"})
    assert list(none.parts) == ["module0", "module1", "module2", "all"]
    assert none.parts["all"] == 6


def test_samples_of_the_posterior_outside_of_training() -> None:
    built, x = build(SIM).eval(), batch(3).views[0]
    means = built.frames(x)["module0"]
    latent = built.units[0](x)
    rng = generator(0)
    drawn = torch.stack([built.frames(x, rng)["module0"] for _ in range(400)])
    assert not torch.equal(drawn[0], drawn[1])
    torch.testing.assert_close(drawn.mean(0), means, rtol=0, atol=0.3)
    torch.testing.assert_close(drawn.var(0), latent.logvar.exp(), rtol=0.5, atol=0)
    assert torch.equal(built.frames(x)["module0"], means)
    gim = build(GIM).eval()
    assert torch.equal(gim.frames(x, generator(0))["context"], gim.frames(x)["context"])


def test_parts_from_samples_belong_to_the_item() -> None:
    sampled, means = build(SIM, sample_at_evaluation=True).eval(), build(SIM).eval()
    x = batch(4).views[0]
    found = sampled.encode(x)
    for part in ("module0", "module2", "context"):
        assert not torch.allclose(found[part], means.encode(x)[part])
        torch.testing.assert_close(sampled.encode(x.flip(0))[part].flip(0), found[part])
    noise = (sampled.frames(x)["module0"] - means.frames(x)["module0"]) / (0.5 * means.units[0](x).logvar).exp()
    assert abs(float(noise.detach().mean())) < 0.1 and abs(float(noise.detach().std()) - 1) < 0.1
    assert not torch.allclose(noise[0], noise[1])


def test_both_samples_of_a_step_are_independent_and_one_goes_on() -> None:
    built = build(SIM)
    seen: dict[str, Tensor] = {}
    original = built.drawn

    def drawn(draws: Draws, name: str, latent: Latent) -> Tensor | None:
        noise: Tensor | None = original(draws, name, latent)
        if noise is not None:
            seen[name] = noise
        return noise

    built.drawn = drawn
    built.train()(batch())
    assert sorted(seen) == ["c0", "c1", "c2", "z0", "z1", "z2"]
    joint = torch.stack([seen["c0"].flatten(), seen["z0"].flatten()])
    assert abs(float(torch.corrcoef(joint)[0, 1])) < 0.05
    images = build(SIM, IMAGE)
    images.drawn = drawn
    seen.clear()
    images.train()(batch(2, IMAGE))
    assert sorted(seen) == ["z0", "z1", "z2"]


def test_a_frozen_network_stays_as_it_is() -> None:
    options = {"encoder": {"channels": 6, "context": 5, "batch_norm": True}, "frozen": True}
    built = Supervised(Supervised.Config(**options), SHORT).double()
    before = {name: value.clone() for name, value in built.state_dict().items()}
    values = built.train()(batch())
    values["loss"].backward()
    assert {name for name, grad in grads(built).items() if grad is not None} == {"heads.0.weight", "heads.0.bias"}
    assert all(torch.equal(before[name], value) for name, value in built.state_dict().items())


def test_greedy_supervision_is_isolated_and_the_other_is_not() -> None:
    encoder = {"name": "sim_audio", "channels": 6, "context": 5}
    for greedy in (True, False):
        built = Supervised(Supervised.Config(encoder=encoder, greedy=greedy), SHORT).double()
        assert list(built.heads) == (["0", "1", "2", "3"] if greedy else ["3"])
        values = built(batch())
        assert [name for name in values if name.startswith("ce_")] == [f"ce_{number}" for number in built.heads]
        frames = built.frames(batch().views[0])["context"]
        expected = F.cross_entropy(built.heads["3"](frames.mean(1)), batch().labels["pitch"])
        torch.testing.assert_close(values["ce_3"], expected.detach())
        values["loss"].backward()
        assert all(parameter.grad is not None for parameter in built.parameters())
        weight = built.net[2].heads.mean.weight
        among_all = weight.grad.clone()
        frames = built.frames(batch().views[0])["module2" if greedy else "context"]
        head = built.heads["2" if greedy else "3"]
        built.zero_grad()
        F.cross_entropy(head(frames.mean(1)), batch().labels["pitch"]).backward()
        torch.testing.assert_close(weight.grad, among_all)


def test_labels_of_frames() -> None:
    built = Supervised(Supervised.Config(**{"encoder": {"channels": 6, "context": 5}}, head_start="xavier"), SHORT)
    built = built.double()
    one = batch(4)
    one.labels["pitch"] = torch.randint(3, (4, 8), generator=torch.Generator().manual_seed(0))
    one.labels["pitch"][1, 5:] = -1
    logits = built.heads["0"](built.frames(one.views[0])["context"])  # 8 frames
    rows = F.cross_entropy(logits.flatten(0, 1), one.labels["pitch"].flatten(), ignore_index=-1, reduction="none")
    known = torch.tensor([8, 5, 8, 8])
    torch.testing.assert_close(built(one)["loss"], (rows.view(4, 8).sum(1) / known).mean())
    one.labels["pitch"] = one.labels["pitch"][:, :4]  # half as many labels as frames
    pooled = built.heads["0"](built.frames(one.views[0])["context"].unflatten(1, (4, 2)).mean(2))
    expected = F.cross_entropy(pooled.flatten(0, 1), one.labels["pitch"].flatten())
    torch.testing.assert_close(built(one)["loss"], expected)


def test_features_hold_frames_of_any_unit_on_request() -> None:
    network = build_units(ModularConfig(name="cpc_audio", channels=4, context=3), (1, 1300), False)
    latent = network.units[0](torch.randn(2, 1, 1300))
    assert sorted(latent.layers) == [1, 3, 4]
    assert [latent.layers[number].shape[2] for number in (1, 3, 4)] == [network.layers[n][0] for n in (1, 3, 4)]


def test_evaluations_read_every_part_of_a_checkpoint(tmp_path: Path) -> None:
    fit(configuration("sim", kl_weight=0.001), None, tmp_path)
    subject = CheckpointSubject(tmp_path / "epoch-0003", None, tmp_path / "cache")
    metrics = evaluate(subject, "linear", {"parts": ["*"], "factor": "pitch"}).metrics
    assert {name.split("/")[0] for name in metrics} == {"all", "context", "module0", "module1", "module2"}
    assert metrics["module0/val/top1"] > 0.4  # of three pitches, from means over all three tones
