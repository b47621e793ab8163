"""Every evaluation on encoders whose right score is known: one that keeps everything, one that says nothing."""

from __future__ import annotations

import dataclasses
import math
import zlib
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from datasets.base import Spec
from datasets.config import ConfigError
from trainables.core.load import load, names
from trainables.core.method import Method
from trainables.evals import (
    _decoder,
    _heads,
    base,
    collapse,
    controlled_generation,
    equivariance_roll,
    group_calibration,
    linear,
    probes,
    reconstruction,
    transform_parameter,
)
from trainables.evals.base import EvalConfig, Features, Request, Result
from trainables.losses.divergence import log_von_mises
from trainables.nets.decoders import ImageDecoder, LinearDecoder

BINS, CLASSES = 8, 6
SIZES = {"train": 600, "val": 400, "test": 500}
SPEC = Spec(
    shape=(3, 8, 8),
    labels={"class": CLASSES, "size": 0},
    params={"rot": 1, "ron": 1, "fli": 1, "bri": 2},
    kinds={"rot": "circular", "ron": "quarter", "fli": "binary", "bri": "continuous"},
)


def of_images(name: str) -> bool:
    """Those of pairs of views and those of frames have files of their own."""
    needs = load("evaluation", name).NEEDS
    return "object" not in needs.labels and "frames" not in needs.capabilities


EVALUATIONS = [name for name in names("evaluation") if of_images(name)]
NEEDED: dict[str, dict[str, object]] = {
    "equivariance_roll": {"limit": 200},
    "linear": {"transformed": ("rot", "bri"), "parts": ("*",)},
    "latent_space": {"factor": "class", "limit": 30},
    "knn": {"transformed": ("fli",)},
    "reconstruction": {"transform": "rot", "decoder": "linear", "training": {"epochs": 40, "lr": 0.02}},
    "controlled_generation": {"limit": 60},
    "informativeness": {
        "parts": ("*",),
        "factors": ("class", "size"),
        "preset": "small",
        "limit": 120,
        "epochs": 3,
        "shifts": 2,
    },
    "parameter_equivariance": {
        "parts": ("*",),
        "transforms": ("rot", "bri"),
        "preset": "small",
        "limit": 120,
        "epochs": 3,
        "draws": 2,
    },
    "feature_equivariance": {"parts": ("*",), "transforms": ("rot",), "preset": "small", "limit": 120, "epochs": 3},
    "invariance": {"parts": ("*",), "transforms": ("rot", "bri"), "limit": 60},
    "disentanglement": {
        "parts": ("*",),
        "factors": ("class", "size"),
        "transforms": ("rot",),
        "quarters": (),
        "limit": 60,
    },
    "profile": {"limit": 60},
}


class Grid(Method):
    """`all` is a matrix of bins by classes; its marginal is proportional to the sums of the rows."""

    bins = BINS
    equivariant_to = ("rot",)
    parts = {"all": BINS * CLASSES, "content": CLASSES}  # noqa: RUF012

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def roll(self, z: Tensor, m: int, code: str) -> Tensor:
        return z.view(-1, BINS, CLASSES).roll(m, 1).flatten(1)

    def marginal(self, z: Tensor, code: str) -> Tensor:
        rows = z.view(-1, BINS, CLASSES).sum(2).clamp_min(0) + 1e-9
        return rows / rows.sum(1, keepdim=True)

    def log_target(self, p: Tensor) -> Tensor:
        return rows_of(p).clamp_min(1e-9).log().log_softmax(-1)

    def encode(self, x: Tensor) -> dict[str, Tensor]:
        """Of images as `Known.inputs` draws them."""
        z = 30 * (x - 0.5).flatten(1) @ torch.linalg.pinv(drawing())
        return {"all": z, "content": z.view(-1, BINS, CLASSES).sum(1)}

    def steer(self, z: Tensor, p: Tensor, code: str) -> Tensor:
        share = z.view(-1, BINS, CLASSES).sum(1, keepdim=True) / BINS
        return (rows_of(p[:, 0])[..., None] * share).flatten(1).float()


