"""What it costs to learn one example, and to recall one.

    python -m experiments.energy [--dataset NAME] [--only NETWORK] [--out FOLDER] [--quick]

The compiler counts the operations on numbers, and the bytes moved between the parts of a program,
in the very programs that run (`cost_analysis` of a CPU program). `experiments.costs` adds that a
loop is counted with all its turns. All memories are taken to be in use. Work on demand counts for
nothing, since an example seldom asks for it: the search that follows a surprise in a full bank, for
instance, or the sums that places gather to decorrelate over their first 500 examples. Exponentials,
roots and sorting are not among the operations.

*In blocks* an example is learned as `fit` learns it, 256 at a time, and 64 at a time by
backpropagation; the cost of the block is divided by their number. *Alone* it is learned by a
program of its own, and it is recalled alone too. The costs depend on shapes only. A readout by
least squares is solved once in the end, which the compiler does not count: D³ / 3 + 2 D² C
operations for D features and C classes are added for the whole dataset. The memory networks see
every example once. The others are taken to need ten passes, whatever the dataset.

By hand: one example against K memories of D features takes 3 K D operations alone, and 2 K D in a
block, where the distances are a product. P places with K memories of E numbers, looked at from F
positions, take 2 P F K E, whether weights are shared or not; cutting and normalising the patches
comes on top. A convolution of k x k takes 2 H W k² C_in C_out, a layer of a perceptron
2 D_in D_out, and learning by backpropagation about three times the answer. The tests compare the
counts with these formulas.

The energy is an *estimate* from published figures of a 45 nm chip: 0.9 pJ to add and 3.7 pJ to
multiply two 32-bit floating-point numbers, 2.3 pJ on average, and 640 pJ to fetch 32 bits from
DRAM, 160 pJ per byte. It is a range. At its lower end nothing is fetched and everything is at hand
in registers; at its upper end every byte is fetched from DRAM. Caches put the truth in between.
Sources: M. Horowitz, "Computing's energy problem (and what we can do about it)", ISSCC 2014, and
for the DRAM figure its table in S. Han et al., "Learning both weights and connections for efficient
neural networks", 2015.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

import memjax
from experiments import backprop, figures
from experiments.costs import Cost, count
from experiments.records import TITLES, markdown_table, options, place_by, publish, read
from memjax import datasets
from memjax.memory._table import TILE
from memjax.networks import SIZES

_BLOCK = 256
_EPOCHS = 10

PICOJOULES_PER_OPERATION = (0.9 + 3.7) / 2
PICOJOULES_PER_BYTE = 640 / 4


def _network(
    build: Callable[..., Any], image_shape: tuple[int, int, int], num_classes: int, turns: int = 0
) -> dict[str, Any]:
    network, params = build(image_shape, num_classes)
    state = jax.eval_shape(network.init, jax.random.key(0))

    def lesson_cost(step: Callable[..., Any], *batch: int) -> Cost:
        images = jax.ShapeDtypeStruct((*batch, *image_shape), jnp.uint8)
        labels = jax.ShapeDtypeStruct(batch, jnp.int32)

        def lesson(params, state, images, labels):
            return step(params, state, images, labels)[::2]  # as in `fit`, the code is not kept

        return count(lesson, params, state, images, labels, donated=(1,), turns=turns)

    image = jax.ShapeDtypeStruct(image_shape, jnp.uint8)
    readout, solve = network.layers[-1], 0.0
    if isinstance(readout, memjax.RidgeReadout):
        solve = readout.num_features**3 / 3 + 2 * readout.num_features**2 * num_classes
    return {
        "learned_in_blocks": lesson_cost(network.step_block, _BLOCK).times(1 / _BLOCK)._asdict(),
        "learned_alone": lesson_cost(network.step)._asdict(),
        "recalled": count(network.recall, params, state, image)._asdict(),
        "solve_operations": solve,
        "passes": 1,
        "state_bytes": _bytes(state),
    }


def _memory(capacity: int) -> Callable[..., dict[str, Any]]:
    build = partial(memjax.memory_network, capacity=capacity)
    return partial(_network, build, turns=-(-capacity // TILE))


def _backprop(kind: str, image_shape: tuple[int, int, int], num_classes: int) -> dict[str, Any]:
    network = jax.eval_shape(lambda: backprop.init(kind, image_shape, num_classes, seed=0))
    optimiser = optax.adam(1e-3)
    state = jax.eval_shape(optimiser.init, network)

    def step_cost(batch: int) -> dict[str, float]:
        images = jax.ShapeDtypeStruct((batch, *image_shape), jnp.uint8)
        labels = jax.ShapeDtypeStruct((batch,), jnp.int32)
        step = partial(backprop.step, optimiser)
        cost = count(step, network, state, images, labels, donated=(0, 1))
        return cost.times(1 / batch)._asdict()

    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.uint8)
    return {
        "learned_in_blocks": step_cost(backprop.BATCH),
        "learned_alone": step_cost(1),
        "recalled": count(backprop.logits, network, image)._asdict(),
        "solve_operations": 0.0,
        "passes": _EPOCHS,
        "state_bytes": _bytes((network, state)),
    }


def _bytes(state: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


NETWORKS: dict[str, Callable[..., dict[str, Any]]] = {
    "memory, 1,000": _memory(1000),
    "memory, 5,000": _memory(5000),
    **{
        f"columnar {size}": partial(_network, partial(memjax.columnar_network, size=size))
        for size in SIZES
    },
    "MLP by backprop": partial(_backprop, "mlp"),
    "CNN by backprop": partial(_backprop, "cnn"),
}
"""The networks by name, each from an image shape and a number of classes to what is counted."""


def measure(dataset: str, name: str) -> dict[str, Any]:
    """Return the record of one network."""
    train = datasets.load(dataset, "train")
    return {
        "dataset": dataset,
        "network": name,
        "command": f"python -m experiments.energy --dataset {dataset} --only '{name}'",
        "num_train": len(train.labels),
        **NETWORKS[name](train.images.shape[1:], train.num_classes),
    }


def millijoules(cost: dict[str, float]) -> tuple[float, float]:
    """Return estimates of the least and the most energy of a cost; see the text of the module.

    Example:
        >>> [round(energy, 3) for energy in millijoules({"operations": 1e9, "bytes": 1e6})]
        [2.3, 2.46]
    """
    least = PICOJOULES_PER_OPERATION * cost["operations"] / 1e9
    return least, least + PICOJOULES_PER_BYTE * cost["bytes"] / 1e9


def whole_dataset(record: dict[str, Any]) -> float:
    """Return the operations to learn a whole dataset, with all passes and the solve."""
    lessons = record["num_train"] * record["passes"]
    return lessons * record["learned_in_blocks"]["operations"] + record["solve_operations"]


records = partial(read, "energy", place_by(dataset=TITLES, network=NETWORKS))


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table; the cost of an example alone stands in brackets."""
    rows = []
    for record in records:
        block, alone, recalled = (
            record[key] for key in ("learned_in_blocks", "learned_alone", "recalled")
        )
        row = {"dataset": TITLES[record["dataset"]], "network": record["network"]}
        for unit, key in (("MFLOP", "operations"), ("MB", "bytes")):
            row[f"learn one, {unit} (alone)"] = f"{block[key] / 1e6:.2f} ({alone[key] / 1e6:.2f})"
        for unit, key in (("MFLOP", "operations"), ("MB", "bytes")):
            row[f"recall one, {unit}"] = f"{recalled[key] / 1e6:.2f}"
        row["state, MB"] = f"{record['state_bytes'] / 1e6:.1f}"
        row["passes"] = record["passes"]
        row["learn all, TFLOP"] = f"{whole_dataset(record) / 1e12:.2f}"
        least, most = (record["passes"] * energy for energy in millijoules(block))
        row["learn one, all passes, mJ (estimate)"] = f"{least:.2g} to {most:.2g}"
        least, most = millijoules(recalled)
        row["recall one, mJ (estimate)"] = f"{least:.2g} to {most:.2g}"
        rows.append(row)
    return markdown_table(rows)


