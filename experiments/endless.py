"""Whether a process needs more memory the longer its stream is.

    python -m experiments.endless [--examples N] [--out FOLDER] [--quick]

The images are made up: 4 x 4 pixels, each with one of ten pictures and noise. They come in batches
of 1 to 8,192, and are gone once they are learned. `fit_stream` writes twenty checkpoints on the
way. Two figures are taken after every tenth of the stream: the most memory that the process has
held so far, whatever for, and what it holds at that moment. The first includes the interpreter, the
libraries and the compiler. A leak that hides below it shows in the second.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import jax
import numpy as np

import memjax
from experiments.figures import COLOURS, axes, legend, style
from experiments.records import markdown_table, options, publish, read
from memjax.command.machine import peak_memory_bytes
from memjax.streams import Tally

_IMAGE_SHAPE = (4, 4, 1)
_NUM_CLASSES = 10
_CAPACITY = 32
_BLOCK = 512
_NUM_CHECKPOINTS = 20


def batches(num_examples: int, seed: int = 0) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield images uint8 [n, 4, 4, 1] and labels [n] in uneven batches, ``num_examples`` in all."""
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
    tenths: list[dict[str, float]] = []
    start = time.perf_counter()

    def note(_state: Any, _infos: Any, tally: Tally) -> None:
        if tally.num_seen * 10 >= num_examples * (len(tenths) + 1):
            tenths.append(
                {
                    "num_seen": tally.num_seen,
                    "seconds": time.perf_counter() - start,
                    "peak_memory_bytes": peak_memory_bytes(),
                    "memory_bytes": memory_bytes(),
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
        "num_memories": memjax.num_memories(network, state),
        "prequential_accuracy": tally.prequential_accuracy,
        "tenths": tenths,
    }


def memory_bytes() -> int:
    """Return the host memory that this process holds now, as Linux tells it.

    Example:
        >>> memory_bytes() > 10**7
        True
    """
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


records = partial(read, "endless", itemgetter("num_examples"))


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table."""
    rows = []
    for record in records:
        first, last = record["tenths"][0], record["tenths"][-1]
        rows.append(
            {
                "examples": f"{record['num_examples']:,}",
                "examples per second": f"{last['num_seen'] / last['seconds']:,.0f}",
                "most memory in the first tenth, MB": f"{first['peak_memory_bytes'] / 1e6:.1f}",
                "most memory in all, MB": f"{last['peak_memory_bytes'] / 1e6:.1f}",
                "held after the first tenth, MB": f"{first['memory_bytes'] / 1e6:.1f}",
                "held at the end, MB": f"{last['memory_bytes'] / 1e6:.1f}",
                "prequential accuracy, %": f"{100 * record['prequential_accuracy']:.2f}",
            }
        )
    return markdown_table(rows)


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of the most memory in the longest stream, over the examples learned."""
    tenths = records[-1]["tenths"]
    drawing, place = axes("examples learned, millions", "most memory so far, MB")
    seen = [tenth["num_seen"] / 1e6 for tenth in tenths]
    megabytes = [tenth["peak_memory_bytes"] / 1e6 for tenth in tenths]
    place.plot(seen, megabytes, label="measured", **style(0))
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
    publish(table, chosen.out, f"{record['num_examples']} examples", record)


if __name__ == "__main__":
    main()
