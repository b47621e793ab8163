"""Contents in unseen styles: what codes are called, a V3 and a supervised baseline after a short training, few shots,
and what is refused, of recombination and routes too.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_recombination import PARTS, SPEC, Written, judged, written
from torch import Tensor

from datasets import pages
from datasets.base import Batch, Spec
from datasets.config import ConfigError, parse
from sweep.plan import Plan
from sweep.spec import build
from trainables.core.config import resolve
from trainables.core.evaluate import evaluate
from trainables.core.fit import fit
from trainables.core.method import Diverged, has
from trainables.evals import _codes, base, ood, recombination, routes
from trainables.evals.features import CheckpointSubject
from trainables.supervised import Supervised

UNSEEN = {"name": "pages", "styles": "unseen", "val": 40, "test": 40}
MODULES = {"ood": ood, "recombination": recombination, "routes": routes}
ABLE: dict[str, tuple[str, ...]] = {"frames": ("content=3", "style=3"), "quantise": ()}


# -- names of codes --------------------------------------------------------------------------------------------------


def test_what_codes_are_called() -> None:
    codes, labels = torch.tensor([[0, 0, 1, 1], [1, 3, 3, 0]]), torch.tensor([[2, 2, 0, 0], [1, 0, 0, -1]])
    counts = _codes.counted(codes, labels, 5, 3)
    assert counts.tolist() == [[0, 0, 2], [2, 1, 0], [0, 0, 0], [2, 0, 0], [0, 0, 0]]
    assert _codes.named(counts).tolist() == [2, 0, -1, 0, -1]
    assert _codes.named(counts, "assignment").tolist() == [2, 1, -1, 0, -1]  # 2 + 1 + 2 of 7, no other has more
    assert _codes.named(counts, "position").tolist() == [4, 0, 1, 2, 3]
    assert _codes.called_right(codes, labels, _codes.named(counts)) == 6 / 7
    assert _codes.called_right(torch.tensor([2, 4, 0]), torch.tensor([0, 2, 2]), _codes.named(counts)) == 1 / 3


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
    random = Supervised.Config(encoder={"name": "pages", "channels": 8}, factor="content", frozen=True)  # type: ignore[arg-type]
    few.method = Supervised(random, few.spec)
    told, was = ood.train(few, ood.Config(data=UNSEEN), 0).state_dict(), few.method.state_dict()
    assert {name.split(".")[0] for name in was if not torch.equal(told[name], was[name])} == {"heads"}
    few.method = subject.method
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


def test_few_shot_options_are_searched_over_one_pretraining() -> None:
    """As in `search: evals.ood.lr`; names of metrics are known to the plan."""
    values = {
        "method": "v3", "data": "pages", "name": "few",
        "base": {"views": {"count": 1}, "method": {"encoder": {"content": 4, "style": 4}},
                 "train": {"epochs": 1, "warmup_epochs": 0, "batch_size": 8},
                 "data": {"train": 16, "val": 8, "test": 8}},
        "space": {"evals.ood.lr": {"float": [1e-5, 1e-2], "log": True}, "evals.ood.epochs": {"int": [1, 50]},
                  "evals.ood.freeze_codebook": {"choice": [True, False]}},
        "objectives": ["max ood/all/val/shots_1"], "evals": {"ood": {"data": UNSEEN, "shots": [1]}},
        "budget": {"trials": 4},
    }  # fmt: skip
    assert Plan(build(values, "few"), None).counts() == {"configurations": 4, "pretrainings": 1, "evaluations": 4}
    with pytest.raises(ConfigError, match=r"ood/all/val/shots_5"):
        Plan(build({**values, "objectives": ["max ood/all/val/shots_5"]}, "few"), None)


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
