"""How much it knows after a few examples.

    python -m experiments.few_shot [--dataset NAME] [--only METHOD] [--number N] [--seeds N]
                                   [--split test|validation] [--out FOLDER] [--quick]

Every method learns the same examples, 1 to 1,000 of each class, and is tested on the whole split. A
draw is the first examples of each class in a stream order; there are 10 draws, at 1,000 a class 3.

The two memory networks are the ready-made ones, as they come, with one setting for all numbers;
they see every example once. Beside them stand the nearest neighbour in raw pixels, and the
convolutional network of `experiments.backprop`, trained by backpropagation on the same examples to
convergence: at least 1,000 steps and 20 epochs. Its accuracy on what it learned is kept in the
record. Learning rates of 0.0003 and 0.001 served it alike, 0.003 worse (validation split, 1 and 10
examples a class); it has 0.001.

What else was tried on MNIST, with 1, 5 and 10 examples a class, on the validation split: oriented
edges are what makes the difference (10 a class: about 88 %; a blur gives 80 %, pixels 75 %).
Sixteen sharper directions bring one point more. Looking at an example from nine positions, in
learning, in recall or in both, changes at most one point: the edges are pooled over such shifts
already. The network with columns is cold: its neurons find their thresholds over some hundred
examples, and its readout has summed up what they said before. Shown the same 10 examples a class
again once they are settled, a readout gets to about 91 %; but that is a second pass.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

import memjax
from experiments import backprop, figures
from experiments.records import (
    RESULTS,
    TITLES,
    flat,
    keep,
    learned,
    load,
    options,
    percent,
    read,
    spread,
)

NUMBERS = (1, 5, 10, 100, 1000)
_MOST_SEEDS = {1000: 3}
_STEPS, _EPOCHS = 1000, 20

Answers = tuple[np.ndarray, dict[str, Any]]  # labels [N], and what else to keep of the run


def first_of_each_class(labels: np.ndarray, number: int) -> np.ndarray:
    """Return the rows of the first ``number`` examples of each class, in their order.

    Args:
        labels: integers [N].
        number: examples of each class.

    Raises:
        ValueError: a class has fewer examples.

    Example:
        >>> first_of_each_class(np.array([1, 1, 0, 1, 0]), 2).tolist()
        [0, 1, 2, 4]
    """
    rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    if (least := min(map(len, rows))) < number:
        raise ValueError(
            f"number: expected at most {least}, the examples of the rarest class, got {number}."
        )
    return np.sort(np.concatenate([of_class[:number] for of_class in rows]))


def _network(build: Callable[..., Any]) -> Callable[..., Answers]:
    def learn(images, labels, asked, num_classes, seed) -> Answers:
        network, params, state = learned(build, images, labels, num_classes, seed)
        answers = memjax.predict(network, params, state, asked)
        return answers, {"num_memories": memjax.evaluation.num_memories(state)}

    return learn


def _nearest_neighbour(images, labels, asked, num_classes, seed) -> Answers:
    from sklearn.neighbors import KNeighborsClassifier

    del num_classes, seed
    model = KNeighborsClassifier(n_neighbors=1).fit(flat(images), labels)
    return model.predict(flat(asked)), {}


def _convolutional(images, labels, asked, num_classes, seed) -> Answers:
    steps_an_epoch = max(len(labels) // backprop.BATCH, 1)
    epochs = max(-(-_STEPS // steps_an_epoch), _EPOCHS)
    trained = backprop.train("cnn", images, labels, num_classes, epochs=epochs, seed=seed)
    return backprop.predict(trained, asked), {
        "epochs": epochs,
        "train_accuracy": trained.train_accuracy,
    }


METHODS: dict[str, Callable[..., Answers]] = {
    "memory": _network(memjax.memory_network),
    "columnar small": _network(lambda *shape: memjax.columnar_network(*shape, size="small")),
    "1-NN": _nearest_neighbour,
    "CNN by backprop": _convolutional,
}
"""From examples [n, H, W, channels], their labels, images to answer, classes and a seed."""


def measure(dataset: str, method: str, number: int, split: str, seeds: int) -> dict[str, Any]:
    """Return the record of one method after ``number`` examples a class, over several draws."""
    return {
        "dataset": dataset,
        "method": method,
        "number": number,
        "split": split,
        "command": f"python -m experiments.few_shot --dataset {dataset} --only '{method}' "
        f"--number {number} --seeds {seeds} --split {split}",
        "runs": [_run(dataset, method, number, split, seed) for seed in range(seeds)],
    }


def _run(dataset: str, method: str, number: int, split: str, seed: int) -> dict[str, Any]:
    train, test = load(dataset, split, seed)
    rows = first_of_each_class(train.labels, number)
    answers, details = METHODS[method](
        train.images[rows], train.labels[rows], test.images, train.num_classes, seed
    )
    return {"seed": seed, "accuracy": float(np.mean(answers == test.labels)), **details}


def records() -> list[dict[str, Any]]:
    """Return the records of the repository."""
    return read(RESULTS / "few_shot", _place)


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table: accuracy in percent, mean and s.d. over the draws."""
    numbers = sorted({record["number"] for record in records})
    lines = [
        f"| dataset | method | {' | '.join(f'{number:,}' for number in numbers)} |",
        f"|---|---|{'---|' * len(numbers)}",
    ]
    for dataset, method in dict.fromkeys((r["dataset"], r["method"]) for r in records):
        found = {
            record["number"]: percent([run["accuracy"] for run in record["runs"]])
            for record in records
            if (record["dataset"], record["method"]) == (dataset, method)
        }
        shares = " | ".join(found.get(number, "") for number in numbers)
        lines.append(f"| {TITLES[dataset]} | {method} | {shares} |")
    return "\n".join(lines)


