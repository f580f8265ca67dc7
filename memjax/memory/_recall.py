"""Recall: the memories nearest to an input, and how their votes become class evidence."""

import jax
import jax.numpy as jnp
from jax import lax

from memjax._places import vary_as
from memjax.distances import Distance
from memjax.memory._table import GROUP, distances_to, in_groups, smallest_rows

# As `TILE`, but where only the nearest are kept: each tile costs a search of its own, and its
# distances should stay in a cache.
_TILE = 1792


def find_nearest(
    distance: Distance,
    prototypes: jax.Array,
    counts: jax.Array,
    size: jax.Array,
    xs: jax.Array,
    number: int,
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
        table = distances_to(distance, prototypes, counts, size, xs, start + length - tile, tile)
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


def vote_weights(
    distances: jax.Array, totals: jax.Array, num_neighbours: int, size: jax.Array
) -> jax.Array:
    r"""Return the weights of the votes of the nearest memories, float32 [k]; 0 if there is no vote.

    Of $n$ memories, $j = \min(k, \lfloor n / 2 \rfloor)$ vote, at least one. A memory with $t$
    votes weighs $(1 - d_i / d_{j+1}) \, t / (t + 2)$. Voters that would all weigh 0 count alike. If
    none of them has a vote, the $k$ nearest that have one do so. A memory that is the input itself
    and has at least $k$ votes answers alone.

    Args:
        distances: float32 [k + 1] of the nearest memories, ascending; [K] if there are no more.
        totals: int32 [k + 1], the number of votes of each.
        num_neighbours: k.
        size: int32 [], memories in use.
    """
    number = jnp.clip(size // 2, 1, num_neighbours)
    places = lax.iota(jnp.int32, distances.shape[0])
    is_stored = jnp.isfinite(distances)
    has_vote = is_stored & (places < num_neighbours) & (totals > 0)
    is_near = has_vote & (places < number)
    nearest = jnp.where(is_stored, distances, 0)
    edge = jnp.max(jnp.where(places <= number, nearest, 0))
    # Without the clip a quotient rounded to above 1 would leave a weight below 0.
    closeness = jnp.maximum(1 - nearest / jnp.where(edge > 0, edge, 1), 0)
    totals = totals.astype(distances.dtype)
    weights = jnp.where(is_near, closeness * totals / (totals + 2), 0)
    alike = jnp.where(jnp.any(is_near), is_near, has_vote).astype(weights.dtype)
    weights = jnp.where(jnp.sum(weights) > 0, weights, alike)
    is_same = has_vote & (distances == 0) & (totals >= num_neighbours)
    weights = jnp.where(jnp.any(is_same), is_same.astype(weights.dtype), weights)
    return weights[:num_neighbours]


def evidence(
    distances: jax.Array, votes: jax.Array, num_neighbours: int, size: jax.Array
) -> jax.Array:
    """Return the weighted vote shares [C] of the nearest memories; all 0 if there is no vote.

    Args:
        distances: float32 [k + 1], ascending; [K] if there are no more.
        votes: int32 [k + 1, C] of these memories.
        num_neighbours: k.
        size: int32 [], memories in use.
    """
    totals = jnp.sum(votes, axis=1, dtype=jnp.int32)
    weights = vote_weights(distances, totals, num_neighbours, size)
    shares = votes.astype(weights.dtype) / jnp.maximum(totals, 1).astype(weights.dtype)[:, None]
    whole = jnp.sum(weights)
    summed = jnp.sum(weights[:, None] * shares[:num_neighbours], axis=0)
    return summed / jnp.where(whole > 0, whole, 1)


def activations(distances: jax.Array) -> jax.Array:
    """Return how much nearer than the average memory each memory is, float32 [K]; 0 if free."""
    is_stored = jnp.isfinite(distances)
    finite = jnp.where(is_stored, distances, 0)
    number = jnp.maximum(jnp.sum(is_stored.astype(distances.dtype)), 1)
    return jnp.where(is_stored, jnp.maximum(jnp.sum(finite) / number - finite, 0), 0)
