"""From the codes of a stack to its transforms. Codes are found in the modules of this package, none is registered."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor

from datasets import transforms
from datasets.config import Config, ConfigError, near, parse
from datasets.transforms.base import Shape, Transform
from datasets.transforms.color import COMPONENTS, Jitter
from datasets.transforms.ranged import Ranged

COLOR = (Jitter.code, *COMPONENTS)  # one jitter, whichever of these a stack names


@cache
def shipped() -> dict[str, type[Transform]]:
    """Code -> class of every transform of this package."""
    found: dict[str, type[Transform]] = {}
    for info in pkgutil.iter_modules(transforms.__path__):
        module = importlib.import_module(f"{transforms.__name__}.{info.name}")
        for kind in vars(module).values():
            if isinstance(kind, type) and issubclass(kind, Transform) and "code" in vars(kind):
                found[kind.code] = kind
    return found


def find(code: str) -> type[Transform]:
    """The class of a code, or of a dotted name such as "mylab.transforms.Foo"; either may name a range, "hue_shift@25".

    Raises:
        ConfigError: there is none, with the near matches, or it has no such range.
    """
    code, named, part = code.partition("@")
    kind = _class(code)
    if named:
        if not issubclass(kind, Ranged):
            raise ConfigError(f"'{code}@{part}': '{code}' has no ranges; leave '@{part}' out")
        kind.part(part)
    return kind


def _class(code: str) -> type[Transform]:
    if "." not in code:
        if code not in shipped():
            raise ConfigError(f"'{code}': no such transform{near(code, set(shipped()))}")
        return shipped()[code]
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))  # a user's own module lies beside the sweep file, or is installed
    module, _, name = code.rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name, None)
    except ModuleNotFoundError as error:
        raise ConfigError(f"'{code}': {error}; is its folder on PYTHONPATH or the working folder?") from None
    if not (isinstance(kind, type) and issubclass(kind, Transform)):
        raise ConfigError(f"'{code}': {module} has no subclass of datasets.transforms.base.Transform named '{name}'")
    return kind


def complete(codes: tuple[str, ...], options: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The options of every transform of a stack, defaults filled in.

    Raises:
        ConfigError: options of a transform that is not in the stack, or that it does not have.
    """
    allowed = set(codes) - set(COMPONENTS) if Jitter.code in codes else set(codes)
    for code in options:
        if code in COMPONENTS and Jitter.code in codes:
            raise ConfigError(f"'{code}' is a part of 'jit', which is in the stack; set the options of 'jit'")
        if code not in allowed:
            raise ConfigError(f"'{code}' is not in the stack{near(code, allowed)}")
    return {code: _options(code, options.get(code, {})).dump() for code in codes if code in allowed}


def _options(code: str, values: dict[str, Any]) -> Any:
    """The configuration of a code, whose range may stand in its name.

    Raises:
        ConfigError: wrong options, or they name another range.
    """
    kind, part = find(code), code.partition("@")[2]
    if part and str(values.get("range", part)) != part:
        raise ConfigError(f"'{code}' names its range; leave 'range' out of its options (got {values['range']!r})")
    return parse(kind.Config, {**values, "range": part} if part else values, code)


def _made(code: str, cfg: Any, shape: Shape, target: Shape, rate: int | None) -> Transform:
    """The transform; one of sound that asks for a sample rate, and was not told one, gets that of the data."""
    if getattr(cfg, "rate", 0) is None:
        cfg = cfg.model_copy(update={"rate": rate})
    return find(code)(cfg, shape, target)


@dataclass(frozen=True)
class Stage:
    """One step of a stack.

    Attributes:
        code: as the stack names it.
        transform: what is drawn and applied.
        reported: code -> the transform that reads the parameter, and its columns among those of `transform`.
    """

    code: str
    transform: Transform
    reported: dict[str, tuple[Transform, list[int]]]

    def params(self, p: Tensor) -> dict[str, Tensor]:
        """The natural parameters (n, k) under each reported code."""
        return {code: p[:, columns] for code, (_, columns) in self.reported.items()}

    def units(self, p: Tensor) -> dict[str, Tensor]:
        """The units (n, 1) under each reported code."""
        return {code: reader.unit(p[:, columns]) for code, (reader, columns) in self.reported.items()}


def build(
    codes: tuple[str, ...], options: dict[str, dict[str, Any]], shape: Shape, target: Shape, rate: int | None = None
) -> list[Stage]:
    """The steps of a stack for items of `shape`, in the given order; all colour codes become one jitter at the first.

    Args:
        rate: of the data in Hz, if they are sound.

    Raises:
        ConfigError: a transform cannot work on these items.
    """
    configs: dict[str, Any] = {code: _options(code, values) for code, values in options.items()}
    stages: list[Stage] = []
    for code in codes:
        if code in COLOR:
            if any(isinstance(stage.transform, Jitter) for stage in stages):
                continue
            stages.append(_jitter(configs, shape, target))
        else:
            stages.append(_single(code, configs[code], shape, target, rate))
        shape = stages[-1].transform.out_shape
    return stages


def alone(code: str, shape: Shape, rate: int | None = None) -> Transform:
    """A transform with its defaults for items of `shape` that keep their size, such as one that no training used.

    Args:
        code: of it; "hue_shift@25" draws from the first quarter of its range.
        rate: of the data in Hz, if they are sound.

    Raises:
        ConfigError: no such transform, or it cannot work on these items.
    """
    try:
        return _made(code, _options(code, {}), shape, shape, rate)
    except ConfigError as error:
        raise ConfigError(str(error).removeprefix("views.tx: ")) from None  # it is named elsewhere


def _single(code: str, cfg: Config, shape: Shape, target: Shape, rate: int | None) -> Stage:
    transform = _made(code, cfg, shape, target, rate)
    reported = {code: (transform, list(range(transform.dims)))} if transform.usable else {}
    return Stage(code, transform, reported)


def _jitter(configs: dict[str, Any], shape: Shape, target: Shape) -> Stage:
    if Jitter.code in configs:
        jitter = Jitter(configs[Jitter.code], shape, target)
    else:
        jitter = Jitter.of({code: configs[code] for code in COMPONENTS if code in configs}, shape, target)
    return Stage(jitter.code, jitter, {code: (part, jitter.columns(part)) for code, part in jitter.components.items()})