def drawing() -> Tensor:
    """The matrix that draws images of a representation."""
    return torch.randn(BINS * CLASSES, 3 * 8 * 8, generator=torch.Generator().manual_seed(1))


def rows_of(unit: Tensor) -> Tensor:
    """(n,) -> (n, BINS): how much each bin has of a turn; its circular mean is the angle itself."""
    centres = 2 * math.pi * (torch.arange(BINS) + 0.5) / BINS
    return 1 + (centres - 2 * math.pi * unit[:, None]).cos()


class Known:
    """A subject that keeps class and parameter exactly (`blind` False), or gives noise (`blind` True)."""

    spec = SPEC

    def __init__(self, folder: Path, blind: bool = False) -> None:
        self.method = Grid()
        self.cache = self.out = folder
        self.blind = blind
        self.asked: list[Request] = []

    def features(self, request: Request) -> Features:
        self.asked.append(request)
        rng = np.random.default_rng(zlib.crc32(repr((request.split, request.transform, request.strength)).encode()))
        labels = torch.from_numpy(
            np.random.default_rng(SIZES[request.split]).integers(CLASSES, size=SIZES[request.split])
        )
        index = torch.arange(min(request.limit or len(labels), len(labels))).repeat_interleave(request.repeat)
        unit = self._units(request, len(index), rng)
        z = self._grid(request.transform, unit, labels[index])
        if self.blind:
            z = torch.from_numpy(rng.normal(size=z.shape)).float()
        named = {} if request.transform is None else {request.transform: unit}
        parts = {"all": z, "content": z.view(-1, BINS, CLASSES).sum(1)}
        size = labels[index].float()
        return Features(parts, {"class": labels[index], "size": size}, named, named, index)

    def inputs(self, request: Request) -> Tensor:
        """Images that hold exactly what a perfect representation holds."""
        z = Known(self.out).features(request).parts["all"]
        return 0.5 + (z @ drawing() / 30).unflatten(1, SPEC.shape)

    def seen(self, request: Request) -> Iterator[Tensor]:
        yield from self.inputs(request).split(64)

    def normalized(self, inputs: Tensor) -> Tensor:
        return inputs

    def on(self, data: dict[str, object]) -> Known:
        return Known(self.out, self.blind)

    def _units(self, request: Request, n: int, rng: np.random.Generator) -> Tensor:
        if request.strength is not None:
            return torch.full((n, 1), (request.strength + 180) / 360)
        kind = SPEC.kinds.get(request.transform or "")
        drawn: np.ndarray = rng.random(n)
        if kind == "binary":
            drawn = 0.25 + 0.5 * (drawn < 0.4)
        if kind == "quarter":
            drawn = np.floor(4 * drawn) / 4 + 0.125
        return torch.from_numpy(drawn)[:, None].float()

    def _grid(self, code: str | None, unit: Tensor, labels: Tensor) -> Tensor:
        circular = SPEC.kinds.get(code or "") in ("circular", "quarter")
        rows = rows_of((unit if circular else torch.full_like(unit, 0.5))[:, 0])
        grid = rows[:, :, None] * nn.functional.one_hot(labels, CLASSES)[:, None]
        return (grid if circular or code is None else grid + 0.1 * unit[..., None]).flatten(1).float()


def config(module: ModuleType, name: str, **options: object) -> EvalConfig:
    values: dict[str, object] = {**NEEDED.get(name, {}), **options}
    built: EvalConfig = module.Config(**values)
    return built


def evaluate(name: str, folder: Path, blind: bool = False, seed: int = 0, **options: object) -> Result:
    module = load("evaluation", name)
    subject = Known(folder, blind)
    inputs = given(module, subject)
    return module.run(subject, config(module, name, **options), np.random.default_rng(seed), inputs)


def given(module: ModuleType, subject: Known) -> dict[str, Result]:
    """Results of the evaluations that one reads."""
    first = {key: load("evaluation", key) for key in module.NEEDS.after}
    rng = np.random.default_rng(0)
    return {key: one.run(subject, config(one, key), rng, given(one, subject)) for key, one in first.items()}


