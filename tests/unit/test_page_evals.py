"""Evaluations of content and style where the answer is known: retrieval, codebooks, and on a trained V3."""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from analysis import runs
from datasets.base import Spec
from datasets.config import ConfigError
from trainables.core import state
from trainables.core.config import resolve
from trainables.core.evaluate import evaluate
from trainables.core.fit import fit
from trainables.core.method import Method
from trainables.evals import _codes, _files, _ranking, base, codebook, latent_space, part_retrieval
from trainables.evals._fragments import FragmentsConfig, gathered, limit, spread
from trainables.evals.base import Features, Request, Result
from trainables.evals.features import CheckpointSubject

PAGES = Spec(shape=(4, 3), labels={"content": 6, "style": 3, "cap": 2, "age": 0}, frames={"content": 1}, fragments=4)
WIDTHS = {"content": 6, "style": 3, "all": 9}
ABLE = {"frames": tuple(f"{part}=4" for part in WIDTHS), "quantise": ()}


# -- rows -----------------------------------------------------------------------------------------------------------


class Pages(Method):
    """Nothing but its parts and places; a codebook of the unit vectors, content 2 times 3."""

    parts = WIDTHS
    places = dict.fromkeys(WIDTHS, (4,))

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def frames(self, x: Tensor, rng: torch.Generator | None = None) -> dict[str, Tensor]:
        z = x.repeat(1, 1, 3)
        return {"content": z[..., :6], "style": z[..., 6:], "all": z}

    def codebook(self) -> Tensor:
        return torch.eye(6)

    def codes_of(self, content: Tensor) -> Tensor:
        return content.argmax(-1)

    def spoken(self, codes: Tensor, style: Tensor) -> Tensor:
        return style


class Known:
    """Pages whose parts say exactly content and style (`blind`: noise); `still` pages are the same in every pass."""

    spec = PAGES

    def __init__(self, folder: Path, blind: bool = False, still: int = 0, pages: int = 60) -> None:
        self.method, self.out, self.cache = Pages(), folder, folder
        self.blind, self.still, self.pages = blind, still, pages
        self.asked: list[Request] = []

    def features(self, request: Request) -> Features:
        self.asked.append(request)
        n = min(request.limit or self.pages, self.pages)
        rng = np.random.default_rng([len(request.split), request.take])
        content = torch.from_numpy(rng.integers(6, size=(n, 4)))
        noise = torch.from_numpy(rng.normal(size=(n, 4, 9))).float()
        kept = torch.from_numpy(np.random.default_rng(len(request.split)).integers(6, size=(n, 4)))
        content[: self.still] = kept[: self.still]
        noise[: self.still] = 0
        style = torch.arange(n) % 3
        one_hot = torch.nn.functional.one_hot
        z = torch.cat([one_hot(content, 6), one_hot(style, 3)[:, None].expand(-1, 4, -1)], 2).float()
        z = noise if self.blind else z + 0.01 * noise
        parts = {"content": z[..., :6], "style": z[..., 6:], "all": z}
        labels = {"content": content, "style": style, "cap": torch.arange(n) % 2, "age": torch.rand(n)}
        return Features({request.part: parts[request.part]} if request.part else parts, labels, {}, {}, torch.arange(n))

    def inputs(self, request: Request) -> Tensor:
        return torch.rand(min(request.limit or self.pages, self.pages), 4, 3)

    def normalized(self, inputs: Tensor) -> Tensor:
        return inputs

    def on(self, data: dict[str, Any]) -> Known:
        return self


def run(module: ModuleType, subject: Known, **options: Any) -> Result:
    result: Result = module.run(subject, module.Config(**options), np.random.default_rng(0), {})
    return result


