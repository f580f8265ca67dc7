"""What the experiments share: options, stream orders, records and tables.

A record is one JSON file in the folder of its experiment under ``results``. It holds what was
measured, the command, the seeds, the device and the versions of the packages.
"""

import argparse
import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

import memjax
from memjax import datasets
from memjax.command import machine
from memjax.command._writing import to_json
from memjax.evaluation import labels_from

RESULTS = Path(__file__).parent / "results"

TITLES = {
    "digits": "digits",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
}
"""The titles of the datasets by name, in the order of the tables."""

Build = Callable[[tuple[int, int, int], int], tuple[memjax.Layer, Any]]
"""From an image shape and a number of classes to a network and its params."""


def options(
    document: str | None,
    *,
    names: Sequence[str] = (),
    dataset: str | None = None,
    seeds: int | None = None,
) -> argparse.ArgumentParser:
    """Return a parser of the options that the experiments share.

    Args:
        document: the docstring of the module; its first line describes the experiment.
        names: the choices of ``--only``; there is no such option without them.
        dataset: the default of ``--dataset``; there is no such option for None.
        seeds: the default of ``--seeds``; for None there is neither this option nor ``--split``.
    """
    parser = argparse.ArgumentParser(description=(document or "").split("\n")[0])
    if names:
        parser.add_argument(
            "--only", choices=tuple(names), metavar="NAME", help="measure only NAME"
        )
    if dataset is not None:
        parser.add_argument("--dataset", choices=TITLES, default=dataset)
    if seeds is not None:
        orders = f"number of stream orders (default {seeds})"
        parser.add_argument("--seeds", type=int, default=seeds, metavar="N", help=orders)
        parser.add_argument("--split", choices=("test", "validation"), default="validation")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="write the records to FOLDER")
    parser.add_argument("--quick", action="store_true", help="a short run, to see that it works")
    return parser


def load(dataset: str, split: str, seed: int) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Return the examples to learn and those to test on; the two never overlap."""
    learned = "train" if split == "test" else "train_without_validation"
    return datasets.load(dataset, learned, seed=seed), datasets.load(dataset, split, seed=seed)


def flat(images: np.ndarray) -> np.ndarray:
    """Return images uint8 [N, H, W, channels] as other libraries take them: float32 [N, D], 0 to 1.

    Example:
        >>> flat(np.full((1, 1, 2, 1), 255, np.uint8))
        array([[1., 1.]], dtype=float32)
    """
    return images.reshape(len(images), -1).astype(np.float32) / 255


def learn(
    build: Build, train: datasets.Dataset, folder: Path | None = None
) -> tuple[memjax.Layer, Any, Any]:
    """Return a network, its calibrated params and its state after one pass over the examples.

    With a ``folder`` for checkpoints, learning goes on where it was stopped.
    """
    height, width, channels = train.images.shape[1:]
    network, params = build((height, width, channels), train.num_classes)
    key = jax.random.key(train.seed)
    if folder is None:
        params, state, _ = memjax.learn(network, params, train.images, train.labels, key)
        return network, params, jax.block_until_ready(state)
    first = slice(memjax.training.CALIBRATION_EXAMPLES)
    params = memjax.calibrate(network, params, train.images[first], train.labels[first])
    batches = partial(_batches, train)
    state, _ = memjax.fit_stream(
        network, params, network.init(key), batches, checkpoint_dir=folder, keep=1
    )
    return network, params, jax.block_until_ready(state)


def _batches(train: datasets.Dataset, start: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the examples from ``start`` on, in batches."""
    for begin in range(start, len(train.labels), 1000):
        batch = slice(begin, begin + 1000)
        yield train.images[batch], train.labels[batch]


def keep(folder: Path | None, name: str, record: dict[str, Any]) -> None:
    """Write a record to a file, and replace an older one of the same name.

    Args:
        folder: is made if it is missing; for None nothing is written.
        name: what is measured, in words; "MNIST, errors only" goes to mnist-errors-only.json.
        record: what was measured.
    """
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
    file.write_text(to_json(record | machine.description()) + "\n")


def publish(
    table: Callable[[list[dict[str, Any]]], str],
    folder: Path | None,
    name: str,
    record: dict[str, Any],
) -> None:
    """Print the rows of a record, as ``table`` makes them, and ``keep`` it."""
    print(first_rows(table([record])), flush=True)
    keep(folder, name, record)


def read(folder: Path | str, place: Callable[[dict[str, Any]], Any]) -> list[dict[str, Any]]:
    """Return the records of a folder, or of its name in ``RESULTS``, sorted by ``place``."""
    files = (RESULTS / folder).glob("*.json")
    return sorted((json.loads(file.read_text()) for file in files), key=place)