@pytest.mark.parametrize("name", EVALUATIONS)
@pytest.mark.parametrize("parts", [("all",), ("*",)])
def test_metrics_are_known_before_the_run_and_finite(name: str, parts: tuple[str, ...], tmp_path: Path) -> None:
    module = load("evaluation", name)
    cfg = config(module, name, parts=parts)
    subject = Known(tmp_path)
    promised = base.check(module, cfg, SPEC, Grid.parts, base.capabilities_of(subject.method))
    result = module.run(subject, cfg, np.random.default_rng(0), given(module, subject))
    assert sorted(promised) == sorted(result.metrics)
    assert all(math.isfinite(value) for value in result.metrics.values())
    assert {base.direction(module, metric) for metric in promised} <= {"max", "min", ""}
    assert all(path.stat().st_size > 0 for path in result.artifacts.values())
    assert set(module.requests(cfg, SPEC)) <= set(subject.asked)


@pytest.mark.parametrize("name", EVALUATIONS)
def test_a_seed_decides_everything(name: str, tmp_path: Path) -> None:
    assert evaluate(name, tmp_path, blind=True).metrics == evaluate(name, tmp_path, blind=True).metrics


@pytest.mark.parametrize("name", ["linear", "knn"])
def test_classes_perfect_and_chance(name: str, tmp_path: Path) -> None:
    perfect, blind = evaluate(name, tmp_path).metrics, evaluate(name, tmp_path, blind=True).metrics
    for split in ("val", "test"):
        assert perfect[f"all/{split}/top1"] == perfect[f"all/{split}/top5"] == 1
        assert abs(blind[f"all/{split}/top1"] - 1 / CLASSES) < 0.07
        assert abs(blind[f"all/{split}/top5"] - 5 / CLASSES) < 0.07
        assert abs(blind[f"all/{split}/chance"] - 1 / CLASSES) < 0.07
    moved = next(metric for metric in perfect if metric.startswith("all/val/top1_"))
    assert perfect[moved] > 0.95 and blind[moved] < 0.3


def test_a_small_network_reads_classes_that_no_plane_divides(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(900, 2))).float()
    y = (x.prod(1) > 0).long()  # exclusive or of the signs
    held_out = torch.arange(900) % 5 == 0
    network = _heads.classifier(x[:700], y[:700], 2, held_out[:700], (32, 32), 320, rng)
    assert probes.accuracy(network(x[700:]), y[700:]) > 0.9
    assert probes.accuracy(probes.classifier(x[:700], y[:700], 2, held_out[:700])(x[700:]), y[700:]) < 0.7
    _heads.Head(network.mean, network.scale, (32, 32), 2).load_state_dict(
        load_file(network.save(tmp_path / "head.safetensors"))
    )


