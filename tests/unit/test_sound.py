"""Sound: reading, the shared array, crops and labels of frames, and how ranks share what is drawn."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from datasets import _sound
from datasets._sound import FRAME, Pieces, Sounds, crops, joined, packed
from datasets.base import Batch, DataError, Spec
from datasets.memory import Arrays
from datasets.transforms.audio import BackgroundNoise, BackgroundOptions, mix, noises
from datasets.transforms.load import find
from datasets.views import ConfigError, Views, ViewsConfig
from trainables.core import fit


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "cache"
    monkeypatch.setenv("SWEEP_CACHE", str(folder))
    noises.cache_clear()
    yield folder
    noises.cache_clear()


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def tone(count: int, rate: int, hertz: float = 440) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(count) / rate)


def source_of(items: list[np.ndarray], length: int, **more: Any) -> Sounds:
    spec = Spec(shape=(1, length), labels={"item": len(items)}, rate=16_000)
    return Sounds(Pieces.of(joined(items)), spec, {"item": np.arange(len(items))}, **more)


def ramps(*frames: int) -> list[np.ndarray]:
    """Recordings whose samples tell which frame of 10 ms they are in."""
    return [np.repeat(np.arange(count), FRAME).astype(np.int16) for count in frames]


# -- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "rate"), [("wav", 44_100), ("wav", 8000), ("flac", 16_000)])
def test_files_of_any_rate_are_brought_to_one(tmp_path: Path, suffix: str, rate: int) -> None:
    soundfile.write(tmp_path / f"a.{suffix}", tone(rate // 2, rate), rate)
    x = _sound.read(tmp_path / f"a.{suffix}")
    assert x.shape == (8000,) and x.dtype == torch.float32 and _sound.count(tmp_path / f"a.{suffix}") == 8000
    middle = slice(500, -500)  # a filter's edges
    assert torch.allclose(x[middle], torch.from_numpy(tone(8000, 16_000)).float()[middle], atol=5e-3)


def test_16_bits_at_the_rate_are_kept_bit_for_bit(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-32768, 32768, 4000).astype(np.int16)
    soundfile.write(tmp_path / "a.flac", samples, 16_000)
    assert np.array_equal(_sound.to_int16(_sound.read(tmp_path / "a.flac")), samples)


def test_channels_are_averaged(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([tone(1000, 16_000), 0 * tone(1000, 16_000)], 1), 16_000)
    assert torch.allclose(_sound.read(tmp_path / "a.wav"), torch.from_numpy(tone(1000, 16_000)).float() / 2, atol=1e-4)


def test_a_wav_that_ends_early_is_one_line(tmp_path: Path) -> None:
    """libsndfile itself reads what is left of it."""
    path = tmp_path / "a.wav"
    soundfile.write(path, tone(8000, 16_000), 16_000)
    whole = path.read_bytes()
    path.write_bytes(whole[:9000])
    with pytest.raises(DataError, match=r"a\.wav: damaged .*promises more than it holds.*; fetch it again"):
        _sound.read(path)
    piped = whole[:4] + b"\xff\xff\xff\xff" + whole[8:40] + b"\xff\xff\xff\xff" + whole[44:]
    path.write_bytes(piped)  # written to a pipe, where the length is not known
    assert len(_sound.read(path)) == 8000


def damaged(path: Path, what: str) -> None:
    soundfile.write(path, np.random.default_rng(0).uniform(-1, 1, 20_000), 16_000)
    if what == "missing":
        path.unlink()
    elif what == "text":
        path.write_text("no sound")
    elif what == "torn":
        path.write_bytes(path.read_bytes()[:15_000])
    elif what == "empty":
        soundfile.write(path, np.zeros(0), 16_000, format="WAV")
    elif what == "infinite":
        soundfile.write(path, np.array([0, np.inf]), 16_000, format="WAV", subtype="FLOAT")


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", "no such file"),
        ("text", "damaged .*fetch it again"),
        ("torn", "damaged .*fetch it again"),
        ("empty", "holds no sound"),
        ("infinite", "not finite"),
    ],
)
def test_damage_is_one_line(tmp_path: Path, cache: Path, what: str, message: str) -> None:
    path = tmp_path / "a.flac"
    damaged(path, what)
    with pytest.raises(DataError, match=rf"a\.flac: .*{message}") as caught:
        packed("some-key", [path])
    assert "\n" not in str(caught.value)
    assert not list(cache.glob("some-key/*")), "nothing half packed is left"


@pytest.mark.parametrize(("lost", "fine"), [(0.1, True), (1.5, False)])
def test_the_header_of_an_mp3_may_be_a_little_wrong(tmp_path: Path, lost: float, fine: bool) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 48_000), 16_000)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * (1 - lost / 3))])
    assert _sound.count(path) == 48_000
    if not fine:
        with pytest.raises(DataError, match="header promises more than it holds"):
            packed("some-key", [path])
        return
    x = packed("some-key", [path]).arrays["x"]
    heard = np.flatnonzero(x[:48_000])[-1]
    assert 48_000 - 0.2 * 16_000 < heard < 47_990 and x[:heard].std() > 1000


# -- the shared array -----------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Five recordings of other lengths, rates and formats."""
    made = []
    for number, (rate, seconds) in enumerate(
        [(16_000, 0.3), (44_100, 0.41), (8000, 0.2), (22_050, 0.5), (16_000, 0.1)]
    ):
        path = tmp_path / f"{number}.{'flac' if number % 2 else 'wav'}"
        soundfile.write(path, tone(int(rate * seconds), rate, 200 * (number + 1)), rate)
        made.append(path)
    return made


