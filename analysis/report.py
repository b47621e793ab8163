"""Everything about a sweep in one offline HTML page, and every figure as PNG for a paper or a slide."""

from __future__ import annotations

import html
import os
import re
import shlex
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis import compare, curves, importance, paper, pareto, profile
from analysis.chart import Chart
from analysis.frames import STATES, Results, collect, matching
from analysis.table import Best, best_of, cell, of_results, write
from sweep.records import Records

if TYPE_CHECKING:
    import plotly.graph_objects as go

PAGE = "report.html"
LONGEST_TABLE = 500
STYLE = """
body { font: 15px/1.5 system-ui, 'DejaVu Sans', Verdana, sans-serif; color: #222; margin: 0 auto; padding: 1.5rem 2rem;
       max-width: 1280px }
h1 { margin: 0 } h2 { margin: 2.2rem 0 .6rem; border-bottom: 1px solid #ddd }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .1rem 1.2rem } .facts dt { color: #666 }
.facts dd { margin: 0; overflow-wrap: anywhere } .state { color: #666; font-weight: normal; font-size: 1rem }
.note { background: #fff6e0; border-left: 4px solid #E69F00; padding: .3rem .8rem; margin: .5rem 0 }
.wide { overflow: auto; max-height: 34rem } table { border-collapse: collapse; font-size: 13px }
th, td { padding: .2rem .6rem; border-bottom: 1px solid #e6e6e6; text-align: right; white-space: nowrap }
th { position: sticky; top: 0; background: #f4f4f4; white-space: normal; min-width: 4rem;
     max-width: 12rem; vertical-align: bottom }
td.text { text-align: left } td.long { white-space: normal; min-width: 18rem; text-align: left }
pre { background: #f4f4f4; padding: .7rem 1rem; overflow: auto }
"""


def charts(results: Results, metrics: list[str] | None = None) -> dict[str, Chart]:
    """Every figure of a sweep by file name; those that need several objectives or a searched parameter only then.

    `metrics`: of the panels of `sensitivity` and `configurations`; the latter is drawn only then.
    """
    found: dict[str, Chart | None] = {"progress": compare.best_so_far(results), "pareto": pareto.chart(results)}
    found |= profile.charts(results)
    for name in results.parameters:
        found[f"sensitivity-{name}"] = curves.sensitivity(results, name, metrics)
    found["configurations"] = compare.configurations_chart(results, metrics) if metrics else None
    found["importance"] = importance.chart(results)
    found["correlation"] = compare.correlation_chart(results)
    found["parallel"] = compare.parallel_chart(results)
    found["training"] = curves.training(results)
    return {name: chart for name, chart in found.items() if chart is not None}


def figures(records: Records) -> dict[str, go.Figure]:
    """Every figure as an interactive plotly figure, for Aim or a notebook."""
    from analysis import interactive

    return {name: interactive.draw(chart) for name, chart in charts(collect(records)).items()}


def report(records: Records, out: Path, metrics: Sequence[str] = ()) -> Path:
    """Write `report.html`, `table.csv` and `figures/*.png` to the folder `out`; returns the path of the page.

    Works for a running sweep too, with what is there. Older figures in `out/figures` are replaced.

    Args:
        metrics: shell patterns; of the panels of `sensitivity` and `configurations`, which is drawn only then.

    Raises:
        ValueError: a pattern that no metric matches.
    """
    from analysis import interactive

    results = collect(records, metrics)
    drawn = charts(results, matching(results, metrics) or None)
    out.mkdir(parents=True, exist_ok=True)
    _figures(drawn, out / "figures")
    write(of_results(results), out / "table.csv")
    page = _page(results, {name: interactive.draw(chart) for name, chart in drawn.items()})
    temporary = out / f".{PAGE}.{os.getpid()}"
    temporary.write_text(page, encoding="utf-8")
    temporary.replace(out / PAGE)
    return out / PAGE