@pytest.mark.parametrize("name", ["linear", "knn"])
def test_refit_measures_what_is_readable_under_a_transform(name: str, tmp_path: Path) -> None:
    """Turned by half a circle, classes sit in other places: a clean classifier misses them, a refitted one does not."""

    class Shifted(Known):
        def features(self, request: Request) -> Features:
            found = super().features(request)
            if request.transform == "rot":
                parts = {part: z.roll(BINS * CLASSES // 2 + 1, 1) for part, z in found.parts.items()}
                return dataclasses.replace(found, parts=parts)
            return found

    module = load("evaluation", name)
    tops = []
    for refit in (False, True):
        cfg = config(module, name, transformed=("rot",), refit=refit)
        subject = Shifted(tmp_path)
        found = module.run(subject, cfg, np.random.default_rng(0), {})
        tops.append(found.metrics["all/val/top1_rot"])
        assert set(module.requests(cfg, SPEC)) == set(subject.asked)
    assert tops[0] < 0.3 and tops[1] == 1


@pytest.mark.parametrize("probe", ["logistic", "ridge", "sgd"])
def test_every_probe_reads_perfect_features(probe: str, tmp_path: Path) -> None:
    assert evaluate("linear", tmp_path, probe=probe).metrics["all/test/top1"] == 1


def test_parameters_perfect_and_chance(tmp_path: Path) -> None:
    perfect = evaluate("transform_parameter", tmp_path).metrics
    blind = evaluate("transform_parameter", tmp_path, blind=True).metrics
    right = {"r2": 1.0, "angle_error": 0.0, "auc": 1.0, "accuracy": 1.0}
    chance = {
        "rot_r2": 0,
        "bri_r2": 0,
        "rot_angle_error": 90,
        "fli_auc": 0.5,
        "fli_accuracy": 0.6,
        "ron_accuracy": 0.25,
    }
    for split in ("val", "test"):
        for metric, expected in chance.items():
            within = 15 if metric == "rot_angle_error" else 0.15
            exact = right[metric.split("_", 1)[1]]
            assert perfect[f"all/{split}/{metric}"] == pytest.approx(exact, abs=0.1 if exact == 0 else 0.01), metric
            assert blind[f"all/{split}/{metric}"] == pytest.approx(expected, abs=within), metric
        assert perfect[f"marginal/{split}/rot_angle_error"] < 0.1
        assert blind[f"marginal/{split}/rot_angle_error"] == pytest.approx(90, abs=15)


def test_content_that_is_invariant_holds_no_angle(tmp_path: Path) -> None:
    found = evaluate("transform_parameter", tmp_path, parts=("content",), transforms=("rot",)).metrics
    assert abs(found["content/val/rot_r2"]) < 0.05 and found["content/val/rot_angle_error"] > 75
    assert not any("fli" in metric for metric in found)


def test_rolling_perfect_and_chance(tmp_path: Path) -> None:
    perfect = evaluate("equivariance_roll", tmp_path).metrics
    blind = evaluate("equivariance_roll", tmp_path, blind=True).metrics
    for split in ("val", "test"):
        assert perfect[f"all/{split}/roll_cosine"] == pytest.approx(1, abs=1e-5)
        assert perfect[f"all/{split}/margin"] > 0.05 and perfect[f"all/{split}/js"] < 1e-6
        assert perfect[f"all/{split}/same_cosine"] < perfect[f"all/{split}/other_cosine"] < 1
        assert abs(blind[f"all/{split}/roll_cosine"]) < 0.05 and blind[f"all/{split}/margin"] < 0.01
        assert blind[f"all/{split}/js"] > 0.1


def test_turns_are_whole_circles_over_the_bins() -> None:
    assert equivariance_roll.turns(4, quarter=False) == {1: 90, 2: 180, 3: -90}
    assert equivariance_roll.turns(8, quarter=True) == {2: 90, 4: 180, 6: -90}
    with pytest.raises(ConfigError, match=r"no shift of 3 bins is a turn.*take an even number"):
        equivariance_roll.turns(3, quarter=True)
    with pytest.raises(ConfigError, match=r"no shift of 1 bin is a turn.*take at least 2"):
        equivariance_roll.turns(1, quarter=False)


@pytest.mark.parametrize("name", ["equivariance_roll", "controlled_generation"])
@pytest.mark.parametrize(("code", "bins", "turned"), [("ron", 3, False), ("rot", 1, False), ("ron", 8, True)])
def test_bins_without_a_turn_are_refused_before_anything_runs(name: str, code: str, bins: int, turned: bool) -> None:
    module = load("evaluation", name)
    parts, capabilities = {"all": 48, "group": 2 * bins}, dict.fromkeys(("roll", "marginal", "steer"), (code, "fli"))
    with nullcontext() if turned else pytest.raises(ConfigError, match=f"^{name}: no shift of {bins} bin"):
        base.check(module, config(module, name), SPEC, parts, capabilities)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "images that are clean; set its option transform to 'rot'"),
        ({"transform": "fli"}, "images that are under 'fli'; set its option transform to 'rot'"),
        ({"transform": "rot", "parts": ("content",)}, "reads the decoder of 'all'; add it to the parts"),
        ({"transform": "rot", "parts": ("*",)}, None),
        ({"transform": "rot"}, None),
    ],
)
def test_a_decoder_that_edits_cannot_use_is_refused_before_anything_runs(
    options: dict[str, Any], message: str | None
) -> None:
    given = (SPEC, Grid.parts, dict.fromkeys(("roll", "steer"), ("rot",)))
    cfg, beside = controlled_generation.Config(), {"reconstruction": reconstruction.Config(**options)}
    with pytest.raises(ConfigError, match=f"^controlled_generation: .*{message}") if message else nullcontext():
        base.check(controlled_generation, cfg, *given, beside)


