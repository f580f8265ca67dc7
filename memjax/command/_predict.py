"""Asking a run's network about image files, and drawing the memories that voted."""

import os
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from memjax import evaluation, plotting
from memjax._kept_images import read_images
from memjax._text import printable
from memjax.command import _asking
from memjax.command import _runs as runs
from memjax.command._data import drawable, look_of
from memjax.command._writing import printing, to_json
from memjax.command.options import Predict
from memjax.datasets import DatasetError, Reading
from memjax.datasets._arrays import read_features
from memjax.datasets._files import read_each
from memjax.datasets._folder import find_images
from memjax.datasets._images import ImageError
from memjax.datasets._table import SUFFIX_READERS, column_names, read_table

_AT_ONCE = 256  # images that are asked about together

_Answer = dict[str, Any]


def predict(options: Predict) -> int:
    """Answer for each image, and return the status: 0, 1 if some failed, 2 if all failed."""
    if not options.images:
        raise ValueError("images: expected at least one image file, got none.")
    run = runs.load(options.run)
    has_features = run.record.get("data", {}).get("kind") == "features"
    num_failed = num_asked = 0
    for answer in (_about_rows if has_features else _about_images)(run, options):
        num_asked += 1
        num_failed += "error" in answer
        _print(answer, options.json)
    return 2 if num_failed == num_asked else int(num_failed > 0)


def _about_images(run: runs.Run, options: Predict) -> Iterator[_Answer]:
    """Yield an answer for each image file, in their order."""
    data = run.record.get("data", {})
    how = options.invert or data.get("invert", "auto")
    look, data = (
        look_of(run.network, data)._replace(is_inverted=how == "yes"),
        data | {"invert": how},
    )
    paths = [path for given in options.images for path in _files(given)]
    folder = _picture_folder(options) if options.draw else None
    stored = read_images(options.run) if options.draw else None
    for start in range(0, len(paths), _AT_ONCE):
        several = paths[start : start + _AT_ONCE]
        answers: list[_Answer] = [{"image": path} for path in several]
        sound, images = [], []
        for answer, found in zip(answers, read_each(several, look), strict=True):
            if isinstance(found, ImageError):
                answer["error"] = str(found)
            else:
                sound.append(answer | {"notes": list(found[1])})
                images.append(found[0])
        if sound:
            _answer(run, sound, np.stack(images), data, folder, stored)
        answered = iter(sound)
        yield from (answer if "error" in answer else next(answered) for answer in answers)


def _answer(
    run: runs.Run,
    answers: list[_Answer],
    images: np.ndarray,
    data: dict[str, Any],
    folder: Path | None,
    stored: Any,
) -> None:
    """Complete the answers to images, and draw the reasons where there is a folder for them."""
    network, params, state, _ = run
    images, is_turned = _asking.turn(network, params, state, images, data)
    told = _tell(run, images)
    # A readout weighs all memories at once, so that no few of them are the reason.
    has_reasons = bool(network.banks(params, state))
    novelty = evaluation.novelty_score(network, params, state, images)
    is_drawn = has_reasons and folder is not None
    reasons = evaluation.explain(network, params, state, images) if is_drawn else None
    for row, answer in enumerate(answers):
        notes = answer.pop("notes")
        answer |= told[row]
        answer["novelty_score"] = float(novelty[row])
        if folder is not None and reasons is not None:
            picture = _free_file(folder, Path(answer["image"]).stem)
            one = evaluation.Explanation(*(part[row : row + 1] for part in reasons))
            _draw(run, images[row], one, stored, picture)
            answer["why"] = str(picture)
        if is_turned[row]:
            notes.append("light and dark were changed: its edge is not as what was learned")
        if notes:
            answer["notes"] = notes


def _about_rows(run: runs.Run, options: Predict) -> Iterator[_Answer]:
    """Yield an answer for each row of tables."""
    for path in options.images:
        try:
            rows = _rows(path, run)
        except DatasetError as error:
            yield {"image": str(path), "error": str(error).removeprefix(f"{path}: ").rstrip(".")}
            continue
        novelty = evaluation.novelty_score(*run[:3], rows)
        for row, told in enumerate(_tell(run, rows)):
            place = {"image": str(path), "row": row + 1}
            yield place | told | {"novelty_score": float(novelty[row])}


def _rows(path: Path, run: runs.Run) -> np.ndarray:
    """Return the rows of a table that have the features that were learned, [N, D]."""
    data, (length,) = run.record["data"], run.network.input_shape
    suffix = path.suffix.lower()
    if not path.is_file() or suffix not in (".npz", *SUFFIX_READERS):
        raise DatasetError("expected an .npz, .csv or .parquet file of features.")
    if suffix == ".npz":
        rows = read_features(path)
    else:
        # Features that had no names are the first columns.
        columns = data.get("columns") or column_names(path)[:length]
        rows = read_table(path, Reading(), tuple(columns)).values
    if rows.shape[1] != length:
        raise DatasetError(f"expected {length} features, got {rows.shape[1]}.")
    if not np.isfinite(rows).all():
        raise DatasetError("expected finite numbers, got a NaN or an infinity.")
    return rows


def _tell(run: runs.Run, rows: np.ndarray) -> list[_Answer]:
    """Return what the network says of each row."""
    evidence = evaluation.predict_proba(run.network, run.params, run.state, rows)
    names = run.record["class_names"]
    return [
        {
            "label": names[label] if label >= 0 else None,
            "confidence": float(np.clip(row.max(), 0, 1)),
        }
        for label, row in zip(evaluation.labels_from(evidence), evidence, strict=True)
    ]


def _files(given: Path) -> list[str]:
    """Return the image files that a path stands for: itself, or those of a folder."""
    if not given.is_dir():
        return [str(given)]
    names, _ = find_images(given)
    if not names:
        raise ValueError(f"images: expected image files, but the folder {given} holds none.")
    return [str(given / name) for name in names]


def _picture_folder(options: Predict) -> Path:
    if options.out is not None:
        return options.out
    folder = options.run / "predictions"
    if folder.is_symlink():
        raise ValueError(
            f"--out: {folder} is a link to another place, which is not written to; name a folder."
        )
    return folder


def _free_file(folder: Path, stem: str) -> Path:
    """Return a new, empty file: no picture is written over another one, or through a link."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = stem.encode(errors="surrogateescape")[:200].decode(errors="ignore") or "image"
    for number in count(1):
        file = folder / f"{stem}{f'-{number}' if number > 1 else ''}-why.png"
        try:
            os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
            return file
        except FileExistsError:
            continue
    raise AssertionError


def _draw(
    run: runs.Run, image: np.ndarray, reasons: evaluation.Explanation, stored: Any, file: Path
) -> None:
    """Draw the memories that voted on an image."""
    names = drawable(run.record["class_names"])
    plotting.why(run.network, run.state, image, reasons, names, stored).savefig(file)


def _print(answer: _Answer, as_json: bool) -> None:
    if as_json:
        with printing():
            print(to_json(answer, indent=None))
        return
    place = answer["image"] + (f" row {answer['row']}" if "row" in answer else "")
    if "error" in answer:
        print(f"memjax: images: {printable(place)}: {printable(answer['error'])}.", file=sys.stderr)
        return
    line = f"{place}: {answer['label'] or 'no answer'}  confidence {answer['confidence']:.2f}"
    if "novelty_score" in answer:
        line += f"  novelty {answer['novelty_score']:.2f}"
    if "why" in answer:
        line += f"  why: {answer['why']}"
    if "notes" in answer:
        line += f"  ({'; '.join(answer['notes'])})"
    with printing():
        print(printable(line))
