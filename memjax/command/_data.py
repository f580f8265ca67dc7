"""The data of a run: what is learned and tested, how it was read, and the same reading later."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from memjax import datasets
from memjax._text import printable
from memjax.base import Layer
from memjax.command.options import Evaluate, Settings, reading_of
from memjax.datasets import Dataset, DatasetError, Look, Reading
from memjax.datasets._collection import some
from memjax.datasets._files import ground_of


def load(settings: Settings) -> tuple[Dataset, Dataset, dict[str, Any]]:
    """Return the examples to learn, those to test on, and what the record says of the data."""
    split = "train" if settings.test_split == "test" else "train_without_validation"
    kept = slice(settings.limit)
    if datasets.is_named(settings.dataset):
        train = datasets.load(settings.dataset, split, seed=settings.seed)
        test = datasets.load(settings.dataset, settings.test_split, seed=settings.seed)
        train = train._replace(images=train.images[kept], labels=train.labels[kept])
        height, width, channels = train.images.shape[1:]
        look = Look((height, width), channels)
        return train, test, _seen("images", look, "auto", train)
    found = datasets.scan(settings.dataset, reading_of(settings))
    train = found.dataset(split, settings.seed, settings.limit)
    test = found.dataset(settings.test_split, settings.seed)
    kind = "features" if found.look is None else "images"
    record = _seen(kind, found.look, settings.invert, train) | {
        "path": str(Path(settings.dataset).expanduser().resolve()),
        "digest": found.digest,
        "label": settings.label,
        "columns": found.columns,
        "test_share": settings.test_share,
        "found": found.describe(),
        "unreadable": found.unreadable,
    }
    return train, test, record


def _seen(kind: str, look: Look | None, invert: str, train: Dataset) -> dict[str, Any]:
    """Return how images were seen, for those that come later."""
    if look is None:
        return {"kind": kind}
    ground = ground_of(train.images)
    return {"kind": kind, "look": look._asdict(), "invert": invert, "ground": ground}


def look_of(network: Layer, data: dict[str, Any]) -> Look:
    """Return what a network sees of an image, the plainest where the record does not say it."""
    height, width, channels = network.input_shape
    stated = data.get("look", {"image_size": (height, width), "channels": channels})
    look = Look(**stated)
    background = look.background and tuple(look.background)
    look = look._replace(image_size=tuple(look.image_size), background=background)
    if (*look.image_size, look.channels) != (height, width, channels):
        raise ValueError(
            f"record.json: expected a look of {height} x {width} pixels, as the network has, got "
            f"{look.image_size[0]} x {look.image_size[1]}."
        )
    return look


def drawable(names: Sequence[str]) -> tuple[str, ...]:
    """Return names of classes that a figure shows as they are: Matplotlib takes $ for a formula."""
    return tuple(printable(name).replace("$", r"\$") for name in names)


def test_again(run: Any, options: Evaluate) -> Dataset:
    """Return your own data as a test of a run: read as the run has read its own.

    Of the data that the run has learned these are the rows that it has held out. Of other data
    they are their own test, or else all.
    """
    network, record, source = run.network, run.record, options.dataset
    data = record.get("data", {})
    look = None if data.get("kind") == "features" else look_of(network, data)
    reading = Reading(
        label=data.get("label"),
        image_size=None if look is None else look.image_size,
        test_share=data.get("test_share", Reading().test_share),
    )
    found = datasets.scan(source, reading, look=look)
    is_learned = str(Path(source).expanduser().resolve()) == data.get("path")
    if is_learned and found.digest != data.get("digest"):
        raise DatasetError(
            f"{source}: is not as it was when it was learned, so what was held out is not known; "
            "test on other data, or learn it again."
        )
    split = options.test_split if is_learned or options.test_split in found.parts else "all"
    test = found.dataset(split, record.get("seed", 0), options.limit)
    names = record["class_names"]
    if unknown := [name for name in found.class_names if name not in names]:
        raise DatasetError(
            f"{source}: expected only classes of the run, got {some(list(map(repr, unknown)))}."
        )
    places = np.array([names.index(name) for name in found.class_names], np.int32)
    images = test.images
    if look is None:
        if found.look is not None or images.shape[1:] != network.input_shape:
            raise DatasetError(
                f"{source}: expected rows of {network.input_shape[0]} features, got "
                f"{list(images.shape[1:])}."
            )
        columns = data.get("columns", [])
        if set(columns) == set(found.columns):
            images = images[:, [found.columns.index(name) for name in columns]]
    elif found.look is None:
        raise DatasetError(f"{source}: expected images, as the run has learned, got features.")
    return test._replace(images=images, labels=places[test.labels])