def _figures(drawn: dict[str, Chart], folder: Path) -> None:
    """The PNG files, in a folder that is replaced as a whole, so that no figure of an older state stays behind."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    for name, chart in drawn.items():
        paper.save(chart, temporary / f"{name}.png")
    shutil.rmtree(folder, ignore_errors=True)
    temporary.rename(folder)


def _page(results: Results, drawn: dict[str, Any]) -> str:
    records = results.records
    name = html.escape(str(records.spec["name"]))
    parts = [
        _header(results),
        _best(results, best_of(results)),
        _failures(records),
        *(_figure(title, figure, first=place == 0) for place, (title, figure) in enumerate(drawn.items())),
        _table(results),
        _reproduce(records),
    ]
    return (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>{name}</title>"
        f"<style>{STYLE}</style></head><body>\n" + "\n".join(part for part in parts if part) + "\n</body></html>\n"
    )


def state_of(records: Records) -> str:
    """One word for the sweep: finished, running or not started."""
    return "finished" if records.finished else "not finished" if records.trials else "not started"


def _header(results: Results) -> str:
    records, spec = results.records, results.records.spec
    states = results.configurations["state"].value_counts()
    counts = ", ".join(f"{states[state]} {state}" for state in STATES if state in states) or "none yet"
    planned = (spec.get("budget") or {}).get("trials", spec.get("trials"))
    facts = {
        "description": spec.get("description", ""),
        "objectives": ", ".join(f"{word} {metric}" for metric, word in results.directions.items()),
        "constraints": "; ".join(constraint(entry) for entry in spec.get("constraints", [])),
        "searched": "; ".join(f"{name}: {dimension(entry)}" for name, entry in results.space.items()),
        "configurations": counts + (f" (of {planned} planned)" if planned else ""),
        "seeds": f"{spec.get('seeds', 1)} per configuration",
        "trials": _trial_counts(records),
        "compute time": _cost(records),
        "versions": ", ".join(
            f"{key} {value}" for key, value in records.manifest.get("environment", {}).items() if value is not None
        ),
        "folder": str(records.directory),
        "written": time.strftime("%Y-%m-%d %H:%M %Z"),
    }
    entries = "".join(f"<dt>{key}</dt><dd>{html.escape(str(value))}</dd>" for key, value in facts.items() if value)
    warnings = "".join(f"<p class='note'>{html.escape(text)}</p>" for text in records.warnings.values())
    title = f"<h1>{html.escape(str(spec['name']))} <span class='state'>{state_of(records)}</span></h1>"
    return f"{title}<dl class='facts'>{entries}</dl>{warnings}"


def constraint(entry: dict[str, Any]) -> str:
    """A constraint of the spec in words."""
    bounds = {"at_least": "≥", "min": "≥", "at_most": "≤", "max": "≤"}
    return ", ".join(
        f"{entry['metric']} {sign} {entry[key]:g}" for key, sign in bounds.items() if entry.get(key) is not None
    )


def dimension(entry: dict[str, Any]) -> str:
    """An entry of the space in words."""
    if entry["kind"] == "choice":
        text = "{" + ", ".join(map(str, entry["values"])) + "}"
    else:
        text = f"[{entry['low']:g}, {entry['high']:g}]" + (" log" if entry.get("log") else "")
        text += f" step {entry['step']:g}" if entry.get("step") else ""
        text += "".join(f" or {value:g}" for value in entry.get("also") or ())
    conditions = ", ".join(f"{key} = {value}" for key, value in (entry.get("when") or {}).items())
    return f"{text} where {conditions}" if conditions else text


def _trial_counts(records: Records) -> str:
    counts: dict[tuple[str, str], int] = {}
    for trial in records.trials.values():
        counts[trial.stage, trial.status] = counts.get((trial.stage, trial.status), 0) + 1
    stages = dict.fromkeys(stage for stage, _ in counts)
    return "; ".join(
        f"{stage}: " + ", ".join(f"{count} {status}" for (of, status), count in counts.items() if of == stage)
        for stage in stages
    )


def _cost(records: Records) -> str:
    stages: dict[str, float] = {}
    for trial in records.trials.values():
        stages[trial.stage] = stages.get(trial.stage, 0.0) + trial.seconds
    parts = ", ".join(f"{stage} {duration(seconds)}" for stage, seconds in stages.items() if seconds)
    return f"{duration(sum(stages.values()))} ({parts})" if parts else ""


def duration(seconds: float) -> str:
    """Seconds in the unit that people would choose."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _best(results: Results, found: Best) -> str:
    title = "Best configuration" if len(results.objectives) == 1 else "Pareto set"
    notes = [*found.notes, *compare.disagreements(results)]
    text = "".join(f"<p class='note'>{html.escape(note)}</p>" for note in notes)
    shown = _html_table(found.frame) if len(found.frame) else ""
    if len(found.rivals):
        shown += f"<p>Not distinguishable from it:</p>{_html_table(found.rivals)}"
    beside = (
        "<p>Test metrics stand beside; nothing was chosen by them.</p>" if "/test/" in " ".join(found.frame) else ""
    )
    return f"<h2>{title}</h2>{text}{shown}{beside if shown else ''}"


