"""What it costs to learn in parts that do not know of each other.

    python -m experiments.merge [--dataset NAME] [--only PARTS] [--seeds N]
                                [--split test|validation] [--out FOLDER] [--quick]

A stream is cut into parts of equal length. A memory network of its own learns each of them, and
`memjax.merge` makes one network of all. The threshold is estimated once, on the first 1,000
examples of the whole stream. Every network has the same room, so together the parts may store more
than the merged network can hold. With one part nothing is merged.

The seconds to learn are those of the slowest part: with a process for each part nobody waits
longer. Compiling is not counted, neither there nor in the seconds to merge. The table has the
seconds of the fastest order, since the machine did other work as well.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np

import memjax
from experiments import figures
from experiments.records import (
    TITLES,
    field,
    load,
    markdown_table,
    options,
    percent,
    place_by,
    publish,
    read,
    span,
    spread,
)
from memjax.training import CALIBRATION_EXAMPLES

NUMBERS = (1, 2, 8, 32)


def measure(dataset: str, num_parts: int, split: str, seeds: int) -> dict[str, Any]:
    """Return the record of a stream that is learned in some number of parts."""
    return {
        "dataset": dataset,
        "num_parts": num_parts,
        "split": split,
        "command": f"python -m experiments.merge --dataset {dataset} --only {num_parts} "
        f"--seeds {seeds} --split {split}",
        "runs": [_run(dataset, num_parts, split, seed) for seed in range(seeds)],
    }


def _run(dataset: str, num_parts: int, split: str, seed: int) -> dict[str, Any]:
    train, test = load(dataset, split, seed)
    shape = train.images.shape[1:]
    network, params = memjax.memory_network(shape, train.num_classes)
    first = slice(CALIBRATION_EXAMPLES)
    params = memjax.calibrate(network, params, train.images[first], train.labels[first])
    empty = network.init(jax.random.key(0))

    # Parts of one length: each length is compiled.
    length = len(train.labels) // num_parts
    parts, seconds = [], []
    for start in range(0, num_parts * length, length):
        rows = slice(start, start + length)
        learn = partial(memjax.fit, network, params, empty, train.images[rows], train.labels[rows])
        if seed == 0 and not parts:
            learn()  # compiles
        (state, _), taken = _timed(learn)
        parts.append(state)
        seconds.append(taken)
    merge = partial(memjax.merge, network, params, parts)
    if seed == 0:
        merge()
    whole, merging = _timed(merge)

    def accuracy(state):
        return memjax.evaluate(network, params, state, test.images, test.labels).accuracy

    return {
        "seed": seed,
        "accuracy": accuracy(whole),
        "accuracy_of_first_part": accuracy(parts[0]),
        "num_memories": memjax.num_memories(network, whole),
        "num_memories_of_parts": sum(memjax.num_memories(network, part) for part in parts),
        "num_train": num_parts * length,
        "fit_seconds": max(seconds),
        "merge_seconds": merging,
    }


def _timed(function: Callable[[], Any]) -> tuple[Any, float]:
    start = time.perf_counter()
    result = jax.block_until_ready(function())
    return result, time.perf_counter() - start


records = partial(read, "merge", place_by(dataset=TITLES, num_parts=NUMBERS))


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table."""
    return markdown_table(
        {
            "dataset": TITLES[record["dataset"]],
            "parts": record["num_parts"],
            "accuracy, % (mean ± s.d.)": percent(field(record, "accuracy")),
            "one part alone, %": percent(field(record, "accuracy_of_first_part")),
            "memories of all parts": span(field(record, "num_memories_of_parts")),
            "memories": span(field(record, "num_memories")),
            "fit, s": f"{min(field(record, 'fit_seconds')):.1f}",
            "merge, s": f"{min(field(record, 'merge_seconds')):.1f}",
            "orders": len(record["runs"]),
        }
        for record in records
    )


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of the accuracy against the number of parts, merged and of one part alone."""
    drawn, place = figures.axes("parts", "accuracy, %")
    lines = {"merged": "accuracy", "one part alone": "accuracy_of_first_part"}
    for index, (label, name) in enumerate(lines.items()):
        shares = [spread(field(record, name)) for record in records]
        middle, deviation = np.array(shares).T
        numbers, look = [record["num_parts"] for record in records], figures.style(index)
        place.plot(numbers, middle, label=label, **look)
        low, high = middle - deviation, middle + deviation
        place.fill_between(numbers, low, high, color=look["color"], alpha=0.2)
    place.set_xscale("log")
    place.set_xticks(NUMBERS, list(map(str, NUMBERS)))
    place.minorticks_off()
    figures.legend(drawn, place)
    return drawn


def main(arguments: list[str] | None = None) -> None:
    """Learn in parts, print the accuracies and keep the records."""
    names = tuple(map(str, NUMBERS))
    chosen = options(__doc__, names=names, dataset="mnist", seeds=3).parse_args(arguments)
    dataset, seeds = ("digits", 2) if chosen.quick else (chosen.dataset, chosen.seeds)
    numbers = (int(chosen.only),) if chosen.only else (1, 8) if chosen.quick else NUMBERS
    for num_parts in numbers:
        record = measure(dataset, num_parts, chosen.split, seeds)
        publish(table, chosen.out, f"{dataset} {num_parts} parts", record)


if __name__ == "__main__":
    main()
