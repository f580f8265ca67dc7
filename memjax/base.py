"""The one abstraction, the layer, and the values that flow through it.

Dimension letters used in every docstring: ``N`` examples, ``B`` examples of a block, ``D``
features, ``K`` memories (the capacity), ``C`` classes, ``H, W`` pixels of an image and ``S``
members of a sweep.
"""

import abc
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

__all__ = [
    "UNLABELLED",
    "BlockLayer",
    "CompositeInfo",
    "FixedLayer",
    "Layer",
    "MemoryInfo",
    "ReadoutInfo",
    "RecruitInfo",
]

UNLABELLED = -1
"""The label of an example whose class is not known, and the answer of a network that has none."""


class MemoryInfo(NamedTuple):
    """What one memory layer did with one example; small, so that a scan may keep one an example.

    ``predicted`` is the answer *before* learning, so its mean agreement with the labels is the
    prequential (test-then-train) accuracy of the stream.
    """

    winner: jax.Array  # int32 []: the nearest memory before learning; -1 when nothing was stored
    distance: jax.Array  # float32 []: distance to the nearest memory; inf when nothing was stored
    is_novel: jax.Array  # bool []: the example was a surprise
    is_saturated: jax.Array  # bool []: it was a surprise and no memory was free
    predicted: jax.Array  # int32 []: label the nearest memory votes for; -1 when it has no vote


class RecruitInfo(NamedTuple):
    """What a layer that stores without labels did with one example."""

    num_stored: jax.Array  # int32 []: memories that were stored


class ReadoutInfo(NamedTuple):
    """What a readout said of one example."""

    predicted: jax.Array  # int32 []: its answer before learning; -1 before it has any


class CompositeInfo(NamedTuple):
    """What a layer made of layers did with one example."""

    predicted: jax.Array  # int32 []: the whole layer's answer before learning; -1 for none
    parts: tuple[Any, ...]  # the infos of the layers inside, in their order


class Layer(abc.ABC):
    """A layer: static shape in the (frozen, hashable) object, numbers in ``params`` and ``state``.

    A subclass is a frozen dataclass and writes ``input_shape``, ``output_shape``, ``step`` and
    ``recall`` for **one example**, and ``init`` and ``default_params`` where it has any; the rest
    follows. ``step_block`` and ``recall_block`` mean the same as single calls and may be overridden
    by something faster.
    """

    @property
    @abc.abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without a batch axis."""

    @property
    @abc.abstractmethod
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one code, without a batch axis."""

    def default_params(self) -> Any:
        """Return the numbers that one may sweep, a pytree of float32 scalars; () for none."""
        return ()

    def init(self, key: jax.Array) -> Any:
        """Return the state of a layer that has seen nothing, a pytree of arrays; () for none."""
        del key
        return ()

    @abc.abstractmethod
    def step(
        self, params: Any, state: Any, x: jax.Array, label: jax.Array
    ) -> tuple[Any, jax.Array, Any]:
        """Learn from one example: the definition of the layer.

        Args:
            params: the layer's numbers, as ``default_params`` shapes them.
            state: what was learned so far.
            x: one input of ``input_shape``.
            label: int32 [], -1 when it is not known.

        Returns:
            The new state, the code of ``x``, made without its label, and an info (``()`` for none).
        """

    @abc.abstractmethod
    def recall(self, params: Any, state: Any, x: jax.Array) -> jax.Array:
        """Return the code of one input, of ``output_shape``, without writing."""

    def step_block(
        self,
        params: Any,
        state: Any,
        xs: jax.Array,
        labels: jax.Array,
        length: jax.Array | None = None,
    ) -> tuple[Any, jax.Array, Any]:
        """Learn from ``B`` examples in their order, with the result of ``B`` calls of ``step``.

        Args:
            params: the layer's numbers.
            state: what was learned so far.
            xs: [B, *input_shape].
            labels: int32 [B].
            length: int32 [], how many leading rows are real; None for all. Rows after them fill up
                the last block of a stream: they teach nothing, their codes and infos mean nothing.

        Returns:
            The new state, the codes [B, *output_shape] and the infos, each with an axis [B].
        """
        count = xs.shape[0] if length is None else length

        def learn(state, row):
            index, x, label = row
            new_state, code, info = self.step(params, state, x, label)
            keep = index < count
            return jax.tree.map(lambda a, b: jnp.where(keep, a, b), new_state, state), (code, info)

        rows = (jnp.arange(xs.shape[0], dtype=jnp.int32), xs, labels)
        state, (codes, infos) = jax.lax.scan(learn, state, rows)
        return state, codes, infos

    def recall_block(self, params: Any, state: Any, xs: jax.Array) -> jax.Array:
        """Return the codes [B, *output_shape] of inputs [B, *input_shape] without writing."""
        return jax.vmap(self.recall, in_axes=(None, None, 0))(params, state, xs)

    def calibrate(self, params: Any, xs: jax.Array, labels: jax.Array) -> Any:
        """Return ``params`` with every number that is still to be set (NaN) estimated from ``xs``.

        Args:
            params: the layer's numbers.
            xs: [n, *input_shape], the first inputs of the stream; learning then begins with them.
            labels: int32 [n].
        """
        del xs, labels
        return params

    def consolidate(self, params: Any, state: Any) -> Any:
        """Settle what was gathered (a solve, say); layers that have nothing to settle return it."""
        del params
        return state


class BlockLayer(Layer):
    """A layer for which one example is a block of one.

    A subclass writes ``recall_block`` for [B, *input_shape], and ``step_block`` or ``step``: each
    of these two follows from the other, so one of them must be written.
    """

    def step(self, params, state, x, label):
        """Learn from one example; see ``Layer.step``."""
        state, codes, infos = self.step_block(params, state, x[None], label[None])
        return state, codes[0], jax.tree.map(lambda leaf: leaf[0], infos)

    def recall(self, params, state, x):
        """Return the code of one input without writing."""
        return self.recall_block(params, state, x[None])[0]


class FixedLayer(Layer):
    """A layer with nothing to learn: its step is its recall. A subclass writes ``recall``."""

    def step(self, params, state, x, label):
        """Return the code of one input; there is nothing to learn."""
        del label
        return state, self.recall(params, state, x), ()

    def step_block(self, params, state, xs, labels, length=None):
        """Return the codes of a block; there is nothing to learn."""
        del labels, length
        return state, self.recall_block(params, state, xs), ()