def test_recordings_lie_one_after_the_other(files: list[Path]) -> None:
    entry = packed("some-key", files)
    x, offsets = entry.arrays["x"], entry.arrays["offsets"]
    assert isinstance(x, np.memmap) and x.dtype == np.int16
    assert np.diff(offsets).tolist() == [_sound.count(path) for path in files] == [4800, 6560, 3200, 8000, 1600]
    for path, begin, end in zip(files, offsets, offsets[1:], strict=False):
        assert np.array_equal(x[begin:end], _sound.to_int16(_sound.read(path)))
    assert len(x) == offsets[-1] + 8000 and not x[offsets[-1] :].any()


def test_no_file_is_read_twice(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    before = packed("some-key", files)
    monkeypatch.setattr(_sound, "read", lambda *arguments: pytest.fail("read again"))
    after = packed("some-key", files)
    assert after.fingerprint == before.fingerprint and np.array_equal(after.arrays["x"], before.arrays["x"])


def test_too_large_for_the_disk_is_said_before(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**6, 10**6, 1000))  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"0\.0 GB are left; lower data\.limit, or set SWEEP_CACHE"):
        packed("some-key", files)


# -- items ----------------------------------------------------------------------------------------------------------


def test_an_item_is_a_window_with_silence_behind_a_short_recording(files: list[Path]) -> None:
    for length in (1000, 1600, 5000, 8000, 30_000):  # shorter and longer than all
        pieces = Pieces.of(packed("some-key", files).arrays)
        spec = Spec(shape=(1, length), rate=16_000)
        batch = Sounds(pieces, spec, {}).fetch(torch.tensor([4, 1, 4]), rng())
        assert batch.views[0].shape == (3, 1, length) and batch.views[0].dtype == torch.float32
        for place, number in enumerate((4, 1, 4)):
            x = torch.from_numpy(_sound.to_int16(_sound.read(files[number]))).float() / 32768
            expected = torch.nn.functional.pad(x, (0, max(0, length - len(x))))[:length]
            assert torch.equal(batch.views[0][place, 0], expected)


def test_some_recordings_in_another_order(files: list[Path]) -> None:
    pieces = Pieces.of(packed("some-key", files).arrays).take(np.array([3, 0]))
    found = pieces.windows(np.array([1, 0]), np.array([0, 0]), 9000, fill=-7)
    assert found[0, 4799] != -7 and (found[0, 4800:] == -7).all() and (found[1, 8000:] == -7).all()
    assert np.array_equal(found[1, :8000], _sound.to_int16(_sound.read(files[3])))


@pytest.mark.parametrize(
    ("frames", "places"), [(128, -1), (129, 0), (130, 1), (131, 2), (200, 71)], ids=lambda value: str(value)
)
def test_places_of_a_crop(frames: int, places: int) -> None:
    """Multiples of 160 strictly below usable - 20,480, the first of them 160."""
    for over in (0, 1, 159):  # what is left of a frame counts for nothing
        assert crops(np.array([frames * FRAME + over]), 128 * FRAME).tolist() == [places]
    assert len(range(FRAME, frames * FRAME - 128 * FRAME, FRAME)) == max(places, 0)


