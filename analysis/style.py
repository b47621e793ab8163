"""How every figure looks: a palette that colour-blind readers can tell apart, and how long names are broken."""

from __future__ import annotations

import re

# Okabe and Ito (2008), "Color universal design"
COLORS = {
    "black": "#222222",
    "orange": "#E69F00",
    "sky": "#56B4E9",
    "green": "#009E73",
    "blue": "#0072B2",
    "red": "#D55E00",
    "purple": "#CC79A7",
    "grey": "#999999",
}
CYCLE = [COLORS[name] for name in ("blue", "orange", "green", "red", "purple", "sky", "black")]
SEQUENTIAL = "cividis"
# of shares in cells: white for nothing
SHARES = "Blues"
DIVERGING = "RdBu_r"  # blue for negative; matplotlib and plotly call it the same
FONT = "DejaVu Sans, Verdana, sans-serif"


def wrapped(name: str, width: int = 28) -> str:
    """A name in lines of about `width`, broken after a slash, dot or blank, after an underscore only if need be."""
    lines = [""]
    for piece in _pieces(name, width):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return "\n".join(line.rstrip() for line in lines)


def _pieces(name: str, width: int) -> list[str]:
    pieces = re.findall(r"[^/. ]*[/. ]+|[^/. ]+", name)
    return [
        part for piece in pieces for part in ([piece] if len(piece) <= width else re.findall(r"[^_]*_+|[^_]+", piece))
    ]
