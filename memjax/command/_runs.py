"""The life of a run: a folder that is begun, learned into, ended and asked.

A run appears whole when it ends. A run that writes checkpoints has a folder from the beginning,
which holds its options, its checkpoints and its answers so far. These go when it ends. One process
writes a run at a time, and a signal ends it with what it has.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax

from memjax import __version__, checkpoint, evaluation, training
from memjax._checks import shorten
from memjax._files import (
    SUMS_FILE,
    check_inside,
    check_place,
    check_sums,
    read_json,
    reason_of,
    seal,
)
from memjax._text import printable
from memjax.base import Layer, walk
from memjax.command import _signals, machine
from memjax.command._asking import compare, evaluate
from memjax.command._claims import INCOMPLETE, LOCK_FILE, Claim, claim_begun, claim_new
from memjax.command._data import load as load_data
from memjax.command._learning import ANSWERS_FILE, CHECKPOINTS_FOLDER, learn_stream
from memjax.command._pictures import Outcome, draw_run
from memjax.command._talk import SECONDS, Talk
from memjax.command._writing import to_json, write_whole, writing
from memjax.command.options import COLUMNAR_OPTIONS, MEMORY_OPTIONS, Fit, Settings, check_settings
from memjax.datasets import Dataset
from memjax.devices import gather_to_host, memory_mesh, shard
from memjax.networks import columnar_network, memory_network
from memjax.params import find_params

_RECORD_FILE = "record.json"
NETWORK_FOLDER = "network"
# These are there only until the run has ended.
_OPTIONS_FILE = "options.json"
_DATA_FILE = "data.json"
_FORMAT = 2  # of the options
# The numbers of a record that every command may print; a test without examples has no accuracy.
_PRINTED = (
    *("test_accuracy", "prequential_accuracy", "num_memories", "num_train"),
    *("fit_seconds", "compile_seconds", "total_seconds"),
)
_LONGEST_NAME = 255  # of a class, as of a folder; pictures and lines have no room for more


class Run(NamedTuple):
    """A run that has ended: its network and its record."""

    network: Layer
    params: Any
    state: Any
    record: dict[str, Any]


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
            begun = {"format": _FORMAT, "memjax": __version__}
            begun |= {"command": command, "options": options}
            _write_json(claim.folder / _OPTIONS_FILE, begun | {"sha256": _digest(begun)})
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
    for part in run.iterdir():  # A run that goes on writes to them.
        check_inside(run, part.name)
    check_place(run, ANSWERS_FILE)
    begun = read_json(file)
    form = begun.get("format", _FORMAT) if isinstance(begun, dict) else _FORMAT
    try:
        if form == _FORMAT:
            settings = Settings(**begun["options"])
            check_settings(settings)
            command, digest = begun["command"], begun.pop("sha256", None)
    except (TypeError, ValueError, KeyError) as error:
        reason = reason_of(error)
        raise ValueError(f"{file}: cannot be read as the options of a run ({reason}).") from None
    # An option that is missing would silently be what it is today.
    if form != _FORMAT or "format" not in begun:
        writer = printable(str(begun.get("memjax", "0.1")))
        raise ValueError(
            f"{file}: expected format {_FORMAT}, got that of memjax {writer}; begin the run anew."
        )
    if digest != _digest(begun):
        raise ValueError(f"{file}: is not as it was saved, by the sha256 in it.")
    return settings, command


def read_record(run: Path) -> dict[str, Any]:
    """Return the record of a run that has ended, as it was written."""
    check_inside(run, _RECORD_FILE)
    record = read_json(run / _RECORD_FILE)
    for name in _PRINTED:
        allowed: Any = int | float | None if name == "test_accuracy" else int | float
        if not isinstance(record, dict) or not isinstance(record.get(name), allowed):
            raise ValueError(f"{run / _RECORD_FILE}: expected a record with the number {name}.")
    check_record(run)
    return record


def check_record(run: Path) -> None:
    """Raise unless the record of a run is as it was written; say so where there are no sums."""
    if os.path.lexists(run / SUMS_FILE):
        check_sums(run, [_RECORD_FILE])
    else:
        notice = f"memjax: {run}: has no {SUMS_FILE}, so its {_RECORD_FILE} is read unchecked."
        print(notice, file=sys.stderr)


def load(run: Path) -> Run:
    """Return a run that has ended, with its network."""
    if not has_ended(run):
        raise ValueError(f"run: expected the folder of a run with a {_RECORD_FILE}, got {run}.")
    for name in (_RECORD_FILE, NETWORK_FOLDER):
        check_inside(run, name)
    record = read_json(run / _RECORD_FILE)
    network, params, state = checkpoint.restore(run / NETWORK_FOLDER)
    names = record.get("class_names") if isinstance(record, dict) else None
    if not isinstance(names, list) or len(names) != network.output_shape[0]:
        raise ValueError(
            f"{run / _RECORD_FILE}: expected a record with class_names, one for each of the "
            f"network's {network.output_shape[0]} classes."
        )
    for name in names:
        if not isinstance(name, str) or len(name) > _LONGEST_NAME:
            raise ValueError(
                f"{run / _RECORD_FILE}: expected class_names of at most {_LONGEST_NAME} "
                f"characters, got {shorten(name)}."
            )
    check_record(run)
    return Run(network, params, state, record)


def learn(claim: Claim, settings: Fit, command: str, is_heard: bool) -> None:
    """Learn, test and write a run; where there is a checkpoint, go on from the latest.

    On a terminal, which is where it ``is_heard``, it says what it does.

    Raises:
        Interrupted: a signal has ended it after a block, with a checkpoint.
    """
    with Talk(is_heard) as talk:
        _learn(claim, settings, command, talk)


def _learn(claim: Claim, settings: Fit, command: str, talk: Talk) -> None:
    before, started = machine.seconds_since_start(), time.perf_counter()
    talk.says(f"loading {settings.dataset}")
    train, test, found = _load_data(claim.folder, settings)
    loaded = time.perf_counter()
    network, params = _build(settings, train)
    is_shared = jax.process_count() > 1
    placed = shard(network, memory_mesh()) if is_shared else network
    talk.says("compiling")
    with machine.compile_seconds() as compiling:
        first = slice(training.CALIBRATION_EXAMPLES)
        params = training.calibrate(network, params, train.images[first], train.labels[first])
        state, tally, answers = learn_stream(claim.folder, settings, placed, params, train, talk)
    learned = time.perf_counter()
    talk.says("testing")
    result, _ = evaluate(placed, params, state, test)
    evaluated = time.perf_counter()
    outcome = Outcome(
        network, params, gather_to_host(state), tally, answers.rows, result, train, test
    )
    if jax.process_index() > 0:
        return  # The first process writes the run.
    record = {
        "command": command,
        **_describe(settings, outcome),
        "data": found,
        "resumed_at": tally.num_seen - answers.num_new,
        "start_seconds": before,
        "load_seconds": loaded - started,
        "compile_seconds": compiling.seconds,
        "fit_seconds": learned - loaded - compiling.seconds,
        "evaluate_seconds": evaluated - learned,
        "state_digest": checkpoint.state_digest(outcome.state),
        **machine.description(),
    }
    _end(claim, outcome, record, settings.film, talk)


def has_leftovers(run: Path) -> bool:
    """Return whether a folder has what a run needs only until it has ended."""
    names = (CHECKPOINTS_FOLDER, ANSWERS_FILE, _DATA_FILE, _OPTIONS_FILE, LOCK_FILE)
    return any((run / name).exists() for name in names) or any(run.glob(f"{INCOMPLETE}*"))


def remove_leftovers(run: Path) -> None:
    """Remove what a run needs only until it has ended, but for the lock of who removes it."""
    shutil.rmtree(run / CHECKPOINTS_FOLDER, ignore_errors=True)
    for file in (run / ANSWERS_FILE, run / _DATA_FILE, run / _OPTIONS_FILE):
        file.unlink(missing_ok=True)


def _load_data(run: Path, settings: Fit) -> tuple[Dataset, Dataset, dict[str, Any]]:
    """Return the examples to learn, those to test on, and what the record says of them.

    What was found of your own data is printed, and a run that goes on must find the same.
    """
    train, test, found = load_data(settings)
    if "found" in found and not settings.json:
        print(*found["found"], sep="\n", flush=True)
    file, digest = run / _DATA_FILE, found.get("digest")
    if digest is not None and file.is_file() and read_json(file) != digest:
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
        "num_unanswered": int(outcome.result.confusion[:, -1].sum()),
        "seed": settings.seed,
        "test_split": settings.test_split,
        "test_accuracy": outcome.result.accuracy,
        "prequential_accuracy": outcome.tally.prequential_accuracy,
        "novelty_threshold": thresholds[0] if len(thresholds) == 1 else thresholds,
        **_compare(settings, outcome),
    }


def _compare(settings: Settings, outcome: Outcome) -> dict[str, Any]:
    if not settings.compare:
        return {}
    return {"compared": compare(outcome.train, outcome.test, settings.neighbours)}


def _describe_network(settings: Settings, outcome: Outcome) -> dict[str, Any]:
    if settings.network == "columnar":
        *_, (read_out, _, _) = walk(outcome.network, outcome.params, outcome.state)
        options = {name: getattr(settings, name) for name in COLUMNAR_OPTIONS}
        return {"encoder": "columns", "capacity": read_out.input_shape[0], **options}
    names = [name for name in MEMORY_OPTIONS if name != "novelty_threshold"]
    return {name: getattr(settings, name) for name in names}


def _end(
    claim: Claim, outcome: Outcome, record: dict[str, Any], has_film: bool, talk: Talk
) -> None:
    """Write the network, the pictures and the record beside their place, and move them there."""
    place = claim.folder
    with writing(place), tempfile.TemporaryDirectory(dir=place, prefix=INCOMPLETE) as folder:
        unfinished = Path(folder)
        begun = time.perf_counter()
        talk.says("saving")
        checkpoint.save(unfinished / NETWORK_FOLDER, *outcome[:3])
        saved = time.perf_counter()
        record["save_seconds"] = saved - begun
        talk.says("drawing")
        draw_run(unfinished, outcome, record, has_film)
        record["draw_seconds"] = time.perf_counter() - saved
        record["total_seconds"] = sum(record[name] for name in SECONDS)
        record["peak_memory_bytes"] = machine.peak_memory_bytes()
        _write_json(unfinished / _RECORD_FILE, record)
        seal(unfinished)
        # What is left of an end that was cut off makes room; the record comes last.
        shutil.rmtree(place / NETWORK_FOLDER, ignore_errors=True)
        for file in sorted(unfinished.iterdir(), key=lambda file: file.name == _RECORD_FILE):
            os.replace(file, place / file.name)
    remove_leftovers(place)
    claim.finish()


def _write_json(file: Path, content: Any) -> None:
    write_whole(file, f"{to_json(content)}\n".encode())


def _digest(content: Any) -> str:
    """Return the SHA-256 of some content, the same before it is written and after it is read."""
    content = json.loads(to_json(content))
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
