"""Measure whether a process needs more memory the longer the stream that it learns from.

    python -m experiments.endless [--examples N] [--out FOLDER] [--quick]

Made-up images of 4 x 4 pixels, one of ten pictures and noise each, come in batches of 1 to 8,192
and are gone when they were learned. `fit_stream` writes twenty checkpoints on the way. After every
tenth of the stream two figures are taken: the most memory that the process has held so far,
whatever for, and what it holds at that moment. The first includes the interpreter, the libraries
and the compiler; a leak that hides below it shows in the second.
"""

import tempfile
import time
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import psutil

import memjax
from experiments.figures import COLOURS, MARKERS, axes, legend
from experiments.records import RESULTS, keep, options, read
from memjax.command.machine import peak_memory_bytes
from memjax.evaluation import num_memories

_IMAGE_SHAPE = (4, 4, 1)
_NUM_CLASSES = 10
_CAPACITY = 32
_BLOCK = 512
_NUM_CHECKPOINTS = 20


def batches(num_examples: int, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield images uint8 [n, 4, 4, 1] and labels [n] of uneven batches, N examples in all."""
    generator = np.random.default_rng(seed)
    pictures = generator.integers(0, 156, (_NUM_CLASSES, *_IMAGE_SHAPE), np.uint8)
    while num_examples:
        size = min(int(generator.integers(1, 8193)), num_examples)
        labels = generator.integers(0, _NUM_CLASSES, size, np.int32)
        noise = generator.integers(0, 100, (size, *_IMAGE_SHAPE), np.uint8)
        yield pictures[labels] + noise, labels
        num_examples -= size


def measure(num_examples: int) -> dict[str, Any]:
    """Return the record of one stream."""
    network, params = memjax.memory_network(
        _IMAGE_SHAPE, _NUM_CLASSES, capacity=_CAPACITY, encoder="pixels", novelty_threshold=0.05
    )
    process, tenths = psutil.Process(), []
    start = time.perf_counter()

    def note(_state: Any, _infos: Any, tally: memjax.training.Tally) -> None:
        if tally.num_seen * 10 >= num_examples * (len(tenths) + 1):
            tenths.append(
                {
                    "num_seen": tally.num_seen,
                    "seconds": time.perf_counter() - start,
                    "peak_memory_bytes": peak_memory_bytes(),
                    "memory_bytes": process.memory_info().rss,
                }
            )

    with tempfile.TemporaryDirectory() as folder:
        state, tally = memjax.fit_stream(
            network,
            params,
            network.init(jax.random.key(0)),
            batches(num_examples),
            _BLOCK,
            callbacks=[note],
            checkpoint_dir=folder,
            checkpoint_every=max(num_examples // _NUM_CHECKPOINTS, 1),
        )
    return {
        "num_examples": num_examples,
        "capacity": _CAPACITY,
        "block_size": _BLOCK,
        "num_checkpoints": _NUM_CHECKPOINTS,
        "seed": 0,
        "command": f"python -m experiments.endless --examples {num_examples}",
        "num_memories": num_memories(state),
        "prequential_accuracy": tally.prequential_accuracy,
        "tenths": tenths,
    }


def records() -> list[dict[str, Any]]:
    """Return the records of the repository."""
    return read(RESULTS / "endless", lambda record: record["num_examples"])


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table."""
    lines = [
        "| examples | a second | most memory in the first tenth, MB | up to the last, MB | "
        "held after the first tenth, MB | after the last, MB | prequential accuracy, % |",
        "|---|---|---|---|---|---|---|",
    ]
    for record in records:
        first, last = record["tenths"][0], record["tenths"][-1]
        memory = " | ".join(
            f"{tenth[name] / 1e6:.1f}"
            for name in ("peak_memory_bytes", "memory_bytes")
            for tenth in (first, last)
        )
        lines.append(
            f"| {record['num_examples']:,} | {last['num_seen'] / last['seconds']:,.0f} | "
            f"{memory} | {100 * record['prequential_accuracy']:.2f} |"
        )
    return "\n".join(lines)


def figure(records: list[dict[str, Any]]) -> Any:
    """Return the most memory of the longest stream, drawn over the examples learned."""
    tenths = records[-1]["tenths"]
    drawing, place = axes("examples learned, millions", "most memory so far, MB")
    seen = [tenth["num_seen"] / 1e6 for tenth in tenths]
    megabytes = [tenth["peak_memory_bytes"] / 1e6 for tenth in tenths]
    place.plot(seen, megabytes, color=COLOURS[0], marker=MARKERS[0], label="measured")
    limit = 1.05 * megabytes[0]
    place.axhline(limit, color=COLOURS[1], linestyle="--", label="5 % above the first tenth")
    place.set_xlim(0)
    place.set_ylim(0, 1.2 * limit)
    legend(drawing, place)
    return drawing


def main(arguments: list[str] | None = None) -> None:
    """Measure a stream, print the table and keep the record."""
    parser = options(__doc__)
    parser.add_argument("--examples", type=int, default=50_000_000, metavar="N")
    chosen = parser.parse_args(arguments)
    record = measure(200_000 if chosen.quick else chosen.examples)
    print(table([record]))
    keep(chosen.out, f"{record['num_examples']} examples", record)


if __name__ == "__main__":
    main()
