"""What every method keeps, found by itself: a new file in `trainables/` is tested without a line here.

The small form of a method is that of the named sweep that searches it (`smoke`), on its data where they are embedded,
else on handwritten digits in colour. Methods on sound have theirs here, on tones, those on pages on generated ones, and
some more forms on images.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datasets.base import Batch, Spec
from datasets.views import Views, ViewsConfig
from sweep.spec import load_sweep, put
from trainables.core import state
from trainables.core.config import Resolved, resolve
from trainables.core.fit import Fitted, Silent, fit
from trainables.core.load import load, names
from trainables.core.method import CAPABILITIES, Method, has

ITEMS = 40  # with batches of 16 the last of an epoch is a partial one
AHEAD: dict[str, Any] = {"prediction_steps": 4, "negatives": 3}
HEARS: dict[str, Any] = {"encoder": {"channels": 8, "context": 6}}
SEES: dict[str, Any] = {"channels": 4, "blocks": [1, 1, 1], "patch": 4, "step": 2}  # 7 x 7 patches of digits
SOUND: dict[str, dict[str, Any]] = {
    "cpc": {**HEARS, **AHEAD},
    "gim": {**HEARS, **AHEAD},
    "sim": {**HEARS, **AHEAD},
    "supervised": HEARS,
}
PAGES: dict[str, dict[str, Any]] = {"v3": {"encoder": {"channels": 16, "content": 6, "style": 5}}}
FORMS: dict[str, tuple[str, dict[str, Any], str]] = {
    "cpc-images": ("cpc", {**AHEAD, "encoder": {"name": "cpc_resnet34", **SEES}}, "digits"),
    "gim-each": ("gim", {**AHEAD, "encoder": {**HEARS["encoder"], "context_at": "each", "bptt": False},
                         "sampling": "exclusive", "window": 7}, "made.tones"),
    "gim-last-alone": ("gim", {**HEARS, **AHEAD, "train_module": 3, "sampling": "sequence"}, "made.tones"),
    "sim-images": ("sim", {**AHEAD, "encoder": {"name": "resnet50", **SEES}, "kl_reduction": "channels"}, "digits"),
    "sim-sampled": ("sim", {**HEARS, **AHEAD, "kl_weight": [0.1, 0.2, 0.3], "kl_warmup": 0.5,
                            "sample_at_evaluation": True, "train_module": 1}, "made.tones"),
    "supervised-greedy": ("supervised", {**HEARS, "greedy": True,
                                         "encoder": {"name": "sim_audio", **HEARS["encoder"]}}, "made.tones"),
    "supervised-frozen": ("supervised", {**HEARS, "frozen": True}, "made.tones"),
    "v3-adapted": ("v3", {**PAGES["v3"], "supersample_content": True, "widen_style": 3, "style_route": "page_mean",
                          "style_route_epochs": 2, "codebook_width": 3, "rank_weight": 0.1}, "pages"),
    "v3-original": ("v3", {"widen_style": 5, "compat": "original", "exact": False, "atoms": 30,
                           "encoder": {**PAGES["v3"]["encoder"], "decoder_norm": "group"}}, "pages"),
    "supervised-pages": ("supervised", {"encoder": {"name": "pages", "channels": 16}, "factor": "content"}, "pages"),
    "supervised-images": ("supervised", {"encoder": {"name": "resnet34", **SEES}, "greedy": True}, "digits"),
}  # fmt: skip


def smallest(name: str, **train: Any) -> Resolved:
    """The smoke configuration of the named sweep that searches `name`, at its first point; or a form from above."""
    if name in SOUND or name in PAGES or name in FORMS:
        alone = (name, SOUND.get(name, {}), "made.tones") if name in SOUND else (name, PAGES.get(name, {}), "pages")
        method, options, data = FORMS.get(name, alone)
        channels = {"channels": 3} if data == "digits" else {}
        return configuration(method, options, {"count": 1}, {"name": data, **channels, "limit": ITEMS}, train)
    sweeps = (load_sweep(space, smoke=True) for space in names("space"))
    sweep = next((one for one in sweeps if one.method == name), None)
    assert sweep is not None, f"no file of search_spaces/ searches {name}"
    values: dict[str, Any] = {"method": {}, "views": {}, **sweep.base}
    for key, value in (sweep.known[0] if sweep.known else {}).items():
        put(values, key, value, "test")
    data: dict[str, Any] = {"name": "digits", "channels": 3}
    if values.get("data", {}).get("source") == "solids":
        data = {"name": sweep.data, **values["data"]}
    return configuration(name, values["method"], values["views"], {**data, "limit": ITEMS}, train)


def configuration(
    name: str, method: dict[str, Any], views: dict[str, Any], data: dict[str, Any], train: dict[str, Any]
) -> Resolved:
    training = {"epochs": 4, "warmup_epochs": 1, "batch_size": 16, "lr": 1e-3, "checkpoint_every": 2, **train}
    return resolve({"method": {"name": name, **method}, "data": data, "views": views, "train": training, "seed": 5})


def batch_of(config: Resolved, items: int = 16) -> tuple[Views, Batch]:
    source = config.source(None, "train")
    views = config.build_views(source.spec)
    rng = torch.Generator().manual_seed(0)
    return views, views(source.fetch(torch.arange(items), rng), rng)


def built(config: Resolved) -> tuple[Method, Batch]:
    views, batch = batch_of(config)
    torch.manual_seed(0)
    return config.build_method(views.spec), batch


@pytest.fixture(scope="module", params=[*names("method"), *FORMS])
def config(request: pytest.FixtureRequest) -> Resolved:
    return smallest(request.param)


@pytest.mark.parametrize("name", names("method"))
def test_builds_from_its_defaults_without_memory(name: str) -> None:
    method_class = load("method", name).METHOD
    assert issubclass(method_class, Method)
    assert isinstance(method_class.VERSION, int)
    spec = Views(ViewsConfig(tx=("sca", "rot")), Spec(shape=(3, 32, 32), labels={"class": 10})).spec
    if name in SOUND:
        spec = Views(ViewsConfig(count=1), Spec(shape=(1, 10_240), labels={"syllable": 9}, rate=16_000)).spec
    if name in PAGES:
        spec = Views(ViewsConfig(count=1), Spec(shape=(10, 3, 48, 32), labels={"digit": 10}, fragments=10)).spec
    options = method_class.Config()
    assert resolve({"method": {"name": name}, "data": {"name": "digits"}}).method == options
    method_class.check(options, spec)
    with torch.device("meta"):
        method = method_class(options, spec)
    assert {parameter.device.type for parameter in method.parameters()} == {"meta"}
    assert method.parts["all"] > 0


def test_every_option_says_what_it_is(config: Resolved) -> None:
    fields = type(config.method).model_fields.items()
    assert all(field.description for _, field in fields), [name for name, field in fields if not field.description]
    public = {field.alias or name for name, field in fields}
    assert set(config.method_class.coefficients) <= public


def test_the_dump_is_the_configuration(config: Resolved) -> None:
    assert resolve(config.dump()).dump() == config.dump()


def test_parts_are_what_encode_gives_on_the_meta_device_too(config: Resolved) -> None:
    method, batch = built(config)
    with torch.no_grad():
        found = method.eval().encode(batch.views[0])
    assert {part: tuple(value.shape) for part, value in found.items()} == {
        part: (16, dims) for part, dims in method.parts.items()
    }
    spec = batch_of(config)[0].spec
    with torch.device("meta"):
        blueprint = config.build_method(spec)
    assert blueprint.parts == method.parts
    assert blueprint.state_dict().keys() == method.state_dict().keys()
    assert {c: has(blueprint, c) for c in CAPABILITIES} == {c: has(method, c) for c in CAPABILITIES}


def test_loss_and_gradients_are_finite(config: Resolved) -> None:
    method, batch = built(config)
    values = method.train()(batch)
    assert values["loss"].shape == ()
    assert values["loss"].requires_grad
    for name, value in values.items():
        assert math.isfinite(float(value.detach())), name
        assert name == "loss" or not value.requires_grad, f"{name} is reported, so it is detached"
    values["loss"].backward()
    gradients = {name: p.grad for name, p in method.named_parameters() if p.requires_grad}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values() if gradient is not None)
    assert sum(float(gradient.abs().sum()) for gradient in gradients.values() if gradient is not None) > 0


def test_the_evaluation_form_of_the_loss_is_finite_and_leaves_no_trace(config: Resolved) -> None:
    method, _ = built(config)
    source = config.source(None, "train")
    views = config.build_views(source.spec)
    rng = torch.Generator().manual_seed(1)
    batch = views.evaluation(source.fetch(torch.arange(16), rng), rng)
    before = _copy(method)
    with torch.no_grad():
        first, second = method.eval()(batch), method(batch)
    assert all(math.isfinite(float(value)) for value in first.values())
    assert {name: float(value) for name, value in first.items()} == {n: float(value) for n, value in second.items()}
    _assert_equal(before, method.state_dict())


def test_encode_is_deterministic_one_by_one_and_touches_no_buffer(config: Resolved) -> None:
    method, batch = built(config)
    method.train()(batch)  # so that running statistics are not those of the start
    before, x = _copy(method), batch.views[0]
    with torch.no_grad():
        first, second = method.eval().encode(x), method.encode(x)
        singles = [method.encode(one[None]) for one in x[:4]]
    _assert_equal(before, method.state_dict())
    for part, value in first.items():
        assert torch.equal(value, second[part])
        assert not torch.equal(value[0], value[1]), f"{part} does not depend on its input"
        alone = torch.cat([single[part] for single in singles])
        torch.testing.assert_close(value[:4], alone, rtol=1e-4, atol=1e-5, msg=f"{part} depends on the batch")


class Interrupting(Silent):
    """A listener that asks to stop after an epoch."""

    def __init__(self, after: int) -> None:
        super().__init__()
        self.after = after

    def stop(self) -> bool:
        return len(self.epochs) >= self.after


@pytest.fixture(scope="module")
def straight(config: Resolved, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Fitted]:
    """Four epochs in one go."""
    folder = tmp_path_factory.mktemp("straight")
    return folder, fit(config, None, folder)


def published(path: Path) -> tuple[Path, str]:
    return path, state.read_meta(path).digest


def test_two_and_two_epochs_are_four(config: Resolved, straight: tuple[Path, Fitted], tmp_path: Path) -> None:
    first = fit(config, None, tmp_path, until=2)
    assert (first.ended, first.epoch) == ("reached", 2)
    second = fit(config, None, tmp_path, resume=[published(tmp_path / "epoch-0002")])
    assert (second.ended, second.epoch, second.damaged) == ("reached", 4, [])
    _assert_same_run(straight, second, tmp_path)


@pytest.mark.parametrize("after", [1, 3])
def test_an_interrupted_run_goes_on_as_if_nothing_was(
    config: Resolved, straight: tuple[Path, Fitted], tmp_path: Path, after: int
) -> None:
    first = fit(config, None, tmp_path, Interrupting(after))
    assert (first.ended, first.epoch) == ("interrupted", after)
    second = fit(config, None, tmp_path, resume=[published(tmp_path / f"epoch-{after:04d}")])
    _assert_same_run(straight, second, tmp_path)


def test_a_damaged_checkpoint_is_passed_over(config: Resolved, straight: tuple[Path, Fitted], tmp_path: Path) -> None:
    fit(config, None, tmp_path, until=2)
    fit(config, None, tmp_path, Interrupting(1), resume=[published(tmp_path / "epoch-0002")])
    points = [published(tmp_path / f"epoch-{epoch:04d}") for epoch in (3, 2)]
    weights = bytearray((tmp_path / "epoch-0003" / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (tmp_path / "epoch-0003" / "model.safetensors").write_bytes(weights)
    fitted = fit(config, None, tmp_path, resume=points)
    assert fitted.damaged == [tmp_path / "epoch-0003"]
    _assert_same_run(straight, fitted, tmp_path)


def test_the_seed_decides_everything(config: Resolved, straight: tuple[Path, Fitted], tmp_path: Path) -> None:
    again = fit(config, None, tmp_path / "again")
    _assert_same_run(straight, again, tmp_path / "again")
    values = config.dump()
    other = fit(resolve({**values, "seed": values["seed"] + 1}), None, tmp_path / "other", until=1)
    assert other.metrics["loss"] != straight[1].metrics["loss"]
    first = next(iter(other.method.parameters()))
    assert not torch.equal(first, next(iter(again.method.parameters())))


def test_looking_at_validation_changes_nothing(config: Resolved, straight: tuple[Path, Fitted], tmp_path: Path) -> None:
    values = config.dump()
    watching = resolve({**values, "train": {**values["train"], "validate_every": 1}})
    fitted = fit(watching, None, tmp_path)
    assert math.isfinite(fitted.metrics["val_loss"])
    _assert_equal(straight[1].method.state_dict(), fitted.method.state_dict())


def test_a_checkpoint_of_another_configuration_is_refused(config: Resolved, straight: tuple[Path, Fitted]) -> None:
    values = config.dump()
    other = resolve({**values, "train": {**values["train"], "lr": 0.5}})
    with pytest.raises(state.CheckpointError, match="another configuration"):
        fit(other, None, straight[0] / "other", resume=[published(straight[0] / "epoch-0002")])


def test_weights_of_a_checkpoint_can_be_the_start(config: Resolved, straight: tuple[Path, Fitted]) -> None:
    begun = resolve({**config.dump(), "init": str(straight[0] / "epoch-0004")})
    fitted = fit(begun, None, straight[0] / "begun", until=1)
    assert fitted.epoch == 1
    assert fitted.metrics["loss"] != straight[1].metrics["loss"]


def _assert_same_run(straight: tuple[Path, Fitted], fitted: Fitted, folder: Path) -> None:
    """Weights, buffers, optimiser and reported values, bit for bit."""
    _assert_equal(straight[1].method.state_dict(), fitted.method.state_dict())
    ours, theirs = (torch.load(f / "epoch-0004" / "optimizer.pt", weights_only=True) for f in (straight[0], folder))
    for key, moments in ours["state"].items():
        _assert_equal(moments, theirs["state"][key])
    timing = {"seconds", "items_per_second"}
    assert {k: v for k, v in fitted.metrics.items() if k not in timing} == {
        k: v for k, v in straight[1].metrics.items() if k not in timing
    }
    assert published(folder / "epoch-0004")[1] == published(straight[0] / "epoch-0004")[1]


def _copy(method: Method) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in method.state_dict().items()}


def _assert_equal(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(torch.as_tensor(ours[name]), torch.as_tensor(theirs[name]))] == []
