"""LibriSpeech with published lists, phones and without, and Free Spoken Digits."""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from opened import every, one_line, rng, whole
from servers import Server, server  # noqa: F401 - a fixture
from torch import Tensor

from datasets import _sound, _utterances, fsdd, librispeech
from datasets._sound import FRAME, RATE
from datasets.base import SPLITS, DataError, Split
from datasets.config import ConfigError, parse

EVERY: tuple[Split, ...] = SPLITS


pytestmark = pytest.mark.usefixtures("cache")


# -- LibriSpeech ----------------------------------------------------------------------------------------------------


def libri(root: Path, speakers: dict[int, int], frames: int = 200, part: str = "train-clean-100") -> list[str]:
    """Utterances whose samples tell their frame; the second of each speaker is too short for a crop."""
    names = []
    for speaker, count in speakers.items():
        for number in range(count):
            names.append(f"{speaker}-{7 * speaker}-{number:04}")
            path = root / "LibriSpeech" / part / str(speaker) / str(7 * speaker) / f"{names[-1]}.flac"
            path.parent.mkdir(parents=True, exist_ok=True)
            x = np.repeat(np.arange(129 if number == 1 else frames + number), FRAME).astype(np.int16)
            soundfile.write(path, np.append(x, [0] * 50).astype(np.int16), RATE)
    return names


def lists(root: Path, phones: dict[str, str] | None = None, folder: str = "LibriSpeech100_labels_split", **parts: Any):  # type: ignore[no-untyped-def]
    place = root / folder
    place.mkdir(parents=True, exist_ok=True)
    for name, utterances in parts.items():
        (place / f"{name}.txt").write_text("\n".join(utterances) + "\n")
    if phones is not None:
        lines = [f"{name} {text}" for name, text in phones.items()]
        (place / "converted_aligned_phones.txt").write_text("\n".join(lines) + "\n")


def test_published_lists(tmp_path: Path) -> None:
    names = libri(tmp_path / "librispeech", {30: 10, 4: 10, 200: 5})
    train = [name for name in names if name.startswith("30-") and name < "30-210-0008"][::-1]
    train += [name for name in names if name.startswith("4-")][:8]
    test = [name for name in names if name.startswith("200-")] + ["4-28-0008", "30-210-0009", "99-1-0000"]
    phones = {name: " ".join(str(frame % 41) for frame in range(150)) for name in names if not name.endswith("3")}
    lists(tmp_path / "librispeech", phones, train_split=train, test_split=test)
    sources = every(librispeech, tmp_path, val_fraction=0.25)
    # of 16 training utterances 2 are too short, of 7 test ones 1
    assert [len(source) for source in sources.values()] == [10, 4, 6]
    assert "too short for a crop left out" in sources["train"].spec.note
    assert "1 listed utterances are not there" in sources["train"].spec.note
    spec = sources["train"].spec
    assert spec.labels == {"speaker": 3, "phone": 41} and spec.frames == {"phone": 160} and spec.shape == (1, 20_480)
    # in the order in which the training list names them; those of the test list alone come last
    assert whole(sources["test"])[1]["speaker"].tolist() == [2, 2, 2, 2, 1, 0]
    assert Counter(whole(sources["val"])[1]["speaker"].tolist()) == {0: 2, 1: 2}
    for source in sources.values():
        for seed in range(5):
            batch = source.fetch(torch.arange(len(source)), rng(seed))
            frame = (batch.views[0][:, 0, ::FRAME] * 32768).round().long()
            assert (frame.diff() == 1).all() and frame.min() >= 1
            told = ~batch.labels["phone"].eq(-1).all(1)
            expected = torch.where(frame < 150, frame % 41, -1)
            assert torch.equal(batch.labels["phone"][told], expected[told]) and told.sum() >= len(source) - 2


