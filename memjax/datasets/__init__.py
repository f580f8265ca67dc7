"""Image classification datasets as NumPy arrays, in an order that a seed decides.

``load`` gives one split of ``digits`` (bundled with scikit-learn), ``mnist``, ``fashion_mnist`` or
``cifar10``. The last three are read from a folder prepared by TensorFlow Datasets, without
TensorFlow. Where none is prepared, the official files are downloaded, checked and prepared once.
The decoded arrays are cached, so that a later load takes a fraction of a second.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import importlib
import os
import re
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urljoin

import numpy as np

from memjax._checks import check_choice, check_kind, shorten

__all__ = ["NAMES", "SPLITS", "Dataset", "DatasetError", "load"]

NAMES = ("digits", "mnist", "fashion_mnist", "cifar10")
SPLITS = ("train", "test", "validation", "train_without_validation")

_VALIDATION_ROWS = {"digits": 200, "mnist": 10_000, "fashion_mnist": 10_000, "cifar10": 10_000}
_DIGITS_TEST_ROWS = 599
_DECODE_ROWS = 1_000
_CONNECT_SECONDS = 10


class DatasetError(RuntimeError):
    """Data that are missing and cannot be downloaded, or that are there and cannot be read."""


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


class _Rows(NamedTuple):
    """The train or test rows of a dataset, in stored order."""

    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]


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
        split: ``train``, ``test``, ``validation`` (the last 10,000 of the stored train rows; 200
            for ``digits``) or ``train_without_validation`` (the other train rows). ``digits`` has
            no official test rows: a fixed third, 599 of its 1,797 rows, is held out.
        seed: a whole number of at least 0.
        data_dir: the folder of prepared datasets, and where a missing one is prepared. Default:
            the environment variable TFDS_DATA_DIR, else ``~/tensorflow_datasets``.
        cache_dir: the folder of decoded arrays. Default: the environment variable
            MEMJAX_CACHE_DIR, else ``$XDG_CACHE_HOME/memjax``, else ``~/.cache/memjax``.

    Returns:
        A ``Dataset``: images uint8 ``[rows, height, width, channels]`` (8x8x1 for ``digits``,
        28x28x1 for both kinds of MNIST, 32x32x3 for ``cifar10``), labels int32 ``[rows]``, and
        what they are.

    Raises:
        ValueError: ``name``, ``split`` or ``seed`` is not one of the above.
        DatasetError: the data are neither prepared nor to be downloaded, a download does not
            match its checksum, or a prepared folder cannot be read.
        ImportError: a package of the extra ``memjax[all]`` is missing.

    Example:
        >>> digits = load("digits", "test", seed=3)
        >>> digits.images.shape, digits.num_classes
        ((599, 8, 8, 1), 10)
    """
    check_choice("name", name, NAMES)
    check_choice("split", split, SPLITS)
    if not isinstance(seed, int | np.integer) or isinstance(seed, bool) or seed < 0:
        raise ValueError(f"seed: expected a whole number of at least 0, got {shorten(seed)}.")
    for argument, folder in (("data_dir", data_dir), ("cache_dir", cache_dir)):
        if folder is not None:
            check_kind(argument, folder, (str, os.PathLike), "the path of a folder")

    stored_split = "test" if split == "test" else "train"
    if name == "digits":
        rows = _digits_rows(stored_split)
    else:
        rows = _prepared_rows(name, stored_split, _data_folder(data_dir), _cache_folder(cache_dir))

    stored, held_out = len(rows.labels), _VALIDATION_ROWS[name]
    first, last = {
        "validation": (stored - held_out, stored),
        "train_without_validation": (0, stored - held_out),
    }.get(split, (0, stored))
    if min(first, last) < 0:
        raise DatasetError(
            f"{name}: split {split!r} needs at least {held_out} train rows, got {stored}."
        )
    order = first + np.random.default_rng(seed).permutation(last - first)
    return Dataset(rows.images[order], rows.labels[order], rows.class_names, name, split, int(seed))


def _digits_rows(split: str) -> _Rows:
    bunch = _import("sklearn.datasets").load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[..., np.newaxis]
    order = np.random.RandomState(0).permutation(len(images))
    chosen = order[:_DIGITS_TEST_ROWS] if split == "test" else order[_DIGITS_TEST_ROWS:]
    class_names = tuple(str(digit) for digit in bunch.target_names)
    return _Rows(images[chosen], bunch.target[chosen].astype(np.int32), class_names)