def figure(records: list[dict[str, Any]], dataset: str = "mnist") -> Any:
    """Return a figure of a dataset's records: a line a method, its s.d. over the draws as a band.

    Args:
        records: of one or more datasets.
        dataset: whose to draw.
    """
    drawn, place = figures.axes("examples of each class", f"accuracy on {TITLES[dataset]}, %")
    for index, method in enumerate(METHODS):
        mine = [r for r in records if (r["dataset"], r["method"]) == (dataset, method)]
        if not mine:
            continue
        numbers = [record["number"] for record in mine]
        shares = [spread([run["accuracy"] for run in record["runs"]]) for record in mine]
        middle, deviation = np.array(shares).T
        colour = figures.COLOURS[index]
        place.plot(numbers, middle, figures.MARKERS[index] + "-", color=colour, label=method)
        place.fill_between(numbers, middle - deviation, middle + deviation, color=colour, alpha=0.2)
    numbers = sorted({record["number"] for record in records if record["dataset"] == dataset})
    place.set_xscale("log")
    place.set_xticks(numbers, [f"{number:,}" for number in numbers])
    place.minorticks_off()
    figures.legend(drawn, place)
    return drawn


def _place(record: dict[str, Any]) -> tuple[int, int, int]:
    dataset, method = list(TITLES).index(record["dataset"]), list(METHODS).index(record["method"])
    return dataset, method, record["number"]


def main(arguments: list[str] | None = None) -> None:
    """Measure the methods, print their accuracies and keep the records."""
    parser = options(__doc__, names=tuple(METHODS), dataset="mnist", seeds=10)
    parser.add_argument("--number", type=int, choices=NUMBERS, help="examples of each class")
    chosen = parser.parse_args(arguments)
    dataset, seeds = ("digits", 2) if chosen.quick else (chosen.dataset, chosen.seeds)
    numbers = (1,) if chosen.quick else (chosen.number,) if chosen.number else NUMBERS
    quick = ("memory", "1-NN", "CNN by backprop")
    methods = quick if chosen.quick else (chosen.only,) if chosen.only else tuple(METHODS)
    for method in methods:
        for number in numbers:
            draws = min(seeds, _MOST_SEEDS.get(number, seeds))
            record = measure(dataset, method, number, chosen.split, draws)
            print(f"{number:,} a class: {table([record]).splitlines()[-1]}", flush=True)
            keep(chosen.out, f"{dataset} {method} {number}", record)


if __name__ == "__main__":
    main()
