"""The life of a run: a folder that is begun, learned into, ended and asked.

A run appears whole when it ends. A run that writes checkpoints has a folder from the beginning,
which holds its options, its checkpoints and its answers so far. These go when it ends.
"""

import dataclasses
import json
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from memjax import checkpoint, evaluation, plotting, streams, training
from memjax.base import CompositeInfo, Layer, RecruitInfo, walk
from memjax.command import machine
from memjax.command._asking import compare, evaluate
from memjax.command._data import drawable
from memjax.command._data import load as load_data
from memjax.command.options import COLUMNAR_OPTIONS, MEMORY_OPTIONS, Fit, Settings, check_settings
from memjax.datasets import Dataset
from memjax.devices import gather_to_host, memory_mesh, shard
from memjax.networks import columnar_network, memory_network
from memjax.params import find_params

_RECORD_FILE = "record.json"
_NETWORK_FOLDER = "network"
# These are there only until the run has ended.
_OPTIONS_FILE = "options.json"
_CHECKPOINTS_FOLDER = "checkpoints"
_ANSWERS_FILE = "answers"
_DATA_FILE = "data.json"
_INCOMPLETE = "incomplete."  # how the name of a folder begins while it is written


class Run(NamedTuple):
    """A run that has ended: its network and its record."""

    network: Layer
    params: Any
    state: Any
    record: dict[str, Any]


class _Outcome(NamedTuple):
    """What came of learning and testing."""

    network: Layer
    params: Any
    state: Any
    tally: streams.Tally
    answers: np.ndarray
    result: evaluation.Evaluation


class _Answers:
    """The answer to each example, and how many memories it added: int32 [N, 2].

    A run with a folder keeps them in a file, which outlives a process that is killed.
    """

    def __init__(self, run: Path, num_examples: int):
        file, shape = run / _ANSWERS_FILE, (num_examples, 2)
        if run.exists() and jax.process_index() == 0:
            mode = "r+" if file.exists() else "w+"
            self.rows = np.memmap(file, np.int32, mode, shape=shape)
        else:
            self.rows = np.zeros(shape, np.int32)
        self.num_new = 0  # learned by this process, not by the one that wrote the checkpoint

    def __call__(self, _: Any, infos: Any, tally: streams.Tally) -> None:
        """Note the answers to a block; called by ``fit_stream`` after each."""
        length = len(infos.predicted)
        rows = self.rows[tally.num_seen - length : tally.num_seen]
        rows[:] = np.stack([infos.predicted, evaluation.memories_added(infos)], axis=1)
        self.num_new += length


def has_begun(run: Path) -> bool:
    """Return whether a folder is that of a run that writes checkpoints and has not ended."""
    return (run / _OPTIONS_FILE).is_file() and not has_ended(run)


def has_ended(run: Path) -> bool:
    """Return whether a folder is that of a run that has ended."""
    return (run / _RECORD_FILE).is_file()


def begin(run: Path, settings: Settings, command: str) -> None:
    """Make the folder of a run that writes checkpoints; for other runs, only the one above it."""
    run.parent.mkdir(parents=True, exist_ok=True)
    if settings.checkpoint_every is None:
        return
    names = [field.name for field in dataclasses.fields(Settings)]
    begun = {"command": command, "options": {name: getattr(settings, name) for name in names}}
    with tempfile.TemporaryDirectory(dir=run.parent, prefix=_INCOMPLETE) as folder:
        unfinished = Path(folder) / run.name
        unfinished.mkdir()
        _write_json(unfinished / _OPTIONS_FILE, begun)
        os.replace(unfinished, run)


def read_begun(run: Path) -> tuple[Settings, str]:
    """Return the settings of a run that has begun, and the command that began it."""
    file = run / _OPTIONS_FILE
    if not file.is_file():
        raise ValueError(f"--resume: expected a run begun with --checkpoint-every, got {run}.")
    begun = _read_json(file)
    try:
        settings = Settings(**begun["options"])
        check_settings(settings)
        return settings, begun["command"]
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"{file}: cannot be read as the options of a run ({error}).") from None


def read_record(run: Path) -> dict[str, Any]:
    """Return the record of a run that has ended."""
    return _read_json(run / _RECORD_FILE)


