"""What the experiments share: repetition over stream orders, and the files of records."""

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

import memjax
from memjax import datasets
from memjax.cli import machine, peak_memory_bytes
from memjax.evaluation import num_memories

TITLES = {"digits": "digits", "mnist": "MNIST", "cifar10": "CIFAR-10 (JPEG copy)"}

Build = Callable[[tuple[int, int, int], int], tuple[memjax.Layer, Any]]


def over_seeds(dataset: str, build: Build, split: str, seeds: int) -> dict[str, Any]:
    """Return accuracy over several stream orders, with every run and the machine.

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
    accuracies = [run["accuracy"] for run in runs]
    return {
        "split": split,
        "mean_accuracy": statistics.mean(accuracies),
        "standard_deviation": statistics.stdev(accuracies) if seeds > 1 else 0.0,
        "runs": runs,
        **machine(),
    }


def keep(file: Path | None, record: dict[str, Any], place: Callable[[dict[str, Any]], Any]) -> None:
    """Write a record to its place in a file, where records of other commands stay.

    Args:
        file: holds a list of records, or does not exist yet; None to write nothing.
        record: replaces the one at its place.
        place: from a record to what tells it from others, and by which they are sorted.
    """
    if file is None:
        return
    found = json.loads(file.read_text()) if file.exists() else []
    others = [other for other in found if place(other) != place(record)]
    file.write_text(json.dumps(sorted([*others, record], key=place), indent=1) + "\n")


def _run(dataset: str, build: Build, split: str, seed: int) -> dict[str, Any]:
    learned = "train" if split == "test" else "train_without_validation"
    train = datasets.load(dataset, learned, seed=seed)
    test = datasets.load(dataset, split, seed=seed)
    height, width, channels = train.images.shape[1:]
    network, params = build((height, width, channels), train.num_classes)
    start = time.perf_counter()
    params = memjax.calibrate(network, params, train.images[:1000], train.labels[:1000])
    state = network.init(jax.random.key(seed))
    state, _ = memjax.fit(network, params, state, train.images, train.labels)
    jax.block_until_ready(state)
    seconds = time.perf_counter() - start
    result = memjax.evaluate(network, params, state, test.images, test.labels)
    return {
        "seed": seed,
        "accuracy": result.accuracy,
        "num_memories": num_memories(state),
        "num_train": len(train.labels),
        "num_test": len(test.labels),
        "fit_seconds": seconds,
        "peak_memory_bytes": peak_memory_bytes(),
    }
