"""Linear probes of SIM and GIM against whole trainings of their original codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_sim_losses import close, golden
from torch import Tensor, nn

from datasets import librispeech
from trainables.evals import _adam, adversarial, probes
from trainables.evals._encode import pooled
from trainables.evals._labelled import labelled
from trainables.evals.base import Features


def layer(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, dtype=weight.dtype)
    made.weight.data.copy_(weight)
    if bias is not None:
        made.bias.data.copy_(bias)
    return made


def as_features(x: Tensor, y: Tensor) -> Features:
    return Features({"context": x}, {"what": y}, {}, {}, torch.arange(len(x)))


def trained(g: dict[str, Any], x: Tensor, y: Tensor, **settings: Any) -> probes.Linear:
    """A probe fitted from the case's first weights, in the order of the rows, checked against its last ones."""
    rows = labelled(as_features(x, y), "context", "what")
    start = layer(g["w_weight0"], g.get("w_bias0"))
    cfg = _adam.Adam(shuffle=False, **settings)
    rng, bias = np.random.default_rng(0), "w_bias0" in g
    probe, losses = _adam.fit(rows.x, rows.y, rows.row, len(start.weight), cfg, rng, bias=bias, start=start)
    close(probe.weight.T, g["out_weight"], 1e-7, 1e-9)
    close(probe.bias, g["out_bias"] if bias else torch.zeros_like(probe.bias), 1e-7, 1e-9)
    close(torch.tensor(losses, dtype=torch.float64), g["out_epoch_loss"], 1e-7, 1e-9)
    return probe


@pytest.mark.parametrize(("name", "lr"), [("syllables", 1e-3), ("vowels_module1", 1e-2)])
def test_a_probe_of_means_over_time(name: str, lr: float) -> None:
    g = golden(f"probe_{name}_a")
    x, y = pooled(g["in_z"].flatten(0, 1), "mean"), g["in_labels"].flatten()
    count = g["in_labels"].shape[1]
    probe = trained(g, x, y, lr=lr, epochs=len(g["out_epoch_loss"]), batch_size=count)
    scores = probe(x[:count])
    close(F.cross_entropy(scores, y[:count]), g["out_test_loss"], 1e-7, 1e-9)
    assert probes.accuracy(scores, y[:count]) == pytest.approx(float(g["out_test_accuracy"]))


def test_a_probe_of_frames() -> None:
    """An utterance has a few frames more than labels; the first of them are left out."""
    g = golden("probe_phones_a")
    items = []
    for x, length, y in zip(g["in_context"], g["in_context_len"], g["in_labels"], strict=True):
        known = y[y >= 0]
        items.append(labelled(as_features(x[None, : int(length)], known[None]), "context", "what"))
    x, y = torch.cat([one.x for one in items]), torch.cat([one.y for one in items])
    row = torch.arange(len(items)).repeat_interleave(torch.tensor([len(one.x) for one in items]))
    start, cfg = layer(g["w_weight0"], g["w_bias0"]), _adam.Adam(lr=1e-4, epochs=3, batch_size=1, shuffle=False)
    probe, losses = _adam.fit(x, y, row, 41, cfg, np.random.default_rng(0), start=start)
    close(probe.weight.T, g["out_weight"], 1e-7, 1e-9)
    close(probe.bias, g["out_bias"], 1e-7, 1e-9)
    close(torch.tensor(losses, dtype=torch.float64), g["out_epoch_loss"], 1e-7, 1e-9)
    assert probes.accuracy(probe(x), y) == pytest.approx(float(g["out_test_accuracy"]))


def test_padded_utterances_give_the_same_rows() -> None:
    """As the data deliver them: silence behind, labels behind the frames that have none."""
    g = golden("probe_phones_a")
    lengths, longest = g["in_context_len"], g["in_context"].shape[1]
    counts = (g["in_labels"] >= 0).sum(1)
    labels = torch.full((len(lengths), longest), -1)
    for at, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        labels[at, int(length - count) : int(length)] = g["in_labels"][at, : int(count)]
    found = labelled(as_features(g["in_context"], labels), "context", "what")
    expected = [x[int(n - c) : int(n)] for x, n, c in zip(g["in_context"], lengths, counts, strict=True)]
    assert torch.equal(found.x, torch.cat(expected)) and torch.equal(found.y, g["in_labels"][g["in_labels"] >= 0])
    assert torch.equal(found.row, torch.arange(3).repeat_interleave(counts))


@pytest.mark.parametrize("name", ["syllables", "vowels_nobias", "speaker"])
def test_a_probe_says_what_the_published_classifier_says(name: str) -> None:
    g = golden(f"head_{name}_a")
    y = g["out_label_ids"] if name == "speaker" else g["in_target"]
    classes, d = g["w_weight"].shape
    probe = probes.Linear(g["w_weight"].T, g.get("w_bias", torch.zeros(classes)), torch.zeros(d), torch.ones(d), 0)
    probe = probes.Linear(*(value.double() for value in (probe.weight, probe.bias, probe.mean, probe.scale)), 0)
    c = g["in_c"].clone().requires_grad_()
    scores = probe(pooled(c, "mean"))
    loss = F.cross_entropy(scores, y)
    close(loss, g["out_loss"])
    assert probes.accuracy(scores.detach(), y) == pytest.approx(float(g["out_accuracy"]))
    loss.backward()
    close(c.grad, g["grad_c"])


def test_speakers_are_numbered_as_published() -> None:
    g = golden("head_speaker_a")
    names = sorted({f"{speaker}-11-0009" for speaker in (*g["in_train_speakers"], *g["in_test_speakers"])})
    place = {name.split("-")[0]: row for row, name in enumerate(names)}
    training = np.array([place[speaker] for speaker in g["in_train_speakers"]])
    test = np.array([place[speaker] for speaker in g["in_test_speakers"]])
    listing = librispeech.Listing(
        names, [Path(name) for name in names], np.zeros(len(names)), "", np.zeros(len(names)), (len(names),)
    )
    numbers = librispeech._speakers(listing, librispeech.Parts({"test": test}, training))
    found = [int(numbers[place[str(name).split("-")[0]]]) for name in g["in_filename"]]
    assert found == g["out_label_ids"].tolist()


def test_a_step_along_the_sign_of_the_gradient() -> None:
    g = golden("fgsm_a")
    close(adversarial.fgsm(g["in_x"], g["in_grad"], 0.15, 0, 1), g["out_x"])
