"""`sweep ls`: what exists, one line each, read from the files without importing them (unless options are asked for)."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from datasets.config import ConfigError, near
from trainables.core.load import NOT_A_NAME, PACKAGE, ROOT, Kind, load, names
from trainables.extractors.names import ALIASES, EXTRACTORS

KINDS: dict[str, Kind] = {"methods": "method", "datasets": "dataset", "evaluations": "evaluation", "spaces": "space"}
SETTINGS = {  # what belongs to no one module
    "train": "how a pretraining is trained, whatever the method: train.KEY",
    "views": "how views are made of an item: views.KEY, views.options.CODE.KEY",
    "sweep": "a sweep itself: KEY, such as budget.trials",
}
TITLES = (*KINDS, "extractors", "transforms", "settings")


def listing(kind: str | None, verbose: bool = False) -> Iterator[str]:
    """The lines of `sweep ls`.

    Raises:
        ConfigError: no such kind.
    """
    if kind is not None and kind not in TITLES:
        raise ConfigError(f"ls {kind}: no such kind{near(kind, list(TITLES))}")
    for title, one in KINDS.items():
        if kind not in (None, title):
            continue
        yield title
        for name in names(one):
            yield f"  {name:24}{summary(ROOT / PACKAGE[one].replace('.', '/') / f'{name}.py')}"
            if verbose and one != "space":
                yield from (f"      {line}" for line in options(one, name))
    if kind in (None, "extractors"):
        yield from _extractors(verbose)
    if kind in (None, "transforms"):
        yield from _transforms(verbose)
    if kind in (None, "settings"):
        yield from _settings(verbose)


def _extractors(verbose: bool) -> Iterator[str]:
    """Published encoders, and the options of their families."""
    yield "extractors"
    for name, one in EXTRACTORS.items():
        yield f"  {name:24}{one.about}"
        if verbose:
            others = [other for other, same in ALIASES.items() if same == name]
            yield from (f"      also called {other}" for other in others)
            yield f"      weights: {one.weights}"
            yield f"      method {one.module.rpartition('.')[2]}: {one.options or 'its defaults'}"
    if verbose:
        for family in sorted({one.module for one in EXTRACTORS.values()}):
            yield f"  {family}"
            yield from (f"      {line}" for line in options("method", family))


def _transforms(verbose: bool) -> Iterator[str]:
    """Codes of a stack, read from the classes that have one."""
    yield "transforms"
    for path in sorted((ROOT / "datasets" / "transforms").glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            code = _code(node)
            if not code:
                continue
            first = (ast.get_docstring(node) or "").split("\n")[0].removeprefix(f"`{code}`: ")  # type: ignore[arg-type]
            yield f"  {code:24}{first.rstrip('.')}"
            if verbose:
                from datasets.transforms.load import find

                yield from (f"      {line}" for line in _fields(find(code).Config, ""))


def _code(node: ast.stmt) -> str:
    """The code that a transform's class says, "" of anything else."""
    for inner in node.body if isinstance(node, ast.ClassDef) else ():
        if isinstance(inner, ast.Assign) and ast.unparse(inner.targets[0]) == "code":
            return str(ast.literal_eval(inner.value))
    return ""


def _settings(verbose: bool) -> Iterator[str]:
    yield "settings"
    for name, what in SETTINGS.items():
        yield f"  {name:24}{what}"
        if verbose:
            yield from (f"      {line}" for line in _fields(_config_of(name), ""))


def _config_of(setting: str) -> type[BaseModel]:
    from datasets.views import ViewsConfig
    from sweep.spec import Sweep
    from trainables.core.config import TrainConfig

    configs: dict[str, type[BaseModel]] = {"train": TrainConfig, "views": ViewsConfig, "sweep": Sweep}
    return configs[setting]


def summary(path: Path) -> str:
    """The first line of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return text.split("\n")[0].rstrip(".")


def options(kind: Kind, name: str) -> list[str]:
    """Every option of a method, data set or evaluation: name, default, range, what it is."""
    module = load(kind, name)
    config = module.METHOD.Config if kind == "method" else module.Config
    return list(_fields(config, ""))


def _fields(config: type[BaseModel], prefix: str, given: BaseModel | None = None) -> Iterator[str]:
    for field_name, field in config.model_fields.items():
        name = prefix + (field.alias or field_name)
        default = getattr(given, field_name) if given else field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            yield from _fields(type(default), f"{name}.", default)
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
