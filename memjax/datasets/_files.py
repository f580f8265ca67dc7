"""Many image files as arrays, decoded by several threads, at once or where they are asked for."""

import collections
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np

from memjax.datasets._images import (
    ImageError,
    Look,
    Peek,
    is_light,
    peek,
    quiet_pillow,
    read_colours,
    read_image,
)
from memjax.datasets._source import DatasetError, Reading, background, image_shape

HELD_BYTES = 2**30
"""Images that take more are decoded anew where they are asked for, and never held as a whole."""

_WAITING_BYTES = 2**26  # of decoded images that wait to be taken
_MOST_LOOKED_AT = 200  # files by which colours are told
_LARGEST_SIDE = 64  # of images whose size nobody has stated

_Result = TypeVar("_Result")


class LazyImages:
    """Images uint8 [N, H, W, channels] in files, of which those that are asked for are decoded."""

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(self, paths: np.ndarray, look: Look):
        self.paths, self.look = paths, look

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """[N, H, W, channels]."""
        return (len(self.paths), *self.look.image_size, self.look.channels)

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: np.ndarray) -> "LazyImages":
        """Return some of the images in another order, without decoding them."""
        return LazyImages(self.paths[rows], self.look)

    def __getitem__(self, rows: slice) -> np.ndarray:
        """Decode a slice of the images."""
        paths = self.paths[rows]
        images = np.empty((len(paths), *self.shape[1:]), np.uint8)
        for row, found in enumerate(read_each(paths, self.look)):
            if isinstance(found, ImageError):
                raise DatasetError(f"{paths[row]}: {found}, but could be read before.")
            images[row] = found[0]
        return images


class Read(NamedTuple):
    """What came of reading files.

    Attributes:
        images: uint8 [N, H, W, channels], in memory or lazy.
        is_read: which of the files they are, bool.
        look: what they were brought to.
        unreadable: the name of each other file, and why it cannot be read.
        notes: what was done to some, and to how many.
    """

    images: Any
    is_read: np.ndarray
    look: Look
    unreadable: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]


def each(
    paths: Sequence[Any] | np.ndarray, work: Callable[[Any], _Result], at_once: int = 512
) -> Iterator[_Result | ImageError]:
    """Yield what ``work`` makes of each file or its contents, in order, by several threads.

    A file that cannot be read yields its error. The results of ``at_once`` files wait together.
    """

    def try_to(path: Any) -> _Result | ImageError:
        try:
            return work(path)
        except ImageError as error:
            return error

    waiting = iter(paths)
    # Decoding does not hold Python's lock.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 8)) as pool:
        while several := list(islice(waiting, at_once)):
            with quiet_pillow():
                found = list(pool.map(try_to, several))
            yield from found


def read_each(
    paths: Sequence[Any] | np.ndarray, look: Look
) -> Iterator[tuple[np.ndarray, tuple[str, ...]] | ImageError]:
    """Yield what ``read_image`` makes of each file or its contents, or its error."""
    at_once = _WAITING_BYTES // int(np.prod(look.image_size) * look.channels)
    return each(paths, lambda path: read_image(path, look), min(max(at_once, 8), 512))


def read_files(
    names: Sequence[str], paths: Sequence[str], reading: Reading, look: Look | None = None
) -> Read:
    """Read files, and find out what they are brought to where nobody has said it.

    Args:
        names: what the files are called in sentences.
        paths: where they are.
        reading: how they are read.
        look: what they are brought to; None to find it out.
    """
    all_paths = np.array(paths, object)
    if look is None:
        look = _find_look(all_paths, reading)
    num_bytes = len(paths) * np.prod(look.image_size) * look.channels
    is_held = bool(num_bytes <= HELD_BYTES)
    images = np.empty((len(paths) if is_held else 0, *look.image_size, look.channels), np.uint8)
    is_read, unreadable = np.zeros(len(paths), bool), []
    num_read, notes = 0, collections.Counter[str]()
    for row, found in enumerate(read_each(all_paths, look)):
        if isinstance(found, ImageError):
            unreadable.append((names[row], str(found)))
            continue
        if is_held:
            images[num_read] = found[0]
        is_read[row] = True
        num_read += 1
        notes.update(found[1])
    return Read(
        images[:num_read] if is_held else LazyImages(all_paths[is_read], look),
        is_read,
        look,
        tuple(unreadable),
        tuple(f"{note} ({number:,})" for note, number in sorted(notes.items())),
    )


def ground_of(images: Any) -> str:
    """Return what images are drawn on, "dark" or "light", and "mixed" if it is no rule."""
    share = float(np.mean(is_light(images[:1000]))) if len(images) else 0.5
    return "light" if share >= 0.98 else "dark" if share <= 0.02 else "mixed"


def _find_look(paths: np.ndarray, reading: Reading) -> Look:
    found = [header for header in each(paths, peek) if isinstance(header, Peek)]
    size = _common_size(found) if reading.image_size is None else image_shape(reading.image_size)
    looked_at = paths[:: max(len(paths) // _MOST_LOOKED_AT, 1)]
    colours = [item for item in each(looked_at, read_colours) if not isinstance(item, ImageError)]
    is_grey = reading.grey or (
        reading.grey is None
        and not (any(image.may_have_colour for image in found) and any(has for has, _ in colours))
    )
    behind, inks = background(reading.background), [ink for _, ink in colours if ink is not None]
    if behind is None and inks:  # One for all, so that they are alike.
        behind = (0, 0, 0) if np.mean(inks) > 127.5 else (255, 255, 255)
    return Look(size, 1 if is_grey else 3, behind, reading.invert == "yes")


def _common_size(found: Sequence[Peek]) -> tuple[int, int]:
    """Return the one size of all images, or their median, with no side longer than 64 pixels."""
    sizes = np.array([image[:2] for image in found]).reshape(-1, 2)
    if not len(sizes):
        return _LARGEST_SIDE, _LARGEST_SIDE
    height, width = np.median(sizes, axis=0)
    scale = min(_LARGEST_SIDE / max(height, width), 1)
    return max(round(height * scale), 1), max(round(width * scale), 1)