def test_fragments_are_rows_with_the_labels_of_their_pages(tmp_path: Path) -> None:
    subject = Known(tmp_path)
    rows = gathered(subject, FragmentsConfig(passes=1, fragments=40), "val", ["content", "style"])
    features = subject.features(Request("val", limit=10))
    assert rows.parts["content"].shape == (40, 6)
    assert torch.equal(rows.parts["style"].view(10, 4, 3), features.parts["style"])
    assert torch.equal(rows.labels["content"], features.labels["content"].flatten())
    assert rows.labels["style"].tolist() == [page % 3 for page in range(10) for _ in range(4)]
    assert torch.equal(rows.labels["page"], rows.index) and rows.index.tolist() == [
        p for p in range(10) for _ in range(4)
    ]
    assert {request.limit for request in subject.asked} == {10}
    assert set(spread({"a": torch.zeros(2), "b": torch.zeros(2, 3), "c": torch.zeros(2, 4)}, 4)) == {"a", "c"}


def test_five_passes_over_pages_that_do_not_hold_all_contents(tmp_path: Path) -> None:
    subject = Known(tmp_path, still=20)
    rows = gathered(subject, FragmentsConfig(fragments=None), "val", ["content", "style"])
    assert {request.take for request in subject.asked} == set(range(5))
    assert len(rows.index) == 4 * (60 + 4 * 40), "pages that are as before are taken once"
    assert rows.index[:240].tolist() == [page for page in range(60) for _ in range(4)]
    assert rows.index[240:400].tolist() == [page for page in range(20, 60) for _ in range(4)]
    whole = dataclasses.replace(PAGES, labels={**PAGES.labels, "content": 4})
    assert FragmentsConfig().drawn(whole) == 1 and FragmentsConfig(passes=2).drawn(whole) == 2
    assert limit(PAGES, FragmentsConfig(fragments=600), fragments=True) == 600 // (4 * 5)
    assert limit(PAGES, FragmentsConfig(fragments=600, limit=7), fragments=True) == 7
    assert limit(PAGES, FragmentsConfig(fragments=None), fragments=True) is None


# -- ranking --------------------------------------------------------------------------------------------------------


def test_five_rows_on_a_line_by_hand() -> None:
    """0 and 1 of class 0, 3 and 4.5 of class 1, and one at 2 of neither."""
    x = torch.tensor([[0.0], [1.0], [2.0], [3.0], [4.5]])
    y = torch.tensor([0, 0, -1, 1, 1])
    found = _ranking.curves(x, {"y": y}, {"y": [1, 2, 4, 9]})["y"]
    # ranks of the one hit: 1; 1 (0 and 2 are as far, the first row comes first); 2 (2 is nearer than 4.5); 1
    assert found.ks.tolist() == [1, 2, 4]
    assert found.precision.tolist() == pytest.approx([3 / 4, 1 / 2, 1 / 4])
    assert found.recall.tolist() == pytest.approx([3 / 4, 1, 1])
    assert found.f1.tolist() == pytest.approx([3 / 4, 2 / 3, 2 / 5])
    assert found.auc == pytest.approx(1 / 4 * 1 / 2) and found.best_f1 == pytest.approx(3 / 4)
    old = _ranking.curves(x, {"y": y}, {"y": [1, 2, 9]}, old=True)["y"]
    assert old.ks.tolist() == [1, 2], "numbers beyond the rows are left out"
    assert old.precision.tolist() == pytest.approx([0, 3 / 8]) and old.recall.tolist() == pytest.approx([0, 3 / 4])
    assert _ranking.chance(y, found.ks) == pytest.approx(1 / 4 * 3 / 4), "hits are a quarter, and recall grows by k / 4"
    assert _ranking.chance(y, old.ks, old=True) == pytest.approx(1 / 4 * 1 / 4 * 1 / 2)


