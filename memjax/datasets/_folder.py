"""Folders of image files: which folders are classes, and which hold the test."""

import os
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from memjax.datasets._images import SUFFIXES
from memjax.datasets._source import DatasetError

_PARTS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
}


class Files(NamedTuple):
    """The image files below a folder.

    Attributes:
        names: their paths below the folder.
        classes: the class of each.
        parts: "train", "test" or "validation" for each, "" where the folder has no parts.
        notes: what was left out.
    """

    names: list[str]
    classes: list[str]
    parts: list[str]
    notes: tuple[str, ...]


def find_images(folder: Path) -> tuple[list[str], int]:
    """Return the image files below a folder, sorted, and how many other files there are.

    What is hidden is left out. A link to a folder is followed, but never round in a circle.
    """
    found: list[str] = []
    num_others = 0
    waiting = [("", frozenset[str]())]
    while waiting:
        below, above = waiting.pop()
        place = os.path.realpath(folder / below)
        if place in above:
            continue
        with os.scandir(place) as entries:
            for entry in entries:
                name = os.path.join(below, entry.name)
                if entry.name.startswith(".") or entry.name == "__MACOSX":
                    continue
                if entry.is_dir():
                    waiting.append((name, above | {place}))
                elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                    found.append(name)
                else:
                    num_others += 1
    return sorted(found, key=lambda name: name.split(os.sep)), num_others


def find_files(folder: Path) -> Files:
    """Return the image files below a folder with their classes.

    A class is the topmost folder that holds images itself; its name is its path below what all
    classes have in common.
    """
    names, num_others = find_images(folder)
    if not names:
        raise DatasetError(f"{folder}: expected folders of images, one for each class, found none.")
    steps = [name.split(os.sep)[:-1] for name in names]
    tops = {row[0].lower() for row in steps if row}
    is_divided = "train" in {_PARTS.get(top) for top in tops} and any(
        _PARTS.get(top) in ("test", "validation") for top in tops
    )
    parts, places = [], []
    for row in steps:
        part = _PARTS.get(row[0].lower(), "") if is_divided and row else ""
        parts.append(part)
        places.append(tuple(row[1:]) if part else tuple(row))
    holding = set(zip(parts, places, strict=True))
    classes = [
        next(
            (place[:end] for end in range(1, len(place) + 1) if (part, place[:end]) in holding), ()
        )
        if part or not is_divided
        else ()
        for part, place in zip(parts, places, strict=True)
    ]
    above = sorted({place[:-1] for place in classes if place}) or [()]
    common = sum(
        1
        for _ in takewhile(lambda pair: pair[0] == pair[1], zip(above[0], above[-1], strict=False))
    )
    notes = []
    if num_others:
        notes.append(f"files that are no images by their names, left out: {num_others:,}")
    if lost := classes.count(()):
        notes.append(f"images that lie in no class, left out: {lost:,}")
    chosen = [row for row, place in enumerate(classes) if place]
    if not chosen:
        raise DatasetError(
            f"{folder}: expected a folder of images for each class, got images without classes."
        )
    return Files(
        [names[row] for row in chosen],
        ["/".join(classes[row][common:]) for row in chosen],
        [parts[row] for row in chosen],
        tuple(notes),
    )
