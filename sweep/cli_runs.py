"""The verbs before a sweep and while it runs; all heavy imports are inside, so that `--help` and `ls` are quick."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from sweep.command import NONE, Address, Dir, Points, Root, Sets, UserError, user

app = typer.Typer()

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
    price, count = made.price(), made.counts()["pretrainings"]
    print(
        f"  price     about {duration(price.seconds)} a pretraining ({price.how}), {slots} at once on this machine: "
        f"{duration(price.seconds * count / slots)}; rungs may save some"
    )
    encoding = price.encoded * price.encoding
    print(
        f"  encoding  {price.encoded:,} items to judge a checkpoint: {duration(encoding)}, "
        f"{duration(encoding * count / slots)} in all; their transforms, probes and the start come on top"
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
    render: Annotated[
        tuple[str, Path] | None,
        typer.Option(
            metavar="SOURCE OUT", help="make a set in the folder OUT, of meshes, words, sheets ..., for --set views=50"
        ),
    ] = None,
) -> None:
    """Fetch a data set if it is not there, describe it, and draw a sheet of images; or make one of its sources."""
    from sweep.run import root_of
    from sweep.tools import render_data, show_data

    lines = render_data(name, sets, *render) if render else show_data(name, sets, root_of(data_root, made=True), out)
    for line in lines:
        print(line, flush=True)


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
    trial: Annotated[str, typer.Argument(help="id of a trial, its beginning, or the number of a configuration")],
    lines: Annotated[int, typer.Option("-n", help="lines from the end")] = 40,
) -> None:
    """What a trial printed, all attempts."""
    from analysis.explain import find
    from sweep.records import load

    found = user(find, load(directory), trial)
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


# -- helpers ---------------------------------------------------------------------------------------------------


def _with_workers(sets: list[str], workers: int | None) -> list[str]:
    return [*sets, *([f"resources.workers={workers}"] if workers is not None else [])]


def _point(text: str) -> dict[str, Any]:
    from sweep.spec import settings_of

    return settings_of([item for item in text.split(",") if item])


def _conclude(directory: Path) -> None:
    """What is to be seen at the end of a run: best, figures, how to look further."""
    from sweep.records import load
    from sweep.report import conclude

    for line in conclude(load(directory)):
        print(line)
