"""What is left when classes come one after another, in one pass and without replay.

    python -m experiments.continual [--dataset NAME] [--only NETWORK] [--seeds N]
                                    [--split test|validation] [--out FOLDER] [--quick]

Split datasets, class-incremental: five tasks of two classes each come one after the other, and no
example comes back. After every task the network answers among all ten classes, and is tested on
each task so far.

A memory network whose novelty threshold is estimated from the first task is full early; later
classes take the place of the least useful memories. "Errors only" stores mistakes that come
again or have a rare label, and nothing else. All other networks have their default settings.
"""

import math
import statistics
from functools import partial
from typing import Any

import jax
import numpy as np

import memjax
from experiments.figures import dataset_panels, legend, style
from experiments.records import (
    TITLES,
    Build,
    field,
    load,
    markdown_table,
    options,
    percent,
    place_by,
    publish,
    read,
    spread,
)
from memjax.base import UNLABELLED
from memjax.datasets._source import batches
from memjax.training import CALIBRATION_EXAMPLES

_TASKS = ((0, 1), (2, 3), (4, 5), (6, 7), (8, 9))

NETWORKS: dict[str, Build] = {
    "memory": memjax.memory_network,
    "memory, errors only": partial(memjax.memory_network, novelty_threshold=math.inf),
    "columnar small": partial(memjax.columnar_network, size="small"),
    "columnar medium": partial(memjax.columnar_network, size="medium"),
    "columnar large": partial(memjax.columnar_network, size="large"),
}


def measure(dataset: str, name: str, split: str, seeds: int) -> dict[str, Any]:
    """Return the record of one network in several stream orders."""
    runs = [_run(dataset, NETWORKS[name], split, seed) for seed in range(seeds)]
    return {
        "dataset": dataset,
        "network": name,
        "split": split,
        "command": f"python -m experiments.continual --dataset {dataset} --only '{name}' "
        f"--seeds {seeds} --split {split}",
        "runs": runs,
    }


def _run(dataset: str, build: Build, split: str, seed: int) -> dict[str, Any]:
    train, test = load(dataset, split, seed)
    network, params = build(train.images.shape[1:], train.num_classes)
    state = network.init(jax.random.key(seed))
    matrix = []
    for number, task in enumerate(_TASKS):
        rows = np.isin(train.labels, task)
        images, labels = train.images[rows], train.labels[rows]
        if number == 0:
            first = slice(CALIBRATION_EXAMPLES)
            params = memjax.calibrate(network, params, images[first], labels[first])
        stream = batches(images, labels, 1024)
        state, _ = memjax.fit_stream(network, params, state, stream)
        met = np.isin(test.labels, _TASKS[: number + 1])
        answers = np.full(len(test.labels), UNLABELLED)
        answers[met] = memjax.predict(network, params, state, test.images[met])
        right = answers == test.labels
        tested = (right[np.isin(test.labels, past)] for past in _TASKS[: number + 1])
        matrix.append([float(np.mean(part)) for part in tested])
    last = matrix[-1]
    best = [max(row[index] for row in matrix[index:]) for index in range(len(last))]
    return {
        "seed": seed,
        "accuracy_matrix": matrix,  # row: after which task; column: tested on which
        "average_accuracy": statistics.mean(last),
        "forgetting": statistics.mean(
            before - after for before, after in zip(best[:-1], last[:-1], strict=True)
        ),
        "num_memories": memjax.num_memories(network, state),
    }


records = partial(read, "continual", place_by(dataset=TITLES, network=NETWORKS))


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table."""
    return markdown_table(
        {
            "dataset": f"Split-{TITLES[record['dataset']]}",
            "network": record["network"],
            "average accuracy at the end, %": percent(field(record, "average_accuracy")),
            "forgetting, points": f"{100 * statistics.mean(field(record, 'forgetting')):.2f}",
            "orders": len(record["runs"]),
        }
        for record in records
    )


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of the accuracy on the tasks so far, one panel per dataset."""
    label = "average accuracy on the tasks so far, %\n(mean ± s.d. over orders)"
    drawn, places, groups = dataset_panels(
        records, "tasks learned", label, prefix="Split-", width=9.5, is_y_shared=True
    )
    tasks = range(1, len(_TASKS) + 1)
    for place, mine in zip(places, groups, strict=True):
        for record in mine:
            look = style(list(NETWORKS).index(record["network"]))
            curves = [map(statistics.mean, matrix) for matrix in field(record, "accuracy_matrix")]
            points = [spread(averages) for averages in zip(*curves, strict=True)]
            means, deviations = zip(*points, strict=True)
            place.errorbar(tasks, means, yerr=deviations, label=record["network"], **look)
        place.set_xticks(tasks)
    legend(drawn, *places)
    return drawn


def main(arguments: list[str] | None = None) -> None:
    """Measure the networks, print the table and keep the records."""
    parser = options(__doc__, names=tuple(NETWORKS), dataset="mnist", seeds=3)
    chosen = parser.parse_args(arguments)
    dataset, seeds = ("digits", 1) if chosen.quick else (chosen.dataset, chosen.seeds)
    names = ["memory"] if chosen.quick else [chosen.only] if chosen.only else list(NETWORKS)
    for name in names:
        record = measure(dataset, name, chosen.split, seeds)
        publish(table, chosen.out, f"{dataset} {name}", record)


if __name__ == "__main__":
    main()
