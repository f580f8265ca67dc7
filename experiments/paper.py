"""Measure the reconstruction of the paper beside the figures that the paper reports.

    python -m experiments.paper [--only NAME] [--seeds N] [--split test|validation] [--json FILE]

Every setting learns in one pass, once for each stream order, and is tested on the split that is
named. All settings were chosen on the validation split, the last 10,000 training examples.
"""

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import memjax
from experiments.records import TITLES, keep, over_seeds


class Setting(NamedTuple):
    """One line of the table: a dataset, an encoder and the memories there is room for."""

    dataset: str
    encoder: str
    capacity: int
    paper: float | None = None  # accuracy that the paper reports, where it does


SETTINGS = {
    "digits": Setting("digits", "edges", 3_000),
    "mnist-pixels-1000": Setting("mnist", "pixels", 1_000, paper=0.97),
    "mnist-pixels-3000": Setting("mnist", "pixels", 3_000, paper=0.97),
    "mnist-edges-1000": Setting("mnist", "edges", 1_000, paper=0.97),
    "mnist-edges-3000": Setting("mnist", "edges", 3_000, paper=0.97),
    "mnist-edges-5000": Setting("mnist", "edges", 5_000, paper=0.97),
    "cifar10-pixels-3000": Setting("cifar10", "pixels", 3_000, paper=0.40),
    "cifar10-edges-3000": Setting("cifar10", "edges", 3_000, paper=0.40),
}


def measure(name: str, split: str, seeds: int) -> dict[str, Any]:
    """Return the record of one setting over several stream orders."""
    setting = SETTINGS[name]

    def build(image_shape, num_classes):
        return memjax.memory_network(
            image_shape, num_classes, capacity=setting.capacity, encoder=setting.encoder
        )

    return {
        "name": name,
        **setting._asdict(),
        "command": f"python -m experiments.paper --only {name} --seeds {seeds} --split {split}",
        **over_seeds(setting.dataset, build, split, seeds),
    }


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table."""
    lines = [
        "| dataset | encoder | memories | accuracy, % (mean ± s.d.) | paper, % |",
        "|---|---|---|---|---|",
    ]
    for record in records:
        sizes = [run["num_memories"] for run in record["runs"]]
        memories = " to ".join(f"{size:,}" for size in sorted({min(sizes), max(sizes)}))
        paper = f"{100 * record['paper']:.0f}" if record["paper"] else ""
        lines.append(
            f"| {TITLES[record['dataset']]} | {record['encoder']} | {memories} | "
            f"{100 * record['mean_accuracy']:.2f} ± {100 * record['standard_deviation']:.2f} | "
            f"{paper} |"
        )
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Measure the settings, print the table and keep the records."""
    parser = argparse.ArgumentParser(description="The reconstruction beside the paper's figures.")
    parser.add_argument("--only", choices=tuple(SETTINGS), help="measure one setting")
    parser.add_argument("--seeds", type=int, default=5, help="stream orders (default 5)")
    parser.add_argument("--split", choices=("test", "validation"), default="validation")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep the records in FILE")
    options = parser.parse_args(arguments)
    names = [options.only] if options.only else list(SETTINGS)
    records = []
    for name in names:
        records.append(measure(name, options.split, options.seeds))
        keep(options.json, records[-1], lambda record: list(SETTINGS).index(record["name"]))
    print(table(records))


if __name__ == "__main__":
    main()
