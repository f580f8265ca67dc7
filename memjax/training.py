"""Learning from a stream in one pass."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from memjax.checks import check_images, check_labels, check_params, check_positive
from memjax.types import Layer

__all__ = ["calibrate", "fit", "fit_stream"]


def fit(
    network: Layer,
    params: Any,
    state: Any,
    images: Any,
    labels: Any,
    block_size: int = 256,
) -> tuple[Any, Any]:
    """Learn every example once, in the order given: ``jit(lax.scan)`` over exact blocks.

    Sweep it with ``jax.vmap(fit, in_axes=(None, 0, None, None, None))`` over params.

    Args:
        network: a layer or a network of layers.
        params: its numbers, none of them still to be set (see ``calibrate``).
        state: what it has learned so far, ``network.init(key)`` at first.
        images: [N, *network.input_shape], integers or finite real numbers.
        labels: integers [N], 0 to C - 1, or -1 for an unlabelled example.
        block_size: examples that one matrix product serves. It changes the speed, not the result.

    Returns:
        The new state and the infos of all examples, each with an axis [N].

    Raises:
        ValueError, TypeError: an argument has another shape, dtype or range.

    Example:
        >>> import numpy as np
        >>> from memjax.networks import memory_network
        >>> images = np.random.default_rng(0).integers(0, 256, (50, 8, 8, 1), np.uint8)
        >>> labels = np.arange(50) % 10
        >>> network, params = memory_network((8, 8, 1), num_classes=10, capacity=100)
        >>> params = calibrate(network, params, images, labels)
        >>> state, infos = fit(network, params, network.init(jax.random.key(0)), images, labels)
        >>> infos.predicted.shape
        (50,)
    """
    _check_examples(network, images, labels)
    params = _check_params(network, params)
    check_positive("block_size", block_size)
    labels = jnp.asarray(labels, jnp.int32)
    return _fit(network, params, state, jnp.asarray(images), labels, block_size)


@partial(jax.jit, static_argnames=("network", "block_size"))
def _fit(network, params, state, images, labels, block_size):
    num_examples = images.shape[0]
    block_size = min(block_size, num_examples)
    num_blocks = -(-num_examples // block_size)

    def learn(state, index):
        # Blocks are cut where they are used, so that the data are never copied as a whole. The last
        # one is cut from the end of the data and turned until its own examples come first.
        start = index * block_size
        cut = jnp.minimum(start, num_examples - block_size)

        def block(rows):
            return jnp.roll(jax.lax.dynamic_slice_in_dim(rows, cut, block_size), cut - start, 0)

        length = jnp.minimum(num_examples - start, block_size)
        state, _, infos = network.step_block(params, state, block(images), block(labels), length)
        return state, infos

    state, infos = jax.lax.scan(learn, state, jnp.arange(num_blocks, dtype=jnp.int32))
    infos = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:num_examples], infos)
    return network.consolidate(params, state), infos


def fit_stream(
    network: Layer,
    params: Any,
    state: Any,
    stream: Iterable[tuple[Any, Any]],
    block_size: int = 256,
) -> Iterator[tuple[Any, Any]]:
    """Learn from a stream of batches, yielding after each block; the loop is the caller's.

    The stream is read once and may be endless or larger than memory. Its batches are cut and joined
    to blocks of one size, so there is one compilation whatever their sizes, and the result is that
    of ``fit`` on all rows in their order. Nothing is consolidated in between.

    Args:
        network: a layer or a network of layers.
        params: its numbers, none of them still to be set.
        state: what it has learned so far.
        stream: pairs of images [n, *network.input_shape] and labels [n], n at least 1.
        block_size: examples that one matrix product serves.

    Yields:
        The state after a block, good until the next block is asked for, and the infos of that
        block's examples as NumPy arrays.

    Raises:
        ValueError, TypeError: a batch has another shape, dtype or range than the network takes.

    Example:
        >>> import numpy as np
        >>> from memjax.networks import memory_network, replace_params
        >>> network, params = memory_network((8, 8, 1), 10, capacity=64, novelty_threshold=0.5)
        >>> batches = ((np.full((7, 8, 8, 1), i, np.uint8), np.full(7, i)) for i in range(1, 10))
        >>> state = network.init(jax.random.key(0))
        >>> for state, infos in fit_stream(network, params, state, batches, block_size=16):
        ...     pass
        >>> int(state[1].num_seen)
        63
    """
    check_positive("block_size", block_size)
    _check_network(network)
    params = _check_params(network, params)
    state = jax.tree.map(jnp.array, state)  # a copy, whose buffers may be given up block by block
    for images, labels in _blocks(stream, block_size, network):
        length = len(labels)
        missing = block_size - length
        state, infos = _learn_block(
            network,
            params,
            state,
            np.pad(images, [(0, missing)] + [(0, 0)] * (images.ndim - 1)),
            np.pad(labels, (0, missing)),
            jnp.asarray(length, jnp.int32),
        )
        yield state, jax.tree.map(partial(_first_rows, num_rows=length), infos)


def _blocks(stream, block_size: int, network: Layer) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Cut and join the batches of a stream to blocks of one size; the last may be shorter."""
    waiting: list[tuple[np.ndarray, np.ndarray]] = []
    num_waiting = 0
    for images, labels in stream:
        _check_examples(network, images, labels)
        # Copies: a stream may fill one buffer again and again.
        waiting.append((np.array(images), np.array(labels, np.int32)))
        num_waiting += len(waiting[-1][1])
        if num_waiting < block_size:
            continue
        images, labels = (np.concatenate(rows) for rows in zip(*waiting, strict=True))
        num_waiting = len(labels) % block_size
        num_full = len(labels) - num_waiting
        for start in range(0, num_full, block_size):
            rows = slice(start, start + block_size)
            yield images[rows], labels[rows]
        waiting = [(images[num_full:], labels[num_full:])]
    if num_waiting:
        images, labels = (np.concatenate(rows) for rows in zip(*waiting, strict=True))
        yield images, labels


