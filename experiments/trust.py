"""Whether a network can be trusted with data that are not clean.

    python -m experiments.trust [--dataset NAME] [--only CONTENDER] [--seeds N] [--out FOLDER]
                                [--quick]

One network with its default settings learns nine datasets, each as it is and in seven worse
conditions. Beside it stand nearest neighbours, which store every row, and learners that pass once
over the rows, as the network does. Nobody is tuned to a dataset or to a condition, but for one
number that docs/trust.md names.

**Data.** Digits, wine, breast cancer and iris come with scikit-learn; bananas, phishing and image
segments with river. Of each, 70 % of the rows, drawn at random, are learned in a random order, and
the others are tested. The features are divided by their standard deviation among the learned rows,
after the mean is taken off. Of MNIST and Fashion-MNIST, 12,000 training images drawn at random are
learned, and 3,000 of the last 10,000 training images, which are never learned, are tested. All
contenders get the same features of these images: those of the memory network's encoder of edges.

**Conditions.** They change the learned rows. *Wrong labels*: each label is, with this probability,
another one drawn at random. *Three levels*: the quantiles 1/3 and 2/3 of each feature cut it into
0, 1 and 2, in the tested rows too, so that many rows are equal. *Outliers*: 2 % of the rows are
multiplied by 1,000 (not images). *A rare class*: of the smallest class only 1 row is kept for every
100 learned rows. There the mean of the recalls of all classes stands for the accuracy. *Sorted*:
one class comes after another.

**Settings.** The memory network is a `MemoryLayer` with room for 3,000 memories. The nearest
neighbours are 7 of all rows, or, in river, 7 of the last 1,000 rows. The Hoeffding tree has river's
defaults. The linear model is the averaged one of `experiments.peers`, in the order of the stream.
FuzzyARTMAP gets the features between the least and the greatest learned value, 0 to 1; its
vigilance of 0.85, a choice parameter of 0.001 and its match tracking were the best of four
settings on the clean small datasets. River's learners and FuzzyARTMAP take about a minute for each
order and condition of images, and are left out there.

There are 5 orders, 3 of images, and 20 of wine, breast cancer and iris, of which at most 171 rows
are tested. Each order has its own rows, and all contenders get the same ones.
"""

import statistics
import sys
import warnings
from collections.abc import Callable
from functools import cache, partial
from typing import Any, NamedTuple

import numpy as np

import memjax
from experiments import sweeps
from experiments.figures import legend, name_rows, panels, style
from experiments.records import (
    field,
    load,
    markdown_table,
    options,
    place_by,
    publish,
    read,
    span,
    spread,
)

_NUM_NEIGHBOURS = 7
_WINDOW = 1000
_CLOSE = 2  # points


class Task(NamedTuple):
    """Rows to learn and rows to ask."""

    xs: np.ndarray  # float32 [N, D]
    labels: np.ndarray  # int32 [N]
    asked: np.ndarray  # float32 [M, D]
    answers: np.ndarray  # int32 [M]
    num_classes: int
    seed: int


def _bundled(name: str) -> tuple[np.ndarray, np.ndarray]:
    from sklearn import datasets

    return getattr(datasets, f"load_{name}")(return_X_y=True)


def _river(name: str) -> tuple[np.ndarray, np.ndarray]:
    from river import datasets

    rows, labels = zip(*getattr(datasets, name)(), strict=True)
    return np.array([list(row.values()) for row in rows], float), np.array(labels)


_IMAGES = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST"}
_ROWS = {
    "digits": partial(_bundled, "digits"),
    "wine": partial(_bundled, "wine"),
    "breast cancer": partial(_bundled, "breast_cancer"),
    "iris": partial(_bundled, "iris"),
    "bananas": partial(_river, "Bananas"),
    "phishing": partial(_river, "Phishing"),
    "image segments": partial(_river, "ImageSegments"),
}
_NUM_ORDERS = dict.fromkeys(("wine", "breast cancer", "iris"), 20) | dict.fromkeys(_IMAGES, 3)
DATASETS = (*_ROWS, *_IMAGES)
"""The names of the datasets, in the order of the table."""


@cache  # all contenders ask for the same ones
def clean_task(dataset: str, seed: int) -> Task:
    """Return the clean rows of a dataset, in the order that a seed decides."""
    return _image_task(dataset, seed) if dataset in _IMAGES else _row_task(dataset, seed)


