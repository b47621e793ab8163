"""The one checkpoint format: a folder of safetensors and JSON, with a digest over its content.

    model.safetensors     parameters and buffers of the method
    optimizer.pt          optimiser state, the loss scaler's (loaded with `weights_only`), absent in an exported model
    meta.json             {"format": 1, "config": ..., "epoch": ..., "step": ..., "spec": ..., "files": {name: sha256}}

A checkpoint is written to a temporary folder beside its place and renamed, so that it exists whole or not at all.
Nothing in it is unpickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from datasets.atomic import replacing
from datasets.base import Spec
from trainables.core.config import Resolved, resolve
from trainables.core.method import Method

FORMAT = 1
SCALER = "scaler"  # key beside those of the optimiser


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, damaged or does not fit; one line with its path and the reason."""


@dataclass
class Meta:
    """What a checkpoint says of itself; `digest` identifies its content."""

    config: dict[str, Any]
    epoch: int
    step: int
    spec: Spec
    digest: str


def save(
    path: Path,
    method: torch.nn.Module,
    config: dict[str, Any],
    spec: Spec,
    epoch: int,
    step: int = 0,
    optimizer: torch.optim.Optimizer | None = None,
    scaler: torch.amp.GradScaler | None = None,
) -> Meta:
    """Write a checkpoint to `path`, whole or not at all; an existing one there is replaced.

    Args:
        scaler: of the loss in half precision, kept beside the optimiser where it is in use.
    """
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in method.state_dict().items()}
    content = {"format": FORMAT, "config": config, "epoch": epoch, "step": step, "spec": asdict(spec)}
    with replacing(path) as temporary:
        temporary.mkdir(parents=True)
        save_file(tensors, temporary / "model.safetensors")
        if optimizer is not None:
            buffer = io.BytesIO()  # written by Python, whose errors say what is wrong with a disk
            scale = {SCALER: scaler.state_dict()} if scaler is not None and scaler.is_enabled() else {}
            torch.save({**optimizer.state_dict(), **scale}, buffer)
            (temporary / "optimizer.pt").write_bytes(buffer.getbuffer())
        content["files"] = {file.name: _sha256(file) for file in sorted(temporary.iterdir())}
        (temporary / "meta.json").write_text(json.dumps(content, indent=1))
        shutil.rmtree(path, ignore_errors=True)
    return Meta(config, epoch, step, spec, _digest(content))


def read_meta(path: Path, verify: bool = True) -> Meta:
    """What the checkpoint at `path` says of itself, after its files were compared with their checksums.

    Raises:
        CheckpointError: missing, damaged, or of another format.
    """
    try:
        content = json.loads((path / "meta.json").read_text())
        version, files = content["format"], content["files"]
        told = content["spec"]
        spec = Spec(**{**told, "shape": tuple(told["shape"]), "tags": tuple(told.get("tags", ()))})
        meta = Meta(content["config"], content["epoch"], content["step"], spec, _digest(content))
    except FileNotFoundError:
        raise CheckpointError(f"{path}: is no checkpoint (no meta.json in it)") from None
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: damaged checkpoint: meta.json: {error}") from None
    if version != FORMAT:
        raise CheckpointError(f"{path}: has format {version}, this version reads {FORMAT}")
    for name, expected in files.items() if verify else ():
        if not (path / name).exists() or _sha256(path / name) != expected:
            raise CheckpointError(f"{path}: damaged checkpoint: {name} does not match its checksum")
    return meta


def load_method(path: Path, device: torch.device | str = "cpu") -> tuple[Method, Resolved, Meta]:
    """The method of a checkpoint, in eval mode and without gradients, ready to encode.

    Raises:
        CheckpointError: damaged, or its weights do not fit the method it names.
    """
    meta = read_meta(path)
    resolved = resolve(meta.config)
    method = resolved.build_method(meta.spec)
    restore_model(path, method)
    method.to(device).eval().requires_grad_(False)
    return method, resolved, meta


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The parameters and buffers of a checkpoint by name."""
    tensors: dict[str, torch.Tensor] = load_file(path / "model.safetensors")
    return tensors


def restore_model(path: Path, method: torch.nn.Module) -> None:
    """Load weights and buffers, strictly.

    Raises:
        CheckpointError: a missing, left-over or misshapen tensor, or a file of another format.
    """
    try:
        method.load_state_dict(load_tensors(path), strict=True)
    except (RuntimeError, OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path}: does not fit: {' '.join(str(error).split())[:300]}") from None


def restore_optimizer(path: Path, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None = None) -> None:
    """Load the optimiser's state, and the scaler's where it is in use.

    Raises:
        CheckpointError: an exported model has none; one that holds anything but tensors and numbers is not loaded.
    """
    file = path / "optimizer.pt"
    if not file.exists():
        raise CheckpointError(f"{path}: holds no optimiser state, so training cannot go on from it; use `init` instead")
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
        if scaler is not None and scaler.is_enabled():
            scaler.load_state_dict(found[SCALER])
        optimizer.load_state_dict({name: value for name, value in found.items() if name != SCALER})
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file}: is no optimiser state: {' '.join(str(error).split())[:200]}") from None


def _digest(content: dict[str, Any]) -> str:
    text = json.dumps(content, sort_keys=True).encode()
    return hashlib.sha256(text).hexdigest()[:16]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
