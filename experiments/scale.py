"""What a memory, an example and a device cost: a model of time and memory, and points on it.

    python -m experiments.scale [--memories N] [--block N] [--devices N] [--out FOLDER] [--quick]

A full bank learns synthetic examples, unlabelled, so that each moves its winner: the common case.
Seconds for an example are measured beside those of the one matrix product that cannot be avoided,
in turns, and the memory that the compiled program states it allocates beside its arguments. With
`--devices` the bank lies over several; devices made of one CPU share its cores, so these points
show what the exchange costs, and nothing of what several accelerators bring.

The model has four numbers of the machine, seconds each: a for an operation of a product, the passes
over what it gives included; b for an example on a device, whatever the bank; and where devices
exchange candidates, c for a memory that is looked through to choose them and d for a distance that
a device receives. For K memories of D features, blocks of B examples, P devices that share the
cores, and C = min(4 B, K) candidates (none on one device),

    seconds an example = a (2 K D + 2 P B D) + b P + c K + d P C,
    bytes on a device = 4 (K (D + B + B / 32) / P + K B / P + C B + 2 B B),

the memories as they are left, their distances and the minima of these, the distances of those that
are no candidates (the term K B / P; like c K it is none on one device), those of the candidates,
and the products of a block with itself; what is given is not counted. Devices with cores of their
own do their parts at the same time: divide the seconds by P. The numbers are fitted to every other
point, by relative error, and the table says how far the model is from the others too.

With `--queries N` a full bank is asked instead: so many images of 28 x 28 bytes, by `predict`. The
record holds the seconds and the most memory that the process held, examples and bank included.
"""

import json
import math
import time
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from memjax.memory.sharded import shard
from scipy.optimize import nnls

import memjax
from experiments.figures import COLOURS, MARKERS, axes, legend
from experiments.records import RESULTS, keep, options, read
from experiments.speed import bare_product, in_turns
from memjax.command.machine import allocated_bytes, peak_memory_bytes
from memjax.devices import memory_mesh
from memjax.memory import MemoryState

MEMORIES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000)
BLOCKS = (64, 256, 1024)
_BLOCK, _MEMORIES = 256, 16_384  # where the other one varies
_FEATURES, _NUM_CLASSES = 196, 10
_FEW = 7  # points, to which no model of four numbers is fitted


def measure(num_memories: int, block: int, num_devices: int, turns: int = 3) -> dict[str, Any]:
    """Return the record of one point."""
    bank = memjax.MemoryLayer(_FEATURES, _NUM_CLASSES, num_memories)
    params = bank.params(novelty_threshold=jnp.inf)
    generator = np.random.default_rng(0)
    num_examples = block * max(4096 // block, 4)
    xs = jnp.asarray(generator.random((num_examples, _FEATURES), np.float32))
    labels = jnp.full((num_examples,), memjax.base.UNLABELLED, jnp.int32)
    state = _full(num_memories, _FEATURES)
    layer: memjax.Layer = bank
    if num_devices > 1:
        layer = shard(bank, memory_mesh(jax.devices()[:num_devices]))
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
        "seconds_an_example": seconds / num_examples,
        "product_seconds_an_example": reference_seconds / num_examples,
        "ratio": ratio,
        "allocated_bytes": allocated_bytes(fit, layer, params, state, xs, labels),
    }


def ask(num_queries: int, num_memories: int) -> dict[str, Any]:
    """Return the record of images that a full bank of images is asked about."""
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
    """Return a full bank of random memories, each of which has one vote."""
    labels = jnp.arange(num_memories) % _NUM_CLASSES
    prototypes = np.random.default_rng(0).random((num_memories, num_features), np.float32)
    return MemoryState(
        prototypes=jnp.asarray(prototypes),
        counts=jnp.ones((num_memories,), jnp.int32),
        votes=jax.nn.one_hot(labels, _NUM_CLASSES, dtype=jnp.int32),
        stored_at=jnp.zeros((num_memories,), jnp.int32),
        size=jnp.int32(num_memories),
        num_seen=jnp.int32(num_memories),
    )


def work(record: dict[str, Any]) -> tuple[float, float, float, float]:
    """Return what one example takes of each of the model's numbers."""
    memories, features = record["num_memories"], record["num_features"]
    block, devices = record["block_size"], record["num_devices"]
    operations = 2.0 * features * (memories + devices * block)
    chosen = float(memories) if devices > 1 else 0.0
    return operations, float(devices), chosen, float(devices * _num_candidates(record))


def needed_bytes(record: dict[str, Any]) -> float:
    """Return the bytes of the model, on each device."""
    memories, features = record["num_memories"], record["num_features"]
    block, devices = record["block_size"], record["num_devices"]
    numbers = memories * (features + block * (1 + 1 / 32)) / devices
    if devices > 1:
        numbers += memories * block / devices
    return 4 * (numbers + _num_candidates(record) * block + 2 * block**2)