def load(run: Path) -> Run:
    """Return a run that has ended, with its network."""
    if not has_ended(run):
        raise ValueError(f"run: expected the folder of a run with a {_RECORD_FILE}, got {run}.")
    record = read_record(run)
    network, params, state = checkpoint.restore(run / _NETWORK_FOLDER)
    names = record.get("class_names") if isinstance(record, dict) else None
    if not isinstance(names, list) or len(names) != network.output_shape[0]:
        raise ValueError(
            f"{run / _RECORD_FILE}: expected a record with class_names, one for each of the "
            f"network's {network.output_shape[0]} classes."
        )
    return Run(network, params, state, record)


def learn(run: Path, settings: Fit, command: str, has_bar: bool) -> None:
    """Learn, test and write a run; where there is a checkpoint, go on from the latest."""
    started = time.perf_counter()
    train, test, found = _load_data(run, settings)
    loaded = time.perf_counter()
    network, params = _build(settings, train)
    is_shared = jax.process_count() > 1
    placed = shard(network, memory_mesh()) if is_shared else network
    answers = _Answers(run, len(train.labels))
    with machine.compile_seconds() as compiling:
        first = slice(training.CALIBRATION_EXAMPLES)
        params = training.calibrate(network, params, train.images[first], train.labels[first])
        state, tally = _fit_stream(run, settings, placed, params, train, answers, has_bar)
    learned = time.perf_counter()
    result, _ = evaluate(placed, params, state, test)
    evaluated = time.perf_counter()
    outcome = _Outcome(network, params, gather_to_host(state), tally, answers.rows, result)
    if jax.process_index() > 0:
        return  # The first process writes the run.
    record = {
        "command": command,
        **_describe(settings, outcome, train, test),
        "data": found,
        "resumed_at": tally.num_seen - answers.num_new,
        "load_seconds": loaded - started,
        "compile_seconds": compiling.seconds,
        "fit_seconds": learned - loaded - compiling.seconds,
        "evaluate_seconds": evaluated - learned,
        "state_digest": checkpoint.state_digest(outcome.state),
        **machine.description(),
    }
    _end(run, outcome, train, record)


def remove_leftovers(run: Path) -> None:
    """Remove what a run needs only until it has ended."""
    for folder in (run / _CHECKPOINTS_FOLDER, *run.glob(f"{_INCOMPLETE}*")):
        shutil.rmtree(folder, ignore_errors=True)
    for file in (run / _ANSWERS_FILE, run / _DATA_FILE, run / _OPTIONS_FILE):
        file.unlink(missing_ok=True)


def _load_data(run: Path, settings: Fit) -> tuple[Dataset, Dataset, dict[str, Any]]:
    """Return the examples to learn, those to test on, and what the record says of them.

    What was found of your own data is printed, and a run that goes on must find the same.
    """
    train, test, found = load_data(settings)
    if "found" in found and not settings.json:
        print(*found["found"], sep="\n", flush=True)
    file, digest = run / _DATA_FILE, found.get("digest")
    if digest is not None and file.is_file() and _read_json(file) != digest:
        raise ValueError(
            f"--resume: {settings.dataset} is not as it was when {run} was begun, so the rest of "
            "the examples is not known."
        )
    if digest is not None and run.exists() and jax.process_index() == 0:
        _write_json(file, digest)
    return train, test, found


def _build(settings: Settings, train: Dataset) -> tuple[Layer, Any]:
    """Return the ready-made network that the settings ask for, and its params."""
    shape = tuple(train.images.shape[1:])
    has_features = len(shape) == 1
    if has_features and settings.network == "columnar":
        raise ValueError("--network: expected memory for rows of features, got columnar.")
    if has_features and settings.encoder != Settings.encoder:
        raise ValueError("--encoder: does not belong to rows of features, which have none.")
    if settings.network == "columnar":
        return columnar_network(
            shape,  # type: ignore[arg-type]
            train.num_classes,
            size=settings.size,
            is_mirrored=settings.mirror,
        )
    return memory_network(
        shape,  # type: ignore[arg-type]
        train.num_classes,
        capacity=settings.capacity,
        encoder=settings.encoder,
        novelty_threshold=settings.novelty_threshold,
        supervised_growth=settings.supervised_growth,
        on_full=settings.on_full,
        num_neighbours=settings.neighbours,
        first_rows=train.images[: training.CALIBRATION_EXAMPLES] if has_features else None,
    )