def _failures(records: Records) -> str:
    rows = [
        {
            "configuration": trial.configuration,
            "stage": trial.stage,
            "name": trial.name,
            "trial": trial.id,
            "status": trial.status,
            "attempts": trial.attempts,
            "reason": trial.reason or "no reason was recorded",
        }
        for trial in records.trials.values()
        if trial.status in ("failed", "stopped")
    ]
    if not rows:
        return ""
    again = f"sweep retry {shlex.quote(str(records.directory))} --failed"
    failed = any(row["status"] == "failed" for row in rows)
    hint = f"<p>Run the failed ones again: <code>{html.escape(again)}</code></p>" if failed else ""
    return f"<h2>Failed and stopped trials</h2>{_html_table(pd.DataFrame(rows))}{hint}"


def _figure(name: str, figure: Any, first: bool) -> str:
    # the library goes in with the first figure, so that the page needs no network
    div = figure.to_html(full_html=False, include_plotlyjs=first, include_mathjax=False, config={"displaylogo": False})
    return f"<h2 id='{html.escape(name)}'>{html.escape(name.replace('-', ': ', 1).capitalize())}</h2>{div}"


def _table(results: Results) -> str:
    frame = of_results(results)
    shown = frame.head(LONGEST_TABLE)
    rest = (
        f"<p>The first {LONGEST_TABLE} of {len(frame)} rows; all are in table.csv.</p>"
        if len(frame) > len(shown)
        else ""
    )
    return f"<h2>All configurations</h2>{rest}{_html_table(shown)}" if len(frame) else ""


def _html_table(frame: pd.DataFrame) -> str:
    names = [re.sub("([/._])", r"\1<wbr>", html.escape(str(name))) for name in frame]  # where a long name may break
    head = "".join(f"<th>{name}</th>" for name in names)
    rows = "".join(
        "<tr>" + "".join(_html_cell(value) for value in row) + "</tr>" for row in frame.itertuples(index=False)
    )
    return f"<div class='wide'><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"


def _html_cell(value: Any) -> str:
    text = html.escape(cell(value))
    kind = "" if not isinstance(value, str) else " class='long'" if len(value) > 40 else " class='text'"
    return f"<td{kind}>{text}</td>"


def _reproduce(records: Records) -> str:
    folder = shlex.quote(str(records.directory))
    environment = records.manifest.get("environment", {})
    lines = [f"git checkout {shlex.quote(str(environment['revision']))}"] if environment.get("revision") else []
    if environment.get("dirty"):
        lines.append("# the working tree had changes that this revision does not hold")
    name = shlex.quote(str(records.spec["name"]))
    lines += [
        f"sweep run {name}              # the same search again; seeds and sampler are fixed",
        f"sweep resume {folder}         # what is missing of this one",
        f"sweep best {folder}           # the best configuration, as above",
        f"sweep explain {folder} METRIC TRIAL    # where one number comes from",
        f"sweep export {folder} OUT      # the best model, usable without this project's platform",
    ]
    return f"<h2>How to reproduce</h2><pre>{html.escape(chr(10).join(lines))}</pre>"
