"""Images and their labels as NumPy arrays, in an order that a seed decides.

A source has a name, or it is your own. ``digits`` comes with scikit-learn. ``mnist``,
``fashion_mnist``, ``kmnist``, ``emnist``, ``cifar10``, ``cifar100`` and ``svhn_cropped`` are read
from a folder that TensorFlow Datasets prepared, without TensorFlow. Where there is no such folder,
the official files are downloaded, checked and prepared once, and the decoded arrays are cached.
``tfds:NAME`` or ``tfds:NAME/CONFIG`` is any other prepared set of images with labels. Your own
source is a folder of image files, an ``.npz`` file, or a table; ``docs/guides/your-own-data.md``
shows each of them.
"""

import difflib
import os
from pathlib import Path

import numpy as np

from memjax._checks import check_choice, check_kind, check_whole
from memjax.datasets import _bundled, _scan, _tfds
from memjax.datasets._collection import SPLITS, Collection
from memjax.datasets._images import Look
from memjax.datasets._source import Dataset, DatasetError, Reading

__all__ = [
    "NAMES",
    "SPLITS",
    "Collection",
    "Dataset",
    "DatasetError",
    "Look",
    "Reading",
    "is_named",
    "is_prepared",
    "load",
    "scan",
]

# Each loader is a module with a table of its sources.
_SOURCES = {
    **_bundled.SOURCES,
    **_tfds.SOURCES,
}

NAMES = tuple(_SOURCES)
"""The names of the datasets."""


def load(
    name: str | os.PathLike[str],
    split: str = "train",
    seed: int = 0,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    reading: Reading | None = None,
) -> Dataset:
    """Load one split of a dataset, in the order that ``seed`` decides.

    The seed permutes the rows of a split and never moves a row into another split.

    Args:
        name: one of ``NAMES``, ``tfds:NAME``, or the path of your own data; see ``scan``.
        split: ``train``, ``test``, ``validation`` or ``train_without_validation``. The validation
            rows are the last 10,000 of the stored train rows (200 for ``digits``). ``digits`` has
            no official test rows: a fixed third, 599 of its 1,797 rows, is held out. ``scan`` says
            how your own data are split.
        seed: a whole number of at least 0.
        data_dir: the folder of the prepared datasets; a missing dataset is prepared there. Default:
            the environment variable TFDS_DATA_DIR, else ``~/tensorflow_datasets``.
        cache_dir: the folder of the decoded arrays. Default: the environment variable
            MEMJAX_CACHE_DIR, else ``$XDG_CACHE_HOME/memjax``, else ``~/.cache/memjax``.
        reading: how your own data are read; None for the defaults.

    Returns:
        A ``Dataset``: its images are uint8 ``[rows, height, width, channels]`` (8x8x1 for
        ``digits``, 28x28x1 for the kinds of MNIST, 32x32x3 for CIFAR and SVHN), its labels int32
        ``[rows]``. Rows of features are float32 ``[rows, D]``.

    Raises:
        ValueError, TypeError: ``name``, ``split`` or ``seed`` is not one of the above.
        DatasetError: the data are not prepared and cannot be downloaded, a download does not match
            its checksum, or the data cannot be read.
        ImportError: a package is missing that the extra ``memjax[cli]`` (for ``digits``) or
            ``memjax[datasets]`` (for the others) installs.

    Example:
        >>> digits = load("digits", "test", seed=3)
        >>> digits.images.shape, digits.num_classes
        ((599, 8, 8, 1), 10)
    """
    check_choice("split", split, SPLITS)
    check_whole("seed", seed)
    if not is_named(name):
        collection = scan(name, reading, data_dir, cache_dir)
        found = collection.dataset(split, seed)
        return found._replace(images=found.images[:])
    name = _plain(name)
    if reading is not None:
        raise ValueError(f"reading: does not belong to the dataset {name}, which has its own.")
    _check_folders(data_dir, cache_dir)
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


def scan(
    source: str | os.PathLike[str],
    reading: Reading | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    look: Look | None = None,
) -> Collection:
    r"""Read a source of your own, and return what was found before anything is learned.

    Every image is brought to one size with its proportions kept: what is left over has the colour
    of its edge. It is turned as its EXIF data say, numbers of 16 bits and floats are scaled, and
    what is transparent shows a background. A file that cannot be read is left out and named.

    Where a source does not set its own test apart, a share of each class is held out, always the
    same rows. Validation rows are held out of the others in the same way.

    Args:
        source: ``tfds:NAME`` or ``tfds:NAME/CONFIG``, or the path of

            * a folder of folders of images, one for each class, which may lie in ``train/`` and
              ``test/``. A class is the topmost folder that holds images itself;
            * an ``.npz`` file with ``images`` and ``labels``, or with ``x_train``, ``y_train``,
              ``x_test`` and ``y_test``; the images may be features [N, D];
            * a ``.csv`` or ``.parquet`` file of features, of pixels (with an ``image_size``), or of
              the paths of images, with a column of labels.
        reading: how it is read; None for the defaults.
        data_dir: of ``tfds:``; see ``load``.
        cache_dir: of ``tfds:``; see ``load``.
        look: what a network has learned its images as, if they are to be like those.

    Raises:
        ValueError, TypeError: an argument is out of its range.
        DatasetError: the source is not there or cannot be read, or holds fewer than two classes.
        ImportError: a package is missing that an extra installs.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile("w", suffix=".csv") as file:
        ...     _ = file.write("height,width,kind\n1,2,low\n3,1,high\n1,1,low\n4,2,high\n")
        ...     file.flush()
        ...     scan(file.name).class_names
        ('high', 'low')
    """
    check_source(source)
    _check_folders(data_dir, cache_dir)
    return _scan.scan(os.fspath(source), reading or Reading(), look, (data_dir, cache_dir))


def is_named(source: str | os.PathLike[str]) -> bool:
    """Return whether a source is one of ``NAMES``, and raise if it is none at all.

    Raises:
        ValueError, TypeError: the source is no dataset, and there is no such file or folder.

    Example:
        >>> is_named("mnist")
        True
    """
    check_source(source)
    return _plain(source) in NAMES


def check_source(source: str | os.PathLike[str]) -> None:
    """Raise unless a source is one of ``NAMES``, a prepared set, or something that is there."""
    if not isinstance(source, str | os.PathLike):
        check_choice("name", source, NAMES)
    text = str(source)
    if text in NAMES or text.startswith("tfds:") or (text and Path(text).expanduser().exists()):
        return
    near = difflib.get_close_matches(text.lower(), NAMES, n=1)
    raise ValueError(
        f"name: expected {', '.join(NAMES)}, tfds:NAME, a folder of classes, or an .npz, .csv or "
        f".parquet file, got {text!r}{f' (did you mean {near[0]}?)' if near else ''}."
    )


def _plain(source: str | os.PathLike[str]) -> str:
    """Return the name of a dataset without the prefix that says where it comes from."""
    text = os.fspath(source)
    short = text.removeprefix("tfds:")
    return short if short in _tfds.SOURCES else text


def _check_folders(
    data_dir: str | os.PathLike[str] | None, cache_dir: str | os.PathLike[str] | None
) -> None:
    for argument, folder in (("data_dir", data_dir), ("cache_dir", cache_dir)):
        if folder is not None:
            check_kind(argument, folder, (str, os.PathLike), "the path of a folder")


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
