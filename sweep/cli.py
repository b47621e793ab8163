"""The `sweep` command. One function a verb; all heavy imports are inside, so that `--help` and `ls` are quick."""

from __future__ import annotations

import errno
import re
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="sweep",
    help="Hyperparameter sweeps for representation learning, judged by downstream evaluations.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Sets = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="change a setting, such as train.epochs=3")]
Dir = Annotated[Path, typer.Argument(metavar="DIR", help="folder of a sweep")]
Root = Annotated[Path | None, typer.Option("--data-root", help="where the data are; default $SWEEP_DATA")]
Address = Annotated[str | None, typer.Option(help="a running Ray cluster: auto, HOST:PORT or ray://...")]
Points = Annotated[list[str], typer.Option("--point", metavar="KEY=VALUE,...", help="a configuration to try next")]
NONE: list[str] = []
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


class UserError(Exception):
    """A wrong argument of a verb; one line."""


# -- before a sweep ----------------------------------------------------------------------------------------------


@app.command()
def ls(
    kind: Annotated[str | None, typer.Argument(help="methods, datasets, evaluations, spaces, ...")] = None,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="with every option, default and range")] = False,
) -> None:
    """What exists: methods, data sets, evaluations, search spaces, transforms, settings of training and sweep."""
    from sweep.listing import listing

    for line in listing(kind, verbose):
        print(line)


@app.command()
def plan(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="a search space, a .yaml or a .py file")],
    sets: Sets = NONE,
    trials: Annotated[int | None, typer.Option(min=1, help="configurations to try")] = None,
    smoke: Annotated[bool, typer.Option(help="the smallest form of this sweep")] = False,
    workers: Annotated[int | None, typer.Option(help="Ray Train workers of one pretraining")] = None,
    data_root: Root = None,
) -> None:
    """Check everything and price it; run nothing."""
    from sweep.console import duration
    from sweep.plan import Plan, local_resources
    from sweep.run import root_of
    from sweep.spec import load_sweep

    more = [*sets, *([f"budget.trials={trials}"] if trials else [])]
    made = Plan(load_sweep(name, _with_workers(more, workers), smoke), root_of(data_root))
    slots = made.check_resources(local_resources())
    for line in made.describe():
        print(line)
    seconds, count = made.price(), made.counts()["pretrainings"]
    print(
        f"  price     about {duration(seconds)} a pretraining (measured here), {slots} at once on this machine: "
        f"{duration(seconds * count / slots)}; evaluations and the start come on top, rungs may save some"
    )


@app.command()
def run(
    name: Annotated[str, typer.Argument(metavar="NAME|FILE", help="a search space, a .yaml or a .py file")],
    sets: Sets = NONE,
    trials: Annotated[int | None, typer.Option(min=1, help="configurations to try")] = None,
    workers: Annotated[int | None, typer.Option(help="Ray Train workers of one pretraining")] = None,
    smoke: Annotated[bool, typer.Option(help="the smallest form of this sweep, to see that it works")] = False,
    directory: Annotated[Path | None, typer.Option("--dir", help="folder of the sweep; default runs/NAME")] = None,
    data_root: Root = None,
    address: Address = None,
    reuse: Annotated[Path | None, typer.Option(help="another sweep whose equal finished trials are taken over")] = None,
    warm: Annotated[Path | None, typer.Option(help="another sweep whose results the sampler learns from")] = None,
    aim: Annotated[bool, typer.Option("--aim/--no-aim", help="track in Aim")] = True,
) -> None:
    """Run a sweep, or take up the same one where it is."""
    from sweep.run import run as run_sweep

    more = [*sets, *([f"budget.trials={trials}"] if trials else [])]
    where = run_sweep(
        name, directory, sets=_with_workers(more, workers), smoke=smoke, data_root=data_root, address=address,
        reuse=reuse, warm=warm, track=aim,
    )  # fmt: skip
    _conclude(where)


@app.command()
def doctor(
    cluster: Annotated[Path | None, typer.Option(help="a cluster file: is it fit for `ray up`?")] = None,
) -> None:
    """What is wrong with this machine, or with a cluster file, and how to mend it."""
    from sweep import cluster_file
    from sweep.doctor import examine

    findings = list(cluster_file.examine(cluster) if cluster else examine())
    for finding in findings:
        print(f"{'ok  ' if finding.good else 'BAD '} {finding.what}" + (f" - {finding.remedy}" * (not finding.good)))
    if not all(finding.good for finding in findings):
        raise typer.Exit(1)


@app.command()
def data(
    name: Annotated[str, typer.Argument(help="a data set")],
    sets: Sets = NONE,
    data_root: Root = None,
    out: Annotated[Path, typer.Option(help="where the sample sheet goes")] = Path(),
) -> None:
    """Fetch a data set if it is not there, describe it, and draw a sheet of samples."""
    from sweep.run import root_of
    from sweep.tools import show_data

    for line in show_data(name, sets, root_of(data_root), out):
        print(line)


# -- a sweep under way -------------------------------------------------------------------------------------------


