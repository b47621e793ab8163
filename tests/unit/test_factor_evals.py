"""Evaluations of factors of variation on encoders whose right score is known: one that is the factor itself, one of
noise, one that a transform does not reach, and one that sees colours. Images and transforms are real."""

from __future__ import annotations

import csv
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from datasets.base import Spec
from datasets.colour_labels import FACTORS, colour_labels
from datasets.config import ConfigError, parse
from datasets.transforms.load import alone
from trainables.core.method import Method
from trainables.evals import (
    _curves,
    _factors,
    _label_shift,
    base,
    disentanglement,
    feature_equivariance,
    informativeness,
    invariance,
    parameter_equivariance,
)
from trainables.evals.base import Features, Request, Result

SIZES = {"train": 500, "val": 200, "test": 200}
SPEC = Spec(
    shape=(3, 6, 6),
    labels={"class": 4, "size": 0, "object": 0, "loud": 2, "fast": 2},
    params={"brightness_shift": 1},
    kinds={"brightness_shift": "continuous"},
    tags=("loud", "fast"),
)
QUICK: dict[str, Any] = {"hidden": (32,), "epochs": 40, "lr": 3e-3, "batch_size": 32}
Encoder = Callable[[Tensor, Tensor, Request], Tensor]


class Nothing(Method):
    """It is the subject that encodes."""

    parts = {"all": 6}  # noqa: RUF012

    def __init__(self, width: int) -> None:
        nn.Module.__init__(self)
        self.parts = {"all": width}


class Seen:
    """Coloured patches, clean or under a real transform, and an encoder: (clean, seen, request) -> (n, d)."""

    spec = SPEC

    def __init__(self, folder: Path, encoder: Encoder, width: int = 3) -> None:
        self.method, self.encoder = Nothing(width), encoder
        self.cache = self.out = folder
        self.asked: list[Request] = []

    def inputs(self, request: Request) -> Tensor:
        n = min(request.limit or SIZES[request.split], SIZES[request.split])
        rng = torch.Generator().manual_seed(SIZES[request.split] + len(request.split))
        colour = torch.rand(SIZES[request.split], 3, 1, 1, generator=rng)
        return (colour + 0.1 * torch.rand(len(colour), *SPEC.shape, generator=rng)).clamp(0, 1)[:n]

    def seen(self, request: Request) -> Iterator[Tensor]:
        yield from self.inputs(request).split(64)

    def features(self, request: Request) -> Features:
        self.asked.append(request)
        clean = self.inputs(request)
        index = torch.arange(len(clean)).repeat_interleave(request.repeat)
        clean = clean[index]
        seen, params, units = clean, {}, {}
        if request.transform is not None:
            transform = alone(request.transform, SPEC.shape)
            p = transform.sample(len(clean), torch.Generator().manual_seed(zlib.crc32(repr(request.seen).encode())))
            seen, params, units = (
                transform.apply(clean, p),
                {request.transform: p},
                {request.transform: transform.unit(p)},
            )
        z = self.encoder(clean, seen, request).float()
        bright = clean.mean((1, 2, 3))
        labels = {
            "class": (4 * bright).long().clamp(0, 3), "size": bright, "object": index // 4,
            "loud": (bright > 0.6).long(), "fast": (clean[:, 0].mean((1, 2)) > 0.5).long(),
        }  # fmt: skip
        return Features({"all": z}, labels, params, units, index)


def factor_itself(clean: Tensor, seen: Tensor, request: Request) -> Tensor:
    return torch.stack([colour_labels(clean)[name] for name in FACTORS], 1)


def colours(clean: Tensor, seen: Tensor, request: Request) -> Tensor:
    return torch.stack([colour_labels(seen)[name] for name in FACTORS], 1) / 255


def noise(clean: Tensor, seen: Tensor, request: Request) -> Tensor:
    seed = zlib.crc32(repr(request.identity).encode())
    return torch.randn(len(clean), 6, generator=torch.Generator().manual_seed(seed))


