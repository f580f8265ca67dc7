"""Image datasets as NumPy arrays, in an order that a seed decides.

``load`` gives one split of ``digits`` (which scikit-learn brings along), ``mnist``,
``fashion_mnist`` or ``cifar10``. The last three are read from a folder that TensorFlow Datasets
prepared, without TensorFlow. Where there is no such folder, the official files are downloaded,
checked and prepared once. The decoded arrays are cached, so a later load takes a fraction of a
second.
"""

import os
from typing import NamedTuple

import numpy as np

from memjax._checks import check_choice, check_kind, check_whole
from memjax.datasets import _bundled, _tfds
from memjax.datasets._source import DatasetError

__all__ = ["NAMES", "SPLITS", "Dataset", "DatasetError", "is_prepared", "load"]

# Each loader is a module with a table of its sources.
_SOURCES = {
    **_bundled.SOURCES,
    **_tfds.SOURCES,
}

NAMES = tuple(_SOURCES)
"""The names of the datasets."""

SPLITS = ("train", "test", "validation", "train_without_validation")
"""The names of the splits of every dataset."""


class Dataset(NamedTuple):
    """One split of a dataset, in the order that its seed decided.

    Attributes:
        images: uint8 ``[rows, height, width, channels]``, 0 to 255.
        labels: int32 ``[rows]``, 0 to ``num_classes - 1``.
        class_names: the name of each class; ``class_names[labels[0]]`` names the first image.
        name: the ``name`` that was loaded.
        split: the ``split`` that was loaded.
        seed: the ``seed`` that decided the order.
    """

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    name: str
    split: str
    seed: int

    @property
    def num_classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)


def load(
    name: str,
    split: str = "train",
    seed: int = 0,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
) -> Dataset:
    """Load one split of a dataset, in the order that ``seed`` decides.

    The seed permutes the rows of a split and never moves a row into another split.

    Args:
        name: ``digits``, ``mnist``, ``fashion_mnist`` or ``cifar10``.
        split: ``train``, ``test``, ``validation`` or ``train_without_validation``. The validation
            rows are the last 10,000 of the stored train rows (200 for ``digits``). ``digits`` has
            no official test rows: a fixed third, 599 of its 1,797 rows, is held out.
        seed: a whole number of at least 0.
        data_dir: the folder of the prepared datasets; a missing dataset is prepared there. Default:
            the environment variable TFDS_DATA_DIR, else ``~/tensorflow_datasets``.
        cache_dir: the folder of the decoded arrays. Default: the environment variable
            MEMJAX_CACHE_DIR, else ``$XDG_CACHE_HOME/memjax``, else ``~/.cache/memjax``.

    Returns:
        A ``Dataset``: its images are uint8 ``[rows, height, width, channels]`` (8x8x1 for
        ``digits``, 28x28x1 for both kinds of MNIST, 32x32x3 for ``cifar10``), its labels int32
        ``[rows]``.

    Raises:
        ValueError, TypeError: ``name``, ``split`` or ``seed`` is not one of the above.
        DatasetError: the data are not prepared and cannot be downloaded, a download does not match
            its checksum, or a prepared folder cannot be read.
        ImportError: a package is missing that the extra ``memjax[cli]`` (for ``digits``) or
            ``memjax[datasets]`` (for the others) installs.

    Example:
        >>> digits = load("digits", "test", seed=3)
        >>> digits.images.shape, digits.num_classes
        ((599, 8, 8, 1), 10)
    """
    check_choice("name", name, NAMES)
    check_choice("split", split, SPLITS)
    check_whole("seed", seed)
    for argument, folder in (("data_dir", data_dir), ("cache_dir", cache_dir)):
        if folder is not None:
            check_kind(argument, folder, (str, os.PathLike), "the path of a folder")

    read, num_validation = _SOURCES[name]
    rows = read("test" if split == "test" else "train", data_dir, cache_dir)
    num_stored = len(rows.labels)
    first, last = {
        "validation": (num_stored - num_validation, num_stored),
        "train_without_validation": (0, num_stored - num_validation),
    }.get(split, (0, num_stored))
    if min(first, last) < 0:
        raise DatasetError(
            f"{name}: split {split!r} needs at least {num_validation} train rows, got {num_stored}."
        )
    order = first + np.random.default_rng(seed).permutation(last - first)
    return Dataset(rows.images[order], rows.labels[order], rows.class_names, name, split, int(seed))


def is_prepared(name: str, data_dir: str | os.PathLike[str] | None = None) -> bool:
    """Return whether a dataset can be loaded without a download.

    Args:
        name: as for ``load``.
        data_dir: as for ``load``.

    Example:
        >>> is_prepared("digits")
        True
    """
    check_choice("name", name, NAMES)
    return name in _bundled.SOURCES or _tfds.is_prepared(name, data_dir)
