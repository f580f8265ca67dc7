"""How the experiments draw: colours that everybody tells apart, axes with units, quiet grids."""

from typing import Any

# Okabe and Ito's colours: told apart in every common form of colour blindness.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def axes(x_label: str, y_label: str, width: float = 7.0, height: float = 4.2) -> tuple[Any, Any]:
    """Return a figure and its axes, with both labels, units included; inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    place = figure.subplots()
    place.set_xlabel(x_label)
    place.set_ylabel(y_label)
    place.spines[["top", "right"]].set_visible(False)
    place.grid(alpha=0.25)
    return figure, place


def legend(figure: Any, place: Any) -> None:
    """Name what is drawn, to the right of the axes, where it covers no data."""
    handles, names = place.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", frameon=False)