def run(module: ModuleType, subject: Seen, inputs: dict[str, Result] | None = None, **options: Any) -> Result:
    """The result, whose names and requests must be those that were said."""
    cfg = parse(module.Config, options, "")
    promised = base.check(module, cfg, SPEC, subject.method.parts, {})
    found: Result = module.run(subject, cfg, np.random.default_rng(0), inputs or {})
    assert sorted(found.metrics) == sorted(promised)
    assert all(math.isfinite(value) for value in found.metrics.values())
    assert {base.direction(module, name) for name in promised} <= {"max", "min", ""}
    assert set(module.requests(cfg, SPEC)) <= set(subject.asked)
    assert all(path.stat().st_size > 0 for path in found.artifacts.values())
    return found


class Rendered(Seen):
    """The same patches as renderings, whose latents are known: the hue of the floor is their red, that of light 0.5."""

    spec = replace(SPEC, params={**SPEC.params, "latents": 7})

    def features(self, request: Request) -> Features:
        found = super().features(request)
        latents = torch.full((len(found.index), 7), 0.5)
        latents[:, 3] = self.inputs(request)[found.index, 0].mean((1, 2))
        return replace(found, params={**found.params, "latents": latents})


def test_hues_of_renderings_are_factors_where_they_are_named(tmp_path: Path) -> None:
    def reds(clean: Tensor, seen: Tensor, request: Request) -> Tensor:
        return seen[:, :1].mean((2, 3)).expand(-1, 3)

    subject, options = Rendered(tmp_path, reds), {"factors": ("floor_hue",), "probes": ("slp",)}
    cfg = informativeness.Config(**options)
    assert _factors.kinds(cfg, subject.spec) == {"floor_hue": "number"}
    assert not {"floor_hue", "light_hue"} & set(_factors.kinds(informativeness.Config(), subject.spec))
    read = informativeness.run(subject, cfg, np.random.default_rng(0), {})
    assert read.metrics["all/test/floor_hue_slp_r2"] > 0.999 and read.metrics["all/test/floor_hue_slp_rmse"] < 0.01
    moved = disentanglement.Config(**options)
    codes = {code.partition("@")[0] for _, code in disentanglement.grid(moved, subject.spec)}
    assert codes == {"saturation_shift", "brightness_shift"}, "hue_shift moves every hue of the image"
    told = disentanglement.run(subject, moved, np.random.default_rng(0), {"informativeness": read}).metrics
    assert told["all/test/floor_hue_brightness_shift@25_slp_rmse_diff"] < -0.2, "black"
    with pytest.raises(ConfigError, match="'floor_hue' is another one in each view of an object"):
        _factors.kinds(informativeness.Config(**options, aggregate=True), subject.spec)
    with pytest.raises(ConfigError, match="no factor 'floor_hue'"):
        _factors.kinds(cfg, SPEC)


def test_a_hue_of_a_part_is_moved_by_what_moves_every_hue() -> None:
    shapes = replace(SPEC, labels={"floor_hue": 10, "scale": 8})
    cells = disentanglement.grid(disentanglement.Config(factors=("floor_hue", "scale"), quarters=("75",)), shapes)
    assert ("floor_hue", "hue_shift@75") not in cells and ("scale", "hue_shift@75") in cells
    assert ("floor_hue", "saturation_shift@75") in cells


@pytest.mark.parametrize(
    ("factor", "unjudged"), [("pitch", "pitch_shift"), ("key", "pitch_shift"), ("wps", "time_stretch"),
                             ("tempo", "time_stretch"), ("instrument", "")],
)  # fmt: skip
def test_a_key_moves_with_the_pitch_and_a_tempo_with_the_pace(factor: str, unjudged: str) -> None:
    codes = ("pitch_shift", "time_stretch", "white_noise_snr")
    cfg = disentanglement.Config(factors=(factor,), transforms=codes, quarters=("75",))
    music = Spec((1, 16_000), labels={factor: 24, "object": 0}, rate=16_000)
    found = {code.partition("@")[0] for _, code in disentanglement.grid(cfg, music)}
    assert found == set(codes) - {unjudged}


