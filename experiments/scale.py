"""What a memory, an example and a device cost: a model of time and memory, and points on it.

    python -m experiments.scale [--memories N] [--block N] [--devices N] [--out FOLDER] [--quick]

A full bank learns synthetic examples, unlabelled, so that each moves its winner: the common case.
Seconds for an example are measured beside those of the one matrix product that cannot be avoided,
in turns, and the memory that the compiled program states it allocates beside its arguments. With
`--devices` the bank lies over several; devices made of one CPU share its cores, so these points
show what the exchange costs, and nothing of what several accelerators bring.

The model has two numbers of the machine: seconds an operation of a product takes, the passes over
what it gives included, and seconds an example takes whatever the bank. For K memories of D features
and blocks of B examples,

    seconds an example = a (2 K D + 2 B D) + b,
    bytes = 4 (K D + K B + K B / 32 + 2 B B),

the memories as they are left, their distances and the minima of these, and the products of a block
with itself; what is given is not counted. Both numbers are fitted to
every other point of one device, by relative error, and the table says how far the model is from
the others too.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import nnls

import memjax
from experiments.figures import COLOURS, MARKERS, axes, legend
from experiments.records import RESULTS, keep, options, read
from experiments.speed import allocated_bytes, in_turns
from memjax.memory import MemoryState
from memjax.sharding import memory_mesh, over_devices

MEMORIES = (1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000)
BLOCKS = (64, 256, 1024)
_BLOCK, _MEMORIES = 256, 16_384  # where the other one varies
_FEATURES, _NUM_CLASSES = 196, 10


def measure(num_memories: int, block: int, num_devices: int, turns: int = 3) -> dict[str, Any]:
    """Return the record of one point."""
    bank = memjax.MemoryLayer(_FEATURES, _NUM_CLASSES, num_memories)
    params = bank.params(novelty_threshold=jnp.inf)
    generator = np.random.default_rng(0)
    num_examples = block * max(4096 // block, 4)
    xs = jnp.asarray(generator.random((num_examples, _FEATURES), np.float32))
    labels = jnp.full((num_examples,), memjax.types.UNLABELLED, jnp.int32)
    state = MemoryState(
        prototypes=jnp.asarray(generator.random((num_memories, _FEATURES), np.float32)),
        counts=jnp.ones((num_memories,), jnp.int32),
        votes=jnp.zeros((num_memories, _NUM_CLASSES), jnp.int32),
        stored_at=jnp.zeros((num_memories,), jnp.int32),
        size=jnp.int32(num_memories),
        num_seen=jnp.int32(num_memories),
    )
    layer: memjax.Layer = bank
    if num_devices > 1:
        layer = over_devices(bank, memory_mesh(jax.devices()[:num_devices]))
        empty = layer.init(jax.random.key(0))
        state = jax.tree.map(lambda leaf, like: jax.device_put(leaf, like.sharding), state, empty)
    memories = state.prototypes

    def learn():
        jax.block_until_ready(memjax.fit(layer, params, state, xs, labels, block))

    rows = xs.reshape(-1, block, _FEATURES)
    seconds, reference_seconds, ratio = in_turns(
        learn, lambda: jax.block_until_ready(_bare_product(memories, rows)), turns
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
        "allocated_bytes": allocated_bytes(fit.lower(layer, params, state, xs, labels)),
    }


@jax.jit
def _bare_product(memories, blocks):
    def multiply(total, xs):
        product = jnp.matmul(memories, xs.T, precision=jax.lax.Precision.HIGHEST)
        # Two entries are kept, so that the product cannot be left out.
        return total + product[0, 0] + product[-1, -1], None

    return jax.lax.scan(multiply, jnp.zeros(()), blocks)[0]


def work(record: dict[str, Any]) -> tuple[float, float]:
    """Return what one example takes: operations of products, and itself."""
    memories, features = record["num_memories"], record["num_features"]
    return 2.0 * features * (memories + record["block_size"]), 1.0


def needed_bytes(record: dict[str, Any]) -> float:
    """Return the bytes of the model."""
    memories, features = record["num_memories"], record["num_features"]
    block = record["block_size"]
    return 4 * (memories * features + memories * block * (1 + 1 / 32) + 2 * block**2)


def fitted(records: list[dict[str, Any]]) -> np.ndarray:
    """Return the two numbers of the machine, none below 0, from every other of the records."""
    chosen = records[::2]
    seconds = np.array([record["seconds_an_example"] for record in chosen])
    return nnls(
        np.array([work(record) for record in chosen]) / seconds[:, None], np.ones(len(chosen))
    )[0]


def records() -> list[dict[str, Any]]:
    """Return the records of the repository."""
    return read(
        RESULTS / "scale",
        lambda r: (r["num_devices"], r["block_size"] != _BLOCK, r["num_memories"], r["block_size"]),
    )


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table, and the numbers of the model."""
    alone = [record for record in records if record["num_devices"] == 1]
    numbers = fitted(alone) if len(alone) > 4 else np.zeros(0)
    lines = [
        "| memories | examples of a block | devices | µs an example | by the model | "
        "of the product | ratio | allocated, MB | by the model |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        is_alone = record["num_devices"] == 1
        is_told = is_alone and numbers.size > 0
        told = f"{1e6 * float(numbers @ work(record)):.1f}" if is_told else ""
        lines.append(
            f"| {record['num_memories']:,} | {record['block_size']:,} | {record['num_devices']} | "
            f"{1e6 * record['seconds_an_example']:.1f} | {told} | "
            f"{1e6 * record['product_seconds_an_example']:.1f} | {record['ratio']:.2f} | "
            f"{record['allocated_bytes'] / 1e6:,.1f} | "
            f"{f'{needed_bytes(record) / 1e6:,.1f}' if is_alone else ''} |"
        )
    if numbers.size:
        errors = [_error(record, numbers) for record in alone[1::2]]
        lines += [
            "",
            f"The model's numbers: {1 / numbers[0] / 1e9:,.0f} GFLOP/s and "
            f"{1e6 * numbers[1]:.1f} µs an example. From the points that they were not fitted to "
            f"it is {100 * np.mean(errors):.0f} % away in the mean, {100 * max(errors):.0f} % at "
            "most.",
        ]
    return "\n".join(lines)


def _error(record: dict[str, Any], numbers: np.ndarray) -> float:
    return abs(float(numbers @ work(record)) / record["seconds_an_example"] - 1)


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of the time for an example over the memories, with the model's line."""
    alone = [record for record in records if record["num_devices"] == 1]
    line = [record for record in alone if record["block_size"] == _BLOCK]
    drawn, place = axes("memories", "µs an example")
    sizes = [record["num_memories"] for record in line]
    for number, (name, values) in enumerate(
        {
            "learning": [record["seconds_an_example"] for record in line],
            "the bare product": [record["product_seconds_an_example"] for record in line],
        }.items()
    ):
        place.plot(
            sizes,
            [1e6 * value for value in values],
            color=COLOURS[number],
            marker=MARKERS[number],
            linestyle="none",
            label=name,
        )
    if len(alone) > 4:
        numbers = fitted(alone)
        modelled = [1e6 * float(numbers @ work(record)) for record in line]
        place.plot(sizes, modelled, color=COLOURS[-1], linestyle="--", label="the model")
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
    chosen = parser.parse_args(arguments)
    points = [(number, _BLOCK, 1) for number in MEMORIES]
    points += [(_MEMORIES, block, 1) for block in BLOCKS if block != _BLOCK]
    if chosen.quick:
        points = [(number, 64, 1) for number in (100, 200, 400, 800, 1600)]
    if any((chosen.memories, chosen.block, chosen.devices)):
        num_devices = chosen.devices or 1
        points = [(chosen.memories or _MEMORIES, chosen.block or _BLOCK, num_devices)]
        jax.config.update("jax_num_cpu_devices", num_devices)
    for point in points:
        record = measure(*point, turns=1 if chosen.quick else 3)
        print(table([record]).splitlines()[-1], flush=True)
        keep(chosen.out, "{} memories {} a block {} devices".format(*point), record)


if __name__ == "__main__":
    main()
