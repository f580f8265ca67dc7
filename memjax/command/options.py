"""The options of each command, as dataclasses: `tyro` makes the command line from them."""

import dataclasses
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from memjax._checks import check_number, check_positive

__all__ = ["Demo", "Evaluate", "Fit", "Predict", "Settings"]

DatasetName = Literal["digits", "mnist", "fashion_mnist", "cifar10"]
TestSplit = Literal["test", "validation"]

MEMORY_OPTIONS = (
    "encoder",
    "capacity",
    "novelty_threshold",
    "supervised_growth",
    "on_full",
    "neighbours",
)
"""The options of a memory network."""

COLUMNAR_OPTIONS = ("size", "mirror")
"""The options of a columnar network."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """What stays the same in a run from its beginning to its end, even when it is resumed."""

    dataset: Positional[DatasetName] = "digits"
    """What to learn."""
    network: Literal["memory", "columnar"] = "memory"
    """Which ready-made network: memory is the reconstruction of the paper, columnar has more
    layers. --encoder, --capacity, --novelty-threshold, --supervised-growth, --on-full and
    --neighbours belong to memory; --size and --mirror belong to columnar."""
    encoder: Literal["edges", "pixels", "blur", "on_off"] = "edges"
    """What the memories are made of."""
    capacity: int = 3000
    """How many memories there is room for, in each colour channel."""
    novelty_threshold: float | Literal["auto"] = "auto"
    """Store an example when it is farther than this from every memory. With auto, the distance is
    estimated from the first examples."""
    supervised_growth: bool = True
    """Also store an example when its nearest memory gives it the wrong label."""
    on_full: Literal["adapt", "replace", "ignore"] = "adapt"
    """What a surprising example does when there is no room for it: it adapts the nearest memory of
    its label, replaces the memory that has won least, or is ignored."""
    neighbours: int = 7
    """How many memories vote on an answer."""
    size: Literal["small", "medium", "large"] = "medium"
    """The size of a columnar network."""
    mirror: bool = False
    """Let a columnar network also see the mirror image of every image. This helps with photographs,
    but not with digits."""
    seed: int = 0
    """Decides the order of the examples."""
    limit: int | None = None
    """Learn only this many examples."""
    block_size: int = 256
    """How many examples one matrix product serves. This changes the speed, not the result."""
    test_split: TestSplit = "test"
    """Where to measure the accuracy. With validation, the last 10,000 training examples (200 of
    digits) are not learned, and the accuracy is measured on them."""
    checkpoint_every: int | None = None
    """Write a checkpoint each time this many more examples are learned, so that --resume can go on
    from it."""
    checkpoint_keep: int = 2
    """How many checkpoints to keep."""


@dataclasses.dataclass(frozen=True)
class Fit(Settings):
    """Learn a dataset in one pass, test, and write the run to a folder."""

    out: Path | None = None
    """The folder to write. It must not exist yet. By default it is
    runs/<dataset>-<network>-<time>."""
    resume: Path | None = None
    """Go on with the run in this folder, from its latest checkpoint and with its own options. It
    was begun with --checkpoint-every and has not ended."""
    processes: int = 1
    """Divide the memories between this many processes on this machine. The result is the same. A
    run can be resumed with another number of processes."""
    json: bool = False
    """Print the record of the run as JSON, and nothing else."""


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Measure the accuracy of a run's network on a dataset."""

    run: Positional[Path]
    """The folder of a run."""
    dataset: Positional[DatasetName]
    """What to test on."""
    test_split: TestSplit = "test"
    """Which split of the dataset to test on."""
    limit: int | None = None
    """Test on only this many examples."""
    json: bool = False
    """Print the result as JSON."""


@dataclasses.dataclass(frozen=True)
class Predict:
    """Ask a run's network about images, and draw the memories that voted."""

    run: Positional[Path]
    """The folder of a run."""
    images: Positional[tuple[Path, ...]]
    """Image files of the same size as the images that the network has learned."""
    out: Path | None = None
    """The folder for the pictures. By default it is <run>/predictions."""
    json: bool = False
    """Print the answers as JSON."""


@dataclasses.dataclass(frozen=True)
class Demo:
    """Serve a page to draw on, that shows who votes, and is taught and forgets by hand."""

    run: Positional[Path | None] = None
    """The folder of a run to begin with. Without one, the page begins with the first images of
    --dataset."""
    dataset: Literal["digits", "mnist"] | None = None
    """What is learned at first. By default it is mnist where it needs no download, or else
    digits."""
    folder: Path = Path("runs")
    """The folder that the page saves runs in, and loads them from."""
    host: str = "127.0.0.1"
    """The address to listen at. By default nobody can reach it from another machine."""
    port: int = 0
    """The port to listen at; 0 takes a free one."""
    open: bool = False
    """Open the page in a browser."""


def check_settings(settings: Settings) -> None:
    """Raise unless each setting is in its range and belongs to the network."""
    counts = ("capacity", "neighbours", "block_size", "limit", "checkpoint_every")
    for name in (*counts, "checkpoint_keep"):
        if (value := getattr(settings, name)) is not None:
            check_positive(flag(name), value)
    if settings.checkpoint_every is None and settings.checkpoint_keep != Settings.checkpoint_keep:
        raise ValueError("--checkpoint-keep: needs --checkpoint-every.")
    if settings.novelty_threshold != "auto":
        check_number("--novelty-threshold", settings.novelty_threshold, 0)
    if not 0 <= settings.seed < 2**32:
        raise ValueError(
            f"--seed: expected a whole number from 0 to {2**32 - 1}, got {settings.seed}."
        )
    for name in COLUMNAR_OPTIONS if settings.network == "memory" else MEMORY_OPTIONS:
        if getattr(settings, name) != getattr(Settings, name):
            raise ValueError(f"{flag(name)}: does not belong to --network {settings.network}.")


def check_fit(options: Fit) -> None:
    """Raise unless the settings are valid and the processes can share the memories."""
    check_settings(options)
    check_positive("--processes", options.processes)
    if options.processes > 1 and options.network != "memory":
        raise ValueError("--processes: only --network memory can be divided between processes.")
    if options.capacity % options.processes:
        raise ValueError(
            f"--processes: expected a number that divides the capacity {options.capacity}, "
            f"got {options.processes}."
        )


def flag(name: str) -> str:
    """Return a field's name as it is written on the command line."""
    return f"--{name.replace('_', '-')}"