def test_whole_utterances_are_padded_and_so_are_their_phones(tmp_path: Path) -> None:
    names = libri(tmp_path, {3: 6, 5: 6}, frames=140)
    lists(tmp_path, dict.fromkeys(names, " ".join(["7"] * 130)), train_split=names[:-3], test_split=names[-3:])
    source = librispeech.open(librispeech.Config(items="utterances"), tmp_path, "test")
    assert source.spec.shape == (1, 146 * FRAME) and "too short" not in source.spec.note
    x, labels = whole(source)
    assert labels["phone"].shape == (3, 146)
    assert labels["phone"][:, :130].eq(7).all() and labels["phone"][:, 130:].eq(-1).all()
    assert (x[0, ::FRAME] * 32768).round().tolist() == [*range(143), 0, 0, 0]
    late = whole(librispeech.open(librispeech.Config(items="utterances", phones="end"), tmp_path, "test"))[1]["phone"]
    frames = [143, 144, 145]  # that are full
    assert late.eq(7).sum(1).tolist() == [130] * 3 and late.eq(7).int().argmax(1).tolist() == [n - 130 for n in frames]
    for items in ("crops", "pieces"):
        with pytest.raises(ConfigError, match="'end' is of whole utterances; set items: utterances"):
            parse(librispeech.Config, {"phones": "end", "items": items}, "data")
    padded = librispeech.open(librispeech.Config(short="pad", limit=100), tmp_path, "train")
    skipped = librispeech.open(librispeech.Config(), tmp_path, "train")
    assert len(padded) > len(skipped)


def transcripts(root: Path, names: list[str], part: str = "train-clean-100", words: int = 3) -> None:
    """Utterance i has so many words and i more."""
    for number, name in enumerate(names):
        speaker, chapter, _ = name.split("-")
        file = root / "LibriSpeech" / part / speaker / chapter / f"{speaker}-{chapter}.trans.txt"
        with file.open("a") as lines:
            lines.write(f"{name} {' '.join(['WORD'] * (words + number))}\n")


def test_words_in_a_second(tmp_path: Path) -> None:
    names = libri(tmp_path, {3: 10, 5: 10})
    assert "wps" not in librispeech.open(librispeech.Config(), tmp_path, "train").spec.labels
    without = librispeech.open(librispeech.Config(), tmp_path, "train").spec.fingerprint
    transcripts(tmp_path, names[:-1])
    source = librispeech.open(librispeech.Config(items="utterances"), tmp_path, "train")
    assert "wps" not in source.spec.labels and "1 utterances without transcript, so none has 'wps'" in source.spec.note
    transcripts(tmp_path, names[-1:], words=3 + 19)
    paces = {}
    for split, source in every(librispeech, tmp_path, items="utterances").items():
        assert source.spec.labels == {"speaker": 2, "wps": 0} and "transcript" not in source.spec.note, split
        x, labels = whole(source)
        assert labels["wps"].dtype == torch.float32
        # the number of an utterance's frames tells which one it is, see `libri`
        frames = (x * 32768).round().amax(1).long() + 1
        paces |= {(int(s), int(f)): float(w) for s, f, w in zip(labels["speaker"], frames, labels["wps"], strict=True)}
    speaker = {name: place for place, name in enumerate(sorted({one[0] for one in paces}))}
    assert len(paces) == 20 and len(speaker) == 2
    found = sorted(round(pace * (frames * FRAME + 50) / RATE, 3) for (_, frames), pace in paces.items())
    assert found == [float(count) for count in range(3, 23)]
    assert librispeech.open(librispeech.Config(), tmp_path, "train").spec.fingerprint != without


