"""What the reconstruction of the paper reaches, beside the figures that the paper reports.

    python -m experiments.paper [--only NAME] [--seeds N] [--split test|validation]
                                [--out FOLDER] [--quick]

Every setting learns in one pass, once for each stream order, and is tested on the split that is
named. All settings were chosen on the validation split, the last 10,000 training examples.
"""

import statistics
from typing import Any, NamedTuple

import memjax
from experiments.figures import COLOURS, MARKERS, legend, panels
from experiments.records import RESULTS, TITLES, keep, options, over_seeds, percent, read, spread


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


def records() -> list[dict[str, Any]]:
    """Return the records of the repository."""
    return read(RESULTS / "paper", lambda record: list(SETTINGS).index(record["name"]))


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
            f"{percent([run['accuracy'] for run in record['runs']])} | {paper} |"
        )
    return "\n".join(lines)


def figure(records: list[dict[str, Any]]) -> Any:
    """Return a figure of accuracy against memories, one panel a dataset that the paper reports."""
    reported = {record["dataset"]: record["paper"] for record in records if record["paper"]}
    drawn, places = panels(
        [TITLES[name] for name in reported], "memories", "accuracy, % (mean ± s.d.)"
    )
    for (name, share), place in zip(reported.items(), places, strict=True):
        mine = [record for record in records if record["dataset"] == name]
        for number, encoder in enumerate(("pixels", "edges")):
            points = [
                (
                    statistics.mean(run["num_memories"] for run in record["runs"]),
                    *spread([run["accuracy"] for run in record["runs"]]),
                )
                for record in mine
                if record["encoder"] == encoder
            ]
            if points:
                memories, means, deviations = zip(*points, strict=True)
                place.errorbar(
                    memories,
                    means,
                    yerr=deviations,
                    color=COLOURS[number],
                    marker=MARKERS[number],
                    capsize=4,
                    label=encoder,
                )
        place.axhline(100 * share, color=COLOURS[-1], linestyle="--", label="the paper")
        place.xaxis.set_major_formatter("{x:,.0f}")
        place.margins(0.15)
    legend(drawn, *places)
    return drawn


def main(arguments: list[str] | None = None) -> None:
    """Measure the settings, print the table and keep the records."""
    chosen = options(__doc__, names=tuple(SETTINGS), seeds=5).parse_args(arguments)
    names = ["digits"] if chosen.quick else [chosen.only] if chosen.only else list(SETTINGS)
    measured = []
    for name in names:
        measured.append(measure(name, chosen.split, 2 if chosen.quick else chosen.seeds))
        keep(chosen.out, name, measured[-1])
    print(table(measured))


if __name__ == "__main__":
    main()