def test_decoding_a_marginal() -> None:
    one = torch.eye(8)
    turns = transform_parameter.turn(transform_parameter.decode("circular", one))
    assert torch.allclose(turns, (torch.arange(8) + 0.5).double() / 8)
    assert transform_parameter.decode("quarter", one).argmax(1).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert transform_parameter.decode("continuous", one)[3].item() == pytest.approx(3.5 / 8)
    assert transform_parameter.decode("binary", one).argmax(1).tolist() == [0] * 4 + [1] * 4


def test_angles_wrap_around() -> None:
    assert transform_parameter.angle_error(torch.tensor([0.99]), torch.tensor([0.01])) == pytest.approx(7.2, abs=1e-3)


def test_collapse_knows_full_rank_low_rank_and_dead() -> None:
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(5000, 16, generator=rng)
    full = collapse.measure(z)
    assert full["effective_rank"] > 15.9 and full["participation_ratio"] > 15.8 and full["dead"] == 0
    assert full["std_mean"] == pytest.approx(1 / 4, rel=0.01)
    low = collapse.measure(torch.cat([z[:, :2], torch.zeros(5000, 14)], 1))
    assert low["effective_rank"] == pytest.approx(2, abs=0.01) and low["dead"] == 14 / 16 and low["std_min"] == 0
    assert low["participation_ratio"] == pytest.approx(2, abs=0.01)
    for same in (torch.zeros(50, 4), torch.ones(50, 4) * torch.tensor([3.0, -1.0, 2.0, 0.1])):
        measured = collapse.measure(same)
        assert measured["effective_rank"] == pytest.approx(1) and measured["participation_ratio"] == 0
        assert measured["dead"] == 1 and measured["std_mean"] < 1e-6


def test_effective_rank_is_the_definition_for_more_dimensions_than_rows() -> None:
    z = torch.randn(10, 30, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    singular = np.linalg.svd(z.numpy(), compute_uv=False)
    share = singular / singular.sum()
    assert collapse.effective_rank(z) == pytest.approx(math.exp(-(share * np.log(share)).sum()))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("linear", {"factor": "clas"}, "did you mean 'class'"),
        ("linear", {"factor": "size"}, "continuous"),
        ("linear", {"transformed": ("hua",)}, "'hua': no such transform; did you mean 'hue'"),
        ("transfer", {"transformed": ("hua",)}, "'hua': no such transform; did you mean 'hue'"),
        ("knn", {"parts": ("contnt",)}, "did you mean 'content'"),
        ("transform_parameter", {"transforms": ("rit",)}, "did you mean 'rot'"),
        ("equivariance_roll", {"parts": ("content",)}, "only 'all' can be rolled"),
        ("equivariance_roll", {"transform": "rut"}, "transform: the method has no bins of 'rut'; did you mean 'rot'"),
        ("group_calibration", {"transform": "sca"}, "transform: the method has no bins of 'sca'"),
    ],
)
def test_what_cannot_apply_is_refused_in_one_line(name: str, options: dict[str, object], message: str) -> None:
    module = load("evaluation", name)
    with pytest.raises(ConfigError, match=message) as refused:
        base.check(
            module,
            config(module, name, **options),
            SPEC,
            Grid.parts,
            dict.fromkeys(("roll", "marginal", "steer"), ("rot",)),
        )
    assert str(refused.value).startswith(f"{name}: ") and "\n" not in str(refused.value)