def test_pieces_of_utterances(tmp_path: Path) -> None:
    names = libri(tmp_path, {3: 10, 5: 10})
    transcripts(tmp_path, names)
    lists(tmp_path, dict.fromkeys(names, "7 7 7"), train_split=names[:14], test_split=names[14:])
    sources = every(librispeech, tmp_path, items="pieces", seconds=0.8)
    spec = sources["test"].spec
    assert spec.shape == (1, 12_800) and spec.labels == {"speaker": 2, "wps": 0, "object": 0} and not spec.frames
    whole_ones = librispeech.open(librispeech.Config(items="utterances"), tmp_path, "test")
    (x, labels), (y, expected) = whole(sources["test"]), whole(whole_ones)
    counts = np.array([(200 + number) * FRAME + 50 for number in range(4, 10)])
    assert np.bincount(sources["test"].owner).tolist() == (-(-counts // 12_800)).tolist()
    for item, (track, number) in enumerate(sources["test"].places):
        assert labels["wps"][item] == expected["wps"][track], "each has the pace of all of its utterance"
        assert labels["object"][item] == track and labels["speaker"][item] == expected["speaker"][track]
        if (number + 1) * 12_800 <= counts[track]:
            assert torch.equal(x[item], y[track, number * 12_800 : (number + 1) * 12_800])
    faster = librispeech.open(librispeech.Config(items="pieces", seconds=0.5, rate=24_000), tmp_path, "val")
    assert faster.spec.shape == (1, 12_000) and faster.spec.rate == 24_000
    few = librispeech.open(librispeech.Config(items="pieces", seconds=0.8, limit=4), tmp_path, "train")
    assert len(few) == 4 and len(few._sound.flat) < 4 * 230 * FRAME
    with pytest.raises(ConfigError, match="rate: crops are at 16,000 Hz; set items: pieces"):
        parse(librispeech.Config, {"rate": 24_000}, "data")


def test_parts_as_splits(tmp_path: Path) -> None:
    for part, speakers in (("train-clean-100", {3: 4, 5: 4}), ("dev-clean", {7: 3}), ("test-clean", {8: 3, 9: 2})):
        names = libri(tmp_path, speakers, part=part)
        transcripts(tmp_path, names, part)
    lists(tmp_path, train_split=["3-21-0000"], test_split=["3-21-0002"])
    options = {"val_part": "dev-clean", "test_part": "test-clean"}
    sources = every(librispeech, tmp_path, items="utterances", **options)
    assert [whole(source)[1]["speaker"].tolist() for source in sources.values()] == [
        [0] * 4 + [1] * 4, [2] * 3, [3] * 3 + [4] * 2
    ]  # fmt: skip
    note = sources["val"].spec.note
    assert "8 of 28,539 utterances of train-clean-100 present; 3 of 2,703 utterances of dev-clean present" in note
    assert sources["train"].spec.labels == {"speaker": 5, "wps": 0}
    crops = every(librispeech, tmp_path, **options)
    assert [len(source) for source in crops.values()] == [6, 2, 3]
    assert "5 utterances too short" in crops["val"].spec.note
    assert "no SPEAKER/CHAPTER/" in one_line(librispeech, tmp_path, val_part="dev-other", test_part="test-clean")
    with pytest.raises(ConfigError, match="val_part: goes with test_part"):
        parse(librispeech.Config, {"val_part": "dev-clean"}, "data")
    with pytest.raises(ConfigError, match="should be different folders"):
        parse(librispeech.Config, {"val_part": "dev-clean", "test_part": "dev-clean"}, "data")


def test_words_are_between_any_blanks(tmp_path: Path) -> None:
    names = libri(tmp_path, {3: 4})
    chapter = tmp_path / "LibriSpeech/train-clean-100/3/21"
    (chapter / "3-21.trans.txt").write_text("".join(f"{name}\tONE  TWO\tTHREE \n\n" for name in names))
    assert _utterances.listed(tmp_path / "LibriSpeech/train-clean-100").words.tolist() == [3] * 4


def test_parts_are_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:  # noqa: F811
    sums = {}
    for number, part in enumerate(("train-clean-100", "dev-clean", "test-clean")):
        libri(tmp_path / part, {number: 3}, part=part)
        (tmp_path / part / "LibriSpeech" / "SPEAKERS.TXT").write_text("speakers")
        file = shutil.make_archive(str(tmp_path / part), "gztar", tmp_path / part, "LibriSpeech")
        server.files[f"/{part}.tar.gz"] = Path(file).read_bytes()
        sums[part] = hashlib.sha256(server.files[f"/{part}.tar.gz"]).hexdigest()
    monkeypatch.setattr(librispeech, "URL", server.url)
    cfg = librispeech.Config(val_part="dev-clean", test_part="test-clean", items="utterances")
    with pytest.raises(DataError, match="is not the file it should be"):
        librispeech.fetch(cfg, tmp_path / "data")
    monkeypatch.setattr(librispeech, "CHECKSUMS", sums)
    for _ in range(2):
        librispeech.fetch(cfg, tmp_path / "data")
    assert len(server.asked) == 4, "nothing is fetched twice"
    sources = [librispeech.open(cfg, tmp_path / "data", split) for split in EVERY]
    assert [len(source) for source in sources] == [3, 3, 3]


def test_other_lists(tmp_path: Path) -> None:
    names = libri(tmp_path, {3: 9, 5: 9})
    kept = [name for name in names if not name.endswith("0001")]
    lists(tmp_path, train_split=kept[:10], test_split=kept[10:], train_val_train=kept[:7], train_val_val=kept[7:10])
    small = "LibriSpeech100_labels_split_subset"
    lists(tmp_path, folder=small, train_split=kept[:4], test_split=kept[4:6])
    assert [len(source) for source in every(librispeech, tmp_path).values()] == [7, 3, 6]
    assert [len(source) for source in every(librispeech, tmp_path, lists="small").values()] == [3, 1, 2]
    without = every(librispeech, tmp_path, lists="none")
    assert [len(source) for source in without.values()] == [12, 1, 3]
    assert "a seeded split within speakers" in without["train"].spec.note
    (tmp_path / small / "train_split.txt").unlink()
    assert "no 'train_split.txt'" in one_line(librispeech, tmp_path, lists="small")
    fingerprints = {source.spec.fingerprint for source in (*every(librispeech, tmp_path).values(), without["train"])}
    assert len(fingerprints) == 2, "the lists are a part of what the data are"


def test_a_seeded_split_keeps_every_speaker(tmp_path: Path) -> None:
    libri(tmp_path, {3: 21, 5: 21, 8: 21}, part="dev-clean")
    sources = every(librispeech, tmp_path, part="dev-clean", val_fraction=0.25)
    assert [len(source) for source in sources.values()] == [36, 12, 12]
    for source in sources.values():
        counted = whole(source)[1]["speaker"].bincount()
        assert counted.max() - counted.min() <= 1
    again, other = (every(librispeech, tmp_path, part="dev-clean", split_seed=seed) for seed in (0, 1))
    assert again["test"].spec.fingerprint != other["test"].spec.fingerprint


def test_a_limit_decodes_no_other_utterance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    libri(tmp_path, {3: 12, 5: 12})
    read, calls = _sound.read, []

    def counted(path: Path, rate: int = RATE) -> Tensor:
        calls.append(path)
        return read(path, rate)

    monkeypatch.setattr(_sound, "read", counted)
    assert len(librispeech.open(librispeech.Config(limit=4), tmp_path, "train")) == len(calls) == 4


@pytest.mark.parametrize(
    ("phones", "message"),
    [
        ("3-21-0000 1 2 x", r"phones\.txt:1: should be an utterance and a phone"),
        ("a 41", "phone 0 .. 40"),
        ("", "holds no"),
    ],
)
def test_a_broken_alignment_is_one_line(tmp_path: Path, phones: str, message: str) -> None:
    names = libri(tmp_path, {3: 8})
    lists(tmp_path, train_split=names[2:7], test_split=names[7:])
    (tmp_path / "LibriSpeech100_labels_split" / "converted_aligned_phones.txt").write_text(phones)
    with pytest.raises(DataError, match=message):
        librispeech.open(librispeech.Config(), tmp_path, "train")


def test_a_broken_set_is_one_line(tmp_path: Path) -> None:
    assert "no 'LibriSpeech/train-clean-100'" in one_line(librispeech, tmp_path)
    names = libri(tmp_path, {3: 8})
    lists(tmp_path, train_split=["1-2-3"], test_split=names)
    assert "names no utterance that is there" in one_line(librispeech, tmp_path)
    assert "no utterance for a split" in one_line(librispeech, tmp_path, lists="none", length=300 * FRAME)
    path = tmp_path / "LibriSpeech/train-clean-100/3/21"
    (path / "3-21-0003.flac").rename(path / "notes.flac")
    assert "should be named SPEAKER-CHAPTER-UTTERANCE.flac" in one_line(librispeech, tmp_path)
    shutil.rmtree(path)
    assert "no SPEAKER/CHAPTER/" in one_line(librispeech, tmp_path)
    with pytest.raises(ConfigError, match=r"data\.part"):
        parse(librispeech.Config, {"part": "../x"}, "data")


def test_real_librispeech(data_root: Path) -> None:
    sources = every(librispeech, data_root, part="test-other")
    assert [len(source) for source in sources.values()] == [72, 8, 20]
    assert sources["train"].spec.labels == {"speaker": 10, "wps": 0}
    assert whole(sources["test"])[1]["speaker"].bincount().tolist() == [2] * 10
    names = (data_root / "librispeech" / "splits" / "test-other_test.txt").read_text().split()
    folder = data_root / "librispeech" / "LibriSpeech" / "test-other"
    speaker, chapter, _ = names[0].split("-")
    listing = _utterances.listed(folder)
    x = _sound.read(folder / speaker / chapter / f"{names[0]}.flac")
    assert listing.counts[listing.names.index(names[0])] == len(x)
    assert listing.pace is not None and listing.pace.min() > 1 and listing.pace.max() < 5.5
    pieces = librispeech.open(librispeech.Config(part="test-other", items="pieces"), data_root, "test")
    assert pieces.spec.shape == (1, 160_000) and 20 < len(pieces) < 60 and len(set(pieces.owner)) == 20
    train = every(librispeech, data_root)
    assert sum(map(len, train.values())) == 40 and "40 of 28,539 utterances present" in train["train"].spec.note


# -- Free Spoken Digits ---------------------------------------------------------------------------------------------


def digits(folder: Path, takes: int = 10) -> None:
    for digit in range(10):
        for speaker in ("theo", "lucas"):
            for take in range(takes):
                path = folder / "recordings" / f"{digit}_{speaker}_{take}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                x = 0.1 * np.sin(np.arange(800 + 10 * take) * (digit + 1) / 10) * (1 if speaker == "theo" else 0.5)
                soundfile.write(path, x, 8000)


def test_spoken_digits(tmp_path: Path) -> None:
    digits(tmp_path / "fsdd")
    sources = every(fsdd, tmp_path, val_fraction=0.2)
    assert [len(source) for source in sources.values()] == [80, 20, 100]
    spec = sources["train"].spec
    assert spec.labels == {"digit": 10, "speaker": 2} and spec.note == "200 of 3,000 recordings present"
    for source in sources.values():
        labels = whole(source)[1]
        assert len((labels["digit"] * 2 + labels["speaker"]).bincount().unique()) == 1, "equal shares of both"
    x, labels = whole(sources["test"])
    assert x.shape == (100, 10_240) and x[:, 1600:1700].any() and not x[:, 1700:].any()
    loud = x.square().sum(1)
    assert loud[labels["speaker"] == 1].min() > 2 * loud[labels["speaker"] == 0].max()
    few = fsdd.open(fsdd.Config(per_class=3), tmp_path, "train")
    assert whole(few)[1]["digit"].bincount().tolist() == [3] * 10


def test_missing_digits_are_one_line(tmp_path: Path) -> None:
    assert "no 'recordings'" in one_line(fsdd, tmp_path) and "sweep data fsdd" in one_line(fsdd, tmp_path)
    (tmp_path / "recordings").mkdir()
    assert "no file such as 7_theo_0.wav" in one_line(fsdd, tmp_path)
    digits(tmp_path, takes=5)
    assert "no recording for a split 'train'" in one_line(fsdd, tmp_path)


def test_real_digits(data_root: Path) -> None:
    sources = every(fsdd, data_root)
    assert [len(source) for source in sources.values()] == [1080, 120, 300]
    x, labels = whole(sources["test"])
    assert labels["digit"].bincount().tolist() == [30] * 10 and labels["speaker"].bincount().tolist() == [50] * 6
    path = data_root / "fsdd" / "recordings" / "0_george_0.wav"
    raw, rate = soundfile.read(path)
    assert rate == 8000 and abs(x[0].square().sum() / 2 - np.square(raw).sum()) < 0.1 * np.square(raw).sum()
