"""Phonemes of LibriSpeech: alignments, V3's files, pages of shorter and longer utterances, made speech."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import soundfile
import torch
from opened import every, one_line, rng

from datasets import _alignments, _phonemes, _sound
from datasets import librispeech_phonemes as phonemes
from datasets.base import SPLITS, DataError
from datasets.synth import speech

SMALL = phonemes.Synthetic(speakers=3, utterances=10, words=2)
LONG = """File type = "ooTextFile"
Object class = "TextGrid"

xmin = 0
xmax = 0.3
tiers? <exists>
size = 3
item []:
    item [1]:
        class = "IntervalTier"
        name = "words"
        xmin = 0
        xmax = 0.3
        intervals: size = 1
        intervals [1]:
            xmin = 0
            xmax = 0.3
            text = "say ""ah"" 3 times"
    item [2]:
        class = "TextTier"
        name = "clicks"
        xmin = 0
        xmax = 0.3
        points: size = 1
        points [1]:
            number = 0.1
            mark = "click"
    item [3]:
        class = "IntervalTier"
        name = "PHONES"
        xmin = 0
        xmax = 0.3
        intervals: size = 2
        intervals [1]:
            xmin = 0
            xmax = 0.125
            text = "AA1"
        intervals [2]:
            xmin = 0.125
            xmax = 3e-1
            text = ""
PLACE"""
SHORT = """File type = "ooTextFile"
Object class = "TextGrid"

