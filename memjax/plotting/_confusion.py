"""The confusion matrix, with its errors on a scale of their own and examples of the worst."""

from typing import Any

import numpy as np

from memjax._checks import check_kind, check_labels, check_shape
from memjax.evaluation import Evaluation
from memjax.plotting._figure import (
    GAP,
    WIDTH,
    check_names,
    fill_with_inches,
    make_figure,
    write_cells,
)
from memjax.plotting._images import as_rgb, mosaic

_MOST_PAIRS = 4
_PAIR_HEIGHT = 0.45  # inches
_MOST_NUMBERS = 20  # classes, beyond which a cell has no room for a number


def confusion(
    evaluation: Evaluation, class_names: tuple[str, ...], images: Any = None, labels: Any = None
) -> Any:
    """Draw the confusion matrix, in per cent of each true class.

    The right answers are blue. The wrong ones are orange, on a scale of their own that ends at the
    largest of them, so that they can be seen however few they are. With the images that were asked
    and their labels, examples of the pairs that are confused most often stand below.

    Args:
        evaluation: from ``memjax.evaluate``.
        class_names: the name of each label.
        images: [N, H, W, channels], those of the evaluation; None for no examples.
        labels: integers [N], theirs; given with the images.

    Raises:
        ValueError, TypeError: it is no evaluation, there is not one name for each label, or the
            images and labels are not those of the evaluation.

    Example:
        >>> table = np.array([[3, 1, 0], [0, 4, 0]])
        >>> figure = confusion(Evaluation(0.875, table, np.zeros(8)), ("even", "odd"))
        >>> figure.axes[0].get_title()
        '87.50 % of 8 right'
    """
    check_kind("evaluation", evaluation, Evaluation, "what memjax.evaluate returns")
    table = np.asarray(evaluation.confusion)
    check_names(class_names, least=len(table), most=len(table))
    pairs = [] if images is None else _worst(evaluation, images, labels)
    names = [*class_names, "none"]
    if not table[:, -1].any():
        table, names = table[:, :-1], names[:-1]
    below = _PAIR_HEIGHT * len(pairs) + GAP * bool(pairs)
    figure = make_figure(WIDTH, 5.2 + below)
    place = figure
    if pairs:
        place, under = figure.subfigures(2, 1, height_ratios=[5.2, below])
        _draw_pairs(under, below, pairs, class_names, np.asarray(images))
    axes = place.subplots()
    errors = _draw_table(axes, table, names)
    place.colorbar(errors, ax=axes, label="wrong answers, % of the label's examples")
    axes.set_yticks(range(len(class_names)), class_names)
    axes.set_title(f"{100 * evaluation.accuracy:.2f} % of {int(table.sum()):,} right")
    return figure


def _draw_table(axes: Any, table: np.ndarray, names: list[str]) -> Any:
    percent = 100 * table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    is_right = np.eye(*percent.shape, dtype=bool)
    most = max(percent[~is_right].max(initial=0), 1e-9)
    # White, where nothing was answered so.
    wrong = np.ma.masked_where(is_right | (percent == 0), percent)
    axes.imshow(percent, cmap="Blues", vmin=0, vmax=200)  # a blue that black can be read on
    axes.imshow(np.ma.masked_where(is_right, np.zeros_like(percent)), cmap="Greys", vmin=0, vmax=1)
    errors = axes.imshow(wrong, cmap="Oranges", vmin=0, vmax=most)
    if len(names) <= _MOST_NUMBERS:
        write_cells(axes, percent, percent >= 0.05, ~is_right & (percent > 0.6 * most))
    is_long = max(map(len, names)) > 2
    axes.set_xticks(
        range(len(names)), names, rotation=45 * is_long, ha="right" if is_long else "center"
    )
    axes.set_xlabel("answer")
    axes.set_ylabel("label")
    return errors


def _worst(evaluation: Evaluation, images: Any, labels: Any) -> list[tuple[int, int, np.ndarray]]:
    """Return the pairs that are confused most often: label, answer, and where the images are."""
    predicted = np.asarray(evaluation.predicted)
    check_labels(labels, len(predicted), len(evaluation.confusion))
    check_shape("images", images, (len(predicted), "H", "W", "channels"))
    labels = np.asarray(labels)
    is_wrong = (labels != predicted) & (predicted >= 0)
    found, counts = np.unique(
        np.stack([labels[is_wrong], predicted[is_wrong]]), axis=1, return_counts=True
    )
    order = np.argsort(-counts, kind="stable")[:_MOST_PAIRS]
    return [
        (label, answer, np.flatnonzero((labels == label) & (predicted == answer)))
        for label, answer in found[:, order].T.tolist()
    ]


def _draw_pairs(
    figure: Any,
    height: float,
    pairs: list[tuple[int, int, np.ndarray]],
    names: tuple[str, ...],
    images: np.ndarray,
) -> None:
    """Draw examples of each pair in a row, with its names and how often it is confused."""
    axes = figure.add_axes((0, 0, 1, 1))
    fill_with_inches(axes, WIDTH, height)
    texts = [
        f"{names[label]} as {names[answer]}: {len(places):,}" for label, answer, places in pairs
    ]
    left = 0.2 + 0.078 * max(map(len, texts))
    most = max(int((WIDTH - left) / _PAIR_HEIGHT), 1)
    rows: list[list[np.ndarray | None]] = []
    for row, (text, (_, _, places)) in enumerate(zip(texts, pairs, strict=True)):
        y = _PAIR_HEIGHT * (row + 0.5)
        axes.text(left - GAP, y, text, fontsize=9, ha="right", va="center")
        looks: list[np.ndarray | None] = [as_rgb(images[place]) for place in places[:most]]
        rows.append(looks + [None] * (most - len(looks)))
    picture = mosaic(rows, max(images.shape[1:3]))
    bottom = _PAIR_HEIGHT * len(pairs)
    right = left + bottom * picture.shape[1] / picture.shape[0]
    axes.imshow(picture, extent=(left, right, bottom, 0))