def test_an_encoder_that_is_the_factor_tells_it_and_is_not_misled(tmp_path: Path) -> None:
    subject = Seen(tmp_path, factor_itself)
    read = run(informativeness, subject, factors=FACTORS, **QUICK)
    for name in FACTORS:
        for probe in ("slp", "mlp"):
            assert read.metrics[f"all/test/{name}_{probe}_r2"] > 0.99, (name, probe)
            assert read.metrics[f"all/test/{name}_{probe}_rmse"] < 0.1 * read.metrics[f"all/test/{name}_baseline_rmse"]
    moved = run(disentanglement, subject, {"informativeness": read}, factors=FACTORS)
    differences = {name: value for name, value in moved.metrics.items() if name.endswith("_diff")}
    assert len(differences) == 2 * 6 * 4 * 2, "splits, ordered pairs of factors, quarters, probes"
    assert max(map(abs, differences.values())) < 1e-9
    assert moved.metrics["all/test/mlp_high"] < 1e-9


def test_an_encoder_of_noise_stays_near_the_baselines(tmp_path: Path) -> None:
    subject = Seen(tmp_path, noise, width=6)
    read = run(informativeness, subject, factors=("*",), **QUICK).metrics
    for split in ("val", "test"):
        for name in FACTORS:
            for probe in ("slp", "mlp"):
                near = read[f"all/{split}/{name}_baseline_rmse"]
                assert read[f"all/{split}/{name}_{probe}_rmse"] == pytest.approx(near, rel=0.1)
                assert read[f"all/{split}/{name}_{probe}_r2"] < 0.05
        assert read[f"all/{split}/tags_slp_auroc"] == pytest.approx(0.5, abs=0.12)
        assert read[f"all/{split}/class_slp_accuracy"] < read[f"all/{split}/class_baseline_accuracy"] + 0.1
    told = run(parameter_equivariance, subject, **QUICK).metrics
    assert told["all/test/brightness_shift_slp_rmse"] == pytest.approx(0.289, abs=0.03)
    assert told["all/test/brightness_shift_mlp_rmse"] == pytest.approx(0.289, abs=0.03)
    made = run(feature_equivariance, subject, **QUICK).metrics
    for probe in ("slp", "mlp"):
        near = made[f"all/test/brightness_shift_{probe}_mean_mse"]
        assert made[f"all/test/brightness_shift_{probe}_mse"] == pytest.approx(near, rel=0.1)
        assert abs(made[f"all/test/brightness_shift_{probe}_cos"]) < 0.15


def test_an_encoder_that_a_transform_does_not_reach(tmp_path: Path) -> None:
    """It sees the clean image alone: cosine 1, and the parameter stays at chance."""
    subject = Seen(tmp_path, lambda clean, seen, request: colours(clean, clean, request))
    near = run(invariance, subject, transforms=("jpeg", "brightness_shift"), passes=2).metrics
    for split in ("val", "test"):
        for code in ("jpeg", "brightness_shift"):
            names = ("cos_mean", "area", *(f"cos_bin{number}" for number in range(1, 6)))
            assert all(near[f"all/{split}/{code}_{name}"] == pytest.approx(1) for name in names)
            assert near[f"all/{split}/{code}_l1"] == near[f"all/{split}/{code}_l2"] == 0
    told = run(parameter_equivariance, subject, transforms=("hue_shift", "brightness_shift"), **QUICK).metrics
    for code in ("hue_shift", "brightness_shift"):
        for probe in ("slp", "mlp"):
            assert told[f"all/test/{code}_{probe}_rmse"] == pytest.approx(0.289, abs=0.03)
        assert told[f"all/test/{code}_baseline_rmse"] == pytest.approx(0.289, abs=0.02)
    same = run(feature_equivariance, subject, **QUICK).metrics
    assert same["all/test/brightness_shift_slp_identity_mse"] == 0
    assert same["all/test/brightness_shift_slp_identity_cos"] == pytest.approx(1)
    assert same["all/test/brightness_shift_slp_cos"] > 0.999
    assert same["all/test/brightness_shift_mlp_gain"] < 0 <= same["all/test/brightness_shift_slp_mse"] < 1e-4


