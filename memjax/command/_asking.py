"""Asking a network about more rows than one holds, and about images the other way round."""

from itertools import pairwise
from typing import Any

import jax
import numpy as np

from memjax import evaluation
from memjax._checks import import_package
from memjax.base import Layer
from memjax.datasets import Dataset
from memjax.datasets._files import LazyImages
from memjax.datasets._images import is_light
from memjax.evaluation import Evaluation
from memjax.projections import Standardisation
from memjax.training import CALIBRATION_EXAMPLES

_ROWS_AT_ONCE = 4096


def evaluate(
    network: Layer, params: Any, state: Any, test: Dataset, data: dict[str, Any] | None = None
) -> tuple[Evaluation, int]:
    """Return how a network does on a test, and how many of its images were turned.

    The accuracy of a test without rows is None. Each of several processes asks about a part.

    Args:
        network: one that ends in class evidence.
        params: its numbers.
        state: what it has learned.
        test: the test; images that are not in memory are decoded some thousand at a time.
        data: what the record of a run says of its data, if an image whose light and dark are the
            opposite of what it has learned is to be turned; None to take all as they are.
    """
    number, (num_classes,) = len(test.labels), network.output_shape
    if not number:
        nothing = np.zeros((num_classes, num_classes + 1), np.int64)
        return Evaluation(None, nothing, np.zeros(0, np.int32)), 0
    is_lazy = isinstance(test.images, LazyImages)
    ends = np.linspace(0, number, -(-number // _ROWS_AT_ONCE) + 1 if is_lazy else 2).astype(int)
    # So a process answers every n-th image of the whole test, for n processes.
    ends[1:-1] -= ends[1:-1] % jax.process_count()
    results, num_turned = [], 0
    for first, last in pairwise(ends.tolist()):
        mine = slice(first + jax.process_index(), last, jax.process_count())
        images = test.images[mine]
        if data is not None:
            images, is_turned = turn(network, params, state, images, data)
            num_turned += int(is_turned.sum())
        results.append(evaluation.evaluate_parts(network, params, state, images, test.labels[mine]))
    if len(results) == 1:
        return results[0], num_turned
    confusion = np.sum([result.confusion for result in results], axis=0)
    predicted = np.concatenate([result.predicted for result in results])
    return Evaluation(float(np.trace(confusion) / number), confusion, predicted), num_turned


def turn(
    network: Layer, params: Any, state: Any, images: np.ndarray, data: dict[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Return images with light and dark changed where that is how they were learned, and which.

    Such an image has a light edge where those that were learned have dark ones, or the other way
    round. Besides, it must be nearer to the memories afterwards, if memories give the answer.

    Args:
        network: one that ends in class evidence.
        params: its numbers.
        state: what it has learned.
        images: uint8 [N, H, W, channels].
        data: what the record of a run says of its data.
    """
    ground = data.get("ground")
    if data.get("invert", "auto") != "auto" or ground not in ("dark", "light"):
        return images, np.zeros(len(images), bool)
    is_other = is_light(images) == (ground == "dark")
    if is_other.any() and network.banks(params, state):
        rows = np.flatnonzero(is_other)
        as_they_are, turned = (
            evaluation.explain(network, params, state, seen).distances[:, :, 0].mean(axis=1)
            for seen in (images[rows], 255 - images[rows])
        )
        is_other[rows] = turned < as_they_are
    return np.where(is_other[:, None, None, None], 255 - images, images), is_other


def compare(train: Dataset, test: Dataset, num_neighbours: int) -> dict[str, float | None]:
    """Return the accuracy of scikit-learn's nearest neighbours among all that was learned.

    Features are standardised as ``memory_network`` does it; images are compared pixel by pixel.
    """
    if isinstance(train.images, LazyImages):
        raise ValueError("--compare: needs all images in memory; use a smaller --image-size.")
    neighbours = import_package("sklearn.neighbors", "--compare")
    rows, asked = train.images, test.images
    if rows.ndim == 2:
        scale = Standardisation.of(rows[:CALIBRATION_EXAMPLES])
        rows, asked = (np.asarray(scale.recall_block((), (), values)) for values in (rows, asked))
    rows, asked = (values.reshape(len(values), -1).astype(np.float32) for values in (rows, asked))
    accuracies = {}
    for number in sorted({1, min(num_neighbours, len(rows))}):
        found = neighbours.KNeighborsClassifier(number).fit(rows, train.labels)
        name = f"{number} nearest neighbour{'s' * (number > 1)}"
        accuracies[name] = float(found.score(asked, test.labels)) if len(asked) else None
    return accuracies
