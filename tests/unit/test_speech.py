"""Speech data sets: their layouts and splits, synthesised words, and words cut into syllables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from opened import every, one_line, rng, whole
from scipy.linalg import solve_toeplitz
from scipy.signal import resample_poly

from datasets import _sound, deboer
from datasets._sound import FRAME, RATE
from datasets._syllables import SplitConfig, cuts, fitted, split, write_syllables
from datasets.base import SPLITS, DataError, Split
from datasets.config import ConfigError, parse
from datasets.synth import speech
from sweep.tools import render_data

EVERY: tuple[Split, ...] = SPLITS


pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture(scope="module")
def spoken() -> speech.Spoken:
    return speech.speak(np.arange(0, 729, 9), np.zeros(81, int))


# -- synthesis ------------------------------------------------------------------------------------------------------


def formants(x: np.ndarray) -> np.ndarray:
    """Resonances in Hz of a stretch of voice, by linear prediction up to 4 kHz."""
    x = resample_poly(x, 1, 2)
    x = np.append(x[0], x[1:] - 0.95 * x[:-1]) * np.hamming(len(x))
    r = np.correlate(x, x, "full")[len(x) - 1 :][:9]
    roots = np.roots(np.concatenate([[1], -solve_toeplitz(r[:8], r[1:])]))
    roots = roots[(roots.imag > 0) & (-np.log(np.abs(roots)) * RATE / 2 / np.pi < 500)]
    return np.sort(np.angle(roots)) * RATE / 2 / (2 * np.pi)


def test_vowels_resound_where_their_labels_say(spoken: speech.Spoken) -> None:
    for word in range(len(spoken.x)):
        for place in range(3):
            _, vowel, end = spoken.timing[word, place]
            found = formants(spoken.x[word, vowel + speech.GLIDE : end - speech.FADE])
            for wanted in spoken.formants[word, place, :2]:
                assert np.abs(found - wanted).min() < 0.08 * wanted, (word, place, wanted, found)


def test_voices_have_the_pitch_that_their_labels_say(spoken: speech.Spoken) -> None:
    assert spoken.f0.min() > 100 and spoken.f0.max() < 140
    for word in range(0, 81, 4):
        _, vowel, end = spoken.timing[word, 1]
        x = spoken.x[word, vowel + speech.GLIDE : end - speech.FADE]
        periods = np.correlate(x, x, "full")[len(x) - 1 :] / np.arange(len(x), 0, -1)
        found = RATE / (100 + np.argmax(periods[100:180]))  # 89 to 160 Hz
        assert abs(found - spoken.f0[word, 1]) < 2


def test_consonants_differ_by_their_bursts() -> None:
    bababa, dadada, gagaga = (speech.WORDS.index(word) for word in ("bababa", "dadada", "gagaga"))
    words = speech.speak(np.repeat([bababa, dadada, gagaga], 10), np.tile(np.arange(10), 3))
    centres = []
    for word in range(30):
        vowel = words.timing[word, 1, 1]
        power = np.abs(np.fft.rfft(words.x[word, vowel - 160 : vowel])) ** 2
        centres.append((power * np.fft.rfftfreq(160, 1 / RATE)).sum() / power.sum())
    low, high, middle = np.array(centres).reshape(3, 10)
    assert low.max() < middle.min() and middle.max() < high.min()


def test_a_word_follows_from_its_seed_number_and_take_alone(spoken: speech.Spoken) -> None:
    some = speech.speak(np.array([45, 18]), np.array([0, 0]))
    assert np.array_equal(some.x, spoken.x[[5, 2]]) and np.array_equal(some.timing, spoken.timing[[5, 2]])
    others = [speech.speak(np.array([45]), np.array([take]), seed).x for take, seed in ((1, 0), (0, 1))]
    assert not np.array_equal(others[0], others[1]) and not np.array_equal(others[0][0], some.x[0])


def test_phones_are_silent_or_spoken(spoken: speech.Spoken) -> None:
    phones = speech.phones(spoken.syllables, spoken.timing, 64, FRAME)
    assert set(np.unique(phones)) == {-1, 0, 1, 2, 3, 4, 5}
    level = np.square(spoken.x.reshape(-1, 64, FRAME)).mean(2) ** 0.5
    assert level[phones >= 3].mean() > 10 * level[phones == -1].mean()
    for word, name in ((0, "bababa"), (80, "guguba")):
        order = [int(phone) for phone in phones[word] if phone >= 0]
        runs = [phone for place, phone in enumerate(order) if place == 0 or phone != order[place - 1]]
        assert "".join((speech.CONSONANTS + speech.VOWELS)[phone] for phone in runs) == name == speech.WORDS[9 * word]


# -- Artificial Speech ----------------------------------------------------------------------------------------------


def test_words_are_synthesised_where_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = every(deboer, tmp_path)
    assert [len(source) for source in sources.values()] == [526, 58, 145]
    spec = sources["train"].spec
    assert spec.shape == (1, 10_240) and spec.rate == 16_000 and spec.labels == {"word": 729, "phone": 6}
    assert spec.params == {"f0": 3, "formants": 9, "timing": 9} and spec.frames == {"phone": 160}
    assert spec.note.startswith("synthesised words, not Artificial Speech")
    words = [set(whole(source)[1]["word"].tolist()) for source in sources.values()]
    assert sum(map(len, words)) == len(set.union(*words)) == 729
    monkeypatch.setattr(speech, "speak", lambda *arguments: pytest.fail("synthesised again"))
    again = deboer.open(deboer.Config(source="synthetic"), None, "train")
    assert again.spec.note == "" and again.spec.fingerprint == spec.fingerprint


def test_synthesised_syllables_are_their_words_in_pieces(tmp_path: Path) -> None:
    words, syllables = (every(deboer, tmp_path, items=items)["val"] for items in ("words", "syllables"))
    assert len(syllables) == 3 * len(words)
    x, labels = whole(words)
    params = words.fetch(torch.arange(len(words)), rng()).params["timing"][0].reshape(-1, 3, 3).long()
    pieces = syllables.fetch(torch.arange(len(syllables)), rng())
    for item in range(0, len(syllables), 5):
        word, place = divmod(item, 3)
        begin = int(params[word, place, 0])
        end = int(params[word, place + 1, 0]) if place < 2 else 10_240
        assert torch.equal(pieces.views[0][item, 0, : end - begin], x[word, begin:end])
        assert not pieces.views[0][item, 0, end - begin :].any()
        name = speech.WORDS[int(labels["word"][word])][2 * place : 2 * place + 2]
        assert speech.SYLLABLES[int(pieces.labels["syllable"][item])] == name
        assert speech.VOWELS[int(pieces.labels["vowel"][item])] == name[1]
        assert speech.CONSONANTS[int(pieces.labels["consonant"][item])] == name[0]
        timing = pieces.params["timing"][0, item]
        assert timing.tolist() == (params[word, place] - begin).tolist()
        vowel = pieces.labels["phone"][item] == 3 + pieces.labels["vowel"][item]
        assert abs(int(vowel.sum()) * FRAME - int(timing[2] - timing[1])) <= FRAME


def test_evaluations_after_words_see_syllables_of_the_same_length() -> None:
    cfg = deboer.evaluated(deboer.Config(source="synthetic"))
    source = deboer.open(cfg, None, "val")
    assert cfg.items == "syllables" and source.spec.shape == (1, 10_240) and "vowel" in source.spec.labels
    assert deboer.evaluated(cfg) == cfg
    same = deboer.Config(evaluate="words")
    assert deboer.evaluated(same) == same


def speak_files(root: Path, words: list[str], part: str, take: int = 1, rate: int = 44_100) -> None:
    """Synthesised words as files in the layout of the set."""
    numbers = np.array([speech.WORDS.index(word) for word in words])
    for name, x in zip(words, speech.speak(numbers, np.full(len(words), take)).x, strict=True):
        path = root / "corpus" / "reshuffledv2" / part / f"{name}_{take}.wav"
        _sound.write(path, _sound.resample(torch.from_numpy(x), RATE, rate).numpy(), rate)


def test_words_of_a_folder(tmp_path: Path) -> None:
    names = list(speech.WORDS[::12])
    speak_files(tmp_path / "deboer", names[:50], "train")
    speak_files(tmp_path / "deboer", names[:5], "train", take=2)
    speak_files(tmp_path / "deboer", names[50:], "test")
    sources = every(deboer, tmp_path, val_fraction=0.2)
    assert sources["train"].spec.note == "55 of 680 training words present"
    assert sources["test"].spec.note == "11 of 171 test words present"
    words = {one: whole(source)[1]["word"].tolist() for one, source in sources.items()}
    assert [len(set(found)) for found in words.values()] == [40, 10, 11]
    assert not set(words["train"]) & set(words["val"]), "both takes of a word are on one side"
    x = whole(sources["test"])[0]
    expected = speech.speak(np.array([speech.WORDS.index(names[50])]), np.array([1])).x[0]
    assert torch.nn.functional.cosine_similarity(x[0], torch.from_numpy(expected), 0) > 0.99


def test_what_is_wrong_with_a_folder_is_one_line(tmp_path: Path) -> None:
    text = one_line(deboer, tmp_path, source="files")
    assert "'split up data padded'" in text and "sweep data deboer --set source=files" in text
    assert "--data-root" in one_line(deboer, None, source="files")
    speak_files(tmp_path, ["babibu"], "test")
    assert "no file such as babibu_1.wav" in one_line(deboer, tmp_path)
    speak_files(tmp_path, ["babibu"], "train")
    assert "too few words for a split 'train'" in one_line(deboer, tmp_path)
    text = one_line(deboer, tmp_path, items="syllables")  # never silently another set
    assert "no file such as babibu_1_1_ba.wav" in text and "--render WORDS DIR" in text
    (tmp_path / "corpus/reshuffledv2/train/bababa_1.wav").write_text("torn")
    assert "bababa_1.wav: damaged" in one_line(deboer, tmp_path)


def test_few_labels(tmp_path: Path) -> None:
    chosen: dict[int, set[bytes]] = {}
    for count in (1, 4, 32):
        source = deboer.open(deboer.Config(source="synthetic", items="syllables", per_class=count), None, "train")
        x, labels = whole(source)
        assert labels["syllable"].bincount().tolist() == [count] * 9
        chosen[count] = {row.numpy().tobytes() for row in x}
    assert chosen[1] < chosen[4] < chosen[32]
    test = deboer.open(deboer.Config(source="synthetic", items="syllables", per_class=1), None, "test")
    assert len(test) == 435
    limited = deboer.open(deboer.Config(source="synthetic", items="syllables", limit=90), None, "train")
    assert whole(limited)[1]["syllable"].bincount().min() >= 8


def test_real_artificial_speech(data_root: Path) -> None:
    words = every(deboer, data_root, source="files")
    assert len(words["train"]) + len(words["val"]) == 120 and len(words["test"]) == 40
    x = torch.cat([whole(words[one])[0] for one in ("train", "val")])
    assert abs(x.mean()) < 1e-4 and abs(x.std() - 0.109) < 0.01
    syllables = every(deboer, data_root, source="files", items="syllables")
    assert syllables["test"].spec.shape == (1, 8821)
    labels = torch.cat([whole(syllables[one])[1]["syllable"] for one in ("train", "val")])
    assert labels.bincount().tolist() == [50] * 9
    assert whole(syllables["test"])[1]["syllable"].bincount().tolist() == [10] * 9
    held_out = [set(whole(one["val"])[1]["word"].tolist()) for one in (words, syllables)]
    assert len(held_out[0]) == 12 and len(held_out[1]) == 36


# -- syllables ------------------------------------------------------------------------------------------------------


def test_words_are_cut_where_a_syllable_ends(spoken: speech.Spoken) -> None:
    """Exact timing is known: cuts lie between a vowel's end and the next one; a loud burst in a quiet word deceives."""
    window = RATE // 44  # the loudest of a window falls by so much before the sound does
    found = [cuts(np.pad(x, (0, 2400)).astype(float), window) for x in spoken.x]
    told = [word for word, cut in enumerate(found) if cut]
    assert len(told) >= 0.9 * len(found)
    right = [
        spoken.timing[word, place, 2] - speech.FADE - window <= cut <= spoken.timing[word, place + 1, 1]
        for word in told
        for place, cut in enumerate(found[word] or ())
    ]
    assert np.mean(right) > 0.75


