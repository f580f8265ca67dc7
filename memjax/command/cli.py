"""The ``memjax`` command: fit a network, evaluate a run, ask it about images, check it."""

import dataclasses
import itertools
import re
import shlex
import signal
import sys
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import jax

try:
    import tyro  # noqa: F401  (for the options)
except ImportError:
    raise SystemExit("memjax: the command needs tyro: pip install 'memjax[cli]'") from None

from memjax import __version__, checkpoint, datasets
from memjax._checks import check_positive
from memjax._text import printable
from memjax.command import _runs as runs
from memjax.command import _signals
from memjax.command._asking import evaluate
from memjax.command._check import check_folder
from memjax.command._claims import Claim
from memjax.command._data import test_again
from memjax.command._predict import predict
from memjax.command._talk import Talk, print_record
from memjax.command._writing import is_full, printing, to_json
from memjax.command.options import (
    Check,
    Demo,
    Evaluate,
    Fit,
    Predict,
    Settings,
    check_fit,
    flag,
    parse,
)
from memjax.command.processes import run_in_processes

__all__ = ["main"]

_RUNS = Path("runs")  # where new runs go by themselves


def main(arguments: list[str] | None = None) -> None:
    """Run the command. A mistake of the user ends it with status 2 and a message.

    Args:
        arguments: the words after ``memjax``; by default, those that the process was given.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    with _signals.watched():
        try:
            _run(arguments)
            with printing():
                pass  # what waits to be printed
        except _signals.Interrupted as interrupted:
            _fail(interrupted, interrupted.status, arguments)
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
            _fail(error, 2, arguments)
        except RuntimeError as error:
            if "home directory" not in str(error):
                raise
            reason = "expected a home folder: set HOME, or MEMJAX_CACHE_DIR and TFDS_DATA_DIR."
            _fail(ValueError(reason), 2, arguments)


def _run(arguments: list[str]) -> None:
    if arguments == ["--version"]:
        with printing():
            print(f"memjax {__version__}")
        return
    command = parse(arguments)
    _check_paths(command)
    if isinstance(command, Fit):
        _fit(command, arguments)
    elif isinstance(command, Evaluate):
        _evaluate(command)
    elif isinstance(command, Check):
        check_folder(command)
    elif isinstance(command, Demo):
        _serve(command)
    elif status := predict(command):
        raise SystemExit(status)


def _check_paths(command: Fit | Evaluate | Predict | Check | Demo) -> None:
    """Raise unless the folders have names that JSON and the writers of arrays can hold."""
    paths = dict(vars(command))
    if isinstance(command, Fit) and command.resume is None and command.out is None:
        paths["out"] = _RUNS
    for name, path in paths.items():
        if isinstance(path, Path):
            try:
                str(path.absolute()).encode()
            except UnicodeEncodeError:
                name = name if name == "run" else flag(name)
                raise ValueError(
                    f"{name}: expected a name in UTF-8, got {path.absolute()}."
                ) from None


def _fail(error: Exception, status: int, arguments: list[str]) -> NoReturn:
    """Say in one line what is wrong, and what its notes say, and end with a status."""
    text, notes = str(error), ["make room for it first"] * is_full(error)
    notes += getattr(error, "__notes__", ())
    if notes:
        text = f"{'; '.join([text.rstrip('.'), *notes])}."
    for argument in arguments:  # A name is shown as it is, and not as it may look.
        text = text.replace(argument, printable(argument))
    print(f"memjax: {printable(' '.join(text.split()))}", file=sys.stderr)
    raise SystemExit(status) from None


def _fit(options: Fit, arguments: list[str]) -> None:
    if options.resume is None:
        check_fit(options)
        command = f"memjax {shlex.join(arguments)}"
        with runs.begin(_new_folders(options), options, command) as claim:
            _learn(claim, options, command)
        run = claim.run
    else:
        run = options.resume
        if not runs.has_ended(run) or runs.has_leftovers(run):
            _resume(run, options, arguments)
    record = runs.read_record(run)
    if options.json:
        _print_json(record)
        return
    if options.processes > 1:  # What they print themselves is lost.
        print(*(printable(line) for line in record["data"].get("found", ())), sep="\n")
    with printing():
        print_record(record, run)


def _new_folders(options: Fit) -> Iterable[Path]:
    """Return the folders that a new run may go into: the first that is free."""
    if (run := options.out) is not None:
        if runs.has_begun(run):
            raise ValueError(f"--out: {run} has not ended; memjax fit --resume {run} goes on.")
        return [run]
    source = re.sub(r"[^\w.+-]+", "-", Path(options.dataset).name.removeprefix("tfds:"))
    name = f"{source}-{options.network}-{time.strftime('%Y%m%d-%H%M%S')}"
    others = (f"{name}-{number}" for number in itertools.count(2))
    return (_RUNS / name for name in itertools.chain([name], others))


def _resume(run: Path, options: Fit, arguments: list[str]) -> None:
    with runs.take_up(run) as claim:
        if runs.has_ended(run):
            runs.remove_leftovers(run)
            return
        begun, command = _go_on(run, options, arguments)
        check_fit(begun)
        _learn(claim, begun, command)


def _go_on(run: Path, options: Fit, arguments: list[str]) -> tuple[Fit, str]:
    """Return the options of a resumed run, and the command that began it.

    Its settings may be given again, but not changed.
    """
    settings, command = runs.read_begun(run)
    options = dataclasses.replace(options, **vars(settings))
    given = parse(arguments, options)
    for field in dataclasses.fields(Settings):
        begun, now = getattr(settings, field.name), getattr(given, field.name)
        if begun != now:
            raise ValueError(f"{flag(field.name)}: {run} was begun with {begun}, got {now}.")
    return options, command


def _learn(claim: Claim, options: Fit, command: str) -> None:
    """Learn a run, in this process or in several others."""
    try:
        if options.processes == 1:
            runs.learn(claim, options, command, _is_heard(options))
            return
        with Talk(_is_heard(options)) as talk:
            talk.says(f"learning in {options.processes} processes")
            work = partial(runs.learn, claim, options, command, is_heard=False)
            if options.checkpoint_every is None:
                run_in_processes(work, options.processes)
                return
            with _signals.postponed() as request:
                is_done = run_in_processes(work, options.processes, lambda: bool(request.number))
        if not is_done:
            raise _signals.Interrupted(request.number or signal.SIGTERM)
    except (_signals.Interrupted, ChildProcessError) as error:
        error.add_note(runs.what_is_kept(claim.run))
        raise
    except (OSError, ValueError, jax.errors.JaxRuntimeError) as error:
        if "cannot be written" in str(error):
            error.add_note(runs.what_is_kept(claim.run))
        raise


def _is_heard(options: Fit | Evaluate) -> bool:
    """Return whether somebody at a terminal reads what is done; with --json nobody does."""
    return sys.stderr.isatty() and not options.json


def _evaluate(options: Evaluate) -> None:
    with Talk(_is_heard(options)) as talk:
        talk.says(f"loading {options.run}")
        run = runs.load(options.run)
        network, params, state, record = run
        if options.limit is not None:
            check_positive("--limit", options.limit)
        talk.says(f"loading {options.dataset}")
        if datasets.is_named(options.dataset):
            test, data = datasets.load(options.dataset, options.test_split), None
            kept = slice(options.limit)
            test = test._replace(images=test.images[kept], labels=test.labels[kept])
        else:
            test, data = test_again(run, options), record.get("data", {})
        talk.says("testing")
        result, num_turned = evaluate(network, params, state, test, data)
    number = len(test.labels)
    if options.json:
        answer = {
            "run": str(options.run),
            "dataset": options.dataset,
            "test_split": test.split,
            "num_test": number,
            "test_accuracy": result.accuracy,
        }
        _print_json(answer if data is None else answer | {"num_inverted": num_turned})
        return
    if result.accuracy is None:
        print(printable(f"{options.dataset} {test.split}: too few to test"))
        return
    accuracy = f"{100 * result.accuracy:.2f} % of {number}"
    print(printable(f"{options.dataset} {test.split}: {accuracy}"))
    if num_turned:
        print(
            f"light and dark were changed in {num_turned:,} images: their edges are not as those "
            "that were learned"
        )
    for label, name in enumerate(record["class_names"]):
        row = result.confusion[label]
        print(
            f"{printable(name):>22}  {100 * row[label] / max(row.sum(), 1):6.2f} % of {row.sum()}"
        )


def _serve(options: Demo) -> None:
    from memjax.demo import serve  # It needs an extra of its own.

    serve(runs.load, **vars(options))


def _print_json(content: Any) -> None:
    with printing():
        print(to_json(content))
