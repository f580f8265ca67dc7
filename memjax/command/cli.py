"""The ``memjax`` command: fit a network, evaluate a run, ask it about images."""

import dataclasses
import json
import re
import shlex
import sys
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Union

import jax

try:
    import tyro
except ImportError:
    raise SystemExit("memjax: the command needs tyro: pip install 'memjax[cli]'") from None

from memjax import __version__, checkpoint, datasets
from memjax._checks import check_positive, printable
from memjax.command import _runs as runs
from memjax.command._asking import evaluate
from memjax.command._data import test_again
from memjax.command._predict import predict
from memjax.command.options import Evaluate, Fit, Predict, Settings, check_fit, flag
from memjax.command.processes import run_in_processes

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> None:
    """Run the command. A mistake of the user ends it with status 2 and a message.

    Args:
        arguments: the words after ``memjax``; by default, those that the process was given.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        if arguments == ["--version"]:
            print(f"memjax {__version__}")
            return
        command = _parse(arguments)
        if isinstance(command, Fit):
            _fit(command, arguments)
        elif isinstance(command, Evaluate):
            _evaluate(command)
        elif status := predict(command):
            raise SystemExit(status)
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
        print(f"memjax: {printable(' '.join(str(error).split()))}", file=sys.stderr)
        raise SystemExit(2) from None


def _parse(arguments: list[str], defaults: Fit | None = None) -> Fit | Evaluate | Predict:
    """Return the command with its options; ``defaults`` are those of ``fit``."""
    fit = Annotated[Fit, tyro.conf.subcommand("fit", default=defaults or Fit())]
    evaluate = Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    predict = Annotated[Predict, tyro.conf.subcommand("predict")]
    return tyro.cli(
        Union[fit, evaluate, predict],  # type: ignore[arg-type]  # noqa: UP007
        args=arguments,
        prog="memjax",
        description="Memory networks: visual learning in one pass. --version prints the version.",
    )


def _fit(options: Fit, arguments: list[str]) -> None:
    if options.resume is None:
        run, command = _new_folder(options), f"memjax {shlex.join(arguments)}"
        check_fit(options)
        runs.begin(run, options, command)
        _learn(run, options, command)
    elif runs.has_ended(run := options.resume):
        runs.remove_leftovers(run)
    else:
        begun, command = _go_on(run, options, arguments)
        check_fit(begun)
        _learn(run, begun, command)
    record = runs.read_record(run)
    if options.json:
        _print_json(record)
        return
    if options.processes > 1:  # What they print themselves is lost.
        print(*(printable(line) for line in record["data"].get("found", ())), sep="\n")
    _print_record(record, run)


def _new_folder(options: Fit) -> Path:
    """Return the folder that a new run goes into."""
    source = re.sub(r"[^\w.+-]+", "-", Path(options.dataset).name.removeprefix("tfds:"))
    name = f"{source}-{options.network}-{time.strftime('%Y%m%d-%H%M%S')}"
    run = options.out or Path("runs") / name
    if runs.has_begun(run):
        raise FileExistsError(f"--out: {run} has not ended; memjax fit --resume {run} goes on.")
    if run.exists():
        raise FileExistsError(f"--out: expected a folder that does not exist yet, got {run}.")
    return run


def _go_on(run: Path, options: Fit, arguments: list[str]) -> tuple[Fit, str]:
    """Return the options of a resumed run, and the command that began it.

    Its settings may be given again, but not changed.
    """
    settings, command = runs.read_begun(run)
    options = dataclasses.replace(options, **vars(settings))
    given = _parse(arguments, options)
    for field in dataclasses.fields(Settings):
        begun, now = getattr(settings, field.name), getattr(given, field.name)
        if begun != now:
            raise ValueError(f"{flag(field.name)}: {run} was begun with {begun}, got {now}.")
    return options, command


def _learn(run: Path, options: Fit, command: str) -> None:
    """Learn a run, in this process or in several others."""
    has_bar = sys.stderr.isatty() and not options.json
    work = partial(runs.learn, run, options, command, has_bar)
    if options.processes == 1:
        work()
        return
    try:
        run_in_processes(work, options.processes)
    except ChildProcessError as error:
        way = (
            f"memjax fit --resume {run} goes on from the latest checkpoint"
            if options.checkpoint_every
            else "with --checkpoint-every a run can go on"
        )
        raise ChildProcessError(f"{str(error).rstrip('.')}; {way}.") from None


def _evaluate(options: Evaluate) -> None:
    run = runs.load(options.run)
    network, params, state, record = run
    if options.limit is not None:
        check_positive("--limit", options.limit)
    if datasets.is_named(options.dataset):
        test, data = datasets.load(options.dataset, options.test_split), None
        kept = slice(options.limit)
        test = test._replace(images=test.images[kept], labels=test.labels[kept])
    else:
        test, data = test_again(run, options), record.get("data", {})
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


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=1))


def _print_record(record: dict[str, Any], run: Path) -> None:
    rows = {
        f"{record['test_split']} accuracy": _percent(record["test_accuracy"]),
        **{name: _percent(accuracy) for name, accuracy in record.get("compared", {}).items()},
        "prequential accuracy": f"{100 * record['prequential_accuracy']:.2f} %",
        "memories": f"{record['num_memories']:,}",
        "examples learned": f"{record['num_train']:,}",
        "fit": f"{record['fit_seconds']:.1f} s (+ {record['compile_seconds']:.1f} s compiling)",
        "whole command": f"{record['total_seconds']:.1f} s",
        "written to": str(run),
    }
    for name, value in rows.items():
        print(f"{name:>22}  {printable(value)}")


def _percent(accuracy: float | None) -> str:
    return "too few to test" if accuracy is None else f"{100 * accuracy:.2f} %"
