"""The ``memjax`` command: fit a network, evaluate a run, ask it about images."""

import contextlib
import dataclasses
import io
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Union

import jax
import numpy as np

try:
    import psutil
    import tyro
    from tyro.conf import Positional
except ImportError as error:
    raise SystemExit(f"memjax: the command needs {error.name}: pip install 'memjax[all]'") from None

from memjax import checkpoint, datasets, evaluation, plotting, streams, training
from memjax._checks import check_number, check_positive
from memjax.base import CompositeInfo, Layer, RecruitInfo
from memjax.command import machine
from memjax.command.processes import run_in_processes
from memjax.devices import gather_to_host, memory_mesh, shard
from memjax.networks import columnar_network, memory_network

__all__ = ["Evaluate", "Fit", "Predict", "main"]

DatasetName = Literal["digits", "mnist", "fashion_mnist", "cifar10"]
TestSplit = Literal["test", "validation"]

_RECORD_FILE = "record.json"
_NETWORK_FOLDER = "network"
# What a run holds until it has ended, if it writes checkpoints.
_OPTIONS_FILE = "options.json"
_CHECKPOINTS_FOLDER = "checkpoints"
_ANSWERS_FILE = "answers"
# Options that belong to a process, not to the run.
_NOT_KEPT = ("out", "json", "resume", "processes")
_CALIBRATION_EXAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class Fit:
    """Learn a dataset in one pass, test, and write the run to a folder."""

    dataset: Positional[DatasetName] = "digits"
    """What to learn."""
    network: Literal["memory", "columnar"] = "memory"
    """Which ready-made network: memory, the reconstruction of the paper, to which encoder,
    capacity, novelty-threshold, supervised-growth, on-full and neighbours belong; or columnar, with
    depth, to which size and mirror belong."""
    size: Literal["small", "medium", "large"] = "medium"
    """How large a columnar network is."""
    mirror: bool = False
    """Whether a columnar network also sees every image in the mirror, in learning and in recall:
    for photographs, not for digits."""
    encoder: Literal["edges", "pixels", "blur", "on_off"] = "edges"
    """What the memories are made of."""
    capacity: int = 3000
    """Memories there is room for, in each colour channel."""
    novelty_threshold: float | Literal["auto"] = "auto"
    """Distance above which an example is stored; auto estimates it from the first examples."""
    supervised_growth: bool = True
    """Whether an example that its nearest memory gets wrong is stored as well."""
    on_full: Literal["adapt", "replace", "ignore"] = "adapt"
    """What a surprise does when there is no room."""
    neighbours: int = 7
    """How many memories vote in recall."""
    seed: int = 0
    """Decides the order of the stream."""
    limit: int | None = None
    """Learn from this many examples only."""
    block_size: int = 256
    """Examples that one matrix product serves; it changes the speed, not the result."""
    test_split: TestSplit = "test"
    """Where accuracy is measured. The validation split, the last 10,000 training examples (200 of
    digits), is then not trained on."""
    out: Path | None = None
    """A folder that does not exist yet; default runs/<dataset>-<network>-<time>."""
    checkpoint_every: int | None = None
    """Write a checkpoint after so many examples, and so many again, to go on from with --resume."""
    checkpoint_keep: int = 2
    """How many checkpoints are kept."""
    processes: int = 1
    """Lay the memories over so many processes on this machine; what is learned is the same. A run
    may go on in another number of them."""
    resume: Path | None = None
    """The folder of a run that was begun with --checkpoint-every and has not ended; it goes on from
    its latest checkpoint, with the options that it was begun with."""
    json: bool = False
    """Print the record alone."""


@dataclasses.dataclass(frozen=True)
class Evaluate:
    """Measure the accuracy of a run's network on a dataset."""

    run: Positional[Path]
    """The folder of a run."""
    dataset: Positional[DatasetName]
    """What to test on."""
    test_split: TestSplit = "test"
    """Which split of it."""
    limit: int | None = None
    """Test on this many examples only."""
    json: bool = False
    """Print the result as JSON."""


