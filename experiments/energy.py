"""What it costs to learn one example, and to recall one.

    python -m experiments.energy [--dataset NAME] [--only NETWORK] [--out FOLDER] [--quick]

Operations on numbers, and bytes moved between the parts of a program, are counted by the compiler
in the very programs that run (`cost_analysis` of a CPU program). It counts the body of a loop once;
here a loop's body is compiled by itself as well and counted as often as it turns, which for a bank
that multiplies its memories in use is taken to be all of them. A loop that turns on demand counts
for nothing: in memjax it is work that an example seldom asks for, such as the search that follows a
surprise in a full bank, or the sums that places gather to decorrelate over their first 500
examples. Exponentials, roots and sorting are not among the operations.

An example is learned *in blocks* as `fit` learns it, 256 at a time, and the networks trained by
backpropagation 64 at a time, the cost of the whole divided by their number; *alone*, a program is
run for it alone. It is recalled alone. The costs are those of a memory whose capacity is full; they
depend on shapes only. A readout by least squares is solved once in the end, which the compiler does
not count: D³ / 3 + 2 D² C operations for D features and C classes are added to the whole dataset.
The memory networks see every example once; the others are taken to need ten passes, whatever the
dataset.

By hand: one example against K memories of D features takes 3 K D operations alone, and 2 K D in a
block, where the distances are a product. P places with K memories of E numbers, looked at from F
positions, take 2 P F K E, whether weights are shared or not; cutting and normalising the patches
comes on top. A convolution of k x k takes 2 H W k² C_in C_out, a layer of a perceptron
2 D_in D_out, and learning by backpropagation about three times the answer. The tests hold the
counts against these.

The energy is an *estimate* from published figures of a 45 nm chip: 0.9 pJ to add and 3.7 pJ to
multiply two 32-bit floating-point numbers, 2.3 pJ on average, and 640 pJ to fetch 32 bits from
DRAM, 160 pJ a byte. It is a range, from nothing fetched at all, everything being at hand in
registers, to every byte fetched from DRAM; caches put the truth in between. Sources: M. Horowitz,
"Computing's energy problem (and what we can do about it)", ISSCC 2014, and for the DRAM figure its
table in S. Han et al., "Learning both weights and connections for efficient neural networks", 2015.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun
from jax.interpreters.partial_eval import dce_jaxpr

import memjax
from experiments import backprop, figures
from experiments.records import RESULTS, TITLES, keep, options, read
from memjax import datasets
from memjax.memory.layer import TILE

_BLOCK = 256
_EPOCHS = 10

PICOJOULES_AN_OPERATION = (0.9 + 3.7) / 2
PICOJOULES_A_BYTE = 640 / 4


class Cost(NamedTuple):
    """What a program costs."""

    operations: float  # on floating-point numbers, and the few on integers
    bytes: float  # read and written by the parts of the program

    def times(self, number: float) -> "Cost":
        """Return the cost of ``number`` such programs."""
        return Cost(self.operations * number, self.bytes * number)

    def plus(self, other: "Cost") -> "Cost":
        """Return the cost of both."""
        return Cost(self.operations + other.operations, self.bytes + other.bytes)


def count(
    function: Callable[..., Any], *arguments: Any, donated: Sequence[int] = (), turns: int = 0
) -> Cost:
    """Return what a call of a function costs once it is compiled, loops by their turns.

    Args:
        function: jax can trace it.
        *arguments: pytrees of arrays, or of their shapes as ``jax.ShapeDtypeStruct``.
        donated: which arguments may be written over, so that a state is changed in place.
        turns: of a loop that counts to a number which the program computes.

    Example:
        >>> matrix = jax.ShapeDtypeStruct((8, 8), jnp.float32)
        >>> count(lambda a, b: a @ b, matrix, matrix)  # 2 * 8 * 8 * 8, and three matrices
        Cost(operations=1024.0, bytes=768.0)
    """
    total = _as_compiled(function, arguments, donated)
    traced = jax.make_jaxpr(function)(*arguments).jaxpr
    # The compiler leaves out what nobody asks for, so a body by itself must leave it out too.
    asked, _ = dce_jaxpr(traced, [True] * len(traced.outvars), instantiate=True)
    for times, body, carried in _loops(asked, turns):
        inputs = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in body.in_avals]
        run = jaxpr_as_fun(body)
        if times:
            once = count(run, *inputs, donated=carried, turns=turns)
            total = total.plus(once.times(times))
        total = total.plus(_as_compiled(run, inputs, carried).times(-1))  # was counted once
    return total


def _as_compiled(
    function: Callable[..., Any], arguments: Sequence[Any], donated: Sequence[int]
) -> Cost:
    """Return the compiler's own count, the body of each loop once."""
    compiled = jax.jit(function, donate_argnums=tuple(donated)).lower(*arguments).compile()
    found = compiled.cost_analysis() or {}
    return Cost(found.get("flops", 0.0), found.get("bytes accessed", 0.0))


