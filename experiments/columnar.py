"""Measure the columnar network on MNIST.

    python -m experiments.columnar [--size NAME] [--seeds N] [--split test|validation] [--json FILE]

Every size learns the stream once, in several orders. All settings were chosen on the validation
split, the last 10,000 training examples.
"""

import argparse
import json
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import memjax
from experiments.records import over_seeds

_SIZES = ("small", "medium", "large")


def measure(size: str, split: str, seeds: int) -> dict[str, Any]:
    """Return the record of one size over several stream orders."""
    return {
        "dataset": "mnist",
        "size": size,
        "command": f"python -m experiments.columnar --size {size} --seeds {seeds} --split {split}",
        **over_seeds("mnist", partial(memjax.columnar_network, size=size), split, seeds),
    }


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table."""
    lines = [
        "| size | memories | accuracy, % (mean ± s.d.) | fit, s |",
        "|---|---|---|---|",
    ]
    for record in records:
        memories = statistics.median(run["num_memories"] for run in record["runs"])
        seconds = statistics.median(run["fit_seconds"] for run in record["runs"])
        lines.append(
            f"| {record['size']} | {int(memories):,} | {100 * record['mean_accuracy']:.2f} ± "
            f"{100 * record['standard_deviation']:.2f} | {seconds:.0f} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure the sizes, print the table and write the records."""
    parser = argparse.ArgumentParser(description="The columnar network on MNIST.")
    parser.add_argument("--size", choices=_SIZES, help="measure one size")
    parser.add_argument("--seeds", type=int, default=3, help="stream orders (default 3)")
    parser.add_argument("--split", choices=("test", "validation"), default="validation")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records to FILE")
    options = parser.parse_args(arguments)
    records = []
    for size in [options.size] if options.size else _SIZES:
        records.append(measure(size, options.split, options.seeds))
        print(table(records[-1:]).splitlines()[-1], flush=True)
        if options.json:
            options.json.write_text(json.dumps(records, indent=1) + "\n")
    print(table(records))


if __name__ == "__main__":
    main()
