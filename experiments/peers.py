"""What users get from the methods that they would pick instead.

    python -m experiments.peers [--dataset NAME] [--only METHOD] [--seeds N]
                                [--split test|validation] [--out FOLDER] [--quick]

The networks of memjax stand beside the usual methods for the same task. All learn the same images
on the same machine, one method after the other in one process. A method either passes once over the
data and keeps a summary, or stores every example, or is trained by backpropagation.

**Data.** All methods learn the raw images in the order of the stream. Methods that are too slow for
all examples learn the first 2,000, and exact search in river answers only 500. The table states how
many were learned and tested. The row "memory network, 2,000 examples" learns the very same
examples, and a second table compares the speeds.

**Seconds.** The wall time of learning, from images in memory, and of answering the whole test part;
medians over the orders. The time in which JAX traces and compiles its programs is not included. A
fresh process pays it once; for learning it stands in brackets. Packages are imported before the
clock starts. Exact search in river only stores when it learns, as other nearest neighbours do; its
work comes with the answers.

**Bytes.** *Kept* is what an answer reads: all the memories there is room for, weights, stored
examples. *To learn on* is what a learner also holds while the stream goes on: sums, the moments of
an optimiser, or the images themselves if they are seen again. The dictionaries of river are counted
as packed numbers of eight bytes, which is less than they take.

**Work.** Millijoules of the processor per example if Linux tells them (RAPL counters, which see all
that runs on the machine), else floating-point operations. `experiments.costs` counts those of
memjax and of backpropagation in the program of one step; work that an example seldom asks for is
not among them. Those of the other methods follow formulas, with two operations for each number in a
product. Several passes over an example add up. The solution of a ridge at the end is left out, and
so is all that depends on the examples (the learning of FuzzyARTMAP, the graph of river).

**Settings** were chosen on validation rows of both datasets, after 10,000 examples (20,000 for the
ridge, with 2,000 units, and for k-means; 1,000 or 2,000 for FuzzyARTMAP). These settings were
chosen: the loss and the penalty of SGD; the scale of random biases; rectified units on raw pixels
(within 0.2 points of the best sigmoids, which the authors of the receptive fields used); the ridge;
vigilance, choice parameter and match tracking of FuzzyARTMAP; and the learning rates for one pass
of backpropagation. Ten passes start from the usual 0.001. k-means has as many centres as the memory
network has memories, since fewer did worse. The networks of memjax have their defaults, which were
chosen on the same validation rows.

**Chance.** A method that depends on the order or on drawn weights is repeated over stream orders,
as often as it is cheap. The others are measured once. A share of 500 examples has a standard error
of up to 2.2 points.
"""

import contextlib
import importlib
import math
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.linalg

import memjax
from experiments import backprop
from experiments.costs import count
from experiments.figures import dataset_panels, legend, style
from experiments.records import (
    TITLES,
    Build,
    field,
    flat,
    learn,
    load,
    markdown_table,
    options,
    percent,
    place_by,
    publish,
    read,
)
from memjax.command.machine import compile_seconds
from memjax.datasets import Dataset
from memjax.readouts import RidgeState

FAMILIES = ("memjax", "one pass", "stores every example", "backpropagation")
"""The kinds of methods, in the order of the legend."""

_BLOCK = 1000
_PART = 2000
_POWERCAP = Path("/sys/class/powercap")


class Learned(NamedTuple):
    """What a method has learned."""

    answer: Callable[[np.ndarray], np.ndarray]  # images [N, H, W, channels] to labels [N]
    kept: Any  # the arrays that an answer reads
    held: Any  # the other arrays that are needed to learn on
    num_memories: int | None  # None if nothing stands for examples
    # Returns the floating-point operations to learn one example, in all passes, and to recall one.
    # It is called once the clock has stopped.
    operations: Callable[[], tuple[float | None, float | None]]
    train_accuracy: float | None = None  # None if learning does not tell it


