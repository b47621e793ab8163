"""Votes of frames: who votes, on what they are fitted, under which noise."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_class_evals import IMAGES, TONES, judged
from test_features import made

from datasets.base import Spec
from datasets.config import ConfigError
from trainables.core.evaluate import evaluate
from trainables.evals import base, frame_votes
from trainables.evals._labelled import Labelled
from trainables.evals.base import Request
from trainables.evals.features import CheckpointSubject

STEADY = {**TONES, "data": {"name": "made.tones", "limit": 60, "tones": 1}}  # each frame knows its item's pitch


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    forms = {"sound": TONES, "steady": STEADY, "images": IMAGES}
    return {name: made(config, tmp_path_factory.mktemp(name)) for name, config in forms.items()}


@pytest.mark.parametrize(("of", "code", "strengths"), [("steady", "bac", (20, -20)), ("images", "fli", (1,))])
def test_votes(of: str, code: str, strengths: tuple[float, ...], checkpoints: dict[str, Path], tmp_path: Path) -> None:
    factor = "pitch" if of == "steady" else "class"
    options = {
        "factor": factor,
        "noise": code,
        "strengths": strengths,
        "probe": "ridge",
        "parts": ("module0", "module1"),
    }
    result = judged(checkpoints[of], tmp_path, "frame_votes", **options)
    names = {name.rsplit("/", 1)[1] for name in result.metrics}
    assert {f"top1_{code}_{strength}" for strength in strengths} < names
    assert all(0 <= value <= 1 for name, value in result.metrics.items() if "auc" in name or "top1" in name)
    assert base.direction(frame_votes, "all/val/top1_bac_-10") == base.direction(frame_votes, "a/val/top1") == "max"
    for part in ("module0", "module1"):
        assert result.metrics[f"{part}/val/top1"] > result.metrics[f"{part}/val/chance"]
    if of == "steady":
        assert result.metrics["module1/val/top1_bac_20"] > result.metrics["module1/val/top1_bac_-20"]
        assert result.metrics["module1/val/top1_bac_-20"] < result.metrics["module1/val/top1"]
        judged(checkpoints[of], tmp_path / "b", "frame_votes", factor=factor, parts=("*",), probe="ridge")


@pytest.mark.parametrize("frames", [None, 5, 1000])
def test_votes_are_learned_from_a_few_frames_of_each_item(
    frames: int | None, checkpoints: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted: list[Labelled] = []
    fit = frame_votes._probe.fit

    def watched(cfg: Any, train: Labelled, *rest: Any) -> Any:
        fitted.append(train)
        return fit(cfg, train, *rest)

    monkeypatch.setattr(frame_votes._probe, "fit", watched)
    subject = CheckpointSubject(checkpoints["sound"], None, tmp_path)
    options = {"factor": "pitch", "parts": ["module1"], "probe": "ridge", "limit": 20, "frames": frames}
    for _ in range(2):
        evaluate(subject, "frame_votes", options)
    whole = subject.features(Request("train", limit=20, part="module1", pool="frames"))
    x, y = frame_votes.smoothed(whole.parts["module1"], 3), whole.labels["pitch"]
    count = min(frames or 1000, x.shape[1])
    one, two = fitted
    assert torch.equal(one.x, two.x) and torch.equal(one.row, torch.arange(20).repeat_interleave(count))
    assert torch.equal(one.y, y[one.row]) and torch.equal(one.owner, whole.owner[one.row])
    for number in range(20):
        rows = one.x[one.row == number]
        place = (rows[:, None] == x[number]).all(-1).nonzero()[:, 1]
        assert place.tolist() == sorted(set(place.tolist())) and len(place) == count
    assert frame_votes.Config().limit == 500 and frame_votes.Config().frames == 64


def test_silent_frames_are_left_out(checkpoints: dict[str, Path], tmp_path: Path) -> None:
    """Two thirds of each sound are silence; of the rest the last tone's frames are the loudest third of all frames."""
    data = {"name": "made.tones", "limit": 60, "samples": 3900, "silence": 2600}
    subject = CheckpointSubject(checkpoints["sound"], None, tmp_path).on(data)
    options = {"factor": "pitch", "parts": ["module1"], "noise": "whi", "strengths": [0.001]}
    every, some = (
        evaluate(subject, "frame_votes", {**options, "quiet": quiet}).metrics for quiet in (0, 0.01)
    )  # fmt: skip
    chance = every["module1/test/chance"]
    assert every["module1/test/top1"] < chance + 0.1, "silence has the majority"
    for name in ("top1", "top1_whi_0.001"):
        assert some[f"module1/test/{name}"] > chance + 0.2, name
    assert some["module1/test/frame_top1"] > every["module1/test/frame_top1"]


