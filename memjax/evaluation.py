"""Asking a trained network: labels, evidence, novelty, and the memories behind an answer."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec

from memjax._checks import (
    check_images,
    check_kind,
    check_labels,
    check_positive,
    check_state,
    settled_params,
)
from memjax.base import UNLABELLED, Layer, MemoryInfo, RecruitInfo
from memjax.composition import Chain, Vote
from memjax.devices import gather_to_host, memory_mesh
from memjax.exemplars import ExemplarsState
from memjax.memory.layer import MemoryLayer, MemoryState, vote_weights, voted_labels
from memjax.memory.sharded import ShardedMemoryLayer
from memjax.vision.columns import ColumnsState

__all__ = [
    "Evaluation",
    "Explanation",
    "evaluate",
    "evaluate_parts",
    "explain",
    "labels_from",
    "memories_added",
    "memory_banks",
    "novelty_score",
    "num_memories",
    "predict",
    "predict_proba",
]


class Evaluation(NamedTuple):
    """How a network did on labelled examples."""

    accuracy: float  # share of the examples answered right
    confusion: np.ndarray  # int64 [C, C + 1]: true label by answer; the last column is "none"
    predicted: np.ndarray  # int32 [N]: the answers; -1 for none


class Explanation(NamedTuple):
    """The memories that voted, for each example; one axis [M] for the banks of a network."""

    memories: np.ndarray  # int32 [N, M, k]: which memories, the nearest first
    distances: np.ndarray  # float32 [N, M, k]; inf where the bank has fewer memories
    weights: np.ndarray  # float32 [N, M, k]: weight of each memory's vote
    labels: np.ndarray  # int32 [N, M, k]: the label each memory votes for; -1 for none


def predict_proba(
    network: Layer, params: Any, state: Any, images: Any, batch_size: int = 500
) -> np.ndarray:
    """Return the class evidence of images, [N, C]: vote shares, each row of sum 1.

    A row sums to less where some banks of the network have no votes, and is 0 where none has.

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
    params = _settled(network, params, state, images, batch_size)
    _check_evidence(network)
    return _in_batches(partial(_recall, network, params, state), images, batch_size)


def predict(
    network: Layer, params: Any, state: Any, images: Any, batch_size: int = 500
) -> np.ndarray:
    """Return the labels of images, int32 [N]: the class with most evidence, -1 where there is none.

    Arguments and errors are those of ``predict_proba``.
    """
    return labels_from(predict_proba(network, params, state, images, batch_size))


def labels_from(evidence: np.ndarray) -> np.ndarray:
    """Return the labels int32 [N] that evidence [N, C] speaks for, -1 where there is none.

    Example:
        >>> labels_from(np.array([[0.2, 0.8], [0.0, 0.0]])).tolist()
        [1, -1]
    """
    labels = np.argmax(evidence, axis=1)
    return np.where(np.max(evidence, axis=1) > 0, labels, UNLABELLED).astype(np.int32)


def evaluate(
    network: Layer, params: Any, state: Any, images: Any, labels: Any, batch_size: int = 500
) -> Evaluation:
    """Return accuracy, confusion and answers on images whose labels [N] are all known.

    Arguments and errors are those of ``predict_proba``; a label of -1 is an error here.
    """
    labels = _checked_labels(network, images, labels)
    predicted = predict(network, params, state, images, batch_size)
    confusion = _confusion(labels, predicted, network)
    return Evaluation(float(np.mean(predicted == labels)), confusion, predicted)


