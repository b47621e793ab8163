"""Recombination and routes on a network whose answers are known, and what they draw and let hear."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datasets import _notes, insnotes
from datasets.base import Spec
from datasets.config import ConfigError
from trainables.core import state
from trainables.core.config import resolve
from trainables.core.evaluate import evaluate
from trainables.core.method import Method
from trainables.evals import base, recombination, routes
from trainables.evals.base import Features, Request
from trainables.evals.features import CheckpointSubject

SPEC = Spec(shape=(3, 5), labels={"content": 3, "style": 2}, frames={"content": 1}, fragments=3)
PARTS = {"content": 3, "style": 2, "all": 5}


class Exact(Method):
    """Fragments are their content, one-hot, and two numbers of style; the fourth atom stands for nothing.

    `hears`: what the decoder makes use of.
    """

    parts = PARTS
    places = {"content": (3,), "style": (3,)}  # noqa: RUF012

    def __init__(self, hears: str = "both") -> None:
        nn.Module.__init__(self)
        self.hears, self.weight = hears, nn.Parameter(torch.ones(()))

    def frames(self, x: Tensor, rng: torch.Generator | None = None) -> dict[str, Tensor]:
        return {"content": x[..., :3], "style": x[..., 3:], "all": x}

    def codebook(self) -> Tensor:
        return torch.cat([torch.eye(3), -torch.ones(1, 3)])

    def codes_of(self, content: Tensor) -> Tensor:
        return torch.cdist(content, self.codebook()).argmin(-1)

    def spoken(self, codes: Tensor, style: Tensor) -> Tensor:
        content = self.codebook()[codes] * (self.hears != "style")
        return torch.cat([content, style * (self.hears != "codes")], -1)


class Written:
    """Pages (P, 3, 5) that are told; other data are `other`."""

    spec = SPEC

    def __init__(self, folder: Path, x: Tensor, style: Tensor, hears: str = "both", other: Any = None) -> None:
        self.method, self.x, self.style, self.other = Exact(hears), x, style, other
        self.cache = self.out = folder

    def features(self, request: Request) -> Features:
        labels = {"content": self.x[..., :3].argmax(-1), "style": self.style}
        return Features(self.method.frames(self.x), labels, {}, {}, torch.arange(len(self.x)))

    def inputs(self, request: Request) -> Tensor:
        return self.x

    def normalized(self, inputs: Tensor) -> Tensor:
        return inputs

    def on(self, data: dict[str, Any]) -> Any:
        return self.other


def written(folder: Path, hears: str = "both", count: int = 12, **more: Any) -> Written:
    """Pages of all contents in the styles (0, 0) and (2, 0), in turn."""
    rng = np.random.default_rng(0)
    content = torch.from_numpy(rng.permuted(np.tile(np.arange(3), (count, 1)), axis=1))
    style = torch.arange(count) % 2
    z_s = torch.stack([2.0 * style, torch.zeros(count)], 1)[:, None].expand(-1, 3, -1)
    return Written(folder, torch.cat([nn.functional.one_hot(content, 3).float(), z_s], 2), style, hears, **more)


def judged(module: Any, subject: Any, **options: Any) -> dict[str, float]:
    """The metrics of `val`, which are those that were promised."""
    cfg = module.Config(**options)
    able = base.capabilities_of(subject.method)
    promised = base.check(module, cfg, subject.spec, subject.method.parts, able)
    result = module.run(subject, cfg, np.random.default_rng(0), {})
    assert sorted(promised) == sorted(result.metrics)
    assert {base.direction(module, name) for name in promised} <= {"max", "min", ""}
    return {name.rsplit("/", 1)[1]: value for name, value in result.metrics.items() if "/val/" in name}


# -- recombination ---------------------------------------------------------------------------------------------------


def test_recombination_of_what_is_known(tmp_path: Path) -> None:
    kept = dict.fromkeys(("code_kept", "content_kept", "style_kept", "transfer_code_kept", "transfer_style_kept"), 1.0)
    assert judged(recombination, written(tmp_path)) == {**kept, "transfer_mse": 0, "own_mse": 0, "real_mse": 0}
    rows = (tmp_path / "grid.csv").read_text().splitlines()
    assert rows[0] == "atom,content,style,atom_again,style_again" and rows[1:3] == ["0,0,0,0,0", "1,1,0,1,0"]
    assert rows[4] == "3,-1,0,3,0" and len(rows) == 9  # an atom that is not used is shown, and does not count

    deaf = judged(recombination, written(tmp_path, "codes"), pairs=2000)
    assert (deaf["code_kept"], deaf["style_kept"], deaf["transfer_style_kept"]) != (1, 1, 1)
    assert deaf["style_kept"] == 0.5  # what has no style is nearest to the style (0, 0)
    # a page is drawn without its style: 2^2 of 5 numbers are missing where B's style is (2, 0), which half of them have
    assert deaf["transfer_mse"] == pytest.approx(0.4, abs=0.05) and deaf["own_mse"] == pytest.approx(0.4, abs=0.05)
    assert deaf["transfer_mse"] + deaf["own_mse"] == pytest.approx(0.8)

    blind = judged(recombination, written(tmp_path, "style"))
    assert blind["style_kept"] == 1 and blind["code_kept"] == pytest.approx(1 / 3)
    assert blind["transfer_mse"] == pytest.approx(0.2)  # the one of the content


def test_real_fragments_are_their_cells_means() -> None:
    x = torch.tensor([[[1.0], [5.0]], [[3.0], [7.0]], [[10.0], [20.0]]])
    real, there = recombination.cells(x, torch.tensor([[0, 2], [0, -1], [2, 0]]), torch.tensor([0, 0, 1]))
    assert real[..., 0].tolist() == [[2, 20], [0, 0], [5, 10]]
    assert there.tolist() == [[True, True], [False, False], [True, True]]


def test_pairs_have_two_styles_or_are_two_pages(tmp_path: Path) -> None:
    subject = written(tmp_path)
    cfg, maker = recombination.Config(), recombination.Maker(subject)
    found = recombination.read(subject, cfg, "val", maker)
    assert found.means.tolist() == [[0, 0], [2, 0]] and found.names == ["0", "1"]
    one, other = recombination.paired(found, 200, np.random.default_rng(0))
    assert bool((found.style[one] != found.style[other]).all()) and len(other.unique()) == 12  # type: ignore[index]
    again = recombination.paired(found, 200, np.random.default_rng(0))
    assert torch.equal(again[0], one) and torch.equal(again[1], other)

    subject.spec = replace(SPEC, labels={"content": 3, "style": 0})  # numbers of pages
    found = recombination.read(subject, cfg, "val", maker)
    assert found.style is None and found.names == ["page 0", "page 1", "page 2", "page 3"]
    one, other = recombination.paired(found, 200, np.random.default_rng(0))
    assert bool((one != other).all())
    names = set(judged(recombination, subject))
    assert names == {"code_kept", "content_kept", "style_kept", "transfer_code_kept"}


def test_sounds_come_back_from_their_spectra() -> None:
    time = torch.arange(16_384) / _notes.RATE
    tones = torch.stack([(2 * torch.pi * hertz * time).sin() * 0.5 for hertz in (262.0, 494.0)])
    log = _notes.log_magnitude(tones)
    heard = _notes.audible(log)
    assert heard.shape == tones.shape and torch.equal(heard, _notes.audible(log))
    again = _notes.log_magnitude(heard)
    error = (again.exp() - log.exp()).square().sum() / log.exp().square().sum()
    assert float(error) < 0.02
    assert again.mean(-1).argmax(1).tolist() == log.mean(-1).argmax(1).tolist() == [17, 32]
    silent = float(_notes.audible(torch.full((1, 513, 9), math.log(1e-5))).abs().max())
    assert silent < 1e-9
    notes = ((log[:, None, :-1] - insnotes.LOW) / insnotes.RANGE).clamp(0, 1)
    assert float(recombination.heard(notes).abs().amax(2).min()) == pytest.approx(0.9)


# -- routes ----------------------------------------------------------------------------------------------------------


def test_what_passes_by_which_route(tmp_path: Path) -> None:
    """Of three contents, no two alike: moving codes changes 2 of a fragment's variance of 2 / 3, and 1 of its style."""
    found = judged(routes, written(tmp_path))
    assert found["shifted_codes"] == pytest.approx(2 / (2 / 3 + 1)) and found["shifted_style"] == 0
    assert judged(routes, written(tmp_path, "codes"))["shifted_codes"] == pytest.approx(3)
    assert judged(routes, written(tmp_path, "style"))["shifted_codes"] == 0
    assert found["content_chance"] == pytest.approx(1 / 3) and found["style_chance"] == 0.5
    assert found["content_from_style"] < 0.7 and found["style_from_codes"] < 0.7


