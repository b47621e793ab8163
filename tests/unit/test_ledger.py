"""The ledger: whatever a kill leaves behind is read without loss, whatever else is wrong is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sweep.ledger import Ledger, LedgerError, decode, encode, read

EVENTS: list[dict[str, Any]] = [
    {"event": "trial", "id": "a", "config": {"method": {"lambda": 0.1 + 0.2}}},
    {"event": "end", "id": "a", "reason": "ä line\nbreak and \u2028", "metrics": {"x": float("inf")}},
    {"event": "done"},
]


def written(path: Path, events: list[dict[str, Any]] = EVENTS) -> list[dict[str, Any]]:
    ledger = Ledger(path)
    stamped = [ledger.append(event) for event in events]
    ledger.close()
    return stamped


def test_events_come_back_as_they_were_with_their_time(tmp_path: Path) -> None:
    stamped = written(tmp_path / "l")
    assert list(read(tmp_path / "l")) == stamped
    assert [{key: event[key] for key in event if key not in ("time", "up")} for event in stamped] == EVENTS
    assert all(event["time"] > 1e9 for event in stamped)


def test_one_line_an_event_with_its_checksum(tmp_path: Path) -> None:
    written(tmp_path / "l")
    lines = (tmp_path / "l").read_bytes().splitlines()
    assert len(lines) == len(EVENTS)
    for line in lines:
        assert decode(line) is not None
        for place in (0, 8, 9, len(line) - 1):
            flipped = bytearray(line)
            flipped[place] ^= 1
            assert decode(bytes(flipped)) is None, place


def test_there_is_no_ledger_before_the_first_event(tmp_path: Path) -> None:
    assert list(read(tmp_path / "l")) == []
    (tmp_path / "l").touch()
    assert list(read(tmp_path / "l")) == []


def test_a_tail_torn_at_any_byte_costs_the_last_event_alone(tmp_path: Path) -> None:
    path = tmp_path / "l"
    stamped = written(path)
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        assert list(read(path)) == stamped[:2], end
        assert path.read_bytes() == whole[:end], "reading does not write"
        more = written(path, [{"event": "session"}])
        assert list(read(path)) == [*stamped[:2], *more], end


def test_a_last_line_that_is_complete_but_damaged_is_a_torn_tail_too(tmp_path: Path) -> None:
    path = tmp_path / "l"
    stamped = written(path)
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    assert list(read(path)) == stamped[:2]
    more = written(path, [{"event": "session"}])
    assert list(read(path)) == [*stamped[:2], *more]


@pytest.mark.parametrize("number", [1, 2])
def test_a_damaged_line_in_the_middle_is_refused_by_its_number(tmp_path: Path, number: int) -> None:
    path = tmp_path / "l"
    written(path)
    lines = path.read_bytes().split(b"\n")
    flipped = bytearray(lines[number - 1])
    flipped[len(flipped) // 2] ^= 0x20
    lines[number - 1] = bytes(flipped)
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(LedgerError, match=f"l, line {number}: damaged"):
        list(read(path))


def test_a_damaged_line_before_a_torn_tail_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l"
    written(path)
    path.write_bytes(path.read_bytes().replace(b"done", b"dome", 1) + b"12345678 {")
    with pytest.raises(LedgerError, match="line 3: damaged"):
        list(read(path))


def test_a_line_that_someone_removed_the_inside_of_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "l"
    written(path)
    lines = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([lines[0], b"", *lines[1:]]))
    with pytest.raises(LedgerError, match="line 2"):
        list(read(path))


def test_a_line_that_is_no_event_is_not_one() -> None:
    assert decode(b"") is None
    assert decode(b"nothex {}") is None
    assert decode(encode({"event": "x"}).rstrip(b"\n")) == {"event": "x"}
    import zlib

    for text in (b"[]", b"3", b"{"):
        assert decode(b"%08x %s" % (zlib.crc32(text), text)) is None


def test_durable_and_plain_events_are_on_disk_at_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l")
    for durable in (False, True):
        ledger.append({"event": "x"}, durable)
        assert len(list(read(tmp_path / "l"))) == 1 + durable, "another process sees it while the file is open"
    ledger.close()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(st.text(), json_values, max_size=4), max_size=5), st.data())
def test_any_events_survive_any_kill(tmp_path: Path, events: list[dict[str, Any]], data: st.DataObject) -> None:
    """The file cut at any byte: what is read is a prefix, and what is appended then follows it."""
    path = tmp_path / "any"
    path.write_bytes(b"".join(encode(event) for event in events))
    assert list(read(path)) == events
    path.write_bytes(path.read_bytes()[: data.draw(st.integers(0, path.stat().st_size))])
    before = list(read(path))
    assert before == events[: len(before)]
    more = written(path, [{"event": "session"}])
    assert list(read(path)) == before + more