def evaluate_parts(
    network: Layer, params: Any, state: Any, images: Any, labels: Any, batch_size: int = 500
) -> Evaluation:
    """Return accuracy and confusion over several processes, each of which gives its own examples.

    With one process it is ``evaluate``. The answers returned are those to the process's own
    examples. All processes must call it, each with one example at least; arguments and errors are
    those of ``evaluate``.

    Args:
        network: one that ``memjax.memory.sharded.shard`` has laid over the devices of all.
        params: its numbers.
        state: what it has learned.
        images: this process's part of the examples.
        labels: theirs.
        batch_size: images of one process that go through the network at a time.
    """
    if jax.process_count() == 1:
        return evaluate(network, params, state, images, labels, batch_size)
    labels = _checked_labels(network, images, labels)
    params = _settled(network, params, state, images, batch_size)
    mesh = memory_mesh()
    by_row = NamedSharding(mesh, PartitionSpec(*mesh.axis_names))
    most = int(multihost_utils.process_allgather(np.int32(len(labels))).max())
    size = -(-min(batch_size, most) // jax.local_device_count()) * jax.local_device_count()
    first = jax.process_index() * size
    evidence = []
    for start in range(0, most, size):
        batch = np.asarray(images[start : start + size])
        batch = np.pad(batch, [(0, size - len(batch))] + [(0, 0)] * (batch.ndim - 1))
        rows = jax.make_array_from_process_local_data(by_row, batch)
        found = gather_to_host(_recall(network, params, state, rows))
        evidence.append(found[first : first + size])
    predicted = labels_from(np.concatenate(evidence)[: len(labels)])
    confusion = multihost_utils.process_allgather(_confusion(labels, predicted, network))
    confusion = confusion.sum(axis=0, dtype=np.int64)
    return Evaluation(float(np.trace(confusion) / confusion.sum()), confusion, predicted)


def _checked_labels(network: Layer, images: Any, labels: Any) -> np.ndarray:
    """Return the labels of a test, all of which must be known."""
    check_kind("network", network, Layer, "a memjax layer")
    _check_evidence(network)
    (num_classes,) = network.output_shape
    check_images(images, network.input_shape)
    check_labels(labels, len(images), num_classes)
    labels = np.asarray(labels)
    if labels.min() < 0:
        raise ValueError("labels: expected a class for every example, got -1 (unlabelled).")
    return labels


def _confusion(labels: np.ndarray, predicted: np.ndarray, network: Layer) -> np.ndarray:
    (num_classes,) = network.output_shape
    confusion = np.zeros((num_classes, num_classes + 1), np.int64)
    np.add.at(confusion, (labels, predicted), 1)  # an answer of -1 falls into the last column
    return confusion


def explain(
    network: Layer, params: Any, state: Any, images: Any, batch_size: int = 500
) -> Explanation:
    """Return which memories voted on each image, and how: why the network says what it says.

    Arguments and errors are those of ``predict_proba``; besides, the network must be, or end in, a
    ``MemoryLayer`` or a ``Vote`` of them.
    """
    params = _settled(network, params, state, images, batch_size)
    memory_banks(network, state)
    return Explanation(*_in_batches(partial(_explain, network, params, state), images, batch_size))


def novelty_score(
    network: Layer, params: Any, state: Any, images: Any, batch_size: int = 500
) -> np.ndarray:
    """Return how new images are, float32 [N]: distance to the nearest memory over the threshold.

    A single bank stores what scores above 1 as long as it has room, whatever the label; an empty
    one gives inf. The scores of several banks are averaged. Where the threshold is 0 or inf the
    score is the distance itself. Arguments and errors are those of ``explain``.
    """
    params = _settled(network, params, state, images, batch_size)
    memory_banks(network, state)
    return _in_batches(partial(_novelty, network, params, state), images, batch_size)


def memory_banks(network: Layer, state: Any) -> list[tuple[MemoryLayer, MemoryState]]:
    """Return the banks that give a network its answer, each with its state.

    Raises:
        ValueError: the network does not end in memories.
    """
    if isinstance(network, MemoryLayer):
        return [(network, state)]
    if isinstance(network, ShardedMemoryLayer):
        return [(network.bank, state)]
    if isinstance(network, Chain):
        return memory_banks(network.layers[-1], state[-1])
    if isinstance(network, Vote):
        return [
            bank
            for member, member_state in zip(network.members, state, strict=True)
            for bank in memory_banks(member, member_state)
        ]
    raise ValueError(
        "network: expected one that ends in a MemoryLayer or a Vote of them, "
        f"got one that ends in {type(network).__name__}."
    )


def num_memories(state: Any) -> int:
    """Return the number of memories in use in a whole state."""
    return sum(
        int(np.sum(node.size))
        for node in _nodes(state, (MemoryState, ColumnsState, ExemplarsState))
    )


def memories_added(infos: Any) -> np.ndarray:
    """Return how many memories each example added, int32 [N], from the infos of ``fit``."""
    banks = [info.is_novel & ~info.is_saturated for info in _nodes(infos, MemoryInfo)]
    others = [info.num_stored for info in _nodes(infos, RecruitInfo)]
    parts = [np.asarray(part, np.int32) for part in (*banks, *others)]
    if not parts:
        raise ValueError("infos: expected those of a network with memories, found none.")
    return sum(parts[1:], start=parts[0])


@partial(jax.jit, static_argnums=0)
def _recall(network, params, state, images):
    return network.recall_block(params, state, images)


@partial(jax.jit, static_argnums=0)
def _explain(network, params, state, images):
    def of_bank(bank, _, bank_state, xs) -> Any:
        k = bank.num_neighbours
        distances, indices = bank.nearest(bank_state, xs, k + 1)
        weights = jax.vmap(vote_weights, in_axes=(0, None))(distances, k)
        labels = voted_labels(bank_state.votes[indices[:, :k]])
        return indices[:, :k], distances[:, :k], weights, labels

    found = _over_banks(of_bank, network, params, state, images)
    return tuple(jnp.stack(banks, axis=1) for banks in zip(*found, strict=True))


@partial(jax.jit, static_argnums=0)
def _novelty(network, params, state, images):
    def of_bank(bank, bank_params, bank_state, xs):
        threshold = bank_params.novelty_threshold
        is_scale = (threshold > 0) & jnp.isfinite(threshold)
        distances, _ = bank.nearest(bank_state, xs, 1)
        return distances[:, 0] / jnp.where(is_scale, threshold, 1)

    found = _over_banks(of_bank, network, params, state, images)
    return sum(found[1:], start=found[0]) / len(found)


def _over_banks(function, network, params, state, xs) -> list[Any]:
    """Apply ``function(bank, params, state, inputs [B, D])`` to every bank that answers."""
    if isinstance(network, Chain):
        head = Chain(network.layers[:-1]) if network.layers[1:] else None
        xs = head.recall_block(params[:-1], state[:-1], xs) if head else xs
        return _over_banks(function, network.layers[-1], params[-1], state[-1], xs)
    if isinstance(network, Vote):
        return [
            result
            for index, member in enumerate(network.members)
            for result in _over_banks(function, member, params[index], state[index], xs[:, index])
        ]
    return [function(network, params, state, xs)]


def _settled(network: Layer, params: Any, state: Any, images: Any, batch_size: int) -> Any:
    """Check the arguments of a question, and return the params as float32 arrays."""
    check_kind("network", network, Layer, "a memjax layer")
    check_images(images, network.input_shape)
    params = settled_params(network, params)
    check_state(network, state)
    check_positive("batch_size", batch_size)
    return params


def _check_evidence(network: Layer) -> None:
    if len(network.output_shape) != 1:
        raise ValueError(
            "network: expected one that ends in class evidence [C], got one that hands on "
            f"{list(network.output_shape)}."
        )


def _in_batches(function, images, batch_size) -> Any:
    """Apply ``function`` to batches of one size and join the results' leading axis, as NumPy.

    Fewer images than fill a batch are filled up to a power of two: each size is compiled, so there
    should be few, but one image should not cost as much as a batch.
    """
    images = np.asarray(images)
    size = min(batch_size, 1 << (len(images) - 1).bit_length())
    results = []
    for start in range(0, len(images), size):
        batch = images[start : start + size]
        missing = size - len(batch)
        padded = np.pad(batch, [(0, missing)] + [(0, 0)] * (images.ndim - 1))
        result = function(padded)
        results.append(jax.tree.map(partial(first_rows, num_rows=len(batch)), result))
    return jax.tree.map(lambda *parts: np.concatenate(parts), *results)


def first_rows(array: Any, num_rows: int) -> np.ndarray:
    """Bring the first rows of an array to the host: the others filled up its batch."""
    return np.asarray(array)[:num_rows]


def _nodes(tree: Any, kind: type | tuple[type, ...]) -> list[Any]:
    leaves = jax.tree.leaves(tree, is_leaf=lambda node: isinstance(node, kind))
    return [leaf for leaf in leaves if isinstance(leaf, kind)]
