"""Distances between an example and the memories.

Each distance is defined for one example against all memories, and has a form for blocks: a matrix
product where one exists. Block forms are *memory-major*, [K, B]: the row of a memory holds its
distances to every example of the block, which is what a moving memory rewrites.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from memjax._numerics import inner_products, max_over_members, norms

__all__ = ["DISTANCES", "Distance", "cosine", "manhattan", "squared_euclidean"]

# In units of |x|^2 + |m|^2, about eight times the float32 rounding of a product of norms.
_PRODUCT_ROUNDING = 1e-6


@dataclasses.dataclass(frozen=True, repr=False)
class Distance:
    """A distance function, as three module-level functions.

    Attributes:
        name: its name in records and on the command line.
        to_memories: ``(x [D], memories [K, D]) -> [K]``, the definition; at least 0, and 0 for what
            is the same.
        pairwise: ``(xs [B, D], memories [K, D]) -> [K, B]``, the same up to float32 rounding.
        moved: ``(from_before [B], from_x [B], own [], rate []) -> [B]``, the distances of a block's
            examples to ``(1 - rate) m + rate x``, from those to ``m``, those to ``x``, and
            ``own = d(x, m)``; None where no such form exists, and they are computed anew.
    """

    name: str
    to_memories: Callable[[jax.Array, jax.Array], jax.Array]
    pairwise: Callable[[jax.Array, jax.Array], jax.Array]
    moved: Callable[[jax.Array, jax.Array, jax.Array, jax.Array], jax.Array] | None = None

    def __repr__(self) -> str:
        return self.name


def _squared_euclidean_to_memories(x, memories):
    return jnp.sum(jnp.square(memories - x[None, :]), axis=1)


def _squared_euclidean_pairwise(xs, memories):
    return squared_distances(xs, memories, *origin_of(memories))


def squared_distances(
    xs: jax.Array, memories: jax.Array, origin: jax.Array, is_far: jax.Array
) -> jax.Array:
    """Return the squared distances [K, B], by a product around the origin if rows lie far from 0.

    Around zero, the squares of rows that lie a hundred times as far from zero as from each other
    lose the digits in which they differ.
    """
    return lax.cond(max_over_members(is_far), _around_origin, _around_zero, xs, memories, origin)


def _around_zero(xs, memories, origin):
    del origin
    squares = jnp.sum(jnp.square(memories), axis=1)[:, None] + jnp.sum(jnp.square(xs), axis=1)[None]
    distances = squares - 2 * inner_products(memories, xs)
    # What is within the rounding of the product is the same pattern: an example that was stored
    # finds itself at distance 0, as it does one by one.
    return jnp.where(distances > _PRODUCT_ROUNDING * squares, distances, 0)


def _around_origin(xs, memories, origin):
    xs = xs - origin[None, :]
    lengths = jnp.sum(jnp.square(xs), axis=1)
    squares = jnp.sum(jnp.square(memories - origin[None, :]), axis=1)[:, None] + lengths[None]
    # In the product the memories stay where they are, so that they are not held twice.
    products = inner_products(memories, xs) - jnp.sum(xs * origin[None, :], axis=1)[None]
    distances = squares - 2 * products
    rounding = squares + 2 * (norms(origin[None])[0] * jnp.sqrt(lengths))[None]
    return jnp.where(distances > _PRODUCT_ROUNDING * rounding, distances, 0)


def origin_of(memories: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return a row [D] amid the memories, and whether they lie far from zero.

    The first memories tell where they lie: are most of them ten times nearer to the next one than
    to zero? Rows of zeros are free.
    """
    some = memories[:9]
    lengths = jnp.sum(jnp.square(some), axis=1)
    following = jnp.roll(some, -1, axis=0)
    has_following = jnp.roll(lengths > 0, -1)
    apart = jnp.where(has_following, jnp.sum(jnp.square(some - following), axis=1), 0)
    are_far = lengths > 100 * apart
    is_far = 2 * jnp.sum(are_far) > jnp.sum(lengths > 0)
    # The one that is nearest to zero is the least likely to be an outlier.
    origin = some[jnp.argmin(jnp.where(are_far, lengths, jnp.inf))]
    return lax.stop_gradient(jnp.where(is_far, origin, 0)), is_far


def _squared_euclidean_moved(from_before, from_x, own, rate):
    # Stewart's theorem: the squared distance to a point on the segment from m to x.
    distances = (1 - rate) * from_before + rate * from_x - rate * (1 - rate) * own
    return jnp.maximum(distances, 0)


def _inverse_norms(rows):
    lengths = norms(rows)[:, 0]
    return jnp.where(lengths > 0, 1 / jnp.where(lengths > 0, lengths, 1), 0)


def _from_cosines(cosines):
    # What is within rounding is the same direction: at distance 0, and never below.
    return jnp.where(1 - cosines > _PRODUCT_ROUNDING, 1 - cosines, 0)


def _cosine_to_memories(x, memories):
    unit_x = x * _inverse_norms(x[None])
    return _from_cosines(jnp.sum(memories * unit_x[None, :], axis=1) * _inverse_norms(memories))


def _cosine_pairwise(xs, memories):
    cosines = (
        inner_products(memories, xs) * _inverse_norms(memories)[:, None] * _inverse_norms(xs)[None]
    )
    return _from_cosines(cosines)


def _manhattan_to_memories(x, memories):
    return jnp.sum(jnp.abs(memories - x[None, :]), axis=1)


def _manhattan_pairwise(xs, memories):
    # One memory at a time: no product form exists, and [K, B, D] floats must never be held.
    return lax.map(lambda memory: _manhattan_to_memories(memory, xs), memories)


squared_euclidean = Distance(
    "squared_euclidean",
    _squared_euclidean_to_memories,
    _squared_euclidean_pairwise,
    _squared_euclidean_moved,
)
r"""$d(x, m) = \sum_i (x_i - m_i)^2$, exact for one example, a matrix product for blocks."""

cosine = Distance("cosine", _cosine_to_memories, _cosine_pairwise)
r"""$d(x, m) = 1 - \langle x, m \rangle / (|x| |m|)$, from 0 to 2; 1 when either is all zero."""

manhattan = Distance("manhattan", _manhattan_to_memories, _manhattan_pairwise)
r"""$d(x, m) = \sum_i |x_i - m_i|$; it has no product form, so its blocks are no faster."""

DISTANCES = {distance.name: distance for distance in (squared_euclidean, cosine, manhattan)}
"""The distances by name."""
