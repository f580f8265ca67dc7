"""What every source of data shares: how it is asked for, and the rows and the splits it gives."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from memjax._checks import check_choice, check_kind, check_number, check_positive, shorten

Folder = str | os.PathLike[str] | None

INVERT = ("auto", "yes", "no")


class DatasetError(RuntimeError):
    """The data are missing and cannot be downloaded, or they are there and cannot be read."""


class Dataset(NamedTuple):
    """One split of a dataset, in the order that its seed decided.

    Attributes:
        images: uint8 ``[rows, height, width, channels]``, 0 to 255. Of a table of features, float32
            ``[rows, D]``.
        labels: int32 ``[rows]``, 0 to ``num_classes - 1``.
        class_names: the name of each class; ``class_names[labels[0]]`` names the first image.
        name: the ``name`` that was loaded.
        split: the ``split`` that was loaded.
        seed: the ``seed`` that decided the order.
    """

    images: Any
    labels: np.ndarray
    class_names: tuple[str, ...]
    name: str
    split: str
    seed: int

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)


class Reading(NamedTuple):
    """How your own data are read; the datasets with a name need none of it.

    Attributes:
        label: the column of a table that holds the labels; None for the last one.
        image_size: what all images are brought to, (H, W) or the side of a square; None for the
            size that they have, or for at most 64 pixels a side where they differ. With it the
            columns of a table are pixels.
        grey: True for grey; None for colour where some image has colours.
        background: what shows through transparency: "white", "black", "#rrggbb", or "auto" for
            white behind dark ink and black behind light ink.
        invert: "yes" if light and dark change places in every image. "auto" leaves images as they
            are when they are learned; a later question about the opposite is then turned round.
        test_share: the part of each class that is held out where the source has no test of its own.
    """

    label: str | None = None
    image_size: int | tuple[int, int] | None = None
    grey: bool | None = None
    background: str = "auto"
    invert: str = "auto"
    test_share: float = 0.2


class Rows(NamedTuple):
    """The train rows or the test rows of a dataset, in the order in which they are stored."""

    images: np.ndarray  # uint8 [rows, height, width, channels]
    labels: np.ndarray  # int32 [rows]
    class_names: tuple[str, ...]


def batches(
    images: Any, labels: np.ndarray, size: int, start: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows from ``start`` on in batches of ``size``, never copied as a whole.

    The last batch may be smaller.
    """
    for first in range(start, len(labels), size):
        yield images[first : first + size], labels[first : first + size]


class Source(NamedTuple):
    """Where the rows of one dataset come from.

    Attributes:
        read: takes "train" or "test", ``data_dir`` and ``cache_dir``, and returns ``Rows``.
        num_validation: how many of the last train rows the validation split has.
    """

    read: Callable[[str, Folder, Folder], Rows]
    num_validation: int


def check_reading(reading: Reading) -> None:
    """Raise unless every choice is one that there is."""
    check_kind("reading", reading, Reading, "a memjax.datasets.Reading")
    if reading.label is not None:
        check_kind("label", reading.label, str, "the name of a column")
    if reading.image_size is not None:
        image_shape(reading.image_size)
    check_choice("grey", reading.grey, (None, True, False))
    background(reading.background)
    check_choice("invert", reading.invert, INVERT)
    check_number("test_share", reading.test_share, 0, 0.9)


def image_shape(image_size: Any) -> tuple[int, int]:
    """Return (H, W) of a checked size."""
    if isinstance(image_size, int | np.integer):
        image_size = (image_size, image_size)
    if not isinstance(image_size, tuple | list) or len(image_size) != 2:
        raise ValueError(
            f"image_size: expected (H, W) or the side of a square, got {shorten(image_size)}."
        )
    for length in image_size:
        check_positive("image_size", length)
        check_number("image_size", length, 1, 4096)
    return int(image_size[0]), int(image_size[1])


def background(name: Any) -> tuple[int, int, int] | None:
    """Return the colour of a checked background; None for "auto"."""
    colours = {"auto": None, "white": (255, 255, 255), "black": (0, 0, 0)}
    if isinstance(name, str) and name in colours:
        return colours[name]
    if isinstance(name, str) and re.fullmatch("#[0-9a-fA-F]{6}", name):
        return int(name[1:3], 16), int(name[3:5], 16), int(name[5:], 16)
    raise ValueError(
        f"background: expected 'auto', 'white', 'black' or '#rrggbb', got {shorten(name)}."
    )


def find_classes(labels: Sequence[Any] | np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the names of all classes, and the class of each label, int32 [N].

    Whole numbers come in their order and before words, which come in the order of the alphabet.
    """
    distinct, places = np.unique(np.asarray(labels), return_inverse=True)
    names = [_name(value) for value in distinct.tolist()]
    order = sorted(range(len(names)), key=lambda place: _in_order(names[place]))
    ranks = np.empty(len(names), np.int32)
    ranks[order] = np.arange(len(names), dtype=np.int32)
    return tuple(names[place] for place in order), ranks[places.reshape(-1)]


def _name(value: Any) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _in_order(name: str) -> tuple[int, int, str]:
    is_number = re.fullmatch(r"-?[0-9]{1,18}", name)
    return (0, int(name), name) if is_number else (1, 0, name)
