"""Three optimiser steps of the whole of V3 against the original code."""

from __future__ import annotations

import torch
from test_v3_losses import close, golden
from test_v3_networks import drawn, load

from datasets.base import Batch, Spec
from trainables.core.config import TrainConfig
from trainables.core.optim import build_optimizer, lr_multiplier
from trainables.losses.v3 import TERMS
from trainables.v3 import V3


def test_three_steps() -> None:
    g = golden("train_steps_a")
    x, width = g["x"], int(g["d_emb"])
    cfg = V3.Config(
        relativity=float(g["relativity"]),
        weights=dict(zip(TERMS, g["weights"].tolist(), strict=True)),
        atoms=int(g["n_atoms"]),
        decay=float(g["decay"]),
        dead=float(g["threshold"]),
        encoder={"name": "phonenums", "channels": int(g["n_channels"]), "content": width, "style": width},
    )
    spec = Spec(shape=tuple(x.shape[1:]), fragments=x.shape[1])
    V3.check(cfg, spec)
    method = V3(cfg, spec)
    load(method.net, {name: value.float() for name, value in drawn(g).items()}, "norms")
    method.quantiser.embed.copy_(g["embed0"])
    method.quantiser.counts.copy_(g["cluster_size0"])
    method.quantiser.sums.copy_(g["embed0"] * g["cluster_size0"][:, None])
    method.quantiser.initialised.fill_(True)
    optimizer = build_optimizer(
        method, TrainConfig(lr=float(g["lr"]), weight_decay=float(g["weight_decay"]), betas=(0.9, 0.999))
    )
    batch = Batch([x], torch.arange(len(x)))
    for losses, codes in zip(g["losses"], g["codes"], strict=True):
        optimizer.zero_grad()
        seen: list[torch.Tensor] = []
        handle = method.quantiser.register_forward_hook(lambda _, __, found, seen=seen: seen.append(found.codes))
        values = method.train()(batch)
        handle.remove()
        assert torch.equal(seen[0], codes)
        for name, expected in zip((*TERMS, "loss"), losses, strict=True):
            close(values[name].double(), expected, 1e-3)
        values["loss"].backward()
        optimizer.step()
    close(method.quantiser.embed, g["embed_final"], 1e-3)
    close(method.quantiser.counts, g["cluster_size_final"], 1e-3)
    parts = method.eval().frames(x)
    close(parts["content"], g["final_eval_z_c"], 5e-3)
    close(parts["style"], g["final_eval_z_s"], 5e-3)
    assert torch.equal(method.codes(x), g["final_eval_codes"])
    close(method.decode(parts), g["final_eval_recon"], 5e-3)


def test_schedules() -> None:
    g = golden("lr_schedule_a")
    decay, every, least, warmup, held = g["exp_params"].tolist()
    falling = TrainConfig(
        schedule="exponential", decay=decay, decay_epochs=every, final_lr=least, warmup_epochs=int(warmup),
        warmup_lr=held, epochs=1000,
    )  # fmt: skip
    period, least, warmup, held = g["cosine_params"].tolist()
    rising = TrainConfig(
        schedule="cosine", period=int(period), final_lr=least, warmup_epochs=int(warmup), warmup_lr=held, epochs=1000
    )
    for cfg, expected in ((falling, g["exp"]), (rising, g["cosine"])):
        found = torch.tensor([lr_multiplier(cfg, epoch) for epoch in g["epochs"].tolist()], dtype=torch.float64)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