def test_needs_are_checked() -> None:
    bare = Spec(shape=(3, 8, 8))
    with pytest.raises(ConfigError, match="linear: needs any label; there is none"):
        base.check(linear, linear.Config(), bare, Grid.parts, {})
    with pytest.raises(ConfigError, match="needs 'roll' capability"):
        base.check(equivariance_roll, equivariance_roll.Config(), SPEC, Grid.parts, {})
    with pytest.raises(ConfigError, match="about 'fli', which must be a circular transform"):
        base.check(equivariance_roll, equivariance_roll.Config(), SPEC, Grid.parts, {"roll": ("fli",)})
    with pytest.raises(ConfigError, match="no transform of the views' stack has a parameter; name one, such as rot"):
        base.check(transform_parameter, transform_parameter.Config(), bare, Grid.parts, {})
    with pytest.raises(ConfigError, match="'res' has no parameter to be read"):
        base.check(transform_parameter, transform_parameter.Config(transforms=("res",)), bare, Grid.parts, {})
    named = base.check(transform_parameter, transform_parameter.Config(transforms=("rot",)), bare, Grid.parts, {})
    quarter = transform_parameter.Config(transforms=("hue_shift@25",))
    assert "all/val/hue_shift@25_r2" in base.check(transform_parameter, quarter, bare, Grid.parts, {})
    pitch, sound = transform_parameter.Config(transforms=("pitch_shift",)), Spec((1, 4000), rate=16_000)
    assert "all/val/pitch_shift_r2" in base.check(transform_parameter, pitch, sound, Grid.parts, {})
    assert "all/val/rot_r2" in named, "any encoder is asked about any transform"


def test_full_names_and_directions() -> None:
    found = base.metric_names(linear, "probe", linear.Config(), SPEC, Grid.parts, {})
    assert "probe/all/val/top1" in found and all(name.startswith("probe/all/") for name in found)
    assert base.direction(linear, "all/val/top1_rot") == "max"
    assert base.direction(transform_parameter, "marginal/test/rot_angle_error") == "min"
    with pytest.raises(ConfigError, match="no such metric"):
        base.direction(linear, "all/val/r2")


def test_evaluations_ask_for_the_same_features() -> None:
    """Clean splits, and the draws of a transform, are shared."""
    cfg = linear.Config(transformed=("rot",))
    asked = [linear.requests(cfg, SPEC), load("evaluation", "knn").requests(load("evaluation", "knn").Config(), SPEC)]
    asked.append(collapse.requests(collapse.Config(), SPEC))
    asked.append(transform_parameter.requests(transform_parameter.Config(transforms=("rot",)), SPEC))
    clean = {Request(split) for split in ("train", "val", "test")}
    assert set().union(*asked) == clean | {Request(split, "rot") for split in ("train", "val", "test")}


def test_a_decoder_reads_back_what_is_there_and_no_more(tmp_path: Path) -> None:
    perfect, blind = evaluate("reconstruction", tmp_path), evaluate("reconstruction", tmp_path, blind=True)
    for split in ("val", "test"):
        assert perfect.metrics[f"all/{split}/r2"] > 0.98
        assert blind.metrics[f"all/{split}/r2"] < 0.05, "no better than the mean image"
        assert perfect.metrics[f"all/{split}/mse_mean"] == blind.metrics[f"all/{split}/mse_mean"] > 0
    assert Image.open(perfect.artifacts["reconstructions_all.png"]).width > 300


def test_the_invariant_part_does_not_hold_the_turned_image(tmp_path: Path) -> None:
    found = evaluate("reconstruction", tmp_path, parts=("all", "content")).metrics
    assert found["content/val/r2"] < found["all/val/r2"] - 0.1


def test_convolutions_decode_any_size() -> None:
    z = torch.randn(3, 10)
    for shape in ((1, 8, 8), (3, 14, 14), (3, 32, 20), (2, 4, 4)):
        assert ImageDecoder(10, shape, width=16)(z).shape == (3, *shape)


def test_a_decoder_comes_back_from_its_file(tmp_path: Path) -> None:
    found = evaluate("reconstruction", tmp_path)
    decoder, form = _decoder.restore(found.artifacts["decoder_all.safetensors"], reconstruction.build)
    assert form["transform"] == "rot" and decoder.best > 0
    request = Request("val", "rot", limit=5000)
    subject = Known(tmp_path)
    error = decoder.losses(subject.features(request).parts["all"], subject.inputs(request)).mean()
    assert float(error) == pytest.approx(found.metrics["all/val/mse"], rel=1e-5)
    (tmp_path / "broken").write_bytes(b"x" * 40)
    with pytest.raises(ConfigError, match="is no decoder that can be used here"):
        _decoder.restore(tmp_path / "broken", reconstruction.build)


