"""The same promises of a shared folder and of a bucket: what is published is what others read."""

from __future__ import annotations

from pathlib import Path

import pytest

from datasets.config import ConfigError
from trainables.core.store import KEPT, Bucket, Folder, Store, open_store, open_url, probe


@pytest.fixture(params=["folder", "bucket"])
def pair(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Store, Store]:
    """The store as a worker and as another process sees it."""
    if request.param == "folder":
        return Folder(tmp_path), Folder(tmp_path)
    url = f"file://{tmp_path}/bucket"
    return Bucket(url, tmp_path / "one"), Bucket(url, tmp_path / "two")


def checkpoint(store: Store, path: str, content: str = "weights") -> None:
    folder = store.local(path)
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_text(content)
    (folder / "meta.json").write_text("{}")
    store.publish(path)


def test_what_is_published_is_read_elsewhere(pair: tuple[Store, Store]) -> None:
    one, two = pair
    checkpoint(one, "trials/a/attempt-1/epoch-0001")
    found = two.fetch("trials/a/attempt-1/epoch-0001")
    assert {file.name: file.read_text() for file in found.iterdir()} == {
        "model.safetensors": "weights",
        "meta.json": "{}",
    }
    assert not two.fetch("trials/a/attempt-1/epoch-0002").exists()
    single = two.fetch("trials/a/attempt-1/epoch-0001/meta.json")
    assert single.read_text() == "{}"


def test_marks_are_seen_and_taken_back(pair: tuple[Store, Store], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainables.core.store.LOOK", 0.0)
    one, two = pair
    assert not two.exists("trials/a/stop")
    one.mark("trials/a/stop")
    assert two.exists("trials/a/stop")
    one.remove("trials/a/stop")
    assert not two.exists("trials/a/stop")
    one.remove("trials/a/never-there")


def test_what_is_removed_is_gone_for_all(pair: tuple[Store, Store]) -> None:
    one, two = pair
    checkpoint(one, "trials/a/attempt-1/epoch-0001")
    two.remove("trials/a/attempt-1/epoch-0001")
    assert not two.fetch("trials/a/attempt-1/epoch-0001").exists()


def test_a_torn_upload_is_no_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (Bucket(f"file://{tmp_path}/bucket", tmp_path / name) for name in ("one", "two"))
    put, sent = one.fs.put_file, []

    def torn(source: str, target: str) -> None:
        if len(sent) == 1:
            raise OSError(28, "No space left on device")
        sent.append(target)
        put(source, target)

    monkeypatch.setattr(one.fs, "put_file", torn)
    with pytest.raises(OSError, match="No space"):
        checkpoint(one, "trials/a/attempt-1/epoch-0001")
    monkeypatch.undo()
    found = two.fetch("trials/a/attempt-1/epoch-0001")
    assert not (found / "meta.json").exists(), "the file that makes it a checkpoint goes last"


def test_a_node_keeps_only_the_last_it_used(tmp_path: Path) -> None:
    one, two = (Bucket(f"file://{tmp_path}/bucket", tmp_path / name) for name in ("one", "two"))
    for number in range(KEPT + 4):
        checkpoint(one, f"trials/a/attempt-1/epoch-{number:04d}")
        two.fetch(f"trials/a/attempt-1/epoch-{number:04d}")
    assert len(list((tmp_path / "two").glob("trials/*/*/epoch-*"))) == KEPT
    assert two.fetch("trials/a/attempt-1/epoch-0000").exists(), "what was forgotten is fetched again"


def test_a_checkpoint_of_another_sweep_is_read_by_its_path_or_url(tmp_path: Path) -> None:
    other = Bucket(f"file://{tmp_path}/other", tmp_path / "one")
    checkpoint(other, "trials/a/attempt-1/epoch-0001", "theirs")
    mine = Bucket(f"file://{tmp_path}/mine", tmp_path / "two")
    for name in (
        f"file://{tmp_path}/other/trials/a/attempt-1/epoch-0001",
        f"{tmp_path}/one/trials/a/attempt-1/epoch-0001",
    ):
        assert (mine.fetch(name) / "model.safetensors").read_text() == "theirs"


@pytest.mark.parametrize(
    ("url", "said"),
    [("bucket/dir", "write a URL"), ("nonsense://x/y", "nonsense"), ("abfs://box/dir", "adlfs")],
)
def test_a_url_that_cannot_be_used_is_one_line(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as error:
        open_url(url)
    assert "\n" not in str(error.value)


def test_the_probe_says_what_does_not_work(tmp_path: Path) -> None:
    assert probe(f"file://{tmp_path}/new") == ""
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "file").write_text("")
    assert probe(f"file://{tmp_path}/file/below") != ""


def test_without_a_url_the_sweeps_own_folder_is_the_store(tmp_path: Path) -> None:
    assert open_store("", tmp_path).local("a") == tmp_path / "a"