@app.command()
def status(directory: Dir) -> None:
    """Where a sweep stands, and what went wrong in it."""
    from sweep.records import load
    from sweep.report import status as lines

    for line in lines(load(directory)):
        print(line)


@app.command()
def watch(directory: Dir, every: Annotated[float, typer.Option(help="seconds")] = 2.0) -> None:
    """Follow a running sweep until its driver ends."""
    from sweep.console import Watch, describe
    from sweep.folder import is_busy
    from sweep.records import load

    seen: set[int] = set()
    view = Watch(load(directory), 1, quiet=True)
    while True:
        busy = is_busy(directory)
        records = view.records = load(directory)
        for number, configuration in records.configurations.items():
            if configuration.state != "running" and number not in seen:
                seen.add(number)
                view.say(describe(records, configuration))
        view.say(view.line())
        if view.console.quiet:  # nobody reads any more
            return
        if not busy:
            print("finished" if records.finished else f"no driver is at work; `sweep resume {directory}` goes on")
            return
        time.sleep(every)


@app.command()
def logs(
    directory: Dir,
    trial: Annotated[str, typer.Argument(help="id of a trial, or its beginning")],
    lines: Annotated[int, typer.Option("-n", help="lines from the end")] = 40,
) -> None:
    """What a trial printed, all attempts."""
    from analysis.explain import find
    from sweep.records import load

    found = _user(find, load(directory), trial)
    path = directory / "trials" / found.id / "log.txt"
    if not path.exists():
        raise UserError(f"{found.id}: has printed nothing yet")
    print("\n".join(path.read_text(errors="replace").splitlines()[-lines:]))


@app.command()
def stop(
    directory: Dir,
    patience: Annotated[float, typer.Option(help="seconds to wait for the driver to end")] = 600.0,
) -> None:
    """End a running sweep in order; `sweep resume` goes on later."""
    from sweep.folder import is_busy
    from sweep.records import load

    load(directory)
    if not is_busy(directory):
        raise UserError(f"{directory}: is not running")
    (directory / "stop").touch()
    print("asked to stop; running trials write a checkpoint after their epoch")
    deadline = time.monotonic() + patience
    while is_busy(directory):
        if time.monotonic() > deadline:
            raise UserError(f"{directory}: still runs after {patience:.0f} s; see `sweep status {directory}`")
        time.sleep(0.3)
    print(f"stopped; `sweep resume {directory}` goes on")


@app.command()
def resume(
    directory: Dir,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="try failed trials again too")] = False,
    point: Points = NONE,
    data_root: Root = None,
    address: Address = None,
) -> None:
    """Go on with a sweep that was stopped or killed; a finished one is left as it is."""
    from sweep.run import extend as extend_sweep
    from sweep.run import resume as resume_sweep

    if point:
        _conclude(extend_sweep(directory, enqueue=[_point(text) for text in point]))
        return
    options: dict[str, Any] = {"data_root": str(data_root.resolve()) if data_root else None, "address": address}
    _conclude(resume_sweep(directory, retry_failed=retry_failed, **options))


@app.command()
def extend(
    directory: Dir,
    trials: Annotated[int, typer.Option(min=0, help="further configurations")] = 0,
    evaluation: Annotated[list[str], typer.Option(help="a further evaluation of every checkpoint")] = NONE,
    sets: Sets = NONE,
    point: Points = NONE,
) -> None:
    """More of the same sweep."""
    from sweep.run import extend as extend_sweep

    if not (trials or evaluation or sets or point):
        raise UserError("extend: say what to add: --trials N, --evaluation NAME, --point KEY=VALUE,... or --set")
    enqueue = [_point(text) for text in point]
    _conclude(extend_sweep(directory, trials=trials, evaluations=evaluation, sets=sets, enqueue=enqueue))


@app.command()
def retry(
    directory: Dir,
    failed: Annotated[bool, typer.Option("--failed", help="every failed trial, with its attempts again")] = False,
) -> None:
    """Try failed trials again."""
    from sweep.run import resume as resume_sweep

    if not failed:
        raise UserError("retry: write `sweep retry DIR --failed`")
    _conclude(resume_sweep(directory, retry_failed=True))


# -- results -----------------------------------------------------------------------------------------------------


@app.command()
def table(
    directory: Dir,
    by: Annotated[str, typer.Option(help="configuration, trial or evaluation")] = "configuration",
    out: Annotated[Path | None, typer.Option(help="every column, into a .csv, .parquet, .md or .json file")] = None,
    wide: Annotated[bool, typer.Option("--all", help="every column, as Markdown")] = False,
) -> None:
    """The results as a table."""
    from analysis.table import markdown, write
    from analysis.table import table as make
    from sweep.records import load
    from sweep.report import front

    if by not in ("configuration", "trial", "evaluation"):
        raise UserError(f"--by {by}: choose configuration, trial or evaluation")
    records = load(directory)
    frame = make(records, by)  # type: ignore[arg-type]
    if out is not None:
        print(_user(write, frame, out))
    elif wide or by == "evaluation" or not len(frame):
        print(markdown(frame))
    else:
        for line in front(records, frame, ("state",) if by == "configuration" else ("trial", "seed", "status")):
            print(line)


