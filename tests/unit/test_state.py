"""The checkpoint format: whole or refused, strict, nothing unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.base import Spec
from trainables.core import state
from trainables.core.config import Resolved, resolve
from trainables.core.method import Method
from trainables.core.optim import build_optimizer
from trainables.core.state import CheckpointError

CONFIG = {
    "method": {"name": "simclr", "encoder": {"name": "narrow_cifar10_resnet8"}, "head_hidden": 8, "head_out": 4},
    "data": {"name": "digits"},
    "views": {"tx": ["rot"]},
}
FILES = ("model.safetensors", "optimizer.pt", "meta.json")


def built(seed: int = 0, **changes: Any) -> tuple[Resolved, Spec, Method]:
    torch.manual_seed(seed)
    config = resolve({**CONFIG, "method": {**CONFIG["method"], **changes}})  # type: ignore[dict-item]
    spec = config.build_views(
        Spec(shape=(1, 16, 16), labels={"class": 10, "loud": 2}, tags=("loud",), fingerprint="f")
    ).spec
    return config, spec, config.build_method(spec)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    config, spec, method = built()
    optimizer = build_optimizer(method, config.train)
    sum(parameter.sum() for parameter in method.parameters()).backward()  # type: ignore[union-attr]
    optimizer.step()
    state.save(tmp_path / "epoch-0003", method, config.dump(), spec, epoch=3, step=12, optimizer=optimizer)
    return tmp_path / "epoch-0003"


def test_what_was_saved_comes_back(saved: Path) -> None:
    config, spec, _ = built()
    method, resolved, meta = state.load_method(saved)
    assert (meta.epoch, meta.step, meta.spec, meta.config) == (3, 12, spec, config.dump())
    assert resolved.dump() == config.dump()
    assert not method.training
    assert not any(parameter.requires_grad for parameter in method.parameters())
    stored = state.load_tensors(saved)
    assert stored.keys() == method.state_dict().keys()
    assert all(torch.equal(stored[name], value) for name, value in method.state_dict().items())


def test_the_optimizer_comes_back(saved: Path) -> None:
    config, _, method = built()
    optimizer = build_optimizer(method, config.train)
    state.restore_optimizer(saved, optimizer)
    steps = [value["step"] for value in optimizer.state_dict()["state"].values()]
    assert steps
    assert all(step == 1 for step in steps)


def test_the_digest_is_of_the_content(saved: Path, tmp_path: Path) -> None:
    config, spec, method = built(0)
    first = state.save(tmp_path / "a", method, config.dump(), spec, epoch=1)
    again = state.save(tmp_path / "b", method, config.dump(), spec, epoch=1)
    other = state.save(tmp_path / "c", built(1)[2], config.dump(), spec, epoch=1)
    assert first.digest == again.digest == state.read_meta(tmp_path / "a").digest
    assert len({first.digest, other.digest, state.read_meta(saved).digest}) == 3


def test_a_checkpoint_replaces_the_one_in_its_place_and_leaves_nothing_beside(saved: Path) -> None:
    config, spec, method = built(1)
    state.save(saved, method, config.dump(), spec, epoch=4)
    assert state.read_meta(saved).epoch == 4
    assert sorted(file.name for file in saved.iterdir()) == ["meta.json", "model.safetensors"]
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]


def test_a_checkpoint_that_cannot_be_written_leaves_nothing_but_the_one_before(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise OSError(28, "No space left on device")

    config, spec, method = built(1)
    before = state.read_meta(saved).digest
    monkeypatch.setattr(torch, "save", full)
    optimizer = build_optimizer(method, config.train)
    with pytest.raises(OSError, match="No space left"):
        state.save(saved, method, config.dump(), spec, epoch=4, optimizer=optimizer)
    assert [path.name for path in saved.parent.iterdir()] == [saved.name]
    assert state.read_meta(saved).digest == before


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", [0.0, 0.3, 0.5, 0.999])
def test_a_flipped_byte_anywhere_is_seen(saved: Path, name: str, where: float) -> None:
    before = state.read_meta(saved).digest
    content = bytearray((saved / name).read_bytes())
    content[int(where * len(content))] ^= 0x41
    (saved / name).write_bytes(content)
    try:
        digest = state.read_meta(saved).digest
    except CheckpointError as error:
        assert str(saved) in str(error)
    else:
        assert name == "meta.json", "whose own bytes the digest covers, which the ledger keeps"
        assert digest != before


@pytest.mark.parametrize("name", FILES)
def test_a_missing_or_shortened_file_is_seen(saved: Path, name: str) -> None:
    content = (saved / name).read_bytes()
    (saved / name).write_bytes(content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"damaged|is no checkpoint"):
        state.read_meta(saved)
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=r"damaged|is no checkpoint"):
        state.read_meta(saved)


def test_another_format_is_refused_with_both_numbers(saved: Path) -> None:
    meta = json.loads((saved / "meta.json").read_text())
    (saved / "meta.json").write_text(json.dumps({**meta, "format": 2}))
    with pytest.raises(CheckpointError, match="has format 2, this version reads 1"):
        state.read_meta(saved)


@pytest.mark.parametrize("key", ["format", "config", "epoch", "step", "spec", "files"])
def test_a_meta_without_a_key_is_refused(saved: Path, key: str) -> None:
    meta = json.loads((saved / "meta.json").read_text())
    del meta[key]
    (saved / "meta.json").write_text(json.dumps(meta))
    with pytest.raises(CheckpointError, match=r"damaged checkpoint: meta.json"):
        state.read_meta(saved)


def test_a_checkpoint_from_before_relations_is_read(saved: Path) -> None:
    meta = json.loads((saved / "meta.json").read_text())
    assert meta["spec"].pop("relations") is not None
    (saved / "meta.json").write_text(json.dumps(meta))
    assert state.read_meta(saved).spec.relations == {}


def test_weights_of_another_method_are_refused(saved: Path) -> None:
    with pytest.raises(CheckpointError, match="does not fit"):
        state.restore_model(saved, built(head_out=5)[2])
    with pytest.raises(CheckpointError, match="does not fit"):
        state.restore_model(saved, built(tracking=False)[2])


def test_an_exported_model_has_no_optimizer(tmp_path: Path) -> None:
    config, spec, method = built()
    state.save(tmp_path / "model", method, config.dump(), spec, epoch=1)
    with pytest.raises(CheckpointError, match=r"no optimiser state.*`init`"):
        state.restore_optimizer(tmp_path / "model", build_optimizer(method, config.train))


def test_nothing_is_unpickled(saved: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return (pytest.fail, ("code ran",))

    torch.save({"state": Bomb()}, saved / "optimizer.pt")
    config, _, method = built()
    with pytest.raises(Exception, match=r"[Ww]eights.only|[Uu]nsupported"):
        state.restore_optimizer(saved, build_optimizer(method, config.train))
