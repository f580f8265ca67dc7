"""Arithmetic that decides something: products at the highest precision, minima, work on demand."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from memjax._places import vary_alike

# A product in TF32, a GPU's default, would change winners.
matmul = partial(jnp.matmul, precision=lax.Precision.HIGHEST)
einsum = partial(jnp.einsum, precision=lax.Precision.HIGHEST)


def inner_products(rows: jax.Array, others: jax.Array) -> jax.Array:
    """Return the inner products [..., K, B] of rows [..., K, D] with other rows [..., B, D]."""
    last, leading = rows.ndim - 1, tuple(range(rows.ndim - 2))
    dimensions = (((last,), (last,)), (leading, leading))
    return lax.dot_general(rows, others, dimensions, precision=lax.Precision.HIGHEST)


def square_root(values: jax.Array) -> jax.Array:
    """Return the square roots of numbers of at least 0; the gradient at 0 is 0."""
    is_positive = values > 0
    return jnp.where(is_positive, jnp.sqrt(jnp.where(is_positive, values, 1)), 0)


def norms(rows: jax.Array) -> jax.Array:
    """Return the Euclidean lengths [..., 1] of rows [..., D]; the gradient at a zero row is 0."""
    return square_root(jnp.sum(jnp.square(rows), axis=-1, keepdims=True))


def around_mean(
    rows: jax.Array, is_learned: jax.Array, total: jax.Array, number: jax.Array
) -> jax.Array:
    """Return the rows [..., B + 1, D] whose products a block adds to sums around the mean of all.

    They are the rows of the block around their own mean, and one for how far this mean is from that
    of the rows before. Around zero, a large mean would cost the digits in which rows differ.

    Args:
        rows: [..., B, D].
        is_learned: bool [B], the rows that count.
        total: [..., D], the sum of the rows before.
        number: [], how many these were.
    """
    is_learned = is_learned[:, None]
    rows = jnp.where(is_learned, rows, 0)
    added = jnp.sum(is_learned, dtype=jnp.float32)
    mean = jnp.sum(rows, axis=-2) / jnp.maximum(added, 1)
    weight = number * added / jnp.maximum(number + added, 1)
    apart = jnp.sqrt(weight) * (mean - total / jnp.maximum(number, 1))
    rows = jnp.where(is_learned, rows - mean[..., None, :], 0)
    return jnp.concatenate([rows, apart[..., None, :]], axis=-2)


def minimum(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the smallest of some values [K], and its lowest index.

    One reduction gives both. A value that is read again by its index could be fused into several
    later operations, and XLA would then copy a whole table to keep it readable (docs/design.md).
    """
    indices = lax.iota(jnp.int32, values.shape[0])
    is_real = jnp.issubdtype(values.dtype, jnp.floating)
    largest = jnp.inf if is_real else jnp.iinfo(values.dtype).max
    start = (jnp.asarray(largest, values.dtype), jnp.asarray(values.shape[0], jnp.int32))
    return lax.reduce((values, indices), start, smaller, (0,))


def smaller(
    one: tuple[jax.Array, jax.Array], other: tuple[jax.Array, jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Return the smaller of two (value, index); of equal values the one of the lower index."""
    takes_other = (other[0] < one[0]) | ((other[0] == one[0]) & (other[1] < one[1]))
    return jnp.where(takes_other, other[0], one[0]), jnp.where(takes_other, other[1], one[1])


def run_if(
    condition: jax.Array, compute: Callable[..., Any], otherwise: Any, *operands: Any
) -> Any:
    """Return ``compute(*operands)`` if the condition holds; if it does not, it costs nothing.

    This is a loop of at most one turn. Under ``vmap`` it runs if any member asks for it, whereas
    ``lax.cond`` would always run. XLA moves a computation out of the loop, where it always runs, if
    it uses nothing that the loop carries. The loop carries the operands, so everything costly must
    use one of them.
    """

    def turn(carry):
        _, is_first, _ = carry
        # Always the operand itself, but XLA cannot know that.
        tied = jax.tree.map(lambda x: jnp.where(is_first, x, jnp.zeros_like(x)), operands)
        return jnp.zeros_like(condition), jnp.zeros_like(is_first), compute(*tied)

    begin = vary_alike(condition, jnp.asarray(True), otherwise, operands)[:3]
    return lax.while_loop(lambda carry: carry[0], turn, begin)[2]


@jax.custom_batching.custom_vmap
def max_over_members(value: jax.Array) -> jax.Array:
    """Return the value; under ``vmap`` the largest one among the members, the same for all.

    As the bound of a loop it gives all members as many turns as the longest needs. With a bound of
    its own for each, ``vmap`` would copy the whole carry in every turn for members that are done.
    """
    return value


@max_over_members.def_vmap
def _max_over_members(axis_size: int, in_batched: list[bool], values: jax.Array):
    del axis_size
    return max_over_members(jnp.max(values, axis=0) if in_batched[0] else values), False


def one_member_at_a_time(
    function: Callable[..., Any], where: Callable[..., Any] = lambda *_: True
) -> Callable[..., Any]:
    """Return the function; under ``vmap`` it takes one member after the other on a CPU.

    Side by side, members would gather and scatter the rows that a single one slices, and each
    would wait for the longest search. And if LAPACK is given several matrices, jaxlib 0.10 shares
    them out to its threads, and may wait for these for ever. An accelerator takes the members side
    by side all the same.

    Args:
        function: from pytrees of arrays to a pytree of arrays.
        where: says whether the members are taken in turn at all. It is given the arguments of the
            function, and in place of each array whether every member has its own.
    """
    call = jax.custom_batching.custom_vmap(function)

    @call.def_vmap
    def over_members(_, in_batched, *arguments):
        axes = jax.tree.map(lambda is_batched: 0 if is_batched else None, tuple(in_batched))
        together = jax.vmap(function, axes)
        if where(*in_batched):
            in_turn = jax.vmap(jax.custom_batching.sequential_vmap(function), axes)
            results = lax.platform_dependent(*arguments, cpu=in_turn, default=together)
        else:
            results = together(*arguments)
        return results, jax.tree.map(lambda _: True, results)

    return call