def _num_candidates(record: dict[str, Any]) -> int:
    """Return the candidates in a round, those that stand for none included."""
    most = 4 * record["block_size"]  # two near each example, one free row, one that is searched for
    return min(most, record["num_memories"]) if record["num_devices"] > 1 else 0


def fitted(records: list[dict[str, Any]]) -> np.ndarray:
    """Return the four numbers of the machine, none below 0, from every other of the records."""
    chosen = _halves(records)[0]
    seconds = np.array([record["seconds_an_example"] for record in chosen])
    return nnls(
        np.array([work(record) for record in chosen]) / seconds[:, None], np.ones(len(chosen))
    )[0]


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

    return read(RESULTS / "scale", place)


def points(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records of learning."""
    return [record for record in records if "num_queries" not in record]


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table, and the numbers of the model."""
    learned = points(records)
    numbers = fitted(learned) if len(learned) > _FEW else np.zeros(0)
    lines = [
        "| memories | examples of a block | devices | µs an example | by the model | "
        "of the product | ratio | allocated on a device, MB | by the model |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for record in learned:
        told = f"{1e6 * float(numbers @ work(record)):.1f}" if numbers.size else ""
        lines.append(
            f"| {record['num_memories']:,} | {record['block_size']:,} | {record['num_devices']} | "
            f"{1e6 * record['seconds_an_example']:.1f} | {told} | "
            f"{1e6 * record['product_seconds_an_example']:.1f} | {record['ratio']:.2f} | "
            f"{record['allocated_bytes'] / 1e6:,.1f} | {needed_bytes(record) / 1e6:,.1f} |"
        )
    if numbers.size:
        errors = [_error(record, numbers) for record in _halves(learned)[1]]
        lines += [
            "",
            f"The model's numbers: {1 / numbers[0] / 1e9:,.0f} GFLOP/s, {1e6 * numbers[1]:.1f} µs "
            f"an example and device, {1e9 * numbers[2]:.2f} ns a memory looked through and "
            f"{1e9 * numbers[3]:.2f} ns a distance received. From the points that they were not "
            f"fitted to it is {100 * np.mean(errors):.0f} % away in the mean, "
            f"{100 * max(errors):.0f} % at most.",
        ]
    for record in records:
        if "num_queries" in record:
            lines += [
                "",
                f"{record['num_queries']:,} images of {record['num_features']} pixels asked of "
                f"{record['num_memories']:,} memories: {record['seconds']:,.0f} s, and "
                f"{record['peak_memory_bytes'] / 1e9:.2f} GB at most in the whole process, of "
                f"which the images take {record['queries_bytes'] / 1e9:.2f} and the bank "
                f"{record['state_bytes'] / 1e9:.2f} ({record['device']}).",
            ]
    return "\n".join(lines)


def _error(record: dict[str, Any], numbers: np.ndarray) -> float:
    return abs(float(numbers @ work(record)) / record["seconds_an_example"] - 1)


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of the time for an example over the memories, with the model's lines."""
    drawn, place = axes("memories", "µs an example")
    learned = points(records)
    numbers = fitted(learned) if len(learned) > _FEW else np.zeros(0)
    of_a_block = [record for record in learned if record["block_size"] == _BLOCK]
    for index, devices in enumerate(sorted({record["num_devices"] for record in of_a_block})):
        line = [record for record in of_a_block if record["num_devices"] == devices]
        sizes = [record["num_memories"] for record in line]
        place.plot(
            sizes,
            [1e6 * record["seconds_an_example"] for record in line],
            color=COLOURS[index],
            marker=MARKERS[index],
            linestyle="none",
            label="1 device" if devices == 1 else f"{devices} devices of one CPU",
        )
        if numbers.size:
            modelled = [1e6 * float(numbers @ work(record)) for record in line]
            place.plot(sizes, modelled, color=COLOURS[index], linestyle="--")
    alone = [record for record in of_a_block if record["num_devices"] == 1]
    place.plot(
        [record["num_memories"] for record in alone],
        [1e6 * record["product_seconds_an_example"] for record in alone],
        color=COLOURS[-1],
        label="the bare product",
    )
    place.set_xscale("log")
    place.set_yscale("log")
    place.xaxis.set_major_formatter("{x:,.0f}")
    legend(drawn, place)
    return drawn


def main(arguments: list[str] | None = None) -> None:
    """Measure the points, print their rows and keep the records."""
    parser = options(__doc__)
    parser.add_argument("--memories", type=int, metavar="N", help="of the bank")
    parser.add_argument("--block", type=int, metavar="N", help="examples of a block")
    parser.add_argument(
        "--devices", type=int, metavar="N", help="over which a bank lies, made of one CPU"
    )
    parser.add_argument("--queries", type=int, metavar="N", help="images that a bank is asked")
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
        print(table([record]).splitlines()[-1], flush=True)
        keep(chosen.out, "{} memories {} a block {} devices".format(*point), record)


if __name__ == "__main__":
    main()
