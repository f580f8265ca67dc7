"""How new an input is: its distance among those of all examples that were learned.

The distances are counted in bins, four for each power of two, so that a bank keeps a few kilobytes
however many examples it learns.
"""

import jax
import jax.numpy as jnp
from jax import lax

# A float32 without its sign, less the bits that divide a bin.
_BITS = 21
NUM_BINS = 1 << (31 - _BITS)


def count_distances(counts: jax.Array, distances: jax.Array, is_counted: jax.Array) -> jax.Array:
    """Return the counts [NUM_BINS] with some more distances [B] in them."""
    bins, _ = _places(distances)
    return counts.at[bins].add(is_counted.astype(counts.dtype))


def share_nearer(counts: jax.Array, distances: jax.Array) -> jax.Array:
    """Return the share of the counted distances below each of some others, float32 [B], 0 to 1.

    Within a bin the distances count as spread evenly. Where none was counted, the share is 1.
    """
    bins, fraction = _places(distances)
    below = jnp.cumsum(counts) - counts
    nearer = below[bins].astype(jnp.float32) + fraction * counts[bins].astype(jnp.float32)
    whole = jnp.sum(counts).astype(jnp.float32)
    return jnp.where(whole > 0, nearer / jnp.maximum(whole, 1), 1)


def _places(distances: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the bin of each distance, and how much of the bin lies below it.

    Floats of at least 0 are ordered as the integers of the same bits.
    """
    bits = lax.bitcast_convert_type(jnp.maximum(distances, 0), jnp.int32)
    rest = (bits & ((1 << _BITS) - 1)).astype(jnp.float32)
    return bits >> _BITS, rest / (1 << _BITS)
