"""How much the order of the stream matters.

    python -m experiments.order [--dataset NAME] [--only NETWORK] [--seeds N]
                                [--split test|validation] [--out FOLDER] [--quick]

The same examples, each once, in many orders: random ones, and for every four of these one that is
sorted by class, so that the digits come one after another and none comes back. The first sorted
order goes from class 0 upwards, the others through the classes in a random order.

A memory network calibrates its novelty threshold on the first 1,000 examples of each order, which
in a sorted one are of a single class; "errors only" has no threshold, and stores what its nearest
memory answers wrong. All orders of such a network are learned in one compiled call. Columnar
networks learn one order after another. As they are, their neurons adapt to the stream for ever;
"settled" ones stop after 1,000 examples each.
"""

from typing import Any

import jax
import numpy as np

import memjax
from experiments import sweeps
from experiments.continual import NETWORKS
from experiments.figures import COLOURS, MARKERS, legend, name_rows, panels
from experiments.records import RESULTS, TITLES, keep, load, options, percent, read
from memjax.datasets import Dataset
from memjax.vision.encoders import Encoder

ORDERED = ("memory", "memory, errors only", "columnar small", "columnar small, settled")


def sorted_orders(labels: np.ndarray, seeds: int) -> np.ndarray:
    """Return stream orders int32 [seeds, N] in which the classes come one after another.

    In the first they come by their numbers, in the others in a random order; the examples of a
    class are in a random order in all.

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
    """Return the record of one network over random orders and a fourth as many sorted ones."""
    train, test = load(dataset, split, seed=0)
    network, params = NETWORKS[name].build(train.images.shape[1:], train.num_classes)
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
    """Return accuracies and memories, one an order, of a fixed encoder and memories behind it."""
    encoder, bank = network.layers
    learned, tested = sweeps.encode(encoder, train), sweeps.encode(encoder, test)

    @jax.jit
    def sweep(learned, tested, orders):
        def run(order):
            calibrated = sweeps.calibrate(bank, params[1], learned, order)
            state = sweeps.fit(bank, calibrated, learned, order)
            share = sweeps.accuracy(bank, calibrated, state, tested)
            return share, sweeps.num_memories(bank, state)

        return sweeps.each(run, orders)

    return sweep(learned, tested, orders)


def _one_by_one(
    network: memjax.Chain, params: Any, train: Dataset, test: Dataset, orders: np.ndarray
) -> tuple[list[float], list[int]]:
    """Return accuracies and memories, one an order, of a network with nothing to calibrate."""
    shares, sizes = [], []
    for order in orders:
        state = network.init(jax.random.key(0))
        state, _ = memjax.fit(network, params, state, train.images[order], train.labels[order])
        shares.append(memjax.evaluate(network, params, state, test.images, test.labels).accuracy)
        sizes.append(memjax.evaluation.num_memories(state))
    return shares, sizes


def records() -> list[dict[str, Any]]:
    """Return the records of the repository."""
    return read(RESULTS / "order", _place)


def _place(record: dict[str, Any]) -> tuple[int, int]:
    return list(TITLES).index(record["dataset"]), ORDERED.index(record["network"])


def _of(record: dict[str, Any], name: str, is_sorted: bool) -> list[Any]:
    """Return one of the numbers of a record's runs, for the sorted orders or for the others."""
    return [run[name] for run in record["runs"] if run["is_sorted"] == is_sorted]


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table."""
    lines = [
        "| dataset | network | stream | accuracy, % (mean ± s.d.) | worst to best, % | memories "
        "| orders |",
        "|---|---|---|---|---|---|---|",
    ]
    for record in records:
        for is_sorted in (False, True):
            shares = _of(record, "accuracy", is_sorted)
            sizes = _of(record, "num_memories", is_sorted)
            memories = " to ".join(f"{size:,}" for size in sorted({min(sizes), max(sizes)}))
            stream = "sorted by class" if is_sorted else "random"
            lines.append(
                f"| {TITLES[record['dataset']]} | {record['network']} | {stream} | "
                f"{percent(shares)} | {100 * min(shares):.2f} to {100 * max(shares):.2f} | "
                f"{memories} | {len(shares)} |"
            )
    return "\n".join(lines)


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of the errors and the memories of every order, a dot each."""
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
                place.plot(
                    values,
                    heights,
                    MARKERS[number],
                    color=COLOURS[number],
                    markersize=5,
                    alpha=0.7,
                    label=name,
                )
    memories.set_xlim(left=0)
    names = [f"{TITLES[each['dataset']]}, {each['network']}" for each in records]
    name_rows(error, names)
    legend(drawn, error, is_above=True)
    return drawn


def main(arguments: list[str] | None = None) -> None:
    """Measure the networks, print their rows and keep the records."""
    parser = options(__doc__, names=ORDERED, seeds=20)
    parser.add_argument("--dataset", choices=("digits", "mnist"), default="mnist")
    chosen = parser.parse_args(arguments)
    dataset, seeds = ("digits", 4) if chosen.quick else (chosen.dataset, chosen.seeds)
    # Quick ones show both ways to learn.
    names = ("memory", "columnar small") if chosen.quick else ORDERED
    for name in (chosen.only,) if chosen.only else names:
        record = measure(dataset, name, chosen.split, seeds)
        print(*table([record]).splitlines()[2:], sep="\n", flush=True)
        keep(chosen.out, f"{dataset} {name}", record)


if __name__ == "__main__":
    sweeps.use_all_cores()
    main()
