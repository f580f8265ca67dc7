"""Datasets that TensorFlow Datasets prepares: reading them and preparing them without TensorFlow.

The prepared folder is found by its path, so a cached load never imports tensorflow_datasets.
"""

import builtins
import contextlib
import functools
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from memjax._checks import import_package
from memjax.datasets import _official
from memjax.datasets._cache import cache_file, read_cache, write_cache
from memjax.datasets._features import Description, read_description
from memjax.datasets._files import read_each
from memjax.datasets._images import ImageError, Look
from memjax.datasets._owned import owned_folder
from memjax.datasets._source import DatasetError, Folder, Rows, Source

_CONNECT_SECONDS = 10

_import = functools.partial(import_package, user="This dataset", extra="datasets")
_in_use = threading.RLock()


class Encoded(NamedTuple):
    """The images of a split as they are stored, with their labels."""

    images: list[bytes]
    labels: np.ndarray
    class_names: tuple[str, ...]


class Prepared(NamedTuple):
    """A prepared folder, and what it holds."""

    name: str
    folder: Path
    description: Description


def find_prepared(name: str, data_dir: Folder) -> Prepared:
    """Return the prepared folder of a dataset, which is prepared if it is not there and can be.

    Args:
        name: NAME or NAME/CONFIG, as tensorflow-datasets has them.
        data_dir: see ``memjax.datasets.load``.
    """
    if not re.fullmatch(r"[A-Za-z0-9_]+(/[A-Za-z0-9_][\w.+-]*)?", name, re.ASCII):
        raise DatasetError(f"name: expected tfds:NAME or tfds:NAME/CONFIG, got {'tfds:' + name!r}.")
    data = _data_folder(data_dir)
    name = "emnist/byclass" if name == "emnist" else name  # its own default
    folder = _prepared_folder(name, data)
    if folder is None and name.partition("/")[0] in _official.SPLITS:
        if any((data / name).glob("[0-9]*/*")):
            raise DatasetError(
                f"{name}: the folder {data / name} holds a version without a dataset_info.json; "
                "remove that version, or set data_dir to another folder."
            )
        _prepare(name, data)
        folder = _prepared_folder(name, data)
    if folder is None:
        configs = sorted(
            {info.parents[1].name for info in (data / name).glob("*/*/dataset_info.json")}
        )
        instead = (
            f"it has {', '.join(f'tfds:{name}/{config}' for config in configs)}"
            if configs
            else "prepare it there with tensorflow-datasets, as only "
            f"{', '.join(_official.SPLITS)} can be prepared here"
        )
        raise DatasetError(f"tfds:{name}: nothing is prepared under {data}; {instead}.")
    return Prepared(name, folder, read_description(name, folder))


def read_rows(prepared: Prepared, split: str, cache_dir: Folder) -> Rows:
    """Return a split whose images all have one shape."""
    name, folder, description = prepared
    file = cache_file(cache_dir, name.replace("/", "-"), split, folder)
    rows = read_cache(file)
    if rows is not None:
        return rows
    encoded = read_encoded(prepared, split)
    assert description.shape is not None
    look = Look(description.shape[:2], description.shape[2])
    images = np.empty((len(encoded.images), *description.shape), np.uint8)
    for row, found in enumerate(read_each(encoded.images, look)):
        if isinstance(found, ImageError):
            raise DatasetError(_unreadable(prepared, f"image {row}: {found}"))
        images[row] = found[0]
    rows = Rows(images, encoded.labels, encoded.class_names)
    write_cache(file, rows)
    return rows


def read_encoded(prepared: Prepared, split: str) -> Encoded:
    """Return the images of a split as they are stored."""
    _, folder, description = prepared
    with _quiet_tensorflow_datasets() as tfds:
        try:
            builder = tfds.builder_from_directory(folder)
            info, images, labels = builder.info, [], []
            # The images are decoded here: tensorflow-datasets would open any format.
            decoders = {description.image: tfds.decode.SkipDecoding()}
            if (kind := info.file_format.value) == "array_record":
                examples = builder.as_data_source(split, decoders=decoders)
            elif kind == "tfrecord":
                examples = (
                    info.features.deserialize_example_np(record, decoders=decoders)
                    for file in info.splits[split].filepaths
                    for record in _read_tfrecord(Path(file))
                )
            else:
                raise ValueError(
                    f"its records are {kind}, and only array_record and tfrecord are read without "
                    "TensorFlow"
                )
            for example in examples:
                images.append(bytes(example[description.image]))
                labels.append(int(example[description.label]))
            if len(images) != (expected := info.splits[split].num_examples):
                raise ValueError(f"it holds {len(images)} of {expected} examples")
            names = tuple(builder.info.features[description.label].names)
            return Encoded(images, np.array(labels, np.int32), names)
        except Exception as error:  # The readers raise whatever the damage leads them to.
            raise DatasetError(_unreadable(prepared, _brief(error))) from error


def _read_tfrecord(file: Path) -> Iterator[bytes]:
    """Yield the records of a TFRecord file: the length in 8 bytes, 4 bytes of sum, record, sum."""
    with file.open("rb") as opened:
        while header := opened.read(12):
            length = int.from_bytes(header[:8], "little")
            if len(header) < 12 or length > file.stat().st_size:
                raise ValueError(f"{file.name} is damaged")
            record = opened.read(length)
            if len(record) < length or len(opened.read(4)) < 4:
                raise ValueError(f"{file.name} was cut short")
            yield record


