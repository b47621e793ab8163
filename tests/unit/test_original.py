"""Checkpoints of the published codes become ours, by the names that SIE's code gives its tensors; nothing is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sweep.cli import run_command
from trainables.core.state import load_method
from trainables.evals.features import CheckpointSubject
from trainables.nets.padded_resnet import PaddedResNet, SplitPathways

GOLDEN = Path(__file__).parents[1] / "golden" / "sie"
SMALL = ["--data", "bench3die", "--set", "data.source=solids", "--set", "data.size=32",
         "--set", "data.solids={objects: 2, views: 2}",
         "--set", "method.encoder={name: small_resnet10, width: 2}"]  # fmt: skip
SIE = ["--method", "SIE", *SMALL, "--set", "method.equi=8", "--set", "method.projector=16-16-8"]


def weights(name: str = "train_steps_SIE") -> dict[str, Tensor]:
    """A model as its original code names it, with the prefix of replicated training."""
    with np.load(GOLDEN / f"{name}.npz") as found:
        given = {key.removeprefix("param/"): torch.from_numpy(found[key]) for key in found.files if "param/" in key[:6]}
    return {f"module.{key}": value.float() if value.is_floating_point() else value for key, value in given.items()}


def stored(folder: Path, content: Any) -> Path:
    torch.save(content, folder / "model.pth")
    return folder / "model.pth"


def test_a_whole_model_with_its_optimizer_and_observer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = weights()
    observer = {"module.online_evaluator.classifier_repr.weight": torch.zeros(7, 16),
                "module.online_evaluator.predictor_angles_equi_emb.4.bias": torch.zeros(4)}  # fmt: skip
    file = stored(tmp_path, {"epoch": 3, "model": {**given, **observer}, "optimizer": {"state": {}, "lr": 1e-3}})
    assert run_command(["import", str(file), str(tmp_path / "ours"), *SIE]) == 0, capsys.readouterr().err
    said = capsys.readouterr().out
    assert "as published: views.normalize=3diebench" in said and "by --set: data.size" in said
    method, resolved, _ = load_method(tmp_path / "ours")
    assert resolved.views.normalize == "3diebench"
    net = PaddedResNet([1, 1, 1, 1], False, width=2).eval()
    prefix = "module.backbone."
    net.load_state_dict({key.removeprefix(prefix): v for key, v in given.items() if key.startswith(prefix)})
    x = torch.rand(4, 3, 32, 32)
    parts = method.encode(x)
    assert torch.equal(parts["all"], net(x)) and torch.equal(parts["equi"], net(x)[:, 8:])
    matrix = given["module.predictor.hypernet.net.0.weight"]
    g = torch.tensor([[0.0, 1.0, 0.0, 0.0]]).expand(4, 4)
    turned = parts["emb_equi"] @ matrix[:, 1].view(4, 4).T
    assert torch.allclose(method.predict(parts, g)["emb_equi"], turned, atol=1e-6)  # type: ignore[operator]
    subject = CheckpointSubject(tmp_path / "ours", None, tmp_path / "cache", out=tmp_path)
    assert subject.method.parts == method.parts


def test_a_backbone_alone(tmp_path: Path) -> None:
    prefix = "module.backbone."
    backbone = {key.removeprefix(prefix): value for key, value in weights().items() if key.startswith(prefix)}
    options = ["--method", "backbone", *SMALL, "--set", "method.equi=8"]
    x, seen = torch.rand(4, 3, 32, 32), []
    supervised = {f"backbone.{key}": value for key, value in backbone.items()} | {"fc.weight": torch.zeros(7, 16)}
    for number, content in enumerate((backbone, {"state_dict": supervised})):
        out = tmp_path / str(number)
        assert run_command(["import", str(stored(tmp_path, content)), str(out), *options]) == 0
        method, _, _ = load_method(out)
        assert method.parts == {"all": 16, "inv": 8, "equi": 8}
        seen.append(method.encode(x)["all"])
    assert torch.equal(*seen)


def test_towers_change_places(tmp_path: Path) -> None:
    """The original's method reads as invariant what comes first there: the output of the tower named equivariant."""
    torch.manual_seed(0)
    towers = [PaddedResNet([1, 1, 1, 1], False, width=2, widen_end=0.5) for _ in range(2)]
    theirs = SplitPathways(*towers).eval()
    file = stored(tmp_path, {f"module.{key}": value for key, value in theirs.state_dict().items()})
    options = [*SMALL[:-1], "method.encoder={name: resnet18_split_pathways, width: 2, depth: 10}"]
    if run_command(["import", str(file), str(tmp_path / "ours"), "--method", "backbone", *options]):
        pytest.fail("not imported")
    method, _, _ = load_method(tmp_path / "ours")
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(method.encode(x)["all"], theirs(x).roll(towers[0].features, dims=1))


class Code:
    def __reduce__(self) -> Any:
        return (Path.touch, (Path("/tmp/sweep-was-here"),))


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda w: w.pop("module.projector_inv.0.bias"), SIE, "lacks 1 of the method's"),
        (lambda w: w.update({"module.other": torch.zeros(1)}), SIE, "'other' has no place in this method"),
        (lambda w: None, [*SIE, "--set", "method.equi=4"], "are its options those it had?"),
        (lambda w: w.update(code=Code()), SIE, "and that is not run"),
        (lambda w: w.clear(), SIE, "holds no weights"),
        (lambda w: None, [*SIE, "--set", "train.epochs=2"], "has the sections method, data and views alone"),
        (lambda w: None, ["--method", "SIEE", *SMALL], "no such method"),
    ],
)
def test_what_does_not_fit_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Any, options: list[str], message: str
) -> None:
    given = weights()
    change(given)
    assert run_command(["import", str(stored(tmp_path, given)), str(tmp_path / "ours"), *options]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "ours").exists() and not Path("/tmp/sweep-was-here").exists()


def test_what_is_no_checkpoint_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "text").write_text("no weights\n")
    (tmp_path / "words").write_text("gelernt wird nichts\n")
    wrong = "is no file of torch.save, or holds more than tensors"
    for file, message in ((tmp_path / "none", "no such file"), (tmp_path / "text", wrong), (tmp_path / "words", wrong)):
        assert run_command(["import", str(file), str(tmp_path / "ours"), *SIE]) == 2
        said = capsys.readouterr().err
        assert str(file) in said and message in said and said.count("\n") == 1


def test_a_backbone_is_not_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.yaml").write_text(
        "method: backbone\ndata: digits\nspace: {method.equi: {choice: [8, 16]}}\n"
        "evals: {knn: {}}\nobjectives: [max knn/all/val/top1]\nbudget: {trials: 2}\n"
    )
    assert run_command(["plan", str(tmp_path / "own.yaml")]) == 2
    assert "has nothing to train" in capsys.readouterr().err
