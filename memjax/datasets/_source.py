"""What every loader of a dataset shares: the rows it gives, and its entry in the table of names."""

import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Folder = str | os.PathLike[str] | None


class DatasetError(RuntimeError):
    """The data are missing and cannot be downloaded, or they are there and cannot be read."""


class Rows(NamedTuple):
    """The train rows or the test rows of a dataset, in the order in which they are stored."""

    images: np.ndarray  # uint8 [rows, height, width, channels]
    labels: np.ndarray  # int32 [rows]
    class_names: tuple[str, ...]


class Source(NamedTuple):
    """Where the rows of one dataset come from.

    Attributes:
        read: takes "train" or "test", ``data_dir`` and ``cache_dir``, and returns ``Rows``.
        num_validation: how many of the last train rows the validation split has.
    """

    read: Callable[[str, Folder, Folder], Rows]
    num_validation: int