def test_a_leak_of_little_size_is_read(tmp_path: Path) -> None:
    """A number of the style vector, a thousandth of the other's size, says the content."""
    subject = written(tmp_path, count=60)
    content = subject.x[..., :3].argmax(-1)
    subject.x = subject.x.clone()
    turned = torch.tensor([[0.8, -0.6], [0.6, 0.8]])
    subject.x[..., 3:] = torch.stack([2.0 * subject.style[:, None].expand(-1, 3), 1e-3 * (content == 1)], 2) @ turned
    assert judged(routes, subject)["content_from_style"] > 0.6
    assert judged(routes, subject, directions=1)["content_from_style"] < 0.4
    moved = judged(routes, subject)["shifted_style"]
    assert 0 < moved < 1e-5


def test_whitened_directions_have_one_size() -> None:
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([100.0, 1.0, 1e-3])
    x = torch.cat([x, x[:, :1]], 1)  # one direction has no variance
    white = routes.whitening(x, 64)(x).double()
    assert white.shape == (500, 3)
    torch.testing.assert_close(white.T @ white / 500, torch.eye(3).double(), atol=1e-4, rtol=0)
    assert routes.whitening(x, 2)(x).shape == (500, 2)


# -- artifacts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "shape"), [("phonenums", (3, 48, 32)), ("insnotes", (1, 512, 32))], ids=["images", "spectra"]
)
def test_pictures_and_sounds(data: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    """An untrained network draws too."""
    made = {"pages": 160} if data == "phonenums" else {"takes": 3, "notes": 2}
    n = {"phonenums": 3, "insnotes": 2}[data]
    encoder = {"name": data, "channels": 128 if data == "insnotes" else 16, "content": 4, "style": 4, "blocks": 1}
    config = resolve(
        {"method": {"name": "v3", "atoms": 3, "encoder": encoder},
         "data": {"name": data, "source": "made", "n": n, "made": made, "limit": 6}, "views": {"count": 1}}
    )  # fmt: skip
    spec = config.build_views(config.source(None, "train").spec).spec
    assert spec.shape == (n, *shape)
    method = config.build_method(spec)
    method.quantiser.embed.normal_(generator=torch.Generator().manual_seed(0))  # type: ignore[union-attr,operator]
    state.save(tmp_path / "epoch-0001", method, config.dump(), spec, epoch=1)
    subject = CheckpointSubject(tmp_path / "epoch-0001", None, tmp_path / "cache")
    result = evaluate(subject, "recombination", {"shown": 2, "pairs": 4})
    sounds = {name for name in result.artifacts if name.endswith(".wav")}
    assert {"grid.csv", "grid.png", "transfer.png"} <= set(result.artifacts)
    assert {name.split("_")[0] for name in sounds} == ({"grid", "transfer"} if data == "insnotes" else set())
    assert all(path.stat().st_size > 100 for path in result.artifacts.values())


@pytest.mark.parametrize("module", [recombination, routes], ids=["recombination", "routes"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"content": "style"}, "content: 'style' is a factor of pages, not of their fragments"),
        ({"style": "content"}, "style: 'content' is a factor of fragments, not of pages"),
        ({"style": "styel"}, "style: the data have no label 'styel'; did you mean 'style'?"),
    ],
    ids=["pages", "fragments", "misspelt"],
)
def test_factors_of_the_wrong_kind_are_one_line(module: Any, options: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        module.metrics(module.Config(**options), SPEC, PARTS, {})
    assert str(caught.value) == said


@pytest.mark.parametrize("module", [recombination, routes], ids=["recombination", "routes"])
def test_pages_without_labels_have_fewer_metrics(module: Any) -> None:
    names = module.metrics(module.Config(), replace(SPEC, labels={}, frames={}), PARTS, {})
    assert names and not any("content_" in name or "style_from" in name for name in names)
