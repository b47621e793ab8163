"""The verbs that read, evaluate, export, show and clean what a sweep left; heavy imports are inside."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sweep.command import NONE, Dir, Root, Sets, UserError, user

app = typer.Typer()
Metrics = Annotated[
    list[str], typer.Option("--metric", metavar="PATTERN", help="only these metrics, such as 'linear/*/test/top1'")
]


@app.command()
def table(
    directory: Dir,
    by: Annotated[str, typer.Option(help="configuration, trial or evaluation")] = "configuration",
    out: Annotated[Path | None, typer.Option(help="every column, into a .csv, .parquet, .md or .json file")] = None,
    wide: Annotated[bool, typer.Option("--all", help="every column, as Markdown")] = False,
    metric: Metrics = NONE,
) -> None:
    """The results as a table; with --metric as papers have it: mean and deviation over seeds in one cell."""
    from analysis.table import chosen, markdown, write
    from analysis.table import table as make
    from sweep.records import load
    from sweep.report import front

    if by not in ("configuration", "trial", "evaluation"):
        raise UserError(f"--by {by}: choose configuration, trial or evaluation")
    if metric and by != "configuration":
        raise UserError(f"--by {by}: --metric shows configurations; leave one of the two out")
    records = load(directory)
    frame = user(chosen, records, metric) if metric else make(records, by)  # type: ignore[arg-type]
    if out is not None:
        print(user(write, frame, out))
    elif wide or metric or by == "evaluation" or not len(frame):
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
    trial: Annotated[str, typer.Argument(help="id of a trial, its beginning, or the number of a configuration")],
) -> None:
    """Where one number comes from, and the command that makes it again."""
    from analysis.explain import explain as trace
    from analysis.explain import text
    from sweep.records import load

    print(text(user(trace, load(directory), metric, trial)))


@app.command()
def report(
    directory: Dir,
    out: Annotated[Path | None, typer.Option(help="default DIR/report")] = None,
    metric: Metrics = NONE,
) -> None:
    """All figures as PNG and one HTML page."""
    from analysis.report import report as write
    from sweep.records import load

    print(user(write, load(directory), out or directory / "report", metric))


@app.command("eval")
def eval_(
    encoder: Annotated[str, typer.Argument(help="folder of a checkpoint or exported model, or a name with --data")],
    evaluations: Annotated[list[str], typer.Argument(help="names of evaluations")],
    sets: Annotated[
        list[str],
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="an option, such as parts=[group] or linear.limit=9; of a named encoder also views.size=96",
        ),
    ] = NONE,
    data: Annotated[str | None, typer.Option(help="what a named encoder is shown; see `sweep ls datasets`")] = None,
    weights: Annotated[
        Path | None, typer.Option(help="file of a named encoder, or a folder that has it; default models/pretrained")
    ] = None,
    untrained: Annotated[bool, typer.Option("--untrained", help="a baseline: drawn weights in its place")] = False,
    seed: Annotated[int, typer.Option(min=0, help="of drawn weights")] = 0,
    device: Annotated[str, typer.Option(help="auto = a GPU where there is one, cpu, cuda")] = "auto",
    data_root: Root = None,
    out: Annotated[
        Path | None,
        typer.Option(help="folder of features and artifacts; default beside the checkpoint, or runs/extractors"),
    ] = None,
) -> None:
    """Evaluate a checkpoint, or an encoder by its name (`sweep ls extractors`), without a sweep."""
    from sweep.encoders import Given, evaluate
    from sweep.run import root_of

    given = Given(data, weights, untrained, seed, device)
    for line in evaluate(encoder, evaluations, sets, root_of(data_root), out, given):
        print(line, flush=True)


@app.command()
def export(
    source: Annotated[Path, typer.Argument(help="folder of a checkpoint, or of a sweep (its best configuration)")],
    out: Annotated[Path, typer.Argument(help="folder of the exported model")],
    trial: Annotated[
        str | None,
        typer.Option(help="of a sweep: a pretraining's id, or a configuration's number"),
    ] = None,
) -> None:
    """Write an encoder as safetensors and JSON, usable without Ray and Aim."""
    from sweep.tools import export_model

    for line in export_model(source, out, trial):
        print(line)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="a checkpoint of a published code, as torch.save wrote it")],
    out: Annotated[Path, typer.Argument(help="folder of the checkpoint that is made of it")],
    method: Annotated[str, typer.Option(help="its method, such as SIE, SimCLR, VICRegEquiMod; backbone = no heads")],
    data: Annotated[str, typer.Option(help="the data it is for")],
    sets: Sets = NONE,
    data_root: Root = None,
) -> None:
    """Make a published code's weights a checkpoint that `eval`, `export` and `init` take; no code in it is run."""
    from sweep.run import root_of
    from sweep.tools import import_model

    for line in import_model(file, out, method, data, sets, root_of(data_root)):
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
    from analysis.report import figures
    from sweep.records import load
    from sweep.tracking import rebuild as make

    if not rebuild:
        raise UserError("track: write `sweep track --rebuild DIR`")
    records = load(directory)
    drawn = figures(records) if records.finished else None
    count = make(directory, records, lambda done, total: print(f"{done}/{total} runs", flush=True), drawn)
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
