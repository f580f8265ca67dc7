"""The one abstraction, the layer, and the values that flow through it.

Dimension letters used in every docstring: ``N`` examples, ``B`` examples of a block, ``D``
features, ``K`` memories (the capacity), ``C`` classes, ``H, W`` pixels of an image and ``S``
members of a sweep.
"""

import abc
import dataclasses
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np

from memjax._checks import brackets, check_learned, check_positive, check_structure
from memjax._entry import check_levels, entry, settle_fields
from memjax.params import exportable, like, make_params

__all__ = [
    "UNLABELLED",
    "Bank",
    "BlockLayer",
    "CompositeInfo",
    "FeatureLayer",
    "FixedLayer",
    "Layer",
    "Lesson",
    "MemoryInfo",
    "Part",
    "ReadoutInfo",
    "RecruitInfo",
    "walk",
]

UNLABELLED = -1
"""The label of an example whose class is not known, and the answer of a network that has none."""


@exportable
class MemoryInfo(NamedTuple):
    """What one bank of memories did with one example.

    It is small, so that a scan may keep one for each example. ``predicted`` is the answer *before*
    learning. Its mean agreement with the labels is the prequential (test-then-train) accuracy.
    """

    winner: jax.Array  # int32 []: the nearest memory before learning; -1 when nothing was stored
    distance: jax.Array  # float32 []: how far the winner was, d_k; inf when nothing was stored
    is_novel: jax.Array  # bool []: the example was a surprise
    is_saturated: jax.Array  # bool []: it was a surprise and no memory was free
    predicted: jax.Array  # int32 []: label that the nearest memory votes for; -1 for no vote

    @property
    def memories_added(self) -> jax.Array:
        """Memories that were stored in free room, int32 []."""
        return (self.is_novel & ~self.is_saturated).astype(np.int32)


@exportable
class RecruitInfo(NamedTuple):
    """What a layer that stores without labels did with one example."""

    memories_added: jax.Array  # int32 []: memories that were stored


@exportable
class ReadoutInfo(NamedTuple):
    """What a readout said of one example."""

    predicted: jax.Array  # int32 []: its answer before learning; -1 before it has any


@exportable
class CompositeInfo(NamedTuple):
    """What a layer made of layers did with one example."""

    predicted: jax.Array  # int32 []: the whole layer's answer before learning; -1 for none
    parts: tuple[Any, ...]  # the infos of the layers inside, in their order


class Part(NamedTuple):
    """A layer inside a network, with what is its own of the network's params and state."""

    layer: "Layer"
    params: Any
    state: Any


class Lesson(NamedTuple):
    """What a bank was taught at a time: ``stored_at`` of a memory is the number of a lesson."""

    example: int  # its number in the stream
    is_mirrored: bool = False  # whether it was its mirror image


class Bank(NamedTuple):
    """A bank of memories that gives a network its answer.

    The layer offers ``explain(params, state, xs)`` and ``novelty(params, state, xs)``, and its
    state has ``prototypes``, ``counts``, ``votes``, ``size``, ``stored_at`` and ``num_seen``, as
    those of ``MemoryLayer``. The last two are read only where images are drawn.
    """

    layer: Any
    params: Any
    state: Any
    xs: Any  # the inputs [B, D] that reach the bank; None where none were given
    picture: Callable[[Any], Any] | None  # from a stored pattern to an image; None for no such
    lesson: Callable[[int], Lesson] = Lesson  # from the number of a lesson to what it was


