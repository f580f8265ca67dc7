"""What the reconstruction reaches, beside the figures that the paper reports.

    python -m experiments.paper [--only NAME] [--seeds N] [--split test|validation]
                                [--out FOLDER] [--quick]

Every setting learns in one pass, once for each stream order, and is tested on the named split. All
settings were chosen on the validation split, which is the last 10,000 training examples.
"""

from functools import partial
from typing import Any, NamedTuple

import memjax
from experiments.figures import COLOURS, legend, panels, style
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
    span,
)
from memjax import plotting


class Setting(NamedTuple):
    """One row of the table: a dataset, an encoder, and how many memories there is room for."""

    dataset: str
    encoder: str
    capacity: int
    paper: float | None = None  # the accuracy that the paper reports; None if it reports none


SETTINGS = {
    "digits": Setting("digits", "edges", 3_000),
    "mnist-pixels-1000": Setting("mnist", "pixels", 1_000, paper=0.97),
    "mnist-pixels-3000": Setting("mnist", "pixels", 3_000, paper=0.97),
    "mnist-edges-1000": Setting("mnist", "edges", 1_000, paper=0.97),
    "mnist-edges-3000": Setting("mnist", "edges", 3_000, paper=0.97),
    "mnist-edges-5000": Setting("mnist", "edges", 5_000, paper=0.97),
    "fashion-mnist-edges-1000": Setting("fashion_mnist", "edges", 1_000),
    "fashion-mnist-edges-3000": Setting("fashion_mnist", "edges", 3_000),
    "cifar10-pixels-3000": Setting("cifar10", "pixels", 3_000, paper=0.40),
    "cifar10-edges-3000": Setting("cifar10", "edges", 3_000, paper=0.40),
}


def measure(name: str, split: str, seeds: int) -> dict[str, Any]:
    """Return the record of one setting in several stream orders."""
    setting = SETTINGS[name]
    build = partial(memjax.memory_network, capacity=setting.capacity, encoder=setting.encoder)
    return {
        "name": name,
        **setting._asdict(),
        "command": f"python -m experiments.paper --only {name} --seeds {seeds} --split {split}",
        **over_seeds(setting.dataset, build, split, seeds),
    }


records = partial(read, "paper", place_by(name=SETTINGS))


def table(records: list[dict[str, Any]]) -> str:
    """Return the records as a Markdown table."""
    return markdown_table(
        {
            "dataset": TITLES[record["dataset"]],
            "encoder": record["encoder"],
            "memories": span(field(record, "num_memories")),
            "accuracy, % (mean ± s.d.)": percent(field(record, "accuracy")),
            "paper, %": f"{100 * record['paper']:.0f}" if record["paper"] else "",
        }
        for record in records
    )


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of accuracy against memories, one panel per dataset of the paper."""
    reported = {record["dataset"]: record["paper"] for record in records if record["paper"]}
    drawn, places = panels(
        [TITLES[name] for name in reported], "memories", "accuracy, % (mean ± s.d.)"
    )
    for (name, share), place in zip(reported.items(), places, strict=True):
        mine = [record for record in records if record["dataset"] == name]
        for number, encoder in enumerate(("pixels", "edges")):
            shown = [record for record in mine if record["encoder"] == encoder]
            if shown:
                sizes, shares = (
                    [field(record, name) for record in shown]
                    for name in ("num_memories", "accuracy")
                )
                plotting.pareto(sizes, shares, axes=place, label=encoder, **style(number))
        place.axhline(100 * share, color=COLOURS[-1], linestyle="--", label="the paper")
        place.margins(0.15)
    legend(drawn, *places)
    return drawn


def main(arguments: list[str] | None = None) -> None:
    """Measure the settings, print the table and keep the records."""
    chosen = options(__doc__, names=tuple(SETTINGS), seeds=5).parse_args(arguments)
    names = ["digits"] if chosen.quick else [chosen.only] if chosen.only else list(SETTINGS)
    for name in names:
        record = measure(name, chosen.split, 2 if chosen.quick else chosen.seeds)
        publish(table, chosen.out, name, record)


if __name__ == "__main__":
    main()
