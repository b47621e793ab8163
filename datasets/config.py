"""The base of every configuration: frozen, unknown keys refused with the near matches named."""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationError


class Config(BaseModel):
    """A frozen, strict set of options. Every field states its range, unit and origin in `Field(description=...)`."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, protected_namespaces=())

    def dump(self) -> dict[str, Any]:
        """The plain JSON form under the public (aliased) names, such as `lambda` for the field `lambda_`."""
        return self.model_dump(mode="json", by_alias=True)


def under_default(kind: type[Config], field: str, value: Any) -> Any:
    """Options of `field` without a name are those of its default: {"width": 8} of the encoder a method has anyway."""
    default = kind.model_fields[field].get_default(call_default_factory=True)
    return {"name": default.name, **value} if isinstance(value, dict) else value


class ConfigError(ValueError):
    """A wrong configuration; its text is one line that says what, where and what would be right."""


def near(name: str, known: list[str] | tuple[str, ...] | set[str]) -> str:
    """`; did you mean 'x'?` or the list of what exists, for the end of an error line."""
    matches = difflib.get_close_matches(name, sorted(known), n=3, cutoff=0.5)
    if matches:
        return "; did you mean " + " or ".join(f"'{m}'" for m in matches) + "?"
    return "; known: " + ", ".join(sorted(known)) if known else ""


def public_names(kind: type[BaseModel]) -> list[str]:
    """The names a user writes for the fields of a configuration class."""
    return [field.alias or name for name, field in kind.model_fields.items()]


def parse(kind: type[Config], values: dict[str, Any], where: str) -> Any:
    """Build `kind` from `values`.

    Raises:
        ConfigError: one line for the first wrong key or value, prefixed by `where` (such as `method`).
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise ConfigError(_one_line(kind, error, where)) from None


def _one_line(kind: type[Config], error: ValidationError, where: str) -> str:
    first = error.errors()[0]
    path = ".".join([where, *(str(part) for part in first["loc"])]) if where else ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"{path}: no such option{near(str(first['loc'][-1]), _known_at(kind, first['loc'][:-1]))}"
    message = first["msg"].removeprefix("Value error, ")
    shown = "" if first["type"] == "missing" else f" (got {first['input']!r})"
    return f"{path}: {message}{shown}"


def _known_at(kind: Any, path: tuple[str | int, ...]) -> list[str]:
    """The names allowed below `path`; follows options of options, and the values of lists and mappings."""
    for part in path:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields = kind.model_fields.items()
            kind = next((field.annotation for name, field in fields if part in (name, field.alias)), None)
        else:  # of dict[str, X] or tuple[X, ...]: any key leads to X
            kind = next((one for one in get_args(kind) if isinstance(one, type) and issubclass(one, BaseModel)), None)
    return public_names(kind) if isinstance(kind, type) and issubclass(kind, BaseModel) else []
