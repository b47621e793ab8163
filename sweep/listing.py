"""`sweep ls`: what exists, one line each, read from the files without importing them (unless options are asked for)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from datasets.config import ConfigError, near
from trainables.core.load import NOT_A_NAME, PACKAGE, ROOT, Kind, load, names

KINDS: dict[str, Kind] = {"methods": "method", "datasets": "dataset", "evaluations": "evaluation", "spaces": "space"}


def listing(kind: str | None, verbose: bool = False) -> Iterator[str]:
    """The lines of `sweep ls`.

    Raises:
        ConfigError: no such kind.
    """
    if kind is not None and kind not in KINDS:
        raise ConfigError(f"ls {kind}: no such kind{near(kind, list(KINDS))}")
    for title, one in KINDS.items():
        if kind not in (None, title):
            continue
        yield title
        for name in names(one):
            yield f"  {name:24}{summary(ROOT / PACKAGE[one].replace('.', '/') / f'{name}.py')}"
            if verbose and one != "space":
                yield from (f"      {line}" for line in options(one, name))


def summary(path: Path) -> str:
    """The first line of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return text.split("\n")[0].rstrip(".")


def options(kind: Kind, name: str) -> list[str]:
    """Every option of a method, data set or evaluation: name, default, range, what it is."""
    module = load(kind, name)
    config = module.METHOD.Config if kind == "method" else module.Config
    return list(_fields(config, ""))


def _fields(config: type[BaseModel], prefix: str) -> Iterator[str]:
    for field_name, field in config.model_fields.items():
        name = prefix + (field.alias or field_name)
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield from _fields(type(default), f"{name}.")
            continue
        yield f"{name:28}  {_default(default):22}  {_range(field):18}  {field.description or ''}".rstrip()


def _default(value: Any) -> str:
    return "(required)" if repr(value) == "PydanticUndefined" else repr(value)


def _range(field: Any) -> str:
    words = {"Ge": ">=", "Gt": ">", "Le": "<=", "Lt": "<"}
    bounds = []
    for rule in field.metadata:
        word = words.get(type(rule).__name__)
        if word:
            bounds.append(f"{word} {getattr(rule, type(rule).__name__.lower()):g}")
    literal = getattr(field.annotation, "__args__", ())
    if not bounds and literal and all(isinstance(choice, str) for choice in literal):
        return "|".join(literal)
    return ", ".join(bounds)


__all__ = ["KINDS", "NOT_A_NAME", "listing", "options", "summary"]