@dataclasses.dataclass(frozen=True)
class Predict:
    """Ask a run's network about images, and draw the memories that voted."""

    run: Positional[Path]
    """The folder of a run."""
    images: Positional[tuple[Path, ...]]
    """Image files of the size that the network was trained on."""
    out: Path | None = None
    """Folder of the pictures; default <run>/predictions."""
    json: bool = False
    """Print the answers as JSON."""


def main(arguments: list[str] | None = None) -> None:
    """Run the command; a mistake of the user ends it with status 2 and one sentence."""
    try:
        command = _parse(arguments)
        if isinstance(command, Fit):
            _fit(command, sys.argv[1:] if arguments is None else arguments)
        elif isinstance(command, Evaluate):
            _evaluate(command)
        else:
            _predict(command)
    except (
        ValueError,
        TypeError,
        ImportError,
        OSError,
        MemoryError,
        jax.errors.JaxRuntimeError,  # such as a capacity for which the device has no room
        datasets.DatasetError,
        checkpoint.CheckpointError,
    ) as error:
        print(f"memjax: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None


def _parse(arguments: list[str] | None, defaults: Fit | None = None) -> Fit | Evaluate | Predict:
    """Return the command with its options; ``defaults`` are those of ``fit``."""
    fit = Annotated[Fit, tyro.conf.subcommand("fit", default=defaults or Fit())]
    evaluate = Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    predict = Annotated[Predict, tyro.conf.subcommand("predict")]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(
                Union[fit, evaluate, predict],  # type: ignore[arg-type]  # noqa: UP007
                args=arguments,
                prog="memjax",
                description="Memory networks: visual learning in one pass.",
            )
    except SystemExit as ended:
        if ended.code in (0, None):
            raise
        raise ValueError(_sentence(said.getvalue())) from None


def _sentence(box: str) -> str:
    """Return what tyro says in a box as one sentence."""
    lines = [line.strip(" │") for line in box.splitlines()]
    lines = [line for line in lines if line and not line.startswith(("╭", "╰"))]
    rule = next((index for index, line in enumerate(lines) if set(line) == {"─"}), len(lines))
    return " ".join(lines[:rule]).rstrip(".") + "; see memjax --help."


def _fit(options: Fit, arguments: list[str]) -> None:
    if options.resume is not None:
        _resume(options.resume, options.json, arguments)
        return
    out = options.out or Path("runs") / (
        f"{options.dataset}-{options.network}-{time.strftime('%Y%m%d-%H%M%S')}"
    )
    if (out / _OPTIONS_FILE).is_file():
        raise FileExistsError(f"--out: {out} has not ended; memjax fit --resume {out} goes on.")
    if out.exists():
        raise FileExistsError(f"--out: expected a folder that does not exist yet, got {out}.")
    _check_values(options)
    _run(options, out, f"memjax {shlex.join(arguments)}")


def _resume(run: Path, is_json: bool, arguments: list[str]) -> None:
    """Go on with a run that was begun with checkpoints; its options may be given again."""
    file = run / _OPTIONS_FILE
    if (run / _RECORD_FILE).is_file():
        if file.is_file():
            _clear(run)
        if is_json:
            print((run / _RECORD_FILE).read_text(), end="")
        else:
            print(f"{run} has ended: {run / _RECORD_FILE}")
        return
    if not file.is_file():
        raise ValueError(f"--resume: expected a run begun with --checkpoint-every, got {run}.")
    begun = _read_json(file)
    try:
        command, options = begun["command"], Fit(**begun["options"])
        _check_values(options)
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"{file}: cannot be read as the options of a run ({error}).") from None
    given = _parse(arguments, options)
    assert isinstance(given, Fit)
    for field in dataclasses.fields(Fit):
        was, is_now = getattr(options, field.name), getattr(given, field.name)
        if field.name not in _NOT_KEPT and was != is_now:
            option = f"--{field.name.replace('_', '-')}"
            raise ValueError(f"{option}: {run} was begun with {was}, got {is_now}.")
    options = dataclasses.replace(options, json=is_json, processes=given.processes)
    _check_values(options)
    _run(options, run, command)


