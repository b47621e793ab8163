"""Contents in unseen styles, recombination and routes: what codes are called, networks whose answers are known, a V3
after a short training, and what is refused.
"""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datasets import _notes, insnotes, pages
from datasets.base import Batch, Spec
from datasets.config import ConfigError, parse
from trainables.core import state
from trainables.core.config import resolve
from trainables.core.evaluate import evaluate
from trainables.core.fit import fit
from trainables.core.method import Diverged, Method, has
from trainables.evals import _codes, base, ood, recombination, routes
from trainables.evals.base import Features, Request
from trainables.evals.features import CheckpointSubject
from trainables.supervised import Supervised

UNSEEN = {"name": "pages", "styles": "unseen", "val": 40, "test": 40}
SPEC = Spec(shape=(3, 5), labels={"content": 3, "style": 2}, frames={"content": 1}, fragments=3)
MODULES = {"ood": ood, "recombination": recombination, "routes": routes}
ABLE: dict[str, tuple[str, ...]] = {"frames": ("content=3", "style=3"), "quantise": ()}
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


# -- names of codes --------------------------------------------------------------------------------------------------


def test_what_codes_are_called() -> None:
    codes, labels = torch.tensor([[0, 0, 1, 1], [1, 3, 3, 0]]), torch.tensor([[2, 2, 0, 0], [1, 0, 0, -1]])
    counts = _codes.confusion(codes, labels, 5, 3)
    assert counts.tolist() == [[0, 0, 2], [2, 1, 0], [0, 0, 0], [2, 0, 0], [0, 0, 0]]
    assert _codes.named(counts).tolist() == [2, 0, -1, 0, -1]
    assert _codes.named(counts, "assignment").tolist() == [2, 1, -1, 0, -1]  # 2 + 1 + 2 of 7, no other has more
    assert _codes.named(counts, "position").tolist() == [4, 0, 1, 2, 3]
    assert _codes.accuracy(codes, labels, _codes.named(counts)) == 6 / 7
    assert _codes.accuracy(torch.tensor([2, 4, 0]), torch.tensor([0, 2, 2]), _codes.named(counts)) == 1 / 3


def test_an_unused_code_is_wrong_in_other_styles(tmp_path: Path) -> None:
    """Of the other pages one content in three has come nearest to an atom that the own pages never used."""
    other = written(tmp_path)
    other.x = other.x.clone()
    other.x[..., :3][other.x[..., 2] == 1] = -1.0
    other.features = lambda request: replace(  # type: ignore[method-assign]
        Written.features(other, request), labels=written(tmp_path).features(request).labels
    )
    found = judged(ood, written(tmp_path, other=other))
    assert found == {"zero_shot": pytest.approx(2 / 3), "chance": pytest.approx(1 / 3)}


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


# -- pages in unseen styles ------------------------------------------------------------------------------------------


def test_unseen_styles_are_others_of_the_same_world() -> None:
    def fragments(split: Any, **options: Any) -> tuple[Tensor, Tensor, Tensor]:
        source = pages.open(pages.Config(noise=0, **options), None, split)
        batch = source.fetch(torch.arange(len(source)), torch.Generator())
        return batch.views[0], batch.labels["content"], batch.labels["style"]

    seen, unseen = fragments("test"), fragments("test", styles="unseen")
    cells = {name: {(int(c), int(s)): x for page, own, s in zip(*found, strict=True)
                    for x, c in zip(page, own, strict=True)}
             for name, found in (("seen", seen), ("unseen", unseen))}  # fmt: skip
    assert cells["seen"].keys() == cells["unseen"].keys() and len(cells["seen"]) == 80
    nearest = torch.cdist(torch.stack([*cells["seen"].values()]), torch.stack([*cells["unseen"].values()])).min()
    assert float(nearest) > 0.1
    few, more = (fragments("train", styles="unseen", shots=shots) for shots in (1, 5))
    assert few[2].tolist() == list(range(8)) and torch.bincount(more[2]).tolist() == [5] * 8
    assert torch.equal(few[0], more[0][:8])
    assert torch.equal(fragments("test", styles="unseen", shots=5)[0], unseen[0])
    train = fragments("train", styles="unseen")[0]
    assert not any(torch.equal(page, other) for page in few[0] for other in train)


# -- a V3 after a short training -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """V3 without labels, and the supervised baseline, 200 steps each on generated pages."""
    v3 = {"name": "V3-paper", "beta": 0.1, "decay": 0.98, "dead": 0.5, "encoder": {"content": 32, "style": 32}}
    told = {"name": "supervised", "encoder": {"name": "pages"}, "factor": "content"}
    folders = {}
    for name, method in (("v3", v3), ("supervised", told)):
        config = resolve(
            {"method": method, "data": {"name": "pages", "val": 40, "test": 40}, "views": {"count": 1}, "seed": 1,
             "train": {"epochs": 2, "batch_size": 32, "lr": 1e-3, "betas": (0.9, 0.999), "weight_decay": 0.1,
                       "schedule": "constant", "warmup_epochs": 0}}
        )  # fmt: skip
        fit(config, None, folder := tmp_path_factory.mktemp(name))
        folders[name] = folder / "epoch-0002"
    return folders