def test_an_encoder_that_sees_colours_tells_the_parameter_and_is_misled(tmp_path: Path) -> None:
    subject = Seen(tmp_path, colours)
    told = run(
        parameter_equivariance, subject, transforms=("brightness_shift@75", "brightness_shift"), draws=2, **QUICK
    )
    assert told.metrics["all/test/brightness_shift_mlp_rmse"] < 0.18  # half of it is black: 0.102 at best
    assert told.metrics["all/test/brightness_shift@75_mlp_r2"] > 0.8
    assert told.metrics["all/test/brightness_shift_mlp_rmse"] < told.metrics["all/test/brightness_shift_slp_rmse"]
    options = {"transforms": ("brightness_shift@75",), "draws": 2, **QUICK}
    made = run(feature_equivariance, subject, **options, mini_validation=True, debug=True)
    place = "all/test/brightness_shift@75_mlp"
    assert made.metrics[f"{place}_gain"] > 0.7 and made.metrics[f"{place}_cos"] > 0.9
    read = run(informativeness, subject, factors=("brightness",), **QUICK)
    moved = run(disentanglement, subject, {"informativeness": read}, factors=("brightness",),
                transforms=("saturation_shift", "hue_shift"))  # fmt: skip
    assert moved.metrics["all/test/brightness_saturation_shift@25_mlp_rmse_diff"] < -0.01, "inverted colours"
    assert abs(moved.metrics["all/test/brightness_hue_shift@75_mlp_rmse_diff"]) < 0.02
    low = moved.metrics["all/test/brightness_saturation_shift_mlp_low"]
    halves = [moved.metrics[f"all/test/brightness_saturation_shift@{part}_mlp_rmse_diff"] for part in ("25", "50")]
    assert low == pytest.approx(np.mean(np.abs(halves)))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_seen_during_a_training_is_written(tmp_path: Path) -> None:
    subject = Seen(tmp_path, colours)
    options = {"preset": "small", "epochs": 2, "batch_size": 4, "slp": "adam"}
    made = run(feature_equivariance, subject, **options, mini_validation=True, debug=True)
    looks = rows_of(made.artifacts["mini_validation.csv"])
    steps = 320 // 4  # of an epoch: four fifths of 400
    assert [int(row["step"]) for row in looks if row["probe"] == "mlp"] == list(
        range(steps // 20, 2 * steps + 1, steps // 20)
    )
    first, last = (float(looks[at]["loss"]) for at in (0, -1))
    assert last < first and all(-1 <= float(row["cos"]) <= 1 for row in looks)
    gradients = rows_of(made.artifacts["gradients.csv"])
    assert {row["tensor"] for row in gradients if row["probe"] == "slp"} == {
        "param_encoder.0.weight", "param_encoder.0.bias", "layers.0.weight", "layers.0.bias"
    }  # fmt: skip
    assert all(float(row["std"]) >= 0 for row in gradients)
    assert "features_all_brightness_shift_mlp_2.png" in made.artifacts


@pytest.mark.parametrize("norm", ["dimension", "batch", "none"])
def test_other_normalisations(norm: str, tmp_path: Path) -> None:
    made = run(feature_equivariance, Seen(tmp_path, colours), norm=norm, transforms=("brightness_shift@75",), **QUICK)
    assert made.metrics["all/test/brightness_shift@75_mlp_gain"] > 0.5


def test_distances_are_written_for_each_pair(tmp_path: Path) -> None:
    subject = Seen(tmp_path, colours)
    found = run(invariance, subject, transforms=("brightness_shift",), passes=3)
    rows = rows_of(found.artifacts["distances_all_brightness_shift_test.csv"])
    assert len(rows) == 3 * SIZES["test"] and [row["index"] for row in rows[:4]] == ["0", "0", "0", "1"]
    assert np.mean([float(row["cos"]) for row in rows]) == pytest.approx(
        found.metrics["all/test/brightness_shift_cos_mean"]
    )
    assert all(float(row["parameter"]) == pytest.approx(4 * float(row["unit"]) - 2, abs=1e-5) for row in rows)
    bright = [float(row["cos"]) for row in rows if 0.6 <= float(row["unit"]) < 0.8]
    assert np.mean(bright) == pytest.approx(found.metrics["all/test/brightness_shift_cos_bin4"])
    area = found.metrics["all/test/brightness_shift_area"]
    assert area == pytest.approx(found.metrics["all/test/brightness_shift_cos_mean"], abs=0.05)
    tables = run(invariance, subject, transforms=("brightness_shift",), passes=3, draw=False)
    assert tables.metrics == found.metrics
    assert set(tables.artifacts) == {name for name in found.artifacts if name.endswith(".csv")} < set(found.artifacts)


def test_bins_of_a_part_of_the_range_and_of_few_values() -> None:
    assert invariance.bins(torch.tensor([0.0, 0.19, 0.2, 0.61, 1.0])).tolist() == [0, 0, 1, 3, 4]
    assert invariance.bins(torch.tensor([0.25, 0.3, 0.35])).tolist() == [0, 2, 4]
    assert invariance.bins(torch.tensor([0.5, 0.5])).tolist() == [0, 0]


def test_classes_and_tags_are_read_too(tmp_path: Path) -> None:
    found = run(informativeness, Seen(tmp_path, factor_itself), factors=("class", "tags", "loud"), **QUICK).metrics
    assert found["all/test/class_mlp_accuracy"] > 0.85 and found["all/test/loud_slp_accuracy"] > 0.8
    assert found["all/test/tags_mlp_auroc"] > 0.9 and found["all/test/tags_mlp_ap"] > found["all/test/tags_baseline_ap"]


def test_items_of_one_object_are_averaged(tmp_path: Path) -> None:
    """Noise that is different for each item of a track, and a value that is not."""

    def grainy(clean: Tensor, seen: Tensor, request: Request) -> Tensor:
        value = torch.arange(len(clean)).div(4, rounding_mode="floor") % 7
        return value[:, None] + 5 * noise(clean, seen, request)

    class Tracks(Seen):
        def features(self, request: Request) -> Features:
            found = super().features(request)
            found.labels["size"] = (found.labels["object"] % 7).float()
            return found

    subject = Tracks(tmp_path, grainy, width=6)
    options = {"factors": ("size",), "probes": ("slp",)}
    each, mean = (run(informativeness, subject, aggregate=one, **options) for one in (False, True))
    assert mean.metrics["all/test/size_slp_r2"] > each.metrics["all/test/size_slp_r2"] + 0.1
    moved = run(
        disentanglement, subject, {"informativeness": mean}, aggregate=True, transforms=("hue_shift",), **options
    )
    rows = rows_of(moved.artifacts["disentanglement.csv"])
    clean = [float(row["clean"]) for row in rows if row["split"] == "test"]
    assert clean == pytest.approx([mean.metrics["all/test/size_slp_rmse"]] * 4)


def test_the_published_recipe_does_not_reach_the_mean_of_raw_labels(tmp_path: Path) -> None:
    subject = Seen(tmp_path, colours)
    options = {"factors": ("brightness",), "probes": ("slp",)}
    paper = run(informativeness, subject, preset="paper_run", **options).metrics
    ours = run(informativeness, subject, **options).metrics
    assert paper["all/test/brightness_slp_rmse"] > 2 * paper["all/test/brightness_baseline_rmse"]
    assert ours["all/test/brightness_slp_r2"] > 0.99


def test_presets_say_what_was_published() -> None:
    info = informativeness.Config(preset="paper_run", lr=0.01)
    assert (info.lr, info.weight_decay, info.batch_size, info.epochs, info.patience) == (0.01, 1e-2, 16, 10, 3)
    assert (info.slp, info.labels, info.keep, info.standardise, info.metric_batch) == ("adam", "raw", "last", False, 1)
    code = feature_equivariance.Config(preset="original")
    assert (code.hidden, code.weight_decay, code.batch_size, code.epochs, code.patience) == ((512, 512), 1e-2, 16, 5, 3)
    para = parameter_equivariance.Config(preset="original")
    assert (para.weight_decay, para.batch_size, para.epochs, para.patience) == (1e-3, 32, 100, 10)
    assert parameter_equivariance.Config(preset="small", limit=50).limit == 50
    assert disentanglement.Config(quarters=[75, "sane"]).quarters == ("75", "sane")
    for module in (informativeness, parameter_equivariance, feature_equivariance):
        known = module.Config().model_fields_set | set(module.Config.model_fields)
        assert all(set(values) <= known for values in module.Config.PRESETS.values())


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (informativeness, {"factors": ("hew",)}, "factors: the data have no factor 'hew'; did you mean 'hue'"),
        (informativeness, {"measures": ("acc",)}, "measures: there is no 'acc'"),
        (informativeness, {"preset": "paper"}, "preset"),
        (parameter_equivariance, {"transforms": ("hue_shift@30",)}, "has no range '30'"),
        (invariance, {"transforms": ("nothing",)}, "no such transform"),
        (disentanglement, {"factors": ("hue",), "transforms": ("hue_shift",)}, "a factor that it does not move itself"),
        (disentanglement, {"transforms": ("rot",)}, "has no ranges; leave '@25' out"),
        (feature_equivariance, {"parts": ("content",)}, "no part 'content'"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_runs(
    module: ModuleType, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        base.check(module, parse(module.Config, options, "evals"), SPEC, {"all": 3}, {})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "other", "message"),
    [
        ({"factors": ("hue", "size")}, {"factors": ("hue",)}, "factors: reads probes of 'size'; add it to the factors"),
        ({"parts": ("*",)}, {}, "parts: reads probes of every one"),
        ({}, {"probes": ("slp",)}, "probes: reads probes of 'mlp'"),
        ({}, {"aggregate": True}, "aggregate: is True in informativeness"),
        ({"factors": ("hue",)}, {}, None),
    ],
)
def test_probes_that_are_not_there_are_refused(
    options: dict[str, Any], other: dict[str, Any], message: str | None
) -> None:
    cfg, configs = disentanglement.Config(**options), {"informativeness": informativeness.Config(**other)}
    spec = Spec(shape=(3, 6, 6), labels={"size": 0, "object": 0})
    if message is None:
        assert base.check(disentanglement, cfg, spec, {"all": 3}, {}, configs)
        return
    with pytest.raises(ConfigError, match=message):
        base.check(disentanglement, cfg, spec, {"all": 3}, {}, configs)


def test_factors_of_data() -> None:
    every = _factors.kinds(_factors.FactorsConfig(), SPEC)
    assert every == {**dict.fromkeys(FACTORS, "number"), "class": "class", "size": "number", "tags": "tags"}
    gray = Spec(shape=(1, 6, 6), labels={"class": 3, "phone": 5}, frames={"phone": 2})
    assert _factors.kinds(_factors.FactorsConfig(), gray) == {"class": "class"}
    with pytest.raises(ConfigError, match="'phone' is labelled per frame"):
        _factors.kinds(_factors.FactorsConfig(factors=("phone",)), gray)
    with pytest.raises(ConfigError, match="the data label nothing"):
        _factors.kinds(_factors.FactorsConfig(), Spec(shape=(1, 6, 6)))


def test_train_sets_of_other_shares(tmp_path: Path) -> None:
    y = np.repeat([0, 1, 2], [300, 200, 100])
    found = _label_shift.subsets(y, 3, 4, 1.0, np.random.default_rng(0))
    assert set(found) == {"balanced", "shift0", "shift1", "shift2", "shift3"}
    assert np.bincount(y[found["balanced"]]).tolist() == [100, 100, 100]
    apart = []
    for rows in found.values():
        assert len(set(rows.tolist())) == len(rows) <= 300
        shares = np.bincount(y[rows], minlength=3) / len(rows)
        apart.append(_label_shift.divergence(np.array([0.5, 1 / 3, 1 / 6]), np.maximum(shares, 1e-9)))
    assert apart[1] < 0.05 and apart[4] > 0.3, "the first is as the data, the last far from them"
    options = {"factors": ("class",), "shifts": 2, "most_shift": 0.5, **QUICK}
    read = run(informativeness, Seen(tmp_path, factor_itself), **options).metrics
    assert read["all/test/class_slp_shift0_accuracy"] > 0.6


def test_local_regression_keeps_a_line_and_forgets_an_outlier() -> None:
    x = np.sort(np.random.default_rng(0).random(200))
    y = 2 * x + 1
    np.testing.assert_allclose(_curves.lowess(x, y), y, atol=1e-9)
    wrong = y + 0.05 * np.random.default_rng(1).standard_normal(200)
    wrong[100] += 1
    pulled, robust = (np.abs(_curves.lowess(x, wrong, robust=times) - y)[95:106].max() for times in (0, 3))
    assert robust < 0.05 < pulled
    few = np.zeros(50)
    few[25:] = 1  # a parameter of two values
    assert np.isfinite(_curves.lowess(few, few)).all()
