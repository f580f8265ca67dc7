"""Arrays in an ``.npz`` file, and arrays of any numbers as images."""

import os
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from memjax._files import reason_of
from memjax.datasets._source import DatasetError, Reading, image_shape

_TRAIN = (("images", "labels"), ("x_train", "y_train"), ("x", "y"), ("X", "y"), ("data", "target"))
_TESTS = (("x_test", "y_test"), ("test_images", "test_labels"))


class Arrays(NamedTuple):
    """What an ``.npz`` file holds.

    Attributes:
        values: uint8 [N, H, W, channels] of images, or float32 [N, D] of features.
        labels: [N] words or numbers.
        num_test: how many of the last rows are its own test.
        notes: how the numbers were read.
    """

    values: np.ndarray
    labels: np.ndarray
    num_test: int
    notes: tuple[str, ...]


def read_npz(path: Path, reading: Reading) -> Arrays:
    """Read images or features with their labels; nothing that is pickled is read."""
    content = _load(path)
    pairs = _pairs(path, list(content))
    arrays = [(content[values], content[labels]) for values, labels in pairs]
    for pair, (values, labels) in zip(pairs, arrays, strict=True):
        labels = _flat(labels)
        if labels.ndim != 1 or len(labels) != len(values) or labels.dtype.kind not in "biuUSf":
            raise DatasetError(
                f"{path}: expected {pair[1]} to be one class for each of {len(values)} rows, got "
                f"{labels.dtype}{list(labels.shape)}."
            )
        if labels.dtype.kind == "f" and not np.equal(labels, np.rint(labels)).all():
            raise DatasetError(f"{path}: expected classes in {pair[1]}, got fractions.")
    shapes = [values.shape[1:] for values, _ in arrays]
    if len(set(shapes)) > 1:
        raise DatasetError(
            f"{path}: expected rows of one shape to learn and to test, got {shapes[0]} and "
            f"{shapes[1]}."
        )
    values = np.concatenate([values for values, _ in arrays]) if len(arrays) > 1 else arrays[0][0]
    labels = np.concatenate([_flat(labels) for _, labels in arrays])
    labels = labels.astype(str) if labels.dtype.kind == "S" else labels
    num_test = len(arrays[1][1]) if len(arrays) > 1 else 0
    if not len(values):
        raise DatasetError(f"{path}: expected rows, got none.")
    if values.ndim == 2 and reading.image_size is not None:
        shape = pixel_shape(str(path), values.shape[1], reading.image_size)
        values = values.reshape(-1, *shape)
    if values.ndim == 2:
        if values.dtype.kind not in "biuf" or not np.isfinite(values).all():
            raise DatasetError(f"{path}: expected finite numbers, got {values.dtype} or a NaN.")
        return Arrays(values.astype(np.float32), labels, num_test, ())
    images, notes = as_images(str(path), values)
    return Arrays(images, labels, num_test, notes)


def read_features(path: Path) -> np.ndarray:
    """Return rows of features float32 [N, D] without labels."""
    arrays = _load(path)
    names = ("images", "x", "X", "data", "x_test")
    rows = next((arrays[name] for name in names if name in arrays), None)
    if rows is None or rows.ndim != 2 or rows.dtype.kind not in "biuf":
        raise DatasetError(f"{path}: expected an array images of rows [N, D], got none.")
    return rows.astype(np.float32)


def as_images(name: str, values: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return numbers [N, H, W] or [N, H, W, channels] as uint8 [N, H, W, channels], and the scale.

    Integers of 16 bits and floats are read on the scale that they fill: white is the least of 1,
    255 and 65535 that no number exceeds, and 16 for integers that end there.
    """
    if values.ndim == 3:
        values = values[..., np.newaxis]
    if values.ndim != 4 or values.shape[3] not in (1, 3) or values.dtype.kind not in "biuf":
        raise DatasetError(
            f"{name}: expected images [N, H, W] or [N, H, W, 1 or 3], or features [N, D], got "
            f"{values.dtype}{list(values.shape)}."
        )
    if values.dtype == np.uint8:
        return values, ()
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 65535):
        raise DatasetError(
            f"{name}: expected pixels from 0 to 1, 255 or 65535, got numbers from {low:g} to "
            f"{high:g}."
        )
    is_whole = values.dtype.kind in "biu" or bool(np.equal(values, np.rint(values)).all())
    if values.dtype == np.uint16:
        white = 65535
    else:
        white = next(
            end for end in ((1, 16, 255, 65535) if is_whole else (1, 255, 65535)) if end >= high
        )
    scaled = np.rint(values.astype(np.float32) * np.float32(255 / white)).astype(np.uint8)
    return scaled, (f"the pixels were read on the scale from 0 to {white}",) if white != 255 else ()


def pixel_shape(name: str, number: int, image_size: Any) -> tuple[int, int, int]:
    """Return (H, W, channels) of images of a size, each given as ``number`` numbers."""
    height, width = image_shape(image_size)
    channels = 3 if number == 3 * height * width else 1
    if number != height * width * channels:
        raise DatasetError(
            f"{name}: expected {height * width} or {3 * height * width} numbers for an image of "
            f"{height} x {width} pixels, got {number}."
        )
    return height, width, channels


def _load(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of an ``.npz`` file."""
    try:
        with zipfile.ZipFile(path) as archive:
            num_bytes = sum(member.file_size for member in archive.infolist())
        if num_bytes > (room := os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")):
            raise DatasetError(
                f"{path}: holds {num_bytes / 2**30:,.1f} GiB, and this machine has a memory of "
                f"{room / 2**30:,.1f} GiB."
            )
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DatasetError(
            f"{path}: cannot be read as an .npz file ({reason_of(error)})."
        ) from None


def _pairs(path: Path, names: list[str]) -> list[tuple[str, str]]:
    train = next((pair for pair in _TRAIN if set(pair) <= set(names)), None)
    if train is None:
        raise DatasetError(
            f"{path}: expected the arrays images and labels, or x_train, y_train, x_test and "
            f"y_test, got {', '.join(names[:20]) or 'none'}."
        )
    test = next((pair for pair in _TESTS if set(pair) <= set(names)), None)
    return [train, test] if test else [train]


def _flat(labels: np.ndarray) -> np.ndarray:
    return labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