def test_ranking_does_not_depend_on_blocks_scale_or_place(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = torch.Generator().manual_seed(0)
    half = torch.randint(-3, 4, (75, 2), generator=rng).float()
    x, y = torch.cat([half, -half]), torch.randint(4, (150,), generator=rng)  # of mean 0, with many equal distances
    labels, ks = {"y": y, "all": torch.zeros_like(y)}, {"y": _ranking.adaptive(y), "all": [3]}
    whole = _ranking.curves(x, labels, ks)
    assert whole["all"].precision.tolist() == [1] and whole["all"].recall.tolist() == pytest.approx([3 / 149])
    apart = torch.cdist(x.double(), x.double()).square().round().fill_diagonal_(torch.inf)
    order = apart.argsort(dim=1, stable=True)[:, :-1]  # of equal ones the first
    hits = (y[order] == y[:, None]).double().cumsum(1)
    expected = [float((hits[:, k - 1] / k).mean()) for k in whole["y"].ks]
    assert whole["y"].precision.tolist() == pytest.approx(expected)
    monkeypatch.setattr(_ranking, "KEYS", 1000)
    for other in (x, 2.0**-70 * x, 2.0**70 * x, x + 8):
        assert _ranking.curves(other, labels, ks)["y"].precision.tolist() == pytest.approx(expected)


def test_the_equal_error_rate_by_hand() -> None:
    apart = torch.tensor([1.0, 2, 3, 4, 5, 6])
    assert _ranking.equal_error_rate(apart, torch.tensor([1, 1, 1, 0, 0, 0]).bool()) == 0
    assert _ranking.equal_error_rate(apart, torch.tensor([1, 1, 0, 1, 0, 0]).bool()) == pytest.approx(1 / 3)
    assert _ranking.equal_error_rate(torch.ones(4), torch.tensor([1, 0, 0, 0]).bool()) == 0.5, "nothing is told"
    assert _ranking.equal_error_rate(apart, torch.ones(6).bool()) == 0.5
    x, y = torch.tensor([[0.0], [0.1], [5.0], [5.1], [2.0]]), torch.tensor([0, 0, 1, 1, -1])
    assert _ranking.error_rate_of(x, y) == 0
    assert _ranking.error_rate_of(x, torch.full((5,), -1)) == 0.5


def test_the_numbers_k_are_capped_and_counted_once() -> None:
    assert _ranking.within([1, 5, 100, 200], 21, old=False) == [1, 5, 20]
    assert _ranking.within([1, 5, 100, 200], 21, old=True) == [1, 5]
    assert _ranking.adaptive(torch.tensor([0, 1, -1, -1])) == [1]
    assert _ranking.adaptive(torch.zeros(11, dtype=torch.long))[:6] == [1, 2, 3, 4, 5, 8]


# -- part_retrieval -------------------------------------------------------------------------------------------------


def test_parts_that_are_perfect_and_parts_that_say_nothing(tmp_path: Path) -> None:
    blind = run(part_retrieval, Known(tmp_path, blind=True)).metrics
    perfect = run(part_retrieval, Known(tmp_path), more=("cap", "page"))
    for split in ("val", "test"):
        found = {name: value for name, value in perfect.metrics.items() if f"/{split}/" in name}
        assert found[f"content/{split}/f1"] > 0.98 and found[f"style/{split}/f1"] > 0.98
        assert found[f"content/{split}/auc"] > 0.95 and found[f"style/{split}/auc"] > 0.95
        assert found[f"content/{split}/eer"] == 0 == found[f"style/{split}/eer"]
        for part in ("content", "style"):
            assert found[f"{part}/{split}/crossed_auc"] == pytest.approx(
                found[f"{part}/{split}/crossed_chance"], abs=0.05
            )
        mean = (
            sum(found[f"{part}/{split}/auc"] - found[f"{part}/{split}/crossed_auc"] for part in ("content", "style"))
            / 2
        )
        assert found[f"all/{split}/disentangled"] == pytest.approx(mean) and mean > 0.6
        assert abs(blind[f"all/{split}/disentangled"]) < 0.02
        assert blind[f"content/{split}/auc"] == pytest.approx(blind[f"content/{split}/chance"], abs=0.03)
        assert blind[f"style/{split}/eer"] == pytest.approx(0.5, abs=0.05)
        assert found[f"style/{split}/cap_chance"] == pytest.approx(0.25, abs=0.01), "a half, and so is the recall"
    with perfect.artifacts["retrieval_style_val.csv"].open() as file:
        table = list(csv.DictReader(file))
    assert {row["factor"] for row in table} == {"content", "style", "cap", "page"}
    best = max(float(row["f1"]) for row in table if row["factor"] == "style")
    assert best == perfect.metrics["style/val/f1"]
    assert Image.open(perfect.artifacts["retrieval_style_val.png"]).width > 300


def test_pages_are_the_style_where_there_is_none(tmp_path: Path) -> None:
    subject = Known(tmp_path)
    subject.spec = dataclasses.replace(PAGES, labels={"content": 6}, frames={"content": 1})
    found = run(part_retrieval, subject, parts=("style",), passes=1).metrics
    assert found["style/val/chance"] == pytest.approx(3 / 239 * 238 / 239)
    named = run(part_retrieval, Known(tmp_path), parts=("style",), passes=1, style="page").metrics
    assert found == named


def test_the_published_form_scores_less(tmp_path: Path) -> None:
    new, old = (run(part_retrieval, Known(tmp_path), protocol=protocol).metrics for protocol in ("new", "old"))
    assert old["content/val/f1"] < new["content/val/f1"] and old["content/val/eer"] == new["content/val/eer"]


def test_five_numbers_of_pairs_and_pages_decide(tmp_path: Path) -> None:
    subject = Known(tmp_path)
    one = run(part_retrieval, subject, fragments=80, pairs_of=20).metrics
    assert one == run(part_retrieval, Known(tmp_path), fragments=80, pairs_of=20).metrics, "a seed decides everything"
    assert {request.limit for request in subject.asked} == {80 // 20}


# -- codes ----------------------------------------------------------------------------------------------------------


def test_a_codebook_by_hand() -> None:
    """Four codes, three contents; code 3 is not used, 0 and 1 share a content."""
    counts = torch.tensor([[6, 0, 0], [3, 1, 0], [0, 2, 8], [0, 0, 0]])
    found = _codes.measure(counts)
    assert found["accuracy"] == pytest.approx((1 + 3 / 4 + 8 / 10) / 3, abs=1e-7)
    assert found["purity"] == pytest.approx(17 / 20)
    assert found["one_to_one"] == pytest.approx((6 + 1 + 8) / 20)
    share = np.array([6, 4, 10]) / 20
    assert found["perplexity"] == pytest.approx(math.exp(-(share * np.log(share)).sum()))
    assert (found["active"], found["coverage"]) == (3, 2)
    assert _codes.named(counts).tolist() == [0, 0, 2, -1] and _codes.assigned(counts).tolist() == [0, 1, 2, -1]
    assert _codes.order(_codes.shares(counts)).tolist() == [0, 1, 3, 2], "an unused one comes with the first content"
    labels = torch.tensor([0, 2, 2, -1])
    assert _codes.counted(torch.tensor([0, 2, 2, 1]), labels, 3, 3).tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 2]]
    assert _codes.nearest_atoms(torch.tensor([[0.0, 0], [3, 4], [0, 2]])) == pytest.approx(2)
    assert _codes.nearest_atoms(torch.zeros(1, 2)) == 0
    right = torch.tensor([1, 1, 0, 0, 1]).bool()
    assert codebook.of_styles(right, torch.tensor([2, 2, 5, 5, 5])) == [(2, 2, 1.0), (5, 3, pytest.approx(1 / 3))]


