"""Learning from examples in one pass."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from memjax._checks import (
    Spread,
    check_images,
    check_kind,
    check_labels,
    check_number,
    check_positive,
)
from memjax._entry import classes_of
from memjax._numerics import one_member_at_a_time
from memjax._places import in_auto_mesh, vary_alike
from memjax.base import Layer, check_state
from memjax.params import check_params, has_unset, settle_params

__all__ = ["CALIBRATION_EXAMPLES", "calibrate", "fit", "learn"]

CALIBRATION_EXAMPLES = 1000
"""The first examples of a stream, by which numbers that are "auto" are estimated."""


def learn(
    network: Layer,
    params: Any,
    images: Any,
    labels: Any,
    key: jax.Array | None = None,
    block_size: int = 256,
) -> tuple[Any, Any, Any]:
    """Learn a dataset in one pass: ``calibrate`` on its first 1,000 examples, ``init``, ``fit``.

    Args:
        network: a layer or a network of layers.
        params: its numbers; those that are "auto" are estimated.
        images: [N, *network.input_shape], integers or finite real numbers.
        labels: integers [N], 0 to C - 1, or -1 for an unlabelled example.
        key: of the state to begin with; by default ``jax.random.key(0)``.
        block_size: examples that one matrix product serves. It changes the speed, not the result.

    Returns:
        The params that were learned with, the state, and the infos of all examples.

    Raises:
        ValueError, TypeError: an argument has another shape, dtype or range.

    Example:
        >>> import memjax
        >>> digits = memjax.datasets.load("digits", "train")
        >>> network, params = memjax.memory_network((8, 8, 1), num_classes=10)
        >>> params, state, _ = learn(network, params, digits.images, digits.labels)
        >>> memjax.num_memories(network, state) > 100
        True
    """
    check_examples(network, images, labels)
    first = slice(CALIBRATION_EXAMPLES)
    params = calibrate(network, params, images[first], labels[first])
    state = network.init(jax.random.key(0) if key is None else key)
    check_state(network, state)
    # A copy, whose buffers may be given up: a state may take most of the memory there is.
    state = jax.tree.map(jnp.array, state)
    state, infos = _checked(_fit_giving_up, network, params, state, images, labels, block_size)
    return params, state, infos


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
        params: its numbers, none of them "auto" (see ``calibrate``).
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
    return _checked(_fit, network, params, state, images, labels, block_size)


def _checked(run, network, params, state, images, labels, block_size):
    check_examples(network, images, labels)
    Spread("images").add(images).check()
    params = settle_params(network, params)
    check_state(network, state)
    check_positive("block_size", block_size)
    labels = jnp.asarray(labels, jnp.int32)
    return run(network, params, state, jnp.asarray(images), labels, block_size)


def _fit_anywhere(network, params, state, images, labels, block_size):
    # Nothing is carried back through what was learned.
    arguments = jax.lax.stop_gradient((params, state, images, labels))
    params, state, images, labels = vary_alike(*arguments)

    def places(place):
        return jax.tree.map(place, state), place()

    # Members with images of their own share no work. Each keeps its memories in place for the whole
    # pass; block by block they would be taken out and put back.
    run = one_member_at_a_time(
        partial(_fit_in_auto_mesh, network, block_size),
        where=lambda params, state, images, labels: images,
    )
    return in_auto_mesh(run, places, params, state, images, labels)


_compiled = partial(jax.jit, static_argnames=("network", "block_size"))
_fit, _fit_giving_up = _compiled(_fit_anywhere), _compiled(_fit_anywhere, donate_argnames="state")


def _fit_in_auto_mesh(network, block_size, params, state, images, labels):
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


def calibrate(
    network: Layer, params: Any, images: Any, labels: Any, length: int | None = None
) -> Any:
    """Return ``params`` with every number that is "auto" estimated from the first examples.

    Give it the first ``CALIBRATION_EXAMPLES`` of a stream or so, and then learn the stream from its
    beginning: the examples are held back for a moment, not seen in advance. All other numbers stay
    as they are. ``MemoryLayer.calibrate`` says how a novelty threshold is estimated.

    Args:
        network: a layer or a network of layers.
        params: its numbers.
        images: [n, *network.input_shape].
        labels: integers [n].
        length: how many leading examples are real, None for all. Those after them count for
            nothing: they fill up the examples to a number for which this is compiled already.

    Raises:
        ValueError, TypeError: an argument has another shape, dtype or range.
    """
    check_examples(network, images, labels)
    check_params(network, params, may_be_unset=True)
    if not has_unset(params):
        return params
    length = len(labels) if length is None else length
    check_positive("length", length)
    check_number("length", length, 1, len(labels))
    Spread("images").add(images).check()
    labels = jnp.asarray(labels, jnp.int32)
    return estimate(network, params, jnp.asarray(images), labels, jnp.asarray(length, jnp.int32))


@partial(jax.jit, static_argnames="network")
def estimate(network, params, images, labels, length):
    """Return the params that ``calibrate`` gives, of arguments that are checked."""
    params, images, labels, length = vary_alike(params, images, labels, length)
    return in_auto_mesh(network.calibrate, lambda place: place(), params, images, labels, length)


def check_examples(network: Layer, images: Any, labels: Any) -> None:
    """Raise unless a network can learn from images with these labels."""
    check_kind("network", network, Layer, "a memjax layer")
    check_images(images, network.input_shape)
    check_labels(labels, images.shape[0], classes_of(network))
