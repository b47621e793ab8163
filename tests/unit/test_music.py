"""Sets of tracks with labels of music: what is read of their layouts, how it is cut, what fetches them."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import music
import numpy as np
import pytest
import torch
from opened import every, one_line, rng, whole
from servers import Server, server  # noqa: F401 - a fixture

from datasets import _download, _sound, _tracks, alltempo, giantsteps_key, magnatagatune, mtg_jamendo, tinysol
from datasets._tracks import KEYS
from datasets.base import DataError
from sweep.tools import show_data

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All sets, each in its layout; tests leave them as they are."""
    folder = tmp_path_factory.mktemp("music")
    for name in music.SETS:
        music.made(name, folder)
    return folder


def heard(source: Any) -> list[int]:
    """The number of each track's tone, by the strongest frequency of its first item."""
    first = source.places[:, 1] == 0
    x, _ = whole(source)
    found = torch.fft.rfft(x[torch.from_numpy(first)]).abs().argmax(1) * source.spec.rate / x.shape[1]
    return ((found - 200) / 8).round().long().tolist()


def of_tracks(source: Any, factor: str) -> list[int]:
    """A label of each track, which all of its items have."""
    labels = whole(source)[1]
    found = {int(track): int(label) for track, label in zip(labels["object"], labels[factor], strict=True)}
    assert all(found[int(t)] == int(v) for t, v in zip(labels["object"], labels[factor], strict=True))
    return [found[track] for track in sorted(found)]


# -- items of tracks ------------------------------------------------------------------------------------------------


def test_how_tracks_are_cut_is_an_option(data: Path) -> None:
    options: dict[str, Any] = {"seconds": 1.5}
    plain = magnatagatune.open(magnatagatune.Config(**options), data, "test")
    assert plain.spec.shape == (1, 24_000) and plain.spec.rate == 16_000 and len(plain) == 7 * 3
    assert Counter(whole(plain)[1]["object"].tolist()) == dict.fromkeys(range(7), 3)
    zero = magnatagatune.open(magnatagatune.Config(**options, padding="zero"), data, "test")
    last = torch.from_numpy(plain.places[:, 1] == 2)  # a third of it is there
    (x, _), (y, _) = whole(plain), whole(zero)
    assert torch.equal(x[~last], y[~last])
    there = int(_sound.count(sorted((data / "magnatagatune/mp3").rglob("*.mp3"))[0])) - 48_000
    assert 15_000 < there < 17_500 and not y[last][:, there + 1 :].any()
    head = 24_000 - there
    assert torch.equal(x[last][:, :head], y[last][:, :head]) and torch.equal(x[last][:, head:], y[last][:, :there])
    faster = tinysol.open(tinysol.Config(rate=8000, seconds=0.5, excerpt=1.0), data, "test")
    assert faster.spec.shape == (1, 4000) and Counter(np.bincount(faster.owner).tolist()) == {2: len(set(faster.owner))}
    with_silence = tinysol.open(tinysol.Config(rate=8000, seconds=0.5, excerpt=1.0, extra=True), data, "test")
    silent = ~whole(with_silence)[0].any(1)
    assert len(with_silence) == 1.5 * len(faster) and silent.tolist() == (with_silence.places[:, 1] == 2).tolist()
    assert "data.seconds is less than a sample" in one_line(tinysol, data, rate=1000, seconds=1e-4)


def test_an_excerpt_is_the_middle(data: Path) -> None:
    short = tinysol.open(tinysol.Config(seconds=4.0, excerpt=0.25, padding="zero"), data, "val")
    long = tinysol.open(tinysol.Config(seconds=4.0, padding="zero"), data, "val")
    counts = long._sound.count
    for item in range(len(short)):
        middle = (counts[item] - 4000) // 2
        a, b = (source.fetch(torch.tensor([item]), rng()).views[0][0, 0] for source in (short, long))
        assert torch.equal(a[:4000], b[middle : middle + 4000]) and not a[4000:].any()