class Method(NamedTuple):
    """How a method learns, and on what."""

    learn: Callable[[Dataset], Learned]
    family: str
    package: str
    passes: int = 1
    uses_convolution: bool = False
    most_orders: int = 5  # 1 if neither order nor chance matters; fewer if runs are long
    most_train: int | None = None  # examples that are learned at most; None for all
    most_test: int | None = None


def _memory_network(train: Dataset) -> Learned:
    return _memjax(train, memjax.memory_network)


def _columnar_network(train: Dataset, size: str) -> Learned:
    return _memjax(train, partial(memjax.columnar_network, size=size))


def _memjax(train: Dataset, build: Build) -> Learned:
    network, params, state = learn(build, train)

    def is_readout(node):
        return isinstance(node, RidgeState)

    nodes = jax.tree.leaves(state, is_leaf=is_readout)
    sums = [node._replace(weights=(), bias=()) for node in nodes if is_readout(node)]
    kept = [(node.weights, node.bias) if is_readout(node) else node for node in nodes]
    image, label = jnp.asarray(train.images[0]), jnp.int32(0)
    return Learned(
        lambda images: memjax.predict(network, params, state, images),
        kept,
        sums,
        memjax.num_memories(network, state),
        lambda: (
            count(network.step, params, state, image, label).operations,
            count(network.recall, params, state, image).operations,
        ),
    )


def _nearest_neighbours(train: Dataset, number: int) -> Learned:
    from sklearn.neighbors import KNeighborsClassifier

    xs = flat(train.images)
    model = KNeighborsClassifier(number, algorithm="brute").fit(xs, train.labels)
    return Learned(
        _of_pixels(model.predict), (xs, train.labels), (), len(xs), lambda: (0.0, 2.0 * xs.size)
    )


def _nearest_centroid(train: Dataset) -> Learned:
    from sklearn.neighbors import NearestCentroid

    xs = flat(train.images)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # pixels of the border never change
        model = NearestCentroid().fit(xs, train.labels)
    centroids = model.centroids_
    return Learned(
        _of_pixels(model.predict), centroids, (), len(centroids),
        lambda: (float(xs.shape[1]), 2.0 * centroids.size),
    )  # fmt: skip


def _linear(train: Dataset) -> Learned:
    from sklearn.linear_model import SGDClassifier

    model = SGDClassifier(loss="log_loss", alpha=1e-5, average=True, random_state=train.seed)
    classes = np.arange(train.num_classes)
    for rows in _blocks(len(train.labels)):
        model.partial_fit(flat(train.images[rows]), train.labels[rows], classes=classes)
    coefficients = np.asarray(model.coef_)
    weights = (coefficients, model.intercept_)
    # An answer, a change and a running mean of the weights, two operations for each weight.
    return Learned(
        _of_pixels(model.predict), weights, weights, None,
        lambda: (6.0 * coefficients.size, 2.0 * coefficients.size),
    )  # fmt: skip