def test_pieces_are_the_word(spoken: speech.Spoken) -> None:
    y = np.pad(spoken.x[0], (0, 2400)).astype(float)
    pieces = split(y, RATE)
    assert pieces and len(pieces) == 3 and np.array_equal(np.concatenate(pieces), y)


@pytest.mark.parametrize("y", [np.zeros(3000), np.ones(3000), np.zeros(10)], ids=["silence", "constant", "short"])
def test_what_cannot_be_told_is_skipped(y: np.ndarray) -> None:
    assert split(y, 8000) is None


def test_pieces_are_brought_to_one_length() -> None:
    pieces = [np.arange(1.0, 4), np.arange(1.0, 9), np.arange(1.0, 7)]
    padded, cut = fitted(pieces, "pad"), fitted(pieces, "crop")
    assert padded[0].tolist() == [0, 0, 1, 2, 3, 0, 0, 0] and padded[2].tolist() == [0, 1, 2, 3, 4, 5, 6, 0]
    assert [piece.tolist() for piece in cut] == [[1, 2, 3], [3, 4, 5], [2, 3, 4]]


def tones(folder: Path, names: list[str], take: int = 1) -> None:
    """Words of three tones, 120, 150 and 100 ms, with 60 ms of silence behind each, at 44.1 kHz."""
    for number, name in enumerate(names):
        parts = [np.sin(0.02 * (number + 3) * np.arange(int(44_100 * seconds))) for seconds in (0.12, 0.15, 0.1)]
        x = np.concatenate([np.pad(0.5 * part, (0, 2646)) for part in parts])
        _sound.write(folder / f"{name}_{take}.wav", x, 44_100)


