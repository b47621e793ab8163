"""Disentanglement: whether a probe of one factor is misled when another one is moved.

Protocol of Plachouras et al., IJCNN 2025, arXiv 2505.06224. The probes are those of `informativeness`, fitted on clean
items. Items of `val` and `test` are seen under a transform of another factor, drawn from one quarter of its range; what
is to be read is still the factor of the clean item. Reported are differences to the same probe on clean items, negative
where it got worse:

    FACTOR_CODE@QUARTER_PROBE_rmse_diff       of numbers, (rmse clean - rmse moved), both divided by the factor's scale
    FACTOR_CODE@QUARTER_PROBE_accuracy_diff   of classes, accuracy moved - accuracy clean; of tags `ap_diff`
    FACTOR_CODE_PROBE_low, _high              mean size of the differences of quarters 25 and 50, of 75 and 100
    PROBE_low, PROBE_high                     the same over all factors that are numbers, or of none all others

0 is right: a search minimises `PROBE_high`. Low and high are apart since saturation and brightness have no sane values
in the lower half of their published ranges, where every image comes out inverted or black. A transform is not judged by
the factor that it moves itself: `hue_shift` not by the hue of a part of the image, such as "floor_hue", `pitch_shift`
not by the key, `time_stretch` not by the tempo. `quarters: []` draws from the whole range, also of transforms that have
no parts.

`disentanglement.csv` has a row for each probe, transform and split: clean and moved measure, difference. Of several
quarters `quarters_SPLIT.png` draws the differences over them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from datasets.base import Spec, Split
from datasets.config import ConfigError
from trainables.evals import _factor_figures, _factors, _files, _moved, informativeness
from trainables.evals._bank import Probe, read
from trainables.evals._bank_training import Kind, Named
from trainables.evals._factors import FactorsConfig
from trainables.evals.base import REPORTED, Capabilities, Features, Needs, Request, Result, Subject, chosen_parts
from trainables.evals.informativeness import BASELINES, measured_one

Quarter = Literal["25", "50", "75", "100", "sane"]
LOW, HIGH = ("25", "50"), ("75", "100")
COLOURS = ("hue_shift", "saturation_shift", "brightness_shift")
SOUNDS = ("white_noise_snr", "pitch_shift")


class Config(FactorsConfig):
    """Which factors, moved by what."""

    probes: tuple[Named, ...] = Field(("slp", "mlp"), min_length=1, description="of those of informativeness")
    transforms: tuple[str, ...] = Field(
        (), description="codes without a range; () = of images hue, saturation and brightness_shift, of sounds "
        "white_noise_snr and pitch_shift (published)",
    )  # fmt: skip
    quarters: tuple[Quarter, ...] = Field(
        ("25", "50", "75", "100"), description="parts of the range; () = all of it at once"
    )

    @field_validator("quarters", mode="before")
    @classmethod
    def _named(cls, quarters: Any) -> Any:
        return tuple(map(str, quarters)) if isinstance(quarters, list | tuple) else quarters


NEEDS = Needs(after=("informativeness",))
VERSION = 2
METRICS = {"*_diff": "", "*_low": "min", "*_high": "min"}
WHICH: dict[str, Sequence[str]] = {"low": LOW, "high": HIGH}


def requests(cfg: Config, spec: Spec) -> list[Request]:
    """Features of the reported splits, clean and under each part of each transform."""
    moved = list(dict.fromkeys(code for _, code in grid(cfg, spec)))
    return [request for split in REPORTED for request in _moved.both(split, moved, cfg.limit)]


def metrics(cfg: Config, spec: Spec, parts: Mapping[str, int], capabilities: Capabilities) -> list[str]:
    """The names `run` returns.

    Raises:
        ConfigError: there is no such factor, transform or part, or no transform that moves another factor.
    """
    kinds = _factors.kinds(cfg, spec)
    probes: tuple[str, ...] = cfg.probes
    there = {(factor, code, probe): 0.0 for factor, code in grid(cfg, spec) for probe in dict.fromkeys(probes)}
    names = named(there, kinds)
    return [f"{part}/{split}/{name}" for part in chosen_parts(cfg, parts) for split in REPORTED for name in names]


def check_inputs(cfg: Config, capabilities: Capabilities, configs: Mapping[str, Any]) -> None:
    """Refuse what there are no probes for, or probes of something else.

    Raises:
        ConfigError: one line.
    """
    fitted = configs.get("informativeness")
    if not isinstance(fitted, informativeness.Config):
        return
    for option in ("parts", "factors", "probes"):
        missing = sorted(set(getattr(cfg, option)) - set(getattr(fitted, option)))
        if missing and "*" not in getattr(fitted, option):
            which = "every one" if missing[0] == "*" else f"'{missing[0]}'"
            raise ConfigError(f"{option}: reads probes of {which}; add it to the {option} of informativeness")
    for option in ("aggregate", "circular_hue"):
        if getattr(cfg, option) != getattr(fitted, option):
            raise ConfigError(f"{option}: is {getattr(fitted, option)} in informativeness, whose probes are read")


def run(subject: Subject, cfg: Config, rng: np.random.Generator, inputs: Mapping[str, Result]) -> Result:
    """Metrics `PART/{val,test}/...` of the module's docstring, and a table."""
    result, rows = Result({}), []
    kinds, cells, widths = _factors.kinds(cfg, subject.spec), grid(cfg, subject.spec), subject.method.parts
    for split in REPORTED:
        still, true = _factors.labelled(subject, cfg, Request(split, limit=cfg.limit), kinds)
        moved = {code: _seen(subject, cfg, split, code) for code in dict.fromkeys(code for _, code in cells)}
        for part in chosen_parts(cfg, widths):
            found: dict[tuple[str, str, str], float] = {}
            for factor, kind in kinds.items():
                scale, name = cfg.scale_of(factor), BASELINES[kind]
                for probe in dict.fromkeys(cfg.probes):
                    one = probe_of(inputs["informativeness"], part, factor, probe, widths[part])
                    before = measured_one(kind, name, one(still.parts[part]), true[factor], scale)
                    for code in [code for own, code in cells if own == factor]:
                        after = measured_one(kind, name, one(moved[code].parts[part]), true[factor], scale)
                        found[factor, code, probe] = before - after if kind == "number" else after - before
                        told = (before, after, found[factor, code, probe])
                        rows.append((part, split, factor, code, probe, name, *told))
            values = named(found, kinds)
            result.metrics |= {f"{part}/{split}/{name}": value for name, value in values.items()}
    columns = ("part", "split", "factor", "transform", "probe", "measure", "clean", "moved", "difference")
    result.artifacts["disentanglement.csv"] = _files.table(subject.out / "disentanglement.csv", columns, rows)
    if len(dict.fromkeys(cfg.quarters)) > 1:
        _draw(result, subject.out, rows)
    return result


