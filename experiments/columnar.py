"""What the columnar network reaches on MNIST and CIFAR-10, by its size.

    python -m experiments.columnar [--dataset NAME] [--size NAME] [--mirror] [--seeds N]
                                   [--split test|validation] [--out FOLDER] [--quick]

Every network learns the stream once, in each of several orders. All settings were chosen on the
validation split, which is the last 10,000 training examples.
"""

import statistics
from functools import partial
from typing import Any

import memjax
from experiments.figures import dataset_panels, style
from experiments.records import (
    TITLES,
    field,
    markdown_table,
    options,
    over_seeds,
    percent,
    place_by,
    publish,
    read,
    spread,
)

SIZES = ("small", "medium", "large")


def measure(dataset: str, size: str, is_mirrored: bool, split: str, seeds: int) -> dict[str, Any]:
    """Return the record of one network in several stream orders."""
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


records = partial(read, "columnar", place_by(dataset=TITLES, size=SIZES, mirror=(False, True)))


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table."""
    return markdown_table(
        {
            "dataset": TITLES[record["dataset"]],
            "size": f"{record['size']}{', `--mirror`' if record['mirror'] else ''}",
            "memories": f"{_memories(record):,}",
            "accuracy, % (mean ± s.d.)": percent(field(record, "accuracy")),
            "orders": len(record["runs"]),
            "fit, s": f"{statistics.median(field(record, 'fit_seconds')):.0f}",
        }
        for record in records
    )


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of the accuracy by size, one panel per dataset."""
    drawn, places, groups = dataset_panels(
        records, "size, and its memories", "accuracy, % (mean ± s.d.)"
    )
    for place, mine in zip(places, groups, strict=True):
        ticks = []
        for number, record in enumerate(mine):
            mean, deviation = spread(field(record, "accuracy"))
            place.errorbar(number, mean, yerr=deviation, capsize=4, **style(int(record["mirror"])))
            place.annotate(
                f"{mean:.2f}",
                (number, mean + deviation),
                (0, 7),
                textcoords="offset points",
                ha="center",
            )
            mirror = "\nwith mirror" if record["mirror"] else ""
            ticks.append(f"{record['size']}{mirror}\n{_memories(record):,}")
        place.set_xticks(range(len(ticks)), ticks)
        place.margins(x=0.15, y=0.15)
    return drawn


def _memories(record: dict[str, Any]) -> int:
    return int(statistics.median(field(record, "num_memories")))


def main(arguments: list[str] | None = None) -> None:
    """Measure the networks, print the table and keep the records."""
    parser = options(__doc__, dataset="mnist", seeds=3)
    parser.add_argument("--size", choices=SIZES, help="measure only this size")
    parser.add_argument("--mirror", action="store_true", help="show every image mirrored as well")
    chosen = parser.parse_args(arguments)
    dataset, seeds = ("digits", 1) if chosen.quick else (chosen.dataset, chosen.seeds)
    sizes = ("small",) if chosen.quick else (chosen.size,) if chosen.size else SIZES
    for size in sizes:
        record = measure(dataset, size, chosen.mirror, chosen.split, seeds)
        publish(table, chosen.out, f"{dataset} {size}{' mirror' * chosen.mirror}", record)


if __name__ == "__main__":
    main()
