"""What a memory, an example and a device cost: a model of time and memory, and points on it.

    python -m experiments.scale [--memories N] [--block N] [--devices N] [--out FOLDER] [--quick]

A full bank learns synthetic examples without labels, so that each example moves its winner: the
common case. Two things are measured: the seconds per example, in turns with those of the one matrix
product that cannot be avoided, and the memory that the compiled program allocates beside its
arguments, as the compiler states it. With `--devices` the bank lies over several devices. Devices
made of one CPU share its cores, so these points show what the exchange costs, and not what several
accelerators gain.

The model has four numbers of the machine, each in seconds. a is the time of one operation of a
product, with the passes over its result. b is the time of one example on one device, whatever the
bank. The other two are for devices that exchange candidates: c for each memory that is looked
through to choose them, d for each distance that a device receives. For K memories of D features,
blocks of B examples, P devices that share the cores, and C = min(4 B, K) candidates,

    seconds per example = a (2 K D + 2 P B D) + b P + c K + d P C,
    bytes per device = 4 (K (D + B + B / 32) / P + K B / P + C B + 2 B B).

The bytes are those of the new memories, their distances and the minima of these, the distances of
the memories that are no candidates (K B / P), those of the candidates, and the products of a block
with itself. Arguments are not counted. On one device there are no candidates: c K, K B / P and C
are 0. Devices with cores of their own work at the same time, so divide the seconds by P. The
numbers are fitted to every other point, by relative error. The table says how far the model is from
the points that it was not fitted to.

With `--queries N` a full bank is asked N images of 28 x 28 bytes instead, by `predict`. The record
holds the seconds and the most memory that the process held, examples and bank included.
"""

import json
import math
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import nnls

import memjax
from experiments.figures import COLOURS, legend, panels, style
from experiments.records import keep, markdown_table, options, publish, read
from experiments.speed import bare_product, in_turns
from memjax.base import UNLABELLED
from memjax.command.machine import allocated_bytes, peak_memory_bytes
from memjax.devices import memory_mesh
from memjax.memory import MemoryLayer, MemoryState

MEMORIES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000)
BLOCKS = (64, 256, 1024)
_BLOCK, _MEMORIES = 256, 16_384  # each is fixed while the other varies
_MEMORIES_OF_A_DEVICE = 8_192  # in weak scaling
_FEATURES, _NUM_CLASSES = 196, 10
_FEW = 7  # a model of four numbers is fitted to more points than these