def test_which_frames_are_heard() -> None:
    x = torch.cat([torch.full((1, 1, 40), 0.5), torch.full((1, 1, 40), 0.05), torch.zeros(1, 1, 20)], 2)
    assert frame_votes.heard(x, 5, 0.0).all() and frame_votes.heard(torch.zeros(2, 1, 9), 3, 0.5).all()
    assert frame_votes.heard(x, 5, 0.005).tolist() == [[True, True, True, True, False]]
    assert frame_votes.heard(x, 5, 0.02).tolist() == [[True, True, False, False, False]]
    scores = torch.tensor([[[0, 4.0], [0, 4], [3, 0], [2, 0], [1, 0]]])
    for mask, winner, right in ((torch.tensor([[1, 1, 1, 0, 0]]), 1, 2 / 3), (torch.ones(1, 5), 0, 2 / 5)):
        votes = frame_votes.poll(scores, mask.bool())
        alone = scores[:, mask[0].bool()].double().softmax(-1)
        assert votes.winner.tolist() == [winner]
        torch.testing.assert_close(votes.variance, alone.var(1, correction=0).mean(1))
        assert frame_votes.measure(votes, torch.tensor([1]))["frame_top1"] == pytest.approx(right)


def test_the_most_frames_win_and_the_more_probable_class_of_equals() -> None:
    scores = torch.tensor([[[5.0, 0, 0], [0, 0.1, 0], [0, 0.1, 0]], [[9.0, 0, 0], [0, 1, 0], [0, 0, 8]]])
    votes = frame_votes.poll(scores)
    assert votes.winner.tolist() == [1, 0]
    expected = scores.double().softmax(-1).numpy().var(axis=1).mean(axis=1)
    np.testing.assert_allclose(votes.variance, expected)
    found = frame_votes.measure(votes, torch.tensor([1, 2]))
    assert (found["top1"], found["variance_auc"]) == (0.5, 1.0) and found["frame_top1"] == 0.5
    assert [found["variance_right"], found["variance_wrong"]] == pytest.approx(expected.tolist())
    assert frame_votes.measure(votes, torch.tensor([1, 0]))["variance_wrong"] == 0


def test_moving_means() -> None:
    x = torch.arange(6.0).view(1, 6, 1) ** 2
    assert frame_votes.smoothed(x, 3)[0, :, 0].tolist() == pytest.approx([0.5, 5 / 3, 14 / 3, 29 / 3, 50 / 3, 20.5])
    assert torch.equal(frame_votes.smoothed(x, 1), x)
    square = frame_votes.smoothed(torch.arange(9.0).view(1, 9, 1), 3, (3, 3))
    assert square[0, 4, 0] == 4 and square[0, 0, 0] == 2, "of four cells in the corner"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"factor": "phone"}, "'phone' is labelled per frame; an item has no class of its own"),
        ({"noise": "bak"}, "'bak': no such transform; did you mean 'bac'"),
        ({"noise": "fli"}, "'fli' needs images"),
        ({"factor": "clas"}, "did you mean 'class'"),
        ({"noise": "whi", "strengths": (0.1, -10)}, "strengths: 'whi' has no negative deviation (got -10)"),
        ({"noise": "bac", "strengths": (0, 1000)}, "strengths: 'bac' is of -60 to 60 dB (got 1000)"),
        ({"noise": "loud"}, "'loud': no such transform"),
        ({"strengths": (1,)}, "strengths: are of a noise; set it too"),
        ({"quiet": 0.1, "shape": (3, 8, 8)}, "quiet: is of sound; leave it out"),
    ],
)
def test_votes_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    shape = options.pop("shape", (1, 1000))
    spec = Spec(shape=shape, labels={"class": 3, "phone": 5}, frames={"phone": 10})
    with pytest.raises(ConfigError, match=f"^frame_votes: .*{re.escape(message)}"):
        base.check(frame_votes, frame_votes.Config(**options), spec, {"all": 4}, {"frames": ()})
    with pytest.raises(ConfigError, match="needs 'frames' capability"):
        base.check(frame_votes, frame_votes.Config(), spec, {"all": 4}, {})
    with pytest.raises(ValueError, match="must be odd"):
        frame_votes.Config(smooth=4)
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="finite number"):
            frame_votes.Config(noise="bac", strengths=(wrong,))


def test_strengths_are_in_the_unit_of_the_noise() -> None:
    spec = Spec(shape=(1, 1000), labels={"class": 3}, rate=16_000)
    for noise, expected in (("bac", [-10, -5, 0, 5, 10, 15, 20]), ("whi", [0.001, 0.003, 0.01, 0.03, 0.1])):
        cfg = frame_votes.Config(noise=noise)
        found = base.check(frame_votes, cfg, spec, {"all": 4}, {"frames": ()})
        assert [float(name.rsplit("_", 1)[1]) for name in found if name.startswith(f"all/val/top1_{noise}")] == expected
        asked = [request.strength for request in frame_votes.requests(cfg, spec) if request.split == "val"]
        assert asked == [None, *expected]
    seen = Spec(shape=(3, 16, 16), labels={"class": 3})
    with pytest.raises(ConfigError, match="strengths: 'rot' has none of its own; name them"):
        base.check(frame_votes, frame_votes.Config(noise="rot"), seen, {"all": 4}, {"frames": ()})
