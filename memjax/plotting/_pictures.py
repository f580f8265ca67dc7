"""Pictures of memories, drawn on a canvas whose unit is the inch."""

import math
from typing import Any

import numpy as np

from memjax._checks import check_kind, check_positive, check_shape, check_values
from memjax.base import UNLABELLED, Bank, Layer, check_state, walk
from memjax.evaluation import Explanation
from memjax.memory import voted_labels
from memjax.plotting._figure import check_names, make_figure
from memjax.vision import Columns

_WIDTH = 6.0  # of a figure, unless that would make its pictures too small
_LINE = 0.16  # height of a line of text
_GAP = 0.06
_PAPER = 0.8, 0.87, 0.95  # neither black nor white nor a grey, so that a memory shows its edges


def memories(
    network: Layer, state: Any, class_names: tuple[str, ...], num_columns: int = 12
) -> Any:
    """Draw what a network remembers: one row for each label.

    A row has the memories that vote for the label, and the one that learned from most examples
    comes first. The number above a memory says from how many examples it learned. Where an encoder
    stands before the memories, a memory is drawn as the activity at every place. The banks of a
    network (one for each colour channel, for instance) stand side by side.

    Args:
        network: a network whose answer comes from memories.
        state: what it has learned.
        class_names: the name of each label.
        num_columns: the most memories in a row, of all banks together.

    Raises:
        ValueError, TypeError: the network has no such memories, or an argument does not fit it.

    Example:
        >>> import jax
        >>> import memjax
        >>> network, params = memjax.memory_network((8, 8, 1), num_classes=2)
        >>> figure = memories(network, network.init(jax.random.key(0)), ("even", "odd"))
        >>> figure.get_suptitle().partition(";")[0]
        '0 memories'
    """
    banks = _banks(network, state)
    check_names(class_names, least=1)
    check_positive("num_columns", num_columns)
    for_each_bank = max(num_columns // len(banks), 1)
    left = 2 * _GAP + 0.08 * max(map(len, class_names))
    between = 3 * _GAP  # from one bank to the next
    room = _WIDTH - left - between * (len(banks) - 1)
    tile = min(max(room / (for_each_bank * len(banks)), 0.36), 0.8)
    width = left + (for_each_bank * tile + between) * len(banks) - between
    top, row_height = 2.5 * _LINE, tile + _LINE
    in_use = sum(int(bank.state.size) for bank in banks)
    figure, axes = _canvas(
        width,
        top + row_height * len(class_names),
        f"{in_use:,} memories; for each label those that\n"
        "learned from most examples (the number above)",
    )
    rows = [top + row_height * label + _LINE for label in range(len(class_names))]
    for y, name in zip(rows, class_names, strict=True):
        axes.text(left - _GAP, y + tile / 2, name, fontsize=9, ha="right", va="center")
    for index, bank in enumerate(banks):
        x = left + (for_each_bank * tile + between) * index
        labels, counts = np.asarray(voted_labels(bank.state.votes)), np.asarray(bank.state.counts)
        for label, y in enumerate(rows):
            mine = np.flatnonzero((labels == label) & (counts > 0))
            mine = mine[np.argsort(-counts[mine], kind="stable")][:for_each_bank]
            for column, memory in enumerate(mine):
                _draw(
                    axes, _picture(bank, memory), x + column * tile, y, tile, f"{counts[memory]:,}"
                )
    return figure


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
    height = _WIDTH + _LINE
    figure, axes = _canvas(
        _WIDTH, 2 * _LINE + height * len(found), "the first memories of each place"
    )
    for index, (layer, learned) in enumerate(found):
        y = 2 * _LINE + height * index
        text = f"{int(learned.size.sum()):,} memories at {layer.places**2} places"
        _draw(axes, _places(layer, learned, math.ceil(num_memories**0.5)), 0, y, _WIDTH, text)
    return figure


def why(
    network: Layer, state: Any, image: Any, explanation: Explanation, class_names: tuple[str, ...]
) -> Any:
    """Draw an image beside the memories that voted on it, the nearest first: one row for each bank.

    A row begins with what reaches its bank of the image. Above each memory stand the label that it
    votes for and the weight of its vote.

    Args:
        network: a network whose answer comes from memories.
        state: what it has learned.
        image: [H, W, channels].
        explanation: from ``memjax.explain`` on this one image.
        class_names: the name of each label.

    Raises:
        ValueError, TypeError: the network has no such memories, or an argument does not fit it.

    Example:
        >>> import memjax
        >>> digits = memjax.datasets.load("digits", "test")
        >>> network, params = memjax.memory_network((8, 8, 1), num_classes=10)
        >>> images = digits.images[:200]
        >>> params, state, _ = memjax.learn(network, params, images, digits.labels[:200])
        >>> explanation = memjax.explain(network, params, state, images[:1])
        >>> figure = why(network, state, images[0], explanation, digits.class_names)
    """
    check_values("image", image, ("H", "W", "channels"))
    image = np.asarray(image)
    banks = _banks(network, state, image[None])
    check_kind("explanation", explanation, Explanation, "what memjax.explain returns")
    check_shape("explanation.memories", explanation.memories, (1, len(banks), "k"))
    check_names(class_names, least=max(bank.state.votes.shape[1] for bank in banks))
    num_tiles = explanation.memories.shape[2] + 2
    tile = min(max(_WIDTH / num_tiles, 0.6), 1.2)
    top, row_height = 1.5 * _LINE, tile + 2 * _LINE
    figure, axes = _canvas(
        tile * num_tiles,
        top + row_height * len(banks),
        "the memories that voted, the nearest first: label and weight of the vote",
    )
    _draw(axes, image, 0, top + 2 * _LINE, tile, "image")
    for row, bank in enumerate(banks):
        y = top + row_height * row + 2 * _LINE
        if bank.xs is not None:
            _draw(axes, _as_picture(bank, np.asarray(bank.xs[0])), tile, y, tile, "as seen")
        votes = zip(*(part[0, row] for part in explanation), strict=True)
        for column, (memory, distance, weight, label) in enumerate(votes, start=2):
            if not np.isfinite(distance):
                continue
            name = "no vote" if label == UNLABELLED else class_names[label]
            text = f"{name}\n{weight:.2f}"
            _draw(axes, _picture(bank, memory), column * tile, y, tile, text)
    return figure


def _banks(network: Layer, state: Any, xs: Any = None) -> tuple[Bank, ...]:
    """Return the banks that answer, or say what there is instead."""
    check_kind("network", network, Layer, "a memjax layer")
    check_state(network, state)
    if not (banks := network.banks(network.default_params(), state, xs)):
        raise ValueError(
            "network: expected one whose answer comes from memories, got one without such banks."
        )
    return banks


def _picture(bank: Bank, memory: int) -> np.ndarray:
    """Return a memory of a bank as a picture [rows, columns, channels]."""
    return _as_picture(bank, np.asarray(bank.state.prototypes)[memory])


def _as_picture(bank: Bank, pattern: np.ndarray) -> np.ndarray:
    """Return a pattern [D] that a bank stores or sees as a picture [rows, columns, channels]."""
    picture = None if bank.picture is None else bank.picture(pattern)
    if picture is not None:
        return np.asarray(picture)
    side = math.isqrt(len(pattern))
    shape = (side, side, 1) if side * side == len(pattern) else (1, len(pattern), 1)
    return pattern.reshape(shape)


def _places(layer: Columns, state: Any, side: int) -> np.ndarray:
    """Return the first memories of every place as one picture, side * side of each place."""
    patch, channels = layer.patch, layer.image_shape[2]
    square = side * (patch + 1) + 1
    step = square + 2
    length = step * layer.places - 2
    canvas = np.ones((length, length, 3))
    for place, size in enumerate(state.size.tolist()):
        top, left = (step * index for index in divmod(place, layer.places))
        canvas[top : top + square, left : left + square] = _PAPER
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


def _canvas(width: float, height: float, title: str) -> tuple[Any, Any]:
    """Return a figure, and axes over all of it that measure in inches from its upper left."""
    width = max(width, _WIDTH)
    figure = make_figure(width, height, layout=None)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    figure.suptitle(title, fontsize=9, y=1 - _GAP / height)
    return figure, axes


def _draw(axes: Any, picture: np.ndarray, x: float, y: float, side: float, text: str) -> None:
    """Draw a picture into the square whose upper left is (x, y), with a text above it."""
    if picture.shape[2] not in (1, 3):
        picture = picture.mean(axis=2, keepdims=True)
    low, high = np.percentile(picture, (0, 98))
    picture = np.clip((picture - low) / (high - low if high > low else 1), 0, 1)
    scale = (side - _GAP) / max(picture.shape[:2])
    height, width = (scale * length for length in picture.shape[:2])
    left, top = x + (side - width) / 2, y + (side - height) / 2
    axes.imshow(
        picture.squeeze(2) if picture.shape[2] == 1 else picture,
        cmap="gray",
        vmin=0,
        vmax=1,
        extent=(left, left + width, top + height, top),
    )
    axes.text(x + side / 2, y, text, fontsize=8, ha="center", va="bottom", linespacing=1)