def test_crops_are_drawn_evenly_from_all_places() -> None:
    source = source_of([ramps(20)[0]] * 4000, 10 * FRAME, grid=FRAME)
    first = source.fetch(torch.arange(4000), rng()).views[0][:, 0, 0] * 32768
    found = first.long().bincount()
    assert found[0] == 0 and len(found) == 10 and found[1:].min() > 0.8 * 4000 / 9
    again = source.fetch(torch.arange(4000), rng(1)).views[0][:, 0, 0] * 32768
    assert abs(float(torch.corrcoef(torch.stack([first, again]))[0, 1])) < 0.05


def test_a_recording_that_a_crop_does_not_fit_in_begins_at_its_beginning() -> None:
    source = source_of(ramps(10, 8, 30), 10 * FRAME, grid=FRAME)
    x = source.fetch(torch.tensor([0, 1]), rng()).views[0][:, 0] * 32768
    assert torch.equal(x[0, ::FRAME], torch.arange(10.0)) and x[1, 8 * FRAME :].eq(0).all()


def test_labels_of_frames_follow_the_crop() -> None:
    recordings = ramps(40, 25, 60, 8)
    labels = [1000 + np.arange(count, dtype=np.int16) for count in (40, 20, 70, 0)]  # as many, fewer, more, none
    frames = {"phone": Pieces.of(joined(labels, -1))}
    source = source_of(recordings, 10 * FRAME, grid=FRAME, frames=frames)
    for seed in range(20):
        batch = source.fetch(torch.arange(4), rng(seed))
        phone, frame = batch.labels["phone"], (batch.views[0][:, 0, ::FRAME] * 32768).long()
        assert phone.shape == (4, 10) and phone.dtype == torch.int64
        assert torch.equal(phone[0], 1000 + frame[0]) and torch.equal(phone[2], 1000 + frame[2])
        assert torch.equal(phone[1], torch.where(frame[1] < 20, 1000 + frame[1], -1))
        assert phone[3].eq(-1).all()
    whole = source_of(recordings, 60 * FRAME, frames=frames).fetch(torch.arange(3), rng()).labels["phone"]
    assert whole[0].tolist() == [*range(1000, 1040), *[-1] * 20] and whole[2].tolist() == list(range(1000, 1060))


def test_params_and_labels_go_with_the_items() -> None:
    source = source_of(ramps(3, 4, 5), FRAME, params={"f0": np.array([[100.0, 1], [110, 2], [120, 3]])})
    batch = source.fetch(torch.tensor([2, 0]), rng())
    assert batch.labels["item"].tolist() == [2, 0] and batch.params["f0"].tolist() == [[[120, 3], [100, 1]]]


# -- ranks ----------------------------------------------------------------------------------------------------------


def epoch_of(source: Sounds, rank: int, world: int, monkeypatch: pytest.MonkeyPatch, epoch: int = 0) -> list[Batch]:
    """The batches that `fit` gives a rank."""
    monkeypatch.setattr(fit.dist, "rank", lambda: rank)
    monkeypatch.setattr(fit.dist, "world", lambda: world)
    run: Any = object.__new__(fit._Run)
    run.config, run.train = SimpleNamespace(seed=3), SimpleNamespace(batch_size=16)
    run.source, run.views, run.device, run.batches = source, Views(ViewsConfig(count=1), source.spec), "cpu", 3
    return list(run.batches_of(epoch))


