"""The ``memjax`` command: fit a network, evaluate a run, ask it about images."""

import dataclasses
import json
import shlex
import sys
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Union

import jax
import numpy as np

try:
    import tyro
except ImportError:
    raise SystemExit("memjax: the command needs tyro: pip install 'memjax[cli]'") from None

from memjax import __version__, checkpoint, datasets, evaluation, plotting
from memjax._checks import check_positive
from memjax.command import _runs as runs
from memjax.command.options import Demo, Evaluate, Fit, Predict, Settings, check_fit, flag
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
        elif isinstance(command, Demo):
            _serve(command)
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


def _parse(arguments: list[str], defaults: Fit | None = None) -> Fit | Evaluate | Predict | Demo:
    """Return the command with its options; ``defaults`` are those of ``fit``."""
    fit = Annotated[Fit, tyro.conf.subcommand("fit", default=defaults or Fit())]
    evaluate = Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    predict = Annotated[Predict, tyro.conf.subcommand("predict")]
    demo = Annotated[Demo, tyro.conf.subcommand("demo")]
    return tyro.cli(
        Union[fit, evaluate, predict, demo],  # type: ignore[arg-type]  # noqa: UP007
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
    else:
        _print_record(record, run)


def _new_folder(options: Fit) -> Path:
    """Return the folder that a new run goes into."""
    name = f"{options.dataset}-{options.network}-{time.strftime('%Y%m%d-%H%M%S')}"
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
    network, params, state, record = runs.load(options.run)
    if options.limit is not None:
        check_positive("--limit", options.limit)
    test = datasets.load(options.dataset, options.test_split)
    images, labels = test.images[: options.limit], test.labels[: options.limit]
    result = evaluation.evaluate(network, params, state, images, labels)
    if options.json:
        _print_json(
            {
                "run": str(options.run),
                "dataset": options.dataset,
                "test_split": options.test_split,
                "num_test": len(labels),
                "test_accuracy": result.accuracy,
            }
        )
        return
    print(f"{options.dataset} {options.test_split}: {100 * result.accuracy:.2f} % of {len(labels)}")
    for label, name in enumerate(record["class_names"]):
        row = result.confusion[label]
        print(f"{name:>22}  {100 * row[label] / max(row.sum(), 1):6.2f} % of {row.sum()}")


def _serve(options: Demo) -> None:
    from memjax.demo import serve  # It needs an extra of its own.

    serve(runs.load, **vars(options))


def _predict(options: Predict) -> None:
    if not options.images:
        raise ValueError("images: expected at least one image file, got none.")
    run = runs.load(options.run)
    network, params, state, record = run
    images = np.stack([_read_image(path, network.input_shape) for path in options.images])
    evidence = evaluation.predict_proba(network, params, state, images)
    names = record["class_names"]
    answers = [
        {
            "image": str(path),
            "label": names[label] if label >= 0 else None,
            "confidence": float(np.clip(row.max(), 0, 1)),
        }
        for path, label, row in zip(
            options.images, evaluation.labels_from(evidence), evidence, strict=True
        )
    ]
    # A readout weighs all memories at once, so that no few of them are the reason.
    if network.banks(params, state):
        novelty = evaluation.novelty_score(network, params, state, images)
        pictures = _draw_reasons(run, images, options)
        for answer, score, picture in zip(answers, novelty, pictures, strict=True):
            answer |= {"novelty_score": float(score), "why": str(picture)}
    if options.json:
        _print_json(answers)
    else:
        _print_answers(answers)


def _draw_reasons(run: runs.Run, images: np.ndarray, options: Predict) -> list[Path]:
    """Draw the memories that voted on each image, and return the files."""
    network, params, state, record = run
    explanation = evaluation.explain(network, params, state, images)
    folder = options.out or options.run / "predictions"
    folder.mkdir(parents=True, exist_ok=True)
    stems, pictures = [path.stem for path in options.images], []
    for index, stem in enumerate(stems):
        # Images of one name in several folders are told apart by their place.
        place = f"-{index + 1}" if stems.count(stem) > 1 else ""
        pictures.append(folder / f"{stem}{place}-why.png")
        one = evaluation.Explanation(*(part[index : index + 1] for part in explanation))
        figure = plotting.why(network, state, images[index], one, record["class_names"])
        figure.savefig(pictures[-1])
    return pictures


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


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=1))


def _print_answers(answers: list[dict[str, Any]]) -> None:
    for answer in answers:
        line = f"{answer['image']}: {answer['label'] or 'no answer'}"
        line += f"  confidence {answer['confidence']:.2f}"
        if "why" in answer:
            line += f"  novelty {answer['novelty_score']:.2f}  why: {answer['why']}"
        print(line)


def _print_record(record: dict[str, Any], run: Path) -> None:
    rows = {
        f"{record['test_split']} accuracy": f"{100 * record['test_accuracy']:.2f} %",
        "prequential accuracy": f"{100 * record['prequential_accuracy']:.2f} %",
        "memories": f"{record['num_memories']:,}",
        "examples learned": f"{record['num_train']:,}",
        "fit": f"{record['fit_seconds']:.1f} s (+ {record['compile_seconds']:.1f} s compiling)",
        "whole command": f"{record['total_seconds']:.1f} s",
        "written to": str(run),
    }
    for name, value in rows.items():
        print(f"{name:>22}  {value}")