@app.command()
def best(
    directory: Dir,
    wide: Annotated[bool, typer.Option("--all", help="every column, as Markdown")] = False,
) -> None:
    """The best configuration, or the Pareto front of several objectives."""
    from analysis.table import best as find
    from analysis.table import markdown
    from sweep.records import load
    from sweep.report import front

    records = load(directory)
    found = find(records)
    if len(found.frame):
        for line in [markdown(found.frame)] if wide else front(records, found.frame, ("trials",)):
            print(line)
    for note in found.notes:
        print(f"note: {note}")


@app.command()
def explain(
    directory: Dir,
    metric: Annotated[str, typer.Argument(help="such as linear/all/val/top1")],
    trial: Annotated[str, typer.Argument(help="id of a trial, or its beginning")],
) -> None:
    """Where one number comes from, and the command that makes it again."""
    from analysis.explain import explain as trace
    from analysis.explain import text
    from sweep.records import load

    print(text(_user(trace, load(directory), metric, trial)))


@app.command()
def report(
    directory: Dir,
    out: Annotated[Path | None, typer.Option(help="default DIR/report")] = None,
) -> None:
    """All figures as PNG and one HTML page."""
    from analysis.report import report as write
    from sweep.records import load

    print(write(load(directory), out or directory / "report"))


@app.command("eval")
def eval_(
    checkpoint: Annotated[Path, typer.Argument(help="folder of a checkpoint or of an exported model")],
    evaluations: Annotated[list[str], typer.Argument(help="names of evaluations")],
    sets: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="an option, such as parts=[group] or linear.limit=9")
    ] = NONE,
    data_root: Root = None,
    out: Annotated[
        Path | None, typer.Option(help="folder of features and artifacts; default beside the checkpoint")
    ] = None,
) -> None:
    """Evaluate any checkpoint, without a sweep."""
    from sweep.run import root_of
    from sweep.tools import evaluate_checkpoint

    for line in evaluate_checkpoint(checkpoint, evaluations, sets, root_of(data_root), out):
        print(line, flush=True)


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="folder of a checkpoint, or of a sweep (its best configuration)")],
    out: Annotated[Path, typer.Argument(help="folder of the exported model")],
    trial: Annotated[str | None, typer.Option(help="of a sweep: this pretraining trial")] = None,
) -> None:
    """Write an encoder as safetensors and JSON, usable without Ray and Aim."""
    from sweep.tools import export_model

    for line in export_model(source, out, trial):
        print(line)


@app.command()
def ui(
    directory: Dir,
    port: Annotated[int, typer.Option(help="0 = any free one")] = 0,
    optuna: Annotated[bool, typer.Option("--optuna", help="the Optuna dashboard instead of Aim")] = False,
) -> None:
    """Open the sweep in Aim, on ready-made comparisons; on this machine only."""
    from sweep.records import load

    records = load(directory)
    if optuna:
        from sweep.tools import optuna_dashboard

        optuna_dashboard(records, port)
        return
    from sweep.ui import serve

    serve(directory, port=port)


@app.command()
def track(
    directory: Dir,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="make the Aim repository again from the folder")] = False,
) -> None:
    """Write the sweep into Aim again, from its folder alone."""
    from sweep.records import load
    from sweep.tracking import rebuild as make

    if not rebuild:
        raise UserError("track: write `sweep track --rebuild DIR`")
    count = make(directory, load(directory), lambda done, total: print(f"{done}/{total} runs", flush=True))
    print(f"{count} runs in {directory / 'aim'}")


@app.command()
def clean(
    directory: Dir,
    features: Annotated[
        bool, typer.Option("--features", help="delete cached features; they are computed again")
    ] = False,
    checkpoints: Annotated[
        bool, typer.Option("--checkpoints", help="delete checkpoints of configurations that are not the best")
    ] = False,
) -> None:
    """How much disk a sweep takes, and give some of it back."""
    from sweep.tools import clean_folder

    for line in clean_folder(directory, features, checkpoints):
        print(line)


# -- helpers -----------------------------------------------------------------------------------------------------


def _with_workers(sets: list[str], workers: int | None) -> list[str]:
    return [*sets, *([f"resources.workers={workers}"] if workers is not None else [])]


def _point(text: str) -> dict[str, Any]:
    from sweep.spec import settings_of

    return settings_of([item for item in text.split(",") if item])


def _user(function: Any, *arguments: Any) -> Any:
    """Call a function whose ValueError is the user's to mend."""
    try:
        return function(*arguments)
    except ValueError as error:
        raise UserError(str(error)) from None


def _conclude(directory: Path) -> None:
    """What is to be seen at the end of a run: best, figures, how to look further."""
    from sweep.records import load
    from sweep.report import conclude

    for line in conclude(load(directory)):
        print(line)


if __name__ == "__main__":
    main()