@pytest.mark.parametrize("world", [2, 3, 5])
def test_ranks_see_the_crops_that_one_would_see(world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_of(ramps(*range(30, 77)), 10 * FRAME, grid=FRAME)
    single = epoch_of(source, 0, 1, monkeypatch)
    ranks = [epoch_of(source, rank, world, monkeypatch) for rank in range(world)]
    for step, expected in enumerate(single):
        parts = [rank[step] for rank in ranks]
        assert torch.equal(torch.cat([part.index for part in parts]), expected.index)
        assert torch.equal(torch.cat([part.views[0] for part in parts]), expected.views[0])
    starts = torch.cat([batch.views[0][:, 0, 0] for batch in single])
    other = torch.cat([batch.views[0][:, 0, 0] for batch in epoch_of(source, 0, 1, monkeypatch, epoch=1)])
    assert len(starts.unique()) > 20 and not torch.equal(starts.sort()[0], other.sort()[0])


# -- noise ----------------------------------------------------------------------------------------------------------


def background(length: int = 4000, **options: Any) -> BackgroundNoise:
    return BackgroundNoise(BackgroundOptions(**options), (1, length), (1, length))


def test_noise_has_the_level_that_was_drawn() -> None:
    noise, x = background(), torch.randn(200, 1, 4000, generator=rng()) * torch.logspace(-3, 0, 200)[:, None, None]
    p = noise.sample(200, rng())
    assert p[:, 0].unique().tolist() == list(range(16))
    y = 2 * noise.apply(x, p)
    # what was added has the level of the recording; the signal stands above it by as many dB as were drawn
    gain = (y * x).sum((1, 2)) / x.square().sum((1, 2))
    added = y - gain[:, None, None] * x
    measured = 20 * torch.log10(gain * x.flatten(1).norm(dim=1) / added.flatten(1).norm(dim=1))
    assert (measured - p[:, 0]).abs().max() < 1.5  # the noise is not quite orthogonal to the signal


def test_silence_stays_finite() -> None:
    noise = torch.randn(2, 1, 50)
    assert torch.equal(mix(torch.zeros(2, 1, 50), noise, torch.tensor([0.0, 15])), noise / 2)


def test_noise_comes_from_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "musan" / "noise"
    folder.mkdir(parents=True)
    soundfile.write(folder / "long.wav", np.full(16_000, 0.25), 8000)
    soundfile.write(folder / "short.wav", np.full(1000, 0.5), 8000)
    made = background(5000, folder=str(tmp_path / "musan"))
    assert len(made.noise) == 1, "what is no longer than the sound is never drawn"
    p = made.sample(50, rng())
    y = made.apply(torch.ones(50, 1, 5000), p)
    inside = y[:, 0, 100:-100]
    expected = (10 ** (p[:, 0] / 20) * 0.25 + 0.25) / 2
    assert torch.allclose(inside.mean(1), expected, rtol=0.02)
    assert torch.equal(made.apply(torch.ones(3, 1, 5000), made.still(3)), torch.ones(3, 1, 5000))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folder": "musan"}, "absolute path"),
        ({"folder": "/nowhere/at/all"}, "absolute path of a folder"),
        ({"snr_min": 9, "snr_max": 3}, "snr_min 9 is above snr_max 3"),
    ],
)
def test_wrong_noise_is_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        background(**options)


def test_noise_that_is_too_short_or_none_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no WAV or FLAC file"):
        background(folder=str(tmp_path))
    soundfile.write(tmp_path / "a.wav", np.zeros(100), 16_000)
    with pytest.raises(ConfigError, match=r"no recording in .* is longer than items of 4000 samples"):
        background(folder=str(tmp_path))
    (tmp_path / "b.wav").write_text("no sound")
    noises.cache_clear()
    with pytest.raises(ConfigError, match=r"b\.wav: damaged"):
        background(folder=str(tmp_path))


@pytest.mark.parametrize("code", ["whi", "bac"])
def test_training_hears_noise_and_evaluation_none(code: str) -> None:
    source = source_of([(3000 * tone(4000, 16_000)).astype(np.int16)] * 6, 4000)
    views = Views(ViewsConfig(tx=(code,), count=1), source.spec)
    batch = source.fetch(torch.arange(6), rng())
    first, second = (views(batch, rng(seed)).views[0] for seed in (0, 1))
    assert not torch.allclose(first, batch.views[0], atol=1e-3) and not torch.equal(first, second)
    assert torch.equal(views.clean(batch).views[0], batch.views[0])
    halves = [views(source.fetch(torch.arange(6)[part], rng()), rng(), total=6, offset=low).views[0]
              for part, low in ((slice(0, 3), 0), (slice(3, 6), 3))]  # fmt: skip
    assert torch.equal(torch.cat(halves), first)
    with pytest.raises(ConfigError, match="needs sound"):
        find(code)(find(code).Config(), (3, 8, 8), (3, 8, 8))


@pytest.mark.parametrize(("code", "low", "high"), [("whi", 0.001, 0.1), ("bac", 20, 0)])
def test_a_fixed_strength_is_more_or_less_noise(code: str, low: float, high: float) -> None:
    source = source_of([(9000 * tone(4000, 16_000)).astype(np.int16)] * 3, 4000)
    views = Views(ViewsConfig(count=1), source.spec)
    batch = source.fetch(torch.arange(3), rng())

    def share(strength: float) -> float:
        y, x = views.only(batch, code, rng(), strength).views[0].flatten(), batch.views[0].flatten()
        return float(1 - torch.corrcoef(torch.stack([x, y]))[0, 1])

    assert 0 < share(low) < share(high) / 5


def test_arrays_are_what_an_entry_holds() -> None:
    arrays: Arrays = joined([np.array([1, 2], np.int16), np.array([3], np.int16)], -1)
    assert arrays["x"].tolist() == [1, 2, 3, -1, -1] and arrays["offsets"].tolist() == [0, 2, 3]