class Layer(abc.ABC):
    """A layer: static shape in the (frozen, hashable) object, numbers in ``params`` and ``state``.

    A subclass is a frozen dataclass. It writes ``input_shape``, ``output_shape``, ``step`` and
    ``recall`` for **one example**, and ``init`` and ``params_kind`` if it has a state and numbers;
    the rest follows. ``step_block`` and ``recall_block`` mean the same as single calls and may be
    overridden by something faster. A layer that holds layers overrides ``parts``, and one that
    holds memories ``num_memories`` and ``banks``.

    The inputs of these four methods are checked in every subclass, and calls outside of ``jit`` are
    compiled.
    """

    params_kind: ClassVar[Any] = None
    """The NamedTuple of the numbers that one may sweep (see ``memjax.params``); None for none."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in ("step", "step_block", "recall", "recall_block"):
            if name in cls.__dict__:
                setattr(cls, name, entry(cls.__dict__[name]))
        if "__post_init__" in cls.__dict__:
            check = cls.__dict__["__post_init__"]

            @wraps(check)
            def settle_and_check(self):
                Layer.__post_init__(self)
                check(self)

            cls.__post_init__ = settle_and_check

    def __post_init__(self) -> None:
        settle_fields(self)
        check_levels(self)

    def __deepcopy__(self, memo: Any) -> Self:
        return self  # a value

    @property
    @abc.abstractmethod
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input, without a batch axis."""

    @property
    @abc.abstractmethod
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one code, without a batch axis."""

    def params(self, *values: Any, **numbers: Any) -> Any:
        """Return checked params: the defaults, but for the numbers that are given.

        Args:
            *values: numbers in the order in which ``params_kind`` declares them.
            **numbers: numbers by name.

        Raises:
            TypeError: the layer has no number of that name, or a value is no number.
            ValueError: a number is out of its range.
        """
        if self.params_kind is None:
            if values or numbers:
                raise TypeError(f"params: {type(self).__name__} has no numbers to set.")
            return ()
        return make_params(self.params_kind, *values, **numbers)

    def default_params(self) -> Any:
        """Return the numbers that one may sweep, a pytree of float32 scalars; () for none."""
        return self.params()

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
            No gradient flows through learning: it is zero. ``recall`` has gradients.
        """

    @abc.abstractmethod
    def recall(self, params: Any, state: Any, x: jax.Array) -> jax.Array:
        """Return the code of one input, of ``output_shape``, without writing."""

    @entry
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
                the last block of a stream. They teach nothing; their codes and infos mean nothing.

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

    @entry
    def recall_block(self, params: Any, state: Any, xs: jax.Array) -> jax.Array:
        """Return the codes [B, *output_shape] of inputs [B, *input_shape] without writing."""
        return jax.vmap(self.recall, in_axes=(None, None, 0))(params, state, xs)

    def calibrate(
        self, params: Any, xs: jax.Array, labels: jax.Array, length: jax.Array | None = None
    ) -> Any:
        """Return ``params`` with every number that is still "auto" estimated from ``xs``.

        Args:
            params: the layer's numbers.
            xs: [n, *input_shape], the first inputs of the stream; learning then begins with them.
            labels: int32 [n].
            length: int32 [], how many leading rows are real, at least 1; None for all.
        """
        del xs, labels, length
        return params

    def consolidate(self, params: Any, state: Any) -> Any:
        """Return the state with what was gathered settled, by a solve for instance."""
        del params
        return state

    def parts(self, params: Any, state: Any) -> tuple[Part, ...]:
        """Return the layers inside this one, each with its slices of params and state.

        Args:
            params: the layer's numbers.
            state: what it has learned.
        """
        del params, state
        return ()

    def check_values(self, state: Any) -> None:
        """Raise unless the layer can have learned the values of a state; asked of what is restored.

        By default no float may be infinite or a NaN. The layers in ``parts`` are asked as well.

        Args:
            state: arrays with the shapes and dtypes of the layer's own.

        Raises:
            ValueError: one sentence that names the array.
        """
        for path, leaf in jax.tree_util.tree_leaves_with_path(state):
            if jnp.issubdtype(leaf.dtype, jnp.floating):
                check_learned(f"{type(self).__name__}{jax.tree_util.keystr(path)}", leaf)

    def num_memories(self, state: Any) -> jax.Array | int:
        """Return how many memories are in use, int32 []: by default the sum over ``parts``."""
        parts = self.parts(self.default_params(), state)
        return sum(part.layer.num_memories(part.state) for part in parts)

    def banks(self, params: Any, state: Any, xs: Any = None) -> tuple[Bank, ...]:
        """Return the banks of memories that give the layer its answer; () if there are none.

        Args:
            params: the layer's numbers.
            state: what it has learned.
            xs: inputs [B, *input_shape], or None where the banks' inputs are not asked for.
        """
        del params, state, xs
        return ()

    def novelty_block(self, params: Any, state: Any, xs: jax.Array) -> jax.Array:
        """Return how new inputs are to each part that remembers, float32 [B, M]; M may be 0.

        A score is the share of the learned examples that were nearer to their memory, 0 to 1. By
        default the parts are the ``banks``.

        Args:
            params: the layer's numbers.
            state: what it has learned.
            xs: [B, *input_shape].
        """
        banks = self.banks(params, state, xs)
        scores = [bank.layer.novelty(bank.params, bank.state, bank.xs) for bank in banks]
        return jnp.stack(scores, axis=1) if scores else jnp.zeros((len(xs), 0), jnp.float32)

    def picture(self, code: Any) -> Any:
        """Return a code as an image [rows, columns, channels]; None if the layer knows no way."""
        del code
        return None

    def shard(self, mesh: Any) -> Self:
        """Return the layer with its memories laid over the devices of a mesh.

        By default every layer in its fields is laid so.
        """
        return replace_layers(self, lambda layer: layer.shard(mesh))


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