def test_a_limit_is_of_items_and_decodes_no_other_track(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read, calls = _sound.read, []
    monkeypatch.setattr(_sound, "read", lambda path, rate: (calls.append(path), read(path, rate))[1])
    source = giantsteps_key.open(giantsteps_key.Config(limit=5), data, "train")
    assert len(source) == 5 and len(calls) == 3, "of two items each"
    assert len(source.owner) == len(source.places) == 5


def test_the_labels_are_a_part_of_what_the_data_are(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "alltempo", tmp_path / "alltempo", copy_function=shutil.copy2)
    before = alltempo.open(alltempo.Config(), tmp_path, "test").spec.fingerprint
    (tmp_path / "alltempo/gtzan/gtzan_tempo_beat/tempo/gtzan_blues_00003.bpm").write_text("222")
    after = alltempo.open(alltempo.Config(), tmp_path, "test")
    assert before != after.spec.fingerprint and 222 in of_tracks(after, "tempo")


# -- the sets -------------------------------------------------------------------------------------------------------


def test_tinysol(data: Path) -> None:
    sources = every(tinysol, data, seconds=4.0)
    assert [len(source) for source in sources.values()] == [72, 9, 9]
    spec = sources["train"].spec
    assert spec.labels == {"pitch": 2, "instrument": 3, "object": 0}, "A#3 is Bb3; none has the pitch of C2 again"
    assert spec.note == "91 of 2,913 notes present; 1 notes whose pitch no other has left out"
    for source in sources.values():
        numbers = heard(source)
        assert of_tracks(source, "pitch") == [int(number % 3 == 2) for number in numbers]
        assert of_tracks(source, "instrument") == [number // 3 % 3 for number in numbers]
        shares = np.bincount(of_tracks(source, "instrument")) / len(numbers)
        assert np.abs(shares - 1 / 3).max() < 0.12
    other = every(tinysol, data, seconds=4.0, split_seed=1)
    assert heard(other["test"]) != heard(sources["test"])


def test_real_notes(data_root: Path, tmp_path: Path) -> None:
    """Two published notes, each under ten names, since a split needs some."""
    folder = data_root / "tinysol"
    if not folder.is_dir():
        pytest.skip("no tinysol in the folder of real data")
    assert "has no track" in one_line(tinysol, data_root, "train"), "no pitch is there twice"
    file = folder / "annotation/TinySOL_metadata.csv"
    head, *rows = file.read_text().splitlines()
    lines = [head]
    for copy in range(10):
        for row in rows:
            path, rest = row.split(",", 1)
            target = Path(path).with_name(f"{copy}-{Path(path).name}")
            (tmp_path / "tinysol/audio" / target).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(folder / "audio" / path, tmp_path / "tinysol/audio" / target)
            lines.append(f"{target},{rest}")
    music.text(tmp_path / "tinysol/annotation/TinySOL_metadata.csv", *lines)
    source = tinysol.open(tinysol.Config(rate=44_100, seconds=2.0), tmp_path, "train")
    assert source.spec.labels == {"pitch": 2, "instrument": 2, "object": 0} and source.spec.shape == (1, 88_200)
    x, labels = whole(source)
    loud = torch.fft.rfft(x).abs()
    for pitch, hertz in ((0, 110.0), (1, 261.6)):  # A2, C4: a partial of the note is strongest
        item = int((labels["pitch"] == pitch).nonzero()[0])
        assert abs((float(loud[item].argmax()) / 2 / hertz + 0.5) % 1 - 0.5) < 0.06


def test_magnatagatune(data: Path) -> None:
    sources = every(magnatagatune, data)
    spec = sources["train"].spec
    assert spec.tags == ("guitar", "no vocals", "slow") and spec.labels == {**dict.fromkeys(spec.tags, 2), "object": 0}
    assert spec.note == "1 of 39 listed clips are not there", "and the damaged one is not missed"
    expected = [[n for n in range(24) if n != 7], list(range(24, 32)), list(range(32, 39))]
    for source, numbers in zip(sources.values(), expected, strict=True):
        assert sorted(heard(source)) == numbers
        tags = np.stack([of_tracks(source, tag) for tag in spec.tags], 1)
        assert tags.tolist() == [[number >> bit & 1 for bit in range(3)] for number in heard(source)]


def test_the_most_frequent_tags_of_magnatagatune(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(data / "magnatagatune", tmp_path / "magnatagatune")
    folder = tmp_path / "magnatagatune"
    (folder / "tags.npy").unlink()
    (folder / "metadata").mkdir()
    (folder / "test.npy").rename(folder / "metadata" / "test.npy")
    monkeypatch.setattr(magnatagatune, "TAGS", 3)
    assert magnatagatune.read(folder).tags == ("guitar", "no vocals", "slow")
    np.save(folder / "tags.npy", np.array(["loud"]))
    assert "has no tag 'loud'" in one_line(magnatagatune, tmp_path)
    np.save(folder / "tags.npy", np.array([["slow"]]))
    assert "should be a list of texts" in one_line(magnatagatune, tmp_path)
    np.save(folder / "tags.npy", np.array(["slow", None]))
    assert "tags.npy: cannot be read" in one_line(magnatagatune, tmp_path)
    (folder / "train.npy").unlink()
    (folder / "tags.npy").unlink()
    assert "train.npy: cannot be read (no such file); fetch it again" in one_line(magnatagatune, tmp_path)
    shutil.rmtree(folder / "mp3")
    np.save(folder / "train.npy", np.array(["0\t0/clip-0.mp3"]))
    assert "none of the 17 listed clips is there" in one_line(magnatagatune, tmp_path)


def test_mtg_jamendo(data: Path, tmp_path: Path) -> None:
    sources = every(mtg_jamendo, data)
    spec = sources["train"].spec
    assert spec.tags == ("genre---rock", "instrument---piano", "mood-theme---film"), "a name has no / in it"
    assert spec.note == "2 of 30 listed tracks are not there"
    for source, numbers in zip(
        sources.values(), ([*range(3), *range(5, 18)], range(18, 24), range(24, 30)), strict=True
    ):
        assert heard(source) == list(numbers)
        assert of_tracks(source, "genre---rock") == [number % 2 for number in numbers]
        assert of_tracks(source, "mood-theme---film") == [int(number % 3 == 0) for number in numbers]
    assert "no 'splits/split-0/autotagging-train.tsv'" in one_line(mtg_jamendo, data, subset="all")
    music.mtg_jamendo(tmp_path, "")
    assert len(every(mtg_jamendo, tmp_path, subset="all")["test"]) == len(sources["test"])
    place = tmp_path / "mtg_jamendo/splits/split-0/autotagging-test.tsv"
    place.write_text("a\tb\n")
    assert "should have columns .. PATH, DURATION, TAGS" in one_line(mtg_jamendo, tmp_path, subset="all")
    place.write_text("TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\nx\ty\tz\t1/1.mp3\t3.0\n")
    assert "test.tsv:2: should be a track with its path and tags" in one_line(mtg_jamendo, tmp_path, subset="all")


def test_giantsteps_key(data: Path) -> None:
    sources = every(giantsteps_key, data)
    assert [len(set(source.owner)) for source in sources.values()] == [36, 4, 12]
    spec = sources["train"].spec
    assert spec.labels == {"key": 24, "object": 0} and KEYS[0] == "C major" and KEYS[13] == "Db minor"
    assert spec.note == "1 of 41 tracks of giantsteps-mtg-key-dataset are not there"
    expected = [KEYS.index(key) for key in ("C major", "Db minor", "Gb minor", "B major")]
    for source in sources.values():
        numbers = heard(source)
        assert of_tracks(source, "key") == [expected[number % 4] for number in numbers]
    assert sorted(heard(sources["train"]) + heard(sources["val"])) == list(range(100, 140))


def test_alltempo(data: Path) -> None:
    sources = every(alltempo, data)
    assert sources["train"].spec.labels == {"tempo": 300, "object": 0}
    note = "9 of 10 tracks of extended_ballroom present"
    assert sources["train"].spec.note == note, "the one of 300 beats is no track"
    assert sorted(heard(sources["test"])) == list(range(10))
    trained = sorted(heard(sources["train"]) + heard(sources["val"]))
    assert trained == [*range(100, 110), *range(200, 210), *range(301, 310), *range(401, 410)]
    assert len(heard(sources["val"])) == 4
    for source in sources.values():
        assert of_tracks(source, "tempo") == [60 + number % 100 for number in heard(source)]
    other = every(alltempo, data, test="hainsworth")
    assert sorted(heard(other["test"])) == list(range(100, 110)) and len(set(other["train"].owner)) == 34


def test_some_sets_of_alltempo(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "alltempo", tmp_path / "alltempo")
    for name in ("acm_mirum", "giantsteps"):
        shutil.rmtree(tmp_path / "alltempo" / name)
    assert "no acm_mirum; no giantsteps" in alltempo.open(alltempo.Config(), tmp_path, "val").spec.note
    assert "no 'giantsteps'" in one_line(alltempo, tmp_path, test="giantsteps")
    (tmp_path / "alltempo/hainsworth/beat_and_downbeat_annotations/000.beats").write_text("0.5\n")
    assert len(alltempo.read(tmp_path / "alltempo", "hainsworth", 0).rows["test"]) == 9, "one beat has no tempo"
    (tmp_path / "alltempo/hainsworth/beat_and_downbeat_annotations/000.beats").write_text("soon\n")
    assert "'soon' is no number" in one_line(alltempo, tmp_path)
    shutil.rmtree(tmp_path / "alltempo/hainsworth")
    xml = tmp_path / "alltempo/extended_ballroom/ballroom_extended_2016/extendedballroom_v1.1.xml"
    xml.write_text("<AllSongs>")
    assert "damaged" in one_line(alltempo, tmp_path)
    shutil.rmtree(tmp_path / "alltempo/extended_ballroom")
    assert "no track that trains is there with its tempo" in one_line(alltempo, tmp_path)
    shutil.rmtree(tmp_path / "alltempo/gtzan/audio")
    assert "no track of 'gtzan', which tests, is there" in one_line(alltempo, tmp_path)


def test_tempi_as_their_annotators_write_them(tmp_path: Path) -> None:
    music.alltempo(tmp_path)
    folder = tmp_path / "alltempo"
    tempi = folder / "giantsteps" / "annotations_v2" / "tempo"
    music.text(tempi / "1.LOFI.bpm", "0.0")  # a track without a beat
    music.text(tempi / "2.LOFI.bpm", "\t", "128.9 0.7", "64")
    beats = folder / "hainsworth" / "beat_and_downbeat_annotations"
    music.text(beats / "000.beats", "0.5 1", "", "1.0 2", "1.6 3")  # 109.09 from the mean time between beats
    music.text(beats / "001.beats", "0.5 1", "0.5 2")
    xml = folder / "extended_ballroom/ballroom_extended_2016/extendedballroom_v1.1.xml"
    xml.write_bytes(
        "<?xml version='1.0' encoding='ISO-8859-1'?>"
        "<AllSongs><Samba><song id='101' bpm='99.5' title='caf\u00e9'/></Samba></AllSongs>".encode("latin-1")
    )
    (folder / "giantsteps").rename(tmp_path / "clone")
    (folder / "giantsteps").mkdir()
    (tmp_path / "clone").rename(folder / "giantsteps" / "giantsteps-tempo-dataset")
    found = alltempo.read(folder, "gtzan", 0)
    tempo = {path.stem: int(one) for path, one in zip(found.files, found.labels["tempo"], strict=True)}
    assert "1.LOFI" not in tempo and "001" not in tempo and "0.LOFI" not in tempo
    assert (tempo["2.LOFI"], tempo["000"], tempo["101"], tempo["blues.00003"], tempo["4.clip"]) == (
        128,
        109,
        99,
        63,
        64,
    )
    assert len([path for path in found.files if "giantsteps" in path.parts]) == 8 and "102" not in tempo
    moved = folder / "giantsteps" / "giantsteps-tempo-dataset" / "annotations_v2" / "tempo"
    for content in ("nan", "inf", ""):
        music.text(moved / "2.LOFI.bpm", content)
        assert f"2.LOFI.bpm: '{content}' is no number; fetch it again" in one_line(alltempo, tmp_path)


@pytest.mark.parametrize(
    ("module", "file", "content", "message"),
    [
        (tinysol, "annotation/TinySOL_metadata.csv", "a,b\n1,2\n", "should have columns Path, Instrument"),
        (tinysol, "annotation/TinySOL_metadata.csv", b"\xff\xfe\x00", "cannot be read"),
        (magnatagatune, "annotations_final.csv", "a\tb\n1\t2\n", "should have columns clip_id, mp3_path"),
        (giantsteps_key, "giantsteps-mtg-key-dataset/annotations/annotations.txt", "a\n1\n", "should have columns ID"),
    ],
    ids=["tinysol", "bytes", "magnatagatune", "giantsteps_key"],
)
def test_other_tables_are_one_line(
    data: Path, tmp_path: Path, module: ModuleType, file: str, content: str | bytes, message: str
) -> None:
    name = module.__name__.rpartition(".")[2]
    shutil.copytree(data / name, tmp_path / name)
    (tmp_path / name / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert message in one_line(module, tmp_path)


def appended(file: Path, line: str) -> None:
    file.write_text(f"{file.read_text()}{line}\n")


def test_what_tests_may_not_train(tmp_path: Path) -> None:
    music.magnatagatune(tmp_path)
    lists = tmp_path / "magnatagatune"
    np.save(lists / "test.npy", np.concatenate([np.load(lists / "test.npy"), np.load(lists / "train.npy")[:1]]))
    assert "mp3/0/clip-0.mp3: is in 'train' and in 'test'; list each track" in one_line(magnatagatune, tmp_path)
    music.mtg_jamendo(tmp_path)
    place = tmp_path / "mtg_jamendo/splits/split-0/autotagging_top50tags-test.tsv"
    appended(place, "track_1\ta\tb\t01/1.mp3\t4.0\tgenre---rock")
    assert "is in 'train' and in 'test'" in one_line(mtg_jamendo, tmp_path, "val")


def test_short_rows_are_no_tracks(tmp_path: Path) -> None:
    music.tinysol(tmp_path)
    table = tmp_path / "tinysol/annotation/TinySOL_metadata.csv"
    before = len(tinysol.read(tmp_path / "tinysol", 0).files)
    appended(table, "Family/Flute")  # a folder
    assert len(tinysol.read(tmp_path / "tinysol", 0).files) == before
    appended(table, "Family/Flute/ordinario/Flute-0.wav")
    assert "'' is no note such as F#4" in one_line(tinysol, tmp_path)
    appended(table, "x" * 200_000)
    assert "is no table (field larger than field limit" in one_line(tinysol, tmp_path)
    music.giantsteps_key(tmp_path)
    keys = tmp_path / "giantsteps_key/giantsteps-mtg-key-dataset/annotations/annotations.txt"
    before = len(giantsteps_key.read(tmp_path / "giantsteps_key", 0).files)
    keys.write_text(keys.read_text().replace("\t2\n", "\t2 \n"))
    appended(keys, "204")
    assert len(giantsteps_key.read(tmp_path / "giantsteps_key", 0).files) == before


def test_what_is_listed_of_magnatagatune_and_not_known(tmp_path: Path) -> None:
    music.magnatagatune(tmp_path)
    folder = tmp_path / "magnatagatune"
    np.save(folder / "valid.npy", np.array([*np.load(folder / "valid.npy"), "99\t0/other.mp3"]))
    assert "1 listed clips are not in annotations_final.csv" in magnatagatune.read(folder).notes
    np.save(folder / "tags.npy", np.array(["slow", "guitar", "slow"]))
    assert magnatagatune.read(folder).tags == ("slow", "guitar")
    np.save(folder / "tags.npy", np.array([b"caf\xe9"]))
    assert "tags.npy: cannot be read ('ascii' codec" in one_line(magnatagatune, tmp_path)
    table = folder / "annotations_final.csv"
    table.write_text(table.read_text().replace("clip_id", "clip", 1))
    assert "should have columns clip_id, mp3_path" in one_line(magnatagatune, tmp_path)


def test_a_tag_without_a_name_is_none(tmp_path: Path) -> None:
    music.mtg_jamendo(tmp_path)
    place = tmp_path / "mtg_jamendo/splits/split-0/autotagging_top50tags-test.tsv"
    place.write_text(place.read_text().replace("genre---rock\n", "genre---rock\t\n"))
    spec = mtg_jamendo.open(mtg_jamendo.Config(), tmp_path, "test").spec
    assert spec.tags == ("genre---rock", "instrument---piano", "mood-theme---film")
    appended(place, "track_1\ta\tb\t24/24.mp3\t4.0\t")
    assert "test.tsv:8: should be a track with its path and tags" in one_line(mtg_jamendo, tmp_path)


def test_notes_that_are_none_or_gone_are_one_line(tmp_path: Path) -> None:
    music.tinysol(tmp_path)
    file = tmp_path / "tinysol/annotation/TinySOL_metadata.csv"
    file.write_text(file.read_text().replace("A#3", "H3"))
    assert "'H3' is no note such as F#4; fetch it again" in one_line(tinysol, tmp_path)
    shutil.rmtree(tmp_path / "tinysol/audio")
    assert "none of the 92 notes of the table is there" in one_line(tinysol, tmp_path)


def test_keys_that_are_gone_are_one_line(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data / "giantsteps_key", tmp_path / "giantsteps_key")
    shutil.rmtree(tmp_path / "giantsteps_key/giantsteps-mtg-key-dataset/audio")
    assert "none of 41 tracks of a known key is in audio/" in one_line(giantsteps_key, tmp_path)
    shutil.rmtree(tmp_path / "giantsteps_key/giantsteps-key-dataset/annotations")
    assert "no ID.LOFI.key" in one_line(giantsteps_key, tmp_path)


@pytest.mark.parametrize("key", ["-", "C minor / F# minor", "A-A# minor", "G minor/major", "", "H major", "C"])
def test_what_is_no_key(key: str) -> None:
    assert _tracks.key_class(key) is None


# -- fetching -------------------------------------------------------------------------------------------------------


def packed(folder: Path, kind: str, top: str = "") -> bytes:
    """An archive of all files below a folder."""
    buffer = io.BytesIO()
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as archive:
            for path in files:
                archive.write(path, f"{top}{path.relative_to(folder)}")
    else:
        with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
            for path in files:
                archive.add(path, f"{top}{path.relative_to(folder)}")
    return buffer.getvalue()


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def test_tinysol_is_fetched(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server) -> None:  # noqa: F811
    server.files["/TinySOL.tar.gz"] = packed(data / "tinysol/audio", "tar")
    server.files["/TinySOL_metadata.csv"] = (data / "tinysol/annotation/TinySOL_metadata.csv").read_bytes()
    monkeypatch.setattr(tinysol, "URL", server.url)
    with pytest.raises(DataError, match="is not the file it should be"):
        list(show_data("tinysol", [], tmp_path, tmp_path))
    monkeypatch.setattr(tinysol, "CHECKSUMS", {name[1:]: md5(content) for name, content in server.files.items()})
    lines = list(show_data("tinysol", [], tmp_path, tmp_path))
    assert lines[1:3] == ["fetching ...", f"  train {len(every(tinysol, data)['train'])} items"]
    assert every(tinysol, tmp_path)["test"].spec.labels == every(tinysol, data)["test"].spec.labels
    asked = len(server.asked)
    tinysol.fetch(tinysol.Config(), tmp_path)
    assert len(server.asked) == asked, "nothing is fetched twice"


def test_magnatagatune_is_fetched(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: Server,  # noqa: F811
) -> None:
    folder = data / "magnatagatune"
    whole_zip = packed(folder / "mp3", "zip")
    third = len(whole_zip) // 3 + 1
    for number, name in enumerate(magnatagatune.PIECES):
        server.files[f"/{name}"] = whole_zip[number * third : (number + 1) * third]
    for name in ("annotations_final.csv", "train.npy", "valid.npy", "test.npy", "tags.npy"):
        server.files[f"/{name}"] = (folder / name).read_bytes()
    monkeypatch.setattr(magnatagatune, "URL", server.url)
    monkeypatch.setattr(magnatagatune, "SPLIT_URL", server.url)
    lines = list(show_data("magnatagatune", [], tmp_path, tmp_path))
    assert "  items (1, 48000), labels {'object': 0} and 3 tags, parameters none" in lines
    ours, theirs = every(magnatagatune, tmp_path)["val"], every(magnatagatune, data)["val"]
    assert torch.equal(whole(ours)[0], whole(theirs)[0]) and ours.spec == theirs.spec


def test_lists_of_mtg_jamendo_are_fetched(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: Server,  # noqa: F811
) -> None:
    for path in (data / "mtg_jamendo/splits/split-0").iterdir():
        server.files[f"/{path.name}"] = path.read_bytes()
    monkeypatch.setattr(mtg_jamendo, "URL", server.url)
    with pytest.raises(DataError, match="none of the 30 listed tracks is there; `sweep data mtg_jamendo` says whence"):
        list(show_data("mtg_jamendo", [], tmp_path, tmp_path))
    shutil.copytree(data / "mtg_jamendo/audio-low", tmp_path / "mtg_jamendo/low")
    assert len(every(mtg_jamendo, tmp_path)["train"]) == 34


def test_giantsteps_key_is_fetched_from_two_hosts(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: Server,  # noqa: F811
) -> None:
    hosts = {}
    for name in (giantsteps_key.TEST, giantsteps_key.TRAIN):
        copy = tmp_path / "repository" / name
        shutil.copytree(data / "giantsteps_key" / name / "annotations", copy / "annotations")
        for audio in sorted((data / "giantsteps_key" / name / "audio").iterdir()):
            content = audio.read_bytes()
            music.text(copy / "md5" / f"{audio.stem}.md5", md5(content))
            even = int(audio.name.partition(".")[0]) % 2 == 0
            server.files[f"/{name}/first/{audio.name}"] = content if even else b"another take"
            server.files[f"/{name}/second/{audio.name}"] = content
        (sum_file := copy / "md5" / "999.LOFI.md5").write_text(md5(b"nowhere"))
        assert sum_file.exists()
        server.files[f"/{name}.tar.gz"] = packed(copy, "tar", "repository-HEAD/")
        hosts[name] = (f"{server.url}/{name}/first/", f"{server.url}/{name}/second/")
    monkeypatch.setattr(giantsteps_key, "HOSTS", hosts)
    monkeypatch.setattr(giantsteps_key, "ANNOTATIONS", f"{server.url}/{{}}.tar.gz")
    giantsteps_key.fetch(giantsteps_key.Config(), tmp_path / "data")
    ours, theirs = (giantsteps_key.open(giantsteps_key.Config(), root, "val") for root in (tmp_path / "data", data))
    assert torch.equal(whole(ours)[0], whole(theirs)[0])
    folder = tmp_path / "data/giantsteps_key" / giantsteps_key.TEST / "audio"
    assert sorted(path.name for path in folder.iterdir()) == sorted(f"{n}.LOFI.mp3" for n in range(12))
    shutil.rmtree(folder)
    server.files.clear()
    with pytest.raises(DataError, match="have none of the 13 tracks"):
        giantsteps_key.fetch(giantsteps_key.Config(), tmp_path / "data")


def test_annotations_of_alltempo_are_fetched(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    server: Server,  # noqa: F811
) -> None:
    tree = []
    for path in sorted((data / "alltempo").rglob("*")):
        if path.is_file():
            name, content = path.relative_to(data / "alltempo").as_posix(), path.read_bytes()
            checksum = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
            tree.append({"path": name, "type": "blob", "sha": checksum})
            server.files[f"/{alltempo.REPOSITORY}/HEAD/{name}"] = content
    tree += [{"path": "gtzan", "type": "tree", "sha": ""}, {"path": "../evil.bpm", "type": "blob", "sha": ""}]
    listing = f"/repos/{alltempo.REPOSITORY}/git/trees/HEAD"
    server.files[listing] = json.dumps({"tree": tree, "truncated": False}).encode()
    monkeypatch.setattr(_download, "API", server.url)
    monkeypatch.setattr(_download, "RAW", server.url)
    with pytest.raises(DataError, match="no track of 'gtzan', which tests, is there"):
        list(show_data("alltempo", [], tmp_path, tmp_path))
    there = {path.relative_to(tmp_path / "alltempo").as_posix() for path in (tmp_path / "alltempo").rglob("*.*")}
    expected = {one["path"] for one in tree if one["path"].endswith(alltempo.ANNOTATIONS)} - {"../evil.bpm"}
    assert {name for name in there if (tmp_path / "alltempo" / name).is_file()} == expected
    server.files[f"/{alltempo.REPOSITORY}/HEAD/gtzan/gtzan_tempo_beat/tempo/gtzan_blues_00000.bpm"] = b"61"
    (tmp_path / "alltempo/gtzan/gtzan_tempo_beat/tempo/gtzan_blues_00000.bpm").unlink()
    with pytest.raises(DataError, match="is not the file it should be"):
        alltempo.fetch(alltempo.Config(), tmp_path)
    server.files[listing] = json.dumps({"tree": [], "truncated": True}).encode()
    with pytest.raises(DataError, match="GitHub does not list its files; clone it"):
        alltempo.fetch(alltempo.Config(), tmp_path)