def test_names_of_codes_are_kept(tmp_path: Path) -> None:
    counts = torch.tensor([[0, 4], [0, 0], [3, 1]])
    told = json.loads(_codes.write_naming(tmp_path / "naming.json", "digit", "train", counts).read_text())
    assert told["argmax"] == [1, -1, 0] == told["assignment"] and told["counts"] == counts.tolist()
    assert (told["factor"], told["split"]) == ("digit", "train")


def test_a_codebook_that_is_perfect_and_one_that_says_nothing(tmp_path: Path) -> None:
    blind = run(codebook, Known(tmp_path, blind=True)).metrics
    perfect = run(codebook, Known(tmp_path))
    for split in ("val", "test"):
        for name in ("accuracy", "purity", "one_to_one", "one_to_one_worst_style", "named"):
            assert perfect.metrics[f"content/{split}/{name}"] == pytest.approx(1, abs=1e-6), name
        assert perfect.metrics[f"content/{split}/active"] == 6 == perfect.metrics[f"content/{split}/coverage"]
        assert perfect.metrics[f"content/{split}/perplexity"] == pytest.approx(6, abs=0.1)
        assert perfect.metrics[f"content/{split}/min_distance"] == pytest.approx(math.sqrt(2))
        assert perfect.metrics[f"content/{split}/recon"] == 0, "the style holds the fragment"
        assert blind[f"content/{split}/one_to_one"] < 0.3 and blind[f"content/{split}/named"] < 0.25
    assert runs.confusion(perfect.artifacts["confusion_val.csv"]) == pytest.approx(np.eye(6), abs=1e-5)
    naming = json.loads(perfect.artifacts["naming.json"].read_text())
    assert naming["argmax"] == list(range(6)) and np.sum(naming["counts"]) == 4 * 60 * 5
    with perfect.artifacts["styles_test.csv"].open() as file:
        assert [row["style"] for row in csv.DictReader(file)] == ["0", "1", "2"]


