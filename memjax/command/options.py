"""The options of each command, as dataclasses: `tyro` makes the command line from them."""

import contextlib
import dataclasses
import io
import math
import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import tyro
from tyro.conf import OmitArgPrefixes, Positional

from memjax import datasets
from memjax._checks import check_number, check_positive
from memjax._text import printable
from memjax.datasets import Reading
from memjax.datasets._source import check_reading

__all__ = [
    "Check",
    "Course",
    "Data",
    "Demo",
    "Evaluate",
    "Fit",
    "Network",
    "Predict",
    "Run",
    "Settings",
]

Invert = Literal["auto", "yes", "no"]
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

OWN_OPTIONS = ("label", "image_size", "grey", "background", "invert", "test_share")
"""The options of your own data."""


@dataclasses.dataclass(frozen=True)
class Data:
    """What is learned, and in which order."""

    dataset: Positional[str] = "digits"
    """What to learn: digits, mnist, fashion_mnist, kmnist, emnist, cifar10, cifar100, svhn_cropped,
    tfds:NAME or tfds:NAME/CONFIG, or the path of your own data. These are a folder of folders of
    images, one for each class, or an .npz, .csv or .parquet file."""
    seed: int = 0
    """Decides the order of the examples."""
    limit: int | None = None
    """Learn only this many examples."""
    test_split: TestSplit = "test"
    """Where to measure the accuracy. With validation, the last 10,000 training examples (200 of
    digits) are not learned, and the accuracy is measured on them."""
    label: str | None = None
    """Of your own table: the column that holds the labels. By default it is the last."""
    image_size: str | None = None
    """Of your own data: the size that all images are brought to, such as 28 or 48x64 (height x
    width). By default it is the size that all have, or at most 64 pixels a side. With it the
    columns of a table are pixels."""
    grey: bool = False
    """Of your own data: read colour images in grey."""
    background: str = "auto"
    """Of your own data: what shows through transparency: white, black, #rrggbb, or with auto white
    behind dark ink and black behind light ink."""
    invert: Invert = "auto"
    """Of your own data: with yes, light and dark change places in every image. With auto, images
    are learned as they are, and when the network is asked about one that is black on white, where
    it has learned white on black, light and dark change places."""
    test_share: float = Reading().test_share
    """Of your own data: the part of each class that is held out to test, where the data set no test
    apart."""


@dataclasses.dataclass(frozen=True)
class Network:
    """What learns.

    --size and --mirror belong to a columnar network, all others to a memory network.
    """

    network: Literal["memory", "columnar"] = "memory"
    """Which ready-made network: memory is the reconstruction of the paper, columnar has more
    layers."""
    encoder: Literal["edges", "pixels", "blur", "on_off"] = "edges"
    """What the memories are made of."""
    capacity: int = 3000
    """How many memories there is room for, in each colour channel."""
    novelty_threshold: float | Literal["auto"] = "auto"
    """Store an example when it is farther than this from every memory. With auto, the distance is
    estimated from the first examples."""
    supervised_growth: bool = True
    """Also store a mistake of the nearest memory that comes again, or whose label is rare."""
    on_full: Literal["adapt", "replace", "ignore"] = "adapt"
    """What a surprising example does when there is no room for it: it adapts the nearest memory of
    its label, replaces the memory that has won least, or is ignored."""
    neighbours: int = 7
    """How many memories vote on an answer."""
    size: Literal["small", "medium", "large", "huge"] = "medium"
    """The size of a columnar network."""
    mirror: bool = False
    """Let a columnar network also see the mirror image of every image. This helps with photographs,
    but not with digits."""


@dataclasses.dataclass(frozen=True)
class Course:
    """How the run goes."""

    block_size: int = 256
    """How many examples one matrix product serves. This changes the speed, not the result."""
    checkpoint_every: int | None = None
    """Write a checkpoint each time this many more examples are learned, so that --resume can go on
    from it."""
    checkpoint_keep: int = 2
    """How many checkpoints to keep."""
    compare: bool = False
    """Also print the accuracy of the nearest neighbour and of the nearest neighbours (as many as
    --neighbours) among all that was learned, on the same test."""
    film: bool = False
    """Also write film.gif, which shows how the memories filled up. It belongs to --network
    memory."""


@dataclasses.dataclass(frozen=True)
class Run(Course):
    """How the run goes, and what it writes and prints."""

    out: Path | None = None
    """The folder to write. It must not exist yet, and its name does not begin with "incomplete.".
    By default it is runs/<dataset>-<network>-<time>."""
    resume: Path | None = None
    """Go on with the run in this folder, from its latest checkpoint and with its own options. It
    was begun with --checkpoint-every and has not ended."""
    processes: int = 1
    """Divide the memories between this many processes on this machine. The result is the same. A
    run can be resumed with another number of processes."""
    json: bool = False
    """Print the record of the run as JSON, and nothing else."""


@dataclasses.dataclass(frozen=True)
class Settings(Course, Network, Data):
    """What stays the same in a run from its beginning to its end, even when it is resumed."""

    def __post_init__(self):
        if self.novelty_threshold == str(math.inf):  # as a file of JSON has it
            object.__setattr__(self, "novelty_threshold", math.inf)


@dataclasses.dataclass(frozen=True)
class Fit(Run, Settings):
    """All options of ``fit``."""


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Measure the accuracy of a run's network on a dataset."""

    run: Positional[Path]
    """The folder of a run."""
    dataset: Positional[str]
    """What to test on: any dataset or path that fit takes. Of the data that the run has learned,
    the part that was held out; of others their own test, or all of them."""
    test_split: TestSplit = "test"
    """Which split of the dataset to test on."""
    limit: int | None = None
    """Test on only this many examples."""
    json: bool = False
    """Print the result as JSON."""


