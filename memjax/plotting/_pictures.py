"""Pictures on a canvas whose unit is the inch: memories by place, and those behind an answer."""

import math
from typing import Any

import numpy as np

from memjax._checks import check_kind, check_positive, check_shape, check_values
from memjax.base import UNLABELLED, Bank, Layer, check_state, walk
from memjax.evaluation import Explanation
from memjax.plotting._figure import COLOURS, GAP, LINE, WIDTH, canvas, check_names
from memjax.plotting._images import PAPER, as_rgb, banks_of, check_images, look_of, pattern_of
from memjax.vision import Columns

_NO_COLOUR = "0.6"


def columns(network: Layer, state: Any, num_memories: int = 9) -> Any:
    """Draw what columns remember: one square for each place of the image.

    Decorrelated memories are shown as the patches that they were made of. Maps of three features
    are shown in colour, all others in grey, with their features added up.

    Args:
        network: a network that holds columns.
        state: what it has learned.
        num_memories: how many memories are drawn at each place, the first ones that were stored;
            rounded up to a square number.

    Raises:
        ValueError, TypeError: the network holds no columns, or an argument does not fit it.

    Example:
        >>> import jax
        >>> import memjax
        >>> network, params = memjax.columnar_network((8, 8, 1), num_classes=10, size="small")
        >>> figure = columns(network, network.init(jax.random.key(0)))
        >>> len(figure.axes[0].images)
        1
    """
    check_kind("network", network, Layer, "a memjax layer")
    check_state(network, state)
    check_positive("num_memories", num_memories)
    parts = walk(network, network.default_params(), state)
    found = [(part.layer, part.state) for part in parts if isinstance(part.layer, Columns)]
    if not found:
        raise ValueError("network: expected one that holds columns, found none.")
    height = WIDTH + LINE
    figure, axes = canvas(WIDTH, 2 * LINE + height * len(found), "the first memories of each place")
    for index, (layer, learned) in enumerate(found):
        y = 2 * LINE + height * index
        text = f"{int(learned.size.sum()):,} memories at {layer.places**2} places"
        picture = as_rgb(_places(layer, learned, math.ceil(num_memories**0.5)))
        _draw(axes, picture, 0, y, WIDTH, text)
    return figure


def why(
    network: Layer,
    state: Any,
    image: Any,
    explanation: Explanation,
    class_names: tuple[str, ...],
    images: Any = None,
) -> Any:
    """Draw an image beside the memories that voted on it, the nearest first: one row for each bank.

    Above each memory stand the label that it votes for and its share of the evidence, and its frame
    has the colour of its label. All shares together are 1. The bar shows the evidence of each
    label, and the title the answer and its share. With ``images`` a memory is drawn as the image
    that it was stored from, else as the pattern that it holds, beside what reaches its bank of the
    image.

    Args:
        network: a network whose answer comes from memories.
        state: what it has learned.
        image: [H, W, channels].
        explanation: from ``memjax.explain`` on this one image.
        class_names: the name of each label.
        images: the images that were learned, in their order [N, H, W, channels], or a dict of some
            of them by their numbers, as ``stored_images`` returns; None to draw patterns.

    Raises:
        ValueError, TypeError: the network has no such memories, or an argument does not fit it.

    Example:
        >>> import memjax
        >>> digits = memjax.datasets.load("digits", "test")
        >>> network, params = memjax.memory_network((8, 8, 1), num_classes=10)
        >>> images = digits.images[:200]
        >>> params, state, _ = memjax.learn(network, params, images, digits.labels[:200])
        >>> explanation = memjax.explain(network, params, state, images[:1])
        >>> figure = why(network, state, images[0], explanation, digits.class_names, images)
    """
    check_values("image", image, ("H", "W", "channels"))
    image = np.asarray(image)
    banks = banks_of(network, state, image[None])
    check_kind("explanation", explanation, Explanation, "what memjax.explain returns")
    check_shape("explanation.memories", explanation.memories, (1, len(banks), "k"))
    check_names(class_names, least=max(bank.state.votes.shape[1] for bank in banks))
    check_images(images, network)
    shares, evidence = evidence_of(banks, explanation)
    colours = colours_of(evidence)
    show_seen = images is None or len(banks) > 1
    num_columns = explanation.memories.shape[2] + show_seen
    tile = min(max((WIDTH - 1.5) / num_columns, 0.6), 1.2)
    row_height = tile + 2.2 * LINE
    top = 3.6 * LINE
    left, height = 1.5, max(row_height * len(banks), 1.5 + LINE)
    figure, axes = canvas(left + tile * num_columns, top + height, _answer(evidence, class_names))
    _draw_bar(axes, evidence, colours, class_names, 1.6 * LINE)
    _draw(axes, as_rgb(image), 0, top + LINE, 1.4, "image")
    for row, bank in enumerate(banks):
        y = top + row_height * row + 2 * LINE
        if show_seen:
            assert bank.xs is not None
            seen = as_rgb(pattern_of(bank, np.asarray(bank.xs[0])))
            _draw(axes, seen, left, y, tile, "as seen")
        votes = zip(*(part[0, row] for part in explanation), shares[row], strict=True)
        for column, (memory, distance, _, label, share) in enumerate(votes, start=show_seen):
            if not np.isfinite(distance):
                continue
            text, colour = "no vote\n", _NO_COLOUR
            if label != UNLABELLED:
                text, colour = (
                    f"{class_names[label]}\n{100 * share:.0f} %",
                    colours.get(label, _NO_COLOUR),
                )
            look = look_of(bank, memory, images)
            _draw(axes, look, left + column * tile, y, tile, text, colour)
    return figure


