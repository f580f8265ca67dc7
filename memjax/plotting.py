"""Matplotlib figures of what a network remembers, how it grew, how it answers and what it costs.

Every function returns a ``Figure`` of its own and touches no global state; save it with
``figure.savefig(path)``.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from memjax._checks import (
    check_kind,
    check_labels,
    check_positive,
    check_shape,
    check_values,
)
from memjax.base import UNLABELLED, Bank, Layer, check_state, walk
from memjax.evaluation import Evaluation, Explanation, memories_added
from memjax.memory import voted_labels
from memjax.vision.columns import Columns

__all__ = [
    "accuracy_matrix",
    "columns",
    "confusion",
    "growth",
    "memories",
    "pareto",
    "why",
]

# Okabe and Ito's blue and vermilion: told apart in every common form of colour blindness.
_BLUE, _VERMILION = "#0072B2", "#D55E00"


def memories(
    network: Layer, state: Any, class_names: tuple[str, ...], num_columns: int = 15
) -> Any:
    """Draw what the neurons remember: a row a label, the memories that learned most first.

    Where an encoder stands before the memories, each is drawn as the activity at every place. The
    banks of a network (colour channels) share the columns.

    Args:
        network: a network that ends in memories.
        state: what it has learned.
        class_names: the labels' names.
        num_columns: memories in a row.
    """
    banks = _banks(network, state)
    _check_names(class_names, least=1)
    check_positive("num_columns", num_columns)
    each = max(num_columns // len(banks), 1)
    rows = len(class_names)
    figure = _figure(0.62 * each * len(banks) + 1.4, 0.62 * rows + 0.7)
    axes = figure.subplots(rows, each * len(banks), squeeze=False)
    for place in axes.ravel():
        place.set_axis_off()
    for bank_index, bank in enumerate(banks):
        bank_state = bank.state
        labels, counts = np.asarray(voted_labels(bank_state.votes)), np.asarray(bank_state.counts)
        for label in range(rows):
            mine = np.flatnonzero((labels == label) & (counts > 0))
            mine = mine[np.argsort(-counts[mine], kind="stable")][:each]
            for column, index in enumerate(mine):
                place = axes[label, bank_index * each + column]
                _show(place, _picture(bank, bank.state.prototypes[index]))
                place.set_title(f"{counts[index]}", fontsize=6, pad=1)
    for label, name in enumerate(class_names):
        axes[label, 0].text(
            -0.15, 0.5, name, transform=axes[label, 0].transAxes, ha="right", va="center"
        )
    in_use = sum(int(bank.state.size) for bank in banks)
    figure.suptitle(
        f"{in_use:,} memories; of each label those that learned from most examples (number above)",
        fontsize=9,
    )
    return figure


def columns(network: Layer, state: Any, num_memories: int = 9) -> Any:
    """Draw what columns remember, by place: one panel a set of columns, a tile a place.

    Decorrelated memories are shown as the patches that they were made of; maps of other than three
    features in grey, all features added up.

    Args:
        network: a network that holds columns.
        state: what it has learned.
        num_memories: memories drawn at each place, the first stored; rounded up to a square.

    Raises:
        ValueError: the network holds no columns.
    """
    check_kind("network", network, Layer, "a memjax layer")
    check_state(network, state)
    check_positive("num_memories", num_memories)
    parts = walk(network, network.default_params(), state)
    found = [(part.layer, part.state) for part in parts if isinstance(part.layer, Columns)]
    if not found:
        raise ValueError("network: expected one that holds columns, found none.")
    side = math.ceil(num_memories**0.5)
    figure = _figure(7 * len(found), 7.4)
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for panel, (layer, learned) in zip(panels, found, strict=True):
        tile, patch = side * (layer.patch + 1) + 3, layer.patch
        is_coloured = layer.image_shape[2] == 3
        colours = (3,) if is_coloured else ()
        canvas = np.full((layer.places * tile, layer.places * tile, *colours), np.nan)
        for place, size in enumerate(learned.size.tolist()):
            row, column = divmod(place, layer.places)
            memories = np.asarray(learned.prototypes[place, : min(size, side**2)])
            if layer.dimensions is not None:
                memories = memories @ np.linalg.pinv(
                    np.asarray(learned.decorrelation.matrix[place])
                )
            for index, memory in enumerate(
                memories.reshape(-1, patch, patch, layer.image_shape[2])
            ):
                memory = memory if is_coloured else memory.sum(axis=2)
                memory = (memory - memory.min()) / max(np.ptp(memory), 1e-9)
                top = row * tile + index // side * (patch + 1)
                left = column * tile + index % side * (patch + 1)
                canvas[top : top + patch, left : left + patch] = memory
        panel.imshow(np.where(np.isnan(canvas), 1, canvas), cmap="gray")
        panel.set_axis_off()
        panel.set_title(
            f"{int(learned.size.sum()):,} memories at {layer.places**2} places; "
            "the first of each place",
            fontsize=9,
        )
    return figure


def growth(infos: Any, labels: Any, window: int = 1000) -> Any:
    """Draw the number of memories and the prequential accuracy over the stream.

    Args:
        infos: the infos of ``fit``, each with an axis [N].
        labels: integers [N], the labels that were learned.
        window: examples that one point of the accuracy averages.
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
    figure = _figure(7, 4)
    left = figure.add_subplot()
    left.plot(seen, size, color=_BLUE)
    left.set_xlabel("examples seen")
    left.set_ylabel("memories", color=_BLUE)
    left.set_ylim(0)
    right = left.twinx()
    right.plot(seen[window - 1 :], 100 * recent, color=_VERMILION, linewidth=1)
    right.set_ylabel(f"prequential accuracy, last {window:,} examples, %", color=_VERMILION)
    right.set_ylim(top=100)
    return figure


