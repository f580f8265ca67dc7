"""The confusion matrix, with its errors on a scale of their own and examples of the worst."""

from typing import Any

import numpy as np

from memjax._checks import check_kind, check_labels, check_shape
from memjax.evaluation import Evaluation
from memjax.plotting._figure import check_names, make_figure, write_cells
from memjax.plotting._images import as_rgb, mosaic

_MOST_PAIRS = 4
_MOST_IMAGES = 10  # of each pair
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
    figure = make_figure(6, 5.2 + 0.55 * len(pairs))
    heights = [5.2, *[0.55] * len(pairs)]
    axes, *places = figure.subplots(1 + len(pairs), 1, height_ratios=heights, squeeze=False)[:, 0]
    _draw_table(axes, table, names)
    axes.set_yticks(range(len(class_names)), class_names)
    axes.set_title(f"{100 * evaluation.accuracy:.2f} % of {int(table.sum()):,} right")
    for place, (label, answer, rows) in zip(places, pairs, strict=True):
        _draw_pair(
            place, f"{class_names[label]} as {class_names[answer]}", np.asarray(images), rows
        )
    return figure


def _draw_table(axes: Any, table: np.ndarray, names: list[str]) -> None:
    percent = 100 * table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    is_right = np.eye(*percent.shape, dtype=bool)
    most = max(percent[~is_right].max(initial=0), 1e-9)
    # White, where nothing was answered so.
    wrong = np.ma.masked_where(is_right | (percent == 0), percent)
    axes.imshow(percent, cmap="Blues", vmin=0, vmax=140)  # a blue that black can be read on
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
    axes.figure.colorbar(errors, ax=axes, label="wrong answers, % of the label's examples")


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


def _draw_pair(axes: Any, name: str, images: np.ndarray, rows: np.ndarray) -> None:
    looks: list[Any] = [as_rgb(image) for image in images[rows[:_MOST_IMAGES]]]
    looks += [None] * (_MOST_IMAGES - len(looks))
    axes.imshow(mosaic([looks], max(images.shape[1:3])), aspect="equal")
    times = "once" if len(rows) == 1 else f"{len(rows):,} times"
    axes.set_ylabel(f"{name}\n{times}", rotation=0, ha="right", va="center", fontsize=9)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
