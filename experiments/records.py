"""What the experiments share: one run, its repetition over stream orders, and where it was made."""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import jax

import memjax
from memjax import datasets
from memjax.cli import machine, peak_memory_bytes
from memjax.evaluation import num_memories

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
