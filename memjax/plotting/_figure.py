"""What all figures share."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from memjax._checks import check_kind, import_package

WIDTH = 6.0  # of a figure, unless that would make its pictures too small
LINE = 0.16  # height of a line of text
GAP = 0.06

# Okabe and Ito's colours, which are told apart in every common form of colour blindness. Only on
# blue, the first, white can be read better than black.
BLUE, VERMILION = "#0072B2", "#D55E00"
COLOURS = (BLUE, VERMILION, "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def make_figure(width: float, height: float, layout: Any = "constrained") -> Any:
    """Return an empty figure of a size in inches."""
    figures = import_package("matplotlib.figure", "A figure")
    return figures.Figure(figsize=(width, height), layout=layout, dpi=160)


def canvas(width: float, height: float, title: str) -> tuple[Any, Any]:
    """Return a figure, and axes over all of it that measure in inches from its upper left."""
    width = max(width, WIDTH)
    figure = make_figure(width, height, layout=None)
    axes = figure.add_axes((0, 0, 1, 1))
    fill_with_inches(axes, width, height)
    figure.suptitle(title, fontsize=9, y=1 - GAP / height)
    return figure, axes


def fill_with_inches(axes: Any, width: float, height: float) -> None:
    """Let axes that fill a figure measure in inches from its upper left."""
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)


def check_names(class_names: Any, least: int, most: float = math.inf) -> None:
    """Raise unless there is a name for each class."""
    check_kind("class_names", class_names, Sequence, "a name for each class")
    for index, name in enumerate(class_names):
        check_kind(f"class_names[{index}]", name, str, "a string")
    if not least <= len(class_names) <= most:
        raise ValueError(
            f"class_names: expected {least} names{'' if least == most else ' or more'}, "
            f"got {len(class_names)}."
        )


def write_cells(
    axes: Any, percent: np.ndarray, is_written: np.ndarray, is_dark: np.ndarray
) -> None:
    """Write numbers into the cells of a table, white where the cell is dark."""
    for row, column in np.argwhere(is_written).tolist():
        axes.text(
            column,
            row,
            f"{percent[row, column]:.1f}",
            ha="center",
            va="center",
            color="white" if is_dark[row, column] else "black",
            fontsize=8,
        )
