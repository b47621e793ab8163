"""What the verbs of the `sweep` command share: arguments that several take, errors of the user."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

Sets = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="change a setting, such as train.epochs=3")]
Dir = Annotated[Path, typer.Argument(metavar="DIR", help="folder of a sweep")]
Root = Annotated[Path | None, typer.Option("--data-root", help="where the data are; default $SWEEP_DATA")]
Address = Annotated[str | None, typer.Option(help="a running Ray cluster: auto, HOST:PORT or ray://...")]
Points = Annotated[list[str], typer.Option("--point", metavar="KEY=VALUE,...", help="a configuration to try next")]
NONE: list[str] = []


class UserError(Exception):
    """A wrong argument of a verb; one line."""


def user(function: Any, *arguments: Any) -> Any:
    """Call a function whose ValueError is the user's to mend."""
    try:
        return function(*arguments)
    except ValueError as error:
        raise UserError(str(error)) from None