def confusion(evaluation: Evaluation, class_names: tuple[str, ...]) -> Any:
    """Draw the confusion matrix, in per cent of each true class.

    Args:
        evaluation: from ``memjax.evaluate``.
        class_names: the labels' names.
    """
    check_kind("evaluation", evaluation, Evaluation, "what memjax.evaluate returns")
    table = evaluation.confusion
    _check_names(class_names, least=len(table), most=len(table))
    names = [*class_names, "none"]
    if not table[:, -1].any():
        table, names = table[:, :-1], names[:-1]
    percent = 100 * table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    figure = _figure(6.4, 5.6)
    axes = figure.add_subplot()
    _heat_map(axes, percent, percent >= 0.05, class_names, names, "% of the label's examples")
    axes.set_xlabel("answer")
    axes.set_ylabel("label")
    axes.set_title(f"{100 * evaluation.accuracy:.2f} % of {int(table.sum()):,} right")
    return figure


def accuracy_matrix(matrix: Sequence[Any], task_names: Sequence[str]) -> Any:
    """Draw the accuracy on each task after every task of several learned one after another, in %.

    Down a column one sees a task being forgotten, or not.

    Args:
        matrix: a row a task, measured after it was learned: the accuracies, 0 to 1, on the tasks so
            far, or on more of them.
        task_names: the tasks' names, in the order they were learned.

    Raises:
        ValueError: other than one row a task, or a row that is too short or too long.

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
    figure = _figure(0.7 * number + 2.6, 0.6 * number + 1.8)
    axes = figure.add_subplot()
    _heat_map(axes, percent, ~np.isnan(percent), task_names, task_names, "accuracy, %")
    axes.set_xlabel("tested on")
    axes.set_ylabel("after learning")
    axes.set_title(f"after the last task {percent[-1].mean():.2f} % on average")
    return figure


def pareto(sizes: Any, accuracies: Any) -> Any:
    """Draw accuracy against memories: which settings give the most for the fewest.

    A point is a setting, at its means over repetitions (orders of the stream, say), and the band is
    their standard deviation to both sides. The line joins the settings that no other beats with as
    few memories.

    Args:
        sizes: integers [S, R], memories in use (at least 1), for S settings, R repetitions each.
        accuracies: [S, R], 0 to 1.

    Raises:
        ValueError: the two are not tables of one shape.

    Example:
        >>> figure = pareto([[10, 12], [20, 20], [30, 34]], [[0.7, 0.8], [0.9, 1.0], [0.8, 0.9]])
        >>> figure.axes[0].lines[-1].get_xdata().tolist()
        [11.0, 20.0]
    """
    sizes, percent = np.asarray(sizes), 100 * np.asarray(accuracies)
    if sizes.ndim != 2 or sizes.shape != percent.shape:
        raise ValueError(
            "accuracies: expected a table [S, R] of the shape of sizes, "
            f"got {list(percent.shape)} and sizes {list(sizes.shape)}."
        )
    repetitions = sizes.shape[1]
    size, mean = sizes.mean(axis=1), percent.mean(axis=1)
    deviation = percent.std(axis=1, ddof=1) if repetitions > 1 else np.zeros_like(mean)
    order = np.lexsort((-mean, size))  # of equally many memories the most accurate first
    best_before = np.maximum.accumulate(mean[order])[:-1]
    front = order[np.concatenate([[True], mean[order][1:] > best_before])]
    figure = _figure(7, 4)
    from matplotlib.ticker import LogLocator, NullLocator  # installed: there is a figure

    axes = figure.add_subplot()
    axes.plot(size, mean, "o", color=_BLUE, markersize=4, alpha=0.4, label="a setting")
    axes.fill_between(
        size[front],
        (mean - deviation)[front],
        (mean + deviation)[front],
        color=_BLUE,
        alpha=0.2,
        linewidth=0,
        label=f"± s.d. of {repetitions} repetitions",
    )
    axes.plot(size[front], mean[front], "o-", color=_BLUE, label="beaten by none as small")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("memories")
    axes.set_ylabel("accuracy, %")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)  # covers no point
    return figure


def why(
    network: Layer, state: Any, image: Any, explanation: Explanation, class_names: tuple[str, ...]
) -> Any:
    """Draw one image beside the memories that voted on it, the nearest first; a row a bank.

    Args:
        network: a network that ends in memories.
        state: what it has learned.
        image: [H, W, channels].
        explanation: from ``memjax.explain`` on this one image.
        class_names: the labels' names.
    """
    check_values("image", image, ("H", "W", "channels"))
    image = np.asarray(image)
    banks = _banks(network, state, image[None])
    channels = image.shape[2]
    is_split = channels > 1 and len(banks) % channels == 0  # a bank for each channel
    check_kind("explanation", explanation, Explanation, "what memjax.explain returns")
    check_shape("explanation.memories", explanation.memories, (1, len(banks), "k"))
    _check_names(class_names, least=max(bank.layer.num_classes for bank in banks))
    number = explanation.memories.shape[2]
    figure = _figure(1.15 * (number + 1), 1.5 * len(banks) + 0.4)
    axes = figure.subplots(len(banks), number + 1, squeeze=False)
    for place in axes.ravel():
        place.set_axis_off()
    for row, bank in enumerate(banks):
        seen = image[..., [row % channels]] if is_split else image
        _show(axes[row, 0], seen)
        axes[row, 0].set_title(f"channel {row % channels}" if is_split else "image", fontsize=8)
        for column in range(number):
            weight = float(explanation.weights[0, row, column])
            if not np.isfinite(explanation.distances[0, row, column]):
                continue
            index = int(explanation.memories[0, row, column])
            label = int(explanation.labels[0, row, column])
            place = axes[row, column + 1]
            _show(place, _picture(bank, bank.state.prototypes[index]))
            name = "no vote" if label == UNLABELLED else class_names[label]
            place.set_title(f"{name}\nweight {weight:.2f}", fontsize=8)
    return figure


def _heat_map(
    axes: Any,
    percent: np.ndarray,
    is_written: np.ndarray,
    row_names: Sequence[str],
    column_names: Sequence[str],
    unit: str,
) -> None:
    image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100)
    axes.set_xticks(range(len(column_names)), column_names, rotation=45, ha="right")
    axes.set_yticks(range(len(row_names)), row_names)
    for (row, column), value in np.ndenumerate(percent):
        if is_written[row, column]:
            colour = "white" if value > 50 else "black"
            axes.text(
                column, row, f"{value:.1f}", ha="center", va="center", color=colour, fontsize=7
            )
    axes.figure.colorbar(image, label=unit)


def _banks(network: Layer, state: Any, xs: Any = None) -> tuple[Bank, ...]:
    """Return the banks that answer, or say what there is instead."""
    check_kind("network", network, Layer, "a memjax layer")
    check_state(network, state)
    if not (banks := network.banks(network.default_params(), state, xs)):
        raise ValueError(
            "network: expected one whose answer comes from memories, got one without such banks."
        )
    return banks


def _check_names(class_names: Any, least: int, most: float = math.inf) -> None:
    check_kind("class_names", class_names, Sequence, "a name for each class")
    if not least <= len(class_names) <= most:
        raise ValueError(
            f"class_names: expected {least} names{'' if least == most else ' or more'}, "
            f"got {len(class_names)}."
        )


def _picture(bank: Bank, prototype: Any) -> np.ndarray:
    picture = None if bank.picture is None else bank.picture(prototype)
    if picture is not None:
        return np.asarray(picture)
    side = int(len(prototype) ** 0.5)
    shape = (side, side, 1) if side * side == len(prototype) else (1, len(prototype), 1)
    return np.asarray(prototype).reshape(shape)


def _show(axes: Any, picture: np.ndarray) -> None:
    if picture.shape[2] not in (1, 3):
        picture = picture.mean(axis=2, keepdims=True)
    low, high = np.percentile(picture, (0, 98))
    picture = np.clip((picture - low) / (high - low if high > low else 1), 0, 1)
    axes.imshow(picture.squeeze(2) if picture.shape[2] == 1 else picture, cmap="gray")


def _figure(width: float, height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "Figures need the package matplotlib: pip install 'memjax[all]'"
        ) from error
    return Figure(figsize=(width, height), layout="constrained", dpi=120)