def test_codebooks_of_several_runs(tmp_path: Path) -> None:
    one, other = np.eye(3), np.eye(3)[[1, 0, 2]]
    assert runs.consensus([one, one]) == 0
    assert runs.consensus([one, other]) == pytest.approx(4 * 0.5 / 9)
    with pytest.raises(ValueError, match=r"one shape, got \(2, 2\), \(3, 3\)"):
        runs.consensus([one, np.eye(2)])
    with pytest.raises(ValueError, match="one shape, got none"):
        runs.consensus([])
    for text in ("", "a,b\n1,2\n", "code,fragments,c_0\n0,3,x\n", "code,fragments,c_0\n"):
        (tmp_path / "wrong.csv").write_text(text)
        with pytest.raises(ValueError, match=r"wrong.csv: is no table"):
            runs.confusion(tmp_path / "wrong.csv")
    mean, std = runs.mean_and_std([[0.5, 1], [0.7, 1]])
    assert mean.tolist() == [60, 100] and std.tolist() == [10, 0]


# -- a trained V3 ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[float, CheckpointSubject]:
    """V3 after 300 steps on generated pages, and the same without the hinges."""
    found = {}
    for beta in (0.1, 0.0):
        folder = tmp_path_factory.mktemp("v3")
        resolved = resolve(
            {"method": {"name": "V3-paper", "beta": beta, "decay": 0.98, "dead": 0.5,
                        "encoder": {"content": 32, "style": 32}},
             "data": {"name": "pages"}, "views": {"count": 1}, "seed": 1,
             "train": {"epochs": 3, "batch_size": 32, "lr": 1e-3, "betas": (0.9, 0.999), "weight_decay": 0.1,
                       "schedule": "constant", "warmup_epochs": 0}}
        )  # fmt: skip
        method = fit(resolved, None, folder / "run").method
        spec = resolved.build_views(resolved.source(None, "train").spec).spec
        state.save(folder / "epoch-0003", method, resolved.dump(), spec, 3)
        found[beta] = CheckpointSubject(folder / "epoch-0003", None, folder / "cache")
    return found