def _loops(jaxpr: Jaxpr, turns: int) -> Iterator[tuple[int, ClosedJaxpr, range]]:
    """Yield turns, body and carried inputs of the outermost loops; 0 turns for one on demand."""
    for equation in jaxpr.eqns:
        params = equation.params
        if equation.primitive.name == "scan":
            first, number = params["num_consts"], params["num_carry"]
            yield params["length"], params["jaxpr"], range(first, first + number)
        elif equation.primitive.name == "while":
            body, asks = params["body_jaxpr"], params["cond_jaxpr"].jaxpr.eqns
            counts = any(equation.primitive.name == "lt" for equation in asks)
            yield turns * counts, body, range(params["body_nconsts"], len(body.in_avals))
        else:
            for inner in jax.tree.leaves(list(params.values())):
                if isinstance(inner, ClosedJaxpr):
                    yield from _loops(inner.jaxpr, turns)


def _network(
    build: Callable[..., Any], image_shape: tuple[int, int, int], num_classes: int, turns: int = 0
) -> dict[str, Any]:
    network, params = build(image_shape, num_classes)
    state = jax.eval_shape(network.init, jax.random.key(0))

    def learned(step: Callable[..., Any], *batch: int) -> Cost:
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
        "learned_in_blocks": learned(network.step_block, _BLOCK).times(1 / _BLOCK)._asdict(),
        "learned_alone": learned(network.step)._asdict(),
        "recalled": count(network.recall, params, state, image)._asdict(),
        "solve_operations": solve,
        "passes": 1,
        "state_bytes": _bytes(state),
    }


