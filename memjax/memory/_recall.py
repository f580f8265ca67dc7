"""Recall: the memories nearest to an input, and how their votes become class evidence."""

import jax
import jax.numpy as jnp
from jax import lax

from memjax._places import vary_as
from memjax.distances import Distance
from memjax.memory._table import GROUP, distances_to, in_groups, smallest_rows

# As `TILE`, but where only the nearest are kept: each tile costs a search of its own, and its
# distances should stay in a cache.
_TILE = 2048


def find_nearest(
    distance: Distance, prototypes: jax.Array, size: jax.Array, xs: jax.Array, number: int
) -> tuple[jax.Array, jax.Array]:
    """Return distances [B, n] and indices [B, n] of the memories nearest to inputs [B, D].

    The bank is read tile by tile. Beside the result, only the distances to one tile are held.
    """
    capacity = prototypes.shape[0]
    number = min(number, capacity)
    # Tiles of one size: a last one that is mostly empty would cost as much as the others.
    per_tile = -(-(in_groups(capacity) // GROUP) // -(-capacity // _TILE))
    tile = min(per_tile * GROUP, capacity)
    num_tiles, rest = divmod(capacity, tile)

    def nearer(best, start, length):
        # One shape of product for all tiles; what overlaps the tile before is left out.
        table = distances_to(distance, prototypes, size, xs, start + length - tile, tile)
        distances, rows = smallest_rows(table[tile - length :], number)
        # The tiles come from last to first, so in a tie what is found now is the lowest.
        distances = jnp.concatenate([distances, best[0]], axis=1)
        indices = jnp.concatenate([rows + start, best[1]], axis=1)
        negated, places = lax.top_k(-distances, number)
        return -negated, jnp.take_along_axis(indices, places, axis=1)

    shape = xs.shape[0], number
    nobody = jnp.full(shape, jnp.inf, jnp.float32), jnp.zeros(shape, jnp.int32)
    best = vary_as(xs, nobody)
    if rest:
        best = nearer(best, num_tiles * tile, rest)
    return lax.fori_loop(
        0, num_tiles, lambda i, best: nearer(best, (num_tiles - 1 - i) * tile, tile), best
    )


def vote_weights(distances: jax.Array, num_neighbours: int) -> jax.Array:
    """Return the weights of the votes of the nearest memories, float32 [k].

    $1 - d_i / d_{k+1}$, where the farthest memory stands in for the (k+1)-th if there are fewer; 1
    for all when all are equally near; 0 for a free row.

    Args:
        distances: float32 [k + 1] of the nearest memories, ascending; [K] if there are no more.
        num_neighbours: k.
    """
    is_stored = jnp.isfinite(distances)
    nearest = jnp.where(is_stored, distances, 0)
    edge = jnp.max(nearest)
    # Without the clip a quotient rounded to above 1 would leave a weight below 0.
    closeness = jnp.maximum(1 - nearest / jnp.where(edge > 0, edge, 1), 0)
    weights = jnp.where(edge > nearest[0], jnp.where(nearest < edge, closeness, 0), 1)
    return jnp.where(is_stored, weights, 0)[:num_neighbours]


def evidence(distances: jax.Array, votes: jax.Array, num_neighbours: int) -> jax.Array:
    """Return the weighted vote shares [C] of the nearest memories.

    Args:
        distances: float32 [k + 1], ascending; [K] if there are no more.
        votes: int32 [k + 1, C] of these memories.
        num_neighbours: k.
    """
    weights = vote_weights(distances, num_neighbours)
    shares = votes[:num_neighbours].astype(weights.dtype)
    total = jnp.sum(shares, axis=1)
    shares = shares / jnp.maximum(total, 1)[:, None]
    has_vote = total > 0
    weights = jnp.where(has_vote, weights, 0)
    weights = jnp.where(jnp.sum(weights) > 0, weights, has_vote.astype(weights.dtype))
    whole = jnp.sum(weights)
    return jnp.sum(weights[:, None] * shares, axis=0) / jnp.where(whole > 0, whole, 1)


def activations(distances: jax.Array) -> jax.Array:
    """Return how much nearer than the average memory each memory is, float32 [K]; 0 if free."""
    is_stored = jnp.isfinite(distances)
    finite = jnp.where(is_stored, distances, 0)
    number = jnp.maximum(jnp.sum(is_stored.astype(distances.dtype)), 1)
    return jnp.where(is_stored, jnp.maximum(jnp.sum(finite) / number - finite, 0), 0)