def _row_task(dataset: str, seed: int) -> Task:
    from sklearn.preprocessing import StandardScaler

    xs, labels = _ROWS[dataset]()
    names, labels = np.unique(labels, return_inverse=True)
    order = np.random.default_rng(seed).permutation(len(labels))
    learned, asked = np.split(order, [int(0.7 * len(order))])
    scaler: Any = StandardScaler().fit(xs[learned])
    return Task(
        scaler.transform(xs[learned]).astype(np.float32),
        labels[learned].astype(np.int32),
        scaler.transform(xs[asked]).astype(np.float32),
        labels[asked].astype(np.int32),
        len(names),
        seed,
    )


def _image_task(dataset: str, seed: int) -> Task:
    train, test = load(dataset, "validation", seed)
    network, _ = memjax.memory_network((28, 28, 1), train.num_classes)
    encoder = network.layers[0]
    xs, labels = sweeps.encode_first(encoder, train, 12_000)
    return Task(xs, labels, *sweeps.encode_first(encoder, test, 3_000), train.num_classes, seed)


def _clean(task: Task, generator: np.random.Generator) -> Task:
    del generator
    return task


def wrong_labels(
    labels: np.ndarray, num_classes: int, share: float, generator: np.random.Generator
) -> np.ndarray:
    """Return labels int32 [N], each, with a probability of ``share``, another drawn at random."""
    is_wrong = generator.random(len(labels)) < share
    others = (labels + generator.integers(1, num_classes, len(labels))) % num_classes
    return np.where(is_wrong, others, labels).astype(np.int32)


def _mislabel(task: Task, generator: np.random.Generator, share: float) -> Task:
    return task._replace(labels=wrong_labels(task.labels, task.num_classes, share, generator))


def three_levels(task: Task, generator: np.random.Generator) -> Task:
    """Cut every feature into 0, 1 and 2 at the quantiles 1/3 and 2/3 of the learned rows."""
    del generator
    low, high = np.quantile(task.xs, [1 / 3, 2 / 3], axis=0)

    def cut(xs):
        return (xs > low).astype(np.float32) + (xs > high).astype(np.float32)

    return task._replace(xs=cut(task.xs), asked=cut(task.asked))


def outliers(task: Task, generator: np.random.Generator) -> Task:
    """Multiply 2 % of the learned rows by 1,000."""
    is_far = generator.random(len(task.labels)) < 0.02
    return task._replace(xs=np.where(is_far[:, None], 1000 * task.xs, task.xs))