def place_by(**orders: Collection[Any]) -> Callable[[dict[str, Any]], list[int]]:
    """Return a function from a record to its place in the table.

    Args:
        **orders: by the name of a field, its values in their order; the first field counts most.

    Example:
        >>> place_by(dataset=TITLES, size=("small", "large"))({"dataset": "mnist", "size": "large"})
        [1, 1]
    """
    return lambda record: [list(order).index(record[name]) for name, order in orders.items()]


def markdown_table(rows: Iterable[dict[Any, Any]]) -> str:
    """Return rows, each with its cells by the heads of their columns, as a Markdown table.

    Example:
        >>> print(markdown_table([{"dataset": "MNIST", "orders": 5}]))
        | dataset | orders |
        |---|---|
        | MNIST | 5 |
    """
    rows = list(rows)
    lines = [f"| {' | '.join(map(str, cells))} |" for cells in (rows[0], *map(dict.values, rows))]
    return "\n".join([lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]])


def first_rows(table: str) -> str:
    """Return the rows of the first table of a Markdown text, without the heads."""
    return "\n".join(table.split("\n\n")[0].split("\n")[2:])


def spread(shares: Sequence[float]) -> tuple[float, float]:
    """Return the mean and the standard deviation of some shares in percent; 0 for a single share.

    Example:
        >>> spread([0.5])
        (50.0, 0.0)
    """
    deviation = statistics.stdev(shares) if len(shares) > 1 else 0.0
    return 100 * statistics.mean(shares), 100 * deviation


def percent(shares: Sequence[float]) -> str:
    """Return the mean of some shares in percent, with the standard deviation if there are several.

    Example:
        >>> percent([0.97, 0.98]), percent([0.5])
        ('97.50 ± 0.71', '50.00')
    """
    mean, deviation = spread(shares)
    return f"{mean:.2f} ± {deviation:.2f}" if len(shares) > 1 else f"{mean:.2f}"


def span(numbers: Sequence[int]) -> str:
    """Return the least and the greatest of some numbers, or the one that all of them are.

    Example:
        >>> span([1200, 900]), span([900, 900])
        ('900 to 1,200', '900')
    """
    return " to ".join(f"{number:,}" for number in sorted({min(numbers), max(numbers)}))


def field(record: dict[str, Any], name: str) -> list[Any]:
    """Return one field of all runs of a record."""
    return [run[name] for run in record["runs"]]


def over_seeds(
    dataset: str, build: Build, split: str, seeds: int, folder: Path | None = None
) -> dict[str, Any]:
    """Return the accuracy in several stream orders, with every run, and that of all together.

    Together, the networks of all orders answer with the mean of their evidence.

    Args:
        dataset: what is learned.
        build: makes the network.
        split: "test" or "validation"; the validation split is not learned if it is tested on.
        seeds: the number of stream orders; their seeds are 0 to ``seeds - 1``.
        folder: checkpoints are kept here, and a run that was stopped goes on from them. For None
            there are none.
    """
    runs, evidence = [], []
    test = load(dataset, split, 0)[1]
    for seed in range(seeds):
        train = load(dataset, split, seed)[0]
        run, said = _run(build, train, test, None if folder is None else folder / str(seed))
        runs.append(run)
        evidence.append(said)
        print(f"order {seed}: {100 * run['accuracy']:.2f} %", file=sys.stderr, flush=True)
    together = _accuracy(np.mean(evidence, axis=0), test)
    return {"split": split, "runs": runs, "together": together}


def _run(
    build: Build, train: datasets.Dataset, test: datasets.Dataset, folder: Path | None
) -> tuple[dict[str, Any], np.ndarray]:
    """Return what one order gave, and the evidence [N, C] on the examples that were asked."""
    is_resumed = folder is not None and folder.exists()
    start = time.perf_counter()
    network, params, state = learn(build, train, folder)
    seconds = time.perf_counter() - start
    evidence = memjax.predict_proba(network, params, state, test.images)
    run = {
        "seed": train.seed,
        "accuracy": _accuracy(evidence, test),
        "num_memories": memjax.num_memories(network, state),
        "num_train": len(train.labels),
        "num_test": len(test.labels),
        "fit_seconds": None if is_resumed else seconds,
        "peak_memory_bytes": machine.peak_memory_bytes(),
    }
    return run, evidence


def _accuracy(evidence: np.ndarray, test: datasets.Dataset) -> float:
    return float(np.mean(labels_from(evidence) == test.labels))