@pytest.mark.parametrize("name", ["v3", "supervised"])
def test_contents_are_known_in_other_styles(name: str, trained: dict[str, Path], tmp_path: Path) -> None:
    subject = CheckpointSubject(trained[name], None, tmp_path)
    before = {key: value.clone() for key, value in subject.method.state_dict().items()}
    options = {"data": UNSEEN, "shots": [1, 5], "limit": 200}
    found = judged(ood, subject, **options)
    assert set(found) == {"zero_shot", "shots_1", "shots_5", "chance"}
    assert found["zero_shot"] > 0.6 and found["chance"] == pytest.approx(0.1)
    assert abs(found["shots_1"] - found["zero_shot"]) < 0.1  # one step at the rate of 1e-4
    longer = judged(ood, subject, **options, epochs=30, lr=1e-3)
    assert longer["zero_shot"] == found["zero_shot"] and longer["shots_5"] > max(0.95, found["zero_shot"])
    assert judged(ood, subject, **options, epochs=30, lr=1e-3) == longer
    assert all(torch.equal(value, before[key]) for key, value in subject.method.state_dict().items())


def test_few_shots_train_a_copy(trained: dict[str, Path], tmp_path: Path) -> None:
    subject = CheckpointSubject(trained["v3"], None, tmp_path)
    few = subject.on({**UNSEEN, "shots": 5})
    own = subject.method.state_dict()

    def after(seed: int = 0, **options: Any) -> dict[str, Tensor]:
        return ood.train(few, ood.Config(data=UNSEEN, shots=(5,), **options), seed).state_dict()

    frozen, free = after(), after(freeze_codebook=False)
    moved = {name for name in own if not torch.equal(own[name], frozen[name])}
    assert not {name for name in moved if name.startswith("quantiser")}
    assert {name for name in own if "running_mean" in name} <= moved
    assert any(name.endswith("weight") for name in moved)
    assert not torch.equal(free["quantiser.embed"], own["quantiser.embed"])
    again, other = after(), after(seed=1)
    assert all(torch.equal(frozen[name], again[name]) for name in own)
    assert not all(torch.equal(frozen[name], other[name]) for name in own)
    size = {lr: float((after(lr=lr)["net.encoder.joint.weight"] - own["net.encoder.joint.weight"]).norm())
            for lr in (1e-5, 1e-3)}  # fmt: skip
    assert 0 < size[1e-5] < size[1e-3] / 50
    with pytest.raises(Diverged, match=r"not finite|nan|inf"):
        after(lr=10.0, epochs=200, weight_decay=10.0)


def test_styles_and_contents_recombine(trained: dict[str, Path], tmp_path: Path) -> None:
    subject = CheckpointSubject(trained["v3"], None, tmp_path)
    found = judged(recombination, subject)
    assert found["code_kept"] > 0.8 and found["style_kept"] > 0.9 and found["transfer_style_kept"] > 0.9
    assert found["real_mse"] == pytest.approx(0.01, rel=0.3)  # the noise of the pages, of deviation 0.1
    assert found["transfer_mse"] < 0.1
    ways = judged(routes, subject)
    assert ways["shifted_codes"] > 0.5 and ways["shifted_style"] < 0.1
    assert ways["content_from_style"] > 2 * ways["content_chance"]  # what whitening finds
    assert ways["style_from_codes"] < ways["style_chance"] + 0.2


