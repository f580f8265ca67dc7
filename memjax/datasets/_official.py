"""The official files of datasets, prepared as tensorflow-datasets does it, but without TensorFlow.

The builders of tensorflow-datasets state the addresses and the checksums. Only the step that would
extract the files with TensorFlow is replaced.
"""

import gzip
import io
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import numpy as np

from memjax._checks import import_package

_Examples = Iterator[tuple[int, dict[str, Any]]]

Download = Callable[[str], Path]
"""Downloads an official file and checks it."""


def _mnist(builder: Any, download: Download) -> dict[str, _Examples]:
    def read(file: str) -> np.ndarray:
        return _read_idx(download(urljoin(builder.URL, file)).read_bytes())

    return _idx_splits(read, {"train": "train", "test": "t10k"})


def _emnist(builder: Any, download: Download) -> dict[str, _Examples]:
    name = builder.builder_config.name
    with zipfile.ZipFile(download(builder.URL)) as archive:
        return _idx_splits(
            lambda file: _read_idx(archive.read(f"gzip/{file}")),
            {split: f"emnist-{name}-{split}" for split in ("train", "test")},
        )


def _idx_splits(
    read: Callable[[str], np.ndarray], prefixes: dict[str, str]
) -> dict[str, _Examples]:
    return {
        split: _examples(
            read(f"{prefix}-images-idx3-ubyte.gz"), read(f"{prefix}-labels-idx1-ubyte.gz")
        )
        for split, prefix in prefixes.items()
    }


def _read_idx(compressed: bytes) -> np.ndarray:
    """Return the array of an IDX file: a big-endian header (type, dimensions, shape), the bytes."""
    content = gzip.decompress(compressed)
    dimensions = content[3]
    shape = np.frombuffer(content, ">u4", dimensions, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _cifar(builder: Any, download: Download) -> dict[str, _Examples]:
    official = builder._cifar_info
    contents = {}
    with tarfile.open(download(official.url), "r:gz") as archive:
        for member in archive:
            if (file := archive.extractfile(member)) is not None:
                contents[member.name] = file.read()
    keys = official.label_keys
    for key, file in zip(keys, official.label_files, strict=True):
        names = contents[official.prefix + file].decode().split("\n")
        builder.info.features[key].names = [name for name in names if name]

    def examples(split: str, files: list[str]) -> _Examples:
        content = b"".join(contents[official.prefix + file] for file in files)
        records = np.frombuffer(content, np.uint8).reshape(-1, len(keys) + 3 * 32 * 32)
        images = records[:, len(keys) :].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        for row, example in _examples(images, records[:, keys.index("label")]):
            labels = dict(zip(keys, map(int, records[row]), strict=False))
            yield row, example | labels | {"id": f"{split}_{row:05d}"}

    return {
        "train": examples("train", official.train_files),
        "test": examples("test", official.test_files),
    }


def _svhn(builder: Any, download: Download) -> dict[str, _Examples]:
    url = sys.modules[type(builder).__module__].URL
    loadmat = import_package("scipy.io", "This dataset").loadmat

    def examples(split: str) -> _Examples:
        content = loadmat(io.BytesIO(download(urljoin(url, f"{split}_32x32.mat")).read_bytes()))
        # The digit 0 is written as 10.
        labels = content["y"].reshape(-1) % 10
        for row, example in _examples(np.moveaxis(content["X"], -1, 0), labels):
            yield row, example | {"id": f"{split}_{row:06d}"}

    # Its third split, "extra", is 1.3 GB that nothing here reads.
    return {"train": examples("train"), "test": examples("test")}


def _examples(images: np.ndarray, labels: np.ndarray) -> _Examples:
    # A Pillow image is encoded by Pillow; an array would be encoded by TensorFlow.
    to_image = import_package("PIL.Image", "This dataset", "datasets").fromarray
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        yield row, {"image": to_image(np.ascontiguousarray(image)), "label": int(label)}


SPLITS: dict[str, Callable[[Any, Download], dict[str, _Examples]]] = {
    "mnist": _mnist,
    "fashion_mnist": _mnist,
    "kmnist": _mnist,
    "emnist": _emnist,
    "cifar10": _cifar,
    "cifar100": _cifar,
    "svhn_cropped": _svhn,
}
"""For each dataset, what makes the examples of its splits of its official files."""