def measure(num_memories: int, block: int, num_devices: int, turns: int = 3) -> dict[str, Any]:
    """Return the record of one point."""
    bank = memjax.MemoryLayer(_FEATURES, _NUM_CLASSES, num_memories)
    params = bank.params(novelty_threshold=jnp.inf)
    generator = np.random.default_rng(0)
    num_examples = block * max(4096 // block, 4)
    xs = jnp.asarray(generator.random((num_examples, _FEATURES), np.float32))
    labels = jnp.full((num_examples,), UNLABELLED, jnp.int32)
    state = _full(num_memories, _FEATURES)
    layer: memjax.Layer = bank
    if num_devices > 1:
        layer = memjax.shard(bank, memory_mesh(jax.devices()[:num_devices]))
        empty = layer.init(jax.random.key(0))
        state = jax.tree.map(lambda leaf, like: jax.device_put(leaf, like.sharding), state, empty)
    memories = state.prototypes

    def learn():
        jax.block_until_ready(memjax.fit(layer, params, state, xs, labels, block))

    rows = xs.reshape(-1, block, _FEATURES)
    seconds, reference_seconds, ratio = in_turns(
        learn, lambda: jax.block_until_ready(bare_product(memories, rows)), turns
    )
    fit = jax.jit(partial(memjax.fit, block_size=block), static_argnums=0)
    return {
        "num_memories": num_memories,
        "num_features": _FEATURES,
        "block_size": block,
        "num_devices": num_devices,
        "num_examples": num_examples,
        "turns": turns,
        "seed": 0,
        "command": f"python -m experiments.scale --memories {num_memories} --block {block} "
        f"--devices {num_devices}",
        "seconds_per_example": seconds / num_examples,
        "product_seconds_per_example": reference_seconds / num_examples,
        "ratio": ratio,
        "allocated_bytes": allocated_bytes(fit, layer, params, state, xs, labels),
    }


def ask(num_queries: int, num_memories: int) -> dict[str, Any]:
    """Return the record of asking images of a full bank of images."""
    shape = (28, 28, 1)
    features = math.prod(shape)
    network, params = memjax.memory_network(
        shape, _NUM_CLASSES, capacity=num_memories, encoder="pixels", novelty_threshold=0.0
    )
    state = (*jax.eval_shape(network.init, jax.random.key(0))[:-1], _full(num_memories, features))
    queries = np.random.default_rng(1).integers(0, 256, (num_queries, *shape), np.uint8)
    start = time.perf_counter()
    answers = memjax.predict(network, params, state, queries)
    return {
        "num_queries": num_queries,
        "num_memories": num_memories,
        "num_features": features,
        "seed": 0,
        "command": f"python -m experiments.scale --queries {num_queries} --memories {num_memories}",
        "num_answers": int(np.sum(answers >= 0)),
        "seconds": time.perf_counter() - start,
        "queries_bytes": queries.nbytes,
        "state_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(state)),
        "peak_memory_bytes": peak_memory_bytes(),
    }


def _full(num_memories: int, num_features: int) -> MemoryState:
    """Return a full bank of random memories with one vote each."""
    labels = jnp.arange(num_memories) % _NUM_CLASSES
    prototypes = np.random.default_rng(0).random((num_memories, num_features), np.float32)
    layer = MemoryLayer(num_features, _NUM_CLASSES, num_memories)
    return layer.init(jax.random.key(0))._replace(
        prototypes=jnp.asarray(prototypes),
        counts=jnp.ones((num_memories,), jnp.int32),
        averaged=jnp.ones((num_memories,), jnp.int32),
        votes=jax.nn.one_hot(labels, _NUM_CLASSES, dtype=jnp.int32),
        size=jnp.int32(num_memories),
        num_seen=jnp.int32(num_memories),
    )


def work(record: dict[str, Any]) -> tuple[float, float, float, float]:
    """Return the factors of the four numbers in the seconds of one example."""
    memories, features = record["num_memories"], record["num_features"]
    block, devices = record["block_size"], record["num_devices"]
    operations = 2.0 * features * (memories + devices * block)
    chosen = float(memories) if devices > 1 else 0.0
    return operations, float(devices), chosen, float(devices * _num_candidates(record))


def needed_bytes(record: dict[str, Any]) -> float:
    """Return the bytes per device by the model."""
    memories, features = record["num_memories"], record["num_features"]
    block, devices = record["block_size"], record["num_devices"]
    numbers = memories * (features + block * (1 + 1 / 32)) / devices
    if devices > 1:
        numbers += memories * block / devices
    return 4 * (numbers + _num_candidates(record) * block + 2 * block**2)


def _num_candidates(record: dict[str, Any]) -> int:
    """Return the number of candidates in a round, placeholders included."""
    # For each example two that are near, one free row, and one that is searched for.
    most = 4 * record["block_size"]
    return min(most, record["num_memories"]) if record["num_devices"] > 1 else 0


def fit_model(records: list[dict[str, Any]]) -> np.ndarray:
    """Return the four numbers of the machine, none below 0, from every other record."""
    chosen = _halves(records)[0]
    seconds = np.array([record["seconds_per_example"] for record in chosen])
    shares = np.array([work(record) for record in chosen]) / seconds[:, None]
    return nnls(shares, np.ones(len(chosen)))[0]


def _halves(records: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return the records that the model is fitted to, and the others."""
    names = ("num_memories", "block_size", "num_devices")
    in_order = sorted(records, key=lambda record: [record[name] for name in names])
    return in_order[::2], in_order[1::2]


def records() -> list[dict[str, Any]]:
    """Return the records of the repository, points of learning first."""

    def place(record):
        if "num_queries" in record:
            return math.inf, record["num_queries"]
        block = record["block_size"]
        return record["num_devices"], block != _BLOCK, record["num_memories"], block

    return read("scale", place)


def points(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records of learning."""
    return [record for record in records if "num_queries" not in record]


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table, and the numbers of the model."""
    learned = points(records)
    numbers = fit_model(learned) if len(learned) > _FEW else None
    rows = []
    for record in learned:
        modelled = "" if numbers is None else f"{1e6 * float(numbers @ work(record)):.1f}"
        rows.append(
            {
                "memories": f"{record['num_memories']:,}",
                "examples per block": f"{record['block_size']:,}",
                "devices": record["num_devices"],
                "µs per example": f"{1e6 * record['seconds_per_example']:.1f}",
                "µs by the model": modelled,
                "µs of the product": f"{1e6 * record['product_seconds_per_example']:.1f}",
                "ratio": f"{record['ratio']:.2f}",
                "allocated per device, MB": f"{record['allocated_bytes'] / 1e6:,.1f}",
                "MB by the model": f"{needed_bytes(record) / 1e6:,.1f}",
            }
        )
    parts = [markdown_table(rows)] if rows else []
    if numbers is not None:
        errors = [
            abs(float(numbers @ work(record)) / record["seconds_per_example"] - 1)
            for record in _halves(learned)[1]
        ]
        parts.append(
            f"The numbers of the model: {1 / numbers[0] / 1e9:,.0f} GFLOP/s, "
            f"{1e6 * numbers[1]:.1f} µs per example and device, {1e9 * numbers[2]:.2f} ns per "
            f"memory looked through, and {1e9 * numbers[3]:.2f} ns per distance received. At the "
            f"points that it was not fitted to, the model is {100 * np.mean(errors):.0f} % off on "
            f"average and {100 * max(errors):.0f} % at most."
        )
    parts += [
        f"{record['num_queries']:,} images of {record['num_features']} pixels, asked of "
        f"{record['num_memories']:,} memories: {record['seconds']:,.0f} s. The whole process held "
        f"at most {record['peak_memory_bytes'] / 1e9:.2f} GB, of which the images take "
        f"{record['queries_bytes'] / 1e9:.2f} GB and the bank "
        f"{record['state_bytes'] / 1e9:.2f} GB ({record['device']})."
        for record in records
        if "num_queries" in record
    ]
    return "\n\n".join(parts)


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of the time per example: over the memories, and by weak scaling.

    The lines of the left panel are those of the model. In the right panel the bank grows with the
    devices. They share the cores of one CPU, so the time of an example is divided by their number.
    """
    drawn, (place, weak) = panels(
        ["more memories", f"{_MEMORIES_OF_A_DEVICE:,} memories on each device"],
        "",
        "µs per example",
        width=10.0,
    )
    learned = points(records)
    numbers = fit_model(learned) if len(learned) > _FEW else None
    of_a_block = [record for record in learned if record["block_size"] == _BLOCK]
    for index, devices in enumerate(sorted({record["num_devices"] for record in of_a_block})):
        line = [record for record in of_a_block if record["num_devices"] == devices]
        sizes = [record["num_memories"] for record in line]
        place.plot(
            sizes,
            [1e6 * record["seconds_per_example"] for record in line],
            linestyle="none",
            **style(index),
            label="1 device" if devices == 1 else f"{devices} devices of one CPU",
        )
        if numbers is not None:
            modelled = [1e6 * float(numbers @ work(record)) for record in line]
            place.plot(sizes, modelled, color=COLOURS[index], linestyle="--")
    alone = [record for record in of_a_block if record["num_devices"] == 1]
    place.plot(
        [record["num_memories"] for record in alone],
        [1e6 * record["product_seconds_per_example"] for record in alone],
        color=COLOURS[-1],
        label="the bare product",
    )
    place.set_xlabel("memories")
    place.set_xscale("log")
    place.set_yscale("log")
    place.xaxis.set_major_formatter("{x:,.0f}")
    _draw_weak_scaling(weak, of_a_block)
    legend(drawn, place, weak)
    return drawn


def _draw_weak_scaling(place: Any, records: list[dict[str, Any]]) -> None:
    mine = [
        record
        for record in records
        if record["num_memories"] == _MEMORIES_OF_A_DEVICE * record["num_devices"]
    ]
    devices = np.array([record["num_devices"] for record in mine])
    for name, label, index in (
        ("seconds_per_example", "learning, over the devices", len(COLOURS) + 1),
        ("product_seconds_per_example", "the bare product, over the devices", len(COLOURS) - 1),
    ):
        seconds = np.array([record[name] for record in mine])
        place.plot(devices, 1e6 * seconds / devices, label=label, **style(index))
    place.set_xlabel("devices of one CPU")
    place.set_xscale("log", base=2)
    place.xaxis.set_major_formatter("{x:.0f}")
    place.set_ylim(0)


def main(arguments: list[str] | None = None) -> None:
    """Measure the points, print their rows and keep the records."""
    parser = options(__doc__)
    parser.add_argument("--memories", type=int, metavar="N", help="memories of the bank")
    parser.add_argument("--block", type=int, metavar="N", help="examples per block")
    parser.add_argument("--devices", type=int, metavar="N", help="lay the bank over N devices")
    parser.add_argument("--queries", type=int, metavar="N", help="ask the bank N images instead")
    chosen = parser.parse_args(arguments)
    if chosen.queries:
        record = ask(chosen.queries, chosen.memories or _MEMORIES)
        print(json.dumps(record, indent=1))
        name = f"{chosen.queries} queries {record['num_memories']} memories"
        keep(chosen.out, name, record)
        return
    measured = [(number, _BLOCK, 1) for number in MEMORIES]
    measured += [(_MEMORIES, block, 1) for block in BLOCKS if block != _BLOCK]
    if chosen.quick:
        measured = [(number, 64, 1) for number in (100, 200, 400, 800, 1600)]
    if any((chosen.memories, chosen.block, chosen.devices)):
        num_devices = chosen.devices or 1
        measured = [(chosen.memories or _MEMORIES, chosen.block or _BLOCK, num_devices)]
        jax.config.update("jax_num_cpu_devices", num_devices)
    for point in measured:
        record = measure(*point, turns=1 if chosen.quick else 3)
        publish(table, chosen.out, "{} memories {} per block {} devices".format(*point), record)


if __name__ == "__main__":
    main()