def test_contents_and_styles_are_apart_in_a_trained_v3(trained: dict[float, CheckpointSubject]) -> None:
    """V3's own code has areas of .86 to .90 and .75 on such pages, crossed ones of .08 and .03; without hinges not."""
    with_, without = (evaluate(trained[beta], "part_retrieval", {"parts": ["content", "style"]}) for beta in (0.1, 0.0))
    found = with_.metrics
    assert found["content/test/auc"] > 0.7 and found["style/test/auc"] > 0.6
    assert found["content/test/crossed_auc"] < 0.2 and found["style/test/crossed_auc"] < 0.15
    assert found["all/test/disentangled"] > without.metrics["all/test/disentangled"] + 0.5
    promised = base.check(
        part_retrieval, part_retrieval.Config(parts=("content", "style")), trained[0.1].spec,
        trained[0.1].method.parts, base.capabilities_of(trained[0.1].method),
    )  # fmt: skip
    assert sorted(found) == sorted(promised)


def test_codes_are_contents_in_a_trained_v3(trained: dict[float, CheckpointSubject]) -> None:
    subject = trained[0.1]
    before = {name: value.clone() for name, value in subject.method.state_dict().items()}
    found = evaluate(subject, "codebook")
    assert found.metrics["content/test/one_to_one"] > 0.8 and found.metrics["content/test/named"] > 0.8
    assert found.metrics["content/test/one_to_one_worst_style"] <= found.metrics["content/test/one_to_one"]
    assert found.metrics["content/test/recon"] < 0.1 and 0.1 < found.metrics["content/test/bn_gap"] < 2
    assert evaluate(trained[0.0], "codebook").metrics["content/test/one_to_one"] < 0.65
    assert not subject.method.training
    assert all(torch.equal(value, before[name]) for name, value in subject.method.state_dict().items())
    features = subject.features(Request("test", part="content", pool="frames"))
    codes = codebook.codes_of(subject, features.parts["content"].flatten(0, 1))
    counts = _codes.counted(codes, features.labels["content"].flatten(), 10, 10)
    assert _codes.measure(counts)["one_to_one"] == found.metrics["content/test/one_to_one"]


def test_maps_of_fragments_and_atoms(trained: dict[float, CheckpointSubject]) -> None:
    published = {
        "parts": ["content", "style"], "rows": "fragments", "factor": "content", "colours": ["style", "page"],
        "dimensions": 3, "perplexity": 20, "start": "pca", "atoms": True, "limit": 100,
    }  # fmt: skip
    found = evaluate(trained[0.1], "latent_space", published)
    assert found.metrics["content/val/purity"] > 0.7 and found.metrics["style/val/purity"] < 0.4
    saved = load_file(found.artifacts["encodings_val.safetensors"])
    features = trained[0.1].features(Request("val", limit=10, part="content", pool="frames"))
    assert torch.equal(saved["parts.content"].view(10, 10, 32), features.parts["content"])
    assert torch.equal(saved["labels.content"].view(10, 10), features.labels["content"])
    for part in ("content", "style"):
        for name in (
            f"tsne_{part}",
            f"tsne_{part}_style",
            f"tsne_{part}_page",
            f"scatter_{part}",
            f"histograms_{part}",
        ):
            assert Image.open(found.artifacts[f"{name}.png"]).width > 300
    cfg = latent_space.Config(**{**published, "parts": ("content",), "colours": ()})
    first, second = (latent_space.tsne(saved["parts.content"][:40], cfg, seed=1) for _ in range(2))
    assert first.shape == (40, 3) and torch.equal(first, second), "a seed decides the map"
    own = {name.removeprefix("tsne_") for name in found.artifacts if name.startswith("tsne_")}
    assert own == {f"{part}{colour}.png" for part in ("content", "style") for colour in ("", "_style", "_page")}