def _fit_stream(
    run: Path,
    settings: Settings,
    network: Any,
    params: Any,
    train: Dataset,
    answers: _Answers,
    has_bar: bool,
) -> tuple[Any, streams.Tally]:
    number = len(train.labels)
    return streams.fit_stream(
        network,
        params,
        network.init(jax.random.key(settings.seed)),
        partial(_batches, train.images, train.labels),
        min(settings.block_size, number),
        # A readout is consolidated on the way, so that it has answers before the end.
        consolidate_at=(number // 16, number // 4),
        callbacks=[answers],
        progress=number if has_bar and jax.process_index() == 0 else False,
        checkpoint_dir=run / _CHECKPOINTS_FOLDER if settings.checkpoint_every else None,
        checkpoint_every=settings.checkpoint_every or number,
        keep=settings.checkpoint_keep,
    )


def _batches(
    images: Any, labels: np.ndarray, start: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the examples from ``start`` on in batches, so that they are not copied as a whole."""
    size = min(max(2**26 // math.prod(images.shape[1:]), 1), 2048)
    for first in range(start, len(labels), size):
        yield images[first : first + size], labels[first : first + size]


def _describe(
    settings: Settings, outcome: _Outcome, train: Dataset, test: Dataset
) -> dict[str, Any]:
    """Return what the record says of the settings and of what came of them."""
    thresholds = [float(value) for value in find_params(outcome.params, "novelty_threshold")]
    return {
        "dataset": settings.dataset,
        "class_names": train.class_names,
        "network": settings.network,
        **_describe_network(settings, outcome),
        "num_memories": evaluation.num_memories(outcome.network, outcome.state),
        "block_size": settings.block_size,
        "processes": jax.process_count(),
        "num_train": outcome.tally.num_seen,
        "num_test": len(test.labels),
        "seed": settings.seed,
        "test_split": settings.test_split,
        "test_accuracy": outcome.result.accuracy,
        "prequential_accuracy": outcome.tally.prequential_accuracy,
        "novelty_threshold": thresholds[0] if len(thresholds) == 1 else thresholds,
        **({"compared": compare(train, test, settings.neighbours)} if settings.compare else {}),
    }


def _describe_network(settings: Settings, outcome: _Outcome) -> dict[str, Any]:
    if settings.network == "columnar":
        *_, (read_out, _, _) = walk(outcome.network, outcome.params, outcome.state)
        options = {name: getattr(settings, name) for name in COLUMNAR_OPTIONS}
        return {"encoder": "columns", "capacity": read_out.input_shape[0], **options}
    names = [name for name in MEMORY_OPTIONS if name != "novelty_threshold"]
    return {name: getattr(settings, name) for name in names}


def _end(run: Path, outcome: _Outcome, train: Dataset, record: dict[str, Any]) -> None:
    """Write the network, the pictures and the record beside their place, and move them there."""
    place = run if run.exists() else run.parent
    with tempfile.TemporaryDirectory(dir=place, prefix=_INCOMPLETE) as folder:
        unfinished = Path(folder) / run.name
        unfinished.mkdir()
        checkpoint.save(unfinished / _NETWORK_FOLDER, *outcome[:3])
        _draw(unfinished, outcome, train)
        record["total_seconds"] = machine.seconds_since_start()
        record["peak_memory_bytes"] = machine.peak_memory_bytes()
        _write_json(unfinished / _RECORD_FILE, record)
        if run.exists():
            # What is left of an end that was cut off makes room; the record comes last.
            shutil.rmtree(run / _NETWORK_FOLDER, ignore_errors=True)
            for file in sorted(unfinished.iterdir(), key=lambda file: file.name == _RECORD_FILE):
                os.replace(file, run / file.name)
        else:
            os.replace(unfinished, run)
    remove_leftovers(run)


def _draw(folder: Path, outcome: _Outcome, train: Dataset) -> None:
    network, params, state, names = *outcome[:3], drawable(train.class_names)
    if network.banks(params, state):
        memories = plotting.memories(network, state, names)
    else:
        memories = plotting.columns(network, state)
    memories.savefig(folder / "memories.png")
    predicted, memories_added = np.array(outcome.answers).T
    infos = CompositeInfo(predicted, (RecruitInfo(memories_added),))
    plotting.growth(infos, train.labels).savefig(folder / "growth.png")
    if outcome.result.accuracy is not None:
        plotting.confusion(outcome.result, names).savefig(folder / "confusion.png")


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n")


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file}: cannot be read as JSON ({error}).") from None
