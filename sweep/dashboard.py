"""The sweep for the Optuna dashboard: the study rebuilt from the records, written as an Optuna journal file.

    optuna-dashboard DIR/optuna.journal

The journal is a view: nothing reads it back, and it is written whole, then renamed, since a line torn by a kill makes
an Optuna journal unreadable.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from datasets.atomic import replacing
from datasets.config import parse
from sweep.records import Configuration, Records
from sweep.search import encode, frozen
from sweep.spec import Sweep

TOWARDS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}


def build_study(records: Records, include_running: bool = True) -> optuna.Study:
    """The study in memory: one Optuna trial per configuration, in their order, named by the sweep.

    User attributes of a trial: configuration, source, trials (ids of its pretrainings), reason, spread over seeds.

    Raises:
        ConfigError: the manifest holds no valid sweep.
    """
    return _fill(records, optuna.storages.InMemoryStorage(), include_running)


def export_journal(records: Records, path: Path) -> int:
    """Write the study to `path`, replacing what is there; the number of trials in it.

    Raises:
        ConfigError: the manifest holds no valid sweep.
        OSError: the folder is full or read-only.
    """
    with replacing(path) as temporary:
        study = _fill(records, JournalStorage(JournalFileBackend(str(temporary))), include_running=True)
        return len(study.get_trials(deepcopy=False))


def _fill(records: Records, storage: optuna.storages.BaseStorage, include_running: bool) -> optuna.Study:
    sweep: Sweep = parse(Sweep, records.spec, "sweep")
    directions = [TOWARDS[objective.direction] for objective in sweep.objectives]
    study = optuna.create_study(study_name=sweep.name, storage=storage, directions=directions)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study.set_metric_names([objective.metric for objective in sweep.objectives])
    configurations = [records.configurations[number] for number in sorted(records.configurations)]
    study.add_trials(
        [
            _trial(sweep, configuration, records)
            for configuration in configurations
            if include_running or configuration.state != "running"
        ]
    )
    return study


def _trial(sweep: Sweep, configuration: Configuration, records: Records) -> FrozenTrial:
    if configuration.state == "running":
        params, distributions = encode(sweep, configuration.params)
        reached = {epoch: values[0] for epoch, values in configuration.rungs.items()}
        trial = create_trial(
            state=TrialState.RUNNING,
            params=params,
            distributions=distributions,
            intermediate_values=reached if len(sweep.objectives) == 1 else None,
        )
    else:
        trial = frozen(sweep, configuration)
    trial.user_attrs = {**trial.user_attrs, **_attributes(configuration, records)}
    return trial


def _attributes(configuration: Configuration, records: Records) -> dict[str, Any]:
    trials = [records.trials[id_] for id_ in configuration.trials if id_ in records.trials]
    return {
        "configuration": configuration.number,
        "source": configuration.source,
        "trials": configuration.trials,
        "reason": configuration.reason or next((trial.reason for trial in trials if trial.reason), ""),
        "spread": configuration.spread,
    }
