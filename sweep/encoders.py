"""`sweep eval NAME`: encoders that were not trained here, published ones and baselines, become checkpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from datasets.base import Spec
from datasets.config import ConfigError, near, parse
from sweep.evaluations import modules_of
from sweep.spec import put, settings_of
from sweep.tools import device_of, evaluate_checkpoint, options_of
from trainables.core.config import Resolved, digest, resolve
from trainables.core.load import load, names
from trainables.core.original import read_original, take_over
from trainables.core.presets import PRESETS, expand
from trainables.core.state import CheckpointError, read_meta, save
from trainables.evals.features import shown
from trainables.extractors.names import ALIASES, EXTRACTORS, FOLDER, SUFFIXES, published

SECTIONS = ("method", "data", "views")


@dataclass(frozen=True)
class Given:
    """What is said of an encoder: its data, its weights or that it has none, the seed of those, and where it runs."""

    data: str | None = None
    weights: Path | None = None
    untrained: bool = False
    seed: int = 0
    device: str = "auto"


def evaluate(
    encoder: str, evaluations: Sequence[str], sets: Sequence[str], root: Path | None, out: Path | None, given: Given
) -> Iterator[str]:
    """Lines of `sweep eval`: of a checkpoint's folder, the same with fresh weights, or an encoder by its name.

    Raises:
        ConfigError, CheckpointError, DataError: one line; no features were computed then.
    """
    if given.weights is not None and given.untrained:
        raise ConfigError("--untrained: has no weights; leave --weights out")
    if given.seed and not given.untrained:
        raise ConfigError(f"--seed {given.seed}: is of drawn weights; add --untrained, or leave it out")
    if _is_folder(encoder, given):
        yield from _of_folder(Path(encoder), evaluations, sets, root, out, given)
        return
    _check_name(encoder, given)
    device_of(given.device)
    own = [text for text in sets if text.split(".")[0] not in SECTIONS]
    options = options_of(evaluations, own)
    for name, module in modules_of(evaluations).items():
        parse(module.Config, options[name], name)
    resolved, spec = _resolved(encoder, given, [text for text in sets if text not in own], root)
    file = None if given.untrained else _weights(encoder, given.weights)
    about = {"encoder": encoder, "weights": f"untrained, seed {given.seed}" if file is None else str(file)}
    key = digest([resolved.identity(), about["weights"] if file is None else _sha256(file)])
    folder = out or Path("runs") / "extractors" / f"{encoder}-{key}"
    checkpoint = folder / f"encoder-{key}"
    if not _there(checkpoint):
        method = _drawn(resolved, spec, given.seed)
        if file is not None:
            take_over(method, read_original(file), file)
        folder.mkdir(parents=True, exist_ok=True)
        save(checkpoint, method, resolved.dump(), spec, 0)
    yield f"{encoder}: items {spec.shape}, weights: {about['weights']}"
    yield from (f"note: {line}" for line in _notes(encoder, spec))
    yield from evaluate_checkpoint(checkpoint, evaluations, own, root, folder, about, given.device)


def _is_folder(encoder: str, given: Given) -> bool:
    """Whether a checkpoint is meant, and no name.

    Raises:
        ConfigError: a checkpoint, and data beside.
    """
    if given.data is None:
        return Path(encoder).exists() or "/" in encoder
    if (Path(encoder) / "meta.json").exists():
        raise ConfigError(
            f"--data {given.data}: {encoder} is a checkpoint, which is judged on its own data; leave --data out, or "
            f"evaluate `transfer` with --set 'to={{name: {given.data}}}'"
        )
    return False


def _of_folder(
    checkpoint: Path, evaluations: Sequence[str], sets: Sequence[str], root: Path | None, out: Path | None, given: Given
) -> Iterator[str]:
    if given.weights is not None:
        raise ConfigError(f"--weights: {checkpoint} is a checkpoint, which has its own")
    if not given.untrained:
        yield from evaluate_checkpoint(checkpoint, evaluations, sets, root, out, device=given.device)
        return
    meta = read_meta(checkpoint, verify=False)
    folder = out or checkpoint.parent / f"{checkpoint.name}-untrained-{given.seed}"
    resolved = resolve(meta.config)
    folder.mkdir(parents=True, exist_ok=True)
    save(folder / "encoder", _drawn(resolved, meta.spec, given.seed), resolved.dump(), meta.spec, 0)
    about = {"encoder": str(checkpoint), "weights": f"untrained, seed {given.seed}"}
    yield f"{checkpoint}: {resolved.method_name} with its options, weights: {about['weights']}"
    yield from evaluate_checkpoint(folder / "encoder", evaluations, sets, root, folder, about, given.device)


def _check_name(encoder: str, given: Given) -> None:
    known = [*EXTRACTORS, *ALIASES, *PRESETS, *names("method")]
    if encoder not in known and ("." not in encoder or "/" in encoder):
        close = near(encoder, known)
        hint = close if "did you mean" in close else "; `sweep ls extractors` has the names"
        raise ConfigError(f"{encoder}: is no checkpoint (no meta.json in it) and no encoder's name{hint}")
    if given.data is None:
        raise ConfigError(f"{encoder}: name what it is shown, --data NAME (`sweep ls datasets`)")


def _resolved(encoder: str, given: Given, sets: Sequence[str], root: Path | None) -> tuple[Resolved, Spec]:
    """The configuration, over the data as evaluations see them, and the spec of what the encoder is shown."""
    found = published(encoder)
    theirs = getattr(load("dataset", str(given.data)), "PUBLISHED", {})
    asked = settings_of(sets)
    method = {"name": encoder} if found is None else {"name": found.module, **found.options}
    sections: dict[str, Any] = {
        "method": method, "data": {"name": given.data}, "views": {}, "seed": given.seed
    }  # fmt: skip
    for key, value in {**theirs, **_made_for(encoder, str(given.data), asked), **asked}.items():
        put(sections, key, value, f"--set {key}")
    if "tracking" in load("method", expand(str(method["name"]), {})[0]).METHOD.Config.model_fields:
        sections["method"].setdefault("tracking", False)  # what is trained beside has nothing to say here
    resolved = resolve(sections).evaluated()
    source = resolved.source(root, "train")
    if resolved.views.center_crop and "views.center_crop" not in asked and _is_cut(source.spec, resolved.views.size):
        resolved = replace(resolved, views=resolved.views.model_copy(update={"center_crop": False}))
    channels = getattr(resolved.method_class, "channels", source.spec.shape[0])
    return resolved, resolved.build_views(shown(source, channels).spec).spec


def _made_for(encoder: str, data: str, asked: Mapping[str, Any]) -> dict[str, Any]:
    """The input that a published encoder was made for, where the data have options for it."""
    found = published(encoder)
    if found is None:
        return {}
    made = {f"views.{key}": deepcopy(value) for key, value in found.views.items()}  # options below are set in it
    fields = load("dataset", data).Config.model_fields
    if found.hears is not None and {"seconds", "rate"} <= fields.keys():
        if "items" in fields and asked.get("data.items", "pieces") != "pieces":
            return made  # they have a length of their own
        seconds, rate = found.hears
        made |= {"data.seconds": seconds, "data.rate": rate, **({"data.items": "pieces"} if "items" in fields else {})}
    return made


def _is_cut(spec: Spec, size: int | None) -> bool:
    """Whether the data give images that are the square already that is to be cut out of larger ones."""
    return len(spec.shape) == 3 and spec.shape[1:] == (size, size)


def _weights(encoder: str, given: Path | None) -> Path:
    """The file of an encoder's weights: the one that is named, or the one of its name in a folder."""
    if given is not None and not given.is_dir():
        return given
    folder, name = given or Path(FOLDER), encoder.lower()
    for suffix in SUFFIXES:
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    found = published(encoder)
    which = f" ({found.weights})" if found else ""
    raise ConfigError(
        f"{encoder}: no weights in {folder}/{name}{{{','.join(SUFFIXES)}}}; put them there, "
        f"give --weights FILE{which}, or take --untrained, a baseline"
    )


def _drawn(resolved: Resolved, spec: Spec, seed: int) -> Any:
    """A method with weights that follow from the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return resolved.build_method(spec)


def _there(checkpoint: Path) -> bool:
    """Whether it was made before, and is whole."""
    try:
        read_meta(checkpoint)
    except CheckpointError:
        return False
    return True


def _notes(encoder: str, spec: Spec) -> Iterator[str]:
    """Where the input is another than the encoder was made for."""
    found = published(encoder)
    if found is None or found.hears is None or spec.rate is None:
        return
    seconds, rate = found.hears
    if abs(spec.shape[-1] / spec.rate - seconds) > 0.01:
        have = spec.shape[-1] / spec.rate
        yield f"items are of {have:.2f} s; evaluations of {encoder} are published of {seconds:g} s"
    if spec.rate != rate:
        yield f"items are resampled from {spec.rate} to {rate} Hz"


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except (FileNotFoundError, IsADirectoryError):
        raise CheckpointError(f"{file}: no such file; give the one that holds the weights") from None