def _k_means(train: Dataset, number: int) -> Learned:
    """Learn the centres of one class after the other, in blocks; the nearest centre answers.

    The centres of a class start from its first block, and are at most half as many as its rows.
    """
    from sklearn.cluster import MiniBatchKMeans
    from sklearn.neighbors import KNeighborsClassifier
    from threadpoolctl import threadpool_limits

    centres, labels = [], []
    for label in range(train.num_classes):
        images = train.images[train.labels == label]
        first, *others = _blocks(len(images))
        count = min(number, len(images[first]) // 2)
        model = MiniBatchKMeans(count, random_state=train.seed)
        # Blocks are small: several threads would wait for one another most of the time.
        with threadpool_limits(1):
            for rows in (first, *others):
                model.partial_fit(flat(images[rows]))
        centres.append(model.cluster_centers_)
        labels.append(np.full(count, label))
    kept = (np.concatenate(centres), np.concatenate(labels))
    nearest = KNeighborsClassifier(1, algorithm="brute").fit(*kept)
    per_class = kept[0].size / train.num_classes
    return Learned(
        _of_pixels(nearest.predict), kept, (), len(kept[1]),
        lambda: (2.0 * per_class, 2.0 * kept[0].size),
    )  # fmt: skip


def _random_features(train: Dataset, number: int, ridge: dict[str, float]) -> Learned:
    """Draw weights of whole images, and biases; read the ReLU units out by ridge regression."""
    generator = np.random.default_rng(train.seed)
    units = min(number, len(train.labels) // 2)
    size = math.prod(train.images.shape[1:])
    weights = generator.standard_normal((size, units)) / math.sqrt(size)
    return _read_out(train, weights, 0.15 * generator.standard_normal(units), ridge)


def _receptive_fields(train: Dataset, number: int, ridge: dict[str, float]) -> Learned:
    """Draw weights in random rectangles; read the ReLU units out by ridge regression."""
    units = min(number, len(train.labels) // 2)
    weights = receptive_fields(
        np.random.default_rng(train.seed), train.images.shape[1:], units, least_area=10
    )
    return _read_out(train, weights, np.zeros(units), ridge)


def receptive_fields(
    generator: np.random.Generator, image_shape: tuple[int, ...], number: int, least_area: int
) -> np.ndarray:
    """Return weights [H * W * channels, number]: each column is normal in one rectangle, length 1.

    Args:
        generator: of the draws.
        image_shape: (H, W, channels).
        number: of units.
        least_area: in pixels; smaller rectangles are drawn again.

    Source: McDonnell et al. (2015), "Fast, simple and accurate handwritten digit classification by
    training shallow neural network classifiers with the 'extreme learning machine' algorithm".
    """
    height, width, _ = image_shape
    weights = np.zeros((number, *image_shape))
    for unit in weights:
        area = 0
        while area < least_area:
            top, bottom = np.sort(generator.integers(0, height + 1, 2))
            left, right = np.sort(generator.integers(0, width + 1, 2))
            area = (bottom - top) * (right - left)
        field = unit[top:bottom, left:right]
        field[:] = generator.standard_normal(field.shape)
        field /= np.linalg.norm(field)
    return weights.reshape(number, -1).T


def _read_out(
    train: Dataset, weights: np.ndarray, biases: np.ndarray, ridge: dict[str, float]
) -> Learned:
    """Sum the products of ReLU units block by block, and solve for the weights once at the end.

    The penalty is the dataset's ``ridge`` times the mean square of a unit.
    """
    weights, biases = weights.astype(np.float32), biases.astype(np.float32)
    units = len(biases)
    gram = np.zeros((units + 1, units + 1), np.float32)
    cross = np.zeros((units + 1, train.num_classes), np.float32)

    def code(images):
        rectified = np.maximum(flat(images) @ weights + biases, 0)
        return np.concatenate([rectified, np.ones((len(images), 1), np.float32)], axis=1)

    targets = np.eye(train.num_classes, dtype=np.float32)
    for rows in _blocks(len(train.labels)):
        codes = code(train.images[rows])
        gram += codes.T @ codes
        cross += codes.T @ targets[train.labels[rows]]
    penalised = gram.astype(np.float64)
    penalised[np.diag_indices(units + 1)] += ridge[train.name] * np.trace(penalised) / (units + 1)
    solved = scipy.linalg.solve(penalised, cross.astype(np.float64), assume_a="pos")
    solved = solved.astype(np.float32)
    coding, reading = 2.0 * weights.size, 2.0 * solved.size

    def answer(images):
        blocks = (code(images[rows]) for rows in _blocks(len(images)))
        return np.concatenate([np.argmax(codes @ solved, axis=1) for codes in blocks])

    return Learned(
        answer,
        (weights, biases, solved),
        (gram, cross),
        None,
        # The product of the units is symmetric, so half of it is enough.
        lambda: (coding + units**2 + 2.0 * cross.size, coding + reading),
    )


def _fuzzy_artmap(train: Dataset, vigilance: dict[str, float]) -> Learned:
    """Learn hyperboxes of complement-coded pixels, by artlib's fast implementation in C++."""
    from artlib import FuzzyARTMAP

    def code(xs):
        return np.concatenate([xs, 1 - xs], axis=1)

    model: Any = FuzzyARTMAP(rho=vigilance[train.name], alpha=10.0, beta=1.0)
    model.partial_fit(code(flat(train.images)), train.labels, match_tracking="MT-")
    boxes, labels = np.stack(model.module_a.W), np.array(list(model.map.values()))
    return Learned(
        _of_pixels(lambda xs: model.predict(code(xs))),
        (boxes, labels),
        (),
        len(labels),
        lambda: (None, 2.0 * boxes.size),  # a minimum and a sum for each number
    )


def _river(train: Dataset, is_exact: bool) -> Learned:
    """Store every example, in a window or in a graph that is searched approximately."""
    from river import neighbors

    count = len(train.labels)
    engine = (
        neighbors.LazySearch(window_size=count)
        if is_exact
        else neighbors.SWINN(maxlen=count, seed=train.seed)
    )
    model = neighbors.KNNClassifier(n_neighbors=3, engine=engine)
    for x, label in zip(dictionaries(train.images), train.labels.tolist(), strict=True):
        model.learn_one(x, label)
    size = train.images[0].size
    return Learned(
        lambda images: np.array([model.predict_one(x) for x in dictionaries(images)]),
        np.zeros((count, size + 1)),
        (),
        count,
        # A difference, its square and a sum for each number.
        lambda: (0.0, 3.0 * count * size) if is_exact else (None, None),
    )


def dictionaries(images: np.ndarray) -> Iterator[dict[Any, float]]:
    """Yield each image as river takes it: a dictionary from pixel to value."""
    return (dict(enumerate(x.tolist())) for x in flat(images))


def _backpropagation(train: Dataset, kind: str, epochs: int, learning_rate: float) -> Learned:
    trained = backprop.train(kind, train, epochs, learning_rate)
    network: Any = trained.network
    images = train.images[: backprop.BATCH]
    labels = np.asarray(train.labels[: backprop.BATCH], np.int32)
    optimiser = optax.adam(learning_rate)
    state = optimiser.init(network)

    def operations():
        step = count(partial(backprop.step, optimiser), network, state, images, labels)
        recall = count(backprop.logits, network, images[:1])
        return epochs * step.operations / len(labels), recall.operations

    moments = (network, network)  # Adam's two have the same shapes
    return Learned(
        partial(backprop.predict, trained),
        network,
        (moments, train.images if epochs > 1 else ()),
        None,
        operations,
        trained.train_accuracy,
    )


def _of_pixels(answer: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda images: answer(flat(images))


def _blocks(count: int) -> list[slice]:
    return [slice(start, start + _BLOCK) for start in range(0, count, _BLOCK)]


_OWN, _PASS, _STORE, _BACK = FAMILIES
_RIDGE = {"digits": 1e-3, "mnist": 1e-3, "fashion_mnist": 1e-3, "cifar10": 1e-2}
_VIGILANCE = {"digits": 0.85, "mnist": 0.85, "fashion_mnist": 0.85, "cifar10": 0.0}
_EQUAL = f"memory network, {_PART:,} examples"

METHODS = {
    "memory network": Method(_memory_network, _OWN, "memjax"),
    "columnar network, small": Method(
        partial(_columnar_network, size="small"), _OWN, "memjax", most_orders=3
    ),
    "columnar network, medium": Method(
        partial(_columnar_network, size="medium"), _OWN, "memjax", most_orders=1
    ),
    "nearest centroid": Method(_nearest_centroid, _PASS, "sklearn", most_orders=1),
    "linear, averaged SGD": Method(_linear, _PASS, "sklearn"),
    "k-means per class + 1-NN": Method(partial(_k_means, number=300), _PASS, "sklearn"),
    "random ReLU + ridge": Method(
        partial(_random_features, number=5000, ridge=_RIDGE), _PASS, "numpy", most_orders=3
    ),
    "receptive fields + ridge": Method(
        partial(_receptive_fields, number=5000, ridge=_RIDGE), _PASS, "numpy", most_orders=3
    ),
    "1-NN": Method(partial(_nearest_neighbours, number=1), _STORE, "sklearn", most_orders=1),
    "3-NN": Method(partial(_nearest_neighbours, number=3), _STORE, "sklearn", most_orders=1),
    "MLP, 1 pass": Method(
        partial(_backpropagation, kind="mlp", epochs=1, learning_rate=2e-3), _BACK, "optax"
    ),
    "MLP, 10 passes": Method(
        partial(_backpropagation, kind="mlp", epochs=10, learning_rate=1e-3),
        _BACK,
        "optax",
        passes=10,
        most_orders=1,
    ),
    "CNN, 1 pass": Method(
        partial(_backpropagation, kind="cnn", epochs=1, learning_rate=2e-3),
        _BACK,
        "optax",
        uses_convolution=True,
        most_orders=1,
    ),
    "CNN, 10 passes": Method(
        partial(_backpropagation, kind="cnn", epochs=10, learning_rate=1e-3),
        _BACK,
        "optax",
        passes=10,
        uses_convolution=True,
        most_orders=1,
    ),
    _EQUAL: Method(_memory_network, _OWN, "memjax", most_train=_PART),
    f"FuzzyARTMAP, {_PART:,} examples": Method(
        partial(_fuzzy_artmap, vigilance=_VIGILANCE), _PASS, "artlib", most_train=_PART
    ),
    f"river KNN exact, {_PART:,} examples": Method(
        partial(_river, is_exact=True),
        _STORE,
        "river",
        most_orders=1,
        most_train=_PART,
        most_test=500,
    ),
    f"river KNN graph, {_PART:,} examples": Method(
        partial(_river, is_exact=False), _STORE, "river", most_orders=1, most_train=_PART
    ),
}
"""The methods by name, in the order of the table."""

QUICK = tuple(
    name
    for name in METHODS
    if name
    not in ("columnar network, medium", "3-NN", "MLP, 1 pass", "CNN, 1 pass", "CNN, 10 passes")
)
"""What ``--quick`` runs: one method of each kind, without convolutions, which compile slowly."""


def measure(dataset: str, name: str, split: str, seeds: int) -> dict[str, Any]:
    """Return the record of one method on one dataset.

    Args:
        dataset: what is learned.
        name: one of ``METHODS``.
        split: "test" or "validation"; the validation split is then not learned.
        seeds: the number of stream orders; a method may have a limit of its own.
    """
    method = METHODS[name]
    package = importlib.import_module(method.package)  # before the clock starts
    runs = [_run(method, dataset, split, seed) for seed in range(min(seeds, method.most_orders))]
    return {
        "dataset": dataset,
        "method": name,
        "family": method.family,
        "package": f"{method.package} {package.__version__}",
        "passes": method.passes,
        "is_one_pass": method.passes == 1,
        "uses_backpropagation": method.family == _BACK,
        "uses_convolution": method.uses_convolution,
        "split": split,
        "command": f"python -m experiments.peers --dataset {dataset} --only '{name}' "
        f"--seeds {seeds} --split {split}",
        "runs": runs,
    }


def _run(method: Method, dataset: str, split: str, seed: int) -> dict[str, Any]:
    train, test = load(dataset, split, seed)
    train, test = _first(train, method.most_train), _first(test, method.most_test)
    learned, fit = _clocked(lambda: method.learn(train))
    answers, recall = _clocked(lambda: learned.answer(test.images))
    learn_operations, recall_operations = learned.operations()
    return {
        "seed": seed,
        "accuracy": float(np.mean(answers == test.labels)),
        "train_accuracy": learned.train_accuracy,
        "num_train": len(train.labels),
        "num_test": len(test.labels),
        "num_memories": learned.num_memories,
        "num_numbers": sum(leaf.size for leaf in jax.tree.leaves(learned.kept)),
        "kept_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(learned.kept)),
        "held_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(learned.held)),
        "learn_operations": learn_operations,
        "recall_operations": recall_operations,
        **{f"fit_{name}": value for name, value in fit.items()},
        **{f"predict_{name}": value for name, value in recall.items()},
    }


def _first(rows: Dataset, most: int | None) -> Dataset:
    return rows._replace(images=rows.images[:most], labels=rows.labels[:most])


def _clocked(work: Callable[[], Any]) -> tuple[Any, dict[str, float | None]]:
    """Return a result, and the seconds and joules that it took; compilation counts separately."""
    before, start = read_energy(_POWERCAP), time.perf_counter()
    with compile_seconds() as compiling:
        result = work()
    seconds = time.perf_counter() - start
    return result, {
        "seconds": seconds - compiling.seconds,
        "compile_seconds": compiling.seconds,
        "joules": joules(before, read_energy(_POWERCAP)),
    }


def read_energy(folder: Path) -> list[tuple[int, int]]:
    """Return the energy counter of each processor package and its greatest value, in microjoules.

    The list is empty if the machine does not tell, or not to this user.

    Source: the Linux kernel's documentation of the power capping framework.
    """
    packages = []
    for zone in sorted(folder.glob("intel-rapl:*")):
        if zone.name.count(":") == 1:  # the parts of a package have two; its sum includes them
            with contextlib.suppress(OSError):
                names = ("energy_uj", "max_energy_range_uj")
                counter, greatest = (int((zone / name).read_text()) for name in names)
                packages.append((counter, greatest))
    return packages


def joules(before: Sequence[tuple[int, int]], after: Sequence[tuple[int, int]]) -> float | None:
    """Return the energy between two readings; None without counters.

    A counter that started again from 0 is taken to have done so once.

    Example:
        >>> joules([(7_000_000, 9_999_999)], [(2_000_000, 9_999_999)])
        5.0
    """
    if not before:
        return None
    pairs = zip(before, after, strict=True)
    return sum((now - then) % (greatest + 1) for (then, greatest), (now, _) in pairs) / 1e6


records = partial(read, "peers", place_by(dataset=TITLES, method=METHODS))


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table, and a second one if speeds can be compared."""
    parts = markdown_table(map(_row, records)), equal_data(records)
    return "\n\n".join(filter(None, parts))


def equal_data(records: list[dict[str, Any]]) -> str:
    """Return a Markdown table of the speeds of methods and the memory network on the same part.

    It is empty if the records have no such pair.
    """
    mine = {record["dataset"]: record for record in records if record["method"] == _EQUAL}
    rows = []
    for record in records:
        ours = mine.get(record["dataset"])
        if ours and ours is not record and METHODS[record["method"]].most_train == _PART:
            row = {"dataset": TITLES[record["dataset"]], "method": record["method"]}
            for verb, noun, number, seconds in (
                ("learns", "learning", "num_train", "fit_seconds"),
                ("answers", "answering", "num_test", "predict_seconds"),
            ):
                their_rate, our_rate = (
                    each["runs"][0][number] / _median(each, seconds) for each in (record, ours)
                )
                row[f"{verb} per second"] = f"{their_rate:,.0f}"
                row[f"memory network {verb} per second"] = f"{our_rate:,.0f}"
                row[f"ratio of {noun}"] = f"{our_rate / their_rate:.1f}"
            rows.append(row)
    return markdown_table(rows) if rows else ""


def _row(record: dict[str, Any]) -> dict[str, Any]:
    first, passes, fit = record["runs"][0], record["passes"], _median(record, "fit_seconds")
    how = {
        _OWN: "one pass",
        _PASS: "one pass",
        _STORE: "one pass, stores all",
        _BACK: f"backprop, {passes} pass" + ("es" if passes > 1 else ""),
    }[record["family"]] + (", convolution" if record["uses_convolution"] else "")
    memories = first["num_memories"]
    size = f"{memories:,} memories" if memories else f"{first['num_numbers']:,} numbers"
    return {
        "dataset": TITLES[record["dataset"]],
        "method": record["method"],
        "how": how,
        "accuracy, %": percent(field(record, "accuracy")),
        "learned": f"{first['num_train']:,}",
        "tested": f"{first['num_test']:,}",
        "memories or numbers": size,
        "kept, MB": _plain(first["kept_bytes"] / 1e6),
        "to learn on, MB": _plain(first["held_bytes"] / 1e6),
        "fit, s (compiling)": f"{fit:.2f} ({first['fit_compile_seconds']:.1f})",
        "answers, s": f"{_median(record, 'predict_seconds'):.2f}",
        "work per lesson": _work(first, "fit_joules", "num_train", "learn_operations"),
        "work per answer": _work(first, "predict_joules", "num_test", "recall_operations"),
        "orders": len(record["runs"]),
    }


def _work(run: dict[str, Any], energy: str, number: str, operations: str) -> str:
    """Return the energy per example if it is known, else the operations."""
    if run[energy] is not None:
        return f"{_plain(1000 * run[energy] / run[number])} mJ"
    return "" if run[operations] is None else f"{_plain(run[operations] / 1e6)} MFLOP"


def _plain(number: float) -> str:
    """Return three digits without an exponent."""
    return np.format_float_positional(number, precision=3, fractional=False, trim="-")


def _median(record: dict[str, Any], name: str) -> float:
    return statistics.median(field(record, name))


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of the errors over the bytes that are kept; one panel per dataset."""
    from matplotlib.ticker import FixedLocator, NullFormatter

    drawn, places, groups = dataset_panels(
        records, "kept to answer, MB", "errors, %", width=11, height=6
    )
    for place, mine in zip(places, groups, strict=True):
        place.set_xscale("log")
        place.set_yscale("log")
        points = []
        for number, family in enumerate(FAMILIES):
            members = [record for record in mine if record["family"] == family]
            xs = [record["runs"][0]["kept_bytes"] / 1e6 for record in members]
            ys = [100 - 100 * statistics.mean(field(record, "accuracy")) for record in members]
            place.scatter(xs, ys, label=family, **style(number))
            points += zip([record["method"] for record in members], xs, ys, strict=True)
        place.margins(0.2)
        # Less than a decade of errors would have one tick.
        place.yaxis.set_major_locator(FixedLocator([0.5, 1, 2, 5, 10, 20, 50]))
        place.yaxis.set_minor_formatter(NullFormatter())
        place.yaxis.set_major_formatter("{x:g}")
        place.xaxis.set_major_formatter("{x:g}")
        _name_points(drawn, place, points)
    legend(drawn, *places, is_above=True)
    return drawn


def _name_points(drawn: Any, place: Any, points: list[tuple[str, float, float]]) -> None:
    """Write each name beside its point, on the side where it covers the others least."""
    drawn.canvas.draw()  # fixes the layout, so that names know their places
    taken = [place.transData.transform(point[1:]) for point in points]
    boxes = [(x - 5, y - 5, x + 5, y + 5) for x, y in taken]
    sides = (
        (7, 0, "left", "center"),
        (-7, 0, "right", "center"),
        (0, 7, "center", "bottom"),
        (0, -7, "center", "top"),
    )
    for name, x, y in points:
        texts = [
            place.annotate(
                name, (x, y), (right, up), textcoords="offset points", ha=across, va=along,
                fontsize="x-small",
            )
            for right, up, across, along in sides
        ]  # fmt: skip
        extents = [text.get_window_extent().extents for text in texts]
        covered = [sum(_overlap(box, other) for other in boxes) for box in extents]
        best = covered.index(min(covered))
        boxes.append(extents[best])
        for text in texts[:best] + texts[best + 1 :]:
            text.remove()


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(width, 0) * max(height, 0)


def main(arguments: list[str] | None = None) -> None:
    """Measure the methods, print the table and keep the records."""
    parser = options(__doc__, names=tuple(METHODS), dataset="mnist", seeds=5)
    chosen = parser.parse_args(arguments)
    dataset, seeds = ("digits", 1) if chosen.quick else (chosen.dataset, chosen.seeds)
    names = [chosen.only] if chosen.only else QUICK if chosen.quick else METHODS
    measured = []
    for name in names:
        measured.append(measure(dataset, name, chosen.split, seeds))
        publish(table, chosen.out, f"{dataset} {name}", measured[-1])
    print(f"\n{table(measured)}")


if __name__ == "__main__":
    main()
