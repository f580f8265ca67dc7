"""Asking a trained network: labels, evidence, novelty, and the memories behind an answer.

On concrete arrays these functions ask in batches and give NumPy arrays. Under ``jit`` and ``vmap``
they are pure functions that give JAX arrays.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from memjax._checks import check_images, check_kind, check_labels, check_positive
from memjax.base import UNLABELLED, Layer, check_state
from memjax.devices import gather_to_host, memory_mesh
from memjax.params import exportable, settle_params

__all__ = [
    "Evaluation",
    "Explanation",
    "evaluate",
    "evaluate_parts",
    "explain",
    "labels_from",
    "memories_added",
    "novelty_score",
    "num_memories",
    "predict",
    "predict_proba",
]


@exportable
class Evaluation(NamedTuple):
    """How a network did on labelled examples."""

    accuracy: Any  # float: share of the examples that were answered right
    confusion: Any  # int [C, C + 1]: true label by answer; the last column is "none"
    predicted: Any  # int32 [N]: the answers; -1 for none


@exportable
class Explanation(NamedTuple):
    """The memories that voted, for each example; one axis [M] for the banks of a network."""

    memories: Any  # int32 [N, M, k]: which memories, the nearest first
    distances: Any  # float32 [N, M, k]: d_k of ``MemoryLayer``; inf where there are fewer memories
    weights: Any  # float32 [N, M, k]: weight of the vote of each memory
    labels: Any  # int32 [N, M, k]: the label that each memory votes for; -1 for none


def predict_proba(
    network: Layer, params: Any, state: Any, images: Any, batch_size: int = 500
) -> Any:
    """Return the class evidence of images, float32 [N, C]: vote shares, each row of sum 1.

    The sum of a row is smaller if some banks of the network have no votes, and 0 if none has any.

    Args:
        network: a network that ends in class evidence.
        params: its numbers.
        state: what it has learned.
        images: [N, *network.input_shape].
        batch_size: images that go through the network at a time; bounds the memory.

    Raises:
        ValueError, TypeError: an argument has another shape, dtype or range.

    Example:
        >>> from memjax.networks import memory_network
        >>> network, params = memory_network((8, 8, 1), 10, capacity=9, novelty_threshold=0.5)
        >>> state = network.init(jax.random.key(0))
        >>> predict_proba(network, params, state, np.zeros((2, 8, 8, 1), np.uint8)).sum().item()
        0.0
    """
    check_kind("network", network, Layer, "a memjax layer")
    _check_evidence(network)
    return _ask(_recall, network, params, state, images, batch_size)


def predict(network: Layer, params: Any, state: Any, images: Any, batch_size: int = 500) -> Any:
    """Return the labels of images, int32 [N]: the class with most evidence, -1 where there is none.

    Arguments and errors are those of ``predict_proba``.
    """
    return labels_from(predict_proba(network, params, state, images, batch_size))


def labels_from(evidence: Any) -> Any:
    """Return the labels int32 [N] that evidence [N, C] speaks for, -1 where there is none.

    Example:
        >>> labels_from(np.array([[0.2, 0.8], [0.0, 0.0]])).tolist()
        [1, -1]
    """
    xp = _namespace(evidence)
    labels = xp.argmax(evidence, axis=1).astype(np.int32)
    return xp.where(xp.max(evidence, axis=1) > 0, labels, np.int32(UNLABELLED))


def evaluate(
    network: Layer, params: Any, state: Any, images: Any, labels: Any, batch_size: int = 500
) -> Evaluation:
    """Return accuracy, confusion and answers on images whose labels [N] are all known.

    Arguments and errors are those of ``predict_proba``; a label of -1 is an error here.

    Example:
        >>> from memjax.networks import memory_network
        >>> network, params = memory_network((8, 8, 1), 10, capacity=9, novelty_threshold=0.5)
        >>> state, images = network.init(jax.random.key(0)), np.zeros((2, 8, 8, 1), np.uint8)
        >>> evaluate(network, params, state, images, np.array([3, 4])).accuracy
        0.0
    """
    labels = _checked_labels(network, images, labels)
    predicted = predict(network, params, state, images, batch_size)
    confusion = _confusion(labels, predicted, network)
    is_right = predicted == labels
    is_traced = isinstance(is_right, Tracer)
    accuracy = jnp.mean(is_right, dtype=jnp.float32) if is_traced else float(np.mean(is_right))
    return Evaluation(accuracy, confusion, predicted)


def evaluate_parts(
    network: Layer, params: Any, state: Any, images: Any, labels: Any, batch_size: int = 500
) -> Evaluation:
    """Return accuracy and confusion over several processes, each of which gives its own examples.

    With one process it is ``evaluate``. The answers returned are those to the process's own
    examples. All processes must call it, each with one example at least. Arguments and errors are
    those of ``evaluate``.

    Args:
        network: one that ``memjax.shard`` has laid over the devices of all processes.
        params: its numbers.
        state: what it has learned.
        images: this process's part of the examples.
        labels: theirs.
        batch_size: images of one process that go through the network at a time.
    """
    if jax.process_count() == 1:
        return evaluate(network, params, state, images, labels, batch_size)
    labels = _checked_labels(network, images, labels)
    params = _settle(network, params, state, images, batch_size)
    mesh = memory_mesh()
    by_row = NamedSharding(mesh, PartitionSpec(*mesh.axis_names))
    most = int(multihost_utils.process_allgather(np.int32(len(labels))).max())
    size = -(-min(batch_size, most) // jax.local_device_count()) * jax.local_device_count()
    first = jax.process_index() * size
    evidence = []
    for start in range(0, most, size):
        batch = _fill(np.asarray(images[start : start + size]), size)
        rows = jax.make_array_from_process_local_data(by_row, batch)
        found = gather_to_host(_compiled(_recall, network, params, state, rows))
        evidence.append(found[first : first + size])
    predicted = labels_from(np.concatenate(evidence)[: len(labels)])
    confusion = multihost_utils.process_allgather(_confusion(labels, predicted, network))
    confusion = confusion.sum(axis=0, dtype=np.int64)
    return Evaluation(float(np.trace(confusion) / confusion.sum()), confusion, predicted)


def explain(
    network: Layer, params: Any, state: Any, images: Any, batch_size: int = 500
) -> Explanation:
    """Return which memories voted on each image, and how: why the network says what it says.

    Arguments and errors are those of ``predict_proba``. Besides, memories must give the network its
    answer (see ``Layer.banks``). A mirrored network has each bank twice: asked with the images as
    they are, then with the mirror images.
    """
    _check_banks(network, state)
    return _ask(_explain, network, params, state, images, batch_size)


def novelty_score(
    network: Layer, params: Any, state: Any, images: Any, batch_size: int = 500
) -> Any:
    """Return how new images are, float32 [N], from 0, familiar, to 1, farther than all before.

    It is the share of the learned examples that were nearer to their memory than the image is to
    its own. So 1 minus the score is the share of those that were farther: at 0.95 it is one in
    twenty. To an empty bank everything is new, at 1. The scores of all banks, and of all columns,
    are averaged.

    Arguments and errors are those of ``predict_proba``. Besides, the network must have memories
    (see ``Layer.novelty_block``).
    """
    check_kind("network", network, Layer, "a memjax layer")
    scores = _ask(_novelty, network, params, state, images, batch_size)
    if not scores.shape[1]:
        raise ValueError(
            "network: expected one with memories, got one whose answer comes from "
            f"{_answering(network, network.default_params(), state)}."
        )
    return _namespace(scores).mean(scores, axis=1)


def num_memories(network: Layer, state: Any) -> Any:
    """Return the number of memories in use in a whole network.

    It is an int, and under ``jit`` and ``vmap`` an int32 array [].

    Args:
        network: a layer or a network of layers.
        state: what it has learned.

    Raises:
        ValueError, TypeError: the state is not that of the network.

    Example:
        >>> from memjax.networks import memory_network
        >>> network, _ = memory_network((8, 8, 1), num_classes=10)
        >>> num_memories(network, network.init(jax.random.key(0)))
        0
    """
    check_kind("network", network, Layer, "a memjax layer")
    check_state(network, state)
    number = network.num_memories(state)
    return number if isinstance(number, Tracer) else int(number)


def memories_added(infos: Any) -> np.ndarray:
    """Return how many memories each example added, int32 [N], from the infos of ``fit``.

    Every info that has ``memories_added`` counts, those of your own layers included.
    """

    def counts(node):
        return hasattr(node, "memories_added")

    nodes = jax.tree.leaves(infos, is_leaf=counts)
    parts = [np.asarray(node.memories_added, np.int32) for node in nodes if counts(node)]
    if not parts:
        raise ValueError("infos: expected those of a network with memories, found none.")
    return sum(parts[1:], start=parts[0])


def _recall(network, params, state, images):
    return network.recall_block(params, state, images)


def _explain(network, params, state, images):
    banks = network.banks(params, state, images)
    found = [bank.layer.explain(bank.params, bank.state, bank.xs) for bank in banks]
    return Explanation(*(jnp.stack(parts, axis=1) for parts in zip(*found, strict=True)))


def _novelty(network, params, state, images):
    return network.novelty_block(params, state, images)


@partial(jax.jit, static_argnums=(0, 1))
def _compiled(function, network, params, state, images):
    return function(network, params, state, images)


def _ask(
    function: Callable[..., Any],
    network: Layer,
    params: Any,
    state: Any,
    images: Any,
    batch_size: int,
) -> Any:
    """Apply ``function(network, params, state, images)`` to images, in batches of one size.

    Fewer images than fill a batch are filled up to a power of two: each size is compiled, so there
    should be few, but one image should not cost as much as a batch.
    """
    params = _settle(network, params, state, images, batch_size)
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((params, state, images))):
        return function(network, params, state, jnp.asarray(images))
    images = np.asarray(images)
    size = min(batch_size, 1 << (len(images) - 1).bit_length())
    results = []
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        result = _compiled(function, network, params, state, _fill(batch, size))
        results.append(jax.tree.map(partial(first_rows, num_rows=len(batch)), result))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *results)


def _fill(batch: np.ndarray, size: int) -> np.ndarray:
    """Return a batch filled up with zeros to ``size`` rows."""
    return np.pad(batch, [(0, size - len(batch))] + [(0, 0)] * (batch.ndim - 1))


def first_rows(array: Any, num_rows: int) -> np.ndarray:
    """Bring the first rows of an array to the host: the others filled up its batch."""
    return np.asarray(array)[:num_rows]


def _namespace(*arrays: Any) -> Any:
    """Return ``jax.numpy`` for traced arrays and ``numpy`` for all others."""
    return jnp if any(isinstance(array, Tracer) for array in arrays) else np


def _settle(network: Layer, params: Any, state: Any, images: Any, batch_size: int) -> Any:
    """Check the arguments of a question, and return the params as float32 arrays."""
    check_kind("network", network, Layer, "a memjax layer")
    check_images(images, network.input_shape)
    params = settle_params(network, params)
    check_state(network, state)
    check_positive("batch_size", batch_size)
    return params


def _check_evidence(network: Layer) -> None:
    if len(network.output_shape) != 1:
        raise ValueError(
            "network: expected one that ends in class evidence [C], got one that hands on "
            f"{list(network.output_shape)}."
        )


def _check_banks(network: Layer, state: Any) -> None:
    check_kind("network", network, Layer, "a memjax layer")
    check_state(network, state)
    params = network.default_params()
    if not network.banks(params, state):
        raise ValueError(
            "network: expected one whose answer comes from memories, got one whose answer comes "
            f"from {_answering(network, params, state)}."
        )


def _answering(network: Layer, params: Any, state: Any) -> str:
    """Return the name of the innermost layer that answers last."""
    while parts := network.parts(params, state):
        network, params, state = parts[-1]
    return type(network).__name__


def _checked_labels(network: Layer, images: Any, labels: Any) -> Any:
    """Return the labels of a test, all of which must be known."""
    check_kind("network", network, Layer, "a memjax layer")
    _check_evidence(network)
    (num_classes,) = network.output_shape
    check_images(images, network.input_shape)
    check_labels(labels, images.shape[0], num_classes)
    if isinstance(labels, Tracer):
        return labels
    labels = np.asarray(labels)
    if labels.min() < 0:
        raise ValueError("labels: expected a class for every example, got -1 (unlabelled).")
    return labels


def _confusion(labels: Any, predicted: Any, network: Layer) -> Any:
    """Return how often each label [C] got each answer [C + 1]; the last column is "none"."""
    (num_classes,) = network.output_shape
    shape = num_classes, num_classes + 1
    if _namespace(labels, predicted) is jnp:
        answers = jnp.where(predicted < 0, num_classes, predicted)
        return jnp.zeros(shape, jnp.int32).at[jnp.asarray(labels), answers].add(1)
    confusion = np.zeros(shape, np.int64)
    np.add.at(confusion, (labels, predicted), 1)  # an answer of -1 falls into the last column
    return confusion
