"""Blocks and autoencoders of V3 against values of the original code."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from test_v3_losses import close, golden, leaf
from torch import Tensor, nn

from datasets.config import ConfigError
from trainables.core.method import parameter_counts
from trainables.nets.v3_autoencoders import Autoencoder, AutoencoderConfig, Block, Name, layout_of, ours


def drawn(g: dict[str, Any]) -> dict[str, Tensor]:
    """The weights that a case describes and does not hold, by our names."""
    rng, found = np.random.RandomState(int(g["seed"])), {}
    for side, where in (("enc", "encoder"), ("dec", "decoder")):
        for name, text in zip(g[f"{side}_names"], g[f"{side}_shapes"], strict=True):
            shape = tuple(int(size) for size in str(text).split("x"))
            z = rng.standard_normal(int(np.prod(shape))).reshape(shape)
            value = 0.1 * z
            if len(shape) > 1:
                value = z / np.sqrt(np.prod(shape[1:]))
            elif str(name).endswith("running_var"):
                value = 1 + 0.1 * z**2
            elif str(name).endswith("weight"):
                value = 1 + value
            found[f"{where}.{ours(str(name))}"] = torch.from_numpy(value)
    return found


def load(module: nn.Module, weights: dict[str, Tensor], unused: str = "") -> None:
    found = module.load_state_dict(weights, strict=False)
    assert all("num_batches_tracked" in key for key in found.missing_keys), found.missing_keys
    assert all(unused and unused in key for key in found.unexpected_keys), found.unexpected_keys


@pytest.mark.parametrize(("case", "transposed"), [("resblock_a", False), ("resblock_transpose_a", True)])
def test_a_residual_block(case: str, transposed: bool) -> None:
    g = golden(case)
    kernel, stride = (tuple(g[name].tolist()) for name in ("kernel", "stride"))
    block = Block(g["x"].shape[1], g["y_eval"].shape[1], kernel, stride, transposed).double()

    def named(prefix: str) -> dict[str, Tensor]:
        found = {key.removeprefix(prefix): value for key, value in g.items() if key.startswith(prefix)}
        return {key.replace("bn_", "norm_"): value for key, value in found.items()}

    load(block, named("w__"))
    close(block.eval()(g["x"]), g["y_eval"])
    x = leaf(g["x"])
    y = block.train()(x)
    close(y, g["y_train"])
    (y * g["cotangent"]).sum().backward()
    close(x.grad, g["grad_x"])
    state = block.state_dict()
    for key, value in named("after__").items():
        close(state[key], value)


@pytest.mark.parametrize("name", ["phonenums", "svhn", "insnotes", "librispeech"])
def test_a_whole_encoder_and_decoder(name: str) -> None:
    g = golden(f"net_{name}_a")
    widths = {"content": int(g["d_emb_c"]), "style": int(g["d_emb_s"])}
    cfg = AutoencoderConfig(name=name, channels=int(g["n_channels"]), **widths)
    net = Autoencoder(cfg, tuple(g["x"].shape[2:])).double()
    load(net, drawn(g), "norms")
    counts = parameter_counts(net)
    assert counts["encoder"] + 2 * sum(widths.values()) == int(g["enc_params"])  # of the unused norms
    assert counts["decoder"] == int(g["dec_params"])
    assert counts["total"] == counts["encoder"] + counts["decoder"]

    net.eval()
    c, s = net.encode(g["x"])
    close(c, g["enc_eval_c"])
    close(s, g["enc_eval_s"])
    close(net.decode(g["z_c"], g["z_s"]), g["dec_eval"])

    net.train()
    x, z_c, z_s = leaf(g["x"]), leaf(g["z_c"]), leaf(g["z_s"])
    c, s = net.encode(x)
    close(c, g["enc_train_c"])
    close(s, g["enc_train_s"])
    (c.square().sum() + s.sin().sum()).backward()
    # the deepest network's gradient depends on the order of sums, which differs by processor: up to 1.5e-9 was seen
    close(x.grad, g["grad_x"], 2e-9 if name == "librispeech" else 1e-9)
    out = net.decode(z_c, z_s)
    close(out, g["dec_train"])
    out.square().mean().backward()
    close(z_c.grad, g["grad_z_c"])
    close(z_s.grad, g["grad_z_s"])


PUBLISHED = {  # encoder with the two unused norms, decoder
    "phonenums": ((3, 48, 32), 10_307_968, 10_304_819),
    "sprites": ((3, 64, 64), 12_929_408, 12_928_819),
    "svhn": ((3, 48, 32), 54_766_912, 54_763_683),
    "insnotes": ((512, 32), 27_591_568, 27_593_565),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_sizes(name: str) -> None:
    fragment, encoder, decoder = PUBLISHED[name]
    with torch.device("meta"):
        net = Autoencoder(AutoencoderConfig(name=name, embedding_norm="batch"), fragment)
    assert parameter_counts(net) == {"encoder": encoder, "decoder": decoder, "total": encoder + decoder}


@pytest.mark.parametrize(
    ("fragment", "name"),
    [
        ((48,), "vectors"),
        ((3, 64, 64), "phonenums"),
        ((512, 32), "insnotes"),
        ((1, 512, 32), "insnotes"),
        ((80, 64), "librispeech"),
        ((1, 80, 64), "librispeech"),
    ],
)
def test_the_network_follows_from_the_fragments(fragment: tuple[int, ...], name: Name) -> None:
    """Also of spectra as our data sets have them, with an axis of one channel."""
    assert layout_of(AutoencoderConfig(), fragment) == layout_of(AutoencoderConfig(name=name), fragment)


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"name": "librispeech", "channels": 32}, (80, 64)),
        ({"channels": 16, "decoder_norm": "group"}, (3, 16, 16)),
        ({"channels": 8, "levels": (1, 1), "blocks": 1, "decoder_norm": "none"}, (1, 8, 12)),
        ({"channels": 24, "decoder_norm": "group", "embedding_norm": "batch"}, (48,)),
    ],
)
def test_other_forms_give_back_the_shape(options: dict[str, Any], fragment: tuple[int, ...]) -> None:
    net = Autoencoder(AutoencoderConfig(content=6, style=4, **options), fragment)
    x = torch.randn(2, 3, *fragment)
    c, s = net.encode(x)
    assert (c.shape, s.shape) == ((2, 3, 6), (2, 3, 4))
    assert net.decode(c, s).shape == x.shape


@pytest.mark.parametrize(
    ("options", "fragment", "said"),
    [
        ({"channels": 24}, (3, 48, 32), "multiple of 16"),
        ({}, (3, 40, 32), "40 rows"),
        ({"name": "insnotes"}, (512, 30), "30 columns"),
        ({"name": "svhn"}, (48,), "does not take"),
        ({}, (2, 3, 48, 32), "fragments are vectors"),
        ({"levels": (-1, 2)}, (3, 48, 32), "at least 0"),
    ],
)
def test_what_does_not_fit_is_refused(options: dict[str, Any], fragment: tuple[int, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Autoencoder(AutoencoderConfig(**options), fragment)