def _draw(result: Result, out: Path, rows: Sequence[tuple[Any, ...]]) -> None:
    """The differences over the quarters, a figure for each split."""
    for split in REPORTED:
        lines: dict[str, dict[str, dict[tuple[str, str], list[float]]]] = {}
        for part, _, factor, code, probe, *_, difference in [row for row in rows if row[1] == split]:
            base, _, _ = code.partition("@")
            lines.setdefault(part, {}).setdefault(factor, {}).setdefault((base, probe), []).append(difference)
        names = list(dict.fromkeys(row[3].partition("@")[2] for row in rows))
        name = f"quarters_{split}.png"
        title = f"Probes of factors while others are moved, {split}"
        result.artifacts[name] = _factor_figures.quarters(out / name, lines, names, title)


def _seen(subject: Subject, cfg: Config, split: Split, code: str) -> Features:
    found = subject.features(Request(split, code, limit=cfg.limit))
    return found.aggregated() if cfg.aggregate else found


def grid(cfg: Config, spec: Spec) -> list[tuple[str, str]]:
    """(factor, transform with its part of the range) of all that is judged.

    Raises:
        ConfigError: there is no such transform, or none that moves another factor.
    """
    usual = COLOURS if _factors.coloured(spec) else SOUNDS if len(spec.shape) == 2 else ()
    codes, found = cfg.transforms or usual, []
    for code in dict.fromkeys(codes):
        for quarter in dict.fromkeys(cfg.quarters) if cfg.quarters else ("",):
            ranged = f"{code}@{quarter}" if quarter else code
            _moved.check(ranged, spec)
            found += [(factor, ranged) for factor in _factors.kinds(cfg, spec) if not _factors.moved_by(code, factor)]
    if not found:
        raise ConfigError("transforms: name one, and a factor that it does not move itself")
    return found


def probe_of(result: Result, part: str, factor: str, probe: str, width: int) -> Probe:
    """A probe that informativeness saved.

    Raises:
        ConfigError: there is none, or it is of other features.
    """
    path = result.artifacts.get(f"probe_{part}_{factor}_{probe}.safetensors")
    if path is None:
        raise ConfigError(f"reads the probe '{probe}' of '{factor}' on '{part}', which informativeness did not fit")
    found = read(path)
    if found.shape.d_in != width:
        raise ConfigError(f"{path}: is of {found.shape.d_in} dimensions, '{part}' has {width}")
    return found


def named(found: Mapping[tuple[str, str, str], float], kinds: Mapping[str, Kind]) -> dict[str, float]:
    """Differences by their names, and their mean sizes in the lower and the upper quarters.

    Args:
        found: (factor, transform with its quarter, probe) -> difference.
    """
    numbers = [factor for factor, kind in kinds.items() if kind == "number"]
    sizes: dict[str, list[float]] = {}
    for (factor, code, probe), difference in found.items():
        base, _, quarter = code.partition("@")
        for name in [name for name, quarters in WHICH.items() if quarter in quarters]:
            sizes.setdefault(f"{factor}_{base}_{probe}_{name}", []).append(abs(difference))
            if factor in numbers or not numbers:
                sizes.setdefault(f"{probe}_{name}", []).append(abs(difference))
    differences = {f"{f}_{code}_{probe}_{BASELINES[kinds[f]]}_diff": value for (f, code, probe), value in found.items()}
    return differences | {name: float(np.mean(values)) for name, values in sizes.items()}
