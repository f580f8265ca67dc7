"""What a memory looks like: the image that it was stored from, or the pattern that it holds."""

import math
from typing import Any

import jax
import numpy as np

from memjax._checks import check_array, check_kind, check_shape
from memjax.base import Bank, Layer, check_state

PAPER = 204, 222, 242  # neither black nor white nor a grey, so that a picture shows its edges


def stored_images(network: Layer, state: Any, images: Any) -> dict[int, np.ndarray]:
    """Return the images of a stream that a network's memories were stored from, by their numbers.

    A memory knows the number ``stored_at`` of the example that it was stored from, also after
    ``resize``, ``forget`` and ``merge``, and in a run that was resumed. So nothing is kept while
    the network learns, and of a long stream these images are all that the figures need.

    Args:
        network: a network whose answer comes from memories.
        state: what it has learned.
        images: ``images[number]`` is the image [H, W, channels] of that example of the stream: the
            array that was learned, or a dict. What it lacks is left out.

    Raises:
        ValueError, TypeError: the network has no such memories, or an argument does not fit it.

    Example:
        >>> import memjax
        >>> digits = memjax.datasets.load("digits", "test")
        >>> network, params = memjax.memory_network((8, 8, 1), num_classes=10)
        >>> params, state, _ = memjax.learn(network, params, digits.images, digits.labels)
        >>> kept = stored_images(network, state, digits.images)
        >>> len(kept) == memjax.num_memories(network, state)
        True
    """
    check_images(images, network)
    found = ((number, _image(images, number)) for number in stored_numbers(network, state))
    return {number: image for number, image in found if image is not None}


def stored_numbers(network: Layer, state: Any) -> list[int]:
    """Return the numbers of the examples that memories were stored from, ascending."""
    numbers = {
        example_of(bank, memory)
        for bank in banks_of(network, state)
        for memory in range(int(bank.state.size))
    }
    return sorted(numbers)


def check_images(images: Any, network: Layer) -> None:
    """Raise unless images are None, a mapping, or an array of images that the network takes."""
    if images is None or hasattr(images, "keys"):
        return
    check_array("images", images)
    check_kind("network", network, Layer, "a memjax layer")
    check_shape("images", images, ("N", *network.input_shape))


def banks_of(network: Layer, state: Any, xs: Any = None) -> tuple[Bank, ...]:
    """Return the banks that answer, or say what there is instead."""
    check_kind("network", network, Layer, "a memjax layer")
    check_state(network, state)
    if not (banks := network.banks(network.default_params(), state, xs)):
        raise ValueError(
            "network: expected one whose answer comes from memories, got one without such banks."
        )
    # On the host, where single rows are read.
    return tuple(bank._replace(state=jax.tree.map(np.asarray, bank.state)) for bank in banks)


def example_of(bank: Bank, memory: int) -> int:
    """Return the number of the example that a memory was stored from."""
    return bank.lesson(int(bank.state.stored_at[memory])).example


def _image(images: Any, number: int) -> np.ndarray | None:
    try:
        return np.asarray(images[number])
    except (IndexError, KeyError):
        return None


def look_of(bank: Bank, memory: int, images: Any = None) -> np.ndarray:
    """Return a memory as it is drawn: uint8 [rows, columns, 3]."""
    if images is not None:
        number, is_mirrored = bank.lesson(int(bank.state.stored_at[memory]))
        if (image := _image(images, number)) is not None:
            return as_rgb(image[:, ::-1] if is_mirrored else image)
    return as_rgb(pattern_of(bank, bank.state.prototypes[memory]))


def pattern_of(bank: Bank, pattern: np.ndarray) -> np.ndarray:
    """Return a pattern [D] that a bank stores or sees as a picture [rows, columns, channels]."""
    picture = None if bank.picture is None else bank.picture(pattern)
    if picture is not None:
        return np.asarray(picture)
    side = math.isqrt(len(pattern))
    shape = (side, side, 1) if side * side == len(pattern) else (1, len(pattern), 1)
    return pattern.reshape(shape)


def as_rgb(picture: np.ndarray) -> np.ndarray:
    """Return a picture [rows, columns, channels] as uint8 [rows, columns, 3].

    An image of bytes keeps its values. Of all else the smallest number is black, and what lies
    above 98 % of the numbers is white. Other than three channels are averaged.
    """
    is_image = picture.dtype == np.uint8
    if picture.shape[2] not in (1, 3):
        picture = picture.mean(axis=2, keepdims=True)
    if not is_image:
        picture = picture.astype(np.float64)
        low, high = np.percentile(picture, (0, 98))
        picture = np.clip((picture - low) / (high - low if high > low else 1), 0, 1) * 255
    return np.broadcast_to(np.rint(picture).astype(np.uint8), (*picture.shape[:2], 3))


def mosaic(rows: list[list[np.ndarray | None]], side: int, group: int = 1) -> np.ndarray:
    """Return pictures in rows as one: uint8 [rows, columns, 3], each in a square on paper.

    Args:
        rows: uint8 [rows, columns, 3] each, or None for an empty place; rows of equal length.
        side: of a square, in pixels.
        group: how many rows belong together; there is more white after each group.
    """
    gap = max(side // 12, 1)
    step, after = side + gap, 3 * gap if group > 1 else 0
    length = max(map(len, rows), default=0)
    height = len(rows) * step + len(rows) // group * after
    canvas = np.full((height + gap, max(length, 1) * step + gap, 3), 255, np.uint8)
    for row, pictures in enumerate(rows):
        for column, picture in enumerate(pictures):
            if picture is not None:
                top, left = row * step + row // group * after, column * step
                canvas[top : top + side + 2 * gap, left : left + side + 2 * gap] = PAPER
                picture = fit_square(picture, side)
                height, width = picture.shape[:2]
                top, left = top + gap + (side - height) // 2, left + gap + (side - width) // 2
                canvas[top : top + height, left : left + width] = picture
    return canvas


def fit_square(picture: np.ndarray, side: int) -> np.ndarray:
    """Return a picture enlarged by a whole number, or reduced, so that it fits into a square."""
    longest = max(picture.shape[:2])
    if longest <= side:
        return picture.repeat(side // longest, axis=0).repeat(side // longest, axis=1)
    from PIL import Image  # installed with Matplotlib

    height, width = (max(round(length * side / longest), 1) for length in picture.shape[:2])
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))
