"""How long memjax takes, beside the work that it cannot avoid.

    python -m experiments.speed [--only NAME] [--turns N] [--out FOLDER] [--plot FILE] [--quick]

Every row is timed beside its reference in the same run, the two in turns, and gives the median of
the ratios. Single times on a shared machine are noise. Operations are those of the matrix products:
in the rows `fit_columnar` of all products in the program that is timed, in the others of the
products that cannot be avoided. Memory is what the compiled program allocates beside its arguments,
results included, as the compiler states it. It needs the memories that it writes, one block, and
the products of the block.

The rows `predict` answer images by the five nearest of the very memories that the reference
searches. faiss only finds the six nearest (the sixth is the edge of the votes) and gives no answer.
Both references get the pixels as float32 and need not convert them. The rows `sweep_vmap` train
memory networks with 1,000 memories of edges, or columnar networks of size small. Their members
share the images, or each has an order of its own. The rows `online` learn the pixels of the first
examples of a stream. The reference has the settings of the experiment `peers`, and the threshold of
the memory network is estimated before the clock starts. The rows `one_by_one` give the seconds for
one image, as half of the images took them at most. The rows `command` time whole processes with
what an earlier one has compiled; their memory is all that the process held.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
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
from experiments.costs import products
from experiments.figures import COLOURS, axes, legend, style
from experiments.records import flat, learn, markdown_table, options, place_by, publish, read
from memjax import datasets
from memjax.command._talk import SECONDS
from memjax.command.machine import allocated_bytes
from memjax.demo import answer, learn_first
from memjax.training import CALIBRATION_EXAMPLES

_FIT = jax.jit(memjax.fit, static_argnums=0)
_BLOCK = 256
_BATCH = 500
_SERVED = 300  # images in a turn of a row ``one_by_one``


class Row(NamedTuple):
    """One row of the table; the seconds and the ratio are medians over the turns."""

    name: str
    seconds: float
    reference: str
    reference_seconds: float
    ratio: float
    operations: float  # on floating-point numbers, in matrix products
    bytes: float  # needed for the memories, one block and its products
    peak_memory_bytes: float  # allocated by the compiled program, beside its arguments
    detail: str


def fit_exact(turns: int, num_examples: int = 60_000, capacity: int = 8_192) -> Row:
    """Exact one-by-one learning of MNIST, against the one matrix product that it cannot avoid."""
    train = _first(datasets.load("mnist", "train", seed=0), num_examples)
    images, labels = jnp.asarray(train.images), jnp.asarray(train.labels)
    network, params, state = _begin(train, capacity=capacity, encoder="pixels")
    sizes = []

    def fit():
        learned, _ = memjax.fit(network, params, state, images, labels, _BLOCK)
        sizes.append(memjax.num_memories(network, learned))

    memories = jnp.asarray(np.random.default_rng(0).random((capacity, 784), np.float32))
    blocks = images[: num_examples // _BLOCK * _BLOCK].reshape(-1, _BLOCK, 784)
    seconds, reference_seconds, ratio = in_turns(
        fit, lambda: bare_product(memories, blocks).block_until_ready(), turns
    )
    return Row(
        "fit_exact", seconds, "bare matrix product", reference_seconds, ratio,
        _product(num_examples, capacity, 784), _learning_bytes(capacity, 784),
        allocated_bytes(_FIT, network, params, state, images, labels),
        f"{num_examples:,} images, {sizes[-1]:,} of {capacity:,} memories used, blocks of {_BLOCK}",
    )  # fmt: skip


def sweep_16(turns: int, num_examples: int = 5_000, capacity: int = 1_000) -> Row:
    """Sixteen thresholds in one ``jax.vmap(fit)`` over the devices, against sixteen single fits."""
    train = _first(datasets.load("mnist", "train", seed=0), num_examples)
    images, labels = jnp.asarray(train.images), jnp.asarray(train.labels)
    network, params, state = _begin(train, capacity=capacity)
    members, swept = _members(params, 16, 2.0)
    mesh = sweeps.mesh_of(len(members))
    by_member, whole = PartitionSpec("member"), PartitionSpec()
    together = jax.jit(
        jax.shard_map(
            jax.vmap(partial(memjax.fit, network), in_axes=(0, None, None, None)),
            mesh=mesh,
            in_specs=(by_member, whole, whole, whole),
            out_specs=by_member,
        )
    )

    def all_at_once():
        jax.block_until_ready(together(swept, state, images, labels))

    def one_by_one():
        for member in members:
            jax.block_until_ready(memjax.fit(network, member, state, images, labels))

    seconds, reference_seconds, ratio = in_turns(all_at_once, one_by_one, turns)
    # The compiler states what one device allocates.
    peak = mesh.size * allocated_bytes(together, swept, state, images, labels)
    (features,) = network.layers[1].input_shape
    needed = 16 * 4 * (capacity * features + capacity * _BLOCK)
    return Row(
        "sweep_16", seconds, "sixteen single fits", reference_seconds, ratio,
        16 * _product(num_examples, capacity, features), needed, peak,
        f"{num_examples:,} images, capacity {capacity:,}, edges, over {mesh.size} "
        f"{jax.default_backend().upper()} devices",
    )  # fmt: skip


def sweep(
    turns: int,
    name: str,
    build: Callable[..., Any],
    num_members: int,
    has_own_streams: bool = False,
    num_examples: int = 2_000,
) -> Row:
    """Members with thresholds of their own in one ``jax.vmap(fit)``, against single fits."""
    train = _first(datasets.load("mnist", "train", seed=0), num_examples)
    network, params, state = _begin(train, build)
    members, swept = _members(params, num_members, 1.5)
    orders = [np.random.default_rng(seed).permutation(num_examples) for seed in range(num_members)]
    streams = [
        (jnp.asarray(train.images[order]), jnp.asarray(train.labels[order])) for order in orders
    ]
    if has_own_streams:
        axis, seen = 0, jax.tree.map(lambda *parts: jnp.stack(parts), *streams)
    else:
        axis, seen = None, streams[0]
        streams = streams[:1] * num_members
    together = jax.jit(jax.vmap(partial(memjax.fit, network), in_axes=(0, None, axis, axis)))

    def one_by_one():
        for member, stream in zip(members, streams, strict=True):
            jax.block_until_ready(_FIT(network, member, state, *stream))

    seconds, reference_seconds, ratio = in_turns(
        lambda: jax.block_until_ready(together(swept, state, *seen)), one_by_one, turns
    )
    learn_one = partial(memjax.fit, network, params)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    images = "orders of their own" if has_own_streams else "the same images"
    return Row(
        name, seconds, f"{num_members} single fits", reference_seconds, ratio,
        num_members * products(learn_one, state, *streams[0]), num_members * held,
        allocated_bytes(together, swept, state, *seen),
        f"{num_members} members, {num_examples:,} images, {images}, one device",
    )  # fmt: skip


def fit_columnar(
    turns: int,
    dataset: str = "mnist",
    num_before: int = 4_096,
    num_examples: int = 2_048,
    size: str = "medium",
) -> Row:
    """Learning by the columnar network, against its products at the matrix rate of the machine.

    The state has learned other examples before, until after the critical periods.
    """
    train = datasets.load(dataset, "train", seed=0)
    build = partial(memjax.columnar_network, size=size)
    network, params, state = learn(build, _first(train, num_before))
    rows = slice(num_before, num_before + num_examples)
    images, labels = jnp.asarray(train.images[rows]), jnp.asarray(train.labels[rows])
    blocks = (images.reshape(-1, _BLOCK, *images.shape[1:]), labels.reshape(-1, _BLOCK))

    @jax.jit
    def fit(state):
        def block(state, rows):
            return network.step_block(params, state, *rows)[0], None

        return jax.lax.scan(block, state, blocks)[0]

    operations = products(fit, state)
    square = jnp.ones((4096, 4096), jnp.float32)
    multiply = jax.jit(lambda a: jnp.matmul(a, a, precision=jax.lax.Precision.HIGHEST))
    repeats = max(round(operations / (2 * 4096**3)), 1)

    def at_the_matrix_rate():
        for _ in range(repeats):
            multiply(square).block_until_ready()

    seconds, reference_seconds, _ = in_turns(
        lambda: jax.block_until_ready(fit(state)), at_the_matrix_rate, turns
    )
    reference_seconds *= operations / (repeats * 2 * 4096**3)
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    return Row(
        f"fit_columnar_{dataset}", seconds, "its products at the matrix rate", reference_seconds,
        seconds / reference_seconds, operations, held,
        allocated_bytes(fit, state),
        f"{num_examples:,} images, size {size}, {operations / num_examples / 1e6:.0f} MFLOP each",
    )  # fmt: skip


def predict(
    turns: int,
    peer: str,
    dataset: str = "mnist",
    num_queries: int = 10_000,
    capacity: int = 8_192,
    num_neighbours: int = 5,
) -> Row:
    """Answers by the nearest memories, against the search of a peer, "faiss" or "sklearn"."""
    train = datasets.load(dataset, "train", seed=0)
    memories, labels = train.images[:capacity], train.labels[:capacity]
    queries = train.images[-num_queries:]
    height, width, channels = train.images.shape[1:]
    network, params = memjax.memory_network(
        (height, width, channels), train.num_classes, capacity=capacity, encoder="pixels",
        novelty_threshold=0.0, num_neighbours=num_neighbours,
    )  # fmt: skip
    # At a threshold of 0 every image is stored that is not yet there.
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
        _product(num_queries, capacity, xs.shape[1]), needed,
        allocated_bytes(recall, network, params, state, batch),
        f"{num_queries:,} images, {memjax.num_memories(network, state):,} memories, "
        f"{num_neighbours} neighbours",
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
    """Learning of the first examples of a stream, against a method of the experiment ``peers``."""
    train = _first(datasets.load(dataset, "train", seed=0), num_examples)
    network, params, state = _begin(train, encoder="pixels")
    sizes = []

    def fit():
        learned, _ = memjax.fit(network, params, state, train.images, train.labels, _BLOCK)
        sizes.append(memjax.num_memories(network, learned))

    seconds, reference_seconds, ratio = in_turns(
        fit, lambda: peers.METHODS[method].learn(train), turns
    )
    capacity, features = state[1].prototypes.shape
    rates = [num_examples / each for each in (seconds, reference_seconds)]
    return Row(
        f"online_{peer}", seconds, method.split(",")[0], reference_seconds, ratio,
        _product(num_examples, capacity, features), _learning_bytes(capacity, features),
        allocated_bytes(_FIT, network, params, state, train.images, train.labels),
        f"{num_examples:,} images, {sizes[-1]:,} of {capacity:,} memories used, "
        f"{rates[0]:,.0f} against {rates[1]:,.0f} per second",
    )  # fmt: skip


def one_by_one(
    turns: int,
    peer: str,
    is_estimator: bool = False,
    dataset: str = "mnist",
    num_before: int = 12_000,
    capacity: int = 3_000,
) -> Row:
    """Answer an image, then learn it, one by one with a full bank; the seconds are for one image.

    The references hold as many images. That of river searches them exactly. faiss only finds the
    eight nearest, and adds the image.
    """
    train = datasets.load(dataset, "train", seed=0)
    known = _first(train, num_before)
    rows = slice(num_before, num_before + _SERVED)
    images, labels = train.images[rows], train.labels[rows].tolist()
    xs = flat(images)
    memories, theirs = train.images[:capacity], train.labels[:capacity].tolist()
    mine = (_estimator_serves if is_estimator else _network_serves)(known, capacity)
    title, build, given, number = {
        "faiss": ("faiss IndexFlatL2", _faiss_serves, xs, _SERVED),
        "river": ("river KNN exact", _river_serves, list(peers.dictionaries(images)), 5),
    }[peer]
    other = build(memories, theirs)
    times: tuple[list[float], list[float]] = [], []
    for turn in range(turns + 1):  # the first of them is not timed
        for kept, serve, asked, most in zip(
            times, (mine, other), (images, given), (_SERVED, number), strict=True
        ):
            for x, label in zip(asked[:most], labels[:most], strict=True):
                start = time.perf_counter()
                serve(x, label)
                kept += [time.perf_counter() - start] * (turn > 0)
    usual, rare = np.percentile(times[0], (50, 99))
    their_usual, their_rare = np.percentile(times[1], (50, 99))
    layer = memjax.MemoryLayer(xs.shape[1], train.num_classes, capacity)
    state = jax.eval_shape(layer.init, jax.random.key(0))
    step = jax.jit(layer.step, donate_argnums=1)
    peak = allocated_bytes(step, layer.params(novelty_threshold=0.1), state, xs[0], np.int32(0))
    return Row(
        f"one_by_one_{'estimator_' * is_estimator}{peer}", float(usual), title, float(their_usual),
        float(usual / their_usual), _product(1, capacity, xs.shape[1]),
        4 * capacity * xs.shape[1], peak,
        f"{capacity:,} memories; half of the images took {1000 * usual:.2f} ms at most against "
        f"{1000 * their_usual:.2f}, 99 % took {1000 * rare:.2f} ms against {1000 * their_rare:.2f}",
    )  # fmt: skip


def _network_serves(known: datasets.Dataset, capacity: int) -> Callable[[Any, int], int]:
    build = partial(memjax.memory_network, capacity=capacity, encoder="pixels")
    network, params, state = learn(build, known)
    held = [state]
    # The state is given up, so that an example is written into it, and not into a copy.
    step = jax.jit(network.step, donate_argnums=1)

    def serve(image: Any, label: int) -> int:
        held[0], evidence, _ = step(params, held[0], image, np.int32(label))
        return int(np.argmax(evidence))

    return serve


def _estimator_serves(known: datasets.Dataset, capacity: int) -> Callable[[Any, int], int]:
    from memjax.sklearn import MemoryNetworkClassifier

    model = MemoryNetworkClassifier(capacity=capacity)
    model.partial_fit(flat(known.images), known.labels, classes=np.arange(known.num_classes))

    def serve(image: Any, label: int) -> int:
        row = flat(image[None])
        (answer,) = model.predict(row)
        model.partial_fit(row, [label])
        return answer

    return serve


def _faiss_serves(memories: np.ndarray, labels: list[int]) -> Callable[[Any, int], Any]:
    from faiss import IndexFlatL2

    del labels
    index: Any = IndexFlatL2(memories[0].size)
    index.add(flat(memories))

    def serve(x: Any, label: int) -> Any:
        del label
        found = index.search(x[None], 8)
        index.add(x[None])
        return found

    return serve


def _river_serves(memories: np.ndarray, labels: list[int]) -> Callable[[Any, int], Any]:
    from river import neighbors

    engine = neighbors.LazySearch(window_size=len(memories))
    model = neighbors.KNNClassifier(n_neighbors=7, engine=engine)
    for x, label in zip(peers.dictionaries(memories), labels, strict=True):
        model.learn_one(x, label)

    def serve(x: Any, label: int) -> Any:
        answer = model.predict_one(x)
        model.learn_one(x, label)
        return answer

    return serve


def demo_answer(turns: int, dataset: str = "mnist", num_drawings: int = 20) -> Row:
    """All that the page of ``memjax demo`` shows of a drawing, against its label alone."""
    known = learn_first(dataset)
    images = datasets.load(dataset, "test", seed=0).images[:num_drawings]

    def show():
        for image in images:
            answer(known, image)

    def label():
        for image in images:
            memjax.predict(*known[:3], image[None])

    seconds, reference_seconds, ratio = in_turns(show, label, turns)
    prototypes = known.state[1].prototypes
    recall = jax.jit(type(known.network).recall_block, static_argnums=0)
    return Row(
        "demo_answer", seconds, "labels alone", reference_seconds, ratio,
        _product(num_drawings, *prototypes.shape), prototypes.nbytes,
        allocated_bytes(recall, *known[:3], images[:1]),
        f"{num_drawings} drawings one by one, {len(known.pictures):,} memories, "
        f"{1000 * seconds / num_drawings:.1f} ms each",
    )  # fmt: skip


def command(turns: int, dataset: str = "digits") -> Row:
    """``memjax fit`` from the start of its process to its record, against its imports alone."""
    records = []
    with tempfile.TemporaryDirectory() as folder:
        # As a user has it: programs that were compiled before are kept in the cache of the user.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
        environment["MEMJAX_CACHE_DIR"] = folder

        def call(*words: str) -> None:
            subprocess.run(
                [sys.executable, "-m", "memjax", *words],
                env=environment,
                check=True,
                capture_output=True,
            )

        def fit():
            run = Path(folder) / f"run{len(records)}"
            call("fit", dataset, "--out", str(run))
            records.append(json.loads((run / "record.json").read_text()))

        seconds, reference_seconds, ratio = in_turns(fit, lambda: call("--version"), turns)
    train = datasets.load(dataset, "train", seed=0)
    height, width, channels = train.images.shape[1:]
    network, _ = memjax.memory_network((height, width, channels), train.num_classes)
    assert isinstance(network, memjax.Chain)
    capacity, (features,) = records[0]["capacity"], network.layers[0].output_shape
    parts = [
        f"{doing} {statistics.median(record[part] for record in records[1:]):.1f}"
        for part, doing in SECONDS.items()
    ]
    return Row(
        f"command_{dataset}", seconds, "its imports", reference_seconds, ratio,
        _product(len(train.labels), capacity, features), _learning_bytes(capacity, features),
        statistics.median(record["peak_memory_bytes"] for record in records),
        f"`memjax fit {dataset}` again ({', '.join(parts)} s)",
    )  # fmt: skip


_BANK = partial(memjax.memory_network, capacity=1_000)
_COLUMNS = partial(memjax.columnar_network, size="small")

SWEEPS: dict[str, Callable[[int], Row]] = {
    name: partial(sweep, name=name, **settings)
    for name, settings in {
        "sweep_vmap": {"build": _BANK, "num_members": 16},
        "sweep_vmap_own_streams": {"build": _BANK, "num_members": 16, "has_own_streams": True},
        "sweep_vmap_columnar": {"build": _COLUMNS, "num_members": 4},
        "sweep_vmap_columnar_own_streams": {
            "build": _COLUMNS,
            "num_members": 4,
            "has_own_streams": True,
        },
    }.items()
}
"""The rows of sweeps on one device."""

ROWS: dict[str, Callable[[int], Row]] = {
    "fit_exact": fit_exact,
    "fit_columnar_mnist": fit_columnar,
    "fit_columnar_cifar10": partial(fit_columnar, dataset="cifar10"),
    "sweep_16": sweep_16,
    **SWEEPS,
    "predict_faiss": partial(predict, peer="faiss"),
    "predict_sklearn": partial(predict, peer="sklearn"),
    "online_artmap": partial(online, peer="artmap", method="FuzzyARTMAP, 2,000 examples"),
    "online_river": partial(online, peer="river", method="river KNN graph, 2,000 examples"),
    "one_by_one_faiss": partial(one_by_one, peer="faiss"),
    "one_by_one_river": partial(one_by_one, peer="river"),
    "one_by_one_estimator_river": partial(one_by_one, peer="river", is_estimator=True),
    "demo_answer": demo_answer,
    "command_digits": command,
    "command_mnist": partial(command, dataset="mnist"),
}


_ON_DIGITS: dict[str, Callable[[int], Row]] = {
    "fit_columnar": partial(
        fit_columnar, dataset="digits", num_before=512, num_examples=512, size="small"
    ),
    "predict_sklearn": partial(
        predict, peer="sklearn", dataset="digits", num_queries=500, capacity=200
    ),
    "demo_answer": partial(demo_answer, dataset="digits", num_drawings=2),
    "command_digits": command,
}
"""The rows of ``--quick``."""


def _first(train: datasets.Dataset, number: int) -> datasets.Dataset:
    return train._replace(images=train.images[:number], labels=train.labels[:number])


def _begin(
    train: datasets.Dataset, build: Callable[..., Any] = memjax.memory_network, **settings: Any
) -> tuple[memjax.Chain, Any, Any]:
    """Return a network, its params calibrated on a stream, and its first state."""
    network, params = build(train.images.shape[1:], train.num_classes, **settings)
    first = _first(train, CALIBRATION_EXAMPLES)
    params = memjax.calibrate(network, params, first.images, first.labels)
    assert isinstance(network, memjax.Chain)
    return network, params, network.init(jax.random.key(0))


def _members(params: Any, number: int, most: float) -> tuple[list[Any], Any]:
    """Return the members of a sweep, from half of a threshold to ``most`` of it, also stacked."""
    threshold = memjax.find_params(params, "novelty_threshold")[0]
    thresholds = threshold * jnp.linspace(0.5, most, number)
    members = [memjax.replace_params(params, novelty_threshold=t) for t in thresholds]
    return members, jax.tree.map(lambda *numbers: jnp.stack(numbers), *members)


def _product(num_examples: int, num_memories: int, num_features: int) -> float:
    """Return the operations of the product that gives all distances of examples to memories."""
    xs, memories = jnp.empty((num_examples, num_features)), jnp.empty((num_memories, num_features))
    return products(lambda xs, memories: xs @ memories.T, xs, memories)


def _learning_bytes(capacity: int, features: int) -> float:
    """Return the bytes for memories, one block, its distances to them and to itself."""
    return 4 * (capacity * features + _BLOCK * features + capacity * _BLOCK + _BLOCK * _BLOCK)


@jax.jit
def bare_product(memories: jax.Array, blocks: jax.Array) -> jax.Array:
    """Return the sum of a few entries of the products of memories [K, D] with blocks [n, B, D]."""

    def multiply(total, images):
        xs = images.astype(jnp.float32) / 255
        product = jnp.matmul(memories, xs.T, precision=jax.lax.Precision.HIGHEST)
        # Two entries are kept, so that the compiler cannot leave the product out.
        return total + product[0, 0] + product[-1, -1], None

    return jax.lax.scan(multiply, jnp.zeros(()), blocks)[0]


def in_turns(run: Callable[[], Any], reference: Callable[[], Any], turns: int):
    """Return the median seconds of both and the median ratio; a first call is not timed."""
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
    parser = options(__doc__, names=tuple(ROWS))
    parser.add_argument("--turns", type=int, default=5, help="timings of each row (default 5)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw time over work to FILE")
    chosen = parser.parse_args(arguments)
    rows = _ON_DIGITS if chosen.quick else {chosen.only: ROWS[chosen.only]} if chosen.only else ROWS
    measured = []
    for name, row in rows.items():
        command = f"python -m experiments.speed --only {name} --turns {chosen.turns}"
        record = row(chosen.turns)._asdict() | {"command": command, "seed": 0}
        publish(table, chosen.out, name, record)
        measured.append(record)
    if chosen.plot:
        figure(measured).savefig(chosen.plot)


records = partial(read, "speed", place_by(name=ROWS))


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table."""
    return markdown_table(
        {
            "row": f"`{record['name']}`: {record['detail']}",
            "GFLOP": f"{record['operations'] / 1e9:,.0f}",
            "s": _short(record["seconds"]),
            "reference": record["reference"],
            "its s": _short(record["reference_seconds"]),
            "ratio": _short(record["ratio"]),
            "peak memory over needed": f"{record['peak_memory_bytes'] / record['bytes']:.2f}",
        }
        for record in records
    )


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of the seconds of each row over its operations.

    A hollow mark is the reference of the row. The dashed line is the time of the bare product, by
    the reference of ``fit_exact``. Both scales are logarithmic.
    """
    drawn, place = axes("operations of matrix products, GFLOP", "s", width=8.0)
    for index, record in enumerate(records):
        look = style(index) | {"linestyle": "none", "markersize": 8}
        work = record["operations"] / 1e9
        place.plot(work, record["seconds"], label=record["name"], **look)
        place.plot(work, record["reference_seconds"], fillstyle="none", **look)
        times = record["seconds"], record["reference_seconds"]
        place.plot([work, work], times, color=look["color"], alpha=0.4)
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


def _short(number: float) -> str:
    """Return a number with two decimals, or with two digits if it is below 0.1."""
    return f"{number:.2f}" if number >= 0.1 else f"{number:.2g}"


if __name__ == "__main__":
    sweeps.use_all_cores()
    main()
