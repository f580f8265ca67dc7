"""Measure the columnar network on MNIST and CIFAR-10.

    python -m experiments.columnar [--dataset NAME] [--size NAME] [--mirror] [--seeds N]
                                   [--split test|validation] [--json FILE]

Every network learns the stream once, in several orders. All settings were chosen on the validation
split, the last 10,000 training examples.
"""

import argparse
import statistics
from functools import partial
from pathlib import Path
from typing import Any

import memjax
from experiments.records import TITLES, keep, over_seeds

_DATASETS = ("mnist", "cifar10")
_SIZES = ("small", "medium", "large")


def measure(dataset: str, size: str, is_mirrored: bool, split: str, seeds: int) -> dict[str, Any]:
    """Return the record of one network over several stream orders."""
    command = f"python -m experiments.columnar --dataset {dataset} --size {size}"
    command += f"{' --mirror' if is_mirrored else ''} --seeds {seeds} --split {split}"
    build = partial(memjax.columnar_network, size=size, is_mirrored=is_mirrored)
    return {
        "dataset": dataset,
        "size": size,
        "mirror": is_mirrored,
        "command": command,
        **over_seeds(dataset, build, split, seeds),
    }


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table."""
    lines = [
        "| dataset | size | memories | accuracy, % (mean ± s.d.) | orders | fit, s |",
        "|---|---|---|---|---|---|",
    ]
    for record in sorted(records, key=_place):
        runs = record["runs"]
        memories = statistics.median(run["num_memories"] for run in runs)
        seconds = statistics.median(run["fit_seconds"] for run in runs)
        spread = f" ± {100 * record['standard_deviation']:.2f}" if len(runs) > 1 else ""
        size = f"{record['size']}{', `--mirror`' if record['mirror'] else ''}"
        lines.append(
            f"| {TITLES[record['dataset']]} | {size} | {int(memories):,} | "
            f"{100 * record['mean_accuracy']:.2f}{spread} | {len(runs)} | {seconds:.0f} |"
        )
    return "\n".join(lines)


def _place(record: dict[str, Any]) -> tuple[int, int, bool]:
    return (
        _DATASETS.index(record["dataset"]),
        _SIZES.index(record["size"]),
        record["mirror"],
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure the networks, print the table and keep the records."""
    parser = argparse.ArgumentParser(description="The columnar network.")
    parser.add_argument("--dataset", choices=_DATASETS, default="mnist")
    parser.add_argument("--size", choices=_SIZES, help="measure one size")
    parser.add_argument("--mirror", action="store_true", help="see every image mirrored as well")
    parser.add_argument("--seeds", type=int, default=3, help="stream orders (default 3)")
    parser.add_argument("--split", choices=("test", "validation"), default="validation")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the records in FILE")
    options = parser.parse_args(arguments)
    records = []
    for size in [options.size] if options.size else _SIZES:
        record = measure(options.dataset, size, options.mirror, options.split, options.seeds)
        records.append(record)
        keep(options.json, record, _place)
    print(table(records))


if __name__ == "__main__":
    main()
