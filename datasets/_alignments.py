"""Alignments of recordings: which phoneme is spoken from when to when, as the Montreal Forced Aligner has them.

Files: `NAME.TextGrid` of Praat (the long and the short text form), whose tier of phonemes is called "phones"; or
records of JSON, {"id": NAME, "phonemes": [{"phoneme": "AH0", "start": 0.52, "end": 0.6}, ...]}, one a line in `.jsonl`
files, one or a list of them in `.json` files. Times are in seconds.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from datasets.base import DataError

TIER = "phones"
# what Praat reads of its text files: strings, numbers and flags that stand by themselves
TOKEN = re.compile(r'"((?:[^"]|"")*)"|(?<!\S)([-+]?\d[\d.eE+-]*|<\w+>)(?!\S)')
Aligned = list[tuple[str, float, float]]  # phoneme, start, end


def find(folder: Path) -> dict[str, Path | Aligned]:
    """What is aligned in `folder` and below, by the recording's name: TextGrids, see `read`, else records.

    Raises:
        DataError: there are none, or records are damaged.
    """
    grids: dict[str, Path | Aligned] = {path.stem: path for path in sorted(folder.rglob("*.TextGrid"))}
    if grids:
        return grids
    files = sorted([*folder.rglob("*.jsonl"), *folder.rglob("*.json")])
    found: dict[str, Path | Aligned] = {name: aligned for path in files for name, aligned in read_records(path)}
    if not found:
        raise DataError(f"no alignment (NAME.TextGrid, or records in .jsonl or .json files) in {folder}")
    return found


def read(found: Path | Aligned) -> Aligned:
    """The phonemes of what was found.

    Raises:
        DataError: the TextGrid is damaged.
    """
    return read_grid(found) if isinstance(found, Path) else found


def read_grid(path: Path) -> Aligned:
    """The phonemes of a TextGrid, silence among them.

    Raises:
        DataError: it is damaged, or has no tier of phonemes.
    """
    try:
        raw = path.read_bytes()
        text = raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
        tiers = _tiers([quoted if plain == "" else plain for quoted, plain in TOKEN.findall(text)])
    except (OSError, ValueError, IndexError) as error:
        raise DataError(f"{path}: damaged ({' '.join(str(error).split())[:120]})") from None
    for name, intervals in tiers.items():
        if name.lower().endswith(TIER):  # MFA names it "SPEAKER - phones" where several speak
            return intervals
    raise DataError(f"{path}: has no tier '{TIER}', but {', '.join(tiers) or 'none'}")


def _tiers(tokens: list[str]) -> dict[str, Aligned]:
    """Tiers of intervals by name; others are passed over."""
    if tokens[:2] != ["ooTextFile", "TextGrid"]:
        raise ValueError("no TextGrid in text form")
    count, place = int(tokens[5]), 6  # behind both ends and <exists>
    tiers: dict[str, Aligned] = {}
    for _ in range(count):
        kind, name, size = tokens[place], tokens[place + 1], int(tokens[place + 4])
        width = 3 if kind == "IntervalTier" else 2
        begin, place = place + 5, place + 5 + size * width
        if place > len(tokens):
            raise ValueError(f"ends within the tier '{name}'")
        if width == 3:
            rows = [tokens[one : one + 3] for one in range(begin, place, 3)]
            tiers[name] = [(text, float(start), float(end)) for start, end, text in rows]
    return tiers


def read_records(path: Path) -> Iterator[tuple[str, Aligned]]:
    """Names and phonemes of the records of a file; of JSON that is no record, nothing.

    Raises:
        DataError: it is damaged.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".jsonl":
            every = [json.loads(line) for line in text.splitlines() if line.strip()]
        else:
            content = json.loads(text)
            every = content if isinstance(content, list) else [content]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: damaged ({' '.join(str(error).split())[:120]})") from None
    for record in every:
        if isinstance(record, dict) and "phonemes" in record and "id" in record:
            yield str(record["id"]), _aligned(path, record)


def _aligned(path: Path, record: dict[str, Any]) -> Aligned:
    try:
        rows = [(str(one["phoneme"]), float(one["start"]), float(one["end"])) for one in record["phonemes"]]
        if all(math.isfinite(time) for _, *times in rows for time in times):
            return rows
    except (KeyError, TypeError, ValueError):
        pass
    raise DataError(f"{path}: record {record['id']}: phonemes should have phoneme, start and end")