def test_the_epoch_that_is_best_on_held_out_items_is_kept() -> None:
    rng = torch.Generator().manual_seed(0)
    z, true, index = torch.randn(60, 4, generator=rng), torch.randn(60, 1, 4, 4, generator=rng), torch.arange(60)
    training = _decoder.Training(epochs=40, lr=0.05, batch_size=16)
    kept, once = (
        _decoder.train(lambda: LinearDecoder(4, (1, 4, 4)), z, true, index, cfg, seed=0)
        for cfg in (training, training.model_copy(update={"epochs": 1}))
    )
    assert kept.best < 40, "noise is learned by heart after a while"
    assert kept.held_out <= once.held_out


def test_an_exact_edit_draws_the_turned_image(tmp_path: Path) -> None:
    found = evaluate("controlled_generation", tmp_path)
    for split in ("val", "test"):
        metrics = {name: found.metrics[f"all/{split}/{name}"] for name in controlled_generation.METRICS}
        assert metrics["edited_mse"] == pytest.approx(metrics["decoded_mse"], rel=0.05, abs=1e-4)
        assert metrics["gain"] > 0.9
    blind = evaluate("controlled_generation", tmp_path, blind=True)
    assert abs(blind.metrics["all/val/gain"]) < 0.2
    assert Image.open(found.artifacts["edits.png"]).height > 300


def test_a_decoder_of_clean_images_is_refused_for_edits(tmp_path: Path) -> None:
    subject = Known(tmp_path)
    clean = evaluate("reconstruction", tmp_path, transform=None)
    cfg = config(controlled_generation, "controlled_generation")
    with pytest.raises(ConfigError, match="sees images that are clean; set its option transform to 'rot'"):
        controlled_generation.run(subject, cfg, np.random.default_rng(0), {"reconstruction": clean})


def test_steering_reaches_a_parameter_that_is_no_turn(tmp_path: Path) -> None:
    """The same subject, whose bins are taken to be about a number: each image is steered to its own draw."""
    subject = Known(tmp_path)
    subject.spec = dataclasses.replace(SPEC, kinds={**SPEC.kinds, "rot": "continuous"})
    inputs = given(controlled_generation, subject)
    found = controlled_generation.run(
        subject, config(controlled_generation, "controlled_generation"), np.random.default_rng(0), inputs
    )
    assert found.metrics["all/val/gain"] > 0.9


def test_calibration_is_perfect_of_a_marginal_that_is_the_target_and_null_of_one_that_ignores_it() -> None:
    p = torch.rand(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    target = log_von_mises(p, 8, 3.0)
    right, shares = group_calibration.measure(target.exp(), target)
    assert right["group_loss"] == pytest.approx(0, abs=1e-9) and right["gain"] == pytest.approx(1)
    assert right["chance"] == pytest.approx(0.2117, abs=0.002) and right["entropy"] > 0.99
    assert float(shares.sum()) == pytest.approx(1) and right["largest_share"] < 0.2
    flat, _ = group_calibration.measure(torch.full((500, 8), 1 / 8, dtype=torch.float64), target)
    assert flat["group_loss"] == pytest.approx(flat["chance"]) and flat["gain"] < 0.01
    stuck, _ = group_calibration.measure(nn.functional.one_hot(torch.full((500,), 3), 8).double(), target)
    assert stuck["largest_share"] == 1 and stuck["entropy"] == pytest.approx(0) and stuck["gain"] < 0


def test_transfer_of_perfect_and_of_blind_features(tmp_path: Path) -> None:
    perfect, blind = (evaluate("transfer", tmp_path, blind=blind).metrics for blind in (False, True))
    assert perfect["all/test/top1"] == 1
    assert abs(blind["all/test/top1"] - 1 / CLASSES) < 0.07
