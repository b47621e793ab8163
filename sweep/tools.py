"""Verbs of the command line that need torch: evaluate a checkpoint, export a model, look at data, give back disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from datasets.atomic import remove, replacing
from datasets.base import SPLITS, DataError, Source
from datasets.config import ConfigError, near, parse
from sweep.evaluations import modules_of
from sweep.folder import is_busy, lock, size_of, write_atomic
from sweep.ledger import Ledger
from sweep.records import LEDGER, MANIFEST, Records, load
from sweep.spec import put, settings_of
from trainables.core.config import resolve
from trainables.core.evaluate import evaluate
from trainables.core.load import load as load_module
from trainables.core.original import read_original, take_over
from trainables.core.presets import expand, extractor
from trainables.core.state import load_method, save
from trainables.core.store import open_store
from trainables.evals.base import Result, capabilities_of, check
from trainables.evals.features import CheckpointSubject, shown


def evaluate_checkpoint(
    checkpoint: Path,
    names: Sequence[str],
    sets: Sequence[str],
    root: Path | None,
    out: Path | None,
    about: Mapping[str, str] | None = None,
    device: str = "auto",
) -> Iterator[str]:
    """Lines of `sweep eval`: every metric of every evaluation. Writes `results.json` beside their folders of artifacts.

    Args:
        about: said in the results beside the checkpoint's digest.
        device: auto = a GPU where there is one.

    Raises:
        ConfigError, CheckpointError, DataError: one line; nothing was computed then.
    """
    options, modules = options_of(names, sets), modules_of(names)
    configs = {name: parse(module.Config, options[name], name) for name, module in modules.items()}
    checkpoint = _fetched(checkpoint)
    if out is None:
        out = checkpoint.parent / f"{checkpoint.name}-evaluation"
    method, resolved, meta = load_method(checkpoint)
    trained, seen = resolved.source(root, "train"), resolved.evaluated()
    judged = trained if seen is resolved else seen.source(root, "train")
    spec = seen.build_views(shown(judged, meta.spec.shape[0]).spec).spec
    where = device_of(device)
    for name, config in configs.items():
        check(modules[name], config, spec, method.parts, capabilities_of(method), configs)
    if judged.spec.note:
        yield f"note: data {resolved.data_name}: {judged.spec.note}"
    if trained.spec.fingerprint != meta.spec.fingerprint:
        yield f"note: these are not the data of {checkpoint}, which it was trained on or imported for"
    subject = CheckpointSubject(checkpoint, root, out / "features", where, out=out)
    results: dict[str, Result] = {}
    for name in modules:
        yield f"{name}"
        subject.out = out / name  # a folder each, since two may call a file the same
        subject.out.mkdir(parents=True, exist_ok=True)
        results[name] = evaluate(subject, name, options[name], inputs=results)
        for metric, value in results[name].metrics.items():
            yield f"  {name}/{metric}  {value:.6g}"
        for artifact in results[name].artifacts.values():
            yield f"  {artifact}"
    kept, of = out / "results.json", {"checkpoint": meta.digest, "data": judged.spec.fingerprint}
    try:
        before = json.loads(kept.read_text())
        numbers = before["metrics"] if {key: before[key] for key in of} == of else {}
    except (OSError, ValueError, KeyError):
        numbers = {}
    numbers = {name: value for name, value in numbers.items() if name.split("/")[0] not in names}
    numbers |= {f"{name}/{metric}": v for name, result in results.items() for metric, v in result.metrics.items()}
    write_atomic(kept, json.dumps({**of, **(about or {}), "metrics": numbers}, indent=1))
    yield str(kept)


def device_of(name: str) -> torch.device:
    """Where to encode.

    Raises:
        ConfigError: there is no such device here.
    """
    there = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    if name.split(":")[0] not in ("auto", *there):
        raise ConfigError(f"--device {name}: this machine has {', '.join(there)}")
    return torch.device(there[-1] if name == "auto" else name)


def options_of(names: Sequence[str], sets: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Options of each evaluation: `limit=9` goes to every one, `linear.limit=9` to one."""
    options: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, value in settings_of(sets).items():
        owner = next((name for name in names if key.startswith(f"{name}.")), None)
        if owner is not None:
            options[owner][key.removeprefix(f"{owner}.")] = value
            continue
        head, _, rest = key.partition(".")
        if rest:
            raise ConfigError(f"--set {key}: '{head}' is not among the evaluations asked for{near(head, list(names))}")
        for name in names:
            options[name][key] = value
    return options


