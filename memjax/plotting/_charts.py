"""Charts: how a network grew, what it forgets and what it costs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from memjax._checks import check_labels, check_positive
from memjax.evaluation import memories_added
from memjax.plotting._figure import BLUE, VERMILION, make_figure, write_cells


def growth(infos: Any, labels: Any, window: int = 1000) -> Any:
    """Draw the number of memories and the prequential accuracy over the stream.

    The prequential accuracy is the share of right answers, each given before its example was
    learned.

    Args:
        infos: the infos of ``fit``, each with an axis [N].
        labels: integers [N], the labels that were learned.
        window: over how many examples each point averages; at most a quarter of the stream.

    Raises:
        ValueError, TypeError: the network gives no answers or has no memories, or an argument has
            another shape, dtype or range.

    Example:
        >>> import memjax
        >>> digits = memjax.datasets.load("digits", "test")
        >>> network, params = memjax.memory_network((8, 8, 1), num_classes=10)
        >>> _, _, infos = memjax.learn(network, params, digits.images[:200], digits.labels[:200])
        >>> growth(infos, digits.labels[:200]).axes[0].get_xlabel()
        'examples seen'
    """
    size = np.cumsum(memories_added(infos))
    if not hasattr(infos, "predicted"):
        raise ValueError("infos: expected those of a network that answers, got no `predicted`.")
    try:
        labels = np.asarray(labels)
    except (TypeError, ValueError):
        raise TypeError(f"labels: expected an array, got {type(labels).__name__}.") from None
    check_labels(labels, len(size), None)
    check_positive("window", window)
    seen = np.arange(1, len(labels) + 1)
    hits = np.cumsum((np.asarray(infos.predicted) == labels) & (labels >= 0))
    window = max(min(window, len(labels) // 4), 1)
    recent = (hits[window - 1 :] - np.concatenate([[0], hits[:-window]])) / window
    figure = make_figure(6, 3.6)
    left = figure.add_subplot()
    # Not clipped: a line at the edge would show half its width.
    left.plot(seen, size, color=BLUE, clip_on=False)
    left.set_xlabel("examples seen")
    left.set_ylabel("memories", color=BLUE)
    left.set_ylim(0)
    right = left.twinx()
    right.plot(seen[window - 1 :], 100 * recent, color=VERMILION, linewidth=1, clip_on=False)
    right.set_ylabel(f"prequential accuracy, last {window:,} examples, %", color=VERMILION)
    right.set_ylim(top=100)
    left.set_title(
        f"{size[-1]:,} memories after {len(seen):,} examples, "
        f"{100 * recent[-1]:.1f} % of the last {window:,} answers right",
        fontsize=9,
    )
    for axes in (left, right):
        axes.spines["top"].set_visible(False)
    return figure


def accuracy_matrix(matrix: Sequence[Any], task_names: Sequence[str]) -> Any:
    """Draw how well each task is known after every task, for tasks learned one after another.

    Each column shows whether its task is forgotten while others are learned. The numbers are
    accuracies in per cent.

    Args:
        matrix: one row for each task, measured after it was learned. A row holds the accuracies, 0
            to 1, on the tasks learned so far, and may go on with later tasks.
        task_names: the names of the tasks, in the order in which they were learned.

    Raises:
        ValueError: there is not one row for each task, or a row is too short or too long.

    Example:
        >>> figure = accuracy_matrix([[1.0], [0.9, 1.0]], ("zeros and ones", "twos and threes"))
        >>> figure.axes[0].get_title()
        'after the last task 95.00 % on average'
    """
    number, lengths = len(task_names), [len(row) for row in matrix]
    if len(lengths) != number or any(
        not learned <= length <= number for learned, length in enumerate(lengths, start=1)
    ):
        raise ValueError(
            f"matrix: expected a row for each of {number} tasks, the first of 1 to {number} "
            f"accuracies, the last of {number}, got rows of {lengths}."
        )
    percent = np.full((number, number), np.nan)
    for place, row in zip(percent, matrix, strict=True):
        place[: len(row)] = 100 * np.asarray(row)
    figure = make_figure(0.7 * number + 2.6, 0.6 * number + 1.8)
    axes = figure.add_subplot()
    image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(number), task_names, rotation=45, ha="right")
    axes.set_yticks(range(number), task_names)
    write_cells(axes, percent, ~np.isnan(percent), percent > 50)
    figure.colorbar(image, label="accuracy, %")
    axes.set_xlabel("tested on")
    axes.set_ylabel("after learning")
    axes.set_title(f"after the last task {percent[-1].mean():.2f} % on average")
    return figure


def pareto(sizes: Any, accuracies: Any, axes: Any = None, **style: Any) -> Any:
    """Draw accuracy against memories: which settings give the most for the fewest.

    Each point is a setting, at its means over repetitions (orders of the stream, for instance). The
    line joins the settings that no other beats with as few memories. The band is the standard
    deviation over the repetitions, to both sides.

    Args:
        sizes: integers [S, R], memories in use (at least 1), for S settings with R repetitions
            each. The rows may differ in length.
        accuracies: 0 to 1, one for each of the sizes.
        axes: the Matplotlib axes to draw on, beside other curves; None for a figure of its own.
        **style: of the line, as Matplotlib's ``plot`` takes it: ``label``, ``color``, ``marker``.

    Raises:
        ValueError: the two are not tables of one shape.

    Example:
        >>> figure = pareto([[10, 12], [20, 20], [30, 34]], [[0.7, 0.8], [0.9, 1.0], [0.8, 0.9]])
        >>> figure.axes[0].lines[-1].get_xdata().tolist()
        [11.0, 20.0]
    """
    shapes, others = ([np.shape(row) for row in table] for table in (accuracies, sizes))
    if shapes != others or any(len(shape) != 1 for shape in shapes):
        raise ValueError(
            "accuracies: expected a table [S, R] of the shape of sizes, "
            f"got rows of shapes {shapes} and sizes of {others}."
        )
    size = np.array([np.mean(row) for row in sizes])
    mean = np.array([100 * np.mean(row) for row in accuracies])
    deviation = np.array([100 * np.std(row, ddof=1) if len(row) > 1 else 0 for row in accuracies])
    order = np.lexsort((-mean, size))  # of equally many memories the most accurate first
    best_before = np.maximum.accumulate(mean[order])[:-1]
    front = order[np.concatenate([[True], mean[order][1:] > best_before])]
    is_alone = axes is None
    figure = make_figure(7, 4) if is_alone else axes.figure
    from matplotlib.ticker import LogLocator, NullLocator  # installed: there is a figure

    names = ("a setting", "± s.d. over repetitions") if is_alone else ("", "")
    axes = figure.add_subplot() if is_alone else axes
    label = "beaten by none as small" if is_alone else ""
    style = {"color": BLUE, "marker": "o", "label": label} | style
    colour = style["color"]
    below, above = (mean - deviation)[front], (mean + deviation)[front]
    axes.plot(size, mean, style["marker"], color=colour, markersize=4, alpha=0.4, label=names[0])
    axes.fill_between(
        size[front], below, above, color=colour, alpha=0.2, linewidth=0, label=names[1]
    )
    axes.plot(size[front], mean[front], **style)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_locator(NullLocator())
    if is_alone:
        axes.set_xlabel("memories")
        axes.set_ylabel("accuracy, %")
        figure.legend(loc="outside upper center", ncols=3, frameon=False)  # covers no point
    return figure