def _memory(capacity: int) -> Callable[..., dict[str, Any]]:
    build = partial(memjax.memory_network, capacity=capacity)
    return partial(_network, build, turns=-(-capacity // TILE))


def _backprop(kind: str, image_shape: tuple[int, int, int], num_classes: int) -> dict[str, Any]:
    weights = jax.eval_shape(lambda: backprop.init(kind, image_shape, num_classes, seed=0))
    optimiser = optax.adam(1e-3)
    state = jax.eval_shape(optimiser.init, weights)

    def learned(batch: int) -> dict[str, float]:
        images = jax.ShapeDtypeStruct((batch, *image_shape), jnp.uint8)
        labels = jax.ShapeDtypeStruct((batch,), jnp.int32)
        step = partial(backprop.learn, optimiser)
        return (
            count(step, weights, state, images, labels, donated=(0, 1)).times(1 / batch)._asdict()
        )

    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.uint8)
    return {
        "learned_in_blocks": learned(backprop.BATCH),
        "learned_alone": learned(1),
        "recalled": count(backprop.logits, weights, image)._asdict(),
        "solve_operations": 0.0,
        "passes": _EPOCHS,
        "state_bytes": _bytes((weights, state)),
    }


def _bytes(state: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


NETWORKS: dict[str, Callable[..., dict[str, Any]]] = {
    "memory, 1,000": _memory(1000),
    "memory, 5,000": _memory(5000),
    "columnar small": partial(_network, partial(memjax.columnar_network, size="small")),
    "columnar medium": partial(_network, partial(memjax.columnar_network, size="medium")),
    "columnar large": partial(_network, partial(memjax.columnar_network, size="large")),
    "MLP by backprop": partial(_backprop, "mlp"),
    "CNN by backprop": partial(_backprop, "cnn"),
}
"""From an image's shape and the number of classes to what is counted."""


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
    """Return the least and the most energy of a cost, an estimate; see the module's text.

    Example:
        >>> [round(energy, 3) for energy in millijoules({"operations": 1e9, "bytes": 1e6})]
        [2.3, 2.46]
    """
    least = PICOJOULES_AN_OPERATION * cost["operations"] / 1e9
    return least, least + PICOJOULES_A_BYTE * cost["bytes"] / 1e9


def whole_dataset(record: dict[str, Any]) -> float:
    """Return the operations that learn all of a dataset, all passes and the solve."""
    lessons = record["num_train"] * record["passes"]
    return lessons * record["learned_in_blocks"]["operations"] + record["solve_operations"]


def records() -> list[dict[str, Any]]:
    """Return the records of the repository."""
    return read(RESULTS / "energy", _place)


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table; in brackets what an example costs alone."""
    lines = [
        "| dataset | network | learn one, MFLOP (alone) | learn one, MB (alone) | "
        "recall one, MFLOP | recall one, MB | state, MB | passes | learn all, TFLOP | "
        "learn one, all passes, mJ (estimate) | recall one, mJ (estimate) |",
        f"|{'---|' * 11}",
    ]
    for record in records:
        block, alone, recalled = (
            record[key] for key in ("learned_in_blocks", "learned_alone", "recalled")
        )
        cells = [
            TITLES[record["dataset"]],
            record["network"],
            *(f"{block[key] / 1e6:.2f} ({alone[key] / 1e6:.2f})" for key in Cost._fields),
            *(f"{recalled[key] / 1e6:.2f}" for key in Cost._fields),
            f"{record['state_bytes'] / 1e6:.1f}",
            str(record["passes"]),
            f"{whole_dataset(record) / 1e12:.2f}",
            *(
                f"{times * least:.2g} to {times * most:.2g}"
                for times, (least, most) in (
                    (record["passes"], millijoules(block)),
                    (1, millijoules(recalled)),
                )
            ),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def figure(records: list[dict[str, Any]], dataset: str = "mnist") -> Any:
    """Return a figure of a dataset's records: operations to learn an example and to recall one.

    Args:
        records: of one or more datasets.
        dataset: whose to draw.
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
            figures.MARKERS[index],
            color=figures.COLOURS[index],
            label=record["network"] + passes,
            markersize=9,
        )
    place.set_xscale("log")
    place.set_yscale("log")
    figures.legend(drawn, place)
    return drawn


def _place(record: dict[str, Any]) -> tuple[int, int]:
    return list(TITLES).index(record["dataset"]), list(NETWORKS).index(record["network"])


def main(arguments: list[str] | None = None) -> None:
    """Count for every network, print the table and keep the records."""
    parser = options(__doc__, names=tuple(NETWORKS))
    parser.add_argument("--dataset", choices=tuple(TITLES), help="one of them")
    chosen = parser.parse_args(arguments)
    some = ("columnar small", "MLP by backprop")
    names = some if chosen.quick else (chosen.only,) if chosen.only else tuple(NETWORKS)
    measured = (chosen.dataset,) if chosen.dataset else ("mnist", "cifar10")
    for dataset in ("digits",) if chosen.quick else measured:
        for name in names:
            record = measure(dataset, name)
            print(table([record]).splitlines()[-1], flush=True)
            keep(chosen.out, f"{dataset} {name}", record)


if __name__ == "__main__":
    main()