def _read(name: str, split: str, data_dir: Folder, cache_dir: Folder) -> Rows:
    return read_rows(find_prepared(name, data_dir), split, cache_dir)


SOURCES = {
    name: Source(functools.partial(_read, name), num_validation=10_000) for name in _official.SPLITS
}


def _unreadable(prepared: Prepared, reason: str) -> str:
    return (
        f"{prepared.name}: the prepared folder {prepared.folder} cannot be read ({reason}); "
        "remove it to have it prepared again, or set data_dir to another folder."
    )


def is_prepared(name: str, data_dir: Folder) -> bool:
    """Return whether there is a prepared folder of a dataset."""
    return _prepared_folder(name, _data_folder(data_dir)) is not None


def _data_folder(data_dir: Folder) -> Path:
    given = data_dir or os.environ.get("TFDS_DATA_DIR")
    return Path(given or Path.home() / "tensorflow_datasets").expanduser()


def _prepared_folder(name: str, data: Path) -> Path | None:
    """Return the folder of the newest prepared version of a dataset; None where there is none."""
    versions = [
        info.parent
        for info in (data / name).glob("*/dataset_info.json")
        if re.fullmatch(r"\d+\.\d+\.\d+", info.parent.name)
    ]
    return max(versions, key=lambda path: list(map(int, path.name.split("."))), default=None)


def _prepare(name: str, data: Path) -> None:
    """Download the official files and prepare them as array_record, without TensorFlow.

    This is the official builder with its own addresses and checksums. It prepares in a folder that
    is removed if it fails, and what it has made is moved to its place at the end.
    """
    with _quiet_tensorflow_datasets() as tfds:
        try:
            data.mkdir(parents=True, exist_ok=True)
            with owned_folder(data, "downloads.") as work:
                builder = tfds.builder(name, data_dir=work / "new", file_format="array_record")
                builder._split_generators = functools.partial(_splits, builder, data)
                config = tfds.download.DownloadConfig(
                    force_checksums_validation=True, try_download_gcs=False
                )
                # It prints what it starts and where it ends, which is no output of the program.
                with contextlib.redirect_stdout(sys.stderr):
                    builder.download_and_prepare(
                        download_dir=work / "files", download_config=config
                    )
                made = Path(builder.data_dir)
                (data / name).mkdir(parents=True, exist_ok=True)
                os.replace(made, data / name / made.name)
        except DatasetError:
            raise
        except Exception as error:
            if _prepared_folder(name, data) is None:  # Else another process was faster.
                raise DatasetError(
                    f"{name}: the official files could not be prepared under {data} "
                    f"({_brief(error)}); set data_dir or TFDS_DATA_DIR to a folder that can be "
                    f"written, or that holds a prepared {name}."
                ) from error


def _splits(builder: Any, data: Path, dl_manager: Any) -> Any:
    download = functools.partial(_download, builder, data, dl_manager)
    return _official.SPLITS[builder.name](builder, download)


def _download(builder: Any, data: Path, dl_manager: Any, url: str) -> Path:
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
            "was cut short or altered; nothing of it was kept, so load again to repeat it."
        ) from error
    except (requests.RequestException, download_util.DownloadError) as error:
        is_answer = isinstance(error, download_util.DownloadError)
        reason = _brief(error).rstrip(".") if is_answer else type(error).__name__
        raise DatasetError(
            f"{builder.name}: nothing is prepared under {data}, and the official "
            f"file {url} could not be downloaded ({reason}); set TFDS_DATA_DIR or data_dir "
            f"to a folder that holds a prepared {builder.name}, or load again with a network."
        ) from error


@contextlib.contextmanager
def _quiet_tensorflow_datasets() -> Iterator[Any]:
    """Yield tensorflow_datasets without its progress bars and its advice on other packages."""
    for needed in ("PIL.Image", "array_record.python.array_record_data_source"):
        _import(needed)
    with _in_use, _lazy_imports_in_this_thread_only():
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


@contextlib.contextmanager
def _lazy_imports_in_this_thread_only() -> Iterator[None]:
    """Let the other threads import as ever while tensorflow_datasets makes its imports lazy.

    For that etils replaces ``builtins.__import__`` in the whole process, where a relative import
    fails and an absolute one gives a stand-in.
    """
    lazy = _import("etils.epy.lazy_imports_utils")
    lazy_import, usual_import = getattr(lazy, "_lazy_import", None), builtins.__import__
    owner = threading.get_ident()

    def lazy_import_here(*arguments: Any, error_callback: Any, success_callback: Any, **named: Any):
        if lazy_import is None or threading.get_ident() != owner:
            return usual_import(*arguments, **named)
        callbacks = {"error_callback": error_callback, "success_callback": success_callback}
        return lazy_import(*arguments, **callbacks, **named)

    lazy._lazy_import = lazy_import_here
    try:
        yield
    finally:
        lazy._lazy_import = lazy_import


def _brief(error: Exception) -> str:
    """Return the kind of an error and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
