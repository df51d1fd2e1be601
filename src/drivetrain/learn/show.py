"""Pictures with their labels on a figure."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from drivetrain.arrays import FloatArray
from drivetrain.errors import InvalidConfig

__all__ = ["ShownFigure", "draw_batch"]

_CELL_INCHES = 2.4
_TITLE_INCHES = 0.3
_TITLE_CHARS = 28  # as many as fit above a picture, in a line


class ShownFigure(Figure):
    """A figure that pyplot does not know of, so that a notebook shows it once: as what a cell gives back."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=100)
        return buffer.getvalue()


def draw_batch(
    pictures: FloatArray,
    titles: Sequence[str],
    *,
    nrows: int | None = None,
    ncols: int | None = None,
    figsize: tuple[float, float] | None = None,
) -> ShownFigure:
    """Pictures (n, h, w, 3) in [0, 1] in rows, a title above each; as near to a square as they go if nothing is said.

    What has no place is not drawn. Raises InvalidConfig for no row or no column.
    """
    rows, columns = _lay_out(len(pictures), nrows, ncols)
    shape = pictures.shape[1] / pictures.shape[2]  # h / w
    size = figsize or (columns * _CELL_INCHES, rows * (_CELL_INCHES * shape + _TITLE_INCHES))
    figure = ShownFigure(figsize=size, layout=ConstrainedLayoutEngine(h_pad=0.04, w_pad=0.03, hspace=0.0, wspace=0.0))
    axes: Any = figure.subplots(rows, columns, squeeze=False)
    for place, axis in enumerate(axes.flat):
        axis.set_axis_off()
        if place < len(pictures):
            axis.imshow(pictures[place])
            axis.set_title(_shorten(titles[place]), fontsize=10)
    return figure


def _lay_out(count: int, nrows: int | None, ncols: int | None) -> tuple[int, int]:
    for name, given in (("nrows", nrows), ("ncols", ncols)):
        if given is not None and given < 1:
            raise InvalidConfig(f"show_batch({name})", got=given, want="a whole number of at least 1")
    if nrows is None and ncols is None:
        rows = max(1, math.isqrt(count))
        return rows, math.ceil(count / rows)
    rows = nrows or math.ceil(count / (ncols or 1))
    columns = ncols or math.ceil(count / rows)
    return rows, columns


def _shorten(title: str) -> str:
    lines = title.split("\n")
    return "\n".join(line if len(line) <= _TITLE_CHARS else line[: _TITLE_CHARS - 1] + "…" for line in lines)
