"""Networks and whole steps of SIM, Greedy InfoMax, CPC and the supervised baseline against their original codes."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_sim_losses import close, golden
from torch import Tensor, nn

from datasets.base import Batch, Spec
from trainables.core.config import TrainConfig
from trainables.core.optim import build_optimizer
from trainables.cpc import CPC
from trainables.gim import GIM
from trainables.losses.info_nce import Negatives
from trainables.nets import isolated
from trainables.nets.modular import ModularConfig, SoundUnit, build_units
from trainables.nets.patches import Block
from trainables.nets.pixelcnn import PixelCNN
from trainables.sim import SIM
from trainables.supervised import Supervised

NAMES = (  # the original's, and ours
    (r"^encoder\.(\d+)\.(weight|bias)$", r"blocks.\1.0.\2"),
    (r"^encoder\.(\d+)\.", r"blocks.\1."),
    (r"^encoder_mu\.", "heads.mean."),
    (r"^encoder_var\.", "heads.logvar."),
    (r"^autoregressor\.", "predicts."),
)


def ours(name: str) -> str:
    """Of a block's stack: `encoder.0.1.weight`."""
    for theirs, mine in NAMES:
        name = re.sub(theirs, mine, name)
    return name


def of_model(name: str) -> str:
    """Of a whole model: `m0.encoder.encoder.0.1.weight`."""
    module, rest = name[1:].split(".", 1)
    if rest.startswith("loss.predictor"):
        return f"predictors.{module}.weight"
    return f"net.{module}.{ours(rest.removeprefix('encoder.'))}"