def export_model(source: Path, out: Path, trial: str | None) -> Iterator[str]:
    """Write a checkpoint without its optimiser, or a sweep's best, to `out`.

    Raises:
        ConfigError: `out` is not empty, no such trial, or the sweep has no best yet.
    """
    checkpoint, choice = _checkpoint_of(load(source), trial) if (source / MANIFEST).exists() else (_fetched(source), "")
    _refuse_full(out)
    method, resolved, meta = load_method(checkpoint)
    out.parent.mkdir(parents=True, exist_ok=True)
    save(out, method, resolved.dump(), meta.spec, meta.epoch, meta.step)
    if choice:
        yield choice
    yield f"{out}: {resolved.method_name}, parts {', '.join(f'{part} ({n})' for part, n in method.parts.items())}"
    yield f"input {meta.spec.shape}, trained {meta.epoch} epochs on {resolved.data_name}, from {checkpoint}"


def import_model(
    file: Path, out: Path, method: str, data: str, sets: Sequence[str], root: Path | None
) -> Iterator[str]:
    """Make a checkpoint of the published code, `file`, into one of ours at `out`.

    Args:
        method: a name or a published one (`SIERotColor`), whose options it had by `method.KEY=VALUE` in `sets`.
        data: what it is for: gives the shape of its input and is what `sweep eval` judges it on.

    Raises:
        ConfigError, CheckpointError, DataError: one line; nothing was written then.
    """
    _refuse_full(out)
    given = read_original(file)
    published = dict(getattr(load_module("dataset", data), "PUBLISHED", {}))
    if (found := extractor(method)) is not None:
        published |= {f"views.{key}": value for key, value in found.views.items()}
    sections: dict[str, Any] = {"method": {"name": method}, "data": {"name": data}}
    for key, value in {**published, **settings_of(sets)}.items():
        if key.split(".")[0] not in ("method", "data", "views"):
            raise ConfigError(f"--set {key}: an imported model has the sections method, data and views alone")
        put(sections, key, value, f"--set {key}")
    if "tracking" in load_module("method", expand(method, {})[0]).METHOD.Config.model_fields:
        sections["method"].setdefault("tracking", False)  # what was trained beside is left out
    resolved = resolve(sections)
    spec = resolved.build_views(resolved.source(root, "train").spec).spec
    model = resolved.build_method(spec)
    take_over(model, given, file)
    out.parent.mkdir(parents=True, exist_ok=True)
    save(out, model, resolved.dump(), spec, 0)
    yield f"{out}: {method}, parts {', '.join(f'{part} ({n})' for part, n in model.parts.items())}"
    yield f"input {spec.shape}, {sum(p.numel() for p in model.parameters()):,} parameters, all from {file}"
    for key in published:
        yield f"as published: {key}={published[key]}" if key not in settings_of(sets) else f"by --set: {key}"
    if spec.note:
        yield f"note: {spec.note}"


