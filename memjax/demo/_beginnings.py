"""Where knowledge comes from and where it is kept: data that are learned at first, and runs."""

import json
import os
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import jax
import numpy as np

from memjax import checkpoint, datasets
from memjax._checks import check_choice
from memjax._files import seal
from memjax._kept_images import read_images, write_images
from memjax.demo._knowledge import (
    Knowledge,
    Picture,
    Source,
    banks,
    picture,
    with_room,
    without_room,
)
from memjax.evaluation import num_memories
from memjax.networks import memory_network
from memjax.training import learn

_LEARNED_FIRST = {"digits": 1000, "mnist": 5000}  # the rest of the stream is there to be played
_TITLES = {"digits": "scikit-learn's digits", "mnist": "MNIST"}


def learn_first(dataset: str | None) -> Knowledge:
    """Learn the beginning of a dataset, for the page to go on from.

    Args:
        dataset: "digits", of which 1,000 images are learned, or "mnist", 5,000. For None it is
            MNIST where it needs no download, or else the digits.

    Returns:
        The network with its params, its state and the images of its memories, with room for more.

    Raises:
        ValueError: another dataset.
        DatasetError: it cannot be read.

    Example:
        >>> knowledge = learn_first("digits")
        >>> knowledge.position, knowledge.names[3]
        (1000, '3')
    """
    if dataset is None:
        dataset = "mnist" if datasets.is_prepared("mnist") else "digits"
    check_choice("--dataset", dataset, tuple(_LEARNED_FIRST))
    source = Source(dataset, "train", 0)
    train = load_source(source)
    first = slice(_LEARNED_FIRST[dataset])
    images, labels = train.images[first], train.labels[first]
    height, width, channels = images.shape[1:]
    network, params = memory_network((height, width, channels), train.num_classes)
    params, state, infos = learn(network, params, images, labels)
    knowledge = Knowledge(
        network, params, state, train.class_names, {},
        about=f"{len(labels):,} images of {_TITLES[dataset]}",
        source=source,
        position=len(labels),
        hits=np.asarray(infos.predicted) == labels,
    )  # fmt: skip
    numbers = banks(knowledge).numbers.tolist()
    pictures = {number: picture(images[number]) for number in numbers}
    return with_room(knowledge._replace(pictures=pictures))


@lru_cache(maxsize=2)
def load_source(source: Source) -> datasets.Dataset:
    """Return the examples of a source."""
    return datasets.load(source.dataset, source.split, source.seed)


def open_run(run: Path, loaded: Any) -> Knowledge:
    """Return what a run has learned, with room for more.

    Args:
        run: the folder of a run.
        loaded: its network, params, state and record.
    """
    network, params, state, record = loaded
    is_at_hand = _is_at_hand(record.get("dataset"))
    seed = record.get("seed", 0)
    knowledge = Knowledge(
        network, params, state, tuple(record["class_names"]), {},
        about=f"the run {run.name}",
        source=Source(record["dataset"], "test", seed) if is_at_hand else None,
    )  # fmt: skip
    numbers = set(banks(knowledge).numbers.tolist())
    images = read_images(run) or _images_learned(record, numbers)
    found = {number: picture(images[number]) for number in numbers if number in images}
    sketches = {} if len(found) == len(numbers) else _sketches(knowledge)
    return with_room(knowledge._replace(pictures={**sketches, **found}))


def save_run(knowledge: Knowledge, run: Path) -> None:
    """Write a new folder that ``memjax predict``, ``memjax demo`` and Python read."""
    if run.exists():
        raise FileExistsError(f"There is a run of the name {run.name} already.")
    network, params, state = without_room(knowledge)
    record = {
        "command": "memjax demo",
        "dataset": knowledge.source.dataset if knowledge.source else None,
        "class_names": list(knowledge.names),
        "num_memories": num_memories(network, state),
        "seed": knowledge.source.seed if knowledge.source else 0,
        "state_digest": checkpoint.state_digest(state),
    }
    run.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=run.parent, prefix="incomplete.") as folder:
        unfinished = Path(folder) / run.name
        unfinished.mkdir()
        checkpoint.save(unfinished / "network", network, params, state)
        pixels = {number: one.pixels for number, one in knowledge.pictures.items()}
        write_images(unfinished, pixels, knowledge.network.input_shape)
        (unfinished / "record.json").write_text(json.dumps(record, indent=1) + "\n")
        seal(unfinished)
        os.replace(unfinished, run)


def _is_at_hand(dataset: Any) -> bool:
    """Return whether a run's dataset can be read without a download."""
    return dataset in datasets.NAMES and datasets.is_prepared(dataset)


def _images_learned(record: dict[str, Any], numbers: set[int]) -> dict[int, np.ndarray]:
    """Return the images that a run has stored, from the dataset that it learned."""
    if not _is_at_hand(record.get("dataset")):
        return {}
    is_whole = record.get("test_split", "test") == "test"
    split = "train" if is_whole else "train_without_validation"
    try:
        source = Source(record["dataset"], split, record["seed"])
        images = load_source(source).images
    except (KeyError, ValueError, ImportError, OSError, datasets.DatasetError):
        return {}
    return {number: images[number] for number in numbers if number < len(images)}


def _sketches(knowledge: Knowledge) -> dict[int, Picture]:
    """Return a picture of each memory as the encoder draws it, for want of its image."""
    shape = knowledge.network.input_shape
    encoder, known = knowledge.network.layers[0], banks(knowledge)  # type: ignore[attr-defined]
    pictures = {}
    for number, code in zip(known.numbers.tolist(), known.prototypes, strict=True):
        drawn = np.asarray(jax.jit(encoder.picture)(code)).mean(axis=2)
        rows, columns = (np.arange(n) * m // n for n, m in zip(shape, drawn.shape, strict=False))
        drawn = drawn[rows][:, columns, None] / max(drawn.max(), 1e-9)
        pixels = np.broadcast_to((255 * drawn).astype(np.uint8), shape)
        pictures[number] = picture(np.ascontiguousarray(pixels))
    return pictures