def named(g: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {key.removeprefix(prefix): value for key, value in g.items() if key.startswith(prefix)}


def load(module: nn.Module, weights: dict[str, Tensor], unused: str = "") -> None:
    """All of `module` from `weights`, all of which it has but those that it has no use for."""
    found = module.load_state_dict(weights, strict=False)
    assert all("num_batches_tracked" in key or "mask" in key for key in found.missing_keys), found.missing_keys
    assert all(unused and unused in key for key in found.unexpected_keys), found.unexpected_keys


def drawn_weights(g: dict[str, Any]) -> dict[str, Tensor]:
    """The weights that a case describes and does not hold."""
    rng, found = np.random.RandomState(int(g["param_seed"])), {}
    for name, text in zip(g["param_names"], g["param_shapes"], strict=True):
        shape = tuple(int(size) for size in str(text).split("x"))
        value = rng.standard_normal(shape)
        scale = 1 / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else 0.1
        found[str(name)] = torch.from_numpy(value * scale)
    return found


STACKS: dict[str, dict[str, Any]] = {
    "plain": {"kernels": (10, 8), "strides": (5, 4), "pads": (2, 2), "batch_norm": False},
    "bn": {"kernels": (4, 4), "strides": (2, 2), "pads": (2, 2), "batch_norm": True},
    "cpc_extra": {"name": "cpc_extra_audio"},
    "pool": {"kernels": (10, 8, 3), "strides": (4, 3, 1), "pads": (2, 2, 1), "pools": (8, 8, 8), "batch_norm": False},
}


@pytest.mark.parametrize("name", STACKS)
def test_a_stack_of_convolutions(name: str) -> None:
    g = golden(f"cnn_encoder_{name}_a")
    x = g["in_x"].clone().requires_grad_()
    options = {"name": "one_module_audio", "channels": len(g["w_encoder_mu.bias"]), **STACKS[name]}
    options.setdefault("cut", (len(options.get("kernels", range(8))),))
    (module, *_) = build_units(ModularConfig(**options), tuple(x.shape[1:]), probabilistic=True).units
    assert isinstance(module, SoundUnit)
    module.double().train()
    if name == "pool":  # the pooling counts as a layer of its own there
        g = {re.sub(r"encoder\.(\d)\.", lambda found: f"encoder.{int(found[1]) // 2}.", key): g[key] for key in g}
    module.predicts = None
    load(module, {ours(key): value for key, value in named(g, "w_").items()})
    latent = module(x)
    assert latent.logvar is not None
    mean, logvar = (value.transpose(1, 2) for value in (latent.mean, latent.logvar))
    close(mean, g["out_mu_train"])
    close(logvar, g["out_logvar_train"])
    ((mean * g["in_cotangent_mu"]).sum() + (logvar * g["in_cotangent_logvar"]).sum()).backward()
    close(x.grad, g["grad_x"])
    for key, value in named(g, "grad_").items():
        if key != "x":
            close(dict(module.named_parameters())[ours(key)].grad, value)
    for key, value in named(g, "out_after_").items():
        close(dict(module.named_buffers())[ours(key)], value)
    latent = module.eval()(x)
    if "out_mu_eval" in g:
        close(latent.mean.transpose(1, 2), g["out_mu_eval"])
        close(latent.logvar.transpose(1, 2), g["out_logvar_eval"])
    for layer in (2, 5, 7) if name == "cpc_extra" else ():
        close(latent.layers[layer], g[f"out_layer{layer}"])


MODELS: dict[str, tuple[Any, dict[str, Any]]] = {
    "sim": (SIM, {"name": "sim_audio", "batch_norm": True}),
    "gim": (GIM, {"name": "sim_audio", "batch_norm": False}),
    "cpc": (CPC, {"name": "cpc_audio", "batch_norm": False}),
}


def model(name: str, g: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """One of the original's models, with its draws."""
    kind, encoder = MODELS[name]
    perms = {module: value.long() for module, value in named(g, "rnd_perm_m").items()}
    gru = next(value for key, value in g.items() if key.endswith("weight_hh_l0"))
    options = {
        "encoder": {**encoder, "channels": 5, "context": gru.shape[1]},
        "prediction_steps": 4,
        "negatives": len(perms["0"]),
    }
    spec = Spec(shape=(1, g["in_x"].shape[2]))
    kind.check(kind.Config(**options), spec)
    method = kind(kind.Config(**options), spec).double()
    load(method, {of_model(key): value for key, value in named(g, "w_").items()}, "" if name == "sim" else "logvar")

    def draw_negatives(draws: Any, module: str, sampling: Any, count: int, *sizes: Any) -> Negatives:
        return Negatives(sampling, perms[module.removeprefix("module ")], draws.total)

    monkeypatch.setattr(isolated, "draw_negatives", draw_negatives)
    if name == "sim":
        monkeypatch.setattr(
            method, "drawn",
            lambda draws, what, latent: None if latent.logvar is None else g[f"rnd_eps_{what[0]}_m{what[1]}"],
        )  # fmt: skip
    return method


@pytest.mark.parametrize("name", MODELS)
def test_a_whole_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    g = golden(f"fullmodel_{name}_a")
    method, x = model(name, g, monkeypatch), g["in_x"]
    batch = Batch([x], torch.arange(len(x)))
    parts, frames = method.eval().encode(x), method.frames(x)
    close(frames["context"], g["out_context_eval"])
    close(parts["all"], g["out_context_eval"].mean(1))
    for number, expected in named(g, "out_cnn_eval_m").items():
        close(frames[f"module{number}"].transpose(1, 2), expected)
        close(parts[f"module{number}"], expected.mean(2))
    values = method.train()(batch)
    close(values["loss"], g["out_loss"].sum())
    for number, nce in enumerate(g["out_nce"]):
        close(values[f"nce_{number}"], nce)
        if name == "sim":
            close(values[f"loss_{number}"], g["out_loss"][number])
        if f"kl_time_{number}" in values:
            close(values[f"kl_time_{number}"], g["out_kld"][number])
    values["loss"].backward()
    parameters = dict(method.named_parameters())
    expected = {of_model(key): value for key, value in named(g, "grad_").items()}
    assert parameters.keys() == expected.keys()
    for key, value in expected.items():
        close(parameters[key].grad, value)
    train = TrainConfig(optimizer="adam", lr=2e-4, betas=(0.9, 0.999), weight_decay=0, schedule="constant")
    build_optimizer(method, train).step()
    for key, value in named(g, "out_adam1_").items():
        close(parameters[of_model(key)], value, atol=1e-7)


def test_the_two_modules_of_the_thesis() -> None:
    g = golden("vgim_thesis_encoder_a")
    first, second = build_units(ModularConfig(name="vgim_audio", channels=4), (1, 2400), probabilistic=True).units
    names = {"encoder.layer ": "blocks.", "encoder_mu.": "heads.mean.", "encoder_var.": "heads.logvar."}
    for number, module in ((1, first), (2, second)):
        weights = named(g, f"w_m{number}_")
        for theirs, mine in names.items():
            weights = {key.replace(theirs, mine): value for key, value in weights.items()}
        load(module.double(), weights)
    x = g["in_x"]
    for number, module in ((1, first), (2, second)):
        latent = module(x)
        close(latent.mean.transpose(1, 2), g[f"out_mu{number}"])
        close(latent.logvar.transpose(1, 2), g[f"out_logvar{number}"])
        x = module.onward(latent, latent.mean)


@pytest.mark.parametrize("frozen", [False, True])
def test_supervised_end_to_end_and_frozen(frozen: bool) -> None:
    g = golden("fully_supervised_a")
    cfg = Supervised.Config(encoder={"channels": 6}, frozen=frozen)
    method = Supervised(cfg, Spec(shape=(1, 1300), labels={"syllable": 9})).double()

    def mine(name: str) -> str:
        name = re.sub(r"^cnn\.(\d)", lambda found: f"net.0.blocks.{int(found[1]) // 2}.0", name)
        return name.replace("regressor.", "net.0.predicts.gru.").replace("classifier.", "heads.0.")

    load(method, {mine(key): value for key, value in drawn_weights(g).items()})
    close(method.heads["0"](method.frames(g["in_x"])["context"].mean(1)), g["out_logits"])
    values = method.train()(Batch([g["in_x"]], torch.arange(3), labels={"syllable": g["in_target"]}))
    close(values["loss"], g["out_loss"])
    values["loss"].backward()
    trained = [name for name, parameter in method.named_parameters() if parameter.grad is not None]
    expected = {mine(str(name)) for name in g["out_trained"]}
    assert set(trained) == ({name for name in expected if "heads" in name} if frozen else expected)
    close(method.heads["0"].weight.grad, g["grad_classifier_weight"])


# images


@pytest.mark.parametrize(("kind", "sizes"), [("basic", (4, 6, 2, False)), ("bottleneck", (8, 2, 1, True))])
def test_a_residual_block(kind: str, sizes: tuple[int, int, int, bool]) -> None:
    g = golden(f"vision_block_{kind}_a")
    block = Block(*sizes).double()
    load(block, {key.replace("shortcut.0", "shortcut"): value for key, value in named(g, "w_").items()})
    x = g["in_x"].clone().requires_grad_()
    y = block(x)
    close(y, g["out_y"])
    (y * g["in_cotangent"]).sum().backward()
    close(x.grad, g["grad_x"])


def stage_weights(g: dict[str, Any]) -> dict[str, Tensor]:
    """The five projections are one predictor here, and heads see a row of patches instead of a grid."""
    found: dict[str, Tensor] = {}
    projections: dict[str, list[Tensor]] = {}
    for key, value in drawn_weights(g).items():
        number, rest = key.split(".", 1)
        if rest.startswith("loss.W_k"):
            projections.setdefault(number, []).append(value[:, :, 0, 0])
            continue
        rest = re.sub(r"model\.layer 0\.(\d+)", r"blocks.\1", rest).replace("model.Conv1", "stem")
        rest = rest.replace("shortcut.0", "shortcut")
        rest = rest.replace("mu.", "heads.mean.") if rest.startswith("mu.") else rest
        rest = rest.replace("var.", "heads.logvar.") if rest.startswith("var.") else rest
        found[f"net.{number}.{rest}"] = value[..., 0] if "heads" in rest and value.ndim == 4 else value
    return {**found, **{f"predictors.{number}.weight": torch.cat(maps) for number, maps in projections.items()}}


@pytest.mark.parametrize(("name", "blocks"), [("sim", (1, 1, 1)), ("gim", (1, 2, 1))])
def test_three_modules_on_images(name: str, blocks: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    g = golden(f"vision_stages_{name}_a")
    x = g["in_img"]
    kind: Any = {"sim": SIM, "gim": GIM}[name]
    more = {"kl_reduction": "channels", "kl_weight": 0.01} if name == "sim" else {}
    encoder = {"name": "resnet50" if name == "sim" else "resnet34", "channels": 4, "blocks": blocks}
    cfg = kind.Config(encoder=encoder, prediction_steps=5, negatives=4, **more)
    spec = Spec(shape=tuple(x.shape[1:]))
    kind.check(cfg, spec)
    method = kind(cfg, spec).double()
    load(method, stage_weights(g), "" if name == "sim" else "logvar")

    def draw_cells(draws: Any, module: str, *sizes: int) -> list[Tensor]:
        number = module.removeprefix("module ")
        return [g[f"rnd_neg_m{number}_k{k}"].long().view(6 - k, 7, len(x), 4) for k in range(1, 6)]

    monkeypatch.setattr(isolated, "draw_cells", draw_cells)
    if name == "sim":

        def drawn(draws: Any, what: str, latent: Any) -> Tensor:
            noise: Tensor = g[f"rnd_eps_m{what[1]}"]
            return noise.flatten(2).transpose(1, 2)

        monkeypatch.setattr(method, "drawn", drawn)
    values = method.train()(Batch([x], torch.arange(len(x))))
    entering = x
    for number, module in enumerate(method.net):
        latent = module(entering)
        noise = g[f"rnd_eps_m{number}"].flatten(2).transpose(1, 2) if name == "sim" else None
        close(latent.sample(noise).transpose(1, 2), g[f"out_repr_m{number}"])
        assert latent.features is not None
        close(latent.features.mean((0, 2, 3)), g[f"out_zmean_m{number}"])
        assert list(latent.features.shape) == g[f"out_zshape_m{number}"].tolist()
        close(values[f"nce_{number}"], g[f"out_nce_m{number}"])
        if name == "sim":
            close(0.01 * values[f"kl_channels_{number}"], g[f"out_kld_m{number}"])
            close(values[f"loss_{number}"], g[f"out_loss_m{number}"])
        entering = module.onward(latent, latent.mean)
    values["loss"].backward()
    norms, expected = stage_norms(method), named(g, "gradnorm_")
    assert name == "gim" or norms.keys() == expected.keys()
    for key, norm in norms.items():
        close(norm, expected[key], rtol=1e-8)


def stage_norms(method: Any) -> dict[str, Tensor]:
    """Norms of the gradients by the original's names."""
    found = {}
    for name, parameter in method.named_parameters():
        assert parameter.grad is not None
        kind, number, rest = name.split(".", 2)
        if kind == "predictors":
            width = parameter.shape[1]
            maps = enumerate(parameter.grad.split(width))
            found.update({f"{number}.loss.W_k.{k}.weight": part.norm() for k, part in maps})
            continue
        rest = rest.replace("heads.mean", "mu").replace("heads.logvar", "var").replace("stem", "model.Conv1")
        rest = re.sub(r"blocks\.(\d+)", r"model.layer 0.\1", rest).replace("shortcut.", "shortcut.0.")
        found[f"{number}.{rest}"] = parameter.grad.norm()
    return found


def test_the_gated_context_network() -> None:
    g = golden("vision_pixelcnn_a")
    net = PixelCNN(4, 4).double()
    names = {
        "vertical_conv": "vertical", "horizontal_conv": "horizontal", "v_to_h_conv": "down",
        "residual_vertical": "vertical_residual", "horizontal_output": "out",
    }  # fmt: skip
    weights = {}
    for key, value in drawn_weights(g).items():
        key = key.removeprefix("0.") if key.startswith("0.") else key.replace("1.", "close.", 1)
        for theirs, mine in names.items():
            key = re.sub(rf"\.{theirs}\.", f".{mine}.", key)
        weights[key] = value
    load(net, weights, "layers.3.vertical_residual")  # nothing reads what it makes
    close(net.horizontal(g["in_x"]), g["out_h"])
    close(net(g["in_x"]), g["out_y"])
    x = g["in_x"].clone().requires_grad_()
    net.horizontal(x)[:, :, 3].sum().backward()
    assert x.grad is not None
    assert (x.grad.abs().sum((0, 1, 3)) > 0).long().tolist() == g["out_rows_seen"].tolist()


def test_patches_are_folded_into_the_batch_row_by_row() -> None:
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    (module, *_) = build_units(ModularConfig(name="resnet34"), (3, 64, 64), False).units
    unfolded = F.unfold(x, 16, stride=8).transpose(1, 2).reshape(2 * 49, 3, 16, 16)
    from trainables.nets.patches import cut_patches

    torch.testing.assert_close(cut_patches(x, 16, 8), unfolded)
    assert module.grid == (7, 7)
