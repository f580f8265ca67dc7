"""What the experiments share: their options, repetition over stream orders, and their records.

A record is one JSON file in the folder of its experiment under ``results``. It holds what was
measured, the command, the seeds, the device and the versions of packages.
"""

import argparse
import json
import re
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

import memjax
from memjax import datasets
from memjax.command import machine
from memjax.evaluation import num_memories

RESULTS = Path(__file__).parent / "results"

TITLES = {"digits": "digits", "mnist": "MNIST", "cifar10": "CIFAR-10 (JPEG copy)"}
"""The datasets by name, in the order of the tables."""

Build = Callable[[tuple[int, int, int], int], tuple[memjax.Layer, Any]]


def options(
    document: str | None,
    *,
    names: Sequence[str] = (),
    dataset: str | None = None,
    seeds: int | None = None,
) -> argparse.ArgumentParser:
    """Return a parser of the options that the experiments share.

    Args:
        document: the module's docstring, whose first line describes the experiment.
        names: what ``--only`` may name; without names there is no such option.
        dataset: what is learned where the user does not say; None for no such option.
        seeds: stream orders where the user does not say; None if it is measured in one order,
            on the validation split.
    """
    parser = argparse.ArgumentParser(description=(document or "").split("\n")[0])
    if names:
        parser.add_argument(
            "--only", choices=tuple(names), metavar="NAME", help="measure this only"
        )
    if dataset is not None:
        parser.add_argument("--dataset", choices=tuple(TITLES), default=dataset)
    if seeds is not None:
        orders = f"stream orders (default {seeds})"
        parser.add_argument("--seeds", type=int, default=seeds, metavar="N", help=orders)
        parser.add_argument("--split", choices=("test", "validation"), default="validation")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="keep the records in FOLDER")
    parser.add_argument("--quick", action="store_true", help="seconds, on digits: does it run?")
    return parser


def load(dataset: str, split: str, seed: int) -> tuple[datasets.Dataset, datasets.Dataset]:
    """Return the examples to learn and those to test on; validation rows are not learned then."""
    learned = "train" if split == "test" else "train_without_validation"
    return datasets.load(dataset, learned, seed=seed), datasets.load(dataset, split, seed=seed)


def flat(images: np.ndarray) -> np.ndarray:
    """Return images uint8 [N, H, W, channels] as other libraries take them: float32 [N, D], 0 to 1.

    Example:
        >>> flat(np.full((1, 1, 2, 1), 255, np.uint8))
        array([[1., 1.]], dtype=float32)
    """
    return images.reshape(len(images), -1).astype(np.float32) / 255


def learned(
    build: Build, images: np.ndarray, labels: np.ndarray, num_classes: int, seed: int
) -> tuple[memjax.Layer, Any, Any]:
    """Return a network, its params and its state after one pass, calibrated on the first 1,000.

    Args:
        build: from image shape and number of classes to a network and its params.
        images: uint8 [N, H, W, channels].
        labels: integers [N].
        num_classes: C.
        seed: of the state to begin with.
    """
    height, width, channels = images.shape[1:]
    network, params = build((height, width, channels), num_classes)
    params = memjax.calibrate(network, params, images[:1000], labels[:1000])
    state = network.init(jax.random.key(seed))
    state, _ = memjax.fit(network, params, state, images, labels)
    return network, params, jax.block_until_ready(state)


def keep(folder: Path | None, name: str, record: dict[str, Any]) -> None:
    """Write a record to its file, over one of the same name.

    Args:
        folder: is made where it is missing; None to write nothing.
        name: what is measured, in words; "MNIST, errors only" is kept in mnist-errors-only.json.
        record: what was measured.
    """
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{re.sub('[^a-z0-9]+', '-', name.lower()).strip('-')}.json"
    file.write_text(json.dumps(record | machine.description(), indent=1) + "\n")


def read(folder: Path, place: Callable[[dict[str, Any]], Any]) -> list[dict[str, Any]]:
    """Return the records of a folder, sorted by ``place(record)``."""
    return sorted((json.loads(file.read_text()) for file in folder.glob("*.json")), key=place)


def measured_datasets(records: list[dict[str, Any]]) -> list[str]:
    """Return the names of the datasets of some records, in the order of the tables."""
    return [name for name in TITLES if any(record["dataset"] == name for record in records)]


def spread(shares: Sequence[float]) -> tuple[float, float]:
    """Return mean and standard deviation of some shares in percent; one share has a deviation of 0.

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


def over_seeds(dataset: str, build: Build, split: str, seeds: int) -> dict[str, Any]:
    """Return accuracy over several stream orders, with every run.

    Args:
        dataset: what is learned.
        build: from image shape and number of classes to a network and its params.
        split: "test" or "validation"; the validation split is then not trained on.
        seeds: stream orders, seeds 0 to ``seeds - 1``.
    """
    runs = []
    for seed in range(seeds):
        runs.append(_run(dataset, build, split, seed))
        print(f"order {seed}: {100 * runs[-1]['accuracy']:.2f} %", file=sys.stderr, flush=True)
    return {"split": split, "runs": runs}


def _run(dataset: str, build: Build, split: str, seed: int) -> dict[str, Any]:
    train, test = load(dataset, split, seed)
    start = time.perf_counter()
    network, params, state = learned(build, train.images, train.labels, train.num_classes, seed)
    seconds = time.perf_counter() - start
    result = memjax.evaluate(network, params, state, test.images, test.labels)
    return {
        "seed": seed,
        "accuracy": result.accuracy,
        "num_memories": num_memories(state),
        "num_train": len(train.labels),
        "num_test": len(test.labels),
        "fit_seconds": seconds,
        "peak_memory_bytes": machine.peak_memory_bytes(),
    }