def rare_class(task: Task, generator: np.random.Generator) -> Task:
    """Keep of the smallest class only its first rows, 1 for every 100 learned rows."""
    del generator
    is_rare = task.labels == np.argmin(np.bincount(task.labels, minlength=task.num_classes))
    is_kept = ~is_rare | (np.cumsum(is_rare) <= max(len(task.labels) // 100, 1))
    return task._replace(xs=task.xs[is_kept], labels=task.labels[is_kept])


def sorted_by_class(task: Task, generator: np.random.Generator) -> Task:
    """Let one class come after another."""
    del generator
    order = np.argsort(task.labels, kind="stable")
    return task._replace(xs=task.xs[order], labels=task.labels[order])


CONDITIONS: dict[str, Callable[[Task, np.random.Generator], Task]] = {
    "clean": _clean,
    "10 % wrong labels": partial(_mislabel, share=0.1),
    "20 % wrong labels": partial(_mislabel, share=0.2),
    "40 % wrong labels": partial(_mislabel, share=0.4),
    "three levels": three_levels,
    "outliers": outliers,
    "a rare class": rare_class,
    "sorted": sorted_by_class,
}
"""The conditions by name, in the order of the table."""

Answers = tuple[np.ndarray, int | None]
"""Labels [M], and how many patterns are kept; None if nothing stands for a pattern."""


def _memory_network(task: Task) -> Answers:
    layer = memjax.MemoryLayer(task.xs.shape[1], task.num_classes, capacity=3000)
    params, state, _ = memjax.learn(layer, layer.params(), task.xs, task.labels)
    answers = memjax.predict(layer, params, state, task.asked)
    return np.asarray(answers), memjax.num_memories(layer, state)


def _nearest_neighbours(task: Task) -> Answers:
    from sklearn.neighbors import KNeighborsClassifier

    model = KNeighborsClassifier(_NUM_NEIGHBOURS).fit(task.xs, task.labels)
    return np.asarray(model.predict(task.asked)), len(task.labels)


def _nearest_centroid(task: Task) -> Answers:
    from sklearn.neighbors import NearestCentroid

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # some features never change
        model = NearestCentroid().fit(task.xs, task.labels)
    return np.asarray(model.predict(task.asked)), task.num_classes


def _linear(task: Task) -> Answers:
    from sklearn.linear_model import SGDClassifier

    model = SGDClassifier(
        loss="log_loss", alpha=1e-5, average=True, shuffle=False, random_state=task.seed
    )
    model.partial_fit(task.xs, task.labels, classes=np.arange(task.num_classes))
    return np.asarray(model.predict(task.asked)), None


def _last_neighbours(task: Task) -> Answers:
    from river import neighbors

    engine = neighbors.LazySearch(window_size=_WINDOW)
    model = neighbors.KNNClassifier(n_neighbors=_NUM_NEIGHBOURS, engine=engine)
    return _one_by_one(model, task), min(_WINDOW, len(task.labels))


def _hoeffding_tree(task: Task) -> Answers:
    from river import tree

    return _one_by_one(tree.HoeffdingTreeClassifier(), task), None


def _one_by_one(model: Any, task: Task) -> np.ndarray:
    """Return the answers of a learner of river, which takes a row as a dictionary."""
    for x, label in zip(task.xs.tolist(), task.labels.tolist(), strict=True):
        model.learn_one(dict(enumerate(x)), label)
    return np.array([model.predict_one(dict(enumerate(x))) for x in task.asked.tolist()])


def _fuzzy_artmap(task: Task) -> Answers:
    """Learn hyperboxes of complement-coded features, by artlib's fast implementation in C++."""
    from artlib import FuzzyARTMAP

    least, most = task.xs.min(axis=0), task.xs.max(axis=0)
    width = np.where(most > least, most - least, 1)

    def code(xs):
        scaled = np.clip((xs - least) / width, 0, 1)
        return np.concatenate([scaled, 1 - scaled], axis=1).astype(float)

    model: Any = FuzzyARTMAP(rho=0.85, alpha=1e-3, beta=1.0)
    model.partial_fit(code(task.xs), task.labels, match_tracking="MT+")
    return np.asarray(model.predict(code(task.asked))), len(model.module_a.W)


_OURS, _NEIGHBOURS = "memory network", "7-NN, all rows"
CONTENDERS: dict[str, Callable[[Task], Answers]] = {
    _OURS: _memory_network,
    _NEIGHBOURS: _nearest_neighbours,
    "river 7-NN, last 1,000 rows": _last_neighbours,
    "nearest centroid": _nearest_centroid,
    "linear, averaged SGD": _linear,
    "Hoeffding tree": _hoeffding_tree,
    "FuzzyARTMAP": _fuzzy_artmap,
}
"""The contenders by name, in the order of the table."""

_SLOW = ("river 7-NN, last 1,000 rows", "Hoeffding tree", "FuzzyARTMAP")


def measure(dataset: str, name: str, seeds: int) -> dict[str, Any]:
    """Return the record of one contender on one dataset, in all conditions."""
    return {
        "dataset": dataset,
        "contender": name,
        "command": f"python -m experiments.trust --dataset '{dataset}' --only '{name}' "
        f"--seeds {seeds}",
        "runs": [_run(dataset, name, seed) for seed in range(seeds)],
    }


def _run(dataset: str, name: str, seed: int) -> dict[str, Any]:
    shares, memories = {}, {}
    for kind, change in CONDITIONS.items():
        if kind == "outliers" and dataset in _IMAGES:
            continue
        changed = change(clean_task(dataset, seed), np.random.default_rng(seed))
        answers, memories[kind] = CONTENDERS[name](changed)
        share = balanced_accuracy if kind == "a rare class" else accuracy
        shares[kind] = round(share(answers, changed.answers), 5)
    print(f"{dataset}, {name}, order {seed}", file=sys.stderr, flush=True)
    return {"seed": seed, "accuracy": shares, "memories": memories}


def accuracy(answers: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of right answers."""
    return float(np.mean(answers == labels))


def balanced_accuracy(answers: np.ndarray, labels: np.ndarray) -> float:
    """Return the mean over the classes of the share of right answers.

    Example:
        >>> balanced_accuracy(np.array([0, 0, 0, 0]), np.array([0, 0, 0, 1]))
        0.5
    """
    is_right = answers == labels
    return float(np.mean([np.mean(is_right[labels == label]) for label in np.unique(labels)]))


records = partial(read, "trust", place_by(dataset=DATASETS, contender=CONTENDERS))


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as Markdown tables: all shares, then the differences to the network."""
    parts = [markdown_table(map(_row, records))]
    gaps = differences(records)
    if gaps:
        parts += [
            "The memory network against each other contender, over all datasets and conditions.",
            markdown_table(_summaries(gaps)),
            f"Where it is more than {_CLOSE} points below 7-NN.",
            _behind(gaps),
        ]
    return "\n\n".join(parts)


def _row(record: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {
        "dataset": _title(record["dataset"]),
        "contender": record["contender"],
    }
    for kind in CONDITIONS:
        shares = [run["accuracy"][kind] for run in record["runs"] if kind in run["accuracy"]]
        row[f"{kind}, %"] = f"{100 * statistics.mean(shares):.1f}" if shares else ""
    kept = [number for run in record["runs"] for number in run["memories"].values() if number]
    return row | {"patterns kept": span(kept) if kept else "", "orders": len(record["runs"])}


def _title(dataset: str) -> str:
    return _IMAGES.get(dataset, dataset)


class Gap(NamedTuple):
    """How far the memory network is above another contender: shares, one for each order."""

    contender: str
    dataset: str
    condition: str
    shares: list[float]

    @property
    def points(self) -> float:
        """The mean."""
        return 100 * statistics.mean(self.shares)


def differences(records: list[dict[str, Any]]) -> list[Gap]:
    """Return how far the memory network is above the others, for each dataset and condition."""
    ours = {each["dataset"]: each for each in records if each["contender"] == _OURS}
    gaps = []
    for record in records:
        mine = ours.get(record["dataset"])
        if mine is None or mine is record:
            continue
        # The orders that both have learned.
        pairs = list(zip(field(mine, "accuracy"), field(record, "accuracy"), strict=False))
        for kind in pairs[0][0]:
            shares = [own[kind] - other[kind] for own, other in pairs]
            gaps.append(Gap(record["contender"], record["dataset"], kind, shares))
    return gaps


def _summaries(gaps: list[Gap]) -> list[dict[str, Any]]:
    rows = []
    for name in CONTENDERS:
        points = np.array([gap.points for gap in gaps if gap.contender == name])
        if len(points):
            rows.append(
                {
                    "contender": name,
                    f"more than {_CLOSE} points better": int(np.sum(points > _CLOSE)),
                    f"within {_CLOSE} points": int(np.sum(np.abs(points) <= _CLOSE)),
                    f"more than {_CLOSE} points worse": int(np.sum(points < -_CLOSE)),
                    "better by any margin": f"{np.sum(points > 0)} of {len(points)}",
                    "mean difference, points": f"{np.mean(points):+.1f}",
                    "worst difference, points": f"{np.min(points):+.1f}",
                }
            )
    return rows


def _behind(gaps: list[Gap]) -> str:
    rows = []
    for gap in gaps:
        if gap.contender == _NEIGHBOURS and gap.points < -_CLOSE:
            mean, deviation = spread(gap.shares)
            rows.append(
                {
                    "dataset": _title(gap.dataset),
                    "condition": gap.condition,
                    "difference, points (mean ± s.d.)": f"{mean:+.1f} ± {deviation:.1f}",
                }
            )
    return markdown_table(rows) if rows else "Nowhere."


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of the differences, one panel per contender and one dot per dataset."""
    gaps = differences(records)
    names = [name for name in CONTENDERS if any(gap.contender == name for gap in gaps)]
    drawn, places = panels(
        names,
        "memory network minus the other, points (mean over orders)",
        "",
        width=11.0,
        height=6.5,
        is_y_shared=True,
        num_columns=3,
    )
    kinds = list(CONDITIONS)
    for place, name in zip(places, names, strict=True):
        place.axvline(0, color="black", linewidth=0.8)
        for number, dataset in enumerate(DATASETS):
            mine = [gap for gap in gaps if (gap.contender, gap.dataset) == (name, dataset)]
            # A little apart, so that equal ones do not hide each other.
            heights = [kinds.index(gap.condition) + 0.07 * (number - 4) for gap in mine]
            look = style(number) | {"linestyle": "none", "markersize": 5, "alpha": 0.8}
            points = [gap.points for gap in mine]
            place.plot(points, heights, label=_title(dataset), **look)
    name_rows(places[0], kinds)
    legend(drawn, *places)
    return drawn


def main(arguments: list[str] | None = None) -> None:
    """Measure the contenders, print their rows and keep the records."""
    parser = options(__doc__, names=tuple(CONTENDERS))
    parser.add_argument("--dataset", choices=DATASETS, help="measure only this dataset")
    orders = "number of stream orders (default 5, 3 of images, 20 of the three smallest datasets)"
    parser.add_argument("--seeds", type=int, metavar="N", help=orders)
    chosen = parser.parse_args(arguments)
    only, seeds = ("iris", 1) if chosen.quick else (chosen.dataset, chosen.seeds)
    for dataset in (only,) if only else DATASETS:
        is_images = dataset in _IMAGES
        for name in (chosen.only,) if chosen.only else CONTENDERS:
            if is_images and name in _SLOW and not chosen.only:
                continue
            record = measure(dataset, name, seeds or _NUM_ORDERS.get(dataset, 5))
            publish(table, chosen.out, f"{dataset} {name}", record)


if __name__ == "__main__":
    main()
