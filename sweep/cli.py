"""The `sweep` command: runs one verb, and says an error of the user in one line."""

from __future__ import annotations

import errno
import re
import sys

import typer

from sweep import cli_results, cli_runs

app = typer.Typer(
    name="sweep",
    help="Hyperparameter sweeps for representation learning, judged by downstream evaluations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.registered_commands += [*cli_runs.app.registered_commands, *cli_results.app.registered_commands]

INTERRUPTED = 130  # how typer says that Ctrl-C ended a verb
# a place that cannot be written is the user's to mend
DISK = {errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS}


def main() -> None:
    """The console script: errors of the user are one line and exit code 2."""
    sys.exit(run_command(sys.argv[1:]))


def run_command(arguments: list[str]) -> int:
    """Run the command line; the exit code."""
    try:
        code = app(arguments or ["--help"], standalone_mode=False)
        if code == INTERRUPTED:
            print("sweep: interrupted; `sweep resume DIR` goes on", file=sys.stderr)
        return code if isinstance(code, int) else 0
    except Exception as error:
        text = _users_mistake(error)
        if text is None:
            raise
        print(f"sweep: {' '.join(text.split())}", file=sys.stderr)
        return 2


def _users_mistake(error: Exception) -> str | None:
    """What to tell the user, or None where it is not the user's to mend."""
    from datasets.config import ConfigError, near

    if hasattr(error, "format_message"):  # of the parser, whose classes typer keeps to itself
        text: str = error.format_message()
        typed = next(iter(re.findall(r"^No such command '(.+)'\.$", text)), None)
        names = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
        return text if typed is None else f"no such command '{typed}'{near(typed, names)}"
    if isinstance(error, OSError) and error.errno in DISK and error.filename:
        return f"{error.filename}: {error.strerror}; choose another place"
    known = isinstance(error, ConfigError) or type(error).__name__ in USER_ERRORS
    return str(error) if known else None


# by name, since importing their modules would import torch
USER_ERRORS = {
    "DataError", "NotASweep", "Busy", "LedgerError", "StorageError", "CheckpointError", "TrackingError", "UserError",
}  # fmt: skip


if __name__ == "__main__":
    main()