def _first_rows(array: jax.Array, num_rows: int) -> np.ndarray:
    return np.asarray(array)[:num_rows]


@partial(jax.jit, static_argnames="network", donate_argnames="state")
def _learn_block(network, params, state, images, labels, length):
    state, _, infos = network.step_block(params, state, images, labels, length)
    return state, infos


def calibrate(network: Layer, params: Any, images: Any, labels: Any) -> Any:
    """Return ``params`` with every number still to be set (NaN) estimated from the first examples.

    Give it the first thousand or so examples of the stream, and then learn the stream from its
    beginning: they are held back for a moment, not seen in advance. Numbers that are set stay as
    they are. See ``MemoryLayer.calibrate`` for how a novelty threshold is estimated.

    Args:
        network: a layer or a network of layers.
        params: its numbers.
        images: [n, *network.input_shape].
        labels: integers [n].

    Raises:
        ValueError, TypeError: images or labels have another shape, dtype or range.
    """
    _check_examples(network, images, labels)
    numbers = jax.tree.leaves(params)
    if not any(isinstance(number, Tracer) or np.isnan(number) for number in numbers):
        return params
    labels = jnp.asarray(labels, jnp.int32)
    return _calibrate(network, params, jnp.asarray(images), labels)


@partial(jax.jit, static_argnames="network")
def _calibrate(network, params, images, labels):
    return network.calibrate(params, images, labels)


def _check_network(network: Any) -> None:
    if not isinstance(network, Layer):
        raise TypeError(f"network: expected a memjax layer, got {type(network).__name__}.")


def _check_examples(network: Layer, images: Any, labels: Any) -> None:
    _check_network(network)
    check_images(images, network.input_shape)
    check_labels(labels, images.shape[0], getattr(network, "num_classes", None))


def _check_params(network: Layer, params: Any) -> Any:
    """Check the params, and return them as float32 arrays: a Python float would compile anew."""
    check_params(network.default_params(), params)
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), params)
