"""How much the order of the stream matters.

    python -m experiments.order [--dataset NAME] [--only NETWORK] [--seeds N]
                                [--split test|validation] [--out FOLDER] [--quick]

The same examples come once each, in many orders. For every four random orders there is one that is
sorted by class: the digits come one after another, and none comes back. The first sorted order goes
from class 0 upwards. The others go through the classes in a random order.

A memory network calibrates its novelty threshold on the first 1,000 examples of each order. In a
sorted order these are all of one class. "Errors only" has no threshold, and stores mistakes that
come again or have a rare label. All orders of such a network are learned in one compiled call.
Columnar networks learn one order after another.
"""

from functools import partial
from typing import Any

import jax
import numpy as np

import memjax
from experiments import sweeps
from experiments.continual import NETWORKS
from experiments.figures import legend, name_rows, panels, style
from experiments.records import (
    TITLES,
    load,
    markdown_table,
    options,
    percent,
    place_by,
    publish,
    read,
    span,
)
from memjax.datasets import Dataset
from memjax.vision.encoders import Encoder

ORDERED = ("memory", "memory, errors only", "columnar small")


def sorted_orders(labels: np.ndarray, seeds: int) -> np.ndarray:
    """Return stream orders int32 [seeds, N] in which the classes come one after another.

    In the first order they come by their numbers, in the others at random. The examples of each
    class are always in a random order.

    Example:
        >>> print(np.array([1, 0, 1, 0])[sorted_orders(np.array([1, 0, 1, 0]), 1)])
        [[0 0 1 1]]
    """
    num_classes = int(labels.max()) + 1
    found = []
    for seed, order in enumerate(sweeps.orders(len(labels), seeds)):
        turns = np.random.default_rng(seed).permutation(num_classes)
        turn_of_class = np.argsort(turns) if seed else np.arange(num_classes)
        found.append(order[np.argsort(turn_of_class[labels[order]], kind="stable")])
    return np.stack(found)


def measure(dataset: str, name: str, split: str, seeds: int) -> dict[str, Any]:
    """Return the record of one network in random orders, and in a fourth as many sorted ones."""
    train, test = load(dataset, split, seed=0)
    network, params = NETWORKS[name](train.images.shape[1:], train.num_classes)
    assert isinstance(network, memjax.Chain)
    sorted_ones = sorted_orders(train.labels, max(seeds // 4, 1))
    orders = np.concatenate([sweeps.orders(len(train.labels), seeds), sorted_ones])
    learn = _at_once if isinstance(network.layers[0], Encoder) else _one_by_one
    accuracies, sizes = learn(network, params, train, test, orders)
    return {
        "dataset": dataset,
        "network": name,
        "split": split,
        "command": f"python -m experiments.order --dataset {dataset} --only '{name}' "
        f"--seeds {seeds} --split {split}",
        "runs": [
            {
                "seed": index if index < seeds else index - seeds,
                "is_sorted": index >= seeds,
                "accuracy": float(accuracy),
                "num_memories": int(size),
            }
            for index, (accuracy, size) in enumerate(zip(accuracies, sizes, strict=True))
        ],
    }


def _at_once(
    network: memjax.Chain, params: Any, train: Dataset, test: Dataset, orders: np.ndarray
) -> tuple[Any, Any]:
    """Return the accuracy and the memories for each order, of memories behind a fixed encoder."""
    encoder, bank = network.layers
    learned, tested = sweeps.encode(encoder, train), sweeps.encode(encoder, test)

    @jax.jit
    def sweep(learned, tested, orders):
        def run(order):
            calibrated = sweeps.calibrate(bank, params[1], learned, order)
            state = sweeps.fit(bank, calibrated, learned, order)
            share = sweeps.accuracy(bank, calibrated, state, tested)
            return share, memjax.num_memories(bank, state)

        return sweeps.each(run, orders)

    return sweep(learned, tested, orders)


def _one_by_one(
    network: memjax.Chain, params: Any, train: Dataset, test: Dataset, orders: np.ndarray
) -> tuple[list[float], list[int]]:
    """Return the accuracy and the memories for each order, of a network without calibration."""
    shares, sizes = [], []
    for order in orders:
        state = network.init(jax.random.key(0))
        state, _ = memjax.fit(network, params, state, train.images[order], train.labels[order])
        shares.append(memjax.evaluate(network, params, state, test.images, test.labels).accuracy)
        sizes.append(memjax.num_memories(network, state))
    return shares, sizes


records = partial(read, "order", place_by(dataset=TITLES, network=ORDERED))


def _of(record: dict[str, Any], name: str, is_sorted: bool) -> list[Any]:
    """Return one field of the runs of a record, either in sorted orders or in random ones."""
    return [run[name] for run in record["runs"] if run["is_sorted"] == is_sorted]


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table."""
    rows = []
    for record in records:
        for stream, is_sorted in (("random", False), ("sorted by class", True)):
            shares = _of(record, "accuracy", is_sorted)
            rows.append(
                {
                    "dataset": TITLES[record["dataset"]],
                    "network": record["network"],
                    "stream": stream,
                    "accuracy, % (mean ± s.d.)": percent(shares),
                    "worst to best, %": f"{100 * min(shares):.2f} to {100 * max(shares):.2f}",
                    "memories": span(_of(record, "num_memories", is_sorted)),
                    "orders": len(shares),
                }
            )
    return markdown_table(rows)


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of the errors and the memories, with one dot for each order."""
    drawn, places = panels(["", ""], "", "", 9.0, 1.2 + 0.7 * len(records), is_y_shared=True)
    error, memories = places
    error.set_xlabel("error, % (log axis)")
    memories.set_xlabel("memories")
    error.set_xscale("log")
    error.xaxis.set_major_formatter("{x:g}")
    for height, record in enumerate(records):
        for number, name in enumerate(("random order", "sorted by class")):
            shares = _of(record, "accuracy", is_sorted=number == 1)
            errors = [100 * (1 - share) for share in shares]
            # A little apart, so that equal ones do not hide each other.
            heights = height + np.linspace(-0.25, 0.25, len(shares) + 2)[1:-1]
            sizes = _of(record, "num_memories", is_sorted=number == 1)
            for place, values in ((error, errors), (memories, sizes)):
                look = style(number) | {"linestyle": "none", "markersize": 5, "alpha": 0.7}
                place.plot(values, heights, label=name, **look)
    memories.set_xlim(left=0)
    names = [f"{TITLES[each['dataset']]}, {each['network']}" for each in records]
    name_rows(error, names)
    legend(drawn, error, is_above=True)
    return drawn


def main(arguments: list[str] | None = None) -> None:
    """Measure the networks, print their rows and keep the records."""
    parser = options(__doc__, names=ORDERED, seeds=20)
    parser.add_argument("--dataset", choices=("digits", "mnist", "fashion_mnist"), default="mnist")
    chosen = parser.parse_args(arguments)
    dataset, seeds = ("digits", 4) if chosen.quick else (chosen.dataset, chosen.seeds)
    # The quick ones show both ways to learn.
    names = ("memory", "columnar small") if chosen.quick else ORDERED
    for name in (chosen.only,) if chosen.only else names:
        record = measure(dataset, name, chosen.split, seeds)
        publish(table, chosen.out, f"{dataset} {name}", record)


if __name__ == "__main__":
    sweeps.use_all_cores()
    main()
