"""Checkpoints of the published codes, as `torch.save` wrote them or as safetensors, made into ours.

What may stand in such a file is what `torch.load(weights_only=True)` reads: tensors and plain values, no code, and the
settings of a training as argparse keeps them. The weights lie at the top or under one of `HOLDERS`; the prefix
`module.` of replicated training is taken off. Every method says which of its tensors is which of the original's
(`Method.originals`, `original`). All must be there and none left over, but for counts of batches, which old files do
not have and no encoding reads.
"""

from __future__ import annotations

import argparse
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from trainables.core.method import Method
from trainables.core.state import CheckpointError

# of teachers and students, and of an encoder beside the one that follows it, evaluations are of the former
HOLDERS = ("teacher", "target_encoder", "model", "state_dict", "model_state_dict", "gen_state_dict")
COUNTS = "num_batches_tracked"


def read_original(path: Path) -> dict[str, Tensor]:
    """The tensors of a file by the original's names, without `module.`.

    Raises:
        CheckpointError: no such file, no file of `torch.save`, one that needs code to be run, or one without weights.
    """
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # settings of a training; holds values alone
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, IsADirectoryError):
        raise CheckpointError(f"{path}: no such file; give the one that torch.save wrote") from None
    except (pickle.UnpicklingError, KeyError, IndexError):  # the latter two of plain text, whose words say nothing
        raise CheckpointError(
            f"{path}: is no file of torch.save, or holds more than tensors and plain values, and that is not run; "
            "keep its state_dict alone"
        ) from None
    except (OSError, RuntimeError, EOFError, ValueError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path}: is no file of torch.save: {' '.join(str(error).split())[:200]}") from None
    for holder in HOLDERS:
        if isinstance(content, Mapping) and isinstance(content.get(holder), Mapping):
            content = content[holder]
    if not isinstance(content, Mapping) or not any(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"{path}: holds no weights; they are looked for at the top and in {', '.join(HOLDERS)}")
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    return {name.removeprefix("module."): value for name, value in tensors.items()}


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return {name.removeprefix("module."): value for name, value in load_file(path).items()}
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such file") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"{path}: is no file of safetensors: {' '.join(str(error).split())[:200]}") from None


def take_over(method: Method, given: Mapping[str, Tensor], path: Path) -> None:
    """Load the original's tensors into `method`, strictly.

    Raises:
        CheckpointError: one is missing, left over or of another shape; with the original's and our name.
    """
    own = method.state_dict()
    found = {name: value for name, value in own.items() if name.endswith(COUNTS)}
    for name, value in method.originals(given).items():
        ours = method.original(name)
        if ours is None:
            continue
        if ours not in own:
            raise CheckpointError(f"{path}: '{name}' has no place in this method; are its options those it had?")
        if own[ours].shape != value.shape:
            shapes = f"is {tuple(value.shape)} and the method's {ours} {tuple(own[ours].shape)}"
            raise CheckpointError(f"{path}: '{name}' {shapes}; are its options those it had?")
        found[ours] = value
    if missing := sorted(own.keys() - found.keys()):
        raise CheckpointError(
            f"{path}: lacks {len(missing)} of the method's {len(own)} tensors, such as '{missing[0]}'; for a file "
            "that holds a backbone alone name the method 'backbone'"
        )
    method.load_state_dict(found, strict=True)