0
0.3
<exists>
1
"IntervalTier"
"1034 - phones"
0
0.3
2
0
0.125
"AA1"
0.125
0.3
""
"""


pytestmark = pytest.mark.usefixtures("cache")


# -- alignments -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "encoding"), [(LONG, "utf-8"), (SHORT, "utf-8"), (SHORT, "utf-16")])
def test_text_grids(text: str, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    path.write_text(text.removesuffix("PLACE"), encoding=encoding)
    assert _alignments.read_grid(path) == [("AA1", 0.0, 0.125), ("", 0.125, 0.3)]


def test_damaged_alignments_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.TextGrid"
    for text, message in (
        ("torn", "a.TextGrid: damaged"),
        (SHORT[:-20], "ends within the tier"),
        (SHORT.replace("phones", "words"), "has no tier 'phones', but 1034 - words"),
        (SHORT.replace('0.125\n"A', 'x\n"A'), "damaged"),
    ):
        path.write_text(text)
        with pytest.raises(DataError, match=message) as caught:
            _alignments.read_grid(path)
        assert "\n" not in str(caught.value)
    path.unlink()
    (tmp_path / "b.json").write_text('{"other": 1}')
    with pytest.raises(DataError, match="no alignment"):
        _alignments.find(tmp_path)
    for text, message in (
        ("{", "b.json: damaged"),
        ('{"id": "a", "phonemes": [{"phoneme": "AH0", "start": NaN, "end": 1}]}', "should have phoneme, start and end"),
        ('{"id": 5, "phonemes": [{"start": 1}]}', "record 5: phonemes should"),
    ):
        (tmp_path / "b.json").write_text(text)
        with pytest.raises(DataError, match=message):
            _alignments.find(tmp_path)


# -- files ----------------------------------------------------------------------------------------------------------

PARTS = {"train": "train-clean-100", "val": "dev-clean", "test": "test-clean"}
SPEAKERS = {"train": ("19", "26"), "val": ("84",), "test": ("61",)}


def recorded(root: Path, kind: str) -> dict[str, list[tuple[str, float, float]]]:
    """Two utterances of each speaker in LibriSpeech's layout, aligned; one is not, and one has no phoneme."""
    spoken = speech.speak(np.arange(8) * 80, np.arange(8))
    aligned, number = {}, 0
    for split, speakers in SPEAKERS.items():
        for speaker in speakers:
            folder = root / "LibriSpeech" / PARTS[split] / speaker / "7"
            folder.mkdir(parents=True)
            for utterance in range(2):
                name, timing = f"{speaker}-7-{utterance:04}", spoken.timing[number] / 16_000
                soundfile.write(folder / f"{name}.flac", spoken.x[number], 16_000)
                aligned[name] = [("SIL", 0.0, float(timing[0, 0]))]
                for place, syllable in enumerate(spoken.syllables[number].tolist()):
                    begin, vowel, end = timing[place].tolist()
                    aligned[name] += [(phonemes.SPOKEN[syllable // 3].upper(), begin, vowel)]
                    aligned[name] += [(phonemes.SPOKEN[3 + syllable % 3].upper() + "1", vowel, end)]
                number += 1
    aligned["26-7-0001"] = [("ZH", 0.1, 0.2)]
    del aligned["26-7-0000"]
    if kind == "jsonl":
        lines = [{"id": name, "sex": "F", "phonemes": [dict(zip(("phoneme", "start", "end"), one, strict=True))
                 for one in own]} for name, own in aligned.items()]  # fmt: skip
        (root / "alignments.jsonl").write_text("\n".join(map(json.dumps, lines)))
    else:
        for name, own in aligned.items():
            rows = "".join(f'{start}\n{end}\n"{one}"\n' for one, start, end in own)
            head = SHORT[: SHORT.index("2\n0\n0.125")]
            (root / f"{name}.TextGrid").write_text(f"{head}{len(own)}\n{rows}")
    return aligned


@pytest.mark.parametrize("kind", ["jsonl", "TextGrid"])
def test_files_are_written_and_read_back(kind: str, tmp_path: Path) -> None:
    aligned = recorded(tmp_path, kind)
    lines = list(phonemes.render(phonemes.RenderConfig(), str(tmp_path), tmp_path / "out"))
    assert lines[:2] == ["train: 12 phonemes of 3 utterances, 1 left out", "val: 12 phonemes of 2 utterances"]
    with h5py.File(tmp_path / "out" / "Librispeech100_h5" / "train.hdf5") as file:
        assert list(file) == ["19-7-0000", "19-7-0001"], "what has no phoneme is not there"
        one = file["19-7-0001"]
        assert one.shape == (6, 80, 64) and one.dtype == np.float32 and one[:].max() < 11
        assert list(one.attrs["phonemes"]) == [name.rstrip("1").lower() for name, _, _ in aligned["19-7-0001"][1:]]
        published = one[:]
    sources = every(phonemes, tmp_path / "out", n=6)
    assert [len(source) for source in sources.values()] == [2, 2, 2]
    seen = {}
    for split, source in sources.items():
        spec = source.spec
        assert spec.shape == (6, 1, 80, 64) and spec.labels == {"content": 39, "style": 3} and spec.note == ""
        batch = seen[split] = source.fetch(torch.arange(2), rng())
        for row, name in enumerate(f"{SPEAKERS[split][0]}-7-{one:04}" for one in range(2)):
            path = tmp_path / "LibriSpeech" / PARTS[split] / SPEAKERS[split][0] / "7" / f"{name}.flac"
            images, labels = _phonemes.images(_sound.read(path), *zip(*aligned[name], strict=True))  # type: ignore[arg-type]
            assert batch.labels["content"][row].tolist() == labels.tolist()
            decibel = (batch.views[0][row, :, 0] - 0.9) / 0.01  # by the constants of the docstring
            assert np.abs(decibel.numpy() - images).max() < 2e-3
            normalised = (batch.views[0][row, :, 0] - 0.5) / 0.4
            assert np.abs(normalised.numpy() - _phonemes.normalised(images)).max() < 1e-4
    assert np.abs(((seen["train"].views[0][1, :, 0] - 0.9) / 0.01).numpy() - published).max() < 2e-3
    styles = {split: batch.labels["style"].unique().tolist() for split, batch in seen.items()}
    assert styles == {"train": [0], "val": [2], "test": [1]}, "speakers 19, 61 and 84 of all files"
    with pytest.raises(DataError, match="is there already"):
        list(phonemes.render(phonemes.RenderConfig(), str(tmp_path), tmp_path / "out"))


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    for changed, message in (
        ({"val": "test-other"}, "name another folder by --set val=PART"),
        ({"alignments": str(tmp_path / "none")}, "no alignment"),
    ):
        root = tmp_path / changed.get("val", "other")
        recorded(root, "jsonl")
        with pytest.raises(DataError, match=message) as caught:
            list(phonemes.render(phonemes.RenderConfig(**changed), str(root), tmp_path / "out"))
        assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()
    (root / "alignments.jsonl").write_text('{"id": "1-2-3", "phonemes": []}')
    with pytest.raises(DataError, match=r"none of 4 recordings in .* has an alignment"):
        list(phonemes.render(phonemes.RenderConfig(), str(root), tmp_path / "out"))
    assert not (tmp_path / "out" / "Librispeech100_h5").exists()


def write(file: Path, utterances: dict[str, tuple[Any, Any]]) -> None:
    file.parent.mkdir(exist_ok=True)
    with h5py.File(file, "w") as content:
        for name, (x, labels) in utterances.items():
            content.create_dataset(name, data=x).attrs["phonemes"] = labels


def test_labels_are_names_or_numbers_and_pages_cyclic_if_short(tmp_path: Path) -> None:
    file = tmp_path / "Librispeech100_h5" / "train.hdf5"
    numbers = np.arange(20) % 13
    x = np.broadcast_to(-numbers[:, None, None].astype(np.float32), (20, 80, 64))
    write(file, {"1-1-1": (x, numbers), "2-1-1": (x[:3], list(_phonemes.PHONEMES[:3]))})
    source = phonemes.open(phonemes.Config(), tmp_path, "train")
    starts = set()
    for seed in range(60):
        batch = source.fetch(torch.arange(2), rng(seed))
        assert torch.equal((90 - batch.views[0][:, :, 0, 0, 0] * 100).round().long(), batch.labels["content"])
        long, short = batch.labels["content"].tolist()
        assert short == [0, 1, 2, 0, 1, 2, 0, 1], "again from its beginning"
        starts |= {start for start in range(13) if long == [(start + k) % 13 for k in range(8)]}
    assert len(starts) == 13
    assert batch.labels["style"].tolist() == [0, 1]
    few = phonemes.open(phonemes.Config(limit=1, items="fragments"), tmp_path, "train")
    assert len(few) in (3, 20) and few.spec.shape == (1, 80, 64)


def test_damaged_files_are_one_line(tmp_path: Path) -> None:
    assert "no 'Librispeech100_h5/train.hdf5'" in one_line(phonemes, tmp_path, source="files")
    file = tmp_path / "Librispeech100_h5" / "train.hdf5"
    x = np.zeros((2, 80, 64), np.float32)
    for content, message in (
        ({}, "holds no phoneme"),
        ({"a": (x[:, 1:], ["b", "d"])}, "a should be (phonemes, 80, 64)"),
        ({"a": (x, ["b"])}, "a phoneme of the 39 for each"),
        ({"a": (x, ["b", "zh"])}, "a phoneme of the 39 for each"),
        ({"a": (x, [0, 39])}, "a phoneme of the 39 for each"),
        ({"a": (x + np.nan, ["b", "d"])}, "finite values"),
    ):
        write(file, content)
        assert message in one_line(phonemes, tmp_path)
    file.write_bytes(b"torn")
    assert "train.hdf5: damaged" in one_line(phonemes, tmp_path)


# -- made speech ----------------------------------------------------------------------------------------------------


def test_made_speech_shows_its_phonemes_and_its_speakers() -> None:
    sources = every(phonemes, None, synthetic=SMALL, items="fragments")
    assert [len(source) for source in sources.values()] == [24 * 12, 3 * 12, 3 * 12]
    assert "synthesised speech" in sources["train"].spec.note
    train, test = (sources[split].fetch(torch.arange(len(sources[split])), rng()) for split in ("train", "test"))
    assert set(train.labels["content"].tolist()) == {_phonemes.PHONEMES.index(one) for one in phonemes.SPOKEN}
    for split in SPLITS:
        labels = sources[split].fetch(torch.arange(len(sources[split])), rng()).labels
        assert labels["style"].unique().tolist() == [0, 1, 2], "each speaker is in each split"
    pairs = train.labels["content"] * 3 + train.labels["style"]
    means = {int(pair): train.views[0][pairs == pair].mean(0) for pair in pairs.unique()}
    distance = torch.stack([(test.views[0] - mean).flatten(1).norm(dim=1) for mean in means.values()])
    nearest = torch.tensor(list(means))[distance.argmin(0)]
    assert (nearest // 3 == test.labels["content"]).float().mean() > 0.9
    assert (nearest % 3 == test.labels["style"]).float().mean() > 0.9
