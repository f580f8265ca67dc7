"""The life of a run: a folder that is begun, learned into, ended and asked.

A run appears whole when it ends. A run that writes checkpoints has a folder from the beginning,
which holds its options, its checkpoints and its answers so far. These go when it ends.
"""

import dataclasses
import json
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

from memjax import checkpoint, datasets, evaluation, streams, training
from memjax.base import Layer, walk
from memjax.command import machine
from memjax.command._pictures import Outcome, draw_run
from memjax.command._talk import SECONDS, Talk
from memjax.command.options import COLUMNAR_OPTIONS, MEMORY_OPTIONS, Settings, check_settings
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
_INCOMPLETE = "incomplete."  # how the name of a folder begins while it is written


class Run(NamedTuple):
    """A run that has ended: its network and its record."""

    network: Layer
    params: Any
    state: Any
    record: dict[str, Any]


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


def learn(run: Path, settings: Settings, command: str, is_heard: bool) -> None:
    """Learn, test and write a run; where there is a checkpoint, go on from the latest.

    On a terminal, which is where it ``is_heard``, it says what it does.
    """
    with Talk(is_heard) as talk:
        _learn(run, settings, command, talk)


def _learn(run: Path, settings: Settings, command: str, talk: Talk) -> None:
    before, started = machine.seconds_since_start(), time.perf_counter()
    talk.says(f"loading {settings.dataset}")
    train, test = _load_data(settings)
    loaded = time.perf_counter()
    network, params = _build(settings, train)
    is_shared = jax.process_count() > 1
    placed = shard(network, memory_mesh()) if is_shared else network
    answers = _Answers(run, len(train.labels))
    talk.says("compiling")
    with machine.compile_seconds() as compiling:
        first = slice(training.CALIBRATION_EXAMPLES)
        params = training.calibrate(network, params, train.images[first], train.labels[first])
        state, tally = _fit_stream(run, settings, placed, params, train, answers, talk)
    learned = time.perf_counter()
    talk.says("testing")
    mine = slice(jax.process_index(), None, jax.process_count())
    test = test._replace(images=test.images[mine], labels=test.labels[mine])
    result = evaluation.evaluate_parts(placed, params, state, test.images, test.labels)
    outcome = Outcome(
        network, params, gather_to_host(state), tally, answers.rows, result, train, test
    )
    evaluated = time.perf_counter()
    if jax.process_index() > 0:
        return  # The first process writes the run.
    record = {
        "command": command,
        **_describe(settings, outcome),
        "resumed_at": tally.num_seen - answers.num_new,
        "start_seconds": before,
        "load_seconds": loaded - started,
        "compile_seconds": compiling.seconds,
        "fit_seconds": learned - loaded - compiling.seconds,
        "evaluate_seconds": evaluated - learned,
        "state_digest": checkpoint.state_digest(outcome.state),
        **machine.description(),
    }
    _end(run, outcome, record, settings.film, talk)


def remove_leftovers(run: Path) -> None:
    """Remove what a run needs only until it has ended."""
    for folder in (run / _CHECKPOINTS_FOLDER, *run.glob(f"{_INCOMPLETE}*")):
        shutil.rmtree(folder, ignore_errors=True)
    for file in (run / _ANSWERS_FILE, run / _OPTIONS_FILE):
        file.unlink(missing_ok=True)


def _load_data(settings: Settings) -> tuple[Dataset, Dataset]:
    """Return the examples to learn and those to test on."""
    split = "train" if settings.test_split == "test" else "train_without_validation"
    train = datasets.load(settings.dataset, split, seed=settings.seed)
    test = datasets.load(settings.dataset, settings.test_split, seed=settings.seed)
    kept = slice(settings.limit)
    return train._replace(images=train.images[kept], labels=train.labels[kept]), test


def _build(settings: Settings, train: Dataset) -> tuple[Layer, Any]:
    """Return the ready-made network that the settings ask for, and its params."""
    height, width, channels = train.images.shape[1:]
    shape = (height, width, channels)
    if settings.network == "columnar":
        return columnar_network(
            shape, train.num_classes, size=settings.size, is_mirrored=settings.mirror
        )
    return memory_network(
        shape,
        train.num_classes,
        capacity=settings.capacity,
        encoder=settings.encoder,
        novelty_threshold=settings.novelty_threshold,
        supervised_growth=settings.supervised_growth,
        on_full=settings.on_full,
        num_neighbours=settings.neighbours,
    )


def _fit_stream(
    run: Path,
    settings: Settings,
    network: Any,
    params: Any,
    train: Dataset,
    answers: _Answers,
    talk: Talk,
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
        callbacks=[answers, talk.counts(network, number)],
        checkpoint_dir=run / _CHECKPOINTS_FOLDER if settings.checkpoint_every else None,
        checkpoint_every=settings.checkpoint_every or number,
        keep=settings.checkpoint_keep,
    )


def _batches(
    images: np.ndarray, labels: np.ndarray, start: int, size: int = 2048
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the examples from ``start`` on in batches, so that they are not copied as a whole."""
    for first in range(start, len(labels), size):
        yield images[first : first + size], labels[first : first + size]


def _describe(settings: Settings, outcome: Outcome) -> dict[str, Any]:
    """Return what the record says of the settings and of what came of them."""
    thresholds = [float(value) for value in find_params(outcome.params, "novelty_threshold")]
    return {
        "dataset": settings.dataset,
        "class_names": outcome.train.class_names,
        "network": settings.network,
        **_describe_network(settings, outcome),
        "num_memories": evaluation.num_memories(outcome.network, outcome.state),
        "block_size": settings.block_size,
        "processes": jax.process_count(),
        "num_train": outcome.tally.num_seen,
        "num_test": int(outcome.result.confusion.sum()),
        "seed": settings.seed,
        "test_split": settings.test_split,
        "test_accuracy": outcome.result.accuracy,
        "prequential_accuracy": outcome.tally.prequential_accuracy,
        "novelty_threshold": thresholds[0] if len(thresholds) == 1 else thresholds,
    }


def _describe_network(settings: Settings, outcome: Outcome) -> dict[str, Any]:
    if settings.network == "columnar":
        *_, (read_out, _, _) = walk(outcome.network, outcome.params, outcome.state)
        options = {name: getattr(settings, name) for name in COLUMNAR_OPTIONS}
        return {"encoder": "columns", "capacity": read_out.input_shape[0], **options}
    names = [name for name in MEMORY_OPTIONS if name != "novelty_threshold"]
    return {name: getattr(settings, name) for name in names}


def _end(run: Path, outcome: Outcome, record: dict[str, Any], has_film: bool, talk: Talk) -> None:
    """Write the network, the pictures and the record beside their place, and move them there."""
    place = run if run.exists() else run.parent
    with tempfile.TemporaryDirectory(dir=place, prefix=_INCOMPLETE) as folder:
        unfinished = Path(folder) / run.name
        unfinished.mkdir()
        begun = time.perf_counter()
        talk.says("saving")
        checkpoint.save(unfinished / _NETWORK_FOLDER, *outcome[:3])
        saved = time.perf_counter()
        record["save_seconds"] = saved - begun
        talk.says("drawing")
        draw_run(unfinished, outcome, record, has_film)
        record["draw_seconds"] = time.perf_counter() - saved
        record["total_seconds"] = sum(record[name] for name in SECONDS)
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


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, indent=1) + "\n")


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file}: cannot be read as JSON ({error}).") from None
