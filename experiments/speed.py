"""How long memjax takes, beside the work that it cannot avoid.

    python -m experiments.speed [--only NAME] [--turns N] [--out FOLDER] [--plot FILE]

Every row is timed beside its reference in the same run, the two in turns, and gives the median of
the ratios; single times on a shared machine are noise. Memory is what the compiled program
allocates beside its arguments, results included, as the compiler states it; what it needs are the
memories, where they are written, one block, and its products.

The rows `predict` answer images by the five nearest of the very memories that the reference
searches. faiss only finds the six nearest (the sixth is the edge of the votes) and makes no answer
of them; both references are given the pixels as float32 and need not convert them. The rows
`online` learn the pixels of a stream's first examples; the reference is set as in the experiment
`peers`, and the threshold of the memory network is estimated before the clock starts.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

import memjax
from experiments import peers, sweeps
from experiments.figures import COLOURS, MARKERS, axes, legend
from experiments.records import RESULTS, flat, keep, read
from memjax import datasets
from memjax.command.machine import allocated_bytes
from memjax.exemplars import Exemplars
from memjax.projections import Decorrelation, RandomProjection

_FIT = jax.jit(memjax.fit, static_argnums=0)
_BLOCK = 256
_BATCH = 500


class Row(NamedTuple):
    """One line of the table; seconds and ratio are medians over the turns."""

    name: str
    seconds: float
    reference: str
    reference_seconds: float
    ratio: float
    operations: float  # floating-point operations of the products that memjax cannot avoid
    bytes: float  # what memories, one block and its products need
    peak_memory_bytes: float  # what the compiled program allocates, without its arguments
    detail: str


def fit_exact(turns: int, num_examples: int = 60_000, capacity: int = 8_192) -> Row:
    """Exact one-by-one learning of MNIST against the one matrix product it cannot avoid."""
    train = datasets.load("mnist", "train", seed=0)
    images = jnp.asarray(train.images[:num_examples])
    labels = jnp.asarray(train.labels[:num_examples])
    network, params = memjax.memory_network((28, 28, 1), 10, capacity=capacity, encoder="pixels")
    params = memjax.calibrate(network, params, train.images[:1000], train.labels[:1000])
    state = network.init(jax.random.key(0))
    sizes = []

    def fit():
        new_state, _ = memjax.fit(network, params, state, images, labels, _BLOCK)
        sizes.append(int(new_state[1].size))

    memories = jnp.asarray(np.random.default_rng(0).random((capacity, 784), np.float32))
    blocks = images[: num_examples // _BLOCK * _BLOCK].reshape(-1, _BLOCK, 784)
    seconds, reference_seconds, ratio = in_turns(
        fit, lambda: bare_product(memories, blocks).block_until_ready(), turns
    )
    return Row(
        "fit_exact", seconds, "bare matrix product", reference_seconds, ratio,
        2.0 * num_examples * capacity * 784, _learning_bytes(capacity, 784),
        allocated_bytes(_FIT, network, params, state, images, labels),
        f"{num_examples:,} images, {sizes[-1]:,} of {capacity:,} memories used, blocks of {_BLOCK}",
    )  # fmt: skip


def sweep_16(turns: int, num_examples: int = 5_000, capacity: int = 1_000) -> Row:
    """Sixteen thresholds in one ``jax.vmap(fit)`` over the devices against sixteen single fits."""
    train = datasets.load("mnist", "train", seed=0)
    images = jnp.asarray(train.images[:num_examples])
    labels = jnp.asarray(train.labels[:num_examples])
    network, params = memjax.memory_network((28, 28, 1), 10, capacity=capacity)
    params = memjax.calibrate(network, params, train.images[:1000], train.labels[:1000])
    state = network.init(jax.random.key(0))
    thresholds = params[1].novelty_threshold * jnp.linspace(0.5, 2.0, 16)
    members = [memjax.replace_params(params, novelty_threshold=t) for t in thresholds]
    swept = jax.tree.map(lambda *numbers: jnp.stack(numbers), *members)
    mesh = sweeps.mesh_of(len(members))
    by_member, whole = PartitionSpec("member"), PartitionSpec()
    sweep = jax.jit(
        jax.shard_map(
            jax.vmap(partial(memjax.fit, network), in_axes=(0, None, None, None)),
            mesh=mesh,
            in_specs=(by_member, whole, whole, whole),
            out_specs=by_member,
            check_vma=False,
        )
    )

    def all_at_once():
        jax.block_until_ready(sweep(swept, state, images, labels))

    def one_by_one():
        for member in members:
            jax.block_until_ready(memjax.fit(network, member, state, images, labels))

    seconds, reference_seconds, ratio = in_turns(all_at_once, one_by_one, turns)
    # The compiler states what one device allocates.
    peak = mesh.size * allocated_bytes(sweep, swept, state, images, labels)
    features = network.layers[0].output_shape[0]
    needed = 16 * 4 * (capacity * features + capacity * _BLOCK)
    return Row(
        "sweep_16", seconds, "sixteen single fits", reference_seconds, ratio,
        16 * 2.0 * num_examples * capacity * features, needed, peak,
        f"{num_examples:,} images, capacity {capacity:,}, edges, over {mesh.size} "
        f"{jax.default_backend().upper()} devices",
    )  # fmt: skip


def fit_columnar(
    turns: int, dataset: str = "mnist", num_examples: int = 2_048, size: str = "medium"
) -> Row:
    """Learning by the columnar network against its products at the machine's matrix rate.

    Timed on examples after the critical periods, with a state that has learned 4,096.
    """
    train = datasets.load(dataset, "train", seed=0)
    height, width, channels = train.images.shape[1:]
    network, params = memjax.columnar_network((height, width, channels), 10, size=size)
    assert isinstance(network, memjax.Chain)
    state = network.init(jax.random.key(0))
    state, _ = memjax.fit(network, params, state, train.images[:4096], train.labels[:4096], _BLOCK)
    rows = slice(4096, 4096 + num_examples)
    images, labels = jnp.asarray(train.images[rows]), jnp.asarray(train.labels[rows])
    blocks = (images.reshape(-1, _BLOCK, *images.shape[1:]), labels.reshape(-1, _BLOCK))

    @jax.jit
    def learn(state):
        def block(state, rows):
            return network.step_block(params, state, *rows)[0], None

        return jax.lax.scan(block, state, blocks)[0]

    operations = float(num_examples * _products(network))
    square = jnp.ones((4096, 4096), jnp.float32)
    multiply = jax.jit(lambda a: jnp.matmul(a, a, precision=jax.lax.Precision.HIGHEST))
    repeats = max(round(operations / (2 * 4096**3)), 1)

    def at_the_matrix_rate():
        for _ in range(repeats):
            multiply(square).block_until_ready()

    seconds, reference_seconds, _ = in_turns(
        lambda: jax.block_until_ready(learn(state)), at_the_matrix_rate, turns
    )
    reference_seconds *= operations / (repeats * 2 * 4096**3)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    return Row(
        f"fit_columnar_{dataset}", seconds, "its products at the matrix rate", reference_seconds,
        seconds / reference_seconds, operations, held,
        allocated_bytes(learn, state),
        f"{num_examples:,} images, size {size}, {operations / num_examples / 1e6:.0f} MFLOP each",
    )  # fmt: skip


def _products(layer: memjax.Layer) -> int:
    """Return the floating-point operations of the products that one lesson needs, by hand."""
    if isinstance(layer, memjax.Chain):
        return sum(map(_products, layer.layers))
    if isinstance(layer, memjax.Concatenate):
        return sum(map(_products, layer.members))
    if isinstance(layer, memjax.Fixations):
        columns, looks = layer.columns, layer.num_per_side**2
        pixels = columns.patch**2 * columns.image_shape[2]
        seen = columns.dimensions or pixels
        decorrelation = pixels * seen if columns.dimensions else 0
        return 2 * columns.places**2 * looks * (decorrelation + seen * columns.capacity)
    if isinstance(layer, memjax.RidgeReadout):
        number = layer.num_features
        return number * (number + 1) + 2 * number * layer.num_classes  # half of a symmetric matrix
    (takes,), (gives,) = layer.input_shape[-1:], layer.output_shape[-1:]
    is_product = isinstance(layer, RandomProjection | Decorrelation | Exemplars)
    return 2 * takes * gives if is_product else 0


def predict(
    turns: int,
    peer: str,
    dataset: str = "mnist",
    num_queries: int = 10_000,
    capacity: int = 8_192,
    num_neighbours: int = 5,
) -> Row:
    """Answers by the nearest memories against the search of a peer, "faiss" or "sklearn"."""
    train = datasets.load(dataset, "train", seed=0)
    memories, labels = train.images[:capacity], train.labels[:capacity]
    queries = train.images[-num_queries:]
    height, width, channels = train.images.shape[1:]
    network, params = memjax.memory_network(
        (height, width, channels), train.num_classes, capacity=capacity, encoder="pixels",
        novelty_threshold=0.0, num_neighbours=num_neighbours,
    )  # fmt: skip
    # At a threshold of 0 every image that is not yet stored is.
    state, _ = memjax.fit(network, params, network.init(jax.random.key(0)), memories, labels)
    xs = flat(queries)
    references = {
        "faiss": ("faiss IndexFlatL2", _faiss_search),
        "sklearn": ("scikit-learn, brute", _sklearn_answers),
    }
    title, build = references[peer]
    search = build(flat(memories), labels, num_neighbours)
    seconds, reference_seconds, ratio = in_turns(
        lambda: memjax.predict(network, params, state, queries, _BATCH),
        lambda: search(xs),
        turns,
    )
    batch = queries[:_BATCH]
    recall = jax.jit(type(network).recall_block, static_argnums=0)
    needed = 4 * (batch.size + len(batch) * capacity)
    return Row(
        f"predict_{peer}", seconds, title, reference_seconds, ratio,
        2.0 * num_queries * capacity * xs.shape[1], needed,
        allocated_bytes(recall, network, params, state, batch),
        f"{num_queries:,} images, {int(state[1].size):,} memories, {num_neighbours} neighbours",
    )  # fmt: skip


def _faiss_search(memories: np.ndarray, labels: np.ndarray, num_neighbours: int):
    from faiss import IndexFlatL2

    del labels
    index: Any = IndexFlatL2(memories.shape[1])
    index.add(memories)
    return lambda xs: index.search(xs, num_neighbours + 1)


def _sklearn_answers(memories: np.ndarray, labels: np.ndarray, num_neighbours: int):
    from sklearn.neighbors import KNeighborsClassifier

    return KNeighborsClassifier(num_neighbours, algorithm="brute").fit(memories, labels).predict


def online(
    turns: int, peer: str, method: str, dataset: str = "mnist", num_examples: int = 2_000
) -> Row:
    """Learning of a stream's first examples against a method of the experiment ``peers``."""
    train = datasets.load(dataset, "train", seed=0)
    first = train._replace(images=train.images[:num_examples], labels=train.labels[:num_examples])
    height, width, channels = train.images.shape[1:]
    network, params = memjax.memory_network(
        (height, width, channels), train.num_classes, encoder="pixels"
    )
    params = memjax.calibrate(network, params, first.images[:1000], first.labels[:1000])
    state = network.init(jax.random.key(0))
    sizes = []

    def fit():
        new_state, _ = memjax.fit(network, params, state, first.images, first.labels, _BLOCK)
        sizes.append(int(new_state[1].size))

    seconds, reference_seconds, ratio = in_turns(
        fit, lambda: peers.METHODS[method].learn(first), turns
    )
    capacity, features = state[1].prototypes.shape
    rates = [len(first.labels) / each for each in (seconds, reference_seconds)]
    return Row(
        f"online_{peer}", seconds, method.split(",")[0], reference_seconds, ratio,
        2.0 * len(first.labels) * capacity * features, _learning_bytes(capacity, features),
        allocated_bytes(_FIT, network, params, state, first.images, first.labels),
        f"{len(first.labels):,} images, {sizes[-1]:,} of {capacity:,} memories used, "
        f"{rates[0]:,.0f} against {rates[1]:,.0f} a second",
    )  # fmt: skip