def _prepared_rows(name: str, split: str, data: Path, cache: Path) -> _Rows:
    # The folder is found by its path, so that a cached load never imports tensorflow_datasets.
    folder = _prepared_folder(name, data)
    if folder is None:
        _prepare(name, data)
        folder = _prepared_folder(name, data)
    if folder is None:
        raise DatasetError(
            f"{name}: the folder {data / name} holds a version without a dataset_info.json; "
            "remove that version, or set data_dir to another folder."
        )
    cache_file = _cache_file(name, split, folder, cache)
    rows = _read_cache(cache_file)
    if rows is None:
        rows = _decode(name, split, folder)
        _write_cache(cache_file, rows)
    return rows


def _data_folder(data_dir: str | os.PathLike[str] | None) -> Path:
    given = data_dir or os.environ.get("TFDS_DATA_DIR")
    return Path(given or Path.home() / "tensorflow_datasets").expanduser()


def _cache_folder(cache_dir: str | os.PathLike[str] | None) -> Path:
    given = cache_dir or os.environ.get("MEMJAX_CACHE_DIR")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "memjax"


def _prepared_folder(name: str, data: Path) -> Path | None:
    """Find the newest prepared version of a dataset, if any."""
    versions = [
        info.parent
        for info in (data / name).glob("*/dataset_info.json")
        if re.fullmatch(r"\d+\.\d+\.\d+", info.parent.name)
    ]
    return max(versions, key=lambda path: list(map(int, path.name.split("."))), default=None)


# The cache: one uncompressed .npz for each split of each prepared folder.


def _cache_file(name: str, split: str, folder: Path, cache: Path) -> Path:
    """Name the cache file of exactly these prepared files: changed files have another."""
    files = sorted((path.name, path.stat()) for path in folder.iterdir())
    sizes = [(file, status.st_size, status.st_mtime_ns) for file, status in files]
    identity = repr((str(folder.resolve()), sizes))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return cache / f"{name}-{folder.name}-{split}-{digest}.npz"


def _read_cache(path: Path) -> _Rows | None:
    """Read the cached rows; None where the file is missing or damaged."""
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            images, labels = archive["images"], archive["labels"]
            class_names = tuple(str(class_name) for class_name in archive["class_names"])
    except Exception:  # Whatever is wrong with a cache file, the answer is to decode again.
        return None
    kinds = (images.dtype, images.ndim, labels.dtype, labels.shape)
    if kinds != (np.uint8, 4, np.int32, images.shape[:1]):
        return None
    return _Rows(images, labels, class_names)


def _write_cache(path: Path, rows: _Rows) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix="incomplete.") as folder:
            written = Path(folder) / path.name
            np.savez(written, images=rows.images, labels=rows.labels, class_names=rows.class_names)
            os.replace(written, path)
    except OSError as error:
        warnings.warn(
            f"The decoded arrays could not be cached in {path.parent} ({_brief(error)}): "
            "set cache_dir or MEMJAX_CACHE_DIR to a folder that can be written.",
            stacklevel=4,
        )


# TensorFlow Datasets: reading a prepared folder, and preparing one from the official files.


def _decode(name: str, split: str, folder: Path) -> _Rows:
    with _quiet_tensorflow_datasets() as tfds:
        try:
            builder = tfds.builder_from_directory(folder)
            if builder.info.file_format.value != "array_record":
                raise ValueError(
                    f"its records are {builder.info.file_format.value}, and only array_record "
                    "is read without TensorFlow"
                )
            source = builder.as_data_source(split)
            features = builder.info.features
            images = np.empty((len(source), *features["image"].shape), np.uint8)
            labels = np.empty(len(source), np.int32)
            for first in range(0, len(source), _DECODE_ROWS):
                rows = range(first, min(first + _DECODE_ROWS, len(source)))
                for row, example in zip(rows, source.__getitems__(list(rows)), strict=True):
                    images[row], labels[row] = example["image"], example["label"]
            return _Rows(images, labels, tuple(features["label"].names))
        except Exception as error:  # The readers below raise whatever the damage leads them to.
            raise DatasetError(
                f"{name}: the prepared folder {folder} cannot be read ({_brief(error)}); "
                "remove it to have it prepared again, or set data_dir to another folder."
            ) from error