@pytest.mark.parametrize(("by", "tested"), [("take", 2), ("folder", 3), ("random", 2)])
def test_a_set_of_syllables_is_written(tmp_path: Path, by: str, tested: int) -> None:
    names = list(speech.WORDS[::90])
    words = tmp_path / "words"
    tones(words / "train", names[:5])
    tones(words / "train", names[:2], take=2)
    tones(words / "test", names[6:])
    (words / "train" / "notes.wav").write_text("not a word")
    lines = list(render_data("deboer", [f"by={by}", "seed=3"], str(words), tmp_path / "out"))
    assert lines[0] == "10 words to cut at 22,050 Hz"
    assert f"{30 - 3 * tested} syllables in train, {3 * tested} in test" in lines[1]
    folder = tmp_path / "out" / "corpus" / "split up data padded"
    stems = {part: {path.name[:8] for path in (folder / part).glob("*.wav")} for part in ("train", "test")}
    assert len(stems["test"]) == tested and not stems["train"] & stems["test"]
    sources = every(deboer, tmp_path / "out", items="syllables")
    assert sum(map(len, sources.values())) == 30
    for path in folder.glob("*/*.wav"):
        _, _, place, syllable = path.stem.split("_")
        assert syllable == path.stem[2 * int(place) - 2 : 2 * int(place)]
        x, rate = soundfile.read(path)
        lasts = np.square(x).sum() / (0.5**2 / 2) / rate
        assert rate == 22_050 and abs(lasts - (0.12, 0.15, 0.1)[int(place) - 1]) < 0.01
    with pytest.raises(DataError, match="is there already"):
        list(write_syllables(SplitConfig(), words, folder))


def test_a_folder_without_words_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no word such as babibu_1\.wav"):
        list(write_syllables(SplitConfig(), tmp_path, tmp_path / "out"))
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match=r"render\.fit"):
        parse(SplitConfig, {"fit": "stretch"}, "render")


def test_the_published_syllables_come_out_of_the_published_words(data_root: Path, tmp_path: Path) -> None:
    """Their test syllables are cut from second takes, though their names say `_1_`."""
    corpus = data_root / "deboer" / "corpus"
    list(write_syllables(SplitConfig(), corpus / "reshuffledv2", tmp_path / "out"))
    same = []
    for path in sorted((tmp_path / "out" / "test").glob("*.wav")):
        published = corpus / "split up data padded" / "test" / path.name.replace("_2_", "_1_", 1)
        if published.exists():
            ours, theirs = soundfile.read(path)[0], soundfile.read(published)[0]
            same.append(len(ours) == len(theirs) == 12_156 and np.corrcoef(ours, theirs)[0, 1] > 0.999)
    assert len(same) >= 15 and np.mean(same) > 0.9
