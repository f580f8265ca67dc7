"""The pictures of a run: its figures, its film, the images of its memories, and its page."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from memjax import plotting
from memjax._kept_images import write_images
from memjax.base import CompositeInfo, Layer, RecruitInfo
from memjax.command._data import drawable
from memjax.command._report import ask, write_report
from memjax.datasets import Dataset
from memjax.evaluation import Evaluation
from memjax.plotting._images import stored_numbers
from memjax.streams import Tally


class Outcome(NamedTuple):
    """What came of learning and testing, and what was learned and tested."""

    network: Layer
    params: Any
    state: Any
    tally: Tally
    answers: np.ndarray  # int32 [N, 2]: the answer to each example, and the memories it added
    result: Evaluation
    train: Dataset
    test: Dataset


def draw_run(folder: Path, outcome: Outcome, record: dict[str, Any], has_film: bool) -> None:
    """Write the pictures of a run, the images of its memories, and its page into its folder."""
    network, params, state, names = *outcome[:3], drawable(outcome.train.class_names)
    has_images = outcome.train.images.ndim == 4
    test = _own_part(outcome.test)
    with ThreadPoolExecutor() as pool:
        asked = images = None
        if has_images and len(test.labels):
            # Its compilation takes as long as all figures.
            asked = pool.submit(ask, network, params, state, test, outcome.result)
        if network.banks(params, state):
            if has_images:
                images = _stored_images(network, state, outcome.train.images)
                write_images(folder, images, network.input_shape)
            memories = plotting.memories(network, state, names, images=images)
        else:
            memories = plotting.columns(network, state)
        memories.savefig(folder / "memories.png")
        if has_film:
            film = plotting.film(network, state, names, images=images)
            (folder / "film.gif").write_bytes(film)
        predicted, memories_added = np.array(outcome.answers).T
        infos = CompositeInfo(predicted, (RecruitInfo(memories_added),))
        plotting.growth(infos, outcome.train.labels).savefig(folder / "growth.png")
        if outcome.result.accuracy is not None:
            shown = (test.images, test.labels) if isinstance(test.images, np.ndarray) else ()
            confusion = plotting.confusion(outcome.result, names, *shown if has_images else ())
            confusion.savefig(folder / "confusion.png")
        write_report(folder, network, state, record, asked and asked.result(), images)


def _own_part(test: Dataset) -> Dataset:
    """Return what this process has tested."""
    if jax.process_count() == 1:
        return test
    mine = slice(jax.process_index(), None, jax.process_count())
    return test._replace(images=test.images[mine], labels=test.labels[mine])


def _stored_images(network: Layer, state: Any, images: Any) -> dict[int, np.ndarray]:
    """Return the images of the memories by number; those in files are decoded together."""
    if not isinstance(images, np.ndarray):
        numbers = stored_numbers(network, state)
        images = dict(zip(numbers, images[np.array(numbers, int)], strict=True))
    return plotting.stored_images(network, state, images)