def _run(options: Fit, out: Path, command: str) -> None:
    """Learn a run, here or in processes of its own, and print its record."""
    out.parent.mkdir(parents=True, exist_ok=True)
    if options.checkpoint_every is not None and not out.exists():
        _begin(out, options, command)
    if options.processes == 1:
        _learn(options, out, command)
    else:
        try:
            run_in_processes(partial(_learn, options, out, command), options.processes)
        except ChildProcessError as error:
            way = (
                f"memjax fit --resume {out} goes on from the latest checkpoint"
                if options.checkpoint_every
                else "with --checkpoint-every a run can go on"
            )
            raise ChildProcessError(f"{str(error).rstrip('.')}; {way}.") from None
    if options.json:
        print((out / _RECORD_FILE).read_text(), end="")
    else:
        _print_record(_read_json(out / _RECORD_FILE), out)


def _learn(options: Fit, out: Path, command: str) -> None:
    """Learn, test and write the run; one that has a folder goes on from its latest checkpoint."""
    started = time.perf_counter()
    is_test = options.test_split == "test"
    train = datasets.load(
        options.dataset, "train" if is_test else "train_without_validation", seed=options.seed
    )
    test = datasets.load(options.dataset, options.test_split, seed=options.seed)
    images, labels = train.images[: options.limit], train.labels[: options.limit]
    loaded = time.perf_counter()

    network, params = _build(options, images.shape[1:], train.num_classes)
    placed = network
    if options.processes > 1:
        placed = shard(network, memory_mesh())
    learned_here = 0
    answers = _answers(out, len(labels))

    def note(_: Any, infos: Any, tally: streams.Tally) -> None:
        nonlocal learned_here
        learned_here += len(infos.predicted)
        rows = answers[tally.num_seen - len(infos.predicted) : tally.num_seen]
        rows[:] = np.stack([infos.predicted, evaluation.memories_added(infos)], axis=1)

    with machine.compile_seconds() as compiling:
        first = slice(_CALIBRATION_EXAMPLES)
        params = training.calibrate(network, params, images[first], labels[first])
        state, tally = streams.fit_stream(
            placed,
            params,
            placed.init(jax.random.key(options.seed)),
            partial(_batches, images, labels),
            min(options.block_size, len(labels)),
            # A readout is consolidated on the way, so that it has answers before the end.
            consolidate_at=(len(labels) // 16, len(labels) // 4),
            callbacks=[note],
            progress=len(labels) if sys.stderr.isatty() and not options.json else False,
            checkpoint_dir=out / _CHECKPOINTS_FOLDER if options.checkpoint_every else None,
            checkpoint_every=options.checkpoint_every or len(labels),
            keep=options.checkpoint_keep,
        )
    learned = time.perf_counter()
    mine = slice(jax.process_index(), None, jax.process_count())
    result = evaluation.evaluate_parts(placed, params, state, test.images[mine], test.labels[mine])
    evaluated = time.perf_counter()
    state = gather_to_host(state)
    if jax.process_index() > 0:
        return  # The first writes the run.

    record = {
        "command": command,
        "dataset": options.dataset,
        "class_names": train.class_names,
        "network": options.network,
        **_describe(options, network),
        "num_memories": evaluation.num_memories(network, state),
        "block_size": options.block_size,
        "processes": options.processes,
        "num_train": tally.num_seen,
        "num_test": len(test.labels),
        "seed": options.seed,
        "test_split": options.test_split,
        "test_accuracy": result.accuracy,
        "prequential_accuracy": tally.prequential_accuracy,
        "novelty_threshold": _novelty_thresholds(params),
        "resumed_at": tally.num_seen - learned_here,
        "load_seconds": loaded - started,
        "compile_seconds": compiling.seconds,
        "fit_seconds": learned - loaded - compiling.seconds,
        "evaluate_seconds": evaluated - learned,
    }
    record["state_digest"] = checkpoint.state_digest(state)
    record |= machine.description()
    place = out if out.exists() else out.parent
    with tempfile.TemporaryDirectory(dir=place, prefix="incomplete.") as folder:
        unfinished = Path(folder) / out.name
        unfinished.mkdir()
        checkpoint.save(unfinished / _NETWORK_FOLDER, network, params, state)
        names = train.class_names
        if options.network == "memory":
            memories = plotting.memories(network, state, names)
        else:
            memories = plotting.columns(network, state)
        memories.savefig(unfinished / "memories.png")
        predicted, num_stored = jax.numpy.asarray(answers).T
        infos = CompositeInfo(predicted, (RecruitInfo(num_stored),))
        plotting.growth(infos, labels).savefig(unfinished / "growth.png")
        plotting.confusion(result, names).savefig(unfinished / "confusion.png")
        record["total_seconds"] = _seconds_since_start()
        record["peak_memory_bytes"] = machine.peak_memory_bytes()
        (unfinished / _RECORD_FILE).write_text(json.dumps(record, indent=1) + "\n")
        if out.exists():
            _end(out, unfinished)
        else:
            os.replace(unfinished, out)
    _clear(out)


def _check_values(options: Fit) -> None:
    """Raise when an option has no sense."""
    counts = ("capacity", "neighbours", "block_size", "limit", "processes")
    for name in (*counts, "checkpoint_every", "checkpoint_keep"):
        if (value := getattr(options, name)) is not None:
            check_positive(f"--{name.replace('_', '-')}", value)
    _check_belonging(options)
    if options.checkpoint_every is None and options.checkpoint_keep != Fit.checkpoint_keep:
        raise ValueError("--checkpoint-keep: needs --checkpoint-every.")
    if options.novelty_threshold != "auto":
        check_number("--novelty-threshold", options.novelty_threshold, 0)
    if not 0 <= options.seed < 2**32:
        raise ValueError(
            f"--seed: expected a whole number from 0 to {2**32 - 1}, got {options.seed}."
        )


def _begin(out: Path, options: Fit, command: str) -> None:
    """Make the folder of a run that writes checkpoints, whole or not at all."""
    kept = {name: value for name, value in vars(options).items() if name not in _NOT_KEPT}
    with tempfile.TemporaryDirectory(dir=out.parent, prefix="incomplete.") as folder:
        begun = Path(folder) / out.name
        begun.mkdir()
        text = json.dumps({"command": command, "options": kept}, indent=1)
        (begun / _OPTIONS_FILE).write_text(text + "\n")
        os.replace(begun, out)


def _end(out: Path, unfinished: Path) -> None:
    """Move what was made into the folder of a run that has one, the record last."""
    shutil.rmtree(out / _NETWORK_FOLDER, ignore_errors=True)  # of an end that was cut off
    for file in sorted(unfinished.iterdir(), key=lambda file: file.name == _RECORD_FILE):
        os.replace(file, out / file.name)


def _clear(run: Path) -> None:
    """Remove what a run needs only until it has ended."""
    for folder in (run / _CHECKPOINTS_FOLDER, *run.glob("incomplete.*")):
        shutil.rmtree(folder, ignore_errors=True)
    for file in (run / _ANSWERS_FILE, run / _OPTIONS_FILE):
        file.unlink(missing_ok=True)


def _answers(out: Path, num_examples: int) -> np.ndarray:
    """Return int32 [N, 2], the answer to each example and the memories that it added.

    Where the run has a folder they are kept in a file, which outlives a process that is killed.
    """
    file, shape = out / _ANSWERS_FILE, (num_examples, 2)
    if not out.exists() or jax.process_index() > 0:
        return np.zeros(shape, np.int32)
    return np.memmap(file, np.int32, "r+" if file.exists() else "w+", shape=shape)


def _evaluate(options: Evaluate) -> None:
    network, params, state, record = _load_run(options.run)
    if options.limit is not None:
        check_positive("--limit", options.limit)
    test = datasets.load(options.dataset, options.test_split)
    images, labels = test.images[: options.limit], test.labels[: options.limit]
    result = evaluation.evaluate(network, params, state, images, labels)
    answer = {
        "run": str(options.run),
        "dataset": options.dataset,
        "test_split": options.test_split,
        "num_test": len(labels),
        "test_accuracy": result.accuracy,
    }
    if options.json:
        print(json.dumps(answer, indent=1))
        return
    print(f"{options.dataset} {options.test_split}: {100 * result.accuracy:.2f} % of {len(labels)}")
    for label, name in enumerate(record["class_names"]):
        row = result.confusion[label]
        print(f"{name:>22}  {100 * row[label] / max(row.sum(), 1):6.2f} % of {row.sum()}")


def _predict(options: Predict) -> None:
    if not options.images:
        raise ValueError("images: expected at least one image file, got none.")
    network, params, state, record = _load_run(options.run)
    images = np.stack([_read_image(path, network.input_shape) for path in options.images])
    evidence = evaluation.predict_proba(network, params, state, images)
    labels = evaluation.labels_from(evidence)
    names = record["class_names"]
    if record.get("network") == "columnar":
        # A readout weighs all neurons at once: there are no few memories to show.
        _print_answers(
            [
                {
                    "image": str(path),
                    "label": names[label] if label >= 0 else None,
                    "confidence": float(np.clip(row.max(), 0, 1)),
                }
                for path, label, row in zip(options.images, labels, evidence, strict=True)
            ],
            options.json,
        )
        return
    novelty = evaluation.novelty_score(network, params, state, images)
    explanation = evaluation.explain(network, params, state, images)
    out = options.out or options.run / "predictions"
    out.mkdir(parents=True, exist_ok=True)
    answers = []
    stems = [path.stem for path in options.images]
    for index, path in enumerate(options.images):
        # Images of one name in several folders are told apart by their place.
        place = f"-{index + 1}" if stems.count(path.stem) > 1 else ""
        picture = out / f"{path.stem}{place}-why.png"
        one = evaluation.Explanation(*(part[index : index + 1] for part in explanation))
        plotting.why(network, state, images[index], one, names).savefig(picture)
        answers.append(
            {
                "image": str(path),
                "label": names[labels[index]] if labels[index] >= 0 else None,
                "confidence": float(evidence[index].max()),
                "novelty_score": float(novelty[index]),
                "why": str(picture),
            }
        )
    _print_answers(answers, options.json)


def _print_answers(answers: list[dict[str, Any]], is_json: bool) -> None:
    if is_json:
        print(json.dumps(answers, indent=1))
        return
    for answer in answers:
        line = f"{answer['image']}: {answer['label'] or 'no answer'}"
        line += f"  confidence {answer['confidence']:.2f}"
        if "why" in answer:
            line += f"  novelty {answer['novelty_score']:.2f}  why: {answer['why']}"
        print(line)


_MEMORY_OPTIONS = (
    "encoder",
    "capacity",
    "novelty_threshold",
    "supervised_growth",
    "on_full",
    "neighbours",
)
_COLUMNAR_OPTIONS = ("size", "mirror")


def _check_belonging(options: Fit) -> None:
    """Raise when an option is given that does not belong to the network."""
    if options.processes > 1 and options.network != "memory":
        raise ValueError("--processes: a columnar network has no bank to lay over processes.")
    if options.capacity % options.processes:
        raise ValueError(
            f"--processes: expected a number that divides the capacity {options.capacity}, "
            f"got {options.processes}."
        )
    foreign = _COLUMNAR_OPTIONS if options.network == "memory" else _MEMORY_OPTIONS
    for name in foreign:
        if getattr(options, name) != getattr(Fit, name):
            raise ValueError(
                f"--{name.replace('_', '-')}: does not belong to --network {options.network}."
            )


def _build(options: Fit, image_shape: tuple[int, ...], num_classes: int) -> tuple[Any, Any]:
    height, width, channels = image_shape
    shape = (height, width, channels)
    if options.network == "columnar":
        return columnar_network(shape, num_classes, size=options.size, is_mirrored=options.mirror)
    return memory_network(
        shape,
        num_classes,
        capacity=options.capacity,
        encoder=options.encoder,
        novelty_threshold=options.novelty_threshold,
        supervised_growth=options.supervised_growth,
        on_full=options.on_full,
        num_neighbours=options.neighbours,
    )


def _describe(options: Fit, network: Any) -> dict[str, Any]:
    """Return what the record says of the network."""
    if options.network == "columnar":
        read_out = (network.network if options.mirror else network).layers[-1]
        options_used = {name: getattr(options, name) for name in _COLUMNAR_OPTIONS}
        return {"encoder": "columns", "capacity": read_out.num_features, **options_used}
    return {name: getattr(options, name) for name in _MEMORY_OPTIONS if name != "novelty_threshold"}


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file}: cannot be read as JSON ({error}).") from None


