"""What every data set keeps, found by itself: a new file in `datasets/` is tested without a line here.

Sets that need files are tested on real ones, in $SWEEP_DATA or a folder of it; some, of which there may be none, on a
few made ones in their layout.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import Any

import music
import pytest
import torch

from datasets.base import SPLITS, Batch, DataError, Source, Spec
from datasets.config import Config, ConfigError, parse
from trainables.core.load import load, names


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module", params=names("dataset"))
def module(request: pytest.FixtureRequest) -> ModuleType:
    return load("dataset", request.param)


@pytest.fixture(scope="module")
def root(module: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    """The folder of real data, or of made ones where a set's layout is known to `music` and it is not there."""
    real = Path(os.environ["SWEEP_DATA"]) if os.environ.get("SWEEP_DATA") else None
    name = module.__name__.rpartition(".")[2]
    if name in music.SETS and not has_all(module, real):
        folder = tmp_path_factory.mktemp(name)
        assert music.made(name, folder)
        return folder
    return real


def has_all(module: ModuleType, root: Path | None) -> bool:
    try:
        return all(module.open(module.Config(), root, split) for split in SPLITS)
    except DataError:
        return False


@pytest.fixture(scope="module")
def sources(module: ModuleType, root: Path | None) -> dict[str, Source]:
    """All splits with the default options, or a skip where the files are not there."""
    try:
        return {split: module.open(module.Config(), root, split) for split in SPLITS}
    except DataError as error:
        pytest.skip(f"real data: set SWEEP_DATA to their folder ({error})")


def test_its_face(module: ModuleType) -> None:
    assert issubclass(module.Config, Config)
    assert module.DOWNLOAD
    assert "\n" not in module.DOWNLOAD
    fields = module.Config.model_fields
    assert all(field.description for field in fields.values()), list(fields)
    options = module.Config()
    assert parse(module.Config, options.dump(), "data") == options
    with pytest.raises(ConfigError, match=r"data\.nonsense: no such option"):
        parse(module.Config, {"nonsense": 1}, "data")


def test_missing_files_are_one_line(module: ModuleType, tmp_path: Path) -> None:
    for root in (None, tmp_path, tmp_path / "nothere"):
        try:
            module.open(module.Config(), root, "train")
        except DataError as error:
            assert "\n" not in str(error)
            assert str(error)
            continue
        return  # it needs no files
    assert list(tmp_path.iterdir()) == [], "opening writes nothing beside the cache"


def test_the_spec_is_true(sources: dict[str, Source]) -> None:
    for split, source in sources.items():
        spec, count = source.spec, min(64, len(source))
        index = torch.randperm(len(source), generator=rng())[:count]
        batch = source.fetch(index, rng())
        assert len(source) > 0
        assert len(batch) == count
        assert torch.equal(batch.index, index)
        assert len(batch.views) == spec.views
        for view in batch.views:
            assert view.shape == (count, *spec.shape)
            assert view.dtype == torch.float32
            low, high = (-1.0, 1.0) if spec.rate else (0.0, 1.0)
            if spec.fragments and len(spec.shape) == 2:  # pages of vectors have no range
                low, high = -100.0, 100.0
            assert low <= view.min() < view.max() <= high, split
        assert set(batch.labels) == set(spec.labels)
        assert set(spec.frames) <= set(spec.labels)
        assert all(spec.labels[tag] == 2 for tag in spec.tags) and len(set(spec.tags)) == len(spec.tags)
        assert {name: value.shape for name, value in batch.labels.items()} == {
            name: (count, spec.labels_of(name)) if name in spec.frames else (count,) for name in spec.labels
        }
        assert {name: value.shape for name, value in batch.params.items()} == {
            name: (spec.views, count, width) for name, width in spec.params.items()
        }
        assert {name: value.shape for name, value in batch.relations.items()} == {
            name: (count, width) for name, width in spec.relations.items()
        }


def test_labels_are_what_the_spec_says(sources: dict[str, Source]) -> None:
    for source in sources.values():
        labels = source.fetch(torch.arange(min(2000, len(source))), rng()).labels
        for factor, classes in source.spec.labels.items():
            value = labels[factor]
            assert value.dtype == (torch.int64 if classes else torch.float32)
            if classes:
                assert (-1 if factor in source.spec.frames else 0) <= value.min() <= value.max() < classes
                assert len(value.unique()) > 1


def test_all_splits_promise_the_same(sources: dict[str, Source]) -> None:
    def promise(spec: Spec) -> tuple[Any, ...]:
        per = spec.frames, spec.fragments, spec.tags
        return spec.shape, spec.labels, spec.params, spec.views, spec.rate, spec.kinds, spec.relations, per

    assert len({repr(promise(source.spec)) for source in sources.values()}) == 1
    fingerprints = [source.spec.fingerprint for source in sources.values()]
    assert all(fingerprints)


def test_a_batch_is_its_items_one_by_one(sources: dict[str, Source]) -> None:
    for source in sources.values():
        index = torch.tensor([min(3, len(source) - 1), 0, len(source) - 1, 0])
        whole = source.fetch(index, rng())
        again = source.fetch(index, rng())
        _assert_equal(whole, again)
        # what is drawn belongs to the item, whatever is fetched beside it: ranks fetch parts of a batch
        _assert_equal(whole, _joined([source.fetch(index[i : i + 1], rng()) for i in range(len(index))]))
        assert torch.equal(whole.views[0][1], whole.views[0][3])


def test_opening_again_gives_the_same(module: ModuleType, sources: dict[str, Source], root: Path | None) -> None:
    for split, source in sources.items():
        again = module.open(module.Config(), root, split)
        assert again.spec == source.spec
        assert len(again) == len(source)
        index = torch.arange(min(8, len(source)))
        _assert_equal(source.fetch(index, rng()), again.fetch(index, rng()))


def test_splits_share_no_item(sources: dict[str, Source]) -> None:
    """By content; published sets hold a few images twice, so a few may be shared and no more."""
    seen: dict[str, set[bytes]] = {}
    for split, source in sources.items():
        batch = source.fetch(torch.arange(min(len(source), 5000)), rng())
        seen[split] = {row.numpy().tobytes() for row in (batch.views[0] * 255).to(torch.uint8)}
    for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
        assert len(seen[one] & seen[other]) <= 0.002 * min(len(seen[one]), len(seen[other])), (one, other)


def test_a_limit_is_kept(module: ModuleType, sources: dict[str, Source], root: Path | None) -> None:
    if "limit" not in module.Config.model_fields:
        pytest.skip("has no limit")
    for split, whole in sources.items():
        few = module.open(module.Config(limit=30), root, split)
        assert len(few) == min(30, len(whole))


def _joined(batches: list[Batch]) -> Batch:
    first = batches[0]
    return Batch(
        [torch.cat([batch.views[v] for batch in batches]) for v in range(len(first.views))],
        torch.cat([batch.index for batch in batches]),
        {name: torch.cat([batch.params[name] for batch in batches], 1) for name in first.params},
        {name: torch.cat([batch.units[name] for batch in batches], 1) for name in first.units},
        {name: torch.cat([batch.labels[name] for batch in batches]) for name in first.labels},
        relations={name: torch.cat([batch.relations[name] for batch in batches]) for name in first.relations},
    )


def _assert_equal(ours: Batch, theirs: Batch) -> None:
    assert torch.equal(ours.index, theirs.index)
    assert all(torch.equal(a, b) for a, b in zip(ours.views, theirs.views, strict=True))
    for named in ("params", "units", "labels", "relations"):
        a, b = getattr(ours, named), getattr(theirs, named)
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a)
