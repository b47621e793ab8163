"""Where one number comes from: everything between the code and the metric, and the command that makes it again."""

from __future__ import annotations

import difflib
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweep.records import Checkpoint, Configuration, Records, Trial


def explain(records: Records, metric: str, trial: str) -> dict[str, Any]:
    """The lineage of `metric` of a trial, given by its id or the beginning of it (a pretraining or an evaluation).

    The keys come in reading order: metric, value, sweep, configuration, pretraining, checkpoint, evaluation, data,
    code, reproduce. An id is the digest of everything that determines the trial's result.

    Raises:
        ValueError: one line: an unknown or ambiguous trial, or a metric it has not, with the near matches.
    """
    found = find(records, trial)
    source = _source(records, found, metric)
    pretraining = records.trials[source.parent] if source.parent else source
    point = _checkpoint(source, pretraining)
    owner = records.configurations.get(source.configuration)
    lineage: dict[str, Any] = {
        "metric": metric,
        "value": source.metrics[metric],
        "sweep": {"name": records.spec["name"], "folder": str(records.directory)},
        "configuration": _configuration(records, source, owner) if owner else None,
        "pretraining": {
            "id": pretraining.id,
            "method": pretraining.name,
            "seed": pretraining.config.get("seed"),
            "status": pretraining.status,
            "config": pretraining.config,
            "seconds": pretraining.seconds,
            **({"taken from": pretraining.origin} if pretraining.origin else {}),
        },
        "checkpoint": {"path": point.path, "digest": point.digest, "epoch": point.epoch} if point else None,
        "evaluation": _evaluation(records, source) if source.stage == "evaluation" else None,
        "data": _data(records, pretraining, point),
        "code": _code(records, source, pretraining),
        "reproduce": _commands(records, source, point),
    }
    return {key: value for key, value in lineage.items() if value not in (None, {})}