def _load_run(run: Path) -> tuple[Layer, Any, Any, dict[str, Any]]:
    if not (run / _RECORD_FILE).is_file():
        raise ValueError(f"run: expected the folder of a run with a {_RECORD_FILE}, got {run}.")
    record = _read_json(run / _RECORD_FILE)
    network, params, state = checkpoint.restore(run / _NETWORK_FOLDER)
    names = record.get("class_names") if isinstance(record, dict) else None
    if not isinstance(names, list) or len(names) != network.output_shape[0]:
        raise ValueError(
            f"{run / _RECORD_FILE}: expected a record with class_names, one for each of the "
            f"network's {network.output_shape[0]} classes."
        )
    return network, params, state, record


def _read_image(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            array = np.asarray(image.convert("L" if shape[2] == 1 else "RGB"))
    except UnidentifiedImageError:
        raise ValueError(f"images: expected an image file, got {path}.") from None
    except (OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"images: {path} cannot be read ({error}).") from None
    array = array.reshape(*array.shape[:2], -1)
    if array.shape != shape:
        raise ValueError(
            f"images: expected {shape[0]} x {shape[1]} pixels, as the network was trained on, "
            f"got {array.shape[0]} x {array.shape[1]} in {path}."
        )
    return array


def _batches(
    images: np.ndarray, labels: np.ndarray, start: int, size: int = 2048
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the examples from one on in batches, so that they are not copied as a whole."""
    for first in range(start, len(labels), size):
        yield images[first : first + size], labels[first : first + size]


def _novelty_thresholds(params: Any) -> float | list[float]:
    """Return the threshold of the banks, or of each one where they are several."""
    leaves = jax.tree.leaves(params, is_leaf=lambda node: hasattr(node, "novelty_threshold"))
    found = [float(leaf.novelty_threshold) for leaf in leaves if hasattr(leaf, "novelty_threshold")]
    return found[0] if len(found) == 1 else found


def _seconds_since_start() -> float:
    """Return the seconds since this process started, interpreter and imports included."""
    return time.time() - psutil.Process().create_time()


def _print_record(record: dict[str, Any], out: Path) -> None:
    rows = {
        f"{record['test_split']} accuracy": f"{100 * record['test_accuracy']:.2f} %",
        "prequential accuracy": f"{100 * record['prequential_accuracy']:.2f} %",
        "memories": f"{record['num_memories']:,}",
        "examples learned": f"{record['num_train']:,}",
        "fit": f"{record['fit_seconds']:.1f} s (+ {record['compile_seconds']:.1f} s compiling)",
        "whole command": f"{record['total_seconds']:.1f} s",
        "written to": str(out),
    }
    for name, value in rows.items():
        print(f"{name:>22}  {value}")