def test_atoms_are_shown_beside_the_contents(tmp_path: Path) -> None:
    points, atoms = torch.randn(30, 3), 5 + torch.zeros(2, 3)
    classes = torch.arange(30) % 3
    plain = _files.scatter(tmp_path / "plain.png", points, classes, ("", "", ""), "points")
    marked = _files.scatter(tmp_path / "marked.png", points, classes, ("", "", ""), "points", atoms)
    black = [(np.asarray(Image.open(path).convert("RGB")).sum(2) == 0).sum() for path in (plain, marked)]
    assert black[1] > black[0] + 50


# -- what is refused before anything runs ---------------------------------------------------------------------------


IMAGES = Spec(shape=(3, 8, 8), labels={"class": 5, "object": 9})
V3_MAPS: dict[str, Any] = {"parts": ("content",), "rows": "fragments", "factor": "content", "atoms": True}
COARSE = dataclasses.replace(PAGES, frames={"content": 2})


@pytest.mark.parametrize(
    ("module", "options", "spec", "capabilities", "message"),
    [
        (part_retrieval, {}, PAGES, ABLE, None),
        (part_retrieval, {}, IMAGES, {}, "style: 'style' is the style's part, name the factor"),
        (part_retrieval, {"parts": ("all",)}, IMAGES, {}, None),
        (part_retrieval, {"style": "object", "style_part": "all"}, IMAGES, {}, None),
        (part_retrieval, {"style": "page"}, IMAGES, {}, "style: 'page' is a factor of pages, the data have items of"),
        (part_retrieval, {"content": "clas"}, IMAGES, {}, "content: the data have no label 'clas'; did you mean"),
        (part_retrieval, {"more": ("age",)}, PAGES, ABLE, "more: 'age' is continuous, it has no classes"),
        (part_retrieval, {"parts": ("stile",)}, PAGES, ABLE, "no part 'stile'; did you mean 'style'"),
        (part_retrieval, {}, PAGES, {}, "'content' is labelled per fragment, and the method has no rows of fragments"),
        (part_retrieval, {"content": "style"}, PAGES, {}, None),
        (part_retrieval, {}, COARSE, ABLE, "content: 'content' is labelled per frame, not once for each fragment"),
        (part_retrieval, {}, PAGES, {"frames": ("all=9",)}, "parts: 'all' has no row for each of the 4 fragments"),
        (codebook, {}, PAGES, ABLE, None),
        (codebook, {}, IMAGES, ABLE, r"needs pages of fragments; the data have items of \(3, 8, 8\)"),
        (codebook, {"content": "page"}, PAGES, ABLE, "content: 'page' is no content"),
        (codebook, {}, PAGES, {"frames": ABLE["frames"]}, "codebook: needs 'quantise' capability"),
        (latent_space, {**V3_MAPS, "colours": ("style", "page")}, PAGES, ABLE, None),
        (latent_space, V3_MAPS, IMAGES, ABLE, r"rows: fragments are those of pages, the data have items of"),
        (latent_space, {**V3_MAPS, "colours": ("age",)}, PAGES, ABLE, "colours: 'age' is continuous"),
        (latent_space, V3_MAPS, PAGES, {}, "rows: the method has no rows of fragments"),
        (latent_space, {**V3_MAPS, "parts": ("style",)}, PAGES, ABLE, "atoms: need rows: fragments, the part"),
        (latent_space, {"atoms": True}, PAGES, ABLE, "atoms: need rows: fragments, the part 'content'"),
        (latent_space, {"factor": "content"}, PAGES, ABLE, "factor: 'content' is given per frame"),
        (latent_space, {"colours": ("page",)}, PAGES, ABLE, "colours: the data have no label 'page'"),
    ],
)  # fmt: skip
def test_what_cannot_apply_is_refused_in_one_line(
    module: ModuleType, options: dict[str, Any], spec: Spec, capabilities: Any, message: str | None
) -> None:
    if message is None:
        assert base.check(module, module.Config(**options), spec, WIDTHS, capabilities)
        return
    with pytest.raises(ConfigError, match=message) as raised:
        base.check(module, module.Config(**options), spec, WIDTHS, capabilities)
    assert "\n" not in str(raised.value)