ROWS: dict[str, Callable[[int], Row]] = {
    "fit_exact": fit_exact,
    "fit_columnar_mnist": fit_columnar,
    "fit_columnar_cifar10": partial(fit_columnar, dataset="cifar10"),
    "sweep_16": sweep_16,
    "predict_faiss": partial(predict, peer="faiss"),
    "predict_sklearn": partial(predict, peer="sklearn"),
    "online_artmap": partial(online, peer="artmap", method="FuzzyARTMAP, 2,000 examples"),
    "online_river": partial(online, peer="river", method="river KNN graph, 2,000 examples"),
}


def _learning_bytes(capacity: int, features: int) -> float:
    """Return what learning needs: memories, one block, its distances to them and to itself."""
    return 4 * (capacity * features + _BLOCK * features + capacity * _BLOCK + _BLOCK * _BLOCK)


@jax.jit
def bare_product(memories: jax.Array, blocks: jax.Array) -> jax.Array:
    """Multiply memories [K, D] and every block [B, D] of numbers 0 to 255; return a sum of few."""

    def multiply(total, images):
        xs = images.astype(jnp.float32) / 255
        product = jnp.matmul(memories, xs.T, precision=jax.lax.Precision.HIGHEST)
        # Two entries are kept, so that the product cannot be left out.
        return total + product[0, 0] + product[-1, -1], None

    return jax.lax.scan(multiply, jnp.zeros(()), blocks)[0]


