"""What is found at a source of your own: each kind of source as a collection."""

import hashlib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from memjax.datasets._arrays import read_npz
from memjax.datasets._collection import Collection, some
from memjax.datasets._files import read_files
from memjax.datasets._folder import find_files
from memjax.datasets._images import Look, fit_pixels
from memjax.datasets._source import (
    DatasetError,
    Folder,
    Reading,
    background,
    check_reading,
    find_classes,
    image_shape,
)
from memjax.datasets._table import SUFFIX_READERS, read_table
from memjax.datasets._tfds import find_prepared, read_encoded, read_rows


def scan(
    source: str, reading: Reading, look: Look | None, folders: tuple[Folder, Folder]
) -> Collection:
    """Return what is found at a source.

    Args:
        source: as for ``memjax.datasets.scan``.
        reading: how it is read.
        look: what images are brought to; None to find it out.
        folders: the folder of the prepared datasets, and that of the decoded arrays.
    """
    check_reading(reading)
    path = Path(source).expanduser()
    if source.startswith("tfds:"):
        found = _scan_prepared(source, reading, look, folders)
    elif not path.is_dir() and not path.is_file():
        raise DatasetError(f"{source}: expected a folder or a regular file.")
    elif path.is_dir():
        found = _scan_folder(source, path, reading, look)
    elif path.suffix.lower() == ".npz":
        arrays = read_npz(path, reading)
        found = _from_values(arrays.values, arrays.labels, reading, look)
        number = len(arrays.labels)
        found |= {"notes": arrays.notes, "parts": _parts(number, {"test": arrays.num_test})}
    elif path.suffix.lower() in SUFFIX_READERS:
        found = _scan_table(source, path, reading, look)
    else:
        raise DatasetError(
            f"{source}: expected a folder of images, or a file that ends in .npz, .csv or .parquet."
        )
    if len(names := found["class_names"]) < 2:
        raise DatasetError(f"{source}: expected two classes or more, found only {names[0]!r}.")
    empty = {"name": source, "reading": reading, "columns": (), "parts": {}, "unreadable": ()}
    return Collection(**empty | found)


def _parts(number: int, lengths: dict[str, int]) -> dict[str, np.ndarray]:
    """Return the rows of each part, which stand one after another at the end of all rows."""
    parts, last = {}, number
    for part, length in reversed(lengths.items()):
        if length:
            parts[part] = np.arange(last - length, last)
        last -= length
    return _with_test(parts)


def _with_test(parts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return parts in which rows for validation are the test, where there is no other."""
    is_short = "validation" in parts and "test" not in parts
    return {"test": parts["validation"]} if is_short else parts


def _scan_folder(source: str, path: Path, reading: Reading, look: Look | None) -> dict[str, Any]:
    files = find_files(path)
    paths = [str(path / name) for name in files.names]
    found, is_read = _from_files(source, files.names, paths, files.classes, reading, look)
    parts = np.array(files.parts)[is_read]
    rows = {part: np.flatnonzero(parts == part) for part in ("test", "validation")}
    found["parts"] = _with_test({part: places for part, places in rows.items() if len(places)})
    found["notes"] = (*files.notes, *found["notes"])
    return found


def _scan_table(source: str, path: Path, reading: Reading, look: Look | None) -> dict[str, Any]:
    table = read_table(path, reading)
    assert table.labels is not None
    if isinstance(table.values, list):
        labels = table.labels.tolist()
        found, _ = _from_files(source, table.values, table.values, labels, reading, look)
    else:
        found = _from_values(table.values, table.labels, reading, look)
        found["columns"] = table.columns
    found["notes"] = (*table.notes, *found["notes"])
    return found


def _scan_prepared(
    source: str, reading: Reading, look: Look | None, folders: tuple[Folder, Folder]
) -> dict[str, Any]:
    data_dir, cache_dir = folders
    prepared = find_prepared(source.removeprefix("tfds:"), data_dir)
    order = [
        part for part in ("train", "validation", "test") if part in prepared.description.splits
    ]
    if "train" not in order:
        raise DatasetError(f"{source}: expected a split of the name train, found none.")
    if prepared.description.shape is not None:
        rows = [read_rows(prepared, part, cache_dir) for part in order]
        lengths = [len(part.labels) for part in rows]
        labels = np.concatenate([part.labels for part in rows])
        found = _from_values(np.concatenate([part.images for part in rows]), labels, reading, look)
        class_names, is_read = rows[0].class_names, np.ones(len(labels), bool)
    else:
        several = [read_encoded(prepared, part) for part in order]
        lengths = [len(part.labels) for part in several]
        labels = np.concatenate([part.labels for part in several])
        encoded = [image for part in several for image in part.images]
        names = [f"image {row}" for row in range(len(encoded))]
        found, is_read = _from_files(source, names, encoded, labels, reading, look)
        class_names = several[0].class_names
    ends = np.cumsum([0, *lengths])
    kept = [int(is_read[first:last].sum()) for first, last in pairwise(ends.tolist())]
    parts = dict(zip(order[1:], kept[1:], strict=True))
    if labels.min() < 0:
        raise DatasetError(f"{source}: expected a label for every image, got some without.")
    # The set names its classes itself, those without an image too.
    found |= {"class_names": class_names, "labels": labels[is_read].astype(np.int32)}
    return found | {"parts": _parts(sum(kept), parts)}


def _from_files(
    source: str, names: Any, paths: Any, classes: Any, reading: Reading, look: Look | None
) -> tuple[dict[str, Any], np.ndarray]:
    """Return what images of files make of a collection, and which of the files were read."""
    read = read_files(names, paths, reading, look)
    if not read.is_read.any():
        raise DatasetError(
            f"{source}: expected images, but none of {len(names)} files can be read: "
            f"{some([f'{name}: {reason}' for name, reason in read.unreadable], '; ')}."
        )
    kept = np.flatnonzero(read.is_read)
    class_names, labels = find_classes([classes[row] for row in kept])
    digest = _digest(*(f"{names[row]}\n".encode(errors="surrogateescape") for row in kept), labels)
    found = {
        "images": read.images,
        "labels": labels,
        "class_names": class_names,
        "look": read.look,
        "unreadable": read.unreadable,
        "notes": read.notes,
        "digest": digest,
    }
    return found, read.is_read


def _from_values(
    values: np.ndarray, labels: np.ndarray, reading: Reading, look: Look | None
) -> dict[str, Any]:
    class_names, labels = find_classes(labels)
    if values.ndim == 4:
        shape = values.shape[1:]
        if look is None:
            size = shape[:2] if reading.image_size is None else image_shape(reading.image_size)
            channels = 1 if reading.grey else shape[2]
            look = Look(size, channels, background(reading.background), reading.invert == "yes")
        if (*look.image_size, look.channels) != shape:
            values = np.stack([fit_pixels(image, look) for image in values])
        elif look.is_inverted:
            values = 255 - values
    return {
        "images": values,
        "labels": labels,
        "class_names": class_names,
        "look": look if values.ndim == 4 else None,
        "notes": (),
        "digest": _digest(np.ascontiguousarray(values), labels),
    }


def _digest(*contents: Any) -> str:
    digest = hashlib.sha256()
    for content in contents:
        digest.update(content)
    return digest.hexdigest()[:16]
