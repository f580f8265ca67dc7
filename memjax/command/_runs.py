"""The life of a run: a folder that is begun, learned into, ended and asked.

A run appears whole when it ends. A run that writes checkpoints has a folder from the beginning,
which holds its options, its checkpoints and its answers so far. These go when it ends. One process
writes a run at a time, and a signal ends it with what it has.
"""

import contextlib
import dataclasses
import json
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from memjax import checkpoint, datasets, evaluation, plotting, streams, training
from memjax.base import CompositeInfo, Layer, RecruitInfo, walk
from memjax.command import _signals, machine
from memjax.command._claims import INCOMPLETE, LOCK_FILE, Claim, claim_begun, claim_new
from memjax.command._learning import ANSWERS_FILE, CHECKPOINTS_FOLDER, learn_stream
from memjax.command._writing import to_json, write_whole, writing
from memjax.command.options import COLUMNAR_OPTIONS, MEMORY_OPTIONS, Settings, check_settings
from memjax.datasets import Dataset
from memjax.devices import gather_to_host, memory_mesh, shard
from memjax.networks import columnar_network, memory_network
from memjax.params import find_params

_RECORD_FILE = "record.json"
_NETWORK_FOLDER = "network"
# These are there only until the run has ended.
_OPTIONS_FILE = "options.json"


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


def has_begun(run: Path) -> bool:
    """Return whether a folder is that of a run that writes checkpoints and has not ended."""
    return (run / _OPTIONS_FILE).is_file() and not has_ended(run)


def has_ended(run: Path) -> bool:
    """Return whether a folder is that of a run that has ended."""
    return (run / _RECORD_FILE).is_file()


@contextlib.contextmanager
def begin(runs: Iterable[Path], settings: Settings, command: str) -> Iterator[Claim]:
    """Claim the first of some folders that is free, for a new run that is written in the block."""
    with _held(claim_new(runs)) as claim:
        if settings.checkpoint_every is not None:
            names = [field.name for field in dataclasses.fields(Settings)]
            options = {name: getattr(settings, name) for name in names}
            _write_json(claim.folder / _OPTIONS_FILE, {"command": command, "options": options})
            with writing(claim.run):
                claim.settle()
        yield claim


@contextlib.contextmanager
def take_up(run: Path) -> Iterator[Claim]:
    """Claim the folder of a run that has begun, which is written in the block."""
    if not (has_begun(run) or has_ended(run)):
        raise _not_begun(run)
    with _held(claim_begun(run)) as claim:
        yield claim


@contextlib.contextmanager
def _held(claim: Claim) -> Iterator[Claim]:
    """Release a claim after the block, and when a signal ends the process in it."""

    def say_farewell() -> str:
        if claim.folder != claim.run:
            claim.release()
        return what_is_kept(claim.run)

    try:
        with _signals.at_end(say_farewell):
            yield claim
    finally:
        claim.release()


def what_is_kept(run: Path) -> str:
    """Return what there is of a run, and how to go on with it, as the end of a sentence."""
    if has_ended(run):
        return f"{run} is whole"
    if not has_begun(run):
        return "nothing is kept; with --checkpoint-every a run can go on"
    kept = [path.name.partition("_")[2] for path in (run / CHECKPOINTS_FOLDER).glob("*_*")]
    learned = max((int(number) for number in kept if number.isdigit()), default=0)
    way = f"memjax fit --resume {shlex.quote(str(run))}"
    return f"{way} goes on after {learned:,} examples" if learned else f"{way} begins it again"


def _not_begun(run: Path) -> ValueError:
    return ValueError(f"--resume: expected a run begun with --checkpoint-every, got {run}.")


def read_begun(run: Path) -> tuple[Settings, str]:
    """Return the settings of a run that has begun, and the command that began it."""
    file = run / _OPTIONS_FILE
    if not file.is_file():
        raise _not_begun(run)
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


