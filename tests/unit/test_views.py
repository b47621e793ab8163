"""Views: stacks, parameters, the clean path, slices of a global batch, one transform alone."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from datasets.auxiliary import Auxiliary
from datasets.base import Batch, Spec
from datasets.config import ConfigError, parse
from datasets.transforms.image import center_crop
from datasets.views import Views, ViewsConfig

FULL = ("sca", "rot", "fli", "jit", "gra", "blu")
SPEC = Spec(shape=(3, 16, 16), labels={"class": 4})


def views(spec: Spec = SPEC, **values: Any) -> Views:
    return Views(parse(ViewsConfig, values, "views"), spec)


def batch(n: int = 6, shape: tuple[int, ...] = SPEC.shape, count: int = 1, **more: Any) -> Batch:
    rng = torch.Generator().manual_seed(3)
    items = [torch.rand(n, *shape, generator=rng) for _ in range(count)]
    return Batch(items, torch.arange(n), labels={"class": torch.arange(n) % 4}, **more)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_training_views_follow_the_spec() -> None:
    v, b = views(tx=FULL), batch()
    kept = b.views[0].clone()
    out = v(b, rng())
    assert len(out.views) == v.spec.views == 2 and v.spec.labels == SPEC.labels
    assert all(view.shape == (6, *v.spec.shape) for view in out.views)
    assert set(out.params) == set(out.units) == set(v.spec.params) == {"sca", "rot", "fli", *COLORS, "gra", "blu"}
    assert all(out.params[code].shape == (2, 6, width) for code, width in v.spec.params.items())
    assert all(unit.shape == (2, 6, 1) for unit in out.units.values())
    assert torch.equal(b.views[0], kept) and not torch.equal(*out.views)
    assert min(view.min() for view in out.views) >= -0.5 and max(view.max() for view in out.views) <= 0.5
    assert v.spec.kinds["rot"] == "circular" and v.spec.kinds["fli"] == "binary"


COLORS = ("bri", "con", "sat", "hue")


def test_recorded_parameters_are_those_applied() -> None:
    v, b = views(tx=("rot", "fli"), count=3), batch()
    out = v(b, rng())
    for view in range(3):
        x = b.views[0]
        for code in ("rot", "fli"):
            x = v.transforms[code].apply(x, out.params[code][view])
            assert torch.equal(out.units[code][view], v.transforms[code].unit(out.params[code][view]))
        assert torch.equal(out.views[view], x - 0.5)


def test_order_matters() -> None:
    one, other = views(tx=("sca", "rot"))(batch(), rng()), views(tx=("rot", "sca"))(batch(), rng())
    assert not torch.allclose(one.views[0], other.views[0])


@pytest.mark.parametrize("split", [(4, 2), (1, 5)])
def test_slices_agree_with_the_global_batch(split: tuple[int, int]) -> None:
    v, b = views(tx=FULL), batch()
    whole = v(b, rng())
    offset = 0
    for size in split:
        rows = slice(offset, offset + size)
        part = Batch([b.views[0][rows]], b.index[rows], labels={"class": b.labels["class"][rows]})
        made = v(part, rng(), total=6, offset=offset)
        assert all(torch.allclose(a, w[rows], atol=1e-6) for a, w in zip(made.views, whole.views, strict=True))
        assert all(torch.equal(made.params[code], whole.params[code][:, rows]) for code in whole.params)
        offset += size


def test_color_codes_are_one_jitter_at_the_first() -> None:
    v = views(tx=("hue", "rot", "bri"))
    assert [stage.transform.code for stage in v.stages] == ["jit", "rot"]
    out = v(batch(), rng())
    assert set(out.params) == {"hue", "bri", "rot"}
    assert torch.equal(out.params["hue"][..., 1], out.params["bri"][..., 1]), "one mask for the whole jitter"
    alone = views(tx=("hue",), options={"hue": {"probability": 1}}, count=1)(batch(), rng())
    x = batch().views[0]
    assert torch.allclose(alone.views[0].amax(1) + 0.5, x.amax(1), atol=1e-6), "hue alone keeps the largest channel"


def test_one_jitter_has_one_probability() -> None:
    with pytest.raises(ConfigError, match="same probability"):
        views(tx=("hue", "bri"), options={"hue": {"probability": 0.5}})


def test_clean_draws_nothing_and_reports_identity() -> None:
    v = views(tx=FULL, size=14, center_crop=True)
    out = v.clean(batch())
    assert v.loaded == (3, 16, 16) and len(out.views) == 1
    assert torch.equal(out.views[0], batch().views[0][..., 1:15, 1:15] - 0.5)
    assert out.units["sca"].flatten()[0].item() == pytest.approx(1 - 13 / 14)
    assert (out.units["rot"] == 0.5).all() and (out.units["fli"] == 0.25).all() and (out.units["hue"] == 0.5).all()


def test_evaluation_has_one_clean_view() -> None:
    v = views(tx=FULL)
    out = v.evaluation(batch(), rng())
    assert torch.equal(out.views[0], v.clean(batch()).views[0])
    assert not torch.equal(out.views[1], out.views[0])
    assert (out.units["rot"][0] == 0.5).all() and (out.units["rot"][1] != 0.5).any()


@pytest.mark.parametrize("code", ["rot", "fli", "hue", "gra", "blu"])
def test_one_transform_alone(code: str) -> None:
    v, b = views(tx=FULL), batch()
    out = v.only(b, code, rng(), repeat=3)
    assert len(out) == 18 and out.index.tolist()[:4] == [0, 0, 0, 1] and set(out.params) == {code}
    assert out.labels["class"].tolist()[:4] == [0, 0, 0, 1]
    expected = v.transforms[code].apply(b.views[0].repeat_interleave(3, 0), out.params[code][0])
    assert torch.equal(out.views[0], expected - 0.5)
    assert out.units[code].shape == (1, 18, 1)


def test_a_part_of_the_range_alone() -> None:
    v = views(tx=("hue_shift@75",))
    inside, outside, whole = (v.only(batch(), code, rng()) for code in ("hue_shift@75", "hue_shift@25", "hue_shift"))
    assert inside.params["hue_shift@75"].min() >= 0 and inside.params["hue_shift@75"].max() <= 0.25
    assert outside.params["hue_shift@25"].max() <= -0.25
    assert whole.params["hue_shift"].max() > 0.25
    assert v.spec.kinds["hue_shift@75"] == "continuous" and set(v(batch(), rng()).params) == {"hue_shift@75"}


def test_one_transform_with_a_strength() -> None:
    v = views(tx=("sca", "rot"))
    quarter = v.only(batch(), "rot", rng(), strength=90.0)
    assert torch.allclose(quarter.views[0], batch().views[0].rot90(1, (2, 3)) - 0.5, atol=1e-5)
    assert (quarter.units["rot"] == 0.75).all()


def test_a_crop_alone_replaces_the_central_one() -> None:
    v, b = views(tx=("sca", "rot"), size=14, center_crop=True), batch()
    out = v.only(b, "sca", rng())
    expected = v.transforms["sca"].apply(b.views[0], out.params["sca"][0])
    assert out.views[0].shape == (6, 3, 14, 14) and torch.equal(out.views[0], expected - 0.5)


def test_only_of_what_is_not_in_the_stack() -> None:
    turned = views(tx=("rot",)).only(batch(), "ron", rng(), strength=90)
    assert set(turned.params) == {"ron"}
    assert torch.equal(turned.views[0], torch.rot90(views(tx=("rot",)).clean(batch()).views[0], 1, (2, 3)))
    with pytest.raises(ConfigError, match="'rit': no such transform; did you mean 'rot'"):
        views(tx=("rot",)).only(batch(), "rit", rng())


def test_stack_without_a_crop_ends_at_size() -> None:
    v = views(tx=("rot",), size=14, center_crop=True)
    assert {view.shape for view in v(batch(), rng()).views} == {(6, 3, 14, 14)}


def test_images_are_resized_to_size() -> None:
    v = views(Spec(shape=(1, 8, 12)), tx=("fli",), size=16)
    out = v(batch(shape=(1, 8, 12)), rng())
    assert v.spec.shape == (1, 16, 16) and out.views[0].shape == (6, 1, 16, 16)


def test_images_stay_as_they_are_without_a_size() -> None:
    v = views(Spec(shape=(1, 8, 12)), normalize=False)
    b = batch(shape=(1, 8, 12))
    assert v.spec.shape == (1, 8, 12) and torch.equal(v(b, rng()).views[0], b.views[0])


def test_other_data_pass_through() -> None:
    v = views(Spec(shape=(1, 400), rate=8000), count=1)
    b = batch(shape=(1, 400))
    assert torch.equal(v(b, rng()).views[0], b.views[0]) and torch.equal(v.clean(b).views[0], b.views[0])
    with pytest.raises(ConfigError, match="need images"):
        views(Spec(shape=(1, 400)), size=8)


def test_data_that_come_as_views() -> None:
    spec = Spec(shape=(3, 16, 16), params={"pose": 4}, views=2)
    pose = torch.rand(2, 6, 4)
    b = batch(count=2, params={"pose": pose}, units={})
    v = views(spec, tx=("fli",), options={"fli": {"probability": 0}}, normalize=False)
    out = v(b, rng())
    assert all(torch.equal(a, c) for a, c in zip(out.views, b.views, strict=True))
    assert torch.equal(out.params["pose"], pose) and v.spec.params == {"pose": 4, "fli": 1}
    assert torch.equal(v.clean(b).params["pose"], pose[:1])
    assert torch.equal(v.evaluation(b, rng()).views[1], b.views[1])
    with pytest.raises(ConfigError, match="come as 2 views"):
        views(spec, count=3)


def test_parameters_of_one_source_view_hold_for_all() -> None:
    v = views(Spec(shape=(3, 16, 16), params={"pose": 4}), tx=("fli",), count=3)
    pose = torch.rand(1, 6, 4)
    out = v(batch(params={"pose": pose}), rng())
    assert torch.equal(out.params["pose"], pose.expand(3, 6, 4))
    assert v.only(batch(params={"pose": pose}), "fli", rng(), repeat=2).params["pose"].shape == (1, 12, 4)


def test_options_are_completed_and_stable() -> None:
    cfg = parse(ViewsConfig, {"tx": ["rot", "fli"], "options": {"rot": {"degrees": 90}}}, "views")
    assert cfg.options["rot"] == {"degrees": 90.0} and cfg.options["fli"]["probability"] == 0.5
    assert parse(ViewsConfig, cfg.dump(), "views") == cfg
    assert views(**cfg.dump()).spec.kinds["rot"] == "continuous"


@pytest.mark.parametrize(
    "values, message",
    [
        ({"tx": ["rott"]}, r"views.tx: 'rott': no such transform; did you mean 'rot'"),
        ({"tx": ["rot", "rot"]}, "named twice"),
        ({"tx": ["rot"], "options": {"rot": {"degree": 9}}}, r"views.options: rot.degree: .*did you mean 'degrees'"),
        ({"txx": []}, "did you mean 'tx'"),
    ],
)
def test_wrong_configurations_are_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse(ViewsConfig, values, "views")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("code", ["gra", "jit", "hue"])
def test_color_needs_three_channels(code: str) -> None:
    with pytest.raises(ConfigError, match="3 channels, the data have 1"):
        views(Spec(shape=(1, 16, 16)), tx=(code,))


def test_what_cannot_work_is_named_where_it_was_asked_for() -> None:
    gray = Spec(shape=(1, 16, 16))
    with pytest.raises(ConfigError, match=r"^method.equi_tx: 'gra' needs images with 3 channels"):
        Views(parse(ViewsConfig, {"tx": ["sca"]}, "views"), gray, Auxiliary("gra"))
    with pytest.raises(ConfigError, match=r"^'gra' needs images with 3 channels"):
        views(gray, tx=("sca",)).only(batch(), "gra", rng())


def test_blur_needs_two_pixels() -> None:
    with pytest.raises(ConfigError, match=r"'blu' needs images of at least 2 x 2 pixels, here they are \(1, 1\)"):
        Views(parse(ViewsConfig, {"tx": ["sca", "blu"]}, "views"), SPEC, Auxiliary("fli", fraction=0.01))


def test_a_transform_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mylab_views.py").write_text(
        "import torch\nfrom datasets.transforms.base import Transform\n\n"
        "class Gain(Transform):\n"
        "    code = 'gain'\n    identity = (1.0,)\n"
        "    def sample(self, n, rng):\n        return 0.5 + torch.rand(n, 1, generator=rng)\n"
        "    def apply(self, x, p):\n        return x * p.to(x)[:, :, None]\n"
        "    def unit(self, p):\n        return p - 0.5\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    code, spec, b = "mylab_views.Gain", Spec(shape=(1, 40)), batch(shape=(1, 40))
    v = views(spec, tx=(code,))
    out = v(b, rng())
    assert torch.equal(out.views[1], b.views[0] * out.params[code][1][..., None])
    assert torch.equal(v.only(b, code, rng(), strength=2.0).views[0], 2 * b.views[0])


def asking(code: str, **values: Any) -> Views:
    return Views(parse(ViewsConfig, values, "views"), SPEC, Auxiliary(code))


def test_the_auxiliary_view_is_half_as_large_and_leaves_the_others_as_they_are() -> None:
    v, b = asking("ron", tx=("sca", "fli"), size=14), batch()
    made, plain = v(b, rng()), views(tx=("sca", "fli"), size=14)(b, rng())
    assert made.question is not None
    assert made.question.x.shape == (4 * len(b), 3, 7, 7)
    assert made.question.target.tolist() == [k for k in range(4) for _ in range(len(b))]
    for one, other in zip(made.views, plain.views, strict=True):
        assert torch.equal(one, other), "its draws come after theirs"
    upright, quarter = made.question.x.chunk(4)[:2]
    assert torch.equal(quarter, torch.rot90(upright, 1, (2, 3)))
    assert torch.equal(v(b, rng()).question.x, made.question.x), "drawn from the given generator alone"


def test_the_auxiliary_view_of_a_slice_is_the_slice_of_the_whole() -> None:
    v, b = asking("rot", tx=("sca",), size=14), batch()
    whole = v(b, rng()).question
    part = v(replace(b, views=[b.views[0][2:5]], index=b.index[2:5], labels={}), rng(), total=len(b), offset=2).question
    assert whole is not None and part is not None
    assert torch.allclose(part.x, whole.x[2:5], atol=1e-6)
    assert torch.equal(part.target, whole.target[2:5])


def test_the_auxiliary_view_in_evaluation_is_a_central_crop() -> None:
    v, b = asking("fli", tx=("sca",), size=14), batch()
    question = v.evaluation(b, rng()).question
    assert question is not None
    upright, mirrored = question.x.chunk(2)
    assert torch.equal(upright, center_crop(v.clean(b).views[0], (7, 7)))
    assert torch.equal(mirrored, upright.flip(-1))


def test_what_is_to_be_told_is_not_in_the_stack() -> None:
    with pytest.raises(ConfigError, match=r"method.equi_tx: 'rot' is to be told from the small view; leave it out"):
        asking("rot", tx=("sca", "rot"))
    with pytest.raises(ConfigError, match=r"'blu' cannot be predicted.*known: bri, con, fli"):
        asking("blu", tx=("sca",))
    with pytest.raises(ConfigError, match=r"method.equi_tx: 'hue' is to be told .*'jit' of views.tx holds it"):
        asking("hue", tx=("sca", "jit"))
    asking("hue", tx=("sca", "bri", "sat"))


# -- relations ------------------------------------------------------------------------------------------------------


def test_relations_say_what_leads_from_view_one_to_view_two() -> None:
    v, b = views(tx=("rot", "ron", "fli", "bri", "res")), batch()
    out = v(b, rng())
    assert v.spec.relations == {"rot": 2, "ron": 2, "fli": 1, "bri": 1}
    assert {name: value.shape for name, value in out.relations.items()} == {
        name: (6, width) for name, width in v.spec.relations.items()
    }
    degrees = out.params["rot"][1, :, 0] - out.params["rot"][0, :, 0]
    turn = torch.stack([torch.cos(torch.deg2rad(degrees)), torch.sin(torch.deg2rad(degrees))], -1)
    assert torch.allclose(out.relations["rot"], turn, atol=1e-5)
    assert torch.equal(out.relations["fli"], out.units["fli"][1] - out.units["fli"][0])
    assert views(tx=("rot",), options={"rot": {"degrees": 90}}).spec.relations == {"rot": 1}, "no full turn"


def test_what_the_data_know_passes_through() -> None:
    spec = replace(SPEC, views=2, params={"latents": 7}, relations={"rotation": 4})
    b = batch(count=2, params={"latents": torch.rand(2, 6, 7)}, relations={"rotation": torch.rand(6, 4)})
    v = views(spec, tx=("gra",))
    out = v(b, rng())
    assert v.spec.relations == {"rotation": 4, "gra": 1} and set(out.relations) == {"rotation", "gra"}
    assert torch.equal(out.relations["rotation"], b.relations["rotation"])
    assert torch.equal(out.to("cpu").relations["rotation"], b.relations["rotation"])
    assert torch.equal(v.evaluation(b, rng()).relations["rotation"], b.relations["rotation"])
    with pytest.raises(ConfigError, match="a parameter 'fli' of their own"):
        views(replace(spec, relations={"fli": 1}), tx=("fli",))


@pytest.mark.parametrize("code", ["fli", "flv", "rot", "ron"])
def test_what_makes_known_poses_untrue_is_said(code: str) -> None:
    spec = replace(SPEC, views=2, relations={"rotation": 4, "light": 2})
    with pytest.warns(UserWarning, match=rf"views\.tx: '{code}' turns or mirrors .* \(light, rotation\)"):
        views(spec, tx=("gra", code))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        views(spec, tx=("sca", "jit", "gra", "blu"))
        views(replace(spec, relations={}), tx=(code,))
        views(replace(spec, views=1), tx=(code,), count=1)


def test_one_view_relates_to_nothing() -> None:
    v, b = views(tx=("rot",)), batch(relations={"rotation": torch.rand(6, 4)})
    assert v.clean(b).relations == v.only(b, "rot", rng(), repeat=2).relations == {}
    single = views(tx=("rot",), count=1)
    assert single.spec.relations == single(batch(), rng()).relations == {}


def test_relations_of_a_slice_are_those_of_the_whole() -> None:
    v, b = views(tx=("rot", "bri")), batch()
    part = v(replace(b, views=[b.views[0][2:5]], index=b.index[2:5], labels={}), rng(), total=len(b), offset=2)
    whole = v(b, rng())
    assert all(torch.equal(value, whole.relations[name][2:5]) for name, value in part.relations.items())


def test_channels_are_normalized_by_constants() -> None:
    x = torch.rand(3, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    batch = Batch([x], torch.arange(3))
    own = ViewsConfig(normalize={"mean": [0.1, 0.2, 0.3], "std": [1, 2, 4]})
    seen = Views(own, Spec(shape=(3, 4, 4))).clean(batch).views[0]
    expected = (x - torch.tensor([0.1, 0.2, 0.3])[:, None, None]) / torch.tensor([1.0, 2.0, 4.0])[:, None, None]
    assert torch.equal(seen, expected)
    known = Views(ViewsConfig(normalize="imagenet"), Spec(shape=(3, 4, 4)))
    assert torch.allclose(known.pixels(known.clean(batch).views[0]), x, atol=1e-6)
    for normalize, shift in ((True, 0.5), (False, 0.0)):
        assert torch.equal(
            Views(ViewsConfig(normalize=normalize), Spec(shape=(3, 4, 4))).clean(batch).views[0], x - shift
        )
    with pytest.raises(ConfigError, match="has 3 means and 3 deviations, the data have 1 channels"):
        Views(ViewsConfig(normalize="imagenet"), Spec(shape=(1, 4, 4)))
