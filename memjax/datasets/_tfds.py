"""Datasets that TensorFlow Datasets prepares: reading them and preparing them without TensorFlow.

The prepared folder is found by its path, so a cached load never imports tensorflow_datasets.
"""

import contextlib
import functools
import gzip
import os
import re
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import numpy as np

from memjax._checks import import_package
from memjax.datasets._cache import cache_file, read_cache, write_cache
from memjax.datasets._source import DatasetError, Folder, Rows, Source

_CONNECT_SECONDS = 10

_import = functools.partial(import_package, user="This dataset", extra="datasets")

_Examples = Iterator[tuple[int, dict[str, Any]]]


def _read(name: str, split: str, data_dir: Folder, cache_dir: Folder) -> Rows:
    data = _data_folder(data_dir)
    folder = _prepared_folder(name, data)
    if folder is None:
        _prepare(name, data)
        folder = _prepared_folder(name, data)
    if folder is None:
        raise DatasetError(
            f"{name}: the folder {data / name} holds a version without a dataset_info.json; "
            "remove that version, or set data_dir to another folder."
        )
    file = cache_file(cache_dir, name, split, folder)
    rows = read_cache(file)
    if rows is None:
        rows = _decode(name, split, folder)
        write_cache(file, rows)
    return rows


SOURCES = {
    name: Source(functools.partial(_read, name), num_validation=10_000)
    for name in ("mnist", "fashion_mnist", "cifar10")
}


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


def _decode(name: str, split: str, folder: Path) -> Rows:
    """Return the rows of a prepared folder."""
    with _quiet_tensorflow_datasets() as tfds:
        try:
            builder = tfds.builder_from_directory(folder)
            if builder.info.file_format.value != "array_record":
                raise ValueError(
                    f"its records are {builder.info.file_format.value}, and only array_record "
                    "is read without TensorFlow"
                )
            examples = builder.as_data_source(split)
            features = builder.info.features
            images = np.empty((len(examples), *features["image"].shape), np.uint8)
            labels = np.empty(len(examples), np.int32)
            for row, example in enumerate(examples):
                images[row], labels[row] = example["image"], example["label"]
            return Rows(images, labels, tuple(features["label"].names))
        except Exception as error:  # The readers raise whatever the damage leads them to.
            raise DatasetError(
                f"{name}: the prepared folder {folder} cannot be read ({_brief(error)}); "
                "remove it to have it prepared again, or set data_dir to another folder."
            ) from error


def _prepare(name: str, data: Path) -> None:
    """Download the official files and prepare them as array_record, without TensorFlow.

    This is the official builder with its own addresses and checksums. Only the step that would
    extract the files with TensorFlow is replaced. The builder prepares in a folder of another name
    and renames it at the end, so a failure leaves nothing that is read later.
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
                # It prints what it starts and where it ends, which is no output of the program.
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


def _mnist_splits(builder: Any, dl_manager: Any) -> dict[str, _Examples]:
    def array(file: str) -> np.ndarray:
        return _read_idx(_download(builder, dl_manager, urljoin(builder.URL, file)))

    return {
        split: _examples(
            array(f"{prefix}-images-idx3-ubyte.gz"), array(f"{prefix}-labels-idx1-ubyte.gz")
        )
        for split, prefix in (("train", "train"), ("test", "t10k"))
    }


def _read_idx(path: Path) -> np.ndarray:
    """Return the array of an IDX file: a big-endian header (type, dimensions, shape), the bytes."""
    content = gzip.decompress(path.read_bytes())
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _cifar_splits(builder: Any, dl_manager: Any) -> dict[str, _Examples]:
    official = builder._cifar_info
    contents = {}
    with tarfile.open(_download(builder, dl_manager, official.url), "r:gz") as archive:
        for member in archive:
            if (file := archive.extractfile(member)) is not None:
                contents[member.name] = file.read()
    (names_file,) = official.label_files
    class_names = contents[official.prefix + names_file].decode().split("\n")
    builder.info.features["label"].names = [name for name in class_names if name]

    def examples(split: str, files: list[str]) -> _Examples:
        content = b"".join(contents[official.prefix + file] for file in files)
        records = np.frombuffer(content, np.uint8).reshape(-1, 1 + 3 * 32 * 32)
        images = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        for row, example in _examples(images, records[:, 0]):
            yield row, example | {"id": f"{split}_{row:05d}"}

    return {
        "train": examples("train", official.train_files),
        "test": examples("test", official.test_files),
    }


def _examples(images: np.ndarray, labels: np.ndarray) -> _Examples:
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
            "was cut short or altered; nothing of it was kept, so load again to repeat it."
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
    """Yield tensorflow_datasets without its progress bars and its advice on other packages."""
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


def _brief(error: Exception) -> str:
    """Return the kind of an error and the first line of what it says."""
    return f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