def figure(records: list[dict[str, Any]], dataset: str = "mnist") -> Any:
    """Return a figure of the operations to learn an example and to recall one.

    Args:
        records: of one or more datasets.
        dataset: the one to draw.
    """
    drawn, place = figures.axes(
        f"operations to learn an example of {TITLES[dataset]}, all passes",
        "operations to recall one",
    )
    for record in (record for record in records if record["dataset"] == dataset):
        index = list(NETWORKS).index(record["network"])
        passes = f", {record['passes']} passes" if record["passes"] > 1 else ""
        place.plot(
            record["passes"] * record["learned_in_blocks"]["operations"],
            record["recalled"]["operations"],
            linestyle="none",
            markersize=9,
            label=record["network"] + passes,
            **figures.style(index),
        )
    place.set_xscale("log")
    place.set_yscale("log")
    figures.legend(drawn, place)
    return drawn


def main(arguments: list[str] | None = None) -> None:
    """Count for every network, print the table and keep the records."""
    parser = options(__doc__, names=tuple(NETWORKS))
    parser.add_argument("--dataset", choices=TITLES, help="measure only this one")
    chosen = parser.parse_args(arguments)
    some = ("columnar small", "MLP by backprop")
    names = some if chosen.quick else (chosen.only,) if chosen.only else tuple(NETWORKS)
    measured = (chosen.dataset,) if chosen.dataset else ("mnist", "cifar10")
    for dataset in ("digits",) if chosen.quick else measured:
        for name in names:
            record = measure(dataset, name)
            publish(table, chosen.out, f"{dataset} {name}", record)


if __name__ == "__main__":
    main()
