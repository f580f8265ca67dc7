"""How the experiments draw: colours that everybody tells apart, axes with units, quiet grids."""

from collections.abc import Sequence
from typing import Any

from experiments.records import TITLES

# Okabe and Ito's colours: told apart in every common form of colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def style(number: int) -> dict[str, str]:
    """Return the colour and the marker of a line; no two of the first 49 share both."""
    turn, index = divmod(number, len(COLOURS))
    return {"color": COLOURS[index], "marker": MARKERS[(index + turn) % len(MARKERS)]}


def axes(x_label: str, y_label: str, width: float = 7.0, height: float = 4.2) -> tuple[Any, Any]:
    """Return a figure and its axes, with both labels, units included; inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    place = figure.subplots()
    place.set_xlabel(x_label)
    place.set_ylabel(y_label)
    _quieten(place)
    return figure, place


def panels(
    titles: Sequence[str],
    x_label: str,
    y_label: str,
    width: float = 8.0,
    height: float = 4.2,
    is_y_shared: bool = False,
    num_columns: int | None = None,
) -> tuple[Any, list[Any]]:
    """Return a figure with axes side by side, one for each title, and each label once.

    Args:
        titles: what each of the axes shows.
        x_label: units included.
        y_label: units included; empty if the ticks are names.
        width: inches.
        height: inches.
        is_y_shared: one vertical scale for all of them.
        num_columns: how many axes stand in a row; None for all.
    """
    from matplotlib.figure import Figure

    columns = num_columns or len(titles)
    figure = Figure(figsize=(width, height), layout="constrained")
    places = figure.subplots(
        -(-len(titles) // columns), columns, squeeze=False, sharey=is_y_shared
    ).ravel()
    for place, title in zip(places, titles, strict=False):
        place.set_title(title, fontsize="medium")
        _quieten(place)
    for place in places[len(titles) :]:
        place.remove()
    figure.supxlabel(x_label, fontsize="medium")
    figure.supylabel(y_label, fontsize="medium")
    return figure, list(places[: len(titles)])


def dataset_panels(
    records: list[dict[str, Any]], x_label: str, y_label: str, prefix: str = "", **options: Any
) -> tuple[Any, list[Any], list[list[dict[str, Any]]]]:
    """Return a figure, the axes of each dataset, and the records of each dataset.

    Args:
        records: of one or more datasets.
        x_label: units included.
        y_label: units included.
        prefix: of the titles of the datasets.
        **options: as ``panels`` takes them.
    """
    names = [name for name in TITLES if any(record["dataset"] == name for record in records)]
    groups = [[record for record in records if record["dataset"] == name] for name in names]
    titles = [prefix + TITLES[name] for name in names]
    return *panels(titles, x_label, y_label, **options), groups


def legend(figure: Any, *places: Any, is_above: bool = False) -> None:
    """Name everything that is drawn once, outside the axes, where the names cover no data.

    Args:
        figure: what ``axes`` or ``panels`` returned.
        *places: the axes.
        is_above: whether the names stand above the axes and not to their right.
    """
    named = {}
    for place in places:
        for handle, name in zip(*place.get_legend_handles_labels(), strict=True):
            named.setdefault(name, handle)
    where = "outside upper center" if is_above else "outside right upper"
    columns = len(named) if is_above else 1
    figure.legend(named.values(), named.keys(), loc=where, ncols=columns, frameon=False)


def name_rows(place: Any, names: Sequence[str]) -> None:
    """Name the rows 0, 1, ... of the axes, the first on top."""
    place.set_yticks(range(len(names)), names)
    place.set_ylim(len(names) - 0.5, -0.5)


def _quieten(place: Any) -> None:
    place.spines[["top", "right"]].set_visible(False)
    place.grid(alpha=0.25)