class FeatureLayer(Layer):
    """A layer from a vector to a vector, whose first two fields are their lengths."""

    def __post_init__(self):
        for field in dataclasses.fields(self)[:2]:  # type: ignore[arg-type]
            check_positive(field.name, getattr(self, field.name))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """[D]."""
        return self._lengths[:1]

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The length of a code."""
        return self._lengths[1:]

    @property
    def _lengths(self) -> tuple[int, ...]:
        fields = dataclasses.fields(self)[:2]  # type: ignore[arg-type]
        return tuple(getattr(self, field.name) for field in fields)


def walk(network: Layer, params: Any, state: Any) -> Iterator[Part]:
    """Yield every layer of a network with its slices of params and state, the network itself first.

    Args:
        network: a layer or a network of layers.
        params: its numbers.
        state: what it has learned.

    Example:
        >>> import memjax
        >>> network, params = memjax.memory_network((8, 8, 3), num_classes=10)
        >>> state = network.init(jax.random.key(0))
        >>> [type(part.layer).__name__ for part in walk(network, params, state)]
        ['Chain', 'OrientedEdges', 'Vote', 'MemoryLayer', 'MemoryLayer', 'MemoryLayer']
    """
    yield Part(network, params, state)
    for part in network.parts(params, state):
        yield from walk(*part)


def replace_layers(layer: Any, change: Callable[[Layer], Layer]) -> Any:
    """Return a layer with ``change(inner)`` in place of every layer in its fields."""

    def replace(value):
        if isinstance(value, Layer):
            return change(value)
        return tuple(map(replace, value)) if type(value) is tuple else value

    fields = dataclasses.fields(layer)
    return dataclasses.replace(
        layer, **{field.name: replace(getattr(layer, field.name)) for field in fields}
    )


def check_state(network: Layer, state: Any, name: str = "state") -> None:
    """Raise unless ``state`` has the arrays that a network's own state has; values may be any."""
    _, expected = like(network)
    check_structure(name, state, expected)
    leaves = jax.tree_util.tree_leaves_with_path(state)
    for (path, leaf), wanted in zip(leaves, jax.tree.leaves(expected), strict=True):
        dtype = _dtype_in_jax(leaf)
        shape = () if isinstance(dtype, str) else np.shape(leaf)
        if (shape, dtype) != (wanted.shape, wanted.dtype):
            raise ValueError(
                f"{name}{jax.tree_util.keystr(path)}: expected "
                f"{wanted.dtype}{brackets(wanted.shape)}, got {dtype}{brackets(shape)}."
            )


def _dtype_in_jax(leaf: Any) -> Any:
    """Return the dtype that a leaf has as an argument of ``jit``; its type where it can be none."""
    try:
        if isinstance(leaf, jax.Array):
            return leaf.dtype
        if isinstance(leaf, int):
            np.int32(leaf)
        if not isinstance(leaf, np.ndarray | np.generic | int | float | complex):
            return type(leaf).__name__  # NumPy would take the name of a dtype for one.
        return jax.dtypes.canonicalize_dtype(np.result_type(leaf))
    except (TypeError, ValueError, OverflowError):
        return type(leaf).__name__
