"""What the columnar network reaches on images of digits, clothes and things, by its size.

    python -m experiments.columnar [--dataset NAME] [--size NAME] [--mirror] [--seeds N]
                                   [--folder FOLDER] [--split test|validation] [--out FOLDER]
                                   [--quick]

Every network learns the stream once, in each of several orders. All settings were chosen on the
validation split, which is the last 10,000 training examples. The networks of all orders also answer
together, with the mean of their evidence.

A run writes a checkpoint after every 10,000 examples into ``--folder``, and goes on from the last
one there.
"""

import statistics
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import memjax
from experiments import energy
from experiments.figures import legend, panels, style
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
from memjax.networks import SIZES


def measure(
    dataset: str, size: str, is_mirrored: bool, split: str, seeds: int, folder: Path | None
) -> dict[str, Any]:
    """Return the record of one network in several stream orders."""
    name = f"{dataset}-{size}{'-mirror' * is_mirrored}-{split}"
    command = f"python -m experiments.columnar --dataset {dataset} --size {size}"
    command += f"{' --mirror' if is_mirrored else ''} --seeds {seeds} --split {split}"
    build = partial(memjax.columnar_network, size=size, is_mirrored=is_mirrored)
    return {
        "dataset": dataset,
        "size": size,
        "mirror": is_mirrored,
        "command": command,
        **over_seeds(dataset, build, split, seeds, None if folder is None else folder / name),
    }


records = partial(read, "columnar", place_by(dataset=TITLES, size=SIZES, mirror=(False, True)))


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table; networks that answer together have their own row."""
    return markdown_table(row for record in records for row in _rows(record))


def _rows(record: dict[str, Any]) -> Iterator[dict[str, Any]]:
    size = f"{record['size']}{', `--mirror`' * record['mirror']}"
    memories = int(statistics.median(field(record, "num_memories")))
    # A run that went on from a checkpoint has no time.
    seconds = [each for each in field(record, "fit_seconds") if each is not None]
    for is_together, scale, shares in _answers(record):
        yield {
            "dataset": TITLES[record["dataset"]],
            "size": f"{size}, {scale} together" if is_together else size,
            "memories": f"{scale * memories:,}",
            "accuracy, % (mean ± s.d.)": percent(shares),
            "orders": len(shares),
            "fit, s": f"{scale * statistics.median(seconds):.0f}" if seconds else "-",
        }


def _answers(record: dict[str, Any]) -> Iterator[tuple[bool, int, list[float]]]:
    """Yield whether networks answer together, how many, and the shares that they get right."""
    yield False, 1, field(record, "accuracy")
    if len(record["runs"]) > 1 and "together" in record:
        yield True, len(record["runs"]), [record["together"]]


# The lines of the figure: whether their images are mirrored and their networks answer together.
_LINES = {
    "each image once": {(False, False)},
    "each image in the mirror too": {(True, False)},
    "the networks of all orders together": {(False, True), (True, True)},
}


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of accuracy over operations and over bytes, a column for each dataset.

    `experiments.energy` counts both. They depend on the shapes of a dataset only.
    """
    counted = {(each["dataset"], each["network"]): each for each in energy.records()}

    def costs_of(record):
        """Return the TFLOP to learn a dataset, and the GB of the state."""
        dataset = "mnist" if record["dataset"] == "fashion_mnist" else record["dataset"]
        # An image that is seen in the mirror too is learned twice, and solved for once.
        found = counted[dataset, f"columnar {record['size']}"] | {"passes": 1 + record["mirror"]}
        return energy.whole_dataset(found) / 1e12, found["state_bytes"] / 1e9

    datasets = [name for name in TITLES if any(record["dataset"] == name for record in records)]
    titles = [TITLES[name] for name in datasets] + [""] * len(datasets)
    drawn, places = panels(titles, "", "accuracy, % (mean ± s.d.)", 9, 6, num_columns=len(datasets))
    for number, place in enumerate(places):
        row, column = divmod(number, len(datasets))
        mine = [record for record in records if record["dataset"] == datasets[column]]
        for index, (label, kinds) in enumerate(_LINES.items()):
            points = [
                (each["size"], scale * costs_of(each)[row], *spread(shares))
                for each in mine
                for is_together, scale, shares in _answers(each)
                if (each["mirror"], is_together) in kinds
            ]
            names, costs, means, deviations = zip(*points, strict=True) if points else ((),) * 4
            look = style(index) | {"capsize": 4, "label": label}
            if (False, True) in kinds:  # committees differ in more than their size
                look |= {"linestyle": ""}
            place.errorbar(costs, means, yerr=deviations, **look)
            for name, cost, mean in zip(names, costs, means, strict=True):
                text, offset = f"{name}, {mean:.2f}", (5, -11)
                place.annotate(text, (cost, mean), offset, textcoords="offset points", fontsize=8)
        ticks = sorted(costs_of(record)[row] for record in mine if not record["mirror"])
        place.set_xscale("log")
        place.set_xticks(ticks, [f"{tick:.0f}" if tick > 9 else f"{tick:.2g}" for tick in ticks])
        place.minorticks_off()
        place.set_xlim(ticks[0] * 0.7, ticks[-1] * 8)
        place.set_xlabel(("TFLOP to learn all images", "GB of what is learned")[row])
        place.margins(y=0.2)
    legend(drawn, *places, is_above=True)
    return drawn


def main(arguments: list[str] | None = None) -> None:
    """Measure the networks, print the table and keep the records."""
    parser = options(__doc__, dataset="mnist", seeds=3)
    parser.add_argument("--size", choices=SIZES, help="measure only this size")
    parser.add_argument("--mirror", action="store_true", help="show every image mirrored as well")
    parser.add_argument("--folder", type=Path, help="keep checkpoints here, and go on from them")
    chosen = parser.parse_args(arguments)
    dataset, seeds = ("digits", 1) if chosen.quick else (chosen.dataset, chosen.seeds)
    sizes = ("small",) if chosen.quick else (chosen.size,) if chosen.size else SIZES
    for size in sizes:
        record = measure(dataset, size, chosen.mirror, chosen.split, seeds, chosen.folder)
        publish(table, chosen.out, f"{dataset} {size}{' mirror' * chosen.mirror}", record)


if __name__ == "__main__":
    main()
