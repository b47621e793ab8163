"""The tables of `docs/methods` name files and tests that exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trainables.core.load import ROOT

TABLES = sorted((ROOT / "docs" / "methods").glob("*.md"))
TEST = re.compile(r"`((?:unit|golden|distributed|contracts|e2e|faults)/\w+\.py)(?:::(\w+))?`")
CODE = re.compile(r"`((?:trainables|datasets|sweep|analysis|search_spaces)/[\w/]+\.py)(?:::(\w+))?")


@pytest.mark.parametrize("table", TABLES, ids=lambda path: path.stem)
def test_what_a_table_names_is_there(table: Path) -> None:
    text = table.read_text()
    tests, places = TEST.findall(text), CODE.findall(text)
    assert len(tests) > 20
    for file, name in [*((f"tests/{file}", name) for file, name in tests), *places]:
        assert (ROOT / file).exists(), f"{table.name}: {file}"
        source = (ROOT / file).read_text()
        assert not name or re.search(rf"(def|class) {name}\b", source), f"{table.name}: {file} has no {name}"


def test_every_row_of_duet_is_in_its_table() -> None:
    text = (ROOT / "docs" / "methods" / "duet.md").read_text()
    rows = {
        number
        for first, last in re.findall(r"DU-(\d+)(?:\.\.(\d+))?", text)
        for number in range(int(first), int(last or first) + 1)
    }
    kept_free = {18, 19, 59}
    assert rows | kept_free >= set(range(1, 68))
    assert all(f"| DU-E{number} |" in text for number in range(1, 8))


@pytest.mark.parametrize(
    ("method", "rows"),
    [
        ("sie", {"M": 14, "P": 7, "N": 1, "B": 24, "L": 8, "O": 2, "S": 1, "D": 7, "G": 1, "T": 7, "E": 7}),
        ("synesis", {"E": 14, "P": 5, "M": 5, "T": 10, "D": 11, "F": 33, "X": 3, "L": 4, "H": 4, "U": 1}),
        ("sim", {"M": 15, "L": 5, "D": 10, "E": 19, "T": 10, "I": 1}),
        ("v3", {"M": 11, "L": 6, "T": 13, "D": 10, "E": 9, "P": 1, "F": 6}),
    ],
)
def test_every_row_of_a_family_is_in_its_table(method: str, rows: dict[str, int]) -> None:
    text = (ROOT / "docs" / "methods" / f"{method}.md").read_text()
    first = "\n".join(line.split("|")[1] for line in text.splitlines() if line.startswith("| "))
    there = {
        f"{letter}{number}"
        for letter, begin, end in re.findall(r"\b([A-Z])(\d+)(?:\.\.[A-Z]?(\d+))?", first)
        for number in range(int(begin), int(end or begin) + 1)
    }
    assert there >= {f"{letter}{number}" for letter, count in rows.items() for number in range(1, count + 1)}