def find(records: Records, trial: str) -> Trial:
    """The trial whose id begins with `trial`, or the pretraining of the configuration with this number, "12" or "#12".

    Raises:
        ValueError: none, or several.
    """
    number = trial.removeprefix("#")
    if trial not in records.trials and number.isdecimal() and int(number) in records.configurations:
        return _pretraining(records, int(number))
    matches = [one for id_, one in records.trials.items() if trial and id_.startswith(trial)]
    if len(matches) == 1 or trial in records.trials:
        return records.trials.get(trial) or matches[0]
    if matches:
        ids = ", ".join(f"{one.id} ({one.name})" for one in matches[:4])
        raise ValueError(f"trial '{trial}': {len(matches)} trials begin so: {ids}; write more of the id")
    near = difflib.get_close_matches(trial, records.trials, n=2, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else f"`sweep table {records.directory} --by trial` lists them"
    raise ValueError(f"trial '{trial}': no such trial in {records.directory}; {hint}")


def _pretraining(records: Records, number: int) -> Trial:
    ids = records.configurations[number].trials
    found = [records.trials[id_] for id_ in ids if id_ in records.trials]
    if len(found) == 1:
        return found[0]
    seeds = ", ".join(f"{one.id} (seed {one.config.get('seed')})" for one in found[:4]) or "none yet"
    raise ValueError(f"trial '{number}': configuration {number} has {len(found)} pretrainings: {seeds}; name one")


def _source(records: Records, trial: Trial, metric: str) -> Trial:
    """The trial that measured the metric: the last evaluated checkpoint's, as in the tables."""
    candidates = [trial]
    if trial.stage == "pretrain":
        candidates += sorted(records.evaluations_of(trial.id), key=lambda child: child.epoch or 0)
    having = [one for one in candidates if metric in one.metrics and one.status in ("finished", "running", "stopped")]
    if having:
        last = having[-1]
        others = [one for one in having if one.epoch == last.epoch and one.configuration != last.configuration]
        if others:  # configurations that share the pretraining and differ in an option of the evaluation
            ids = ", ".join(f"{one.id} (#{one.configuration})" for one in [*others, last][:4])
            count = len(others) + 1
            raise ValueError(f"metric '{metric}': {count} evaluations of trial {trial.id} have it: {ids}; name one")
        return last
    names = sorted({name for one in candidates for name in one.metrics})
    near = difflib.get_close_matches(metric, names, n=3, cutoff=0.5)
    if near:
        hint = f"did you mean {' or '.join(near)}?"
    else:
        hint = f"it has {', '.join(names[:8])}" if names else f"it has no metric yet (status {trial.status})"
    raise ValueError(f"metric '{metric}': trial {trial.id} has no such metric; {hint}")


def _checkpoint(source: Trial, pretraining: Trial) -> Checkpoint | None:
    if source.stage == "pretrain":
        return pretraining.checkpoint
    return next((point for point in pretraining.checkpoints if point.epoch == source.epoch), None)


def _configuration(records: Records, source: Trial, owner: Configuration) -> dict[str, Any]:
    """The first configuration that a number belongs to, and the others."""
    found = {"number": owner.number, "source": owner.source, "state": owner.state, "params": owner.params}
    others = [number for number in records.owners.get(source.id, ()) if number != owner.number]
    return {**found, "shared with": others} if others else found


def _evaluation(records: Records, trial: Trial) -> dict[str, Any]:
    options = {key: value for key, value in trial.config.items() if key != "name"}
    found = {"id": trial.id, "key": trial.name, "name": trial.config.get("name", trial.name), "epoch": trial.epoch}
    features = [
        one.id
        for one in records.trials.values()
        if one.stage == "features" and (one.parent, one.epoch) == (trial.parent, trial.epoch)
    ]
    found |= {"config": options, "attempts": trial.attempts, "seconds": trial.seconds}
    return {**found, "features": features} if features else found


def _data(records: Records, pretraining: Trial, point: Checkpoint | None) -> dict[str, Any]:
    """The data's options, and the fingerprint of their content, which every checkpoint carries."""
    found = dict(pretraining.config.get("data", {}))
    file = records.directory / point.path / "meta.json" if point else None
    if file is not None and file.exists():
        try:
            fingerprint = json.loads(file.read_text())["spec"]["fingerprint"]
        except (ValueError, KeyError, TypeError):
            fingerprint = "unreadable: the checkpoint is damaged"
        if fingerprint:
            found["fingerprint"] = fingerprint
    return found


def _code(records: Records, source: Trial, pretraining: Trial) -> dict[str, Any]:
    """Versions, and the revision that was at work; where they differ, that of the pretraining and the evaluation."""
    found = dict(records.manifest.get("environment", {}))
    if source.revision:
        found.pop("dirty", None)
        found["revision"] = source.revision
    if pretraining.revision and pretraining.revision != source.revision:
        found["revision of the pretraining"] = pretraining.revision
    return found


def _commands(records: Records, source: Trial, point: Checkpoint | None) -> list[str]:
    """The commands that make the number again from its checkpoint, after going back to the code's revision."""
    revision = source.revision.split(" ")[0] or records.manifest.get("environment", {}).get("revision")
    commands = [f"git checkout {shlex.quote(revision)}"] if revision and not revision.startswith("source-") else []
    if source.stage != "evaluation":
        return [*commands, f"sweep resume {shlex.quote(str(records.directory))}"]
    if point is None:
        gone = f"# the checkpoint of epoch {source.epoch} is no longer on disk; train it again from the config above"
        return [*commands, gone]
    path = records.directory / point.path
    chain = list(_read(records, source))
    names = [shlex.quote(str(one.config.get("name", one.name))) for one in chain]
    options = [
        f"--set {shlex.quote(f'{name}.{key}={json.dumps(value)}' if len(chain) > 1 else f'{key}={json.dumps(value)}')}"
        for name, one in zip(names, chain, strict=True)
        for key, value in one.config.items()
        if key != "name"
    ]
    return [*commands, " ".join(["sweep eval", shlex.quote(str(Path(path))), *names, *options])]


def _read(records: Records, evaluation: Trial) -> Iterator[Trial]:
    """The evaluations whose results one reads, each before those that read it, and itself."""
    for id_ in evaluation.inputs.values():
        yield from _read(records, records.trials[id_])
    yield evaluation


def text(lineage: dict[str, Any]) -> str:
    """A lineage for people: one line an entry, indented by depth."""
    return "\n".join(_lines(lineage, 0))


def _lines(entries: dict[str, Any], depth: int) -> list[str]:
    width = max((len(key) for key, value in entries.items() if not isinstance(value, dict)), default=0)
    lines = []
    for key, value in entries.items():
        space = "  " * depth
        if isinstance(value, dict) and value:
            lines += [f"{space}{key}", *_lines(value, depth + 1)]
        elif isinstance(value, list) and key == "reproduce":
            lines += [f"{space}{key}", *(f"{space}  {command}" for command in value)]
        else:
            shown = value if isinstance(value, str) else json.dumps(value)
            lines.append(f"{space}{key.ljust(width)}  {shown}")
    return lines
