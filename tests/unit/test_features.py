"""The feature store: what it delivers, that it delivers it once, and what damage and concurrency do to it."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from datasets import _progress
from datasets.config import ConfigError
from trainables.core import state
from trainables.core.config import digest, resolve
from trainables.core.evaluate import evaluate
from trainables.core.load import load, names
from trainables.evals import _encode, _fragments, _unfinished, base, features, profile
from trainables.evals._fragments import FragmentsConfig, gathered
from trainables.evals.base import Features, Request
from trainables.evals.features import CheckpointSubject, FeatureStore, read, write

CONFIG: dict[str, Any] = {
    "method": {"name": "duet", "encoder": {"name": "narrow_cifar10_resnet8", "width": 8, "stem": 8}, "head_hidden": 8},
    "data": {"name": "digits", "size": 8, "limit": 60},
    "views": {"tx": ["sca", "rot", "fli"]},
}
PAIRS: dict[str, Any] = {
    "method": {"name": "sie", "encoder": {"name": "small_resnet10", "width": 4}, "equi": 16, "projector": [16, 16]},
    "data": {"name": "bench3die", "source": "solids", "size": 32, "solids": {"objects": 3, "views": 4}},
}
SOUND: dict[str, Any] = {
    "method": {"name": "sim", "encoder": {"channels": 8, "context": 6}, "prediction_steps": 4, "negatives": 3},
    "data": {"name": "made.tones", "limit": 70},
    "views": {"count": 1},
}
PAGES: dict[str, Any] = {
    "method": {"name": "v3", "encoder": {"channels": 8, "content": 4, "style": 3}},
    "data": {"name": "pages", "train": 40, "val": 20, "test": 20},
    "views": {"count": 1},
}


def reconstructed(subject: CheckpointSubject) -> base.Result:
    return evaluate(subject, "reconstruction", {"transform": "rot", "training": {"epochs": 2}})


def probed(subject: CheckpointSubject) -> base.Result:
    return evaluate(subject, "linear", {"parts": ["*"]})


def decoded(subject: CheckpointSubject) -> base.Result:
    return evaluate(subject, "latent_decoder", {"parts": ["*"], "training": {"epochs": 1}, "clips": 2})


def informed(subject: CheckpointSubject) -> base.Result:
    return evaluate(subject, "informativeness", {"parts": ["*"], "epochs": 2})


SHORT: dict[str, dict[str, Any]] = {
    "relation": {"steps": 16}, "latent_decoder": {"training": {"epochs": 1}, "clips": 2},
    "informativeness": {"epochs": 2}, "parameter_equivariance": {"epochs": 2}, "feature_equivariance": {"epochs": 2},
    "disentanglement": {"transforms": ("rot",), "quarters": ()},
    "interpolation_score": {"limit": 8}, "latent_space": {"limit": 30}, "total_correlation": {"limit": 30},
    "ood": {"data": {**PAGES["data"], "styles": "unseen"}, "shots": [1, 5]},
}  # fmt: skip


def of_factors(name: str) -> Callable[[CheckpointSubject], base.Result]:
    """The result of one of the evaluations that a profile is made of."""

    def found(subject: CheckpointSubject) -> base.Result:
        read = {"informativeness": informed(subject)} if name == "disentanglement" else {}
        return evaluate(subject, name, {"parts": ["*"], **SHORT.get(name, {})}, inputs=read)

    return found


READ_FIRST = {
    "reconstruction": reconstructed, "linear": probed, "latent_decoder": decoded,
    **{name: of_factors(name) for name in profile.AXES},
}  # fmt: skip


def made(config: dict[str, Any], folder: Path) -> Path:
    torch.manual_seed(0)
    resolved = resolve(config)
    spec = resolved.build_views(resolved.source(None, "train").spec).spec
    state.save(folder / "epoch-0001", resolved.build_method(spec), resolved.dump(), spec, epoch=1)
    return folder / "epoch-0001"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(CONFIG, tmp_path_factory.mktemp("trial"))


@pytest.fixture(scope="module")
def of_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A method that trains on pairs of views of rendered objects."""
    return made(PAIRS, tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def of_sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A method with frames whose latents are distributions."""
    return made(SOUND, tmp_path_factory.mktemp("sound"))


@pytest.fixture(scope="module")
def of_pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A method with a codebook, on pages of fragments."""
    return made(PAGES, tmp_path_factory.mktemp("pages"))


@pytest.fixture
def subject(checkpoint: Path, tmp_path: Path) -> CheckpointSubject:
    return CheckpointSubject(checkpoint, None, tmp_path / "cache")


def no_encoding(subject: CheckpointSubject) -> CheckpointSubject:
    def refuse(x: torch.Tensor) -> dict[str, torch.Tensor]:
        raise AssertionError("encoded again")

    subject.method.encode = refuse  # type: ignore[method-assign]
    return subject


def same(a: Features, b: Features) -> bool:
    def flat(features: Features) -> dict[str, torch.Tensor]:
        groups = ("parts", "labels", "params", "units")
        named = {f"{group}/{name}": value for group in groups for name, value in getattr(features, group).items()}
        return {**named, "index": features.index}

    one, two = flat(a), flat(b)
    return one.keys() == two.keys() and all(torch.equal(one[k], two[k]) and one[k].dtype == two[k].dtype for k in one)


def test_clean_features_are_the_encoders(subject: CheckpointSubject) -> None:
    found = subject.features(Request("val"))
    source, views = subject.data("val")
    batch = views.clean(source.fetch(torch.arange(60), torch.Generator()))
    direct = subject.method.encode(batch.views[0])
    assert found.parts.keys() == subject.method.parts.keys() == direct.keys()
    for name, size in subject.method.parts.items():
        assert found.parts[name].shape == (60, size)
        torch.testing.assert_close(found.parts[name], direct[name])
    assert torch.equal(found.labels["class"], batch.labels["class"])
    assert found.params == {} == found.units and found.index.tolist() == list(range(60))


def test_features_are_computed_once_and_shared(subject: CheckpointSubject, checkpoint: Path) -> None:
    request = Request("test", "rot")
    first = subject.features(request)
    assert same(no_encoding(subject).features(request), first)
    other = no_encoding(CheckpointSubject(checkpoint, None, subject.cache))
    assert same(other.features(request), first)


def test_draws_come_from_the_request_alone(checkpoint: Path, tmp_path: Path) -> None:
    request = Request("train", "rot", repeat=3)
    torch.manual_seed(1)
    one = CheckpointSubject(checkpoint, None, tmp_path / "a").features(request)
    torch.manual_seed(2)
    two = CheckpointSubject(checkpoint, None, tmp_path / "b", batch_size=7).features(request)
    assert torch.equal(one.units["rot"], two.units["rot"])
    torch.testing.assert_close(one.parts["all"], two.parts["all"])
    assert one.index.tolist() == [i for i in range(60) for _ in range(3)]
    assert len(set(one.units["rot"][:, 0].tolist())) == 180
    assert torch.equal(one.labels["class"].view(-1, 3)[:, 0], one.labels["class"].view(-1, 3)[:, 2])
    flips = CheckpointSubject(checkpoint, None, tmp_path / "a").features(Request("train", "fli"))
    assert list(flips.units) == list(flips.params) == ["fli"] and set(flips.units["fli"][:, 0].tolist()) == {0.25, 0.75}


def test_a_strength_is_the_same_for_every_image(subject: CheckpointSubject) -> None:
    still, turned = (subject.features(Request("val", "rot", strength=angle)) for angle in (0.0, 90.0))
    assert set(turned.params["rot"][:, 0].tolist()) == {90.0} and set(turned.units["rot"][:, 0].tolist()) == {0.75}
    torch.testing.assert_close(still.parts["all"], subject.features(Request("val")).parts["all"], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(turned.parts["all"], still.parts["all"], atol=1e-3)


def test_a_limit_takes_the_same_items_under_every_transform(subject: CheckpointSubject) -> None:
    clean, turned = subject.features(Request("val", limit=20)), subject.features(Request("val", "rot", limit=20))
    assert torch.equal(clean.index, turned.index) and clean.index.tolist() != list(range(20))
    assert torch.equal(clean.index, clean.index.sort().values) and len(clean.index) == 20
    every = subject.features(Request("val"))
    torch.testing.assert_close(clean.parts["all"], every.parts["all"][clean.index])
    assert len(subject.features(Request("val", limit=1000)).index) == 60


def test_the_encoder_is_left_as_it_was(subject: CheckpointSubject) -> None:
    before = {name: value.clone() for name, value in subject.method.state_dict().items()}
    subject.method.train()  # an evaluation that forgot itself
    subject.features(Request("train"))
    assert not subject.method.training
    assert all(torch.equal(value, before[name]) for name, value in subject.method.state_dict().items())


@pytest.mark.parametrize("name", names("evaluation"))
def test_every_evaluation_on_a_real_encoder(
    name: str, checkpoint: Path, of_pairs: Path, of_sound: Path, of_pages: Path, tmp_path: Path
) -> None:
    module = load("evaluation", name)
    checkpoint = of_pairs if "object" in module.NEEDS.labels else checkpoint
    checkpoint = of_sound if "frames" in module.NEEDS.capabilities else checkpoint
    checkpoint = of_pages if "quantise" in module.NEEDS.capabilities or name == "ood" else checkpoint
    subject = CheckpointSubject(checkpoint, None, tmp_path)
    before = {key: value.clone() for key, value in subject.method.state_dict().items()}
    short = SHORT.get(name, {})
    every = {} if name in ("equivariance_roll", "prediction_retrieval") else {"parts": ("*",)}
    factor = {"factor": "pitch"} if checkpoint == of_sound and "factor" in module.Config.model_fields else {}
    cfg = module.Config(**every, **short, **factor)
    promised = base.check(module, cfg, subject.spec, subject.method.parts, base.capabilities_of(subject.method))
    given = {key: READ_FIRST[key](subject) for key in module.NEEDS.after}
    result = module.run(subject, cfg, np.random.default_rng(0), given)
    assert sorted(result.metrics) == sorted(promised) and np.isfinite(list(result.metrics.values())).all()
    assert all(path.parent == subject.out for path in result.artifacts.values())
    assert all(torch.equal(value, before[key]) for key, value in subject.method.state_dict().items())
    once_more = CheckpointSubject(checkpoint, None, tmp_path)
    if name != "adversarial":  # whose items are new ones
        no_encoding(once_more)
    again = module.run(once_more, cfg, np.random.default_rng(0), given)
    assert again.metrics == result.metrics


def test_other_data_have_their_own_features(checkpoint: Path, subject: CheckpointSubject) -> None:
    other = CheckpointSubject(checkpoint, None, subject.cache, data={**CONFIG["data"], "split_seed": 1})
    assert other.key(Request("val")) != subject.key(Request("val"))
    assert not torch.equal(
        other.features(Request("val")).labels["class"], subject.features(Request("val")).labels["class"]
    )


def test_data_of_another_rate_are_refused(of_sound: Path, tmp_path: Path) -> None:
    libri = tmp_path / "LibriSpeech" / "test-clean" / "1" / "2"
    libri.mkdir(parents=True)
    for number in range(9):
        x = np.random.default_rng(number).uniform(-0.5, 0.5, 4000)
        soundfile.write(libri / f"1-2-{number:04}.flac", x, 16_000)
    subject = CheckpointSubject(of_sound, tmp_path, tmp_path / "cache")
    data = {"name": "librispeech", "part": "test-clean", "items": "pieces", "seconds": 0.08125}
    assert subject.on(data).features(Request("train")).parts["all"].shape[0] > 9
    with pytest.raises(ConfigError, match=r"is at 8,000 Hz; the encoder of .* hears 16,000, set data.rate"):
        subject.on({**data, "rate": 8000, "seconds": 0.1625}).features(Request("train"))


def test_other_data_are_brought_to_what_the_encoder_takes(subject: CheckpointSubject) -> None:
    large = subject.on({"name": "digits", "size": 24, "channels": 3, "limit": 40})
    assert large.spec.shape == subject.spec.shape == (1, 8, 8)
    assert large.inputs(Request("val")).shape == (40, 1, 8, 8)
    gray = subject.on({"name": "digits", "size": 24, "limit": 40})
    torch.testing.assert_close(large.inputs(Request("val")), gray.inputs(Request("val")), rtol=0, atol=0.01)
    assert large.key(Request("val")) != subject.key(Request("val"))
    assert large.features(Request("val")).parts["all"].shape == (40, 32)


def test_inputs_are_what_was_encoded_in_the_order_of_the_features(subject: CheckpointSubject) -> None:
    request = Request("val", "rot", repeat=2, limit=30)
    seen, features = subject.inputs(request), subject.features(request)
    assert seen.shape == (60, 1, 8, 8) and seen.min() >= 0 and seen.max() <= 1
    with torch.no_grad():
        torch.testing.assert_close(subject.method.encode(seen - 0.5)["all"], features.parts["all"])


def test_some_inputs_at_a_time_are_all_of_them(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject, request = CheckpointSubject(checkpoint, None, tmp_path), Request("val", limit=50)
    whole = subject.inputs(request)
    monkeypatch.setattr(features, "BLOCK", 20)
    pieces = list(subject.seen(request))
    assert [len(some) for some in pieces] == [20, 20, 10] and torch.equal(torch.cat(pieces), whole)


def test_a_transform_need_not_be_in_the_stack_but_must_exist(subject: CheckpointSubject) -> None:
    found = subject.features(Request("val", "flv"))
    assert set(found.units["flv"].flatten().tolist()) == {0.25, 0.75}
    assert not torch.equal(found.parts["all"], subject.features(Request("val")).parts["all"])
    with pytest.raises(ConfigError, match=r"'rit': no such transform; did you mean 'rot'"):
        subject.features(Request("val", "rit"))


def test_an_encoder_that_diverged_is_named(subject: CheckpointSubject) -> None:
    next(subject.method.parameters()).fill_(float("nan"))
    with pytest.raises(ConfigError, match=r"not finite.*its training diverged"):  # the checkpoint itself is whole
        subject.features(Request("val"))
    assert not list(subject.cache.glob("*.h5"))


# -- frames and draws ---------------------------------------------------------------------------------------------


def test_frames_and_what_is_made_of_them_agree(of_sound: Path, tmp_path: Path) -> None:
    subject = CheckpointSubject(of_sound, None, tmp_path)
    whole = subject.features(Request("val"))
    direct = subject.method.frames(subject.inputs(Request("val")))  # type: ignore[operator]
    for part, size in subject.method.parts.items():
        frames = subject.features(Request("val", part=part, pool="frames"))
        (length,) = subject.method.places[part]  # type: ignore[index,union-attr,misc]
        assert list(frames.parts) == [part] and frames.parts[part].shape == (70, length, size)
        torch.testing.assert_close(frames.parts[part], direct[part])
        highest, mean = (subject.features(Request("val", part=part, pool=pool)) for pool in ("max", "mean"))
        torch.testing.assert_close(highest.parts[part], direct[part].amax(1))
        torch.testing.assert_close(mean.parts[part], whole.parts[part])
        assert torch.equal(frames.labels["pitch"], whole.labels["pitch"])
    drawn = subject.features(Request("val", part="module1", pool="frames", draws=2)).parts["module1"]
    for pool, expected in (("mean", drawn.mean(1)), ("max", drawn.amax(1))):
        found = subject.features(Request("val", pool=pool, draws=2)).parts["module1"]
        torch.testing.assert_close(found, expected)


def test_draws_of_latents_are_the_requests_and_not_of_the_batch(of_sound: Path, tmp_path: Path) -> None:
    request = Request("val", "whi", repeat=2, limit=50, draws=3)
    torch.manual_seed(1)
    one = CheckpointSubject(of_sound, None, tmp_path / "a").features(request)
    torch.manual_seed(2)
    two = CheckpointSubject(of_sound, None, tmp_path / "b", batch_size=7).features(request)
    seen = CheckpointSubject(of_sound, None, tmp_path / "c").features(Request("val", "whi", repeat=2, limit=50))
    for part, drawn in one.parts.items():
        torch.testing.assert_close(drawn, two.parts[part])
        grouped = drawn.view(100, 3, -1)
        assert len(grouped.flatten(0, 1).unique(dim=0)) == 300, f"{part} is not drawn anew"
    assert torch.equal(one.index.view(100, 3)[:, 1], seen.index) and torch.equal(
        one.labels["pitch"], two.labels["pitch"]
    )
    many = CheckpointSubject(of_sound, None, tmp_path / "a").features(
        Request("val", draws=200, limit=5, part="module0")
    )
    calm = CheckpointSubject(of_sound, None, tmp_path / "a").features(Request("val", limit=5)).parts["module0"]
    torch.testing.assert_close(many.parts["module0"].view(5, 200, -1).mean(1), calm, atol=0.05, rtol=0)


def test_another_take_is_another_draw_of_the_source(tmp_path: Path) -> None:
    """Three of the ten digits of each page, others in each take."""
    data = {"name": "phonenums", "source": "made", "n": 3, "made": {"pages": 160}, "limit": 8}
    encoder = {"channels": 16, "content": 6, "style": 4}
    checkpoint = made({**PAGES, "method": {"name": "v3", "encoder": encoder}, "data": data}, tmp_path)
    subject = CheckpointSubject(checkpoint, None, tmp_path / "a")
    asked = [_fragments.request(subject.spec, FragmentsConfig(), "val", "content", take) for take in range(3)]
    labels = [subject.features(request).labels["content"] for request in asked]
    assert len({str(one.tolist()) for one in labels}) == 3
    batches = CheckpointSubject(checkpoint, None, tmp_path / "b", batch_size=3)
    for request in asked:
        assert same(batches.features(request), subject.features(request)) or torch.allclose(
            batches.features(request).parts["content"], subject.features(request).parts["content"], atol=1e-5
        )
    shown = [subject.inputs(Request("val", take=take)) for take in (0, 1)]
    assert shown[0].shape == shown[1].shape and not torch.equal(*shown)
    rows = gathered(subject, FragmentsConfig(), "val", ["content", "style"])
    assert len(rows.index) > 3 * len(labels[0]), "3 of 10 contents: five passes"
    assert torch.equal(rows.labels["content"][: labels[0].numel()], labels[0].flatten())


def test_keys_of_what_was_stored_before_have_not_changed(subject: CheckpointSubject) -> None:
    before = {"split": "val", "transform": "rot", "strength": None, "repeat": 2, "limit": 9}
    request = Request("val", "rot", repeat=2, limit=9)
    assert request.identity == before and list(request.identity) == list(before)
    source = subject.data("val")[0].spec.fingerprint
    data = {"fingerprint": source, "config": [subject.resolved.data_name, subject.resolved.data.dump()]}
    assert subject.key(request) == digest([subject.meta.digest, data, before, 1])
    assert features._seed(request, 0) == features._seed(
        Request("val", "rot", repeat=2, limit=9, draws=3, pool="max"), 0
    )
    others = [{"part": "all"}, {"pool": "max"}, {"draws": 1}, {"part": "all", "pool": "frames"}, {"take": 1}]
    assert len({subject.key(Request("val", "rot", repeat=2, limit=9, **one)) for one in others}) == 5  # type: ignore[arg-type]


def test_frames_that_are_not_there_are_one_line(subject: CheckpointSubject, of_sound: Path, tmp_path: Path) -> None:
    for asked in (Request("val", pool="max"), Request("val", draws=2)):
        with pytest.raises(ConfigError, match=r"^DUET has no frames, and so neither"):
            subject.features(asked)
    with pytest.raises(ConfigError, match=r"no part 'modul0'; did you mean 'module0'"):
        CheckpointSubject(of_sound, None, tmp_path).features(Request("val", part="modul0"))
    with pytest.raises(ConfigError, match="of one part; name it"):
        Request("val", pool="frames")


def test_sounds_of_another_length_are_encoded(of_sound: Path, tmp_path: Path) -> None:
    longer = CheckpointSubject(of_sound, None, tmp_path).on({"name": "made.tones", "samples": 4000, "limit": 10})
    found = longer.features(Request("val", part="context", pool="frames")).parts["context"]
    assert found.shape == (10, 25, 6) and longer.spec.shape == (1, 4000)


def test_sounds_of_which_nothing_is_left_are_refused(tmp_path: Path) -> None:
    method = {**SOUND["method"], "prediction_steps": 2, "encoder": {"name": "vgim_audio", "channels": 8}}
    encoder = made({**SOUND, "method": method, "data": {"name": "made.tones", "samples": 4000}}, tmp_path)
    subject = CheckpointSubject(encoder, None, tmp_path / "cache")
    with pytest.raises(ConfigError, match=r"items of shape \(1, 300\).*takes \(1, 4000\)"):
        subject.on({"name": "made.tones", "samples": 300}).features(Request("val"))


# -- the files ----------------------------------------------------------------------------------------------------


def some_features() -> Features:
    rng = torch.Generator().manual_seed(0)
    labels = {"class": torch.arange(300) % 10, "size": torch.rand(300, generator=rng, dtype=torch.float64)}
    units = {"rot": torch.rand(300, 1, generator=rng)}
    return Features({"all": torch.randn(300, 6, generator=rng)}, labels, units, units, torch.arange(300))


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    write(tmp_path / "a.h5", some_features())
    found = read(tmp_path / "a.h5")
    assert found is not None and same(found, some_features())
    assert [path.name for path in tmp_path.iterdir()] == ["a.h5"]


def test_damage_is_noticed_and_mended(tmp_path: Path) -> None:
    """Whatever byte is broken, features are right: the file is recognised as damaged, or the byte meant nothing."""
    store, computed = FeatureStore(tmp_path), []

    def compute() -> Features:
        computed.append(1)
        return some_features()

    store.get("key", compute)
    whole = store.path("key").read_bytes()
    places = np.random.default_rng(0).integers(len(whole), size=60)
    for place in places:
        broken = bytearray(whole)
        broken[place] ^= 0xFF
        store.path("key").write_bytes(bytes(broken))
        assert same(store.get("key", compute), some_features()), place
    for torn in (b"", whole[:100], whole[: len(whole) // 2], whole[:-1]):
        store.path("key").write_bytes(torn)
        assert same(store.get("key", compute), some_features())
    inside_the_data = 20  # 60 random places hit the 7 kB of features many times
    assert len(computed) > inside_the_data


def slow(folder: Path, seconds: float) -> Callable[[], Features]:
    def compute() -> Features:
        with (folder / "computed.txt").open("a") as log:
            log.write("once\n")
        time.sleep(seconds)
        return some_features()

    return compute


def worker(folder: Path, seconds: float) -> None:
    FeatureStore(folder / "cache").get("key", slow(folder, seconds))


def test_processes_that_want_the_same_wait_for_the_first(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=worker, args=(tmp_path, 0.3)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "computed.txt").read_text() == "once\n"


def test_a_process_killed_while_computing_holds_nobody_up(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=worker, args=(tmp_path, 60))
    process.start()
    while not (tmp_path / "computed.txt").exists():
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join(60)
    found = FeatureStore(tmp_path / "cache").get("key", slow(tmp_path, 0))
    assert same(found, some_features())


def test_who_waits_for_another_process_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = FeatureStore(tmp_path)
    with ThreadPoolExecutor(1) as other:
        with store._alone("key"):
            waiting = other.submit(store.get, "key", some_features)
            said, until = "", time.monotonic() + 30
            while not said and time.monotonic() < until:
                said += capsys.readouterr().err
                time.sleep(0.01)
            assert said == f"{tmp_path / 'key.h5'}: another process computes it, waiting\n" and not waiting.done()
        assert same(waiting.result(30), some_features())


class Killed(BaseException):
    """As a signal ends a process: in the middle, without a word."""


def test_a_long_extraction_goes_on_where_it_was_killed(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 60 items twice, four at once in blocks of 16; what was done of a block is not encoded again."""
    monkeypatch.setattr(features, "BLOCK", 16)
    monkeypatch.setattr(features, "AT_ONCE", {"cpu": (8, 2**20)})
    monkeypatch.setattr(_unfinished, "EVERY", 0.0)
    request = Request("train", transform="rot", repeat=2)
    wanted = CheckpointSubject(checkpoint, None, tmp_path / "whole").features(request)
    subject = CheckpointSubject(checkpoint, None, tmp_path / "cache")
    encode, seen = subject.method.encode, []

    def dying(x: torch.Tensor) -> dict[str, torch.Tensor]:
        seen.append(len(x))
        if sum(seen) > 40:
            raise Killed
        return encode(x)

    subject.method.encode = dying  # type: ignore[method-assign]
    with pytest.raises(Killed):
        subject.features(request)
    folder = subject.store.under_way(subject.key(request))
    written = [f"rows-{begin:09d}-{begin + 8:09d}.h5" for begin in range(0, 40, 8)]
    assert [path.name for path in sorted(folder.iterdir())] == written
    assert not subject.store.path(subject.key(request)).exists()
    seen.clear()
    subject.method.encode = lambda x: (seen.append(len(x)), encode(x))[1]  # type: ignore[method-assign, func-returns-value]
    assert same(subject.features(request), wanted)
    assert sum(seen) == 60 * 2 - 40 and not folder.exists()


def test_a_long_extraction_of_draws_goes_on_too(
    of_sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_encode, "TOGETHER", 4)
    monkeypatch.setattr(features, "BLOCK", 8)
    monkeypatch.setattr(_unfinished, "EVERY", 0.0)
    subject = CheckpointSubject(of_sound, None, tmp_path / "cache")
    request = Request("val", draws=3)
    wanted = CheckpointSubject(of_sound, None, tmp_path / "whole").features(request)
    frames, calls = subject.method.frames, []

    def dying(*given: Any) -> dict[str, torch.Tensor]:
        calls.append(len(given[0]))
        if len(calls) > 3 * 3:
            raise Killed
        return frames(*given)  # type: ignore[no-any-return]

    subject.method.frames = dying  # type: ignore[method-assign]
    with pytest.raises(Killed):
        subject.features(request)
    before, subject.method.frames = len(calls), frames  # type: ignore[method-assign]
    assert before == 10 and len(list(subject.store.under_way(subject.key(request)).iterdir())) == 3
    assert same(subject.features(request), wanted)


def test_large_items_are_encoded_a_few_at_once(checkpoint: Path, tmp_path: Path) -> None:
    """As many as memory holds; batches of a size of their own are of that size."""
    subject = CheckpointSubject(checkpoint, None, tmp_path / "cache")
    wide = subject.spec.shape[-1]
    small, large = (torch.empty(9, 1, high, wide, device="meta") for high in (wide, 160_000 // wide))
    assert subject._at_once(small) == 64
    assert subject._at_once(large) == 6
    subject.batch_size = 12
    assert subject._at_once(large) == 12


def test_damaged_blocks_are_made_again(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "BLOCK", 16)
    monkeypatch.setattr(_unfinished, "EVERY", 0.0)
    subject = CheckpointSubject(checkpoint, None, tmp_path / "cache")
    request = Request("val")
    wanted = subject.features(request)
    source, views = subject.data("val")
    folder = tmp_path / "blocks"
    under_way = _unfinished.Unfinished(folder, read, write)
    for rows in torch.arange(60).split(16)[:3]:
        under_way.add(*subject._made(source, views, request, rows, 0))
    (folder / "rows-000000016-000000032.h5").write_bytes(b"damaged")
    again = _unfinished.Unfinished(folder, read, write)
    assert again.count == 16 and [path.name for path in folder.iterdir()] == ["rows-000000000-000000016.h5"]
    for rows in torch.arange(60).split(16)[1:]:
        again.add(*subject._made(source, views, request, rows, 0))
    assert same(again.finished(), wanted) and again.count == 60


def test_short_extractions_are_not_kept_and_long_ones_say_how_long(tmp_path: Path) -> None:
    clock = iter(range(0, 1000, 25))
    under_way = _unfinished.Unfinished(tmp_path / "blocks", read, write, lambda: float(next(clock)))
    block = Features({"all": torch.ones(2, 3)}, {}, {}, {}, torch.arange(2))
    kept = []
    for _ in range(6):
        under_way.add(block)
        kept.append(sorted(path.name for path in (tmp_path / "blocks").glob("*")))
    assert kept[:3] == [[], [], ["rows-000000000-000000006.h5"]] and kept[-1][-1].endswith("-000000012.h5")
    assert _unfinished.Unfinished(tmp_path / "blocks", read, write).finished().parts["all"].shape == (12, 3)


def test_an_extraction_says_how_far_it_is(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(features, "BLOCK", 16)
    monkeypatch.setattr(_progress, "EVERY", 0.0)
    monkeypatch.setattr(features, "AT_ONCE", {"cpu": (8, 2**20)})
    CheckpointSubject(checkpoint, None, tmp_path / "cache").features(Request("train"))
    said = capsys.readouterr().err
    assert "digits: features of train 16 of 60, 0 s left" in said, "within a block, whose items may take minutes each"
    CheckpointSubject(checkpoint, None, tmp_path / "cache").features(Request("val", transform="rot", repeat=2))
    assert "digits: features of val under rot 16 of 120, 0 s left" in capsys.readouterr().err