def learn(claim: Claim, settings: Settings, command: str, has_bar: bool) -> None:
    """Learn, test and write a run; where there is a checkpoint, go on from the latest.

    Raises:
        Interrupted: a signal has ended it after a block, with a checkpoint.
    """
    started = time.perf_counter()
    train, test = _load_data(settings)
    loaded = time.perf_counter()
    network, params = _build(settings, train)
    is_shared = jax.process_count() > 1
    placed = shard(network, memory_mesh()) if is_shared else network
    with machine.compile_seconds() as compiling:
        first = slice(training.CALIBRATION_EXAMPLES)
        params = training.calibrate(network, params, train.images[first], train.labels[first])
        state, tally, answers = learn_stream(claim.folder, settings, placed, params, train, has_bar)
    learned = time.perf_counter()
    mine = slice(jax.process_index(), None, jax.process_count())
    result = evaluation.evaluate_parts(placed, params, state, test.images[mine], test.labels[mine])
    evaluated = time.perf_counter()
    outcome = _Outcome(network, params, gather_to_host(state), tally, answers.rows, result)
    if jax.process_index() > 0:
        return  # The first process writes the run.
    record = {
        "command": command,
        **_describe(settings, outcome, train, test),
        "resumed_at": tally.num_seen - answers.num_new,
        "load_seconds": loaded - started,
        "compile_seconds": compiling.seconds,
        "fit_seconds": learned - loaded - compiling.seconds,
        "evaluate_seconds": evaluated - learned,
        "state_digest": checkpoint.state_digest(outcome.state),
        **machine.description(),
    }
    _end(claim, outcome, train, record)


def has_leftovers(run: Path) -> bool:
    """Return whether a folder has what a run needs only until it has ended."""
    names = (CHECKPOINTS_FOLDER, ANSWERS_FILE, _OPTIONS_FILE, LOCK_FILE)
    return any((run / name).exists() for name in names) or any(run.glob(f"{INCOMPLETE}*"))


def remove_leftovers(run: Path) -> None:
    """Remove what a run needs only until it has ended, but for the lock of who removes it."""
    shutil.rmtree(run / CHECKPOINTS_FOLDER, ignore_errors=True)
    for file in (run / ANSWERS_FILE, run / _OPTIONS_FILE):
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
    }


def _describe_network(settings: Settings, outcome: _Outcome) -> dict[str, Any]:
    if settings.network == "columnar":
        *_, (read_out, _, _) = walk(outcome.network, outcome.params, outcome.state)
        options = {name: getattr(settings, name) for name in COLUMNAR_OPTIONS}
        return {"encoder": "columns", "capacity": read_out.input_shape[0], **options}
    names = [name for name in MEMORY_OPTIONS if name != "novelty_threshold"]
    return {name: getattr(settings, name) for name in names}


def _end(claim: Claim, outcome: _Outcome, train: Dataset, record: dict[str, Any]) -> None:
    """Write the network, the pictures and the record beside their place, and move them there."""
    place = claim.folder
    with writing(place), tempfile.TemporaryDirectory(dir=place, prefix=INCOMPLETE) as folder:
        unfinished = Path(folder)
        checkpoint.save(unfinished / _NETWORK_FOLDER, *outcome[:3])
        _draw(unfinished, outcome, train)
        record["total_seconds"] = machine.seconds_since_start()
        record["peak_memory_bytes"] = machine.peak_memory_bytes()
        _write_json(unfinished / _RECORD_FILE, record)
        # What is left of an end that was cut off makes room; the record comes last.
        shutil.rmtree(place / _NETWORK_FOLDER, ignore_errors=True)
        for file in sorted(unfinished.iterdir(), key=lambda file: file.name == _RECORD_FILE):
            os.replace(file, place / file.name)
    remove_leftovers(place)
    claim.finish()


def _draw(folder: Path, outcome: _Outcome, train: Dataset) -> None:
    network, params, state, names = *outcome[:3], train.class_names
    if network.banks(params, state):
        memories = plotting.memories(network, state, names)
    else:
        memories = plotting.columns(network, state)
    memories.savefig(folder / "memories.png")
    predicted, memories_added = np.array(outcome.answers).T
    infos = CompositeInfo(predicted, (RecruitInfo(memories_added),))
    plotting.growth(infos, train.labels).savefig(folder / "growth.png")
    plotting.confusion(outcome.result, names).savefig(folder / "confusion.png")


def _write_json(file: Path, content: Any) -> None:
    write_whole(file, f"{to_json(content)}\n".encode())


def _read_json(file: Path) -> Any:
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise ValueError(f"{file}: cannot be read as JSON ({error}).") from None
