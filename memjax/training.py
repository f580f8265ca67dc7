"""Learning from a stream in one pass."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from memjax._checks import (
    check_images,
    check_kind,
    check_labels,
    check_params,
    check_positive,
    check_state,
    settled_params,
)
from memjax.base import Layer

__all__ = ["calibrate", "fit"]


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
    check_examples(network, images, labels)
    params = settled_params(network, params)
    check_state(network, state)
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
    check_examples(network, images, labels)
    check_params(network, params, may_be_unset=True)
    numbers = jax.tree.leaves(params)
    if not any(isinstance(number, Tracer) or np.isnan(number) for number in numbers):
        return params
    labels = jnp.asarray(labels, jnp.int32)
    return _calibrate(network, params, jnp.asarray(images), labels)


@partial(jax.jit, static_argnames="network")
def _calibrate(network, params, images, labels):
    return network.calibrate(params, images, labels)


def check_examples(network: Layer, images: Any, labels: Any) -> None:
    check_kind("network", network, Layer, "a memjax layer")
    check_images(images, network.input_shape)
    check_labels(labels, images.shape[0], getattr(network, "num_classes", None))