@pytest.mark.parametrize(
    ("data", "shape"), [("phonenums", (3, 48, 32)), ("insnotes", (1, 512, 32))], ids=["images", "spectra"]
)
def test_pictures_and_sounds(data: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    """An untrained network draws too."""
    made = {"pages": 160} if data == "phonenums" else {"takes": 3}
    n = {"phonenums": 3, "insnotes": 2}[data]
    encoder = {"name": data, "channels": 128 if data == "insnotes" else 16, "content": 4, "style": 4, "blocks": 1}
    config = resolve(
        {"method": {"name": "v3", "atoms": 3, "encoder": encoder},
         "data": {"name": data, "source": "made", "n": n, "made": made, "limit": 12}, "views": {"count": 1}}
    )  # fmt: skip
    spec = config.build_views(config.source(None, "train").spec).spec
    assert spec.shape == (n, *shape)
    method = config.build_method(spec)
    method.quantiser.embed.normal_(generator=torch.Generator().manual_seed(0))  # type: ignore[union-attr,operator]
    state.save(tmp_path / "epoch-0001", method, config.dump(), spec, epoch=1)
    subject = CheckpointSubject(tmp_path / "epoch-0001", None, tmp_path / "cache")
    result = evaluate(subject, "recombination", {"limit": 12, "shown": 2, "pairs": 4})
    sounds = {name for name in result.artifacts if name.endswith(".wav")}
    assert {"grid.csv", "grid.png", "transfer.png"} <= set(result.artifacts)
    assert ("transfer_1.wav" in sounds and "grid_0.wav" in sounds) if data == "insnotes" else not sounds
    assert all(path.stat().st_size > 100 for path in result.artifacts.values())


# -- the supervised baseline -----------------------------------------------------------------------------------------


def test_a_supervised_encoder_of_pages() -> None:
    spec = Spec(shape=(4, 3, 48, 32), labels={"content": 10, "style": 8}, frames={"content": 1}, fragments=4)
    cfg = parse(Supervised.Config, {"encoder": {"name": "pages", "channels": 16}, "factor": "content"}, "method")
    Supervised.check(cfg, spec)
    method = Supervised(cfg, spec)
    x = torch.rand(2, *spec.shape)
    batch = Batch([x], torch.arange(2), labels={"content": torch.tensor([[0, 1, 2, 3], [4, 5, 6, -1]])})
    values = method(batch)
    scores = method.scores(method.frames(x)["all"])
    assert scores.shape == (2, 4, 10) and has(method, "classify")
    log = scores.log_softmax(-1)
    rows = [-log[0, j, j] for j in range(4)], [-log[1, j, 4 + j] for j in range(3)]
    torch.testing.assert_close(values["loss"], sum(torch.stack(one).mean() for one in rows) / 2)
    assert all(parameter.requires_grad for parameter in method.parameters())
    published = parse(Supervised.Config, {"encoder": {"name": "pages_svhn"}, "factor": "content"}, "method")
    with torch.device("meta"):
        body = Supervised(published, spec).units[0].body  # type: ignore[attr-defined]
    assert body.stage_2.stem.weight.shape[0] == 128 and len(body.stage_1) > 6
    with pytest.raises(ConfigError, match=r"pages: has no option cut"):
        Supervised.check(parse(Supervised.Config, {"encoder": {"name": "pages", "cut": [1]}}, "method"), spec)


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ood", {"parts": ["content"]}, "method as a whole"),
        ("ood", {"factor": "digit"}, "no label 'digit'"),
        ("ood", {"factor": "style"}, "not labelled for each fragment"),
        ("ood", {"data": {"palette": "ood"}}, "name: phonenums"),
        ("ood", {"data": {"name": "pages", "shots": 1}}, "leave `shots` out"),
        ("ood", {"shots": [0]}, "shots"),
        ("ood", {"lr": 0}, "greater than 0"),
        ("ood", {"naming": "first"}, "argmax"),
        ("recombination", {"parts": ["style"]}, "recombined"),
        ("recombination", {"content": "style"}, "factor of pages"),
        ("routes", {"style": "content"}, "factor of fragments"),
        ("routes", {"shift": 6}, "changes nothing"),
        ("routes", {"parts": ["content"]}, "probed"),
    ],
)
def test_what_is_refused_in_one_line(name: str, options: dict[str, Any], message: str) -> None:
    module = MODULES[name]
    with pytest.raises(ConfigError, match=message) as caught:
        base.check(module, parse(module.Config, options, name), SPEC, PARTS, ABLE)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", MODULES)
def test_other_methods_and_data_are_told_why(name: str, tmp_path: Path) -> None:
    module = MODULES[name]
    with pytest.raises(ConfigError, match=r"neither codes|capability"):
        base.check(module, module.Config(), SPEC, PARTS, {"frames": ()})
    sound = Spec(shape=(1, 400), labels={"content": 3}, frames={"content": 40})
    if name == "ood":
        with pytest.raises(ConfigError, match="fragment of a page"):
            base.check(module, module.Config(), sound, PARTS, {"frames": (), "classify": ()})


def test_other_data_must_fit_and_have_shots(trained: dict[str, Path], tmp_path: Path) -> None:
    subject = CheckpointSubject(trained["v3"], None, tmp_path)
    with pytest.raises(ConfigError, match=r"takes \(10, 48\)"):
        evaluate(subject, "ood", {"data": {"name": "digits"}})
    with pytest.raises(ConfigError, match=r"shots: no such option"):
        evaluate(subject, "ood", {"data": {"name": "digits"}, "shots": [1]})
    cfg = ood.Config(data=UNSEEN, shots=(1, 5))
    assert ood.data(cfg) == [{**UNSEEN, "shots": 1}, {**UNSEEN, "shots": 5}]
    assert ood.data(ood.Config()) == [{"name": "phonenums", "palette": "ood"}]