@dataclasses.dataclass(frozen=True)
class Predict:
    """Ask a run's network about images, and draw the memories that voted.

    The status is 1 if some of the files could not be read, and 2 if none could.
    """

    run: Positional[Path]
    """The folder of a run."""
    images: Positional[tuple[Path, ...]]
    """Image files of any size, or folders of them. They are read as the images that the network has
    learned. A network that has learned rows of features is asked about .csv or .parquet files."""
    out: Path | None = None
    """The folder for the pictures, by default <run>/predictions. No picture is overwritten."""
    draw: bool = True
    """Draw the memories that voted, one picture for each image."""
    invert: Invert | None = None
    """Whether light and dark change places; by default as the run was learned with --invert."""
    json: bool = False
    """Print each answer as JSON, on a line of its own."""


@dataclasses.dataclass(frozen=True)
class Check:
    """Check that a run is whole: its sums, its network, its arrays and their values, its record."""

    run: Positional[Path]
    """The folder of a run, or one that memjax.save wrote."""
    json: bool = False
    """Print what was checked as JSON."""


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


@dataclasses.dataclass(frozen=True)
class _FitInGroups:
    """Learn a dataset in one pass, test, and write the run to a folder."""

    data: Data
    network: Network
    run: Run


_DESCRIPTION = """Memory networks: visual learning in one pass, without backpropagation. The options
of fit come in three groups: data (what to learn), network (what learns) and run (where it is
written); memjax fit --help lists them. memjax --version prints the version."""

_EXAMPLES = """examples:
  memjax fit digits --out runs/first           learn, test, and write the run to a folder
  memjax evaluate runs/first digits            test the network of a run again
  memjax predict runs/first seven.png          ask it about an image, and draw why it says so
"""


def parse(
    arguments: list[str], defaults: Fit | None = None
) -> Fit | Evaluate | Predict | Check | Demo:
    """Return the command that some words say. Words that say none end the process.

    Args:
        arguments: the words after ``memjax``; none asks for help.
        defaults: the options of ``fit`` where they are not said.
    """
    shown = [printable(argument) for argument in arguments]
    if shown != arguments:  # tyro would print what it does not know as it is.
        try:
            with (
                contextlib.redirect_stderr(io.StringIO()),
                contextlib.redirect_stdout(io.StringIO()),
            ):
                return _parse(arguments, defaults)
        except SystemExit:
            pass
    return _parse(shown, defaults)


def _parse(arguments: list[str], defaults: Fit | None) -> Fit | Evaluate | Predict | Check | Demo:
    begun = _FitInGroups(*(_part(kind, defaults or Fit()) for kind in (Data, Network, Run)))
    fit = Annotated[_FitInGroups, tyro.conf.subcommand("fit", default=begun)]
    evaluate = Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    predict = Annotated[Predict, tyro.conf.subcommand("predict")]
    check = Annotated[Check, tyro.conf.subcommand("check")]
    demo = Annotated[Demo, tyro.conf.subcommand("demo")]
    try:
        command: Any = tyro.cli(
            Union[fit, evaluate, predict, check, demo],  # type: ignore[arg-type]  # noqa: UP007
            args=arguments or ["--help"],
            prog="memjax",
            description=" ".join(_DESCRIPTION.split()),
            config=(OmitArgPrefixes,),
        )
    except SystemExit:
        if not arguments or {"-h", "--help"} & set(arguments):
            sys.stdout.write(_EXAMPLES)
        raise
    if isinstance(command, _FitInGroups):
        return Fit(**vars(command.data), **vars(command.network), **vars(command.run))
    return command


def _part(kind: Any, options: Fit) -> Any:
    """Return those options that are fields of a class."""
    return kind(**{field.name: getattr(options, field.name) for field in dataclasses.fields(kind)})


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
    if settings.film and settings.network != "memory":
        raise ValueError(f"--film: does not belong to --network {settings.network}.")
    for name in COLUMNAR_OPTIONS if settings.network == "memory" else MEMORY_OPTIONS:
        if getattr(settings, name) != getattr(Settings, name):
            raise ValueError(f"{flag(name)}: does not belong to --network {settings.network}.")
    if datasets.is_named(settings.dataset):
        for name in OWN_OPTIONS:
            if getattr(settings, name) != getattr(Settings, name):
                raise ValueError(
                    f"{flag(name)}: does not belong to the dataset {settings.dataset}."
                )
    check_number("--test-share", settings.test_share, 0, 0.9)
    check_reading(reading_of(settings))


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


def reading_of(settings: Settings) -> Reading:
    """Return how the options say that your own data are read."""
    size = settings.image_size
    if size is not None and not re.fullmatch(r"[0-9]{1,4}(x[0-9]{1,4})?", size):
        raise ValueError(f"--image-size: expected a size such as 28 or 48x64, got {size}.")
    lengths = None if size is None else [int(length) for length in size.split("x")]
    return Reading(
        label=settings.label,
        image_size=None if lengths is None else (lengths[0], lengths[-1]),
        grey=settings.grey or None,
        background=settings.background,
        invert=settings.invert,
        test_share=settings.test_share,
    )


def flag(name: str) -> str:
    """Return a field's name as it is written on the command line."""
    return f"--{name.replace('_', '-')}"