def in_turns(run: Callable[[], Any], reference: Callable[[], Any], turns: int):
    """Return the median seconds of both and the median of their ratios, after one call of each."""
    run()
    reference()
    pairs = [(_seconds(run), _seconds(reference)) for _ in range(turns)]
    mine, theirs = (statistics.median(times) for times in zip(*pairs, strict=True))
    return mine, theirs, statistics.median(mine / theirs for mine, theirs in pairs)


def _seconds(run: Callable[[], Any]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main(arguments: list[str] | None = None) -> None:
    """Measure the rows, print the table and keep the records."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--only", choices=tuple(ROWS), help="measure one row")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="keep the records in FOLDER")
    parser.add_argument("--turns", type=int, default=5, help="timings of each (default 5)")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw cost against work into FILE"
    )
    options = parser.parse_args(arguments)
    names = [options.only] if options.only else list(ROWS)
    measured = []
    for name in names:
        command = f"python -m experiments.speed --only {name} --turns {options.turns}"
        record = ROWS[name](options.turns)._asdict() | {"command": command, "seed": 0}
        print(table([record]).splitlines()[-1], flush=True)
        keep(options.out, name, record)
        measured.append(record)
    if options.plot:
        figure(measured).savefig(options.plot)


def records() -> list[dict[str, Any]]:
    """Return the records of the repository."""
    return read(RESULTS / "speed", lambda record: list(ROWS).index(record["name"]))


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table."""
    lines = [
        "| row | GFLOP | s | reference | its s | ratio | peak memory over needed |",
        "|---|---|---|---|---|---|---|",
    ]
    for record in records:
        lines.append(
            f"| `{record['name']}`: {record['detail']} | {record['operations'] / 1e9:,.0f} | "
            f"{record['seconds']:.2f} | {record['reference']} | "
            f"{record['reference_seconds']:.2f} | {_ratio(record)} | "
            f"{record['peak_memory_bytes'] / record['bytes']:.2f} |"
        )
    return "\n".join(lines)


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of cost against work: seconds over the operations of each row.

    A hollow mark is what the row is compared with. The dashed line is what the bare product takes,
    by the reference of ``fit_exact``. Both scales are logarithmic.
    """
    drawn, place = axes("operations that cannot be avoided, GFLOP", "s", width=8.0)
    for index, record in enumerate(records):
        style = {
            "color": COLOURS[index % len(COLOURS)],
            "marker": MARKERS[(index + index // len(COLOURS)) % len(MARKERS)],
            "linestyle": "none",
            "markersize": 8,
        }
        work = record["operations"] / 1e9
        place.plot(work, record["seconds"], label=record["name"], **style)
        place.plot(work, record["reference_seconds"], fillstyle="none", **style)
        times = record["seconds"], record["reference_seconds"]
        place.plot([work, work], times, color=style["color"], alpha=0.4)
    place.plot([], [], "o", color=COLOURS[-1], fillstyle="none", label="its reference")
    for record in records:
        if record["name"] == "fit_exact":
            rate = record["operations"] / 1e9 / record["reference_seconds"]
            ends = np.array([record["operations"] / 1e11, record["operations"] / 1e9])
            place.plot(ends, ends / rate, "--", color=COLOURS[-1], label="the bare product")
    place.set_xscale("log")
    place.set_yscale("log")
    place.xaxis.set_major_formatter("{x:g}")
    place.yaxis.set_major_formatter("{x:g}")
    legend(drawn, place)
    return drawn


def _ratio(record: dict[str, Any]) -> str:
    """Return two decimals, or two digits of what is smaller."""
    return f"{record['ratio']:.2f}" if record["ratio"] >= 0.1 else f"{record['ratio']:.2g}"


if __name__ == "__main__":
    sweeps.use_all_cores()
    main()
