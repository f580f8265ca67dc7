"""Tables: rows of features, of pixels, or of paths, with a column of labels."""

import csv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from memjax._checks import import_package
from memjax._files import reason_of
from memjax.datasets._arrays import as_images, pixel_shape
from memjax.datasets._images import SUFFIXES
from memjax.datasets._source import DatasetError, Reading

SUFFIX_READERS = {".csv": "CSV", ".tsv": "CSV", ".parquet": "Parquet"}


class Table(NamedTuple):
    """What a table holds.

    Attributes:
        values: float32 [N, D] of features, uint8 [N, H, W, channels] of pixels, or the paths [N] of
            images.
        labels: [N] words or numbers; None for a table without labels.
        columns: the names of the columns of the values.
        notes: what was chosen where there was a choice.
    """

    values: Any
    labels: np.ndarray | None
    columns: tuple[str, ...]
    notes: tuple[str, ...]


def read_table(path: Path, reading: Reading, columns: tuple[str, ...] | None = None) -> Table:
    """Read a table of features, pixels or paths.

    Args:
        path: a CSV or Parquet file.
        reading: which column holds the labels, and whether the others are pixels.
        columns: the columns of features to read, in their order, without labels; None for all but
            the labels.
    """
    names, arrays, notes = _columns(path)
    if columns is None:
        label = (
            len(names) - 1 if reading.label is None else _place(path, names, reading.label, "label")
        )
        others = [place for place in range(len(names)) if place != label]
    else:
        label, others = None, [_place(path, names, name, "columns") for name in columns]
    labels = None if label is None else _labels(path, names[label], arrays[label])
    if reading.label is None and labels is not None:
        notes.append(f"the labels are the last column, {names[-1]!r}; --label names another")
    if not others:
        raise DatasetError(f"{path}: expected columns beside the labels, got none.")
    texts = [place for place in others if arrays[place].dtype == object]
    if texts and columns is None and (paths := _paths(path, arrays, texts)) is not None:
        if len(others) > 1:
            notes.append(f"columns beside the paths, left out: {len(others) - 1}")
        return Table(paths, labels, (), tuple(notes))
    if texts:
        raise DatasetError(
            f"{path}: column {names[texts[0]]!r} holds words, and only numbers or paths of images "
            "are learned; write it as numbers, or leave it out."
        )
    values = np.stack([_numbers(path, names[place], arrays[place]) for place in others], axis=1)
    kept = tuple(names[place] for place in others)
    if reading.image_size is None:
        return Table(values.astype(np.float32), labels, kept, tuple(notes))
    shape = pixel_shape(str(path), values.shape[1], reading.image_size)
    images, said = as_images(str(path), values.reshape(-1, *shape))
    return Table(images, labels, kept, (*notes, *said))


def column_names(path: Path) -> list[str]:
    """Return the names of all columns of a table."""
    return _columns(path)[0]


def _columns(path: Path) -> tuple[list[str], list[np.ndarray], list[str]]:
    """Return the names and the columns of a table, and how they were found.

    Columns of words have dtype object.
    """
    notes: list[str] = []
    arrow = import_package("pyarrow", "A table", "datasets")
    try:
        if SUFFIX_READERS[path.suffix.lower()] == "CSV":
            table = _read_csv(path, notes)
        else:
            table = import_package("pyarrow.parquet", "A table", "datasets").read_table(path)
        columns = [column.combine_chunks() for column in table.columns]
    except (arrow.ArrowException, OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read as a table ({reason_of(error)}).") from None
    if table.num_rows == 0:
        raise DatasetError(f"{path}: expected rows, got none.")
    names, arrays = list(table.column_names), []
    for name, column in zip(names, columns, strict=True):
        if column.null_count:
            row = next(index for index, value in enumerate(column.is_null()) if value.as_py())
            raise DatasetError(
                f"{path}: column {name!r} has no value in row {row + 1}; fill it, or leave the row "
                "out."
            )
        kind = column.type
        if arrow.types.is_dictionary(kind):
            column, kind = column.dictionary_decode(), kind.value_type
        is_number = arrow.types.is_integer(kind) or arrow.types.is_floating(kind)
        if is_number or arrow.types.is_boolean(kind):
            arrays.append(column.to_numpy(zero_copy_only=False))
        else:
            arrays.append(np.array([str(value) for value in column.to_pylist()], object))
    return names, arrays, notes


def _read_csv(path: Path, notes: list[str]) -> Any:
    """Read a CSV file, whose first row may be names or already the first example."""
    reader = import_package("pyarrow.csv", "A table", "datasets")
    with path.open(newline="", encoding="utf-8-sig") as file:
        first_line = file.readline()
        second_line = file.readline()
    delimiter = max(",;\t", key=first_line.count)
    first, second = (
        next(csv.reader([line], delimiter=delimiter), []) for line in (first_line, second_line)
    )
    if not (has_names := _is_header(first, second)):
        notes.append("the table has no row of names, so its columns are f0, f1 and so on")
    return reader.read_csv(
        path,
        read_options=reader.ReadOptions(
            autogenerate_column_names=not has_names,
            # The type of a column is that of all its values, not of the first million bytes.
            block_size=min(max(path.stat().st_size, 2**20), 2**31 - 2),
        ),
        parse_options=reader.ParseOptions(delimiter=delimiter),
    )


def _is_header(first: list[str], second: list[str]) -> bool:
    """Return whether the first row of a table has the names of the columns of the second."""
    is_number, is_number_below = (list(map(_is_number, row)) for row in (first, second))
    if is_number != is_number_below or not any(is_number):
        return True  # Of a table of words, a row of names looks like any other.
    # Columns that had no names are often numbered.
    numbers = [float(text) for text, here in zip(first, is_number, strict=True) if here]
    counted = [numbers[0] + place for place in range(len(numbers))]
    return numbers[0] in (0, 1) and len(numbers) > 3 and numbers == counted


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _place(path: Path, names: list[str], name: str, argument: str) -> int:
    if names.count(name) != 1:
        raise DatasetError(
            f"{argument}: expected the column {name!r} in {path}, got {', '.join(names[:20])}."
        )
    return names.index(name)


def _labels(path: Path, name: str, values: np.ndarray) -> np.ndarray:
    if values.dtype.kind == "f" and not np.equal(values, np.rint(values)).all():
        raise DatasetError(
            f"{path}: expected classes in column {name!r}, got numbers with a fraction; --label "
            "names another column."
        )
    return values.astype(str) if values.dtype == object else values


def _numbers(path: Path, name: str, values: np.ndarray) -> np.ndarray:
    values = values.astype(np.float64)
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DatasetError(f"{path}: column {name!r} has no finite number in row {row + 1}.")
    return values


def _paths(path: Path, arrays: list[np.ndarray], texts: list[int]) -> list[str] | None:
    """Return the paths of images, if one column of words holds them."""
    for place in texts:
        if all(Path(value).suffix.lower() in SUFFIXES for value in arrays[place]):
            return [str(path.parent / value) for value in arrays[place]]
    return None
