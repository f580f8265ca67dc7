"""What the columnar network reaches on MNIST and CIFAR-10, by its size.

    python -m experiments.columnar [--dataset NAME] [--size NAME] [--mirror] [--seeds N]
                                   [--split test|validation] [--out FOLDER] [--quick]

Every network learns the stream once, in several orders. All settings were chosen on the validation
split, the last 10,000 training examples.
"""

import statistics
from functools import partial
from typing import Any

import memjax
from experiments.figures import COLOURS, panels
from experiments.records import (
    RESULTS,
    TITLES,
    keep,
    measured_datasets,
    options,
    over_seeds,
    percent,
    read,
    spread,
)

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


def records() -> list[dict[str, Any]]:
    """Return the records of the repository."""
    return read(RESULTS / "columnar", _place)


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table."""
    lines = [
        "| dataset | size | memories | accuracy, % (mean ± s.d.) | orders | fit, s |",
        "|---|---|---|---|---|---|",
    ]
    for record in records:
        runs = record["runs"]
        seconds = statistics.median(run["fit_seconds"] for run in runs)
        size = f"{record['size']}{', `--mirror`' if record['mirror'] else ''}"
        lines.append(
            f"| {TITLES[record['dataset']]} | {size} | {_memories(record):,} | "
            f"{percent([run['accuracy'] for run in runs])} | {len(runs)} | {seconds:.0f} |"
        )
    return "\n".join(lines)


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of the accuracy by size, one panel a dataset."""
    names = measured_datasets(records)
    drawn, places = panels(
        [TITLES[name] for name in names], "size, and its memories", "accuracy, % (mean ± s.d.)"
    )
    for name, place in zip(names, places, strict=True):
        ticks = []
        for number, record in enumerate(each for each in records if each["dataset"] == name):
            shares = [run["accuracy"] for run in record["runs"]]
            mean, deviation = spread(shares)
            colour, marker = (COLOURS[1], "D") if record["mirror"] else (COLOURS[0], "o")
            place.errorbar(number, mean, yerr=deviation, fmt=marker, color=colour, capsize=4)
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
    return int(statistics.median(run["num_memories"] for run in record["runs"]))


def _place(record: dict[str, Any]) -> tuple[int, int, bool]:
    return (
        list(TITLES).index(record["dataset"]),
        _SIZES.index(record["size"]),
        record["mirror"],
    )


def main(arguments: list[str] | None = None) -> None:
    """Measure the networks, print the table and keep the records."""
    parser = options(__doc__, dataset="mnist", seeds=3)
    parser.add_argument("--size", choices=_SIZES, help="measure one size")
    parser.add_argument("--mirror", action="store_true", help="see every image mirrored as well")
    chosen = parser.parse_args(arguments)
    dataset, seeds = ("digits", 1) if chosen.quick else (chosen.dataset, chosen.seeds)
    sizes = ("small",) if chosen.quick else (chosen.size,) if chosen.size else _SIZES
    measured = []
    for size in sizes:
        measured.append(measure(dataset, size, chosen.mirror, chosen.split, seeds))
        mirror = " mirror" if chosen.mirror else ""
        keep(chosen.out, f"{dataset} {size}{mirror}", measured[-1])
    print(table(measured))


if __name__ == "__main__":
    main()
