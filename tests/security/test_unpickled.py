"""A pickle in the place of any file that is loaded runs nothing: one line, or the content is made again."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from datasets import cifar
from datasets.base import DataError
from datasets.memory import cache_folder, cached
from sweep.folder import is_behind
from sweep.ledger import LedgerError
from sweep.records import NotASweep, load
from trainables.core import state
from trainables.core.config import resolve
from trainables.core.fit import fit
from trainables.evals.base import Features
from trainables.evals.features import FeatureStore


class Bomb:
    """Makes a folder as soon as it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., None], tuple[Path]]:
        return Path.mkdir, (self.marker,)


@pytest.fixture
def bomb(tmp_path: Path) -> Bomb:
    return Bomb(tmp_path / "it-ran")


def test_the_bomb_works(bomb: Bomb) -> None:
    pickle.loads(pickle.dumps(bomb))
    assert bomb.marker.exists()


# -- checkpoints -----------------------------------------------------------------------------------------------------


def checkpoint_of(sweep: Path) -> Path:
    trial = next(trial for trial in load(sweep).trials.values() if trial.stage == "pretrain")
    assert trial.checkpoint is not None
    return sweep / trial.checkpoint.path


def put(checkpoint: Path, name: str, content: bytes) -> None:
    """Replace a file of a checkpoint, and its checksum with it."""
    (checkpoint / name).write_bytes(content)
    meta = json.loads((checkpoint / "meta.json").read_text())
    meta["files"][name] = hashlib.sha256(content).hexdigest()
    (checkpoint / "meta.json").write_text(json.dumps(meta))
    state.read_meta(checkpoint)


def torch_bytes(value: object, zipped: bool, path: Path) -> bytes:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)
    return path.read_bytes()


@pytest.mark.parametrize("form", ["pickle", "torch", "old torch"])
def test_the_optimiser_of_a_checkpoint(finished: Path, bomb: Bomb, tmp_path: Path, form: str) -> None:
    checkpoint = checkpoint_of(finished)
    content = pickle.dumps(bomb)
    if form != "pickle":
        content = torch_bytes({"state": bomb}, form == "torch", tmp_path / "saved")
    put(checkpoint, "optimizer.pt", content)
    config = resolve(state.read_meta(checkpoint).config)
    with pytest.raises(state.CheckpointError, match=r"optimizer\.pt: is no optimiser state") as found:
        fit(config, None, tmp_path / "out", resume=[(checkpoint, "")])
    assert "\n" not in str(found.value)
    assert not bomb.marker.exists()


@pytest.mark.parametrize("form", ["pickle", "torch"])
def test_the_weights_of_a_checkpoint(finished: Path, bomb: Bomb, tmp_path: Path, form: str) -> None:
    checkpoint = checkpoint_of(finished)
    content = pickle.dumps(bomb) if form == "pickle" else torch_bytes(bomb, True, tmp_path / "saved")
    put(checkpoint, "model.safetensors", content)
    with pytest.raises(state.CheckpointError, match="does not fit") as found:
        state.load_method(checkpoint)
    assert "\n" not in str(found.value)
    assert not bomb.marker.exists()


def test_the_description_of_a_checkpoint(finished: Path, bomb: Bomb) -> None:
    checkpoint = checkpoint_of(finished)
    (checkpoint / "meta.json").write_bytes(pickle.dumps(bomb))
    with pytest.raises(state.CheckpointError, match=r"damaged checkpoint: meta\.json"):
        state.read_meta(checkpoint)
    assert not bomb.marker.exists()


# -- caches ----------------------------------------------------------------------------------------------------------


def features() -> Features:
    return Features(parts={"all": torch.ones(2, 3)}, labels={}, params={}, units={}, index=torch.arange(2))


def h5_of(path: Path, content: bytes) -> None:
    """A feature file whose parts hold a pickle, in each form that HDF5 has for Python's objects."""
    with h5py.File(path, "w") as file:
        for group in ("parts", "labels", "params", "units"):
            file.create_group(group)
        file["parts"].create_dataset("all", data=np.void(content))
        file["labels"].create_dataset("class", data=[content], dtype=h5py.special_dtype(vlen=bytes))
        file["parts"].attrs["pickled"] = np.void(content)
        file.create_dataset("index", data=np.arange(2))


@pytest.mark.parametrize("form", ["pickle", "objects"])
def test_a_feature_file_is_made_again(bomb: Bomb, tmp_path: Path, form: str) -> None:
    store = FeatureStore(tmp_path / "features")
    if form == "pickle":
        store.path("key").write_bytes(pickle.dumps(bomb))
    else:
        h5_of(store.path("key"), pickle.dumps(bomb, protocol=0))  # HDF5 texts hold no zero bytes
    found = store.get("key", features)
    assert torch.equal(found.parts["all"], torch.ones(2, 3))
    assert not bomb.marker.exists()


@pytest.mark.parametrize("form", ["pickle", "objects"])
def test_an_entry_of_the_memory_cache_is_made_again(bomb: Bomb, form: str) -> None:
    key = f"bomb-{form}"
    right = np.arange(3, dtype=np.uint8)
    cached(key, lambda: {"x": right})
    file = cache_folder() / key / "x.npy"
    if form == "pickle":
        file.write_bytes(pickle.dumps(bomb))
    else:
        objects = np.empty(1, dtype=object)
        objects[0] = bomb
        np.save(file, objects, allow_pickle=True)
    meta = file.with_name("meta.json")
    meta.write_text(json.dumps({**json.loads(meta.read_text()), "files": {"x": file.stat().st_size}}))
    entry = cached(key, lambda: {"x": right})
    assert np.array_equal(entry.arrays["x"], right)
    assert not bomb.marker.exists()


def test_a_batch_of_cifar(bomb: Bomb, tmp_path: Path) -> None:
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    (folder / "data_batch_1").write_bytes(pickle.dumps({"data": bomb, "labels": [0]}))
    with pytest.raises(DataError, match=r"data_batch_1: damaged \(unexpected pathlib") as found:
        cifar.open(cifar.Config(), tmp_path / "data", "train")
    assert "\n" not in str(found.value)
    assert not bomb.marker.exists()


# -- a sweep's folder ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["sweep.json", "ledger.jsonl"])
def test_the_state_of_a_sweep(finished: Path, bomb: Bomb, file: str) -> None:
    (finished / file).write_bytes(pickle.dumps(bomb) + b"\n\n\n")
    with pytest.raises((NotASweep, LedgerError)) as found:
        load(finished)
    assert "\n" not in str(found.value)
    assert not bomb.marker.exists()


def test_the_record_and_the_curve_of_a_trial(finished: Path, bomb: Bomb) -> None:
    records = load(finished)
    trial = next(iter(records.trials.values()))
    for name in ("record.json", "progress.jsonl"):
        (finished / "trials" / trial.id / name).write_bytes(pickle.dumps(bomb))
    assert is_behind(records, trial), "it is written again at the next start"
    assert records.progress(trial.id) == []
    assert not bomb.marker.exists()