def evidence_of(banks: tuple[Bank, ...], explanation: Explanation) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of each voter in the evidence on one image [M, k], and the evidence [C].

    The shares sum to 1. The evidence is that of ``predict_proba``, for banks that count alike.
    """
    weights = np.asarray(explanation.weights[0], np.float64)
    sums = weights.sum(axis=1, keepdims=True)
    parts = weights / np.where(sums > 0, sums, 1) / len(banks)
    evidence = np.zeros(max(bank.state.votes.shape[1] for bank in banks))
    for bank, memories, of_bank in zip(banks, explanation.memories[0], parts, strict=True):
        votes = bank.state.votes[memories]
        evidence += of_bank @ (votes / np.maximum(votes.sum(axis=1, keepdims=True), 1))
    return parts / (parts.sum() or 1), evidence


def colours_of(evidence: np.ndarray) -> dict[int, str]:
    """Return the colours of labels: the answer has the first, and few others are left without."""
    order = np.argsort(-evidence, kind="stable").tolist()
    return {label: colour for label, colour in zip(order, COLOURS, strict=False)}


def _answer(evidence: np.ndarray, class_names: tuple[str, ...]) -> str:
    label = int(evidence.argmax())
    if not evidence[label]:
        return "no answer: no memory voted"
    return f"answer: {class_names[label]}, confidence {100 * evidence[label]:.0f} %"


def _draw_bar(
    axes: Any, evidence: np.ndarray, colours: dict[int, str], names: tuple[str, ...], y: float
) -> None:
    """Draw the evidence of all labels as one bar over the whole width, the most first."""
    whole, x = axes.get_xlim()[1] - 2 * GAP, GAP
    for label in np.argsort(-evidence, kind="stable").tolist():
        width = whole * evidence[label]
        axes.broken_barh([(x, width)], (y, 1.2 * LINE), color=colours.get(label, _NO_COLOUR))
        if width > 0.1 + 0.08 * len(names[label]):
            axes.text(
                x + width / 2, y + 0.6 * LINE, names[label],
                fontsize=8, color="white" if label == evidence.argmax() else "black",
                ha="center", va="center_baseline",
            )  # fmt: skip
        x += width


def _draw(
    axes: Any,
    picture: np.ndarray,
    x: float,
    y: float,
    side: float,
    text: str,
    colour: str | None = None,
) -> None:
    """Draw a picture into the square whose upper left is (x, y), with a text above it.

    With a colour it has a frame.
    """
    scale = (side - 2 * GAP) / max(picture.shape[:2])
    height, width = (scale * length for length in picture.shape[:2])
    left, top = x + (side - width) / 2, y + (side - height) / 2
    axes.imshow(picture, extent=(left, left + width, top + height, top))
    if colour is not None:
        edges = [left, left + width, left + width, left], [top, top, top + height, top + height]
        axes.fill(*edges, fill=False, edgecolor=colour, linewidth=2.5, joinstyle="miter")
    longest = max(map(len, text.split("\n")), default=1)
    size = min(8, 125 * side / max(longest, 1))  # points, so that names do not run into each other
    axes.text(x + side / 2, y - 0.03, text, fontsize=size, ha="center", linespacing=1)


def _places(layer: Columns, state: Any, side: int) -> np.ndarray:
    """Return the first memories of every place as one picture, side * side of each place."""
    patch, channels = layer.patch, layer.image_shape[2]
    square = side * (patch + 1) + 1
    step = square + 2
    length = step * layer.places - 2
    canvas = np.ones((length, length, 3))
    for place, size in enumerate(state.size.tolist()):
        top, left = (step * index for index in divmod(place, layer.places))
        canvas[top : top + square, left : left + square] = np.divide(PAPER, 255)
        memories = np.asarray(state.prototypes[place, : min(size, side**2)])
        if layer.dimensions is not None:
            memories = memories @ np.linalg.pinv(np.asarray(state.decorrelation.matrix[place]))
        for index, memory in enumerate(memories.reshape(-1, patch, patch, channels)):
            row, column = divmod(index, side)
            y, x = top + 1 + row * (patch + 1), left + 1 + column * (patch + 1)
            if channels != 3:
                memory = memory.sum(axis=2, keepdims=True)
            memory = (memory - memory.min()) / max(np.ptp(memory), 1e-9)
            canvas[y : y + patch, x : x + patch] = memory
    return canvas