def _prepare(name: str, data: Path) -> None:
    """Download the official files and prepare them as array_record, without TensorFlow.

    This is the official builder with its own addresses and checksums: only the step that would
    extract the files with TensorFlow is replaced. It prepares in a folder of another name and
    renames that at the end, so that a failure leaves nothing that is read later.
    """
    with _quiet_tensorflow_datasets() as tfds:
        try:
            data.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=data, prefix="downloads.") as downloads:
                builder = tfds.builder_cls(name)(data_dir=data, file_format="array_record")
                splits = _cifar_splits if name == "cifar10" else _mnist_splits
                builder._split_generators = functools.partial(splits, builder)
                config = tfds.download.DownloadConfig(
                    force_checksums_validation=True, try_download_gcs=False
                )
                # It prints what it starts and where it ends: of use, but not on a program's output.
                with contextlib.redirect_stdout(sys.stderr):
                    builder.download_and_prepare(download_dir=downloads, download_config=config)
        except DatasetError:
            raise
        except Exception as error:
            if _prepared_folder(name, data) is None:  # Else another process was faster.
                raise DatasetError(
                    f"{name}: the official files could not be prepared under {data} "
                    f"({_brief(error)}); set data_dir or TFDS_DATA_DIR to a folder that can be "
                    f"written, or that holds a prepared {name}."
                ) from error


def _mnist_splits(builder: Any, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict]]]:
    def array(file: str) -> np.ndarray:
        return _read_idx(_download(builder, dl_manager, urljoin(builder.URL, file)))

    return {
        split: _examples(
            array(f"{prefix}-images-idx3-ubyte.gz"), array(f"{prefix}-labels-idx1-ubyte.gz")
        )
        for split, prefix in (("train", "train"), ("test", "t10k"))
    }


def _read_idx(path: Path) -> np.ndarray:
    """Read an IDX file: a big-endian header (type, dimensions, shape), then the bytes."""
    with gzip.open(path) as file:
        content = file.read()
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _cifar_splits(builder: Any, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict]]]:
    official = builder._cifar_info
    contents = {}
    with tarfile.open(_download(builder, dl_manager, official.url), "r:gz") as archive:
        for member in archive:
            if (file := archive.extractfile(member)) is not None:
                contents[member.name] = file.read()
    (names_file,) = official.label_files
    class_names = contents[official.prefix + names_file].decode().split("\n")
    builder.info.features["label"].names = [name for name in class_names if name]

    def examples(split: str, files: list[str]) -> Iterator[tuple[int, dict]]:
        content = b"".join(contents[official.prefix + file] for file in files)
        records = np.frombuffer(content, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
        images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        for row, example in _examples(images, records[:, 0]):
            yield row, example | {"id": f"{split}_{row:05d}"}

    return {
        "train": examples("train", official.train_files),
        "test": examples("test", official.test_files),
    }


def _examples(images: np.ndarray, labels: np.ndarray) -> Iterator[tuple[int, dict]]:
    # A Pillow image is encoded by Pillow; an array would be encoded by TensorFlow.
    to_image = _import("PIL.Image").fromarray
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        yield row, {"image": to_image(image), "label": int(label)}


def _download(builder: Any, dl_manager: Any, url: str) -> Path:
    """Download one official file and check it against the builder's checksum."""
    requests = _import("requests")
    download_manager = _import("tensorflow_datasets.core.download.download_manager")
    download_util = _import("tensorflow_datasets.core.download.util")
    try:
        # The download manager asks an unreachable host again for minutes: ask once, briefly.
        requests.head(url, timeout=_CONNECT_SECONDS).close()
        return Path(dl_manager.download(url))
    except download_manager.NonMatchingChecksumError as error:
        raise DatasetError(
            f"{builder.name}: the download of {url} does not match the official checksum, so it "
            "was cut short or altered; nothing of it was kept, load again to repeat it."
        ) from error
    except (requests.RequestException, download_util.DownloadError) as error:
        is_answer = isinstance(error, download_util.DownloadError)
        reason = _brief(error).rstrip(".") if is_answer else type(error).__name__
        raise DatasetError(
            f"{builder.name}: nothing is prepared under {builder._data_dir_root}, and the official "
            f"file {url} could not be downloaded ({reason}); set TFDS_DATA_DIR or data_dir "
            f"to a folder that holds a prepared {builder.name}, or load again with a network."
        ) from error


@contextlib.contextmanager
def _quiet_tensorflow_datasets() -> Iterator[Any]:
    """tensorflow_datasets, without its progress bars and its advice on other packages."""
    for needed in ("PIL.Image", "array_record.python.array_record_data_source"):
        _import(needed)
    tfds = _import("tensorflow_datasets")
    progress = _import("tensorflow_datasets.core.utils.tqdm_utils")
    logging = _import("absl.logging")
    active, verbosity = progress._active, logging.get_verbosity()
    progress.display_progress_bar(False)
    logging.set_verbosity(logging.ERROR)
    try:
        yield tfds
    finally:
        progress.display_progress_bar(active)
        logging.set_verbosity(verbosity)


def _import(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"This dataset needs the package {module.partition('.')[0]}: pip install 'memjax[all]'"
        ) from error


def _brief(error: Exception) -> str:
    """Give the kind of an error and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
