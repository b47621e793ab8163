"""Audio data of synesis against values of its original code: items, their views, padding, label maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor

from datasets import _sound, _tracks
from datasets._items import Items, itemised, repeated
from datasets._sound import SCALE, Pieces, joined
from datasets.base import Spec
from trainables.evals.base import Features

FOLDER = Path(__file__).parent / "synesis"


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / f"{name}.npz") as file:
        return {key: file[key] for key in file.files}


def items(waves: list[np.ndarray], length: int, **options: object) -> Items:
    """The items of float waves (1, n), which a source takes for 16-bit ones."""
    pieces = Pieces.of(joined([wave[0] * SCALE for wave in waves]))
    spec = Spec(shape=(1, length), rate=16_000)
    return Items(pieces, spec, {"y": np.arange(len(waves), dtype=np.float32)}, **options)  # type: ignore[arg-type]


def every(source: Items) -> Tensor:
    return source.fetch(torch.arange(len(source)), torch.Generator()).views[0]


# -- loading and cutting ----------------------------------------------------------------------------------------------


def test_channels_are_averaged_and_rates_brought_together(tmp_path: Path) -> None:
    g = golden("audio_itemise")
    for number in range(4):
        soundfile.write(tmp_path / "a.wav", g[f"wave_{number}"].T, 16_000, subtype="FLOAT")
        x = _sound.read(tmp_path / "a.wav")
        np.testing.assert_allclose(x[None], g[f"whole_{number}"], atol=1e-6)
    resampled = _sound.resample(torch.from_numpy(g["resample_in"]), 800, 500)
    np.testing.assert_allclose(resampled, g["resample_out"], atol=1e-6)


@pytest.mark.parametrize("extra", [True, False])
def test_tracks_are_cut_into_items(extra: bool) -> None:
    """The original has an item of zeros more where a track's length is a multiple; ours only if it is asked for."""
    g = golden("audio_itemise")
    source = items([g[f"whole_{number}"] for number in range(4)], 10, padding="zero", extra=extra)
    expected = [g[f"items_{number}"] for number in range(4)]
    if not extra:
        assert not expected[1][-1].any()
        expected[1] = expected[1][:-1]
    assert np.bincount(source.owner).tolist() == [len(one) for one in expected]
    np.testing.assert_allclose(every(source), np.concatenate(expected), atol=1e-6)


@pytest.mark.parametrize("padding", ["repeat", "zero"])
def test_what_is_left_of_a_track(padding: str) -> None:
    """By the original's own encoder of the test: mean, first, last and largest absolute sample of each item."""
    g = golden("extract_varlen")
    source = items([g[f"wave_{number}"] for number in range(4)], 6, padding=padding)
    x = every(source)[:, 0]
    told = torch.stack([x.mean(1), x[:, 0], x[:, -1], x.abs().amax(1)], 1)
    assert np.bincount(source.owner).tolist() == g["true_counts"].tolist()
    # the last file of the original also has features of what filled up its batch
    kept = [g[f"{padding}_{number}"][: g["true_counts"][number]] for number in range(4)]
    np.testing.assert_allclose(told, np.concatenate(kept), atol=1e-6)


@pytest.mark.parametrize(
    ("there", "length", "expected"),
    [
        ([1, 2, 3], 5, [1, 2, 1, 2, 3]),
        ([1, 2], 5, [1, 2, 1, 2, 1]),
        ([1, 2], 6, [1, 2, 1, 2, 1, 2]),
        ([7], 4, [7, 7, 7, 7]),
        ([1, 2, 3], 3, [1, 2, 3]),
        ([], 3, [0, 0, 0]),
    ],
)
def test_a_beginning_is_repeated_before_what_is_left(there: list[int], length: int, expected: list[int]) -> None:
    x = torch.tensor([[*there, *[0] * (length - len(there))]])
    assert repeated(x[:, None], [len(there)])[0, 0].tolist() == expected


# -- views ------------------------------------------------------------------------------------------------------------


def test_items_tracks_and_batches_of_items() -> None:
    g = golden("subitems")
    tracks = [g[f"item_{number}"] for number in range(4)]
    source = items([track.reshape(1, -1) for track in tracks], 4)
    assert np.array_equal(source.places, g["idx_map"])
    batch = source.fetch(torch.arange(len(source)), torch.Generator())
    np.testing.assert_allclose(batch.views[0], g["sub_x"], atol=1e-6)
    np.testing.assert_allclose(batch.labels["y"], g["sub_y"])
    # a batch has any items in any order: those of the original's sampler, which shuffles them by NumPy's generator
    order = np.arange(len(source))
    np.random.RandomState(5).shuffle(order)
    assert np.array_equal(source.places[order], g["sampler_pairs"])
    batches = torch.from_numpy(order).split(3)
    assert [len(one) for one in batches] == g["sampler_batch_sizes"].tolist() and len(batches) == g["sampler_len"]
    for one in batches:
        shuffled = source.fetch(one, torch.Generator())
        assert torch.equal(shuffled.views[0], batch.views[0][one])
        assert shuffled.labels["object"].tolist() == source.owner[one.numpy()].tolist()


def test_features_of_a_track_are_the_mean_of_its_items() -> None:
    g = golden("subitems")
    source = items([g[f"item_{number}"].reshape(1, -1) for number in range(4)], 4)
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(0))
    batch = source.fetch(order, torch.Generator())
    whole = Features({"all": batch.views[0][:, 0]}, batch.labels, {}, {}, batch.index).aggregated()
    np.testing.assert_allclose(whole.parts["all"], g["agg_x"][:, 0], atol=1e-6)
    assert whole.labels["y"].tolist() == g["agg_y"].tolist() and whole.labels["object"].tolist() == [0, 1, 2, 3]
    first = [int(order[source.owner[order] == track][0]) for track in range(4)]
    assert whole.index.tolist() == first


def test_cuts_leave_no_sample_out() -> None:
    rng = np.random.default_rng(0)
    tracks = Pieces.of(joined([rng.integers(-9, 9, count).astype(np.int16) for count in (1, 7, 8, 9, 24, 25)]))
    cut, places = itemised(tracks, 8)
    assert cut.count.tolist() == [1, 7, 8, 8, 1, 8, 8, 8, 8, 8, 8, 1] and places[:, 1].max() == 3
    assert np.array_equal(np.concatenate([cut.flat[b : b + c] for b, c in zip(cut.begin, cut.count, strict=True)]),
                          tracks.flat[: tracks.count.sum()])  # fmt: skip


# -- label maps -------------------------------------------------------------------------------------------------------


def test_notes_and_tempi_as_classes() -> None:
    g = golden("label_maps")
    assert [_tracks.midi(str(name)) for name in g["note_names"]] == g["midi"].tolist()
    found = [_tracks.tempo_class(float(tempo)) for tempo in g["tempo"]]
    assert [-1 if one is None else one for one in found] == g["tempo_kept"].tolist()
    hot = np.zeros((len(found), _tracks.TEMPI), np.int8)
    for row, one in enumerate(found):
        if one is not None:
            hot[row, one] = 1
    assert np.array_equal(hot, g["onehot"])