def _refuse_full(out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise ConfigError(f"{out}: is not an empty folder; choose another")


def _checkpoint_of(records: Records, trial: str | None) -> tuple[Path, str]:
    """The checkpoint to export, and how it was chosen where nobody named it."""
    choice = ""
    if trial is None:
        done = [c for c in records.configurations.values() if c.state == "complete" and (c.violation or 0) <= 0]
        if not done:
            raise ConfigError(f"{records.directory}: no configuration is complete yet; name a --trial")
        sign = -1 if records.objectives[0]["direction"] == "max" else 1
        chosen = min(done, key=lambda c: sign * c.values[0])
        found = records.trials[chosen.trials[0]]
        choice = (
            f"configuration {chosen.number}, the best in {records.objectives[0]['metric']}, its first seed; "
            "another one by --trial, see `sweep table --by trial`"
        )
    else:
        from analysis.explain import find

        try:
            found = find(records, trial)
        except ValueError as error:
            raise ConfigError(f"--{error}") from None
        if found.stage != "pretrain":
            raise ConfigError(f"--trial {trial}: is no pretraining; {found.id} is of {found.parent}, name that one")
    if found.checkpoint is None:
        raise ConfigError(f"trial {found.id}: has no checkpoint")
    return open_store(records.storage, records.directory).fetch(found.checkpoint.path), choice


def _fetched(checkpoint: Path) -> Path:
    """A checkpoint named by its place in a sweep's folder, brought here from the bucket if that is where it lies."""
    if checkpoint.exists():
        return checkpoint
    for folder in checkpoint.parents:
        if (folder / MANIFEST).exists():
            return open_store(load(folder).storage, folder).fetch(checkpoint.relative_to(folder).as_posix())
    return checkpoint


def show_data(name: str, sets: Sequence[str], root: Path | None, out: Path) -> Iterator[str]:
    """Fetch a data set where it can be, say what is there, and draw samples.

    Raises:
        ConfigError, DataError: one line.
    """
    module = load_module("dataset", name)
    config = parse(module.Config, _nested(sets), "data")
    yield f"{name}: {module.DOWNLOAD}"
    try:
        source = module.open(config, root, "train")
    except DataError as missing:
        if not hasattr(module, "fetch"):
            raise
        if root is None:
            raise DataError(f"{missing} (give --data-root DIR)") from None
        yield "fetching ..."
        try:
            module.fetch(config, root)
        except DataError:
            raise
        except Exception as error:  # a download fails in many ways
            raise DataError(f"{name}: the download failed: {' '.join(str(error).split())[:200]}") from None
        source = module.open(config, root, "train")
    for split in SPLITS:
        yield f"  {split:5} {len(module.open(config, root, split))} items"
    spec = source.spec
    labels = {factor: classes for factor, classes in spec.labels.items() if factor not in spec.tags}
    tagged = f" and {len(spec.tags)} tags" if spec.tags else ""
    yield f"  items {spec.shape}, labels {labels or 'none'}{tagged}, parameters {spec.params or 'none'}"
    if spec.note:
        yield f"  note: {spec.note}"
    if len(spec.shape) in (3, 4):
        yield f"  {_sheet(source, out / f'{name}.png')}"
    if hasattr(module, "draw"):
        yield from (f"  {line}" for line in module.draw(config, root, out))


def render_data(name: str, sets: Sequence[str], meshes: str, out: Path) -> Iterator[str]:
    """Lines of `sweep data NAME --render SOURCE OUT`, for sets made of something else: see `render` of the module.

    Raises:
        ConfigError, DataError: one line.
    """
    module = load_module("dataset", name)
    if not hasattr(module, "render"):
        raise ConfigError(f"data {name}: cannot be rendered, leave --render out")
    yield from module.render(parse(module.RenderConfig, _nested(sets), "render"), meshes, out)
    yield f"`sweep data {name} --data-root {out}` describes it and draws a sheet"


def _nested(sets: Sequence[str]) -> dict[str, Any]:
    """`made.takes=3` as {"made": {"takes": 3}}."""
    values: dict[str, Any] = {}
    for key, value in settings_of(sets).items():
        put(values, key, value, "--set")
    return values


def _sheet(source: Source, path: Path, count: int = 40) -> Path:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rng = torch.Generator().manual_seed(0)
    shown = max(n for n in (1, 2, 5, 10) if n <= source.spec.views)  # views of an item stand side by side
    index = torch.randperm(len(source), generator=rng)[: count // shown]
    batch = source.fetch(index, rng)
    paged = len(source.spec.shape) == 4  # a page lies in one row
    n, channels, rows, columns = source.spec.shape if paged else (1, *source.spec.shape)
    tall = 2 * rows > n * columns
    grid, height = ((4, 10), 4.6) if not paged else ((2, 5), 6.0) if tall else ((10, 1), 12.0)
    origin: Literal["lower", "upper"] = "lower" if paged and channels == 1 else "upper"  # of spectra
    figure, axes = plt.subplots(*grid, figsize=(10, height))
    label = next((name for name in batch.labels if name not in source.spec.frames), None)
    for place, axis in enumerate(axes.flat):
        axis.axis("off")
        item, view = divmod(place, shown)
        if item < len(batch):
            x = batch.views[view][item]
            x = torch.cat(list(x), -1) if paged else x
            axis.imshow(x.permute(1, 2, 0).squeeze(-1).numpy(), cmap="gray", vmin=0, vmax=1, origin=origin)
            if label and view == 0:
                axis.set_title(f"{batch.labels[label][item].item():g}", fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png", bbox_inches="tight")
    plt.close(figure)
    return path


def optuna_dashboard(records: Records, port: int) -> None:
    """Serve Optuna's dashboard on a journal made from the records, on this machine only, until Ctrl-C."""
    from sweep.dashboard import export_journal

    with tempfile.TemporaryDirectory() as folder:
        journal = Path(folder) / "optuna.journal"
        export_journal(records, journal)
        command = [sys.executable, "-c", "from optuna_dashboard._cli import main; main()", str(journal)]
        print(f"Optuna dashboard at http://127.0.0.1:{port or 8080} (Ctrl-C ends it)", flush=True)
        try:
            subprocess.run([*command, "--host", "127.0.0.1", "--port", str(port or 8080)], check=False)
        except KeyboardInterrupt:
            return


def clean_folder(directory: Path, features: bool, checkpoints: bool) -> Iterator[str]:
    """Lines of `sweep clean`: what takes how much, and what was given back.

    Raises:
        ConfigError: the sweep is running.
    """
    load(directory)
    for name in ("trials", "cache", "aim", "report"):
        yield f"{name:8} {size_of(directory / name) / 2**20:8.1f} MB"
    if not (features or checkpoints):
        yield "give some back with --features (computed again when asked for) or --checkpoints (all but the best)"
        return
    if is_busy(directory):
        raise ConfigError(f"{directory}: is running; `sweep stop {directory}` first")
    with lock(directory):
        records = load(directory)
        if features:
            yield f"features: {_delete(directory, directory / 'cache') / 2**20:.1f} MB given back"
            if "SWEEP_CACHE" in os.environ:
                shared = Path(os.environ["SWEEP_CACHE"]) / "features"
                yield f"features: those in {shared} stay, since other sweeps read them too"
        if checkpoints:
            yield f"checkpoints: {_drop_checkpoints(records) / 2**20:.1f} MB given back"
        freed = sum(_delete(directory, path) for path in _leftovers(records))
        yield f"left by processes that were killed: {freed / 2**20:.1f} MB given back"


def _leftovers(records: Records) -> Iterator[Path]:
    """What no record names: checkpoints that were never published, temporary files, the state of worker groups."""
    directory = records.directory
    published = {(directory / point.path).resolve() for t in records.trials.values() for point in t.checkpoints}
    for trial in records.trials.values():
        folder = directory / "trials" / trial.id
        if trial.stage == "pretrain" and trial.over:
            yield from (path for path in folder.glob("attempt-*/epoch-*") if path.resolve() not in published)
        yield from folder.glob("attempt-*/.epoch-*")
    yield from (directory / "cache").rglob(".*.h5.*")
    yield from (directory / "cache").rglob("*.part")
    yield directory / ".ray"


def _delete(directory: Path, path: Path) -> int:
    """Delete a file or folder of a sweep; the bytes given back, 0 for what lies elsewhere and stays."""
    if not _lies_in(directory, path):
        return 0
    freed = path.stat().st_size if path.is_file() else size_of(path)
    remove(path)
    return freed


def _lies_in(directory: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(directory.resolve())


def _drop_checkpoints(records: Records) -> int:
    from analysis.table import best

    found = best(records)  # those that the noise cannot tell from the best are kept too
    numbers = {n for frame in (found.frame, found.rivals) if len(frame) for n in frame["configuration"]}
    kept = {id_ for number in numbers for id_ in records.configurations[int(number)].trials}
    ledger, freed = Ledger(records.directory / LEDGER), 0
    store = open_store(records.storage, records.directory)
    for trial in records.trials.values():
        if trial.stage != "pretrain" or not trial.over or trial.id in kept or trial.origin:
            continue
        for point in trial.checkpoints:
            path = records.directory / point.path
            if _lies_in(records.directory, path):
                ledger.append({"event": "drop_checkpoint", "id": trial.id, "path": point.path})
                freed += _delete(records.directory, path)
                store.remove(point.path)
    ledger.close()
    return freed
